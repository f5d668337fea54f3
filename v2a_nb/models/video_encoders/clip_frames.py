"""CLIP's image encoder, frame by frame: what EgoSonics (section 3.1) and VTA-LDM (section 3.2) read.

EgoSonics' vectors are CLIP's, 30 a second, resized to the spectrogram's picture. Those of its ``tiny`` are the
tokens of :class:`~v2a_nb.models.video_encoders.strike.StrikeVision`, 50 a second out of 25 frames: the same stream that
V-AURA's decoder reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from v2a_nb.clip import Clip
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import Pretrained, load_weights, tag_of
from v2a_nb.models.video_encoders.frames import visible_at
from v2a_nb.models.video_encoders.preprocessing import CLIP_MEAN, CLIP_STD, Preprocessing
from v2a_nb.models.video_encoders.transformer_encoders import attention_weights, load_published, share_per_step
from v2a_nb.models.video_encoders.video_encoder import EncodesFrames, token_count

CLIP_ID = "openai/clip-vit-large-patch14"
EGOSONICS = {"rate": 30.0, "resize": "bicubic", "middle": False, "normalise": True}
BATCH = 32  # frames that go through CLIP at a time


class ClipFrames(EncodesFrames, Pretrained, nn.Module):
    """CLIP's image encoder, a vector for each frame; frozen.

    Args:
        model: a ``CLIPVisionModelWithProjection``.
        rate: frames a second; EgoSonics' 30.
        resize: ``"bicubic"``, as CLIP was trained, or ``"bilinear"``.
        middle: a token's frame is the one in the middle of its time. Otherwise it is the one at the start, as in
            EgoSonics and in the released VTA-LDM; at 2 tokens a second that is a quarter of a second early.
        normalise: subtract CLIP's mean, as it was trained. The released VTA-LDM does not.
    """

    kind, title = "clip-frames", "CLIP's image encoder"
    other_kinds = ("clip_vision_model", "clip")
    settings: ClassVar[tuple[str, ...]] = ("middle", "normalise")
    """Keywords of the class that ``config.json`` may hold."""
    model: Any  # a class of transformers, which makes its attributes as it runs

    def __init__(
        self,
        model: nn.Module,
        rate: float = 30.0,
        resize: str = "bicubic",
        middle: bool = False,
        normalise: bool = True,
    ) -> None:
        super().__init__()
        self.model, self.rate, self.resize = model.eval().requires_grad_(False), float(rate), resize
        self.middle, self.normalise = middle, normalise

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever what holds the encoder does: it is frozen."""
        return super().train(False)

    @property
    def dim(self) -> int:
        """Numbers in a vector; 768 for ViT-L/14."""
        return self.model.config.projection_dim

    @property
    def preprocessing(self) -> Preprocessing:
        """The settings of ``CLIPImageProcessor`` for this network."""
        size = self.model.config.image_size
        mean, std = (CLIP_MEAN, CLIP_STD) if self.normalise else ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        return Preprocessing(size, size, self.resize, mean, std)

    @property
    def config(self) -> dict[str, Any] | None:
        """Settings that the tag hangs on besides the weights; None for EgoSonics' own, whose tags are older."""
        settings = self._settings()
        return None if type(self) is ClipFrames and settings == EGOSONICS else settings

    def set_rate(self, rate: float) -> None:
        """Give so many vectors a second.

        Raises:
            UsageError: an impossible rate.
        """
        if not rate > 0:
            raise UsageError(f"{rate} tokens a second are impossible")
        self.rate = float(rate)

    @torch.no_grad()
    def features(self, clip: Clip) -> Tensor:
        """Vectors float32 [ceil(rate * duration), dim] of a clip of any size, frame rate and length.

        Frames are picked by their time, cropped to the middle square and normalised as CLIP was trained.
        """
        return torch.cat([self.model(pixel_values=pixels).image_embeds.float() for pixels in self._batches(clip)])

    @torch.no_grad()
    def attention(self, clip: Clip) -> Tensor:
        """Share of CLS's attention in the last layer that each patch gets, float32 [T, h, w]; the mean over heads.

        The shares of a frame sum to 1: what CLS gives to itself is left out.
        """
        shares = []
        for pixels in self._batches(clip):
            weights = attention_weights(self.model, pixel_values=pixels)[:, :, 0, 1:]
            shares.append(share_per_step(weights.mean(1), len(pixels)))
        return torch.cat(shares)

    def _batches(self, clip: Clip) -> Iterator[Tensor]:
        """The frames of all tokens as the network wants them: [n, 3, size, size] each, n up to :data:`BATCH`."""
        weight, count = next(self.model.parameters()), token_count(clip.duration, self.rate)
        source = clip if self.middle else clip.at_fps(self.rate)
        times = (np.arange(count) + 0.5 * self.middle) / self.rate
        for a in range(0, count, BATCH):
            yield self.preprocessing.pixels(visible_at(source, times[a : a + BATCH])).to(weight)

    @classmethod
    def from_hub(cls, name: str = CLIP_ID, rate: float = 30.0, revision: str | None = None) -> ClipFrames:
        """A published CLIP by its Hub id (1.7 GB, downloaded once), or a folder in transformers' layout.

        Raises:
            WeightsError: it cannot be had.
        """
        from transformers import CLIPVisionModelWithProjection

        return cls(load_published(CLIPVisionModelWithProjection, name, revision=revision), rate)

    def _network(self) -> nn.Module:
        return self.model

    def _settings(self) -> dict[str, Any]:
        """Settings by keyword."""
        return {"rate": self.rate, "resize": self.resize, "middle": self.middle, "normalise": self.normalise}

    def _told(self) -> dict[str, Any]:
        settings = self._settings() | {"clip": self.model.config.to_dict()}
        return json.loads(json.dumps(settings, default=str))  # a published configuration may hold types of torch

    @classmethod
    def _read(cls, path: Path, saved: dict[str, Any]) -> Self:
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        if "kind" not in saved:
            return cls(load_published(CLIPVisionModelWithProjection, path), middle=True)
        model = CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict(saved["clip"]))
        settings = {name: saved[name] for name in cls.settings if name in saved}
        encoder = cls(model, saved["rate"], saved.get("resize", "bilinear"), **settings)
        network = encoder._network()
        load_weights(network, path, optional=[k for k in network.state_dict() if k.endswith("position_ids")])
        return encoder


def check_encoder(encoder: nn.Module, tag: object, path: Path) -> None:
    """Refuse another frame encoder than the one that weights were trained with: its vectors mean something else.

    Args:
        encoder: the one that is there.
        tag: of the one that is wanted, ``name@`` and four digits; anything else is not compared.
        path: of the weights that need it.

    Raises:
        WeightsError: it is another one.
    """
    if not isinstance(tag, str) or not re.fullmatch(r".+@[0-9a-f]{4}", tag):
        return
    has = tag_of(encoder, tag.rpartition("@")[0])
    if has != tag:
        raise WeightsError(f"{path} was trained with the frame encoder {tag}, and the one it refers to is {has}")
