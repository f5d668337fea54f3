"""The loop: learns, resumes to the byte, refuses nonsense; two processes are one that accumulates two batches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rank_parts import in_two_processes
from torch import nn

from v2a_nb.clip import Sound
from v2a_nb.errors import V2AError
from v2a_nb.media import open_sound
from v2a_nb.training import loop
from v2a_nb.training.loop import OptimConfig, fit


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.2), nn.Linear(8, 1))

    def forward(self, batch):
        return {"loss": (self.layer(batch["x"])[:, 0] - batch["y"]).square().mean()}


def line_batch(step):
    x = torch.from_numpy(np.random.default_rng(step).standard_normal((32, 2), dtype=np.float32))
    return {"x": x, "y": x[:, 0] - 2 * x[:, 1]}


def log_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("how", [{}, {"accumulation": 2}, {"ema_decay": 0.9}])
def test_resumed_run_equals_the_run_that_was_not_killed(tmp_path, how):
    optim = OptimConfig(steps=40, lr=1e-2, warmup=5, save_every=10, log_every=5, **how)
    whole = fit(Line(), line_batch, optim, tmp_path / "a")
    fit(Line(), line_batch, optim, tmp_path / "b", until=20)
    with (tmp_path / "b" / "log.jsonl").open("a") as log:  # written after the saved state, then killed
        log.write(json.dumps({"step": 25, "loss": 9.0}) + "\n" + '{"step": 30, "lo')
    resumed = fit(Line(), line_batch, optim, tmp_path / "b", resume=True)
    assert same(whole, resumed)
    logs = [log_of(tmp_path / name) for name in "ab"]
    assert [(x["step"], x["loss"]) for x in logs[0]] == [(x["step"], x["loss"]) for x in logs[1]]
    assert logs[0][-1]["loss"] < 0.6 * logs[0][0]["loss"]


def test_the_run_says_how_long_it_is_and_keeps_its_samples(tmp_path):
    def eval_fn(step, module):
        assert not module.training
        return {"score": step / 10, "sample": Sound(np.full(800, step / 100, np.float32), 8000)}

    fit(Line(), line_batch, OptimConfig(steps=20, log_every=100), tmp_path, eval_fn=eval_fn, eval_every=8)
    assert json.loads((tmp_path / "plan.json").read_text())["last"] == 20
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == ["16.wav", "20.wav", "8.wav"]
    assert open_sound(tmp_path / "samples" / "16.wav").peak == pytest.approx(0.16, abs=1e-3)
    log = log_of(tmp_path)
    assert [x["step"] for x in log] == [8, 16, 20] and log[0]["score"] == 0.8 and "sample" not in log[0]


class Precision(Line):
    """Says in which precision its layers computed."""

    def forward(self, batch):
        self.computed = self.layer(batch["x"]).dtype
        return super().forward(batch)


@pytest.mark.parametrize("has", [True, False])
def test_bfloat16_is_for_processors_that_have_it_and_for_computing_only(has, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_has_bf16", lambda device: has)
    trained = {}
    for bf16 in (True, False):
        optim = OptimConfig(steps=40, lr=1e-2, warmup=5, log_every=5, bf16=bf16)
        trained[bf16] = fit(Precision(), line_batch, optim, tmp_path / str(bf16))
    assert trained[False].computed == torch.float32
    assert trained[True].computed == (torch.bfloat16 if has else torch.float32)
    assert all(p.dtype == torch.float32 for p in trained[True].parameters())
    assert same(*trained.values()) == (not has)
    pairs = zip(*(m.parameters() for m in trained.values()), strict=True)
    assert all(torch.allclose(a, b, atol=0.1) for a, b in pairs)  # and it learns the same


def test_a_loss_that_is_not_a_number_stops_the_run(tmp_path):
    class Bad(Line):
        def forward(self, batch):
            return {"loss": super().forward(batch)["loss"] * float("nan")}

    with pytest.raises(V2AError, match="step 0"):
        fit(Bad(), line_batch, OptimConfig(steps=2), tmp_path)


def test_rate_warms_up_and_falls():
    optim = OptimConfig(steps=100, lr=1.0, warmup=10, final_lr=0.1)
    rates = [optim.rate(s) for s in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)


class Still(nn.Module):
    """A weight with a gradient that is known: the mean of the batch."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))

    def forward(self, batch):
        return {"loss": (self.weight * batch["x"]).sum()}


def test_clipping_by_value_and_by_norm_are_two_things(tmp_path):
    """Adam's first step hides the size of a gradient, so the gradients themselves are looked at."""
    gradients = {}

    def batch_of(number):
        return {"x": torch.tensor([3.0, 0.1])}

    for name, how in {"norm": {"clip_norm": 1.0}, "value": {"clip_value": 0.5}}.items():
        module = Still()
        module.weight.register_post_accumulate_grad_hook(lambda p: None)
        step = torch.optim.AdamW.step

        def spy(self, *a, module=module, name=name, step=step, **k):
            gradients[name] = module.weight.grad.clone()
            return step(self, *a, **k)

        torch.optim.AdamW.step = spy
        try:
            fit(module, batch_of, OptimConfig(steps=1, **how), tmp_path / name)
        finally:
            torch.optim.AdamW.step = step
    assert torch.allclose(gradients["value"], torch.tensor([0.5, 0.1]))
    assert gradients["norm"].norm() == pytest.approx(1.0, abs=1e-4) and gradients["norm"][0] / gradients["norm"][1] > 29


def test_accumulated_batches_are_one_large_batch(tmp_path):
    """Without dropout, two halves give the gradient of the whole."""

    def halves(number):
        whole = line_batch(number // 2)
        return {name: value[16 * (number % 2) :][:16] for name, value in whole.items()}

    def plain():
        module = Line()
        module.layer[1].p = 0.0
        return module

    optim = OptimConfig(steps=15, lr=1e-2, warmup=2)
    once = fit(plain(), line_batch, optim, tmp_path / "a")
    twice = fit(plain(), halves, OptimConfig(**{**vars(optim), "accumulation": 2}), tmp_path / "b")
    for a, b in zip(once.parameters(), twice.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_what_is_returned_and_evaluated_is_the_moving_average_where_there_is_one(tmp_path):
    evaluated = []

    def eval_fn(step, module):
        evaluated.append([p.clone() for p in module.parameters()])
        return {"x": 0.0}

    optim = OptimConfig(steps=30, lr=3e-2, warmup=2)
    last = fit(Line(), line_batch, optim, tmp_path / "a")
    average = fit(
        Line(), line_batch, OptimConfig(**{**vars(optim), "ema_decay": 0.99}), tmp_path / "b", eval_fn=eval_fn,
        eval_every=30,
    )  # fmt: skip
    assert not same(last, average)
    assert all(torch.equal(a, b) for a, b in zip(evaluated[0], average.parameters(), strict=True))
    trained = torch.load(tmp_path / "b" / "state" / "state.pt", weights_only=True)["module"]
    assert all(torch.equal(trained[k], v) for k, v in last.state_dict().items())  # training itself is the same


class Counting(Line):
    """Has running means, dropout, and codebooks that start from the first batch of a step."""

    def __init__(self):
        super().__init__()
        self.layer.insert(0, nn.BatchNorm1d(2))
        self.register_buffer("centre", torch.zeros(2))
        self.register_buffer("mean", torch.zeros(2))

    def before_step(self, step, first_batch):
        if step == 1:
            self.centre.copy_(first_batch()["x"][torch.randint(0, 32, (1,))][0])

    def forward(self, batch):
        if self.training:
            self.mean.mul_(0.9).add_(0.1 * (batch["x"].mean(0) - self.centre))
        noisy = {**batch, "x": batch["x"] + 0.1 * torch.randn_like(batch["x"])}
        return super().forward(noisy)


def test_two_processes_are_one_that_accumulates_two_batches(tmp_path):
    """Dropout, noise and batches differ by rank; running means are those of both; all ranks end alike."""
    in_two_processes(Path(__file__).with_name("two_processes.py"), str(tmp_path / "two"))
    optim = OptimConfig(steps=6, lr=1e-2, warmup=2, accumulation=2)
    one = fit(Counting(), line_batch, optim, tmp_path / "one").state_dict()
    ranks = [torch.load(tmp_path / "two" / f"rank{r}.pt", weights_only=True) for r in range(2)]
    for name, value in one.items():
        assert torch.equal(ranks[0][name], ranks[1][name]), name
        assert torch.allclose(ranks[0][name].float(), value.float(), atol=1e-5), name
    alone = fit(Counting(), line_batch, OptimConfig(steps=6, lr=1e-2, warmup=2), tmp_path / "alone").state_dict()
    assert any(not torch.allclose(alone[k].float(), v.float(), atol=1e-3) for k, v in one.items())


@pytest.mark.parametrize("killed", [None, 5, 8])
def test_training_ends_when_validation_gets_no_better_and_returns_the_best(tmp_path, killed):
    """Also where the run was killed on the way."""
    losses = [3.0, 2.0, 2.5, 2.1, 2.0, 1.0, 0.5]
    seen: dict[int, list[torch.Tensor]] = {}

    def eval_fn(step, module):
        seen[step] = [p.detach().clone() for p in module.parameters()]
        return {"val_loss": losses[step // 2 - 1]}

    optim = OptimConfig(steps=14, lr=1e-2, warmup=2, save_every=1)
    how = {"eval_fn": eval_fn, "eval_every": 2, "patience": 3, "resume": True}
    if killed:
        fit(Line(), line_batch, optim, tmp_path, until=killed, **{**how, "eval_every": 2 if killed == 8 else 6})
        if killed == 5:  # the first five steps saw no validation: start over
            (tmp_path / "state" / "state.pt").unlink()
    trained = fit(Line(), line_batch, optim, tmp_path, **how)
    assert max(seen) == 10 and all(torch.equal(a, b) for a, b in zip(seen[4], trained.parameters(), strict=True))
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert steps[-1] == 10
    again = fit(Line(), line_batch, optim, tmp_path, **how)  # a finished run stays finished
    assert max(seen) == 10 and same(again, trained)
