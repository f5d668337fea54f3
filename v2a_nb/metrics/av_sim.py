"""AV-Sim: the cosine of picture and sound in the audio-visual embedding that Action2Sound trains (section 3.5)."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from v2a_nb.metrics.base import Metric, ScoredClip

if TYPE_CHECKING:
    from v2a_nb.models.av_embedding import AudioVisualEmbedding


class AvSimMetric(Metric):
    """Mean cosine over clips; that of shuffled sounds is what agreement by chance scores.

    Args:
        model: the embedding; left out, the shipped one.
    """

    def load_model(self) -> AudioVisualEmbedding:
        from v2a_nb.models.av_embedding import AudioVisualEmbedding

        return AudioVisualEmbedding.from_pretrained()

    @cached_property  # its tag is a digest of all weights, and every feature is named by it
    def extractor(self) -> str:
        from v2a_nb.hub import tag_of

        return tag_of(self.model, "av-sim")

    def score(self, clip: ScoredClip) -> float:
        picture = clip.feature("video", f"pictures of {self.extractor}", lambda: self.model.look(clip.video))
        sound = clip.feature("sound", f"sound of {self.extractor}", lambda: self.model.listen(clip.fitted_sound))
        return float(picture @ sound)
