"""What ``v2a-nb score`` can score: for each name its parts, and the template of the model card that shows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from v2a_nb.errors import UsageError
from v2a_nb.files import is_json_with, keep_others, write_text
from v2a_nb.hub import SHIPPED, find_weights
from v2a_nb.metrics import protocols
from v2a_nb.scores import real_results, saliency_results, study_results
from v2a_nb.scores.base import Job
from v2a_nb.systems.registry import with_weights
from v2a_nb.training.cards import CARD, NOT_YET, Fields, render_card, render_document, write_card
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


VAURA = (
    "systems:scores", "systems:wide", "systems:frame_rates", "expected_hits:reliability", "expected_hits:sensitivity",
    "ablations:ablations", "ablations:retrained",
)  # fmt: skip
SCORES = {
    "vaura": Scored("systems/vaura/card.md", VAURA),
    "strike_vision": Scored("models/video_encoders/strike_card.md"),
    "egosonics": Scored(
        "systems/egosonics/card.md",
        (
            "systems:scores",
            "systems:wide",
            "expected_hits:sensitivity",
            "ablations:ablations",
            "ablations:retrained",
        ),
    ),
    "egosonics_base": Scored("systems/egosonics/base_card.md"),
    "action2sound": Scored(
        "systems/action2sound/card.md",
        (
            "systems:scores",
            "systems:wide",
            "expected_hits:sensitivity",
            "ablations:ablations",
            "ablations:retrained",
            "ambience:ambience",
        ),
    ),
    "vta_ldm": Scored(
        "systems/vta_ldm/card.md",
        (
            "systems:scores",
            "systems:wide",
            "expected_hits:sensitivity",
            "ablations:ablations",
            "ablations:retrained",
            "prompts:prompts",
        ),
    ),
    "retrieval": Scored("systems/retrieval/card.md", ("systems:scores", "retrieval:pool")),
    "av_sim": Scored("systems/retrieval/av_sim_card.md", ("retrieval:encoders",)),
    "av_sync": Scored("metrics/av_sync/card.md", ("learned:av_sync", "synchrony:synchrony")),
    "vaas": Scored("metrics/vaas/card.md", ("learned:vaas",)),
    "summary": Scored("metrics/summarization/card.md", ("summarization:summary",)),
    "material": Scored("metrics/material/card.md", ("learned:material",)),
    "ambience": Scored("metrics/ambience/card.md", ("learned:ambience",)),
    "codec": Scored("training/recipes/codec_card.md", ("codec:codec",)),
    "vocoder": Scored("training/recipes/vocoder_card.md", ("vocoder:vocoder",)),
}
"""By the name of the shipped weights. Those without parts are scored within the system that they belong to."""
NAMES = tuple(name for name, scored in SCORES.items() if scored.parts)
OF_FOLDERS = ("real", "physics")
"""What scores several systems with a folder: files of this folder, with a function of that name and ``SYSTEMS``."""
OF_SYSTEMS = (*OF_FOLDERS, "saliency")
"""What scores several systems, with a folder or without one."""


def score(
    name: str | None,
    folder: str | Path | None = None,
    *,
    weights: str | Path | None = None,
    clips: int | None = None,
    run: str | Path | None = None,
    keep: bool = False,
    systems: str | None = None,
    part: str | None = None,
    samples: int | None = None,
    json: str | Path | None = None,
    say: Callable[[str], None] = print,
) -> Results:
    """Measure all that is measured of some weights, and write ``results.json`` and the card beside them.

    Args:
        name: out of :data:`NAMES`, or of :data:`OF_SYSTEMS`, which write nothing beside weights: ``"real"`` is all
            systems on real clips, ``"physics"`` those that generate on counterfactual pairs, ``"saliency"`` maps of
            where those looked, judged.
        folder: of the real clips, or the one in which the sounds of pairs are kept, or the numbers of ``"saliency"`` of
            single clips: a run that was stopped goes on where it was.
        weights: a folder with other weights of that kind; left out, the shipped ones. Of
            :data:`OF_SYSTEMS`, such folders by the names of systems: ``"vaura=DIR,egosonics=DIR"``.
        clips: at most so many in each part, or pairs of each factor, for a look: then nothing is written beside the
            weights.
        run: folder of a run whose ablations are measured as well.
        keep: put the numbers of :data:`OF_SYSTEMS` into the ``results.json`` beside the systems' weights.
        systems: of :data:`OF_SYSTEMS`, names divided by commas; left out, those that ``weights`` names, or
            all whose weights are shipped.
        part: only this part, such as ``"ablations"``; the tables of the others stay as they are. ``"ablations"`` with a
            run has both its tables, ``"retrained"`` the run's alone.
        samples: sounds that are generated for each clip of an ablation; left out, as published.
        json: the results are also written to this file.
        say: receives each table as it is there, and one line before each part.

    Raises:
        UsageError: an unknown name, options that do not go together, no clips, or a run without ablations.
        WeightsError: there are no such weights.
        MediaError: a real clip that cannot be read, or ``json`` is a file with something else.
    """
    if name not in (*NAMES, *OF_SYSTEMS):
        *there, last = *NAMES, *OF_SYSTEMS
        raise UsageError(f"nothing is known of how to score {name!r}; there are {', '.join(there)} and {last}")
    if (name in OF_FOLDERS) != (folder is not None) and name != "saliency":
        raise UsageError(
            "real needs a folder of clips, and physics one for its sounds; saliency may have one; other names take none"
        )
    if keep and name not in OF_SYSTEMS:
        raise UsageError("--keep belongs to real, physics and saliency; other scores are kept unless --clips is given")
    if name == "real" and any(option is not None for option in (clips, run)):
        raise UsageError("real takes neither --clips nor --run")
    if name in ("physics", "saliency") and (run is not None or (keep and clips is not None)):
        raise UsageError(f"{name} takes no --run, and --clips is for a look without --keep")
    if systems is not None and name not in OF_SYSTEMS:
        raise UsageError("--systems belongs to real, physics and saliency; elsewhere the name says what is scored")
    if clips is not None and clips < 2:
        raise UsageError(f"--clips {clips}: intervals need at least 2 clips")
    if name not in OF_SYSTEMS and part is not None:
        known = [each.partition(":")[2] for each in SCORES[name].parts]
        if part not in known:
            raise UsageError(f"{name} has no part {part!r} to score; there is {', '.join(known)}")
    if name in OF_SYSTEMS and (part is not None or samples is not None):
        raise UsageError("real, physics and saliency take neither --part nor --samples")
    if part == "retrained" and run is None:
        raise UsageError("--part retrained measures what a run trained anew: name it with --run")
    if samples is not None and samples < 1:
        raise UsageError(f"--samples {samples}: at least one sound a clip is needed")
    if json is not None:
        keep_others(json, is_json_with("name", "tables"))
    job = Job(name, str(weights or name), clips, None if run is None else Path(run), samples, say)
    if name not in OF_SYSTEMS:
        results = _score_weights(job, weights is None, part)
    else:
        results = _score_systems(job, folder, systems, None if weights is None else str(weights), keep)
    if json is not None:
        write_text(json, results.dumps())
    return results


def _score_weights(job: Job, shipped: bool, only: str | None = None) -> Results:
    folder = find_weights(job.weights)
    before = Results.read(folder) if (folder / FILE).exists() else Results(job.name, "", ())
    scored = digest_of(folder) if job.clips is None else f"a look at {job.clips} clips"  # never taken for a score
    if only is not None and job.clips is None and before.tables and before.weights != scored:
        raise UsageError(f"{folder}: the other parts were measured on other weights; score all, without --part")
    tables: list[Table] = []
    for part in SCORES[job.name].parts:
        file, function = part.split(":")
        with_run = only == "ablations" and function == "retrained"  # which has nothing to do without one
        if only not in (None, function) and not with_run:
            continue
        for table in getattr(import_module(f"v2a_nb.scores.{file}"), function)(job):
            job.say(str(table))
            tables.append(table)
    if only is not None:
        names = {table.name for table in tables}
        results = replace(before, weights=scored, tables=(*(t for t in before.tables if t.name not in names), *tables))
    else:
        results = replace(before, weights=scored).updated(tables)
    if job.clips is None:
        results.write(folder)
        if shipped:
            render()
        else:
            write_card(folder, PACKAGE / SCORES[job.name].template)
    return results


def _score_systems(
    job: Job, folder: str | Path | None, systems: str | None, weights: str | None, keep: bool
) -> Results:
    part = import_module(f"v2a_nb.scores.{job.name}")
    pairs = [pair.partition("=") for pair in (weights or "").split(",") if pair]
    others = {name: where for name, _, where in pairs}
    ready = [name for name in part.SYSTEMS if name in with_weights()]
    names = [name.strip() for name in (systems or ",".join(others or ready)).split(",")]
    for name in dict.fromkeys([*names, *others]):
        if name not in part.SYSTEMS:
            raise UsageError(f"no system {name!r} for {job.name}; there is {', '.join(part.SYSTEMS)}")
        if name not in names or not others.get(name, "shipped"):
            raise UsageError(f"--weights {weights}: NAME=DIR is needed, for names out of --systems")
    found = []
    for name, tables in getattr(part, job.name)(job, folder, names, others):
        for table in tables:
            job.say(f"{name}: {table}")
        if keep:
            place = find_weights(others[name]) if name in others else SHIPPED / name
            before = Results.read(place) if (place / FILE).exists() else Results(name, digest_of(place), ())
            kept = tuple(table for table in before.tables if table.source != tables[0].source)
            replace(before, tables=(*kept, *tables)).write(place)
            if name in others:
                write_card(place, PACKAGE / SCORES[name].template)
        found += [replace(table, name=f"{name}_{table.name}") for table in tables]
    if keep:
        render()
    return Results(job.name, "", tuple(found))


def rendered(root: Path = PACKAGE.parent) -> dict[Path, str]:
    """The model cards of all shipped weights, and README and ``docs/`` of a checkout, as they should be now.

    Args:
        root: of the checkout; where it has no README, only cards are rendered.
    """
    texts, fields = {}, {}
    for name, scored in SCORES.items():
        texts[SHIPPED / name / CARD] = render_card(SHIPPED / name, PACKAGE / scored.template)
        fields[name] = Fields(SHIPPED / name)
    fields["overview"] = overview()
    fields["real_video"] = real_results.tables(SYSTEMS)
    fields["protocols"] = protocols.document()
    fields["physics"] = physics_tables()
    fields["saliency"] = saliency_results.tables(SYSTEMS)
    fields["study"] = study_results.tables()
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


SYSTEMS = {
    "vaura": "[V-AURA](https://arxiv.org/abs/2409.13689)",
    "egosonics": "[EgoSonics](https://arxiv.org/abs/2407.20592)",
    "action2sound": "[Action2Sound](https://arxiv.org/abs/2406.09272)",
    "vta_ldm": "[VTA-LDM](https://arxiv.org/abs/2407.07464)",
    "retrieval": "retrieval, their baseline",
}
CONTROLS = {"ground truth": "the true sounds", "shuffled video": "V-AURA's sounds of other videos"}
COLUMNS = {
    "onset_f1_50ms": "onset F1 within 50 ms",
    "material_accuracy": "right material",
    "near_miss_silent": "silent at near misses",
    "cpu_s_per_s": "seconds for a second",
}


def physics_tables() -> str:
    """The tables of all systems that were scored on counterfactual pairs, each below its name."""
    results = {name: Results.read(SHIPPED / name) for name in SYSTEMS if (SHIPPED / name / FILE).exists()}
    found = {name: some["physics"] for name, some in results.items() if "physics" in some}
    texts = [
        f"{SYSTEMS[name]}, {table.about['pairs']} pairs a factor of seed {table.about['seed']}:\n\n{markdown(table)}"
        for name, table in found.items()
    ]
    return "\n\n".join(texts) or NOT_YET


def overview() -> str:
    """The README's table: all systems, and the controls of the first one, by the metrics that say most."""
    results = {name: Results.read(SHIPPED / name) for name in SYSTEMS if (SHIPPED / name / FILE).exists()}
    found = {name: some["scores"] for name, some in results.items() if "scores" in some}
    lines = [(table, table.subjects[0], SYSTEMS[name]) for name, table in found.items()]
    lines += [(table, subject, title) for table in [*found.values()][:1] for subject, title in CONTROLS.items()]
    rows = [
        replace(row, subject=title)
        for metric in COLUMNS
        for table, subject, title in lines
        for row in table.rows
        if row.subject == subject and row.metric == metric
    ]
    if not rows:
        return NOT_YET
    text = markdown(Table("overview", "v2a-nb score", tuple(rows), down="subject", controls=tuple(CONTROLS.values())))
    for metric, words in COLUMNS.items():
        text = text.replace(f"`{metric}`", words)
    return text
