"""What is missing from a file is said, and what a recorder left out is no loss."""

from __future__ import annotations

import numpy as np
import pytest
from hostile.films import film, flip

from v2a_nb import media
from v2a_nb.errors import MediaError
from v2a_nb.media import decoding
from v2a_nb.media.structure import Structure

SPARE = {"codec_options": {"g": "12"}}
FILES = {
    "a.mp4": {"options": {"movflags": "+faststart"}, **SPARE},
    "fragments.mp4": {"options": {"movflags": "+frag_keyframe+empty_moov"}, **SPARE},
    "a.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le", "sound": "pcm_s16le"},
    "a.mkv": {"codec": "mpeg4", "sound": "libmp3lame"},
    "hevc.mkv": {"codec": "libx265", **SPARE},
    "a.webm": {"codec": "libvpx", "sound": "libopus", **SPARE},
    "live.webm": {"codec": "libvpx", "sound": "libopus", "options": {"live": "1"}, **SPARE},
    "a.avi": {"sound": "libmp3lame"},
    "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p", "sound": "pcm_s16le"},
    "a.ts": SPARE,
    "a.m2ts": {"options": {"mpegts_m2ts_mode": "1"}, **SPARE},
    "a.mxf": {"codec": "mpeg2video", "sound": "pcm_s16le"},
    "a.wmv": {"codec": "mpeg4", "sound": "aac", "format": "asf"},
    "a.flv": {"rate": 44100},
    "a.ogv": {"codec": "libvpx", "format": "ogg", "sound": "libopus"},
}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Two seconds in every container."""
    folder = tmp_path_factory.mktemp("films")
    return {name: film(folder / name, **options) for name, options in FILES.items()}


def structure(path) -> Structure:
    with decoding.container(path) as container:
        return Structure(path, container.format.name, decoding.video_stream(container, path).index)


@pytest.mark.parametrize("name", FILES)
def test_a_whole_file_has_no_problem_and_a_part_of_it_has(films, tmp_path, name):
    data, whole = films[name].read_bytes(), media.open(films[name])
    assert whole.n == 50 and whole.problems == () and structure(films[name]).broken_at is None
    for share in (0.6, 0.9) if name != "a.mov" else ():  # whose index is at its end
        path = tmp_path / name
        path.write_bytes(data[: int(share * len(data)) | 1])  # where no packet of a broadcast ends
        clip = media.open(path)
        assert clip.n < 50 or share == 0.9
        assert any("ends at" in line or "cut off" in line for line in clip.problems) or clip.n == 50
        assert sum(part.n for part in media.windows(path, 0.5)) >= clip.n
        assert media.open(path, duration=0.3).problems == ()


@pytest.mark.parametrize("name", ["fragments.mp4", "a.mkv", "a.webm", "live.webm", "a.avi", "a.ts", "a.mxf"])
@pytest.mark.parametrize("change", ["noise", "deletion"])
def test_damage_in_the_middle_is_said(films, tmp_path, name, change):
    """Noise over headers, or bytes that are gone, may end a file early or cost what lies around them."""
    data, rng, silent, lost = films[name].read_bytes(), np.random.default_rng(4), [], 0
    for k in range(6):
        at = int(rng.uniform(0.45, 0.9) * len(data))
        middle = rng.integers(0, 256, 300, np.uint8).tobytes() if change == "noise" else b""
        path = tmp_path / f"{k}-{name}"
        path.write_bytes(data[:at] + middle + data[at + 300 :])
        clip = media.open(path)
        lost += clip.n < 50
        silent += [(at, clip.n)] if clip.n < 50 and not clip.problems else []
    assert not silent
    assert lost or (change == "noise" and name in ("a.mxf", "fragments.mp4"))  # whose headers were not hit


def test_a_packet_without_a_picture_is_a_loss_only_where_one_is_missing(films, tmp_path):
    """A flipped bit may hide a picture from a decoder; alternate reference pictures are hidden by their encoder."""
    options = {"codec": "libvpx-vp9", "sound": None, "codec_options": {"g": "12", "cpu-used": "8"}}
    for seed in range(6):
        clip = media.open(flip(film(tmp_path / f"{seed}.webm", **options), "video", 3, seed))
        assert clip.n == 50 or clip.problems
    hidden = {"auto-alt-ref": "1", "lag-in-frames": "16", "g": "50"}
    clip = media.open(film(tmp_path / "hidden.webm", codec="libvpx", sound=None, codec_options=hidden))
    assert clip.n == 50 and clip.problems == ()


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm", "live.webm", "a.ts", "a.flv", "a.wmv"])
@pytest.mark.parametrize("kind", ["sparse", "uneven", "slowing"])
def test_pictures_that_a_recorder_left_out_are_no_loss(tmp_path, name, kind):
    """Screen recordings show what changes; cameras of telephones drop pictures, or take fewer in the dark."""
    rng = np.random.default_rng(1)
    times = {
        "sparse": np.delete(np.arange(50), [*range(10, 14), 20, *range(30, 47)]) / 25,
        "uneven": np.append(0, np.cumsum(rng.uniform(0.01, 0.2, 20))),
        "slowing": np.append(np.arange(25) / 25, 1 + np.arange(12) / 12),
    }[kind]
    options = {**FILES[name], "pictures": len(times), "times": np.round(times, 3), "ticks": 1000}
    path = film(tmp_path / name, **options)
    clip = media.open(path)
    assert clip.n == len(times) and clip.problems == ()
    assert all(part.problems == () for part in media.windows(path, 0.3))


def test_a_stream_that_begins_in_the_middle_stops_nothing(films):
    """PyAV has no number for a stream that a damaged FLV seems to begin, and raises an IndexError for each packet."""

    class Late:
        def __init__(self, container):
            self.packets, self.count = container.demux(container.streams.video[0]), 0

        def demux(self, stream):
            for packet in self.packets:
                yield packet
                self.count += 1
                if self.count % 2:
                    raise IndexError("list index out of range")

    with decoding.container(films["a.flv"]) as container:
        assert len(list(decoding.packets(Late(container), None))) == 51


def test_sound_that_is_missing_is_said(tmp_path):
    path = film(tmp_path / "a.mka", codec=None, sound="flac", seconds=3.0, format="matroska")
    data, problems = path.read_bytes(), []
    path.write_bytes(data[: len(data) // 2] + data[len(data) // 2 + 500 :])
    assert media.open_sound(path, problems=problems).duration <= 3.1 and "of the sound near" in problems[0]
    path.write_bytes(data[: len(data) // 2])
    problems.clear()
    media.open_sound(path, problems=problems)
    assert len(problems) == 1 and ("ends at" in problems[0] or "cut off" in problems[0])
    path.write_bytes(data)
    problems.clear()
    media.open_sound(path, problems=problems)
    assert problems == []


def test_a_hole_in_the_sound_of_a_whole_file_is_no_loss(tmp_path):
    def without(packet):
        return None if packet.stream.type == "audio" and 0.5 < packet.pts * packet.time_base < 1.1 else packet

    for name in ("a.mkv", "a.ts"):
        assert media.open(film(tmp_path / name, change=without)).problems == ()


def test_a_picture_that_lasts_for_days_is_refused(tmp_path):
    path = film(tmp_path / "a.mkv", times=(0.0, 0.04, 2e5), pictures=3, sound=None, ticks=1000)
    for read in (media.open, lambda path: list(media.windows(path, 1.0))):
        with pytest.raises(MediaError, match="lasts for 56 hours"):
            read(path)
    still = film(tmp_path / "b.mkv", times=(0.0, 0.04, 5000.0), pictures=3, sound=None, ticks=1000)
    assert media.open(still).duration == pytest.approx(5000.04, abs=0.01)


def test_pictures_that_are_larger_than_their_header_says_are_not_decoded(tmp_path):
    path = film(tmp_path / "a.webm", codec="libvpx", sound=None, pictures=3)
    data = path.read_bytes()
    at = data.index(b"\x9d\x01\x2a") + 3
    path.write_bytes(data[:at] + bytes([0x80, 0x3E, 0x80, 0x3E]) + data[at + 4 :])  # 16000 x 16000
    with pytest.raises(MediaError, match="not one picture"):
        media.open(path)
