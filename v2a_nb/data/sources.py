"""Where clips come from: what ``--data SOURCE`` and ``v2a-nb curate SOURCE`` may say.

| source | what |
|---|---|
| ``strike:seed=0,clips=5000,variety=wide`` | Strike World, rendered when needed; also ``style=game``, ``version=2``, \
and for training ``version=1+2``, both in turn |
| ``folder:PATH`` | a folder of videos, each a recording of its own, or of a Strike World with its ``truth.json`` |
| ``csv:FILE`` | a table with a column ``video`` and, where they are known, ``text``, ``start_s``, ``duration_s``, \
``recording`` (left out, each video is one) and ``id``; or the published table of Ego4D-Sounds |
| ``list:FILE`` | a JSON list that ``v2a-nb curate`` wrote |

A path without a kind is taken for what it is.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from v2a_nb.data.collection import Collection, Entry
from v2a_nb.data.ego4d_sounds import read_ego4d_sounds
from v2a_nb.data.recordings import BOTH, Recordings, StrikeRecordings, of_collection
from v2a_nb.errors import UsageError, V2AError
from v2a_nb.world import strike_world
from v2a_nb.world.dataset import StrikeWorld, WorldClip
from v2a_nb.world.description import STYLES
from v2a_nb.world.recording import VERSIONS

VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi")
KINDS = ("strike", "folder", "csv", "list")
TABLES = (".csv", ".tsv")
STRIKE_CHOICES = {"variety": ("wide", "plain"), "style": STYLES}


def split_source(source: str | Path) -> tuple[str, str]:
    """``"csv:clips.csv"`` as ``("csv", "clips.csv")``; the kind of a plain path is empty."""
    kind, colon, rest = str(source).partition(":")
    return (kind, rest) if colon and kind in KINDS else ("", str(source))


def open_recordings(source: str | Path, seed: int = 0) -> Recordings:
    """The recordings that a recipe cuts its clips out of: what ``--data SOURCE`` says.

    Args:
        source: see the top of this file.
        seed: of what is drawn about files, such as where their clips begin.

    Raises:
        UsageError: it is no source, or has nothing to learn from.
        V2AError: it cannot be read.

    Examples:
        >>> open_recordings("strike:seed=5,clips=100,variety=plain")
        StrikeRecordings(seed=5, limit=100, variety='plain', style='camera', ambience_dbfs=None, \
cross_recording_foreground=False, version=1)
    """
    kind, rest = split_source(source)
    if kind == "strike":
        options = _strike_options(rest)
        return StrikeRecordings(**{"limit" if k == "clips" else k: v for k, v in options.items()})
    return of_collection(read_source(source), seed)


def _strike_options(text: str) -> dict[str, object]:
    """The options of ``strike:``, checked."""
    options: dict[str, object] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        if name in ("seed", "clips") and value.isdecimal() and (name == "seed" or int(value) > 0):
            options[name] = int(value)
        elif name in STRIKE_CHOICES and value in STRIKE_CHOICES[name]:
            options[name] = value
        elif name == "version" and value in map(str, VERSIONS):
            options[name] = int(value)
        elif name == "version" and value == BOTH:
            options[name] = value
        else:
            raise UsageError(
                f"strike:{text}: {part!r} is none of seed=N, clips=N, variety=wide|plain, style=camera|game, "
                f"version=1|2|{BOTH}"
            )
    return options


def read_source(source: object, *, media_root: str | Path | None = None, about: str | Path | None = None) -> Collection:
    """Read a collection.

    Args:
        source: see the top of this file; or a :class:`~v2a_nb.world.StrikeWorld`, or what was read before.
        media_root: where the videos of a CSV lie; left out, beside it.
        about: Ego4D's ``ego4d.json`` for a CSV; left out, the one beside it.

    Raises:
        V2AError: it cannot be read, or holds nothing.
        UsageError: it is no source.
    """
    if isinstance(source, Collection):
        return source
    if isinstance(source, StrikeWorld):
        head = {"world": "strike", "version": source.version, "seed": source.seed, "fps": source.settings.fps}
        head["sample_rate"] = source.settings.sample_rate
        return Collection("strike", [_of_world(clip) for clip in source], head=head)
    if not isinstance(source, str | Path):
        raise UsageError(f"a {type(source).__name__} is no source: give a folder, a CSV, a JSON or a StrikeWorld")
    kind, rest = split_source(source)
    if kind == "strike":
        options = _strike_options(rest)
        if "clips" not in options:
            raise UsageError(f"strike:{rest}: say how many clips, such as strike:seed=0,clips=100")
        if options.get("version") == BOTH:
            raise UsageError(f"strike:{rest}: version={BOTH} is for training; a list of clips is of one version")
        return read_source(strike_world(**options))
    path = Path(rest)
    if not path.exists():
        word = re.match(r"([a-z]\w+):", str(source)) if not kind else None
        known = f"; of kinds of sources there are {', '.join(KINDS)}, not {word[1]}" if word else ""
        raise V2AError(f"{path}: no such file or folder{known}")
    suffix = path.suffix.lower()
    wrong = {"folder": not path.is_dir(), "csv": suffix not in TABLES, "list": suffix != ".json"}
    if wrong.get(kind, False):
        raise UsageError(f"{source}: {path} is no {kind}")
    if path.is_dir():
        return read_list(path / "truth.json") if (path / "truth.json").exists() else _folder(path)
    if suffix == ".json":
        return read_list(path)
    if suffix in TABLES:
        return read_table(path, media_root, about)
    raise UsageError(f"{path}: neither a folder nor a .csv, .tsv or .json file")


def read_table(path: Path, media_root: str | Path | None = None, about: str | Path | None = None) -> Collection:
    """A table of clips with the columns of the top of this file, or the published one of Ego4D-Sounds.

    Rows that cannot be read go into ``problems`` with their line.

    Raises:
        V2AError: it cannot be read, or has not one good row.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            head = file.readline()
            delimiter = "\t" if "\t" in head else ","
            rows = csv.DictReader(file, next(csv.reader([head], delimiter=delimiter), []), delimiter=delimiter)
            if "video" not in rows.fieldnames:
                return read_ego4d_sounds(path, media_root, about=about).collection()
            lines = list(rows)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise V2AError(f"{path} cannot be read as a table: {error}") from error
    root, entries, problems = Path(media_root) if media_root else path.parent, {}, []
    for number, row in enumerate(lines, 2):
        try:
            entry = _of_row(row, root)
            if entry.id in entries:
                raise ValueError(f"the id {entry.id} comes twice")
            entries[entry.id] = entry
        except (TypeError, ValueError) as error:
            problems.append({"id": row.get("id") or f"line {number}", "what": f"{path}, line {number}: {error}"})
    if not entries:
        first = problems[0]["what"] if problems else f"{path} has no rows"
        raise V2AError(f"{path}: no row can be used; {first}")
    return Collection("csv", list(entries.values()), path, root, problems, tuple(rows.fieldnames))


def _of_row(row: Mapping[str, str | None], root: Path) -> Entry:
    """One row of a table; ValueError where it makes no sense."""
    if not row.get("video"):
        raise ValueError("there is no video")
    start = float(row["start_s"]) if row.get("start_s") else None
    seconds = float(row["duration_s"]) if row.get("duration_s") else None
    if not (start is None or start >= 0) or not (seconds is None or seconds > 0):
        raise ValueError(f"a clip of {seconds} s from {start} s")
    at = "" if start is None else f"@{start:g}"
    return Entry(
        id=row.get("id") or f"{row['video']}{at}", recording=row.get("recording") or _recording(row["video"]),
        start_s=start or 0.0, duration_s=seconds, narration=row.get("text") or row.get("narration") or "",
        video=root / row["video"], at_s=start, fields=dict(row),
    )  # fmt: skip


def read_list(path: str | Path) -> Collection:
    """A ``truth.json`` of Strike World, or a list that ``v2a-nb curate`` wrote.

    An id that comes twice is put into ``problems`` and taken once.

    Raises:
        V2AError: it is no such file, or holds no clips.
    """
    path = Path(path)
    problems: list[dict] = []
    try:
        listing = json.loads(path.read_text(encoding="utf-8"))
        root = path.parent / listing.get("root", ".")
        entries: dict[str, Entry] = {}
        for clip in listing["clips"]:
            entry = _of_fields(clip, root)
            if entry.id in entries:
                problems.append({"id": entry.id, "what": f"twice in {path}; the first was taken"})
            entries.setdefault(entry.id, entry)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise V2AError(f"{path} is no list of clips: {error}") from error
    except KeyError as error:
        raise V2AError(f"{path} is no list of clips: there is no {error}") from error
    if not entries:
        raise V2AError(f"{path} holds no clips")
    kind = "strike" if listing.get("world") == "strike" else "list"
    head = {name: value for name, value in listing.items() if name not in ("clips", "root", "curation")}
    return Collection(kind, list(entries.values()), path, root, problems, head=head)


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


def _recording(video: str) -> str:
    """The recording of a video of which no other is known: its path without the ending."""
    return Path(video).with_suffix("").as_posix()


def _folder(path: Path) -> Collection:
    """Every video under a folder, each a recording of its own: how files of a sub-folder lie in time is not known."""
    videos: Sequence[Path] = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in VIDEOS)
    if not videos:
        raise V2AError(f"{path} holds no truth.json and no video ({', '.join(VIDEOS)})")
    entries = []
    for video in videos:
        name = video.relative_to(path).as_posix()
        entries.append(Entry(name, _recording(name), 0.0, None, video=video, fields={"id": name}))
    return Collection("folder", entries, path, path)
