"""The envelope distance: exact on simple sounds, and the traps that its docstring names."""

from __future__ import annotations

import numpy as np
import pytest

from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError
from v2a_nb.metrics.envelope import envelope, envelope_distance

RATE = 16000


def hit(time: float, level: float = 1.0) -> Sound:
    t = np.arange(2 * RATE) / RATE - time
    return Sound(level * np.where(t >= 0, np.exp(-np.maximum(t, 0) / 0.05) * np.sin(2 * np.pi * 1000 * t), 0), RATE)


def test_it_is_exact_where_it_is_known():
    steady = Sound(np.full(RATE, 0.5), RATE)
    middle = envelope(steady)[2:-2]
    assert middle == pytest.approx(np.full(len(middle), 0.5)) and len(envelope(steady)) == 1 + RATE // 128
    tone = Sound(0.4 * np.sin(2 * np.pi * 500 * np.arange(RATE) / RATE), RATE)
    assert envelope(tone)[5:-5] == pytest.approx(np.full(116, 0.4 / np.sqrt(2)), abs=1e-6)
    assert envelope_distance(steady, steady) == 0
    silence = Sound(np.zeros(RATE), RATE)
    assert envelope_distance(silence, steady) == pytest.approx(float(envelope(steady).mean()))
    assert envelope_distance(silence, silence) == 0


def test_properties_and_traps():
    here, late, later = (envelope_distance(hit(0.5 + shift), hit(0.5)) for shift in (0.0, 0.02, 0.2))
    assert here == 0 < late < later
    assert envelope_distance(hit(0.7), hit(0.5)) == pytest.approx(envelope_distance(hit(0.5), hit(0.7)))
    double = envelope_distance(hit(0.7, 2.0), hit(0.5, 2.0))
    assert double == pytest.approx(2 * envelope_distance(hit(0.7), hit(0.5)), rel=1e-6)
    # silence scores better than a hit at the wrong time
    assert envelope_distance(Sound(np.zeros(2 * RATE), RATE), hit(0.5)) < 0.6 * later
    # rate and channels do not matter, nor what comes after the reference's end
    fast = hit(0.5).resample(48000)
    stereo = Sound(np.repeat(fast.samples, 2, axis=0), 48000)
    assert envelope_distance(stereo, hit(0.5)) < 1e-3
    long = Sound(np.concatenate([hit(0.5).samples[0], np.ones(RATE)]), RATE)
    assert envelope_distance(long, hit(0.5)) < 1e-3


def test_nothing_has_no_envelope():
    with pytest.raises(UsageError, match="an empty sound"):
        envelope(Sound(np.zeros(0), RATE))
