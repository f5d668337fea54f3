"""Intervals: what they cover, whole recordings, and distances that do not go below 0."""

from __future__ import annotations

import math

import numpy as np
import pytest

from v2a_nb.metrics.frechet import frechet_distance
from v2a_nb.metrics.statistics import (
    accuracy_with_interval,
    bootstrap,
    compare_paired,
    holm,
    jackknife,
    jackknife_difference,
    jackknife_distance,
    mean,
    mean_with_interval,
    share_interval,
    wilson,
)


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


def test_the_interval_of_a_share_is_wilsons_over_what_is_independent():
    trials = [(1, 1)] * 46 + [(0, 1)] * 54
    assert share_interval(trials) == pytest.approx(wilson(46, 100))
    assert wilson(46, 100) == pytest.approx((0.366, 0.557), abs=5e-4)
    assert share_interval(trials, scale=100) == pytest.approx([100 * end for end in wilson(46, 100)])
    # ten recordings of ten equal clips know as much as ten clips, or less, for few recordings
    alike = [(float(k < 5), 1) for k in range(10) for _ in range(10)]
    low, high = share_interval(alike, [k // 10 for k in range(100)])
    few, many = wilson(5, 10), wilson(50, 100)
    assert low <= few[0] < many[0] and high >= few[1] > many[1] and high - low < 1.3 * (few[1] - few[0])
    # a share of 1 has an interval that a bootstrap does not see: each recording is one trial
    sure = [(10, 10)] * 8
    low, high = share_interval(sure, list("abcdefgh"))
    assert high == pytest.approx(1) and low < wilson(8, 8)[0] < wilson(80, 80)[0]
    for rows, names in (([], []), ([(1, 2)], ["a"]), ([(1, 2), (1, 2)], ["a", "a"]), ([(0, 0), (0, 0)], ["a", "b"])):
        assert all(math.isnan(end) for end in share_interval(rows, names))
    row = accuracy_with_interval(np.array([True, False, True]), scale=100)
    assert row["value"] == pytest.approx(200 / 3) and row["n"] == 3 and row["low"] < row["value"] < row["high"]


def test_shares_cover_where_clips_of_a_recording_are_alike():
    rng = np.random.default_rng(0)
    inside, width = 0, []
    for _ in range(200):
        skill = rng.beta(8, 2, 15)  # of 15 recordings; mean 0.8
        trials = [(int(rng.binomial(8, one)), 8) for one in skill]
        low, high = share_interval(trials)
        inside, width = inside + (low <= 0.8 <= high), [*width, high - low]
    assert inside >= 183 and np.mean(width) < 0.3


def test_golden_holm():
    """Holm (1979): the smallest of four times four, the next times three, and never smaller than one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, float("nan"), 0.4])[::2] == [0.8, 0.8] and math.isnan(holm([0.5, float("nan")])[1])
    assert holm([]) == []


def test_paired_tests_know_their_level_and_find_what_differs():
    rng = np.random.default_rng(0)
    false, found = [], []
    for seed in range(150):
        room = np.repeat(rng.normal(size=12), 3)  # what a recording has in common vanishes in the difference
        first, second = (room + rng.normal(0, 0.3, 36) + np.repeat(rng.normal(0, 0.2, 12), 3) for _ in range(2))
        names = [f"r{k // 3}" for k in range(36)]
        row = compare_paired(list(first), list(second), mean, names, seed=seed, rounds=200)
        assert row["low"] <= row["difference"] <= row["high"]
        assert row["difference"] == pytest.approx(second.mean() - first.mean())
        false.append(row["p"] <= 0.05)
        found.append(compare_paired(list(first), list(second + 1), mean, names, seed=seed, rounds=200)["p"] <= 0.05)
    assert sum(false) <= 14 and sum(found) >= 148


def test_few_recordings_are_all_swapped_and_too_few_are_refused():
    first, second = [0.0] * 6, [1.0, 1.1, 0.9, 1.2, 0.8, 1.0]
    row = compare_paired(first, second, mean)
    assert row["p"] == pytest.approx(2 / 64) and row["why"] == ""  # all six differ one way: two of 64 sign patterns
    same = compare_paired(first, first, mean)
    assert same["p"] == 1 and same["difference"] == 0
    few = compare_paired(first[:5], second[:5], mean)
    assert math.isnan(few["p"]) and "5 recordings in common; a test needs 6" in few["why"]
    assert few["difference"] == pytest.approx(1.0)
    clustered = compare_paired(first, second, mean, list("aabbcc"))
    assert math.isnan(clustered["p"]) and "3 recordings" in clustered["why"]
    none = compare_paired([], [], mean)
    assert math.isnan(none["difference"]) and "0 recordings" in none["why"]


def test_differences_of_distances_by_the_jackknife():
    rng = np.random.default_rng(3)

    def sides(offset):
        return [(rng.standard_normal((4, 3)) + offset, truth) for truth in true]

    true = [rng.standard_normal((4, 3)) for _ in range(40)]
    near, near_too, far = sides(0.0), sides(0.0), sides(1.0)
    row = jackknife_difference(near, far, distance)
    assert row["p"] < 0.001 and 0 < row["low"] < row["difference"] < row["high"]
    assert row["difference"] == pytest.approx(distance(far) - distance(near))
    assert jackknife_difference(near, near_too, distance)["p"] > 0.05
    assert jackknife_difference(near, near, distance)["p"] == 1
    few = jackknife_difference(near[:5], far[:5], distance)
    assert math.isnan(few["p"]) and "5 recordings" in few["why"]


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
