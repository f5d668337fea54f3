"""The Fréchet distance between two sets of sounds (FAD, Kilgour et al. 2019): mean and covariance of their embeddings.

What it says hangs on the embedding and on how many windows there are: two sets of n windows of the *same* sounds are
about 2 d / n + d (d + 1) / (2 n) apart. Compare only numbers of the same extractor and the same n, and read them
beside that of another half of the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError
from v2a_nb.models.av_embedding import AudioVisualEmbedding

WINDOW_S, HOP_S = 1.0, 0.5
GROUPS = 20


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """``|m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)`` of two sets of vectors; no root is taken.

    The last term is the nuclear norm of the product of the two centred sets, which is exact where there are fewer
    vectors than numbers in one, and exactly balances the others for two equal sets. Covariances have n - 1 below.

    Args:
        first: [n, D].
        second: [m, D].

    Raises:
        UsageError: fewer than two vectors, other widths, or values that are not numbers.

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
    return float(apart @ apart + np.square(a).sum() + np.square(b).sum() - 2 * shared)


def frechet_with_interval(first: Sequence[np.ndarray], second: Sequence[np.ndarray], groups: int = GROUPS) -> dict:
    """The distance between two sets of clips with a 95 % interval, by leaving out groups of clips in turn.

    A bootstrap would be wrong: drawing vectors twice makes covariances smaller and the distance greater than it is.

    Args:
        first, second: for each clip its vectors [n, D]. Clip i of both is left out together.
        groups: at most so many.

    Returns:
        ``value``, ``low``, ``high`` and ``n``, the clips.

    Raises:
        UsageError: not as many clips on both sides, or fewer than two.
    """
    if len(first) != len(second) or len(first) < 2:
        raise UsageError(f"{len(first)} and {len(second)} clips: as many on both sides are needed, at least two")
    value = frechet_distance(np.concatenate(first), np.concatenate(second))
    n = len(first)
    groups = min(groups, n)
    part = np.arange(n) % groups
    left = []
    for g in range(groups):
        kept = np.flatnonzero(part != g)
        left.append(frechet_distance(*(np.concatenate([side[i] for i in kept]) for side in (first, second))))
    spread = np.sqrt((groups - 1) / groups * np.square(np.array(left) - np.mean(left)).sum())
    return {"value": value, "low": value - 1.96 * spread, "high": value + 1.96 * spread, "n": n}


class StrikeAudio:
    """The embedding of our own Fréchet distance: AV-Sim's audio encoder on windows of a second, every half second.

    It is not VGGish: its numbers compare with each other and with no published ones.

    Args:
        model: whose audio encoder it is.

    Examples:
        >>> embed = StrikeAudio.from_pretrained()                          # doctest: +SKIP
        >>> embed(sound).shape                                             # doctest: +SKIP
        (5, 96)
    """

    def __init__(self, model: AudioVisualEmbedding) -> None:
        self.model = model.eval()

    @property
    def tag(self) -> str:
        """``strike-audio@`` and four digits of its weights."""
        from v2a_nb.hub import tag_of

        return tag_of(self.model.audio, "strike-audio")

    @torch.no_grad()
    def __call__(self, sound: Sound) -> np.ndarray:
        """Vectors float32 [W, D] of a sound; one shorter than a window has one.

        Raises:
            UsageError: under 25 ms.
        """
        starts = np.arange(0.0, max(sound.duration - WINDOW_S, 0.0) + 1e-6, HOP_S)
        parts = [sound.slice(s, min(sound.duration, s + WINDOW_S)) for s in starts]
        banks = torch.cat([self.model.audio.listen(part) for part in parts])
        return self.model.audio(banks).float().cpu().numpy()

    @classmethod
    def from_pretrained(cls, name: str | Path = "av_sim") -> StrikeAudio:
        """With the audio encoder of these weights of AV-Sim."""
        return cls(AudioVisualEmbedding.from_pretrained(name))
