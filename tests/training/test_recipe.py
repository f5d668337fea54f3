"""Recipes by name, and what they share: beginning a run, work on all cores, cards, exit statuses."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from worker_parts import note

from v2a_nb import parallel
from v2a_nb.cli import main
from v2a_nb.data import clip_features as takes
from v2a_nb.errors import UsageError, V2AError, WeightsError
from v2a_nb.metrics.summarization import train as summarization
from v2a_nb.metrics.vaas import train as vaas
from v2a_nb.training import recipe as common
from v2a_nb.training.registry import RECIPES, train


@pytest.fixture
def called(monkeypatch):
    """What the two recipes that read takes were called with; nothing is trained."""
    calls = {}

    def stand_in(name):
        def trained(out, **how):
            calls[name] = {"out": out, **how}
            return Path(out) / "weights"

        return trained

    monkeypatch.setattr(vaas, "train_vaas", stand_in("vaas"))
    monkeypatch.setattr(summarization, "train_summary", stand_in("summary"))
    return calls


@pytest.mark.parametrize(("name", "usual"), [("vaas", vaas.STEPS), ("summary", summarization.STEPS)])
def test_the_command_runs_the_recipes_of_the_metrics(called, tmp_path, capsys, name, usual):
    out, data = tmp_path / "run", tmp_path / "takes"
    words = ["train", name, "--out", str(out), "--data", str(data), "--steps", str(usual // 10), "--seed", "3"]
    assert main([*words, "--resume"]) == 0
    assert called == {
        name: {
            "out": out, "takes": str(data), "steps": usual // 10, "seed": 3, "resume": True,
            "recordings": takes.RECORDINGS // 10, "held_out": takes.HELD_OUT // 10,
        }
    }  # fmt: skip
    assert capsys.readouterr().out.strip() == str(out / "weights")
    train(name, out=out)
    whole = {"steps": usual, "recordings": takes.RECORDINGS, "held_out": takes.HELD_OUT}
    assert called[name] == {"out": out, "takes": None, "seed": 0, "resume": False, **whole}


@pytest.mark.parametrize("name", ["vaas", "summary"])
def test_a_run_is_never_overwritten(tmp_path, capsys, name):
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n')
    assert main(["train", name, "--out", str(tmp_path)]) == 1
    assert "--resume" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["log.jsonl"]


def test_fewer_steps_read_fewer_whole_files_of_takes():
    for share in (0.001, 0.03, 0.25, 0.5, 1.0):
        made = takes.scaled(max(1, int(1500 * share)), 1500)
        assert made["recordings"] % takes.PART == 0 and 2 <= made["held_out"] < made["recordings"]
        assert made["recordings"] == pytest.approx(takes.RECORDINGS * share, abs=takes.PART)
    assert takes.scaled(9000, 1500) == {"steps": 9000, "recordings": takes.RECORDINGS, "held_out": takes.HELD_OUT}


def test_all_recipes_are_named_where_one_is_not_there(tmp_path, capsys):
    assert main(["train", "nothing", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    told = capsys.readouterr().out
    for name in RECIPES:
        assert name in said and name in told


# --- shared -----------------------------------------------------------------------------------------------


def test_a_run_begins_where_there_is_none(tmp_path):
    assert common.init_run(str(tmp_path / "new")) == tmp_path / "new"
    (tmp_path / "log.jsonl").write_text("")
    with pytest.raises(V2AError, match="--resume"):
        common.init_run(tmp_path)
    assert common.init_run(tmp_path, resume=True) == tmp_path


def test_a_run_of_other_settings_is_not_taken_for_this_one(tmp_path):
    path, told = tmp_path / "run" / "run.json", {"seed": 0, "steps": 5, "sizes": (1, 2)}
    common.check_same_run(path, told)
    common.check_same_run(path, told)  # JSON has no tuples; they are the same all the same
    before = path.read_text()
    with pytest.raises(V2AError, match=r"another seed, steps; give what it was made with"):
        common.check_same_run(path, {**told, "seed": 1, "steps": 6})
    with pytest.raises(V2AError, match="another more"):
        common.check_same_run(path, {**told, "more": 1})
    common.check_same_run(path, {**told, "steps": 6}, ("steps",))
    assert path.read_text() == before


@pytest.mark.parametrize("workers", [1, 2])
def test_work_is_done_in_as_many_processes_as_asked_for(tmp_path, workers):
    parallel.parallel_map(note, [(str(tmp_path), k) for k in range(3)], workers)
    done = {p.name: int(p.read_text()) for p in tmp_path.iterdir()}
    assert done.keys() == {"0", "1", "2"}
    assert (set(done.values()) == {os.getpid()}) == (workers == 1)
    parallel.parallel_map(note, [])
    assert 1 <= parallel.cores() <= (os.cpu_count() or 1)


def test_cards_say_what_made_them(tmp_path):
    card = common.card_of(data_seed=5, steps=7, seed=0, preset="tiny")
    assert (card["data"], card["data_seed"], card["steps"], card["seed"]) == ("Strike World", 5, 7, 0)
    assert card["preset"] == "tiny" and card["versions"]["numpy"] == np.__version__ and card["versions"]["torch"]
    told = common.rounded({"a": 0.123456, "b": [{"c": 1.00004, "n": 3}], "d": "word"})
    assert told == {"a": 0.1235, "b": [{"c": 1.0, "n": 3}], "d": "word"}
    assert json.loads(json.dumps(card)) == card
    assert common.write_readme(tmp_path, "# words\n").read_text() == "# words\n"


@pytest.mark.parametrize(
    ("error", "status"), [(None, 0), (WeightsError("none there"), 1), (V2AError("no"), 1), (UsageError("what"), 2)]
)
def test_exit_statuses_are_those_of_the_commands(error, status, capsys):
    def command():
        if error:
            raise error
        return Path("made")

    said = []
    assert common.run(command, said.append) == status
    assert said == ([] if error else ["made"])
    assert capsys.readouterr().err == (f"v2a-nb: {error}\n" if error else "")
