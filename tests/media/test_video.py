"""Video files, read whole, in parts and in windows: awkward ones, broken ones, and clicks that come back in place."""

from __future__ import annotations

import gc
import io
from fractions import Fraction

import av
import numpy as np
import pytest
from hostile.films import film, flip
from media_parts import clicks, clip_of, damage, differences, moving, sweep, write

from v2a_nb import media
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import MediaError, UsageError
from v2a_nb.media import decoding, mp4


@pytest.mark.parametrize("rate", [16000, 44100, 8000, 22050, 17000])
def test_click_comes_back_within_five_milliseconds(tmp_path, rate):
    times = (0.31, 1.0, 1.777)
    clip = clip_of().with_sound(clicks(2.0, rate, times))
    back = media.open(media.save_mp4(clip, None, tmp_path / "a.mp4"))
    assert back.sound.duration == pytest.approx(back.duration, abs=1e-3)
    assert back.duration == pytest.approx(2.0, abs=1e-3)
    wave, sr = back.sound.samples[0], back.sound.sample_rate
    for t in times:
        a = int((t - 0.05) * sr)
        assert abs((a + np.abs(wave[a : a + int(0.1 * sr)]).argmax()) / sr - t) < 0.005
    part = media.open(tmp_path / "a.mp4", start=0.8, duration=0.5)
    assert abs(np.abs(part.sound.samples[0]).argmax() / sr - 0.2) < 0.005
    assert part.sound.duration == pytest.approx(0.5, abs=1e-3)


def test_variable_frame_times_survive(tmp_path):
    times = np.array([0, 0.1, 0.15, 0.5, 0.9])
    clip = Clip(clip_of(5).frames, times, 10.0, 1.2)
    back = media.open(media.save_mp4(clip, None, tmp_path / "v.mp4", crf=5))
    assert np.allclose(back.times, times, atol=1e-3)
    assert back.duration == pytest.approx(1.2, abs=0.02)


def test_odd_sizes_lose_one_row_and_column(tmp_path):
    back = media.open(media.save_mp4(clip_of(5, height=49, width=65), None, tmp_path / "o.mp4"))
    assert (back.height, back.width) == (48, 64)


def test_no_sound_is_none(tmp_path):
    path = write(tmp_path / "s.mp4", clip_of().frames)
    assert media.open(path).sound is None and media.info(path).audio_codec is None
    with pytest.raises(MediaError, match="no sound"):
        media.open_sound(path)


def test_windows_are_the_whole_file(tmp_path):
    path = media.save_mp4(clip_of(60).with_sound(clicks(2.4, 16000, (0.5, 1.5))), None, tmp_path / "w.mp4")
    whole, parts = media.open(path), list(media.windows(path, 0.7))
    assert sum(p.duration for p in parts) == pytest.approx(whole.duration, abs=1e-3)
    assert np.array_equal(np.concatenate([p.frames for p in parts])[:5], whole.frames[:5])
    joined = np.concatenate([p.sound.samples[0] for p in parts])
    assert abs(len(joined) - whole.sound.n) <= len(parts)


def test_wav_round_trip_and_clipping(tmp_path):
    sound = Sound(np.array([0.0, 0.5, -0.5, 2.0]), 16000)
    back = media.open_sound(media.save_wav(sound, tmp_path / "a.wav"))
    assert np.allclose(back.samples, [[0, 0.5, -0.5, 1.0]], atol=1e-4)


def broken(folder, name):
    path = folder / name
    if name == "empty.mp4":
        path.write_bytes(b"")
    elif name == "text.mp4":
        path.write_text("this is no video")
    elif name == "cut.mp4":
        whole = media.save_mp4(clip_of(), None, folder / "whole.mp4")
        path.write_bytes(whole.read_bytes()[:2000])
    elif name == "sound.wav":
        media.save_wav(Sound(np.zeros(1000), 16000), path)
    elif name == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize("name", ["empty.mp4", "text.mp4", "cut.mp4", "sound.wav", "folder", "missing.mp4"])
def test_broken_files_give_one_error_that_names_them(tmp_path, name):
    path = broken(tmp_path, name)
    with pytest.raises(MediaError) as caught:
        media.open(path)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_parts_outside_are_refused(tmp_path):
    path = media.save_mp4(clip_of(), None, tmp_path / "a.mp4")
    with pytest.raises(UsageError):
        media.open(path, start=5.0)
    with pytest.raises(UsageError):
        media.open(path, start=-1.0)


def test_nothing_half_written_is_left(tmp_path, monkeypatch):
    clip = clip_of().with_sound(clicks(2.0, 16000, (0.5,)))

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(mp4, "_encode_audio", fail)
    with pytest.raises(MediaError, match="disk full"):
        media.save_mp4(clip, None, tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []


def test_large_pictures_are_shrunk_while_reading(tmp_path):
    path = media.save_mp4(clip_of(5, height=240, width=320), None, tmp_path / "b.mp4")
    assert media.open(path, size=60).frames.shape[1:3] == (60, 80)


def test_dubbing_takes_the_pictures_from_the_file(tmp_path):
    times = np.array([0.0, 0.1, 0.15, 0.4, 0.9])
    original = media.save_mp4(Clip(clip_of(5).frames, times, 10.0, 1.2), None, tmp_path / "a.mp4", crf=0)
    whole = media.open(media.dub(original, clicks(1.2, 16000, (0.5,)), tmp_path / "b.mp4", crf=0))
    assert np.allclose(whole.times, times, atol=1e-3) and whole.duration == pytest.approx(1.2, abs=2e-3)
    assert np.abs(whole.frames.astype(int) - media.open(original).frames).max() <= 3
    assert abs(np.abs(whole.sound.samples).argmax() / 16000 - 0.5) < 0.005
    part = media.open(media.dub(original, clicks(0.5, 16000, ()), tmp_path / "c.mp4", start=0.2, duration=0.5))
    again = media.open(original, start=0.2, duration=0.5)
    assert np.allclose(part.times, again.times, atol=1e-3) and part.duration == pytest.approx(0.5, abs=2e-3)
    with pytest.raises(UsageError):
        media.dub(original, clicks(1, 16000, ()), tmp_path / "d.mp4", start=9)
    assert not (tmp_path / "d.mp4").exists()


CONTAINERS = {
    "mp4": ("mp4", "libx264", "aac", 48000),
    "mp4-44": ("mp4", "libx264", "aac", 44100),
    "mov": ("mov", "libx264", "pcm_s16le", 48000),
    "mkv": ("matroska", "libx264", "aac", 48000),
    "mkv-44": ("matroska", "libx265", "mp3", 44100),
    "mkv-pcm": ("matroska", "mpeg4", "pcm_s16le", 16000),
    "webm": ("webm", "libvpx-vp9", "libopus", 48000),
    "avi": ("avi", "libx264", "pcm_s16le", 48000),
    "avi-mpeg4": ("avi", "mpeg4", "pcm_s16le", 44100),
    "avi-mjpeg": ("avi", "mjpeg", "pcm_s16le", 16000),
    "ts": ("mpegts", "libx264", "aac", 48000),
    "ts-44": ("mpegts", "libx265", "aac", 44100),
    "m2ts": ("mpegts", "libx264", "aac", 48000),
    "mpg": ("mpeg", "mpeg2video", "mp2", 48000),
    "vob": ("vob", "mpeg2video", "mp2", 48000),
    "flv": ("flv", "libx264", "aac", 44100),
    "nut": ("nut", "mpeg4", "mp3", 48000),
    "asf": ("asf", "mpeg4", "aac", 48000),
    "3gp": ("3gp", "libx264", "aac", 48000),
    "mxf": ("mxf", "mpeg2video", "pcm_s16le", 48000),
}


def muxed(folder, name, seconds, **more):
    """A file of one of :data:`CONTAINERS`, with B-frames where the codec has them."""
    container, video, audio, rate = CONTAINERS[name]
    if video == "mjpeg":
        more |= {"pixels": "yuvj420p"}
    if name == "m2ts":
        more |= {"muxer": {"mpegts_m2ts_mode": "1"}}
    if video in ("mpeg2video", "mpeg4") and name != "avi-mpeg4":
        more |= {"bframes": 2}
    path = folder / f"a.{name.split('-')[0]}"
    pictures = moving(25 * seconds)
    return write(path, pictures, sweep(seconds, rate), container=container, video=video, audio=audio, rate=rate, **more)


LONG_GOP = ("mp4", "mkv-44", "webm", "avi-mpeg4", "ts", "flv")


@pytest.mark.parametrize("name, gop", [*((n, 12) for n in CONTAINERS), *((n, 1000) for n in LONG_GOP)])
def test_every_part_is_cut_out_of_the_whole(tmp_path, name, gop):
    """Pictures and sounds after a seek, and those read window by window, are those of the whole file."""
    path = muxed(tmp_path, name, 8, gop=gop)
    whole = media.open(path)
    assert whole.n == 200 and whole.problems == ()
    # in a program stream, FFmpeg guesses the times of small pictures
    assert np.allclose(np.diff(whole.times), 0.04, atol=0.2 if name in ("mpg", "vob") else 1.1e-3)
    for start, duration in ((0.5, 0.7), (5.13, 0.5), (7.0, 9.0)):
        part = media.open(path, start=start, duration=duration)
        assert not differences(part, whole.slice(start, start + duration)) and part.problems == (), start
    for k, part in enumerate(media.windows(path, 1.7)):
        assert not differences(part, whole.slice(1.7 * k, 1.7 * (k + 1))) and part.problems == (), k
    assert k == 4


@pytest.mark.parametrize("name", CONTAINERS)
def test_sound_lies_against_the_pictures(tmp_path, name):
    """White pictures and clicks of the same times come back at the same times."""
    container, video, audio, rate = CONTAINERS[name]
    pictures = np.zeros((50, 48, 64, 3), np.uint8)
    pictures[[12, 30]] = 255
    wave = np.zeros((2, 2 * rate), np.float32)
    for k in (12, 30):
        wave[:, int(k * 0.04 * rate) :][:, : rate // 200] = 0.8
    pixels = "yuvj420p" if video == "mjpeg" else "yuv420p"
    path = write(
        tmp_path / f"a.{name.split('-')[0]}", pictures, wave, container=container, video=video, audio=audio, rate=rate,
        pixels=pixels,
    )  # fmt: skip
    clip = media.open(path)
    flashes = clip.times[clip.frames.mean(axis=(1, 2, 3)) > 120]
    loud = np.abs(clip.sound.samples[0])
    first = np.flatnonzero(loud > 0.3) / clip.sound.sample_rate
    heard = [first[0], first[first > first[0] + 0.3][0]]
    assert np.allclose(flashes, [0.48, 1.2], atol=1.1e-3)
    tolerance = 0.03 if name == "nut" else 0.004  # whose delay nobody wrote down
    assert np.allclose(heard, flashes, atol=tolerance)


def test_no_decoded_frame_outlives_its_part(tmp_path):
    """Frames hold full-size pictures: they must go at once, and not when Python next collects cycles."""
    path = write(tmp_path / "a.mp4", moving(75))

    def frames() -> list:
        return [thing for thing in gc.get_objects() if type(thing).__name__ in ("VideoFrame", "SideDataContainer")]

    gc.collect()
    gc.disable()
    try:
        before = frames()  # those that an exception of another test still holds
        with media.Video(path) as video:
            for start in (0.0, 1.0, 2.0):
                video.read(start=start, duration=1.0)
            left = len(frames()) - len(before)
    finally:
        gc.enable()
    assert left <= 4  # the first, of which the orientation was asked, and what comes next


def test_windows_decode_every_packet_once(tmp_path, monkeypatch):
    path = write(tmp_path / "a.mp4", moving(200), gop=1000)
    decoded = []
    true = decoding.decode
    monkeypatch.setattr(decoding, "decode", lambda stream, packet: (decoded.append(packet), true(stream, packet))[1])
    assert sum(part.n for part in media.windows(path, 1.0)) == 200
    assert len(decoded) == 201  # and the empty packet that flushes
    with media.Video(path) as video:
        for start in (0.0, 0.5, 1.0, 6.0):
            assert video.read(start=start, duration=0.5).n in (12, 13)
        assert video.read(start=1.0, duration=0.5).n in (12, 13)  # backwards too


def test_windows_of_a_picture_that_lasts_long_decode_it_once(tmp_path, monkeypatch):
    times = np.append(np.arange(25), 5000 + np.arange(25)) / 25
    path = film(tmp_path / "a.mkv", times=times, ticks=1000)
    kinds, true = [], decoding.decode
    monkeypatch.setattr(decoding, "decode", lambda stream, packet: (kinds.append(stream.type), true(stream, packet))[1])
    assert [part.n for part in media.windows(path, 1.0)] == [25, *199 * [1], 25]
    assert kinds.count("video") == 51  # with the empty packet that flushes


@pytest.mark.parametrize(
    "name, options",
    [
        ("a.mp4", {}),
        ("a.mkv", {"video": "libx265"}),
        ("a.webm", {"video": "libvpx-vp9", "audio": "libopus"}),
        ("a.mov", {"video": "prores_ks", "pixels": "yuv422p10le"}),
    ],
)
def test_a_damaged_picture_costs_no_more_than_it_must(tmp_path, name, options):
    original = write(tmp_path / name, moving(100), sweep(4, 48000), **options)
    clip, whole = media.open(damage(original, 42)), media.open(original)
    key = 48  # the next key picture
    assert whole.problems == () and 85 < clip.n < 101 and clip.duration == pytest.approx(4.0, abs=2e-3)
    behind = clip.times > whole.times[key] - 1e-3
    assert np.allclose(clip.times[behind], whole.times[key:], atol=1e-6)
    assert np.array_equal(clip.frames[behind], whole.frames[key:])
    assert np.array_equal(clip.sound.samples, whole.sound.samples)
    (line,) = clip.problems
    assert "of 100 pictures" in line.replace("101", "100") and ("near 1." in line or "between 1." in line)
    assert clip.slice(0, 1).problems == clip.at_fps(10).resize(8, 8).silent().problems == clip.problems
    with media.Video(tmp_path / f"damaged-{name}") as video:
        assert video.read(duration=1.0).problems == ()
        again = [video.read(start=1.0, duration=2.0).problems for _ in range(2)]
    assert again == [clip.problems] * 2 and video.problems == clip.problems


def test_damage_at_the_end_and_half_a_picture(tmp_path):
    original = write(tmp_path / "a.mp4", moving(60), gop=1000)
    clip = media.open(damage(original, 59))
    assert clip.n == 59 and clip.problems == ("1 of 60 pictures near 2.32 s could not be decoded",)  # a B-frame
    clip = media.open(damage(original, 30, share=0.5))
    assert clip.n == 60 and "damaged" in clip.problems[0]
    clip = media.open(damage(original, 0))
    assert clip.problems or clip.n < 60


@pytest.mark.parametrize("name, options", [("a.mp4", {}), ("a.webm", {"video": "libvpx-vp9", "audio": "libopus"})])
def test_damaged_sound_is_silent_and_shifts_nothing(tmp_path, name, options):
    original = write(tmp_path / name, moving(75), sweep(3, 48000), **options)
    for number in (50, 51, 52):  # one of the three holds bytes that no decoder accepts
        clip, whole = media.open(damage(original, number, kind="audio")), media.open(original)
        assert clip.n == 75 and clip.sound.n == whole.sound.n
        difference = np.abs(clip.sound.samples - whole.sound.samples).max(axis=0)
        if clip.problems:
            assert "of the sound near 1." in clip.problems[0]
        later = int(1.6 * 48000)
        assert difference[later:].max() < 1e-3 and difference[: int(0.9 * 48000)].max() < 1e-6


def test_a_file_without_one_good_picture_is_one_error(tmp_path):
    path = write(tmp_path / "a.mkv", moving(5), gop=1)
    for k in range(5):
        path = damage(path, k)
    with pytest.raises(MediaError, match="not one picture"):
        media.open(path)


def test_a_truncated_download_says_where_it_ends(tmp_path):
    path = write(tmp_path / "a.mp4", moving(100), sweep(4, 48000), muxer={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    clip = media.open(path)
    assert 1 < clip.duration < 3
    assert clip.problems[-1] == f"the video ends at {clip.duration:.2f} s of the 4.00 s that the file promises"
    assert sum(part.duration for part in media.windows(path, 0.5)) == pytest.approx(clip.duration, abs=1e-3)
    assert media.open(path, duration=0.5).problems == ()
    problems = []
    media.open_sound(path, problems=problems)
    assert "its sound ends at" in problems[-1]


def test_sound_that_outlasts_the_pictures_is_no_problem(tmp_path):
    path = write(tmp_path / "a.mkv", moving(25), sweep(1, 48000), delay=2.0)
    assert media.open(path).problems == () and media.open(path).n == 25


def remux(source, target, change, **options):
    """Copy the packets of a file, each changed."""
    with av.open(str(source)) as read, av.open(str(target), "w", **options) as file:
        streams = {s.index: file.add_stream_from_template(s) for s in read.streams}
        for packet in read.demux():
            if packet.size:
                stream = packet.stream
                change(packet)
                packet.stream = streams[stream.index]
                file.mux(packet)
    return target


def test_timestamps_in_decoding_order_lose_no_picture(tmp_path):
    """A writer that knows of no B-frames gives each packet the next time."""
    original = write(tmp_path / "a.mkv", moving(100), bframes=2)

    def reordered(packet):
        packet.pts = packet.dts = numbers.pop(0)

    numbers = list(range(0, 4000, 40))
    clip = media.open(remux(original, tmp_path / "b.mkv", reordered))
    whole = media.open(original)
    assert clip.n == 100 and np.array_equal(clip.frames, whole.frames)
    assert np.allclose(clip.times[10:], whole.times[10:], atol=1e-3)
    part = media.open(tmp_path / "b.mkv", start=3.0, duration=0.5)
    assert np.array_equal(part.frames, whole.slice(3.0, 3.5).frames)


def test_negative_times_and_edit_lists(tmp_path):
    original = write(tmp_path / "a.mp4", moving(50), sweep(2, 48000))

    def earlier(packet):
        shift = int(round(0.2 / packet.time_base))
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift

    whole = media.open(original)
    clip = media.open(remux(original, tmp_path / "b.mov", earlier, options={"avoid_negative_ts": "disabled"}))
    assert clip.n in (45, 50)  # an edit list may leave out what lies before zero
    assert np.array_equal(clip.frames[-1], whole.frames[-1]) and np.allclose(np.diff(clip.times), 0.04, atol=1e-3)
    late = media.open(write(tmp_path / "c.mp4", moving(50), sweep(2, 48000), delay=0.3))
    assert np.abs(late.sound.samples[:, : int(0.25 * 48000)]).max() < 0.02
    assert np.abs(late.sound.samples[:, int(0.35 * 48000) :]).max() > 0.2
    early = media.open(write(tmp_path / "d.mkv", moving(50), sweep(3, 48000), delay=-0.5)).sound
    true = sweep(3, 48000)[0, 24000:]
    assert np.abs(early.samples[0, 4800:48000] - true[4800:48000]).mean() < 0.06


def test_a_clock_that_is_set_anew_goes_on(tmp_path):
    """Two broadcasts in one file; the second has another size, and a sound of another rate."""
    write(tmp_path / "a.ts", moving(50), sweep(2, 48000))
    write(tmp_path / "b.ts", moving(75, 96, 128), sweep(3, 48000))
    path = tmp_path / "c.ts"
    path.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    clip = media.open(path)
    assert 120 <= clip.n <= 125 and clip.frames.shape[1:3] == (48, 64)
    assert clip.duration == pytest.approx(5.0, abs=0.15)
    assert clip.sound.duration == pytest.approx(clip.duration, abs=1e-3) and clip.sound.slice(4.0, 4.8).rms_dbfs > -20
    assert sum(part.n for part in media.windows(path, 1.0)) >= 120
    assert media.open(path, start=4.0, duration=0.5).n in (12, 13, 14)


def test_a_duration_that_is_missing(tmp_path):
    path = write(
        tmp_path / "a.webm", moving(75), sweep(3, 48000), video="libvpx-vp9", audio="libopus", muxer={"live": "1"}
    )
    with av.open(str(path)) as file:
        assert not file.duration
    assert [part.n for part in media.windows(path, 1.0)] == [25, 25, 25]
    assert media.info(path).duration == pytest.approx(3.0, abs=0.05)
    raw = write(tmp_path / "a.h264", moving(50))
    assert media.info(raw).duration == pytest.approx(2.0, abs=0.05) and media.open(raw).n == 50
    assert media.open(raw, start=1.0, duration=0.5).n in (12, 13)


def test_a_sound_whose_rate_changes_goes_on(tmp_path):
    parts = []
    for rate, layout in ((44100, "stereo"), (48000, "mono")):
        data = io.BytesIO()
        with av.open(data, "w", format="adts") as file:
            stream = file.add_stream("aac", rate=rate)
            stream.layout = layout
            wave = sweep(2, rate, 1 if layout == "mono" else 2)
            for start in range(0, wave.shape[1], 1024):
                block = np.ascontiguousarray(wave[:, start : start + 1024])
                frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
                frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
        parts.append(data.getvalue())
    path = tmp_path / "a.aac"
    path.write_bytes(b"".join(parts))
    sound = media.open_sound(path)
    assert sound.sample_rate == 44100 and sound.channels == 2
    assert sound.duration == pytest.approx(4.0, abs=0.3) and sound.slice(3.0, 3.5).rms_dbfs > -25


def test_a_damaged_video_gives_the_same_pictures_each_time(tmp_path):
    """What a decoder of several frames at a time makes of damage hangs on which thread is first."""
    path = flip(film(tmp_path / "a.ts", codec_options={"g": "12"}), "video", 60, 2)
    first = media.open(path)
    assert first.problems
    for _ in range(7):
        again = media.open(path)
        assert np.array_equal(again.frames, first.frames) and again.problems == first.problems
