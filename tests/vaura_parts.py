"""Small parts that the tests of V-AURA are made with."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from v2a_nb.clip import Clip
from v2a_nb.systems.vaura import VAura, VAuraConfig, VAuraDecoder

SMALL = VAuraConfig(
    hidden=32, layers=2, heads=2, intermediate=48, num_codebooks=3, codebook_size=16, visual_dim=12,
    visual_width=16, audio_width=16, context_frames=24,
)  # fmt: skip
DAC_RATES = {"frame_rate": "44100/512", "visual_rate": "25/2", "context_frames": 221}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small_decoder(speaking: bool = True, **changes) -> VAuraDecoder:
    torch.manual_seed(0)
    decoder = VAuraDecoder(replace(SMALL, **changes)).eval()
    if speaking:  # heads begin at zero
        torch.nn.init.normal_(decoder.heads.weight, std=1.0)
    return decoder


class Eyes(torch.nn.Module):
    """An encoder: brightness of the picture, at 50 tokens a second."""

    rate, dim = 50.0, 12

    def features(self, clip: Clip) -> torch.Tensor:
        wanted = math.ceil(clip.duration * self.rate - 1e-6)
        bright = torch.tensor(clip.at_fps(self.rate).frames[:wanted].mean(axis=(1, 2, 3)) / 255)
        noise = 0.5 if self.training else 0.0  # as dropout would be: generate must not run in training mode
        return bright.float()[:, None] * torch.arange(12) + noise


class Voice(torch.nn.Module):
    """A codec of 16 kHz, 320 samples a frame: each frame is a constant, given by its first code."""

    sample_rate, hop, num_codebooks, codebook_size = 16000, 320, 3, 16

    def encode(self, wave: torch.Tensor) -> torch.Tensor:
        frames = -(-wave.shape[-1] // self.hop)
        return torch.zeros(len(wave), 3, frames, dtype=torch.long)

    def decode(self, codes: torch.Tensor, num_samples: int | None = None) -> torch.Tensor:
        wave = (codes[:, 0] / 16.0 + codes[:, 1] / 160.0).repeat_interleave(self.hop, dim=-1)
        return wave[..., :num_samples]


def fake_system(**changes) -> VAura:
    return VAura(small_decoder(**changes), Eyes(), Voice()).eval()


def clip_of(seconds: float, fps: float = 25.0, seed: int = 0) -> Clip:
    n = max(1, math.ceil(seconds * fps - 1e-6))
    frames = np.random.default_rng(seed).integers(0, 255, (n, 8, 10, 3), dtype=np.uint8)
    return Clip(frames, fps=fps, duration=seconds)
