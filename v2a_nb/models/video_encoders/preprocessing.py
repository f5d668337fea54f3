"""Frames as a published encoder wants them: resized, cropped and normalised as the library's own processor does it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from v2a_nb.errors import UsageError
from v2a_nb.models.video_encoders.frames import RESAMPLING

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
_RESAMPLING_NUMBERS = {2: "bilinear", 3: "bicubic"}
"""Numbers that PIL has for its filters, with which ``preprocessor_config.json`` names them."""


@dataclass(frozen=True)
class Preprocessing:
    """Settings of an image or video processor.

    The shorter side is brought to ``short_side``, the middle of ``crop`` x ``crop`` pixels is cut out, and a pixel
    becomes ``(pixel * scale + offset - mean) / std``.

    Attributes:
        crop: pixels of a side that the network reads.
        short_side: pixels of the shorter side before the cut, at least ``crop``. 0: nothing is cut, and the whole
            picture is squashed to a square.
        resize: ``"bilinear"`` or ``"bicubic"``, both with antialiasing.
        mean, std: of the three channels.
        scale, offset: what a pixel of 0 to 255 is multiplied with, and what is added then.
    """

    crop: int = 224
    short_side: int = 224
    resize: str = "bicubic"
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    scale: float = 1 / 255
    offset: float = 0.0

    def check(self) -> None:
        """Raise :class:`UsageError` for settings that give no picture."""
        if self.crop < 1 or 0 < self.short_side < self.crop:
            raise UsageError(f"{self.crop} pixels cannot be cut out of {self.short_side}")
        if self.resize not in RESAMPLING:
            raise UsageError(f"resize must be one of {', '.join(RESAMPLING)}, not {self.resize!r}")

    def resized(self, frames: np.ndarray) -> np.ndarray:
        """Squares uint8 [n, crop, crop, 3] of frames uint8 [n, height, width, 3]."""
        from PIL import Image

        height, width = frames.shape[1:3]
        if self.short_side == 0:
            rows = columns = self.crop
        elif height <= width:
            rows, columns = self.short_side, int(self.short_side * width / height)
        else:
            rows, columns = int(self.short_side * height / width), self.short_side
        top, left = (rows - self.crop) // 2, (columns - self.crop) // 2
        out = np.empty((len(frames), self.crop, self.crop, 3), np.uint8)
        for i, frame in enumerate(frames):
            if (height, width) != (rows, columns):
                frame = np.asarray(
                    Image.fromarray(frame).resize((columns, rows), Image.Resampling[self.resize.upper()])
                )
            out[i] = frame[top : top + self.crop, left : left + self.crop]
        return out

    def pixels(self, frames: np.ndarray) -> Tensor:
        """What the network reads, float32 [n, 3, crop, crop], of frames uint8 [n, height, width, 3]."""
        values = torch.from_numpy(self.resized(frames)).permute(0, 3, 1, 2).float()
        mean, std = (torch.tensor(each)[:, None, None] for each in (self.mean, self.std))
        return (values * self.scale + self.offset - mean) / std

    def as_published(self, saved: Mapping[str, Any]) -> Preprocessing:
        """These settings with what a ``preprocessor_config.json`` says in their stead.

        Args:
            saved: in the layout of ``transformers``: ``size``, ``crop_size``, ``resample``, ``image_mean`` and so on.
        """
        crop = saved["crop_size"] if saved.get("do_center_crop", True) and saved.get("crop_size") else None
        crop = crop.get("height") if isinstance(crop, Mapping) else crop
        size = saved.get("size", self.short_side)
        short_side = size.get("shortest_edge", 0) if isinstance(size, Mapping) else size
        if isinstance(size, Mapping) and short_side == 0:
            crop = size.get("height", crop)
        scale = saved.get("rescale_factor", self.scale) if saved.get("do_rescale", True) else 1.0
        # a published ViViT names the switch, and its processor has it on where it is not named
        offset = self.offset if saved.get("offset", True) else 0.0
        normalise = saved.get("do_normalize", True)
        return replace(
            self,
            crop=int(crop or self.crop),
            short_side=int(short_side),
            resize=_RESAMPLING_NUMBERS.get(saved.get("resample", 0), self.resize),
            mean=tuple(saved.get("image_mean", self.mean)) if normalise else (0.0, 0.0, 0.0),
            std=tuple(saved.get("image_std", self.std)) if normalise else (1.0, 1.0, 1.0),
            scale=scale,
            offset=offset,
        )

    def of_folder(self, folder: Path) -> Preprocessing:
        """:meth:`as_published` of a folder of published weights; these settings where it does not say its own."""
        for name in ("video_preprocessor_config.json", "preprocessor_config.json"):
            if (folder / name).is_file():
                return self.as_published(json.loads((folder / name).read_text(encoding="utf-8")))
        return self
