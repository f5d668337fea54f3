"""What depends on a part of the picture: it is hidden, the sound is made again, and the two are compared.

A saliency map goes from a part of the sound to pixels. This goes from pixels to the sound, and needs no gradient: the
system generates twice with one seed, so that what differs comes from what was hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.signal import istft, stft

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError, check_value
from v2a_nb.saliency.targets import check_window
from v2a_nb.systems.base import System

STEP_S = 0.02
"""Seconds between the points of the curve."""
WINDOW = 512
"""Samples of a window, in which :attr:`Dependence.lost` compares frequencies."""
FLOOR_DBFS = -70.0
"""Levels below this count as silence, so that silence does not differ from silence."""


@dataclass(frozen=True, eq=False)
class Dependence:
    """Two sounds of one clip, with and without a part of its picture.

    Attributes:
        clip: with the part hidden.
        whole, hidden: the sounds, of one seed.
    """

    clip: Clip
    whole: Sound
    hidden: Sound

    @cached_property
    def whole_db(self) -> np.ndarray:
        """Level of ``whole`` every 20 ms, dBFS, [n]; at least :data:`FLOOR_DBFS`."""
        return _levels(self.whole)

    @cached_property
    def hidden_db(self) -> np.ndarray:
        """The same of ``hidden``."""
        return _levels(self.hidden)

    @property
    def difference_db(self) -> np.ndarray:
        """Level of ``hidden`` minus that of ``whole``, [n], every 20 ms."""
        return self.hidden_db - self.whole_db

    @property
    def lost(self) -> Sound:
        """What the whole picture's sound has and the other lacks: each of its frequencies as far as it is louder there.

        Waves of two sounds of one seed are no longer the same after their first difference, so that one cannot be taken
        from the other; magnitudes can.
        """
        both = [sound.mono().samples[0].astype(np.float64) for sound in (self.whole, self.hidden)]
        size = min(WINDOW, len(both[0]))
        spectra = [stft(wave, nperseg=size)[2] for wave in both]
        whole, hidden = (np.abs(each) for each in spectra)
        kept = spectra[0] * np.clip(1 - hidden / np.maximum(whole, 1e-9), 0, 1)
        wave = istft(kept, nperseg=size)[1]
        wave = np.pad(wave, (0, max(0, len(both[0]) - len(wave))))[: len(both[0])]
        return Sound(wave.astype(np.float32)[None], self.whole.sample_rate)

    @property
    def greatest_s(self) -> float:
        """When the level differs most, seconds."""
        return (int(np.abs(self.difference_db).argmax()) + 0.5) * STEP_S

    @property
    def tracks(self) -> dict[str, Sound]:
        """Both sounds and what is lost, by name, for :func:`v2a_nb.compare`."""
        return {"whole picture": self.whole, "part hidden": self.hidden, "what is lost": self.lost}

    def __repr__(self) -> str:
        most = float(self.difference_db[np.abs(self.difference_db).argmax()])
        return f"Dependence({most:+.1f} dB at {self.greatest_s:.2f} s, where it is greatest)"


def hide(clip: Clip, box: Sequence[float], times: tuple[float, float] | None = None) -> Clip:
    """The clip with a part of its picture replaced by the part's mean colour over time and space.

    Args:
        box: ``(x0, y0, x1, y1)``, each 0 to 1 of the picture.
        times: seconds in which it is hidden; left out, always.

    Raises:
        UsageError: a box outside of the picture or without pixels, or times outside of the clip.

    Examples:
        >>> bool(hide(clip, (0.0, 0.0, 0.5, 1.0)).frames[:, :, :32].std(axis=(0, 1, 2)).max() < 1)
        True
    """
    check_value("hide", "clip", clip, Clip)
    start, end = check_window(times, clip)
    try:
        x0, y0, x1, y1 = (float(v) for v in box)
    except (TypeError, ValueError) as error:
        raise UsageError(f"a box is (x0, y0, x1, y1), each 0 to 1, not {box!r}") from error
    left, right = round(x0 * clip.width), round(x1 * clip.width)
    top, bottom = round(y0 * clip.height), round(y1 * clip.height)
    if not (0 <= left < right <= clip.width and 0 <= top < bottom <= clip.height):
        raise UsageError(f"the box {x0:g}, {y0:g} to {x1:g}, {y1:g} is no part of a picture of 0 to 1")
    when = np.flatnonzero((clip.times >= start - 1e-6) & (clip.times < end))
    frames = np.array(clip.frames)
    colour = frames[:, top:bottom, left:right].mean(axis=(0, 1, 2)).round()
    frames[when[:, None, None], np.arange(top, bottom)[:, None], np.arange(left, right)] = colour
    return replace(clip, frames=frames)


def depends_on(
    system: System,
    clip: Clip,
    box: Sequence[float],
    times: tuple[float, float] | None = None,
    *,
    seed: int = 0,
    whole: Sound | None = None,
    **options: Any,
) -> Dependence:
    """How a system's sound changes when a part of the picture is hidden.

    Args:
        system: any that generates.
        clip: its own sound is not used.
        box, times: as for :func:`hide`.
        seed: of both sounds.
        whole: the sound of the whole picture, where it is there already; left out, it is generated.
        options: others of the system's ``generate``.

    Raises:
        UsageError: as :func:`hide`, and as ``generate``.

    Examples:
        >>> from v2a_nb import load
        >>> depends_on(load("vaura"), clip, (0.3, 0.3, 0.7, 0.9)).hidden.n == round(16000 * clip.duration)
        True
    """
    check_value("depends_on", "system", system, System)
    without = hide(clip, box, times)
    if whole is None:
        whole = system.generate(clip.silent(), seed=seed, **options)
    return Dependence(without, whole, system.generate(without.silent(), seed=seed, **options))


def _levels(sound: Sound) -> np.ndarray:
    """Level every 20 ms, dBFS, at least the floor."""
    step = round(STEP_S * sound.sample_rate)
    samples = sound.mono().samples[0]
    power = np.square(np.pad(samples, (0, -len(samples) % step)).reshape(-1, step), dtype=np.float64).mean(1)
    return np.maximum(10 * np.log10(np.maximum(power, 1e-12)), FLOOR_DBFS)
