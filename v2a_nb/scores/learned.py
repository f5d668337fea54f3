"""Scores of the networks and classifiers that metrics are computed with, on recordings that training never saw."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

import numpy as np

from v2a_nb.audio.onsets import SAMPLE_RATE
from v2a_nb.clip import Sound
from v2a_nb.data.clip_features import HELD_OUT, RECORDINGS, TRAIN_SEED, ClipFeatures, compute_clip_features
from v2a_nb.data.features import FeatureStore
from v2a_nb.data.recordings import StrikeRecordings
from v2a_nb.metrics.ambience.kind import AmbienceKind, ambience_kind_accuracy
from v2a_nb.metrics.ambience.metric import ambience_dbfs
from v2a_nb.metrics.material.metric import MaterialClassifier
from v2a_nb.metrics.statistics import accuracy_with_interval
from v2a_nb.scores.base import Job
from v2a_nb.training.results import Row, Table

PER_RECORDING = 2


def vaas(job: Job) -> list[Table]:
    """Accuracy of the alignment classifier, and its score of true sounds that are moved by known shifts."""
    from v2a_nb.metrics.vaas.metric import Vaas
    from v2a_nb.metrics.vaas.train import held_out_report

    judge = Vaas.from_pretrained(job.weights)
    features, about = held_out(job)
    report = held_out_report(judge.net, features)
    shifts = [
        Row.of(f"{1000 * row['shift_s']:.0f} ms early or late", {**row[name], "extractor": judge.tag}, name)
        for row in report["curve"]
        for name in ("vaas_acc", "vaas_score")
    ]
    tables = [job.table("pairs", _pairs(report, judge.tag), down="subject", about=about)]
    return [*tables, job.table("shifts", shifts, down="subject", about=about)]


def av_sync(job: Job) -> list[Table]:
    """Accuracy of the synchrony classifier, its score of true sounds that are moved, and of another video's."""
    from v2a_nb.data.audio_visual_pairs import UNSEEN_SEED
    from v2a_nb.metrics.av_sync.metric import AvSync
    from v2a_nb.metrics.av_sync.train import held_out_report
    from v2a_nb.scores.retrieval import CLIPS, unseen_pairs

    judge, count = AvSync.from_pretrained(job.weights), job.count(CLIPS)
    report = held_out_report(judge.net, unseen_pairs(job, count))
    name, about = "av_sync_acc", {"clips": count, "seed": UNSEEN_SEED}
    scores = {f"{row['shift_s']:g} s early or late": row for row in report["curve"]}
    scores["sound of another video"] = report["other_video"]
    shifts = [Row.of(subject, {**row, "extractor": judge.tag}, name) for subject, row in scores.items()]
    tables = [job.table("pairs", _pairs(report, judge.tag), down="subject", about=about)]
    return [*tables, job.table("shifts", shifts, down="subject", about=about)]


def _pairs(report: dict, extractor: str) -> list[Row]:
    """Accuracy over all pairs and by their kind; always giving one answer is right for half of them."""
    rows = [Row.of("all pairs", {**report["accuracy"], "extractor": extractor}, "accuracy")]
    rows += [Row("accuracy", f"{kind} pairs", value) for kind, value in report["by_kind"].items()]
    return [*rows, Row("area_under_curve", "all pairs", report["auc"])]


def held_out(job: Job) -> tuple[ClipFeatures, dict]:
    """Clips of recordings that the shipped networks never saw, two of each, computed anew; and what a table says."""
    count = max(2, job.count(PER_RECORDING * HELD_OUT) // PER_RECORDING)
    job.say(f"{job.name}: {count} recordings, two clips of each")
    with tempfile.TemporaryDirectory() as folder:
        first = RECORDINGS - HELD_OUT
        store, world = FeatureStore(folder), StrikeRecordings(TRAIN_SEED)
        clips = compute_clip_features(store, world, count=count, first=first, per_recording=PER_RECORDING).load()
    return clips, {"clips": len(clips), "recordings": count, "seed": TRAIN_SEED}


def material(job: Job) -> list[Table]:
    """How often the material of a hit is recognized, on clean stems and on mixes: the ceiling of its metric."""
    from v2a_nb.metrics.material.train import TEST_SEED, hits_of

    judge = MaterialClassifier.from_pretrained(job.weights)
    count = job.count(200)
    job.say(f"{job.name}: {count} clips of seed {TEST_SEED}")
    rows = []
    for stem, subject in (("action", "clean stems"), ("mix", "mixes with ambience")):
        features, classes = hits_of(TEST_SEED, count, stem)
        rows.append(_share(subject, judge.predict(features) == classes, "material_accuracy", judge.tag))
    about = {"clips": count, "seed": TEST_SEED}
    return [job.table("hits", rows, down="subject", about=about)]


def _share(subject: str, right: Sequence[bool], metric: str, extractor: str) -> Row:
    return Row.of(subject, {**accuracy_with_interval(right), "extractor": extractor}, metric)


LEVELS_DBFS = tuple(range(-72, -35, 6))
MEASURED = 100
"""Recordings on which :func:`ambience` checks the level meter."""


def ambience(job: Job) -> list[Table]:
    """How often the kind of ambience is recognized, and how far the ambient level is measured from the true one."""
    from v2a_nb.metrics.ambience.train import TEST_FIRST, TEST_SEED, mixes, through_mel

    judge = AmbienceKind.from_pretrained(job.weights)
    count = job.count(400)
    job.say(f"{job.name}: {count} recordings of seed {TEST_SEED}")
    clips = list(mixes(TEST_SEED, count, first=TEST_FIRST))
    waves = [wave for wave, _, _ in clips]
    sounds = {
        "true mixes": waves,
        "mixes that came back from mel spectrograms by Griffin-Lim": through_mel(waves[: max(1, count // 4)]),
    }
    rows = []
    for subject, some in sounds.items():
        right = [kind for _, kind, _ in clips[: len(some)]]
        accuracy = ambience_kind_accuracy([Sound(w, SAMPLE_RATE) for w in some], right, judge=judge)
        rows.append(Row.of(subject, accuracy, "ambience_kind_accuracy"))
    about = {"clips": count, "seed": TEST_SEED}
    tables = [job.table("kinds", rows, down="subject", about=about)]
    count = job.count(MEASURED)
    levels = level_errors(METER_SEED, count)
    return [*tables, job.table("level_meter", levels, down="subject", about={"clips": count, "seed": METER_SEED})]


METER_SEED, METER_SECONDS = 10000, 3.0


def level_errors(seed: int, count: int, levels_dbfs: Sequence[float] = LEVELS_DBFS) -> list[Row]:
    """Errors of the measured ambient level of true sounds against that of their ambient stem.

    Args:
        seed: of the world.
        count: recordings, of which one clip each is measured at every level.
        levels_dbfs: of the ambient stem.
    """
    from v2a_nb.world.recording import draw
    from v2a_nb.world.sound import synthesize

    rate, n = SAMPLE_RATE, round(METER_SECONDS * SAMPLE_RATE)
    errors: dict[float, list[tuple[float, float]]] = {level: [] for level in levels_dbfs}
    for index in range(count):
        recording = draw(seed, index)
        stems = synthesize(recording, rate)
        first = int(recording.rng("cuts").integers(0, len(stems["action"]) - n))
        action, offscreen, ambient = (stems[k][first : first + n] for k in ("action", "offscreen", "ambient"))
        inside = [e for e in recording.events if e.sounding and 0 <= e.time_s - first / rate < METER_SECONDS]
        events = [{"time_s": e.time_s - first / rate, "duration_s": e.duration_s, "sounding": True} for e in inside]
        for level, found in errors.items():
            steady = Sound(ambient, rate)
            mix = Sound(steady.gain(level - steady.rms_dbfs).samples[0] + action + offscreen, rate)
            found.append((ambience_dbfs(mix, events) - level, ambience_dbfs(mix) - level))
    rows = []
    for level, found in errors.items():
        for name, values in zip(("events known", "events unknown"), np.array(found).T, strict=True):
            prefix = name.replace(" ", "_")
            rows.append(Row(f"{prefix}_median_error_db", f"{level:g} dBFS", float(np.median(values)), n=count))
            rows.append(Row(f"{prefix}_deviation_db", f"{level:g} dBFS", float(np.std(values)), n=count))
    return rows
