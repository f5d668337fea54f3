"""What an evaluation costs: ``python benchmarks/evaluation.py [--clips 200 --seconds 2.56]``.

Clips of Strike World are written to a folder; their "generated" sounds are the true ones, 30 ms late, which cost what
any sound costs. Then ``v2a-nb evaluate`` scores them, in a process of its own, by every metric that needs no download:
from nothing, and again with the features that the first run kept. Printed are processor seconds, clock seconds and peak
memory of each.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from v2a_nb import media
from v2a_nb.metrics.ladder import delayed
from v2a_nb.metrics.registry import METRICS
from v2a_nb.world.writing import write_world

FEW = {"fad_inf": 2000}
"""Windows that a metric needs at least, where it is left out of smaller evaluations."""


def main() -> int:
    """Print a row for each run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=2.56)
    args = parser.parse_args()
    names = offline(args.clips)
    print(f"{args.clips} clips of {args.seconds:g} s by {len(names)} metrics, with controls")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_world(folder / "w", args.clips, seconds=args.seconds, seed=2000)
        for path in (folder / "w" / "stems").glob("*.mix.wav"):
            late = delayed(media.open_sound(path), 0.03)
            media.save_wav(late, folder / "made" / path.name.replace(".mix", ""))
        for title in ("from nothing", "again, with the features kept"):
            cpu, clock, peak = measure(folder, names)
            print(f"  {title:30} {cpu:7.1f} CPU s {clock:7.1f} s by the clock {peak:6.0f} MB")
    return 0


def offline(clips: int) -> list[str]:
    """The metrics that need no download, no pairs and no more than 2.56 s, with their shipped extractors."""
    some = [entry for entry in METRICS.values() if entry.gives != "texts" and entry.name != "desync_s"]
    some = [entry for entry in some if not any(need.endswith(" pairs") for need in entry.needs)]
    return [entry.name for entry in some if 4 * clips >= FEW.get(entry.name, 0)]


def measure(folder: Path, names: list[str]) -> tuple[float, float, float]:
    """Processor seconds, clock seconds and peak memory (MB) of one evaluation."""
    words = ["--generated", "made", "--reference", "w/stems", "--videos", "w/clips", "--truth", "w/truth.json"]
    words += ["--metrics", ",".join(names), "--cache", "features", "--json", "scores.json", "--html", "scores.html"]
    command = [sys.executable, "-m", "v2a_nb", "evaluate", *words]
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said = (process.stderr.read() if process.stderr else "").strip().splitlines()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(said[-1] if said else f"the evaluation ended with status {status}")
    return used.ru_utime + used.ru_stime, time.perf_counter() - began, used.ru_maxrss / 1024


if __name__ == "__main__":
    raise SystemExit(main())
