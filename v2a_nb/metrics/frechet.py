"""Fréchet audio distance (FAD, Kilgour et al. 2019): between the embeddings of two sets of sounds.

What the value says depends on the embedding and on the number of windows: two sets of n windows of the *same* sounds
are about 2 d / n + d (d + 1) / (2 n) apart. Compare only values of one extractor at one n, and read them beside that of
another half of the true sounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError, check_types
from v2a_nb.metrics.base import Metric, ScoredClip
from v2a_nb.metrics.statistics import GROUPS, jackknife_distance

if TYPE_CHECKING:
    from v2a_nb.models.av_embedding import AudioVisualEmbedding

WINDOW_S, HOP_S = 1.0, 0.5
_Pair = tuple[np.ndarray, np.ndarray]
"""A clip's vectors [n, D] on both sides."""


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """``|m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)`` of two sets of vectors; no root is taken.

    The last term is the nuclear norm of the product of the two centred sets, which is exact where there are fewer
    vectors than dimensions, and exactly balances the others for two equal sets. Covariances divide by n - 1. What
    rounding leaves below 0 is 0.

    Args:
        first: [n, D].
        second: [m, D].

    Raises:
        UsageError: fewer than two vectors on a side, different widths, or values that are NaN or infinite.

    Examples:
        >>> round(frechet_distance(np.array([[0.0], [2], [4]]), np.array([[1.0], [1], [7]])), 6)
        3.143594
    """
    first, second = (np.asarray(x, np.float64) for x in (first, second))
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise UsageError(f"two sets of vectors are needed, [n, D] and [m, D], not {first.shape} and {second.shape}")
    if min(len(first), len(second)) < 2:
        raise UsageError(f"{len(first)} and {len(second)} vectors: at least two on either side have a covariance")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise UsageError("vectors that are NaN or infinite have no distance")
    apart = first.mean(0) - second.mean(0)
    a, b = ((x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (first, second))
    if min(len(a), len(b)) > a.shape[1]:  # the same product from the smaller side
        a, b = (np.linalg.qr(x, mode="r") for x in (a, b))
    shared = np.linalg.norm(a @ b.T, "nuc")
    return max(0.0, float(apart @ apart + np.square(a).sum() + np.square(b).sum() - 2 * shared))


@check_types
def frechet_with_interval(
    first: Sequence[np.ndarray],
    second: Sequence[np.ndarray],
    recordings: Sequence[str] | None = None,
    groups: int = GROUPS,
) -> dict:
    """The distance between two sets of clips with a 95 % interval that cannot go below 0.

    Args:
        first, second: for each clip its vectors [n, D].
        recordings: of the clips, for the interval (:func:`~v2a_nb.metrics.statistics.jackknife_distance`), which
            leaves out clip i of both sides together; left out, each clip is on its own.
        groups: at most so many.

    Returns:
        ``value``, ``low``, ``high`` and ``n``, the clips.

    Raises:
        UsageError: not as many clips on both sides, or fewer than two.
    """
    if len(first) != len(second) or len(first) < 2:
        raise UsageError(f"{len(first)} and {len(second)} clips: as many on both sides are needed, at least two")
    pairs = list(zip(first, second, strict=True))
    low, high = jackknife_distance(pairs, _distance, recordings, groups=groups)
    return {"value": _distance(pairs), "low": low, "high": high, "n": len(pairs)}


def _distance(pairs: Sequence[_Pair]) -> float:
    """Between all vectors of both sides; NaN where one has fewer than two."""
    first, second = (np.concatenate(side) for side in zip(*pairs, strict=True)) if pairs else ((), ())
    return frechet_distance(first, second) if min(len(first), len(second)) > 1 else float("nan")


class StrikeAudio:
    """The embedding of our Fréchet distance: AV-Sim's audio encoder on windows of a second, every half second.

    It is not VGGish: its values compare with each other and with no published ones.

    Args:
        model: whose audio encoder it is.

    Examples:
        >>> embed = StrikeAudio.from_pretrained()
        >>> embed(sound).shape  # 2.56 s
        (4, 128)
    """

    def __init__(self, model: AudioVisualEmbedding) -> None:
        self.model = model.eval()

    @property
    def tag(self) -> str:
        """``strike-audio@`` and four digits of its weights."""
        from v2a_nb.hub import tag_of

        return tag_of(self.model.audio, "strike-audio")

    def __call__(self, sound: Sound) -> np.ndarray:
        """Vectors float32 [W, D] of a sound; one shorter than a window has one.

        Raises:
            UsageError: under 25 ms.
        """
        import torch

        starts = np.arange(0.0, max(sound.duration - WINDOW_S, 0.0) + 1e-6, HOP_S)
        parts = [sound.slice(s, min(sound.duration, s + WINDOW_S)) for s in starts]
        with torch.no_grad():
            banks = torch.cat([self.model.audio.listen(part) for part in parts])
            return self.model.audio(banks).float().cpu().numpy()

    @classmethod
    def from_pretrained(cls, name: str | Path = "av_sim") -> StrikeAudio:
        """With the audio encoder of these weights of AV-Sim."""
        from v2a_nb.models.av_embedding import AudioVisualEmbedding

        return cls(AudioVisualEmbedding.from_pretrained(name))


class Fad(Metric):
    """The Fréchet distance between the generated sounds and the true ones.

    Args:
        model: the embedding, called with a sound, returns vectors [W, D] and has a ``tag``; left out, the shipped
            :class:`StrikeAudio`.
    """

    controls = frozenset({"round trip"})
    per_clip = False

    def load_model(self) -> StrikeAudio:
        return StrikeAudio.from_pretrained()

    def score(self, clip: ScoredClip) -> _Pair:
        """Vectors of the sound and of the reference."""
        key = f"vectors of {self.extractor}"
        return (
            clip.once_per_sound(key, lambda: self.model(clip.sound)),
            clip.once_per_clip(key, lambda: self.model(clip.reference)),
        )

    def pool(self, rows: Sequence[_Pair], name: str) -> float:
        return _distance(rows)

    def count(self, rows: Sequence[_Pair], name: str) -> int:
        return len(rows)

    def interval(self, rows: Sequence[_Pair], recordings: Sequence[str], name: str) -> tuple[float, float]:
        return jackknife_distance(rows, _distance, recordings)
