"""Run every notebook in its own process; print its work and peak memory; fail over a limit or on any error.

``python notebooks/run.py [NAME ...] [--keep FOLDER [--stale]] [--seconds 360] [--jobs 2]`` - executed copies go to
FOLDER, and to its ``notebooks.json`` what each took; with ``--stale``, only those run whose copy there was made of
another text or another package. The documentation is made of these copies.

The limits are those of the house: 2 GB, which is what Binder gives, and three minutes of two cores. They are counted as
work of a processor: by the clock, a notebook beside a busy neighbour takes seven times as long as alone. One that waits
for ever is stopped after fifteen minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import psutil

HERE = Path(__file__).parent
PACKAGE = HERE.parent / "v2a_nb"
LIMIT_MB, LIMIT_S = 2048, 360
HUNG_S = 900.0  # by the clock: a notebook that waits for ever does no work that could be counted

CHILD = """
import sys, nbformat
from nbclient import NotebookClient
book = nbformat.read(sys.argv[1], as_version=4)
try:
    NotebookClient(book, timeout=None, kernel_name="python3", resources={"metadata": {"path": sys.argv[2]}}).execute()
finally:
    if sys.argv[3]:
        nbformat.write(book, sys.argv[3])
alarms = [o for c in book.cells if c.cell_type == "code" for o in c.outputs
          if o.output_type == "stream" and o.name == "stderr" and "Warning" in o.text]
if alarms:
    sys.exit("a warning in a cell: " + alarms[0].text)
"""


class Outcome(NamedTuple):
    """What one notebook took, and what went wrong (empty: nothing)."""

    problem: str
    work_s: float
    clock_s: float
    peak_mb: float


def tree_use(pid: int) -> tuple[float, float]:
    """Resident memory, MB (shared pages counted in each), and work, s, of a process and its children."""
    memory = work = 0.0
    try:
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            memory += process.memory_info().rss / 2**20
            # user and system, of itself and of the children that have ended
            work += sum(process.cpu_times()[:4])
    except psutil.NoSuchProcess:
        return 0.0, 0.0  # one of them ended while it was asked: the next look counts
    return memory, work


def stop(child: subprocess.Popen) -> None:
    """End a notebook's process and its kernel."""
    try:
        for process in psutil.Process(child.pid).children(recursive=True):
            process.kill()
    except psutil.NoSuchProcess:
        pass  # it has ended by itself meanwhile
    child.kill()
    child.wait()


def run(path: Path, keep: Path | None, limit_s: float = LIMIT_S) -> Outcome:
    """Execute one notebook within ``limit_s`` seconds of work."""
    copy = "" if keep is None else str((keep / path.name).resolve())
    began, peak, work, problem = time.perf_counter(), 0.0, 0.0, ""
    environment = {"V2A_NB_PRESET": "tiny", **os.environ}
    # a file and not a pipe: a pipe that nobody reads blocks the child once it is full
    with tempfile.TemporaryFile("w+", errors="replace") as words:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path), str(HERE), copy],
            stderr=words,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
        try:
            while child.poll() is None:
                memory, worked = tree_use(child.pid)
                peak, work = max(peak, memory), max(work, worked)
                if peak > LIMIT_MB:
                    problem = f"over {LIMIT_MB} MB"
                if work > limit_s:
                    problem = f"over {limit_s:g} s of work"
                if time.perf_counter() - began > HUNG_S:
                    problem = f"{work:.0f} s of work in {HUNG_S:g} s: it hangs, or the machine is busy"
                if problem:
                    break
                time.sleep(0.2)
        finally:  # also when a person interrupts: no kernel is left behind
            stop(child)
        words.seek(0)
        lines = words.read().strip().splitlines()
    if child.returncode and not problem:
        problem = "\n".join(lines[-25:]) or f"exit {child.returncode}"
    return Outcome(problem, work, time.perf_counter() - began, peak)


def package_digest() -> str:
    """A digest of all files of the package, with their names."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def record(keep: Path) -> dict[str, dict]:
    """What ``notebooks.json`` says of the executed copies in a folder, by the notebooks' names."""
    path = keep / "notebooks.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def main() -> int:
    """Run the named notebooks, or all; returns 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="for executed copies")
    parser.add_argument("--stale", action="store_true", help="skip those whose copy is as it would be again")
    parser.add_argument("--seconds", type=float, default=LIMIT_S, help="work of each, at most (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="how many at once (default: %(default)s)")
    args = parser.parse_args()
    if args.stale and not args.keep:
        parser.error("--stale: --keep says where the copies are")
    there = sorted(HERE.glob("*.ipynb"))
    unknown = set(args.names) - {p.stem for p in there}
    if unknown:
        parser.error(f"no notebook {', '.join(sorted(unknown))}; there are {', '.join(p.stem for p in there)}")
    wanted = [path for path in there if not args.names or path.stem in args.names]
    failed, kept, made_of = False, {}, {}
    if args.keep:
        args.keep.mkdir(parents=True, exist_ok=True)
        kept, package = record(args.keep), package_digest()
        made_of = {p.stem: hashlib.sha256(p.read_bytes() + package.encode()).hexdigest() for p in wanted}
    if args.stale:
        same = {
            n for n, digest in made_of.items() if kept.get(n, {}).get("made_of") == digest and not kept[n]["problem"]
        }
        wanted = [path for path in wanted if path.stem not in same or not (args.keep / path.name).exists()]
    with ThreadPoolExecutor(max(1, args.jobs)) as pool:
        outcomes = pool.map(lambda path: run(path, args.keep, args.seconds), wanted)
        for path, outcome in zip(wanted, outcomes, strict=True):
            words = "FAILED" if outcome.problem else "ok"
            print(
                f"{path.stem:28} {outcome.work_s:6.1f} s of work {outcome.clock_s:6.1f} s by the clock "
                f"{outcome.peak_mb:6.0f} MB  {words}",
                flush=True,
            )
            if args.keep:
                kept[path.stem] = {**outcome._asdict(), "made_of": made_of[path.stem]}
                whole = json.dumps(dict(sorted(kept.items())), indent=1) + "\n"
                (args.keep / "notebooks.json").write_text(whole, encoding="utf-8")
            if outcome.problem:
                failed = True
                print(outcome.problem, flush=True)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
