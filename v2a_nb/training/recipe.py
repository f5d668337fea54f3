"""What a recipe is, and how any of them runs.

A recipe says how much of everything it uses (:class:`TrainConfig`), which features it reads of the recordings, and in
which stages its networks are trained. Everything else is here, once: the folder of a run, resuming, checking that a
resumed run is the same run, saving.

    v2a-nb train vaura --data folder:my_videos --out runs/mine

| in ``--out`` | what |
|---|---|
| ``run.json`` | what the run was started with |
| ``features/`` | what was computed of the clips, once (:mod:`v2a_nb.data.features`); ``--cache`` puts it elsewhere |
| ``STAGE/`` | log and state of each stage before the last |
| ``log.jsonl``, ``state/``, ``samples/`` | of the last stage |
| ``weights/`` | what ``--weights`` loads |
"""

from __future__ import annotations

import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from v2a_nb.data.features import FeatureStore
from v2a_nb.data.recordings import Recordings
from v2a_nb.data.sources import open_recordings
from v2a_nb.errors import UsageError, V2AError
from v2a_nb.files import write_text
from v2a_nb.parallel import training_processes
from v2a_nb.training.cards import write_card
from v2a_nb.training.loop import BatchOf, EvalFn, OptimConfig, fit

LONGER = "goes_on_to"
"""In ``run.json``: the steps that a run was resumed with, where they are more than it was started with."""


def scaling(default: int, least: int = 4) -> Any:
    """A field of a :class:`TrainConfig` that shrinks with the run, to ``least`` and no further."""
    return field(default=default, metadata={"least": least})


def or_zero(default: int) -> Any:
    """A whole number of a :class:`TrainConfig` that may also be 0, where others are at least 1."""
    return field(default=default, metadata={"zero": True})


@dataclass(frozen=True)
class TrainConfig:
    """How much of everything a recipe uses; the defaults made the shipped weights.

    Attributes:
        steps: of the last stage.
        accumulation: batches of a step, in every stage; each process has as many.
        ema_decay: of a moving average of the weights, in every stage; 0: none.

    Raises:
        UsageError: a whole number under 1, or a decay that is none.
    """

    steps: int = scaling(1000)
    accumulation: int = 1
    ema_decay: float = 0.0

    def __post_init__(self) -> None:
        for f in fields(self):
            few = 0 if f.metadata.get("zero") else 1
            if type(f.default) is int and getattr(self, f.name) < few:
                raise UsageError(f"{f.name} is {getattr(self, f.name)}: at least {few} is needed")
        if not 0 <= self.ema_decay < 1:
            raise UsageError(f"ema_decay is {self.ema_decay}: from 0 to under 1")

    def scaled(self, share: float) -> TrainConfig:
        """The same proportions with ``share`` of all steps and clips, for tests, notebooks and ``--steps``."""
        least = {f.name: f.metadata["least"] for f in fields(self) if "least" in f.metadata}
        return replace(self, **{name: max(n, int(getattr(self, name) * share + 1e-6)) for name, n in least.items()})


@dataclass(frozen=True)
class Stage:
    """One training of one module.

    Attributes:
        name: of its folder below the run's; empty for the last stage, whose log and state are the run's own.
        module: ``module(batch)`` returns ``{"loss": scalar, ...}``.
        batch_of, optim, eval_fn, eval_every, patience: see :func:`~v2a_nb.training.loop.fit`.
    """

    name: str
    module: nn.Module
    batch_of: BatchOf
    optim: OptimConfig
    eval_fn: EvalFn | None = None
    eval_every: int = 0
    patience: int = 0


Stages = Generator[Stage, nn.Module, Any]
"""Yields stages; each ``yield`` gives the trained module back. Returns the finished model."""


class Recipe(ABC):
    """The base of the recipes.

    Args:
        config: how much of everything; left out, what made the shipped weights.
        seed: of initialisation, batches, timesteps and noise.
        ablation: one of :attr:`ablations`: only the last stage is trained anew, under ``ablations/NAME``.

    Attributes:
        name: as ``v2a-nb train`` knows it.
        preset: of what is trained.
        TrainConfig: the class of ``config``.
        source: the recordings that are used when none are named.
        ablations: by name, what differs.
        template: of the model card, a file beside the recipe's; None: there is no card.
    """

    name: ClassVar[str]
    preset: ClassVar[str] = "tiny"
    TrainConfig: ClassVar[type[TrainConfig]]
    source: ClassVar[str] = "strike:seed=1000"
    ablations: ClassVar[dict[str, dict[str, object]]] = {}
    template: ClassVar[str | None] = "card.md"

    def __init__(self, config: TrainConfig | None = None, *, seed: int = 0, ablation: str | None = None) -> None:
        if ablation is not None and ablation not in self.ablations:
            known = ", ".join(self.ablations) or "none"
            raise UsageError(f"{self.name} has no ablation {ablation!r}; there are {known}")
        self.config, self.seed, self.ablation = config or self.TrainConfig(), seed, ablation

    def settings(self) -> dict[str, object]:
        """What else decides the result, ready for JSON: sizes of networks, tags of weights that are read."""
        return {}

    @abstractmethod
    def features(self, recordings: Recordings, store: FeatureStore) -> Any:
        """Compute what the stages read, on all cores, where it is not there yet.

        Raises:
            UsageError: the recordings lack what this recipe needs; the message names the option that does without.
        """

    @abstractmethod
    def stages(self, features: Any, store: FeatureStore, out: Path) -> Stages:
        """The stages one after the other; what a stage trained is the value of its ``yield``."""

    def dry_run(self) -> list[str]:
        """Lines that say what a run would do and need, without data and without training."""
        return [f"{name}: {value}" for name, value in asdict(self.config).items()]

    def card(self, model: Any) -> dict[str, object]:
        """What else ``config.json`` says of the finished model."""
        return {}

    def save(self, model: Any, out: Path, card: dict[str, object]) -> Path:
        """Write the finished model into the run's folder; returns the folder of weights."""
        return model.save_pretrained(self.folder(out) / "weights", **card)

    def folder(self, out: Path) -> Path:
        """The folder of the last stage."""
        return out if self.ablation is None else out / "ablations" / self.ablation


def run_recipe(
    recipe: Recipe,
    out: str | Path,
    *,
    source: str | Path | None = None,
    resume: bool = False,
    cache: str | Path | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Train everything from nothing; returns the folder of weights.

    Args:
        recipe: what is trained.
        out: folder, see the top of this file.
        source: recordings, see :mod:`v2a_nb.data.sources`; left out, the recipe's own.
        resume: go on with what ``out`` holds. With more steps than it was started with, its last stage is trained on
            up to them. That is what a run of so many steps from the beginning would have been but for the rates of the
            steps that were done: they followed a cosine that ended earlier, and the rate rises again to where the
            longer cosine is.
        cache: folder of the feature store, which runs may share; left out, ``out/features``.
        say: receives one line per stage.

    Raises:
        V2AError: ``out`` holds a run and ``resume`` is not set, or a run that was started otherwise or has more steps;
            or it holds files that are of no run.
        UsageError: the recordings lack what the recipe needs.
    """
    out, state = Path(out), training_processes()
    say = say if state.is_main_process else _silent
    source = recipe.source if source is None else source
    recordings = open_recordings(source, recipe.seed)
    init_run(out, recipe.folder(out), resume or recipe.ablation is not None)
    state.wait_for_everyone()
    settings = {
        "recipe": recipe.name, "seed": recipe.seed, "source": str(source), "config": asdict(recipe.config),
        **({} if recipe.preset == "tiny" else {"preset": recipe.preset}), **recipe.settings(),
    }  # fmt: skip
    begun = (out / "run.json").exists()
    state.wait_for_everyone()
    check_same_run(out / "run.json", settings, may_differ=("steps", LONGER))
    first, steps = steps_of_run(out / "run.json")
    if recipe.ablation is None and recipe.config.steps < steps:
        raise V2AError(f"{out} holds a run of {steps} steps; give as many or more, or another --out")
    state.wait_for_everyone()
    if recipe.ablation is None and recipe.config.steps > steps and state.is_main_process:
        before = {**settings, "config": {**asdict(recipe.config), "steps": first}}
        write_text(out / "run.json", json.dumps({**before, LONGER: recipe.config.steps}, indent=1) + "\n")
    state.wait_for_everyone()
    store = FeatureStore(cache or out / "features")
    say(f"features: {source}")
    try:
        features = recipe.features(recordings, store)
    except UsageError:
        if not begun:  # nothing was trained: the command may be given again with other settings
            (out / "run.json").unlink(missing_ok=True)
        raise
    stages = recipe.stages(features, store, out)
    trained = None
    while True:
        try:
            stage = stages.send(trained)
        except StopIteration as finished:
            model = finished.value
            break
        say(f"{stage.name or recipe.ablation or recipe.name}: {stage.optim.steps} steps")
        folder = out / stage.name if stage.name else recipe.folder(out)
        config = recipe.config
        optim = replace(stage.optim, accumulation=config.accumulation, ema_decay=config.ema_decay or None)
        trained = fit(
            stage.module, stage.batch_of, optim, folder, resume=True, eval_fn=stage.eval_fn,
            eval_every=stage.eval_every, patience=stage.patience,
        )  # fmt: skip
    weights = recipe.folder(out) / "weights"
    if state.is_main_process:
        card = {"preset": recipe.preset, "source": str(source), "steps": recipe.config.steps, "seed": recipe.seed}
        card |= {"train_config": asdict(recipe.config), "versions": versions(), **recipe.card(model)}
        if recipe.ablation is None and first < recipe.config.steps:
            card["started_with_steps"] = first
        if recipe.ablation:
            card["ablation"] = recipe.ablation
        weights = recipe.save(model, out, card)
        if recipe.template:
            write_card(weights, Path(inspect.getfile(type(recipe))).with_name(recipe.template))
    state.wait_for_everyone()
    return weights


def init_run(out: Path, folder: Path, resume: bool) -> None:
    """Refuse to start a run where one is, or where weights are that no run made.

    Args:
        out: of the run.
        folder: of its last stage.

    Raises:
        V2AError: there is a run and ``resume`` is not set, or files that a run would replace.
    """
    if (out / "run.json").exists():
        if not resume:
            raise V2AError(f"{out} holds a run already; give --resume, or another --out")
        return
    for name in ("log.jsonl", "plan.json", "state", "samples", "weights"):
        if (folder / name).exists():
            raise V2AError(f"{folder / name} is of no run (there is no run.json) and is kept; give another --out")


def check_same_run(path: Path, settings: dict[str, object], may_differ: Sequence[str] = ()) -> None:
    """Keep what a run was started with in ``path``; another run's results must not be taken for this one's.

    Args:
        settings: by name, ready for JSON.
        may_differ: names, at any depth, that are not compared.

    Raises:
        V2AError: the folder holds a run with other settings.
    """
    settings = json.loads(json.dumps(settings))
    if not path.exists():
        write_text(path, json.dumps(settings, indent=1) + "\n")
        return
    try:
        before = json.loads(path.read_text())
        if not isinstance(before, dict):
            raise ValueError("no JSON object")
    except ValueError as error:
        raise V2AError(f"{path} is damaged ({error}); remove it if the run in {path.parent} may go on") from error
    other = [k for k in _different(settings, before) if k.rpartition(".")[2] not in may_differ]
    if other:
        raise V2AError(
            f"{path.parent} holds a run with another {', '.join(other)}; give what it was started with, or another "
            "--out"
        )


def steps_of_run(path: Path) -> tuple[int, int] | None:
    """Steps of the last stage of a run: what it was started with, and what it goes on to; None without a run.

    Raises:
        V2AError: ``path``, the run's ``run.json``, is damaged.
    """
    try:
        run = json.loads(path.read_text())
        first = int(run["config"]["steps"])
        return first, int(run.get(LONGER, first))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise V2AError(
            f"{path} is damaged: it names no steps; remove it if the run in {path.parent} may go on"
        ) from error


def _different(now: dict, before: dict, prefix: str = "") -> list[str]:
    """The names whose values differ, such as ``config.batch_size``."""
    names = []
    for name in sorted(now.keys() | before.keys()):
        a, b = now.get(name), before.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            names += _different(a, b, f"{prefix}{name}.")
        elif a != b:
            names.append(prefix + name)
    return names


def versions() -> dict[str, str]:
    """Versions of what the numbers were computed with."""
    return {"torch": torch.__version__.split("+")[0], "numpy": np.__version__}


def rounded(value: object) -> object:
    """Numbers to four places, in dictionaries and lists as well."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return round(value, 4) if isinstance(value, float) else value


def _silent(line: str) -> None:
    """Only the main process speaks."""
