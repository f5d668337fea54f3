"""Intervals: what they cover, whole recordings, and distances that do not go below 0."""

from __future__ import annotations

import math

import numpy as np
import pytest

from v2a_nb.metrics.frechet import frechet_distance
from v2a_nb.metrics.statistics import bootstrap, jackknife, jackknife_distance, mean, mean_with_interval


def test_bootstrap_covers_and_clusters():
    rng = np.random.default_rng(0)
    inside = 0
    for seed in range(60):
        rows = list(rng.normal(1.0, 1.0, 60))
        low, high = bootstrap(rows, lambda r: float(np.mean(r)), seed=seed)
        inside += low <= 1.0 <= high
    assert 50 <= inside <= 60
    # twelve recordings of ten equal clips know as much as twelve clips
    values = np.repeat(rng.normal(size=12), 10)
    loose = bootstrap(list(values), lambda r: float(np.mean(r)))
    tight = bootstrap(list(values), lambda r: float(np.mean(r)), [str(i // 10) for i in range(120)])
    assert tight[1] - tight[0] > 2 * (loose[1] - loose[0])
    assert bootstrap(list(values), np.mean) == bootstrap(list(values), np.mean)
    for rows, clusters in (([], []), ([1.0, 2.0], ["r", "r"])):
        assert all(math.isnan(v) for v in bootstrap(rows, np.mean, clusters))


def test_means_leave_out_what_is_not_finite():
    assert mean([1.0, float("nan"), 3.0, float("inf")]) == 2 and math.isnan(mean([]))
    row = mean_with_interval([1.0, 2.0, 3.0, 4.0], list("aabb"))
    assert row["value"] == 2.5 and row["n"] == 4 and row["low"] <= 2.5 <= row["high"]
    assert (row["low"], row["high"]) == bootstrap([1.0, 2, 3, 4], mean, list("aabb"))


def distance(rows) -> float:
    first, second = (np.concatenate(side) for side in zip(*rows, strict=True))
    return frechet_distance(first, second)


@pytest.mark.parametrize(("n", "d", "shift"), [(20, 4, 0.0), (20, 4, 1.0), (60, 16, 0.5), (8, 4, 1.0)])
def test_intervals_of_distances_cover_and_stay_above_zero(n, d, shift):
    """Two sets of Gaussians: 95 % intervals hold the mean of such distances nine times of ten or more."""
    rng = np.random.default_rng(0)

    def clips(offset):
        return [rng.standard_normal((3, d)) + 0.3 * rng.standard_normal(d) + offset / np.sqrt(d) for _ in range(n)]

    sets = [list(zip(clips(0.0), clips(shift), strict=True)) for _ in range(60)]
    values = [distance(rows) for rows in sets]
    intervals = [jackknife_distance(rows, distance) for rows in sets]
    assert all(0 <= low <= value <= high for value, (low, high) in zip(values, intervals, strict=True))
    assert np.mean([low <= np.mean(values) <= high for low, high in intervals]) >= 0.9
    width = np.mean([np.sqrt(high) - np.sqrt(low) for low, high in intervals])
    assert width < 8 * np.std(np.sqrt(values))  # and not by being boundless


def test_distances_leave_out_whole_recordings():
    rng = np.random.default_rng(1)
    # ten recordings of six equal clips know as much as ten clips
    clips = [(rng.standard_normal((3, 4)), rng.standard_normal((3, 4))) for _ in range(10)]
    rows = [clip for clip in clips for _ in range(6)]
    alone = jackknife_distance(rows, distance)
    together = jackknife_distance(rows, distance, [f"r{i // 6}" for i in range(60)])
    assert together[1] - together[0] > 1.5 * (alone[1] - alone[0])
    assert jackknife_distance(rows, distance, groups=5)[0] < distance(rows)
    for few, names in (([], []), (rows[:1], ["a"]), (rows[:3], ["a"] * 3)):
        assert all(math.isnan(end) for end in jackknife_distance(few, distance, names))


def test_a_jackknife_of_a_mean_is_students_interval():
    from scipy.stats import sem, t

    rng = np.random.default_rng(2)
    values = list(rng.normal(-1.0, 1.0, 20))
    reach = sem(values) * t.ppf(0.975, 19)
    assert jackknife(values, mean) == pytest.approx((mean(values) - reach, mean(values) + reach))
    names = [f"r{i // 2}" for i in range(20)]
    assert jackknife(values, mean, names) != pytest.approx(jackknife(values, mean))
    for few, clusters in (([], []), (values[:1], ["a"]), (values[:3], ["a"] * 3)):
        assert all(math.isnan(end) for end in jackknife(few, mean, clusters))


def test_intervals_of_shares_cover_and_stay_shares():
    rng = np.random.default_rng(3)
    for p in (0.04, 0.5, 0.9):
        inside = 0
        for _ in range(100):
            rows = list((rng.random(80) < p).astype(float))
            low, high = jackknife(rows, mean, share=True)
            assert 0 <= low <= mean(rows) <= high <= 1
            inside += low <= p <= high
        assert inside >= 88, p
    assert jackknife([1.0] * 30, mean, share=True) == (1, 1)
