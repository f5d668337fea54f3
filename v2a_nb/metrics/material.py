"""Which material a hit sounds like: a small classifier trained on clean Strike World stems.

Linear discriminants over how each mel band rises at a hit and dies away after it. It is a metric's
extractor, so it is deterministic, shipped, and names its weights in every result.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from v2a_nb.audio.onsets import HOP, SAMPLE_RATE, log_mel
from v2a_nb.errors import WeightsError

CLASSES = ("wood", "metal", "glass", "ceramic", "drum")
LAGS = ((0.0, 0.02), (0.03, 0.06), (0.07, 0.12), (0.14, 0.22))
"""Windows after the hit, seconds, over which bands are averaged."""


def describe(wave: np.ndarray, time: float) -> np.ndarray:
    """Features of a hit at ``time`` (s) in a 16 kHz wave: float32 [160], independent of level.

    Each band's log-mel in four windows after the hit, over what it was just before it, with the hit's
    loudest value taken off.
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
        first = int(round(zero + a * rate))
        last = max(first + 1, int(round(zero + b * rate)))
        window = mel[:, min(first, mel.shape[1] - 1) : last]
        # under the floor a band says nothing about the hit; max keeps the ambience out
        parts.append(np.log1p(np.clip(np.exp(window.mean(axis=1)) - np.exp(floor), 0, None) / 1e-5))
    features = np.stack(parts)
    return (features - features.max()).astype(np.float32).ravel()


@dataclass(frozen=True)
class MaterialClassifier:
    """Linear discriminants with a shrunk covariance."""

    mean: np.ndarray  # [D]
    scale: np.ndarray  # [D]
    weight: np.ndarray  # [C, D]
    bias: np.ndarray  # [C]

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Features [N, D] to class indices [N]."""
        x = (features - self.mean) / self.scale
        return (x @ self.weight.T + self.bias).argmax(axis=1)

    def hear(self, wave: np.ndarray, times: np.ndarray) -> list[str]:
        """The material of each hit in a 16 kHz wave."""
        if not len(times):
            return []
        return [CLASSES[i] for i in self.predict(np.stack([describe(wave, t) for t in times]))]

    @property
    def tag(self) -> str:
        """``strike-material@`` and four hexadecimal digits of its weights."""
        digest = hashlib.sha256(np.ascontiguousarray(self.weight, np.float16).tobytes()).hexdigest()
        return f"strike-material@{digest[:4]}"

    def save(self, folder: str | Path, **card: object) -> None:
        """Write ``model.safetensors`` and ``config.json``."""
        from safetensors.numpy import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        # safetensors writes the buffer as it lies: a transposed view would be saved scrambled
        arrays = {k: np.ascontiguousarray(getattr(self, k), np.float32) for k in ("mean", "scale", "weight", "bias")}
        save_file(arrays, str(folder / "model.safetensors"))
        config = {"kind": "strike-material", "classes": CLASSES, **card}
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> MaterialClassifier:
        """Read what :meth:`save` wrote."""
        from safetensors.numpy import load_file

        path = Path(folder) / "model.safetensors"
        if not path.exists():
            raise WeightsError(f"{path} is missing")
        return cls(**load_file(str(path)))


@lru_cache(maxsize=1)
def shipped_classifier() -> MaterialClassifier:
    """The classifier that comes with the package."""
    from v2a_nb.hub import find_weights

    return MaterialClassifier.load(find_weights("material"))


def hits_of(seed: int, clips: int, stem: str = "action") -> tuple[np.ndarray, np.ndarray]:
    """Features and class indices of every strike and bounce in a world's ``stem``."""
    from v2a_nb.world.dataset import strike_world

    features, labels = [], []
    for item in strike_world(seed, clips, size=16):
        wave = item.stems[stem].samples[0]
        for event in item.truth["events"]:
            if event["sounding"] and event["kind"] != "scrape" and event["time_s"] < item.clip.duration - 0.1:
                features.append(describe(wave, event["time_s"]))
                labels.append(CLASSES.index(event["material"]))
    return np.stack(features), np.array(labels)


def train_material(seed: int = 3000, clips: int = 1200, shrink: float = 0.1) -> MaterialClassifier:
    """Fit on the clean action stems of a world seed that nothing else uses."""
    x, y = hits_of(seed, clips)
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-3
    z = (x - mean) / scale
    centres = np.stack([z[y == c].mean(axis=0) for c in range(len(CLASSES))])
    within = np.cov((z - centres[y]).T)
    within = (1 - shrink) * within + shrink * np.eye(len(within)) * np.trace(within) / len(within)
    weight = np.linalg.solve(within, centres.T).T
    bias = -0.5 * (weight * centres).sum(axis=1)
    return MaterialClassifier(*(a.astype(np.float32) for a in (mean, scale, weight, bias)))
