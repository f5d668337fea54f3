"""Small parts that the tests of Action2Sound are made with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from system_parts import Eyes, seeded

from v2a_nb.clip import Clip, Sound
from v2a_nb.data.pool import Pool, Source, quiet_dbfs, to_int16
from v2a_nb.models.autoencoder import AutoencoderConfig, ImageAutoencoder
from v2a_nb.models.vocoder import Vocoder, VocoderConfig
from v2a_nb.systems.action2sound.ambient import Ambients
from v2a_nb.systems.action2sound.system import Action2Sound, Action2SoundConfig

SMALL = Action2SoundConfig(
    latent_channels=4, widths=(16, 32), heads=(2, 2), groups=8, context_width=16, video_dim=12, stack=2, squeeze=6,
    audio_hidden=16, free_heads=1, sampler_steps=3,
)  # fmt: skip
SMALL_AUTOENCODER = AutoencoderConfig(latent_channels=4, widths=(8, 16, 16), groups=4)
SMALL_VOCODER = VocoderConfig(channels=8, block_kernels=(3,), block_dilations=((1,),), normalize=False)
RATE = 16000
LEVELS_DBFS = (-30.0, -60.0, -45.0, None)
"""Of the sounds of :func:`small_pool`; None is digital silence."""


def noise(dbfs: float | None, seconds: float = 3.2, seed: int = 0) -> Sound:
    """Steady noise of a level; None is silence."""
    n = round(seconds * RATE)
    if dbfs is None:
        return Sound(np.zeros(n), RATE)
    wave = np.random.default_rng(seed).standard_normal(n)
    return Sound(wave * 10 ** (dbfs / 20) / np.sqrt(np.mean(wave**2)), RATE)


def small_pool() -> Pool:
    """Noises of :data:`LEVELS_DBFS`, each a recording of its own."""
    waves = [noise(level, seed=i).samples[0] for i, level in enumerate(LEVELS_DBFS)]
    sources = [Source(f"own{i}", 0.0, 3.2) for i in range(len(waves))]
    quiet = np.array([quiet_dbfs(wave, RATE) for wave in waves])
    vectors = np.eye(len(waves))
    return Pool(vectors, vectors, sources, quiet, RATE, waves=[to_int16(wave) for wave in waves])


class Finder:
    """What :class:`Ambients` wants of a retrieval: a pool, and the row that fits a clip, which is one of three."""

    def __init__(self) -> None:
        self.pool, self.asked = small_pool(), 0

    def find(self, clip: Clip, k: int = 1):
        self.asked += 1
        first = int(clip.frames[:3].sum()) % 3
        return np.linspace(1, 0, 3)[:k], np.roll(np.arange(3), -first)[:k]


def small_system(ambients: Ambients | None = None, **changes) -> Action2Sound:
    """Action2Sound with all parts small and a pool; untrained, but the context is more than a whisper to it."""
    torch.manual_seed(0)
    system = Action2Sound(
        replace(SMALL, **changes), Eyes(), ImageAutoencoder(SMALL_AUTOENCODER), Vocoder(SMALL_VOCODER),
        ambients or Ambients(Finder),
    ).eval()  # fmt: skip
    speak(system)
    return system


def speak(system: Action2Sound) -> None:
    generator = seeded(9)
    for name, p in system.unet.named_parameters():
        if name.endswith(("attn2.to_v.weight", "attn2.to_out.0.weight", "by_row.write.weight")):
            p.data = torch.randn(p.shape, generator=generator) / p.shape[1] ** 0.5
    for p in system.vocoder.model.parameters():
        if p.ndim > 1:
            p.data = torch.randn(p.shape, generator=generator) / p[0].numel() ** 0.5
