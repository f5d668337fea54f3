"""How a recipe runs: its folder, resuming, what is refused, settings from texts, and the command."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
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
from v2a_nb.hub import save_weights
from v2a_nb.training import recipe as module
from v2a_nb.training import registry
from v2a_nb.training.loop import OptimConfig, fit
from v2a_nb.training.recipe import Recipe, Stage, TrainConfig, check_same_run, init_run, rounded, run_recipe, scaling
from v2a_nb.training.registry import RECIPES, train


class Killed(Exception):
    pass


@dataclass(frozen=True)
class ToyConfig(TrainConfig):
    steps: int = scaling(8, least=1)
    first_steps: int = scaling(6)
    clips: int = 4
    lr: float = 0.1
    flag: bool = False
    encoder: str = "toy"


class Scale(nn.Module):
    """One number that learns the mean of the levels."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, batch):
        noise = torch.randn(())  # a resumed run must draw the same
        return {"loss": (self.value - batch["level"].mean() + 1e-3 * noise).square()}


class ToyRecipe(Recipe):
    """Two stages on the levels of clips."""

    name = "toy"
    TrainConfig = ToyConfig
    source = "strike:seed=3"
    ablations: ClassVar = {"zero": {}}

    def features(self, recordings, store):
        table = cut_clips(recordings, Cut(1.0, per_recording=1, recordings=self.config.clips))
        store.workers = 1
        return store.compute(table, recordings, Levels())

    def stages(self, features, store, out):
        c = self.config

        def batch_of(step):
            rng = np.random.default_rng([self.seed, step])
            return {"level": torch.from_numpy(features["level"][rng.integers(0, len(features), 2)])}

        first = Scale()
        if self.ablation is None:
            first = yield Stage(
                "first", first, batch_of, OptimConfig(c.first_steps, lr=c.lr, seed=self.seed, save_every=2)
            )
        start = 0.0 if self.ablation == "zero" else first.value.item()
        optim = OptimConfig(c.steps, lr=c.lr, seed=self.seed, save_every=2)
        last = yield Stage("", Scale(start), batch_of, optim, lambda step, m: {"value": m.value.item()}, 4)
        return last

    def card(self, model):
        return {"toy": True}

    def save(self, model, out, card):
        return save_weights(self.folder(out) / "weights", model.state_dict(), {"kind": "toy", **card})


def run(out, recipe=None, **how):
    return run_recipe(recipe or ToyRecipe(), out, say=lambda line: None, **how)


def card_of(folder) -> dict:
    return json.loads((folder / "config.json").read_text())


# --- running ------------------------------------------------------------------------------------------


def test_a_run_leaves_its_stages_and_weights_that_say_what_made_them(tmp_path):
    said = []
    folder = run_recipe(ToyRecipe(seed=2), tmp_path, say=said.append)
    assert folder == tmp_path / "weights" and said == ["features: strike:seed=3", "first: 6 steps", "toy: 8 steps"]
    assert {"first", "features", "log.jsonl", "run.json", "state", "weights"} <= {p.name for p in tmp_path.iterdir()}
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [4, 8] and {"value", "loss"} <= log[-1].keys()
    card = card_of(folder)
    assert card["source"] == "strike:seed=3" and card["seed"] == 2 and card["steps"] == 8 and card["toy"] is True
    assert card["train_config"]["clips"] == 4 and set(card["versions"]) == {"torch", "numpy"}


@pytest.mark.parametrize(("stage", "step"), [("first", 3), ("", 5)])
def test_a_killed_run_goes_on_as_if_it_was_not(tmp_path, monkeypatch, stage, step):
    whole = run(tmp_path / "whole")

    def dies(net, batch_of, optim, out, **how):
        if out.name != (stage or "killed"):
            return fit(net, batch_of, optim, out, **how)
        fit(net, batch_of, optim, out, **how, until=step)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(module, "fit", dies)
        with pytest.raises(Killed):
            run(tmp_path / "killed")
    assert not (tmp_path / "killed" / "weights").exists()
    with pytest.raises(V2AError, match="give --resume"):
        run(tmp_path / "killed")
    resumed = run(tmp_path / "killed", resume=True)
    for name in ("model.safetensors", "config.json"):
        assert (whole / name).read_bytes() == (resumed / name).read_bytes()


@pytest.mark.parametrize(
    ("recipe", "how", "named"),
    [
        (ToyRecipe(seed=1), {}, "another seed"),
        (ToyRecipe(ToyConfig(lr=0.2)), {}, r"another config\.lr"),
        (ToyRecipe(ToyConfig(steps=9)), {}, r"another config\.steps"),
        (ToyRecipe(), {"source": "strike:seed=4"}, "another source"),
    ],
)
def test_a_run_of_other_settings_is_not_gone_on_with(tmp_path, recipe, how, named):
    run(tmp_path)
    before = (tmp_path / "weights" / "model.safetensors").read_bytes()
    with pytest.raises(V2AError, match=named):
        run(tmp_path, recipe, resume=True, **how)
    assert (tmp_path / "weights" / "model.safetensors").read_bytes() == before


def test_a_source_that_is_refused_leaves_no_run(tmp_path):
    class Picky(ToyRecipe):
        def features(self, recordings, store):
            if recordings.seed == 4:
                raise UsageError("not this one")
            return super().features(recordings, store)

    with pytest.raises(UsageError, match="not this one"):
        run(tmp_path, Picky(), source="strike:seed=4")
    run(tmp_path, Picky())
    with pytest.raises(V2AError, match="another source"):
        run(tmp_path, Picky(), source="strike:seed=4", resume=True)
    assert (tmp_path / "run.json").exists()


def test_features_may_be_shared(tmp_path, monkeypatch):
    run(tmp_path / "a", cache=tmp_path / "cache")
    monkeypatch.setattr(Levels, "extract", None)  # nothing can be computed any more
    run(tmp_path / "b", ToyRecipe(seed=1), cache=tmp_path / "cache")
    assert not (tmp_path / "a" / "features").exists()
    with pytest.raises(TypeError):
        run(tmp_path / "c", source="strike:seed=4", cache=tmp_path / "cache")


def test_an_ablation_trains_the_last_stage_alone(tmp_path):
    run(tmp_path)
    folder = run(tmp_path, ToyRecipe(ToyConfig(steps=4), ablation="zero"))
    assert folder == tmp_path / "ablations" / "zero" / "weights" and card_of(folder)["ablation"] == "zero"
    assert (tmp_path / "weights").exists()
    with pytest.raises(UsageError, match="no ablation 'one'; there are zero"):
        ToyRecipe(ablation="one")


def test_a_recipe_may_have_no_stages(tmp_path):
    class Solved(ToyRecipe):
        def stages(self, features, store, out):
            yield from ()
            return Scale(float(features["level"][:].mean()))

    folder = run(tmp_path, Solved())
    assert (folder / "model.safetensors").exists() and not (tmp_path / "log.jsonl").exists()
    with pytest.raises(V2AError, match="holds a run"):
        run(tmp_path, Solved())


# --- settings -----------------------------------------------------------------------------------------


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(RECIPES, "toy", (f"{__name__}:ToyRecipe", "a toy"))
    monkeypatch.setattr(
        registry, "recipe_class", lambda name, known=registry.recipe_class: ToyRecipe if name == "toy" else known(name)
    )


def test_fewer_steps_shrink_what_shrinks():
    small = ToyConfig(steps=800, first_steps=600).scaled(0.01)
    assert (small.steps, small.first_steps, small.clips, small.lr) == (8, 6, 4, 0.1)
    assert ToyConfig(steps=800, first_steps=600).scaled(0.001).first_steps == 4  # and no further
    for wrong in ({"steps": 0}, {"first_steps": -1}):
        with pytest.raises(UsageError, match="at least 1"):
            ToyConfig(**wrong)


def test_settings_come_as_texts_from_the_command(toy, tmp_path, capsys):
    words = ["train", "toy", "--out", str(tmp_path), "--seed", "5", "--steps", "4"]
    for setting in ("lr=1", "flag=true", "encoder=a/b", "clips=3"):
        words += ["--set", setting]
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "weights")
    config = json.loads((tmp_path / "run.json").read_text())["config"]
    assert config == {"steps": 4, "first_steps": 4, "clips": 3, "lr": 1, "flag": True, "encoder": "a/b"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": "1"}, "no setting 'rate'; there are steps, first_steps"),
        ({"lr": "fast"}, "a number, true or false is needed"),
        ({"clips": "2.5"}, "int is needed"),
        ({"flag": "1"}, "bool is needed"),
    ],
)
def test_wrong_settings_are_refused_by_name(toy, tmp_path, settings, message):
    with pytest.raises(UsageError, match=message):
        train("toy", out=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_all_recipes_are_named_where_one_is_not_there(tmp_path, capsys):
    with pytest.raises(UsageError) as caught:
        train("nothing", out=tmp_path)
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = capsys.readouterr().out
    for name in RECIPES:
        assert name in str(caught.value) and name in shown
    with pytest.raises(UsageError, match="preset 'paper'"):
        train("vaas", preset="paper", out=tmp_path)
    with pytest.raises(UsageError, match="--steps 0"):
        train("vaas", steps=0, out=tmp_path)


@pytest.mark.parametrize("name", ["vaas", "summary", "av_sim", "av_sync", "material", "ambience"])
def test_a_run_is_never_overwritten(tmp_path, capsys, name):
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n')
    assert main(["train", name, "--out", str(tmp_path)]) == 1
    assert "--resume" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["log.jsonl"]


# --- shared -----------------------------------------------------------------------------------------------


def test_a_run_begins_where_there_is_none(tmp_path):
    init_run(tmp_path / "new", tmp_path / "new", resume=False)
    (tmp_path / "log.jsonl").write_text("")
    with pytest.raises(V2AError, match="--resume"):
        init_run(tmp_path, tmp_path, resume=False)
    init_run(tmp_path, tmp_path, resume=True)


def test_settings_are_compared_at_any_depth(tmp_path):
    path, settings = tmp_path / "run" / "run.json", {"seed": 0, "config": {"steps": 5, "sizes": (1, 2)}}
    check_same_run(path, settings)
    check_same_run(path, settings)  # JSON has no tuples; they are the same all the same
    before = path.read_text()
    other = {"seed": 1, "config": {"steps": 6, "sizes": (1, 2)}}
    with pytest.raises(V2AError, match=r"another config\.steps, seed; give what it was started with"):
        check_same_run(path, other)
    with pytest.raises(V2AError, match="another more"):
        check_same_run(path, {**settings, "more": 1})
    check_same_run(path, {**settings, "config": {"steps": 6, "sizes": (1, 2)}}, ("steps",))
    assert path.read_text() == before
    path.write_text("{half")
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


def test_numbers_are_rounded_wherever_they_are():
    assert rounded({"a": 0.123456, "b": [{"c": 1.00004, "n": 3}], "d": "word"}) == {
        "a": 0.1235, "b": [{"c": 1.0, "n": 3}], "d": "word",
    }  # fmt: skip
