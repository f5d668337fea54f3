"""How much a system costs: seconds of one core and peak memory, measured in a process of its own.

``python -m v2a_nb.scores.speed NAME WEIGHTS SEED SECONDS`` prints both as JSON, for :func:`cost_of`.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

from v2a_nb.errors import V2AError

ROUNDS = 3


def cost_of(name: str, weights: str, seed: int, seconds: float) -> dict[str, float]:
    """Cost of generating for one Strike World clip, pixels to waveform, on one core, after a warm-up.

    Call it before anything large is loaded: on Linux a child's peak is never under what its parent held when the child
    was started.

    Args:
        name: of the system.
        weights: name or folder.
        seed: of the world.
        seconds: length of the clip.

    Returns:
        ``cpu_s_per_s``, seconds of the processor for each second of the clip, and ``peak_memory_mb`` of the process.
    """
    command = [sys.executable, "-m", __name__, name, weights, str(seed), str(seconds)]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode:
        reason = (made.stderr.strip().splitlines() or ["no word why"])[-1]
        raise V2AError(f"the time of {name} could not be measured: {reason}")
    return json.loads(made.stdout.splitlines()[-1])


def main(name: str, weights: str, seed: str, seconds: str) -> None:
    """Measure here and print."""
    import torch

    from v2a_nb.systems.registry import load
    from v2a_nb.world import strike_world

    torch.set_num_threads(1)
    clip = strike_world(int(seed), 1, seconds=float(seconds))[0].clip.silent()
    model = load(name, weights)
    model.generate(clip, seed=0)
    began = time.process_time()
    for i in range(ROUNDS):
        model.generate(clip, seed=i)
    spent = (time.process_time() - began) / ROUNDS
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"cpu_s_per_s": spent / clip.duration, "peak_memory_mb": peak}))


if __name__ == "__main__":
    main(*sys.argv[1:])
