"""What each part of a system is worth: its papers' ablations on the clips of its score table.

``python benchmarks/ablations.py egosonics|action2sound [--run runs/SYSTEM] [--clips 200] [--json F] [--card]``

Rows with an asterisk were trained anew, each as ``python -m v2a_nb.training.SYSTEM --ablation NAME`` does, with the
steps that the table says; the others are the shipped weights with something left out or put in another's place.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scores import ROOT, clips_of, put, score

from v2a_nb.clip import Sound


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        meaning: in words.
        anew: trained anew; else the shipped weights.
        weights: of which row's training, where it is not this one's.
        options: of ``generate``.
        ambient: from the clips to a condition for each, where it is not what the system would choose.
        system: another system than the table's.
        pool: retrieval from so many sounds of the pool; None is all.
        style: of the world's pictures, where it is not the camera's.
    """

    meaning: str
    anew: bool = False
    options: dict = field(default_factory=dict)
    ambient: Callable[[list], list[Sound]] | None = None
    system: str = ""
    pool: int | None = None
    style: str | None = None
    weights: str = ""


def neighbours(clips: list) -> list[Sound]:
    """Another moment of each clip's own recording: the best condition there is."""
    from v2a_nb.data.neighbours import neighbours_of

    return [near.stems["mix"] for near in neighbours_of(clips)]


def any_sounds(clips: list) -> list[Sound]:
    """The paper's random condition: a sound of the pool, whatever the clip looks like."""
    pool = _retrieval().pool
    return [pool.sound(int(row)) for row in np.random.default_rng(0).choice(pool.searched, len(clips))]


def _retrieval():
    import v2a_nb as v2a

    return v2a.load("retrieval")


ANEW = "the whole, trained as briefly as the others"
TABLES: dict[str, dict[str, Row]] = {
    "egosonics": {
        "fps30": Row(ANEW, anew=True),
        "fps15": Row("15 frames a second", anew=True),
        "fps4": Row("4 frames a second", anew=True),
        "no_cross_attention": Row("without cross-attention to the video", anew=True),
        "no_syncronet": Row("without SyncroNet: text of the mean frame alone", options={"no_syncronet": True}),
    },
    "action2sound": {
        "neighbour": Row("shipped, told a neighbour", ambient=neighbours),
        "game": Row("shipped, told a neighbour; flat game graphics", ambient=neighbours, style="game"),
        "retrieved": Row("shipped, told a retrieved sound"),
        "random_condition": Row("shipped, told a random sound", ambient=any_sounds),
        "low": Row("shipped, told the quietest sound", options={"ambient": "low"}),
        "no_vocoder": Row("without vocoder: Griffin-Lim", ambient=neighbours, options={"vocoder": "griffin-lim"}),
        "retrieval": Row("no generation: the retrieved sound itself, of 950", system="retrieval"),
        "retrieval_300": Row("the same of 300", system="retrieval", pool=300),
        "retrieval_100": Row("the same of 100", system="retrieval", pool=100),
        "whole": Row(ANEW, anew=True, ambient=neighbours),
        "no_condition": Row("without condition", anew=True),
        "denoised": Row("without condition, denoised targets", anew=True),
        "own_actions": Row("neighbours of the same things, told a neighbour", anew=True, ambient=neighbours),
        "own_actions_retrieved": Row("the same, told a retrieved sound", anew=True, weights="own_actions"),
        "whole_retrieved": Row(f"{ANEW}, told a retrieved sound", anew=True, weights="whole"),
        "no_time_bias": Row("without the time bias", anew=True, ambient=neighbours),
        "no_row_values": Row("all rows hear the same of a video token", anew=True, ambient=neighbours),
        "fps5": Row("5 frames a second", anew=True, ambient=neighbours),
        "fps8": Row("8 frames a second", anew=True, ambient=neighbours),
        "fps10": Row("10 frames a second", anew=True, ambient=neighbours),
    },
}
SHOWN = {
    "egosonics": ("onset_f1_50ms", "material_accuracy", "near_miss_silent", "vaas_acc"),
    "action2sound": ("onset_f1_50ms", "material_accuracy", "near_miss_silent", "ambience_error_db", "fad"),
}


def main() -> int:
    """Print, and with ``--card`` write, the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("system", choices=TABLES)
    parser.add_argument("--run", type=Path, help="folder of the ablations' run (default: runs/SYSTEM)")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--only", nargs="+", help="names of rows")
    parser.add_argument("--json", type=Path, help="keep the numbers there, and go on from what it holds")
    parser.add_argument("--card", action="store_true", help="write the model card's and the README's table")
    args = parser.parse_args()
    name, rows = args.system, TABLES[args.system]
    unknown = [n for n in args.only or () if n not in rows]
    if unknown:
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(rows)}")
    import torch

    torch.set_num_threads(1)
    found = json.loads(args.json.read_text()) if args.json and args.json.exists() else {}
    for key in (n for n in args.only or rows if n not in found):
        report, card = scored(name, key, args.run or Path("runs") / name, args.clips)
        found[key] = {m["name"]: {k: m[k] for k in ("value", "low", "high")} for m in report.metrics}
        found[key]["steps"] = card.get("steps", "")
        print(f"{key}\n{report}", flush=True)
        if args.json:
            args.json.write_text(json.dumps(found) + "\n")
    made = table(name, found)
    print(made)
    if args.card:
        path = ROOT / "v2a_nb" / "weights" / name / "config.json"
        config = json.loads(path.read_text())
        shown = SHOWN[name]
        config["ablations"] = {
            n: {k: rounded(v) for k, v in row.items() if k in (*shown, "steps")} for n, row in found.items()
        }  # fmt: skip
        path.write_text(json.dumps(config, indent=1) + "\n")
        for target in (path.parent / "README.md", ROOT / "README.md"):
            put(target, f"ablations {name}", made)
    return 0


def scored(name: str, key: str, run: Path, clips: int):
    """The report of one row, and the card of the weights that it is of."""
    import v2a_nb as v2a

    row = TABLES[name][key]
    if row.system == "retrieval":
        model = _retrieval()
        if row.pool is not None:
            model.pool = part_of(model.pool, row.pool)
        return score("retrieval", model, clips, controls=False), {}
    model = v2a.load(name, run / "ablations" / (row.weights or key) / "weights" if row.anew else None)
    options = dict(row.options)
    if "guidance" not in options:
        options["guidance"] = v2a.load(name).config.guidance  # the whole's: what is compared is the network
    if row.ambient is not None:
        options["ambient"] = row.ambient(list(clips_of(name, clips, row.style)))
    return score(name, model, clips, controls=False, style=row.style, **options), model.card


def part_of(pool, count: int):
    """A pool of so many of its sounds, drawn at random."""
    rows = np.sort(np.random.default_rng(0).permutation(pool.searched)[:count])
    sources = [pool.sources[i] for i in rows]
    return type(pool)(pool.heard[rows], pool.seen[rows], sources, pool.quiet[rows], pool.sample_rate, tag=pool.tag)


def table(name: str, found: dict) -> str:
    """Markdown: a row for each ablation."""
    shown = SHOWN[name]
    lines = ["| | steps | " + " | ".join(f"`{n}`" for n in shown) + " |", "|---" * (2 + len(shown)) + "|"]
    for key, row in ((k, r) for k, r in TABLES[name].items() if k in found):
        cells = [cell(found[key][n]) if n in found[key] else "" for n in shown]
        lines.append(f"| {row.meaning}{' *' if row.anew else ''} | {found[key]['steps']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(told: dict) -> str:
    """A value with its interval."""
    return f"{told['value']:.3g} [{told['low']:.3g}, {told['high']:.3g}]"


def rounded(value):
    """Numbers of a card: four digits are more than the clips can tell."""
    return {k: round(v, 4) for k, v in value.items()} if isinstance(value, dict) else value


if __name__ == "__main__":
    raise SystemExit(main())
