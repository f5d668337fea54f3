"""Recipe of the ``tiny`` vision encoder: audio-visual pre-training without labels.

Three losses, all from the clip's own sound: the flux at 5 ms (timing), the spectrum that follows a hit
(content), and a contrastive loss on 0.64 s segments as in Segment AVCLIP (Iashin et al. 2024, section
2.1). After it, the encoder is frozen and its tokens are cached.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.audio import targets
from v2a_nb.models.video_encoders.event_crop import EventCropConfig
from v2a_nb.models.video_encoders.strike import StrikeVision, VisionConfig
from v2a_nb.training.loop import BatchOf, OptimConfig
from v2a_nb.training.recipe import Stage

SEGMENT = 32  # tokens: 0.64 s
CALIBRATION = ("calibration_bias", "calibration_scale")


class Pretraining(nn.Module):
    """The encoder with the heads that are thrown away afterwards."""

    def __init__(self, config: VisionConfig | None = None) -> None:
        super().__init__()
        self.encoder = StrikeVision(config)
        c = self.encoder.config
        self.colour = nn.Linear(c.content_dim, 2 * targets.BANDS)
        self.video_projection = nn.Linear(c.timing_dim + c.content_dim, 64)
        self.audio_projection = nn.Sequential(
            nn.Conv1d(targets.BANDS, 64, 5, stride=4, padding=2), nn.GELU(),
            nn.Conv1d(64, 64, 5, stride=4, padding=2), nn.GELU(), nn.Conv1d(64, 64, 3, padding=1),
        )  # fmt: skip
        self.scale = nn.Parameter(torch.tensor(2.5))

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """``frames`` [B, T, 3, 64, 64] in [0, 1], ``mel`` [B, 40, 8 T] to the losses."""
        timing, content, _ = self.encoder.timing_and_content(batch["frames"])
        mel = batch["mel"]
        sharp, bands = targets.flux_target(mel)
        colour, weight = targets.colour_target(mel)
        guess = self.encoder.flux(timing)
        # hits are rare: where something starts counts ten times as much as where nothing does
        balance = 1 + 9 * weight[..., None]
        time_loss = F.binary_cross_entropy_with_logits(guess[..., :4], sharp, weight=balance.expand(-1, -1, 4))
        band_loss = F.binary_cross_entropy_with_logits(guess[..., 4:], bands, weight=balance.expand(-1, -1, 8))
        square = (self.colour(content) - colour).square().mean(-1)
        colour_loss = (square * weight).sum() / (weight.sum() + 1e-3)
        contrast = self._contrast(torch.cat([timing, content], -1), mel)
        loss = 2 * time_loss + 0.5 * band_loss + 1.5 * colour_loss + 0.1 * contrast
        return {
            "loss": loss, "time": time_loss, "bands": band_loss, "colour": colour_loss,
            "contrast": contrast,
        }  # fmt: skip

    def _contrast(self, tokens: Tensor, mel: Tensor) -> Tensor:
        """Symmetric InfoNCE between the video and the sound of the same 0.64 s."""
        video = self.video_projection(tokens).transpose(1, 2)
        audio = self.audio_projection((mel + 6) / 4)
        n = video.shape[-1] // SEGMENT
        video = F.adaptive_max_pool1d(video[..., : n * SEGMENT], n).transpose(1, 2).flatten(0, 1)
        audio = F.adaptive_max_pool1d(audio, n).transpose(1, 2).flatten(0, 1)
        logits = F.normalize(video, dim=-1) @ F.normalize(audio, dim=-1).T * self.scale.exp().clamp(max=30)
        truth = torch.arange(len(logits), device=logits.device)
        return 0.5 * (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth))


def batches(frames, mels, size: int, seed: int) -> BatchOf:
    """From a number to a batch: random clips, mirrored, recoloured, cropped and slowed at random."""

    def batch_of(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([seed, step])
        which = np.sort(rng.integers(0, len(frames), size))
        pictures = torch.from_numpy(np.stack([frames[i] for i in which])).float() / 255
        pictures = pictures.permute(0, 1, 4, 2, 3)
        mel = torch.from_numpy(np.stack([mels[i] for i in which])).float()
        return {"frames": augment(pictures, rng), "mel": mel}

    return batch_of


ZOOM = 0.6, 1.15
"""Shares of the picture's width and height that a zoomed example shows, least and greatest; over 1, the border is
repeated. Width and height are drawn apart: a video of another aspect is squashed."""


def zoomed(pictures: Tensor, left: float, top: float, width: float, height: float) -> Tensor:
    """A part of the pictures at their full size, the border repeated outside.

    Args:
        pictures: [N, C, H, W].
        left, top, width, height: of the part, in shares of the whole.
    """
    part = torch.tensor([[width, 0.0, 2 * left + width - 1], [0.0, height, 2 * top + height - 1]])
    grid = F.affine_grid(part[None], [1, 1, *pictures.shape[-2:]], align_corners=False)
    grid = grid.expand(len(pictures), -1, -1, -1)
    return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)


def draw_zoom(rng: np.random.Generator) -> tuple[float, float, float, float]:
    """A part of the picture for :func:`zoomed`: left, top, width, height."""
    width, height = (float(v) for v in rng.uniform(*ZOOM, 2))
    left, top = (float(v) for v in rng.uniform(0, 1, 2) * (1 - np.array([width, height])))
    return left, top, width, height


def augment(pictures: Tensor, rng: np.random.Generator) -> Tensor:
    """One random look per clip: mirror, shift, zoom, gain, contrast, colour channels. [B, T, 3, H, W]."""
    out = []
    for clip in pictures:
        if rng.random() < 0.5:
            clip = clip.flip(-1)
        if rng.random() < 0.5:
            clip = clip[:, torch.from_numpy(rng.permutation(3))]
        if rng.random() < 0.1:
            clip = clip.mean(1, keepdim=True).expand(-1, 3, -1, -1)
        if rng.random() < 0.5:
            gain = torch.from_numpy(rng.uniform(0.7, 1.3, (1, 3, 1, 1)).astype(np.float32))
            clip = (clip - 0.5) * float(rng.uniform(0.6, 1.2)) + 0.5 + float(rng.uniform(-0.1, 0.1))
            clip = (clip * gain).clamp(0, 1)
        if rng.random() < 0.5:
            dx, dy = (int(v) for v in rng.integers(-5, 6, 2))
            clip = F.pad(clip, (6, 6, 6, 6), mode="replicate")[..., 6 + dy : 70 + dy, 6 + dx : 70 + dx]
        if rng.random() < 0.3:
            clip = zoomed(clip, *draw_zoom(rng))
        out.append(clip)
    return torch.stack(out)


def undecided(config: EventCropConfig) -> EventCropConfig:
    """Event crops that give probabilities as they were trained, which is what a decoder learns from."""
    plain = EventCropConfig()
    return replace(config, logit_bias=plain.logit_bias, logit_scale=plain.logit_scale)


def pretraining_stage(
    frames, mels, *, steps: int, batch_size: int = 16, seed: int = 0, init: StrikeVision | None = None
) -> Stage:
    """The stage that pre-trains the encoder on pictures and the log-mels of their sounds.

    Args:
        frames: uint8 [N, T, 64, 64, 3] at 25 fps.
        mels: float [N, 40, 8 T], from :func:`v2a_nb.audio.targets.log_mel`.
        init: a trained encoder to begin from, at half the rate; it is not changed.
    """
    torch.manual_seed(seed)
    config = VisionConfig() if init is None else init.config
    # what follows learns from probabilities before a decision, whatever the encoder decided that this one begins at
    fresh = replace(undecided(config.event_crop), **{name: getattr(EventCropConfig(), name) for name in CALIBRATION})
    module = Pretraining(replace(config, fit="squash", event_crop=fresh))
    if init is not None:
        module.encoder.load_state_dict(init.state_dict())
    lr = 1.5e-3 if init is None else 0.75e-3
    optim = OptimConfig(steps=steps, lr=lr, warmup=100, weight_decay=2e-2, seed=seed)
    return Stage("vision", module, batches(frames, mels, batch_size, seed), optim)
