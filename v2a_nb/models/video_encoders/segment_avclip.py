"""The visual tower of Segment AVCLIP (Iashin et al. 2024, section 2): pictures of 0.64 s to eight vectors.

It is a Motionformer with divided attention (ViT-B, tubelets of two frames), trained contrastively with the sound of
each segment. A transformer layer with a CLS token of its own then sums up the patches of each tubelet. V-AURA is
conditioned on the tower that was trained on VGGSound; the one that was trained on AudioSet is a part of Synchformer
(:mod:`v2a_nb.models.synchformer`), with which V-AURA is judged.

Written from the paper and the released layout: tensors have the released names. A published file also holds
``patch_embed.proj``, the patches of an image model, which nothing reads. :class:`SegmentAvclip` is the tower behind the
encoders' interface; ``v2a-nb train segment_avclip`` trains one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from v2a_nb.clip import Clip
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import Pretrained, read_published, reason
from v2a_nb.models.video_encoders.divided_space_time import DividedBlock
from v2a_nb.models.video_encoders.frames import visible_at
from v2a_nb.models.video_encoders.preprocessing import HALF, Preprocessing
from v2a_nb.models.video_encoders.video_encoder import EncodesFrames, token_count

FPS, SEGMENT, TUBELET = 25.0, 16, 2
"""Frames a second, frames of a segment and of a tubelet."""


@dataclass(frozen=True)
class SegmentConfig:
    """Sizes of a tower of Segment AVCLIP; the defaults are the published ones.

    Attributes:
        size, patch: pixels of a picture's side and of a patch's.
        dim, depth, heads, mlp: of the transformer; ``mlp`` is the hidden width.
    """

    size: int = 224
    patch: int = 16
    dim: int = 768
    depth: int = 12
    heads: int = 12
    mlp: int = 3072

    def check(self) -> None:
        """Raise :class:`UsageError` for sizes that fit no tower."""
        if self.size % self.patch:
            raise UsageError(f"{self.size} pixels cannot be cut into patches of {self.patch}")
        if self.dim % self.heads:
            raise UsageError(f"{self.dim} channels cannot be shared by {self.heads} heads")


class Summary(nn.TransformerEncoderLayer):
    """A transformer layer that sums tokens [B, N, D] up in its CLS token [B, D]; the order of tokens does not count."""

    def __init__(self, dim: int, heads: int, mlp: int) -> None:
        how = {"dropout": 0.0, "activation": "gelu", "batch_first": True, "norm_first": True, "layer_norm_eps": 1e-6}
        super().__init__(dim, heads, mlp, **how)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]  # there is no mask
        return super().forward(torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1))[:, 0]


class SegmentVideoTower(nn.Module):
    """Segments ``[B, 16, 3, size, size]`` to vectors ``[B, 8, dim]``, one for each 0.08 s.

    Raises:
        UsageError: sizes that fit no tower.

    Examples:
        >>> small = SegmentConfig(size=32, dim=48, depth=1, heads=3, mlp=96)
        >>> SegmentVideoTower(small)(torch.rand(2, 16, 3, 32, 32)).shape
        torch.Size([2, 8, 48])
    """

    def __init__(self, config: SegmentConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or SegmentConfig()
        c.check()
        kernel = (TUBELET, c.patch, c.patch)
        self.patch_embed_3d = nn.ModuleDict({"proj": nn.Conv3d(3, c.dim, kernel, stride=kernel)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, c.dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, (c.size // c.patch) ** 2 + 1, c.dim))
        self.temp_embed = nn.Parameter(torch.zeros(1, SEGMENT // TUBELET, c.dim))
        self.blocks = nn.ModuleList(
            DividedBlock(c.dim, c.heads, c.mlp, zeros=True, keep_time=True) for _ in range(c.depth)
        )
        self.norm = nn.LayerNorm(c.dim, eps=1e-6)
        self.spatial_attn_agg = Summary(c.dim, c.heads, c.mlp)
        for table in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(table, std=0.02)

    def forward(self, segments: Tensor) -> Tensor:
        """Vectors [B, 8, dim].

        Args:
            segments: [B, 16, 3, size, size] at 25 fps, each channel from -1 to 1.

        Raises:
            UsageError: another shape.
        """
        c = self.config
        if segments.ndim != 5 or segments.shape[1:] != (SEGMENT, 3, c.size, c.size):
            raise UsageError(f"segments must be [B, {SEGMENT}, 3, {c.size}, {c.size}], not {tuple(segments.shape)}")
        patches = self.patch_embed_3d["proj"](segments.transpose(1, 2))  # [B, dim, 8, side, side]
        steps = patches.shape[2]
        patches = patches.flatten(3).permute(0, 2, 3, 1)  # [B, 8, N, dim]
        patches = patches + self.pos_embed[:, None, 1:] + self.temp_embed[:, :, None]
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(patches), -1, -1)
        x = torch.cat([first, patches.flatten(1, 2)], dim=1)  # [B, 1 + 8 N, dim]
        for block in self.blocks:
            x = block(x, steps)
        x = self.norm(x[:, 1:]).unflatten(1, (steps, -1))
        return self.spatial_attn_agg(x.flatten(0, 1)).unflatten(0, (-1, steps))


PREFIXES = ("module.v_encoder.", "v_encoder.", "vfeat_extractor.")
"""Where the tower lies in a published file: of Segment AVCLIP as trained, as unwrapped, and of Synchformer."""
AT_ONCE = 2
"""Segments that are worked on at a time; one needs 0.1 GB at full size."""


class SegmentAvclip(EncodesFrames, Pretrained, nn.Module):
    """The tower as a frozen video encoder: 12.5 tokens a second, as V-AURA reads them (section III-A).

    Segments of 0.64 s lie side by side. Tokens of one segment know all of it, up to 0.56 s ahead. A last segment that
    the clip does not fill is filled with its last frame, and the tokens of what was filled are left out.

    Examples:
        >>> from v2a_nb.models.video_encoders.registry import small
        >>> small("segment_avclip").encode(clip.frames, fps=25.0).shape  # of 2.56 s
        torch.Size([32, 32])
    """

    kind, title = "segment-avclip", "the visual tower of Segment AVCLIP"
    config_class, rate = SegmentConfig, FPS / TUBELET

    def __init__(self, config: SegmentConfig | None = None, tower: SegmentVideoTower | None = None) -> None:
        super().__init__()
        self.tower = tower or SegmentVideoTower(config)
        self.tower.eval().requires_grad_(False)

    @property
    def config(self) -> SegmentConfig:
        """Sizes of the tower."""
        return self.tower.config

    @property
    def dim(self) -> int:
        """Channels of a token."""
        return self.config.dim

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever what holds the encoder does: it is frozen."""
        return super().train(False)

    @torch.no_grad()
    def features(self, clip: Clip) -> Tensor:
        """Tokens float32 [ceil(12.5 * duration), dim] of a clip of any size, frame rate and length."""
        count = token_count(clip.duration, self.rate)
        frames = -(-count * TUBELET // SEGMENT) * SEGMENT
        shown = visible_at(clip, np.arange(frames) / FPS)  # as a video of 25 frames a second has them
        weight = self.tower.cls_token
        tokens = []
        for first in range(0, frames, AT_ONCE * SEGMENT):
            pixels = segment_pixels(shown[first : first + AT_ONCE * SEGMENT], self.config.size).to(weight)
            tokens.append(self.tower(pixels.unflatten(0, (-1, SEGMENT))).flatten(0, 1).float())
        return torch.cat(tokens)[:count]

    def _network(self) -> nn.Module:
        return self.tower

    @classmethod
    def from_file(cls, path: str | Path, config: SegmentConfig | None = None) -> Self:
        """The encoder with published weights.

        Args:
            path: of safetensors with the published names, of Segment AVCLIP or of Synchformer, or of a folder with one
                such file. Other towers in it are left aside.
            config: left out, the published sizes.

        Raises:
            WeightsError: there is no such file, or it holds no such tower.
        """
        state = read_published(path, cls.title)
        prefix = next((p for p in PREFIXES if any(name.startswith(p) for name in state)), "")
        own = {name.removeprefix(prefix): x.float() for name, x in state.items() if name.startswith(prefix)}
        own = {name: x for name, x in own.items() if not name.startswith("patch_embed.proj.")}
        tower = SegmentVideoTower(config)
        try:
            tower.load_state_dict(own)
        except RuntimeError as error:
            raise WeightsError(f"{path}: these are no weights of {cls.title}: {reason(error)}") from error
        return cls(tower=tower)


def segment_pixels(frames: np.ndarray, size: int) -> Tensor:
    """What the tower reads, float32 [n, 3, size, size] from -1 to 1, of frames uint8 [n, height, width, 3].

    The short side is brought to 256 pixels for a tower of 224, and the middle is cut out.
    """
    return Preprocessing(size, round(size * 256 / 224), "bicubic", HALF, HALF).pixels(frames)
