"""Are sounds in time at any frame rate? ``python benchmarks/frame_rates.py --system vaura --clips 48``.

The same Strike World moments are rendered at each frame rate, the system makes their sounds, and onsets are compared
with the truth: F1 within 25 ms, and the median of how late they are. Everything is measured on one core.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # numpy and torch read it when they are loaded

import numpy as np

RATES = (15, 24000 / 1001, 24, 25, 30000 / 1001, 30, 50, 60, 120)
BATCH = 8


def main() -> int:
    """Print a row for each frame rate."""
    from v2a_nb.metrics.truth import pool, score_clip
    from v2a_nb.systems.registry import load
    from v2a_nb.world import strike_world

    parser = argparse.ArgumentParser(description=__doc__.split("?")[0])
    parser.add_argument("--system", default="vaura")
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--seed", type=int, default=10000, help="of the world (default: %(default)s)")
    args = parser.parse_args()
    system = load(args.system)
    print(
        f"{args.system}, {args.clips} clips of seed {args.seed}\n"
        f"{'fps':>8} {'F1@25ms':>8} {'F1@50ms':>8} {'median late':>12}"
    )
    for fps in RATES:
        items = list(strike_world(seed=args.seed, clips=args.clips, fps=fps))
        scores = []
        for a in range(0, len(items), BATCH):
            some = items[a : a + BATCH]
            sounds = system.generate_batch([i.clip.silent() for i in some], seeds=range(a, a + len(some)))
            scores += [score_clip(sound, item.truth) for sound, item in zip(sounds, some, strict=True)]
        late = 1000 * np.median([offset for score in scores for offset in score.offsets])
        f1 = [pool(scores, f"onset_f1_{ms}ms") for ms in (25, 50)]
        print(f"{fps:8.3f} {f1[0]:8.3f} {f1[1]:8.3f} {late:+9.1f} ms", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
