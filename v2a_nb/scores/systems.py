"""The score table of a system: clips of a Strike World seed that training never saw, beside its controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from v2a_nb.data.augmentation import joined_world
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

    def clips(self, count: int, style: str | None = None, **options: object) -> Sequence[WorldClip]:
        """The first ``count`` clips, perhaps drawn in another style; ``options`` of the world, such as ``fps``."""
        options |= {} if style is None else {"style": style}
        return strike_world(self.seed, count, seconds=self.seconds, size=SIZE, **options).clips

    def joined(self, count: int) -> Sequence[WorldClip]:
        """As many clips of the same world, each of which is joined from two scenes."""
        return joined_world(self.seed, count, seconds=self.seconds, size=SIZE).clips


METRICS = (*NAMES, "vaas_acc", "vaas_score", "fad")
"""The metrics of the tables."""
TESTS = {
    "vaura": TestSet("V-AURA `tiny`", 8000, 2.56, 2.56),
    "egosonics": TestSet("EgoSonics `tiny`", 9000, 5.12, 10.24),
    "action2sound": TestSet("Action2Sound `tiny`", 10000, 3.0, 3.0),
    "vta_ldm": TestSet("VTA-LDM `tiny`", 12000, 3.0, 10.0),
    "retrieval": TestSet("Retrieval", 10000, 3.0, 3.0),
}


WIDE_SEEDS = {"vaura": 8100, "egosonics": 9400, "action2sound": 10100, "vta_ldm": 12100}
"""Seeds of version 2 of the world on which nothing was trained or chosen, by system."""
FRAME_RATES = (15, 24000 / 1001, 24, 25, 30, 50, 60)
RATE_CLIPS, RATE_METRICS = 48, ("onset_f1_25ms", "onset_f1_50ms", "onset_offset_signed_ms")


def wide(job: Job) -> list[Table]:
    """The system on version 2 of the world, which is as wide as real video, beside true and other sounds."""
    test, count, seed = TESTS[job.name], job.count(CLIPS), WIDE_SEEDS[job.name]
    job.say(f"{job.name}: {count} clips of version 2, seed {seed}")
    clips = replace(test, seed=seed).clips(count, version=2)
    report = evaluate(clips, load(job.name, job.weights), metrics=list(NAMES), seed=0)
    columns = {test.title: report.metrics, **report.controls}
    rows = [Row.of(subject, measured) for subject, metrics in columns.items() for measured in metrics]
    about = {"clips": count, "seed": seed, "seconds": test.seconds}
    return [job.table("wide", rows, controls=tuple(columns)[1:], about=about)]


def frame_rates(job: Job) -> list[Table]:
    """Onsets, and how late they are, where the same moments are filmed at several frame rates."""
    test, count, system = TESTS[job.name], job.count(RATE_CLIPS), load(job.name, job.weights)
    rows = []
    for fps in FRAME_RATES:
        job.say(f"{job.name}: {count} clips at {fps:.3f} frames a second")
        clips = test.clips(count, fps=fps)
        report = evaluate(clips, system, metrics=list(RATE_METRICS), seed=0, controls=False)
        subject = f"{fps:.3f}".rstrip("0").rstrip(".") + " fps"
        rows += [Row.of(subject, measured) for measured in report.metrics]
    return [job.table("frame_rates", rows, down="subject", about={"clips": count, "seed": test.seed})]


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
