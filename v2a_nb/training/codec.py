"""Recipe of the ``tiny`` codec on Strike World sounds.

Quantizing from the first step collapses to a few codes, so a quarter of the run goes without; then the
codebooks start from k-means on the latents, and the rest of the run trains through them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from v2a_nb.audio.tiny_codec import TinyCodec, TinyCodecConfig
from v2a_nb.training.loop import Plan, fit

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

    def forward(self, made: Tensor, true: Tensor) -> Tensor:
        total = made.new_zeros(())
        for n, _ in RESOLUTIONS:
            window, basis = getattr(self, f"window{n}"), getattr(self, f"basis{n}")
            mels = []
            for wave in (made, true):
                spectrum = torch.stft(wave, n, n // 4, n, window, return_complex=True)
                magnitude = (spectrum.real.square() + spectrum.imag.square() + 1e-9).sqrt() / n**0.5
                mels.append(torch.log(basis @ magnitude + 3e-5))
            total = total + (mels[0] - mels[1]).abs().mean()
        return total / len(RESOLUTIONS)


class CodecTraining(nn.Module):
    """The codec with its loss; ``batch["quantize"]`` says whether the codebooks are in use yet."""

    def __init__(self, config: TinyCodecConfig | None = None) -> None:
        super().__init__()
        self.codec = TinyCodec(config)
        self.spectral = SpectralLoss(self.codec.sample_rate)
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        wave = batch["wave"]
        latents = self.codec.latents(wave)
        # a gentle pull to unit size keeps distances comparable before the codebooks exist
        size = (latents.square().mean() - 1).square()
        commitment = latents.new_zeros(())
        if bool(batch["quantize"]):
            if not bool(self.started):
                self.codec.quantizer.start(latents.detach().transpose(1, 2).flatten(0, 1))
                self.started.fill_(True)
            latents, commitment = self.codec.quantizer.learn(latents)
        made = self.codec.synthesize(latents)[..., : wave.shape[-1]]
        spectral = self.spectral(made, wave)
        loss = spectral + 0.1 * commitment + 0.01 * size
        return {"loss": loss, "spectral": spectral, "commitment": commitment}


def batches(waves: np.ndarray, size: int, steps: int, seed: int, seconds: float = 1.28):
    """From a step to random crops of ``waves`` [N, n], at a random gain of -9 to +3 dB."""
    length = int(seconds * 16000)

    def batch_of(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([seed, step])
        out = np.empty((size, length), np.float32)
        for row in out:
            wave = waves[rng.integers(len(waves))]
            start = rng.integers(0, wave.shape[-1] - length + 1)
            row[:] = wave[start : start + length] * 10 ** (rng.uniform(-9, 3) / 20)
        out = np.clip(out, -1, 1)
        return {"wave": torch.from_numpy(out), "quantize": torch.tensor(step >= steps // 4)}

    return batch_of


def train_codec(
    waves: np.ndarray,
    out: str | Path,
    *,
    steps: int,
    more: int = 0,
    batch_size: int = 24,
    seed: int = 0,
    resume: bool = False,
    until: int | None = None,
) -> TinyCodec:
    """Train the codec on ``waves`` (float32 [N, n] at 16 kHz) and return it.

    Args:
        waves: sounds of at least 1.28 s (a memory map will do).
        out: folder for the logs and the states.
        steps: of the first cycle, of which the first quarter goes without quantizer.
        more: steps of a second cycle at 0.6 of the rate, all through the codebooks.
        until: stop the first cycle early without changing the schedule.
    """
    torch.manual_seed(seed)
    module = CodecTraining()
    plan = Plan(steps=steps, lr=1e-3, warmup=50, weight_decay=1e-3, betas=(0.8, 0.99), seed=seed)
    batch_of = batches(waves, batch_size, steps, seed)
    out = Path(out)
    module = fit(module, batch_of, plan, out, resume=resume, until=until)
    if more and until is None:
        again = Plan(steps=more, lr=6e-4, warmup=50, weight_decay=1e-3, betas=(0.8, 0.99), seed=seed + 1)
        batch_of = batches(waves, batch_size, 0, seed + 1)
        module = fit(module, batch_of, again, out / "second", resume=resume)
    return module.codec
