"""How far a training run is, read from what it has written: ``log.jsonl``, ``plan.json``, ``samples/STEP.wav``.

Nothing here writes, so a run of another process can be read while it trains, and is never disturbed.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from v2a_nb.errors import UsageError

WINDOW = 20  # lines that the pace is taken from
QUIET_S, PATIENCE_S = 60.0, 3600.0  # without news for so long: named as quiet; no longer watched
RESERVED = ("step", "steps", "rate", "seconds")


def read_log(path: str | Path) -> tuple[list[dict[str, float]], list[str]]:
    """Read a ``log.jsonl`` that may be in the middle of being written: its lines, and what was wrong with others.

    A last line without its end is not yet a line. Where steps go back (a run was resumed), the later lines count.

    Raises:
        UsageError: there is no such file, or it cannot be read.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8", "replace")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    lines: list[dict[str, float]] = []
    problems = []
    written = text.split("\n")
    for number, line in enumerate(written, 1):
        if not line.strip():
            continue
        try:
            read = json.loads(line)
            if type(read["step"]) is not int or not 0 <= read["step"] < 2**53:
                raise ValueError("no step")
            numbers = {k: float(v) for k, v in read.items() if isinstance(v, int | float)}
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            if number < len(written):
                problems.append(f"{Path(path).name}, line {number}: not a line of a training log")
            continue
        while lines and lines[-1]["step"] >= read["step"]:
            lines.pop()
        lines.append({**numbers, "step": read["step"]})
    return lines, problems


def pace(lines: Sequence[dict[str, float]]) -> float | None:
    """Seconds a step over the last lines; None before there are two.

    From the log's own clock, which stands still between the parts of a resumed run. Where that clock was set back,
    that one interval is left out.
    """
    timed = [(line["step"], line["seconds"]) for line in lines if math.isfinite(line.get("seconds", math.nan))]
    spans = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(timed) if b[1] > a[1]][-WINDOW:]
    return sum(s for _, s in spans) / sum(n for n, _ in spans) if spans else None


def smooth(values: Sequence[float]) -> list[float]:
    """A running mean that forgets over a 25th of the values; the first ones are not pulled to zero."""
    keep = math.exp(-1 / max(1.0, len(values) / 25))
    means, total, weight = [], 0.0, 0.0
    for value in values:
        total, weight = keep * total + value, keep * weight + 1
        means.append(total / weight)
    return means


@dataclass(frozen=True)
class Progress:
    """The progress of a run; None stands for what is not known."""

    state: str  # waiting (nothing logged yet), training, quiet (no news for long), done or broken
    name: str = ""  # the stage: a folder inside of the run's
    lines: list[dict[str, float]] = field(default_factory=list)
    step: int = 0
    total: int | None = None  # steps planned
    left_s: float | None = None
    pace_s: float | None = None  # seconds a step
    age_s: float = 0.0  # since the log was written
    sample: tuple[Path, float] | None = None  # the newest in samples/, and when it was written (s, epoch)
    sample_age: str = ""  # in words
    problems: list[str] = field(default_factory=list)

    def series(self, key: str) -> list[tuple[float, float]]:
        """(step, value) of every line that has a finite value of that name."""
        return [(line["step"], line[key]) for line in self.lines if math.isfinite(line.get(key, math.nan))]

    def words(self) -> list[str]:
        """State, times, values and problems, a line each."""
        head = f"{self.name}: " if self.name else ""
        if not self.lines:
            return [head + line for line in self.problems or ["waiting for the first line of log.jsonl"]]
        of = f" of {self.total:,} ({100 * self.step // self.total} %)" if self.total else ""
        news = f", no news for {span(self.age_s)}: stopped, or busy" if self.state == "quiet" else ""
        times = [f"{span(self.lines[-1]['seconds'])} spent"] if "seconds" in self.lines[-1] else []
        if self.pace_s is not None and self.state != "done":
            unknown = "time left not known (no plan.json)"
            times.append(unknown if self.left_s is None else f"about {span(self.left_s)} left")
            quick = f"{1 / self.pace_s:.3g} steps a second"
            times.append(quick if self.pace_s < 0.5 else f"{self.pace_s:.3g} s a step")
        newest = {k: v for line in self.lines for k, v in line.items() if k not in RESERVED}
        values = [f"{k} {v:.4g}" for k, v in newest.items()]
        values += [f"rate {self.lines[-1]['rate']:.3g}"] if "rate" in self.lines[-1] else []
        state = "done" if self.state == "done" else "training"
        lines = [f"{head}{state}, step {self.step:,}{of}{news}", " · ".join(times), " · ".join(values)]
        return [line for line in [*lines, *(f"problem: {line}" for line in self.problems)] if line]


def look(
    folder: str | Path, *, steps: int | None = None, log: Path | None = None, now: float | None = None
) -> Progress:
    """Read what a run has written so far; never raises for what a run may leave behind.

    Args:
        folder: the run's folder, one that holds stages (the one last written is taken), or a ``log.jsonl``.
        steps: planned steps, where the run has not written them.
        log: the log to read, instead of looking for it.
        now: seconds since the epoch, for ages; left out, the clock.
    """
    folder, now = Path(folder), time.time() if now is None else now
    log = log or find_log(folder)
    if log is None:
        there = "no log.jsonl in it yet" if folder.is_dir() else "no such folder yet"
        return Progress("waiting", problems=[f"{folder}: {there}"])
    name = "" if log.parent == folder or log == folder else str(log.parent.relative_to(folder))
    try:
        lines, problems = read_log(log)
        age = max(0.0, now - log.stat().st_mtime)
    except (UsageError, OSError) as error:
        return Progress("broken", name, problems=[str(error)])
    del problems[5:]
    sample = _newest_sample(log.parent / "samples")
    age_of_it = f"{sample[0].name}, {span(now - sample[1])} old" if sample else ""
    found = {"sample": sample, "sample_age": age_of_it, "age_s": age, "problems": problems}
    if not lines:
        return Progress("broken" if problems else "waiting", name, **found)
    step, total = lines[-1]["step"], steps if steps is not None else _planned(log.parent / "plan.json", problems)
    if total is not None and step > total:
        problems.append(f"{total} steps are planned, but the log is at {step}: the plan is another run's")
        total = None
    each = pace(lines)
    left = None if total is None or each is None else each * (total - step)
    between = step - lines[-2]["step"] if len(lines) > 1 else 0
    quiet = age > max(QUIET_S, 5 * between * (each or 0))
    state = "done" if step == total else "quiet" if quiet else "training"
    return Progress(state, name, lines, step, total, left, each, **found)


def find_log(folder: Path, current: Path | None = None) -> Path | None:
    """The log of a run, or of the stage that writes; ``current`` is kept while no other is two minutes newer."""
    if folder.is_file():
        return folder
    written: dict[Path | None, float] = {}
    for path in (p for pattern in ("log.jsonl", "*/log.jsonl", "*/*/log.jsonl") for p in folder.glob(pattern)):
        with suppress(OSError):  # gone in the meantime
            written[path] = path.stat().st_mtime
    newest = max(written, key=lambda path: (written[path], str(path)), default=None)
    return current if current in written and written[newest] - written[current] < 2 * QUIET_S else newest


def _planned(path: Path, problems: list[str]) -> int | None:
    try:
        plan = json.loads(path.read_bytes())
        total = plan.get("last", plan.get("steps"))
        if type(total) is int and total > 0:
            return total
        problems.append(f"{path.name} names no steps")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        if not isinstance(error, FileNotFoundError):
            problems.append(f"{path.name} cannot be read: {type(error).__name__}")
    return None


def _newest_sample(folder: Path) -> tuple[Path, float] | None:
    found = []
    for path in folder.glob("[!.]*.wav"):
        with suppress(OSError, ValueError):  # gone in the meantime
            found.append((path.stat().st_mtime, int(path.stem) if path.stem.isdecimal() else -1, path))
    return (max(found)[2], max(found)[0]) if found else None


def span(seconds: float) -> str:
    """A length of time in words: ``3 min 20 s``."""
    if not math.isfinite(seconds):
        return "an unknown time"
    whole = round(max(0.0, seconds))
    for size, name, small, below in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // small} {below}"
    return f"{whole} s"


def over(progress: Progress, folder: Path) -> bool:
    """Whether nothing more is to come: the run's last stage is done, or nothing was written for an hour."""
    weights = folder / "weights"  # a stage in a folder below is followed by the next, until there are weights
    last = not progress.name or (weights.is_dir() and weights.stat().st_mtime >= time.time() - progress.age_s - 1)
    return (progress.state == "done" and last) or progress.age_s > PATIENCE_S
