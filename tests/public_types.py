"""Types of the public names as a type checker sees them through the lazy ``__init__``: read by pyright, never run."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import v2a_nb as v2a
from v2a_nb.clip import Clip, Sound
from v2a_nb.systems.base import System
from v2a_nb.widgets.player import Player
from v2a_nb.world import StrikeWorld


def everyday_use() -> None:
    clip = v2a.open("my_video.mp4", duration=2.0)
    assert_type(clip, Clip)
    assert_type(clip.duration, float)
    assert_type(clip.slice(0.5).silent().at_fps(25), Clip)
    assert_type(clip.sound, Sound | None)
    system = v2a.load("vaura")
    assert_type(system, System)
    sound = system.generate(clip.silent(), seed=0)
    assert_type(sound, Sound)
    assert_type(sound.resample(8000).mono().fit(1.0), Sound)
    assert_type(v2a.save_wav(sound, "a.wav"), Path)
    assert_type(v2a.save_mp4(clip, sound, "a.mp4"), Path)
    assert_type(v2a.compare(clip, {"V-AURA": sound, "true": clip.sound}), Player)
    assert_type(v2a.strike_world(seed=0), StrikeWorld)


def mistakes(clip: Clip, sound: Sound) -> None:
    """A checker that saw no types here would complain that these comments are not needed."""
    v2a.save_mp4("a.mp4", clip, sound)  # pyright: ignore[reportArgumentType]
    v2a.compare(clip, [sound])  # pyright: ignore[reportArgumentType]
    v2a.play("a.mp4")  # pyright: ignore[reportArgumentType]
