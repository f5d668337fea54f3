"""Small parts that the tests of V-AURA are made with."""

from __future__ import annotations

from dataclasses import replace

import torch
from system_parts import Eyes, clip_of, seeded

from v2a_nb.systems.vaura.system import VAura, VAuraConfig, VAuraDecoder

__all__ = ["DAC_RATES", "SMALL", "Eyes", "Voice", "clip_of", "fake_system", "seeded", "small_decoder"]

SMALL = VAuraConfig(
    hidden=32, layers=2, heads=2, intermediate=48, num_codebooks=3, codebook_size=16, visual_dim=12,
    visual_width=16, audio_width=16, context_frames=24,
)  # fmt: skip
DAC_RATES = {"frame_rate": "44100/512", "visual_rate": "25/2", "context_frames": 221}


def small_decoder(speaking: bool = True, **changes) -> VAuraDecoder:
    torch.manual_seed(0)
    decoder = VAuraDecoder(replace(SMALL, **changes)).eval()
    if speaking:  # heads begin at zero
        torch.nn.init.normal_(decoder.heads.weight, std=1.0)
    return decoder


class Voice(torch.nn.Module):
    """A codec of 16 kHz, 320 samples a frame: each frame is a constant, given by its first code."""

    sample_rate, hop, num_codebooks, codebook_size = 16000, 320, 3, 16
    reach = 0

    def encode(self, wave: torch.Tensor) -> torch.Tensor:
        frames = -(-wave.shape[-1] // self.hop)
        return torch.zeros(len(wave), 3, frames, dtype=torch.long)

    def decode(self, codes: torch.Tensor, num_samples: int | None = None) -> torch.Tensor:
        wave = (codes[:, 0] / 16.0 + codes[:, 1] / 160.0).repeat_interleave(self.hop, dim=-1)
        return wave[..., :num_samples]


def fake_system(**changes) -> VAura:
    return VAura(small_decoder(**changes), Eyes(), Voice()).eval()
