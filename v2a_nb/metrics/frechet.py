"""Fréchet audio distance (FAD, Kilgour et al. 2019): between the embeddings of two sets of sounds.

What the value says depends on the embedding and on the number of windows: two sets of n windows of the *same* sounds
are about 2 d / n + d (d + 1) / (2 n) apart. Compare only values of one extractor at one n, and read them beside that of
another half of the true sounds; or take off the bias (:func:`frechet_infinity`, or the kernel distance).

Published numbers differ in more than the weights: windows of VGGish follow each other in torchvggish and overlap by
half in Google's code, which also normalises loudness. A longer clip has more windows and weighs more.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from v2a_nb.errors import UsageError, check_types
from v2a_nb.metrics.distribution import DistributionMetric, Pair, pooled
from v2a_nb.metrics.statistics import GROUPS, jackknife, jackknife_difference, jackknife_distance


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """``|m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)`` of two sets of vectors; no root is taken.

    The last term is the nuclear norm of the product of the two centred sets, which is exact where there are fewer
    vectors than dimensions, and exactly balances the others for two equal sets. Covariances divide by n - 1. What
    rounding leaves below 0 is 0.

    Args:
        first: [n, D].
        second: [m, D].

    Raises:
        UsageError: fewer than two vectors on a side, different widths, or values that are NaN or infinite.

    Examples:
        >>> round(frechet_distance(np.array([[0.0], [2], [4]]), np.array([[1.0], [1], [7]])), 6)
        3.143594
    """
    first, second = (np.asarray(x, np.float64) for x in (first, second))
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise UsageError(f"two sets of vectors are needed, [n, D] and [m, D], not {first.shape} and {second.shape}")
    if min(len(first), len(second)) < 2:
        raise UsageError(f"{len(first)} and {len(second)} vectors: at least two on either side have a covariance")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise UsageError("vectors that are NaN or infinite have no distance")
    apart = first.mean(0) - second.mean(0)
    a, b = ((x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (first, second))
    if min(len(a), len(b)) > a.shape[1]:  # the same product from the smaller side
        a, b = (np.asarray(np.linalg.qr(x, mode="r")) for x in (a, b))
    shared = np.linalg.norm(a @ b.T, "nuc")
    return max(0.0, float(apart @ apart + np.square(a).sum() + np.square(b).sum() - 2 * shared))


@check_types
def frechet_with_interval(
    first: Sequence[np.ndarray],
    second: Sequence[np.ndarray],
    recordings: Sequence[str] | None = None,
    groups: int = GROUPS,
) -> dict:
    """The distance between two sets of clips with a 95 % interval that cannot go below 0.

    Args:
        first, second: for each clip its vectors [n, D].
        recordings: of the clips, for the interval (:func:`~v2a_nb.metrics.statistics.jackknife_distance`), which
            leaves out clip i of both sides together; left out, each clip is on its own.
        groups: at most so many.

    Returns:
        ``value``, ``low``, ``high`` and ``n``, the clips.

    Raises:
        UsageError: not as many clips on both sides, or fewer than two.
    """
    if len(first) != len(second) or len(first) < 2:
        raise UsageError(f"{len(first)} and {len(second)} clips: as many on both sides are needed, at least two")
    pairs = list(zip(first, second, strict=True))
    low, high = jackknife_distance(pairs, _distance, recordings, groups=groups)
    return {"value": _distance(pairs), "low": low, "high": high, "n": len(pairs)}


def _distance(pairs: Sequence[Pair]) -> float:
    return pooled(pairs, frechet_distance)


@check_types
def frechet_infinity(
    first: Sequence[np.ndarray],
    second: Sequence[np.ndarray],
    *,
    least: int | None = None,
    points: int = 25,
    seed: int = 0,
) -> dict:
    """The distance between two sets of clips as if both were endless (FAD-infinity, Gui et al. 2023).

    The distance of n clips from n others falls as ``d + c / n``. It is computed for subsets of several sizes, the
    same clips on both sides, and a line through the values over 1 / n is read off at 0.

    - Subsets are drawn without replacement. With replacement, as in fadtk, they extrapolate to the distance of these
      very clips, and the bias stays.
    - Both sides shrink together. With the whole reference at every size, its own half of the bias stays.
    - Whole clips are drawn: windows of one are dependent, and many windows of few clips are no large set.
    - The result may be below 0, for sets that are alike.

    Args:
        first, second: for each clip its vectors [n, D].
        least: vectors in the smallest subset; left out, 500 or, for more than 125 numbers in a vector, four times as
            many as those, because the line is straight only where there are more vectors than dimensions.
        points: how many sizes, evenly spaced up to all clips.
        seed: of the draws.

    Returns:
        ``value``; ``r2``, the share of the variance of the points that the line explains; ``n``, the clips.

    Raises:
        UsageError: not as many clips on both sides, or fewer vectors than four times ``least``.
    """
    if len(first) != len(second):
        raise UsageError(f"{len(first)} and {len(second)} clips: as many on both sides are needed")
    pairs = list(zip(first, second, strict=True))
    if reason := _too_few(pairs, least):
        raise UsageError(reason)
    value, r2 = _Extrapolation(pairs, least, points, seed)(range(len(pairs)))
    return {"value": value, "r2": r2, "n": len(pairs)}


def _vectors(pairs: Sequence[Pair]) -> int:
    """How many vectors there are, on the side that has fewer."""
    return min(sum(len(pair[side]) for pair in pairs) for side in (0, 1))


def _least(pairs: Sequence[Pair], least: int | None = None) -> int:
    """How many vectors the smallest subset has."""
    return max(500, 4 * pairs[0][0].shape[1]) if least is None and pairs else least or 500


def _too_few(pairs: Sequence[Pair], least: int | None = None) -> str:
    """Why these clips are too few to extrapolate; empty where they are not."""
    n, least = _vectors(pairs), _least(pairs, least)
    if n >= 4 * least:
        return ""
    return (
        f"{n} vectors of {len(pairs)} clips: an extrapolation from {least} vectors on needs four times as many, "
        f"{4 * least}; the kernel audio distance (kad) has no bias to take off"
    )


class _Extrapolation:
    """The same subsets for a set and, in a jackknife, for what is left of it.

    Args:
        pairs: all clips.
        least, points, seed: as for :func:`frechet_infinity`.
    """

    def __init__(self, pairs: Sequence[Pair], least: int | None = None, points: int = 25, seed: int = 0) -> None:
        self.pairs = pairs
        self.shares = np.linspace(_least(pairs, least) / _vectors(pairs), 1, points)
        self.keys = np.random.default_rng(seed).random((points, len(pairs)))

    def __call__(self, kept: Sequence[int]) -> tuple[float, float]:
        """The value and R2 of some of the clips."""
        clips = np.asarray(kept)
        sizes = np.round(self.shares * len(clips)).astype(int)
        subsets = [clips[np.argsort(keys[clips])[:n]] for keys, n in zip(self.keys, sizes, strict=True)]
        values = np.array([_distance([self.pairs[i] for i in subset]) for subset in subsets])
        slope, value = np.polyfit(1 / sizes, values, 1)
        rest = np.square(values - value - slope / sizes).sum()
        return float(value), float(1 - rest / max(np.square(values - values.mean()).sum(), 1e-300))


class Fad(DistributionMetric):
    """The Fréchet distance between windows of the generated sounds and of the true ones."""

    def distance(self, first: np.ndarray, second: np.ndarray, name: str) -> float:
        return frechet_distance(first, second)

    def interval(self, rows: Sequence[Pair], recordings: Sequence[str], name: str) -> tuple[float, float]:
        return jackknife_distance(rows, _distance, recordings)


class Fd(Fad):
    """The Fréchet distance with one vector a clip, the mean over its windows; the field's FD takes PANNs' Cnn14.

    For n clips and D numbers the value for equal sets is about 2 D / n + D (D + 1) / (2 n): for 200 clips and 128
    numbers more than 40, where vectors vary by 1.
    """

    one_per_clip = True


class FadInfinity(Fad):
    """:func:`frechet_infinity` of the generated sounds and the true ones."""

    def refusal(self, rows: Sequence[Pair]) -> str:
        return _too_few(rows)

    def pool(self, rows: Sequence[Pair], name: str) -> float:
        return _Extrapolation(rows)(range(len(rows)))[0]

    def interval(self, rows: Sequence[Pair], recordings: Sequence[str], name: str) -> tuple[float, float]:
        extrapolate = _Extrapolation(rows)
        return jackknife(range(len(rows)), lambda kept: extrapolate(kept)[0], recordings)

    def difference(self, first: Sequence[Pair], second: Sequence[Pair], recordings: Sequence[str], name: str) -> dict:
        """As every distance has it, but with the same subsets for what is left when clips are left out."""
        sides = {"first": _Extrapolation(first), "second": _Extrapolation(second)}

        def score(clips: list[tuple[str, int]]) -> float:
            return sides[clips[0][0]]([number for _, number in clips])[0]

        numbered = ([(side, i) for i in range(len(first))] for side in sides)
        return jackknife_difference(*numbered, score, recordings)
