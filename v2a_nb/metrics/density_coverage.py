"""Precision, recall, density and coverage: whether generated sounds lie among the true ones, and reach all of them.

Around each vector of a set lies a ball that reaches to its k-th nearest neighbour in that set (k = 5).

- precision: the share of generated vectors inside any ball of a true one; recall exchanges both sides
  (Kynkäänniemi et al. 2019, arXiv 1904.06991).
- density: how many balls of true vectors a generated one lies in, over k, on average. It may exceed 1.
- coverage: the share of balls of true vectors that hold a generated one (Naeem et al. 2020, arXiv 2002.09797).

One true outlier has a ball so large that precision is near 1, and one generated outlier does the same to recall:
density and coverage count balls, and look at those of true vectors alone. For two sets of one distribution density is 1
on average, and coverage 1 - 1 / 2^k, 0.97, and not 1. Copies of one true sound have full precision and no coverage.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from v2a_nb.errors import UsageError
from v2a_nb.metrics.distribution import DistributionMetric
from v2a_nb.metrics.statistics import jackknife, jackknife_distance

K = 5
LEAST = 50
"""Clips that the metrics need: among fewer, five neighbours are a tenth of the set and more."""


def density_coverage(generated: np.ndarray, reference: np.ndarray, k: int = K) -> dict[str, float]:
    """Precision, recall, density and coverage of two sets of vectors.

    Args:
        generated, reference: [n, D] and [m, D].
        k: the ball of a vector reaches to its k-th nearest neighbour, which lies on it and not in it.

    Raises:
        UsageError: k is under 1, a side has no more than k vectors, different widths, or NaN or infinite values.

    Examples:
        >>> line = np.arange(10.0)[:, None]
        >>> density_coverage(line + 0.1, line, k=2)["coverage"]
        1.0
    """
    from scipy.spatial.distance import cdist

    first, second = (np.asarray(x, np.float64) for x in (generated, reference))
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise UsageError(f"two sets of vectors are needed, [n, D] and [m, D], not {first.shape} and {second.shape}")
    if not 1 <= k < min(len(first), len(second)):
        raise UsageError(
            f"{len(first)} and {len(second)} vectors: the neighbour {k} needs more than {k} on either side"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise UsageError("vectors that are NaN or infinite have no neighbours")
    reach_of_first, reach_of_second = (np.sort(cdist(x, x), axis=1)[:, k] for x in (first, second))
    apart = cdist(second, first)  # [m, n]
    inside = apart < reach_of_second[:, None]
    return {
        "precision": float(inside.any(0).mean()),
        "recall": float((apart < reach_of_first).any(1).mean()),
        "density": float(inside.sum(0).mean() / k),
        "coverage": float(inside.any(1).mean()),
    }


class DensityCoverage(DistributionMetric):
    """:func:`density_coverage` with one vector a clip: windows of one would be each other's neighbours."""

    one_per_clip = True

    def refusal(self, rows: Sequence) -> str:
        return f"{len(rows)} clips: neighbours among clips need at least {LEAST}" if len(rows) < LEAST else ""

    def distance(self, first: np.ndarray, second: np.ndarray, name: str) -> float:
        return density_coverage(first, second)[name]

    def interval(self, rows: Sequence, recordings: Sequence[str], name: str) -> tuple[float, float]:
        # density is 0 or more and has no upper end; the others are shares
        if name == "density":
            return jackknife_distance(rows, lambda part: self.pool(part, name), recordings)
        return jackknife(rows, lambda part: self.pool(part, name), recordings, share=True)
