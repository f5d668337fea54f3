"""CLAP score: whether a sound is what a line of text says, by the cosine of both in CLAP's space (Wu et al. 2023).

The mean over clips of a cosine, -1 to 1; nothing is cut off at 0, and nothing is multiplied by 100. The checkpoint
makes the scale, so that values of two do not compare (:mod:`v2a_nb.metrics.extractors`):

- ``clap`` reads ``clap``, the checkpoint of frechet-audio-distance; ``clap[clap-general]`` is nearest to
  av-benchmark, whose own file (``music_speech_audioset_epoch_15_esc_89.98``) it is said to be converted from.
- ``clap_peak[clap-fused]`` is stable-audio-metrics': sounds have a peak of -1 dBFS and 16 bits.

Action2Sound's score is of a CLAP that was fine-tuned on Ego4D-Sounds, and its released code measures another model
(AST and DistilBERT) under that name: neither is public. A sound under 10 s is repeated as often as it fits and filled
with silence, as LAION-CLAP does it; of one that is longer the original reads a random part, here equal parts are read
and averaged.

A score alone says little: sounds of other clips (the control "shuffled") have the data set's own baseline, which is not
0. ``clap_r1`` says whether a sound is nearer to its own text than to all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from v2a_nb.clip import Sound
from v2a_nb.metrics.base import Metric, ScoredClip
from v2a_nb.metrics.extractors import load_extractor
from v2a_nb.metrics.statistics import share_interval

PEAK_DBFS = -1.0
"""Level to which ``clap_peak`` brings the largest sample of a sound."""


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    """The cosine of two vectors [D], -1 to 1.

    Examples:
        >>> cosine(np.array([1.0, 0.0]), np.array([3.0, 3.0])).__round__(6)
        0.707107
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))


class ClapScore(Metric):
    """Mean cosine of a sound, cut or filled to its clip's length, and of its clip's text.

    Args:
        model: the extractor of vectors of sounds and texts; left out, the published ``clap``.
    """

    def load_model(self) -> Any:
        return load_extractor("clap")

    def prepare(self, sound: Sound) -> Sound:
        """What the model reads of a sound; here, the sound."""
        return sound

    def vectors(self, clip: ScoredClip) -> tuple[np.ndarray, np.ndarray]:
        """Vectors [D] of the sound and of the text."""
        key = f"{type(self).prepare.__qualname__} {self.extractor}"
        sound = clip.feature("sound", key, lambda: self.model(self.prepare(clip.fitted_sound)).mean(0))
        return sound, clip.once_per_clip(f"text {self.extractor}", lambda: self.model.text(clip.text))

    def score(self, clip: ScoredClip) -> Any:
        return cosine(*self.vectors(clip))


class ClapScorePeak(ClapScore):
    """The same of sounds with a peak of -1 dBFS and 16 bits, as stable-audio-metrics has it; silence stays as it is."""

    def prepare(self, sound: Sound) -> Sound:
        if not sound.peak:
            return sound
        samples = sound.samples / sound.peak * 10 ** (PEAK_DBFS / 20)
        return Sound(np.round(samples * 32767) / 32767, sound.sample_rate, sound.layout)


class TextMatch(NamedTuple):
    """What :class:`ClapRecall` counts in a clip.

    Attributes:
        sound, text: unit vectors [D].
        line: the text.
    """

    sound: np.ndarray
    text: np.ndarray
    line: str


class ClapRecall(ClapScore):
    """Share of clips whose sound is at least as near to its own text as to that of every other clip (R@1).

    Clips with the same text share it. By chance, it is 1 over the number of texts.
    """

    per_clip = False

    def score(self, clip: ScoredClip) -> TextMatch:
        sound, text = (vector / np.linalg.norm(vector) for vector in self.vectors(clip))
        return TextMatch(sound, text, clip.text or "")

    def refusal(self, rows: Sequence[TextMatch]) -> str:
        return "" if len({row.line for row in rows}) > 1 else f"{len(rows)} clips have no two texts to choose from"

    def pool(self, rows: Sequence[TextMatch], name: str) -> float:
        return float(np.mean(self._found(rows))) if rows else float("nan")

    def count(self, rows: Sequence[TextMatch], name: str) -> int:
        return len(rows)

    def interval(self, rows: Sequence[TextMatch], recordings: Sequence[str], name: str) -> tuple[float, float]:
        return share_interval([(float(found), 1) for found in self._found(rows)], recordings)

    @staticmethod
    def _found(rows: Sequence[TextMatch]) -> np.ndarray:
        """Whether each sound is nearest to its own text, bool [N]."""
        scores = np.stack([row.sound for row in rows]) @ np.stack([row.text for row in rows]).T  # [sounds, texts]
        return np.diag(scores) >= scores.max(1) - 1e-6  # texts that are the same may differ in their last digits
