"""What ``v2a-nb score`` can score: for each name its parts, and the template of the model card that shows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from v2a_nb.errors import UsageError
from v2a_nb.files import write_text
from v2a_nb.hub import SHIPPED, find_weights
from v2a_nb.scores.base import Job
from v2a_nb.training.cards import CARD, Fields, render_card, render_document, write_card
from v2a_nb.training.results import FILE, Results, Table, digest_of, markdown

PACKAGE = Path(__file__).parent.parent


@dataclass(frozen=True)
class Scored:
    """How some weights are scored.

    Attributes:
        template: of their model card, a file of the package.
        parts: ``file:function`` of this folder, each from a :class:`~v2a_nb.scores.base.Job` to tables.
    """

    template: str
    parts: tuple[str, ...] = ()


SCORES = {
    "vaura": Scored("systems/vaura/card.md", ("systems:scores",)),
    "egosonics": Scored("systems/egosonics/card.md", ("systems:scores", "ablations:ablations")),
    "egosonics_base": Scored("systems/egosonics/base_card.md"),
    "action2sound": Scored(
        "systems/action2sound/card.md", ("systems:scores", "ablations:ablations", "ambience:ambience")
    ),
    "retrieval": Scored("systems/retrieval/card.md", ("systems:scores", "retrieval:pool")),
    "av_sim": Scored("systems/retrieval/av_sim_card.md", ("retrieval:encoders",)),
    "av_sync": Scored("metrics/av_sync/card.md", ("learned:av_sync",)),
    "vaas": Scored("metrics/vaas/card.md", ("learned:vaas",)),
    "summary": Scored("metrics/summarization/card.md", ("learned:summary",)),
    "material": Scored("metrics/material/card.md", ("learned:material",)),
    "ambience": Scored("metrics/ambience/card.md", ("learned:ambience",)),
    "codec": Scored("training/recipes/codec_card.md", ("codec:codec",)),
    "vocoder": Scored("training/recipes/vocoder_card.md", ("vocoder:vocoder",)),
}
"""By the name of the shipped weights. Those without parts are scored within the system that they belong to."""
NAMES = tuple(name for name, scored in SCORES.items() if scored.parts)


def score(
    name: str,
    *,
    weights: str | Path | None = None,
    clips: int | None = None,
    run: str | Path | None = None,
    json: str | Path | None = None,
    say: Callable[[str], None] = print,
) -> Results:
    """Measure everything that is measured of some weights, and write ``results.json`` and the card beside them.

    Args:
        name: out of :data:`NAMES`.
        weights: a folder with other weights of that kind; left out, the shipped ones.
        clips: at most so many in each part, for a look: then nothing is written beside the weights.
        run: folder of a run whose ablations are measured as well.
        json: the results are also written to this file.
        say: receives each table as it is there, and one line before each part.

    Raises:
        UsageError: an unknown name, no clips, or a run without ablations.
        WeightsError: there are no such weights.
    """
    if name not in NAMES:
        raise UsageError(f"nothing is known of how to score {name!r}; there is {', '.join(NAMES)} and real")
    if clips is not None and clips < 2:
        raise UsageError(f"--clips {clips}: intervals need at least 2 clips")
    folder = find_weights(str(weights or name))
    job = Job(name, str(weights or name), clips, None if run is None else Path(run), say)
    tables: list[Table] = []
    for part in SCORES[name].parts:
        file, function = part.split(":")
        for table in getattr(import_module(f"v2a_nb.scores.{file}"), function)(job):
            say(str(table))
            tables.append(table)
    before = Results.read(folder) if (folder / FILE).exists() else Results(name, "", ())
    results = replace(before, weights=digest_of(folder)).updated(tables)
    if json is not None:
        write_text(json, results.dumps())
    if clips is None:
        results.write(folder)
        if weights is None:
            render()
        else:
            write_card(folder, PACKAGE / SCORES[name].template)
    return results


def score_real(
    folder: str | Path,
    *,
    keep: bool = False,
    json: str | Path | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Table]:
    """Onset F1 of all systems on real clips with ``onsets.tsv``.

    Args:
        folder: of the clips.
        keep: put the tables into the ``results.json`` of the shipped weights.
        json: the tables are also written to this file.
        say: receives the tables, and one line before each system.

    Raises:
        UsageError, MediaError: the table or a video cannot be read.
    """
    from v2a_nb.scores.real import real

    tables = real(Job("real", "", say=say), folder)
    for name, table in tables.items():
        say(f"{name}\n{table}")
    if json is not None:
        merged = Results("real", "", tuple(replace(table, name=name) for name, table in tables.items()))
        write_text(json, merged.dumps())
    if keep:
        for name, table in tables.items():
            results = Results.read(SHIPPED / name)
            kept = (*(t for t in results.tables if t.name != table.name), table)
            replace(results, tables=kept).write(SHIPPED / name)
        render()
    return tables


def rendered(root: Path = PACKAGE.parent) -> dict[Path, str]:
    """The model cards of all shipped weights, and README and ``docs/`` of a checkout, as they should be now.

    Args:
        root: of the checkout; where it has no README, only cards are rendered.
    """
    texts, fields = {}, {}
    for name, scored in SCORES.items():
        texts[SHIPPED / name / CARD] = render_card(SHIPPED / name, PACKAGE / scored.template)
        fields[name] = Fields(SHIPPED / name)
    fields["summary"] = summary()
    if (root / "pyproject.toml").exists():
        for path in (root / "README.md", *sorted((root / "docs").glob("*.md"))):
            texts[path] = render_document(path.read_text(encoding="utf-8"), fields, path.name)
    return texts


def render(root: Path = PACKAGE.parent) -> list[Path]:
    """Write :func:`rendered`; returns the files that changed."""
    changed = []
    for path, text in rendered(root).items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            changed.append(write_text(path, text))
    return changed


SYSTEMS = {"vaura": "V-AURA", "egosonics": "EgoSonics", "action2sound": "Action2Sound", "retrieval": "retrieval"}
CONTROLS = {"ground truth": "the true sounds", "shuffled video": "V-AURA's sounds of other videos"}
SUMMARY = ("onset_f1_50ms", "material_accuracy", "near_miss_silent", "cpu_s_per_s")


def summary() -> str:
    """The README's table: all systems, and the controls of the first one, by the metrics that say most."""
    found = {name: Results.read(SHIPPED / name)["scores"] for name in SYSTEMS if (SHIPPED / name / FILE).exists()}
    lines = [(table, table.subjects[0], SYSTEMS[name]) for name, table in found.items()]
    lines += [(table, subject, title) for table in [*found.values()][:1] for subject, title in CONTROLS.items()]
    rows = [
        replace(row, subject=title)
        for table, subject, title in lines
        for row in table.rows
        if row.subject == subject and row.metric in SUMMARY
    ]
    if not rows:
        return "*Not scored yet.*"
    return markdown(Table("summary", "v2a-nb score", tuple(rows), down="subject", controls=tuple(CONTROLS.values())))
