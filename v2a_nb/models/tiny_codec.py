"""The ``tiny`` codec: 16 kHz, 50 frames a second, four residual codebooks of 256.

It stands where V-AURA has the Descript Audio Codec (section III-B) and has its interface, but other
insides: log-mel in, ConvNeXt blocks, residual vector quantization, and an inverse STFT out (as in Vocos,
Siuzdak 2023). On a CPU that learns in minutes what a waveform codec learns in hours. Phase is
not coded, so decoded sound matches in spectrum and timing, not sample by sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.audio.mel import mel_basis
from v2a_nb.errors import UsageError
from v2a_nb.hub import Pretrained


@dataclass(frozen=True)
class TinyCodecConfig:
    """Sizes of :class:`TinyCodec`."""

    sample_rate: int = 16000
    hop: int = 320
    num_codebooks: int = 4
    codebook_size: int = 256
    latent_dim: int = 32
    mels: int = 64
    encoder_dim: int = 160
    encoder_blocks: int = 3
    decoder_dim: int = 192
    decoder_blocks: int = 3
    fine_dim: int = 160
    fine_blocks: int = 2
    n_fft: int = 512


class _Block(nn.Module):
    """ConvNeXt over time, [B, C, T] to [B, C, T]; ``ahead`` frames of the kernel look forward."""

    def __init__(self, width: int, kernel: int, ahead: int) -> None:
        super().__init__()
        self.pad = (kernel - 1 - ahead, ahead)
        self.depth = nn.Conv1d(width, width, kernel, groups=width)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 3 * width)
        self.down = nn.Linear(3 * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.3))

    def forward(self, x: Tensor) -> Tensor:
        y = self.depth(F.pad(x, self.pad)).transpose(1, 2)
        y = self.down(F.gelu(self.up(self.norm(y)), approximate="tanh"))
        return x + (self.scale * y).transpose(1, 2)


class ResidualQuantizer(nn.Module):
    """Residual vector quantization with running-mean codebooks (SoundStream, Zeghidour et al. 2021).

    Codebooks are buffers, learned as running means of the vectors they were chosen for; a code that is
    hardly used restarts at a vector of the batch.
    """

    def __init__(self, codebooks: int, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("codebooks", torch.randn(codebooks, size, dim))
        self.register_buffer("counts", torch.ones(codebooks, size))
        self.register_buffer("sums", torch.randn(codebooks, size, dim))

    def nearest(self, x: Tensor, level: int) -> Tensor:
        """Index of the closest code: [N, D] to int64 [N]."""
        book = self.codebooks[level]
        return (x @ book.T * 2 - book.square().sum(-1)).argmax(-1)

    def encode(self, latents: Tensor) -> Tensor:
        """[B, D, T] to codes int64 [B, K, T]."""
        b, d, t = latents.shape
        left = latents.transpose(1, 2).reshape(-1, d)
        codes = []
        for level in range(len(self.codebooks)):
            index = self.nearest(left, level)
            left = left - self.codebooks[level][index]
            codes.append(index.view(b, t))
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, k, T], k of the codebooks from the first on, to [B, D, T]."""
        total = sum(self.codebooks[k][codes[:, k]] for k in range(codes.shape[1]))
        return total.transpose(1, 2)

    @torch.no_grad()
    def start(self, vectors: Tensor, rounds: int = 12) -> None:
        """Set all codebooks by k-means on ``vectors`` [N, D], each on what the last left over."""
        left = vectors
        for level in range(len(self.codebooks)):
            size = self.codebooks.shape[1]
            picks = torch.randperm(len(left))[:size]
            centres = left[picks].clone()
            if len(centres) < size:
                extra = left[torch.randint(len(left), (size - len(centres),))]
                centres = torch.cat([centres, extra + 1e-3 * torch.randn_like(extra)])
            for _ in range(rounds):
                index = (left @ centres.T * 2 - centres.square().sum(-1)).argmax(-1)
                counts = torch.bincount(index, minlength=size).float()
                sums = torch.zeros_like(centres).index_add_(0, index, left)
                centres = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centres)
                empty = counts == 0
                if empty.any():
                    centres[empty] = left[torch.randint(len(left), (int(empty.sum()),))]
            self.codebooks[level] = centres
            self.counts[level] = 2.0
            self.sums[level] = centres * 2.0
            left = left - centres[self.nearest(left, level)]

    def learn(self, latents: Tensor, decay: float = 0.98) -> tuple[Tensor, Tensor]:
        """Quantize for training.

        Each clip keeps a random number of codebooks half of the time, so that fewer codes decode too.

        Returns:
            quantized [B, D, T] with straight-through gradients, and the commitment loss.
        """
        b, d, t = latents.shape
        x = latents.transpose(1, 2).reshape(-1, d)
        left, total, commitment = x, torch.zeros_like(x), x.new_zeros(())
        keep = torch.where(
            torch.rand(b) < 0.5, torch.randint(1, len(self.codebooks) + 1, (b,)), len(self.codebooks)
        ).to(x.device)
        keep = keep.repeat_interleave(t)[:, None]
        for level in range(len(self.codebooks)):
            index = self.nearest(left.detach(), level)
            code = self.codebooks[level][index]
            used = (keep > level).float()
            commitment = commitment + ((left - code.detach()).square() * used).mean()
            if self.training:
                self._update(level, left.detach(), index, decay)
            total = total + code * used
            left = left - code.detach()
        quantized = x + (total - x).detach()
        return quantized.view(b, t, d).transpose(1, 2), commitment

    @torch.no_grad()
    def _update(self, level: int, vectors: Tensor, index: Tensor, decay: float) -> None:
        size = self.codebooks.shape[1]
        counts = torch.bincount(index, minlength=size).float()
        sums = torch.zeros_like(self.sums[level]).index_add_(0, index, vectors)
        self.counts[level].mul_(decay).add_(counts, alpha=1 - decay)
        self.sums[level].mul_(decay).add_(sums, alpha=1 - decay)
        dead = self.counts[level] < 0.03
        if dead.any():
            fresh = vectors[torch.randint(len(vectors), (int(dead.sum()),), device=vectors.device)]
            self.sums[level][dead] = fresh
            self.counts[level][dead] = 1.0
        self.codebooks[level] = self.sums[level] / self.counts[level].clamp(min=1e-4)[:, None]


class TinyCodec(Pretrained, nn.Module):
    """Waveform [B, n] to codes [B, 4, T] and back, ``T = ceil(n / 320)``."""

    kind, title, config_class, default = "tiny-codec", "a tiny codec", TinyCodecConfig, "codec"
    disk_names: ClassVar[dict[str, str]] = {"project_in": "listen", "project_out": "speak"}

    def __init__(self, config: TinyCodecConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or TinyCodecConfig()
        self.register_buffer("mel_basis", _mel_basis(c.sample_rate, c.mels), persistent=False)
        self.register_buffer("mel_window", torch.hann_window(256), persistent=False)
        self.register_buffer("window", torch.hann_window(c.n_fft), persistent=False)
        self.project_in = nn.Conv1d(4 * c.mels, c.encoder_dim, 1)
        # only the first block looks ahead, by one frame: a hit marks its own code and later ones
        ahead = [1] + [0] * (c.encoder_blocks - 1)
        self.encoder = nn.Sequential(*(_Block(c.encoder_dim, 3, a) for a in ahead))
        self.to_latent = nn.Conv1d(c.encoder_dim, c.latent_dim, 1)
        self.quantizer = ResidualQuantizer(c.num_codebooks, c.codebook_size, c.latent_dim)
        self.from_latent = nn.Conv1d(c.latent_dim, c.decoder_dim, 3, padding=1)
        self.decoder = nn.Sequential(*(_Block(c.decoder_dim, 5, 2) for _ in range(c.decoder_blocks)))
        self.refine = nn.Conv1d(c.decoder_dim, 2 * c.fine_dim, 1)
        self.fine = nn.Sequential(*(_Block(c.fine_dim, 5, 2) for _ in range(c.fine_blocks)))
        bins = c.n_fft // 2 + 1
        self.project_out = nn.Conv1d(c.fine_dim, 2 * bins, 1)
        with torch.no_grad():
            self.project_out.bias[:bins] = -4.0

    @property
    def sample_rate(self) -> int:
        return self.config.sample_rate

    @property
    def hop(self) -> int:
        """Samples per frame of codes."""
        return self.config.hop

    @property
    def frame_rate(self) -> float:
        """Frames of codes per second."""
        return self.config.sample_rate / self.config.hop

    @property
    def num_codebooks(self) -> int:
        return self.config.num_codebooks

    @property
    def codebook_size(self) -> int:
        return self.config.codebook_size

    @property
    def reach(self) -> int:
        """Frames before and after its own on which a sample can depend."""
        c = self.config
        steps = 1 + 2 * c.decoder_blocks  # kernels of 3 and 5 frames
        halves = 2 * c.fine_blocks + math.ceil(c.n_fft / c.hop)  # and of 5 half frames; half a window to either side
        return steps + math.ceil(halves / 2) + 1

    def latents(self, wave: Tensor) -> Tensor:
        """[B, n] in [-1, 1] to [B, 32, ceil(n / 320)] before quantization."""
        c = self.config
        frames = math.ceil(wave.shape[-1] / c.hop)
        wave = F.pad(wave, (0, frames * c.hop - wave.shape[-1]))
        spectrum = torch.stft(
            wave, 512, 80, 256, self.mel_window, center=True, pad_mode="constant", return_complex=True
        )
        power = spectrum[..., : 4 * frames].abs().square()
        mel = torch.log(self.mel_basis @ power + 1e-7)  # [B, 64, 4 T]
        mel = (mel + 8.0) / 4.0
        b, m, _ = mel.shape
        stacked = mel.view(b, m, frames, 4).permute(0, 1, 3, 2).reshape(b, 4 * m, frames)
        return self.to_latent(self.encoder(self.project_in(stacked)))

    def synthesize(self, latents: Tensor) -> Tensor:
        """[B, 32, T] to waveform [B, 320 T]."""
        c = self.config
        b, _, t = latents.shape
        x = self.refine(self.decoder(self.from_latent(latents)))  # [B, 2 fine, T]
        x = x.view(b, 2, c.fine_dim, t).permute(0, 2, 3, 1).reshape(b, c.fine_dim, 2 * t)
        x = self.project_out(self.fine(x))
        level, angle = x.chunk(2, dim=1)
        magnitude = level.clamp(max=6.0).exp()
        spectrum = torch.complex(magnitude * angle.cos(), magnitude * angle.sin())
        # one more frame than 10 ms steps, so that the last samples are covered by two windows
        spectrum = torch.cat([spectrum, spectrum[..., -1:]], dim=-1)
        hop = c.hop // 2
        return torch.istft(spectrum, c.n_fft, hop, c.n_fft, self.window, center=True, length=t * c.hop)

    @torch.no_grad()
    def encode(self, wave: Tensor) -> Tensor:
        """Codes int64 [B, 4, ceil(n / 320)] of a waveform float [B, n] in [-1, 1].

        Raises:
            UsageError: the waveform is not [B, n], or empty.
        """
        if wave.dim() != 2 or wave.shape[-1] == 0:
            raise UsageError(f"a waveform [B, n] is needed, not {tuple(wave.shape)}")
        return self.quantizer.encode(self.latents(wave.float()))

    @torch.no_grad()
    def decode(self, codes: Tensor, num_samples: int | None = None) -> Tensor:
        """Waveform [B, num_samples] of codes [B, k, T]; k may be 1 to 4 (coarser with fewer).

        Raises:
            UsageError: codes of the wrong shape or range, or more samples asked than codes hold.
        """
        if codes.dim() != 3 or not 1 <= codes.shape[1] <= self.num_codebooks:
            raise UsageError(f"codes [B, 1..{self.num_codebooks}, T] are needed, not {tuple(codes.shape)}")
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < self.codebook_size:
            raise UsageError(f"codes must lie in 0..{self.codebook_size - 1}")
        wave = self.synthesize(self.quantizer.decode(codes))
        if num_samples is None:
            return wave
        if num_samples > wave.shape[-1]:
            raise UsageError(f"{codes.shape[-1]} frames hold {wave.shape[-1]} samples, not {num_samples}")
        return wave[..., :num_samples]

    def _stored(self, name: str) -> bool:
        return not name.endswith((".counts", ".sums"))  # of training alone


def _mel_basis(sample_rate: int, mels: int) -> Tensor:
    return torch.from_numpy(mel_basis(sample_rate, 512, mels, 40, sample_rate / 2))
