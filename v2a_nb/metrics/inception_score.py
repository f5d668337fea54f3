"""The inception score (IS, Salimans et al. 2016): whether a classifier is sure of each sound, and not of one class.

``exp(mean over clips of KL(p(class | clip) || p(class)))``, the exponential of what a class tells of its clip: 1 where
all clips get the same probabilities, and the number of classes where each gets one for certain and all are as frequent.

It needs no reference and knows nothing of what is right: sounds of other videos score the same, and silence for all
clips scores 1. The classifier sets the scale; only numbers of one classifier, at one number of clips and splits,
compare. Logits of AudioSet were trained with a sigmoid for each class; their softmax is taken all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from v2a_nb.errors import UsageError, check_types
from v2a_nb.metrics.base import Metric, ScoredClip
from v2a_nb.metrics.extractors import load_extractor
from v2a_nb.metrics.statistics import jackknife

LEAST = 50
"""Clips that a split needs: the fewer, the larger is the score of one split, and the smaller that of many."""


@check_types
def inception_score(logits: np.ndarray, splits: int = 10, seed: int | None = 2020) -> tuple[float, float]:
    """The mean and the standard deviation of the score over splits.

    As torch-fidelity, av-benchmark and AudioLDM have it: ten splits of the clips in the order of
    ``numpy.random.RandomState(2020)``, a marginal for each, and a deviation that divides by the number of splits
    (torchmetrics: by one less, with another order).

    Args:
        logits: [N, C].
        splits: how many; 1 has no deviation.
        seed: of the order; None leaves the clips as they are.

    Raises:
        UsageError: not [N, C], fewer clips than splits, or logits that are NaN or infinite.

    Examples:
        >>> inception_score(np.log([[0.9, 0.1], [0.1, 0.9]]), splits=1)[0].__round__(6)
        1.444935
    """
    logits = np.asarray(logits, np.float64)
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise UsageError(f"logits [N, C] of at least two classes are needed, not {logits.shape}")
    if not 1 <= splits <= len(logits):
        raise UsageError(f"{len(logits)} clips cannot be divided into {splits} splits")
    if not np.isfinite(logits).all():
        raise UsageError("logits that are NaN or infinite have no inception score")
    if seed is not None:
        logits = logits[np.random.RandomState(seed).permutation(len(logits))]
    bounds = [i * len(logits) // splits for i in range(splits + 1)]
    scores = [np.exp(_information(logits[a:b])) for a, b in pairwise(bounds)]
    return float(np.mean(scores)), float(np.std(scores))


def _information(logits: np.ndarray) -> float:
    """What the class tells of the clip, nats: 0 to the logarithm of the number of classes."""
    log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    p = np.exp(log_p)
    mean = p.mean(0)
    own = np.where(p > 0, p * log_p, 0.0).sum(1).mean()
    return max(0.0, float(own - (mean * np.log(np.maximum(mean, 1e-300))).sum()))


class InceptionScore(Metric):
    """The inception score of all generated sounds, by default in one split.

    Args:
        model: the extractor of classes (:mod:`v2a_nb.metrics.extractors`); left out, the shipped ``strike-material``.
        splits: 10 in published tables, which needs 500 clips; its mean is lower than the score of one split.
    """

    controls = frozenset({"true", "round trip"})
    per_clip = False

    def __init__(self, model: Any = None, splits: int = 1) -> None:
        super().__init__(model)
        self.splits = splits

    def load_model(self) -> Any:
        return load_extractor("strike-material")

    def refusal(self, rows: Sequence[np.ndarray]) -> str:
        least = LEAST * self.splits
        return f"{len(rows)} clips: an inception score needs at least {least}" if len(rows) < least else ""

    def score(self, clip: ScoredClip) -> np.ndarray:
        """Logits [C] of the sound, cut or filled to the clip's length."""
        return clip.feature("sound", f"logits of {self.extractor}", lambda: self.model.logits(clip.fitted_sound))

    def pool(self, rows: Sequence[np.ndarray], name: str) -> float:
        return inception_score(np.stack(rows), self.splits)[0] if len(rows) >= self.splits else float("nan")

    def count(self, rows: Sequence[np.ndarray], name: str) -> int:
        return len(rows)

    def interval(self, rows: Sequence[np.ndarray], recordings: Sequence[str], name: str) -> tuple[float, float]:
        # a share of the most information that there can be: the ends stay between 1 and the number of classes
        classes = len(rows[0]) if len(rows) else 2
        low, high = jackknife(
            rows, lambda part: np.log(self.pool(part, name)) / np.log(classes), recordings, share=True
        )
        return classes**low, classes**high
