"""Small parts that the tests of EgoSonics are made with."""

from __future__ import annotations

from dataclasses import replace

import torch
from system_parts import Eyes, seeded

from v2a_nb.models.autoencoder import AutoencoderConfig, ImageAutoencoder
from v2a_nb.systems.egosonics.system import EgoSonics, EgoSonicsConfig

SMALL = EgoSonicsConfig(
    latent_channels=4, widths=(16, 32), heads=(2, 2), groups=8, text_tokens=2, text_width=16, mlp_hidden=16,
    video_dim=12, hint_widths=(4, 8, 8, 8), context=16, overlap=4, sampler_steps=3, guidance=2.0,
)  # fmt: skip
SMALL_AUTOENCODER = AutoencoderConfig(latent_channels=4, widths=(8, 16, 16), groups=4)


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
