"""Results on real clips, read from ``results.json``: tables of all systems beside baselines, and the best system."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from v2a_nb.errors import V2AError
from v2a_nb.hits import AUTO
from v2a_nb.hub import SHIPPED
from v2a_nb.training.results import FILE, Results, Row, Table, markdown

ALL, GREATEST_HITS, REST = GROUPS = ("all clips", "Greatest Hits", "the rest")
"""The columns of a system's table ``real``."""
SENSITIVITY = AUTO
"""The sensitivity with which systems follow doubtful hits on video that is new to them."""
OF_SYSTEMS = {
    "real": "{}",
    "real_sensitive": "{}: sensitivity " + SENSITIVITY,
    "real_encoder": "{}: expected flux alone",
    "real_hits": "{}: expected hits alone",
}
"""Tables that each system has, and their titles; the last two are of its encoder, without generation."""
GENERATED = ("real", "real_sensitive")
OF_CLIPS = {
    "real_motion_energy": "motion energy",
    "real_deceleration": "deceleration",
    "real_ticker": "as many onsets at a constant rate",
    "real_truth": "the clips' own sounds",
}
"""Baselines: tables that depend on the clips alone."""
COLUMNS = {
    "onset_f1_50ms": "F1 within 50 ms",
    "onset_f1_50ms_shifted": "shifted, 50 ms",
    "onset_f1_100ms": "F1 within 100 ms",
    "onset_f1_100ms_shifted": "shifted, 100 ms",
    "onset_f1_100ms_over_shifted": "difference",
    "onset_auc": "AUC",
    "onset_offset_signed_ms": "offset (ms)",
    "drone_share": "drones",
}
BEST_BY = "onset_f1_100ms_over_shifted"


def tables(titles: Mapping[str, str]) -> dict[str, str]:
    """By group of clips, a Markdown table of all systems and baselines; ``"systems"``: without encoders, all clips.

    Args:
        titles: of the systems by name, in their order.
    """
    found = {group: _table(rows(titles, COLUMNS, group)) for group in GROUPS}
    return {**found, "systems": _table(rows(titles, COLUMNS, encoders=False))}


def rows(titles: Mapping[str, str], metrics: Iterable[str], group: str = ALL, *, encoders: bool = True) -> list[Row]:
    """Numbers of all systems, of their encoders alone, and of the baselines; the subject says of which.

    Systems that share an encoder share its rows.

    Args:
        titles: of the systems by name, in their order.
        metrics: names, in their order.
        group: of clips.
        encoders: whether those of the encoders alone are wanted.
    """
    results = {name: Results.read(SHIPPED / name) for name in titles if (SHIPPED / name / FILE).exists()}
    subjects: dict[tuple[str, tuple[Row, ...]], list[str]] = {}
    wanted = [what for what in OF_SYSTEMS if encoders or what in GENERATED]
    for what in [*wanted, *OF_CLIPS]:
        for name, some in results.items():
            if what in some:
                subjects.setdefault((what, some[what].rows), []).append(titles[name])
    words = OF_SYSTEMS | OF_CLIPS
    return [
        replace(row, subject=words[what].format(", ".join(names)))
        for metric in metrics
        for (what, found), names in subjects.items()
        for row in found
        if row.metric == metric and row.subject == group
    ]


def _table(rows: Sequence[Row]) -> str:
    if not rows:
        return "*Not scored yet.*"
    text = markdown(Table("real", "v2a-nb score real FOLDER", tuple(rows), down="subject"))
    for metric, words in COLUMNS.items():
        text = text.replace(f"`{metric}`", words)
    return text


def best_system(names: Iterable[str]) -> str:
    """The system that scores best on real clips: whose onset F1 is furthest over that of shifted onsets.

    Args:
        names: of the systems among which is chosen; the first where none was scored.
    """

    return max(names, key=lambda name: max(_score(name, what) for what in GENERATED))


def best_sensitivity(name: str) -> str | None:
    """The sensitivity with which a system scores best on real clips; None: what it does by itself."""
    return SENSITIVITY if _score(name, "real_sensitive") > _score(name, "real") else None


def _score(name: str, what: str) -> float:
    """What a system is judged by, out of one of its tables; -1 where that was not measured."""
    try:
        return Results.read(SHIPPED / name)[what].row(BEST_BY, ALL).value or 0.0
    except (V2AError, KeyError):
        return -1.0
