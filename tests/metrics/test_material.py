"""The material classifier: unseen worlds, levels, training and its card."""

from __future__ import annotations

import json

import numpy as np
import pytest

from v2a_nb.errors import WeightsError
from v2a_nb.hub import find_weights
from v2a_nb.metrics.material.metric import CLASSES, NOTHING, MaterialClassifier, shipped_classifier
from v2a_nb.metrics.material.train import TEST_SEED, TRAIN_SEED, hits_of, train_material
from v2a_nb.training.results import Results
from v2a_nb.world import strike_world

RATE = 16000


def test_material_is_known_on_worlds_that_training_never_saw():
    classifier = shipped_classifier()
    x, y = hits_of(8000, 400, "mix")  # 100 recordings: fewer would measure single objects
    predicted = classifier.predict(x)
    assert (predicted == y).mean() > 0.97
    for k, name in enumerate(CLASSES):
        assert (predicted[y == k] == k).mean() > 0.9, name


def test_material_does_not_depend_on_level():
    world = strike_world(92, 12, size=16)
    classifier = shipped_classifier()
    for item in world:
        times = [e["time_s"] for e in item.truth["events"] if e["kind"] in ("strike", "bounce") and e["time_s"] < 2.4]
        wave = item.stems["action"].samples[0]
        assert classifier.classify(wave, np.array(times)) == classifier.classify(0.5 * wave, np.array(times))
    assert classifier.classify(np.zeros(RATE, np.float32), np.array([0.5])) == [NOTHING]
    assert classifier.classify(np.zeros(RATE, np.float32), np.array([])) == []


def test_training_is_reproducible_and_weights_survive_the_disk(tmp_path):
    a, b = train_material(7, 80), train_material(7, 80)
    assert a.tag == b.tag
    assert np.array_equal(a.weight, b.weight)
    x, y = hits_of(91, 60)
    assert (a.predict(x) == y).mean() > 0.85
    a.save_pretrained(tmp_path, data_seed=7)
    again = MaterialClassifier.from_pretrained(tmp_path)
    assert again.tag == a.tag != shipped_classifier().tag
    assert np.array_equal(again.predict(x), a.predict(x))
    with pytest.raises(WeightsError, match="nowhere"):
        MaterialClassifier.from_pretrained(tmp_path / "nowhere")
    config = json.loads((tmp_path / "config.json").read_text())
    config["classes"] = config["classes"][::-1]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="do not fit"):
        MaterialClassifier.from_pretrained(tmp_path)


def test_card_says_what_the_weights_are():
    folder = find_weights("material")
    scored = Results.read(folder)["hits"]
    row = scored.row("material_accuracy", "clean stems")
    assert row.extractor == shipped_classifier().tag and row.text_with_interval in (folder / "README.md").read_text()
    assert scored.about["seed"] == TEST_SEED != TRAIN_SEED
    x, y = hits_of(TEST_SEED, 200)
    assert (shipped_classifier().predict(x) == y).mean() == pytest.approx(row.value, abs=0.005)
