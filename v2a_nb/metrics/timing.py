"""Timing without a network: the lag of onset envelopes, and how much of the energy falls on true events.

Both replace a learned synchrony score where the true sound or the true events are known.

How they are fooled: the lag is of the whole clip, so hits that are half early and half late have none, and a sound
that repeats fits at every period. The ratio rises with every loud thing at an event and falls with every quiet gap
elsewhere: a click at each event in digital silence has a higher one than any true sound, which is why
``event_energy_error_db`` compares it with the true sound's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from v2a_nb.audio.onsets import HOP, SAMPLE_RATE, THRESHOLD, beside_peak, onset_strength
from v2a_nb.clip import Sound
from v2a_nb.errors import check_types
from v2a_nb.metrics.base import Metric, ScoredClip

LAG_S = 1.0
"""Lags up to this are looked for, at most half of the clip."""
EVENT_S = 0.1
"""Energy within this of an event counts as that event's."""


@check_types
def envelope_lag(sound: Sound, reference: Sound) -> float:
    """By how many seconds the onset envelope of a sound is late; negative is early.

    The lag at which the cross-correlation of both envelopes is largest, with a parabola through its neighbours. A
    sound that is shifted by a lag has that lag, to within a millisecond.

    Returns:
        seconds; NaN where one of the two has no onset, since envelopes of steady sounds fit anywhere.

    Examples:
        >>> click = np.zeros(16000)
        >>> click[8000:8200] = np.sin(np.arange(200)) * np.exp(-np.arange(200) / 50)
        >>> round(envelope_lag(Sound(np.roll(click, 1600), 16000), Sound(click, 16000)), 3)
        0.1
    """
    n = round(min(sound.duration, reference.duration) * SAMPLE_RATE)
    both = [_strength(part, n) for part in (sound, reference)]
    if min(len(strength) for strength in both) < 3 or min(strength.max() for strength in both) < THRESHOLD:
        return float("nan")
    own, true = both
    size = len(own)
    reach = min(round(LAG_S * SAMPLE_RATE / HOP), size // 2)
    fits = np.correlate(own, true, "full")[size - 1 - reach : size + reach]
    k = int(np.argmax(fits))
    return float((k - reach + beside_peak(fits, k)) * HOP / SAMPLE_RATE)


def _strength(sound: Sound, n: int) -> np.ndarray:
    """The onset strength of the first ``n`` samples at 16 kHz, without what steady sounds have of it."""
    wave = sound.mono().resample(SAMPLE_RATE).fit(n=n).samples[0]
    strength = onset_strength(wave).astype(np.float64) if len(wave) >= 4 * HOP else np.zeros(0)
    return np.where(strength > THRESHOLD / 2, strength, 0.0)


@check_types
def event_energy_ratio(sound: Sound, times: Sequence[float]) -> float:
    """Energy within :data:`EVENT_S` of the events against all other energy of a sound, dB.

    Args:
        sound: any rate and any channels.
        times: of the events, seconds.

    Returns:
        dB, between -120 and 120; NaN where the sound is silent, or no time or all of it is near an event.

    Examples:
        >>> event_energy_ratio(Sound(np.ones(400), 400), [0.5])  # 0.2 s against 0.8 s
        -6.020599913279624
    """
    energy = np.square(sound.samples, dtype=np.float64).sum(0)
    at = (np.arange(sound.n) + 0.5) / sound.sample_rate
    near = np.zeros(sound.n, bool)
    for time in times:
        near |= np.abs(at - time) < EVENT_S
    total = float(energy.sum())
    if not total or near.all() or not near.any():
        return float("nan")
    share = float(energy[near].sum()) / total
    return float(np.clip(10 * math.log10(max(share, 1e-12) / max(1 - share, 1e-12)), -120.0, 120.0))


class EnvelopeLag(Metric):
    """Median lag over clips, as a distance and with its sign, ms."""

    extractor = "mel-rise"

    def score(self, clip: ScoredClip) -> float:
        true = clip.reference
        assert true is not None
        return clip.once_per_sound("lag", lambda: 1000 * envelope_lag(clip.fitted_sound, true))

    def pool(self, rows: Sequence[float], name: str) -> float:
        lags = np.array([row for row in rows if math.isfinite(row)])
        return float(np.median(np.abs(lags) if name == "envelope_lag_abs_ms" else lags)) if len(lags) else float("nan")


class EventEnergy(Metric):
    """Mean over clips of the energy at true events against the other energy, dB."""

    extractor = "energy"

    def score(self, clip: ScoredClip) -> float:
        return _ratio(clip, clip.fitted_sound)


class EventEnergyError(Metric):
    """Mean over clips of the distance of that ratio from the true sound's, dB."""

    controls = frozenset({"round trip", "shuffled"})
    extractor = "energy"

    def score(self, clip: ScoredClip) -> float:
        assert clip.reference is not None
        true = clip.reference.fit(clip.duration)
        return abs(_ratio(clip, clip.fitted_sound) - clip.once_per_clip("event energy", lambda: _ratio(clip, true)))


def _ratio(clip: ScoredClip, sound: Sound) -> float:
    assert clip.truth is not None
    return event_energy_ratio(sound, [e["time_s"] for e in clip.truth["events"] if e["sounding"]])
