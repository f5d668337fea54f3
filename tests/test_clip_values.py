"""Clip and Sound: immutable, cut and resampled by time."""

from __future__ import annotations

import numpy as np
import pytest

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import MediaError, UsageError


def ramp(n: int = 50, fps: float = 25.0) -> Clip:
    frames = np.zeros((n, 8, 10, 3), np.uint8)
    frames[:] = np.arange(n, dtype=np.uint8)[:, None, None, None]
    return Clip(frames, fps=fps)


def test_arrays_are_read_only_and_copies():
    wave = np.zeros(100)
    sound = Sound(wave, 8000)
    wave[:] = 1
    assert sound.peak == 0
    with pytest.raises(ValueError):
        sound.samples[0, 0] = 1
    with pytest.raises(ValueError):
        ramp().frames[0, 0, 0, 0] = 1


def test_slices_by_seconds():
    sound = Sound(np.arange(16000) / 16000, 16000)
    part = sound.slice(0.25, 0.5)
    assert part.n == 4000 and part.samples[0, 0] == pytest.approx(0.25)
    clip = ramp().with_sound(sound).slice(0.4, 0.8)
    assert clip.duration == pytest.approx(0.4) and clip.frames[0, 0, 0, 0] == 10 and clip.n == 10
    assert clip.sound.n == 6400 and clip.sound.samples[0, 0] == pytest.approx(0.4)
    with pytest.raises(UsageError):
        clip.slice(0.3, 0.2)


def test_frames_are_picked_by_time_not_by_index():
    times = np.array([0.0, 0.5, 0.55, 0.6, 1.9])
    frames = np.zeros((5, 4, 4, 3), np.uint8)
    frames[:] = np.arange(5, dtype=np.uint8)[:, None, None, None]
    clip = Clip(frames, times, fps=10, duration=2.0).at_fps(4)
    assert clip.frames[:, 0, 0, 0].tolist() == [0, 0, 1, 3, 3, 3, 4, 4]


@pytest.mark.parametrize(("a", "b"), [(30, 25), (25, 30), (29.97, 25), (15, 50)])
def test_at_fps_shows_what_was_nearest(a, b):
    clip = ramp(60, a)
    other = clip.at_fps(b)
    away = other.times - clip.times[other.frames[:, 0, 0, 0]]
    within = other.times <= clip.times[-1]
    assert np.abs(away[within]).max() <= 0.5 / a + 1e-4 and (np.diff(other.frames[:, 0, 0, 0].astype(int)) >= 0).all()
    assert abs(away[within].mean()) < 0.15 / a  # neither early nor late


@pytest.mark.parametrize(("a", "b"), [(44100, 16000), (8000, 16000), (48000, 44100)])
def test_resampling_keeps_pitch_level_and_length(a, b):
    t = np.arange(a) / a
    sound = Sound(0.5 * np.sin(2 * np.pi * 440 * t), a).resample(b)
    assert sound.n == b
    middle = sound.samples[0, b // 4 : 3 * b // 4]
    true = 0.5 * np.sin(2 * np.pi * 440 * np.arange(b) / b)[b // 4 : 3 * b // 4]
    assert np.abs(middle - true).max() < 2e-3


def test_channels_and_length():
    sound = Sound(np.stack([np.ones(10), np.zeros(10)]), 100)
    assert np.allclose(sound.mono().samples, 0.5) and sound.mono().stereo().channels == 2
    assert sound.fit(0.2).n == 20 and sound.fit(n=3).n == 3
    assert sound.fit(0.2).samples[0, 15] == 0
    assert sound.gain(-20).peak == pytest.approx(0.1)
    assert Sound(np.full(1000, 0.1), 100).rms_dbfs == pytest.approx(-20)


def test_a_sound_shares_only_what_nobody_can_change():
    own = np.zeros((2, 10), np.float32)
    view = own[:]
    view.flags.writeable = False
    for samples in (own, view, own.tolist()):
        sound = Sound(samples, 100)
        own[:] = 1
        assert sound.peak == 0 and not sound.samples.flags.writeable
        own[:] = 0
    again = Sound(sound.samples, 200)
    assert again.samples is sound.samples
    assert again.slice(0, 0.02).samples.base is None  # a part does not keep the whole
    own.flags.writeable = False
    assert Sound(own.T, 100).samples.base is own


def test_silent_and_repr():
    clip = ramp().with_sound(Sound(np.zeros(10), 8000))
    assert clip.sound.duration == clip.duration and clip.silent().sound is None
    assert "silent" in repr(clip.silent()) and "10x8" in repr(clip) and "8000 Hz" in repr(clip)


def test_bad_values_are_refused():
    with pytest.raises(MediaError, match="NaN"):
        Sound(np.array([0.0, np.nan]), 8000)
    with pytest.raises(MediaError):
        Sound(np.zeros((2, 2, 2)), 8000)
    with pytest.raises(MediaError):
        Sound(np.zeros(4), 0)
    with pytest.raises(MediaError, match="no frames"):
        Clip(np.zeros((0, 4, 4, 3), np.uint8))
    with pytest.raises(MediaError):
        Clip(np.zeros((2, 4, 4, 3), np.float32))
    with pytest.raises(MediaError, match="increasing"):
        Clip(np.zeros((2, 4, 4, 3), np.uint8), np.array([0.1, 0.1]))


# --- slower cameras -------------------------------------------------------------------------------------


def numbered(fps: float, seconds: float = 3.0) -> Clip:
    """A clip whose frames show their own number."""
    n = round(fps * seconds)
    return Clip(np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 8, 8, 3)), fps=fps)


@pytest.mark.parametrize(("rate", "fps"), [(30.0, 15.0), (30.0, 4.0), (25.0, 15.0), (25.0, 4.0)])
def test_a_slower_camera_shows_what_was_there_when_it_looked(rate: float, fps: float):
    clip = numbered(rate)
    held = clip.at_most_fps(fps)
    assert held.n == np.ceil(3 * fps) and held.duration == clip.duration
    shown = held.at_fps(rate).frames[:, 0, 0, 0].astype(int)  # what an encoder at the old rate is given
    true = np.arange(len(shown))
    assert (np.diff(shown) >= 0).all() and len(np.unique(shown)) == held.n
    inside = true <= rate * held.times[-1]  # the last frame of the slower camera lasts to the end
    assert np.abs(true - shown)[inside].max() <= rate / fps / 2 + 0.5  # half a frame of each camera at most


def test_half_the_rate_repeats_every_other_frame():
    shown = numbered(30.0).at_most_fps(15.0).at_fps(30.0).frames[:8, 0, 0, 0]
    assert shown.tolist() == [0, 0, 2, 2, 4, 4, 6, 6]


def test_the_full_rate_changes_nothing():
    clip = numbered(30.0)
    for fps in (None, 30.0, 60.0):
        assert clip.at_most_fps(fps) is clip
    with pytest.raises(UsageError, match="impossible"):
        clip.at_most_fps(0.0)


def test_a_sound_is_copied_unless_nobody_can_write_to_it():
    samples = np.zeros((1, 100), np.float32)
    assert Sound(samples, 16000).samples is not samples
    samples.flags.writeable = False
    assert Sound(samples, 16000).samples is samples
    assert Sound(samples[:, :50], 16000).samples.base is None  # a part does not keep the whole
    assert Sound(samples.astype(np.float64), 16000).samples.dtype == np.float32


def test_peak_and_rms_of_a_long_sound():
    wave = np.random.default_rng(0).normal(0, 0.1, (2, 3_000_000)).astype(np.float32)
    sound = Sound(wave, 16000)
    assert sound.peak == np.abs(wave).max()
    assert sound.rms_dbfs == pytest.approx(10 * np.log10(np.mean(wave.astype(float) ** 2)), abs=1e-9)
