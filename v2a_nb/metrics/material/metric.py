"""Which material a hit sounds like: a small classifier trained on clean Strike World stems.

It is a linear discriminant analysis of how each mel band rises at a hit and dies away after it. It is the extractor of
the metric ``material_accuracy``: deterministic, shipped, and named with its weights in every result.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from v2a_nb.audio.onsets import BANDS, HOP, SAMPLE_RATE, log_mel
from v2a_nb.errors import WeightsError
from v2a_nb.hub import Pretrained, read_tensors

CLASSES = ("wood", "metal", "glass", "ceramic", "drum")
NOTHING = "nothing"
"""The answer where nothing sounds."""
LAGS = ((0.0, 0.02), (0.03, 0.06), (0.07, 0.12), (0.14, 0.22))
"""Windows after the hit, seconds, over which bands are averaged."""


def describe(wave: np.ndarray, time: float) -> np.ndarray:
    """Features of a hit at ``time`` (s) in a 16 kHz wave: float32 [160], independent of level.

    For each band and each of four windows after the hit, the logarithm of the power that was added to what was there
    just before the hit; the largest of all is subtracted.
    """
    start = max(0, int((time - 0.05) * SAMPLE_RATE))
    stop = int((time + LAGS[-1][1]) * SAMPLE_RATE) + 2 * HOP
    mel = log_mel(np.pad(wave[start:stop], (0, max(0, stop - len(wave)))))
    rate = SAMPLE_RATE / HOP
    zero = (time - start / SAMPLE_RATE) * rate
    before = mel[:, : max(1, int(zero - 2))]
    floor = np.median(before, axis=1) if before.shape[1] > 3 else np.full(mel.shape[0], -11.5)
    parts = []
    for a, b in LAGS:
        first = round(zero + a * rate)
        last = max(first + 1, round(zero + b * rate))
        window = mel[:, min(first, mel.shape[1] - 1) : last]
        # what is not over the floor is the ambience and not the hit
        parts.append(np.log1p(np.clip(np.exp(window.mean(axis=1)) - np.exp(floor), 0, None) / 1e-5))
    features = np.stack(parts)
    return (features - features.max()).astype(np.float32).ravel()


@dataclass(eq=False)
class MaterialClassifier(Pretrained):
    """Linear discriminants of standardised features.

    Attributes:
        mean, scale: of the features, [D].
        weight, bias: of the discriminants, [C, D] and [C].
    """

    kind, title, default = "strike-material", "a material classifier", "material"
    half = False

    mean: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    bias: np.ndarray

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Features [N, D] to class indices [N]."""
        x = (features - self.mean) / self.scale
        return (x @ self.weight.T + self.bias).argmax(axis=1)

    def classify(self, wave: np.ndarray, times: np.ndarray) -> list[str]:
        """The material of each hit at ``times`` (s) in a 16 kHz wave; ``"nothing"`` where no band rises at all."""
        if not len(times):
            return []
        features = np.stack([describe(wave, t) for t in times])
        # the largest feature is always 0: all zero means that nothing rose
        return [CLASSES[i] if row.any() else NOTHING for i, row in zip(self.predict(features), features, strict=True)]

    def preference(self, wave: np.ndarray, times: np.ndarray, old: str, new: str) -> float | None:
        """The odds of one material against another, as a share: 1 where hits sound like ``new``, 0 like ``old``.

        Args:
            wave: [n] at 16 kHz.
            times: of the hits, s.
            old, new: out of :data:`CLASSES`.

        Returns:
            the mean over hits; None where no band rises at any of them.

        Raises:
            ValueError: a material is unknown.
        """
        pair = [CLASSES.index(old), CLASSES.index(new)]
        features = [row for row in (describe(wave, time) for time in times) if row.any()]
        if not features:
            return None
        x = (np.stack(features) - self.mean) / self.scale
        logits = x @ self.weight[pair].T + self.bias[pair]
        return float(np.mean(0.5 + 0.5 * np.tanh((logits[:, 1] - logits[:, 0]) / 2)))

    @property
    def tag(self) -> str:
        """``strike-material@`` and four hexadecimal digits of its weights."""
        digest = hashlib.sha256(np.ascontiguousarray(self.weight, np.float16).tobytes()).hexdigest()
        return f"strike-material@{digest[:4]}"

    def _tensors(self) -> dict:
        import torch

        return {k: torch.tensor(getattr(self, k), dtype=torch.float32) for k in ("mean", "scale", "weight", "bias")}

    def _told(self) -> dict[str, Any]:
        return {"classes": CLASSES}

    @classmethod
    def _read(cls, path: Path, saved: dict[str, Any]) -> MaterialClassifier:
        classifier = cls(**{k: v.numpy() for k, v in read_tensors(path).items()})
        classes, size = saved.get("classes", ()), len(LAGS) * BANDS
        if tuple(classes) != CLASSES or classifier.weight.shape != (len(CLASSES), size):
            raise WeightsError(f"{path}: classes {classes} over {classifier.weight.shape[-1]} features do not fit")
        return classifier


@lru_cache(maxsize=1)
def shipped_classifier() -> MaterialClassifier:
    """The classifier that comes with the package."""
    return MaterialClassifier.from_pretrained()
