"""The result of an evaluation: a table with intervals and controls, as text, JSON and HTML."""

from __future__ import annotations

import html
import json
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from v2a_nb.files import HTML_MARK, is_json_with, keep_others, write_text

FEW = 20
"""With fewer recordings, 95 % intervals mean little."""


class Saved(ABC):
    """The base of results that are written to files."""

    @abstractmethod
    def to_dict(self, controls: bool = False) -> dict:
        """The JSON of ``v2a-nb evaluate``; ``controls`` adds them."""

    @abstractmethod
    def _repr_html_(self) -> str:
        """The tables as HTML."""

    def save_json(self, path: str | Path, controls: bool = False) -> None:
        """Write :meth:`to_dict`, whole or not at all; an earlier report is replaced.

        Raises:
            MediaError: there is another file.
        """
        self.check_paths(path)
        write_text(path, json.dumps(self.to_dict(controls), indent=1, allow_nan=False) + "\n")

    @staticmethod
    def check_paths(json: str | Path | None = None, html: str | Path | None = None) -> None:
        """Raise :class:`~v2a_nb.errors.MediaError` where a report would replace a file that is no report."""
        if json is not None:
            keep_others(json, lambda text: any(is_json_with(*keys)(text) for keys in _OURS))
        if html is not None:
            keep_others(html, lambda text: HTML_MARK in text[:1000])


@dataclass
class Report(Saved):
    """Scores with intervals, per clip and per control.

    Attributes:
        clips: how many were scored.
        metrics: ``{"name", "extractor", "value", "low", "high", "n"}`` each. ``low`` and ``high`` are a
            95 % interval over recordings; ``n`` is how many things were counted (true events, matched onsets, near
            misses, hits, clips).
        per_clip: one dictionary per clip: ``id``, and each metric that one clip alone has.
        problems: ``{"id", "what"}`` of everything that was missing or odd, scored or not.
        controls: by name, the same metrics for the true sounds, the codec's round trip, shuffled sounds ... A metric
            is missing from a control that says nothing about it.
        recordings: from how many the clips come; 0 where it is not known.
        ladder: the control ladder, where it was asked for.
        protocol: what was measured for what, and what differs, as :meth:`~v2a_nb.metrics.protocols.Plan.to_dict` gives
            it; None where no protocol was asked for.
        sources: of sounds in folders, where they are: ``generated``, ``reference``, ``videos``, ``truth``.
    """

    clips: int
    metrics: list[dict]
    per_clip: list[dict] = field(default_factory=list)
    problems: list[dict] = field(default_factory=list)
    controls: dict[str, list[dict]] = field(default_factory=dict)
    recordings: int = 0
    ladder: Ladder | None = None
    protocol: dict | None = None
    sources: dict[str, str | Path] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float:
        """The value of one metric."""
        for metric in self.metrics:
            if metric["name"] == name:
                return metric["value"]
        raise KeyError(f"{name}: there is {', '.join(m['name'] for m in self.metrics)}")

    @property
    def note(self) -> str:
        """What a reader of the intervals must know; empty where there is nothing."""
        if not 0 < self.recordings < FEW:
            return ""
        return f"{self.recordings} recordings: with fewer than {FEW}, intervals mean little"

    def to_dict(self, controls: bool = False) -> dict:
        """The JSON of ``v2a-nb evaluate``: clips, metrics, per_clip, problems, a ladder, a protocol; NaN becomes null.

        Args:
            controls: add them, under ``"controls"``.
        """
        names = ("clips", "metrics", "per_clip", "problems", *(["controls"] if controls else []))
        report = plain({name: getattr(self, name) for name in names}, digits=6)
        report |= {} if self.protocol is None else {"protocol": plain(self.protocol)}
        return report if self.ladder is None else {**report, "ladder": self.ladder.to_dict()}

    def _cells(self) -> list[list[str]]:
        """The table: a head, then a row for each metric; the first column is its name, and a network that it reads."""
        controls = {control: {m["name"]: m["value"] for m in rows} for control, rows in self.controls.items()}
        rows = [["", "value", *controls]]
        for metric in self.metrics:
            value, low, high = (_number(metric[key]) for key in ("value", "low", "high"))
            others = [_number(c[metric["name"]]) if metric["name"] in c else "" for c in controls.values()]
            name = metric["name"].partition("[")[0]
            name += f"[{metric['extractor']}]" if "@" in metric["extractor"] else ""
            rows.append([name, f"{value} [{low}, {high}]", *others])
        return rows

    def __repr__(self) -> str:
        lines = [f"{self.clips} clips" + (f", {len(self.problems)} problems" if self.problems else "")]
        cells = self._cells()
        width = max(24, *(len(name) + 1 for name, *_ in cells))
        columns = [max(18, len(title) + 2) for title in cells[0][2:]]
        for name, value, *others in cells:
            padded = (f"{other:>{w}}" for other, w in zip(others, columns, strict=True))
            lines.append(f"{name:{width}}{value:>24}{''.join(padded)}")
        lines += [f"note: {self.note}"] if self.note else []
        lines += [f"problem: {p['id']}: {p['what']}" for p in self.problems]
        lines += [] if self.protocol is None else _protocol_lines(self.protocol)
        lines += [repr(self.ladder)] if self.ladder is not None else []
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        caption = f"{self.clips} clips; in brackets 95 % intervals over recordings" + (
            f" ({self.note})" if self.note else ""
        )
        return (
            _table(caption, self._cells())
            + _list([f"{p['id']}: {p['what']}" for p in self.problems])
            + ("" if self.protocol is None else _protocol_html(self.protocol))
            + ("" if self.ladder is None else self.ladder._repr_html_())
        )


@dataclass
class Ladder:
    """The control ladder: the values of sounds of which it is known how good they are.

    Attributes:
        clips: how many have a true sound.
        controls: their names, the best first.
        metrics: ``{"name", "extractor", "better", "values", "orders", "flags"}`` each: the value of each control that
            has one, the orders that the metric promises, and a line for each that it does not keep.
        problems: as in :class:`Report`.
    """

    clips: int
    controls: list[str]
    metrics: list[dict]
    problems: list[dict] = field(default_factory=list)

    def __getitem__(self, name: str) -> dict[str, float]:
        """The values of one metric by control."""
        for metric in self.metrics:
            if metric["name"] == name:
                return metric["values"]
        raise KeyError(f"{name}: there is {', '.join(m['name'] for m in self.metrics)}")

    @property
    def flags(self) -> list[str]:
        """A line for each promise that a metric does not keep on these clips."""
        return [f"{metric['name']}: {why}" for metric in self.metrics for why in metric["flags"]]

    def to_dict(self) -> dict:
        """The part ``"ladder"`` of the JSON of ``v2a-nb evaluate --ladder``; NaN becomes null."""
        return plain({name: getattr(self, name) for name in ("clips", "controls", "metrics", "problems")}, digits=6)

    def _cells(self) -> list[list[str]]:
        rows = [["", *self.controls]]
        for metric in self.metrics:
            cells = [_number(metric["values"].get(control)) for control in self.controls]
            rows.append([("! " if metric["flags"] else "") + metric["name"], *cells])
        return rows

    def __repr__(self) -> str:
        lines = [f"control ladder of {self.clips} clips; ! marks a metric that does not order them"]
        lines += [f"{name:26}" + "".join(f"{cell:>15}" for cell in cells) for name, *cells in self._cells()]
        lines += [f"out of order: {flag}" for flag in self.flags]
        lines += [f"problem: {p['id']}: {p['what']}" for p in self.problems]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        caption = f"Control ladder of {self.clips} clips; ! marks a metric that does not order them"
        lines = [*self.flags, *(f"{p['id']}: {p['what']}" for p in self.problems)]
        return _table(caption, self._cells()) + _list(lines)


@dataclass
class Comparison(Saved):
    """Several systems, each with its report, and tests of each two.

    Attributes:
        reports: by system.
        comparisons: as :func:`~v2a_nb.metrics.compare.compare` gives them.
    """

    reports: dict[str, Report]
    comparisons: list[dict]

    def __getitem__(self, system: str) -> Report:
        """The report of one system."""
        return self.reports[system]

    def to_dict(self, controls: bool = False) -> dict:
        """The JSON of ``v2a-nb evaluate`` with several folders: ``systems``, each as of one, and ``comparisons``."""
        systems = {name: report.to_dict(controls) for name, report in self.reports.items()}
        return {"systems": systems, "comparisons": plain(self.comparisons, digits=6)}

    def _cells(self) -> list[list[str]]:
        rows = [["", "first", "second", "difference", "p", "p (Holm)", "better", "clips"]]
        for row in self.comparisons:
            difference = f"{_number(row['difference'])} [{_number(row['low'])}, {_number(row['high'])}]"
            sides = [f"{row[side]} {_number(row[f'{side}_value'])}" for side in ("first", "second")]
            ps = [_number(row[key]) for key in ("p", "p_holm")]
            rows.append([row["name"], *sides, difference, *ps, row["better"] or "", str(row["clips"])])
        return rows

    @property
    def notes(self) -> list[str]:
        """Why there are no tests, one line for each reason."""
        whys: dict[tuple[str, str, str], list[str]] = {}
        for row in self.comparisons:
            if row["why"]:
                whys.setdefault((row["first"], row["second"], row["why"]), []).append(row["name"])
        return [f"{one} and {two}: no test of {', '.join(names)}: {why}" for (one, two, why), names in whys.items()]

    def __repr__(self) -> str:
        lines = [f"{name}: {report!r}\n" for name, report in self.reports.items()]
        head, *rows = self._cells()
        widths = [max(len(row[k]) for row in (head, *rows)) for k in range(len(head))]
        lines.append(_CAPTION)
        for first, *cells in (head, *rows):
            others = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
            lines.append("  ".join([first.ljust(widths[0]), *others]).rstrip())
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        tables = [f"<h2>{html.escape(name)}</h2>{report._repr_html_()}" for name, report in self.reports.items()]
        return "".join(tables) + "<h2>Comparisons</h2>" + _table(_CAPTION, self._cells()) + _list(self.notes)


_OURS = ("clips", "metrics", "per_clip"), ("systems", "comparisons")
"""What the JSON of a report has, of one folder and of several."""
_CAPTION = (
    "differences are second minus first on common clips, with 95 % intervals over recordings; p of paired tests over "
    "recordings, and corrected after Holm for all tests of this table; better where that is at most 0.05"
)


def _protocol_cells(protocol: dict) -> list[list[str]]:
    """Make the table of a protocol, original and ours: a head, then a row for each measure."""
    rows = [["there", "here", "", "what differs"]]
    for row in protocol["measures"]:
        why = "; ".join(part for part in (row["give"] and f"needs {row['give']}", row["differs"]) if part)
        rows.append([row["original"], row["metric"] or "–", row["status"], why])
    return rows


def _protocol_title(protocol: dict) -> str:
    return f"protocol {protocol['name']}: {protocol['title']} ({protocol['sources']}); {protocol['settings']}"


def _protocol_lines(protocol: dict) -> list[str]:
    cells = _protocol_cells(protocol)
    widths = [max(len(row[k]) for row in cells) for k in range(3)]
    lines = [
        "  " + "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]])
        for row in cells
    ]
    return [_protocol_title(protocol), *lines, *(f"  all: {line}" for line in protocol["differs"])]


def _protocol_html(protocol: dict) -> str:
    cells = _protocol_cells(protocol)  # its last column is prose
    return _table(_protocol_title(protocol), cells, "normal") + _list(list(protocol["differs"]))


def _table(caption: str, cells: list[list[str]], space: str = "nowrap") -> str:
    """A table of HTML that scrolls where it is wide: the first row is its head, the first column names the rows.

    Args:
        space: ``white-space`` of the cells: a number that goes on in a second line is read as two.
    """
    (_, *titles), *rows = cells
    head = "".join(f"<th scope=col>{html.escape(title)}</th>" for title in titles)
    body = "".join(
        f"<tr><th scope=row style='text-align:left'>{html.escape(name)}</th>"
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for name, *row in rows
    )  # fmt: skip
    return (
        f"<div tabindex=0 style='overflow-x:auto'><table style='white-space:{space}'>"
        f"<caption style='white-space:normal;text-align:left'>{html.escape(caption)}</caption>"
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _list(lines: list[str]) -> str:
    """A list of HTML; nothing where it is empty."""
    return f"<ul>{''.join(f'<li>{html.escape(line)}</li>' for line in lines)}</ul>" if lines else ""


def plain(value: object, digits: int | None = None) -> Any:
    """A value as JSON can hold it: NaN and infinity become None, numpy numbers Python's, tuples lists.

    Args:
        value: nested dictionaries and lists.
        digits: floating point numbers are rounded to so many places; left out, they are not.
    """
    if isinstance(value, dict):
        return {key: plain(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, digits) for item in value]
    if isinstance(value, float | np.floating):
        value = float(value)
        return None if not math.isfinite(value) else value if digits is None else round(value, digits)
    return int(value) if isinstance(value, np.integer) else value


def _number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    if 0 < abs(value) < 0.01:  # such as distances of envelopes, of which 0.002 says too little
        return f"{value:.2g}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
