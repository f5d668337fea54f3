"""Hits made louder or softer in a sound that was generated without levels."""

from __future__ import annotations

import numpy as np

from v2a_nb.clip import Sound
from v2a_nb.hits import Hits

BEFORE_S, RISE_S = 0.02, 0.012
"""The gain of a hit is reached between 20 and 8 ms before it."""
HOLD_S, RETURN_S = 1.0, 0.5
"""A gain holds until the next hit, or for a second; it is gone half a second later."""
PEAK = 0.99
"""A hit is made no louder than full scale."""


def with_levels(sound: Sound, hits: Hits) -> Sound:
    """The sound with a gain around every hit that has a level.

    All that sounds there is scaled, the ambience and what rings on as well: nobody knows the hit's sound alone.

    Examples:
        >>> quiet = Sound(np.full(16000, 0.1, np.float32), 16000)
        >>> louder = with_levels(quiet, Hits([0.25]).scale(0, 6.0)).samples[0]
        >>> [round(float(louder[int(t * 16000)]), 3) for t in (0.1, 0.25, 0.9)]
        [0.1, 0.2, 0.2]
    """
    if not any(hit.level_db for hit in hits):
        return sound
    time = np.arange(sound.n) / sound.sample_rate
    starts = [hit.time_s - BEFORE_S for hit in hits]
    edges = np.searchsorted(time, [*starts, np.inf])
    gain = np.zeros(sound.n)  # dB
    for k, hit in enumerate(hits):
        loudest = float(np.abs(sound.samples[:, edges[k] : edges[k + 1]]).max(initial=1e-6))
        level = min(hit.level_db, max(0.0, 20 * float(np.log10(PEAK / loudest))))
        here = time[edges[k] :]
        rise, fall = _smooth((here - starts[k]) / RISE_S), _smooth((here - hit.time_s - HOLD_S) / RETURN_S)
        gain[edges[k] :] += rise * (level * (1 - fall) - gain[edges[k] :])
    return Sound(np.clip(sound.samples * 10 ** (gain / 20), -1, 1), sound.sample_rate, sound.layout)


def _smooth(x: np.ndarray) -> np.ndarray:
    """From 0 to 1 without corners, as x goes."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)
