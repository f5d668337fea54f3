"""E-L1, the distance of two envelopes (T-Foley, Chung et al. 2024, arXiv 2401.09294): when and how loud it sounds.

The mean over time of ``|RMS of the true sound - RMS of the generated one|``, full scale 1. Here the RMS is that of
frames of 32 ms every 8 ms at 16 kHz. It hears no pitch and no timbre.

Two traps. A hit at the wrong time costs twice, once where it is missing and once where it is; silence costs once, and
scores better than honest attempts. And loud clips weigh more: a factor of both sounds is a factor of the value.
"""

from __future__ import annotations

import numpy as np

from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError, check_types
from v2a_nb.metrics.base import Metric, ScoredClip

SAMPLE_RATE, FRAME, HOP = 16000, 512, 128


def envelope(sound: Sound) -> np.ndarray:
    """RMS of a sound, full scale 1: float64 [1 + n // 128] at 16 kHz; frame k is about k * 8 ms, silence around it.

    Raises:
        UsageError: a sound without samples.
    """
    wave = sound.mono().resample(SAMPLE_RATE).samples[0].astype(np.float64)
    if not len(wave):
        raise UsageError("an empty sound has no envelope")
    energy = np.concatenate([[0.0], np.cumsum(np.square(np.pad(wave, FRAME // 2)))])
    starts = np.arange(0, len(wave) + 1, HOP)
    return np.sqrt(np.maximum(energy[starts + FRAME] - energy[starts], 0) / FRAME)


@check_types
def envelope_distance(generated: Sound, reference: Sound) -> float:
    """E-L1 of two sounds: 0 for equal envelopes. The generated one is cut or filled to the length of the reference.

    Raises:
        UsageError: a sound without samples.
    """
    first, second = envelope(generated.fit(reference.duration)), envelope(reference)
    n = min(len(first), len(second))  # rates that are no multiples of each other may round to different lengths
    return float(np.abs(first[:n] - second[:n]).mean())


class EnvelopeDistance(Metric):
    """:func:`envelope_distance` from the true sound, the mean over clips."""

    controls = frozenset({"round trip", "shuffled"})
    extractor = "rms"

    def score(self, clip: ScoredClip) -> float:
        return envelope_distance(clip.fitted_sound, clip.fitted_reference)
