"""Ego4D-Sounds, from its published CSV (Action2Sound, section 4; github.com/Ego4DSounds/Ego4DSounds).

The file is called CSV and separated by tabs. Four things in it lead astray:

- ``clip_start`` and ``clip_end`` are 1.5 s around the narration and not the clip. The clip is 3 s: the narration's
  time and 1.5 s on either side, shifted to lie in the video (:func:`media_window`).
- ``video_dur`` is -1 in the published test file, so that a video's length comes from ``ego4d.json``.
- Times may be a hair under 0, two narrators may describe one moment, and rows of a video are not in order of time.
- A narration starts with who acts (``#C C``: the camera wearer, ``#O``: another), in many spellings.

Nothing is left out in silence: a row that cannot be read is a problem with its line, a clip without media is listed
as missing. The released loader puts black frames and silence in the place of both.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from v2a_nb import media
from v2a_nb.clip import Clip
from v2a_nb.data.collection import Collection, Entry
from v2a_nb.errors import UsageError, V2AError

SECONDS = 3.0
COLUMNS = (
    "video_uid", "video_dur", "narration_source", "narration_ind", "narration_time", "clip_start", "clip_end",
    "clip_text", "tag_verb", "tag_noun", "positive", "clip_file", "speech", "background_music", "traffic_noise",
    "wind_noise",
)  # fmt: skip
"""As published."""
NEEDED = ("video_uid", "narration_time", "clip_text", "clip_file")
TAGS = ("speech", "background_music", "traffic_noise", "wind_noise")
ACTS = re.compile(r"[^a-z]*(?:(?P<wearer>c\s*c)|(?P<alone>c)|(?P<other>o))\s+(?=\S)", re.IGNORECASE)
"""``#C C``, ``#c c``, ``#CC``, ``# C C``, ``#C`` and ``#O``, as the test file spells them."""


def media_window(narration_s: float, video_s: float | None = None, seconds: float = SECONDS) -> tuple[float, float]:
    """Start and end of a clip in its video, seconds (released: ``extract_ego4d_clips.py``, lines 23 to 30).

    The narration is in the middle, unless the video begins or ends too near: then the window is shifted to lie in
    the video. A video shorter than the clip is taken whole, where the released script starts before its beginning.

    Args:
        narration_s: the narration's time; a hair under 0 counts as 0.
        video_s: the video's length; None where it is not known, and then nothing is shifted at its end.

    Raises:
        UsageError: the narration lies outside of the video.

    Examples:
        >>> media_window(10.0), media_window(0.4), media_window(59.0, 60.0), media_window(1.0, 2.0)
        ((8.5, 11.5), (0.0, 3.0), (57.0, 60.0), (0.0, 2.0))
    """
    late = video_s is not None and narration_s > video_s + 0.5 * seconds
    if not math.isfinite(narration_s) or narration_s < -0.5 * seconds or late:
        raise UsageError(f"a narration at {narration_s:g} s lies outside of its video of {video_s} s")
    start = max(0.0, narration_s - 0.5 * seconds)
    if video_s is None:
        return start, start + seconds
    start = max(0.0, min(start, video_s - seconds))
    return start, min(start + seconds, video_s)


def plain(text: str) -> tuple[str, str]:
    """A narration without its marks, and who acts: ``"wearer"``, ``"other"`` or ``""``.

    What the narrator was unsure of (``#unsure``) is called something.

    Examples:
        >>> plain("#C C Rinses spoons  with #unsure "), plain("#O The man X taps"), plain("moves the mold")
        (('Rinses spoons with something', 'wearer'), ('The man X taps', 'other'), ('moves the mold', ''))
    """
    found = ACTS.match(text)
    who = "" if not found else "other" if found["other"] else "wearer"
    said = text[found.end() :] if found else text.lstrip(" #")
    return " ".join(re.sub(r"#unsure", "something", said, flags=re.IGNORECASE).split()), who


@dataclass(frozen=True)
class Row:
    """One row of the CSV that could be read; ``fields`` are its columns as published."""

    line: int
    id: str
    video_uid: str
    narration_s: float
    text: str
    actor: str
    clip_file: str
    video_s: float | None
    tags: Mapping[str, float]
    fields: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class About:
    """What ``ego4d.json`` says of a video."""

    duration_s: float | None
    scenarios: tuple[str, ...] | None


@dataclass
class Ego4DSounds:
    """The rows that could be read, those that could not, and where their media lie.

    Examples:
        >>> sounds = read_ego4d_sounds("test_clips_11k.csv", "clips", about="ego4d.json")   # doctest: +SKIP
        >>> len(sounds), len(sounds.problems), len(sounds.missing)                          # doctest: +SKIP
        >>> sounds.open(0, sample_rate=16000)                                               # doctest: +SKIP
    """

    path: Path
    rows: list[Row]
    problems: list[dict]
    media: Path
    videos: Path
    about: Mapping[str, About]
    header: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def entries(self) -> list[Entry]:
        """One clip for each row, in the order of the file."""
        return [self._entry(row) for row in self.rows]

    @property
    def missing(self) -> list[Entry]:
        """Clips whose media are not there."""
        return [entry for entry in self.entries if not entry.video.exists()]

    def open(self, which: int, *, size: int | None = None, sample_rate: int | None = None) -> Clip:
        """The clip of a row, with its sound.

        Raises:
            MediaError: its media are missing or damaged.
        """
        return self.entries[which].open(size=size, sample_rate=sample_rate)

    def collection(self) -> Collection:
        """The same as a :class:`~v2a_nb.data.collection.Collection`, for curation."""
        return Collection("ego4d-sounds", self.entries, self.path, self.media, list(self.problems), self.header)

    def _entry(self, row: Row) -> Entry:
        known = self.about.get(row.video_uid)
        start, end = media_window(row.narration_s, row.video_s)
        # the published script cuts .mp4 also where the column says .wav
        cut = self.media / PurePosixPath(row.clip_file).with_suffix(".mp4")
        whole = self.videos / f"{row.video_uid}.mp4"
        from_whole = not cut.exists() and whole.exists()
        return Entry(
            id=row.id,
            recording=row.video_uid,
            start_s=start,
            duration_s=end - start,
            narration=row.text,
            video=whole if from_whole else cut,
            at_s=start if from_whole else None,
            tags=row.tags,
            scenarios=known.scenarios if known else None,
            fields=row.fields,
        )


def read_ego4d_sounds(
    path: str | Path,
    media_root: str | Path | None = None,
    *,
    videos: str | Path | None = None,
    about: str | Path | None = None,
) -> Ego4DSounds:
    """Read the published CSV; rows that cannot be read go into ``problems`` with their line.

    Args:
        path: tab-separated, with a header.
        media_root: the folder that ``clip_file`` is relative to; left out, the CSV's own.
        videos: whole videos ``VIDEO_UID.mp4``, of which clips that were not cut are read; left out, ``media_root``.
        about: ``ego4d.json``, for lengths and scenarios of videos; left out, the one beside the CSV, if there is one.
            Without it a video's length is read from its file, or, where only cut clips are there, not known.

    Raises:
        V2AError: the file cannot be read, lacks columns, or has not one good row.
    """
    path = Path(path)
    folder = path.parent if media_root is None else Path(media_root)
    beside = path.parent / "ego4d.json"
    known = read_about(about) if about else read_about(beside) if beside.exists() else {}
    made = Ego4DSounds(path, [], [], folder, folder if videos is None else Path(videos), known, ())
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            _read_rows(file, made)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise V2AError(f"{path} cannot be read as tab-separated text: {error}") from error
    if not made.rows:
        first = made.problems[0]["what"] if made.problems else "there are none"
        raise V2AError(f"{path}: not one row can be used; {first}")
    return made


def _read_rows(file, made: Ego4DSounds) -> None:
    """Fill ``made`` with the rows of an open file."""
    reader = csv.reader(file, delimiter="\t")
    header = next(reader, [])
    if header and header[0].startswith("version https://git-lfs"):
        raise V2AError(f"{made.path} is a Git LFS pointer and not the table; fetch it with 'git lfs pull'")
    lacking = [name for name in NEEDED if name not in header]
    if lacking:
        commas = len(header) == 1 and "," in header[0]
        hint = "; it seems to be separated by commas, and the published file is by tabs" if commas else ""
        raise V2AError(f"{made.path} lacks the columns {', '.join(lacking)}{hint}")
    double = {name for name in header if header.count(name) > 1}
    if double:
        raise V2AError(f"{made.path} has columns twice: {', '.join(sorted(double))}")
    made.header = tuple(header)
    lengths: dict[str, float | None] = {}
    line_of: dict[str, int] = {}
    line = reader.line_num + 1
    for values in reader:
        at, line = line, reader.line_num + 1
        if not values:
            continue
        try:
            if any("\n" in value for value in values):
                raise ValueError(f"a quotation mark is opened here and not closed before line {line - 1}")
            if len(values) != len(header):
                raise ValueError(f"{len(values)} columns instead of {len(header)}")
            row = _row(at, dict(zip(header, values, strict=True)), made, lengths)
            if row.id in line_of:
                raise ValueError(f"the clip of line {line_of[row.id]} once more; the first was taken")
        except (ValueError, V2AError) as error:
            made.problems.append({"id": f"line {at}", "what": f"{made.path.name}, line {at}: {error}"})
            continue
        line_of[row.id] = at
        made.rows.append(row)


def _row(line: int, fields: dict[str, str], made: Ego4DSounds, lengths: dict[str, float | None]) -> Row:
    """One row; ValueError or V2AError says what is wrong with it."""
    for name in NEEDED:
        if not fields[name].strip():
            raise ValueError(f"{name} is empty")
    uid, clip_file = fields["video_uid"].strip(), fields["clip_file"].strip()
    parts = PurePosixPath(clip_file)
    if parts.is_absolute() or ".." in parts.parts or "/" in uid:
        raise ValueError(f"clip_file {clip_file!r} of video {uid!r} leaves its folder")
    source, index = (fields.get(name, "").strip() for name in ("narration_source", "narration_ind"))
    tags = {name: _number(name, fields[name]) for name in TAGS if fields.get(name, "").strip()}
    for name, value in tags.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is {value:g}, which is no probability")
    narration = _number("narration_time", fields["narration_time"])
    if uid not in lengths:
        lengths[uid] = _length(uid, made)
    given_s = _number("video_dur", fields["video_dur"]) if fields.get("video_dur", "").strip() else -1.0
    video_s = given_s if given_s > 0 else lengths[uid]
    media_window(narration, video_s)  # raises where the narration lies outside of the video
    text, actor = plain(fields["clip_text"])
    # as the released loader names a clip
    name = f"{uid}_{source}_{index}" if source and index else parts.with_suffix("").as_posix()
    return Row(line, name, uid, narration, text, actor, clip_file, video_s, tags, fields)


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name} is {text!r}, which is no number") from None
    if not math.isfinite(value):
        raise ValueError(f"{name} is {text!r}, which is no number")
    return value


def _length(uid: str, made: Ego4DSounds) -> float | None:
    """A video's length in seconds, where it is known."""
    known = made.about.get(uid)
    if known and known.duration_s:
        return known.duration_s
    file = made.videos / f"{uid}.mp4"
    return media.info(file).duration or None if file.exists() else None


def read_about(path: str | Path) -> dict[str, About]:
    """Lengths and scenarios of videos from Ego4D's ``ego4d.json``, by ``video_uid``.

    Raises:
        V2AError: it is no such file.
    """
    path = Path(path)
    try:
        made = {}
        for video in json.loads(path.read_text(encoding="utf-8"))["videos"]:
            seconds, labels = video.get("duration_sec"), video.get("scenarios")
            made[video["video_uid"]] = About(
                float(seconds) if seconds else None, None if labels is None else tuple(str(name) for name in labels)
            )
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise V2AError(f"{path} is no ego4d.json: {error}") from error
    except KeyError as error:
        raise V2AError(f"{path} is no ego4d.json: there is no {error}") from error
    return made
