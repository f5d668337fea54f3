"""A collection of clips that are not yet opened: what curation reads and writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from v2a_nb import media
from v2a_nb.clip import Clip, Sound
from v2a_nb.world.dataset import WorldClip

SMALL = 32
"""Pixels that are enough where only the sound is wanted."""


@dataclass(frozen=True)
class Entry:
    """One clip, by what is known of it.

    Attributes:
        id: unique in its collection.
        recording: clips of one recording are neighbours.
        start_s: where in its recording it begins, seconds.
        duration_s: seconds; None: as long as its file.
        narration: one line, or empty.
        video: its file; None for a clip of a world in memory.
        at_s: where in the file it begins, seconds; None where the file is the clip.
        tags: probabilities of what its sound holds, where they were published.
        scenarios: labels of its recording; None where they are not known.
        mismatched: whether its sound belongs to another clip; None where that is not known.
        fields: what its collection says of it, as published.
        held: the clip itself, of a world in memory.
    """

    id: str
    recording: str
    start_s: float
    duration_s: float | None
    narration: str = ""
    video: Path | None = None
    at_s: float | None = None
    tags: Mapping[str, float] = field(default_factory=dict)
    scenarios: tuple[str, ...] | None = None
    mismatched: bool | None = None
    fields: Mapping[str, object] = field(default_factory=dict, repr=False)
    held: WorldClip | None = field(default=None, repr=False)

    def open(self, *, size: int | None = None, sample_rate: int | None = None) -> Clip:
        """Pictures and sound; arguments as in :func:`v2a_nb.media.open`.

        Raises:
            MediaError: the file is missing, damaged, or no video.
            UsageError: the file ends before the clip begins.
        """
        if self.held is None:
            where = {"start": self.at_s or 0.0, "duration": self.duration_s}
            return media.open(self.video, **where, size=size, sample_rate=sample_rate)
        clip = self.held.clip
        if size and min(clip.height, clip.width) > size:
            scale = size / min(clip.height, clip.width)
            clip = clip.resize(*(max(2, round(scale * side)) for side in (clip.height, clip.width)))
        return clip if sample_rate is None else clip.with_sound(clip.sound.resample(sample_rate))

    def hear(self, problems: list[str] | None = None) -> Sound | None:
        """The sound alone, from the first picture on; None where the file has no sound stream.

        Args:
            problems: receives a line for each kind of damage to the file.

        Raises:
            MediaError, UsageError: as :meth:`open`.
        """
        if self.held is not None:
            return self.held.stems["mix"]
        if media.info(self.video).audio_codec is None:
            return None
        if self.at_s is None:
            return media.open_sound(self.video, problems=problems)
        clip = self.open(size=SMALL)
        if problems is not None:
            problems += clip.problems
        return clip.sound


@dataclass(frozen=True)
class Levels:
    """How loud a clip is: largest absolute sample, and RMS in dB under full scale. None: no sound stream."""

    peak: float | None
    rms_dbfs: float | None


@dataclass
class Collection:
    """A collection: its clips, and what was wrong with it, ``{"id", "what"}`` each.

    ``kind`` is ``"strike"``, ``"ego4d-sounds"``, ``"list"`` or ``"folder"``; ``header`` the columns of a CSV, ``head``
    what a list says of all its clips.
    """

    kind: str
    entries: list[Entry]
    path: Path | None = None
    root: Path | None = None
    problems: list[dict] = field(default_factory=list)
    header: tuple[str, ...] = ()
    head: dict = field(default_factory=dict, repr=False)
    _levels: dict[str, Levels] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.entries)

    def levels(self, entry: Entry) -> Levels:
        """How loud one clip is; each file is decoded once for all who ask. Damage to it goes into ``problems``.

        Raises:
            MediaError, UsageError: as :meth:`Entry.hear`.
        """
        if entry.id not in self._levels:
            damage: list[str] = []
            sound = entry.hear(damage)
            self.problems += [{"id": entry.id, "what": f"{entry.video}: {line}"} for line in damage]
            self._levels[entry.id] = Levels(None, None) if sound is None else Levels(sound.peak, sound.rms_dbfs)
        return self._levels[entry.id]
