"""The one training loop: seeded by step, logged, resumable to the byte, on Accelerate.

A recipe brings a module whose ``forward(batch)`` returns a dictionary of losses, and a function from
the step's number to a batch. Because data and dropout are functions of the step alone, a run that was
killed and resumed is the run that was not.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from v2a_nb import media
from v2a_nb.clip import Sound
from v2a_nb.errors import V2AError


@dataclass(frozen=True)
class OptimConfig:
    """How long and how fast to train.

    Attributes:
        bf16: compute in bfloat16 (weights, optimizer and losses stay float32) where the processor has
            instructions for it, which makes a UNet's step 1.3 to 1.6 times as fast; elsewhere this does nothing.
    """

    steps: int
    lr: float = 1e-3
    warmup: int = 100
    weight_decay: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.95)
    clip_norm: float = 1.0
    final_lr: float = 0.05
    save_every: int = 200
    log_every: int = 20
    seed: int = 0
    bf16: bool = False

    def rate(self, step: int) -> float:
        """Linear warm-up, then a cosine down to ``final_lr`` of the peak."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        share = (step - self.warmup) / max(1, self.steps - self.warmup)
        floor = self.final_lr
        return self.lr * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))


def fit(
    module: nn.Module,
    batch_of: Callable[[int], dict[str, Tensor]],
    plan: OptimConfig,
    out: str | Path,
    *,
    resume: bool = False,
    eval_fn: Callable[[int, nn.Module], dict[str, float | Sound]] | None = None,
    eval_every: int = 0,
    until: int | None = None,
) -> nn.Module:
    """Train ``module`` and return it, unwrapped.

    Args:
        module: ``module(batch)`` returns ``{"loss": scalar, ...}``.
        batch_of: from a step's number (global: step * processes + rank) to a batch on the CPU.
        plan: steps and rates.
        out: folder for ``plan.json``, ``log.jsonl``, ``state/`` and ``samples/``.
        resume: go on from ``state/`` where there is one.
        eval_fn: called every ``eval_every`` steps with the module in evaluation mode; its numbers go to
            the log, a sound under ``sample`` to ``samples/STEP.wav``.
        until: stop early at this step without changing the schedule (tests of resuming use it).

    Raises:
        V2AError: the loss became NaN or infinite.
    """
    from accelerate import Accelerator

    accelerator = Accelerator()
    out = Path(out)
    state = out / "state" / "state.pt"
    state.parent.mkdir(parents=True, exist_ok=True)
    decay = [p for p in module.parameters() if p.requires_grad and p.dim() >= 2]
    plain = [p for p in module.parameters() if p.requires_grad and p.dim() < 2]
    groups = [{"params": decay, "weight_decay": plan.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=plan.lr, betas=plan.betas)
    first, spent = 0, 0.0
    if resume and state.exists():
        saved = torch.load(state, map_location="cpu", weights_only=True)
        module.load_state_dict(saved["module"])
        optimizer.load_state_dict(saved["optimizer"])
        first, spent = saved["step"], saved["seconds"]
        _cut_log(out / "log.jsonl", first)
    elif accelerator.is_main_process:
        (out / "log.jsonl").unlink(missing_ok=True)
    model, optimizer = accelerator.prepare(module, optimizer)
    half = plan.bf16 and _has_bf16(accelerator.device)
    began = time.perf_counter() - spent
    last = plan.steps if until is None else min(until, plan.steps)
    if accelerator.is_main_process:
        _write_plan(out / "plan.json", {**asdict(plan), "last": last})
    for step in range(first, last):
        model.train()
        torch.manual_seed(plan.seed * 1_000_003 + step)
        for group in optimizer.param_groups:
            group["lr"] = plan.rate(step)
        index = step * accelerator.num_processes + accelerator.process_index
        batch = {k: v.to(accelerator.device) for k, v in batch_of(index).items()}
        with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=half):
            losses = model(batch)
        loss = losses["loss"]
        if not torch.isfinite(loss):
            raise V2AError(f"the loss is {loss.item()} at step {step}; try a lower rate than {plan.lr:g}")
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), plan.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        done = step + 1
        if not accelerator.is_main_process:
            continue
        entry: dict[str, float] = {}
        if done % plan.log_every == 0 or done == last:
            entry = {k: round(float(v.detach()), 5) for k, v in losses.items()}
        if eval_fn and eval_every and (done % eval_every == 0 or done == last):
            module.eval()
            with torch.no_grad():
                seen = dict(eval_fn(done, accelerator.unwrap_model(model)))
            sample = seen.pop("sample", None)
            if sample is not None:
                media.save_wav(sample, out / "samples" / f"{done}.wav")
            entry.update(seen)
        if entry:
            seconds = round(time.perf_counter() - began, 2)
            line = {"step": done, **entry, "rate": plan.rate(step), "seconds": seconds}
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
        if done % plan.save_every == 0 or done == last:
            _save(state, accelerator.unwrap_model(model), optimizer, done, time.perf_counter() - began)
    return accelerator.unwrap_model(model).eval()


def _has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is fast there; a CPU without its instructions would imitate them."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    about = getattr(torch.cpu, "get_capabilities", dict)()  # older torch has no such question
    return device.type == "cpu" and bool(about.get("avx512_bf16") or about.get("amx_bf16"))


def _save(path: Path, module: nn.Module, optimizer, step: int, seconds: float) -> None:
    inner = getattr(optimizer, "optimizer", optimizer)
    saved = {
        "module": module.state_dict(),
        "optimizer": inner.state_dict(),
        "step": step,
        "seconds": seconds,
    }
    partial = path.with_suffix(".part")
    torch.save(saved, partial)
    os.replace(partial, path)


def _write_plan(path: Path, plan: dict) -> None:
    """What a monitor needs to say how much is left."""
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(plan))
    os.replace(partial, path)


def _cut_log(path: Path, step: int) -> None:
    """Forget lines that were logged after the saved state, and one that a kill left half written."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue
    path.write_text("".join(line + "\n" for line in kept))
