"""The score table of a system: clips of a Strike World seed that training never saw, beside its controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from v2a_nb.metrics.evaluate import evaluate
from v2a_nb.metrics.report import Report
from v2a_nb.metrics.truth import NAMES
from v2a_nb.scores.base import Job
from v2a_nb.scores.speed import cost_of
from v2a_nb.systems.registry import load
from v2a_nb.training.results import Row, Table
from v2a_nb.world import WorldClip, strike_world

CLIPS, SIZE = 200, 112


@dataclass(frozen=True)
class TestSet:
    """What a system is scored on.

    Attributes:
        title: of the system, in tables.
        seed: of a world on which nothing was trained or chosen, see ``data/README.md``.
        seconds: length of a clip.
        timed_s: length of the clip whose generation is timed.
    """

    title: str
    seed: int
    seconds: float
    timed_s: float

    def clips(self, count: int, style: str | None = None) -> Sequence[WorldClip]:
        """The first ``count`` clips, perhaps drawn in another style."""
        options = {} if style is None else {"style": style}
        return strike_world(self.seed, count, seconds=self.seconds, size=SIZE, **options).clips


METRICS = (*NAMES, "vaas_acc", "vaas_score", "fad")
"""The metrics of the tables."""
TESTS = {
    "vaura": TestSet("V-AURA `tiny`", 8000, 2.56, 2.56),
    "egosonics": TestSet("EgoSonics `tiny`", 9000, 5.12, 10.24),
    "action2sound": TestSet("Action2Sound `tiny`", 10000, 3.0, 3.0),
    "retrieval": TestSet("Retrieval", 10000, 3.0, 3.0),
}


def scores(job: Job) -> list[Table]:
    """The system beside true sounds, its codec's round trip, sounds of other videos, and retrieval."""
    test, count = TESTS[job.name], job.count(CLIPS)
    cost = cost_of(job.name, job.weights, test.seed, test.timed_s)
    clips = test.clips(count)
    job.say(f"{job.name}: {count} clips of {test.seconds:g} s, seed {test.seed}")
    report = evaluated(load(job.name, job.weights), clips)
    columns = {test.title: report.metrics, **report.controls}
    if job.name != "retrieval":
        columns["retrieval"] = evaluated(load("retrieval"), clips, controls=False).metrics
    rows = [Row.of(subject, measured) for subject, metrics in columns.items() for measured in metrics]
    rows += [Row(metric, test.title, value) for metric, value in cost.items()]
    about = {"clips": count, "seed": test.seed, "seconds": test.seconds, "timed_s": test.timed_s}
    return [job.table("scores", rows, controls=tuple(columns)[1:], about=about)]


def evaluated(model, clips: Sequence[WorldClip], *, controls: bool = True, **options: object) -> Report:
    """The report of a model on clips, with all metrics of the tables; ``options`` go to ``generate``."""
    return evaluate(clips, model, metrics=METRICS, seed=0, controls=controls, **options)
