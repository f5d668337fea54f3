"""VTA-LDM's study (sections 5.3 to 5.5): encoder × auxiliary embedding × augmentation, trained and scored alike.

    v2a-nb study table3 --out studies/aux
    v2a-nb study encoder=strike,cavp auxiliary=vision,vision+flow --out studies/mine --steps 1000

All three tables, small enough for three quarters of an hour of one core (joined clips are scored for ``table4`` alone,
which is why it comes last):

    v2a-nb study table2 table3 --out studies/all --steps 300 --clips 40 --set batch_size=8 --set recordings=120
    v2a-nb study table4 --out studies/all --steps 300 --clips 40 --set batch_size=8 --set recordings=120 --keep

Every cell of the grid is a run of the recipe (:mod:`v2a_nb.systems.vta_ldm.train`) with the same seed, steps and clips.
What is computed of the clips is shared; what was done is not done again. Each is scored on the same clips of a world on
which nothing is trained, from the same noise. Cells that read a text get the clips' narrations, as the paper's do.

| in ``--out`` | what |
|---|---|
| ``features/`` | of the clips, shared by all cells |
| ``cells/NAME/`` | a run; ``weights/``, and ``scores.json`` once it is scored |
| ``results.json``, ``tables.md`` | the numbers of all cells, and the paper's tables 2 to 4 of them |

The columns are the paper's but for PAM and CLAP, which need networks that are downloaded (``--metrics`` adds them), and
three that only a world with truth can have. FAD, IS, FD and KL hear with our own extractor, ``cavp`` is AV-Sim in the
place of CAVP: rows can be compared with each other, and not with the paper's numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

from v2a_nb.data.augmentation import joined_world
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.files import write_text
from v2a_nb.hub import shipped
from v2a_nb.metrics.evaluate import evaluate
from v2a_nb.models.optical_flow import need_opencv
from v2a_nb.scores.study_results import STUDIED
from v2a_nb.scores.study_results import keep as keep_results
from v2a_nb.scores.study_results import page as page_of
from v2a_nb.systems.vta_ldm.model import PRESETS, VtaLdmConfig
from v2a_nb.systems.vta_ldm.train import VtaLdmRecipe, VtaLdmTrainConfig
from v2a_nb.training.recipe import check_same_run, run_recipe
from v2a_nb.training.registry import checked_settings
from v2a_nb.training.results import RUN, Results, Row, Table, digest_of, package_version
from v2a_nb.world import WorldClip, strike_world

SEED, CLIPS, SECONDS, SIZE = 10500, 100, 3.0, 112
"""The clips that all cells are scored on."""
METRICS = (
    "fad", "is", "fd", "kl", "cavp", "av_align", "onset_f1_50ms", "material_accuracy", "near_miss_silent",
)  # fmt: skip
JOINED_METRICS = ("onset_f1_50ms", "material_accuracy")
"""Columns of the clips that are joined from two scenes, on which every cell is scored where one has ``concat``."""

AUXILIARY: dict[str, dict[str, object]] = {
    "text": {"text": True}, "vision": {"vision": True}, "pe": {"position": True}, "flow": {"flow": "color"},
    "motion": {"flow": "vectors"},
}  # fmt: skip
"""Words of the axis ``auxiliary``, to be joined by ``+``: what each puts into the model."""
AUGMENTATION: dict[str, dict[str, object]] = {
    "none": {}, "filtered": {"aligned": 0.5}, "concat": {"joined": 0.5}, "pretrain-video": {"pretrain": "video"},
    "pretrain-audio": {"pretrain": "audio"},
}  # fmt: skip
"""Words of the axis ``augmentation``, to be joined by ``+``: what each changes in the training."""
AXES = ("encoder", "auxiliary", "augmentation")
BASE = {"encoder": "strike", "auxiliary": "vision", "augmentation": "none"}
"""What an axis is where nothing is said of it: the paper's VTA-LDM."""
TABLES = {
    "table2": {"encoder": ("strike", "strike_wide", "cavp")},
    "table3": {
        "auxiliary": ("text", "vision", "vision+text", "vision+pe", "vision+text+pe", "vision+flow", "vision+motion")
    },
    "table4": {"augmentation": ("none", "filtered", "concat", "pretrain-video", "pretrain-audio")},
}  # fmt: skip
"""The paper's tables, each by the axis that runs down it. Of table 2 only the encoders that are shipped: the others are
downloaded where they are named (``encoder=strike,clip``)."""


@dataclass(frozen=True)
class Cell:
    """A row of the study.

    Attributes:
        encoder: as the registry of video encoders knows it, a folder or a Hub id.
        auxiliary, augmentation: words of :data:`AUXILIARY` and of :data:`AUGMENTATION`, joined by ``+``.

    Examples:
        >>> Cell("strike", "text+vision", "none").auxiliary, Cell("strike", "vision", "concat").name
        ('vision+text', 'strike_vision_concat')
    """

    encoder: str
    auxiliary: str
    augmentation: str

    def __post_init__(self) -> None:
        for axis, known in (("auxiliary", AUXILIARY), ("augmentation", AUGMENTATION)):
            words = getattr(self, axis).split("+")
            if unknown := [word for word in words if word not in known]:
                raise UsageError(f"{axis} {unknown[0]!r} is not known; there are {', '.join(known)}, joined by +")
            order = [word for word in ("vision", *known) if word in words]
            object.__setattr__(self, axis, "+".join(dict.fromkeys(order)))
        if {"flow", "motion"} <= set(self.auxiliary.split("+")):
            raise UsageError(f"{self.auxiliary}: flow and motion are the same flow in two forms; give one of them")

    @property
    def name(self) -> str:
        """The name of its folder."""
        words = (Path(self.encoder).name if "/" in self.encoder else self.encoder, self.auxiliary, self.augmentation)
        return "_".join(re.sub(r"[^\w+.-]", "-", word) for word in words)

    @property
    def model(self) -> dict[str, object]:
        """What differs in the model from ``tiny``."""
        changes: dict[str, object] = {"vision": False, "text": False}
        for word in self.auxiliary.split("+"):
            changes |= AUXILIARY[word]
        timed = changes["vision"] or "flow" in changes
        return changes if timed else {**changes, "time_bias": False, "row_values": 0}

    @property
    def training(self) -> dict[str, object]:
        """What differs in the training."""
        changes: dict[str, object] = {"encoder": self.encoder}
        for word in self.augmentation.split("+"):
            changes |= AUGMENTATION[word]
        return changes

    @property
    def words(self) -> dict[str, str]:
        """In each axis, what a row of a table is called."""
        parts = [{"pe": "PE", "flow": "optical flow", "motion": "motion vectors"}.get(w, w) for w in self._auxiliary]
        auxiliary = parts[0].capitalize() + ("-only" if len(parts) == 1 else "".join(f" + {w}" for w in parts[1:]))
        return {"encoder": self.encoder, "auxiliary": auxiliary, "augmentation": self.augmentation}

    @property
    def _auxiliary(self) -> list[str]:
        return self.auxiliary.split("+")


def cells_of(grid: Sequence[str]) -> list[Cell]:
    """The cells that words of a command name, each once, the base first.

    Args:
        grid: names of :data:`TABLES`; and ``axis=a,b`` for any of :data:`AXES`, whose product is taken.

    Raises:
        UsageError: an unknown word.

    Examples:
        >>> [cell.name for cell in cells_of(["auxiliary=vision,vision+flow"])]
        ['strike_vision_none', 'strike_vision+flow_none']
        >>> len(cells_of(["table2", "table4"])), len(cells_of(["encoder=strike,cavp", "augmentation=none,concat"]))
        (7, 4)
    """
    axes, cells = {}, [Cell(**BASE)]
    for word in grid:
        axis, equals, values = word.partition("=")
        if word in TABLES:
            cells += _product(TABLES[word])
        elif equals and axis in AXES and all(values.split(",")):
            axes[axis] = tuple(values.split(","))
        else:
            raise UsageError(f"{word!r} is neither of {', '.join(TABLES)} nor AXIS=A,B with one of {', '.join(AXES)}")
    cells += _product(axes) if axes else []
    return list(dict.fromkeys(cells))


def _product(axes: dict[str, tuple[str, ...]]) -> list[Cell]:
    values = [axes.get(axis, (BASE[axis],)) for axis in AXES]
    return [Cell(*each) for each in product(*values)]


def study(
    grid: Sequence[str],
    out: str | Path,
    *,
    data: str | Path | None = None,
    steps: int | None = None,
    seed: int = 0,
    clips: int = CLIPS,
    metrics: Sequence[str] = METRICS,
    sizes: VtaLdmConfig = PRESETS["tiny"],
    keep: bool = False,
    say: Callable[[str], None] = print,
    **settings: object,
) -> Results:
    """Train and score every cell of a grid, and write the tables; what ``out`` holds already is not done again.

    Args:
        grid: see :func:`cells_of`. Further calls may name further cells.
        out: folder.
        data: recordings, as ``v2a-nb train --data`` names them.
        steps: of each cell; the clips shrink in proportion. Left out, the recipe's.
        seed: of all trainings.
        clips: that each cell is scored on.
        metrics: columns.
        sizes: of the model.
        keep: put the tables into the ``results.json`` beside the shipped weights, in place of an earlier study's.
        say: receives one line for each thing that is done, and the tables.
        settings: fields of :class:`~v2a_nb.systems.vta_ldm.train.VtaLdmTrainConfig`, for all cells, also as texts.

    Raises:
        UsageError: an unknown word, too few clips, or a cell that cannot be trained.
        WeightsError: ``keep`` without shipped weights.
        V2AError: ``out`` holds a study with other settings.
    """
    if keep and STUDIED not in shipped():
        raise WeightsError(f"--keep: there are no shipped weights of {STUDIED} beside which results could be kept")
    if clips < 2:
        raise UsageError(f"{clips} clips: intervals need at least 2")
    out, cells = Path(out), cells_of(grid)
    settings = checked_settings(VtaLdmTrainConfig, settings)
    config = VtaLdmTrainConfig()
    config = replace(config if steps is None else config.scaled(steps / config.steps), **settings)
    config = config if steps is None else replace(config, steps=steps)
    names = [cell.name for cell in cells]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"two cells would be called {twice[0]}: encoders need folders of different names")
    for cell in cells:  # before work begins
        replace(sizes, **cell.model), replace(config, **cell.training)
    if "av_align" in metrics or any("flow" in cell.model or "filtered" in cell.augmentation for cell in cells):
        need_opencv()
    told = {"steps": config.steps, "seed": seed, "data": str(data), "settings": asdict(config), "clips": clips}
    check_same_run(out / "study.json", {**told, "metrics": list(metrics), "sizes": asdict(sizes)})
    for number, cell in enumerate(cells, 1):
        say(f"{number} of {len(cells)}: {cell.name}")
        recipe = VtaLdmRecipe(replace(config, **cell.training), seed=seed, model=replace(sizes, **cell.model))
        folder = out / "cells" / cell.name
        weights = folder / "weights"
        if (weights / "config.json").exists():
            if _encoder_of(weights) != cell.encoder:
                raise UsageError(
                    f"{folder} is of the encoder {_encoder_of(weights)}, not of {cell.encoder}: give another --out"
                )
        else:
            run_recipe(recipe, folder, source=data, resume=True, cache=out / "features", say=say)
        _score(weights, folder / "scores.json", clips, metrics)
    joined = any("concat" in cell.augmentation for cell in _there(out, []))
    for cell in cells if joined else []:
        folder = out / "cells" / cell.name
        _score(folder / "weights", folder / "joined.json", clips, JOINED_METRICS, joined=True)
    results = _results(out, _there(out, cells), {"clips": clips, "seed": SEED, "steps": config.steps})
    results.write(out)
    page = page_of(results)
    write_text(out / "tables.md", page)
    say(page)
    if keep:
        keep_results(results)
    return Results.read(out)


def _there(out: Path, first: Sequence[Cell]) -> list[Cell]:
    """The cells that ``out`` has scores of, those of ``first`` in their order, then others of earlier calls."""
    found = []
    for path in sorted((out / "cells").glob("*/scores.json")):
        found.append(Cell(**json.loads(path.read_text())["cell"]))
    return [*[cell for cell in first if cell in found], *[cell for cell in found if cell not in first]]


def _score(weights: Path, path: Path, clips: int, metrics: Sequence[str], joined: bool = False) -> None:
    """Write the scores of a cell, if they are not there, or are those of other weights."""
    from v2a_nb.systems.registry import load

    digest = digest_of(weights)
    if path.exists() and json.loads(path.read_text())["weights"] == digest:
        return
    how = {"seconds": SECONDS, "size": SIZE}
    world: Iterable[WorldClip] = (joined_world if joined else strike_world)(SEED, clips, **how)
    items, system = list(world), load(weights)
    prompts = {"prompt": [item.narration for item in items]} if system.config.text else {}  # type: ignore[attr-defined]
    report = evaluate(items, system, metrics=list(metrics), seed=0, controls=False, **prompts)
    rows = [asdict(Row.of("", metric)) for metric in report.metrics]
    cell = {"encoder": _encoder_of(weights), **_axes_of(weights.parent.name)}
    write_text(path, json.dumps({"weights": digest, "cell": cell, "rows": rows}, indent=1) + "\n")


def _axes_of(name: str) -> dict[str, str]:
    """Auxiliary and augmentation of a cell by its folder's name."""
    _, auxiliary, augmentation = name.rsplit("_", 2)
    return {"auxiliary": auxiliary, "augmentation": augmentation}


def _encoder_of(weights: Path) -> str:
    return json.loads((weights / "config.json").read_text())["train_config"]["encoder"]


def _results(out: Path, cells: Sequence[Cell], about: dict[str, float | str]) -> Results:
    """The paper's tables of the cells that differ from the base in one axis, and one of all cells."""
    tables = []
    how = {"version": package_version(), "source": RUN, "down": "subject", "about": about}
    for (name, axes), number in zip(TABLES.items(), (2, 3, 4), strict=True):
        (axis,) = axes
        others = [other for other in AXES if other != axis]
        mine = [cell for cell in cells if all(getattr(cell, other) == BASE[other] for other in others)]
        rows = [row for cell in mine for row in _rows(out, cell, cell.words[axis])]
        if len(mine) > 1:
            tables.append(Table(name, f"v2a-nb study table{number}", tuple(rows), **how))
    every = [row for cell in cells for row in _rows(out, cell, cell.name)]
    tables.append(Table("grid", "v2a-nb study", tuple(every), **how))
    joined = [row for cell in cells for row in _rows(out, cell, cell.name, "joined.json")]
    if joined:
        tables.append(Table("joined", "v2a-nb study", tuple(joined), **how))
    return Results("study", "", tuple(tables))


def _rows(out: Path, cell: Cell, subject: str, file: str = "scores.json") -> list[Row]:
    path = out / "cells" / cell.name / file
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    return [replace(Row(**row), subject=subject) for row in rows]
