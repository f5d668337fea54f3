"""Kernel distances of two sets of vectors: the kernel audio distance (KAD) and the kernel inception distance (KID).

Both are the squared maximum mean discrepancy, ``mean k(x, x') + mean k(y, y') - 2 mean k(x, y)``, in its unbiased form:
pairs of a vector with itself are left out. For two sets of one distribution it is 0 on average at any size, where the
Fréchet distance needs thousands of vectors, so that values below 0 are legal, and sets of different sizes compare.
Windows of one clip are more alike than others, which lifts both by a little.

Sources: KAD, Chung et al. 2025 (arXiv 2502.15602); KID, Binkowski et al. 2018 (arXiv 1801.01401).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from v2a_nb.errors import UsageError
from v2a_nb.metrics.distribution import DistributionMetric

KAD_SCALE = 100.0
ROWS = 1024
"""Rows of a kernel matrix that are in memory at a time."""
MOST_FOR_MEDIAN = 4000
"""The median distance is that of so many vectors, evenly spaced, where there are more."""
Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From vectors [n, D] and [m, D] to [n, m]."""


def mmd2(first: np.ndarray, second: np.ndarray, kernel: Kernel) -> float:
    """The unbiased squared maximum mean discrepancy of two sets of vectors, [n, D] and [m, D].

    Raises:
        UsageError: fewer than two vectors on a side, different widths, or values that are NaN or infinite.
    """
    first, second = _checked(first, second)

    def blocks(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        return ((i, kernel(x[i : i + ROWS], y)) for i in range(0, len(x), ROWS))

    def within(x: np.ndarray) -> float:
        others = sum(float(k.sum() - np.trace(k[:, i:])) for i, k in blocks(x, x))
        return others / (len(x) * (len(x) - 1))

    between = sum(float(k.sum()) for _, k in blocks(first, second)) / (len(first) * len(second))
    return within(first) + within(second) - 2 * between


def _checked(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both sets as float64.

    Raises:
        UsageError: as :func:`mmd2` says.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise UsageError(f"two sets of vectors are needed, [n, D] and [m, D], not {first.shape} and {second.shape}")
    if min(len(first), len(second)) < 2:
        raise UsageError(f"{len(first)} and {len(second)} vectors: a kernel distance needs at least two on either side")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise UsageError("vectors that are NaN or infinite have no distance")
    return first, second


def median_distance(vectors: np.ndarray) -> float:
    """The median Euclidean distance between two different vectors of a set [n, D]."""
    some = np.asarray(vectors, np.float64)[:: -(-len(vectors) // MOST_FOR_MEDIAN)]
    return float(np.sqrt(np.median(_squared_distances(some, some)[np.triu_indices(len(some), 1)])))


def gaussian(bandwidth: float) -> Kernel:
    """The kernel ``exp(-|x - y|^2 / (2 bandwidth^2))``."""
    return lambda x, y: np.exp(_squared_distances(x, y) / (-2 * bandwidth**2))


def _squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances [n, m], by one product of matrices."""
    return np.maximum(np.square(x).sum(1)[:, None] + np.square(y).sum(1) - 2 * x @ y.T, 0)


def polynomial(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The kernel of KID, ``(x y / D + 1)^3``."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def kernel_audio_distance(generated: np.ndarray, reference: np.ndarray, bandwidth: float | None = None) -> float:
    """KAD: 100 times :func:`mmd2` with a Gaussian kernel.

    The bandwidth is the median distance between two vectors of the *reference*, as the paper says. kadtk takes that of
    the generated set by mistake: a system with a wide spread then scores far better than it should.

    Args:
        generated, reference: [n, D] and [m, D].
        bandwidth: left out, the median distance.

    Raises:
        UsageError: as for :func:`mmd2`; or most vectors of the reference are the same, so that there is no bandwidth.

    Examples:
        >>> round(kernel_audio_distance(np.array([[0.0], [2]]), np.array([[0.0], [1]])), 5)
        -43.23324
    """
    generated, reference = _checked(generated, reference)
    middle = reference.mean(0)  # far from 0, squared distances would lose digits
    generated, reference = generated - middle, reference - middle
    bandwidth = median_distance(reference) if bandwidth is None else bandwidth
    if not bandwidth > 0:
        raise UsageError(f"a bandwidth of {bandwidth} is none; are most vectors of the reference the same?")
    return KAD_SCALE * mmd2(generated, reference, gaussian(bandwidth))


def kernel_inception_distance(
    generated: np.ndarray, reference: np.ndarray, subsets: int | None = None, size: int = 1000, seed: int = 0
) -> float:
    """KID: :func:`mmd2` with the kernel ``(x y / D + 1)^3``, of no scale.

    Args:
        generated, reference: [n, D] and [m, D].
        subsets: average so many random subsets of both sides, as torch-fidelity does (100), instead of taking all
            vectors once; that only saves time, and adds noise.
        size: vectors of a subset.
        seed: of the subsets.

    Raises:
        UsageError: as for :func:`mmd2`, or a side has fewer than ``size`` vectors and subsets are asked for. Others
            make the subset smaller without a word.

    Examples:
        >>> kernel_inception_distance(np.array([[0.0], [2]]), np.array([[0.0], [1]]))
        -13.0
    """
    if subsets is None:
        return mmd2(generated, reference, polynomial)
    if size > min(len(generated), len(reference)):
        raise UsageError(f"subsets of {size} vectors cannot be drawn out of {len(generated)} and {len(reference)}")
    rng = np.random.default_rng(seed)
    sets = (np.asarray(generated), np.asarray(reference))
    drawn = ([x[rng.choice(len(x), size, replace=False)] for x in sets] for _ in range(subsets))
    return float(np.mean([mmd2(first, second, polynomial) for first, second in drawn]))


class Kad(DistributionMetric):
    """:func:`kernel_audio_distance` of the windows of the generated sounds and of the true ones."""

    def distance(self, first: np.ndarray, second: np.ndarray, name: str) -> float:
        return kernel_audio_distance(first, second)


class Kid(DistributionMetric):
    """:func:`kernel_inception_distance` of all windows of the generated sounds and of the true ones."""

    def distance(self, first: np.ndarray, second: np.ndarray, name: str) -> float:
        return kernel_inception_distance(first, second)
