"""Kernel distances: published numbers, scikit-learn's kernels, no bias, and whose bandwidth it is."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

from v2a_nb.errors import UsageError
from v2a_nb.metrics.kernel_distance import (
    ROWS,
    gaussian,
    kernel_audio_distance,
    kernel_inception_distance,
    median_distance,
    mmd2,
    polynomial,
)

X, Y = np.array([[0.0], [1]]), np.array([[0.0], [2]])


def test_golden_numbers():
    assert kernel_audio_distance(Y, X, 1.0) == pytest.approx(-43.23324, abs=1e-5)
    assert kernel_inception_distance(Y, X) == pytest.approx(-13.0, abs=1e-9)


@pytest.mark.parametrize("n", [60, ROWS + 300])  # in one block of rows, and in two
def test_it_is_what_whole_kernel_matrices_give(n: int):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((n, 6)) + 3, 1.3 * rng.standard_normal((n + 7, 6)) + 3.2
    width = float(np.median(np.linalg.norm(y[:, None] - y[None], axis=2)[np.triu_indices(len(y), 1)]))
    assert median_distance(y) == pytest.approx(width)

    def whole(kernel, **options):
        within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (kernel(a, a, **options) for a in (x, y))]
        return sum(within) - 2 * kernel(x, y, **options).mean()

    kad = 100 * whole(rbf_kernel, gamma=1 / (2 * width**2))
    assert kernel_audio_distance(x, y) == pytest.approx(kad, abs=1e-7)
    assert kernel_inception_distance(x, y) == pytest.approx(whole(polynomial_kernel, degree=3, gamma=1 / 6, coef0=1))


def test_equal_sets_are_0_apart_at_any_size_and_others_are_not():
    rng = np.random.default_rng(1)
    for n, m in ((12, 12), (12, 90)):
        kad = [kernel_audio_distance(rng.standard_normal((n, 8)), rng.standard_normal((m, 8))) for _ in range(200)]
        assert abs(np.mean(kad)) < 4 * np.std(kad) / np.sqrt(200) and min(kad) < 0
    ladder = [kernel_audio_distance(rng.standard_normal((300, 8)) + shift, rng.standard_normal((300, 8)))
              for shift in (0.0, 0.3, 0.6, 1.2)]  # fmt: skip
    assert ladder == sorted(ladder) and abs(ladder[0]) < 0.3 < ladder[1]


def test_the_bandwidth_is_the_references():
    rng = np.random.default_rng(2)
    reference, wide = rng.standard_normal((400, 8)), 2 * rng.standard_normal((400, 8))
    theirs = kernel_audio_distance(wide, reference, median_distance(wide))  # the mistake of kadtk
    assert kernel_audio_distance(wide, reference) > 3 * theirs > 0
    assert kernel_audio_distance(wide, reference) == kernel_audio_distance(wide, reference, median_distance(reference))


def test_invariances():
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((40, 5)), rng.standard_normal((50, 5)) + 0.4
    turn = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    here = kernel_audio_distance(x, y)
    assert kernel_audio_distance(rng.permutation(x), y) == pytest.approx(here)
    assert kernel_audio_distance(7 * x @ turn + 100, 7 * y @ turn + 100) == pytest.approx(here, abs=1e-8)
    assert mmd2(x, y, gaussian(2.0)) == pytest.approx(mmd2(y, x, gaussian(2.0)))
    assert kernel_inception_distance(x @ turn, y @ turn) == pytest.approx(kernel_inception_distance(x, y))


def test_subsets_estimate_the_whole():
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((300, 6)) + 0.5, rng.standard_normal((280, 6))
    whole = kernel_inception_distance(x, y)
    assert kernel_inception_distance(x, y, subsets=100, size=100) == pytest.approx(whole, rel=0.1)
    assert kernel_inception_distance(x, y, subsets=3, size=50, seed=1) != kernel_inception_distance(x, y, 3, 50, 2)
    with pytest.raises(UsageError, match="subsets of 1000 vectors cannot be drawn out of 300 and 280"):
        kernel_inception_distance(x, y, subsets=100)


def test_what_has_no_distance_is_refused():
    good = np.arange(6.0).reshape(3, 2)
    for bad, message in (
        (np.zeros((3, 4)), "two sets"), (np.zeros((1, 2)), "at least two"), (np.full((3, 2), np.nan), "NaN"),
    ):  # fmt: skip
        for distance in (kernel_audio_distance, kernel_inception_distance, lambda a, b: mmd2(a, b, polynomial)):
            with pytest.raises(UsageError, match=message):
                distance(good, bad)
    with pytest.raises(UsageError, match=r"a bandwidth of 0\.0 is none"):
        kernel_audio_distance(good, np.zeros((3, 2)))
