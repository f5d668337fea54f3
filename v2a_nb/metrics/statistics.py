"""Means, and 95 % intervals that treat clips of one recording as the dependent things that they are."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import product

import numpy as np

GROUPS = 20
"""A jackknife leaves out a twentieth of the recordings at a time."""
LEAST_RECORDINGS = 6
"""Paired tests need so many: with five, the least p of two sides is 2 / 32, which is over 0.05."""


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


def accuracy_with_interval(
    right: Sequence[float] | np.ndarray, clusters: Sequence[Hashable] | None = None, scale: float = 1.0
) -> dict:
    """The share of clips that are right, with its :func:`share_interval`.

    Args:
        right: true or false for each clip.
        clusters: one name per clip.
        scale: 1 for shares, 100 for percent.

    Returns:
        ``{"value", "low", "high", "n"}``; ``n`` counts clips.
    """
    right = [float(one) for one in right]
    low, high = share_interval([(one, 1) for one in right], clusters, scale=scale)
    return {"value": scale * mean(right), "low": low, "high": high, "n": len(right)}


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
    kept = _kept(len(rows), clusters, groups)
    if not kept:
        return float("nan"), float("nan")
    root, roots = np.sqrt(score(list(rows))), [np.sqrt(score([rows[i] for i in part])) for part in kept]
    reach = _error(roots) * _student(kept, level)
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
    kept = _kept(len(rows), clusters, groups)
    if not kept:
        return float("nan"), float("nan")
    values = [score([*rows]), *(score([rows[i] for i in part]) for part in kept)]
    value, *others = np.arcsin(np.sqrt(np.clip(values, 0, 1))) if share else np.asarray(values)
    reach = _error(others) * _student(kept, level)
    ends = value - reach, value + reach
    low, high = (np.sin(np.clip(end, 0, np.pi / 2)) ** 2 if share else end for end in ends)
    return float(low), float(high)


def _kept(count: int, clusters: Sequence[Hashable] | None, groups: int) -> list[list[int]]:
    """The rows that are left when each group of clusters is left out in turn; none with fewer than two clusters."""
    parts = _by_name(count, clusters)
    groups = min(groups, len(parts))
    left_out = [{i for part in parts[g::groups] for i in part} for g in range(groups if groups > 1 else 0)]
    return [[i for i in range(count) if i not in out] for out in left_out]


def _error(values: Sequence[float]) -> float:
    """The jackknife's standard error: from the values that are left without each group."""
    count = len(values)
    return float(np.sqrt((count - 1) / count * np.square(np.asarray(values) - np.mean(values)).sum()))


def _student(kept: Sequence, level: float) -> float:
    """How many standard errors an interval of that level reaches to either side, for so few groups."""
    from scipy.stats import t

    return t.ppf((1 + level) / 2, len(kept) - 1)


def compare_paired(
    first: Sequence,
    second: Sequence,
    score: Callable[[list], float],
    clusters: Sequence[Hashable] | None = None,
    *,
    rounds: int = 1000,
    seed: int = 0,
) -> dict:
    """Difference of two systems on the same clips, with a paired bootstrap interval and a permutation test.

    The test swaps the systems in whole recordings. If both are alike, every swap is as likely as none, whatever the
    metric and however clips of a recording depend on each other. Of up to ten recordings all swaps are taken.

    Args:
        first, second: one entry per clip of each system, in the same order.
        score: from a list of entries to a number.
        clusters: one name per clip; whole clusters are drawn and swapped.
        rounds: swaps, where not all are taken.
        seed: of the swaps and of the bootstrap.

    Returns:
        ``{"difference", "low", "high", "p", "why"}``: second minus first, a 95 % interval, the p of two sides, and why
        there is none: NaN with fewer than :data:`LEAST_RECORDINGS` recordings, or nothing to compare.
    """
    pairs = list(zip(first, second, strict=True))
    parts = _by_name(len(pairs), clusters)

    def difference(rows: Sequence) -> float:
        return score([two for _, two in rows]) - score([one for one, _ in rows])

    value = difference(pairs)
    low, high = bootstrap(pairs, difference, clusters, seed=seed)
    row = {"difference": value, "low": low, "high": high, "p": float("nan"), "why": _too_few(len(parts), value)}
    if row["why"]:
        return row
    if len(parts) <= 10:
        swaps = np.array(list(product((False, True), repeat=len(parts))))
        rounds = len(swaps)
    else:
        swaps = np.random.default_rng(seed).random((rounds, len(parts))) < 0.5
        swaps[0] = False  # the systems as they are are one of the swaps
    extreme = 0
    for swap in swaps:
        turned = {i for part, swapped in zip(parts, swap, strict=True) if swapped for i in part}
        other = difference([pair[::-1] if i in turned else pair for i, pair in enumerate(pairs)])
        extreme += not abs(other) < abs(value) - 1e-12  # one that is NaN counts against a difference
    return {**row, "p": extreme / rounds}


def jackknife_difference(
    first: Sequence, second: Sequence, score: Callable[[list], float], clusters: Sequence[Hashable] | None = None
) -> dict:
    """The same for a distance between two sets, which a bootstrap would bias: by leaving out groups of recordings.

    The interval and p are those of Student's t with the jackknife's standard error.

    Returns:
        as :func:`compare_paired`.
    """
    from scipy.stats import t

    parts = _by_name(len(first), clusters)
    value = score(list(second)) - score(list(first)) if len(first) else float("nan")
    row = {"difference": value, "low": float("nan"), "high": float("nan"), "p": float("nan")}
    row["why"] = _too_few(len(parts), value)
    if row["why"]:
        return row
    kept = _kept(len(first), clusters, GROUPS)
    error = _error([score([second[i] for i in part]) - score([first[i] for i in part]) for part in kept])
    reach = error * _student(kept, 0.95)
    p = 2 * t.sf(abs(value) / error, len(kept) - 1) if error else float(value == 0)
    return {**row, "low": float(value - reach), "high": float(value + reach), "p": float(p)}


def holm(ps: Sequence[float]) -> list[float]:
    """The p of several tests, corrected so that one false discovery is as rare as in one test (Holm 1979).

    NaN stays NaN and counts for no test.

    Examples:
        >>> holm([0.01, 0.04])
        [0.02, 0.04]
    """
    corrected, worst = [float("nan")] * len(ps), 0.0
    tested = sorted((i for i, p in enumerate(ps) if np.isfinite(p)), key=lambda i: ps[i])
    for rank, i in enumerate(tested):
        worst = max(worst, min(1.0, ps[i] * (len(tested) - rank)))
        corrected[i] = worst
    return corrected


def _too_few(recordings: int, value: float) -> str:
    """Say why there can be no test; empty where there can."""
    if recordings < LEAST_RECORDINGS:
        return f"{recordings} recordings in common; a test needs {LEAST_RECORDINGS}"
    return "" if np.isfinite(value) else "nothing was counted in one of the two"


def wilson(hits: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Interval of a share from ``hits`` of ``n`` independent trials (Wilson 1927); NaN for none.

    Examples:
        >>> tuple(round(v, 3) for v in wilson(5, 10))
        (0.237, 0.763)
    """
    from scipy.stats import norm

    if n <= 0:
        return float("nan"), float("nan")
    z, share = float(norm.ppf((1 + level) / 2)), hits / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))


def share_interval(
    trials: Sequence[tuple[float, int]],
    clusters: Sequence[Hashable] | None = None,
    *,
    level: float = 0.95,
    scale: float = 1.0,
) -> tuple[float, float]:
    """Wilson's interval of a share whose trials are alike within clusters.

    A bootstrap of a share that is 0 or 1 in every clip has no width, whatever the number of clips. Wilson's interval
    has, but counts trials as independent. Here it is taken for the number of independent trials that would vary as
    much as the clusters do (Korn and Graubard 1998, with Student's t for few clusters); that is at most the number of
    trials. Where all trials agree, clusters do not show how much they vary, and each counts as one trial. Where every
    cluster has one trial, it is Wilson's own.

    Args:
        trials: for each row, how many trials counted for the share, and how many there were.
        clusters: one name per row; see :func:`bootstrap`.
        level: of confidence.
        scale: 1 for shares, 100 for percent.

    Returns:
        low and high; NaN where there are no trials, or fewer than two clusters with trials.

    Examples:
        >>> tuple(round(end, 3) for end in share_interval([(1, 1)] * 46 + [(0, 1)] * 54))
        (0.366, 0.557)
    """
    from scipy.stats import norm, t

    sums = [np.sum([trials[i] for i in part], axis=0) for part in _by_name(len(trials), clusters)]
    parts = np.array([part for part in sums if part[1] > 0], float).reshape(-1, 2)
    k, (hits, n) = len(parts), parts.sum(0)
    if k < 2:
        return float("nan"), float("nan")
    share, independent = hits / n, float(n)
    if parts[:, 1].max() > 1:
        variance = k / (k - 1) * np.square(parts[:, 0] - share * parts[:, 1]).sum() / n**2
        independent = share * (1 - share) / variance if variance > 0 else k if share in (0, 1) else n
        tails = (1 + level) / 2
        independent = float(min(n, independent) * (norm.ppf(tails) / t.ppf(tails, k - 1)) ** 2)
    low, high = wilson(share * independent, independent, level)
    return scale * low, scale * high


def _by_name(n: int, names: Sequence[Hashable] | None) -> list[list[int]]:
    """Which of ``n`` rows belong together, in order of their first; left out, each is on its own."""
    parts: dict[Hashable, list[int]] = {}
    for i, name in zip(range(n), range(n) if names is None else names, strict=True):
        parts.setdefault(name, []).append(i)
    return list(parts.values())
