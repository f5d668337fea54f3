"""Recipe of the vocoder: HiFi-GAN, first on spectra alone, then against discriminators. It needs no pictures.

    v2a-nb train vocoder --out runs/vocoder

``spectral/`` in the run's folder holds log, state and samples of the first stage.

Action2Sound trains HiFi-GAN on segments of 0.5 s for 120 000 steps of 64 (section 4.1). On one core there is time
for a few thousand of 16, and a generator that starts at noise would spend most of them learning what spectra alone
teach sooner: hence two stages.

HiFi-GAN steps its two optimizers in turn. Both have the same settings, and here the losses of both sides are
taken at the same weights and reach only their own (see ``Discriminators.frozen``), so one optimizer steps both and
the loop of all other recipes serves.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from v2a_nb.audio.match_mels import match_mels
from v2a_nb.audio.onsets import detect_onsets
from v2a_nb.audio.spectrogram import LogScale, Spectrogram
from v2a_nb.clip import Sound
from v2a_nb.data.dataset import Cut, cut_clips, cut_sounds
from v2a_nb.data.features import Extractor, Features, FeatureStore, ShardedArray
from v2a_nb.data.recordings import Recording, Recordings
from v2a_nb.errors import UsageError
from v2a_nb.hub import as_shipped
from v2a_nb.models import discriminators as critics
from v2a_nb.models.codec_report import log10_mel, pooled_f1
from v2a_nb.models.discriminators import DiscriminatorConfig, Discriminators
from v2a_nb.models.vocoder import PRESETS, Vocoder, VocoderConfig
from v2a_nb.training.loop import BatchOf, EvalFn, OptimConfig
from v2a_nb.training.recipe import Recipe, Stage, Stages, TrainConfig, scaling
from v2a_nb.training.recipes.codec import SpectralLoss

FRAMES, MARGIN = 32, 4
"""Frames of a training segment (8192 samples, 0.512 s), and of the margin on either side where mels are matched: the
first and the last windows of a match see nothing beyond."""
MATCHED = 4
"""Times that mels are matched while training: enough to teach, and a quarter of what the finished vocoder takes."""
UNSEEN_SECONDS, EVAL_EVERY = 3.0, 250
"""Seconds of each recording that is held out, and steps between two evaluations."""
SPECTRAL_WEIGHT, FEATURE_WEIGHT = 45.0, 2.0
"""HiFi-GAN's (section 2.3); the adversarial loss counts once."""


@dataclass(frozen=True)
class VocoderTrainConfig(TrainConfig):
    """How much of everything.

    Attributes:
        steps: of the second stage.
        recordings: of which one window each is trained on.
        held_out: recordings beside these that are never trained on; of a source with few recordings at most an eighth.
        spectral_steps: of the first stage.
        batch_size: segments.
        seconds: of a window.

    Raises:
        UsageError: an amount that makes no sense.
    """

    steps: int = scaling(2400)
    recordings: int = scaling(1500)
    held_out: int = 16
    spectral_steps: int = scaling(3000)
    batch_size: int = 16
    seconds: float = 8.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.seconds >= 1:
            raise UsageError(f"seconds is {self.seconds}: windows of at least 1 s are needed")


@dataclass(frozen=True)
class SoundWindows(Extractor):
    """``waves`` float16 [n, samples]: the clips' sounds."""

    seconds: float
    sample_rate: int
    name: ClassVar[str] = "sound-windows"

    def extract(self, recording: Recording, starts) -> dict[str, np.ndarray]:
        return {"waves": cut_sounds(recording, starts, self.seconds, self.sample_rate).astype(np.float16)}


class VocoderTraining(nn.Module):
    """The vocoder with its losses, and with the discriminators where there are some.

    These hear what users will hear, which is the wave after its mels were matched
    (:func:`~v2a_nb.audio.match_mels.match_mels`): the generator need not learn an envelope that it will be given, and
    spends itself on what is left.

    Args:
        vocoder: to train.
        judges: left out, spectra are all that counts, those of the generator alone.
    """

    def __init__(self, vocoder: Vocoder, judges: Discriminators | None = None) -> None:
        super().__init__()
        self.vocoder, self.judges = vocoder, judges
        self.spectral = SpectralLoss(vocoder.sample_rate)
        # natural logs, as HiFi-GAN has them, whatever scale the vocoder itself reads
        self.mels = Spectrogram(replace(vocoder.spectrogram.front_end, scale=LogScale()))

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of ``spectrogram`` [B, F, T] and ``wave`` [B, n], whose samples are those in the middle of T * hop."""
        true = batch["wave"]
        wave = self.vocoder(batch["spectrogram"])
        if self.judges is not None and self.vocoder.config.match:
            with torch.autocast(true.device.type, enabled=False):
                times = min(MATCHED, self.vocoder.config.match)
                wave = match_mels(wave.float(), batch["spectrogram"], self.vocoder.spectrogram, times)
        before = (wave.shape[-1] - true.shape[-1]) // 2
        wave = wave[:, before : before + true.shape[-1]]
        losses = self.spectral_losses(wave, true)
        spectral = losses["mel"] + losses["spectral"] + losses["transport"]
        if self.judges is None:
            return {"loss": spectral, **losses}
        losses |= self.discriminator_losses(wave, true)
        own = SPECTRAL_WEIGHT * spectral + FEATURE_WEIGHT * losses["feature"] + losses["generator"]
        return {"loss": own + losses["discriminator"], **losses}

    def spectral_losses(self, wave: Tensor, true: Tensor) -> dict[str, Tensor]:
        """``mel``, ``spectral`` and ``transport`` of waves [B, n], in float32 whatever dtype ``wave`` has.

        The first is HiFi-GAN's, L1 between natural logs of mels; the others, :class:`SpectralLoss` at five
        resolutions, see onsets and pitch that one window of 64 ms does not.
        """
        with torch.autocast(true.device.type, enabled=False):
            wave = wave.float()
            mel = (self.mels(wave) - self.mels(true)).abs().mean()
            spectral, _, transport = self.spectral(wave, true)
        return {"mel": mel, "spectral": spectral, "transport": transport}

    def discriminator_losses(self, wave: Tensor, true: Tensor) -> dict[str, Tensor]:
        """``discriminator``, with gradients to the discriminators alone, and ``generator`` and ``feature``, with
        gradients to the generator of ``wave`` alone."""
        on_true, on_wave = critics.judge_both(self.judges, true, wave)
        fooled = self.judges.frozen(wave)
        return {
            "discriminator": critics.discriminator_loss(on_true, on_wave),
            "generator": critics.generator_loss(fooled),
            "feature": critics.feature_loss(on_true, fooled),
        }


@torch.no_grad()
def start(vocoder: Vocoder, waves: np.ndarray | ShardedArray) -> None:
    """Initialise weights so that the signal keeps its size through narrow layers, and measure the bands.

    The initialisation of ``transformers``, normal with a spread of 0.01, lets the signal die out. The blocks start near
    the identity.

    Args:
        waves: [N, n] at the vocoder's rate; means and spreads of the bands are measured on at most 128 of them.
    """
    for name, layer in vocoder.model.named_modules():
        if isinstance(layer, nn.Conv1d):
            nn.init.kaiming_normal_(layer.weight, a=vocoder.model.config.leaky_relu_slope)
            layer.weight.mul_(0.2 if "convs2" in name else 0.1 if name == "conv_post" else 1.0)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.ConvTranspose1d):
            inputs = layer.in_channels * layer.kernel_size[0] / layer.stride[0]  # of one output
            nn.init.normal_(layer.weight, 0.0, math.sqrt(2 / inputs))
            nn.init.zeros_(layer.bias)
    if vocoder.config.normalize:
        few = np.asarray(waves[:: max(1, len(waves) // 128)][:128], np.float32)
        vocoder.calibrate(vocoder.spectrogram(torch.from_numpy(few)))


def batches(
    waves: np.ndarray | ShardedArray, front: Spectrogram, size: int, seed: int, frames: int = FRAMES, more: int = 0
) -> BatchOf:
    """From a number to random segments of ``waves`` [N, n], at a random gain of -9 to +3 dB, with their spectrograms.

    A segment's spectrogram is cut out of a longer one, so that its first and last frames are like all others; it has
    ``more`` frames on either side than the segment.
    """
    f = front.front_end
    margin = -(-f.n_fft // f.hop) + more  # frames whose windows a cut could reach
    length = (frames + 2 * margin) * f.hop

    def batch_of(number: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([seed, number])
        out = np.empty((size, length), np.float32)
        for row in out:
            wave = waves[rng.integers(len(waves))]
            begin = rng.integers(0, len(wave) - length + 1)
            row[:] = wave[begin : begin + length] * np.float32(10 ** (rng.uniform(-9, 3) / 20))
        wave = torch.from_numpy(out).clamp(-1, 1)
        return {
            "spectrogram": front(wave)[..., margin - more : margin + frames + more],
            "wave": wave[:, margin * f.hop : (margin + frames) * f.hop],
        }

    return batch_of


class VocoderRecipe(Recipe):
    """The vocoder from nothing.

    Args:
        model, judges: sizes of the generator and its discriminators; left out, those of ``tiny``.
    """

    name, template = "vocoder", "vocoder_card.md"
    TrainConfig = VocoderTrainConfig

    def __init__(
        self,
        config: VocoderTrainConfig | None = None,
        *,
        model: VocoderConfig | None = None,
        judges: DiscriminatorConfig | None = None,
        **options,
    ) -> None:
        super().__init__(config, **options)
        self.model, self.judges = model or PRESETS["tiny"], judges or critics.PRESETS["tiny"]

    def settings(self) -> dict[str, object]:
        return {"model": asdict(self.model), "judges": asdict(self.judges)}

    def features(self, recordings: Recordings, store: FeatureStore) -> Features:
        c, rate = self.config, Spectrogram(self.model.front_end).front_end.sample_rate
        cut = Cut(c.seconds, 1, c.recordings + c.held_out, stream="vocoder", sample_rate=rate)
        return store.compute(cut_clips(recordings, cut), recordings, SoundWindows(c.seconds, rate))

    def stages(self, features: Features, store: FeatureStore, out: Path) -> Stages:
        c, seed = self.config, self.seed
        clips, unseen = features.split(c.held_out, c.recordings + c.held_out)
        torch.manual_seed(seed)
        vocoder, judges = Vocoder(self.model), Discriminators(self.judges)
        start(vocoder, clips["waves"])
        eval_fn = held_out_eval(vocoder, unseen["waves"])
        common = {"warmup": 50, "weight_decay": 1e-3, "betas": (0.8, 0.99), "bf16": True}
        # 1. the generator, on spectra alone
        optim = OptimConfig(c.spectral_steps, lr=1e-3, seed=seed, **common)
        batch_of = batches(clips["waves"], vocoder.spectrogram, c.batch_size, seed)
        yield Stage("spectral", VocoderTraining(vocoder), batch_of, optim, eval_fn, EVAL_EVERY)
        # 2. both sides. No clipping: a norm over both would let the one's size set the other's step
        optim = OptimConfig(c.steps, lr=4e-4, clip_norm=1e6, seed=seed + 1, **common)
        more = MARGIN if self.model.match else 0
        batch_of = batches(clips["waves"], vocoder.spectrogram, c.batch_size, seed + 1, more=more)
        yield Stage("", VocoderTraining(vocoder, judges), batch_of, optim, eval_fn, EVAL_EVERY)
        return as_shipped(vocoder.cpu())

    def card(self, model: Vocoder) -> dict[str, object]:
        return {"judges": asdict(self.judges), "matched": min(MATCHED, self.model.match)}


def held_out_eval(vocoder: Vocoder, waves: np.ndarray | ShardedArray) -> EvalFn:
    """Evaluate by mel distance, and by onsets against those of the true sounds.

    Args:
        waves: [N, n], not trained on.
    """
    rate = vocoder.sample_rate
    true = torch.from_numpy(waves[:][:, : round(UNSEEN_SECONDS * rate)].astype(np.float32))
    spectrograms, mel = vocoder.spectrogram(true), log10_mel(true, rate)
    onsets = [detect_onsets(Sound(w.numpy(), rate)) for w in true]

    def eval_fn(step: int, module: VocoderTraining) -> dict[str, float | Sound]:
        waves = torch.cat([module.vocoder.decode(part, true.shape[-1]).cpu() for part in spectrograms.split(4)])
        sounds = [Sound(w.numpy(), rate) for w in waves]
        return {
            "held_out_mel": round(float((log10_mel(waves, rate) - mel).abs().mean()), 5),
            "onset_f1_50ms": round(pooled_f1(onsets, [detect_onsets(sound) for sound in sounds]), 4),
            "sample": sounds[0],
        }

    return eval_fn
