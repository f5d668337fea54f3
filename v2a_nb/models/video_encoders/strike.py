"""The small space-time network of the ``tiny`` presets: *when* something is hit, and *what*.

It takes the place of Segment AVCLIP in V-AURA (section III-A): pre-trained audio-visually, then frozen.
Three streams come out, all at 50 tokens a second:

- *when* looks at motion (the picture and its change since the last frame) and is pre-trained to predict
  the flux of the recording's own sound at 5 ms, which is what gives it timing;
- *what* looks at still pictures, at the places where the motion stream attends, and is pre-trained to
  predict the spectrum that follows a hit;
- *hit* takes a glimpse (:mod:`v2a_nb.models.video_encoders.event_crop`): whenever the *when* stream expects a sound, it reads
  the five pictures around that moment closely. That is what tells a hit from a near miss, and wood from
  metal.

None uses a label; see :mod:`v2a_nb.training.recipes.video_encoder`. The attention, ``[B, T, heads, 8, 8]``, is returned
as well: it says where the encoder looked.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.clip import Clip
from v2a_nb.hub import Pretrained
from v2a_nb.models.video_encoders.event_crop import EventCropConfig, Glimpse, cells, unit

MINUTE = 1500  # frames that are read at a time
SEEN = 40  # frames to either side that a token may depend on, rounded up to the rhythm of looks


@dataclass(frozen=True)
class VisionConfig:
    """Sizes of :class:`StrikeVision`."""

    size: int = 64
    fps: float = 25.0
    upsample: int = 2
    when_dim: int = 192
    what_dim: int = 96
    glimpse: EventCropConfig = field(default_factory=EventCropConfig)
    heads: int = 4
    motion: tuple[int, ...] = (32, 64)
    look: tuple[int, ...] = (48, 64)
    look_every: int = 4

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.fps * self.upsample

    @property
    def dim(self) -> int:
        """Channels of a token: the three streams side by side."""
        return self.when_dim + self.what_dim + self.glimpse.dim


def _stem(channels: tuple[int, ...], first: int) -> nn.Sequential:
    """Three halvings of the picture: [N, first, 64, 64] to [N, channels[-1], 8, 8].

    The first halving moves 2 x 2 pixels into channels: nothing is lost, and a CPU is spared the
    convolution at full size, which would cost as much as all the others.
    """
    layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
    first *= 4
    for width in channels:
        layers += [
            nn.Conv2d(first, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        first = width
    return nn.Sequential(*layers)


class _Residual(nn.Module):
    """A dilated convolution over time with a pre-norm residual: [B, C, T] to [B, C, T]."""

    def __init__(self, width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.conv = nn.Conv1d(width, width, kernel, padding=dilation * (kernel // 2), dilation=dilation)
        self.mix = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(F.gelu(self.conv(self.norm(x))))


class StrikeVision(Pretrained, nn.Module):
    """Frames ``[B, T, 3, 64, 64]`` in [0, 1] to tokens ``[B, 2 T, 384]`` at 50 Hz."""

    kind, title, config_class = "strike-vision", "a strike-vision encoder", VisionConfig

    def __init__(self, config: VisionConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or VisionConfig()
        self.motion = _stem(c.motion, 6)
        width = c.motion[-1]
        self.space = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.time = nn.Conv3d(width, width, (3, 1, 1), padding=(1, 0, 0))
        self.attend = nn.Conv2d(width, c.heads, 1)
        self.moved = nn.Conv2d(width, 24 * c.heads, 1)
        self.look = _stem(c.look, 3)
        self.look_space = nn.Sequential(
            nn.Conv2d(c.look[-1], c.look[-1], 3, padding=1, bias=False),
            nn.BatchNorm2d(c.look[-1]),
            nn.ReLU(),
        )
        self.looked = nn.Conv2d(c.look[-1], 32 * c.heads, 1)
        joined = (24 + 32 + 2) * c.heads + width
        self.join = nn.Conv1d(joined, c.when_dim, 1)
        self.slow = nn.Sequential(*(_Residual(c.when_dim, 5, d) for d in (1, 2, 4)))
        self.shuffle = nn.Conv1d(c.when_dim, c.upsample * c.when_dim, 1)
        self.fast = nn.Sequential(*(_Residual(c.when_dim, 3, d) for d in (1, 2)))
        self.name = nn.Conv1d(32 * c.heads + c.when_dim, c.what_dim, 1)
        self.named = nn.Sequential(*(_Residual(c.what_dim, 5, d) for d in (1, 2)))
        self.when_norm = nn.LayerNorm(c.when_dim)
        self.what_norm = nn.LayerNorm(c.what_dim)
        self.flux = nn.Linear(c.when_dim, 4 + 8)  # flux at 5 ms, and in eight bands at 20 ms
        self.glimpse = Glimpse(c.glimpse, c.when_dim)

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.config.rate

    @property
    def dim(self) -> int:
        """Channels of a token."""
        return self.config.dim

    def streams(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """*when* [B, 2T, 192], *what* [B, 2T, 96] and attention [B, T, heads, 8, 8]."""
        c = self.config
        b, t = frames.shape[:2]
        change = frames - torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
        moving = torch.cat([frames - 0.5, 4.0 * change], dim=2).flatten(0, 1)  # [BT, 6, 64, 64]
        moving = self.space(self.motion(moving.contiguous(memory_format=torch.channels_last)))
        grid = moving.shape[-1]
        over_time = moving.view(b, t, -1, grid, grid).transpose(1, 2)  # [B, C, T, 8, 8]
        moving = moving + F.relu(self.time(over_time)).transpose(1, 2).flatten(0, 1)
        attention = self.attend(moving).flatten(2).softmax(-1)  # [BT, heads, 64]
        values = self.moved(moving).view(b * t, c.heads, 24, -1)
        moved = torch.einsum("nhp,nhcp->nhc", attention, values).flatten(1)  # [BT, heads * 24]
        places = cells(grid, frames.device)
        place = torch.einsum("nhp,pk->nhk", attention, places).flatten(1)
        still = frames[:, :: c.look_every]  # [B, T', 3, 64, 64]
        looks = self.look_space(self.look((still.flatten(0, 1) - 0.5).contiguous()))
        looks = self.looked(looks).view(b, still.shape[1], c.heads, 32, -1)
        nearest = torch.arange(t, device=frames.device) // c.look_every
        looks = looks[:, nearest].flatten(0, 1)  # [BT, heads, 32, 64]
        looked = torch.einsum("nhp,nhcp->nhc", attention, looks).flatten(1)
        whole = moving.flatten(2).mean(-1)
        x = torch.cat([moved, looked, place, whole], dim=1).view(b, t, -1).transpose(1, 2)
        slow = self.slow(self.join(x))  # [B, 192, T]
        fast = self.shuffle(slow).view(b, c.upsample, c.when_dim, t)
        fast = self.fast(fast.permute(0, 2, 3, 1).reshape(b, c.when_dim, t * c.upsample))
        seen = looked.view(b, t, -1).transpose(1, 2)
        what = self.named(self.name(torch.cat([seen, slow], dim=1)))
        what = what.repeat_interleave(c.upsample, dim=2)
        when = self.when_norm(fast.transpose(1, 2))
        what = self.what_norm(what.transpose(1, 2))
        return when, what, attention.view(b, t, c.heads, grid, grid)

    def forward(self, frames: Tensor) -> Tensor:
        """Tokens [B, 2T, 384]: *when*, *what* and *hit* side by side."""
        when, what, attention = self.streams(frames)
        flux = self.flux(when).sigmoid()
        hit = self.glimpse.stream(frames, when, flux, attention)
        return torch.cat([when, what, hit], dim=-1)

    def expected(self, tokens: Tensor) -> Tensor:
        """How much each token of [B, N, 384] expects a hit, [B, N] in [0, 1], as the glimpse judged it."""
        start = self.config.when_dim + self.config.what_dim + self.config.glimpse.embed + 1
        # the age channels are the probability, decaying; this one with 0.1 s, as a hit's sound does
        return tokens[..., start + 2]

    def hits(self, clip: Clip) -> list[dict[str, float]]:
        """What the encoder expects to sound: ``time_s``, ``probability`` and the place in [0, 1]."""
        with torch.no_grad():
            frames = self.pixels(clip)
            when, _, attention = self.streams(frames)
            return self.glimpse.hits(frames, when, self.flux(when).sigmoid(), attention)

    def pixels(self, clip: Clip) -> Tensor:
        """The clip's frames as the network wants them: [1, T, 3, 64, 64] in [0, 1] at 25 fps.

        Frames are picked by timestamp; a picture that is not square is cropped to its centre, as the
        paper's transforms do (released configuration: short side, then centre crop).
        """
        return unit(self._bytes(clip))

    def _bytes(self, clip: Clip) -> Tensor:
        """What :meth:`pixels` gives, as uint8."""
        from v2a_nb.models.video_encoders.frames import square

        picked = clip.at_fps(self.config.fps)
        small = square(picked.frames, self.config.size)
        wanted = max(1, int(np.ceil(clip.duration * self.config.fps - 1e-6)))
        if len(small) < wanted:
            small = np.concatenate([small, np.repeat(small[-1:], wanted - len(small), axis=0)])
        pixels = torch.from_numpy(small[:wanted].copy()).permute(0, 3, 1, 2)[None]
        return pixels.to(self.join.weight.device)

    @torch.no_grad()
    def features(self, clip: Clip) -> Tensor:
        """Tokens of a clip of any size, rate and length: [ceil(25 duration) * 2, 384].

        A minute is read at a time, with as much before and after it as a token can see, so that an hour
        needs no more memory than its own pictures.
        """
        frames = self._bytes(clip)
        parts = []
        for a in range(0, frames.shape[1], MINUTE):
            first, b = max(0, a - SEEN), min(a + MINUTE, frames.shape[1])
            when, what, attention = self.streams(unit(frames[:, first : b + SEEN]))
            ups = self.config.upsample
            tokens = slice(ups * (a - first), ups * (b - first))
            parts.append((when[:, tokens], what[:, tokens], attention[:, a - first : b - first]))
        when, what, attention = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
        flux = self.flux(when).sigmoid()
        return torch.cat([when, what, self.glimpse.stream(frames, when, flux, attention)], dim=-1)[0]
