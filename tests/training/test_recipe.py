"""Recipes: one runner for all of them; what a run was started with, resuming, ablations, and the command."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from feature_parts import Levels
from torch import nn
from worker_parts import note

from v2a_nb import parallel
from v2a_nb.cli import main
from v2a_nb.data.dataset import Cut, cut_clips
from v2a_nb.errors import UsageError, V2AError
from v2a_nb.files import write_text
from v2a_nb.training import recipe as module
from v2a_nb.training import registry
from v2a_nb.training.loop import OptimConfig, fit
from v2a_nb.training.recipe import Recipe, Stage, TrainConfig, check_same_run, rounded, run_recipe, scaling
from v2a_nb.training.registry import RECIPES, train


@dataclass(frozen=True)
class ToyConfig(TrainConfig):
    steps: int = scaling(40)
    clips: int = scaling(20, least=2)
    first_steps: int = scaling(20)
    rate: float = 0.05
    squared: bool = True
    label: str = "toy"


class Mean(nn.Module):
    """Learns the mean level of clips."""

    def __init__(self):
        super().__init__()
        self.guess = nn.Parameter(torch.zeros(1))

    def forward(self, batch):
        return {"loss": (self.guess - batch["level"]).square().mean()}

    def save_pretrained(self, folder, **card):
        write_text(Path(folder) / "config.json", json.dumps({"guess": float(self.guess.detach()), **card}))
        return Path(folder)


class Toy(Recipe):
    name, template = "toy", None
    TrainConfig = ToyConfig
    source = "strike:seed=3"
    ablations: ClassVar = {"slow": {"rate": 0.001}}

    def settings(self):
        return {"network": [1]}

    def features(self, recordings, store):
        cut = Cut(1.0, per_recording=2, recordings=self.config.clips // 2)
        return store.compute(cut_clips(recordings, cut), recordings, Levels())

    def stages(self, features, store, out):
        rate = self.ablations.get(self.ablation, {}).get("rate", self.config.rate)

        def batch_of(number):
            rows = np.random.default_rng(number).integers(0, len(features), 4)
            return {"level": torch.from_numpy(features["level"][rows])}

        optim = OptimConfig(self.config.first_steps, lr=self.config.rate, warmup=1, weight_decay=0.0, save_every=5)
        trained = yield Stage("first", Mean(), batch_of, optim)
        start = float(trained.guess.detach())
        trained = yield Stage("", trained, batch_of, replace(optim, steps=self.config.steps, lr=rate, seed=self.seed))
        self.moved = abs(float(trained.guess.detach()) - start)
        return trained

    def card(self, model):
        return {"moved": round(self.moved, 6)}


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(RECIPES, "toy", ("a toy", "the mean level of clips"))
    monkeypatch.setattr(registry, "recipe_class", lambda name, preset: Toy)


def test_a_recipe_runs_from_features_to_weights_with_their_card(tmp_path, capsys):
    weights = run_recipe(Toy(ToyConfig(), seed=2), tmp_path)
    assert weights == tmp_path / "weights"
    card = json.loads((weights / "config.json").read_text())
    assert 0.0001 < card["guess"] < 0.5 and card["moved"] >= 0
    assert (card["preset"], card["source"], card["steps"], card["seed"]) == ("tiny", "strike:seed=3", 40, 2)
    assert card["train_config"]["first_steps"] == 20 and card["versions"]["numpy"] == np.__version__
    assert {p.name for p in tmp_path.iterdir()} >= {"run.json", "features", "first", "log.jsonl", "state", "weights"}
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["features", "first", "toy"]


class Killed(Exception):
    """The process was ended."""


@pytest.mark.parametrize("stage", ["first", ""])
@pytest.mark.parametrize("how", [{}, {"accumulation": 2}, {"ema_decay": 0.9}])
def test_a_run_that_was_killed_goes_on_as_if_it_was_not(tmp_path, monkeypatch, stage, how):
    config = replace(ToyConfig(), **how)
    whole = run_recipe(Toy(config), tmp_path / "whole", cache=tmp_path / "cache")

    def fit_until_killed(module, batch_of, optim, out, **rest):
        if Path(out) == tmp_path / "run" / stage:
            fit(module, batch_of, optim, out, until=10, **rest)
            raise Killed
        return fit(module, batch_of, optim, out, **rest)

    monkeypatch.setattr(module, "fit", fit_until_killed)
    with pytest.raises(Killed):
        run_recipe(Toy(config), tmp_path / "run", cache=tmp_path / "cache")
    monkeypatch.setattr(module, "fit", fit)
    with pytest.raises(V2AError, match="--resume"):
        run_recipe(Toy(config), tmp_path / "run", cache=tmp_path / "cache")
    made = run_recipe(Toy(config), tmp_path / "run", cache=tmp_path / "cache", resume=True)
    assert (made / "config.json").read_text() == (whole / "config.json").read_text()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"config": ToyConfig(rate=0.1, label="x")}, "config.label, config.rate"),
        ({"seed": 1}, "seed"),
    ],
)
def test_a_run_is_resumed_with_its_own_settings_only(tmp_path, changed, said):
    run_recipe(Toy(ToyConfig()), tmp_path)
    before = (tmp_path / "run.json").read_text()
    with pytest.raises(V2AError, match=rf"holds a run with another {said};"):
        run_recipe(Toy(**{"config": ToyConfig(), **changed}), tmp_path, resume=True)
    with pytest.raises(V2AError, match="another source"):
        run_recipe(Toy(ToyConfig()), tmp_path, source="strike:seed=4", resume=True)
    assert (tmp_path / "run.json").read_text() == before


class Steady(Toy):
    """Its rate stays, so that a run which is lengthened is the long run to the byte."""

    def stages(self, features, store, out):
        stages, trained = super().stages(features, store, out), None
        while True:
            try:
                stage = stages.send(trained)
            except StopIteration as finished:
                return finished.value
            trained = yield replace(stage, optim=replace(stage.optim, final_lr=1.0))


@pytest.mark.parametrize("kind", [Steady, Toy])
def test_a_finished_run_goes_on_with_more_steps(tmp_path, kind):
    def run(folder, steps, **how):
        return run_recipe(kind(ToyConfig(steps=steps)), folder, cache=tmp_path / "cache", **how)

    long = json.loads((run(tmp_path / "long", 60) / "config.json").read_text())
    run(tmp_path / "run", 40)
    first = (tmp_path / "run/first/log.jsonl").read_bytes()
    short = json.loads((run(tmp_path / "run", 60, resume=True) / "config.json").read_text())
    assert (short["guess"] == long["guess"]) == (kind is Steady)
    assert short["steps"] == 60 and short["started_with_steps"] == 40 and "started_with_steps" not in long
    assert [json.loads(line)["step"] for line in (tmp_path / "run/log.jsonl").read_text().splitlines()][-1] == 60
    assert (tmp_path / "run/first/log.jsonl").read_bytes() == first
    with pytest.raises(V2AError, match="holds a run of 60 steps; give as many or more"):
        run(tmp_path / "run", 50, resume=True)
    weights = run(tmp_path / "run", 60, resume=True)
    assert json.loads((weights / "config.json").read_text()) == short


def test_the_command_lengthens_a_run_and_an_ablation(toy, tmp_path, capsys):
    words = ["train", "toy", "--out", str(tmp_path), "--set", "rate=0.02"]
    assert main([*words, "--steps", "8"]) == 0

    def config(folder: Path) -> dict:
        return json.loads((folder / "weights" / "config.json").read_text())["train_config"]

    before = config(tmp_path)
    assert main([*words, "--steps", "24", "--resume"]) == main([*words, "--resume"]) == 0
    assert main([*words, "--steps", "30", "--resume"]) == 0  # and once more
    assert config(tmp_path) == {**before, "steps": 30}
    for steps in ("8", "20"):
        assert main([*words, "--steps", steps, "--ablation", "slow"]) == 0
        ablation = tmp_path / "ablations" / "slow"
        assert config(ablation) == {**before, "steps": int(steps)}
        assert json.loads((ablation / "log.jsonl").read_text().splitlines()[-1])["step"] == int(steps)
    capsys.readouterr()
    assert main([*words, "--steps", "9", "--ablation", "slow"]) == 1
    assert "state.pt is at step 20, and 9 are wanted" in capsys.readouterr().err


def test_what_is_left_out_is_as_in_the_run_that_is_resumed(toy, tmp_path, capsys):
    out = ["train", "toy", "--out", str(tmp_path / "run")]
    settings = [f"--set={each}" for each in ("rate=0.02", "label=mine", "squared=false")]
    begun = ["--data", "strike:seed=5", "--seed", "2", *settings]
    assert main([*out, *begun, "--steps", "8"]) == 0
    before = json.loads((tmp_path / "run" / "run.json").read_text())
    assert main([*out, "--resume"]) == main([*out, "--resume", "--steps", "12"]) == 0
    assert main([*out, "--ablation", "slow"]) == 0
    after = json.loads((tmp_path / "run" / "run.json").read_text())
    assert after.pop("goes_on_to") == 12 and after == before
    for folder in ("run", "run/ablations/slow"):
        card = json.loads((tmp_path / folder / "weights" / "config.json").read_text())
        assert (card["source"], card["seed"], card["train_config"]["rate"]) == ("strike:seed=5", 2, 0.02)
        assert (card["train_config"]["label"], card["train_config"]["squared"]) == ("mine", False)
    capsys.readouterr()
    for other in (["--data", "strike:seed=3"], ["--seed", "0"], ["--set", "rate=0.05"]):
        assert main([*out, "--resume", *other]) == 1
        assert "holds a run with another" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["run.json", "first/state/state.pt", "state/state.pt"])
@pytest.mark.parametrize("damage", ["cut", "empty", "another", "noise"])
def test_a_damaged_file_of_a_run_is_one_line_that_names_it(toy, tmp_path, capsys, name, damage):
    words = ["train", "toy", "--out", str(tmp_path), "--steps", "8"]
    assert main(words) == 0
    whole = (tmp_path / name).read_bytes()
    another = b"[1]" if name == "run.json" else (tmp_path / "first" / "plan.json").read_bytes()
    damaged = {"cut": whole[: len(whole) // 2], "empty": b"", "another": another, "noise": bytes(range(256))}
    (tmp_path / name).write_bytes(damaged[damage])
    capsys.readouterr()
    assert main([*words, "--resume"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("v2a-nb: ") and name in lines[0]


@pytest.mark.parametrize("name", ["weights/model.safetensors", "state/state.pt", "log.jsonl", "samples/1.wav"])
def test_a_folder_with_files_of_no_run_is_kept(toy, tmp_path, capsys, name):
    write_text(tmp_path / name, "mine")
    for more in ([], ["--resume"]):
        assert main(["train", "toy", "--out", str(tmp_path), "--steps", "8", *more]) == 1
        assert "is of no run" in capsys.readouterr().err
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [tmp_path / name]


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 29, 57, 58])
def test_as_many_steps_as_asked_for(toy, tmp_path, monkeypatch, steps):
    """``29 / 1000 * 1000`` is a little less than 29."""
    given = []
    monkeypatch.setattr(module, "run_recipe", lambda recipe, out, **how: given.append(recipe.config) or Path(out))
    train("toy", steps=steps, out=tmp_path)
    assert given[0].steps == steps and given[0].clips == max(2, steps // 2)
    assert TrainConfig().scaled(29 / 1000).steps == 29


@pytest.mark.parametrize("name", ["state/state.pt", "log.jsonl", "weights/config.json"])
def test_a_full_disk_names_the_file_and_leaves_no_half(toy, tmp_path, capsys, monkeypatch, name):
    import builtins
    import io

    def full(file, mode="r", *args, **how):
        text = str(file)
        if ("w" in mode or "a" in mode) and any(part in text for part in (Path(name).name, f".{Path(name).name}")):
            raise OSError(28, "No space left on device", text)
        return real(file, mode, *args, **how)

    real = io.open
    monkeypatch.setattr(io, "open", full)
    monkeypatch.setattr(builtins, "open", full)
    if name == "state/state.pt":

        def save(saved, path):
            Path(path).write_bytes(b"half")
            raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0\nmore")

        monkeypatch.setattr(torch, "save", save)
    assert main(["train", "toy", "--out", str(tmp_path), "--steps", "8"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and Path(name).name in lines[0]
    assert not list(tmp_path.rglob("*.part"))


def test_an_ablation_trains_the_last_stage_anew_and_leaves_the_rest(tmp_path):
    run_recipe(Toy(ToyConfig()), tmp_path)
    kept = {p: p.stat().st_mtime_ns for p in [tmp_path / "state/state.pt", tmp_path / "weights/config.json"]}
    first = (tmp_path / "first/log.jsonl").read_text()
    weights = run_recipe(Toy(ToyConfig(steps=10), ablation="slow"), tmp_path)
    assert weights == tmp_path / "ablations" / "slow" / "weights"
    assert json.loads((weights / "config.json").read_text())["ablation"] == "slow"
    assert all(p.stat().st_mtime_ns == time for p, time in kept.items())
    assert (tmp_path / "first/log.jsonl").read_text() == first
    with pytest.raises(UsageError, match=r"no ablation 'odd'; there are slow"):
        Toy(ablation="odd")


def test_settings_reach_the_recipe_and_wrong_ones_are_refused(toy, tmp_path, capsys):
    words = ["train", "toy", "--steps", "8", "--out", str(tmp_path / "run"), "--seed", "5"]
    assert main([*words, "--set", "rate=1", "--set", "squared=false", "--set", "label=mine"]) == 0
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    config = run["config"]
    assert (config["steps"], config["clips"], config["first_steps"]) == (8, 4, 4) and run["seed"] == 5
    assert config["rate"] == 1.0 and config["squared"] is False and config["label"] == "mine"
    capsys.readouterr()
    refused = {
        "odd=1": "no setting 'odd'", "clips=many": "a number, true or false", "clips=1.5": "int is needed",
        "clips=0": "at least 1", "ema_decay=1": "ema_decay",
    }  # fmt: skip
    for setting, said in refused.items():
        assert main(["train", "toy", "--out", str(tmp_path / "other"), "--set", setting]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_what_there_is_no_recipe_for_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no recipe"):
        train("nothing", out=tmp_path)
    with pytest.raises(UsageError, match="preset"):
        train("egosonics", preset="paper", out=tmp_path)
    with pytest.raises(UsageError, match="at least one step"):
        train("vaura", steps=0, out=tmp_path)
    with pytest.raises(UsageError, match="is none of"):
        train("vaura", data="strike:size=3", out=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_in_the_registry_is_there(name):
    kind = registry.recipe_class(name)
    recipe = kind(kind.TrainConfig().scaled(0.0))
    assert kind.name == name and json.loads(json.dumps(recipe.settings())) is not None
    assert recipe.config.steps >= 1


def test_all_recipes_are_named_in_the_help_and_where_one_is_not_there(capsys):
    for words in (["train", "nothing"], ["train", "--help"]):
        with pytest.raises(SystemExit):
            main(words)
        said = "".join(capsys.readouterr())
        assert all(name in said for name in RECIPES)


def test_a_run_of_other_settings_is_not_taken_for_this_one(tmp_path):
    path, settings = tmp_path / "run" / "run.json", {"seed": 0, "steps": 5, "sizes": (1, 2), "config": {"a": 1}}
    check_same_run(path, settings)
    check_same_run(path, settings)  # JSON has no tuples; they are the same all the same
    before = path.read_text()
    with pytest.raises(V2AError, match=r"another config.a, seed, steps; give what it was started with"):
        check_same_run(path, {**settings, "seed": 1, "steps": 6, "config": {"a": 2}})
    with pytest.raises(V2AError, match="another more"):
        check_same_run(path, {**settings, "more": 1})
    check_same_run(path, {**settings, "steps": 6}, ("steps",))
    assert path.read_text() == before
    path.write_text("{")
    with pytest.raises(V2AError, match="is damaged"):
        check_same_run(path, settings)


@pytest.mark.parametrize("workers", [1, 2])
def test_work_is_done_in_as_many_processes_as_asked_for(tmp_path, workers):
    parallel.parallel_map(note, [(str(tmp_path), k) for k in range(3)], workers)
    done = {p.name: int(p.read_text()) for p in tmp_path.iterdir()}
    assert done.keys() == {"0", "1", "2"}
    assert (set(done.values()) == {os.getpid()}) == (workers == 1)
    parallel.parallel_map(note, [])
    assert 1 <= parallel.cores() <= (os.cpu_count() or 1)


def test_numbers_are_rounded_at_any_depth():
    values = {"a": 0.123456, "b": [{"c": 1.00004, "n": 3}], "d": "word"}
    assert rounded(values) == {"a": 0.1235, "b": [{"c": 1.0, "n": 3}], "d": "word"}
