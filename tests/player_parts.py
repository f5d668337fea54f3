"""Clips, sounds and events that the tests of the players show."""

from __future__ import annotations

import numpy as np

from v2a_nb.clip import Clip, Sound

HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>\n\u202eright to left\u202c\0 &amp;"
EVENTS = [
    {"time_s": 1.5, "kind": "strike", "material": "metal", "sounding": False},
    {"time_s": 0.5, "kind": "strike", "material": "wood", "sounding": True},
]


def clip_of(seconds: float = 2.0, size: int = 64, fps: float = 25.0, noise: bool = False) -> Clip:
    rng = np.random.default_rng(0)
    frames = np.zeros((round(seconds * fps), size, size, 3), np.uint8)
    if noise:
        frames[:] = rng.integers(0, 256, frames.shape, dtype=np.uint8)
    else:
        for k in range(len(frames)):
            frames[k, :, : 1 + k % size] = (200, 120, 40)
    return Clip(frames, fps=fps, name="a clip")


def tone(seconds: float = 2.0, level: float = 0.5, rate: int = 16000, channels: int = 1) -> Sound:
    t = np.arange(round(seconds * rate)) / rate
    return Sound(np.tile(level * np.sin(2 * np.pi * 440 * t), (channels, 1)), rate)
