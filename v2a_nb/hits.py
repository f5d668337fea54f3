"""``Hit`` and ``Hits``: when something is struck, as a system expects it or as the user wants it.

``system.hits(clip)`` gives them, ``system.generate(clip, hits=...)`` follows them. Both are immutable: a change gives a
new value. Neither imports torch.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from reprlib import repr as short
from typing import overload

from v2a_nb.errors import UsageError, check_types
from v2a_nb.files import is_json_with, keep_others, write_text

VERSION = 1
"""The version of the file format."""
STEP_S = 0.005
"""Hits that are nearer to each other are one: encoders place them no finer."""
SOFTEST_DB, LOUDEST_DB = -60.0, 24.0
SURE, LEAST = 0.75, 0.1
"""A hit is sure from this probability on, and doubtful between the two; what is below looks like none."""
SENSITIVITY = 0.5
"""Follows what is more likely than not."""
AUTO = "auto"
"""The sensitivity that suits the clip, and the delay, see :attr:`Hits.fitting_sensitivity` and :attr:`Hits.fitted`."""
CLEAR, UNCLEAR = (0.2, 0.25), (0.4, 0.8)
"""Doubts, and the sensitivities that suit them: of the drawn world that systems were trained on and of real clips."""
LATE_S = 0.025
"""Seconds from when a real hit looks like one, to systems that were trained on the drawn world, to when it sounds."""
USUAL = (0.1, 2.0)  # doubt where nothing is known, and how many hits that counts as


@dataclass(frozen=True)
class Hit:
    """One hit.

    Attributes:
        time_s: seconds from the clip's start.
        probability: how likely it makes a sound, 0 to 1; that of a user's hit is 1.
        x, y: the place in the picture, 0 to 1 from its left and its top; None where it is not known.
        level_db: how much louder than the system would make it, -60 to 24 dB.
        origin: ``"model"`` where the system expects it as it is, ``"user"`` where it was added or changed.
        moved_from_s: when the system expects a hit that the user changed, or that was delayed (:attr:`Hits.fitted`);
            its material stays. None: it was added, or is where it was expected.

    Raises:
        UsageError: a value that is no number or out of range.

    Examples:
        >>> Hit(0.5, level_db=6.0)
        Hit(0.500 s, probability 1.00, +6.0 dB, user)
    """

    time_s: float
    probability: float = 1.0
    x: float | None = None
    y: float | None = None
    level_db: float = 0.0
    origin: str = "user"
    moved_from_s: float | None = None

    def __post_init__(self) -> None:
        ranges = {
            "time_s": (0.0, math.inf), "probability": (0.0, 1.0), "x": (0.0, 1.0), "y": (0.0, 1.0),
            "level_db": (SOFTEST_DB, LOUDEST_DB), "moved_from_s": (0.0, math.inf),
        }  # fmt: skip
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if value is None and name in ("x", "y", "moved_from_s"):
                continue
            try:
                number = math.nan if value is None or isinstance(value, bool | str) else float(value)
            except (OverflowError, TypeError, ValueError):
                number = math.nan
            if not (math.isfinite(number) and low <= number <= high):
                words = f"{low:g} to {high:g}" if math.isfinite(high) else f"{low:g} or more"
                raise UsageError(f"a hit's {name} must be a number, {words}, not {short(value)}")
            object.__setattr__(self, name, number)
        if self.origin not in ("model", "user"):
            raise UsageError(f"a hit's origin must be model or user, not {short(self.origin)}")

    @property
    def sure(self) -> bool:
        """Whether it is the user's, or the system is sure of it."""
        return self.origin == "user" or self.probability >= SURE

    def __repr__(self) -> str:
        return f"Hit({self.time_s:.3f} s, {', '.join(_words(self))})"


class Hits(Sequence[Hit]):
    """Hits in the order of their times: a list that is not changed, but gives changed copies.

    Args:
        hits: hits, times in seconds, or dictionaries with the attributes of :class:`Hit`.

    Raises:
        UsageError: two hits at one time, or something that is no hit.

    Examples:
        >>> hits = Hits([0.5, 1.25])
        >>> hits.move(1, 1.5).scale(0, 6.0)
           time (s)  probability  place  level (dB)  origin
        0     0.500         1.00      –        +6.0  user
        1     1.500         1.00      –        +0.0  user
        >>> hits[:1].add(2.0).times
        [0.5, 2.0]
    """

    def __init__(self, hits: Iterable[Hit | Mapping | float] = ()) -> None:
        if isinstance(hits, str | bytes | Mapping) or not isinstance(hits, Iterable):
            raise UsageError(f"hits must be a list of hits or of times in seconds, not {short(hits)}")
        self._hits = tuple(sorted(map(_hit, hits), key=lambda hit: hit.time_s))
        for a, b in zip(self._hits, self._hits[1:], strict=False):
            if b.time_s - a.time_s < STEP_S - 1e-9:
                raise UsageError(f"two hits at {a.time_s:.3f} s and {b.time_s:.3f} s: give one of them")

    # --- a list -----------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self._hits)

    @overload
    def __getitem__(self, which: int) -> Hit: ...

    @overload
    def __getitem__(self, which: slice) -> Hits: ...

    def __getitem__(self, which):
        return Hits(self._hits[which]) if isinstance(which, slice) else self._at(which)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hits) and self._hits == other._hits

    def __hash__(self) -> int:
        return hash(self._hits)

    def __repr__(self) -> str:
        if not self:
            return "no hits"
        rows = [["", "time (s)", "probability", "place", "level (dB)", "origin"]]
        for k, hit in enumerate(self):
            place = "–" if hit.x is None or hit.y is None else f"{hit.x:.2f} {hit.y:.2f}"
            rows.append(
                [str(k), f"{hit.time_s:.3f}", f"{hit.probability:.2f}", place, f"{hit.level_db:+.1f}", _origin(hit)]
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(text.rjust(width) for text, width in zip(r[:-1], widths, strict=False)) for r in rows]
        return "\n".join(f"{line}  {row[-1]}" for line, row in zip(lines, rows, strict=True))

    @property
    def times(self) -> list[float]:
        """Seconds, increasing."""
        return [hit.time_s for hit in self]

    # --- changes ----------------------------------------------------------------------------------

    @check_types
    def add(self, time_s: float, *, x: float | None = None, y: float | None = None, level_db: float = 0.0) -> Hits:
        """The hits with one more.

        Raises:
            UsageError: there is a hit at that time, or a value is out of range.
        """
        return Hits([*self, Hit(time_s, 1.0, x, y, level_db)])

    @check_types
    def move(self, which: int, time_s: float) -> Hits:
        """The hits with one at another time; it keeps its material.

        Raises:
            UsageError: there is no such hit, or one at that time.
        """
        return self._with(which, time_s=time_s)

    @check_types
    def remove(self, which: int) -> Hits:
        """The hits without one.

        Raises:
            UsageError: there is no such hit.
        """
        gone = self._at(which)
        return Hits(hit for hit in self if hit is not gone)

    @check_types
    def scale(self, which: int, level_db: float) -> Hits:
        """The hits with one at another level, dB over what the system would make.

        Raises:
            UsageError: there is no such hit, or the level is out of range.
        """
        return self._with(which, level_db=level_db)

    def _with(self, which: int, **changes: float) -> Hits:
        old = self._at(which)
        source = old.time_s if old.origin == "model" and old.moved_from_s is None else old.moved_from_s
        new = replace(old, probability=1.0, origin="user", moved_from_s=source, **changes)
        return Hits(new if hit is old else hit for hit in self)

    def _at(self, which: int) -> Hit:
        try:
            return self._hits[which]
        except (IndexError, TypeError) as error:
            raise UsageError(f"no hit {which!r}: there are {len(self)}, counted from 0") from error

    # --- parts ------------------------------------------------------------------------------------

    @check_types
    def at(self, sensitivity: float | str) -> Hits:
        """The user's hits, and those of the system that are likely enough.

        Args:
            sensitivity: 0 ("only sure") takes hits with a probability of at least 0.99, 1 ("every doubt") takes all.
                Between them a hit needs a probability of at least ``1 - sensitivity``. ``"auto"``: the
                :attr:`fitted` hits with :attr:`fitting_sensitivity`.

        Raises:
            UsageError: a sensitivity that is neither 0 to 1 nor ``"auto"``.
        """
        check_sensitivity(sensitivity)
        if isinstance(sensitivity, str):
            return self.fitted.at(self.fitting_sensitivity)
        least = least_probability(sensitivity) - 1e-9  # 1 - 0.7 is a little more than 0.3
        return Hits(hit for hit in self if hit.origin == "user" or hit.probability >= least)

    @property
    def doubt(self) -> float:
        """How likely a hit that the system expects is none after all, 0 to 1, by its own word.

        It is the mean of ``1 - p`` over the system's hits, each weighed by its probability ``p``. Of few hits it is
        drawn towards what is usual for clips of the training worlds. Where systems know what they see, it is near 0.1;
        on real video, which is new to them, near 0.5.

        It is of the hits that are in the list: ask all of them, ``system.hits(clip, sensitivity=1.0)``. A list that was
        cut to the likely ones sounds sure of itself.
        """
        usual, many = USUAL
        likely = [hit.probability for hit in self if hit.origin == "model"]
        return (sum(p * (1 - p) for p in likely) + many * usual) / (sum(likely) + many)

    @property
    def fitting_sensitivity(self) -> float:
        """The sensitivity that suits how doubtful the system is of the clip.

        In a clip that it sees clearly, doubtful hits are near misses, and only likely ones sound. In one that is new to
        it, nearly all hits are doubtful, true ones as well: then doubtful ones sound, too.

        Examples:
            >>> Hits([Hit(t, 0.97, origin="model") for t in (0.5, 1.0, 1.5)]).fitting_sensitivity
            0.25
            >>> round(Hits([Hit(t, 0.4, origin="model") for t in (0.5, 1.0, 1.5, 2.0)]).fitting_sensitivity, 2)
            0.59
        """
        low, high = CLEAR[1], UNCLEAR[1]
        return low + self._newness * (high - low)

    @property
    def fitting_delay_s(self) -> float:
        """How much later than the system expects them its hits should sound, seconds.

        In a clip that it sees clearly, not at all. In one that is new to it, up to :data:`LATE_S`: it learned from
        pictures that show one moment each, and from sounds that leave at once. A camera's picture is older than its
        time says, and what is about to hit slows down before.
        """
        return round(round(self._newness * LATE_S / STEP_S) * STEP_S, 3)

    @property
    def fitted(self) -> Hits:
        """The same hits, the system's by :attr:`fitting_delay_s` later; ``moved_from_s`` says when it expected them.

        Hits that were delayed once stay where they are. One that comes to lie on a hit of the user's is left out.

        Examples:
            >>> new = Hits([Hit(t, 0.4, origin="model") for t in (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)])
            >>> new.fitted[0].time_s, new.fitted[0].moved_from_s
            (0.52, 0.5)
        """
        if not (delay := self.fitting_delay_s):
            return self
        kept, late = [], []
        for hit in self:
            stays = hit.origin == "user" or hit.moved_from_s is not None
            (kept if stays else late).append(hit)
        taken = [hit.time_s for hit in kept]

        def free(time_s: float) -> bool:
            after = bisect_right(taken, time_s - STEP_S + 1e-9)
            return after == len(taken) or taken[after] >= time_s + STEP_S - 1e-9

        late = [replace(hit, time_s=round(hit.time_s + delay, 6), moved_from_s=hit.time_s) for hit in late]
        return Hits([*kept, *(hit for hit in late if free(hit.time_s))])

    @property
    def _newness(self) -> float:
        """From 0, a clip of the training worlds, to 1, one that is as new as real video is."""
        clear, unclear = CLEAR[0], UNCLEAR[0]
        return min(max((self.doubt - clear) / (unclear - clear), 0.0), 1.0)

    @property
    def likely(self) -> Hits:
        """The sure and the doubtful ones: what is worth a look."""
        return self.at(1 - LEAST)

    @property
    def summary(self) -> str:
        """How sure a system is, in words.

        Examples:
            >>> Hits([Hit(1.0, 0.9, origin="model"), Hit(2.0, 0.3, origin="model")]).summary
            '2 hits expected: 1 sure, 1 doubtful'
        """
        sure, some = sum(hit.sure for hit in self), len(self.likely)
        text = f"{some} hit{'' if some == 1 else 's'} expected"
        return text + (f": {sure} sure, {some - sure} doubtful" if some else "")

    @check_types
    def part(self, start_s: float, end_s: float) -> Hits:
        """The hits from ``start_s`` until ``end_s``, seconds, with times from ``start_s`` on."""
        return Hits(_shifted(hit, -start_s) for hit in self if start_s <= hit.time_s < end_s)

    @check_types
    def later(self, seconds: float) -> Hits:
        """The hits so many seconds later."""
        return Hits(_shifted(hit, seconds) for hit in self)

    @check_types
    def check_within(self, duration: float, name: str = "the clip") -> None:
        """Raise :class:`UsageError` where a hit lies outside of a clip of that duration, seconds."""
        if self and self[-1].time_s >= duration:
            raise UsageError(f"a hit at {self[-1].time_s:.3f} s lies outside of {name}, which has {duration:.3f} s")

    # --- files ------------------------------------------------------------------------------------

    def to_dict(self) -> dict:
        """JSON types: what :meth:`save` writes."""
        hits = [{name: value for name, value in asdict(hit).items() if value is not None} for hit in self]
        return {"hits_version": VERSION, "hits": hits}

    @check_types
    def save(self, path: str | Path) -> Path:
        """Write a JSON file; an earlier one of this kind is replaced, any other file is kept.

        Raises:
            MediaError: there is another file.
        """
        keep_others(path, is_json_with("hits_version", "hits"))
        return write_text(path, self.text())

    def text(self) -> str:
        """The text of the file that :meth:`save` writes."""
        told = self.to_dict()
        rows = ",\n".join(f"  {json.dumps(row)}" for row in told["hits"])
        return f'{{"hits_version": {VERSION}, "hits": [\n{rows}\n]}}\n'

    @classmethod
    @check_types
    def load(cls, path: str | Path) -> Hits:
        """Read a file that :meth:`save` has written, or a hand has; only ``time_s`` of a hit is needed.

        Raises:
            UsageError: it cannot be read, is no JSON, or holds no hits.
        """
        try:
            found = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"{path}: these hits cannot be read: {error.strerror or error}") from error
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path} is no JSON: {str(error).splitlines()[0]}") from error
        try:
            return cls.from_dict(found)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from error

    @classmethod
    def from_dict(cls, value: object) -> Hits:
        """The inverse of :meth:`to_dict`.

        Raises:
            UsageError: another value.
        """
        if not (isinstance(value, Mapping) and "hits" in value and "hits_version" in value):
            raise UsageError('hits are {"hits_version": 1, "hits": [{"time_s": ...}, ...]}')
        if value["hits_version"] != VERSION:
            raise UsageError(f"hits of version {short(value['hits_version'])}; this package reads version {VERSION}")
        if not isinstance(value["hits"], list):
            raise UsageError(f"hits must be a list, not {short(value['hits'])}")
        return cls(value["hits"])


@check_types
def least_probability(sensitivity: float) -> float:
    """The probability from which on a hit is followed.

    Raises:
        UsageError: a sensitivity that is not 0 to 1.

    Examples:
        >>> [least_probability(s) for s in (0, 0.5, 1)]
        [0.99, 0.5, 0.0]
    """
    if not 0 <= sensitivity <= 1:
        raise UsageError(f"sensitivity must be 0 (only sure) to 1 (every doubt), not {sensitivity!r}")
    return min(0.99, 1.0 - float(sensitivity))


def check_sensitivity(value: float | str) -> None:
    """Raise :class:`UsageError` where a value is neither a sensitivity, 0 to 1, nor ``"auto"``."""
    if isinstance(value, str):
        if value != AUTO:
            raise UsageError(f'sensitivity must be 0 (only sure) to 1 (every doubt), or "{AUTO}", not {value!r}')
    else:
        least_probability(value)


_NAMES = tuple(field.name for field in fields(Hit))


def _hit(value: Hit | Mapping | float) -> Hit:
    if isinstance(value, Hit):
        return value
    if not isinstance(value, Mapping):
        return Hit(value)
    unknown = [key for key in value if key not in _NAMES]
    if unknown or "time_s" not in value:
        wrong = f"has an unknown {short(unknown[0])}" if unknown else "lacks time_s"
        raise UsageError(f"a hit {wrong}; it has {', '.join(_NAMES)}")
    return Hit(**value)


def _shifted(hit: Hit, seconds: float) -> Hit:
    source = None if hit.moved_from_s is None else hit.moved_from_s + seconds
    source = None if source is None or source < 0 else source
    return replace(hit, time_s=max(0.0, hit.time_s + seconds), moved_from_s=source)


def _origin(hit: Hit) -> str:
    moved = hit.moved_from_s is not None and hit.moved_from_s != hit.time_s
    return f"{hit.origin}, from {hit.moved_from_s:.3f} s" if moved else hit.origin


def _words(hit: Hit) -> list[str]:
    level = [f"{hit.level_db:+.1f} dB"] if hit.level_db else []
    return [f"probability {hit.probability:.2f}", *level, _origin(hit)]
