"""An encoder that learned from sound, frame by frame: what CAVP is to Diff-Foley (Luo et al., 2024).

CAVP is a SlowOnly network trained contrastively with the sound of its video, in meaning and in time; it gives a vector
for each of 4 frames a second. Its weights are a pickle for classes of its own, which nothing here reads. What stands
for it is our own audio-visual embedding, trained with InfoNCE on recordings and their sounds
(:mod:`v2a_nb.models.av_embedding`): 5 vectors a second.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from v2a_nb.clip import Clip
from v2a_nb.models.av_embedding import AudioVisualEmbedding
from v2a_nb.models.video_encoders.video_encoder import EncodesFrames


class AudioVisualFrames(EncodesFrames, AudioVisualEmbedding):
    """The video half of an audio-visual embedding, frozen: a vector for each frame. Its folders are the embedding's."""

    def __init__(self, *args: Any, **how: Any) -> None:
        super().__init__(*args, **how)
        self.eval().requires_grad_(False)

    @property
    def dim(self) -> int:
        """Channels of a frame's vector, before the projection with which clips are compared."""
        return self.config.video.dim

    @property
    def rate(self) -> float:
        """Vectors a second."""
        return self.config.video.fps

    @torch.no_grad()
    def features(self, clip: Clip) -> Tensor:
        """Vectors float32 [ceil(rate * duration), dim] of a clip of any size, frame rate and length."""
        return self.per_frame(clip).float()
