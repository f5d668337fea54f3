"""Kullback-Leibler divergence of what a classifier hears in the true sound and in the generated one.

Per clip, ``KL(true || generated) = sum over classes p (log p - log q)``, natural logarithm; then the mean over clips.
The name stands for several numbers. All of these read the same logits:

- ``kl``: softmax, both logarithms exact, as av-benchmark; one sure mistake can cost any amount.
- ``kl_capped``: softmax, ``log(q + 1e-6)``, as SpecVQGAN, AudioLDM, AudioCraft and V-AURA's own evaluation: a clip
  costs 13.8 at most, and a perfect one -1e-6 for each class.
- ``kl_sigmoid``: each class is there or not by itself, and their divergences add up. What av-benchmark and AudioLDM
  call ``kl_sigmoid`` leaves out the terms of absence, is no divergence and can be negative
  (``convention="sigmoid_partial"``).

stable-audio-metrics exchanges both sides, KL(generated || true), under the same name. Several generations of one clip
are rows of their own; average them first where the clips should weigh the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from v2a_nb.errors import UsageError, check_types
from v2a_nb.metrics.base import Metric, ScoredClip
from v2a_nb.metrics.extractors import load_extractor

EPSILON = 1e-6
CONVENTIONS = ("softmax", "softmax_capped", "sigmoid", "sigmoid_partial")


@check_types
def kl_divergence(true: np.ndarray, generated: np.ndarray, convention: str = "softmax") -> np.ndarray:
    """KL(true || generated) in nats, float64 [...].

    Args:
        true, generated: logits [..., C].
        convention: one of :data:`CONVENTIONS`; the module's docstring says what they are.

    Raises:
        UsageError: different shapes, fewer than two classes, an unknown convention, or values that are NaN or infinite.

    Examples:
        >>> kl_divergence(np.array([2.0, 0, -1]), np.array([0.0, 1, 0])).round(6)
        np.float64(0.912983)
    """
    true, generated = (np.asarray(x, np.float64) for x in (true, generated))
    if true.shape != generated.shape or not true.ndim or true.shape[-1] < 2:
        raise UsageError(
            f"logits of at least two classes are needed, twice the same, not {true.shape}, {generated.shape}"
        )
    if convention not in CONVENTIONS:
        raise UsageError(f"unknown convention {convention!r}; there are {', '.join(CONVENTIONS)}")
    if not (np.isfinite(true).all() and np.isfinite(generated).all()):
        raise UsageError("logits that are NaN or infinite have no divergence")
    if convention.startswith("sigmoid"):
        # log p = -log(1 + exp(-x)), log(1 - p) = -log(1 + exp(x))
        terms = np.exp(-np.logaddexp(0, -true)) * (np.logaddexp(0, -generated) - np.logaddexp(0, -true))
        if convention == "sigmoid":
            terms = terms + np.exp(-np.logaddexp(0, true)) * (np.logaddexp(0, generated) - np.logaddexp(0, true))
        return terms.sum(-1)
    log_p, log_q = (x - np.logaddexp.reduce(x, axis=-1, keepdims=True) for x in (true, generated))
    if convention == "softmax_capped":
        log_q = np.log(np.exp(log_q) + EPSILON)
    return (np.exp(log_p) * (log_p - log_q)).sum(-1)


class KullbackLeibler(Metric):
    """The three divergences of the true from the generated sound, each clip cut or filled to its length.

    Args:
        model: the extractor of classes (:mod:`v2a_nb.metrics.extractors`); left out, the shipped ``strike-material``.
            The papers' numbers come from PaSST (V-AURA) and PANNs (VTA-LDM) and do not compare with its.
    """

    controls = frozenset({"round trip", "shuffled"})

    def load_model(self) -> Any:
        return load_extractor("strike-material")

    def score(self, clip: ScoredClip) -> dict[str, float]:
        """The divergences by name."""
        key = f"logits of {self.extractor}"
        logits = (
            clip.feature("reference", key, lambda: self.model.logits(clip.fitted_reference)),
            clip.feature("sound", key, lambda: self.model.logits(clip.fitted_sound)),
        )
        conventions = {"kl": "softmax", "kl_capped": "softmax_capped", "kl_sigmoid": "sigmoid"}
        return {name: float(kl_divergence(*logits, convention)) for name, convention in conventions.items()}
