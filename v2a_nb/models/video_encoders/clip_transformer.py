"""The ``tiny`` clip encoder of Action2Sound: vectors of a frozen frame encoder become one vector a clip.

The paper's space-time transformer starts from EgoVLP, which has seen thousands of hours. One that starts from nothing
on pixels at 5 a second learns within minutes no more than what the room looks like. So ours reads the vectors of
:class:`~v2a_nb.models.video_encoders.strike.StrikeVision`, which knows when something is hit, and what. Ten of its
vectors, 0.2 s, make a token, so that the paper's 5 a second are kept and the timing inside of them as well. One more
token, a scene thumbnail, says what the place looks like, which an encoder of motion overlooks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.clip import Clip
from v2a_nb.errors import UsageError
from v2a_nb.models.video_encoders.divided_space_time import windows_of
from v2a_nb.models.video_encoders.frames import square
from v2a_nb.models.video_encoders.strike import StrikeVision

THUMBNAIL, THUMBNAIL_FPS = 8, 5.0
"""Pixels of a side of a scene thumbnail, and frames a second that it is the mean of."""


@dataclass(frozen=True)
class ClipTransformerConfig:
    """Sizes of :class:`ClipTransformer`.

    Attributes:
        seconds: of a window.
        fps: tokens a second.
        vector_dim, vector_rate: channels of the frame encoder's vectors, and vectors a second.
        encoder: its tag, such as ``"vision@0795"``: vectors of another one mean something else. Empty: not compared.
        squeeze: channels that each vector is brought to before those of a token are put side by side.
        dim, depth, heads, mlp: of the transformer; ``mlp`` is the hidden width.
    """

    seconds: float = 2.56
    fps: float = 5.0
    vector_dim: int = 384
    vector_rate: float = 50.0
    encoder: str = ""
    squeeze: int = 64
    dim: int = 128
    depth: int = 2
    heads: int = 4
    mlp: int = 256

    def check(self) -> None:
        """Raise :class:`UsageError` for sizes that fit no encoder."""
        each = self.vector_rate / self.fps if self.fps > 0 else 0.0
        if each < 1 or abs(each - round(each)) > 1e-6:
            raise UsageError(f"{self.vector_rate} vectors a second cannot be shared by {self.fps} tokens")
        if self.seconds * self.fps < 1:
            raise UsageError(f"a window of {self.seconds} s has no token at {self.fps} a second")
        if self.dim % self.heads:
            raise UsageError(f"{self.dim} channels cannot be shared by {self.heads} heads")

    @property
    def each(self) -> int:
        """Vectors in a token."""
        return round(self.vector_rate / self.fps)

    @property
    def count(self) -> int:
        """Tokens of a whole window."""
        return int(np.ceil(self.seconds * self.fps - 1e-6))


class ClipTransformer(nn.Module):
    """Vectors ``[B, T, 384]`` of a window and its thumbnail ``[B, 8, 8, 3]`` to CLS ``[B, dim]``.

    Raises:
        UsageError: sizes that fit no encoder.

    Examples:
        >>> ClipTransformer()(torch.rand(2, 128, 384), torch.rand(2, 8, 8, 3)).shape
        torch.Size([2, 128])
    """

    disk_names: ClassVar[dict[str, str]] = {"embed": "moment", "thumbnail": "place"}

    def __init__(self, config: ClipTransformerConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or ClipTransformerConfig()
        c.check()
        self.squeeze = nn.Linear(c.vector_dim, c.squeeze)
        self.embed = nn.Linear(c.each * c.squeeze, c.dim)
        self.thumbnail = nn.Linear(THUMBNAIL * THUMBNAIL * 3, c.dim)
        self.cls_token = nn.Parameter(torch.empty(1, 1, c.dim))
        self.temporal_embed = nn.Parameter(torch.empty(1, c.count, c.dim))
        for table in (self.cls_token, self.temporal_embed):
            nn.init.trunc_normal_(table, std=0.02)
        how = {"dropout": 0.0, "activation": "gelu", "batch_first": True, "norm_first": True}
        self.blocks = nn.Sequential(
            *(nn.TransformerEncoderLayer(c.dim, c.heads, c.mlp, **how) for _ in range(c.depth)), nn.LayerNorm(c.dim)
        )

    @property
    def dim(self) -> int:
        """Channels of a token."""
        return self.config.dim

    def tokens(self, vectors: Tensor, thumbnail: Tensor) -> tuple[Tensor, Tensor]:
        """CLS [B, dim] and one token for every 0.2 s [B, ceil(T / 10), dim], all after the last norm.

        Args:
            vectors: [B, T, 384], T up to a window's; a last token that is not full is filled with zeros.
            thumbnail: [B, 8, 8, 3], uint8, or floating point in [0, 1].

        Raises:
            UsageError: another shape, or too many vectors.
        """
        c = self.config
        most = round(c.seconds * c.vector_rate)
        if vectors.ndim != 3 or vectors.shape[2] != c.vector_dim or not 1 <= vectors.shape[1] <= most:
            raise UsageError(f"vectors must be [B, 1 to {most}, {c.vector_dim}], not {tuple(vectors.shape)}")
        if thumbnail.shape != (len(vectors), THUMBNAIL, THUMBNAIL, 3):
            raise UsageError(
                f"thumbnails must be [{len(vectors)}, {THUMBNAIL}, {THUMBNAIL}, 3], not {tuple(thumbnail.shape)}"
            )
        if not thumbnail.is_floating_point():
            thumbnail = thumbnail.to(self.cls_token.dtype) / 255
        small = F.pad(self.squeeze(vectors), (0, 0, 0, -vectors.shape[1] % c.each))
        tokens = self.embed(small.unflatten(1, (-1, c.each)).flatten(2))  # [B, T / 10, dim]
        tokens = tokens + self.temporal_embed[:, : tokens.shape[1]]
        scene = self.thumbnail(4 * (thumbnail - 0.5).flatten(1))[:, None]
        x = self.blocks(torch.cat([self.cls_token.expand(len(vectors), 1, c.dim), scene, tokens], dim=1))
        return x[:, 0], x[:, 2:]

    def forward(self, vectors: Tensor, thumbnail: Tensor) -> Tensor:
        """CLS [B, dim]; see :meth:`tokens`."""
        return self.tokens(vectors, thumbnail)[0]

    def per_frame(self, vectors: Tensor, thumbnail: Tensor) -> Tensor:
        """One vector for every 0.2 s [B, T, dim]: what the diffusion model is conditioned on (section 3.6)."""
        return self.tokens(vectors, thumbnail)[1]

    def windows(self, clip: Clip, frame_encoder: StrikeVision | None) -> tuple[Tensor, Tensor]:
        """What this network reads of a clip: vectors [W, T, 384] and thumbnails uint8 [W, 8, 8, 3].

        Windows of ``config.seconds`` lie side by side, and the last one ends where the clip ends. A shorter clip is
        one window with fewer vectors.

        Raises:
            UsageError: no frame encoder, or one that gives other vectors.
        """
        c, encoder = self.config, frame_encoder
        if encoder is None:
            raise UsageError("a clip cannot be read without the frozen frame encoder: load these weights whole")
        if (encoder.dim, encoder.rate) != (c.vector_dim, c.vector_rate):
            raise UsageError(
                f"the frame encoder gives {encoder.dim} channels at {encoder.rate:g} Hz, {c.vector_dim} at "
                f"{c.vector_rate:g} Hz are read"
            )
        vectors = encoder.features(clip)
        parts = windows_of(clip.duration, c.seconds)
        n = min(len(vectors), round(c.seconds * c.vector_rate))
        firsts = [min(round(start * c.vector_rate), len(vectors) - n) for start, _ in parts]
        scenes = [clip.slice(*part).at_fps(THUMBNAIL_FPS).frames for part in parts]
        thumbnails = np.stack([scene_thumbnail(frames, encoder.config.size) for frames in scenes])
        return torch.stack([vectors[a : a + n] for a in firsts]), torch.from_numpy(thumbnails).to(vectors.device)


def scene_thumbnail(pictures: np.ndarray, size: int = 64) -> np.ndarray:
    """The mean picture of a window, small: uint8 [T, H, W, 3] to [8, 8, 3].

    Args:
        pictures: cut to their middle square.
        size: pixels of a side that they are first brought to, a multiple of 8.
    """
    small = square(pictures, size).mean(0)  # [size, size, 3]
    step = size // THUMBNAIL
    return np.round(small.reshape(THUMBNAIL, step, THUMBNAIL, step, 3).mean((1, 3))).astype(np.uint8)
