"""Optical flow: how long a second of video takes.

    python benchmarks/optical_flow.py

Prints, for clips of Strike World at 25 frames a second, the processor's seconds for a second of video, in one thread:
flow alone, drawn as colour, and as motion vectors; the least of several runs.
"""

from __future__ import annotations

import argparse
import time

from v2a_nb.models.optical_flow import displacements, flow_clip, motion_vectors
from v2a_nb.world import strike_world

WORK = {
    "flow": lambda clip: list(displacements(clip)),
    "drawn as colour": flow_clip,
    "motion vectors": lambda clip: motion_vectors(clip, 50.0),
    "AV-Align's flow": lambda clip: list(displacements(clip, "farneback")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    for size in (64, 112, 224):
        clip = strike_world(seed=0, clips=1, size=size)[0].clip
        for name, work in WORK.items():
            seconds = []
            for _ in range(args.runs):
                start = time.process_time()
                work(clip)
                seconds.append(time.process_time() - start)
            print(f"{size:4d} px  {name:16s} {min(seconds) / clip.duration:.3f} s")


if __name__ == "__main__":
    main()
