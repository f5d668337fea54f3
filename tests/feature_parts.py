"""Features in memory, toy extractors and small videos with a sound, for the tests of data and training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from datasets import Dataset

from v2a_nb import media
from v2a_nb.clip import Clip, Sound
from v2a_nb.data.features import Extractor, Features, ShardedArray
from v2a_nb.data.recordings import Recording, StrikeRecordings


def features_of(**arrays: np.ndarray) -> Features:
    """Features of as many clips as the arrays have rows, each of a recording of its own."""
    n = len(next(iter(arrays.values())))
    names = [f"r{i:05d}" for i in range(n)]
    table = Dataset.from_dict({"id": names, "recording": list(range(n)), "name": names, "start": [0] * n})
    return Features(table, StrikeRecordings(0), {k: ShardedArray([v]) for k, v in arrays.items()}, "in memory")


@dataclass(frozen=True)
class Levels(Extractor):
    """The level of each clip, and its first samples."""

    samples: int = 100
    note: str = ""
    name: ClassVar[str] = "levels"

    def revision(self) -> dict:
        return {"samples": self.samples}

    def extract(self, recording: Recording, starts) -> dict[str, np.ndarray]:
        if self.note:  # say who was asked, so that a test can count
            with Path(self.note).open("a") as file:
                file.write(recording.name + "\n")
        waves = np.stack([recording.wave(16000)[s : s + self.samples] for s in starts])
        return {"level": np.abs(waves).mean(1).astype(np.float32), "first": waves[:, :10].astype(np.float16)}


def small_video(path: Path, seconds: float = 3.0, seed: int = 0, sound: bool = True, size: int = 64) -> Path:
    """An mp4 in which a square jumps whenever a click is heard, about twice a second."""
    rng = np.random.default_rng(seed)
    fps, rate = 25, 16000
    frames = np.full((round(seconds * fps), size, size, 3), 60, np.uint8)
    wave = 1e-3 * rng.standard_normal(round(seconds * rate))
    for time in np.arange(0.3, seconds - 0.2, 0.5) + rng.uniform(0, 0.15):
        frame, at = round(time * fps), round(time * rate)
        y, x = rng.integers(4, size - 16, 2)
        frames[frame:, y : y + 12, x : x + 12] = rng.integers(100, 255)
        t = np.arange(1600) / rate
        wave[at : at + 1600] += 0.5 * np.sin(2 * np.pi * rng.uniform(400, 2000) * t) * np.exp(-40 * t)
    clip = Clip(frames, fps=float(fps))
    path.parent.mkdir(parents=True, exist_ok=True)
    return media.save_mp4(clip, Sound(wave.astype(np.float32).clip(-1, 1), rate) if sound else None, path)
