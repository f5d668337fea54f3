"""Intervals for means over clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np


def bootstrap(
    rows: Sequence,
    score: Callable[[list], float],
    clusters: Sequence[str] | None = None,
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
    names = list(range(len(rows))) if clusters is None else list(clusters)
    groups: dict = {}
    for row, name in zip(rows, names, strict=True):
        groups.setdefault(name, []).append(row)
    parts = list(groups.values())
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
