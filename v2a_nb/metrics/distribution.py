"""Metrics of two sets: how far the vectors of all generated sounds are from those of all true ones."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from v2a_nb.metrics.base import Metric, ScoredClip
from v2a_nb.metrics.extractors import load_extractor
from v2a_nb.metrics.statistics import jackknife

Pair = tuple[np.ndarray, np.ndarray]
"""A clip's vectors [n, D] on both sides."""


def pooled(pairs: Sequence[Pair], distance: Callable[[np.ndarray, np.ndarray], float]) -> float:
    """The distance between all vectors of both sides; NaN where one has fewer than two."""
    if min(sum(len(pair[side]) for pair in pairs) for side in (0, 1)) < 2:
        return float("nan")
    return distance(np.concatenate([pair[0] for pair in pairs]), np.concatenate([pair[1] for pair in pairs]))


class DistributionMetric(Metric):
    """A metric of two sets of vectors, with an interval by a jackknife that leaves out recordings.

    A distance of the true sounds from themselves says nothing, and which sound belongs to which clip does not matter:
    the only control is the round trip.

    Args:
        model: the extractor of vectors (:mod:`v2a_nb.metrics.extractors`); left out, the shipped ``strike-audio``.
    """

    controls = frozenset({"round trip"})
    per_clip = False
    one_per_clip: ClassVar[bool] = False
    """Whether a clip is one vector, the mean over its windows, and not all of them."""
    share: ClassVar[bool] = False
    """Whether the values lie between 0 and 1, so that intervals have to as well."""

    def load_model(self) -> Any:
        return load_extractor("strike-audio")

    @abstractmethod
    def distance(self, first: np.ndarray, second: np.ndarray, name: str) -> float:
        """The value of two sets of vectors [n, D], two or more each: the generated, and the true one."""

    def score(self, clip: ScoredClip) -> Pair:
        """Vectors of the sound and of the reference."""
        key = f"vectors of {self.extractor}"
        pair = (
            clip.feature("sound", key, lambda: self.model(clip.sound)),
            clip.feature("reference", key, lambda: self.model(clip.reference)),
        )
        return (pair[0].mean(0, keepdims=True), pair[1].mean(0, keepdims=True)) if self.one_per_clip else pair

    def pool(self, rows: Sequence[Pair], name: str) -> float:
        return pooled(rows, lambda first, second: self.distance(first, second, name))

    def count(self, rows: Sequence[Pair], name: str) -> int:
        return len(rows)

    def interval(self, rows: Sequence[Pair], recordings: Sequence[str], name: str) -> tuple[float, float]:
        return jackknife(rows, lambda part: self.pool(part, name), recordings, share=self.share)
