"""Judged maps, read from ``results.json``: one table of all methods and systems, and all tables of each system."""

from __future__ import annotations

from collections.abc import Mapping

from v2a_nb.hub import SHIPPED
from v2a_nb.training.cards import NOT_YET
from v2a_nb.training.results import FILE, Results, Table, markdown

WHERE, WHEN = "pointing_6pc", "temporal_pointing_80ms"


def tables(titles: Mapping[str, str]) -> str:
    """A table of all, then those of each system, below its name and above the methods that are marked.

    Args:
        titles: of the systems by name, in their order.
    """
    results = {name: Results.read(SHIPPED / name) for name in titles if (SHIPPED / name / FILE).exists()}
    judged = {titles[name]: some for name, some in results.items() if "saliency" in some}
    texts = [_together({title: some["saliency"] for title, some in judged.items()})] if judged else []
    for title, some in judged.items():
        table = some["saliency"]
        texts.append(
            f"{title}, {table.about['clips']} clips of seed {table.about['seed']} ({table.about['few']} for "
            f"slow methods and judges):\n\n{markdown(table)}\n\nNot to be believed: {table.about['marked']}."
        )
        if "saliency_distractors" in some:
            table = some["saliency_distractors"]
            texts.append(
                f"The same, of the {table.about['clips']} clips in which things move that never make a sound:\n\n"
                f"{markdown(table)}"
            )
    return "\n\n".join(texts) or NOT_YET


def marked_in(table: Table) -> set[str]:
    """Methods, as they are called in the table's rows, that are marked there as not to be believed."""
    told = str(table.about["marked"])
    return set() if told == "none" else {each.partition(":")[0].replace("_", " ") for each in told.split("; ")}


def _together(found: Mapping[str, Table]) -> str:
    """Methods down, systems across: where and when a map has its peak."""
    methods = list(dict.fromkeys(subject for table in found.values() for subject in table.subjects))
    lines = [
        f"| | {' | '.join(f'{title}: where | when' for title in found)} |",
        f"| --- |{' ---: | ---: |' * len(found)}",
    ]
    for method in methods:
        cells = [method]
        for table in found.values():
            mark = "†" if method in marked_in(table) else ""
            values = [_cell(table, metric, method) for metric in (WHERE, WHEN)]
            cells += [value and value + mark for value in values]
        lines.append(f"| {' | '.join(cells)} |")
    words = (
        "All methods and systems: the share of clips in which a map's peak lies within 6 % of the picture's side\n"
        f"of what sounds (*where*, `{WHERE}`), and within 80 ms of its moment (*when*, `{WHEN}`).\n"
        "† marks maps that are not to be believed: they survive randomized weights, or point no better than motion\n"
        "energy does."
    )
    return f"{words}\n\n" + "\n".join(lines)


def _cell(table: Table, metric: str, method: str) -> str:
    rows = [row for row in table.rows if row.metric == metric and row.subject == method]
    return f"{rows[0].value:.2f}" if rows and rows[0].value is not None else ""
