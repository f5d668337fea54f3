"""Sounds of any length out of short ones."""

from __future__ import annotations

import numpy as np

from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError

SEAM_S = 0.1
"""Seconds of the cross-fade between the end of a looped sound and its beginning."""


def looped(sound: Sound, samples: int, seam_s: float = SEAM_S) -> Sound:
    """A sound of exactly ``samples``: cut, or repeated with its end cross-faded into its beginning.

    The cross-fade of ``seam_s`` (half of the sound at most) keeps the power constant. Where end and beginning are
    correlated, as two moments of a hum are, plain equal-power weights would swell by up to 3 dB, so their sum is
    divided by what the correlation adds.

    Raises:
        UsageError: nothing to repeat, or no samples wanted.
    """
    if samples < 1 or not sound.n:
        raise UsageError(f"{sound.n} samples cannot be made {samples} long")
    if sound.n >= samples:
        return sound.fit(n=samples)
    wave = sound.samples.astype(np.float64)
    seam = min(round(seam_s * sound.sample_rate), sound.n // 2)
    head, tail, period = wave[:, :seam], wave[:, sound.n - seam :], sound.n - seam
    angle = np.pi / 2 * (np.arange(seam) + 0.5) / max(seam, 1)
    power = np.sqrt(np.square(head).sum() * np.square(tail).sum())
    alike = float((head * tail).sum() / power) if power > 0 else 0.0
    cross = (np.sin(angle) * head + np.cos(angle) * tail) / np.sqrt(1 + max(alike, -0.5) * np.sin(2 * angle))
    loop = np.concatenate([cross, wave[:, seam:period]], axis=1)  # one period, from one seam's start to the next
    again = np.tile(loop, (1, -(-(samples - period) // period)))
    return Sound(np.concatenate([wave[:, :period], again], axis=1)[:, :samples], sound.sample_rate)
