"""Recipe of Segment AVCLIP: the visual tower that V-AURA reads, trained with the sounds of its segments.

v2a-nb train segment_avclip --preset paper --data csv:vggsound.csv --out runs/segment_avclip

Contrastive pre-training at the level of segments (Iashin et al. 2024, section 2.1): pictures of 0.64 s must find their
own sound among all segments of the batch, those of the same video included, and sounds their pictures. A segment is the
mean of its tower's vectors; the temperature is learned, from 0.07 on within 0.001 to 0.5. The released towers start
from an image model and from AudioSet's AST; here both start from nothing.

Clips are decoded when a step wants them, at a random part of a recording, since the pictures of a large collection
would not fit on a disk.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.data.features import FeatureStore
from v2a_nb.data.recordings import Recordings
from v2a_nb.errors import UsageError
from v2a_nb.models.av_embedding import info_nce
from v2a_nb.models.synchformer import SAMPLE_RATE, SegmentAudioTower, segment_mel
from v2a_nb.models.video_encoders.segment_avclip import (
    FPS,
    SEGMENT,
    SegmentAvclip,
    SegmentConfig,
    SegmentVideoTower,
    segment_pixels,
)
from v2a_nb.training.loop import BatchOf, OptimConfig
from v2a_nb.training.memory import lines_of, memory_of
from v2a_nb.training.recipe import Recipe, Stage, Stages, TrainConfig, or_zero, scaling

SEGMENT_S = SEGMENT / FPS
TEMPERATURES = (0.001, 0.5)
"""Least and greatest temperature."""


@dataclass(frozen=True)
class SegmentAvclipTrainConfig(TrainConfig):
    """How much of everything.

    Attributes:
        recordings: that are learned from, or as many as there are.
        held_out: the last of them, on which validation is; at most an eighth.
        batch_size: clips of a batch.
        segments: of a clip, side by side.
        temperature: where it starts.
        lr, warmup, weight_decay: of AdamW.
        eval_every: steps between two validations.
        patience: validations in a row without a smaller loss after which training ends; 0: all steps are trained.
        bf16: compute in bfloat16 where the device has it.
    """

    steps: int = scaling(2000)
    recordings: int = 2000
    held_out: int = 100
    batch_size: int = 4
    segments: int = 4
    temperature: float = 0.07
    lr: float = 1e-3
    warmup: int = 100
    weight_decay: float = 0.01
    eval_every: int = 200
    patience: int = or_zero(0)
    bf16: bool = True


@dataclass(frozen=True)
class PaperTrainConfig(SegmentAvclipTrainConfig):
    """The paper's rate and sizes: two clips of 14 segments on each of 16 GPUs."""

    steps: int = scaling(200_000)
    recordings: int = 170_000
    held_out: int = 2000
    batch_size: int = 2
    segments: int = 14
    lr: float = 1e-4
    warmup: int = 1000
    eval_every: int = 2000
    patience: int = or_zero(13)


class SegmentAvclipRecipe(Recipe):
    """A small tower on pictures of 64 pixels.

    Args:
        model: sizes of both towers; left out, those of the preset.
    """

    name = "segment_avclip"
    template = None
    TrainConfig = SegmentAvclipTrainConfig
    config: SegmentAvclipTrainConfig
    sizes: ClassVar[SegmentConfig] = SegmentConfig(size=64, dim=96, depth=3, heads=4, mlp=192)

    def __init__(
        self, config: TrainConfig | None = None, *, model: SegmentConfig | None = None, **options: Any
    ) -> None:
        super().__init__(config, **options)
        self.model = model or self.sizes
        self.model.check()

    def settings(self) -> dict[str, object]:
        return {"model": asdict(self.model)}

    def features(self, recordings: Recordings, store: FeatureStore) -> tuple[Recordings, list[int], list[int]]:
        """The recordings with the numbers of those to train on, and of those that validation is on."""
        c = self.config
        least = c.segments * SEGMENT_S
        numbers = [n for n in recordings.numbers(0, c.recordings) if recordings.open(n).duration_s >= least]
        held_out = min(c.held_out, max(1, len(numbers) // 8))
        if len(numbers) - held_out < c.batch_size:
            raise UsageError(
                f"{len(numbers)} recordings last the {least:.2f} s of {c.segments} segments: {c.batch_size + held_out} "
                "are needed; give more or longer ones, or --set segments=N"
            )
        return recordings, numbers[:-held_out], numbers[-held_out:]

    def stages(self, features: tuple[Recordings, list[int], list[int]], store: FeatureStore, out: Path) -> Stages:
        c, (recordings, numbers, unseen) = self.config, features
        torch.manual_seed(self.seed)
        module = SegmentAvclipTraining(self.model, c.temperature)
        batch_of = clips_of(recordings, unseen, c, self.model.size, self.seed + 1)
        count = max(1, min(8, len(unseen) // c.batch_size))

        def eval_fn(step: int, module: SegmentAvclipTraining) -> dict[str, float]:
            device = module.log_temperature.device
            found = [module({k: v.to(device) for k, v in batch_of(i).items()}) for i in range(count)]
            means = {k: float(torch.stack([each[k] for each in found]).mean()) for k in ("loss", "found")}
            return {"val_loss": round(means["loss"], 5), "val_found": round(means["found"], 4)}

        optim = OptimConfig(
            steps=c.steps, lr=c.lr, warmup=c.warmup, weight_decay=c.weight_decay, seed=self.seed, bf16=c.bf16,
        )  # fmt: skip
        learn = clips_of(recordings, numbers, c, self.model.size, self.seed)
        trained = yield Stage("", module, learn, optim, eval_fn, c.eval_every, c.patience)
        return SegmentAvclip(tower=trained.video.cpu())

    def dry_run(self) -> list[str]:
        c, m = self.config, self.model
        with torch.device("meta"):
            module = SegmentAvclipTraining(m, c.temperature)
            pixels = torch.zeros(c.batch_size * c.segments, SEGMENT, 3, m.size, m.size)
            mel = segment_mel(torch.zeros(c.batch_size * c.segments, round(SEGMENT_S * SAMPLE_RATE), device="cpu"))
            mel = mel.to("meta")
            memory = memory_of(module, lambda net: net.loss(pixels.to(net.weight), mel.to(net.weight))["loss"])
        return [*super().dry_run(), *lines_of(memory, c.batch_size)]


class SegmentAvclipPaperRecipe(SegmentAvclipRecipe):
    """The published tower: ViT-B on pictures of 224 pixels."""

    preset, TrainConfig, sizes = "paper", PaperTrainConfig, SegmentConfig()


class SegmentAvclipTraining(nn.Module):
    """Both towers with their loss."""

    def __init__(self, config: SegmentConfig, temperature: float = 0.07) -> None:
        super().__init__()
        self.video, self.audio = SegmentVideoTower(config), SegmentAudioTower(config)
        self.log_temperature = nn.Parameter(torch.tensor(temperature).log())

    @property
    def weight(self) -> Tensor:
        """A weight, which knows device and type."""
        return self.video.cls_token

    @property
    def temperature(self) -> Tensor:
        """Within :data:`TEMPERATURES`."""
        return self.log_temperature.exp().clamp(*TEMPERATURES)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses of ``frames`` uint8 [B, S * 16, 3, size, size] and ``waves`` [B, S, 10240]."""
        pixels = (batch["frames"].float() / 127.5 - 1).unflatten(1, (-1, SEGMENT)).flatten(0, 1)
        return self.loss(pixels, segment_mel(batch["waves"].flatten(0, 1)))

    def loss(self, pixels: Tensor, mel: Tensor) -> dict[str, Tensor]:
        """InfoNCE over all segments, and ``found``, the share of pictures whose own sound is the nearest."""
        video = F.normalize(self.video(pixels).float().mean(1), dim=-1)  # [B S, dim]
        audio = F.normalize(self.audio(mel).float().mean(1), dim=-1)
        right = torch.arange(len(video), device=video.device)
        found = ((video @ audio.T).argmax(1) == right).float().mean()
        return {"loss": info_nce(audio, video, self.temperature.float()), "found": found}


def clips_of(recordings: Recordings, numbers: list[int], c: SegmentAvclipTrainConfig, size: int, seed: int) -> BatchOf:
    """From a number to parts of random recordings, decoded when they are asked for; mirrored half of the time."""
    seconds = c.segments * SEGMENT_S
    times, samples = np.arange(c.segments * SEGMENT) / FPS, round(SEGMENT_S * SAMPLE_RATE)
    shown = round(size * 256 / 224)

    def batch_of(number: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([seed, number])
        frames, waves = [], []
        for chosen in rng.choice(numbers, c.batch_size, replace=len(numbers) < c.batch_size):
            recording = recordings.open(int(chosen))
            start_s = rng.uniform(0, max(0.0, recording.duration_s - seconds))
            pictures = recording.frames(start_s, times, shown, FPS)
            pixels = segment_pixels(pictures, size)
            frames.append(((pixels + 1) * 127.5).round().to(torch.uint8))
            if rng.random() < 0.5:
                frames[-1] = frames[-1].flip(-1)
            wave, first = recording.wave(SAMPLE_RATE), round(start_s * SAMPLE_RATE)
            part = np.zeros(c.segments * samples, np.float32)
            there = wave[first : first + len(part)]
            part[: len(there)] = there
            waves.append(torch.from_numpy(part).unflatten(0, (c.segments, samples)))
        return {"frames": torch.stack(frames), "waves": torch.stack(waves)}

    return batch_of
