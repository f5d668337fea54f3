"""Saliency of the systems, judged: all methods beside maps that never asked a system, on clips whose truth is known.

``v2a-nb score saliency`` explains a part of the sound of each clip, 0.8 s in which something is struck at a moment that
the part does not give away, and asks all judges of :mod:`v2a_nb.saliency.judges`. Every map is judged against the
truth, those of slow methods on fewer clips; judges that ask the system again and again are asked on fewer clips, too.
``n`` says on how many. ``pointing_6pc_over_motion`` is by how much a method points better than motion energy, with the
interval of the paired difference; of a method without a place, the same in time. In some clips things move all the time
and never make a sound, and these clips have a table of their own, because there motion alone leads astray.

A method is marked, and its maps are not to be believed, where its maps survive randomized weights, or where it does not
point better than motion energy does on the same clips (a paired test, recordings swapped).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from v2a_nb.errors import UsageError
from v2a_nb.files import write_text
from v2a_nb.hub import find_weights
from v2a_nb.metrics.statistics import accuracy_with_interval, compare_paired, mean, mean_with_interval
from v2a_nb.saliency import judges
from v2a_nb.saliency.methods import DEFAULT, METHODS, attribute
from v2a_nb.saliency.result import Saliency
from v2a_nb.saliency.targets import Target, target_of
from v2a_nb.scores.base import Job
from v2a_nb.scores.systems import SIZE, TESTS
from v2a_nb.systems.registry import load
from v2a_nb.training.results import MAPS, Row, Table, digest_of
from v2a_nb.world import WorldClip, strike_world
from v2a_nb.world.picture import silent_movers

SYSTEMS = ("vaura", "egosonics", "action2sound", "vta_ldm")
COUNTS = {"vaura": 100, "egosonics": 30, "action2sound": 30, "vta_ldm": 30}
"""Clips: a diffusion system is asked several times for each gradient, and takes the time of three V-AURAs."""
FEW, SECONDS, WINDOW_S = 6, 2.56, 0.8
"""Clips of what is slow, their seconds, and seconds of the sound that are explained."""
SHARES = ("pointing", "pointing_6pc", "temporal_pointing_80ms")
"""Judges that say yes or no."""
SPACE = (*SHARES[:2], "relevance_mass", "pixel_ap", "area_iou")
"""Judges of the place."""
OVER_MOTION = "pointing_6pc_over_motion"
"""See :func:`over_motion`."""
SLOW = ("occlusion", "integrated_gradients")
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

    @property
    def distracted(self) -> bool:
        """Whether things move in the clip that never make a sound."""
        return silent_movers(self.item.recording) > 0


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
    job: Job,
    folder: str | Path | None,
    systems: Sequence[str] = SYSTEMS,
    weights: Mapping[str, str] | None = None,
) -> Iterator[tuple[str, list[Table]]]:
    """Judge all methods on all systems, one after the other.

    Args:
        job: how many clips, and says what is done.
        folder: keeps the numbers of single clips, a file for each system, so that a run that was stopped goes on where
            it was; left out, they are not kept.
        systems: names out of :data:`SYSTEMS`.
        weights: folders of other weights by system; left out, the shipped ones.

    Yields:
        the name of a system, and its tables ``saliency`` and ``saliency_distractors``, the latter of the clips in which
        things move without a sound.

    Raises:
        WeightsError: there are no such weights.
        UsageError: the folder has numbers of other weights or settings.
    """
    for name in systems:
        where = (weights or {}).get(name)
        test, count, model = TESTS[name], job.count(COUNTS[name]), load(name, where)
        there = cases(test.seed, count)
        few = _of_different_recordings(there, FEW)
        settings = {"seed": test.seed, "seconds": SECONDS, "window_s": WINDOW_S, "code": _code()}
        settings["weights"] = digest_of(find_weights(where or name))
        kept = _Kept(None if folder is None else Path(folder) / f"{name}.jsonl", settings)
        for k, case in enumerate(there):
            if k % 10 == 0:
                job.say(f"{name}: clip {k + 1} of {len(there)}")
            wanted = [*_methods(k in few), *judges.BASELINE_MAPS]
            wanted = [method for method in wanted if not kept.has(k, method, again=k in few)]
            if not wanted:
                continue
            target = target_of(model, case.item.clip, case.item.stems["mix"], case.window)
            other = None if k not in few else _another_video(there, k, model)
            for method in wanted:
                made = attribute(target, method) if method in METHODS else judges.baseline_map(method, target)
                numbers = judges.against_truth(made.map, made.fps, case.masks, case.times)
                if other is not None:
                    numbers |= _again(made, target, other)
                kept.add(k, method, case.item.recording.id, numbers, again=k in few)
            vars(case.item).pop("clip", None)
        yield name, tables_of(job, kept.scores(len(there)), [case.distracted for case in there], len(few), settings)


def tables_of(
    job: Job,
    scores: Mapping[str, Mapping[int, tuple[str, dict[str, float]]]],
    distracted: Sequence[bool],
    few: int,
    settings: Mapping[str, object],
) -> list[Table]:
    """The tables of all clips, and of those in which things move without a sound.

    Args:
        job: whose tables they are.
        scores: by method and clip, the recording and the numbers.
        distracted: of each clip, whether such things move in it.
        few: clips of slow methods and judges.
        settings: that the tables tell.
    """
    told = {k: settings[k] for k in ("seed", "seconds", "window_s")}
    marks = marked(scores)
    about = {"clips": len(distracted), "few": few, **told}
    about["marked"] = "; ".join(f"{m}: {why}" for m, why in marks.items()) or "none"
    version, command = job.table("", []).version, "v2a-nb score saliency"
    tables = [Table("saliency", command, tuple(rows_of(scores)), version, MAPS, "subject", about=about)]
    some = {m: {k: v for k, v in clips.items() if distracted[k]} for m, clips in scores.items()}
    rows = rows_of(some, (*SPACE, *SHARES[2:], OVER_MOTION))
    if rows:
        about = {"clips": sum(distracted), "few": few, **told}
        tables.append(Table("saliency_distractors", command, tuple(rows), version, MAPS, "subject", about=about))
    return tables


def _code() -> str:
    """Twelve hexadecimal digits of all code in ``saliency/``: numbers of other methods or judges are not the same."""
    digest = hashlib.sha256()
    for path in sorted(Path(judges.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


class _Kept:
    """Numbers of single clips, in a file of lines of JSON, or in memory alone.

    Args:
        path: of the file; its first line has the settings.
        settings: under which numbers are the same.

    Raises:
        UsageError: the file has numbers of other settings.
    """

    def __init__(self, path: Path | None, settings: Mapping[str, object]) -> None:
        self.path, self.first, self.lines = path, json.dumps(settings), {}
        if path is None:
            return
        if not path.exists():
            return
        first, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
        if first != self.first:
            raise UsageError(f"{path}: the numbers in it are of other weights or settings; give another folder")
        for line in lines:
            found = json.loads(line)
            self.lines[found["clip"], found["method"]] = found

    def has(self, clip: int, method: str, *, again: bool) -> bool:
        """Whether the numbers of a clip are there; ``again``: also those of judges that ask the system again."""
        found = self.lines.get((clip, method))
        return found is not None and (found["again"] or not again)

    def add(self, clip: int, method: str, recording: str, numbers: dict[str, float], *, again: bool) -> None:
        """Note what judges said of the map of a method."""
        line = {"clip": clip, "method": method, "recording": recording, "again": again, "numbers": numbers}
        self.lines[clip, method] = line
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, "\n".join([self.first, *map(json.dumps, self.lines.values()), ""]))

    def scores(self, count: int) -> dict[str, dict[int, tuple[str, dict[str, float]]]]:
        """By method, in the order of :data:`METHODS`, and clip, of the first ``count``: its recording and numbers."""
        found: dict[str, dict[int, tuple[str, dict[str, float]]]] = {}
        for method in (*_methods(True), *judges.BASELINE_MAPS):
            there = [self.lines[k, method] for k in range(count) if (k, method) in self.lines]
            found[method] = {line["clip"]: (line["recording"], line["numbers"]) for line in there}
        return found


def _of_different_recordings(there: Sequence[Case], count: int) -> set[int]:
    """Indices of the first case of each of the first recordings."""
    first: dict[str, int] = {}
    for k, case in enumerate(there):
        first.setdefault(case.item.recording.id, k)
    return set([*first.values()][:count])


def _another_video(there: Sequence[Case], k: int, model) -> Tensor:
    """Frames [1, T, 3, H, W] of the next case that is of another recording."""
    others = [*there[k + 1 :], *there[:k]]
    other = next((c for c in others if c.item.recording.id != there[k].item.recording.id), there[k])
    frames = model.encoder.pixels(other.item.clip)
    vars(other.item).pop("clip", None)
    return frames.roll(frames.shape[1] // 2, dims=1) if other is there[k] else frames


def _methods(all_methods: bool) -> list[str]:
    """Methods, the default first; slow ones only where all are asked for."""
    return [m for m in sorted(METHODS, key=lambda m: m != DEFAULT) if all_methods or m not in SLOW]


def _again(made: Saliency, target: Target, other: Tensor) -> dict[str, float]:
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


def rows_of(
    scores: Mapping[str, Mapping[int, tuple[str, dict[str, float]]]], metrics: Sequence[str] | None = None
) -> list[Row]:
    """The table's rows: means with intervals that draw whole recordings.

    Args:
        scores: by method and clip, the recording and the numbers.
        metrics: left out, all.
    """
    rows = []
    for metric in metrics or (*SPACE, *SHARES[2:], OVER_MOTION, *AGAIN):
        for method, clips in scores.items():
            if metric == OVER_MOTION:
                found = over_motion(scores, method) if method in METHODS else None
                if found:
                    measured = {"value": found["difference"], "low": found["low"], "high": found["high"]}
                    rows.append(Row.of(method.replace("_", " "), measured | {"n": found["n"]}, metric))
                continue
            kept = [(r, n[metric]) for r, n in clips.values() if np.isfinite(n.get(metric, np.nan))]
            if not kept:
                continue
            recordings, values = [r for r, _ in kept], [v for _, v in kept]
            measure = accuracy_with_interval if metric in SHARES else mean_with_interval
            rows.append(Row.of(method.replace("_", " "), measure(values, recordings), metric))
    return rows


def over_motion(scores: Mapping[str, Mapping[int, tuple[str, dict[str, float]]]], method: str) -> dict:
    """By how much a method points better than motion energy on the same clips; empty without such clips.

    A method that knows no place is compared in time.

    Returns:
        as :func:`~v2a_nb.metrics.statistics.compare_paired`, and ``metric``, ``own``, ``motion`` and ``n``.
    """
    clips, motion = scores[method], scores.get("motion energy", {})
    placed = any("pointing_6pc" in n for _, n in clips.values())
    metric = "pointing_6pc" if placed else "temporal_pointing_80ms"
    pairs = [(r, motion[k][1][metric], n[metric]) for k, (r, n) in clips.items() if k in motion]
    pairs = [pair for pair in pairs if np.isfinite(pair[1:]).all()]
    if not pairs:
        return {}
    recordings, before, own = zip(*pairs, strict=True)
    about = {"metric": metric, "own": mean(own), "motion": mean(before), "n": len(pairs)}
    return {**compare_paired(before, own, mean, recordings), **about}


def marked(scores: Mapping[str, Mapping[int, tuple[str, dict[str, float]]]]) -> dict[str, str]:
    """Why the maps of a method are not to be believed, by method; those that pass are left out."""
    found = {}
    for method, clips in scores.items():
        if method not in METHODS:
            continue
        why = []
        stays = mean([n.get("randomization", np.nan) for _, n in clips.values()])
        if stays >= judges.SURVIVES:
            why.append(f"survives randomized weights ({stays:.2f})")
        beats = over_motion(scores, method)
        if beats and (not beats["difference"] > 0 or not beats["p"] < 0.05):
            why.append(
                f"does not beat motion energy ({beats['own']:.2f} against {beats['motion']:.2f} in {beats['metric']})"
            )
        if why:
            found[method] = " and ".join(why)
    return found
