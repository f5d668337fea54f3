"""Levels of hits: a smooth gain from each hit to the next, never beyond full scale, and nothing where none is asked."""

from __future__ import annotations

import numpy as np
import pytest

from v2a_nb.audio.hit_levels import with_levels
from v2a_nb.clip import Sound
from v2a_nb.hits import Hits

RATE = 16000
STEADY = Sound(np.full(4 * RATE, 0.1, np.float32), RATE)


def gains(hits: Hits, sound: Sound = STEADY) -> np.ndarray:
    """dB at every sample."""
    return 20 * np.log10(with_levels(sound, hits).samples[0] / sound.samples[0])


def test_without_levels_the_sound_is_the_same_value():
    assert with_levels(STEADY, Hits([0.5, 1.0])) is STEADY and with_levels(STEADY, Hits()) is STEADY


def test_a_gain_is_there_at_the_hit_and_ends_with_the_next_one():
    gain = gains(Hits([0.5, 1.0, 1.5]).scale(1, 6.0))
    at = lambda seconds: gain[round(seconds * RATE)]  # noqa: E731
    assert [at(t) for t in (0.2, 0.5, 0.97, 1.0, 1.2, 1.479, 1.5, 3.0)] == pytest.approx(
        [0, 0, 0, 6, 6, 6, 0, 0], abs=0.01
    )


def test_a_gain_is_gone_a_second_and_a_half_after_the_last_hit():
    gain = gains(Hits([1.0]).scale(0, -12.0))
    assert gain[round(1.99 * RATE)] == pytest.approx(-12, abs=0.01)
    assert gain[round(2.5 * RATE) :] == pytest.approx(0, abs=0.01)
    assert np.abs(np.diff(gain)).max() < 0.12, "no step that would be heard as a click"


def test_no_hit_gets_louder_than_full_scale_and_only_that_one_is_held_back():
    loud = Sound(np.where(np.arange(2 * RATE) < RATE, 0.8, 0.1).astype(np.float32), RATE)
    made = with_levels(loud, Hits([0.5, 1.5]).scale(0, 12.0).scale(1, 12.0)).samples[0]
    assert np.abs(made).max() <= 0.991 and made[round(1.6 * RATE)] == pytest.approx(0.1 * 10**0.6, rel=1e-3)
    full = Sound(np.ones(RATE, np.float32), RATE)
    assert np.array_equal(with_levels(full, Hits([0.5]).scale(0, 6.0)).samples, full.samples)


def test_channels_keep_their_balance_and_hits_at_the_edges_do_no_harm():
    stereo = Sound(np.stack([np.full(RATE, 0.1), np.full(RATE, 0.2)]).astype(np.float32), RATE, "stereo")
    made = with_levels(stereo, Hits([0.0, 0.995]).scale(0, 3.0).scale(1, -3.0))
    assert made.layout == "stereo" and made.n == RATE
    assert made.samples[1] / made.samples[0] == pytest.approx(np.full(RATE, 2.0), rel=1e-4)
    assert with_levels(Sound(np.zeros(RATE), RATE), Hits([0.5]).scale(0, 24.0)).peak == 0
