"""Results of VTA-LDM's study, as tables in Markdown: for the page of a study, and for the documents."""

from __future__ import annotations

from dataclasses import replace

from v2a_nb.hub import SHIPPED
from v2a_nb.training.cards import NOT_YET
from v2a_nb.training.results import FILE, Results, Table, digest_of, markdown

STUDIED = "vta_ldm"
"""The shipped weights beside which results of a study are kept."""
TITLES = {
    "table2": "Vision encoders (the paper's table 2)",
    "table3": "Auxiliary embeddings (table 3)",
    "table4": "Data augmentation (table 4)",
    "grid": "All cells",
    "joined": "Clips joined from two scenes",
}
"""The tables of a study."""


def measured_on(table: Table) -> str:
    """In two sentences, what a table of a study was measured on."""
    about = table.about
    return (
        f"{about['clips']} clips of Strike World, seed {about['seed']}; each row was trained for {about['steps']} "
        "steps. In brackets 95 % intervals over recordings."
    )


def page(results: Results) -> str:
    """The tables as Markdown, each below its title and what it was measured on."""
    parts = [f"## {TITLES[table.name]}\n\n{measured_on(table)}\n\n{markdown(table)}" for table in results.tables]
    return "\n\n".join(parts) + "\n"


def tables() -> dict[str, str]:
    """By name, the tables of the study that is kept, each below what it was measured on."""
    results = Results.read(SHIPPED / STUDIED) if (SHIPPED / STUDIED / FILE).exists() else Results(STUDIED, "", ())
    return {
        name: f"{measured_on(results[name])}\n\n{markdown(results[name])}" if name in results else NOT_YET
        for name in TITLES
    }


def keep(results: Results) -> None:
    """Put a study into the ``results.json`` beside the shipped weights, in place of the one that is there."""
    place = SHIPPED / STUDIED
    before = Results.read(place) if (place / FILE).exists() else Results(STUDIED, digest_of(place), ())
    kept = tuple(table for table in before.tables if table.name not in TITLES)
    replace(before, tables=(*kept, *results.tables)).write(place)
