"""The event-crop encoder: a close look at the pictures around every moment at which a sound is expected.

The space-time network of :mod:`v2a_nb.models.video_encoders.strike` sees that something swings and turns. Whether it
touched, and what it touched, is a matter of a few pixels. So wherever the predicted onset flux peaks, a small network
reads the five frames around that moment: hard attention in the manner of Mnih et al. (2014), placed by the soft
attention of the motion branch. It reads them twice: a crop around that place, in which every pixel has its own
weight, and the whole frame, in which it attends softly and so can correct a wrong place. A contact head says how
likely something touched. The answer is held until the next peak, because a ring lasts longer than a contact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.models.video_encoders.hit_windows import Event

AGES_S = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Time constants of the channels that say how long ago an event was, seconds."""
STEPS = 8
"""Steps of 5 ms in a frame at 25 fps: how finely peaks are placed."""


@dataclass(frozen=True)
class EventCropConfig:
    """Sizes of :class:`EventCropEncoder`.

    Attributes:
        frames: frames around a peak, odd.
        crop: side of the crop, pixels.
        embed: channels of an event's embedding.
        near, far: channels of the whole-frame branch at two and at four pixels a cell.
        heads: attention heads of the whole-frame branch.
        threshold: predicted flux from which a peak counts as an event.
        head: the motion branch's attention head that places the crop.
        shift_x, shift_y: from that head's centre to the crop's, pixels; with ``head``, measured on training
            clips by :func:`v2a_nb.training.recipes.event_crop.calibrate`.
        logit_bias, logit_scale: the probability of a contact is ``sigmoid(logit_scale * (logit - logit_bias))``.
            Training takes 0 and 1. A larger scale makes the encoder decide, so that the decoder need not draw lots at
            every uncertain contact.
        calibration_bias, calibration_scale: the same for the probability that a hit is reported with
            (:meth:`EventCropEncoder.calibrated`), fitted on clips that training did not see, so that of hits with 0.7
            seven in ten sound. A scale of 0: hits are reported with the probability that the features have.
    """

    disk_names: ClassVar[dict[str, str]] = {"crop": "patch", "logit_bias": "caution", "logit_scale": "gain"}

    frames: int = 5
    crop: int = 40
    embed: int = 72
    near: int = 32
    far: int = 64
    heads: int = 4
    threshold: float = 0.15
    head: int = 0
    shift_x: float = 0.0
    shift_y: float = 0.0
    logit_bias: float = 0.0
    logit_scale: float = 1.0
    calibration_bias: float = field(default=0.0, metadata={"later": True})
    calibration_scale: float = field(default=0.0, metadata={"later": True})

    @property
    def dim(self) -> int:
        """Channels of the event features: embedding, probability, ages, step, flux, and "no event yet"."""
        return self.embed + 1 + len(AGES_S) + 4 + 12 + 1


def _conv(before: int, after: int, **how: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, bias=False, **how), nn.BatchNorm2d(after), nn.ReLU())


class FrameAttention(nn.Module):
    """Soft attention over the whole frame, which starts at the place that the motion branch gave."""

    disk_names: ClassVar[dict[str, str]] = {"query": "ask", "prior": "pull"}

    def __init__(self, c: EventCropConfig, peak_dim: int) -> None:
        super().__init__()
        self.heads = c.heads
        self.near = nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(3 * c.frames * 4, c.near, 3, padding=1, bias=False), nn.BatchNorm2d(c.near)
        )
        # where between two frames the peak lies changes what a contact looks like
        self.phase = nn.Linear(STEPS, c.near, bias=False)
        self.far = nn.Sequential(_conv(c.near, c.far, stride=2, padding=1), _conv(c.far, c.far, padding=1))
        self.wide = _conv(c.far, c.far, padding=2, dilation=2)
        self.query = nn.Linear(peak_dim, c.heads * 32)
        self.key = nn.Conv2d(c.far, c.heads * 32, 1)
        self.value = nn.Conv2d(c.far, c.heads * 48, 1)
        self.prior = nn.Parameter(torch.linspace(1.0, 0.25, c.heads))  # weight of the given place, per head
        self.dim = c.heads * 50

    def forward(self, pictures: Tensor, place: Tensor, peak: Tensor) -> tuple[Tensor, Tensor]:
        """Content and position attended to, [N, heads * 50], and the attention [N, heads, 16, 16].

        Args:
            pictures, place, peak: as for :meth:`EventCropEncoder.forward`.
        """
        x = F.relu(self.near(pictures) + self.phase(peak[:, -STEPS:])[..., None, None])  # [N, 32, 32, 32]
        x = self.far(x)  # [N, 64, 16, 16]
        x = x + self.wide(x)
        n, grid = len(x), x.shape[-1]
        query = self.query(peak).view(n, self.heads, 32)
        key = self.key(x).view(n, self.heads, 32, -1)
        value = self.value(x).view(n, self.heads, 48, -1)
        centres = cells(grid, x.device)  # [256, 2] as (y, x)
        given = place.flip(1) / pictures.shape[-1] * 2 - 1
        away = (centres[None] - given[:, None]).square().sum(-1) / (2 * 0.35**2)  # 0.35: eleven pixels
        logits = torch.einsum("nhc,nhcp->nhp", query, key) / 32**0.5 - self.prior[:, None] * away[:, None]
        attention = logits.softmax(-1)
        content = torch.einsum("nhp,nhcp->nhc", attention, value).flatten(1)
        position = torch.einsum("nhp,pk->nhk", attention, centres)
        position = (position - given[:, None]).flatten(1)
        return torch.cat([content, position], dim=1), attention.view(n, self.heads, grid, grid)


class EventCropEncoder(nn.Module):
    """Looks at expected events, and turns its answers into event features."""

    disk_names: ClassVar[dict[str, str]] = {"crop": "fovea", "frame": "periphery", "fuse": "join", "contact": "touched"}

    def __init__(self, config: EventCropConfig, timing_dim: int) -> None:
        super().__init__()
        self.config = c = config
        self.peak_dim = timing_dim + 12 + STEPS
        self.crop = nn.Sequential(
            nn.PixelUnshuffle(2),
            _conv(3 * c.frames * 4, 48, padding=1),
            _conv(48, 96, stride=2, padding=1),
            _conv(96, 64, stride=2, padding=1),
            nn.Flatten(),
        )
        self.frame = FrameAttention(c, self.peak_dim)
        side = c.crop // 8
        joined = 64 * side * side + self.frame.dim + self.peak_dim
        self.fuse = nn.Sequential(nn.Linear(joined, 192), nn.GELU(), nn.Linear(192, c.embed))
        self.norm = nn.LayerNorm(c.embed)
        self.contact = nn.Linear(c.embed, 1)

    def forward(self, pictures: Tensor, place: Tensor, peak: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embed events and judge whether something touched.

        Args:
            pictures: the frames around each event, [N, frames * 3, 64, 64] in [-0.5, 0.5].
            place: centre of each crop, [N, 2] as (x, y) in pixels.
            peak: what is known of each peak, [N, 212], from :meth:`peak_features`.

        Returns:
            embeddings [N, 72], logits of contact [N], and attention over the whole frame [N, heads, 16, 16].
        """
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        around, attention = self.frame(pictures, place, peak)
        close = self.crop(self.crops(pictures, place))
        embedded = self.norm(self.fuse(torch.cat([close, around, peak], dim=1)))
        return embedded, self.contact(embedded)[:, 0], attention

    def crops(self, pictures: Tensor, place: Tensor) -> Tensor:
        """The crops' pixels [N, frames * 3, crop, crop]; the border is repeated."""
        size, side = self.config.crop, pictures.shape[-1]
        corners = place.round().long().clamp(0, side - 1)[:, :, None] - size // 2  # [N, 2, 1]
        places = (corners + torch.arange(size, device=place.device)).clamp(0, side - 1)  # [N, 2, crop]
        return torch.stack([p[:, y[:, None], x] for p, (x, y) in zip(pictures, places, strict=True)])

    def peaks(self, flux: Tensor, least: float | None = None) -> Tensor:
        """Expected events in predicted flux [B, 2T, >= 4]: int64 [N, 2], clip and 5 ms step, in order.

        Args:
            least: flux from which a peak counts; left out, the threshold.
        """
        fine = flux[..., :4].flatten(1)
        top = F.max_pool1d(fine[:, None], 17, stride=1, padding=8)[:, 0]
        found = (fine >= top) & (fine >= (self.config.threshold if least is None else least))
        # of equal neighbours only the first is a peak
        found[:, 1:] &= ~(found[:, :-1] & (fine[:, 1:] == fine[:, :-1]))
        return found.nonzero()

    def frames_of(self, peaks: Tensor, count: int) -> Tensor:
        """Indices, among ``count`` frames, of those that are read for each peak: int64 [N, frames], ends repeated."""
        reach = self.config.frames // 2
        middle = (peaks[:, 1] / STEPS).round().long()
        around = torch.arange(-reach, reach + 1, device=peaks.device)
        return (middle[:, None] + around).clamp(0, count - 1)

    def pictures_of(self, frames: Tensor, peaks: Tensor) -> Tensor:
        """Pictures [N, frames * 3, 64, 64] around each peak out of frames [B, T, 3, 64, 64], floats or bytes."""
        which = self.frames_of(peaks, frames.shape[1])
        return unit(frames[peaks[:, :1], which]).flatten(1, 2) - 0.5

    def places(self, attention: Tensor, peaks: Tensor) -> Tensor:
        """Centre of the motion branch's attention [B, T, heads, 8, 8] at each peak: [N, 2], x and y in pixels."""
        centres = centroids(self.at_peaks(attention, peaks)[:, self.config.head])
        return centres + attention.new_tensor([self.config.shift_x, self.config.shift_y])

    def at_peaks(self, maps: Tensor, peaks: Tensor) -> Tensor:
        """Maps [B, T, ...] at each peak, mean of three frames: [N, ...]."""
        middle = (peaks[:, 1] / STEPS).round().long()
        near = torch.stack([(middle + d).clamp(0, maps.shape[1] - 1) for d in (-1, 0, 1)])
        return maps[peaks[:, 0], near].mean(0)

    def peak_features(self, timing: Tensor, flux: Tensor, peaks: Tensor) -> Tensor:
        """Features of each peak, [N, 212]: its timing features, its flux, and where between frames it lies."""
        token = peaks[:, 1] // 4
        phase = F.one_hot(peaks[:, 1] % STEPS, STEPS).to(timing.dtype)
        return torch.cat([timing[peaks[:, 0], token], flux[peaks[:, 0], token], phase], dim=1)

    def events(
        self, frames: Tensor, timing: Tensor, flux: Tensor, attention: Tensor, least: float | None = None
    ) -> tuple[Tensor, ...]:
        """All expected events of a batch of clips.

        Args:
            frames: [B, T, 3, 64, 64], floats or bytes.
            timing, flux, attention: of :class:`~v2a_nb.models.video_encoders.strike.StrikeVision`, [B, 2T, D],
                [B, 2T, 12] and [B, T, heads, 8, 8].
            least: as for :meth:`peaks`.

        Returns:
            peaks [N, 2], embeddings [N, 72], logits of contact [N] and attention [N, heads, 16, 16].
        """
        peaks = self.peaks(flux, least)
        if not len(peaks):
            c, grid = self.config, frames.shape[-1] // 4
            return peaks, flux.new_zeros(0, c.embed), flux.new_zeros(0), flux.new_zeros(0, c.heads, grid, grid)
        places, known = self.places(attention, peaks), self.peak_features(timing, flux, peaks)
        parts = []
        for some in torch.arange(len(peaks), device=peaks.device).split(64):  # bounds the memory of a long clip
            parts.append(self(self.pictures_of(frames, peaks[some]), places[some], known[some]))
        embedded, logit, attended = (torch.cat(part) for part in zip(*parts, strict=True))
        return peaks, embedded, logit, attended

    def probability(self, logit: Tensor) -> Tensor:
        """The probability of contact that features have, of logits of contact."""
        return (self.config.logit_scale * (logit - self.config.logit_bias)).sigmoid()

    def calibrated(self, logit: Tensor) -> Tensor:
        """The probability that hits are reported with: the share of such hits that sound."""
        c = self.config
        if not c.calibration_scale:
            return self.probability(logit)
        return (c.calibration_scale * (logit - c.calibration_bias)).sigmoid()

    def features(self, frames: Tensor, timing: Tensor, flux: Tensor, attention: Tensor) -> Tensor:
        """Event features [B, 2T, 96]; arguments as for :meth:`events`."""
        peaks, embedded, logit, _ = self.events(frames, timing, flux, attention)
        probability = self.probability(logit)
        found = [Event(step, probability[k], embedded[k]) for k, (_, step) in enumerate(peaks.tolist())]
        rows = [(peaks[:, 0] == clip).nonzero()[:, 0].tolist() for clip in range(len(flux))]
        return torch.stack([self.features_of([found[k] for k in row], flux[i]) for i, row in enumerate(rows)])

    def features_of(self, events: Sequence[Event], flux: Tensor) -> Tensor:
        """Event features [N, 96] of one clip's events.

        Each token has the answer of the newest event that is at most one token ahead: its embedding times its
        probability, the probability, how long ago it was, in which quarter of the token.

        Args:
            events: in the order of their times.
            flux: predicted flux [N, 12].
        """
        n, ages = len(flux), flux.new_tensor(AGES_S)
        row, none = flux.new_zeros(n, self.config.embed + 1 + len(AGES_S) + 4), flux.new_ones(n, 1)
        for step, p, embedding, *_ in events:
            token = step // 4
            first = max(0, token - 1)
            age = (torch.arange(first, n, device=flux.device) * 0.02 - step * 0.005).clamp(min=0)
            decay = p * torch.exp(-age[:, None] / ages)
            quarter = F.one_hot(torch.tensor(step % 4), 4).to(flux)[None] * p
            quarter = quarter * (torch.arange(first, n, device=flux.device) == token)[:, None]
            held = torch.cat([embedding * p, p[None]])[None].expand(n - first, -1)
            row = torch.cat([row[:first], torch.cat([held, decay, quarter], dim=1)])
            none = torch.cat([none[:first], torch.zeros_like(none[first:])])
        return torch.cat([row, flux, none], dim=1)

    def expected(
        self, frames: Tensor, timing: Tensor, flux: Tensor, attention: Tensor, least: float | None = None
    ) -> list[Event]:
        """Expected events of one clip, with their places, in the order of their times.

        Args:
            frames, timing, flux, attention: as for :meth:`events`.
            least: predicted flux from which a peak counts; left out, the threshold. The probability of a peak under
                the threshold is reduced as its flux is.
        """
        peaks, embedded, logit, attended = self.events(frames, timing, flux, attention, least)
        fine, side = flux[..., :4].flatten(1), attended.shape[-1]
        strength = (fine[peaks[:, 0], peaks[:, 1]] / self.config.threshold).clamp(max=1)
        probability, reported = self.probability(logit) * strength, (self.calibrated(logit) * strength).tolist()
        # the place where most of all heads' attention lies, as the centre of its cell
        best = attended.mean(1).flatten(1).argmax(1) if len(peaks) else peaks[:, 0]
        x, y = ((best % side + 0.5) / side).tolist(), ((best // side + 0.5) / side).tolist()
        return [
            Event(s, probability[k], embedded[k], x[k], y[k], reported[k]) for k, (_, s) in enumerate(peaks.tolist())
        ]


def unit(frames: Tensor) -> Tensor:
    """Pixels in [0, 1] from bytes; floating point stays as it is."""
    return frames if frames.is_floating_point() else frames.float() / 255


def cells(n: int, device: torch.device) -> Tensor:
    """Centres of n x n cells, [n * n, 2] as (y, x) in [-1, 1]."""
    line = (torch.arange(n, device=device, dtype=torch.float32) + 0.5) / n * 2 - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([y.flatten(), x.flatten()], dim=-1)


def centroids(maps: Tensor, size: float = 64.0) -> Tensor:
    """Position of the maximum of maps [N, h, w], finer than a cell: [N, 2], x and y, in a picture ``size`` wide."""
    rows, columns = maps.shape[1:]
    best = maps.flatten(1).argmax(1)
    out = []
    for axis, cell, n in ((2, best % columns, columns), (1, best // columns, rows)):
        # a centroid of three cells places the peak between cells
        line = maps.sum(dim=3 - axis)
        span = torch.stack([(cell + d).clamp(0, n - 1) for d in (-1, 0, 1)], 1)
        weight = line.gather(1, span)
        out.append(((span + 0.5) * weight).sum(1) / weight.sum(1) * (size / n))
    return torch.stack(out, dim=1)
