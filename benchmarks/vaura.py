"""The score table of V-AURA ``tiny``: 200 clips of a Strike World seed that training never saw.

``python benchmarks/vaura.py [--clips 200] [--weights FOLDER] [--card]``
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
SEED = 8000

ONE = """
import resource, sys, time, torch
torch.set_num_threads(1)
import v2a_nb as v2a
from v2a_nb.world import strike_world
clip = strike_world(8000, 1)[0].clip.silent()
model = v2a.load("vaura", sys.argv[1] or None)
model.generate(clip, seed=0)
began = time.process_time()
for seed in range(3):
    model.generate(clip, seed=seed)
print((time.process_time() - began) / 3, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def main() -> int:
    """Print, and with ``--card`` write, the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--weights", default="")
    parser.add_argument("--card", action="store_true", help="write the model card and the README's table")
    args = parser.parse_args()
    import torch

    import v2a_nb as v2a
    from v2a_nb.world import strike_world

    torch.set_num_threads(1)
    model = v2a.load("vaura", args.weights or None)
    world = strike_world(SEED, args.clips, size=112)
    began = time.process_time()
    report = v2a.evaluate(world.clips, model, seed=0)
    print(report)
    print(f"{time.process_time() - began:.0f} CPU seconds for everything, {args.clips} clips")
    child = subprocess.run([sys.executable, "-c", ONE, args.weights], capture_output=True, text=True, check=True)
    seconds, megabytes = (float(v) for v in child.stdout.split())
    print(
        f"one 2.56 s clip, one core, pixels to waveform: {seconds:.2f} s; peak memory of a process: {megabytes:.0f} MB"
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of this evaluation: {peak:.0f} MB")
    if args.card:
        write_card(report, seconds, megabytes, args.clips, Path(args.weights) if args.weights else None)
    return 0


def table(report, seconds: float, megabytes: float) -> str:
    """Markdown: our value with its interval beside the controls."""
    columns = {name: {m["name"]: m["value"] for m in ms} for name, ms in report.controls.items()}
    head = "| metric | V-AURA tiny | " + " | ".join(columns) + " |"
    lines = [head, "|---" * (2 + len(columns)) + "|"]
    for m in report.metrics:
        cell = f"**{m['value']:.3g}** [{m['low']:.3g}, {m['high']:.3g}]"
        others = " | ".join(f"{c.get(m['name'], float('nan')):.3g}" for c in columns.values())
        lines.append(f"| `{m['name']}` | {cell} | {others} |")
    lines.append(f"| CPU seconds for a 2.56 s clip, one core | **{seconds:.2f}** |" + " |" * len(columns))
    lines.append(f"| peak memory of the process, MB | **{megabytes:.0f}** |" + " |" * len(columns))
    return "\n".join(lines)


def write_card(report, seconds: float, megabytes: float, clips: int, folder: Path | None) -> None:
    """Put the table into the model card, its numbers into the config, and both into the README."""
    folder = folder or ROOT / "v2a_nb" / "weights" / "vaura"
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["scores"] = {m["name"]: round(m["value"], 4) for m in report.metrics}
    config["scores"]["clips"], config["scores"]["seed"] = clips, SEED
    path.write_text(json.dumps(config, indent=1) + "\n")
    made = table(report, seconds, megabytes)
    card = (Path(__file__).parent / "vaura_card.md").read_text()
    (folder / "README.md").write_text(card.replace("{table}", made).replace("{clips}", str(clips)))
    readme = ROOT / "README.md"
    text = readme.read_text()
    a, b = text.index("<!-- scores -->") + len("<!-- scores -->"), text.index("<!-- /scores -->")
    intro = (
        f"{clips} clips of a Strike World seed that training never saw, 95 % intervals over recordings "
        "(`python benchmarks/vaura.py`; the columns on the right are controls):\n\n"
    )
    readme.write_text(text[:a] + "\n" + intro + made + "\n" + text[b:])


if __name__ == "__main__":
    raise SystemExit(main())
