"""The Fréchet distance: published formula, its invariances, its bias, and an interval that covers."""

from __future__ import annotations

import numpy as np
import pytest

from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError
from v2a_nb.metrics.base import ScoredClip
from v2a_nb.metrics.frechet import (
    Fad,
    FadInfinity,
    Fd,
    frechet_distance,
    frechet_infinity,
    frechet_with_interval,
)


def exactly(mean, covariance, n: int = 64) -> np.ndarray:
    """Vectors whose mean and covariance are exactly these."""
    x = np.random.default_rng(0).standard_normal((n, len(mean)))
    x -= x.mean(0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False)).T)
    return x @ np.linalg.cholesky(np.array(covariance, float)).T + mean


def test_golden_numbers():
    a, b = exactly([0, 0], np.diag([1, 4])), exactly([1, 2], np.diag([9, 16]))
    assert frechet_distance(a, b) == pytest.approx(13.0)
    a, b = exactly([0, 0], [[2, 1], [1, 2]]), exactly([0, 0], np.diag([3, 1]))
    assert frechet_distance(a, b) == pytest.approx(8 - 2 * np.sqrt(14))
    assert frechet_distance([[0.0], [2], [4]], [[1.0], [1], [7]]) == pytest.approx(3.143594, abs=1e-6)


def test_it_agrees_with_the_matrix_root():
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((200, 6)) @ rng.standard_normal((6, 6)), rng.standard_normal((90, 6)) + 1
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(s)
    root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ t @ root).clip(0)).sum()
    apart = a.mean(0) - b.mean(0)
    assert frechet_distance(a, b) == pytest.approx(apart @ apart + np.trace(s) + np.trace(t) - 2 * shared)


@pytest.mark.parametrize("n", [12, 300])  # fewer vectors than numbers in one, and more
def test_invariances(n: int):
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((n, 20)), 2 * rng.standard_normal((n + 5, 20)) + 0.3
    here = frechet_distance(a, b)
    turn = np.linalg.qr(rng.standard_normal((20, 20)))[0]
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(b, a) == pytest.approx(here)
    assert frechet_distance(a @ turn + 4, b @ turn + 4) == pytest.approx(here)
    assert frechet_distance(3 * a, 3 * b) == pytest.approx(9 * here)
    assert frechet_distance(rng.permutation(a), b) == pytest.approx(here)
    assert frechet_distance(a, a + 0.5) == pytest.approx(20 * 0.25)


def test_the_bias_of_few_vectors_is_what_theory_says():
    rng = np.random.default_rng(3)
    d, n = 16, 400
    made = [frechet_distance(rng.standard_normal((n, d)), rng.standard_normal((n, d))) for _ in range(40)]
    assert np.mean(made) == pytest.approx(2 * d / n + d * (d + 1) / (2 * n), rel=0.05)


def test_the_interval_is_as_wide_as_the_value_varies():
    rng = np.random.default_rng(4)

    def clips(n: int, shift: float) -> list[np.ndarray]:
        return [rng.standard_normal((3, 4)) + shift + 0.3 * rng.standard_normal(4) for _ in range(n)]

    values, widths, covered = [], [], 0
    for _ in range(40):
        told = frechet_with_interval(clips(60, 0.0), clips(60, 1.0))
        values.append(told["value"])
        widths.append((told["high"] - told["low"]) / (2 * 1.96))
        assert told["n"] == 60 and told["low"] < told["value"] < told["high"]
    assert np.mean(widths) == pytest.approx(np.std(values), rel=0.4)
    covered = np.mean([abs(v - np.mean(values)) < 1.96 * w for v, w in zip(values, widths)])
    assert covered > 0.8


def test_what_has_no_distance_is_refused():
    good = np.zeros((3, 2))
    for bad, message in [
        (np.zeros((3, 4)), "two sets"), (np.zeros((1, 2)), "at least two"), (np.full((3, 2), np.nan), "NaN"),
    ]:  # fmt: skip
        with pytest.raises(UsageError, match=message):
            frechet_distance(good, bad)
    with pytest.raises(UsageError, match="as many on both sides"):
        frechet_with_interval([good], [good, good])


@pytest.mark.parametrize(("d", "shift"), [(8, 0.0), (8, 0.5)])
def test_without_end_the_bias_is_gone(d: int, shift: float):
    """Two sets of the same Gaussian, one of them moved: the extrapolation is right where the plain distance is not."""
    rng = np.random.default_rng(5)
    values, plain = [], []
    for _ in range(20):
        first, second = (list(rng.standard_normal((400, 1, d)) + by) for by in (0.0, shift))
        values.append(frechet_infinity(first, second, least=80)["value"])
        plain.append(frechet_with_interval(first, second, groups=2)["value"])
    true = d * shift**2
    bias, error = 2 * d / 400 + d * (d + 1) / 800, 3 * np.std(plain) / np.sqrt(20)
    assert abs(np.mean(plain) - true - bias) < error + 0.01 and error < bias + 0.01
    assert abs(np.mean(values) - true) < 3 * np.std(values) / np.sqrt(20)
    assert min(values) < true < np.mean(plain)


def test_the_extrapolation_is_a_line_and_always_the_same():
    rng = np.random.default_rng(6)
    first, second = list(rng.standard_normal((300, 3, 6))), list(1.5 * rng.standard_normal((300, 3, 6)))
    result = frechet_infinity(first, second, least=100)
    assert result == frechet_infinity(first, second, least=100) and result["n"] == 300 and 0 < result["r2"] <= 1
    assert result["value"] == pytest.approx(6 * 0.25, abs=0.15)
    for few, message in (
        (first[:100], "300 vectors of 100 clips.*needs four times as many, 2000; the kernel audio distance"),
        ([], "0 vectors of 0 clips"), ([x[:, :1].repeat(200, 1) for x in first[:100]], "four times as many, 3200"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            frechet_infinity(few, few)
    with pytest.raises(UsageError, match="as many on both sides"):
        frechet_infinity(first, second[:10])


def test_the_interval_without_end_is_as_wide_as_the_value_varies():
    rng = np.random.default_rng(7)
    metric, values, widths = FadInfinity(model=print), [], []
    for _ in range(12):
        rows = list(zip(rng.standard_normal((520, 4, 4)), rng.standard_normal((520, 4, 4)) + 0.5, strict=True))
        values.append(metric.pool(rows, "fad_inf"))
        low, high = metric.interval(rows, [f"r{i // 2}" for i in range(520)], "fad_inf")
        assert low < values[-1] < high
        widths.append((high - low) / (2 * 2.09))
    assert 0.5 < np.mean(widths) / np.std(values) < 2.5


def test_one_vector_a_clip():
    class Levels:
        tag = "levels@0000"

        def __call__(self, sound):
            return np.square(sound.samples).reshape(8, -1).mean(1)[:, None]

    clip = ScoredClip("a", "r", Sound(np.linspace(0, 1, 8000), 8000), reference=Sound(np.ones(8000), 8000))
    windows, (own, true) = Fad(Levels()).score(clip), Fd(Levels()).score(clip)
    assert windows[0].shape == (8, 1) and own.shape == true.shape == (1, 1)
    assert own[0] == pytest.approx(windows[0].mean(0)) and true[0] == pytest.approx([1.0])
