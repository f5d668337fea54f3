"""Small parts that the tests of EgoSonics are made with."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from v2a_nb.audio.autoencoder import AutoencoderConfig, ImageAutoencoder
from v2a_nb.clip import Clip
from v2a_nb.systems.egosonics import EgoSonics, EgoSonicsConfig

SMALL = EgoSonicsConfig(
    latent_channels=4, widths=(16, 32), heads=(2, 2), groups=8, text_tokens=2, text_width=16, mlp_hidden=16,
    video_dim=12, hint_widths=(4, 8, 8, 8), context=16, overlap=4, sampler_steps=3, guidance=2.0,
)  # fmt: skip
SMALL_AUTOENCODER = AutoencoderConfig(latent_channels=4, widths=(8, 16, 16), groups=4)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Eyes(torch.nn.Module):
    """A frame encoder: brightness of the picture, 50 times a second."""

    rate, dim = 50.0, 12

    def features(self, clip: Clip) -> torch.Tensor:
        wanted = math.ceil(clip.duration * self.rate - 1e-6)
        bright = torch.tensor(clip.at_fps(self.rate).frames[:wanted].mean(axis=(1, 2, 3)) / 255)
        noise = 0.5 if self.training else 0.0  # as dropout would be: generate must not run in training mode
        return bright.float()[:, None] * torch.arange(12) + noise


def small_system(speaking: bool = True, **changes) -> EgoSonics:
    """EgoSonics with all parts small; ``speaking`` moves the zero convolutions, so that the control is heard."""
    torch.manual_seed(0)
    system = EgoSonics(replace(SMALL, **changes), Eyes(), ImageAutoencoder(SMALL_AUTOENCODER)).eval()
    if speaking:
        speak(system)
    return system


def speak(system: EgoSonics) -> None:
    generator = seeded(9)
    control = system.syncronet.control
    for conv in (*control.controlnet_down_blocks, control.controlnet_mid_block):
        conv.weight.data = 0.1 * torch.randn(conv.weight.shape, generator=generator)
