"""Saliency of systems, scored: windows that give nothing away, one table, marks, and what is kept for the documents."""

from __future__ import annotations

import json

import numpy as np
import pytest
from saliency_parts import small_system

from v2a_nb.cli import main
from v2a_nb.saliency import judges
from v2a_nb.saliency.methods import METHODS
from v2a_nb.scores import registry, saliency
from v2a_nb.training.results import MAPS, Results, Row, Table


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(saliency, "load", lambda name, weights=None: small_system(name))
    monkeypatch.setattr(saliency, "SIZE", 64)
    monkeypatch.setattr(saliency, "SECONDS", 0.8)
    monkeypatch.setattr(saliency, "WINDOW_S", 0.3)
    monkeypatch.setattr("v2a_nb.saliency.methods.TUBELET", (10, 32, 32))
    monkeypatch.setattr("v2a_nb.saliency.methods.STRIDE", (10, 32, 32))


def test_windows_hold_an_event_and_do_not_say_when():
    found = saliency.cases(8000, 24)
    assert len(found) == 24 and all("clip" not in vars(case.item) for case in found)
    inside = []
    for case in found:
        assert case.window[1] - case.window[0] == pytest.approx(0.8) and case.times and case.masks.any()
        inside += [t - case.window[0] for t in case.times[:1]]
    assert np.std(inside) > 0.12  # an even map's middle is rarely within 80 ms
    again = saliency.cases(8000, 3)
    assert [case.window for case in again] == [case.window for case in found[:3]]


def test_one_table_of_methods_baselines_and_judges(small, tmp_path, capsys, monkeypatch):
    few = {name: METHODS[name] for name in ("gradient_attention", "gradient", "token_ablation", "occlusion")}
    monkeypatch.setattr(saliency, "FEW", 1)
    monkeypatch.setattr(saliency, "METHODS", few)
    path = tmp_path / "look.json"
    assert main(["score", "saliency", "--systems", "vaura", "--clips", "2", "--json", str(path)]) == 0
    (table,) = Results.from_dict(json.loads(path.read_text())).tables
    assert table.name == "vaura_saliency" and table.source == MAPS and table.down == "subject"
    assert set(table.subjects) == {m.replace("_", " ") for m in few} | set(judges.BASELINE_MAPS)
    assert set(saliency.SHARES) | set(saliency.AGAIN) <= set(table.metrics)
    assert table.row("pointing", "motion energy").n == 2 and table.row("randomization", "gradient").n == 1
    with pytest.raises(KeyError):
        table.row("pointing", "token ablation")
    assert table.row("temporal_pointing_80ms", "token ablation").value is not None
    assert table.about["clips"] == 2 and isinstance(table.about["marked"], str)
    assert "gradient attention" in capsys.readouterr().out


def test_marks_are_for_maps_that_survive_or_point_no_better():
    recordings = [f"r{k}" for k in range(10)]

    def clips(pointing: float, **more: float) -> list:
        return [(r, {"pointing_6pc": pointing, **more}) for r in recordings]

    scores = {
        "attention": clips(1.0, randomization=0.1), "gradient": clips(1.0, randomization=0.9),
        "smoothgrad": clips(0.0, randomization=0.0), "motion energy": clips(0.0), "uniform": clips(0.0),
    }  # fmt: skip
    marks = saliency.marked(scores)
    assert set(marks) == {"gradient", "smoothgrad"}
    assert "survives" in marks["gradient"] and "does not beat motion energy (0.00" in marks["smoothgrad"]
    rows = {(row.metric, row.subject): row for row in saliency.rows_of(scores)}
    assert rows["pointing_6pc", "attention"].value == 1 and rows["pointing_6pc", "attention"].low < 1
    assert ("randomization", "uniform") not in rows


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["x"], "other names take none"), (["--run", "y"], "saliency takes no --run"),
        (["--keep", "--clips", "3"], "--clips is for a look"), (["--systems", "retrieval"], "no system 'retrieval'"),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together(words, reason, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["score", "saliency", *words]) == 2
    error = capsys.readouterr().err
    assert reason in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


def test_kept_tables_are_in_the_documents(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "SHIPPED", tmp_path)
    assert registry.saliency_tables() == "*Not scored yet.*"
    about = {"clips": 100, "few": 10, "seed": 8000, "marked": "gradient: survives"}
    table = Table("saliency", "x", (Row("pointing", "attention", 0.75, 0.5, 0.9, 100),), source=MAPS, about=about)
    Results("vaura", "", (table,)).write(tmp_path / "vaura")
    text = registry.saliency_tables()
    assert "0.750 [0.500, 0.900]" in text and "Not to be believed: gradient: survives." in text
