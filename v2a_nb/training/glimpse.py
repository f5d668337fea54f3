"""Recipe of the glimpse: was there a sound, and of which colour, where the flux was expected?

The *when* stream is frozen. Every peak of its prediction on the training clips becomes one example: a
patch of pixels, and from the clip's own sound whether anything rose within 40 ms, and the spectrum that
followed. Near misses are the negatives that this exists for.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.training import targets
from v2a_nb.training.loop import Plan, fit
from v2a_nb.vision.encoder import StrikeVision
from v2a_nb.vision.glimpse import Glimpse

MARGIN = 4  # pixels around a patch, from which training crops at random
SOUNDED = 0.1  # of the flux target: from here on something is said to have started


@torch.no_grad()
def gather(encoder: StrikeVision, frames: np.ndarray, mels: np.ndarray, first: int, last: int) -> dict[str, np.ndarray]:
    """Examples of the clips ``first`` to ``last``.

    Returns:
        ``patch`` uint8 [N, 15, 40, 40], ``context`` float16 [N, C], ``sounded`` float16 [N],
        ``colour`` float16 [N, 80].
    """
    from dataclasses import replace

    parts: dict[str, list[np.ndarray]] = {k: [] for k in ("patch", "context", "sounded", "colour")}
    wide = Glimpse(replace(encoder.config.glimpse, patch=encoder.config.glimpse.patch + 2 * MARGIN), 1)
    for i in range(first, last, 8):
        stop = min(i + 8, last)
        pictures = torch.from_numpy(frames[i:stop].copy()).permute(0, 1, 4, 2, 3).float() / 255
        when, _, attention = encoder.streams(pictures)
        flux = encoder.flux(when).sigmoid()
        peaks = encoder.glimpse.peaks(flux)
        if not len(peaks):
            continue
        frame, place = encoder.glimpse.places(attention, peaks, 25.0)
        patches = wide.cut(pictures, peaks, frame, place)
        mel = torch.from_numpy(mels[i:stop].astype(np.float32))
        sharp, _ = targets.flux_target(mel)
        colour, _ = targets.colour_target(mel)
        fine = F.pad(sharp.flatten(1), (8, 8))
        around = torch.stack([fine[b, s : s + 17] for b, s in peaks.tolist()])
        parts["sounded"].append(around.amax(1).half().numpy())
        # the colour is read where the sound started, not where it was expected to
        at = (peaks[:, 1] + around.argmax(1) - 8).clamp(0, fine.shape[1] - 17) // 4
        parts["colour"].append(colour[peaks[:, 0], at].half().numpy())
        parts["context"].append(encoder.glimpse.context(when, flux, peaks).half().numpy())
        parts["patch"].append(((patches + 0.5) * 255).round().to(torch.uint8).numpy())
    return {k: np.concatenate(v) for k, v in parts.items()}


class GlimpseTraining(nn.Module):
    """The glimpse with its losses."""

    def __init__(self, glimpse: Glimpse) -> None:
        super().__init__()
        self.glimpse = glimpse
        self.colour = nn.Linear(glimpse.config.embed, 2 * targets.BANDS)
        self.dropout = nn.Dropout(0.1)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        embedded, logit = self.glimpse(batch["patch"], self.dropout(batch["context"]))
        sounded = (batch["sounded"] > SOUNDED).float()
        touch = F.binary_cross_entropy_with_logits(logit, sounded)
        square = (self.colour(embedded) - batch["colour"]).square().mean(-1)
        colour = (square * sounded).sum() / sounded.sum().clamp(min=1)
        right = ((logit > 0) == (sounded > 0)).float().mean()
        return {"loss": touch + 3.0 * colour, "touch": touch, "colour": colour, "right": right}


def batches(examples: dict[str, np.ndarray], size: int, seed: int):
    """From a step to random examples: shifted, mirrored, relit."""
    patch = examples["patch"].shape[-1] - 2 * MARGIN

    def batch_of(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([seed, step])
        which = rng.integers(0, len(examples["sounded"]), size)
        out = np.empty((size, examples["patch"].shape[1], patch, patch), np.float32)
        for row, i in zip(out, which, strict=True):
            a, b = rng.integers(0, 2 * MARGIN + 1, 2)
            cut = examples["patch"][i][:, a : a + patch, b : b + patch]
            if rng.random() < 0.5:
                cut = cut[..., ::-1]
            light = rng.uniform(0.75, 1.25) * np.tile(rng.uniform(0.85, 1.15, 3), len(cut) // 3)
            row[:] = cut * (light[:, None, None] / 255).astype(np.float32) - 0.5
        row = {k: torch.from_numpy(examples[k][which].astype(np.float32)) for k in ("context", "sounded", "colour")}
        return {"patch": torch.from_numpy(out.clip(-0.5, 0.6)), **row}

    return batch_of


def train_glimpse(
    encoder: StrikeVision,
    examples: dict[str, np.ndarray],
    out: str | Path,
    *,
    steps: int,
    batch_size: int = 96,
    seed: int = 0,
    resume: bool = False,
) -> StrikeVision:
    """Train ``encoder.glimpse`` on gathered examples; the rest of the encoder is not touched."""
    torch.manual_seed(seed)
    module = GlimpseTraining(encoder.glimpse)
    plan = Plan(steps=steps, lr=2e-3, warmup=60, weight_decay=5e-2, seed=seed)
    trained = fit(module, batches(examples, batch_size, seed), plan, out, resume=resume)
    encoder.glimpse = trained.glimpse
    return encoder.eval()
