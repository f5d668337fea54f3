"""Recipes by name: what ``v2a-nb train`` runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from v2a_nb.errors import UsageError


def train(
    system: str,
    *,
    preset: str = "tiny",
    data: str | Path | None = None,
    steps: int | None = None,
    seed: int = 0,
    out: str | Path = "runs",
    resume: bool = False,
) -> Path:
    """Train a system, or a network that metrics need, from nothing; returns the folder of weights.

    Args:
        system: a name out of :data:`RECIPES`.
        preset: ``"tiny"``.
        data: folder in which what is rendered is kept between runs: the world, or the takes of ``vaas`` and
            ``summary``, which are the same for both; left out, a folder in ``out``.
        steps: of the last stage, such as V-AURA's decoder or SyncroNet; the other stages and what is rendered
            shrink in proportion.
        seed: of initialisation and batches.
        out: folder; its ``weights/`` is what ``--weights`` loads.
        resume: go on with what ``out`` holds.

    Raises:
        UsageError: an unknown name or preset, or fewer steps than one.
        V2AError: ``out`` holds a run and ``resume`` is not set.
    """
    if system not in RECIPES:
        raise UsageError(f"no recipe for {system!r}; there are {', '.join(RECIPES)}")
    if preset != "tiny":
        raise UsageError(f"there is no recipe for preset {preset!r} yet; 'tiny' has one")
    if steps is not None and steps < 1:
        raise UsageError(f"--steps {steps}: at least one step is needed")
    return RECIPES[system](Path(out), data, steps, seed=seed, resume=resume)


def _vaura(out: Path, data: str | Path | None, steps: int | None, **run) -> Path:
    from v2a_nb.systems.vaura.train import TrainConfig, train_vaura

    return train_vaura(out, budget=_scaled(TrainConfig(), steps), data=data, **run)


def _egosonics(out: Path, data: str | Path | None, steps: int | None, **run) -> Path:
    from v2a_nb.systems.egosonics.train import TrainConfig, train_egosonics

    return train_egosonics(out, budget=_scaled(TrainConfig(), steps), data=data, **run)


def _action2sound(out: Path, data: str | Path | None, steps: int | None, **run) -> Path:
    from v2a_nb.systems.action2sound.train import TrainConfig, train_action2sound

    return train_action2sound(out, budget=_scaled(TrainConfig(), steps), data=data, **run)


def _vocoder(out: Path, data: str | Path | None, steps: int | None, **run) -> Path:
    from v2a_nb.training.recipes.vocoder import TrainConfig, train_vocoder

    return train_vocoder(out, budget=_scaled(TrainConfig(), steps), data=data, **run)


def _vaas(out: Path, data: str | Path | None, steps: int | None, **run) -> Path:
    from v2a_nb.data.clip_features import scaled
    from v2a_nb.metrics.vaas.train import STEPS, train_vaas

    return train_vaas(out, **scaled(steps or STEPS, STEPS), takes=data, **run)


def _summary(out: Path, data: str | Path | None, steps: int | None, **run) -> Path:
    from v2a_nb.data.clip_features import scaled
    from v2a_nb.metrics.summarization.train import STEPS, train_summary

    return train_summary(out, **scaled(steps or STEPS, STEPS), takes=data, **run)


def _av_sim(out: Path, data: str | Path | None, steps: int | None, **run) -> Path:
    from v2a_nb.data.audio_visual_pairs import TrainConfig
    from v2a_nb.systems.retrieval.train import train_av_sim

    return train_av_sim(out, budget=_scaled(TrainConfig(), steps), data=data, **run)


def _av_sync(out: Path, data: str | Path | None, steps: int | None, **run) -> Path:
    from v2a_nb.metrics.av_sync.train import CONFIG, train_av_sync

    return train_av_sync(out, budget=_scaled(CONFIG, steps), data=data, **run)


def _material(out: Path, data: str | Path | None, steps: int | None, *, seed: int, resume: bool) -> Path:
    """Solved in one go, from a world that is not kept."""
    from v2a_nb.metrics.material.train import write_material

    folder = out / "weights"
    write_material(folder, seed=3000 + seed)
    return folder


def _ambience(out: Path, data: str | Path | None, steps: int | None, *, seed: int, resume: bool) -> Path:
    """Solved in one go, from a world that is not kept."""
    from v2a_nb.metrics.ambience.train import TRAIN_SEED, write_ambience

    folder = out / "weights"
    write_ambience(folder, seed=TRAIN_SEED + seed)
    return folder


def _scaled(budget, steps: int | None):
    """A budget whose last stage has so many steps, all else in proportion."""
    return budget if steps is None else budget.scaled(steps / budget.steps)


RECIPES: dict[str, Callable[..., Path]] = {
    "vaura": _vaura, "egosonics": _egosonics, "action2sound": _action2sound, "vocoder": _vocoder,
    "av_sim": _av_sim, "av_sync": _av_sync,
    "vaas": _vaas, "summary": _summary, "material": _material, "ambience": _ambience,
}  # fmt: skip
"""Three systems, the vocoder of the last, and the encoders and the pool of ``retrieval``; then what metrics need."""
