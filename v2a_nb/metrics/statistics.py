"""Means, and 95 % intervals that treat clips of one recording as the dependent things that they are."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np

GROUPS = 20
"""A jackknife leaves out a twentieth of the recordings at a time."""


def mean(values: Sequence[float]) -> float:
    """The mean of the finite values; NaN where there are none."""
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")


def mean_with_interval(values: Sequence[float], clusters: Sequence[Hashable] | None = None, **options: object) -> dict:
    """The mean of one number per clip with its bootstrap interval.

    Args:
        values: one number per clip.
        clusters: one name per clip; see :func:`bootstrap`.
        options: ``rounds``, ``seed`` and ``level`` of :func:`bootstrap`.

    Returns:
        ``{"value", "low", "high", "n"}``; ``n`` counts clips.
    """
    low, high = bootstrap(list(values), mean, clusters, **options)
    return {"value": mean(values), "low": low, "high": high, "n": len(values)}


def bootstrap(
    rows: Sequence,
    score: Callable[[list], float],
    clusters: Sequence[Hashable] | None = None,
    *,
    rounds: int = 400,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of ``score(rows)`` under resampling.

    Args:
        rows: one entry per clip.
        score: from a list of entries to a number; NaN rounds are left out.
        clusters: one name per row; whole clusters are drawn, because clips of one recording share their
            room, objects and actor and are not independent.

    Returns:
        low and high; NaN where nothing could be scored, and where there is only one cluster, which says
        nothing about how much clusters differ.
    """
    rows = list(rows)
    parts = [[rows[i] for i in part] for part in _by_name(len(rows), clusters)]
    if len(parts) < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(rounds):
        drawn = rng.integers(0, len(parts), len(parts))
        values.append(score([row for k in drawn for row in parts[k]]))
    values = np.array(values, float)
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.percentile(values, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def jackknife_distance(
    rows: Sequence,
    score: Callable[[list], float],
    clusters: Sequence[Hashable] | None = None,
    *,
    groups: int = GROUPS,
    level: float = 0.95,
) -> tuple[float, float]:
    """Interval of a squared distance between two sets, which cannot go below 0, by leaving out groups in turn.

    A bootstrap would be wrong: drawing rows twice makes covariances smaller and the distance larger than it is. The
    jackknife's standard error is taken of the *root* of the distance, with Student's t for few groups, and the ends
    are squared again. The root of a sum of squares varies by about as much everywhere, near 0 as well, where the plain
    interval goes below 0 and one of the logarithm is a third wider.

    The interval is about the distance that sets of this size have, whose bias it does not take off.

    Args:
        rows: one entry per clip.
        score: from a list of entries to a distance of at least 0; NaN where there are too few.
        clusters: one name per row; whole clusters are left out.
        groups: at most so many.
        level: of confidence.

    Returns:
        low and high; NaN where there are fewer than two clusters, or too few rows are left.
    """
    from scipy.stats import t

    parts = _by_name(len(rows), clusters)
    groups = min(groups, len(parts))
    if groups < 2:
        return float("nan"), float("nan")
    roots = []
    for g in range(groups):
        out = {i for part in parts[g::groups] for i in part}
        roots.append(np.sqrt(score([row for i, row in enumerate(rows) if i not in out])))
    error = np.sqrt((groups - 1) / groups * np.square(roots - np.mean(roots)).sum())
    root, reach = np.sqrt(score(list(rows))), error * t.ppf((1 + level) / 2, groups - 1)
    return float(np.maximum(root - reach, 0.0) ** 2), float((root + reach) ** 2)


def jackknife(
    rows: Sequence,
    score: Callable[[list], float],
    clusters: Sequence[Hashable] | None = None,
    *,
    share: bool = False,
    groups: int = GROUPS,
    level: float = 0.95,
) -> tuple[float, float]:
    """Interval of a value that is computed of a whole set, by leaving out groups in turn (delete-group jackknife).

    As in :func:`jackknife_distance` a bootstrap would be wrong: what is drawn twice is its own nearest neighbour. The
    standard error is that of the value itself, which may be negative, with Student's t for few groups. For a share
    it is that of ``asin(sqrt(share))``, which varies by about as much everywhere; the ends stay within 0 to 1. Where
    nothing changes whichever group is left out, the interval is a point: a share of exactly 1 hides how sure it is.

    Args:
        rows: one entry per clip.
        score: from a list of entries to a number; NaN where there are too few.
        clusters: one name per row; whole clusters are left out.
        share: the value lies between 0 and 1.
        groups: at most so many.
        level: of confidence.

    Returns:
        low and high; NaN where there are fewer than two clusters, or too few rows are left.

    Examples:
        >>> low, high = jackknife([0.0, 1.0, 2.0, 3.0], mean)  # of a mean: Student's interval
        >>> round(low, 3), round(high, 3)
        (-0.554, 3.554)
    """
    from scipy.stats import t

    parts = _by_name(len(rows), clusters)
    groups = min(groups, len(parts))
    if groups < 2:
        return float("nan"), float("nan")
    left_out = [{i for part in parts[g::groups] for i in part} for g in range(groups)]
    values = [score([row for i, row in enumerate(rows) if i not in out]) for out in left_out]
    value, values = (np.arcsin(np.sqrt(np.clip(v, 0, 1))) if share else np.asarray(v) for v in (score([*rows]), values))
    error = np.sqrt((groups - 1) / groups * np.square(values - values.mean()).sum())
    reach = error * t.ppf((1 + level) / 2, groups - 1)
    ends = value - reach, value + reach
    low, high = (np.sin(np.clip(end, 0, np.pi / 2)) ** 2 if share else end for end in ends)
    return float(low), float(high)


def _by_name(n: int, names: Sequence[Hashable] | None) -> list[list[int]]:
    """Which of ``n`` rows belong together, in order of their first; left out, each is on its own."""
    parts: dict[Hashable, list[int]] = {}
    for i, name in zip(range(n), range(n) if names is None else names, strict=True):
        parts.setdefault(name, []).append(i)
    return list(parts.values())
