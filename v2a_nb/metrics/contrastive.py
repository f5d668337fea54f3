"""A CAVP-style score (VTA-LDM, section 5.1): the cosine of pictures and sound in a space that both were trained for.

VTA-LDM reports CAVP between 0.76 and 0.81, with 0.813 for true sounds, and gives no formula; so narrow a range is that
of a mean cosine of Diff-Foley's CAVP on windows of 4 s. CAVP's weights are a pickle for classes of its own, which
nothing here reads: the score has a name of its own, and names its extractor.

It differs from ``av_sim`` where clips are longer than a window: there the cosine is of mean vectors over the whole
clip, here it is the mean of the windows' own cosines, so that a sound must fit its own 4 s. Nothing in a cosine says
what a good value is: read it beside the controls "reference" and "shuffled".
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from v2a_nb.clip import Clip, Sound
from v2a_nb.metrics.base import Metric, ScoredClip
from v2a_nb.metrics.embeddings import windows_of
from v2a_nb.metrics.extractors import load_extractor

if TYPE_CHECKING:
    from v2a_nb.models.av_embedding import AudioVisualEmbedding

WINDOW_S = 4.0
"""Windows are equal parts of a clip, and no longer than CAVP's."""


class CavpStyle(Metric):
    """Mean over clips of the mean cosine over windows, -1 to 1.

    Args:
        model: the extractor of pairs; left out, AV-Sim.
    """

    def load_model(self) -> Any:
        return load_extractor("av-sim")

    def score(self, clip: ScoredClip) -> float:
        pictures = clip.feature("video", f"windows of {self.extractor}, cavp style", lambda: self._look(clip.video))
        parts = np.linspace(0.0, clip.duration, len(pictures) + 1)
        sound = clip.fitted_sound
        heard = np.stack([self.model.listen(sound.slice(a, b)) for a, b in pairwise(parts)])
        norms = np.linalg.norm(pictures, axis=1) * np.linalg.norm(heard, axis=1)
        return float(((pictures * heard).sum(1) / norms).mean())

    def _look(self, video: Clip) -> np.ndarray:
        """Vectors [W, D] of a clip's windows."""
        count = max(1, int(np.ceil(video.duration / WINDOW_S - 1e-6)))
        parts = np.linspace(0.0, video.duration, count + 1)
        return np.stack([self.model.look(video.slice(a, b)) for a, b in pairwise(parts)])


class PamStyle(Metric):
    """A PAM-style score (Deshmukh et al. 2024): how much nearer a sound is to "clear" than to "noisy", 0 to 1.

    The share that a softmax of CLAP's own scale gives to the first of two texts, the mean over windows of 7 s, the last
    of which ends where the sound ends. It needs nothing but the sound, and knows nothing of the picture.

    Published PAM reads Microsoft's CLAP of 2023 and its scale, which make the number: a cosine of 0.30 against 0.20 is
    0.965 at a scale of 33.3 and 0.807 at 14.3. This one reads LAION's, has a name of its own, and compares with itself.

    Args:
        model: the extractor of sounds and texts; left out, the published ``clap``.
    """

    def load_model(self) -> Any:
        return load_extractor("clap")

    def score(self, clip: ScoredClip) -> float:
        sound = clip.sound
        assert sound is not None
        texts = np.stack([self.model.text(line) for line in PROMPTS])
        return float(np.mean([pam(self.model(part).mean(0), texts, self.model.scale) for part in chunks(sound)]))


PROMPTS = ("the sound is clear and clean.", "the sound is noisy and with artifacts.")
"""PAM's texts, the good one first."""
CHUNK_S = 7.0


def chunks(sound: Sound, seconds: float = CHUNK_S) -> list[Sound]:
    """Windows of a sound, one after the other; the last one ends where the sound ends, and may overlap the one before.

    Raises:
        UsageError: a sound without samples.

    Examples:
        >>> [part.duration for part in chunks(Sound(np.ones(160), 10))]  # 16 s
        [7.0, 7.0, 7.0]
        >>> chunks(Sound(np.ones(20), 10))[0].duration
        2.0
    """
    if sound.duration <= seconds + 1e-6:
        return windows_of(sound, seconds, seconds)
    starts = [float(s) for s in np.arange(0.0, sound.duration - seconds - 1e-6, seconds)]
    return [sound.slice(s, s + seconds) for s in [*starts, sound.duration - seconds]]


def pam(sound: np.ndarray, texts: np.ndarray, scale: float) -> float:
    """The share of the first text: softmax of ``scale`` times the cosines of a vector [D] with those [2, D].

    Examples:
        >>> round(pam(np.array([0.3, 0.2]), np.eye(2), 33.3 * 0.13**0.5), 4)  # cosines of 0.30 and 0.20
        0.9654
    """
    sound, texts = np.asarray(sound, np.float64), np.asarray(texts, np.float64)
    cosines = texts @ sound / (np.linalg.norm(texts, axis=1) * np.linalg.norm(sound))
    return float(1 / (1 + np.exp(scale * (cosines[1] - cosines[0]))))


class AvSimPairs:
    """AV-Sim as an extractor of pairs: a unit vector of pictures, and one of a sound, in one space.

    Args:
        model: the embedding.
    """

    def __init__(self, model: AudioVisualEmbedding) -> None:
        from v2a_nb.hub import tag_of

        self.model = model.eval()
        self.look, self.listen = model.look, model.listen
        self.tag = tag_of(model, "av-sim")

    @classmethod
    def from_pretrained(cls, name: str | Path = "av_sim") -> AvSimPairs:
        """With these weights of AV-Sim."""
        from v2a_nb.models.av_embedding import AudioVisualEmbedding

        return cls(AudioVisualEmbedding.from_pretrained(name))
