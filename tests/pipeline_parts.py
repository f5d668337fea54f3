"""A stand-in for a system, and small videos."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from v2a_nb import media
from v2a_nb.clip import Clip, Sound
from v2a_nb.hits import Hits


class Tone:
    """A stand-in system that remembers what it was given; its sound is noise of its seed."""

    def __init__(self) -> None:
        self.seen: list[dict] = []

    title, sample_rate, options = "Tone", 8000, ()

    def hits(self, clip, *, sensitivity=0.5):
        return Hits()

    def generate(self, clip, *, seed=0, progress=None, **options):
        assert clip.sound is None, "a system must never hear the clip"
        self.seen.append({"name": clip.name, "seed": seed, **options})
        for _ in range(self.steps_of(clip, **options)):
            progress(1)
        noise = np.random.default_rng(seed).uniform(-0.1, 0.1, round(clip.duration * 8000))
        return Sound(noise, 8000)

    def stream(self, clip, **how):
        yield self.generate(clip, **how)

    def options_of_next_block(self, clip, options):
        return options

    def steps_of(self, clip, *, steps=3, **options):
        return steps


def video(path: Path, seconds: float = 0.5) -> Path:
    frames = np.random.default_rng(0).integers(0, 255, (int(seconds * 20), 32, 48, 3), dtype=np.uint8)
    return media.save_mp4(Clip(frames, fps=20.0), Sound(np.zeros(int(seconds * 16000)), 16000), path)
