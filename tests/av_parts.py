"""Small audio-visual encoders and easy shots for the tests."""

from __future__ import annotations

import numpy as np
import torch

from v2a_nb.audio.ast import AstConfig
from v2a_nb.metrics.av_sync import AvSyncConfig
from v2a_nb.systems.av_sim import AvSim, AvSimConfig
from v2a_nb.training.shots import Shots
from v2a_nb.vision.space_time import SpaceTimeConfig

VIDEO = SpaceTimeConfig(
    size=16, patch=8, frames=7, fps=4.0, dim=32, depth=1, heads=2, mlp=64, stem=(16,), change=True, time_init="random"
)
AUDIO = AstConfig(seconds=1.5, columns=160, dim=32, depth=1, heads=2, mlp=64, stride=16)
SMALL = AvSimConfig(dim=16, video=VIDEO, audio=AUDIO)
SYNC = AvSyncConfig(encoders=SMALL, layers=(64, 32))


def small_model(seed: int = 0) -> AvSim:
    """Untrained encoders, rounded as they are shipped."""
    from v2a_nb.hub import as_shipped

    torch.manual_seed(seed)
    return as_shipped(AvSim(SMALL)).eval()


def easy_shots(recordings: int = 48, each: int = 2, seed: int = 0, margin_s: float = 0.75) -> Shots:
    """Shots in which the picture is bright where a band of the recording's own sounds: when and which can be seen.

    Each recording has a band and a row of the picture that belong together, and sounds about every 0.6 s.
    """
    rng = np.random.default_rng(seed)
    n, count = recordings * each, VIDEO.frames
    columns = round((VIDEO.seconds + 2 * margin_s) * 100) - 2
    pictures = rng.integers(20, 60, (n, count, 16, 16, 3)).astype(np.uint8)
    banks = rng.normal(-12, 0.3, (n, columns, 128)).astype(np.float16)
    kinds = rng.integers(0, 4, recordings)
    for i in range(n):
        row = kinds[i // each]
        for k in np.flatnonzero(rng.random(round((VIDEO.seconds + 2 * margin_s) * VIDEO.fps)) < 0.4):
            first = round(100 * k / VIDEO.fps)
            banks[i, first : first + 20, 32 * row : 32 * row + 32] = -1.0
            seen = k - round(margin_s * VIDEO.fps)
            if 0 <= seen < count:
                pictures[i, seen, 4 * row : 4 * row + 4] = 240
    names = np.repeat(np.arange(recordings), each)
    ambiences = np.array(["hum", "hiss", "rain", "traffic"])[kinds[names]]
    starts = np.tile(3.0 * np.arange(each), recordings)
    quiet = rng.uniform(-70, -40, n).astype(np.float32)
    return Shots(pictures, banks, names, starts, ambiences, quiet, 5, VIDEO.seconds, margin_s, VIDEO.fps)
