"""Timing metrics: a shift comes back as lag, golden energy ratios, and how both are fooled."""

from __future__ import annotations

import math

import numpy as np
import pytest

from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError
from v2a_nb.metrics.base import ScoredClip
from v2a_nb.metrics.timing import (
    EnvelopeLag,
    EventEnergy,
    EventEnergyError,
    envelope_lag,
    event_energy_ratio,
)
from v2a_nb.world import strike_world

RATE = 16000


@pytest.fixture(scope="module")
def items():
    return list(strike_world(404, 12, size=16))


@pytest.mark.parametrize("samples", [-8000, -1600, -400, 0, 37, 640, 4321, 8000])
def test_a_shift_by_k_samples_is_a_lag_of_k(items, samples):
    found = []
    for item in items:
        mix = item.stems["mix"]
        found.append(envelope_lag(Sound(np.roll(mix.samples, samples), RATE), mix))
    assert np.nanmedian(found) == pytest.approx(samples / RATE, abs=1e-3)
    assert np.isfinite(found).sum() >= 10  # a clip without an onset has no lag


def test_lag_hears_neither_level_nor_rate_and_steady_sounds_have_none(items):
    mix = next(i.stems["mix"] for i in items if math.isfinite(envelope_lag(i.stems["mix"], i.stems["mix"])))
    late = Sound(np.roll(mix.samples, 1600), RATE)
    assert envelope_lag(late.resample(44100), mix) == pytest.approx(0.1, abs=2e-3)
    assert envelope_lag(late.stereo(), mix) == pytest.approx(0.1, abs=1e-3)
    noise = Sound(0.01 * np.random.default_rng(0).standard_normal(mix.n), RATE)
    for steady in (Sound(np.zeros(mix.n), RATE), noise, Sound(np.ones(100), RATE)):
        assert math.isnan(envelope_lag(steady, mix)) and math.isnan(envelope_lag(mix, steady))
    with pytest.raises(UsageError, match="reference must be"):
        envelope_lag(mix, None)


def test_the_lag_of_clips_is_a_median_with_and_without_sign():
    metric = EnvelopeLag()
    rows = [-30.0, 10.0, 50.0, float("nan")]
    assert metric.pool(rows, "envelope_lag_abs_ms") == 30 and metric.pool(rows, "envelope_lag_signed_ms") == 10
    assert metric.count(rows, "envelope_lag_abs_ms") == 3
    assert math.isnan(metric.pool([float("nan")], "envelope_lag_abs_ms"))
    assert metric.needs == ("reference",)


def burst(inside=1.0, outside=0.1) -> Sound:
    """Two seconds: ``inside`` within 100 ms of 1 s, else ``outside``."""
    wave = np.full(2 * RATE, outside)
    wave[round(0.9 * RATE) : round(1.1 * RATE)] = inside
    return Sound(wave, RATE)


def test_golden_ratios():
    golden = 10 * math.log10(0.2 / (1.8 * 0.01))  # 10.458 dB
    assert event_energy_ratio(burst(), [1.0]) == pytest.approx(golden, abs=1e-4) == pytest.approx(10.4576, abs=1e-3)
    assert event_energy_ratio(burst().gain(-20), [1.0]) == pytest.approx(golden, abs=1e-3)  # no level
    assert event_energy_ratio(burst(), [1.0, 1.0]) == pytest.approx(golden, abs=1e-4)  # no double counting
    assert event_energy_ratio(burst(1, 1), [1.0]) == pytest.approx(10 * math.log10(0.2 / 1.8), abs=1e-6)
    assert event_energy_ratio(burst(1, 0), [1.0]) == 120 and event_energy_ratio(burst(0, 1), [1.0]) == -120
    for sound, times in ((burst(0, 0), [1.0]), (burst(), []), (burst(), np.arange(0, 2.1, 0.15))):
        assert math.isnan(event_energy_ratio(sound, times))


def test_energy_falls_with_a_shift_and_the_error_is_against_the_true_sound():
    entry = {"duration_s": 2.0, "events": [
        {"time_s": 1.0, "sounding": True}, {"time_s": 0.3, "sounding": False},  # a near miss should be quiet
    ]}  # fmt: skip
    clip = ScoredClip("a", "r", burst(), entry, burst())
    ratio, error = EventEnergy(), EventEnergyError()
    assert error.score(clip) == 0 and ratio.score(clip) == pytest.approx(10.458, abs=1e-3)
    shifted = [clip.with_sound(Sound(np.roll(burst().samples, n), RATE)) for n in (640, 1600, 3200)]
    values = [ratio.score(c) for c in (clip, *shifted)]
    assert values == sorted(values, reverse=True) and len(set(values)) == 4
    errors = [error.score(c) for c in (clip, *shifted)]
    assert errors == sorted(errors)
    # a click in digital silence beats the true sound in the ratio, and not in the error
    click = clip.with_sound(burst(1, 0))
    assert ratio.score(click) > values[0] and error.score(click) > 100
    assert math.isnan(error.score(clip.with_sound(burst(0, 0))))
