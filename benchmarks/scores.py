"""The score table of a system's ``tiny`` weights: 200 clips of a Strike World seed that training never saw.

``python benchmarks/scores.py SYSTEM [--clips 200] [--weights FOLDER] [--speed] [--card]``
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Test:
    """On what a system is scored.

    Attributes:
        title: column of the table.
        seed: of a world on which nothing was trained or chosen, see ``data/README.md``.
        seconds: of a clip.
        timed_s: how long the clip is whose generation is timed.
        vaas: whether the alignment score of EgoSonics stands in the table.
        fad: whether the Fréchet distance does.
    """

    title: str
    seed: int
    seconds: float
    timed_s: float
    vaas: bool = False
    fad: bool = False


TESTS = {
    "vaura": Test("V-AURA tiny", 8000, 2.56, 2.56),
    "egosonics": Test("EgoSonics tiny", 9000, 5.12, 10.24, vaas=True),
    "action2sound": Test("Action2Sound tiny", 10000, 3.0, 3.0, vaas=True, fad=True),
    "retrieval": Test("Retrieval", 10000, 3.0, 3.0, vaas=True, fad=True),
}

ONE = """
import resource, sys, time, torch
torch.set_num_threads(1)
import v2a_nb as v2a
from v2a_nb.world import strike_world
name, weights, seed, seconds = sys.argv[1:]
clip = strike_world(int(seed), 1, seconds=float(seconds))[0].clip.silent()
model = v2a.load(name, weights or None)
model.generate(clip, seed=0)
began = time.process_time()
for seed in range(3):
    model.generate(clip, seed=seed)
print((time.process_time() - began) / 3, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def main() -> int:
    """Print, and with ``--card`` write, the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("system", choices=TESTS)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--weights", default="")
    parser.add_argument("--speed", action="store_true", help="only time and memory")
    parser.add_argument("--card", action="store_true", help="write the model card and the README's table")
    args = parser.parse_args()
    if args.card and not card_of(args.system).exists():
        parser.error(f"the card of {args.system} is written by its recipe")
    import torch

    import v2a_nb as v2a

    torch.set_num_threads(1)
    test = TESTS[args.system]
    told = [args.system, args.weights, str(test.seed), str(test.timed_s)]
    # first of all: on Linux a child's peak is never under what its parent held when it was started
    child = subprocess.run([sys.executable, "-c", ONE, *told], capture_output=True, text=True, check=True)
    seconds, megabytes = (float(v) for v in child.stdout.split())
    print(
        f"one {test.timed_s:g} s clip, one core, pixels to waveform: {seconds:.2f} s; peak memory of a process: "
        f"{megabytes:.0f} MB",
        flush=True,
    )
    if args.speed:
        return 0
    began = time.process_time()
    report = score(args.system, v2a.load(args.system, args.weights or None), args.clips)
    print(report)
    print(f"{time.process_time() - began:.0f} CPU seconds for everything, {args.clips} clips")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of this evaluation: {peak:.0f} MB")
    if args.card:
        made = table(report, test, seconds, megabytes)
        write_card(args.system, report, made, args.clips, Path(args.weights) if args.weights else None)
    return 0


def clips_of(name: str, clips: int = 200, style: str | None = None):
    """The clips of a system's test, perhaps drawn in another style."""
    from v2a_nb.world import strike_world

    test = TESTS[name]
    how = {} if style is None else {"style": style}
    return strike_world(test.seed, clips, seconds=test.seconds, size=112, **how).clips


def score(name: str, model, clips: int = 200, controls: bool = True, style: str | None = None, **options):
    """The report of a model on the clips of its system's test; ``options`` go to ``generate``."""
    import v2a_nb as v2a
    from v2a_nb.metrics.frechet import StrikeAudio
    from v2a_nb.metrics.vaas.metric import Vaas

    test = TESTS[name]
    judge = Vaas.from_pretrained("vaas") if test.vaas else None
    embed = StrikeAudio.from_pretrained() if test.fad else None
    how = {"vaas": judge, "embed": embed, "controls": controls, **options}
    return v2a.evaluate(clips_of(name, clips, style), model, seed=0, **how)


def table(report, test: Test, seconds: float, megabytes: float) -> str:
    """Markdown: our value with its interval beside the controls."""
    columns = {name: {m["name"]: m["value"] for m in ms} for name, ms in report.controls.items()}
    head = f"| metric | {test.title} | " + " | ".join(columns) + " |"
    lines = [head, "|---" * (2 + len(columns)) + "|"]
    for m in report.metrics:
        cell = f"**{m['value']:.3g}** [{m['low']:.3g}, {m['high']:.3g}]"
        others = " | ".join(f"{c.get(m['name'], float('nan')):.3g}" for c in columns.values())
        lines.append(f"| `{m['name']}` | {cell} | {others} |")
    lines.append(f"| CPU seconds for a {test.timed_s:g} s clip, one core | **{seconds:.2f}** |" + " |" * len(columns))
    lines.append(f"| peak memory of the process, MB | **{megabytes:.0f}** |" + " |" * len(columns))
    return "\n".join(lines)


def write_card(name: str, report, made: str, clips: int, folder: Path | None) -> None:
    """Put the table into the model card, its numbers into the config, and the table into the README."""
    folder = folder or ROOT / "v2a_nb" / "weights" / name
    path, seed = folder / "config.json", TESTS[name].seed
    config = json.loads(path.read_text())
    config["scores"] = {m["name"]: round(m["value"], 4) for m in report.metrics} | {"clips": clips, "seed": seed}
    path.write_text(json.dumps(config, indent=1) + "\n")
    card = card_of(name).read_text()
    (folder / "README.md").write_text(card.replace("{table}", made).replace("{clips}", str(clips)))
    intro = (
        f"{clips} clips of a Strike World seed that training never saw, 95 % intervals over recordings "
        f"(`python benchmarks/scores.py {name}`; the columns on the right are controls):\n\n"
    )
    put(ROOT / "README.md", f"scores {name}", intro + made)


def card_of(name: str) -> Path:
    """What a model card says around its table."""
    return Path(__file__).parent / f"{name}_card.md"


def put(path: Path, mark: str, text: str) -> None:
    """Replace what stands in a file between ``<!-- mark -->`` and ``<!-- /mark -->``."""
    before = path.read_text()
    a, b = before.index(f"<!-- {mark} -->") + len(f"<!-- {mark} -->"), before.index(f"<!-- /{mark} -->")
    path.write_text(before[:a] + "\n" + text + "\n" + before[b:])


if __name__ == "__main__":
    raise SystemExit(main())
