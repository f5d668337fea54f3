"""The space-time transformer of Action2Sound (section 3.5): frames at 5 a second to a vector, or one per frame.

Divided attention as in Frozen in Time (Bain et al., 2021), whose video encoder EgoVLP and Action2Sound share:
a patch attends to its own place at all times, then to all patches of its own time, and to CLS in both; CLS
attends to everything. What the attention over space gives is added to the block's *input*: the attention over
time acts through it alone. The released code calls this TimeSformer, but the original adds the time
attention as a residual of its own, so weights of ``transformers``' ``TimesformerModel`` do not fit.

Its defaults are the paper's, ViT-B/16 on 16 frames of 224 pixels. Parameters have the names of the released
``ldm/models/video_transformer.py``, so that published weights load. ``tiny`` has another encoder,
:mod:`v2a_nb.models.video_encoders.clip_transformer`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.clip import Clip
from v2a_nb.errors import UsageError
from v2a_nb.hub import later
from v2a_nb.models.video_encoders.frames import check_fit_and_resize, square

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet, with which the released loader normalises."""


@dataclass(frozen=True)
class DividedSpaceTimeConfig:
    """Sizes of :class:`DividedSpaceTimeViT`.

    Attributes:
        size: pixels of a side.
        patch: pixels of a patch's side, 16 in the paper.
        frames: most frames that are read at once.
        fps: of the frames that are picked from a clip.
        dim, depth, heads, mlp: of the transformer; ``mlp`` is the hidden width.
        time_init: ``"zeros"`` as published, where a ViT is inflated and must first act as it did, or ``"random"``
            for training from nothing.
        sampling: ``"fps"``, frames at multiples of 1 / fps; or ``"released"``, the loader's ``frames`` indices
            spread evenly over the whole clip, however long it is.
        fit, resize: how pictures become square, see :func:`~v2a_nb.models.video_encoders.frames.square`. Action2Sound
            released ``"squash"`` and ``"bicubic"``.
    """

    size: int = 224
    patch: int = 16
    frames: int = 16
    fps: float = 5.0
    dim: int = 768
    depth: int = 12
    heads: int = 12
    mlp: int = 3072
    time_init: str = "zeros"
    sampling: str = "fps"
    fit: str = later("crop")
    resize: str = later("bilinear")

    def check(self) -> None:
        """Raise :class:`UsageError` for sizes that fit no encoder."""
        if self.size % self.patch:
            raise UsageError(f"{self.size} pixels cannot be cut into patches of {self.patch}")
        if self.dim % self.heads:
            raise UsageError(f"{self.dim} channels cannot be shared by {self.heads} heads")
        if self.frames < 1 or self.fps <= 0:
            raise UsageError(f"{self.frames} frames at {self.fps} a second are impossible")
        for value, known in ((self.time_init, ("zeros", "random")), (self.sampling, ("fps", "released"))):
            if value not in known:
                raise UsageError(f"unknown {value!r}; there is {' and '.join(known)}")
        check_fit_and_resize(self.fit, self.resize)

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.size // self.patch

    @property
    def seconds(self) -> float:
        """From the first frame to the last: 3 s in the paper."""
        return (self.frames - 1) / self.fps

    def frames_of(self, seconds: float) -> int:
        """Frames of so much of a clip: one at its start, then one every 1 / fps, and no more than are read."""
        return min(self.frames, int(seconds * self.fps + 1e-6) + 1)


class _Patches(nn.Module):
    """[N, 3, side, side] to patches [N, grid * grid, dim]."""

    def __init__(self, c: DividedSpaceTimeConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, c.dim, c.patch, stride=c.patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class DividedAttention(nn.Module):
    """Attention of tokens [B, 1 + F N, D], CLS first, then patches frame by frame."""

    def __init__(self, dim: int, heads: int, zeros: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        if zeros:  # gives exactly zero, and still learns: its way out is not zero
            for value, tensor in ((0, self.qkv.weight), (0, self.qkv.bias), (1, self.proj.weight), (0, self.proj.bias)):
                nn.init.constant_(tensor, value)

    def forward(self, x: Tensor, frames: int, over_time: bool) -> Tensor:
        b, n, d = x.shape
        h, places = self.heads, (n - 1) // frames
        q, k, v = self.qkv(x).view(b, n, 3, h, d // h).permute(2, 0, 3, 1, 4)  # [B, h, 1 + F N, D / h] each
        first = F.scaled_dot_product_attention(q[:, :, :1], k, v)

        def grouped(z: Tensor) -> Tensor:
            """[B groups, h, length, D / h]: one group per place, or per frame."""
            z = z[:, :, 1:].reshape(b, h, frames, places, d // h)
            z = z.permute(0, 3, 1, 2, 4) if over_time else z.permute(0, 2, 1, 3, 4)
            return z.flatten(0, 1)

        groups = places if over_time else frames
        k, v = (
            torch.cat([z[:, None, :, :1].expand(b, groups, h, 1, d // h).flatten(0, 1), grouped(z)], dim=2)
            for z in (k, v)
        )
        rest = F.scaled_dot_product_attention(grouped(q), k, v)
        rest = rest.view(b, groups, h, -1, d // h)
        rest = rest.permute(0, 2, 3, 1, 4) if over_time else rest.permute(0, 2, 1, 3, 4)
        out = torch.cat([first, rest.reshape(b, h, n - 1, d // h)], dim=2)
        return self.proj(out.transpose(1, 2).reshape(b, n, d))


class _Mlp(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class DividedBlock(nn.Module):
    """A block of tokens [B, 1 + F N, D]: attention over time, over space, then an MLP.

    Args:
        dim, heads, mlp: width, attention heads and hidden width.
        zeros: whether the attention over time starts at zero.
        keep_time: whether what it gives stays in the block's output, as in Motionformer. In Frozen in Time it acts
            through the attention over space alone.
    """

    def __init__(self, dim: int, heads: int, mlp: int, *, zeros: bool = False, keep_time: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = DividedAttention(dim, heads)
        self.timeattn = DividedAttention(dim, heads, zeros=zeros)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = _Mlp(dim, mlp)
        self.norm3 = nn.LayerNorm(dim, eps=1e-6)
        self.keep_time = keep_time

    def forward(self, x: Tensor, frames: int) -> Tensor:
        timed = x + self.timeattn(self.norm3(x), frames, over_time=True)
        x = (timed if self.keep_time else x) + self.attn(self.norm1(timed), frames, over_time=False)
        return x + self.mlp(self.norm2(x))


class DividedSpaceTimeViT(nn.Module):
    """Frames ``[B, T, 3, size, size]`` to CLS ``[B, dim]``; see the top of the file.

    Raises:
        UsageError: sizes that fit no encoder.

    Examples:
        >>> small = DividedSpaceTimeConfig(size=32, dim=64, depth=2, heads=4, mlp=128)
        >>> DividedSpaceTimeViT(small)(torch.rand(2, 16, 3, 32, 32)).shape
        torch.Size([2, 64])
    """

    def __init__(self, config: DividedSpaceTimeConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or DividedSpaceTimeConfig()
        c.check()
        self.patch_embed = _Patches(c)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, c.dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, c.grid**2 + 1, c.dim))
        self.temporal_embed = nn.Parameter(torch.zeros(1, c.frames, c.dim))
        self.blocks = nn.ModuleList(
            DividedBlock(c.dim, c.heads, c.mlp, zeros=c.time_init == "zeros") for _ in range(c.depth)
        )
        self.norm = nn.LayerNorm(c.dim, eps=1e-6)
        for table in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(table, std=0.02)
        if c.time_init == "random":
            nn.init.trunc_normal_(self.temporal_embed, std=0.02)
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION)[:, None, None], persistent=False)

    @property
    def dim(self) -> int:
        """Channels of a token."""
        return self.config.dim

    def tokens(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """CLS [B, dim] and patches [B, T, grid * grid, dim], both after the last norm.

        Args:
            frames: [B, T, 3, size, size], uint8, or floating point in [0, 1]; T up to ``config.frames``.

        Raises:
            UsageError: another shape, or too many frames.
        """
        c = self.config
        if frames.ndim != 5 or frames.shape[2:] != (3, c.size, c.size) or not 1 <= frames.shape[1] <= c.frames:
            raise UsageError(f"frames must be [B, 1 to {c.frames}, 3, {c.size}, {c.size}], not {tuple(frames.shape)}")
        b, t = frames.shape[:2]
        if not frames.is_floating_point():
            frames = frames.to(self.mean.dtype) / 255
        frames = (frames - self.mean) / self.deviation
        patches = self.patch_embed(frames.flatten(0, 1)).view(b, t, -1, c.dim)
        patches = patches + self.pos_embed[:, None, 1:] + self.temporal_embed[:, :t, None]
        first = (self.cls_token + self.pos_embed[:, :1]).expand(b, 1, c.dim)
        x = torch.cat([first, patches.flatten(1, 2)], dim=1)  # [B, 1 + T N, dim]
        for block in self.blocks:
            x = block(x, t)
        x = self.norm(x)
        return x[:, 0], x[:, 1:].view(b, t, -1, c.dim)

    def forward(self, frames: Tensor) -> Tensor:
        """CLS [B, dim]; see :meth:`tokens`."""
        return self.tokens(frames)[0]

    def per_frame(self, frames: Tensor, pool: str = "max") -> Tensor:
        """One vector per frame [B, T, dim]: what the diffusion model is conditioned on (section 3.6).

        Args:
            frames: as for :meth:`tokens`.
            pool: over a frame's patches: ``"max"``, as the released README trains, or ``"mean"``, the released
                code's default.

        Raises:
            UsageError: an unknown pool, or frames of another shape.
        """
        if pool not in ("max", "mean"):
            raise UsageError(f"unknown pool {pool!r}; there is max and mean")
        patches = self.tokens(frames)[1]
        return patches.amax(2) if pool == "max" else patches.mean(2)

    def pixels(self, clip: Clip) -> Tensor:
        """A clip's frames as this network wants them: uint8 [W, T, 3, size, size].

        Windows of ``config.seconds`` lie side by side, and the last one ends where the clip ends. A shorter clip
        is one window with fewer frames.
        """
        c = self.config
        shown = []
        for start, stop in windows_of(clip.duration, c.seconds):
            if c.sampling == "released":
                inside = np.flatnonzero((clip.times >= start - 1e-6) & (clip.times < stop - 1e-6))
                which = inside[np.linspace(0, len(inside) - 1, c.frames).astype(int)]
            else:
                times = start + np.arange(c.frames_of(stop - start)) / c.fps
                which = np.searchsorted(clip.times, times + 1e-4, side="right") - 1
            shown.append(square(clip.frames[np.clip(which, 0, clip.n - 1)], c.size, fit=c.fit, resize=c.resize))
        pixels = torch.from_numpy(np.stack(shown)).permute(0, 1, 4, 2, 3)  # [W, T, 3, size, size]
        return pixels.to(self.pos_embed.device)


def windows_of(duration: float, seconds: float) -> list[tuple[float, float]]:
    """(start, stop) of windows side by side, the last one ending at ``duration``; one if that is no longer.

    Examples:
        >>> windows_of(7.0, 3.0)
        [(0.0, 3.0), (3.0, 6.0), (4.0, 7.0)]
    """
    if duration <= seconds + 1e-6:
        return [(0.0, duration)]
    starts = [float(s) for s in np.arange(0.0, duration - seconds - 1e-6, seconds)]
    return [(s, s + seconds) for s in [*starts, duration - seconds]]
