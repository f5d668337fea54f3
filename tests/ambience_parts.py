"""A system that follows the level of its condition, and what it is asked for: for tests of the ambience explorer."""

from __future__ import annotations

import numpy as np

from v2a_nb.clip import Sound

RATE, SECONDS = 16000, 2.0
HITS = [
    {"time_s": 0.5, "kind": "strike", "material": "wood", "sounding": True},
    {"time_s": 1.4, "kind": "strike", "material": "metal", "sounding": True},
    {"time_s": 1.0, "kind": "strike", "material": "metal", "sounding": False},
]


def noise(dbfs: float, seed: int = 0) -> np.ndarray:
    wave = np.random.default_rng(seed).standard_normal(round(RATE * SECONDS))
    return wave * 10 ** (dbfs / 20) / np.sqrt(np.mean(wave**2))


class Follower:
    """A system whose ambience has the level of its condition, or half of the decibels that were asked for."""

    name, options = "follower", ("ambient",)

    def __init__(self, slope: float = 1.0) -> None:
        self.slope, self.asked = slope, []

    def generate(self, clip, *, seed=0, ambient=None, guidance=2.0):
        from v2a_nb.data.pool import quiet_dbfs

        assert clip.sound is None, "the truth is not an input"
        self.asked.append((ambient, seed, guidance))
        level = quiet_dbfs(ambient.samples[0], RATE) if isinstance(ambient, Sound) else ambient
        t = np.arange(round(RATE * SECONDS)) / RATE
        wave = noise(-50 + self.slope * (level + 50), seed + 1)
        for event in (e for e in HITS if e["sounding"]):
            since = np.maximum(t - event["time_s"], 0)
            wave += (t >= event["time_s"]) * 0.2 * np.exp(-30 * since) * np.sin(2 * np.pi * 900 * since)
        return Sound(wave, RATE)
