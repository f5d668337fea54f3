"""The recipe of the material classifier: which world it learns from, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from feature_parts import small_video

from v2a_nb.errors import UsageError
from v2a_nb.metrics.material.metric import MaterialClassifier
from v2a_nb.metrics.material.train import train_material
from v2a_nb.training.registry import train


def test_the_recipe_trains_on_the_world_of_both_seeds(tmp_path):
    folder = train("material", data="strike:seed=7,clips=40", seed=2, steps=1, out=tmp_path / "run")
    trained, direct = MaterialClassifier.from_pretrained(folder), train_material(9, 40)
    assert trained.tag == direct.tag and np.array_equal(trained.weight, direct.weight)
    card = json.loads((folder / "config.json").read_text())
    assert card["source"] == "strike:seed=7,clips=40" and card["seed"] == 2 and card["steps"] == 1


def test_what_has_no_truth_or_too_few_hits_is_refused(tmp_path):
    small_video(tmp_path / "videos" / "a.mp4", 1.0)
    with pytest.raises(UsageError, match="only Strike World tells"):
        train("material", data=f"folder:{tmp_path / 'videos'}", out=tmp_path / "run")
    train("material", data="strike:seed=7,clips=40", out=tmp_path / "run")  # what was refused left nothing
    with pytest.raises(UsageError, match="give more clips"):
        train_material(7, 1)
