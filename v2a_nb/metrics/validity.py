"""Whether metrics of picture and sound hold on the clips at hand: asked of true sounds before generated ones.

A classifier that was trained on one kind of video may be blind on another: ours call the true sounds of some real
clips misaligned. So where the clips' true sounds are given, every metric that looks at the pictures also scores these,
the same half a second late, and those of other clips. Where it does not tell them apart, what it says of generated
sounds means nothing on these clips, and the report says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from v2a_nb.clip import Sound
from v2a_nb.metrics.base import Metric, ScoredClip, plain_name
from v2a_nb.metrics.ladder import delayed
from v2a_nb.metrics.orders import LATE_500, OTHER, OTHER_MATERIAL, TRUTH, order_of
from v2a_nb.metrics.tally import Tally

LATE, FOREIGN = "reference, 500 ms late", "reference of another clip"
LATE_S = 0.5
RUNGS: Mapping[str, tuple[str, ...]] = {LATE: (LATE_500,), FOREIGN: (OTHER, OTHER_MATERIAL)}
"""The controls, and what :mod:`v2a_nb.metrics.orders` calls them."""


def looks(metric: Metric) -> bool:
    """Whether a metric looks at the pictures, and so has something to be blind for."""
    return "video" in metric.needs


def controls_of(clip: ScoredClip, other: Sound | None) -> Iterator[tuple[str, Sound]]:
    """The sounds that are worse than the clip's true one, by control.

    Args:
        clip: with its true sound as ``reference``.
        other: the true sound of a clip of another recording, where there is one.
    """
    if clip.reference is not None:
        yield LATE, delayed(clip.fitted_reference, LATE_S)
    if other is not None:
        yield FOREIGN, other.fit(clip.duration)


def doubts(tally: Tally, true: str = "reference") -> list[dict]:
    """Say of each metric that looks at the pictures where it does not put true sounds over worse ones.

    A metric holds against a control where it promises to (:mod:`v2a_nb.metrics.orders`) and the 95 % interval of the
    difference, on the clips that have both, leaves 0 out.

    Args:
        tally: has scored the true sounds as control ``true``, and those of :func:`controls_of`.
        true: name of that control.

    Returns:
        problems, ``{"id": metric, "what"}``.
    """
    found = []
    for k, (metric, names) in enumerate(tally.metrics):
        if looks(metric):
            found += [
                {"id": name, "what": what}
                for name in names
                for control in RUNGS
                if (what := _doubt(tally, k, metric, name, true, control))
            ]
    return found


def _doubt(tally: Tally, k: int, metric: Metric, name: str, true: str, control: str) -> str:
    """Why a metric does not hold against a control; empty where it does, or does not promise to."""
    promise, plain = order_of(name), plain_name(name)
    promised = {rung for order in promise.orders if TRUTH in order for rung in order[order.index(TRUTH) + 1 :]}
    if not promised & set(RUNGS[control]):
        return ""
    worse = {counted.clip: counted for counted in tally.counted(k, control)}
    pairs = [(one, worse[one.clip]) for one in tally.counted(k, true) if one.clip in worse]
    pairs = [(a, b) for a, b in pairs if metric.comparable(a.row, b.row, plain)]
    if not pairs:
        return ""
    rows = [b.row for _, b in pairs], [a.row for a, _ in pairs]
    gap = metric.difference(*rows, [a.recording for a, _ in pairs], plain)
    low, high = gap["low"], gap["high"]
    if promise.better == "lower":
        low, high = -high, -low
    if math.isfinite(low) and low > 0:
        return ""
    values = [metric.pool(side, plain) for side in rows]
    score = f"it scores their true sounds {values[1]:.3g}, {_NAMED[control]} {values[0]:.3g}"
    if math.isfinite(high) and high <= 0:
        return f"does not hold on these clips: {score}"
    return f"not shown to hold on these {len(pairs)} clips: {score}"


_NAMED = {LATE: "the same 500 ms late", FOREIGN: "those of other clips"}
