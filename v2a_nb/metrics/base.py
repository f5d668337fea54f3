"""What a metric is, and a clip as a metric sees it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from typing import Any, ClassVar, Literal

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError
from v2a_nb.metrics import registry
from v2a_nb.metrics.extractors import load_extractor
from v2a_nb.metrics.feature_cache import FeatureCache, digest_of_sound
from v2a_nb.metrics.statistics import bootstrap, compare_paired, jackknife_difference, mean


@dataclass(frozen=True)
class ScoredClip:
    """One clip: the sound that is scored, and what else is known.

    Attributes:
        id: of the clip.
        recording: name of the recording that it was cut from. Clips of one are not independent, so that intervals are
            over recordings.
        sound: what is scored: a generated sound or a control.
        truth: the clip's entry of ``truth.json``, or None.
        reference: its true sound, or None.
        text: one line that says what happens, or None.
        open_video: returns its pictures without sound; None where there are none.
        stems: the parts ``action`` and ``ambient`` of its true sound, or None.
        cache: where :meth:`feature` keeps what it computes for other runs; None: nowhere.
        video_digest: returns the digest of the video's file; needed with ``cache`` where there is a video.
    """

    id: str
    recording: str
    sound: Sound | None = None
    truth: Mapping | None = None
    reference: Sound | None = None
    text: str | None = None
    open_video: Callable[[], Clip] | None = None
    stems: Mapping[str, Sound] | None = None
    cache: FeatureCache | None = field(default=None, repr=False)
    video_digest: Callable[[], str] | None = field(default=None, repr=False)
    _of_clip: dict = field(default_factory=dict, repr=False)
    _of_sound: dict = field(default_factory=dict, repr=False)

    def with_sound(self, sound: Sound) -> ScoredClip:
        """The same clip with another sound to score; it shares what :meth:`once_per_clip` keeps."""
        return replace(self, sound=sound, _of_sound={})

    def has(self, need: str) -> bool:
        """Whether one of :data:`~v2a_nb.metrics.registry.NEEDS` is there."""
        if need.endswith(" pairs"):
            return self.truth is not None and self.truth.get("pair", {}).get("factor") == need.removesuffix(" pairs")
        return getattr(self, "open_video" if need == "video" else need) is not None

    @property
    def video(self) -> Clip:
        """The pictures. They are read again at every call: take features of them in :meth:`feature`."""
        return self.open_video()

    @property
    def duration(self) -> float:
        """Seconds, of the truth, the reference or the video: the first that is there; else of the sound."""
        if self.truth is not None:
            return float(self.truth["duration_s"])
        if self.reference is not None:
            return self.reference.duration
        if self.open_video is not None:
            return self.feature("video", "duration", lambda: self.video.duration)
        return self.sound.duration

    @property
    def fitted_sound(self) -> Sound:
        """The sound, cut or filled with silence to the clip's length."""
        return self.sound.fit(self.duration)

    @property
    def fitted_reference(self) -> Sound:
        """The reference, cut or filled with silence to the clip's length."""
        return self.reference.fit(self.duration)

    def once_per_clip(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """``compute()`` at the first call; later the same value again, for all metrics and all controls.

        What depends on the truth, the stems or the text belongs here: it is the same for every sound.
        """
        if key not in self._of_clip:
            self._of_clip[key] = compute()
        return self._of_clip[key]

    def once_per_sound(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """The same for what is computed of the sound, which several metrics may share, such as its onsets."""
        if key not in self._of_sound:
            self._of_sound[key] = compute()
        return self._of_sound[key]

    def feature(self, of: Literal["sound", "reference", "video"], name: str, compute: Callable[[], Any]) -> Any:
        """A feature of the sound, the reference or the video alone: computed once, and kept in :attr:`cache`.

        Args:
            of: what it is computed of.
            name: says what it is, and of which weights: ``"vectors of strike-audio@4449"``.
            compute: returns an array, a number, or a tuple of these.
        """
        kept = self._of_sound if of == "sound" else self._of_clip
        key = (of, name)
        if key not in kept:
            kept[key] = compute() if self.cache is None else self.cache.get(name, self._digest(of), compute)
        return kept[key]

    def _digest(self, of: str) -> str:
        """What a feature of the sound, the reference or the video depends on."""
        if of == "video":
            assert self.video_digest is not None
            return self.once_per_clip("digest of video", self.video_digest)
        sound = self.sound if of == "sound" else self.reference
        assert sound is not None
        remember = self.once_per_sound if of == "sound" else self.once_per_clip
        # features are of the sound as long as its clip
        return remember(f"digest of {of}", lambda: f"{digest_of_sound(sound)} {self.duration:.6f}")


class Metric(ABC):
    """A metric: counts something in every clip, and pools what was counted into one value.

    What a new one needs: :meth:`score`, and an entry in :mod:`v2a_nb.metrics.registry`. The other methods have
    defaults: values are means over clips, with bootstrap intervals over recordings.

    Args:
        model: the extractor, where it is learned; left out, :meth:`load_model` gives the shipped one when it is first
            needed.

    Examples:
        >>> class Peak(Metric):
        ...     names, needs = ("peak",), ()
        ...     def score(self, clip):
        ...         return clip.sound.peak
        >>> quiet, loud = (ScoredClip(id, id, Sound([level] * 9, 9)) for id, level in (("a", 0.2), ("b", 0.6)))
        >>> round(Peak().pool([Peak().score(quiet), Peak().score(loud)], "peak"), 3)
        0.4
    """

    controls: ClassVar[frozenset[str]] = frozenset({"true", "round trip", "shuffled"})
    """The controls that say something. A distance to the true sounds is 0 for these by construction; and what does
    not depend on which sound belongs to which clip is the same for shuffled ones."""
    per_clip: ClassVar[bool] = True
    """Whether one clip alone has a value."""

    def __init__(self, model: Any = None) -> None:
        if model is not None:
            self.model = model

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the metric's values: those of its registry entries. One that is not registered sets them itself."""
        return tuple(entry.name for entry in registry.entries_of(type(self)))

    @property
    def needs(self) -> tuple[str, ...]:
        """Out of :data:`~v2a_nb.metrics.registry.NEEDS`; those of its registry entries, as :attr:`names`."""
        return tuple(dict.fromkeys(need for entry in registry.entries_of(type(self)) for need in entry.needs))

    @property
    def or_needs(self) -> tuple[str, ...]:
        """What does instead of :attr:`needs`; those of its registry entries, empty where nothing does."""
        return tuple(dict.fromkeys(need for entry in registry.entries_of(type(self)) for need in entry.or_needs))

    def can_score(self, clip: ScoredClip) -> bool:
        """Whether the clip has what the metric needs, or what does instead."""
        instead = self.or_needs
        return all(clip.has(need) for need in self.needs) or (bool(instead) and all(clip.has(need) for need in instead))

    @cached_property
    def model(self) -> Any:
        """The extractor."""
        return self.load_model()

    def load_model(self) -> Any:
        """The shipped extractor; None for a metric that has none."""
        return None

    @cached_property
    def extractor(self) -> str:
        """What a published value must name: the extractor, with four digits of its weights where it is learned."""
        return self.model.tag if self.model is not None else self.names[0]

    @abstractmethod
    def score(self, clip: ScoredClip) -> Any:
        """Count in one clip: returns a number, numbers by name, or anything else that :meth:`pool` takes.

        Raises:
            V2AError: this clip cannot be scored; evaluation lists it among the problems and goes on.
        """

    def pool(self, rows: Sequence, name: str) -> float:
        """The value of ``name`` over the rows that :meth:`score` gave; NaN where nothing was counted.

        Here, the mean of those numbers that are finite.
        """
        return mean(self._numbers(rows, name))

    def count(self, rows: Sequence, name: str) -> int:
        """How many things were counted; here, clips with a finite number."""
        return sum(math.isfinite(value) for value in self._numbers(rows, name))

    def interval(self, rows: Sequence, recordings: Sequence[str], name: str) -> tuple[float, float]:
        """A 95 % interval of :meth:`pool`; here, by a bootstrap that draws whole recordings."""
        return bootstrap(rows, lambda part: self.pool(part, name), recordings)

    def refusal(self, rows: Sequence) -> str:
        """Why these rows are too few for a value; empty where they are not, as here."""
        return ""

    def left_out(self, rows: Sequence) -> list[dict]:
        """What of the rows is in no value, as ``{"id", "what"}`` for the problems of a report; here, nothing."""
        return []

    def comparable(self, first: Any, second: Any, name: str) -> bool:
        """Whether two rows, of two systems on one clip, can be compared; here, where both alone have a value."""
        return not self.per_clip or all(math.isfinite(self.pool([row], name)) for row in (first, second))

    def difference(self, first: Sequence, second: Sequence, recordings: Sequence[str], name: str) -> dict:
        """How far the second of two systems is over the first on the same clips, and a paired test of that.

        Here, by a permutation test over recordings; for a metric that one clip alone does not have, by a jackknife.

        Returns:
            as :func:`~v2a_nb.metrics.statistics.compare_paired`.
        """
        if not self.per_clip:
            return jackknife_difference(first, second, lambda rows: self.pool(rows, name), recordings)
        return compare_paired(first, second, lambda rows: self.pool(rows, name), recordings)

    def results(self, rows: Sequence, recordings: Sequence[str], names: Sequence[str] | None = None) -> list[dict]:
        """Rows of a report, ``{"name", "extractor", "value", "low", "high", "n"}``, for some of the names or all.

        Args:
            rows: that :meth:`score` gave.
            recordings: of the clips; without any, there are no intervals.
            names: out of :attr:`names`, or with an extractor of choice behind them, ``"fad[clap]"``.

        Raises:
            UsageError: the sample is too small.
        """
        if reason := self.refusal(rows):
            raise UsageError(reason)
        rows_of_report = []
        for name in names or self.names:
            plain = plain_name(name)
            low, high = self.interval(rows, recordings, plain) if len(recordings) else (math.nan, math.nan)
            value, n = self.pool(rows, plain), self.count(rows, plain)
            rows_of_report.append(
                {"name": name, "extractor": self.extractor, "value": value, "low": low, "high": high, "n": n}
            )
        return rows_of_report

    @staticmethod
    def _numbers(rows: Sequence, name: str) -> list[float]:
        return [float(row[name] if isinstance(row, Mapping) else row) for row in rows]


def load(entry: registry.Entry) -> Metric:
    """The metric of a registry entry, with the extractor that it names, or else its shipped one."""
    module, _, name = entry.where.rpartition(".")
    metric = getattr(import_module(module), name)
    return metric(load_extractor(entry.extractor)) if entry.extractor else metric()


def plain_name(name: str) -> str:
    """The name of a metric without the extractor that was chosen for it.

    Examples:
        >>> plain_name("fad[clap]"), plain_name("fad")
        ('fad', 'fad')
    """
    return name.partition("[")[0]
