"""Neighbours: the clip of the same recording whose sound Action2Sound is conditioned on.

Its paper (section 3.2) samples one of "the nearest X clips in time", X = 6, at "a different timestamp": a neighbour
shares the ambience and not the action. Its released loader takes the three rows before and after in file order.
File order is not time order, so a row may be anywhere in the video; nothing keeps it from overlapping the target,
whose action it then gives away; and row 0 is never taken, because the test reads ``> 0``. That is
``rule="released"``. The default, ``rule="apart"``, goes by time, and no neighbour overlaps its target.

:class:`Neighbours` serves clips that are given as rows; :func:`free_neighbours` cuts a neighbour anywhere out of a
recording, as Strike World allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from v2a_nb.errors import UsageError

if TYPE_CHECKING:
    from v2a_nb.world import WorldClip

NEAREST = 6
"""X of the paper; the released configuration has three on either side."""
MIN_GAP_S = 3.0
"""From start to start: the length of the paper's clips."""
RULES = ("apart", "released")
TICKS = 1_000_000
"""Times are compared in whole microseconds, so that clips that touch do not overlap by a rounding error."""
NONE = -1


class Neighbours:
    """Which clips may be neighbours of which. Rows are clips; ``-1`` stands for none.

    With ``rule="apart"`` two clips of one recording are neighbours where the later one starts after the earlier
    one's end and at least ``min_gap_s`` after its start. Of those the ``nearest`` count, on both sides together,
    by the time that they are further apart than they must be.

    A clip without a neighbour gets ``-1``: leave it out of training, or give it the null context. The released
    loader gives it a black spectrogram, which the paper itself found to be far from what is trained on
    (section 3.3).

    Examples:
        >>> made = Neighbours(["a", "a", "a", "b"], [0.0, 1.0, 8.0, 0.0], 3.0)
        >>> made.candidates([0, 1, 2, 3])[:, :2].tolist()
        [[2, -1], [2, -1], [1, 0], [-1, -1]]
        >>> made.counts()
        {'clips': 4, 'with': 3, 'alone': 1, 'crowded': 0}
        >>> made.draw(seed=0).tolist()
        [2, 2, 1, -1]
    """

    def __init__(
        self,
        recordings: Sequence[object] | np.ndarray,
        starts: Sequence[float] | np.ndarray,
        durations: float | Sequence[float] | np.ndarray,
        *,
        nearest: int = NEAREST,
        min_gap_s: float = MIN_GAP_S,
        rule: str = "apart",
    ) -> None:
        """Index the clips; 100,000 take about 0.1 s.

        Args:
            recordings: the name or number of each clip's recording, N.
            starts: where in it each clip begins, seconds, N. Of Ego4D-Sounds the start of the media window, which
                is shifted at a video's ends, and not the time of the narration.
            durations: seconds, one for all or N.
            nearest: how many of the nearest clips may be drawn; even for ``"released"``.
            min_gap_s: least time from start to start; 0 still keeps clips from overlapping. ``"released"`` knows none.
            rule: ``"apart"`` or ``"released"``.

        Raises:
            UsageError: lengths that differ, times that are no numbers, or options that make no sense.
        """
        self.starts = np.asarray(starts, np.float64)
        n = len(self.starts)
        self.durations = np.broadcast_to(np.asarray(durations, np.float64), (n,))
        names = np.asarray(recordings)
        if self.starts.ndim != 1 or names.shape != (n,):
            raise UsageError(
                f"{names.shape} recordings and {self.starts.shape} starts: one of each is needed for a clip"
            )
        if not np.isfinite(self.starts).all() or not (np.isfinite(self.durations) & (self.durations > 0)).all():
            raise UsageError("starts and durations of clips must be numbers, durations over 0 s")
        if rule not in RULES:
            raise UsageError(f"rule {rule!r} is unknown; choose one of {', '.join(RULES)}")
        if nearest < 1 or not min_gap_s >= 0:
            raise UsageError(f"nearest={nearest} must be at least 1 and min_gap_s={min_gap_s} at least 0")
        if rule == "released" and nearest % 2:
            raise UsageError(f"the released rule takes as many rows before as after: nearest={nearest} is odd")
        self.nearest, self.min_gap_s, self.rule = nearest, float(min_gap_s), rule
        _, self._group = np.unique(names, return_inverse=True)
        self._sizes = np.bincount(self._group, minlength=1)
        if rule == "apart":
            self._index()

    @classmethod
    def of(cls, clips: Iterable, **options: object) -> Neighbours:
        """Index whatever has ``recording``, ``start_s`` and ``duration_s``, such as the entries of a source.

        Args:
            options: ``nearest``, ``min_gap_s`` and ``rule``.
        """
        rows = [(clip.recording, clip.start_s, clip.duration_s) for clip in clips]
        names, starts, durations = zip(*rows, strict=True) if rows else ((), (), ())
        if None in durations:
            raise UsageError(f"{durations.count(None)} clips have no known duration: neighbours need one")
        return cls(np.array(names), np.array(starts, np.float64), np.array(durations, np.float64), **options)

    def __len__(self) -> int:
        return len(self.starts)

    def _index(self) -> None:
        """Clips by recording and time, as one sorted key: a recording's number times a span, plus a time."""
        start = np.round(self.starts * TICKS).astype(np.int64)
        start -= start.min() if len(start) else 0
        hold = np.maximum(np.round(self.durations * TICKS), round(self.min_gap_s * TICKS)).astype(np.int64)
        span = int((start + hold).max(initial=0)) + 1
        base = self._group.astype(np.int64) * span
        self._from, self._clear = base + start, base + start + hold  # a later clip may start when this one is clear
        self._by_from, self._by_clear = (np.argsort(key, kind="stable") for key in (self._from, self._clear))
        self._sorted_from, self._sorted_clear = self._from[self._by_from], self._clear[self._by_clear]

    def candidates(self, which: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """The clips that may be drawn for some rows, int64 [n, nearest]: the nearest first, then ``-1``.

        With ``"released"`` the rows before, then those after.
        """
        which = np.arange(len(self)) if which is None else np.asarray(which, np.int64).reshape(-1)
        found = self._rows(which) if self.rule == "released" else self._apart(which)
        return found[:, : self.nearest]

    def _apart(self, which: np.ndarray) -> np.ndarray:
        """[n, 2 * nearest]: as many on either side, those of both sides sorted by distance."""
        steps = np.arange(self.nearest)
        before = np.searchsorted(self._sorted_clear, self._from[which], side="right")[:, None] - 1 - steps
        after = np.searchsorted(self._sorted_from, self._clear[which], side="left")[:, None] + steps
        far = np.iinfo(np.int64).max
        found, away = [], []
        for place, order, late in ((before, self._by_clear, False), (after, self._by_from, True)):
            inside = (place >= 0) & (place < len(self))
            row = order[np.where(inside, place, 0)]  # [n, nearest]
            inside &= self._group[row] == self._group[which][:, None]
            first, later = (which[:, None], row) if late else (row, which[:, None])
            spare = self._from[later] - self._clear[first]
            found.append(np.where(inside, row, NONE))
            away.append(np.where(inside, spare, far))
        rows, spare = np.concatenate(found, axis=1), np.concatenate(away, axis=1)
        return np.take_along_axis(rows, np.argsort(spare, axis=1, kind="stable"), axis=1)

    def _rows(self, which: np.ndarray) -> np.ndarray:
        """What ``ego4dsounds_dataset.py`` takes (lines 160 to 190): rows in file order, [n, nearest]."""
        half = self.nearest // 2
        steps = np.concatenate([-np.arange(1, half + 1), np.arange(1, half + 1)])
        row = which[:, None] + steps
        inside = (row > 0) & (row < len(self))  # row 0 is left out, as released
        row = np.where(inside, row, 0)
        row = np.where(inside & (self._group[row] == self._group[which][:, None]), row, NONE)
        return np.take_along_axis(row, np.argsort(row == NONE, axis=1, kind="stable"), axis=1)

    def draw(self, seed: int | Sequence[int], which: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """One neighbour of each row, uniformly among its candidates: int64 [n], ``-1`` where there is none.

        Args:
            seed: a number, or several such as ``[seed, epoch]``. A row's neighbour hangs on the seed and the row
                alone, and not on the batch that it is asked in.
            which: rows; left out, all of them.
        """
        which = np.arange(len(self)) if which is None else np.asarray(which, np.int64).reshape(-1)
        found = self.candidates(which)
        count = (found != NONE).sum(axis=1)
        chance = np.random.default_rng(seed).random(len(self))[which]
        pick = np.minimum((chance * count).astype(np.int64), np.maximum(count - 1, 0))
        return np.take_along_axis(found, pick[:, None], axis=1)[:, 0]

    @property
    def usable(self) -> np.ndarray:
        """Which clips have a neighbour, bool [N]."""
        return self.candidates()[:, 0] != NONE

    def counts(self) -> dict[str, int]:
        """How many ``clips`` there are, how many ``with`` a neighbour, how many without.

        ``alone`` are the only clip of their recording; ``crowded`` have others, and none far enough away.
        """
        usable, alone = self.usable, self._sizes[self._group] == 1
        without = ~usable
        return {
            "clips": len(self),
            "with": int(usable.sum()),
            "alone": int((without & alone).sum()),
            "crowded": int((without & ~alone).sum()),
        }


def free_neighbours(
    starts: Sequence[float] | np.ndarray,
    duration_s: float,
    recording_s: float,
    seed: int | Sequence[int],
    *,
    min_gap_s: float = MIN_GAP_S,
    within_s: float | None = None,
    sample_rate: int = 16000,
) -> np.ndarray:
    """Choose where to cut a neighbour for each clip, out of a recording that may be cut anywhere.

    Uniform over every start that keeps the neighbour inside the recording, off the clip, and at least
    ``min_gap_s`` from start to start.

    Args:
        starts: of the clips, seconds, N; each is taken to lie in a recording of its own or a shared one.
        duration_s: of the clips and of their neighbours, seconds.
        recording_s: of the recordings, seconds.
        seed: a number or several; the same gives the same cuts.
        within_s: at most so far from start to start; left out, the whole recording, whose ambience Strike World
            holds throughout.
        sample_rate: cuts are whole samples at this rate.

    Returns:
        starts in seconds, float64 [N]; NaN where the recording has no room.

    Raises:
        UsageError: a clip reaches out of its recording, or an option makes no sense.

    Examples:
        >>> made = free_neighbours([0.0, 12.0], 2.56, 30.0, seed=0)
        >>> bool(made[0] >= 3.0) and bool(abs(made[1] - 12.0) >= 3.0)
        True
        >>> free_neighbours([2.0], 4.0, 8.0, seed=0)
        array([nan])
    """
    starts = np.asarray(starts, np.float64)
    if not duration_s > 0 or not min_gap_s >= 0 or sample_rate <= 0 or not (within_s is None or within_s > 0):
        raise UsageError(f"no neighbours of {duration_s} s, {min_gap_s} s apart, within {within_s} s")
    first = np.round(starts * sample_rate).astype(np.int64)
    n, whole = round(duration_s * sample_rate), int(recording_s * sample_rate + 1e-6)
    if len(first) and (first.min() < 0 or first.max() + n > whole):
        raise UsageError(f"a clip of {duration_s} s reaches out of its recording of {recording_s} s")
    reach = max(n, int(np.ceil(min_gap_s * sample_rate - 1e-6)))
    far = whole if within_s is None else int(within_s * sample_rate + 1e-6)
    low = np.maximum(first - far, 0)
    high = np.minimum(first + far, whole - n)
    before = np.maximum(first - reach - low + 1, 0)  # how many starts there are on this side
    after = np.maximum(high - (first + reach) + 1, 0)
    chance = np.random.default_rng(seed).random(len(first))
    pick = np.minimum((chance * (before + after)).astype(np.int64), np.maximum(before + after - 1, 0))
    made = np.where(pick < before, low + pick, first + reach + pick - before)
    return np.where(before + after > 0, made / sample_rate, np.nan)


def neighbours_of(clips: Sequence[WorldClip], seed: int = 0, **options: object) -> list[WorldClip]:
    """A neighbour of each Strike World clip: as long, from another moment of its recording.

    Args:
        clips: cut from recordings that are long enough.
        seed: the same gives the same neighbours, each whatever the others are.
        options: ``min_gap_s`` and ``within_s`` of :func:`free_neighbours`.

    Raises:
        UsageError: a recording has no room for one.

    Examples:
        >>> from v2a_nb.world import strike_world
        >>> clip = strike_world(0, 1, seconds=3.0).clips[0]
        >>> near = neighbours_of([clip])[0]
        >>> near.recording == clip.recording and abs(near.start_s - clip.start_s) >= 3.0
        True
    """
    neighbours = []
    for clip in clips:
        take, each = clip.take, [seed, clip.recording.seed, clip.recording.index, round(clip.start_s * 1000)]
        start = free_neighbours(
            [clip.start_s], take.settings.seconds, take.recording.duration_s, each,
            sample_rate=take.settings.sample_rate, **options,
        )[0]  # fmt: skip
        if np.isnan(start):
            raise UsageError(f"{clip.id}: its recording of {take.recording.duration_s:g} s has no room for a neighbour")
        neighbours.append(take.clip(float(start), f"{clip.id}.near"))
    return neighbours
