"""Recipes by name: what ``v2a-nb train`` runs."""

from __future__ import annotations

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
    """Train a system from nothing; returns the folder of weights.

    Args:
        system: ``"vaura"``, ``"egosonics"``, or ``"material"``, the classifier of the truth metrics.
        preset: ``"tiny"``.
        data: folder in which the rendered world is kept between runs.
        steps: of the last stage, V-AURA's decoder or SyncroNet; clips and the other stages shrink in proportion.
        seed: of initialisation and batches.
        out: folder; its ``weights/`` is what ``--weights`` loads.
        resume: go on with what ``out`` holds.
    """
    if preset != "tiny":
        raise UsageError(f"there is no recipe for preset {preset!r} yet; 'tiny' has one")
    if steps is not None and steps < 1:
        raise UsageError(f"--steps {steps}: at least one step is needed")
    if system == "material":
        from v2a_nb.metrics.material import write_material

        folder = Path(out) / "weights"
        write_material(folder, seed=3000 + seed)
        return folder
    if system == "vaura":
        from v2a_nb.training.vaura import Budget, train_vaura

        budget = Budget()
        if steps is not None:
            budget = budget.scaled(steps / budget.steps)
        return train_vaura(out, budget=budget, seed=seed, resume=resume, data=data)
    if system == "egosonics":
        from v2a_nb.training import egosonics

        plan = egosonics.Budget()
        if steps is not None:
            plan = plan.scaled(steps / plan.steps)
        return egosonics.train_egosonics(out, budget=plan, seed=seed, resume=resume, data=data)
    raise UsageError(f"no recipe for {system!r}; there are vaura, egosonics and material")
