"""The small space-time network of the ``tiny`` presets: when something is hit, and what.

It takes the place of Segment AVCLIP in V-AURA (section III-A): it is pre-trained audio-visually, then frozen.
A token, 50 a second, has three kinds of features side by side:

- *timing* features come from motion (the picture and its change since the last frame). They are pre-trained to
  predict the onset flux of the recording's own sound at 5 ms.
- *content* features come from still pictures, at the places where the motion branch attends. They are pre-trained to
  predict the spectrum that follows a hit.
- *event* features come from :mod:`v2a_nb.models.video_encoders.event_crop`: wherever the timing features expect a
  sound, the five frames around that moment are read closely. That tells a hit from a near miss, and wood from metal.

No label is used; see :mod:`v2a_nb.training.recipes.video_encoder`. The attention, ``[B, T, heads, 8, 8]``, is returned
as well: it says where the encoder looked.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.clip import Clip
from v2a_nb.hits import Hits
from v2a_nb.hub import Pretrained
from v2a_nb.models.video_encoders.event_crop import EventCropConfig, EventCropEncoder, cells, unit
from v2a_nb.models.video_encoders.frames import at_rate, check_fit_and_resize, square
from v2a_nb.models.video_encoders.hit_windows import (
    FAINT,
    STEP_S,
    Reading,
    Windows,
    following,
    keep_windows,
    kept_windows,
    windows_of,
)
from v2a_nb.models.video_encoders.video_encoder import EncodesFrames

CHUNK = 1500
"""Frames that are read at a time: a minute."""
GROUP = 64
"""Frames whose pixels are worked on at a time when nothing is learned: nothing else needs so much memory."""
REACH = 40
"""Frames to either side that a token may depend on, rounded up to a multiple of ``appearance_every``."""


@dataclass(frozen=True)
class VisionConfig:
    """Sizes of :class:`StrikeVision`.

    Attributes:
        size: pixels of a side.
        fps: frames a second that are read.
        upsample: tokens a frame.
        timing_dim, content_dim: channels of these features.
        event_crop: of the event features.
        heads: attention heads of the motion branch.
        motion, appearance: channels of the two branches' stems.
        appearance_every: the appearance branch reads every so many frames.
        fit: how a picture becomes square, one of :data:`~v2a_nb.models.video_encoders.frames.FITS`. In real video what
            strikes often comes from the side, where ``"crop"`` (the paper's transforms) cuts it off.
    """

    disk_names: ClassVar[dict[str, str]] = {
        "timing_dim": "when_dim", "content_dim": "what_dim", "event_crop": "glimpse", "appearance": "look",
        "appearance_every": "look_every",
    }  # fmt: skip

    size: int = 64
    fps: float = 25.0
    upsample: int = 2
    timing_dim: int = 192
    content_dim: int = 96
    event_crop: EventCropConfig = field(default_factory=EventCropConfig)
    heads: int = 4
    motion: tuple[int, ...] = (32, 64)
    appearance: tuple[int, ...] = (48, 64)
    appearance_every: int = 4
    fit: str = field(default="crop", metadata={"later": True})

    def __post_init__(self) -> None:
        check_fit_and_resize(self.fit, "bilinear")

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.fps * self.upsample

    @property
    def dim(self) -> int:
        """Channels of a token: the three kinds of features side by side."""
        return self.timing_dim + self.content_dim + self.event_crop.dim


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


class StrikeVision(EncodesFrames, Pretrained, nn.Module):
    """Frames ``[B, T, 3, 64, 64]`` in [0, 1] to tokens ``[B, 2 T, 384]`` at 50 Hz."""

    kind, title, config_class = "strike-vision", "a strike-vision encoder", VisionConfig
    optional_parts = ("hit_windows",)
    disk_names: ClassVar[dict[str, str]] = {
        "attention": "attend", "motion_values": "moved", "appearance": "look", "appearance_space": "look_space",
        "appearance_values": "looked", "fuse": "join", "upsample": "shuffle", "content_in": "name",
        "content": "named", "timing_norm": "when_norm", "content_norm": "what_norm", "event_crop": "glimpse",
    }  # fmt: skip

    def __init__(self, config: VisionConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or VisionConfig()
        self.motion = _stem(c.motion, 6)
        width = c.motion[-1]
        self.space = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.time = nn.Conv3d(width, width, (3, 1, 1), padding=(1, 0, 0))
        self.attention = nn.Conv2d(width, c.heads, 1)
        self.motion_values = nn.Conv2d(width, 24 * c.heads, 1)
        self.appearance = _stem(c.appearance, 3)
        last = c.appearance[-1]
        self.appearance_space = nn.Sequential(
            nn.Conv2d(last, last, 3, padding=1, bias=False), nn.BatchNorm2d(last), nn.ReLU()
        )
        self.appearance_values = nn.Conv2d(last, 32 * c.heads, 1)
        self.fuse = nn.Conv1d((24 + 32 + 2) * c.heads + width, c.timing_dim, 1)
        self.slow = nn.Sequential(*(_Residual(c.timing_dim, 5, d) for d in (1, 2, 4)))  # at the rate of frames
        self.upsample = nn.Conv1d(c.timing_dim, c.upsample * c.timing_dim, 1)
        self.fast = nn.Sequential(*(_Residual(c.timing_dim, 3, d) for d in (1, 2)))  # at the rate of tokens
        self.content_in = nn.Conv1d(32 * c.heads + c.timing_dim, c.content_dim, 1)
        self.content = nn.Sequential(*(_Residual(c.content_dim, 5, d) for d in (1, 2)))
        self.timing_norm = nn.LayerNorm(c.timing_dim)
        self.content_norm = nn.LayerNorm(c.content_dim)
        self.flux = nn.Linear(c.timing_dim, 4 + 8)  # flux at 5 ms, and in eight bands at 20 ms
        self.event_crop = EventCropEncoder(c.event_crop, c.timing_dim)

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.config.rate

    @property
    def dim(self) -> int:
        """Channels of a token."""
        return self.config.dim

    @property
    def content_channels(self) -> slice:
        """The channels of a token that say what is hit: content features and the embedding of the newest event."""
        c = self.config
        return slice(c.timing_dim, c.timing_dim + c.content_dim + c.event_crop.embed)

    def timing_and_content(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Timing features [B, 2T, 192], content features [B, 2T, 96] and attention [B, T, heads, 8, 8].

        Args:
            frames: [B, T, 3, 64, 64], in [0, 1] or as bytes.
        """
        c = self.config
        b, t = frames.shape[:2]
        size = t if self.training else GROUP  # batch statistics are of all
        groups = [self._motion(frames[:, max(0, a - 1) : a + size], a > 0) for a in range(0, t, size)]
        moving = torch.cat(groups, dim=1).flatten(0, 1).contiguous(memory_format=torch.channels_last)  # [BT, C, 8, 8]
        grid = moving.shape[-1]
        over_time = moving.view(b, t, -1, grid, grid).transpose(1, 2)  # [B, C, T, 8, 8]
        moving = moving + F.relu(self.time(over_time)).transpose(1, 2).flatten(0, 1)
        attention = self.attention(moving).flatten(2).softmax(-1)  # [BT, heads, 64]
        values = self.motion_values(moving).view(b * t, c.heads, 24, -1)
        motion = torch.einsum("nhp,nhcp->nhc", attention, values).flatten(1)  # [BT, heads * 24]
        position = torch.einsum("nhp,pk->nhk", attention, cells(grid, frames.device)).flatten(1)
        still = unit(frames[:, :: c.appearance_every])  # [B, T', 3, 64, 64]
        looks = self.appearance_space(self.appearance((still.flatten(0, 1) - 0.5).contiguous()))
        looks = self.appearance_values(looks).view(b, still.shape[1], c.heads, 32, -1)
        nearest = torch.arange(t, device=frames.device) // c.appearance_every
        looks = looks[:, nearest].flatten(0, 1)  # [BT, heads, 32, 64]
        appearance = torch.einsum("nhp,nhcp->nhc", attention, looks).flatten(1)
        everywhere = moving.flatten(2).mean(-1)
        x = torch.cat([motion, appearance, position, everywhere], dim=1).view(b, t, -1).transpose(1, 2)
        slow = self.slow(self.fuse(x))  # [B, 192, T]
        fast = self.upsample(slow).view(b, c.upsample, c.timing_dim, t)
        fast = self.fast(fast.permute(0, 2, 3, 1).reshape(b, c.timing_dim, t * c.upsample))
        appearance = appearance.view(b, t, -1).transpose(1, 2)
        content = self.content(self.content_in(torch.cat([appearance, slow], dim=1)))
        content = content.repeat_interleave(c.upsample, dim=2)
        timing = self.timing_norm(fast.transpose(1, 2))
        content = self.content_norm(content.transpose(1, 2))
        return timing, content, attention.view(b, t, c.heads, grid, grid)

    def _motion(self, frames: Tensor, context: bool) -> Tensor:
        """The motion branch's stem for frames [B, T, 3, 64, 64]: [B, T, C, 8, 8], or one less with ``context``.

        Args:
            context: whether the first frame only tells what the second one changed.
        """
        frames = unit(frames)
        before = frames[:, :-1] if context else torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
        frames = frames[:, int(context) :]
        x = torch.cat([frames - 0.5, 4.0 * (frames - before)], dim=2)  # [B, T, 6, 64, 64]
        x = self.space(self.motion(x.flatten(0, 1).contiguous(memory_format=torch.channels_last)))
        return x.unflatten(0, frames.shape[:2])

    def forward(self, frames: Tensor) -> Tensor:
        """Tokens [B, 2T, 384]: timing, content and event features side by side."""
        timing, content, attention = self.timing_and_content(frames)
        flux = self.flux(timing).sigmoid()
        events = self.event_crop.features(frames, timing, flux, attention)
        return torch.cat([timing, content, events], dim=-1)

    def expected(self, tokens: Tensor) -> Tensor:
        """How much each token of [B, N, 384] expects a hit, [B, N] in [0, 1], as the event-crop encoder judged it."""
        start = self.config.timing_dim + self.config.content_dim + self.config.event_crop.embed + 1
        # the age channels are the probability, decaying; this one with 0.1 s, as a hit's sound does
        return tokens[..., start + 2]

    @torch.no_grad()
    def hits(self, clip: Clip, *, faint: bool = False) -> list[dict[str, float]]:
        """What the encoder expects to sound: ``time_s``, ``probability`` and the place ``x``, ``y`` in [0, 1].

        Args:
            faint: also peaks of which the tokens say nothing.
        """
        return self.hits_of(self.reading(clip, FAINT if faint else None))

    @staticmethod
    def hits_of(reading: Reading) -> list[dict[str, float]]:
        """What :meth:`hits` gives, of a clip that was read before."""
        return [
            {"time_s": round(event.step * STEP_S, 3), "probability": event.reported, "x": event.x, "y": event.y}
            for event in reading.events
        ]

    @torch.no_grad()
    def reading(self, clip: Clip, least: float | None = FAINT) -> Reading:
        """Features and events of a clip.

        Args:
            least: predicted flux of the faintest event; None, the threshold from which on tokens tell of one.
        """
        frames, timing, content, attention = self._in_parts(clip)
        flux = self.flux(timing).sigmoid()
        events = self.event_crop.expected(frames, timing, flux, attention, least)
        return Reading(timing[0], content[0], flux[0], events)

    @torch.no_grad()
    def onset_curve(self, clip: Clip) -> tuple[np.ndarray, np.ndarray]:
        """The onset flux that is expected, from timing features alone: times in seconds and values in [0, 1], 5 ms."""
        timing, _, _ = self.timing_and_content(self.pixels(clip))
        flux = self.flux(timing).sigmoid()[0, :, :4].flatten().cpu().numpy()
        return np.arange(len(flux)) / (4 * self.rate), flux

    def pixels(self, clip: Clip) -> Tensor:
        """The clip's frames as the network wants them: [1, T, 3, 64, 64] in [0, 1] at 25 fps.

        A picture that is not square is squashed, or cropped to its centre as the paper's transforms do (released
        configuration: short side, then centre crop); ``config.fit`` says which. Other frame rates become 25 by
        :func:`at_rate`.
        """
        return unit(self._bytes(clip))

    def _bytes(self, clip: Clip) -> Tensor:
        """What :meth:`pixels` gives, as uint8."""
        small = replace(clip, frames=square(clip.frames, self.config.size, fit=self.config.fit))
        pixels = torch.from_numpy(at_rate(small, self.config.fps).frames.copy()).permute(0, 3, 1, 2)[None]
        return pixels.to(self.fuse.weight.device)

    @torch.no_grad()
    def features(self, clip: Clip, hits: Hits | None = None) -> Tensor:
        """Tokens of a clip of any size, rate and length: [ceil(25 duration) * 2, 384].

        A minute is read at a time, with as much before and after it as a token depends on, so that an hour
        needs no more memory than its own pictures.

        Args:
            hits: what is to sound instead of what the encoder expects
                (:func:`~v2a_nb.models.video_encoders.hit_windows.following`).
        """
        if hits is None:
            frames, timing, content, attention = self._in_parts(clip)
            events = self.event_crop.features(frames, timing, self.flux(timing).sigmoid(), attention)
            return torch.cat([timing, content, events], dim=-1)[0]
        return self.features_of(self.reading(clip), hits)

    @torch.no_grad()
    def features_of(self, reading: Reading, hits: Hits) -> Tensor:
        """What :meth:`features` gives with hits, of a clip that was read before."""
        timing, content, flux, events = following(*reading, hits, windows_of(self).to(reading.timing.device))
        return torch.cat([timing, content, self.event_crop.features_of(events, flux)], dim=-1)

    def _in_parts(self, clip: Clip) -> tuple[Tensor, ...]:
        """The clip's frames uint8 [1, T, 3, 64, 64], and what :meth:`timing_and_content` makes of them."""
        frames = self._bytes(clip)
        parts = []
        for a in range(0, frames.shape[1], CHUNK):
            first, b = max(0, a - REACH), min(a + CHUNK, frames.shape[1])
            timing, content, attention = self.timing_and_content(frames[:, first : b + REACH])
            ups = self.config.upsample
            tokens = slice(ups * (a - first), ups * (b - first))
            parts.append((timing[:, tokens], content[:, tokens], attention[:, a - first : b - first]))
        return frames, *(torch.cat(part, dim=1) for part in zip(*parts, strict=True))

    # --- weights ------------------------------------------------------------------------------------

    def _parts(self) -> dict[str, Any]:
        return {"hit_windows": kept_windows(self)}

    @classmethod
    def _load_parts(cls, where: dict[str, str | Path]) -> dict[str, Any]:
        return {"windows": Windows.from_pretrained(where["hit_windows"])} if "hit_windows" in where else {}

    @classmethod
    def _build(cls, config: VisionConfig, windows: Windows | None = None) -> StrikeVision:
        encoder = cls(config)
        keep_windows(encoder, windows)
        return encoder
