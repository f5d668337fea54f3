"""From the start of a process to the wav of a clip of 1 s, for every system: ``python benchmarks/start.py``.

It prints CPU seconds and peak memory on one thread, the least of some rounds. The rounds are interleaved, so that load
falls on all alike, with a process that only imports torch, which is the floor, and with one that imports what the
system's networks are in the libraries (``transformers`` and ``diffusers``) and generates nothing, which is the peer.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

LIBRARIES = "from transformers import LlamaModel; from diffusers import UNet2DConditionModel, AutoencoderKL"
"""Classes of the libraries' own that the systems are trained with."""


def measure(command: list[str], folder: str) -> tuple[float, float]:
    """CPU seconds and peak megabytes of a process that ends well."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{output.read().decode()}")
    scale = 1024**2 if sys.platform == "darwin" else 1024
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / scale


def main() -> int:
    """Print a row for each process."""
    from v2a_nb.systems.registry import with_weights
    from v2a_nb.world import write_world

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--systems", default=",".join(with_weights()), help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_world(Path(folder) / "world", 1, seconds=1.0, seed=3)
        clip = str(next((Path(folder) / "world" / "clips").glob("*.mp4")))
        python = [sys.executable, "-c"]
        commands = {"import torch": [*python, "import torch"], "import of the libraries": [*python, LIBRARIES]}
        for system in args.systems.split(","):
            # --overwrite: each round makes the sound again
            how = ["--system", system, "--out", str(Path(folder) / system), "--overwrite"]
            commands[system] = [sys.executable, "-m", "v2a_nb", "generate", clip, *how]
        best = dict.fromkeys(commands, (float("inf"), float("inf")))
        for _ in range(args.rounds):
            for name, command in commands.items():
                seconds, megabytes = measure(command, folder)
                best[name] = min(best[name][0], seconds), min(best[name][1], megabytes)
    floor, peer = best["import torch"][0], best["import of the libraries"][0]
    print(f"{'':25} {'CPU s':>6} {'MB':>6} {'of torch':>9} {'of the libraries':>17}")
    for name, (seconds, megabytes) in best.items():
        print(f"{name:25} {seconds:6.2f} {megabytes:6.0f} {seconds / floor:8.2f}x {seconds / peer:16.2f}x")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
