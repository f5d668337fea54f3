"""Pictures of what systems do on real clips: ``python benchmarks/real_pictures.py FOLDER --out docs``.

``real_scores.png`` is drawn from the ``results.json`` of the shipped weights alone. ``real_clips.png`` needs the folder
of clips with ``onsets.tsv``: the best system makes their sounds, and four clips are shown, that of the highest onset F1
and those at the quartiles below it. There are curves in it, and nothing of the pictures.
"""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # numpy and torch read it when they are loaded

import numpy as np

PARTS = ("value", "low", "high")
SHARES = (1.0, 0.75, 0.5, 0.25)
"""Where the clips that are shown stand among all, by their F1."""


def scores_picture():
    """Onset F1 within 100 ms of all systems and baselines on all clips, and of shifted onsets, with intervals."""
    from v2a_nb import plots
    from v2a_nb.scores.real_results import rows
    from v2a_nb.scores.registry import SYSTEMS

    ax, titles = None, {name: re.sub(r"\[(.*?)\].*", r"\1", title) for name, title in SYSTEMS.items()}  # without links
    for k, (metric, label) in enumerate({"onset_f1_100ms": "onset F1", "onset_f1_100ms_shifted": "shifted"}.items()):
        found = {row.subject: {part: getattr(row, part) for part in PARTS} for row in rows(titles, [metric])}
        fig = plots.intervals(found, ax, xlabel="onset F1 within 100 ms", label=label, shift=0.22 * k)
        ax = fig.axes[0]
    return plots.show(fig)


def clips_picture(folder: Path):
    """Four clips through the best system: the true waveform, generated onsets and expected hits."""
    from matplotlib.figure import Figure

    from v2a_nb import plots
    from v2a_nb.audio.onsets import detect_onsets, onset_scores
    from v2a_nb.scores.real import RealSet
    from v2a_nb.scores.real_results import best_sensitivity, best_system
    from v2a_nb.scores.registry import SYSTEMS
    from v2a_nb.systems.registry import load

    name = best_system(SYSTEMS)
    clips, model, sensitivity = RealSet(folder), load(name), best_sensitivity(name)
    how = {} if sensitivity is None else {"sensitivity": sensitivity}
    onsets = [detect_onsets(model.generate(clip.silent(), seed=0, **how)) for clip in clips.clips]
    f1 = [onset_scores(true, found, 0.1)[2] for true, found in zip(clips.true, onsets, strict=True)]
    order = np.argsort(f1, kind="stable")
    shown = [order[round(share * (len(order) - 1))] for share in SHARES]
    fig = Figure(figsize=(9, 1.75 * len(shown)), layout="constrained")
    for i, ax in zip(shown, fig.subplots(len(shown)), strict=True):
        hits, name = model.hits(clips.clips[i], sensitivity=1.0).likely, clips.known[i].path.stem
        title = f"{name}: {model.title}, onset F1 within 100 ms {f1[i]:.2f}"
        plots.against_truth(clips.clips[i].sound, clips.true[i], onsets[i], hits, ax, title=title)
    return plots.show(fig)


def main() -> int:
    """Write the pictures and print their paths."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("folder", nargs="?", type=Path, help="left out, only real_scores.png is drawn")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    args = parser.parse_args()
    figures = {"real_scores.png": scores_picture()}
    if args.folder:
        figures["real_clips.png"] = clips_picture(args.folder)
    for name, figure in figures.items():
        path = figure.save(args.out / name)
        about = PngInfo()
        about.add_text("Description", figure.alt)  # a test compares it with the results
        Image.open(path).save(path, pnginfo=about)
        print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
