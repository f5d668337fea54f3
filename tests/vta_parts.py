"""Small parts that the tests of VTA-LDM are made with."""

from __future__ import annotations

from dataclasses import replace

import torch
from action2sound_parts import SMALL_AUTOENCODER, SMALL_VOCODER, speak
from system_parts import Eyes

from v2a_nb.models.autoencoder import ImageAutoencoder
from v2a_nb.models.text_encoders import StrikeText
from v2a_nb.models.vocoder import Vocoder
from v2a_nb.systems.vta_ldm.system import VtaLdm, VtaLdmConfig

SMALL = VtaLdmConfig(
    latent_channels=4, widths=(16, 32), heads=(2, 2), groups=8, context_width=16, video_dim=12, video_tokens=24,
    token_s=0.128, stack=2, text_dim=8, row_values=8, sampler_steps=3,
)  # fmt: skip


def small_system(**changes) -> VtaLdm:
    """VTA-LDM with all parts small; untrained, but the context is more than a whisper to it."""
    torch.manual_seed(0)
    config = replace(SMALL, **changes)
    text = StrikeText(config.text_dim) if config.text else None
    system = VtaLdm(config, Eyes(), ImageAutoencoder(SMALL_AUTOENCODER), Vocoder(SMALL_VOCODER), text).eval()
    speak(system)
    return system
