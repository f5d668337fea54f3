"""Looped sounds: exact lengths, and no seam to be heard."""

from __future__ import annotations

import numpy as np
import pytest

from v2a_nb.audio.looping import looped
from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError

RATE = 16000


def test_a_longer_sound_is_cut():
    sound = Sound(0.1 * np.random.default_rng(0).standard_normal(20000), RATE)
    assert np.array_equal(looped(sound, 1000).samples, sound.samples[:, :1000])
    assert np.array_equal(looped(sound, sound.n).samples, sound.samples)
    with pytest.raises(UsageError):
        looped(sound, 0)


@pytest.mark.parametrize("kind", ["noise", "hum", "rumble"])
def test_a_repeated_sound_has_no_seams(kind):
    t = np.arange(int(1.37 * RATE)) / RATE
    rng = np.random.default_rng(0)
    wave = {
        "noise": 0.1 * rng.standard_normal(len(t)),
        "hum": 0.1 * np.sin(2 * np.pi * 60 * t),
        "rumble": 0.1 * np.sin(2 * np.pi * 33 * t) + 0.02 * rng.standard_normal(len(t)),
    }[kind]
    made = looped(Sound(wave, RATE), 5 * RATE + 17).samples[0]
    assert len(made) == 5 * RATE + 17
    assert np.abs(np.diff(made)).max() <= 1.1 * np.abs(np.diff(wave)).max() + 1e-6  # no jump
    level = [10 * np.log10(np.mean(part**2)) for part in np.array_split(made, len(made) // 1600)]
    assert np.ptp(level) < 2.0 if kind == "noise" else np.ptp(level) < 4.5
    assert np.allclose(made[: len(wave) - 1600], wave[: len(wave) - 1600], atol=1e-6)


def test_very_short_sounds_can_be_repeated_too():
    for n in (1, 2, 50):
        made = looped(Sound(np.full(n, 0.25), RATE), 1000)
        assert made.n == 1000 and np.allclose(made.samples, 0.25, atol=0.01)
