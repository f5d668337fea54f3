"""Clips of a collection that are not yet opened, and where collections come from.

A source is a Strike World (in memory, or a folder with ``truth.json``), the CSV of Ego4D-Sounds, a list that
``v2a-nb curate`` wrote, or a folder of videos.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from v2a_nb import media
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError, V2AError
from v2a_nb.world.dataset import StrikeWorld, WorldClip

VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi")
SMALL = 32
"""Pixels that are enough where only the sound is wanted."""


@dataclass(frozen=True)
class Entry:
    """One clip, by what is known of it.

    Attributes:
        id: unique in its source.
        recording: clips of one recording are neighbours.
        start_s: where in its recording it begins, seconds.
        duration_s: seconds; None: as long as its file.
        narration: one line, or empty.
        video: its file; None for a clip of a world in memory.
        at_s: where in the file it begins, seconds; None where the file is the clip.
        tags: probabilities of what its sound holds, where they were published.
        scenarios: labels of its recording; None where they are not known.
        mismatched: whether its sound belongs to another clip; None where that is not known.
        fields: what its source says of it, as published.
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

    def hear(self) -> Sound | None:
        """The sound alone; None where the file has no sound stream.

        Raises:
            MediaError, UsageError: as :meth:`open`.
        """
        if self.held is not None:
            return self.held.stems["mix"]
        if media.info(self.video).audio_codec is None:
            return None
        if self.at_s is None:
            return media.open_sound(self.video)
        return self.open(size=SMALL).sound


@dataclass(frozen=True)
class Levels:
    """How loud a clip is: largest absolute sample, and RMS in dB under full scale. None: no sound stream."""

    peak: float | None
    rms_dbfs: float | None


@dataclass
class Source:
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
        """How loud one clip is; each file is decoded once for all who ask.

        Raises:
            MediaError, UsageError: as :meth:`Entry.hear`.
        """
        if entry.id not in self._levels:
            sound = entry.hear()
            self._levels[entry.id] = Levels(None, None) if sound is None else Levels(sound.peak, sound.rms_dbfs)
        return self._levels[entry.id]


def read_source(source: object, *, media_root: str | Path | None = None, about: str | Path | None = None) -> Source:
    """Read a collection.

    Args:
        source: a :class:`~v2a_nb.world.StrikeWorld`; a folder with ``truth.json``; the CSV of Ego4D-Sounds; a JSON
            list of ``v2a-nb curate``; a folder of videos, whose sub-folders are recordings; or what was read before.
        media_root: where the videos of a CSV lie; left out, beside it.
        about: Ego4D's ``ego4d.json`` for a CSV; left out, the one beside it.

    Raises:
        V2AError: it cannot be read, or holds nothing.
        UsageError: it is nothing of this kind.
    """
    if isinstance(source, Source):
        return source
    if isinstance(source, StrikeWorld):
        head = {"world": "strike", "version": 1, "seed": source.seed, "fps": source.settings.fps}
        head["sample_rate"] = source.settings.sample_rate
        return Source("strike", [_of_world(clip) for clip in source], head=head)
    if not isinstance(source, str | Path):
        raise UsageError(f"a {type(source).__name__} is no collection: give a folder, a CSV, a JSON or a StrikeWorld")
    path = Path(source)
    if path.is_dir():
        return read_list(path / "truth.json") if (path / "truth.json").exists() else _folder(path)
    if not path.exists():
        raise V2AError(f"{path}: no such file or folder")
    if path.suffix.lower() == ".json":
        return read_list(path)
    if path.suffix.lower() in (".csv", ".tsv"):
        from v2a_nb.data.ego4d_sounds import read_ego4d_sounds

        return read_ego4d_sounds(path, media_root, about=about).source()
    raise UsageError(f"{path}: neither a folder nor a .csv, .tsv or .json file")


def read_list(path: str | Path) -> Source:
    """A ``truth.json`` of Strike World, or a list that ``v2a-nb curate`` wrote.

    An id that comes twice is put into ``problems`` and taken once.

    Raises:
        V2AError: it is no such file, or holds no clips.
    """
    path = Path(path)
    problems: list[dict] = []
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        root = path.parent / told.get("root", ".")
        entries: dict[str, Entry] = {}
        for clip in told["clips"]:
            entry = _of_fields(clip, root)
            if entry.id in entries:
                problems.append({"id": entry.id, "what": f"twice in {path}; the first was taken"})
            entries.setdefault(entry.id, entry)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise V2AError(f"{path} is no list of clips: {error}") from error
    except KeyError as error:
        raise V2AError(f"{path} is no list of clips: there is no {error}") from error
    if not entries:
        raise V2AError(f"{path} holds no clips")
    kind = "strike" if told.get("world") == "strike" else "list"
    head = {name: value for name, value in told.items() if name not in ("clips", "root", "curation")}
    return Source(kind, list(entries.values()), path, root, problems, head=head)


def _of_fields(clip: Mapping, root: Path) -> Entry:
    """One clip of a list; KeyError, TypeError or ValueError where it lacks something."""
    start, duration, at = float(clip["start_s"]), clip["duration_s"], clip.get("at_s")
    if not np.isfinite(start) or not (duration is None or float(duration) > 0):
        raise ValueError(f"clip {clip['id']} lasts {duration} s from {start} s")
    scenarios = clip.get("scenarios")
    return Entry(
        id=str(clip["id"]),
        recording=str(clip["recording"]),
        start_s=start,
        duration_s=None if duration is None else float(duration),
        narration=str(clip.get("narration", "")),
        video=root / clip["video"],
        at_s=None if at is None else float(at),
        tags={name: float(value) for name, value in clip.get("tags", {}).items()},
        scenarios=None if scenarios is None else tuple(scenarios),
        mismatched=clip.get("mismatched"),
        fields=clip,
    )


def _of_world(clip: WorldClip) -> Entry:
    truth = clip.truth
    return Entry(
        id=clip.id,
        recording=truth["recording"],
        start_s=truth["start_s"],
        duration_s=truth["duration_s"],
        narration=truth["narration"],
        mismatched=truth["mismatched"],
        fields=truth,
        held=clip,
    )


def _folder(path: Path) -> Source:
    """Every video under a folder. A sub-folder is a recording; a video on top is a recording by itself."""
    videos: Sequence[Path] = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in VIDEOS)
    if not videos:
        raise V2AError(f"{path} holds no truth.json and no video ({', '.join(VIDEOS)})")
    entries = []
    for video in videos:
        inside = video.relative_to(path)
        recording = inside.stem if inside.parent == Path(".") else inside.parent.as_posix()
        name = inside.as_posix()
        entries.append(Entry(name, recording, 0.0, None, video=video, fields={"id": name}))
    return Source("folder", entries, path, path)
