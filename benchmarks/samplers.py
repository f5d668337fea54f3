"""What the samplers of a diffusion system cost, and what their sounds score: one row for each way to sample.

    python benchmarks/samplers.py --system egosonics --samplers ddim dpm++ --steps 8 12 20 --intervals 0,1 0.2,0.9

All rows are of the same clips of a Strike World seed on which the shipped settings were chosen and nothing is scored,
under the same seeds of noise, beside the system's own settings. A row costs CPU seconds of one core for a second of
sound, pixels to waveform, in batches of eight. ``ddim`` is of order 1, ``dpm++`` of order 2. Last comes the row with
the least cost of those of which no score is more than ``--within`` worse than the system's own; FAD and errors in dB
may be that share worse. What was found is checked on a seed of its own (``--seed 4300 --clips 128``).
"""

from __future__ import annotations

import argparse
import os
import time
from itertools import product

os.environ.setdefault("OMP_NUM_THREADS", "1")  # numpy and torch read it when they are loaded

METRICS = (
    "onset_f1_50ms", "material_accuracy", "near_miss_silent", "stuck_share", "ambience_error_db", "decay_error_db",
    "fad",
)  # fmt: skip


def measure(model, clips, **how) -> dict[str, float]:
    """Cost and scores of one way to sample."""
    from v2a_nb.metrics.evaluate import evaluate

    spent, generate = 0.0, model.generate

    def timed(*args, **kwargs):
        nonlocal spent
        began = time.process_time()
        made = generate(*args, **kwargs)
        spent += time.process_time() - began
        return made

    model.generate = timed
    try:
        report = evaluate(clips, model, metrics=METRICS, seed=0, controls=False, **how)
    finally:
        del model.generate  # the class's own is there again
    return {"cost": spent / sum(clip.clip.duration for clip in clips), **{name: report[name] for name in METRICS}}


def acceptable(row: dict[str, float], own: dict[str, float], within: float) -> bool:
    """Whether no score is much worse than the system's own."""
    from v2a_nb.metrics.orders import order_of

    for name in METRICS:
        worse = own[name] - row[name] if order_of(name).better == "higher" else row[name] - own[name]
        if worse > within * (own[name] if name == "fad" or name.endswith("_db") else 1):
            return False
    return True


def main() -> int:
    """Print a row for each way as it is there."""
    from v2a_nb.scores.systems import SIZE, TESTS
    from v2a_nb.systems.registry import load
    from v2a_nb.world import strike_world

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--system", default="egosonics", choices=("egosonics", "action2sound", "vta_ldm"))
    parser.add_argument("--weights", help="name or folder (default: the shipped ones)")
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--seed", type=int, default=4000, help="of the world (default: %(default)s)")
    parser.add_argument("--samplers", nargs="+", default=["ddim", "dpm++"])
    parser.add_argument("--steps", nargs="+", type=int, default=[6, 8, 10, 14, 20])
    parser.add_argument("--guidance", nargs="+", type=float, default=[None])
    parser.add_argument("--intervals", nargs="+", default=["0,1", "0.2,1", "0.2,0.9"], help="of guidance")
    parser.add_argument("--within", type=float, default=0.02, help="what a score may lose (default: %(default)s)")
    args = parser.parse_args()
    model = load(args.system, args.weights)
    clips = strike_world(args.seed, args.clips, seconds=TESTS[args.system].seconds, size=SIZE).clips
    measure(model, clips[:2])  # a warm-up
    ways = [{}]
    for sampler, steps, guidance, interval in product(args.samplers, args.steps, args.guidance, args.intervals):
        way = {"sampler": sampler, "steps": steps, "guidance_interval": tuple(map(float, interval.split(",")))}
        ways.append(way if guidance is None else {**way, "guidance": guidance})
    print(f"{args.system}, {args.clips} clips of seed {args.seed}")
    print(f"{'':44} {'CPU s/s':>8} " + " ".join(f"{name:>17}" for name in METRICS))
    rows = []
    for way in ways:
        row = measure(model, clips, **way)
        rows.append((way, row))
        print(line(way, row), flush=True)
    own = rows[0][1]
    good = [(way, row) for way, row in rows if acceptable(row, own, args.within)]
    print(f"least cost within {args.within:g} of the system's own scores:")
    print(line(*min(good, key=lambda each: each[1]["cost"])))
    return 0


def line(way: dict, row: dict[str, float]) -> str:
    """One row of the table."""
    low, high = way.get("guidance_interval", (0, 1))
    text = f"{way['sampler']:6} {way['steps']:3} steps, guidance {low:g} to {high:g}" if way else "as the system is"
    text += f" of {way['guidance']:g}" if "guidance" in way else ""
    return f"{text:44} {row['cost']:8.3f} " + " ".join(f"{row[name]:17.3f}" for name in METRICS)


if __name__ == "__main__":
    raise SystemExit(main())
