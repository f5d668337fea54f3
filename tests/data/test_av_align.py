"""AV-Align: golden numbers of its definition, and what it says of clips that are known."""

from __future__ import annotations

import numpy as np
import pytest
from feature_parts import small_video

from v2a_nb import media
from v2a_nb.clip import Clip, Sound
from v2a_nb.data.av_align import LEAST_MOTION, SAMPLE_RATE, align, av_align, mean_motion, motion_peaks, onset_peaks


@pytest.mark.parametrize(
    ("onsets", "motion", "fps", "score"),
    [
        ([0.50, 1.15, 2.00], [0.45, 1.20, 2.50], 10, 0.5),
        ([0.48, 0.50, 0.52], [0.5], 10, 1 / 3),  # 3.0 where peaks are matched more than once
        ([0.3], [0.2], 10, 0.0),  # exactly one frame apart, which floating point gets wrong in one of three
        ([1.0], [1.1], 10, 0.0),
        ([0.7], [0.6], 10, 0.0),
        ([0.699], [0.6], 10, 1.0),
        ([0.5], [], 25, 0.0),
        ([], [0.5], 25, 0.0),
        ([0.1, 0.2, 0.3, 0.4], list(np.arange(64) / 16), 24, 4 / 64),
    ],
)
def test_golden_numbers(onsets, motion, fps, score):
    assert align(np.array(onsets), np.array(motion), fps) == pytest.approx(score)


def test_properties_of_the_score():
    rng = np.random.default_rng(0)
    assert np.isnan(align(np.zeros(0), np.zeros(0), 25))
    for _ in range(50):
        a, b = (np.sort(rng.uniform(0, 3, rng.integers(1, 8))) for _ in range(2))
        score = align(a, b, 25)
        assert 0 <= score <= 1 and align(a, a, 25) == 1
        assert align(a + 10 / 25, b + 10 / 25, 25) == pytest.approx(score)  # both later by whole frames


def test_peaks_of_motion_are_strict_and_move_enough():
    low, high = 0.9 * LEAST_MOTION, LEAST_MOTION
    assert motion_peaks(np.array([0, high, 0, low, 0, high])).tolist() == [1]
    assert motion_peaks(np.array([5.0])).tolist() == [] and motion_peaks(np.zeros(0)).tolist() == []
    clip = Clip(np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3)).astype(np.uint8), fps=10.0)
    curve = mean_motion(clip)
    assert len(curve) == 4 and curve[0] == curve[1] and 1 not in motion_peaks(curve)
    assert mean_motion(Clip(clip.frames[:1], fps=10.0)).tolist() == [0.0]


def test_onsets_are_those_of_librosa():
    wave = np.zeros(3 * SAMPLE_RATE)
    for at in (0.5, 1.0, 1.7, 2.4):
        wave[round(at * SAMPLE_RATE) :][:400] += np.exp(-np.arange(400) / 80) * np.sin(np.arange(400))
    found = onset_peaks(Sound(wave, SAMPLE_RATE))
    assert len(found) == 4 and np.abs(found - [0.5, 1.0, 1.7, 2.4]).max() < 0.03
    at_48k = onset_peaks(Sound(wave, SAMPLE_RATE).resample(48000))
    assert len(at_48k) == 4 and np.abs(at_48k - found).max() < 0.03
    assert len(onset_peaks(Sound(np.zeros(SAMPLE_RATE), SAMPLE_RATE))) == 0
    noise = np.random.default_rng(0).standard_normal(3 * SAMPLE_RATE)
    counts = {len(onset_peaks(Sound(level * noise, SAMPLE_RATE))) for level in (0.001, 0.1)}
    assert len(counts) == 1 and min(counts) >= 6  # it hears onsets in noise of any level: a fact about the metric


def test_it_falls_where_the_sound_is_late(tmp_path):
    clips = [media.open(small_video(tmp_path / f"{seed}.mp4", 3.0, seed)) for seed in range(3)]
    right = [av_align(clip) for clip in clips]
    late = [av_align(c.with_sound(Sound(np.roll(c.sound.samples, 4000), 16000))) for c in clips]
    assert min(right) > 0.5 and max(late) < 0.2
    assert np.isnan(av_align(clips[0].silent()))
    still = Clip(np.zeros((10, 32, 32, 3), np.uint8), fps=10.0, sound=Sound(np.zeros(16000), 16000))
    assert np.isnan(av_align(still))
    assert av_align(clips[0], motion=lambda clip: np.zeros(clip.n)) == 0.0
