"""Clip features in memory, and stages that are run without their recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from datasets import Dataset
from torch import nn

from v2a_nb.data.clip_features import ClipFeatures
from v2a_nb.data.features import ShardedArray
from v2a_nb.data.recordings import StrikeRecordings
from v2a_nb.training.loop import fit
from v2a_nb.training.recipe import Stage

SEED = 5
"""Of the world that the clips are said to be of."""


def in_memory(
    recordings: np.ndarray,
    *,
    starts_s: Sequence[float] | None = None,
    texts: Sequence[str] | None = None,
    view: type[ClipFeatures] = ClipFeatures,
    **arrays: np.ndarray,
):
    """Features of as many clips as there are ``recordings``, which are numbers."""
    n = len(recordings)
    starts_s = [3.0 + i for i in range(n)] if starts_s is None else list(starts_s)
    table = {
        "id": [str(i) for i in range(n)],
        "recording": [int(r) for r in recordings],
        "name": [f"r{r:05d}" for r in recordings],
        "start": [round(16000 * s) for s in starts_s],
        "start_s": starts_s,
        "duration_s": [2.56] * n,
        "text": [""] * n if texts is None else [str(t) for t in texts],
    }
    arrays = {name: ShardedArray([array]) for name, array in arrays.items()}
    return view(Dataset.from_dict(table), StrikeRecordings(SEED), arrays, "in memory")


def run_stage(stage: Stage, out: Path, **how: object) -> nn.Module:
    """The module that a stage trains; ``how`` is ``resume`` and ``until`` of :func:`~v2a_nb.training.loop.fit`."""
    return fit(stage.module, stage.batch_of, stage.optim, out, **how)
