"""Whether Action2Sound's ambience is the one that was asked for, and what is left without it (sections 5.3 and 5.5).

On clips of a Strike World seed that training never saw:

1. the ambient level of the generated sounds against that of their conditions, -70 to -40 dBFS: the ambient stem of
   another moment of the recording, rendered at that level. Beside it what the system's spectrogram and vocoder leave of
   those conditions, which is the most that can be had; and both lines against the level that a condition has between
   125 and 7600 Hz, because the spectrogram has nothing else, and hum and traffic lose 6 dB and more by it whatever the
   model does;
2. pairs of action-ambient and action-focused sounds: what the ambience loses and what the action does;
3. whether the kind of ambience is right when the condition is the neighbour, what retrieval finds among other moments
   of the clips' own rooms, what it finds in the shipped pool (in Strike World a room's looks say nothing of its
   ambience, so that this cannot be better than chance), and an unrelated sound.

``--run RUN`` adds the model that was trained without a condition, as a column for comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np

from v2a_nb.clip import Sound
from v2a_nb.data.neighbours import neighbours_of
from v2a_nb.data.pool import Pool, Source
from v2a_nb.metrics.ambience.kind import AmbienceKind, ambience_kind_accuracy
from v2a_nb.metrics.ambience.metric import (
    ambience_dbfs,
    in_band_dbfs,
    leakage,
    level_curve,
)
from v2a_nb.metrics.pairing import shuffled
from v2a_nb.scores.base import Job
from v2a_nb.scores.systems import SIZE, TESTS
from v2a_nb.systems.registry import load
from v2a_nb.training.results import RUN, SHIPPED_WEIGHTS, Row, Table
from v2a_nb.world import WorldClip, strike_world

CLIPS = 40
LEVELS = tuple(float(level) for level in range(-70, -39, 5))
CONDITIONS = ("neighbour", "known rooms", "retrieved", "random")
PAIR = "neighbour"
"""The condition that action-focused sounds are compared with."""
BATCH = 8
TITLES = {SHIPPED_WEIGHTS: "conditioned", RUN: "without condition"}


def ambience(job: Job) -> list[Table]:
    """The tables of the shipped weights and, where the job names a run, of its model without a condition."""
    test, count = TESTS[job.name], job.count(CLIPS)
    items = strike_world(test.seed, count, seconds=test.seconds, size=SIZE, per_recording=2).clips
    about = {"clips": count, "seed": test.seed, "pair": PAIR}
    tables = []
    for source, title in TITLES.items():
        weights, suffix = job.weights, ""
        if source == RUN:
            if job.run is None or not (job.run / "ablations" / "no_condition" / "weights").is_dir():
                continue
            weights, suffix = str(job.run / "ablations" / "no_condition" / "weights"), "_without_condition"
        job.say(f"{job.name}, {count} clips: ambience, {title}")
        found = measure(load(job.name, weights), items)
        for name, rows in rows_of(found, title).items():
            tables.append(job.table(f"{name}{suffix}", rows, source=source, about=about))
    return tables


def measure(
    model,
    items: Sequence[WorldClip],
    levels: Sequence[float] = LEVELS,
    conditions: Sequence[str] = CONDITIONS,
    pair: str = PAIR,
    judge: AmbienceKind | None = None,
) -> dict:
    """All numbers as dictionaries; :func:`rows_of` makes tables of them.

    Args:
        model: has ``generate_batch(clips, seeds=..., ambient=...)``; where its configuration has no neighbour, it is
            given none, and generates one sound a clip that stands for all.
        items: clips of recordings that are long enough for a neighbour.
        levels: that are asked for, dBFS.
        conditions: out of :data:`CONDITIONS`.
        pair: which of them action-focused sounds are compared with.
        judge: of kinds; left out, the shipped one.
    """
    unconditioned = not getattr(getattr(model, "config", None), "neighbour", True)
    entries = [item.truth for item in items]
    recordings = [entry["recording"] for entry in entries]
    others = shuffled(recordings) or [(i + 1) % len(items) for i in range(len(items))]
    neighbours = neighbours_of(items)
    quiet = [neighbour.stems["ambient"] for neighbour in neighbours]
    asked: dict[object, object] = {level: [at(sound, level) for sound in quiet] for level in levels}
    near = [neighbour.stems["mix"] for neighbour in neighbours]
    given = {"neighbour": near, "retrieved": "retrieved", "random": [near[j] for j in others]}
    if getattr(model, "ambients", None) is None:  # nothing to retrieve with
        conditions = [name for name in conditions if name != "known rooms"]
    if "known rooms" in conditions:
        given["known rooms"] = in_known_rooms(model.ambients.retrieval, items)
    asked |= {name: given[name] for name in dict.fromkeys((*conditions, pair))} | {"low": "low"}
    sounds = _generated(model, items, {None: None} if unconditioned else asked)
    if unconditioned:
        sounds = dict.fromkeys(asked, sounds[None])

    full = np.repeat(levels, len(items))  # [L * N], level by level
    band = [in_band_dbfs(sound) for level in levels for sound in asked[level]]

    def curve(sounds_at: Callable[[float], Sequence[Sound]], events: Sequence[Sequence]) -> dict:
        has = [ambience_dbfs(sound, e) for level in levels for sound, e in zip(sounds_at(level), events, strict=True)]
        means = np.reshape(has, (len(levels), -1)).mean(axis=1)
        found = {"mean_dbfs": {f"{level:g}": float(mean) for level, mean in zip(levels, means, strict=True)}}
        for name, condition in (("full", full), ("in_band", band)):
            line = level_curve(condition, has, recordings * len(levels))
            found[name] = {**asdict(line), "follows": line.follows}
        return found

    kinds = [entry["ambient"]["kind"] for entry in entries]
    kinds_of_condition = {"neighbour": kinds, "random": [kinds[j] for j in others]}
    judged = {"true mixes": [item.stems["mix"] for item in items], **{name: sounds[name] for name in conditions}}
    accuracy = {}
    for name, some in judged.items():
        accuracy[name] = {"clip": ambience_kind_accuracy(some, kinds, recordings, judge)}
        if name in kinds_of_condition:
            accuracy[name]["condition"] = ambience_kind_accuracy(some, kinds_of_condition[name], recordings, judge)
    back = None
    if hasattr(model, "round_trip"):
        back = curve(lambda level: [model.round_trip(sound) for sound in asked[level]], [[]] * len(items))
    stems = [item.stems for item in items]
    return {
        "level": curve(sounds.__getitem__, [entry["events"] for entry in entries]),
        "round_trip": back,
        "leakage": leakage(sounds[pair], sounds["low"], entries, stems),
        "kinds": accuracy,
    }


def rows_of(found: dict, title: str) -> dict[str, list[Row]]:
    """Rows by table of what :func:`measure` found for the model ``title``."""
    curves = {title: found["level"], "round trip of the condition": found["round_trip"]}
    curves = {subject: curve for subject, curve in curves.items() if curve}
    level = [
        Row(f"level_at_{asked}_dbfs", subject, mean)
        for subject, curve in curves.items()
        for asked, mean in curve["mean_dbfs"].items()
    ]
    for band in ("full", "in_band"):
        for number in ("slope", "r2"):
            for subject, curve in curves.items():
                line = curve[band]
                measured = {"value": line[number], "low": line[f"{number}_low"], "high": line[f"{number}_high"]}
                level.append(Row.of(subject, {**measured, "n": line["n"]}, f"level_{number}_{band}"))
    kinds = [
        Row.of(title, accuracy, f"kind_of_{whose}_{condition.replace(' ', '_')}")
        for condition, row in found["kinds"].items()
        for whose, accuracy in row.items()
    ]
    pairs = [Row.of(title, row, name) for name, row in found["leakage"].items()]
    return {"ambience_level": level, "ambience_pairs": pairs, "ambience_kinds": kinds}


def _generated(model, items: Sequence[WorldClip], asked: dict) -> dict:
    """The sounds for each condition: a clip has the same seed whatever it is given."""
    sounds: dict[object, list[Sound]] = {name: [] for name in asked}
    for first in range(0, len(items), BATCH):
        part = items[first : first + BATCH]
        clips, seeds = [item.clip.silent() for item in part], list(range(first, first + len(part)))
        for name, ambient in asked.items():
            if isinstance(ambient, list):
                ambient = ambient[first : first + BATCH]
            options = {} if ambient is None else {"ambient": ambient}
            sounds[name] += model.generate_batch(clips, seeds=seeds, **options)
        for item in part:
            vars(item).pop("clip")  # a world clip keeps its pictures: hundreds are too many
    return sounds


def in_known_rooms(retrieval, items: Sequence[WorldClip]) -> list[Sound]:
    """What retrieval finds for each clip in a pool of other moments of the clips' own rooms alone."""
    neighbours = neighbours_of(items, seed=1)
    sources = [
        Source(m.recording.id, m.start_s, m.take.settings.seconds, world_seed=m.recording.seed) for m in neighbours
    ]  # fmt: skip
    pool = Pool.of(retrieval.model, ((m.clip, s) for m, s in zip(neighbours, sources, strict=True)))
    found = []
    for item in items:
        own = Source(item.recording.id, item.start_s, item.take.settings.seconds, world_seed=item.recording.seed)
        looks = retrieval.model.look(item.clip.silent())
        row = pool.search(looks, 1, by=retrieval.by, forbidden=pool.overlapping(own))[1][0]
        found.append(pool.sound(int(row)))
    for item in (*neighbours, *items):
        vars(item).pop("clip", None)
    return found


def at(sound: Sound, dbfs: float) -> Sound:
    """A sound of the level ``dbfs``, RMS."""
    return sound.gain(dbfs - sound.rms_dbfs)
