"""Recipes by name: what ``v2a-nb train`` runs. A new recipe is one line here."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from v2a_nb.errors import UsageError, check_types

if TYPE_CHECKING:
    from v2a_nb.training.recipe import Recipe, TrainConfig

RECIPES = {
    "vaura": ("v2a_nb.systems.vaura.train:VAuraRecipe", "V-AURA with its codec and its video encoder"),
    "egosonics": ("v2a_nb.systems.egosonics.train:EgoSonicsRecipe", "EgoSonics with its autoencoder and its base"),
    "action2sound": ("v2a_nb.systems.action2sound.train:Action2SoundRecipe", "Action2Sound with its autoencoder"),
    "segment_avclip": ("v2a_nb.training.recipes.segment_avclip:SegmentAvclipRecipe", "the video encoder of V-AURA"),
    "vta_ldm": ("v2a_nb.systems.vta_ldm.train:VtaLdmRecipe", "VTA-LDM on Action2Sound's autoencoder and vocoder"),
    "vocoder": ("v2a_nb.training.recipes.vocoder:VocoderRecipe", "the vocoder of Action2Sound"),
    "av_sim": ("v2a_nb.systems.retrieval.train:RetrievalRecipe", "audio-visual embedding, with the pool of retrieval"),
    "av_sync": ("v2a_nb.metrics.av_sync.train:AvSyncRecipe", "classifier of AV-Sync"),
    "vaas": ("v2a_nb.metrics.vaas.train:VaasRecipe", "classifier of the video-audio alignment score"),
    "summary": ("v2a_nb.metrics.summarization.train:SummaryRecipe", "video summarization"),
    "material": ("v2a_nb.metrics.material.train:MaterialRecipe", "classifier of what was struck"),
    "ambience": ("v2a_nb.metrics.ambience.train:AmbienceRecipe", "classifier of a room's ambience"),
}
"""By name: the class, as ``module:class``, and what it trains."""
LARGER = {
    "vaura": {
        "small": "v2a_nb.systems.vaura.train_large:VAuraSmallRecipe",
        "paper": "v2a_nb.systems.vaura.train_large:VAuraPaperRecipe",
    },
    "segment_avclip": {"paper": "v2a_nb.training.recipes.segment_avclip:SegmentAvclipPaperRecipe"},
}
"""By name and preset: the classes of the recipes that train other sizes than ``tiny``."""


def recipe_class(name: str, preset: str = "tiny") -> type[Recipe]:
    """The class of a recipe; only its own file is imported.

    Raises:
        UsageError: there is no such recipe.
    """
    if name not in RECIPES:
        raise UsageError(f"no recipe for {name!r}; there are {', '.join(RECIPES)}")
    presets = {"tiny": RECIPES[name][0], **LARGER.get(name, {})}
    if preset not in presets:
        raise UsageError(f"there is no recipe for preset {preset!r} of {name} yet; there is {', '.join(presets)}")
    module, _, kind = presets[preset].partition(":")
    return getattr(import_module(module), kind)


@check_types
def train(
    name: str,
    *,
    preset: str = "tiny",
    data: str | Path | None = None,
    steps: int | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    ablation: str | None = None,
    cache: str | Path | None = None,
    dry_run: bool = False,
    **settings: object,
) -> Path:
    """Train a system, or a network that systems or metrics need, from nothing; returns the folder of weights.

    Args:
        name: out of :data:`RECIPES`.
        preset: ``"tiny"``, or a size of :data:`LARGER`.
        data: recordings to learn from, such as ``"folder:my_videos"``, see :mod:`v2a_nb.data.sources`; left out, the
            Strike World that the shipped weights learned from. With ``resume`` or ``ablation``, what is left out here,
            of ``seed`` and of the settings is as in the run that ``out`` holds.
        steps: of the last stage; the other stages and the number of clips shrink in proportion. With ``resume``, more
            than the run has lengthen its last stage, see :func:`~v2a_nb.training.recipe.run_recipe`; left out, as many
            as it has.
        seed: of initialisation and batches; left out, 0.
        out: folder, see :mod:`v2a_nb.training.recipe`; left out, ``runs/NAME``.
        resume: go on with what ``out`` holds.
        ablation: train only the last stage anew, with this difference.
        cache: folder for what is computed of the clips, which runs may share; left out, ``out/features``.
        dry_run: only print what would be done, and what memory it needs; nothing is read or written.
        settings: fields of the recipe's ``TrainConfig``.

    Raises:
        UsageError: an unknown name, preset, ablation, setting or source, fewer steps than one, or recordings that lack
            what the recipe needs.
        V2AError: ``out`` holds a run and ``resume`` is not set, or a run that was started otherwise.
    """
    from v2a_nb.training.recipe import run_recipe, steps_of_run

    kind = recipe_class(name, preset)
    if steps is not None and steps < 1:
        raise UsageError(f"--steps {steps}: at least one step is needed")
    out = Path(out or f"runs/{name}")
    config = kind.TrainConfig()
    before = steps_of_run(out / "run.json") if resume or ablation else None
    first, last = before or (steps, steps)  # the other stages and the clips are those that the run was started with
    if first is not None:
        config = replace(config.scaled(first / config.steps), steps=last if steps is None else steps)
    if before is not None:
        run = json.loads((out / "run.json").read_text())
        plain = {f.name for f in fields(kind.TrainConfig) if isinstance(f.default, bool | int | float | str)}
        kept = {name: value for name, value in run["config"].items() if name in plain - {"steps"}}
        config = replace(config, **checked_settings(kind.TrainConfig, kept))
        data = run.get("source") if data is None else data
        seed = run.get("seed") if seed is None else seed
    config = replace(config, **checked_settings(kind.TrainConfig, settings))
    recipe = kind(config, seed=seed or 0, ablation=ablation)
    if dry_run:
        for line in recipe.dry_run():
            print(line)
        return out
    return run_recipe(recipe, out, source=data, resume=resume, cache=cache)


def checked_settings(kind: type[TrainConfig], settings: dict[str, object]) -> dict[str, object]:
    """Settings as the fields want them; texts come from the command line, and for a field of text they stay texts.

    Raises:
        UsageError: there is no such field, or the value is of another type.
    """
    known, checked = {f.name: f.default for f in fields(kind)}, {}
    for name, value in settings.items():
        if name not in known:
            raise UsageError(f"no setting {name!r}; there are {', '.join(known)}")
        if isinstance(value, str) and not isinstance(known[name], str):
            try:
                value = json.loads(value)
            except ValueError as error:
                raise UsageError(f"{name}={value}: a number, true or false is needed") from error
        if type(value) is int and isinstance(known[name], float):
            value = float(value)
        if type(value) is not type(known[name]):
            raise UsageError(f"{name}={value}: {type(known[name]).__name__} is needed")
        checked[name] = value
    return checked
