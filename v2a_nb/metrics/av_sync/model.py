"""The classifier of AV-Sync: AV-Sim's two encoders, whose vectors side by side go through three linear layers.

- ``paper``: windows of 1.5 s, 16 pictures each; a clip of 3 s has two.
- ``tiny``: windows of 2.56 s, which is what AV-Sim's ``tiny`` encoders read at once.

The paper does not say how windows make a clip. Its code counts a clip as synchronous where *any* window is
(``halves="any"``), which squares the chance of rejecting a wrong one. Ours is the mean over windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.errors import UsageError
from v2a_nb.models import av_embedding as av_sim
from v2a_nb.models.audio_spectrogram_transformer import SAMPLE_RATE
from v2a_nb.models.av_embedding import AudioVisualEmbedding, AudioVisualEmbeddingConfig
from v2a_nb.models.video_encoders.strike import StrikeVision

RULES = ("mean", "any")
"""How the windows of a clip make its answer."""
RELEASED_CROP_S = 1.0
"""The released code crops every half of 1.5 s a second time, to 1.0 s to 2.5 s: 0.5 s are left, and zeros."""


@dataclass(frozen=True)
class AvSyncConfig:
    """Sizes and conventions of a classifier.

    Attributes:
        preset: ``"tiny"`` or ``"paper"``.
        encoders: AV-Sim's, whose ``video.seconds`` is the length of a window.
        layers: outputs of the first two linear layers; the third has one.
        halves: how windows make a clip: ``"mean"`` of their probabilities, or ``"any"``, as released.
        crop: the sound that is read: ``"whole"`` windows, or ``"released"``, their last half second.
    """

    preset: str = "tiny"
    encoders: AudioVisualEmbeddingConfig = field(default_factory=lambda: av_sim.PRESETS["tiny"])
    layers: tuple[int, int] = (1024, 512)
    halves: str = "mean"
    crop: str = "whole"

    def check(self) -> None:
        """Raise :class:`UsageError` for settings that fit no classifier."""
        if len(self.layers) != 2:
            raise UsageError(f"AV-Sync has three linear layers: give two widths, not {len(self.layers)}")
        for value, known in ((self.halves, RULES), (self.crop, ("whole", "released"))):
            if value not in known:
                raise UsageError(f"unknown {value!r}; there is {' and '.join(known)}")
        if self.encoders.audio.seconds > self.encoders.video.seconds + 1e-6:
            raise UsageError(
                f"{self.encoders.audio.seconds} s of sound do not belong to {self.encoders.video.seconds} s of pictures"
            )
        if self.crop == "released" and self.seconds <= RELEASED_CROP_S:
            raise UsageError(f"nothing of a window of {self.seconds} s is left after {RELEASED_CROP_S} s")

    @property
    def seconds(self) -> float:
        """Length of a window."""
        return self.encoders.video.seconds


_PAPER = av_sim.PRESETS["paper"]
PRESETS = {
    "tiny": AvSyncConfig(),
    "paper": AvSyncConfig("paper", replace(_PAPER, video=replace(_PAPER.video, fps=10.0))),
}


class AvSyncNet(nn.Module):
    """One logit of pictures and a filter bank; over 0 is synchronous."""

    def __init__(
        self,
        config: AvSyncConfig | None = None,
        encoders: AudioVisualEmbedding | None = None,
        frame_encoder: StrikeVision | None = None,
    ) -> None:
        """Build it.

        Args:
            config: sizes; left out, ``tiny``.
            encoders: to start from; left out, they are untrained.
            frame_encoder: that of the encoders, where these are left out; see :class:`AudioVisualEmbedding`.

        Raises:
            UsageError: settings that fit no classifier, or encoders of other sizes.
        """
        super().__init__()
        self.config = c = config or PRESETS["tiny"]
        c.check()
        if encoders is not None and encoders.config != c.encoders:
            raise UsageError("the encoders are of other sizes than the configuration says")
        self.encoders = AudioVisualEmbedding(
            c.encoders, encoders.frame_encoder if encoders is not None else frame_encoder
        )
        if encoders is not None:
            self.encoders.load_state_dict(encoders.state_dict())
        first, second = c.layers
        self.head = nn.Sequential(
            nn.Linear(2 * c.encoders.dim, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, 1)
        )

    def see(self, *windows: Tensor) -> Tensor:
        """Vectors [B, 256] of video windows as :meth:`AudioVisualEmbedding.windows` gives; not of unit length."""
        return self.encoders.vid_proj(self.encoders.video(*windows))

    def hear(self, bank: Tensor) -> Tensor:
        """Vectors [B, 256] of filter banks [B, T, bands] of whole windows; not of unit length."""
        if self.config.crop == "released":
            bank = bank[:, round(RELEASED_CROP_S * SAMPLE_RATE / self.config.encoders.audio.hop) :]
        return self.encoders.aud_proj(self.encoders.audio(bank))

    def judge(self, video: Tensor, sound: Tensor) -> Tensor:
        """Logits [B] of pairs of vectors [B, 256]."""
        return self.head(torch.cat([sound, video], dim=-1))[..., 0]

    def forward(self, windows: Sequence[Tensor], bank: Tensor) -> Tensor:
        """Logits [B] of pairs; see :meth:`see` and :meth:`hear`."""
        return self.judge(self.see(*windows), self.hear(bank))


def loss_of(logits: Tensor, label: Tensor, positive_weight: float = 1.0) -> Tensor:
    """Binary cross-entropy of logits [B] to labels [B] of 0 and 1. The released one weighs matched pairs by 2."""
    weight = logits.new_tensor(positive_weight)
    return F.binary_cross_entropy_with_logits(logits.float(), label.float(), pos_weight=weight)
