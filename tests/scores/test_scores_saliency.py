"""Saliency of systems, scored: windows that give nothing away, one table, marks, and what is kept for the documents."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from saliency_parts import small_system

from v2a_nb.cli import main
from v2a_nb.saliency import judges
from v2a_nb.saliency.methods import METHODS
from v2a_nb.scores import saliency, saliency_results
from v2a_nb.training.results import MAPS, Results, Row, Table
from v2a_nb.world import strike_world
from v2a_nb.world.picture import silent_movers


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
    few = {name: METHODS[name] for name in ("place_and_time", "gradient", "occlusion")}
    monkeypatch.setattr(saliency, "FEW", 1)
    monkeypatch.setattr(saliency, "METHODS", few)
    first = saliency.cases(8000, 1)[0].item.recording
    monkeypatch.setattr(saliency, "silent_movers", lambda recording: recording.id == first.id)
    path, kept = tmp_path / "look.json", tmp_path / "kept"
    words = ["score", "saliency", str(kept), "--systems", "vaura", "--clips", "3", "--json", str(path)]
    assert main(words) == 0
    table, distracted = Results.from_dict(json.loads(path.read_text())).tables
    assert table.name == "vaura_saliency" and table.source == MAPS and table.down == "subject"
    assert set(table.subjects) == {m.replace("_", " ") for m in few} | set(judges.BASELINE_MAPS)
    assert set(saliency.SHARES) | set(saliency.AGAIN) <= set(table.metrics)
    assert table.row("pointing", "motion energy").n == 3 and table.row("randomization", "gradient").n == 1
    assert table.row("pixel_ap", "occlusion").n == 1 and table.row(saliency.OVER_MOTION, "gradient").n == 3
    assert distracted.name == "vaura_saliency_distractors" and distracted.row("pointing", "gradient").n == 2
    assert distracted.about["clips"] == 2 and "randomization" not in distracted.metrics
    assert table.about["clips"] == 3 and isinstance(table.about["marked"], str)
    assert "place and time" in capsys.readouterr().out
    # a run that was stopped goes on: what is there is not measured again
    (lines,) = kept.iterdir()
    text = lines.read_text()
    lines.write_text("\n".join(text.splitlines()[:-1]) + "\n")
    made = []
    monkeypatch.setattr(saliency, "attribute", lambda *a: made.append(a) or pytest.fail("measured again"))
    assert main(words) == 0 and not made and lines.read_text() == text
    again = Results.from_dict(json.loads(path.read_text())).tables
    assert [t.rows for t in again] == [table.rows, distracted.rows]
    lines.write_text(text.replace('"seed": 8000', '"seed": 8001'))
    assert main(words) == 2 and "other weights or settings" in capsys.readouterr().err


def test_marks_are_for_maps_that_survive_or_point_no_better():
    def clips(pointing: float, **more: float) -> dict:
        return {k: (f"r{k}", {"pointing_6pc": pointing, **more}) for k in range(10)}

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
    beats = rows[saliency.OVER_MOTION, "attention"]
    assert beats.value == 1 and beats.n == 10 and (saliency.OVER_MOTION, "uniform") not in rows


def test_things_that_move_without_a_sound_are_counted_as_they_are_drawn():
    from v2a_nb.world.picture import _distractors, view_of

    seen = []
    for item in strike_world(seed=5, clips=12, seconds=0.4, size=32, per_recording=1):
        drawn = _distractors(item.recording, view_of(item.recording, 32), 32)
        assert silent_movers(item.recording) == len(drawn) + item.recording.limbs
        seen.append(len(drawn))
    assert 0 in seen and max(seen) >= 1
    assert silent_movers(strike_world(seed=5, clips=1, size=32, variety="plain")[0].recording) == 0


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["x", "--run", "y"], "saliency takes no --run"), (["--run", "y"], "saliency takes no --run"),
        (["--keep", "--clips", "3"], "--clips is for a look"), (["--systems", "retrieval"], "no system 'retrieval'"),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together(words, reason, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["score", "saliency", *words]) == 2
    error = capsys.readouterr().err
    assert reason in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


def test_kept_tables_are_in_the_documents(tmp_path, monkeypatch):
    monkeypatch.setattr(saliency_results, "SHIPPED", tmp_path)
    titles = {"vaura": "V-AURA", "vta_ldm": "VTA-LDM"}
    assert saliency_results.tables(titles) == "*Not scored yet.*"
    about = {"clips": 100, "few": 10, "seed": 8000, "marked": "gradient: survives"}
    table = Table("saliency", "x", (Row("pointing", "attention", 0.75, 0.5, 0.9, 100),), source=MAPS, about=about)
    some = replace(table, name="saliency_distractors", about={"clips": 40, "few": 10})
    Results("vaura", "", (table, some)).write(tmp_path / "vaura")
    where = Row("pointing_6pc", "attention", 0.85, 0.7, 0.9, 30), Row("temporal_pointing_80ms", "token ablation", 0.9)
    other = replace(table, rows=where, about=about | {"marked": "token_ablation: points no better"})
    Results("vta_ldm", "", (other,)).write(tmp_path / "vta_ldm")
    text = saliency_results.tables(titles)
    assert "| | V-AURA: where | when | VTA-LDM: where | when |" in text
    assert "| attention |  |  | 0.85 |  |" in text and "| token ablation |  |  |  | 0.90† |" in text
    assert "0.750 [0.500, 0.900]" in text and "Not to be believed: gradient: survives." in text
    assert "of the 40 clips in which things move" in text
