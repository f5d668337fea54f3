"""Physics of the systems: counterfactual pairs, generated clip by clip, beside the ceilings and chance.

``v2a-nb score physics FOLDER`` generates a sound for both clips of pairs of each factor, with one seed for both, so
that only the picture differs, and scores them by :mod:`v2a_nb.metrics.physics`. Beside each system stand the true
sounds, what its codec, or its autoencoder and vocoder, leaves of them, and the system's sounds of another pair, which
know nothing of this one. Retrieval is not among the systems: it has no sound that was not recorded.

Sounds are kept in ``FOLDER/SYSTEM@DIGEST/FACTOR/ID.wav`` as soon as they are there, and not generated again: a run that
was ended goes on. The digest is that of the weights and all their parts, so other weights begin anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from v2a_nb import media
from v2a_nb.clip import Sound
from v2a_nb.hub import find_weights, parts_of
from v2a_nb.metrics.evaluate import scored_clip
from v2a_nb.metrics.pairing import shuffled
from v2a_nb.metrics.physics import WHAT
from v2a_nb.metrics.registry import NEEDS
from v2a_nb.metrics.tally import Tally, choose
from v2a_nb.scores.base import Job
from v2a_nb.scores.systems import SIZE, TESTS
from v2a_nb.systems.registry import load
from v2a_nb.training.results import PAIRS, Row, Table
from v2a_nb.world import WorldClip, strike_world
from v2a_nb.world.counterfactual import FACTORS, pairs_of

SYSTEMS = ("vaura", "egosonics", "action2sound", "vta_ldm")
COUNT, PER_RECORDING, BATCH = 40, 2, 8
TRUE, OTHER = "ground truth", "another pair"


def physics(
    job: Job, folder: str | Path, systems: Sequence[str] = SYSTEMS, weights: Mapping[str, str] | None = None
) -> Iterator[tuple[str, list[Table]]]:
    """Measure systems on pairs of every factor, one system after the other.

    Args:
        job: how many pairs a factor has, and says what is done.
        folder: where sounds are kept.
        systems: names out of :data:`SYSTEMS`.
        weights: folders of other weights by system; left out, the shipped ones.

    Yields:
        the name of a system, and its table ``physics``.

    Raises:
        WeightsError: there are no such weights.
        MediaError: a sound cannot be written, or one that was kept cannot be read.
    """
    for name in systems:
        own = (weights or {}).get(name)
        place = Path(folder) / f"{name}@{_digest(own or name)}"
        test, count, model = TESTS[name], job.count(COUNT), load(name, own)
        clips = strike_world(test.seed, max(4 * count, 8), seconds=test.seconds, size=SIZE, per_recording=PER_RECORDING)
        rows: list[Row] = []
        for factor in FACTORS:
            job.say(f"{name}, {factor}: {count} pairs")
            items = pairs_of(clips, factor, count)
            rows += _rows(model, test.title, factor, items, place)
            for item in items:
                vars(item).pop("clip", None)  # a world clip keeps its pictures: hundreds are too many
        about = {"pairs": count, "seed": test.seed, "seconds": test.seconds}
        subjects = tuple(dict.fromkeys(row.subject for row in rows))
        version = job.table("", []).version
        command = "v2a-nb score physics FOLDER"
        yield name, [Table("physics", command, tuple(rows), version, PAIRS, controls=subjects[1:], about=about)]


def _rows(model, title: str, factor: str, items: Sequence[WorldClip], place: Path) -> list[Row]:
    """The numbers of one factor: of the system, and of its controls."""

    def generate(some: Sequence[int]) -> list[Sound]:
        silent = [items[k].clip.silent() for k in some]
        return model.generate_batch(silent, seeds=[k // 2 for k in some])

    def round_trip(some: Sequence[int]) -> list[Sound]:
        return [model.round_trip(items[k].stems["mix"]) for k in some]

    sounds = {"": _kept(place / factor, items, generate), TRUE: [item.stems["mix"] for item in items]}
    trip = f"{model.round_trip_of} round trip"
    sounds[trip] = _kept(place / "round trip" / factor, items, round_trip)
    # whole pairs are exchanged, so that an a stays an a
    order = shuffled([item.recording.id for item in items[::2]])
    if order is not None:
        sounds[OTHER] = [sounds[""][2 * order[k // 2] + k % 2] for k in range(len(items))]
    tally = Tally(choose([f"pair_{what}_{factor}" for what in WHAT], NEEDS))
    for k, item in enumerate(items):
        clip = scored_clip(item)
        for control, some in sounds.items():
            tally.score(clip, some[k], control)
    report = tally.report()
    columns = {title: report.metrics, **report.controls}
    return [Row.of(subject, measured) for subject, metrics in columns.items() for measured in metrics]


def _kept(folder: Path, items: Sequence[WorldClip], make: Callable[[Sequence[int]], list[Sound]]) -> list[Sound]:
    """The sounds of clips, from files of a folder; those that are missing are made, some at a time, and written."""
    paths = [folder / f"{item.id}.wav" for item in items]
    missing = [k for k, path in enumerate(paths) if not path.exists()]
    for first in range(0, len(missing), BATCH):
        part = missing[first : first + BATCH]
        for k, sound in zip(part, make(part), strict=True):
            media.save_wav(sound, paths[k])
    return [media.open_sound(path) for path in paths]


def _digest(weights: str | Path) -> str:
    """Eight hexadecimal digits of all tensors of some weights and of their parts."""
    folder = find_weights(weights)
    parts = parts_of(folder, json.loads((folder / "config.json").read_text(encoding="utf-8"))).values()
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")):
        digest.update(path.read_bytes())
    for part in parts:
        digest.update(_digest(part).encode())
    return digest.hexdigest()[:8]
