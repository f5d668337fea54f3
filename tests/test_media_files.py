"""Files in and out: awkward ones, broken ones, and clicks that come back where they were."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from v2a_nb import media
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import MediaError, UsageError
from v2a_nb.media import mp4


def clicks(seconds: float, rate: int, times) -> Sound:
    wave = np.zeros(int(seconds * rate), np.float32)
    for t in times:
        wave[int(t * rate)] = 0.9
    return Sound(wave, rate)


def clip_of(n: int = 50, fps: float = 25.0, height: int = 48, width: int = 64, **more) -> Clip:
    frames = np.zeros((n, height, width, 3), np.uint8)
    frames[:] = (np.arange(n) * 255 // max(1, n - 1)).astype(np.uint8)[:, None, None, None]
    return Clip(frames, fps=fps, **more)


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


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_rotated_pictures_come_upright(tmp_path, turn):
    """A file written sideways with a display matrix is read as it is meant to be seen."""
    path = tmp_path / "r.mp4"
    frames = np.zeros((10, 48, 64, 3), np.uint8)
    frames[:, :20, :20] = 255  # a mark in the upper left corner
    media.save_mp4(Clip(frames, fps=10), None, path, crf=5)
    data = path.read_bytes()
    at = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8  # version 0: the matrix follows these fields
    one, minus = (65536).to_bytes(4, "big"), (-65536).to_bytes(4, "big", signed=True)
    zero, w = bytes(4), (1 << 30).to_bytes(4, "big")
    rows = {
        90: (zero, one, zero, minus, zero, zero, zero, zero, w),
        180: (minus, zero, zero, zero, minus, zero, zero, zero, w),
        270: (zero, minus, zero, one, zero, zero, zero, zero, w),
    }[turn]
    path.write_bytes(data[:at] + b"".join(rows) + data[at + 36 :])
    clip = media.open(path)
    corner = {90: (0, -1), 180: (-1, -1), 270: (-1, 0)}[turn]  # clockwise as players show it
    assert (clip.height, clip.width) == ((64, 48) if turn != 180 else (48, 64))
    assert clip.frames[0][corner].mean() > 200 and (clip.frames[0] > 128).mean() < 0.2
    assert media.info(path).rotation in (turn, 360 - turn)


def write(path, clip, *, audio=None, rate=48000, layout="stereo", delay=0.0, codec="aac"):
    """A file with its sound starting ``delay`` seconds after its pictures."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=Fraction(clip.fps))
        video.width, video.height, video.pix_fmt = clip.width, clip.height, "yuv420p"
        stream = None
        if audio is not None:
            stream = container.add_stream(codec, rate=rate)
            stream.layout = layout
        for k, picture in enumerate(clip.frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = k
            frame.time_base = 1 / Fraction(clip.fps)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if stream is not None:
            size = stream.codec_context.frame_size or 1024
            for start in range(0, audio.shape[1], size):
                block = np.ascontiguousarray(audio[:, start : start + size], np.float32)
                frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
                frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
                frame.pts = start + int(delay * rate)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


def test_six_channels_and_late_sound(tmp_path):
    audio = np.zeros((6, 48000), np.float32)
    audio[:, 24000] = 0.9
    path = write(tmp_path / "l.mkv", clip_of(), audio=audio, layout="5.1", delay=0.4)
    clip = media.open(path)
    assert clip.sound.channels == 6 and clip.sound.duration == pytest.approx(clip.duration, abs=1e-3)
    assert np.abs(clip.sound.samples[0]).argmax() / 48000 == pytest.approx(0.9, abs=0.01)
    assert np.abs(clip.sound.samples[:, : int(0.3 * 48000)]).max() < 0.05


def test_no_sound_is_none(tmp_path):
    path = write(tmp_path / "s.mp4", clip_of())
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
