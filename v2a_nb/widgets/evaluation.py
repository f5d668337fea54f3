"""The page of an evaluation: its tables, its scores drawn, and the clips to hear before the table is believed.

``v2a-nb evaluate --html page.html`` writes it; in Python ``EvaluationPage(v2a.evaluate("made", reference="true"))``
shows it in a notebook, and ``.save("page.html")`` writes it. It needs no kernel and no network.

The clips on which a system scores worst are shown first, or those on which systems differ most, and beside them clips
drawn at random: a page of the worst alone would mislead as much as one of the best.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from v2a_nb import media
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import V2AError
from v2a_nb.metrics.orders import order_of
from v2a_nb.metrics.pairing import pair_files, read_sound, read_truth
from v2a_nb.metrics.report import Comparison, Report
from v2a_nb.plots.figure import show
from v2a_nb.plots.metric_rows import metric_rows
from v2a_nb.plots.sounds import spectrogram
from v2a_nb.widgets.page import Page, escape
from v2a_nb.widgets.player import compare, sound_html

WORST, RANDOM = 6, 3
SECONDS, SIDE = 8.0, 224
"""Most seconds of a clip that are played, and pixels of its short side: nine players stay within some megabytes."""
STYLE = (
    "<style>.v2a-scores{font-family:system-ui,sans-serif}.v2a-scores .wide{overflow-x:auto}"
    ".v2a-scores table{border-collapse:collapse;font-variant-numeric:tabular-nums}.v2a-scores caption{text-align:left}"
    ".v2a-scores td,.v2a-scores th{padding:.25em .7em;text-align:right;white-space:nowrap}"
    ".v2a-scores .wide>figure{min-width:640px}</style>"
)


class EvaluationPage(Page):
    """An evaluation as a page.

    Args:
        report: of one folder or of several, or of a system; clips are played where the report knows their folders.
        by: the metric by which clips are the worst; left out, the first one that single clips have, that says which way
            is better and that does not give all clips the same.
        worst, drawn: clips that are played: so many of the worst, and so many drawn at random.

    Attributes:
        title: of the page.

    Raises:
        V2AError: ``by`` is no metric of single clips here.

    Examples:
        >>> page = EvaluationPage(v2a.evaluate("made", reference="true"))  # doctest: +SKIP
        >>> page.save("scores.html")  # doctest: +SKIP
    """

    def __init__(
        self, report: Report | Comparison, *, by: str | None = None, worst: int = WORST, drawn: int = RANDOM
    ) -> None:
        self.report, self.worst, self.drawn = report, worst, drawn
        several = isinstance(report, Comparison)
        self.reports: Mapping[str, Report] = report.reports if several else {_name_of(report): report}
        self.title = f"Scores of {' and '.join(self.reports)}"
        usable = [name for name in _names(self.reports) if len(_badness(self.reports, name)) > 0]
        if by is not None and by not in usable:
            known = ", ".join(usable) or "none"
            raise V2AError(f"{by} does not tell single clips apart here; metrics that do: {known}")
        self.by = by if by is not None else next(iter(usable), None)

    def __repr__(self) -> str:
        return f"EvaluationPage({', '.join(self.reports)})"

    @cached_property
    def html(self) -> str:
        """The HTML of the page's body."""
        parts = [f"<h1>{escape(self.title)}</h1>", f'<div class="wide">{self.report._repr_html_()}</div>']
        if any(math.isfinite(m["value"]) for m in next(iter(self.reports.values())).metrics):
            figure = show(metric_rows(self.reports))._repr_html_()
            parts += ["<h2>The scores, drawn</h2>", f'<div class="wide">{figure}</div>']
        parts += list(self._clips())
        return f'{STYLE}<div class="v2a-scores">{"".join(parts)}</div>'

    def _clips(self) -> Iterator[str]:
        """The clips to hear, worst first."""
        sources = _Sources(self.reports)
        names = sources.names
        if not names:
            return
        chosen: list[str] = []
        if self.by is not None:
            badness = _badness(self.reports, self.by)
            chosen = sorted((n for n in badness if n in names), key=lambda n: (-badness[n], n))[: self.worst]
            heading = "on which they differ most" if len(self.reports) > 1 else "with the worst"
            yield f"<h2>The {len(chosen)} clips {heading} {escape(self.by)}</h2>"
            yield from (self._clip(sources, name) for name in chosen)
        rest = [name for name in names if name not in chosen]
        some = random.Random(0).sample(rest, min(self.drawn, len(rest)))
        if some:
            yield f"<h2>{len(some)} more, drawn at random</h2>"
            yield from (self._clip(sources, name) for name in some)

    def _clip(self, sources: _Sources, name: str) -> str:
        """One clip: its scores, and a player; without pictures, sounds with their spectrograms."""
        scores = []
        for system, report in self.reports.items():
            row = next((row for row in report.per_clip if row["id"] == name), {})
            values = [f"{k} {v:.3g}" for k, v in row.items() if k != "id" and math.isfinite(v)]
            scores.append((f"{system}: " if len(self.reports) > 1 else "") + ", ".join(values))
        lines = "".join(f"<p>{escape(line)}</p>" for line in scores)
        sounds, events = sources.sounds(name), sources.events(name)
        video = sources.video(name)
        if video is not None:
            return compare(video, sounds, events=events, title=name).html + lines
        return f"<h3>{escape(name)}</h3>{lines}" + "".join(
            f"<h4>{escape(label)}</h4>{show(spectrogram(sound))._repr_html_()}{sound_html(sound)}"
            for label, sound in sounds.items()
        )


class _Sources:
    """The files of the clips, as the reports name their folders."""

    def __init__(self, reports: Mapping[str, Report]) -> None:
        ids = [[row["id"] for row in report.per_clip] for report in reports.values()]
        self.files = {
            system: pair_files(Path(report.sources["generated"]), of, [], extra=False)
            for (system, report), of in zip(reports.items(), ids, strict=True)
            if "generated" in report.sources
        }
        found = list(self.files.values())
        self.names = [n for n in ids[0] if all(n in files for files in found)] if found and ids else []
        sources = next(iter(reports.values())).sources if reports else {}
        self.references = self._paired(sources, "reference")
        self.videos = self._paired(sources, "videos")
        self.entries = {e["id"]: e for e in read_truth(sources["truth"], [])} if "truth" in sources else {}

    def _paired(self, sources: Mapping[str, str | Path], kind: str) -> dict[str, Path]:
        if kind not in sources:
            return {}
        return pair_files(Path(sources[kind]), self.names, [], extra=False, video=kind == "videos")

    def sounds(self, name: str) -> dict[str, Sound]:
        """The beginnings of a clip's sounds, by system, and the true one."""
        paths = {system: files[name] for system, files in self.files.items()}
        if name in self.references:
            paths["the true sound"] = self.references[name]
        found = {label: read_sound(path, name, []) for label, path in paths.items()}
        return {k: sound.slice(0.0, min(sound.duration, SECONDS)) for k, sound in found.items() if sound is not None}

    def video(self, name: str) -> Clip | None:
        """The beginning of a clip's video; None where there is none that can be read."""
        path = self.videos.get(name)
        try:
            return None if path is None else media.open(path, duration=SECONDS, sound=False, size=SIDE)
        except V2AError:
            return None  # the report lists it

    def events(self, name: str) -> Sequence[Mapping] | None:
        """The true events of a clip; None where there is no truth."""
        events = self.entries.get(name, {}).get("events")
        return None if events is None else [event for event in events if event["time_s"] < SECONDS]


def _name_of(report: Report) -> str:
    """How a report of one folder is called: as the folder."""
    return Path(report.sources["generated"]).resolve().name if "generated" in report.sources else "the system"


def _names(reports: Mapping[str, Report]) -> list[str]:
    return [metric["name"] for metric in next(iter(reports.values())).metrics] if reports else []


def _badness(reports: Mapping[str, Report], name: str) -> dict[str, float]:
    """How badly each clip scores, by its id, or how far systems are apart; empty where that tells no clips apart."""
    sign = {"higher": -1.0, "lower": 1.0}.get(order_of(name).better)
    if sign is None:
        return {}
    columns = [{r["id"]: r[name] for r in report.per_clip if name in r} for report in reports.values()]
    common = [n for n in columns[0] if all(math.isfinite(column.get(n, math.nan)) for column in columns)]
    values = {n: [column[n] for column in columns] for n in common}
    found = {n: max(v) - min(v) if len(v) > 1 else sign * v[0] for n, v in values.items()}
    return found if len(set(found.values())) > 1 else {}
