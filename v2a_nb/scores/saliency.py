"""Saliency of the systems, judged: all methods beside maps that never asked a system, on clips whose truth is known.

``v2a-nb score saliency`` explains a part of the sound of each clip, 0.8 s in which something is struck at a moment that
the part does not give away, and asks all judges of :mod:`v2a_nb.saliency.judges`. Every map is judged against the
truth, those of slow methods on fewer clips; judges that ask the system again and again are asked on fewer clips, too.
``n`` says on how many.

A method is marked, and its maps are not to be believed, where its maps survive randomized weights, or where it does not
point better than motion energy does on the same clips (a paired test, recordings swapped).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from v2a_nb.metrics.statistics import accuracy_with_interval, compare_paired, mean, mean_with_interval
from v2a_nb.saliency import judges
from v2a_nb.saliency.methods import DEFAULT, METHODS, attribute
from v2a_nb.saliency.result import Saliency
from v2a_nb.saliency.targets import Target, target_of
from v2a_nb.scores.base import Job
from v2a_nb.scores.systems import SIZE, TESTS
from v2a_nb.systems.registry import load
from v2a_nb.training.results import MAPS, Row, Table
from v2a_nb.world import WorldClip, strike_world

SYSTEMS = ("vaura", "egosonics", "action2sound")
COUNT, FEW, SECONDS, WINDOW_S = 100, 6, 2.56, 0.8
"""Clips, clips of what is slow, their seconds, and seconds of the sound that are explained."""
SHARES = ("pointing", "pointing_6pc", "temporal_pointing_80ms")
"""Judges that say yes or no."""
SLOW = ("occlusion",)
AGAIN = ("faithfulness_blur", "faithfulness_linear", "infidelity", "sensitivity", "randomization", "permutation")
"""Judges that ask the system again."""


@dataclass(frozen=True)
class Case:
    """A clip, what of its sound is explained, and the truth about that.

    Attributes:
        item: the clip.
        window: seconds.
        times: of the true events in it, seconds.
        masks: of the sounding region in the frames around them, bool [n, H, W].
    """

    item: WorldClip
    window: tuple[float, float]
    times: list[float]
    masks: np.ndarray


def cases(seed: int, count: int) -> list[Case]:
    """Clips of a world in each of which something begins to sound, and a window around that moment."""
    found: list[Case] = []
    clips = strike_world(seed, 2 * count + 8, seconds=SECONDS, size=SIZE, per_recording=2)
    for k, item in enumerate(clips):
        times = [event["time_s"] for event in item.truth["events"] if event["sounding"]]
        inside = [t for t in times if 0.15 <= t <= SECONDS - 0.25]
        if len(found) == count or not inside:
            continue
        rng = np.random.default_rng((seed, k))
        start = inside[rng.integers(len(inside))] - rng.uniform(0.1, WINDOW_S - 0.15)
        start = float(np.clip(start, 0.0, SECONDS - WINDOW_S))
        window = (start, start + WINDOW_S)
        true = [t for t in times if window[0] <= t < window[1]]
        frames = item.clip.times
        near = np.any([(frames >= t - 0.02) & (frames <= t + 0.2) for t in true], axis=0)
        found.append(Case(item, window, true, item.masks[near]))
        for part in ("clip", "masks"):  # a world clip keeps its pictures: a hundred are too many
            vars(item).pop(part, None)
    return found


def saliency(
    job: Job, folder: None, systems: Sequence[str] = SYSTEMS, weights: Mapping[str, str] | None = None
) -> Iterator[tuple[str, list[Table]]]:
    """Judge all methods on all systems, one after the other.

    Args:
        job: how many clips, and says what is done.
        folder: none is needed.
        systems: names out of :data:`SYSTEMS`.
        weights: folders of other weights by system; left out, the shipped ones.

    Yields:
        the name of a system, and its table ``saliency``.

    Raises:
        WeightsError: there are no such weights.
    """
    for name in systems:
        test, count = TESTS[name], job.count(COUNT)
        model = load(name, (weights or {}).get(name))
        scores: dict[str, list[tuple[str, dict[str, float]]]] = {}
        there = cases(test.seed, count)
        previous = None  # another video, for permutation
        for k, case in enumerate(there):
            if k % 10 == 0:
                job.say(f"{name}: clip {k + 1} of {len(there)}")
            clip = case.item.clip
            target = target_of(model, clip, case.item.stems["mix"], case.window)
            for method, made in _maps(target, k < FEW):
                numbers = judges.against_truth(made.map, made.fps, case.masks, case.times)
                if k < FEW:
                    numbers |= _again(made, target, previous)
                scores.setdefault(method, []).append((case.item.recording.id, numbers))
            previous = target.frames
            vars(case.item).pop("clip", None)
        rows, marks = rows_of(scores), marked(scores)
        about = {"clips": len(there), "few": min(FEW, len(there)), "seed": test.seed, "seconds": SECONDS}
        about |= {"window_s": WINDOW_S, "marked": "; ".join(f"{m}: {why}" for m, why in marks.items()) or "none"}
        version, command = job.table("", []).version, "v2a-nb score saliency"
        yield name, [Table("saliency", command, tuple(rows), version, MAPS, "subject", about=about)]


def _maps(target: Target, all_methods: bool) -> Iterator[tuple[str, Saliency]]:
    """Maps of all methods, the default first, and of the baselines."""
    for method in sorted(METHODS, key=lambda m: m != DEFAULT):
        if all_methods or method not in SLOW:
            yield method, attribute(target, method)
    for name in judges.BASELINE_MAPS:
        yield name, judges.baseline_map(name, target)


def _again(made: Saliency, target: Target, other) -> dict[str, float]:
    """Numbers of the judges that ask the system again; of baselines those that need no method."""
    found = {
        f"faithfulness_{fill}": judges.insertion_deletion(made, target, fill)["faithfulness"] for fill in judges.FILLS
    }
    found["infidelity"] = judges.infidelity(made, target)
    if made.method in METHODS and made.method not in SLOW:
        found["sensitivity"] = judges.sensitivity(made, target, samples=2)
        found["randomization"] = judges.randomization(made, target)
        found["permutation"] = judges.permutation(made, target, other)
    elif made.method in SLOW:
        found["randomization"] = judges.randomization(made, target)
    return found


def rows_of(scores: Mapping[str, Sequence[tuple[str, dict[str, float]]]]) -> list[Row]:
    """The table's rows: means with intervals that draw whole recordings.

    Args:
        scores: by method, for each clip its recording and its numbers.
    """
    rows = []
    for metric in (*SHARES[:2], "relevance_mass", "pixel_ap", "area_iou", SHARES[2], *AGAIN):
        for method, clips in scores.items():
            kept = [(r, n[metric]) for r, n in clips if np.isfinite(n.get(metric, np.nan))]
            if not kept:
                continue
            recordings, values = [r for r, _ in kept], [v for _, v in kept]
            measure = accuracy_with_interval if metric in SHARES else mean_with_interval
            rows.append(Row.of(method.replace("_", " "), measure(values, recordings), metric))
    return rows


def marked(scores: Mapping[str, Sequence[tuple[str, dict[str, float]]]]) -> dict[str, str]:
    """Why the maps of a method are not to be believed, by method; those that pass are left out."""
    found = {}
    motion = scores.get("motion energy", [])
    for method, clips in scores.items():
        if method not in METHODS:
            continue
        why = []
        stays = mean([n.get("randomization", np.nan) for _, n in clips])
        if stays >= judges.SURVIVES:
            why.append(f"survives randomized weights ({stays:.2f})")
        placed = any("pointing_6pc" in n for _, n in clips)
        metric = "pointing_6pc" if placed else "temporal_pointing_80ms"
        pairs = [(r, m[metric], n[metric]) for (r, n), (_, m) in zip(clips, motion, strict=False)]
        pairs = [pair for pair in pairs if np.isfinite(pair[1:]).all()]
        if pairs:
            recordings, before, own = zip(*pairs, strict=True)
            beats = compare_paired(before, own, mean, recordings)
            if not beats["difference"] > 0 or not beats["p"] < 0.05:
                why.append(f"does not beat motion energy ({mean(own):.2f} against {mean(before):.2f} in {metric})")
        if why:
            found[method] = " and ".join(why)
    return found
