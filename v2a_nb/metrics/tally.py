"""Counting: which metrics score which sounds, and what they counted in each clip."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError, V2AError, WeightsError
from v2a_nb.metrics import registry
from v2a_nb.metrics.base import Metric, ScoredClip, load, plain_name
from v2a_nb.metrics.report import Report

Metrics = Sequence[str | Metric] | None
Chosen = list[tuple[Metric, list[str]]]
"""Metrics with those of their names that are asked for."""


class Counted(NamedTuple):
    """What a metric counted in one clip.

    Attributes:
        clip: its id.
        recording: that it was cut from.
        row: what :meth:`~v2a_nb.metrics.base.Metric.score` returned.
    """

    clip: str
    recording: str
    row: Any


class Tally:
    """What the metrics counted, clip by clip, for the generated sounds and for each control.

    Args:
        metrics: as :func:`choose` gives them.
        named: whether they were named, so that one that can score no clip is an error.
    """

    def __init__(self, metrics: Chosen, named: bool = False) -> None:
        self.metrics, self.named = metrics, named
        self.problems: list[dict] = []
        self.clips: list[ScoredClip] = []
        self.refusals: dict[str, str] = {}
        self._counted: dict[str, list[list[Counted]]] = defaultdict(lambda: [[] for _ in self.metrics])
        self._per_clip: list[dict] = []

    def needs(self, need: str) -> bool:
        """Whether a metric needs it."""
        return any(need in metric.needs for metric, _ in self.metrics)

    def score(
        self,
        clip: ScoredClip,
        sound: Sound,
        control: str = "",
        kind: str = "",
        of: Callable[[Metric], bool] = lambda metric: True,
    ) -> None:
        """Score a sound of a clip by every metric that has what it needs.

        Args:
            clip: whose sound it is, or would be.
            sound: to score.
            control: its name; empty for the generated sounds.
            kind: of the control, so that metrics about which it says nothing (``Metric.controls``) leave it out; empty
                for one that all metrics score.
            of: which metrics score it.

        Raises:
            WeightsError: a metric's extractor has none.
        """
        scored, values = clip.with_sound(sound), {"id": clip.id}
        for k, (metric, names) in enumerate(self.metrics):
            if (kind and kind not in metric.controls) or not of(metric):
                continue
            row = None
            if metric.can_score(scored):
                try:
                    row = metric.score(scored)
                except WeightsError:  # of no clip: each would wait for the download again
                    raise
                except V2AError as error:
                    where = f"{names[0]} of {control}" if control else names[0]
                    self.problems.append({"id": clip.id, "what": f"{where}: {error}"})
            if row is not None:
                self._counted[control][k].append(Counted(clip.id, clip.recording, row))
            if metric.per_clip:
                for name in names:
                    values[name] = metric.pool([row], plain_name(name)) if row is not None else float("nan")
        if not control:
            self.clips.append(clip)
            self._per_clip.append(values)

    def counted(self, k: int, control: str = "") -> list[Counted]:
        """What the metric number ``k`` counted."""
        return self._counted[control][k] if control in self._counted else []

    def controls(self) -> list[str]:
        """The names of the controls that were scored."""
        return [control for control in self._counted if control]

    def report(self) -> Report:
        """Everything, pooled. A metric that refuses the sample as too small has NaN, and is among the problems.

        Raises:
            V2AError: a metric that was named could score no clip, or all metrics refuse.
        """
        for k, (metric, names) in enumerate(self.metrics):
            self.problems += metric.left_out([one.row for one in self.counted(k)])
            if self.named and not self.counted(k):
                why = f"; {self.problems[0]['id']}: {self.problems[0]['what']}" if self.problems else ""
                if not any(metric.can_score(clip) for clip in self.clips):
                    why += f"; it needs {' and '.join(registry.NEEDS[need] for need in metric.needs)}"
                raise V2AError(f"{names[0]} could score none of {len(self.clips)} clips{why}")
        own = self.results()
        self.problems += [{"id": names, "what": why} for names, why in self.refusals.items()]
        if self.refusals and len(self.refusals) == len(self.metrics):
            raise V2AError(f"{self.problems[-1]['id']}: {self.problems[-1]['what']}")
        controls = {control: self.results(control) for control in self.controls()}
        return Report(
            len(self.clips), own, self._per_clip, self.problems,
            {control: rows for control, rows in controls.items() if rows},
            recordings=len({clip.recording for clip in self.clips}),
        )  # fmt: skip

    def results(self, control: str = "", intervals: bool = True) -> list[dict]:
        """Rows of a report, in the order of the metrics; without ``intervals``, in a fraction of the time.

        A metric that refuses the sample as too small has NaN; of the generated sounds, :attr:`refusals` says why.
        """
        results = []
        for k, (metric, names) in enumerate(self.metrics):
            counted = self.counted(k, control)
            if counted or not control:
                rows, recordings = [one.row for one in counted], [one.recording for one in counted]
                try:
                    results += metric.results(rows, recordings if intervals else [], names)
                except UsageError as error:
                    nan = float("nan")
                    empty = {"extractor": metric.extractor, "value": nan, "low": nan, "high": nan, "n": len(rows)}
                    results += [{"name": name, **empty} for name in names]
                    if not control:  # controls are as many
                        self.refusals[", ".join(names)] = str(error)
        return results


def choose(metrics: Metrics, given: Collection[str]) -> Chosen:
    """The metrics that are asked for, with their names.

    Args:
        metrics: names, objects, or None for every quick metric that needs no more than ``given``.
        given: out of :data:`~v2a_nb.metrics.registry.NEEDS`.

    Raises:
        UsageError: a metric is unknown, comes twice, or needs what is not given.
    """
    if metrics is None:
        metrics = [e.name for e in registry.METRICS.values() if e.default and set(e.needs) <= set(given)]
    if isinstance(metrics, str):
        raise UsageError(f"metrics is a list of names and Metric objects: give [{metrics!r}]")
    chosen: dict[object, tuple[Metric, list[str]]] = {}
    for asked in metrics:
        if isinstance(asked, str):
            (entry,) = registry.entries([asked])
            where, names = (entry.where, entry.extractor), [entry.asked]
            needs, instead = entry.needs, entry.or_needs
        elif isinstance(asked, Metric):
            where, names, needs, instead = asked, list(asked.names), asked.needs, asked.or_needs
        else:
            what = f"the class {asked.__name__}" if isinstance(asked, type) else described(asked)
            raise UsageError(f"metrics is a list of names and Metric objects; it holds {what}")
        missing = [need for need in needs if need not in given]
        if missing and not (instead and set(instead) <= set(given)):
            also = "".join(f", or {registry.NEEDS[need]}" for need in instead)
            raise UsageError(f"{names[0]} needs {' and '.join(registry.NEEDS[need] for need in missing)}{also}")
        if where not in chosen:
            chosen[where] = (load(entry) if isinstance(asked, str) else asked, [])
        chosen[where][1].extend(names)
    every = [name for _, names in chosen.values() for name in names]
    if not every or len(set(every)) < len(every):
        raise UsageError(f"each metric once, and at least one, and not {', '.join(every) or 'none'}")
    return list(chosen.values())


def described(value: object) -> str:
    """Describe a value in an error message: its kind, and text in full."""
    return repr(value) if isinstance(value, str) else f"a {type(value).__name__}"
