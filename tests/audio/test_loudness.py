"""Selection by RMS: loud parts, side by side, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from v2a_nb.audio.loudness import loud_parts, rms_dbfs
from v2a_nb.errors import UsageError


def noise(seconds: float, level: float, seed: int = 0) -> np.ndarray:
    return level * np.random.default_rng(seed).standard_normal(round(1000 * seconds))


def test_level_of_known_waves():
    assert rms_dbfs(np.full(100, 0.1)) == pytest.approx(-20)
    t = np.arange(1000) / 1000
    assert rms_dbfs(np.sin(2 * np.pi * 50 * t)) == pytest.approx(-3.0103, abs=1e-3)
    assert rms_dbfs(np.zeros(5)) == rms_dbfs(np.zeros(0)) == -np.inf


@pytest.mark.parametrize("seed", range(5))
def test_parts_are_loud_apart_and_inside(seed: int):
    wave = np.concatenate([noise(7.3, 0.001), noise(9.1, 0.1, 1), noise(5.0, 0.001, 2), noise(6.6, 0.1, 3)])
    starts = loud_parts(wave, 1000, 2.0, -30.0, seed=seed)
    assert len(starts) >= 5 and (np.diff(starts) >= 2000).all()
    assert starts[0] >= 0 and starts[-1] + 2000 <= len(wave)
    assert all(rms_dbfs(wave[a : a + 2000]) > -30 for a in starts)
    some = loud_parts(wave, 1000, 2.0, -30.0, at_most=3, seed=seed)
    assert len(some) == 3 and set(some) <= set(starts) and (np.diff(some) > 0).all()
    assert np.array_equal(some, loud_parts(wave, 1000, 2.0, -30.0, at_most=3, seed=seed))


def test_nothing_loud_or_too_short_is_empty_and_nonsense_is_refused():
    assert loud_parts(noise(5, 0.001), 1000, 1.0, -30.0).size == 0
    assert loud_parts(noise(0.5, 1.0), 1000, 1.0, -30.0).size == 0
    assert loud_parts(np.zeros(3000), 1000, 1.0, -np.inf).size == 0  # silence is above nothing
    for bad in ({"seconds": 0.0}, {"at_most": -1}):
        with pytest.raises(UsageError, match="cannot be cut"):
            loud_parts(noise(3, 1.0), 1000, **{"seconds": 1.0, "threshold_dbfs": -30.0, **bad})
    with pytest.raises(UsageError, match="cannot be cut"):
        loud_parts(np.zeros((2, 3000)), 1000, 1.0, -30.0)
