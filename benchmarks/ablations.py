"""What each part of EgoSonics is worth: its ablations on the clips of its score table (the paper's table 3).

``python benchmarks/ablations.py [--run runs/egosonics] [--clips 200] [--card]``

``no_syncronet`` is the shipped system with the control path left out. The others were trained anew, each as
``python -m v2a_nb.training.egosonics --ablation NAME`` does, with the steps that the card says.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from scores import ROOT, put, score

NAMES = ("fps30", "fps15", "fps4", "no_cross_attention")
SHOWN = ("onset_f1_50ms", "material_accuracy", "near_miss_silent", "vaas_acc")
MEANING = {
    "fps30": "the whole, trained as briefly as the others",
    "fps15": "15 frames a second",
    "fps4": "4 frames a second",
    "no_cross_attention": "without cross-attention to the video",
    "no_syncronet": "without SyncroNet: text of the mean frame alone",
}


def main() -> int:
    """Print, and with ``--card`` write, the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/egosonics"), help="folder of the ablations' run")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--only", nargs="+", choices=MEANING, default=list(MEANING))
    parser.add_argument("--json", type=Path, help="keep the numbers there, and go on from what it holds")
    parser.add_argument("--card", action="store_true", help="write the model card's and the README's table")
    args = parser.parse_args()
    import torch

    import v2a_nb as v2a

    torch.set_num_threads(1)
    found = json.loads(args.json.read_text()) if args.json and args.json.exists() else {}
    guidance = v2a.load("egosonics").config.guidance  # the whole's: what is compared is the network
    for name in (n for n in args.only if n not in found):
        folder = args.run / "ablations" / name / "weights"
        model = v2a.load("egosonics", folder if name in NAMES else None)
        options = {"no_syncronet": True} if name == "no_syncronet" else {}
        report = score("egosonics", model, args.clips, controls=False, guidance=guidance, **options)
        found[name] = {m["name"]: {k: m[k] for k in ("value", "low", "high")} for m in report.metrics}
        found[name]["steps"] = model.card["steps"]
        print(f"{name}\n{report}", flush=True)
        if args.json:
            args.json.write_text(json.dumps(found) + "\n")
    print(table(found))
    if args.card:
        path = ROOT / "v2a_nb" / "weights" / "egosonics" / "config.json"
        config = json.loads(path.read_text())
        kept = {n: {k: rounded(v) for k, v in row.items() if k in (*SHOWN, "steps")} for n, row in found.items()}
        config["ablations"] = kept
        path.write_text(json.dumps(config, indent=1) + "\n")
        for target in (path.parent / "README.md", ROOT / "README.md"):
            put(target, "ablations egosonics", table(found))
    return 0


def table(found: dict) -> str:
    """Markdown: a row for each ablation."""
    lines = ["| | steps | " + " | ".join(f"`{n}`" for n in SHOWN) + " |", "|---" * (2 + len(SHOWN)) + "|"]
    for name in (n for n in MEANING if n in found):
        cells = [f"{v['value']:.3g} [{v['low']:.3g}, {v['high']:.3g}]" for v in (found[name][n] for n in SHOWN)]
        lines.append(f"| {MEANING[name]} | {found[name]['steps']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def rounded(value):
    """Numbers of a card: four digits are more than the clips can tell."""
    return {k: round(v, 4) for k, v in value.items()} if isinstance(value, dict) else value


if __name__ == "__main__":
    raise SystemExit(main())
