"""What a map costs: ``python benchmarks/saliency.py --systems vaura egosonics``.

Each map of a Strike World clip of 2.56 s is made in a process of its own, on one core: by one gradient, by the default
method, and by occlusion, which asks the system again for each part that it hides. A row says the processor seconds and
the seconds of the clock from pixels in memory to the map, without its judges, and the peak memory of the process.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

os.environ["OMP_NUM_THREADS"] = "1"  # the processes inherit it

from v2a_nb.saliency.methods import DEFAULT
from v2a_nb.systems.registry import SYSTEMS, with_weights

MAP = """
import resource, sys, time
import v2a_nb as v2a

clip = v2a.strike_world(seed=8000, clips=1, seconds=2.56, size=224)[0].clip
system = v2a.load(sys.argv[1])
cpu, clock = time.process_time(), time.perf_counter()
v2a.saliency(system, clip, window=(0.8, 1.6), method=sys.argv[2], check=False)
print(time.process_time() - cpu, time.perf_counter() - clock, end=" ")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def main() -> int:
    """Print a row for each system and method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    able = [name for name in SYSTEMS if name in with_weights() and name != "retrieval"]
    parser.add_argument("--systems", nargs="+", choices=able, default=able)
    parser.add_argument("--methods", nargs="+", default=["gradient", DEFAULT, "occlusion"])
    args = parser.parse_args()
    print(f"{'':36} {'CPU s':>8} {'seconds':>8} {'peak MB':>8}")
    for system in args.systems:
        for method in args.methods:
            run = subprocess.run([sys.executable, "-c", MAP, system, method], stdout=subprocess.PIPE, text=True)
            if run.returncode:
                raise SystemExit(f"{system}: no map by {method}")
            cpu, seconds, peak = map(float, run.stdout.split())
            print(f"{system + ', ' + method:36} {cpu:8.1f} {seconds:8.1f} {peak:8.0f}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
