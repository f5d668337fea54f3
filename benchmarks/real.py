"""Sim to real: sounds made for real videos, their onsets against those of the videos' own sound.

``python benchmarks/real.py FOLDER [--seeds 3]`` - the weights have never seen a real video. Each video is
paired with its own sound and, as the control, with every other video's; onset F1 at 100 ms is pooled.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np


def main() -> int:
    """Print a row per video, and the pooled F1 beside the shuffled one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--weights", default="")
    args = parser.parse_args()
    import torch

    import v2a_nb as v2a
    from v2a_nb.audio.onsets import detect_onsets, match_onsets

    torch.set_num_threads(1)
    model = v2a.load("vaura", args.weights or None)
    names, true, made, lengths = [], [], [], []
    for path in sorted(args.folder.iterdir()):
        clip = v2a.open(path, size=256)
        if clip.sound is None:
            print(f"{path.name}: no sound of its own, left out")
            continue
        names.append(path.name)
        lengths.append(clip.duration)
        true.append(detect_onsets(clip.sound))
        made.append([detect_onsets(model.generate(clip.silent(), seed=s)) for s in range(args.seeds)])

    def f1(pairs) -> float:
        hits = sum(len(match_onsets(a, b, 0.1)) for a, b in pairs)
        total = sum(len(a) + len(b) for a, b in pairs)
        return 2 * hits / total if total else float("nan")

    for name, a, b in zip(names, true, made, strict=True):
        own = f1([(a, x) for x in b])
        print(f"{name:32} {len(a):3} true onsets, {np.mean([len(x) for x in b]):5.1f} made, F1 at 100 ms {own:.3f}")
    n = len(names)
    matched = f1([(true[i], x) for i in range(n) for x in made[i]])
    # another video's onsets, cut to the length that both have
    others = []
    for i in range(n):
        for j in range(n):
            if i != j:
                end = min(lengths[i], lengths[j])
                others += [(true[i][true[i] < end], x[x < end]) for x in made[j]]
    print(f"pooled onset F1 at 100 ms: {matched:.3f}; shuffled videos: {f1(others):.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
