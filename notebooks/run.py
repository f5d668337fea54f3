"""Run every notebook in its own process; print time and peak memory; fail over a limit or on any error.

``python notebooks/run.py [NAME ...] [--keep FOLDER] [--seconds 180]`` - executed copies go to FOLDER. The limits
are those of the house: 2 GB, which is what Binder gives, and three minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

HERE = Path(__file__).parent
LIMIT_MB, LIMIT_S = 2048, 180

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


def tree_mb(pid: int) -> float:
    """Resident memory of a process and its children, MB (shared pages counted in each)."""
    try:
        root = psutil.Process(pid)
        return sum(p.memory_info().rss for p in [root, *root.children(recursive=True)]) / 2**20
    except psutil.NoSuchProcess:
        return 0.0


def stop(child: subprocess.Popen) -> None:
    """End a notebook's process and its kernel."""
    try:
        for process in psutil.Process(child.pid).children(recursive=True):
            process.kill()
    except psutil.NoSuchProcess:
        pass  # it has ended by itself meanwhile
    child.kill()
    child.wait()


def run(path: Path, keep: Path | None, limit_s: float = LIMIT_S) -> tuple[str, float, float]:
    """Execute one notebook: what went wrong (or nothing), seconds, peak MB."""
    copy = "" if keep is None else str((keep / path.name).resolve())
    began, peak, problem = time.perf_counter(), 0.0, ""
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
                peak = max(peak, tree_mb(child.pid))
                if peak > LIMIT_MB:
                    problem = f"over {LIMIT_MB} MB"
                if time.perf_counter() - began > limit_s:
                    problem = f"over {limit_s:g} s"
                if problem:
                    break
                time.sleep(0.2)
        finally:  # also when a person interrupts: no kernel is left behind
            stop(child)
        words.seek(0)
        lines = words.read().strip().splitlines()
    if child.returncode and not problem:
        problem = "\n".join(lines[-25:]) or f"exit {child.returncode}"
    return problem, time.perf_counter() - began, peak


def main() -> int:
    """Run the named notebooks, or all; returns 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--seconds", type=float, default=LIMIT_S, help="limit of each (default: %(default)s)")
    args = parser.parse_args()
    there = sorted(HERE.glob("*.ipynb"))
    unknown = set(args.names) - {p.stem for p in there}
    if unknown:
        parser.error(f"no notebook {', '.join(sorted(unknown))}; there are {', '.join(p.stem for p in there)}")
    if args.keep:
        args.keep.mkdir(parents=True, exist_ok=True)
    failed = 0
    for path in there:
        if args.names and path.stem not in args.names:
            continue
        problem, seconds, peak = run(path, args.keep, args.seconds)
        print(f"{path.stem:32} {seconds:6.1f} s {peak:6.0f} MB  {'FAILED' if problem else 'ok'}", flush=True)
        if problem:
            failed += 1
            print(problem, flush=True)
    return min(1, failed)


if __name__ == "__main__":
    raise SystemExit(main())
