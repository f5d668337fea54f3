"""How well onsets, and curves that should rise at them, agree with the true onsets of a set of clips.

Pooled F1 rewards many onsets, and regular ones agree with anything regular. So each F1 stands beside two controls: the
same onsets against the clip's true ones moved in time by many amounts, circularly, and those of other clips. The AUC
needs no threshold: it is the chance that a curve is higher near a true onset than elsewhere.

Intervals are those of a bootstrap over scenes; see :func:`v2a_nb.metrics.statistics.bootstrap`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from v2a_nb.audio.onsets import match_onsets
from v2a_nb.metrics.statistics import bootstrap, mean
from v2a_nb.training.results import Row

Curve = tuple[np.ndarray, np.ndarray]
"""Times in seconds, increasing, and the value at each."""

WINDOWS_S = (0.05, 0.1)
CONTROLS = ("_shifted", "_other_clips")
SHIFTS, LEAST_SHIFT_S = 19, 0.2
STEP_S = 0.005
NEAR_S = 0.05
"""The AUC compares the largest values within so many seconds of a moment."""
PEAK_REACH_S = 0.04
"""A peak is the largest value within so many seconds on either side."""
SPLITS = 5
PARTS = {"median": 50, "q25": 25, "q75": 75}
"""Percentiles over clips."""


@dataclass(frozen=True)
class Agreement:
    """Counts and measures of one clip.

    Attributes:
        scene: clips of one scene are not independent.
        counts: by window in milliseconds and by ``""``, ``"_shifted"`` or ``"_other_clips"``: how many onsets were
            matched, and how many there are on both sides.
        offsets_ms: of matched onsets, found minus true.
        n: true onsets.
        auc: of :func:`auc`; NaN where there is nothing to compare.
        stuck_share, drone_share: share of the clip's sounds that are loud for much more of the time than its own, and
            share of those that hold on for much longer; NaN where there are no sounds.
    """

    scene: str
    counts: dict[tuple[int, str], tuple[int, int]]
    offsets_ms: np.ndarray
    n: int
    auc: float = float("nan")
    stuck_share: float = float("nan")
    drone_share: float = float("nan")

    def f1(self, window: int, control: str = "") -> float:
        """Onset F1 of this clip; NaN where there are no onsets at all."""
        return f1([self.counts[window, control]])


def agreements(
    true: Sequence[np.ndarray],
    found: Sequence[Sequence[np.ndarray]],
    durations: Sequence[float],
    scenes: Sequence[str],
    **others: Sequence[float],
) -> list[Agreement]:
    """Compare onsets with the true ones, clip by clip.

    Args:
        true: onsets of each clip, seconds.
        found: for each clip, those of each of its sounds or curves (one a seed, say).
        durations: of the clips, seconds.
        scenes: a name for each clip.
        others: ``auc``, ``stuck_share`` and ``drone_share``, one number for each clip; left out, NaN.
    """
    n = len(true)
    made = []
    for i in range(n):
        counts = {}
        for window in WINDOWS_S:
            ms = round(1000 * window)
            counts[ms, ""] = _counts([(true[i], some) for some in found[i]], window)
            moved = [np.sort((true[i] + shift) % durations[i]) for shift in shifts(durations[i])]
            counts[ms, "_shifted"] = _counts([(times, some) for some in found[i] for times in moved], window)
            foreign = [
                _common(true[i], some, min(durations[i], durations[j])) for j in range(n) if j != i for some in found[j]
            ]
            counts[ms, "_other_clips"] = _counts(foreign, window)
        offsets = [
            some[b] - true[i][a] for some in found[i] for a, b in match_onsets(true[i], some, max(WINDOWS_S))
        ]  # fmt: skip
        made.append(
            Agreement(scenes[i], counts, 1000 * np.array(offsets), len(true[i]), **{k: v[i] for k, v in others.items()})
        )
    return made


def rows(subject: str, clips: Sequence[Agreement]) -> list[Row]:
    """All numbers of some clips, with their intervals."""
    scenes = [clip.scene for clip in clips]

    def row(metric: str, score: Callable[[list], float], n: int = len(clips), some: Sequence = clips) -> Row:
        low, high = bootstrap(some, score, scenes)
        return Row.of(subject, {"value": score(list(some)), "low": low, "high": high, "n": n}, metric)

    def mean_of(name: str) -> Callable[[list[Agreement]], float]:
        return lambda some: mean([getattr(clip, name) for clip in some])

    onsets = sum(clip.n for clip in clips)
    found = []
    for window in WINDOWS_S:
        ms = round(1000 * window)
        name = f"onset_f1_{ms}ms"
        for control in ("", *CONTROLS):
            found.append(row(f"{name}{control}", partial(_pooled, window=ms, control=control), onsets))
        found.append(row(f"{name}_over_shifted", partial(_over_shifted, window=ms), onsets))
        per_clip = {
            "per_clip": [clip.f1(ms) for clip in clips],
            "per_clip_over_shifted": [clip.f1(ms) - clip.f1(ms, "_shifted") for clip in clips],
        }
        for what, values in per_clip.items():
            for part, percent in PARTS.items():
                found.append(row(f"{name}_{what}_{part}", partial(_percentile, percent=percent), some=values))
    found.append(row("onset_auc", mean_of("auc")))
    found.append(row("onset_offset_signed_ms", _offset, sum(len(clip.offsets_ms) for clip in clips)))
    found += [row(name, mean_of(name)) for name in ("stuck_share", "drone_share")]
    return [row for row in found if row.value is not None]


def shifts(duration: float) -> np.ndarray:
    """Amounts, seconds, by which a clip's onsets are moved for the control."""
    least = min(LEAST_SHIFT_S, duration / 4)
    return np.linspace(least, duration - least, SHIFTS)


def f1(counts: Sequence[tuple[int, int]]) -> float:
    """F1 of matched and all onsets, pooled; NaN where there are none."""
    matched, total = (sum(int(count[k]) for count in counts) for k in (0, 1))  # numpy would take ten times as long
    return float(2 * matched / total) if total else float("nan")


def on_grid(curve: Curve, duration: float) -> np.ndarray:
    """A curve every 5 ms from 0 on: float [duration / 0.005]; constant before its first and after its last value."""
    return np.interp(np.arange(max(1, round(duration / STEP_S))) * STEP_S, *curve)


def auc(curve: Curve, true: np.ndarray, duration: float) -> float:
    """The chance that a curve is higher near a true onset than elsewhere; NaN where one of both is missing.

    "Near" is the largest value within 50 ms of an onset. "Elsewhere" is the largest value within 50 ms of any other
    moment that is more than 100 ms away from every onset. Moments less than 50 ms from the clip's ends do not count.
    """
    values, reach = on_grid(curve, duration), round(NEAR_S / STEP_S)
    if len(values) <= 2 * reach:
        return float("nan")
    highest = np.lib.stride_tricks.sliding_window_view(values, 2 * reach + 1).max(axis=1)
    moments = np.arange(reach, reach + len(highest)) * STEP_S
    inside = true[(true >= moments[0]) & (true <= moments[-1])]
    if not len(inside):
        return float("nan")
    near = highest[np.round(inside / STEP_S).astype(int) - reach]
    away = np.abs(moments[:, None] - true[None]).min(axis=1)
    elsewhere = highest[away > 2 * NEAR_S]
    if not len(elsewhere):
        return float("nan")
    return float(np.mean((near[:, None] > elsewhere) + 0.5 * (near[:, None] == elsewhere)))


def peaks(curve: Curve, duration: float) -> Curve:
    """Times and heights of a curve's peaks: the largest values within 40 ms on either side, above 0."""
    values, reach = on_grid(curve, duration), round(PEAK_REACH_S / STEP_S)
    padded = np.pad(values, reach, constant_values=-np.inf)
    highest = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).max(axis=1)
    found: list[int] = []
    for at in np.flatnonzero((values >= highest) & (values > 0)):
        if not found or at - found[-1] > reach:  # of equal neighbours only the first is a peak
            found.append(at)
    return np.array(found, int) * STEP_S, values[found]


def crossed(
    curves: Sequence[Curve],
    true: Sequence[np.ndarray],
    durations: Sequence[float],
    scenes: Sequence[str],
    offsets: Sequence[float] = (0.0,),
) -> list[list[np.ndarray]]:
    """Onsets from curves by a threshold that is chosen on one half of the scenes and used on the other, both ways.

    The best one has the largest pooled F1 within 100 ms. Halves are drawn several times.

    Args:
        curves: of each clip.
        true, durations, scenes: of the clips.
        offsets: seconds that may be added to all peaks; the best is chosen with the threshold.

    Returns:
        for each clip, one list of onsets a draw.
    """
    tops = [peaks(curve, seconds) for curve, seconds in zip(curves, durations, strict=True)]
    heights = np.concatenate([height for _, height in tops])
    thresholds = np.unique(np.quantile(heights, np.linspace(0, 0.98, 50))) if len(heights) else np.zeros(1)
    choices = [(threshold, offset) for threshold in thresholds for offset in offsets]
    counts = np.array(
        [
            [_counts([(true[i], _above(tops[i], *choice))], max(WINDOWS_S)) for i in range(len(true))]
            for choice in choices
        ]
    )  # [choices, clips, 2]
    names = sorted(set(scenes))
    found: list[list[np.ndarray]] = [[] for _ in true]
    for split in range(SPLITS):
        order = np.random.default_rng(split).permutation(len(names))
        first = {names[k] for k in order[: len(names) // 2]}
        side = np.array([scene in first for scene in scenes])
        for chosen_on in (side, ~side):
            matched, total = counts[:, chosen_on].sum(axis=1).T
            best = choices[int(np.argmax(2 * matched / np.maximum(total, 1)))]
            for i in np.flatnonzero(~chosen_on):
                found[i].append(_above(tops[i], *best))
    return found


def _above(tops: Curve, threshold: float, offset: float) -> np.ndarray:
    times, height = tops
    return np.maximum(times[height >= threshold] + offset, 0.0)


def _common(true: np.ndarray, found: np.ndarray, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Both as far as the shorter of two clips goes."""
    return true[true < seconds], found[found < seconds]


def _counts(pairs: Sequence[tuple[np.ndarray, np.ndarray]], window: float) -> tuple[int, int]:
    """Matched onsets, and all onsets of both sides."""
    return sum(len(match_onsets(a, b, window)) for a, b in pairs), sum(len(a) + len(b) for a, b in pairs)


def _pooled(clips: Sequence[Agreement], window: int, control: str = "") -> float:
    return f1([clip.counts[window, control] for clip in clips])


def _over_shifted(clips: Sequence[Agreement], window: int) -> float:
    return _pooled(clips, window) - _pooled(clips, window, "_shifted")


def _offset(clips: Sequence[Agreement]) -> float:
    offsets = np.concatenate([clip.offsets_ms for clip in clips]) if len(clips) else np.zeros(0)
    return float(np.median(offsets)) if len(offsets) else float("nan")


def _percentile(values: Sequence[float], percent: float) -> float:
    """As ``np.percentile``, in a tenth of the time for so few values: an interval asks for hundreds."""
    values = sorted(value for value in values if math.isfinite(value))
    if not values:
        return float("nan")
    place = (len(values) - 1) * percent / 100
    below, above = values[int(place)], values[math.ceil(place)]
    return below + (above - below) * (place - int(place))
