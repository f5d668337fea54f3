"""Sounds of files: on the clock of the pictures, the right track, and mixed by their layout."""

from __future__ import annotations

import tracemalloc

import av
import numpy as np
import pytest
from media_parts import moving, sweep, write

from v2a_nb import media
from v2a_nb.clip import Sound
from v2a_nb.errors import MediaError, UsageError
from v2a_nb.media import sounds


@pytest.mark.parametrize("name, delay", [("a.mkv", 0.3), ("a.mp4", 0.3), ("a.mkv", -0.2), ("a.ts", 0.3)])
def test_a_sound_lies_against_the_pictures(tmp_path, name, delay):
    path = write(tmp_path / name, moving(50), sweep(2.5, 48000), delay=delay)
    alone, whole = media.open_sound(path), media.open(path)
    n = min(alone.n, whole.sound.n)
    assert n > 1.7 * 48000 and np.array_equal(alone.samples[:, :n], whole.sound.samples[:, :n])
    audible = np.flatnonzero(np.abs(alone.samples[0]) > 0.1)[0] / 48000
    assert audible == pytest.approx(max(0.0, delay), abs=0.03)


def test_a_sound_without_pictures_starts_with_itself(tmp_path):
    path = media.save_wav(Sound(np.array([0.5, 0.25, 0.0]), 16000), tmp_path / "a.wav")
    assert np.allclose(media.open_sound(path).samples, [[0.5, 0.25, 0]], atol=1e-4)


@pytest.mark.parametrize("planes", ["", "p"])
@pytest.mark.parametrize("kind", sounds.DIRECT)
def test_samples_become_floats_as_in_the_resampler(kind, planes):
    for layout, channels in {"mono": 1, "stereo": 2, "5.1": 6, "7.0": 7}.items():
        wave = np.random.default_rng(channels).uniform(-1, 1, (channels, 500)) * {"flt": 2, "dbl": 2}.get(kind, 1)
        scale, zero = sounds.DIRECT[kind]
        whole = wave / scale + zero if scale < 1 else wave
        numbers = whole.astype({"s16": "i2", "s32": "i4", "u8": "u1", "flt": "f4", "dbl": "f8"}[kind])
        numbers = np.ascontiguousarray(numbers if planes else numbers.T.reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(numbers, format=kind + planes, layout=layout)
        frame.sample_rate = 8000
        (wanted,) = av.AudioResampler(format="flt", layout=layout, rate=8000).resample(frame)
        made = sounds._floats_of(frame)
        assert made.dtype == np.float32 and np.array_equal(made, sounds._planar(wanted))
        assert np.abs(made - wave).max() < 0.01


def test_the_default_track_is_heard_and_others_by_number(tmp_path):
    tone, quiet = sweep(2, 48000), np.zeros((2, 96000), np.float32)
    path = write(tmp_path / "a.mkv", moving(50), [tone, quiet], default=1)
    assert media.info(path).audio_tracks == 2
    assert media.open(path).sound.peak < 0.01 and media.open_sound(path).peak < 0.01
    assert media.open(path, audio_track=0).sound.peak > 0.2 and media.open_sound(path, audio_track=0).peak > 0.2
    assert next(media.windows(path, 1.0, audio_track=0)).sound.peak > 0.2
    for read in (media.open, media.open_sound, lambda *a, **k: next(media.windows(*a, 1.0, **k))):
        with pytest.raises(UsageError, match="no audio track 2: it has 2"):
            read(path, audio_track=2)
    silent = write(tmp_path / "b.mp4", moving(5))
    with pytest.raises(UsageError, match="has 0"):
        media.open(silent, audio_track=0)


def test_surround_is_read_with_its_layout(tmp_path):
    samples = np.zeros((6, 96000), np.float32)
    samples[0], samples[1] = 0.5 * np.sin(np.arange(96000) * 0.05), 0.3 * np.sin(np.arange(96000) * 0.11)
    path = write(tmp_path / "a.mkv", moving(50), samples, layout="5.1")
    sound = media.open(path).sound
    assert sound.channels == 6 and sound.layout == "5.1"
    left, right = sound.slice(0.5, 1.5).stereo().samples
    assert np.abs(left).max() == pytest.approx(0.5, abs=0.03) and np.abs(right).max() == pytest.approx(0.3, abs=0.03)
    assert abs(np.corrcoef(left, right)[0, 1]) < 0.1


def test_layouts_are_mixed_as_the_itu_says():
    def one(layout, channel, n):
        samples = np.zeros((n, 4), np.float32)
        samples[channel] = 1
        return Sound(samples, 8000, layout)

    half = 0.5**0.5
    five = {0: (1, 0), 1: (0, 1), 2: (half, half), 3: (0, 0), 4: (half, 0), 5: (0, half)}
    for channel, (left, right) in five.items():
        for layout in ("5.1", "5.1(side)", "FL+FR+FC+LFE+SL+SR"):
            sound = one(layout, channel, 6)
            assert np.allclose(sound.stereo().samples[:, 0], (left, right))
            assert np.allclose(sound.mono().samples, (left + right) / 2)
    assert one("7.1", 7, 8).stereo().samples[:, 0] == pytest.approx((0, half))
    assert np.allclose(one(None, 0, 6).stereo().samples, 1 / 6)  # nobody knows which channel is which
    sound = one("5.1", 0, 6)
    for same in (sound.slice(0, 1e-3), sound.resample(16000), sound.gain(3), sound.fit(1.0)):
        assert same.layout == "5.1"
    with pytest.raises(MediaError, match="layout"):
        Sound(np.zeros((2, 4)), 8000, "5.1")


def test_a_long_sound_is_in_memory_once(tmp_path):
    wave = 0.1 * np.random.default_rng(0).standard_normal((2, 40 * 48000))
    path = media.save_wav(Sound(wave, 48000), tmp_path / "a.wav")
    tracemalloc.start()
    try:
        sound = media.open_sound(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.allclose(sound.samples, wave, atol=1e-4) and not sound.samples.flags.writeable
    assert peak < 1.3 * sound.samples.nbytes + 2e6


def test_a_file_without_sound_says_so(tmp_path):
    with pytest.raises(MediaError, match="no sound"):
        media.open_sound(write(tmp_path / "a.mp4", moving(5)))
