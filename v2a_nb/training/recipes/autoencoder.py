"""What the latent-diffusion recipes share: the autoencoder as their first stage, its score, and the latents."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from v2a_nb.audio.onsets import detect_onsets
from v2a_nb.audio.stft_image import StftImage
from v2a_nb.clip import Sound
from v2a_nb.data.features import Features, FeatureStore
from v2a_nb.data.latent_dataset import PER_RECORDING, SECONDS, batches, true_onsets, true_sounds
from v2a_nb.errors import UsageError
from v2a_nb.hub import Pretrained, as_shipped, find_weights, tag_of
from v2a_nb.models.autoencoder import AutoencoderConfig, ImageAutoencoder
from v2a_nb.models.codec_report import log10_mel, pooled_f1
from v2a_nb.models.video_encoders.registry import shipped_place
from v2a_nb.parallel import once_per_machine
from v2a_nb.training.loop import OptimConfig
from v2a_nb.training.recipe import Stage, Stages, TrainConfig, scaling

CROP = 128
"""Columns (1.28 s) of the images that the autoencoder is trained on: it has no use for more at a time."""
BATCH = 16
"""Clips of which a frozen autoencoder makes latents at a time."""


@dataclass(frozen=True)
class ClipTrainConfig(TrainConfig):
    """What the configurations of the latent-diffusion recipes say of clips.

    Attributes:
        batch_size: clips.
        held_out: recordings that are never trained on; of a source with few recordings at most an eighth.
        seconds, per_recording: of a clip, and clips of each recording.
        clip_value: largest absolute value of each gradient; 0 clips the norm of all gradients to 1 instead.
        encoder: name or folder of the frozen video encoder, or of a V-AURA, whose encoder is taken.

    Raises:
        UsageError: an amount that makes no sense.
    """

    batch_size: int = 16
    held_out: int = 16
    seconds: float = SECONDS
    per_recording: int = PER_RECORDING
    clip_value: float = 0.0
    encoder: str = "strike_wide"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.held_out < self.fewest_recordings:
            raise UsageError(
                f"{self.held_out} of {self.fewest_recordings} recordings cannot be held out: at least 2 must be, and "
                "some must be left"
            )
        if not self.seconds > 0:
            raise UsageError(f"clips cannot last {self.seconds} s")
        if not self.clip_value >= 0:
            raise UsageError(f"clip_value is {self.clip_value}: 0 or more is needed")

    @property
    def fewest_recordings(self) -> int:
        """How many recordings are asked for, of the part that has the fewest."""
        raise TypeError(f"{type(self).__name__} does not say how many recordings it reads")

    def scaled(self, share: float) -> ClipTrainConfig:
        config = TrainConfig.scaled(replace(self, held_out=2), share)
        return replace(config, held_out=min(self.held_out, max(2, config.fewest_recordings // 8)))

    def optim(self, steps: int, seed: int, **options) -> OptimConfig:
        """Settings of a stage."""
        options = {"lr": 1e-3, "warmup": min(100, steps // 4), "clip_value": self.clip_value or None, **options}
        return OptimConfig(steps, seed=seed, **options)


@dataclass(frozen=True)
class LatentTrainConfig(ClipTrainConfig):
    """The same of a recipe whose first stage is the autoencoder.

    Attributes:
        autoencoder_steps: of that stage.
    """

    autoencoder_steps: int = scaling(3000)


class AutoencoderTraining(nn.Module):
    """The autoencoder with its loss."""

    def __init__(self, autoencoder: ImageAutoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.autoencoder.loss(batch["images"])


def autoencoder_stage(
    clips: Features,
    unseen: Features,
    out: Path,
    config: AutoencoderConfig,
    stft: StftImage,
    train: LatentTrainConfig,
    *,
    seed: int = 0,
    crop: int = CROP,
) -> Stages:
    """The stage that trains the autoencoder; it is then calibrated and scored.

    Args:
        clips: with ``images``.
        unseen: clips that are not trained on.
        out: folder of the run; ``autoencoder/weights`` in it is written.
        config: sizes.
        stft: what the images are.
        train: steps and batch size.
        seed: of initialisation and batches.
        crop: columns that it sees of an image.

    Returns:
        The autoencoder as its weights give it.
    """
    torch.manual_seed(seed)
    module = AutoencoderTraining(ImageAutoencoder(config))

    def eval_fn(step: int, module: AutoencoderTraining) -> dict[str, float | Sound]:
        images = torch.from_numpy(unseen["images"][:16].astype(np.float32)).to(next(module.parameters()).device)
        decoded = module.autoencoder.decode(module.autoencoder.encode(images))
        wave = stft.to_wave(decoded[:1].cpu()).clamp(-1, 1)[0].numpy()
        l1 = round(float((decoded - images).abs().mean()), 5)
        return {"held_out_l1": l1, "sample": Sound(wave, stft.sample_rate)}

    batch_of = batches({"images": clips["images"]}, train.batch_size, seed, 1, crop=crop)
    optim = train.optim(train.autoencoder_steps, seed, bf16=True)
    module = yield Stage("autoencoder", module, batch_of, optim, eval_fn, 200)
    autoencoder, weights = module.autoencoder.cpu(), out / "autoencoder" / "weights"

    def write() -> None:
        if (weights / "config.json").exists():
            return
        autoencoder.calibrate(torch.from_numpy(clips["images"][:256].astype(np.float32)))
        as_shipped(autoencoder)
        score = round_trip(autoencoder, unseen.where(slice(0, 32)), stft)
        autoencoder.save_pretrained(weights, steps=train.autoencoder_steps, seed=seed, round_trip=score)

    once_per_machine(write)
    return ImageAutoencoder.from_pretrained(weights.resolve())


@torch.no_grad()
def round_trip(autoencoder: ImageAutoencoder, clips: Features, stft: StftImage) -> dict[str, float]:
    """Measure what the round trip through image, latents, image and Griffin-Lim leaves of true sounds.

    Args:
        clips: with ``images``, not trained on.

    Returns:
        ``mel_distance`` (mean distance of log10-mels, see :func:`~v2a_nb.models.codec_report.log10_mel`) and
        ``onset_f1_50ms`` against the true onsets; with ``_picture`` the same without the autoencoder, with ``_true``
        the F1 of the true sounds.
    """
    rows = np.arange(len(clips))
    true = torch.from_numpy(true_sounds(clips, rows, stft.sample_rate))
    images = torch.from_numpy(clips["images"][:].astype(np.float32))
    coded = torch.cat([autoencoder.decode(autoencoder.encode(part)) for part in images.split(BATCH)])
    onsets = true_onsets(clips, rows)

    def f1(waves: Tensor) -> float:
        return round(pooled_f1(onsets, [detect_onsets(Sound(w.numpy(), stft.sample_rate)) for w in waves]), 4)

    score = {"onset_f1_50ms_true": f1(true)}
    for tail, pictures in (("", coded), ("_picture", images)):
        waves = torch.cat([stft.to_wave(p, true.shape[-1]) for p in pictures.split(8)])
        distance = (log10_mel(waves, stft.sample_rate) - log10_mel(true, stft.sample_rate)).abs().mean()
        score |= {f"mel_distance{tail}": round(float(distance), 4), f"onset_f1_50ms{tail}": f1(waves)}
    return score


def compute_latents(store: FeatureStore, images: Features, autoencoder: ImageAutoencoder) -> Features:
    """``latents`` float16 [N, C, H, W] of all clips with ``images``."""

    @torch.no_grad()
    def function(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        latents = autoencoder.encode(torch.from_numpy(batch["images"].astype(np.float32)))
        return {"latents": latents.numpy().astype(np.float16)}

    revision = {"autoencoder": tag_of(autoencoder, "autoencoder")}
    return store.map(images, "latents", function, ["images"], revision, BATCH)


def load_autoencoder(name: str) -> ImageAutoencoder:
    """A frozen autoencoder.

    Args:
        name: of its weights, or of those of a system that holds it in ``autoencoder``: a shipped name, a folder or a
            Hub id.

    Raises:
        WeightsError: there are no such weights.
    """
    folder = find_weights(name)
    inside = folder / "autoencoder"
    return ImageAutoencoder.from_pretrained(inside if inside.is_dir() else folder)


def keep_encoder(encoder: Pretrained, name: str | Path, out: Path) -> Path:
    """Write the frozen encoder into a run's folder, where its weights and those of its ablations refer to it.

    A shipped encoder lies there as it does among the shipped weights, so that the weights of the run can be put beside
    them as they are; any other in ``encoders/``, by its fingerprint.

    Args:
        encoder: what ``name`` loaded.
        name: see :func:`~v2a_nb.models.video_encoders.registry.load_video_encoder`.
        out: of the run.
    """
    place = shipped_place(name) or f"encoders/{tag_of(encoder, 'vision').removeprefix('vision@')}"
    return keep(encoder, out / place)


def keep(part: Pretrained, folder: Path) -> Path:
    """Write a frozen part into a folder of a run, where it is not there yet; returns the folder."""
    return folder if (folder / "config.json").exists() else part.save_pretrained(folder)


def references(weights: Path, **parts: Path | str) -> dict[str, str]:
    """Parts as a folder of weights refers to them: paths relative to that folder, names as they are."""
    relative = {k: Path(os.path.relpath(v, weights)).as_posix() for k, v in parts.items() if isinstance(v, Path)}
    return {**parts, **relative}
