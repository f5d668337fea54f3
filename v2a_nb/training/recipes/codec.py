"""Recipe of the ``tiny`` codec on Strike World sounds.

Quantizing from the first step collapses to a few codes, so a quarter of the run goes without; then the
codebooks start from k-means on the latents, and the rest of the run trains through them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from v2a_nb.models.tiny_codec import TinyCodec, TinyCodecConfig
from v2a_nb.training.loop import BatchOf, OptimConfig
from v2a_nb.training.recipe import Stage, Stages

RESOLUTIONS = ((128, 20), (256, 40), (512, 64), (1024, 80), (2048, 96))
"""(n_fft, mel bands) of the spectral loss; the shortest sees onsets, the longest sees pitch."""


class SpectralLoss(nn.Module):
    """L1 between log-mels at several resolutions (DAC, Kumar et al. 2023, section 3.4)."""

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        import librosa

        for n, bands in RESOLUTIONS:
            basis = librosa.filters.mel(sr=sample_rate, n_fft=n, n_mels=bands, fmin=0, fmax=sample_rate / 2)
            self.register_buffer(f"basis{n}", torch.from_numpy(basis.astype(np.float32)))
            self.register_buffer(f"window{n}", torch.hann_window(n))

    def forward(self, made: Tensor, true: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Three distances: log-mel, misplaced share, and transport along frequency.

        A pure tone fills two mel bands of eighty: the first term hardly misses it, the second (the share of
        each frame's linear mel that is misplaced) does. Both are absolute errors, whose best answer to an
        unsure pitch is no tone at all; the third compares sums up to each frequency, so a tone that is a
        little off costs little and a missing one costs much. Frames count with the root of their level, so
        that tails matter and ambience does not rule.
        """
        total, misplaced = made.new_zeros(()), made.new_zeros(())
        for n, _ in RESOLUTIONS:
            mels = [self._magnitude(wave, n, n // 4) for wave in (made, true)]
            basis = getattr(self, f"basis{n}")
            mels = [basis @ (m / n**0.5) for m in mels]
            total = total + (torch.log(mels[0] + 3e-5) - torch.log(mels[1] + 3e-5)).abs().mean()
            if n >= 512:
                level = mels[1].sum(1) + 1e-4
                weight = level.sqrt() / level.sqrt().mean()
                misplaced = misplaced + ((mels[0] - mels[1]).abs().sum(1) / level * weight).mean()
        a, b = (self._magnitude(wave, 512, 160) for wave in (made, true))
        level = b.sum(1) + 0.3
        up = (a - b).cumsum(1)
        down = (a - b).sum(1, keepdim=True) - up
        weight = level.sqrt() / level.sqrt().mean()
        transport = ((up.abs() + down.abs()).mean(1) / 2 / level * weight).mean()
        return total / len(RESOLUTIONS), misplaced / 3, transport

    def _magnitude(self, wave: Tensor, n: int, hop: int) -> Tensor:
        window = getattr(self, f"window{n}")
        spectrum = torch.stft(wave, n, hop, n, window, return_complex=True)
        return (spectrum.real.square() + spectrum.imag.square() + 1e-9).sqrt()


class CodecTraining(nn.Module):
    """The codec with its loss.

    Attributes:
        start: the step from which on the codebooks are used.
        tonal, transport: weights of the second and third term of :class:`SpectralLoss`.
        decoder_only: the codes stay as they are, so that what was trained on them stays valid.
    """

    def __init__(self, config: TinyCodecConfig | None = None) -> None:
        super().__init__()
        self.codec = TinyCodec(config)
        self.spectral = SpectralLoss(self.codec.sample_rate)
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))
        self.start, self.tonal, self.transport, self.decoder_only = 0, 0.0, 0.0, False
        self._quantize = False

    @torch.no_grad()
    def before_step(self, step: int, first_batch: Callable[[], dict[str, Tensor]]) -> None:
        """Start the codebooks by k-means on the step's first batch when they are to be used."""
        self._quantize = step >= self.start and not self.decoder_only
        if self._quantize and not bool(self.started):
            latents = self.codec.latents(first_batch()["wave"])
            self.codec.quantizer.start(latents.transpose(1, 2).flatten(0, 1))
            self.started.fill_(True)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        wave = batch["wave"]
        if self.decoder_only:
            with torch.no_grad():
                quantizer = self.codec.quantizer
                latents = quantizer.decode(quantizer.encode(self.codec.latents(wave)))
            return self._losses(wave, latents, latents.new_zeros(()), latents.new_zeros(()))
        latents = self.codec.latents(wave)
        # a gentle pull to unit size keeps distances comparable before the codebooks exist
        size = (latents.square().mean() - 1).square()
        commitment = latents.new_zeros(())
        if self._quantize:
            latents, commitment = self.codec.quantizer.learn(latents)
        return self._losses(wave, latents, commitment, size)

    def _losses(self, wave: Tensor, latents: Tensor, commitment: Tensor, size: Tensor) -> dict[str, Tensor]:
        made = self.codec.synthesize(latents)[..., : wave.shape[-1]]
        spectral, misplaced, transport = self.spectral(made, wave)
        loss = spectral + self.tonal * misplaced + self.transport * transport
        return {
            "loss": loss + 0.1 * commitment + 0.01 * size, "spectral": spectral, "misplaced": misplaced,
            "transport": transport, "commitment": commitment,
        }  # fmt: skip


def batches(waves, size: int, seed: int, seconds: float = 1.28) -> BatchOf:
    """From a number to random crops of ``waves`` [N, n], at a random gain of -9 to +3 dB."""
    length = int(seconds * 16000)

    def batch_of(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([seed, step])
        out = np.empty((size, length), np.float32)
        for row in out:
            wave = waves[rng.integers(len(waves))]
            start = rng.integers(0, wave.shape[-1] - length + 1)
            row[:] = wave[start : start + length] * 10 ** (rng.uniform(-9, 3) / 20)
        out = np.clip(out, -1, 1)
        return {"wave": torch.from_numpy(out)}

    return batch_of


@dataclass(frozen=True)
class Cycle:
    """One warm-up and cosine.

    ``tonal`` and ``transport`` weigh the second and third term of :class:`SpectralLoss`; ``decoder_only``
    freezes the codes.
    """

    steps: int
    lr: float
    tonal: float = 0.0
    transport: float = 0.0
    decoder_only: bool = False


CYCLES = (
    Cycle(1300, 1e-3, tonal=0.1, transport=1.0),
    Cycle(1500, 8e-4, tonal=0.1, transport=2.0),
    Cycle(1800, 8e-4, tonal=0.1, transport=2.0),
    Cycle(1200, 6e-4, tonal=0.1, transport=2.0, decoder_only=True),
)
"""What made the shipped weights. The tonal terms are there from the start: codes that were learned without
them keep too little of the pitch of glass and metal for any decoder to bring it back. In the last cycle the
codes stay, so that all of the decoder's capacity goes into saying what they hold."""


def codec_stages(waves, *, cycles: tuple[Cycle, ...] = CYCLES, batch_size: int = 24, seed: int = 0) -> Stages:
    """The stages of the codec, one for each cycle; returns the codec.

    Args:
        waves: sounds of at least 1.28 s, float32 [N, n] at 16 kHz.
        cycles: the first quarter of the first one goes without quantizer.
    """
    torch.manual_seed(seed)
    module = CodecTraining()
    for k, cycle in enumerate(cycles):
        start = cycle.steps // 4 if k == 0 else 0
        module.start, module.tonal, module.transport = start, cycle.tonal, cycle.transport
        module.decoder_only = cycle.decoder_only
        optim = OptimConfig(
            steps=cycle.steps, lr=cycle.lr, warmup=50, weight_decay=1e-3, betas=(0.8, 0.99), seed=seed + k
        )  # fmt: skip
        module = yield Stage(f"codec/cycle{k + 1}", module, batches(waves, batch_size, seed + k), optim)
    return module.codec
