"""Many clips of Strike World as plain arrays, for training; without their truth."""

from __future__ import annotations

import numpy as np

from v2a_nb.world import sound as world_sound
from v2a_nb.world.picture import frames
from v2a_nb.world.recording import VERSION, draw


def sounds(
    seed: int,
    n: int,
    *,
    seconds: float = 2.56,
    sample_rate: int = 16000,
    per_recording: int = 6,
    version: int = VERSION,
) -> np.ndarray:
    """Render the sounds of ``n`` random windows, without pictures.

    Args:
        seed: of the world.
        n: number of windows.
        seconds: length of a window.
        sample_rate: Hz.
        per_recording: windows that are cut from one recording.
        version: of the world.

    Returns:
        the mixes, float32 [n, samples] in (-1, 1).
    """
    size = int(round(seconds * sample_rate))
    out = np.empty((n, size), np.float32)
    for i in range(n):
        if i % per_recording == 0:
            recording = draw(seed, i // per_recording, version=version)
            mix = world_sound.render(recording, sample_rate)["mix"]
            rng = recording.rng("windows")
        start = int(rng.integers(0, len(mix) - size))
        out[i] = mix[start : start + size]
    return out


def arrays(
    seed: int,
    n: int,
    *,
    first: int = 0,
    seconds: float = 2.56,
    size: int = 64,
    fps: float = 25.0,
    sample_rate: int = 16000,
    per_recording: int = 2,
    style: str = "camera",
    version: int = VERSION,
    out: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Render pictures and sounds of ``n`` random windows.

    Args:
        seed: of the world.
        n: number of windows.
        first: number of the first recording that is used.
        seconds, size, fps, sample_rate, style, version: as for :func:`~v2a_nb.world.dataset.strike_world`.
        per_recording: windows that are cut from one recording.
        out: two arrays to write into, which may be memory-mapped; left out, new ones.

    Returns:
        frames uint8 [n, T, size, size, 3] and sounds float32 [n, samples].
    """
    samples, count = int(round(seconds * sample_rate)), int(round(seconds * fps))
    if out is None:
        out = (
            np.empty((n, count, size, size, 3), np.uint8),
            np.empty((n, samples), np.float32),
        )
    for i in range(n):
        if i % per_recording == 0:
            recording = draw(seed, first + i // per_recording, style=style, version=version)
            mix = world_sound.render(recording, sample_rate)["mix"]
            rng = recording.rng("windows")
        start = int(rng.integers(0, len(mix) - samples))
        out[1][i] = mix[start : start + samples]
        out[0][i] = frames(recording, start / sample_rate + np.arange(count) / fps, size, fps)
    return out
