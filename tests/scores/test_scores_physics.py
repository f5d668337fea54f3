"""Scores on counterfactual pairs: one seed for a pair, ceilings beside the system, and runs that go on."""

from __future__ import annotations

import json

import numpy as np
import pytest

from v2a_nb.cli import main
from v2a_nb.clip import Sound
from v2a_nb.scores import physics, registry
from v2a_nb.training.results import PAIRS, Results, Row, Table
from v2a_nb.world.counterfactual import FACTORS

COUNT = 3


class Deaf:
    """A system that does not look: its sound depends on the seed alone."""

    round_trip_of = "codec"

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def generate_batch(self, clips, *, seeds):
        assert all(clip.sound is None for clip in clips)
        self.seeds += seeds
        return [self._sound(clip.duration, seed) for clip, seed in zip(clips, seeds, strict=True)]

    def round_trip(self, sound):
        return sound.gain(-3)

    def _sound(self, seconds: float, seed: int) -> Sound:
        return Sound(np.random.default_rng(seed).normal(0, 0.02, round(seconds * 16000)), 16000)


@pytest.fixture
def system(monkeypatch, tmp_path):
    deaf = Deaf()
    monkeypatch.setattr(physics, "load", lambda name, weights=None: deaf)
    monkeypatch.setattr(physics, "SIZE", 16)
    monkeypatch.setattr(physics, "FACTORS", ("speed", "removal"))
    return deaf


def test_a_system_that_does_not_look_ties_beside_its_ceilings_and_a_run_goes_on(system, tmp_path, capsys):
    words = ["score", "physics", str(tmp_path / "kept"), "--systems", "vaura", "--clips", str(COUNT)]
    assert main([*words, "--json", str(tmp_path / "look.json")]) == 0
    assert system.seeds == [0, 0, 1, 1, 2, 2] * 2  # both clips of a pair have one seed
    (table,) = Results.from_dict(json.loads((tmp_path / "look.json").read_text())).tables
    assert table.name == "vaura_physics" and table.source == PAIRS and table.about["pairs"] == COUNT
    assert table.subjects[:3] == ["V-AURA `tiny`", "ground truth", "codec round trip"]
    for factor in ("speed", "removal"):
        assert table.row(f"pair_ties_{factor}").value == 1 and table.row(f"pair_direction_{factor}").value == 0
        for ceiling in table.subjects[1:3]:
            assert table.row(f"pair_direction_{factor}", ceiling).value == 1
            assert table.row(f"pair_gain_{factor}", ceiling).value == pytest.approx(1, abs=0.1)
    assert "V-AURA" in capsys.readouterr().out
    (place,) = (tmp_path / "kept").iterdir()
    kept = sorted(place.rglob("*.wav"))
    assert place.name.startswith("vaura@") and len(kept) == 2 * 2 * 2 * COUNT
    before = [path.stat().st_mtime_ns for path in kept[1:]]
    kept[0].unlink()
    assert main(words) == 0 and len(system.seeds) <= 13 and kept[0].exists()
    assert [path.stat().st_mtime_ns for path in kept[1:]] == before


def test_other_weights_begin_anew():
    assert len({physics._digest(name) for name in ("vaura", "egosonics", "codec", "av_sim")}) == 4
    assert physics._digest("codec") == physics._digest("codec") and set(physics.SYSTEMS) < set(physics.TESTS)
    assert physics.FACTORS == FACTORS


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "physics one for its sounds"),
        (["x", "--systems", "retrieval"], "no system 'retrieval' for physics"),
        (["x", "--run", "y"], "physics takes no --run"),
        (["x", "--keep", "--clips", "3"], "--clips is for a look"),
    ],
)
def test_options_that_do_not_go_together(words, reason, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["score", "physics", *words]) == 2
    error = capsys.readouterr().err
    assert reason in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


def test_kept_tables_are_in_the_documents(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "SHIPPED", tmp_path)
    assert registry.physics_tables() == "*Not scored yet.*"
    row = Row("pair_direction_speed", "V-AURA", 0.75, 0.5, 0.9, 40)
    table = Table("physics", "x", (row,), source=PAIRS, about={"pairs": 40, "seed": 8000})
    results = Results("vaura", "", (table,))
    results.write(tmp_path / "vaura")
    assert "0.750 [0.500, 0.900]" in registry.physics_tables() and "40 pairs" in registry.physics_tables()
    scores = Table("scores", "y", (row,))
    assert [t.name for t in results.updated([scores]).tables] == ["scores", "physics"]  # a new score keeps it
