"""Sync (V-AURA, section IV-B) and DeSync (av-benchmark): by how much a judge thinks that a sound is off.

A judge, an extractor of offsets, says which of 21 offsets from -2 s to 2 s fits 4.8 s of pictures and sound best. The
value is the mean distance of its answers from zero. Judge and window make the number:

- ``sync_offset_s`` reads the middle 4.8 s. A shorter clip is laid in the middle: the first and the last picture are
  held, and the sound has silence around it. So every offset is another picture of the matter.
- ``sync_tiled_s`` is V-AURA's: pictures and sound are repeated up to 5 s. Each repeat is another partner, so that in a
  clip of 2.56 s 2.0 s late may pass for 0.56 s early, and the mean comes out smaller.
- ``desync_s`` is av-benchmark's: over the first and the last 4.8 s of clips that are at least as long.

All are seconds; the paper has milliseconds. Values of two of them, or of two judges, do not compare. The judges are in
:mod:`v2a_nb.metrics.offsets`: Synchformer with your file of its weights, as the papers have it, and our own.

Read them beside these: a judge that guesses has 1.048 s, one that always says "in time" has 0. The steps are 0.2 s,
where 45 ms early and 125 ms late can be noticed (ITU-R BT.1359), so a value under 0.1 s says that the judge has found
no offset, and nothing finer. Judges see what systems see: Synchformer's visual tower is of the family that conditions
V-AURA, and ours is the one that conditions our own systems, so that both have the same blind spots.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from v2a_nb.errors import UsageError
from v2a_nb.metrics.base import Metric, ScoredClip
from v2a_nb.metrics.extractors import load_extractor

FPS, FRAMES, STEP = 25, 120, 8
"""Pictures a second, pictures that are read at once (4.8 s), and from one segment of Synchformer to the next."""
TILED_S = 5.0
"""Length to which V-AURA's evaluation repeats a clip."""
OFFSETS_S = np.round(np.linspace(-2.0, 2.0, 21), 1)
"""The classes: seconds by which the sound is ahead of its pictures, as Synchformer has them; negative is late."""
CHANCE_S = float(np.abs(OFFSETS_S).mean())
"""What a judge that guesses scores."""


@dataclass(frozen=True)
class Protocol:
    """Which 4.8 s of a clip are read.

    Attributes:
        tiled: whether a short clip is repeated; else it is laid in the middle.
        ends: whether the first and the last 4.8 s are read; else those in the middle.
        short_side: pixels that pictures have for Synchformer before the middle is cut out; 0: no more than it reads.
    """

    tiled: bool = False
    ends: bool = False
    short_side: int = 256

    def starts(self, seconds: float) -> list[int]:
        """First pictures of the windows of a clip of this length; negative where it is laid in the middle.

        Raises:
            UsageError: ``ends`` of a clip that is shorter than 4.8 s.

        Examples:
            >>> Protocol().starts(2.56), Protocol().starts(8.0), Protocol(tiled=True).starts(2.56)
            ([-28], [40], [2])
            >>> Protocol(ends=True).starts(8.0)
            [0, 80]
        """
        frames = round(TILED_S * FPS) if self.tiled else int(seconds * FPS + 1e-6)
        if not self.ends:
            return [(frames - FRAMES) // 2]
        if frames < FRAMES:
            raise UsageError(f"{seconds:.2f} s are too short for DeSync; it reads {FRAMES / FPS:g} s")
        return [0, (frames - FRAMES) // STEP * STEP]  # whole segments, as av-benchmark counts them

    def window(self, values: np.ndarray, start: int, rate: int, hold: bool = False) -> np.ndarray:
        """The values [4.8 rate, ...] of a window out of those of the clip, [n, ...].

        Args:
            start: its first picture.
            rate: values a second, a multiple of 25.
            hold: whether the first and the last value go on before and after the clip; else there is zero.
        """
        each = rate // FPS
        index = start * each + np.arange(FRAMES * each)
        if self.tiled:
            return values[index % len(values)]
        found = values[np.clip(index, 0, len(values) - 1)]
        if not hold:
            found[(index < 0) | (index >= len(values))] = 0
        return found


class Sync(Metric):
    """Mean distance of a judge's answers from zero, s, on the middle 4.8 s.

    A clip of which the judge says nothing is not counted: ours hears no onset, or sees nothing that would make one.

    Args:
        model: the judge; left out, our own.
    """

    protocol: ClassVar[Protocol] = Protocol()

    def load_model(self) -> Any:
        return load_extractor("strike-sync")

    def score(self, clip: ScoredClip) -> list[float]:
        """Seconds by which the sound is late in each window, a multiple of 0.2; NaN where the judge says nothing."""
        found = []
        for start in self.protocol.starts(clip.duration):
            name = f"window of {self.extractor} at {start}, {self.protocol}"
            seen = clip.feature("video", name, lambda start=start: self.model.look(clip.video, start, self.protocol))
            logits = self.model.offsets(seen, clip.fitted_sound, start, self.protocol)
            found.append(late_s(logits))
        return found

    def pool(self, rows: Sequence[Sequence[float]], name: str) -> float:
        late = [abs(x) for row in rows for x in row if math.isfinite(x)]
        return float(np.mean(late)) if late else float("nan")

    def count(self, rows: Sequence[Sequence[float]], name: str) -> int:
        return sum(any(math.isfinite(x) for x in row) for row in rows)


class SyncTiled(Sync):
    """The same of clips that are repeated up to 5 s, as V-AURA's evaluation does it."""

    protocol = Protocol(tiled=True)


class DeSync(Sync):
    """The same of the first and the last 4.8 s, as av-benchmark does it."""

    protocol = Protocol(ends=True, short_side=0)


def late_s(logits: np.ndarray) -> float:
    """Seconds by which the likeliest of 21 classes is late, as a sound that comes after its pictures; NaN for NaN.

    Examples:
        >>> late_s(np.eye(21)[0]), late_s(np.eye(21)[11])
        (2.0, -0.2)
    """
    logits = np.asarray(logits, np.float64)
    return float(0.0 - OFFSETS_S[int(np.argmax(logits))]) if np.isfinite(logits).all() else float("nan")
