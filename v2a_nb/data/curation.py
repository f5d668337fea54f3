"""Curation: a collection through filters, with what each of them removed and why."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from v2a_nb.data.collection import Collection, Entry
from v2a_nb.data.filters import PAPER, Filter, make_filters
from v2a_nb.data.sources import read_source
from v2a_nb.errors import UsageError, V2AError
from v2a_nb.files import is_json_with, keep_others, write_text

LISTS, TABLES = (".json",), (".csv", ".tsv")
PLAIN = ("id", "video", "recording", "start_s", "duration_s", "at_s", "narration")


@dataclass(frozen=True)
class Stage:
    """Counts of one filter: ``before`` is ``after`` and all that was removed.

    ``reasons`` counts the removed clips by why; ``not_judged`` the kept ones that it could not judge, by why not.
    ``mismatched`` has, where the truth is known, how many mismatched clips came in, and how many of them went.
    """

    name: str
    before: int
    after: int
    reasons: dict[str, int]
    not_judged: dict[str, int]
    mismatched: tuple[int, int] | None = None

    @property
    def removed(self) -> int:
        return self.before - self.after

    @property
    def precision(self) -> float | None:
        """Share of what it removed that was mismatched; None where it removed nothing or no truth is known."""
        return self.mismatched[1] / self.removed if self.mismatched and self.removed else None

    @property
    def recall(self) -> float | None:
        """Share of the mismatched clips that it removed; None where there were none or no truth is known."""
        return self.mismatched[1] / self.mismatched[0] if self.mismatched and self.mismatched[0] else None


@dataclass
class Report:
    """What happened: one :class:`Stage` for each filter, and every clip that went, with stage, reason and value.

    ``problems`` are what is wrong with the source, rows and media that cannot be read, ``{"id", "what"}`` each.
    ``values`` has what each filter measured, by clip and stage.
    """

    source: str
    clips: int
    stages: list[Stage] = field(default_factory=list)
    removed: list[dict] = field(default_factory=list)
    problems: list[dict] = field(default_factory=list)
    values: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def kept(self) -> int:
        return self.stages[-1].after if self.stages else self.clips

    def as_dict(self) -> dict:
        """Ready for JSON, without the values."""
        stages = []
        for stage in self.stages:
            row = {k: v for k, v in asdict(stage).items() if k != "mismatched"}
            row["removed"] = stage.removed
            if stage.mismatched:
                row["mismatched"] = dict(zip(("before", "removed"), stage.mismatched, strict=True))
                row |= {"precision": stage.precision, "recall": stage.recall}
            stages.append(row)
        return {
            "source": self.source,
            "clips": self.clips,
            "kept": self.kept,
            "stages": stages,
            "removed": self.removed,
            "problems": self.problems,
        }

    def __str__(self) -> str:
        rows = [("stage", "in", "out", "removed", "why")]
        rows += [(s.name, s.before, s.after, s.removed, _told(s.reasons)) for s in self.stages]
        widths = [max(len(str(row[i])) for row in rows) for i in range(4)]
        lines = []
        for row in rows:
            counts = [str(value).rjust(width) for value, width in zip(row[1:4], widths[1:], strict=True)]
            lines.append("  ".join([row[0].ljust(widths[0]), *counts, row[4]]).rstrip())
        for stage in self.stages:
            if stage.not_judged:
                lines.append(f"{stage.name}: kept without judging: {_told(stage.not_judged)}")
            if stage.precision is not None and stage.recall is not None:
                lines.append(
                    f"{stage.name}: of mismatched clips precision {stage.precision:.3f}, recall {stage.recall:.3f}"
                )
        lines += [f"problem: {p['what']}" for p in self.problems[:5]]
        if len(self.problems) > 5:
            lines.append(f"and {len(self.problems) - 5} more problems")
        return "\n".join([*lines, f"kept {self.kept} of {self.clips} clips"])


def _told(counts: dict[str, int]) -> str:
    return ", ".join(f"{why} {n}" for why, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def curate(
    source: object,
    filters: str | Sequence[str | Filter] = PAPER,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Entry], Report]:
    """Put a collection through filters, one after the other.

    Args:
        source: anything that :func:`~v2a_nb.data.sources.read_source` reads, or what it gave.
        filters: by name or made (:mod:`v2a_nb.data.filters`); left out, the four stages of Action2Sound.
        progress: called with (judgements done, judgements in all).

    Returns:
        the kept clips, in the source's order, and a :class:`Report`.

    Raises:
        UsageError: no such filter, or no such kind of source.
        V2AError: the source cannot be read.

    Examples:
        >>> from v2a_nb.world import strike_world
        >>> kept, report = curate(strike_world(0, 4, size=16), "sound,energy=-20")
        >>> len(kept) == report.kept == 4 - len(report.removed)
        True
    """
    stages = make_filters(filters)
    source = read_source(source)
    made = Report(str(source.path or source.kind), len(source), problems=list(source.problems))
    kept, known = list(source.entries), len(source.problems)
    for number, stage in enumerate(stages):
        if progress and number:
            progress(number * len(source), len(stages) * len(source))
        kept = _stage(kept, stage, source, made, progress, number * len(source), len(stages) * len(source))
    if progress and len(source):
        progress(len(stages) * len(source), len(stages) * len(source))
    made.problems += source.problems[known:]  # damaged files, which were found by the filters
    return kept, made


def _stage(entries: list[Entry], stage: Filter, source: Collection, report: Report, progress, done: int, total: int):
    """One filter: its counts go into ``report``; what it keeps is returned."""
    reasons, unknown = Counter(), Counter()
    kept: list[Entry] = []
    wrong = [0, 0]
    for i, (entry, verdict) in enumerate(zip(entries, stage.judge(entries, source), strict=True), 1):
        wrong[0] += bool(entry.mismatched)
        if verdict.value is not None:
            report.values.setdefault(entry.id, {})[stage.name] = verdict.value
        if verdict.problem:
            report.problems.append({"id": entry.id, "what": verdict.problem})
        if verdict.keep:
            kept.append(entry)
            unknown[verdict.why] += not verdict.judged
        else:
            reasons[verdict.why] += 1
            wrong[1] += bool(entry.mismatched)
            gone = {"id": entry.id, "stage": stage.name, "why": verdict.why}
            report.removed.append(gone if verdict.value is None else {**gone, "value": round(verdict.value, 4)})
        if progress and done + i < total:
            progress(done + i, total)
    known = any(entry.mismatched is not None for entry in source.entries)
    counts = (dict(reasons), {why: n for why, n in unknown.items() if n})
    report.stages.append(Stage(stage.name, len(entries), len(kept), *counts, (wrong[0], wrong[1]) if known else None))
    return kept


def curate_file(
    source: str | Path,
    filters: str | Sequence[str | Filter],
    out: str | Path,
    *,
    media_root: str | Path | None = None,
    about: str | Path | None = None,
    clap: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """What ``v2a-nb curate`` does: curate and write the kept clips, whole or not at all.

    Args:
        source, media_root, about: as in :func:`~v2a_nb.data.sources.read_source`.
        out: ``.json``: the kept clips with all that is known of them, what each filter measured, and the report;
            it can be a source again. ``.csv`` or ``.tsv``: a table, tab-separated, of the kept clips alone; those of
            Ego4D-Sounds in the published columns, which can be a source again.
        clap: folder or Hub id of the model that the filter ``audio_text`` needs.

    Raises:
        UsageError: another ending, or the source's own file.
        MediaError: there is a file that no earlier call wrote; a table in published columns counts as one.
        V2AError: the source cannot be read, or ``out`` cannot be written.
    """
    stages, out = make_filters(filters, clap), _checked(Path(out), Path(source))
    read = read_source(source, media_root=media_root, about=about)
    kept, report = curate(read, stages, progress=progress)
    write_kept(out, read, kept, report)
    return report


def write_kept(out: str | Path, source: Collection, kept: Sequence[Entry], report: Report) -> Path:
    """Write what :func:`curate` kept; see :func:`curate_file`."""
    out = _checked(Path(out), source.path)
    if out.suffix.lower() in LISTS:
        root = {} if source.root is None else {"root": _relative(source.root, out.parent)}
        listing = {**source.head, **root, "clips": [], "curation": report.as_dict()}
        listing["clips"] = [_fields(entry, source, report) for entry in kept]
        text = json.dumps(_without_nan(listing), indent=1, allow_nan=False) + "\n"
    else:
        published = source.kind == "ego4d-sounds"
        file = io.StringIO(newline="")
        names = source.header if published else PLAIN
        table = csv.DictWriter(file, names, delimiter="\t", lineterminator="\n", extrasaction="ignore")
        table.writeheader()
        table.writerows(dict(entry.fields) if published else _fields(entry, source, report) for entry in kept)
        text = file.getvalue()
    try:
        return write_text(out, text)
    except OSError as error:
        raise V2AError(f"{out}: cannot be written: {error}") from error


def _fields(entry: Entry, source: Collection, report: Report) -> dict:
    """One kept clip for a list; what a source published stays beside the fields that all sources have."""
    published = {"published": dict(entry.fields)} if source.kind == "ego4d-sounds" else dict(entry.fields)
    fields = {
        **published,
        "id": entry.id,
        "recording": entry.recording,
        "start_s": entry.start_s,
        "duration_s": entry.duration_s,
        "narration": entry.narration,
    }
    if entry.video is not None:
        fields["video"] = _relative(entry.video, source.root or Path())
    for name in ("at_s", "mismatched"):
        if getattr(entry, name) is not None:
            fields[name] = getattr(entry, name)
    if entry.scenarios is not None:
        fields["scenarios"] = list(entry.scenarios)
    if entry.tags:
        fields["tags"] = dict(entry.tags)
    measured = {k: round(v, 6) for k, v in report.values.get(entry.id, {}).items()}
    return {**fields, "measured": {**fields.get("measured", {}), **measured}}


def _relative(path: Path, folder: Path) -> str:
    """``path`` relative to ``folder``: a list and its media can be moved together."""
    if path.is_relative_to(folder):
        return path.relative_to(folder).as_posix()
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def _without_nan(value: Any) -> Any:
    """The same with None for numbers that JSON does not have; Python reads and writes them as NaN and Infinity."""
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _checked(out: Path, source: Path | None) -> Path:
    """``out``, if it can be written there; asked before hours of work, not after."""
    suffix = out.suffix.lower()
    if suffix not in (*LISTS, *TABLES):
        raise UsageError(f"{out}: the list ends in .json, .csv or .tsv")
    if out.is_dir():
        raise V2AError(f"{out} is a folder; name a file")
    try:
        itself = source is not None and out.resolve() in (source.resolve(), (source / "truth.json").resolve())
    except (OSError, RuntimeError) as error:
        raise V2AError(f"{out}: links that lead in a circle; name another file") from error
    if itself:
        raise UsageError(f"{out} is the source itself; name another file")
    head = "\t".join(PLAIN) + "\n"
    keep_others(out, is_json_with("clips", "curation") if suffix in LISTS else lambda text: text.startswith(head))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise V2AError(f"{out.parent}: no folder can be made there: {error}") from error
    if not os.access(out.parent, os.W_OK):
        raise V2AError(f"{out.parent}: nothing can be written there")
    return out
