"""Video as a picture: one vector per frame, stacked as columns (EgoSonics, section 3.1).

The paper's vectors are CLIP's, 30 a second, resized to the spectrogram's picture. Those of ``tiny`` are the
tokens of :class:`~v2a_nb.models.video_encoders.strike.StrikeVision`, 50 a second out of 25 frames: the same stream that
V-AURA's decoder reads.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from v2a_nb.clip import Clip
from v2a_nb.errors import WeightsError
from v2a_nb.hub import Pretrained, load_one_of, load_weights, reason, tag_of
from v2a_nb.models.video_encoders.frames import square

CLIP_ID = "openai/clip-vit-large-patch14"
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
BATCH = 32  # frames that go through CLIP at a time


class ClipFrames(Pretrained, nn.Module):
    """CLIP's image encoder, a vector for each frame; frozen. The interface of ``StrikeVision``.

    Args:
        model: a ``CLIPVisionModelWithProjection``.
        rate: frames a second; the paper's 30.
        resize: ``"bicubic"``, as CLIP was trained, or ``"bilinear"``.
    """

    kind, title = "clip-frames", "CLIP's image encoder"

    def __init__(self, model: nn.Module, rate: float = 30.0, resize: str = "bicubic") -> None:
        super().__init__()
        self.model, self.rate, self.resize = model.eval().requires_grad_(False), float(rate), resize

    @property
    def dim(self) -> int:
        """Numbers in a vector; 768 for ViT-L/14."""
        return self.model.config.projection_dim

    @torch.no_grad()
    def features(self, clip: Clip) -> Tensor:
        """Vectors [ceil(rate * duration), dim] of a clip of any size, frame rate and length.

        Frames are picked by their time, cropped to the middle square and normalised as CLIP was trained.
        """
        size = self.model.config.image_size
        picked = clip.at_fps(self.rate)
        weight = next(self.model.parameters())
        mean, std = (torch.tensor(v)[:, None, None] for v in (CLIP_MEAN, CLIP_STD))
        vectors = []
        for a in range(0, picked.n, BATCH):
            pixels = torch.from_numpy(square(picked.frames[a : a + BATCH], size, resize=self.resize).copy())
            pixels = (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std  # [n, 3, size, size]
            vectors.append(self.model(pixel_values=pixels.to(weight)).image_embeds.float())
        return torch.cat(vectors)

    @classmethod
    def from_hub(cls, name: str = CLIP_ID, rate: float = 30.0, revision: str | None = None) -> ClipFrames:
        """A published CLIP by its Hub id (1.7 GB, downloaded once), or a folder in transformers' layout.

        Raises:
            WeightsError: it cannot be had.
        """
        from transformers import CLIPVisionModelWithProjection

        try:
            model = CLIPVisionModelWithProjection.from_pretrained(name, revision=revision, use_safetensors=True)
        except (OSError, ValueError) as error:
            raise WeightsError(f"{name}: no CLIP there: {reason(error)}") from error
        return cls(model, rate)

    def _network(self) -> nn.Module:
        return self.model

    def _told(self) -> dict[str, Any]:
        settings = {"rate": self.rate, "resize": self.resize, "clip": self.model.config.to_dict()}
        return json.loads(json.dumps(settings, default=str))  # a published configuration may hold types of torch

    @classmethod
    def _read(cls, path: Path, saved: dict[str, Any]) -> ClipFrames:
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        model = CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict(saved["clip"]))
        load_weights(model, path, optional=[k for k in model.state_dict() if k.endswith("position_ids")])
        return cls(model, saved["rate"], saved.get("resize", "bilinear"))


def load_frame_encoder(name: str | Path) -> nn.Module:
    """A frame encoder of either kind: CLIP's or our own.

    Raises:
        WeightsError: no such weights, or weights of another kind.
    """
    from v2a_nb.models.video_encoders.strike import StrikeVision

    return load_one_of(name, "a frame encoder", ClipFrames, StrikeVision)


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
