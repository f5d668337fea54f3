"""Recipe of the event-crop encoder: was there a sound where the flux was expected, and of which colour?

The timing features are frozen. Every peak of its prediction on the training clips becomes one example: the
pictures around it, and from the clip's own sound whether anything rose within 40 ms, and the spectrum
that followed. Near misses are the negatives that this exists for.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.audio import targets
from v2a_nb.errors import V2AError
from v2a_nb.models.video_encoders.event_crop import EventCropConfig, EventCropEncoder, centroids
from v2a_nb.models.video_encoders.strike import StrikeVision
from v2a_nb.training.loop import BatchOf, OptimConfig
from v2a_nb.training.recipe import Stage
from v2a_nb.training.recipes.video_encoder import draw_zoom, zoomed

SHIFT = 6  # pixels by which training moves the pictures, at most
JITTER = 2.0  # pixels by which it moves the crop, standard deviation
BELOW = 8.0  # pixels from what moves to the crop's centre: what is struck lies under what strikes
CALIBRATED_FROM = 50  # expected hits, on which two numbers can be fitted
SOUNDED = 0.1  # of the flux target: from here on something is said to have started


def calibrate(encoder: StrikeVision, frames: np.ndarray, clips: int = 160) -> EventCropConfig:
    """Which head of the motion stream says where, and how far from its centre that is.

    Nothing makes a head attend to the very place of a contact; it only stays at the same distance from
    it. The place itself is taken from the gradient of the expected flux, times the change of the picture:
    the moving pixels that the flux depends on. (That alone would do, but at ten times the cost.) The crop
    is put a little lower, so that it holds the tip of what moves and all of what lies under it.

    Args:
        frames: uint8 [N, T, 64, 64, 3]; the first ``clips`` are used.
    """
    found, heads = [], []
    crops = encoder.event_crop
    for i in range(0, min(clips, len(frames)), 8):
        pictures = torch.from_numpy(frames[i : min(i + 8, clips)]).permute(0, 1, 4, 2, 3).float() / 255
        pictures.requires_grad_(True)
        timing, _, attention = encoder.timing_and_content(pictures)
        logits = encoder.flux(timing)
        peaks = crops.peaks(logits.detach().sigmoid())
        if not len(peaks):
            continue
        fine = logits[..., :4].flatten(1)
        (slope,) = torch.autograd.grad(fine[peaks[:, 0], peaks[:, 1]].sum(), pictures)
        still = pictures.detach()
        change = still - torch.cat([still[:, :1], still[:, :-1]], dim=1)
        influence = (slope.abs() * change.abs()).mean(2)  # [B, T, 64, 64]
        maps = influence[peaks[:, :1], crops.frames_of(peaks, pictures.shape[1])].sum(1)
        moving = maps.flatten(1).sum(1) > 0  # in a still picture there is no place to be found
        if not moving.any():
            continue
        smooth = F.avg_pool2d(maps[moving][:, None], 9, 1, 4, count_include_pad=False)[:, 0]
        found.append(centroids(smooth))
        near = crops.at_peaks(attention.detach(), peaks)[moving]
        heads.append(torch.stack([centroids(near[:, h]) for h in range(near.shape[1])], dim=1))
    if not found:
        raise V2AError("the motion stream expects a sound nowhere that something moves: train it for longer")
    away = torch.cat(found)[:, None] - torch.cat(heads)  # [N, heads, 2]
    shift = away.median(0).values
    spread = (away - shift).abs().median(0).values.sum(-1)
    best = int(spread.argmin())
    x, y = (round(float(v), 1) for v in shift[best])
    return replace(encoder.config.event_crop, head=best, shift_x=x, shift_y=y + BELOW)


@torch.no_grad()
def calibrate_contact(encoder: StrikeVision, frames: np.ndarray, mels: np.ndarray) -> EventCropConfig:
    """Fit the probability that hits are reported with, on clips that the encoder has not seen (Platt 1999).

    Args:
        frames, mels: as for :func:`gather`.

    Returns:
        the settings of the event crops with ``calibration_bias`` and ``calibration_scale``; without them where fewer
        than :data:`CALIBRATED_FROM` hits are expected, or all or none of them sound.
    """
    crops = encoder.event_crop.eval()
    try:
        examples = gather(encoder, frames, mels, 0, len(frames))
    except V2AError:  # nothing is expected: a look at a few steps of training
        return crops.config
    logits = []
    for rows in np.array_split(np.arange(len(examples["clip"])), -(-len(examples["clip"]) // 64)):
        pictures = np.stack([frames[examples["clip"][i]][examples["frame"][i]] for i in rows])
        pictures = torch.from_numpy(pictures).permute(0, 1, 4, 2, 3).flatten(1, 2).float() / 255 - 0.5
        place, context = (torch.from_numpy(examples[k][rows].astype(np.float32)) for k in ("place", "context"))
        logits.append(crops(pictures, place, context)[1])
    sounded = torch.from_numpy(examples["sounded"] > SOUNDED).double()
    if len(sounded) < CALIBRATED_FROM or not 0 < sounded.sum() < len(sounded):
        return crops.config
    bias, scale = platt(torch.cat(logits).double(), sounded)
    return replace(crops.config, calibration_bias=round(bias, 4), calibration_scale=round(scale, 4))


def platt(logits: Tensor, sounded: Tensor) -> tuple[float, float]:
    """Bias and scale, for which ``sigmoid(scale * (logits - bias))`` is likeliest to give ``sounded``.

    Args:
        logits, sounded: float64 [N]; ``sounded`` is 0 or 1, and not all the same.

    Returns:
        the bias, and the scale, at least 0.01: where logits say nothing, all hits are as likely.
    """
    # Newton's method on a convex function of two numbers, kept from running off where a line parts the two
    weights, x = torch.zeros(2, dtype=torch.float64), torch.stack([logits, torch.ones_like(logits)], dim=1)
    for _ in range(50):
        p = (x @ weights).sigmoid()
        slope = x.T @ (p - sounded) + 1e-3 * weights
        curve = (x * (p * (1 - p))[:, None]).T @ x + 1e-3 * torch.eye(2, dtype=torch.float64)
        weights = weights - torch.linalg.solve(curve, slope)
    scale = max(float(weights[0]), 0.01)
    return -float(weights[1]) / scale, scale


@torch.no_grad()
def gather(encoder: StrikeVision, frames: np.ndarray, mels: np.ndarray, first: int, last: int) -> dict[str, np.ndarray]:
    """Examples of the clips ``first`` to ``last``; their pictures stay where they are.

    Returns:
        ``clip`` int32 [N] and ``frame`` int16 [N, 5], which pictures of ``frames``; ``place`` float32
        [N, 2] in pixels, ``context`` float16 [N, C], ``sounded`` float16 [N], ``colour`` float16 [N, 80].

    Raises:
        V2AError: nothing is expected to sound in any clip.
    """
    parts: dict[str, list[np.ndarray]] = {k: [] for k in ("clip", "frame", "place", "context", "sounded", "colour")}
    crops = encoder.event_crop
    for i in range(first, last, 8):
        stop = min(i + 8, last)
        pictures = torch.from_numpy(frames[i:stop]).permute(0, 1, 4, 2, 3).float() / 255
        timing, _, attention = encoder.timing_and_content(pictures)
        flux = encoder.flux(timing).sigmoid()
        peaks = crops.peaks(flux)
        if not len(peaks):
            continue
        mel = torch.from_numpy(mels[i:stop].astype(np.float32))
        sharp, _ = targets.flux_target(mel)
        colour, _ = targets.colour_target(mel)
        fine = F.pad(sharp.flatten(1), (8, 8))
        around = torch.stack([fine[b, s : s + 17] for b, s in peaks.tolist()])
        parts["sounded"].append(around.amax(1).half().numpy())
        # the colour is read where the sound started, not where it was expected to
        at = (peaks[:, 1] + around.argmax(1) - 8).clamp(0, fine.shape[1] - 17) // 4
        parts["colour"].append(colour[peaks[:, 0], at].half().numpy())
        parts["context"].append(crops.peak_features(timing, flux, peaks).half().numpy())
        parts["place"].append(crops.places(attention, peaks).numpy())
        parts["clip"].append((peaks[:, 0] + i).int().numpy())
        parts["frame"].append(crops.frames_of(peaks, pictures.shape[1]).short().numpy())
    if not parts["clip"]:
        raise V2AError("the motion stream expects a sound nowhere: train it for longer")
    return {k: np.concatenate(v) for k, v in parts.items()}


class EventCropTraining(nn.Module):
    """The event-crop encoder with its losses."""

    def __init__(self, event_crop: EventCropEncoder) -> None:
        super().__init__()
        self.event_crop = event_crop
        self.colour = nn.Linear(event_crop.config.embed, 2 * targets.BANDS)
        self.dropout = nn.Dropout(0.1)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        embedded, logit, _ = self.event_crop(batch["pictures"], batch["place"], self.dropout(batch["context"]))
        sounded = (batch["sounded"] > SOUNDED).float()
        touch = F.binary_cross_entropy_with_logits(logit, sounded)
        square = (self.colour(embedded) - batch["colour"]).square().mean(-1)
        colour = (square * sounded).sum() / sounded.sum().clamp(min=1)
        right = ((logit > 0) == (sounded > 0)).float().mean()
        return {"loss": touch + 3.0 * colour, "touch": touch, "colour": colour, "right": right}


def batches(frames, examples: dict[str, np.ndarray], size: int, seed: int) -> BatchOf:
    """From a number to random examples: moved, mirrored, relit."""

    def batch_of(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([seed, step])
        which = np.sort(rng.integers(0, len(examples["clip"]), size))  # in order: kind to the disk
        side, count = frames.shape[2], examples["frame"].shape[1]
        out = np.empty((size, count, side, side, 3), np.float32)
        place = examples["place"][which] + rng.normal(0, JITTER, (size, 2)).astype(np.float32)
        for k, i in enumerate(which):
            pictures = frames[examples["clip"][i]][examples["frame"][i]]
            a, b = rng.integers(0, 2 * SHIFT + 1, 2)
            pictures = np.pad(pictures, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), mode="edge")
            pictures = pictures[:, a : a + side, b : b + side]
            place[k] += SHIFT - b, SHIFT - a
            if rng.random() < 0.5:
                pictures, place[k, 0] = pictures[:, :, ::-1], side - 1 - place[k, 0]
            if rng.random() < 0.3:
                left, top, width, height = draw_zoom(rng)
                part = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float()
                pictures = zoomed(part, left, top, width, height).permute(0, 2, 3, 1).numpy()
                place[k] = ((place[k] + 0.5) / side - (left, top)) / (width, height) * side - 0.5
            light = rng.uniform(0.75, 1.25) * rng.uniform(0.85, 1.15, 3)
            out[k] = pictures * (light / 255).astype(np.float32) - 0.5
        pictures = torch.from_numpy(out.clip(-0.5, 0.6)).permute(0, 1, 4, 2, 3).flatten(1, 2).contiguous()
        rest = {k: torch.from_numpy(examples[k][which].astype(np.float32)) for k in ("context", "sounded", "colour")}
        return {"pictures": pictures, "place": torch.from_numpy(place), **rest}

    return batch_of


def event_crop_stage(
    encoder: StrikeVision,
    frames,
    examples: dict[str, np.ndarray],
    *,
    steps: int,
    batch_size: int = 64,
    seed: int = 0,
    init: EventCropEncoder | None = None,
) -> Stage:
    """The stage that trains the event crops on gathered examples; the rest of the encoder is not touched.

    Args:
        frames: uint8 [clips, T, 64, 64, 3], the array that ``examples`` were gathered from.
        init: trained event crops to begin from, at half the rate; they are not changed.
    """
    torch.manual_seed(seed)
    module = EventCropTraining(EventCropEncoder(encoder.config.event_crop, encoder.config.timing_dim))
    if init is not None:
        module.event_crop.load_state_dict(init.state_dict())
    optim = OptimConfig(steps=steps, lr=2e-3 if init is None else 1e-3, warmup=60, weight_decay=5e-2, seed=seed)
    return Stage("vision/glimpse", module, batches(frames, examples, batch_size, seed), optim)
