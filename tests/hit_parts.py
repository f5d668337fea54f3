"""A system whose hits are known, for tests of the editor."""

from __future__ import annotations

import numpy as np

from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError
from v2a_nb.hits import Hit, Hits

EXPECTED = Hits(
    [Hit(0.5, 0.97, 0.2, 0.8, origin="model"), Hit(1.0, 0.3, origin="model"), Hit(1.5, 0.02, origin="model")]
)


class Clicker:
    """A system that clicks at every hit, and notes what it was told."""

    name, options = "clicker", ("hits", "sensitivity", "guidance")

    def __init__(self) -> None:
        self.told: list[dict] = []

    def hits(self, clip, *, sensitivity=0.5):
        assert clip.sound is None, "the clip's own sound is not an input"
        return EXPECTED.at(sensitivity)

    def steps_of(self, clip, **options):
        return 2

    def generate(self, clip, *, seed=0, hits=None, progress=None, guidance=1.0):
        assert clip.sound is None
        self.told.append({"seed": seed, "hits": hits, "guidance": guidance})
        if guidance > 10:
            raise UsageError("guidance 11 is too much")
        for _ in range(2):
            if progress:
                progress(1)
        wave = np.zeros(round(16000 * clip.duration), np.float32)
        for time in (EXPECTED.at(0.5) if hits is None else hits).times:
            wave[round(16000 * time) : round(16000 * time) + 200] = 0.5
        return Sound(wave, 16000)
