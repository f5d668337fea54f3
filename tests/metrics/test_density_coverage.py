"""Precision, recall, density and coverage: scikit-learn's neighbours, theory, and what each cannot see."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from v2a_nb.errors import UsageError
from v2a_nb.metrics.density_coverage import DensityCoverage, density_coverage


def test_it_is_what_nearest_neighbours_give():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((70, 4)) + 0.5, rng.standard_normal((60, 4))
    for k in (1, 5):
        reach = [NearestNeighbors(n_neighbors=k + 1).fit(a).kneighbors(a)[0][:, -1] for a in (x, y)]
        apart = np.linalg.norm(x[:, None] - y[None], axis=2)
        expected = {
            "precision": np.mean([(apart[i] < reach[1]).any() for i in range(70)]),
            "recall": np.mean([(apart[:, j] < reach[0]).any() for j in range(60)]),
            "density": np.mean([(apart[i] < reach[1]).sum() / k for i in range(70)]),
            "coverage": np.mean([apart[:, j].min() < reach[1][j] for j in range(60)]),
        }
        assert density_coverage(x, y, k) == pytest.approx(expected)


def test_by_hand():
    line = np.array([[0.0], [1], [3], [7]])  # with k = 1 their balls reach 1, 1, 2 and 4
    assert density_coverage(np.array([[0.5], [100]]), line, 1) == {
        "precision": 0.5, "recall": 1.0, "density": (2 + 0) / 2, "coverage": 0.5,
    }  # fmt: skip


def test_of_equal_distributions():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((300, 6))
    assert density_coverage(x, x) == {"precision": 1, "recall": 1, "density": pytest.approx(1), "coverage": 1}
    values = [density_coverage(*rng.standard_normal((2, 200, 6))) for _ in range(30)]
    assert np.mean([v["density"] for v in values]) == pytest.approx(1, abs=0.05)
    assert np.mean([v["coverage"] for v in values]) == pytest.approx(1 - 1 / 2**5, abs=0.01)


def test_what_each_one_sees():
    rng = np.random.default_rng(2)
    true = rng.standard_normal((200, 4))
    one = np.repeat(true[np.argmin(np.linalg.norm(true, axis=1))][None], 200, axis=0) + 1e-6 * rng.standard_normal(
        (200, 4)
    )
    copies = density_coverage(one, true)
    assert copies["precision"] == 1 and copies["coverage"] < 0.1 and copies["recall"] < 0.1
    far = density_coverage(true + 20, true)
    assert (far["precision"], far["density"], far["coverage"]) == (0, 0, 0)
    # one outlier among the true ones, far out: its ball takes in all that is wrong
    outlier = np.concatenate([true, [[1000.0] * 4]])
    fooled = density_coverage(true + 20, outlier)
    assert fooled["precision"] == 1 and fooled["density"] <= 0.21 and fooled["coverage"] < 0.01


def test_what_has_no_neighbours_is_refused():
    good = np.arange(20.0).reshape(10, 2)
    for bad, message in (
        (np.zeros((10, 4)), "two sets"), (good[:5], "needs more than 5"), (np.full((10, 2), np.nan), "NaN"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            density_coverage(bad, good)
    with pytest.raises(UsageError, match="the neighbour 0"):
        density_coverage(good, good, k=0)


def test_intervals_stay_possible_values_and_few_clips_are_refused():
    rng = np.random.default_rng(3)
    rows = [(rng.standard_normal((1, 3)) + 0.8, rng.standard_normal((1, 3))) for _ in range(60)]
    metric = DensityCoverage(model=print)
    for name in metric.names:
        low, high = metric.interval(rows, [f"r{i // 2}" for i in range(60)], name)
        assert 0 <= low <= metric.pool(rows, name) <= high and (name == "density" or high <= 1), name
        assert low < high
    assert metric.refusal(rows) == "" and "49 clips" in metric.refusal(rows[:49])
