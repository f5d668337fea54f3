"""The one training loop: seeded by step and rank, logged, resumable to the byte, on Accelerate.

A recipe brings a module whose ``forward(batch)`` returns a dictionary of losses, and a function from a number to a
batch. Each step of each process has numbers of its own, one for each batch that it accumulates, and batches, dropout,
timesteps and noise hang on that number alone. So a run that was killed and resumed is the run that was not, and two
processes are one process that accumulates two batches.

Buffers, such as running means, are averaged over the batches of a step wherever these were computed.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from v2a_nb import media
from v2a_nb.clip import Sound
from v2a_nb.errors import V2AError
from v2a_nb.files import atomic, write_text
from v2a_nb.parallel import on_processors

BatchOf = Callable[[int], dict[str, Tensor]]
"""From a number to a batch on the CPU."""
BEST = "best.pt"
"""Beside ``state.pt``: the weights with the smallest validation loss, where training ends by it."""
EvalFn = Callable[[int, nn.Module], dict[str, "float | Sound"]]
"""From a step and the module in evaluation mode to what the log says of it."""


@dataclass(frozen=True)
class OptimConfig:
    """How long and how fast to train.

    Attributes:
        steps: of the optimizer.
        lr, warmup, final_lr: the peak rate, steps up to it, and the share of it that the cosine ends at.
        weight_decay: of matrices; vectors have none.
        betas: of AdamW.
        clip_norm: largest norm of all gradients together.
        clip_value: largest absolute value of each gradient, instead of ``clip_norm``; None: the norm is clipped.
            The released V-AURA clips values.
        accumulation: batches of a step, whose gradients are averaged.
        ema_decay: keep an exponential moving average of the weights (diffusers' ``EMAModel``), which is what is
            evaluated and returned; None: none.
        save_every, log_every: steps.
        seed: of everything that is drawn.
        bf16: compute in bfloat16 (weights, optimizer and losses stay float32) where the processor has instructions for
            it, which makes a UNet's step 1.3 to 1.6 times as fast; elsewhere this does nothing.
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
    clip_value: float | None = None
    accumulation: int = 1
    ema_decay: float | None = None

    def rate(self, step: int) -> float:
        """Linear warm-up, then a cosine down to ``final_lr`` of the peak."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        share = (step - self.warmup) / max(1, self.steps - self.warmup)
        floor = self.final_lr
        return self.lr * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))


def fit(
    module: nn.Module,
    batch_of: BatchOf,
    optim: OptimConfig,
    out: str | Path,
    *,
    resume: bool = False,
    eval_fn: EvalFn | None = None,
    eval_every: int = 0,
    patience: int = 0,
    until: int | None = None,
) -> nn.Module:
    """Train ``module`` and return it, unwrapped, in evaluation mode.

    Args:
        module: ``module(batch)`` returns ``{"loss": scalar, ...}``. Where it has a method ``before_step(step,
            first_batch)``, that is called on every process before each step with the same random numbers;
            ``first_batch()`` gives the step's first batch.
        batch_of: from a number to a batch on the CPU. Step s, process r of R and accumulated batch a of A have the
            number ``(s * A + a) * R + r``.
        optim: steps and rates.
        out: folder for ``plan.json``, ``log.jsonl``, ``state/`` and ``samples/``.
        resume: go on from ``state/`` where there is one.
        eval_fn: called every ``eval_every`` steps on the main process; its numbers go to the log, a sound under
            ``sample`` to ``samples/STEP.wav``.
        patience: end after so many evaluations in a row in which ``val_loss``, a number of ``eval_fn``, was no smaller
            than before, and return the weights of the smallest; 0: train all steps and return the last ones.
        until: stop early at this step without changing the schedule (tests of resuming use it).

    Raises:
        V2AError: the loss became NaN or infinite; ``state/`` cannot be read, is further than ``optim.steps``, or
            cannot be written.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs

    unlike = DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=True)
    accelerator = Accelerator(cpu=on_processors(), kwargs_handlers=[unlike])
    main, device = accelerator.is_main_process, accelerator.device
    out = Path(out)
    state = out / "state" / "state.pt"
    state.parent.mkdir(parents=True, exist_ok=True)
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": optim.weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=optim.lr, betas=optim.betas)
    ema = None if optim.ema_decay is None else _ema(trained, optim.ema_decay)
    first, spent, best = 0, 0.0, _Best(patience)
    if resume and state.exists():
        try:
            saved = torch.load(state, map_location="cpu", weights_only=True)
            module.load_state_dict(saved["module"])
            optimizer.load_state_dict(saved["optimizer"])
            if ema is not None:
                ema.load_state_dict(saved["ema"])
            first, spent = saved["step"], saved["seconds"]
            best.load(saved.get("best"))
        except Exception as error:  # cut off, empty, or of another network: of many kinds
            what = (str(error) or type(error).__name__).splitlines()[0]
            raise V2AError(f"{state} cannot be read ({what}); remove it to train from the beginning") from error
        if first > optim.steps:
            raise V2AError(f"{state} is at step {first}, and {optim.steps} are wanted; give as many or more")
        if main:
            _cut_log(out / "log.jsonl", first)
    elif main:
        (out / "log.jsonl").unlink(missing_ok=True)
    accelerator.wait_for_everyone()
    model, optimizer = accelerator.prepare(module, optimizer)
    if ema is not None:
        ema.to(device)
    processes, rank, batches = accelerator.num_processes, accelerator.process_index, optim.accumulation
    half = optim.bf16 and _has_bf16(device)
    began = time.perf_counter() - spent
    last = optim.steps if until is None else min(until, optim.steps)
    last = first if best.over else last
    if main:
        write_text(out / "plan.json", json.dumps({**asdict(optim), "last": last}))
    for step in range(first, last):
        model.train()
        number = step * batches * processes
        torch.manual_seed(optim.seed * 1_000_003 + number)
        if hasattr(module, "before_step"):
            module.before_step(step, lambda number=number: _on(device, batch_of(number)))
        for group in optimizer.param_groups:
            group["lr"] = optim.rate(step)
        averaged = _AveragedBuffers(module, batches * processes)
        for a in range(batches):
            mine = number + a * processes + rank
            if mine != number:
                torch.manual_seed(optim.seed * 1_000_003 + mine)
            averaged.restore()
            batch = _on(device, batch_of(mine))
            with nullcontext() if a == batches - 1 else accelerator.no_sync(model):
                with torch.autocast(device.type, torch.bfloat16, enabled=half):
                    losses = model(batch)
                loss = losses["loss"]
                if not torch.isfinite(loss):
                    raise V2AError(f"the loss is {loss.item()} at step {step}; try a lower rate than {optim.lr:g}")
                accelerator.backward(loss / batches if batches > 1 else loss)
            averaged.add()
        averaged.average(accelerator)
        if optim.clip_value is None:
            accelerator.clip_grad_norm_(model.parameters(), optim.clip_norm)
        else:
            accelerator.clip_grad_value_(model.parameters(), optim.clip_value)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if ema is not None:
            ema.step(trained)
        done = step + 1
        evaluated = eval_fn is not None and eval_every > 0 and (done % eval_every == 0 or done == last)
        if not main:
            if patience and evaluated and best.agree(accelerator):
                break
            continue
        entry: dict[str, float] = {}
        if done % optim.log_every == 0 or done == last:
            entry = {k: round(float(v.detach()), 5) for k, v in losses.items()}
        if eval_fn and evaluated:
            entry |= _evaluate(eval_fn, done, module, trained, ema, out)
            if patience and best.improved(entry["val_loss"], done):
                _save_best(state.with_name(BEST), module, trained, ema)
        if entry:
            seconds = round(time.perf_counter() - began, 2)
            line = {"step": done, **entry, "rate": optim.rate(step), "seconds": seconds}
            _append(out / "log.jsonl", json.dumps(line) + "\n")
        if done % optim.save_every == 0 or done == last or best.over:
            _save(state, module, optimizer, ema, done, time.perf_counter() - began, best)
        if patience and evaluated and best.agree(accelerator):
            break
    accelerator.wait_for_everyone()
    if ema is not None:
        ema.copy_to(trained)
    if patience and until is None:
        _load_best(state.with_name(BEST), module)
    return module.eval()


class _Best:
    """The smallest validation loss so far, and whether there was none smaller for long."""

    def __init__(self, patience: int) -> None:
        self.patience, self.value, self.step, self.worse = patience, math.inf, 0, 0

    @property
    def over(self) -> bool:
        return 0 < self.patience <= self.worse

    def improved(self, value: float, step: int) -> bool:
        """Take the next evaluation in; whether it is the best so far."""
        if value < self.value:
            self.value, self.step, self.worse = value, step, 0
            return True
        self.worse += 1
        return False

    def agree(self, accelerator) -> bool:
        """Whether to end, as the main process found: all processes must ask."""
        said = torch.tensor(float(self.over), device=accelerator.device)
        return bool(accelerator.reduce(said, "sum") > 0)

    def load(self, saved: list[float] | None) -> None:
        if saved is not None:
            self.value, self.step, self.worse = saved[0], int(saved[1]), int(saved[2])


def _save_best(path: Path, module: nn.Module, trained: list[nn.Parameter], ema) -> None:
    """Keep the weights that were just evaluated."""
    if ema is not None:
        ema.store(trained)
        ema.copy_to(trained)
    _write(path, module.state_dict())
    if ema is not None:
        ema.restore(trained)


def _load_best(path: Path, module: nn.Module) -> None:
    try:
        module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # missing, cut off, or of another network: of many kinds
        what = (str(error) or type(error).__name__).splitlines()[0]
        raise V2AError(f"{path} cannot be read ({what}); remove {path.parent} to train from the beginning") from error


def _on(device: torch.device, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.to(device) for name, value in batch.items()}


def _ema(parameters: list[nn.Parameter], decay: float):
    from diffusers.training_utils import EMAModel

    return EMAModel(parameters, decay=decay)


def _evaluate(
    eval_fn: EvalFn, step: int, module: nn.Module, trained: list[nn.Parameter], ema, out: Path
) -> dict[str, float]:
    """The numbers of ``eval_fn``; its sound becomes a file. Where there is a moving average, that is evaluated."""
    module.eval()
    if ema is not None:
        ema.store(trained)
        ema.copy_to(trained)
    with torch.no_grad():
        numbers = dict(eval_fn(step, module))
    if ema is not None:
        ema.restore(trained)
    sample = numbers.pop("sample", None)
    if sample is not None:
        media.save_wav(sample, out / "samples" / f"{step}.wav")
    return numbers


class _AveragedBuffers:
    """The mean of the buffers that the batches of a step leave, whichever process computes them.

    Every batch starts from the buffers that the step began with; of numbers that are counted, the last batch's count
    stays. With one batch a step nothing is done.
    """

    def __init__(self, module: nn.Module, batches: int) -> None:
        self.buffers = list(module.buffers()) if batches > 1 else []
        self.batches = batches
        self.before = [b.clone() for b in self.buffers]
        self.sums = [torch.zeros_like(b) for b in self.buffers]

    def restore(self) -> None:
        for buffer, before in zip(self.buffers, self.before, strict=True):
            buffer.copy_(before)

    def add(self) -> None:
        for total, buffer in zip(self.sums, self.buffers, strict=True):
            total.add_(buffer)

    def average(self, accelerator) -> None:
        for total, buffer in zip(self.sums, self.buffers, strict=True):
            if buffer.is_floating_point():
                buffer.copy_(accelerator.reduce(total, "sum") / self.batches)


def _has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is fast there; a CPU without its instructions would imitate them."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    about = getattr(torch.cpu, "get_capabilities", dict)()  # older torch has no such question
    return device.type == "cpu" and bool(about.get("avx512_bf16") or about.get("amx_bf16"))


def _save(path: Path, module: nn.Module, optimizer, ema, step: int, seconds: float, best: _Best) -> None:
    inner = getattr(optimizer, "optimizer", optimizer)
    saved = {"module": module.state_dict(), "optimizer": inner.state_dict(), "step": step, "seconds": seconds}
    if ema is not None:
        saved["ema"] = ema.state_dict()
    if best.patience:
        saved["best"] = [best.value, best.step, best.worse]
    _write(path, saved)


def _write(path: Path, saved: dict) -> None:
    try:
        with atomic(path) as partial:
            torch.save(saved, partial)
    except RuntimeError as error:  # torch's word for a full disk
        raise V2AError(f"{path}: cannot be written: {str(error).splitlines()[0]}") from error


def _append(path: Path, line: str) -> None:
    """Write a line to a log; an error names the file."""
    try:
        with path.open("a") as log:
            log.write(line)
    except OSError as error:
        raise V2AError(f"{path}: cannot be written: {error.strerror}") from error


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
    write_text(path, "".join(line + "\n" for line in kept))
