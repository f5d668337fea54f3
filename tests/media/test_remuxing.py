"""A video gets another sound: its pictures stay what they were, and all else that belongs to them goes along."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from film_parts import clicks, film, frames, heard_at, packets, pictures, psnr
from media_parts import moving, write

from v2a_nb import media
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import MediaError, UsageError

SOUND = clicks((0.5, 1.5), 2.0)
BFRAMES = {"bf": "2", "g": "10", "x264-params": "log-level=error"}


def same_pictures(result, original) -> None:
    a, b = media.open(original, sound=False), media.open(result)
    assert np.array_equal(a.frames, b.frames)
    assert np.allclose(a.times, b.times, atol=2e-3) and b.times[0] == 0
    assert b.duration == pytest.approx(a.duration, abs=2e-3)
    for time in (0.5, 1.5):
        assert abs(heard_at(b.sound, time) - time) < 0.005


@pytest.mark.parametrize(
    ("name", "codec", "options", "begin"),
    [
        ("b.mp4", "libx264", BFRAMES, 0.0),
        ("late.mkv", "libx264", BFRAMES, 3.0),
        ("b.ts", "libx264", BFRAMES, 0.0),
        ("b.mov", "libx264", {}, 0.0),
        ("b.flv", "libx264", BFRAMES, 0.0),
        ("h.mkv", "libx265", {"x265-params": "log-level=error"}, 0.0),
        ("v.webm", "libvpx-vp9", {"cpu-used": "8", "deadline": "realtime"}, 0.0),
        ("a.mkv", "libsvtav1", {"preset": "12", "svtav1-params": "lp=1"}, 0.0),
        ("m.avi", "mpeg4", {}, 0.0),
        ("bare.h264", "libx264", {"bf": "0"}, 0.0),
    ],
)
def test_the_whole_video_is_copied(tmp_path, name, codec, options, begin):
    original = film(tmp_path / name, codec, fps=25 if "264" in name else 15, options=options, begin=begin, n=50)
    result = media.dub(original, SOUND, tmp_path / "r.mp4")
    same_pictures(result, original)
    assert media.info(result).video_codec == media.info(original).video_codec
    if name.endswith(("mp4", "mov", "mkv", "webm", "flv", "avi")):  # others separate the pictures by start codes
        assert packets(result) == packets(original)


def test_a_trimmed_film_begins_where_its_edit_list_says(tmp_path):
    """A file whose first packets are decoded, but not shown."""
    whole = film(tmp_path / "w.mp4", options={"g": "100", "bf": "2"}, n=45)
    with av.open(str(whole)) as source, av.open(str(tmp_path / "t.mp4"), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0], opaque=True)
        shift = round(1 / source.streams.video[0].time_base)
        for packet in source.demux(video=0):
            if packet.size:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                container.mux(packet)
    assert np.array_equal(media.open(tmp_path / "t.mp4").frames, media.open(whole).frames[15:])
    same_pictures(media.dub(tmp_path / "t.mp4", SOUND, tmp_path / "r.mp4"), tmp_path / "t.mp4")


def test_a_damaged_film_is_copied_and_plays(tmp_path):
    original = film(tmp_path / "a.mp4", options={"g": "10", "bf": "0"})
    data, damaged = original.read_bytes(), packets(original)[14]
    assert data.count(damaged) == 1
    noise = np.random.default_rng(0).integers(0, 256, len(damaged) - 8, dtype=np.uint8).tobytes()
    original.write_bytes(data.replace(damaged, damaged[:8] + noise))
    result = media.dub(original, SOUND, tmp_path / "r.mp4")
    assert packets(result) == packets(original)
    assert abs(heard_at(media.open_sound(result), 1.5) - 1.5) < 0.005


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "part"),
    [
        ("a.mp4", "libx264", "yuv420p", {"start": 0.2, "duration": 1.0}),
        ("full.mkv", "libx264", "yuvj420p", {"start": 0.2}),
        ("deep.mkv", "libx264", "yuv420p10le", {"duration": 1.0}),
        ("wide.mov", "prores_ks", "yuv422p10le", {}),
        ("v.webm", "libvpx", "yuv420p", {}),
        ("b.avi", "mpeg4", "yuv420p", {}),  # AVI does not know when B-frames are shown
    ],
)
def test_pictures_that_are_encoded_again_look_the_same(tmp_path, name, codec, pixels, part):
    options = {"bf": "2"} if name == "b.avi" else {"b": "2M"} if codec == "libvpx" else {}
    original = film(tmp_path / name, codec, pixels=pixels, options=options)
    result = media.dub(original, SOUND, tmp_path / "r.mp4", **part)
    first, last = frames(original)[-1], frames(result)[-1]
    assert last.format.name == pixels and media.info(result).video_codec == "h264"
    assert last.color_range == (2 if "j" in pixels else 1) and last.colorspace in (6, first.colorspace)
    a = [f for f in frames(original) if f.time >= part.get("start", 0) - 1e-3][: len(frames(result))]
    b = frames(result)
    assert len(a) == len(b) >= 15
    if pixels != "yuv422p10le":
        show = [np.stack([f.to_ndarray(format="rgb24") for f in film_]) for film_ in (a, b)]
        assert psnr(*show) >= 45
    stored = [np.stack([f.reformat(format="yuv420p").to_ndarray() for f in film_]) for film_ in (a, b)]
    assert psnr(*stored) >= 45
    assert abs(heard_at(media.open(result).sound, 0.5) - 0.5) < 0.005


def test_fine_colours_of_rgb_are_kept_and_said(tmp_path):
    """A GIF of dithered colours would lose half of them in 4:2:0; grey pictures become what all players show."""
    original, said = film(tmp_path / "a.gif", "gif", pixels="rgb8"), []
    result = media.dub(original, SOUND, tmp_path / "r.mp4", report=said.append)
    a, b = ([f.to_ndarray(format="rgb24") for f in frames(path)] for path in (original, result))
    assert frames(result)[0].format.name == "yuv444p" and psnr(np.stack(a), np.stack(b)) >= 45
    assert said == [f"{original}: its fine colours are kept (H.264 4:4:4), which not every player shows"]
    odd = film(tmp_path / "odd.gif", "gif", pixels="rgb8", size=(95, 127))
    assert media.open(media.dub(odd, SOUND, tmp_path / "o.mp4")).frames.shape[1:3] == (95, 127)
    grey, said = np.repeat(moving(30)[..., :1], 3, axis=-1), []
    original = write(tmp_path / "s.mkv", grey, video="ffv1", pixels="bgr0", fps=15)
    result = media.dub(original, SOUND, tmp_path / "s.mp4", start=0.2, report=said.append)
    a, b = ([f.to_ndarray(format="rgb24") for f in frames(path)][-20:] for path in (original, result))
    assert frames(result)[0].format.name == "yuv420p" and psnr(np.stack(a), np.stack(b)) >= 45 and not said


def light_of(path) -> dict[str, list[int]]:
    """What the first picture says of its screen and its light."""
    data = {side.type.name: bytes(side) for side in frames(path)[0].side_data}
    return {name: np.frombuffer(data[name], np.int32).tolist() for name in data if "LIGHT" in name or "DISPLAY" in name}


def test_hdr_stays_hdr(tmp_path):
    def dress(container, video, _):
        context = video.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 9, 9, 16, 1

    screen = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=1000,400"
    options = {"x265-params": f"log-level=error:{screen}", "crf": "10"}
    original = film(tmp_path / "h.mp4", "libx265", pixels="yuv420p10le", options=options, dress=dress)
    light = light_of(original)
    assert light["CONTENT_LIGHT_LEVEL"] == [1000, 400] and light["MASTERING_DISPLAY_METADATA"][:2] == [34000, 50000]
    for part in ({}, {"start": 0.4}):
        result = media.dub(original, SOUND, tmp_path / "r.mp4", **part)
        frame = frames(result)[0]
        assert (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range) == (9, 9, 16, 1)
        assert frame.format.name == "yuv420p10le" and light_of(result) == light


@pytest.mark.parametrize(("size", "tag"), [((96, 128), 6), ((720, 1280), 1)])
def test_colours_without_tags_get_those_that_players_assume(tmp_path, size, tag):
    original = film(tmp_path / "a.mp4", size=size, n=4)
    frame = frames(media.dub(original, SOUND, tmp_path / "r.mp4", start=0.1))[0]
    assert (frame.colorspace, frame.color_primaries, frame.color_trc) == (tag, tag, tag)
    assert frames(media.dub(original, SOUND, tmp_path / "c.mp4"))[0].colorspace == 2  # copied as it was


@pytest.mark.parametrize("part", [{}, {"start": 0.2}])
@pytest.mark.parametrize("turn", [(90, False), (0, True), (180, False), (270, True)])
def test_rotation_mirroring_and_the_shape_of_pixels_stay(tmp_path, part, turn):
    def dress(container, video, _):
        video.set_display_rotation(turn[0], hflip=turn[1])
        video.codec_context.sample_aspect_ratio = Fraction(64, 45)

    def matrix(path) -> bytes:
        return bytes(next(data for data in frames(path)[0].side_data if data.type.name == "DISPLAYMATRIX"))

    original = film(tmp_path / "a.mp4", n=8, dress=dress)
    result = media.dub(original, SOUND, tmp_path / "r.mp4", **part)
    assert matrix(result)[:20] == matrix(original)[:20]
    with av.open(str(result)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(64, 45)
    a = media.open(original, **part)
    assert psnr(media.open(result).frames, a.frames) >= 45


def test_pictures_of_odd_size_lose_one_row_or_column_where_they_must(tmp_path):
    original = film(tmp_path / "a.mkv", "libvpx-vp9", size=(97, 129), options={"cpu-used": "8"}, n=8)
    assert media.open(media.dub(original, SOUND, tmp_path / "c.mp4")).frames.shape[1:3] == (97, 129)
    result = media.dub(original, SOUND, tmp_path / "r.mp4", start=0.2)
    assert media.info(result).height == 96 and media.info(result).width == 128
    for plane in range(3):
        a, b = (
            _plane(film_, plane)[-5:, : 96 if plane == 0 else 48, : 128 if plane == 0 else 64]
            for film_ in (original, result)
        )
        assert psnr(a, b) >= 45


def _plane(path, k: int) -> np.ndarray:
    """One plane of all pictures, uint8 [n, H, W]."""
    planes = [frame.planes[k] for frame in frames(path)]
    return np.stack([np.frombuffer(p, np.uint8).reshape(-1, p.line_size)[: p.height, : p.width] for p in planes])


def rich(path, audio: str = "aac"):
    """A film with title, chapters, a sound in German, and subtitles where the container has them as SubRip."""

    def dress(container, video, sound):
        container.metadata.update(title="My film", date="2021-05-06", artist="Me")
        sound.metadata.update(language="deu", title="Ton")
        base = Fraction(1, 1000)
        container.set_chapters(
            [
                {"id": k, "start": a, "end": b, "time_base": base, "metadata": {"title": name}}
                for k, (a, b, name) in enumerate([(0, 1000, "One"), (1000, 2000, "Two")])
            ]
        )

    return film(path, sound=clicks((0.5, 1.5), 2.0, 48000), audio=audio, dress=dress)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("part", [{}, {"start": 0.4, "duration": 1.2}])
def test_title_date_and_chapters_go_along(tmp_path, name, part):
    result = media.dub(rich(tmp_path / name), SOUND, tmp_path / "r.mp4", **part)
    start, end = part.get("start", 0), part.get("start", 0) + part.get("duration", 2)
    with av.open(str(result)) as container:
        tags, chapters = container.metadata, container.chapters()
    assert (tags["title"], tags["date"], tags["artist"]) == ("My film", "2021-05-06", "Me")
    assert [c["metadata"]["title"] for c in chapters] == ["One", "Two"]
    times = [float(c[which] * c["time_base"]) for c in chapters for which in ("start", "end")]
    assert np.allclose(times, [0, 1 - start, 1 - start, end - start], atol=0.03)


@pytest.mark.parametrize(
    ("name", "audio"), [("a.mp4", "aac"), ("a.mkv", "aac"), ("m.mkv", "mp2"), ("p.mkv", "pcm_s16le")]
)
@pytest.mark.parametrize("part", [{}, {"start": 0.4, "duration": 1.2}])
def test_the_original_sound_becomes_the_second_track(tmp_path, name, audio, part):
    result = media.dub(
        rich(tmp_path / name, audio), clicks((0.3,), 2.0), tmp_path / "r.mp4", keep_original=True, **part
    )
    with av.open(str(result)) as container:
        made, original = container.streams.audio
        assert made.disposition & 1 and not original.disposition & 1
        assert original.metadata["language"] == "deu" and original.metadata["handler_name"] in ("Ton", "SoundHandler")
        assert "Generated" in made.metadata["handler_name"] and original.codec_context.sample_rate == 48000
        samples = []
        for index in (0, 1):
            container.seek(0)
            parts = list(container.decode(audio=index))
            samples.append(Sound(np.concatenate([f.to_ndarray() for f in parts], axis=1), parts[0].sample_rate))
            samples[-1] = (samples[-1], parts[0].time)
    end = media.open(result).duration
    for (sound, begin), time in zip(samples, (0.3, 0.5 - part.get("start", 0)), strict=True):
        assert abs(heard_at(sound, time - begin) + begin - time) < 0.005
        assert begin + sound.duration == pytest.approx(end, abs=0.05)


def test_mixing_adds_the_original_and_never_goes_beyond_full_scale(tmp_path):
    original = rich(tmp_path / "a.mp4")
    mixed = media.open(media.dub(original, clicks((0.9,), 2.0), tmp_path / "r.mp4", mix=-6.0)).sound
    assert mixed.sample_rate == 48000
    level = [np.abs(mixed.slice(t - 0.05, t + 0.05).samples).max() for t in (0.9, 0.5)]
    assert all(abs(heard_at(mixed, t) - t) < 0.005 for t in (0.5, 0.9, 1.5))
    assert 0.1 < level[0] < level[1]
    tone = Sound(0.9 * np.sin(np.arange(32000) * 0.05), 16000)
    loud = film(tmp_path / "loud.mkv", sound=tone, audio="flac")
    both = media.open(media.dub(loud, tone, tmp_path / "b.mp4", mix=0.0)).sound
    assert 0.9 < both.peak < 1.05  # AAC adds a little
    from v2a_nb.media.soundtracks import Soundtrack, mix

    exact = np.concatenate(list(mix(Soundtrack.of(tone, ""), Soundtrack.of(tone, ""), 0.0).blocks), axis=1)
    assert exact.shape == (1, 32000) and np.abs(exact).max() == pytest.approx(1.0, abs=1e-3)
    clipped = np.clip(2 * tone.samples, -1, 1)
    assert np.abs(exact - clipped).max() > 0.1  # turned down, not cut off


def test_what_cannot_be_kept_is_said(tmp_path):
    notes = []
    media.dub(film(tmp_path / "a.mp4"), SOUND, tmp_path / "r.mp4", keep_original=True, report=notes.append)
    assert len(notes) == 1 and "no sound of its own" in notes[0]
    with pytest.raises(UsageError, match="mix"):
        media.dub(tmp_path / "a.mp4", SOUND, tmp_path / "s.mp4", mix=0.0, keep_original=True)


SUBRIP = """1
00:00:00,300 --> 00:00:00,900
Hello <i>there</i>

2
00:00:01,000 --> 00:00:01,800
Two

"""
STYLED = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize
Style: Default,Arial,20

[Events]
Format: Layer, Start, End, Style, Text
Dialogue: 0,0:00:00.30,0:00:00.90,Default,Hello
"""


def with_subtitles(folder, text: str, ending: str):
    """A Matroska file with subtitles."""
    silent, path = film(folder / "plain.mkv", options=BFRAMES), folder / "subtitled.mkv"
    (folder / f"s.{ending}").write_text(text)
    with (
        av.open(str(silent)) as source,
        av.open(str(folder / f"s.{ending}")) as words,
        av.open(str(path), "w") as container,
    ):
        streams = [
            container.add_stream_from_template(source.streams.video[0], opaque=True),
            container.add_stream_from_template(words.streams.subtitles[0]),
        ]
        streams[1].metadata["language"] = "fra"
        for file, stream in zip((source, words), streams, strict=True):
            for packet in file.demux():
                if packet.size:
                    packet.stream = stream
                    container.mux(packet)
    return path


@pytest.mark.parametrize("part", [{}, {"start": 0.6, "duration": 1.0}])
def test_subtitles_go_along(tmp_path, part):
    original = with_subtitles(tmp_path, SUBRIP, "srt")
    result = media.dub(original, SOUND, tmp_path / "r.mp4", **part)
    again = media.dub(result, SOUND, tmp_path / "again.mp4")  # from mp4 they are copied
    for path in (result, again):
        with av.open(str(path)) as container:
            stream = container.streams.subtitles[0]
            assert stream.codec_context.name == "mov_text" and stream.metadata["language"] == "fra"
            texts = [
                (p.pts * p.time_base, p.duration * p.time_base, bytes(p)[2:])
                for p in container.demux(stream)
                if p.size > 2
            ]
        start, end = part.get("start", 0), part.get("start", 0) + part.get("duration", 2)
        assert [text.split(b"\0")[0][:5] for *_, text in texts] == [b"Hello", b"Two"]
        wanted = [(max(a, start) - start, min(b, end) - max(a, start)) for a, b in ((0.3, 0.9), (1.0, 1.8))]
        assert np.allclose([(float(a), float(b)) for a, b, _ in texts], wanted, atol=0.03)


def test_subtitles_that_mp4_cannot_hold_are_said(tmp_path):
    notes = []
    original = with_subtitles(tmp_path, STYLED, "ass")
    same_pictures(media.dub(original, SOUND, tmp_path / "r.mp4", report=notes.append), original)
    assert len(notes) == 1 and "ass subtitles" in notes[0]


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 17000, 22050, 32000, 44100, 48000, 96000])
def test_pieces_give_the_sound_that_one_gives(tmp_path, rate):
    original = film(tmp_path / "a.mp4")
    sound = clicks((0.5, 1.5), 2.0, rate)
    pieces = (Sound(sound.samples[:, a : a + 777], rate) for a in range(0, sound.n, 777))
    a = media.dub(original, sound, tmp_path / "a1.mp4")
    b = media.dub(original, pieces, tmp_path / "a2.mp4")
    assert a.read_bytes() == b.read_bytes()
    back = media.open(a).sound
    assert all(abs(heard_at(back, t) - t) < 0.005 for t in (0.5, 1.5))


def test_sound_is_taken_as_pictures_are_written(tmp_path):
    """The sound may be made of the same file's pictures; what lies behind the end is never made."""
    original, taken = film(tmp_path / "a.mp4", n=60), []

    def pieces(file):
        for k, window in enumerate(media.windows(original, 0.5)):
            file.read(start=k * 0.5, duration=0.5)
            taken.append(k)
            yield clicks((), window.duration)
        for k in range(100):
            taken.append(100 + k)
            yield clicks((), 1.0)

    with media.Video(original) as file:
        result = file.dub(pieces(file), tmp_path / "r.mp4", start=1.0, duration=1.4)
    back = media.open(result)
    assert np.allclose(back.times, media.open(original, start=1.0, duration=1.4).times, atol=1e-3)
    assert max(taken) <= 3


def test_the_video_itself_is_never_written_over(tmp_path):
    original = film(tmp_path / "a.mp4")
    before = original.read_bytes()
    (tmp_path / "link.mp4").symlink_to(original)
    (tmp_path / "hard.mp4").hardlink_to(original)
    (tmp_path / "b").mkdir()
    for path in (original, tmp_path / "link.mp4", tmp_path / "hard.mp4", tmp_path / "b" / ".." / "a.mp4"):
        with pytest.raises(MediaError, match="is the video itself"):
            media.dub(original, SOUND, path)
    assert original.read_bytes() == before


def test_parts_outside_are_refused_and_leave_nothing(tmp_path):
    original = film(tmp_path / "a.mp4")
    for part in ({"start": 9.0}, {"start": -1.0}, {"duration": 0.0}, {"start": float("nan")}):
        with pytest.raises(UsageError):
            media.dub(original, SOUND, tmp_path / "r.mp4", **part)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_times_stay_uneven(tmp_path):
    times = np.array([0.0, 0.1, 0.15, 0.4, 0.9])
    original = media.save_mp4(Clip(pictures(5), times, 10.0, 1.2), None, tmp_path / "a.mp4")
    for part, first in (({}, 0), ({"start": 0.1}, 1)):
        back = media.open(media.dub(original, SOUND, tmp_path / "r.mp4", **part))
        assert np.allclose(back.times, times[first:] - times[first], atol=1e-3)
        assert back.duration == pytest.approx(1.2 - times[first], abs=2e-3)
