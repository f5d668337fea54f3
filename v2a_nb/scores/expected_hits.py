"""How far a system's expected hits can be believed, and what its ``sensitivity`` trades.

- ``reliability``: of the hits that are reported with some probability, the share that sounded. On a diagram of both, a
  calibrated system lies on the diagonal (DeGroot and Fienberg 1983); ``calibration_error`` is the mean distance from
  it, weighted by hits (Guo et al. 2017, section 2).
- ``sensitivity``: onset F1, near misses and materials of the sounds, from "only sure" to "every doubt".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from v2a_nb.hits import AUTO
from v2a_nb.metrics.evaluate import evaluate
from v2a_nb.metrics.statistics import wilson
from v2a_nb.scores.base import Job
from v2a_nb.scores.systems import TESTS, WIDE_SEEDS
from v2a_nb.systems.base import System
from v2a_nb.systems.registry import load
from v2a_nb.training.results import Row, Table
from v2a_nb.world import WorldClip, strike_world

CLIPS, SIZE = 100, 112
SENSITIVITIES = (0, 0.25, 0.5, 0.75, 1, AUTO)
METRICS = ("onset_f1_50ms", "near_miss_silent", "material_accuracy")
BINS = 5
NEAR_S = 0.05
"""A reported hit that lies so near to a true one is that one."""


def reliability(job: Job) -> list[Table]:
    """The share that sounded of the hits in each fifth of reported probability, in both versions of the world."""
    test, count, system = TESTS[job.name], job.count(CLIPS), load(job.name, job.weights)
    seeds = {1: test.seed, 2: WIDE_SEEDS[job.name]}
    rows = []
    for version, seed in seeds.items():
        job.say(f"{job.name}: probabilities of hits in {count} clips of version {version}")
        clips = strike_world(seed, count, seconds=test.seconds, size=SIZE, version=version).clips
        told, sounded = reported(system, clips)
        rows += reliability_rows(told, sounded, f"version {version}")
    about = {"clips": count, "seed": test.seed, "seed_wide": seeds[2]}
    return [job.table("reliability", rows, down="subject", about=about)]


def reported(system: System, clips: Sequence[WorldClip]) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of all reported hits, float [N], and whether each sounded, bool [N].

    Of several hits beside one true event, the one that is reported as likeliest counts as that event.
    """
    told, sounded = [], []
    for item in clips:
        hits = list(system.hits(item.clip.silent(), sensitivity=1.0))
        times = np.array([hit.time_s for hit in hits])
        found = np.zeros(len(hits), bool)
        for event in item.truth["events"]:
            near = np.flatnonzero(np.abs(times - event["time_s"]) <= NEAR_S) if event["sounding"] else []
            if len(near):
                found[max(near, key=lambda k: hits[k].probability)] = True
        told += [hit.probability for hit in hits]
        sounded += found.tolist()
    return np.array(told), np.array(sounded, bool)


def reliability_rows(told: np.ndarray, sounded: np.ndarray, of: str) -> list[Row]:
    """A subject for each fifth of probability: its mean, and the share that sounded; and the calibration error.

    Args:
        told: probabilities [N]; sounded: bool [N].
        of: what the hits are of, the beginning of each subject.
    """
    rows, error = [], 0.0
    which = np.minimum((told * BINS).astype(int), BINS - 1)
    for k in range(BINS):
        some, name = which == k, f"{of}, {k / BINS:.1f} to {(k + 1) / BINS:.1f}"
        if not some.any():
            continue
        n, share = int(some.sum()), float(sounded[some].mean())
        low, high = wilson(int(sounded[some].sum()), n)
        rows += [Row("reported", name, float(told[some].mean()), n=n), Row("sounded", name, share, low, high, n)]
        error += abs(float(told[some].mean()) - share) * n
    if len(told):
        rows.append(Row("calibration_error", of, error / len(told), n=len(told)))
    return rows


def sensitivity(job: Job) -> list[Table]:
    """What each sensitivity makes of onsets, near misses and materials, beside what the system does by itself."""
    test, count, system = TESTS[job.name], job.count(CLIPS), load(job.name, job.weights)
    clips = test.clips(count)
    rows = []
    for value in (None, *SENSITIVITIES):
        job.say(f"{job.name}: {count} clips, sensitivity {value}")
        options = {} if value is None else {"sensitivity": value}
        report = evaluate(clips, system, metrics=list(METRICS), controls=False, **options)
        name = "each weighed by its probability" if value is None else f"sensitivity {value}"
        rows += [Row.of(name, measured) for measured in report.metrics]
    return [job.table("sensitivity", rows, down="subject", about={"clips": count, "seed": test.seed})]
