"""The sound that Action2Sound is conditioned on: values of ``ambient`` (sections 3.3 and 3.4).

| ``ambient`` | the condition | the paper calls it |
|---|---|---|
| ``"retrieved"``, or left out | the sound of the pool that fits the clip best | action-ambient |
| ``"low"`` | the sound of the pool with the lowest ambient level | action-focused |
| a number | the retrieved one, at that ambient level in dBFS | figure 7 |
| a Sound, a path, one for each clip in a list | that | |

Zeros are no condition: training never saw them (section 3.3).
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from v2a_nb.audio.looping import looped
from v2a_nb.clip import Clip, Sound
from v2a_nb.data.pool import DIGITAL_SILENCE_DBFS, QUIET_STEP_S, quiet_dbfs
from v2a_nb.errors import UsageError, WeightsError

if TYPE_CHECKING:
    from v2a_nb.systems.retrieval.system import Retrieval

WORDS = ("retrieved", "low")
LOUDEST_DBFS, SOFTEST_DBFS = 0.0, -120.0
Ambient: TypeAlias = "str | Path | float | Sound | Sequence[Sound] | None"


class Ambients:
    """Finds the sounds that are asked for.

    Args:
        open_retrieval: opens the pool with its encoders when it is needed for the first time; left out, there is
            none, and only sounds and files can be asked for.
    """

    def __init__(self, open_retrieval: Callable[[], Retrieval] | None = None) -> None:
        self._open, self._retrieval = open_retrieval, None

    @property
    def retrieval(self) -> Retrieval:
        """The pool with its encoders.

        Raises:
            WeightsError: there is none.
        """
        if self._retrieval is None:
            if self._open is None:
                raise WeightsError(
                    "no pool of sounds belongs to these weights, so no ambience can be retrieved: give a sound, or "
                    "save them with a pool"
                )
            self._retrieval = self._open()
        return self._retrieval

    def sounds(self, ambient: Ambient, clips: Sequence[Clip]) -> list[Sound]:
        """One sound for each clip; the clips' own sounds are not used.

        Raises:
            UsageError: neither a known word, nor a level, nor a sound.
            WeightsError: a word or a level, and there is no pool.
            MediaError: a file that cannot be read, or has no sound.
        """
        if isinstance(ambient, Sound):
            return [ambient] * len(clips)
        if isinstance(ambient, bool):
            raise UsageError(f"ambient {ambient!r} is no ambience: give one of {', '.join(WORDS)}, a level or a sound")
        if ambient is None or ambient == "retrieved":
            return [self._retrieved(clip) for clip in clips]
        if isinstance(ambient, int | float | np.number):
            return [at_level(self._retrieved(clip), float(ambient)) for clip in clips]
        if isinstance(ambient, str) and ambient == "low":
            pool = self.retrieval.pool
            return [pool.sound(pool.quietest())] * len(clips)
        if isinstance(ambient, str | Path):
            return [read(ambient)] * len(clips)
        if not isinstance(ambient, Sequence):
            raise UsageError(f"ambient {ambient!r} is no ambience: give one of {', '.join(WORDS)}, a level or a sound")
        if len(ambient) != len(clips) or not all(isinstance(s, Sound) for s in ambient):
            raise UsageError(f"{len(ambient)} conditions for {len(clips)} clips: one Sound each is needed")
        return list(ambient)

    def _retrieved(self, clip: Clip) -> Sound:
        found = self.retrieval.find(clip)[1]
        return self.retrieval.pool.sound(int(found[0]))


def ambient_of(text: str) -> str | float:
    """What the command line takes: a word, a level such as ``-40dB``, or a file.

    Raises:
        ArgumentTypeError: anything else.

    Examples:
        >>> ambient_of("-40dB"), ambient_of("low")
        (-40.0, 'low')
    """
    level = re.fullmatch(r"([+-]?\d+(?:\.\d+)?)\s*dB(?:FS)?", text, re.IGNORECASE)
    if level:
        return float(level[1])
    if text not in WORDS and not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text!r} is neither low, nor retrieved, nor a level like -40dB, nor a file")
    return text


def read(path: str | Path) -> Sound:
    """The sound of a file: a user's own ambience.

    Raises:
        UsageError: neither a known word nor a file.
        MediaError: it cannot be read, or has no sound.
    """
    from v2a_nb import media

    if not Path(path).exists():
        raise UsageError(f"ambient {str(path)!r} is neither a file nor one of {', '.join(WORDS)}")
    return media.open_sound(path)


def at_level(sound: Sound, dbfs: float) -> Sound:
    """The sound at another volume, so that its ambient level (its quietest half second) is ``dbfs``.

    Raises:
        UsageError: a level out of range, or a sound that is silent.
    """
    if not SOFTEST_DBFS <= dbfs <= LOUDEST_DBFS:
        raise UsageError(f"an ambient level must lie in {SOFTEST_DBFS:g} to {LOUDEST_DBFS:g} dBFS, not {dbfs}")
    has = quiet_dbfs(sound.mono().samples[0], sound.sample_rate)
    if has <= SOFTEST_DBFS:
        raise UsageError("a silent sound has no ambience that could be made louder")
    return Sound(sound.samples * np.float32(10 ** ((dbfs - has) / 20)), sound.sample_rate)


def fitting(sound: Sound, samples: int, sample_rate: int) -> Sound:
    """A condition of exactly ``samples``, mono: the quietest part of a longer sound, a shorter one looped.

    In the quietest part least happens beside the ambience; digital silence is no ambience (section 3.3).

    Raises:
        UsageError: a sound without samples, or one that is silent throughout.
    """
    sound = sound.mono().resample(sample_rate)
    if sound.rms_dbfs <= DIGITAL_SILENCE_DBFS:
        raise UsageError("a silent sound is no ambience, training never saw one; 'low' is the action alone")
    if sound.n <= samples:
        return looped(sound, samples)
    sums = np.concatenate([[0.0], np.cumsum(np.square(sound.samples[0], dtype=np.float64))])
    starts = np.arange(0, sound.n - samples + 1, max(1, round(QUIET_STEP_S * sample_rate)))
    power = (sums[starts + samples] - sums[starts]) / samples
    power[power <= 10 ** (DIGITAL_SILENCE_DBFS / 10)] = np.inf
    first = int(starts[power.argmin()])
    return Sound(sound.samples[:, first : first + samples], sample_rate)
