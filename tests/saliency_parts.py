"""Small parts that the tests of saliency are made with: systems with a small, untrained Strike World encoder."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import action2sound_parts
import egosonics_parts
import numpy as np
import torch
import vaura_parts
import vta_parts

from v2a_nb.clip import Clip, Sound
from v2a_nb.models.video_encoders.event_crop import EventCropConfig
from v2a_nb.models.video_encoders.strike import StrikeVision, VisionConfig
from v2a_nb.saliency.targets import FrameFunction
from v2a_nb.systems.base import System
from v2a_nb.world import WorldClip, strike_world

WINDOW = (0.2, 0.5)
SECONDS = 0.8


@cache
def world_clip() -> WorldClip:
    return strike_world(seed=3, clips=1, seconds=SECONDS, size=64, variety="plain")[0]


def the_clip() -> tuple[Clip, Sound]:
    return world_clip().clip, world_clip().stems["mix"]


def small_vision() -> StrikeVision:
    torch.manual_seed(1)
    crop = EventCropConfig(embed=8, near=8, far=8, threshold=0.3)
    return StrikeVision(
        VisionConfig(timing_dim=16, content_dim=8, event_crop=crop, motion=(8, 8), appearance=(8, 8))
    ).eval()


def small_system(name: str):
    """A system of random weights whose encoder has gradients."""
    vision = small_vision()
    if name == "vaura":
        decoder = vaura_parts.small_decoder(visual_dim=vision.dim, context_frames=48)
        return vaura_parts.VAura(decoder, vision, vaura_parts.Voice()).eval()
    if name == "vta_ldm":
        torch.manual_seed(0)
        autoencoder, text = vta_parts.ImageAutoencoder(vta_parts.SMALL_AUTOENCODER), vta_parts.StrikeText(8)
        system = vta_parts.VtaLdm(
            replace(vta_parts.SMALL, video_dim=vision.dim), vision, autoencoder,
            vta_parts.Vocoder(vta_parts.SMALL_VOCODER), text,
        ).eval()  # fmt: skip
        vta_parts.speak(system)
        return system
    parts = {"egosonics": egosonics_parts, "action2sound": action2sound_parts}[name]
    torch.manual_seed(0)
    config = replace(parts.SMALL, video_dim=vision.dim)
    kind = {"egosonics": egosonics_parts.EgoSonics, "action2sound": action2sound_parts.Action2Sound}[name]
    autoencoder = parts.ImageAutoencoder(parts.SMALL_AUTOENCODER)
    if name == "egosonics":
        system = kind(config, vision, autoencoder).eval()
    else:
        ambients = action2sound_parts.Ambients(action2sound_parts.Finder)
        system = kind(
            config, vision, autoencoder, action2sound_parts.Vocoder(action2sound_parts.SMALL_VOCODER), ambients
        )
        system = system.eval()
    parts.speak(system)
    return system


class Watcher(torch.nn.Module):
    """A network whose answer hangs on one tubelet alone: frames 6 and 7, rows 8 to 15, columns 16 to 23 of 32."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.linspace(0.2, 1.0, 3))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        seen = frames[:, 6:8, :, 8:16, 16:24].mean((1, 3, 4))
        return (seen * self.weight).sum(1)


def planted() -> FrameFunction:
    """A target with a known cause, of noise whose mean is everywhere the same."""
    frames = torch.rand(1, 16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return FrameFunction(Watcher(), frames, 25.0, (0.2, 0.4))


class Lamp(System):
    """A system that sounds as loud as the left half of the picture is bright, frame by frame."""

    name, encoder, sample_rate = "lamp", None, 16000

    def generate(self, clip, *, seed=0, **options):
        assert clip.sound is None
        bright = clip.frames[:, :, : clip.width // 2].mean((1, 2, 3)) / 255
        noise = np.random.default_rng(seed).standard_normal(round(clip.duration * 16000))
        return Sound(0.1 * noise * np.repeat(bright, len(noise) // clip.n), 16000)

    def _steps(self, samples, **options):
        return 1


def flash() -> Clip:
    """1 s, dark, with a bright tenth of a second at 0.4 s on the left."""
    frames = np.full((25, 20, 20, 3), 2, np.uint8)
    frames[10:13, 5:15, 0:8] = 250
    return Clip(frames, fps=25.0)
