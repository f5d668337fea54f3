"""First stage of the latent-diffusion recipes: the autoencoder, its score, and the latents that all else reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from v2a_nb.audio.onsets import detect_onsets
from v2a_nb.clip import Sound
from v2a_nb.data.latent_dataset import LatentDataset, batches
from v2a_nb.hub import as_shipped, tag_of
from v2a_nb.models.autoencoder import AutoencoderConfig, ImageAutoencoder
from v2a_nb.models.codec_report import log10_mel, pooled_f1
from v2a_nb.training.loop import OptimConfig, fit

CROP = 128
"""Columns (1.28 s) of the pictures that the autoencoder is trained on: it has no use for more at a time."""


class AutoencoderTraining(nn.Module):
    """The autoencoder with its loss."""

    def __init__(self, autoencoder: ImageAutoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.autoencoder.loss(batch["images"])


def train_autoencoder(
    scenes: LatentDataset,
    folder: Path,
    config: AutoencoderConfig,
    *,
    steps: int,
    held: int,
    batch_size: int = 16,
    seed: int = 0,
    crop: int = CROP,
) -> ImageAutoencoder:
    """Train, calibrate and score the autoencoder; ``folder/weights`` is the result, and read where it is there.

    Args:
        scenes: the last ``held`` of them are not trained on.
        folder: for log, state and result.
        config: sizes.
        steps, batch_size, seed: of the training.
        crop: columns that it sees of a picture.
    """
    weights = folder / "weights"
    if (weights / "config.json").exists():
        return ImageAutoencoder.from_pretrained(weights.resolve())
    n = len(scenes) - held
    unseen = torch.from_numpy(scenes.images[n : n + 16].astype(np.float32))
    torch.manual_seed(seed)
    module = AutoencoderTraining(ImageAutoencoder(config))

    def eval_fn(step: int, module: AutoencoderTraining) -> dict[str, float | Sound]:
        images = unseen.to(next(module.parameters()).device)
        made = module.autoencoder.decode(module.autoencoder.encode(images))
        wave = scenes.stft.to_wave(made[:1].cpu()).clamp(-1, 1)[0].numpy()
        return {
            "held_out_l1": round(float((made - images).abs().mean()), 5),
            "sample": Sound(wave, scenes.stft.sample_rate),
        }

    plan = OptimConfig(steps=steps, lr=1e-3, warmup=min(100, steps // 4), seed=seed, bf16=True)
    batch_of = batches({"images": scenes.images}, n, batch_size, seed, 1, crop=crop)
    autoencoder = fit(module, batch_of, plan, folder, resume=True, eval_fn=eval_fn, eval_every=200).autoencoder.cpu()
    autoencoder.calibrate(torch.from_numpy(scenes.images[: min(n, 256)].astype(np.float32)))
    as_shipped(autoencoder)
    score = round_trip(autoencoder, scenes, np.arange(n, min(len(scenes), n + 32)))
    autoencoder.save_pretrained(weights, steps=steps, seed=seed, round_trip=score)
    return ImageAutoencoder.from_pretrained(weights.resolve())


@torch.no_grad()
def round_trip(autoencoder: ImageAutoencoder, scenes: LatentDataset, which: np.ndarray) -> dict[str, float]:
    """What is left of true sounds after picture, latents, picture again and Griffin-Lim.

    Args:
        which: clips that were not trained on.

    Returns:
        ``mel_distance`` (mean distance of log10-mels, see
        :func:`~v2a_nb.models.codec_report.log10_mel`) and ``onset_f1_50ms`` against the true onsets; with
        ``_picture`` the same without the autoencoder, with ``_true`` the F1 of the true sounds.
    """
    stft = scenes.stft
    true = torch.from_numpy(scenes.waves(which))
    images = torch.from_numpy(scenes.images[which].astype(np.float32))
    coded = torch.cat([autoencoder.decode(autoencoder.encode(part)) for part in images.split(16)])
    onsets = [scenes.onsets[i] for i in which]

    def f1(waves: Tensor) -> float:
        return round(pooled_f1(onsets, [detect_onsets(Sound(w.numpy(), stft.sample_rate)) for w in waves]), 4)

    made = {"onset_f1_50ms_true": f1(true)}
    for tail, pictures in (("", coded), ("_picture", images)):
        waves = torch.cat([stft.to_wave(p, true.shape[-1]) for p in pictures.split(8)])
        distance = (log10_mel(waves, stft.sample_rate) - log10_mel(true, stft.sample_rate)).abs().mean()
        made |= {f"mel_distance{tail}": round(float(distance), 4), f"onset_f1_50ms{tail}": f1(waves)}
    return made


@torch.no_grad()
def cache_latents(autoencoder: ImageAutoencoder, scenes: LatentDataset, folder: Path) -> np.ndarray:
    """Latents of all clips, float16 [N, C, H, W], kept in ``folder`` for this very autoencoder."""
    about, path = folder / "latents.json", folder / "latents.npy"
    told = {"autoencoder": tag_of(autoencoder, "autoencoder"), "clips": len(scenes)}
    if not about.exists() or json.loads(about.read_text()) != told:
        folder.mkdir(parents=True, exist_ok=True)
        parts = []
        for i in range(0, len(scenes), 16):
            images = torch.from_numpy(scenes.images[i : i + 16].astype(np.float32))
            parts.append(autoencoder.encode(images).numpy().astype(np.float16))
        np.save(path, np.concatenate(parts))
        about.write_text(json.dumps(told))
    return np.load(path, mmap_mode="r")
