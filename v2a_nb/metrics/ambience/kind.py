"""Which kind of ambience a sound has: hum, hiss, rain or traffic. A small classifier trained on Strike World.

It is a ridge regression on the spectrum of the steady sound: the tenth percentile of each mel band over time, and how
far the thirtieth lies above it. Hits, tails and passing sounds fill a band for some of the time and do not change its
low percentiles, so that the times of events need not be known. It is the extractor of the metric
``ambience_kind_accuracy``: deterministic, shipped, and named with its weights in every result.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from v2a_nb.audio.onsets import SAMPLE_RATE
from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError, WeightsError, check_types
from v2a_nb.hub import Pretrained, read_tensors
from v2a_nb.metrics.base import Metric, ScoredClip
from v2a_nb.metrics.statistics import accuracy_with_interval, share_interval
from v2a_nb.world.description import AMBIENCES

NOTHING = "nothing"
"""The answer for digital silence."""
BANDS, LOWEST_HZ, HIGHEST_HZ = 32, 125.0, 7600.0
"""The range of the mel spectrogram of Action2Sound: outside of it a generated sound has nothing."""
N_FFT, HOP = 1024, 256
FLOOR = 1e-13
"""Power that is added to every band, -130 dBFS."""
FURTHEST = 4.0
"""Standardised features are clipped here: an empty band is far from everything that training saw."""
FEATURES = 2 * BANDS


@lru_cache(maxsize=1)
def _basis() -> tuple[np.ndarray, np.ndarray]:
    """Mel filters [BANDS, N_FFT / 2 + 1], which add up to 1 at every frequency, and a Hann window [N_FFT]."""
    import librosa

    basis = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=N_FFT, n_mels=BANDS, fmin=LOWEST_HZ, fmax=HIGHEST_HZ, norm=None)
    return basis, (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)).astype(np.float32)


def band_powers(wave: np.ndarray) -> np.ndarray:
    """Power in mel bands of a 16 kHz wave [n]: float [T, 32], windows of 64 ms every 16 ms.

    Scaled so that the bands of a window add up to the mean square of what it holds between 125 and 7600 Hz.
    """
    basis, window = _basis()
    wave = np.asarray(wave, np.float32)
    wave = np.pad(wave, (0, max(0, N_FFT - len(wave))))
    frames = np.lib.stride_tricks.sliding_window_view(wave, N_FFT)[::HOP]
    spectrum = np.fft.rfft(frames * window, axis=1)
    power = (spectrum.real**2 + spectrum.imag**2) * (2 / (N_FFT * float(np.square(window).sum())))
    return power @ basis.T


def describe(wave: np.ndarray) -> np.ndarray:
    """Features of the steady sound in a 16 kHz wave: float32 [64], independent of level; all zero for silence.

    First the tenth percentile of each band over time, as the logarithm of power, minus the largest of them; then the
    thirtieth minus the tenth.
    """
    level = np.log(band_powers(wave) + FLOOR)
    low, high = np.quantile(level, (0.1, 0.3), axis=0)
    if low.max() < np.log(2 * FLOOR):
        return np.zeros(FEATURES, np.float32)
    return np.concatenate([low - low.max(), high - low]).astype(np.float32)


@dataclass(eq=False)
class AmbienceKind(Pretrained):
    """Ridge regression of features and their squares onto one number for each kind.

    Attributes:
        mean, scale: of the features, [D].
        weight: of the regression, [2 D + 1, C].

    Examples:
        >>> judge = AmbienceKind.from_pretrained("ambience")
        >>> judge.classify(sound) == item.recording.ambience
        True
    """

    kind, title, default = "strike-ambience", "a classifier of ambiences", "ambience"

    mean: np.ndarray
    scale: np.ndarray
    weight: np.ndarray

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Features [N, D] to indices of :data:`~v2a_nb.world.AMBIENCES` [N]."""
        return (expand(features, self.mean, self.scale) @ self.weight).argmax(axis=1)

    def classify(self, sound: Sound | np.ndarray) -> str:
        """``"hum"``, ``"hiss"``, ``"rain"`` or ``"traffic"``; ``"nothing"`` for a silent sound.

        Args:
            sound: a :class:`~v2a_nb.clip.Sound`, or a wave [n] at 16 kHz.
        """
        wave = sound.mono().resample(SAMPLE_RATE).samples[0] if isinstance(sound, Sound) else sound
        features = describe(wave)
        return AMBIENCES[int(self.predict(features[None])[0])] if features.any() else NOTHING

    @property
    def tag(self) -> str:
        """``strike-ambience@`` and four hexadecimal digits of its weights."""
        digest = hashlib.sha256(np.ascontiguousarray(self.weight, np.float16).tobytes()).hexdigest()
        return f"strike-ambience@{digest[:4]}"

    def _tensors(self) -> dict:
        import torch

        return {k: torch.from_numpy(np.asarray(getattr(self, k))) for k in ("mean", "scale", "weight")}

    def _told(self) -> dict[str, Any]:
        return {"classes": AMBIENCES}

    @classmethod
    def _read(cls, path: Path, saved: dict[str, Any]) -> AmbienceKind:
        state = {k: v.float().numpy() for k, v in read_tensors(path).items()}
        shapes = {"mean": (FEATURES,), "scale": (FEATURES,), "weight": (2 * FEATURES + 1, len(AMBIENCES))}
        has = {k: v.shape for k, v in state.items()}
        if has != shapes or tuple(saved.get("classes", ())) != AMBIENCES:
            raise WeightsError(f"{path}: {saved.get('classes')} over {has} do not fit a classifier of {AMBIENCES}")
        return cls(**state)


def expand(features: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Standardised features, their squares and a one: [N, D] to [N, 2 D + 1]."""
    z = np.clip((features - mean) / scale, -FURTHEST, FURTHEST)
    return np.concatenate([z, z**2, np.ones((len(z), 1), z.dtype)], axis=1)


@check_types
def ambience_kind_accuracy(
    sounds: Sequence[Sound],
    kinds: Sequence[str],
    names: Sequence[str] | None = None,
    judge: AmbienceKind | None = None,
) -> dict:
    """Share of sounds whose ambience is classified as the right kind; guessing one kind scores about 0.25.

    Args:
        sounds: any rate; a second or more.
        kinds: the right ones, as ``truth["ambient"]["kind"]``.
        names: of the recordings, for the interval; left out, each sound is on its own.
        judge: left out, the shipped one.

    Returns:
        ``{"name", "extractor", "value", "low", "high", "n"}``, a row of a report.

    Raises:
        UsageError: not one kind for each sound, or a kind that does not exist.
    """
    if len(sounds) != len(kinds) or not len(sounds):
        raise UsageError(f"{len(sounds)} sounds and {len(kinds)} kinds: one each is needed")
    unknown = sorted(set(kinds) - set(AMBIENCES))
    if unknown:
        raise UsageError(f"ambience {unknown[0]!r} is unknown; there are {', '.join(AMBIENCES)}")
    judge = judge or AmbienceKind.from_pretrained()
    right = [float(judge.classify(sound) == kind) for sound, kind in zip(sounds, kinds, strict=True)]
    return {"name": "ambience_kind_accuracy", "extractor": judge.tag, **accuracy_with_interval(right, names)}


class AmbienceKindAccuracy(Metric):
    """Share of clips whose ambience is classified as the true kind.

    Args:
        model: the classifier; left out, the shipped one.
    """

    def load_model(self) -> AmbienceKind:
        return AmbienceKind.from_pretrained()

    def score(self, clip: ScoredClip) -> float:
        kind = clip.truth.get("ambient", {}).get("kind")
        return float("nan") if kind is None else float(self.model.classify(clip.sound) == kind)

    def interval(self, rows: Sequence[float], recordings: Sequence[str], name: str) -> tuple[float, float]:
        trials = [(0.0, 0) if math.isnan(row) else (row, 1) for row in rows]
        return share_interval(trials, recordings)
