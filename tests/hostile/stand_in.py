"""A system that costs nothing, so that hundreds of inputs can go through ``generate``."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from v2a_nb.systems import registry
from v2a_nb.systems.base import System

OPTIONS: list[str] = []
"""Options of ``generate`` that choose the stand-in."""


class Beep(System):
    """A tone whenever the picture gets brighter."""

    name = kind = "beep"
    title = "the stand-in"
    sample_rate = 16000

    def __init__(self, config: object = None) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(0.5))

    def encode_video(self, clip):
        return torch.tensor(clip.at_fps(25).frames.mean(axis=(1, 2, 3)) / 255).float()[None, :, None]

    @torch.no_grad()
    def generate(self, clip, *, seed=0, start=0.0, duration=None, progress=None, **_):
        clips, _, samples = self._batch(clip, seed, start, duration)
        light = torch.cat([self.encode_video(each) for each in clips])[..., 0]
        brighter = (light.diff(dim=1, prepend=light[:, :1]) > 0.1).float()
        waves = self.level * brighter.repeat_interleave(self.sample_rate // 25, dim=1)
        return self._sounds(waves, samples, clip)

    def _steps(self, samples, **_):
        return 1


def install(folder: Path) -> None:
    """Register the stand-in, with weights in a folder, and load it and V-AURA once for all that ask for them."""
    module = ModuleType("v2a_nb.systems.beep.system")
    module.Beep = Beep  # type: ignore[attr-defined]
    sys.modules["v2a_nb.systems.beep"] = ModuleType("v2a_nb.systems.beep")
    sys.modules[module.__name__] = module
    registry.SYSTEMS["beep"] = "Beep"
    Beep().save_pretrained(folder)
    load = registry.load
    loaded = {"beep": load("beep", str(folder)), "vaura": load("vaura")}

    def quick(name, weights=None, *, device="cpu"):
        return loaded[name] if name in loaded and device == "cpu" else load(name, weights, device=device)

    registry.load = quick
    OPTIONS.extend(["--system", "beep", "--weights", str(folder)])
