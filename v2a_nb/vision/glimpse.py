"""A glimpse: a close look where, and when, something is expected to sound.

The space-time network sees that something swings and turns; whether it touched, and what it touched, is
a matter of a few pixels. So wherever the predicted flux peaks, a patch of five frames around the attended
place is cut out at full detail and read by a small network of its own (hard attention in the manner of
Mnih et al. 2014, with the place taken from the soft attention). Its answer is held until the next peak,
because a ring lasts longer than a contact.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

AGES_S = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)


@dataclass(frozen=True)
class GlimpseConfig:
    """Sizes of :class:`Glimpse`.

    Attributes:
        head: which attention head says where (the one that is sharpest at peaks).
        shift_x, shift_y: from that head's cell to the contact, pixels, as measured on training clips.
        threshold: predicted flux from which a peak is looked at.
    """

    patch: int = 40
    frames: int = 5
    embed: int = 72
    head: int = 1
    shift_x: float = -7.0
    shift_y: float = 2.0
    threshold: float = 0.15

    @property
    def dim(self) -> int:
        """Channels of the *hit* stream: embedding, probability, ages, moment, flux, and "none yet"."""
        return self.embed + 1 + len(AGES_S) + 4 + 12 + 1


class Glimpse(nn.Module):
    """Patches around expected hits, and the *hit* stream made of them."""

    def __init__(self, config: GlimpseConfig, when_dim: int) -> None:
        super().__init__()
        self.config = config
        channels = 3 * config.frames * 4
        self.read = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(channels, 48, 3, padding=1, bias=False), nn.BatchNorm2d(48), nn.ReLU(),
            nn.Conv2d(48, 96, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(96), nn.ReLU(),
            nn.Conv2d(96, 96, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(96), nn.ReLU(),
            nn.Flatten(),
        )  # fmt: skip
        side = config.patch // 8
        self.join = nn.Sequential(
            nn.Linear(96 * side * side + when_dim + 12 + 4, 192), nn.GELU(), nn.Linear(192, config.embed)
        )
        self.norm = nn.LayerNorm(config.embed)
        self.touched = nn.Linear(config.embed, 1)

    def forward(self, patches: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Patches [N, 5 * 3, 32, 32] in [-0.5, 0.5] and contexts [N, ...] to embeddings and logits."""
        embedded = self.norm(self.join(torch.cat([self.read(patches), context], dim=1)))
        return embedded, self.touched(embedded)[:, 0]

    def peaks(self, flux: Tensor) -> Tensor:
        """Expected hits in predicted flux [B, 2T, >= 4]: int64 [N, 2], clip and 5 ms step, in order."""
        fine = flux[..., :4].flatten(1)
        top = F.max_pool1d(fine[:, None], 17, stride=1, padding=8)[:, 0]
        found = (fine >= top) & (fine >= self.config.threshold)
        # of equal neighbours only the first is a peak
        found[:, 1:] &= ~(found[:, :-1] & (fine[:, 1:] == fine[:, :-1]))
        return found.nonzero()

    def places(self, attention: Tensor, peaks: Tensor, rate: float) -> tuple[Tensor, Tensor]:
        """Frame index [N] and place [N, 2] (x, y in pixels) of each peak."""
        c = self.config
        t, grid = attention.shape[1], attention.shape[-1]
        frame = (peaks[:, 1] / 8.0 + 0.0).round().long().clamp(max=t - 1)  # 8 steps of 5 ms a frame
        near = torch.stack([(frame + d).clamp(0, t - 1) for d in (-1, 0, 1)])
        maps = attention[peaks[:, 0], near, c.head].mean(0)  # [N, 8, 8], over three frames
        best = maps.flatten(1).argmax(1)
        y, x = best // grid, best % grid
        centres = []
        for axis, cell in ((2, x), (1, y)):
            # a centroid of three cells places the peak between cells
            line = maps.sum(dim=3 - axis)
            span = torch.stack([(cell + d).clamp(0, grid - 1) for d in (-1, 0, 1)], 1)
            weight = line.gather(1, span)
            centres.append(((span + 0.5) * weight).sum(1) / weight.sum(1))
        size = 8.0  # pixels a cell
        shift = attention.new_tensor([c.shift_x, c.shift_y])
        return frame, torch.stack(centres, dim=1) * size + shift

    def cut(self, frames: Tensor, peaks: Tensor, frame: Tensor, place: Tensor) -> Tensor:
        """Patches [N, 15, 32, 32] out of frames [B, T, 3, 64, 64]; the border is repeated."""
        c = self.config
        half, t = c.patch // 2, frames.shape[1]
        padded = {}
        out = []
        for (b, _), k, (x, y) in zip(peaks.tolist(), frame.tolist(), place.tolist(), strict=True):
            if b not in padded:
                padded[b] = F.pad(frames[b], (half, half, half, half), mode="replicate")
            i = min(max(round(y), 0), frames.shape[-2] - 1)
            j = min(max(round(x), 0), frames.shape[-1] - 1)
            reach = c.frames // 2
            which = [min(max(k + d, 0), t - 1) for d in range(-reach, reach + 1)]
            out.append(padded[b][which, :, i : i + c.patch, j : j + c.patch].flatten(0, 1))
        return torch.stack(out) - 0.5

    def context(self, when: Tensor, flux: Tensor, peaks: Tensor) -> Tensor:
        """What else is known at each peak: its *when* token, flux, and which quarter of the token."""
        token, quarter = peaks[:, 1] // 4, peaks[:, 1] % 4
        moment = F.one_hot(quarter, 4).to(when.dtype)
        return torch.cat([when[peaks[:, 0], token], flux[peaks[:, 0], token], moment], dim=1)

    def _look(self, frames: Tensor, when: Tensor, flux: Tensor, attention: Tensor):
        peaks = self.peaks(flux)
        if not len(peaks):
            return peaks, None, None, None, None
        frame, place = self.places(attention, peaks, 25.0)
        patches = self.cut(frames, peaks, frame, place)
        embedded, logit = self(patches, self.context(when, flux, peaks))
        return peaks, frame, place, embedded, logit.sigmoid()

    def stream(self, frames: Tensor, when: Tensor, flux: Tensor, attention: Tensor) -> Tensor:
        """The *hit* stream [B, 2T, 96].

        Each token has the answer of the newest peak that is at most one token ahead: its embedding
        times its probability, the probability, how long ago it was, in which quarter of the token.
        """
        b, n = flux.shape[:2]
        peaks, _, _, embedded, probability = self._look(frames, when, flux, attention)
        empty = flux.new_zeros(b, n, self.config.embed + 1 + len(AGES_S) + 4)
        none = flux.new_ones(b, n, 1)
        ages = flux.new_tensor(AGES_S)
        rows = []
        for clip in range(b):
            row, nothing = empty[clip], none[clip]
            for k in (peaks[:, 0] == clip).nonzero()[:, 0].tolist():
                step = int(peaks[k, 1])
                token = step // 4
                first = max(0, token - 1)
                p = probability[k]
                age = (torch.arange(first, n, device=flux.device) * 0.02 - step * 0.005).clamp(min=0)
                decay = p * torch.exp(-age[:, None] / ages)
                moment = F.one_hot(torch.tensor(step % 4), 4).to(flux)[None] * p
                moment = moment * (torch.arange(first, n, device=flux.device) == token)[:, None]
                held = torch.cat([embedded[k] * p, p[None]])[None].expand(n - first, -1)
                row = torch.cat([row[:first], torch.cat([held, decay, moment], dim=1)])
                nothing = torch.cat([nothing[:first], torch.zeros_like(nothing[first:])])
            rows.append(torch.cat([row, flux[clip], nothing], dim=1))
        return torch.stack(rows)

    def hits(self, frames: Tensor, when: Tensor, flux: Tensor, attention: Tensor) -> list[dict[str, float]]:
        """Expected hits of one clip: time, probability and place (0 to 1 across the picture)."""
        peaks, _, place, _, probability = self._look(frames, when, flux, attention)
        if probability is None:
            return []
        size = frames.shape[-1]
        return [
            {"time_s": step * 0.005, "probability": float(p), "x": float(x) / size, "y": float(y) / size}
            for (_, step), p, (x, y) in zip(peaks.tolist(), probability, place.tolist(), strict=True)
        ]
