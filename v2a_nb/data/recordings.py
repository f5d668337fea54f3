"""Recordings that training clips are cut from: rendered ones of Strike World, and files.

A recording has one sound and any number of pictures, and is opened when a feature of it is wanted. Recipes see nothing
else of a source, so that they train on files as they do on Strike World.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import ClassVar, Protocol

import numpy as np

from v2a_nb import media
from v2a_nb.audio.onsets import detect_onsets
from v2a_nb.clip import Sound
from v2a_nb.data.collection import SMALL, Collection, Entry
from v2a_nb.data.pool import Source
from v2a_nb.errors import MediaError, UsageError
from v2a_nb.models.video_encoders.frames import at_times, square
from v2a_nb.world import picture
from v2a_nb.world import recording as world
from v2a_nb.world import sound as world_sound
from v2a_nb.world.narration import narrate

BOTH = "1+2"
"""The ``version`` of a source that has recordings of both versions of Strike World, in turn."""
UNSEEN = 20000
"""Number of the first recording that no shipped video encoder learned from: it is surer of features of clips that it
learned from than it ever is on others, and a decoder that was taught with those would trust them too much."""


class Recording(Protocol):
    """One recording, opened. Times are seconds from its start.

    Attributes:
        name: of the recording; several files may be parts of one.
        begin_s: where in the recording a file begins, seconds.
        duration_s: seconds.
    """

    name: str
    begin_s: float
    duration_s: float

    def wave(self, sample_rate: int) -> np.ndarray:
        """The whole sound, mono, float32 [n]."""

    def frames(self, start_s: float, times: np.ndarray, size: int, fps: float) -> np.ndarray:
        """The pictures at ``start_s + times`` of a camera of ``fps``, uint8 [T, size, size, 3]."""

    def onsets(self, start_s: float, seconds: float) -> np.ndarray:
        """Times in a clip, from the clip's start, at which something visible starts to sound, float64 [k]."""

    def narration(self, start_s: float, seconds: float) -> str:
        """One line that says what happens in a clip; empty where nobody wrote one."""

    def rng(self, word: str) -> np.random.Generator:
        """The random numbers of this recording for one purpose, which ``word`` names."""

    def source(self, start_s: float, seconds: float) -> Source:
        """The origin of a clip, by which a pool of sounds finds its sound again."""


class Recordings(Protocol):
    """Many recordings by number. Instances are small and can be sent to other processes."""

    limit: int | None
    """How many clips of it are wanted; None: as many as the recipe usually has."""
    known_ambience: bool
    """Whether the kind of each recording's ambience is known."""

    def numbers(self, first: int, count: int) -> range:
        """The numbers of ``count`` recordings from ``first`` on, or of as many as there are."""

    def open(self, number: int) -> Recording:
        """Open one recording."""

    def describe(self) -> dict:
        """What the recordings are, ready for JSON: it is part of the key of every feature."""


@dataclass(frozen=True)
class StrikeRecordings:
    """Recordings of Strike World. There is no end of them.

    Attributes:
        seed: of the world.
        limit: clips that are wanted; None: as many as the recipe usually has.
        variety, style: see :func:`v2a_nb.world.recording.draw`.
        ambience_dbfs: least and greatest level of the rooms, drawn anew for each; None: as the world has them.
        cross_recording_foreground: each room stays as it is, and in it happens what happens in the next recording.
        version: of the world; ``"1+2"``: recordings of even numbers are of version 1, the others of version 2.
    """

    seed: int = 1000
    limit: int | None = None
    variety: str = "wide"
    style: str = "camera"
    ambience_dbfs: tuple[float, float] | None = None
    cross_recording_foreground: bool = False
    version: int | str = world.VERSION
    known_ambience: ClassVar[bool] = True

    def version_of(self, number: int) -> int:
        """The version of the world that recording ``number`` is of."""
        return 1 + number % 2 if self.version == BOTH else int(self.version)

    def numbers(self, first: int, count: int) -> range:
        return range(first, first + count)

    def open(self, number: int) -> StrikeRecording:
        return _strike(self, number)

    def describe(self) -> dict:
        described = {"source": "strike", "seed": self.seed, "variety": self.variety, "style": self.style}
        if self.ambience_dbfs is not None:
            described["ambience_dbfs"] = list(self.ambience_dbfs)
        if self.cross_recording_foreground:
            described["cross_recording_foreground"] = True
        if self.version != 1:  # so that the features of version 1 keep their keys
            described["version"] = self.version
        return described


@lru_cache(maxsize=2)
def _strike(recordings: StrikeRecordings, number: int) -> StrikeRecording:
    """The last two are kept, since the clips of a recording are opened one after the other."""
    return StrikeRecording(recordings, number)


class StrikeRecording:
    """A recording of Strike World, rendered when it is looked at or listened to."""

    begin_s: ClassVar[float] = 0.0

    def __init__(self, recordings: StrikeRecordings, number: int) -> None:
        version = recordings.version_of(number)
        how = {"variety": recordings.variety, "style": recordings.style, "version": version}
        drawn = world.draw(recordings.seed, number, **how)
        if recordings.cross_recording_foreground:
            other = world.draw(recordings.seed, number + 1, **how)
            drawn = drawn.changed(
                variety=other.variety, things=other.things, actor=other.actor, actor_scale=other.actor_scale,
                events=tuple(e for e in other.events if e.time_s + e.duration_s < drawn.duration_s),
            )  # fmt: skip
            if version > 1:  # the camera is where the events can be seen
                drawn = drawn.changed(distance=other.distance, roll=other.roll, camera=other.camera)
        if recordings.ambience_dbfs is not None:
            level = float(drawn.rng("room-level").uniform(*recordings.ambience_dbfs))
            drawn = drawn.changed(ambience_dbfs=level)
        self.description, self.name, self.duration_s = drawn, drawn.id, drawn.duration_s
        self.ambience = drawn.ambience
        self._waves: dict[int, np.ndarray] = {}

    def wave(self, sample_rate: int) -> np.ndarray:
        if sample_rate not in self._waves:
            self._waves[sample_rate] = world_sound.render(self.description, sample_rate)["mix"]
        return self._waves[sample_rate]

    def frames(self, start_s: float, times: np.ndarray, size: int, fps: float) -> np.ndarray:
        return picture.frames(self.description, start_s + times, size, fps)

    def onsets(self, start_s: float, seconds: float) -> np.ndarray:
        return np.array([e.time_s - start_s for e in self._events(start_s, seconds) if e.sounding], np.float64)

    def narration(self, start_s: float, seconds: float) -> str:
        return narrate(self.description, self._events(start_s, seconds))

    def rng(self, word: str) -> np.random.Generator:
        return self.description.rng(word)

    def source(self, start_s: float, seconds: float) -> Source:
        d = self.description
        return Source(self.name, start_s, seconds, d.seed, variety=d.variety, version=d.version)

    def _events(self, start_s: float, seconds: float) -> list:
        return [e for e in self.description.events if start_s <= e.time_s < start_s + seconds]


@dataclass(frozen=True)
class FileRecordings:
    """The entries of a collection, each a recording of its own.

    Attributes:
        entries: clips with a sound.
        seed: of what is drawn about them.
        limit: clips that are wanted; None: as many as the recipe usually has.
    """

    entries: tuple[Entry, ...] = field(repr=False)
    seed: int = 0
    limit: int | None = None
    known_ambience: ClassVar[bool] = False
    _opened: dict[int, FileRecording] = field(default_factory=dict, init=False, repr=False, compare=False)

    def numbers(self, first: int, count: int) -> range:
        """The first ``count`` of them: there are too few for each part of a recipe to have its own."""
        return range(min(count, len(self.entries)))

    def open(self, number: int) -> FileRecording:
        if number not in self._opened:
            self._opened.clear()  # only the last is kept, since the clips of a recording are opened side by side
            self._opened[number] = FileRecording(self.entries[number], self.seed, number)
        return self._opened[number]

    def __getstate__(self) -> dict:
        return {**vars(self), "_opened": {}}

    def describe(self) -> dict:
        files = []
        for entry in self.entries:
            status = entry.video.stat()
            files.append([entry.id, entry.at_s, entry.duration_s, status.st_size, status.st_mtime_ns, entry.narration])
        return {"source": "files", "seed": self.seed, "files": files}


class FileRecording:
    """A file, or the part of it that an entry names."""

    def __init__(self, entry: Entry, seed: int, number: int) -> None:
        self.entry, self.name, self.seed, self.number = entry, entry.recording, seed, number
        self.begin_s = entry.start_s
        whole = media.info(entry.video).duration - (entry.at_s or 0.0)
        self.duration_s = whole if entry.duration_s is None else min(whole, entry.duration_s)

    @cached_property
    def _sound(self) -> Sound:
        # read with its pictures, which it is laid against: a sound that begins late stays late
        sound = self.entry.open(size=SMALL).sound
        if sound is None:
            raise MediaError(f"{self.entry.video}: no sound to learn from")
        return sound.mono()

    def wave(self, sample_rate: int) -> np.ndarray:
        return self._sound.resample(sample_rate).fit(self.duration_s).samples[0]

    def frames(self, start_s: float, times: np.ndarray, size: int, fps: float) -> np.ndarray:
        start = (self.entry.at_s or 0.0) + start_s
        seconds = float(times[-1]) + 1 / fps
        part = media.open(self.entry.video, start=start, duration=seconds, size=size, sound=False)
        return at_times(replace(part, frames=square(part.frames, size)), times, fps)

    def onsets(self, start_s: float, seconds: float) -> np.ndarray:
        end = min(self._sound.duration, start_s + seconds)
        return np.asarray(detect_onsets(self._sound.slice(start_s, end)), np.float64)

    def narration(self, start_s: float, seconds: float) -> str:
        return self.entry.narration

    def rng(self, word: str) -> np.random.Generator:
        return world.stream(self.seed, self.number, word)

    def source(self, start_s: float, seconds: float) -> Source:
        start_s += self.entry.at_s or 0.0
        return Source(self.name, start_s, seconds, path=str(self.entry.video.resolve()))


def of_collection(collection: Collection, seed: int = 0, limit: int | None = None) -> FileRecordings:
    """The clips of a collection that have a sound; the others go into its ``problems``.

    Raises:
        UsageError: none has a sound.
    """
    kept = []
    for entry in collection.entries:
        if entry.held is not None:
            raise UsageError("a Strike World in memory cannot be trained on: write strike:seed=N instead")
        try:
            if media.info(entry.video).audio_codec is None:
                raise MediaError(f"{entry.video}: no sound to learn from")
            kept.append(entry)
        except MediaError as error:
            collection.problems.append({"id": entry.id, "what": str(error)})
    if not kept:
        raise UsageError(f"{collection.path}: no clip has a sound to learn from")
    return FileRecordings(tuple(kept), seed, limit)


def need_strike_world(recordings: Recordings, why: str) -> StrikeRecordings:
    """The recordings, which must be of Strike World.

    Args:
        why: what is learned from the truth that only Strike World has.

    Raises:
        UsageError: they are files.
    """
    if not isinstance(recordings, StrikeRecordings):
        raise UsageError(f"{why}, which only Strike World tells: give strike:seed=N")
    return recordings
