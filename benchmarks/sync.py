"""How far to believe our judge of synchrony: ``python benchmarks/sync.py [--clips 24 --seconds 2.56 --seed 8100]``.

True sounds of Strike World are shifted by each of 21 offsets; what comes in is silence. Printed are the shares of exact
answers, of those within a class, and of none; then the control ladder of the synchrony metrics, with what is not in
order.
"""

from __future__ import annotations

import argparse
import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # numpy reads it when it is loaded

import numpy as np  # noqa: E402


def main() -> int:
    """Print the answers to known shifts, and the ladder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=2.56)
    parser.add_argument("--seed", type=int, default=8100)
    parser.add_argument("--metrics", default="sync_offset_s,sync_tiled_s,cavp,av_sync_acc")
    args = parser.parse_args()
    from v2a_nb.clip import Sound
    from v2a_nb.metrics.evaluate import evaluate_ladder
    from v2a_nb.metrics.extractors import load_extractor
    from v2a_nb.metrics.sync import OFFSETS_S, Protocol, late_s
    from v2a_nb.world import strike_world

    judge, protocol = load_extractor("strike-sync"), Protocol()
    items = list(strike_world(args.seed, args.clips, seconds=args.seconds))
    errors = np.full((len(items), len(OFFSETS_S)), np.nan)
    for row, item in zip(errors, items, strict=True):
        (start,) = protocol.starts(item.clip.duration)
        seen = judge.look(item.clip.silent(), start, protocol)
        sound = item.stems["mix"]
        for k, late in enumerate(-OFFSETS_S):
            shift = round(late * sound.sample_rate)
            wave = np.roll(sound.samples, shift, axis=1)
            wave[:, slice(0, shift) if shift > 0 else slice(sound.n + shift, sound.n)] = 0
            row[k] = late_s(judge.offsets(seen, Sound(wave, sound.sample_rate), start, protocol)) - late
    print(f"{judge.tag}, {len(items)} clips of {args.seconds:g} s, seed {args.seed}\n")
    print("late by s       exact  within a class  no answer")
    for least, most in ((0.0, 0.0), (0.2, 0.4), (0.6, 1.0), (1.2, 2.0)):
        part = errors[:, (np.abs(OFFSETS_S) > least - 0.01) & (np.abs(OFFSETS_S) < most + 0.01)]
        known = np.abs(part[np.isfinite(part)])
        shares = [float(np.mean(known < limit)) if len(known) else float("nan") for limit in (0.01, 0.21)]
        print(f"{least:.1f} to {most:.1f}     {shares[0]:6.2f} {shares[1]:15.2f} {np.isnan(part).mean():10.2f}")
    ladder = evaluate_ladder(items, args.metrics.split(","))
    print()
    for row in ladder.metrics:
        print(row["name"], f"[{row['extractor']}]", *(f"{name} {value:.3f};" for name, value in row["values"].items()))
        print("  ", "; ".join(row["flags"]) or "in order")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
