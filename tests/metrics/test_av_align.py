"""AV-Align as a metric: it pools clips, looks at each video once, and can be fooled in the ways that its file says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from v2a_nb.clip import Clip, Sound
from v2a_nb.metrics.av_align import AvAlignMetric
from v2a_nb.metrics.base import ScoredClip

FPS, SECONDS, RATE = 10.0, 3.0, 22050
MOTION = (0.5, 1.1, 1.7, 2.3)
"""Seconds at which something moves; only the first two make a sound."""


def clicks(times, level=0.5) -> Sound:
    wave = np.zeros(round(SECONDS * RATE))
    for time in times:
        wave[round(time * RATE) :][:400] += level * np.exp(-np.arange(400) / 80) * np.sin(np.arange(400))
    return Sound(wave, RATE)


def moves_at(times, looks=None):
    """A curve of motion with peaks at these times."""

    def curve(clip):
        if looks is not None:
            looks.append(clip)
        return np.isin(np.arange(clip.n), np.round(np.array(times) * FPS)).astype(float)

    return curve


def clip_of(sound, name="a") -> ScoredClip:
    video = Clip(np.zeros((round(SECONDS * FPS), 8, 8, 3), np.uint8), fps=FPS)
    return ScoredClip(name, name, sound, open_video=lambda: video)


def score(sound, motion=MOTION) -> float:
    return AvAlignMetric(moves_at(motion)).score(clip_of(sound))


def test_the_golden_clip_and_the_mean_over_clips():
    looks = []
    metric = AvAlignMetric(moves_at((0.5, 1.2, 2.5), looks))
    first = clip_of(clicks((0.5, 1.15, 2.0)))
    rows = [metric.score(first), metric.score(first.with_sound(clicks((0.5, 1.2, 2.5))))]
    assert rows == pytest.approx([0.5, 1.0]) and len(looks) == 1  # the video is the same for both sounds
    rows.append(AvAlignMetric(moves_at(())).score(clip_of(Sound(np.zeros(RATE), RATE))))
    assert math.isnan(rows[2])  # neither onsets nor motion
    assert metric.pool(rows, "av_align") == pytest.approx(0.75) and metric.count(rows, "av_align") == 2
    assert metric.extractor == "curve" and AvAlignMetric().extractor == "farneback"
    assert metric.names == ("av_align",) and metric.needs == ("video",)


def test_a_late_sound_scores_less():
    values = [score(clicks([t + late for t in MOTION])) for late in (0.0, 0.25)]
    assert values == [1.0, 0.0]


def test_a_click_at_every_motion_beats_the_true_sound():
    assert (score(clicks(MOTION[:2])), score(clicks(MOTION))) == (0.5, 1.0)


def test_noise_of_any_level_scores():
    noise = np.random.default_rng(0).standard_normal(round(SECONDS * RATE))
    loud, faint = (score(Sound(level * noise, RATE), np.arange(2, 28, 2) / FPS) for level in (0.1, 1e-4))
    assert loud == pytest.approx(faint) and faint > 0.3  # more than the true sounds of VTA-LDM, at -80 dBFS


def test_it_counts_more_than_it_times():
    few, many = (2, 8, 14, 20), np.arange(1, 29, 2)  # frames
    assert score(clicks(np.array(few) / FPS), many / FPS) <= len(few) / len(many)
