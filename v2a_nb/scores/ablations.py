"""What each part of a system is worth: its paper's ablations, on the first clips of its score table.

Rows of the table ``ablations`` are of the shipped weights with something left out or put in another's place. Rows of
``retrained`` are weights that were trained anew and briefly, in a run's folder ``ablations/NAME``; they are measured
where ``v2a-nb score NAME --run RUN`` names that run, and are kept until then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from v2a_nb.clip import Sound
from v2a_nb.data.neighbours import neighbours_of
from v2a_nb.data.pool import Pool
from v2a_nb.errors import UsageError
from v2a_nb.metrics.pairing import shuffled
from v2a_nb.scores.base import Job
from v2a_nb.scores.systems import TESTS, evaluated
from v2a_nb.systems.registry import load
from v2a_nb.training.results import RUN, SHIPPED_WEIGHTS, Row, Table
from v2a_nb.world import WorldClip

OF_TRAINING = ("steps", "clips", "mismatched_share")
"""Metrics that say how a row's weights were trained: how long, and where the card says so, on how many clips, and which
share of those has sounds of other recordings."""


@dataclass(frozen=True)
class Variant:
    """One line of a table.

    Attributes:
        meaning: in words.
        trained: the folder below ``ablations/`` of a run with its weights; empty for the shipped ones.
        options: of ``generate``.
        condition: from the clips to a sound of its place for each, where it is not what the system would choose.
        texts: by the option of ``generate`` that takes them, from the clips to a text for each.
        joined: the clips are others of the same world, each joined from two scenes.
        style: of the world's pictures, where it is not the camera's.
        retrieve_from: no generation, but the sound that is retrieved among so many; 0 is all.
    """

    meaning: str
    trained: str = ""
    options: dict[str, object] = field(default_factory=dict)
    condition: Callable[[Sequence[WorldClip]], list[Sound]] | None = None
    texts: dict[str, Callable[[Sequence[WorldClip]], list[str]]] = field(default_factory=dict)
    joined: bool = False
    style: str | None = None
    retrieve_from: int | None = None


def neighbours(clips: Sequence[WorldClip]) -> list[Sound]:
    """Another moment of each clip's own recording: the best condition there is."""
    return [near.stems["mix"] for near in neighbours_of(clips)]


def any_sounds(clips: Sequence[WorldClip]) -> list[Sound]:
    """The paper's random condition: a sound of the pool, whatever the clip looks like."""
    pool = load("retrieval").pool
    return [pool.sound(int(row)) for row in np.random.default_rng(0).choice(pool.searched, len(clips))]


def narrations(clips: Sequence[WorldClip]) -> list[str]:
    """The line that says what happens in each clip."""
    return [clip.narration for clip in clips]


def other_narrations(clips: Sequence[WorldClip]) -> list[str]:
    """What happens in a clip of another recording."""
    others = shuffled([clip.recording.id for clip in clips]) or [(i + 1) % len(clips) for i in range(len(clips))]
    return [clips[i].narration for i in others]


BRIEFLY = "the whole, trained as briefly as the others"
NO_VIDEO: dict[str, object] = {"guidance": 0.0}
"""Options that leave the null of guidance alone, which has no video and the text of the negative prompt."""
DDPM: dict[str, object] = {"sampler": "ddpm", "spacing": "leading", "steps": 300, "guidance": 3.0}
VARIANTS: dict[str, tuple[Variant, ...]] = {
    "vaura": (
        *(Variant(f"guidance {g}", options={"guidance": float(g)}) for g in (1, 3, 5, 6, 7, 9)),
        Variant("the preset's guidance"),
        Variant(BRIEFLY, "whole"),
        Variant("the video before the codes instead of beside them", "prepend"),
        Variant("three of ten recordings with foreign sounds", "noisy"),
        Variant("the same, similarity of 0.0 or more", "noisy_00"),
        Variant("the same, similarity of 0.2 or more", "noisy_02"),
        Variant("the same, similarity of 0.3 or more", "noisy_03"),
        Variant("the same, similarity of 0.4 or more", "noisy_04"),
    ),
    "egosonics": (
        Variant("without SyncroNet: text of the mean frame alone", options={"no_syncronet": True}),
        Variant(BRIEFLY, "fps30"),
        Variant("15 frames a second", "fps15"),
        Variant("4 frames a second", "fps4"),
        Variant("without cross-attention to the video", "no_cross_attention"),
        Variant("all rows of the picture get the same of a video token", "no_row_values"),
    ),
    "action2sound": (
        Variant("condition: a neighbour", condition=neighbours),
        Variant("condition: a neighbour; flat game graphics", condition=neighbours, style="game"),
        Variant("condition: a retrieved sound"),
        Variant("condition: a random sound", condition=any_sounds),
        Variant("condition: the quietest sound", options={"ambient": "low"}),
        Variant("without vocoder: Griffin-Lim", options={"vocoder": "griffin-lim"}, condition=neighbours),
        Variant("no generation: the retrieved sound itself", retrieve_from=0),
        Variant("the same among 300", retrieve_from=300),
        Variant("the same among 100", retrieve_from=100),
        Variant(BRIEFLY, "whole", condition=neighbours),
        Variant(f"{BRIEFLY}; condition: a retrieved sound", "whole"),
        Variant("without condition", "no_condition"),
        Variant("without condition, denoised targets", "denoised"),
        Variant("neighbours of the same things", "own_actions", condition=neighbours),
        Variant("neighbours of the same things; condition: a retrieved sound", "own_actions"),
        Variant("without the time bias", "no_time_bias", condition=neighbours),
        Variant("all rows of the picture get the same of a video token", "no_row_values", condition=neighbours),
        Variant("5 frames a second", "fps5", condition=neighbours),
        Variant("8 frames a second", "fps8", condition=neighbours),
        Variant("10 frames a second", "fps10", condition=neighbours),
    ),
    "vta_ldm": (
        *(Variant(f"guidance {g:g}", options={"guidance": g}) for g in (1.0, 2.0, 3.0, 5.0, 7.5)),
        Variant("as in the paper: 300 steps of DDPM, guidance 3", options=DDPM),
        Variant("without video", options=NO_VIDEO),
        Variant("without video, the narration as text", options=NO_VIDEO, texts={"negative_prompt": narrations}),
        Variant("the narration as text", texts={"prompt": narrations}),
        Variant("another clip's narration as text", texts={"prompt": other_narrations}),
        *(Variant(f"shown {fps:g} frames a second", options={"fps": fps}) for fps in (12.5, 8.0, 5.0, 2.0)),
        Variant("clips joined from two scenes", joined=True),
        Variant(BRIEFLY, "whole"),
        Variant("without time bias and row values", "no_time_bias"),
        Variant("all rows of the picture get the same of a video token", "no_row_values"),
        Variant("the loss has the released weights", "released_loss"),
        Variant("no condition is ever dropped", "never_dropped"),
        Variant("trained on 5 frames a second", "fps5"),
        Variant("trained on 10 frames a second", "fps10"),
    ),
}
CLIPS = {"vaura": 40, "egosonics": 100, "action2sound": 40, "vta_ldm": 40}
SAMPLES = {"vaura": 10}
"""Sounds that are generated for each clip and averaged over, where it is not one: as the paper has it (section V-C)."""
SHOWN = {
    "vaura": ("onset_f1_50ms", "onset_offset_abs_ms", "material_accuracy", "vaas_acc", "fad"),
    "egosonics": ("onset_f1_50ms", "material_accuracy", "near_miss_silent", "vaas_acc"),
    "action2sound": ("onset_f1_50ms", "material_accuracy", "near_miss_silent", "ambience_error_db", "fad"),
    "vta_ldm": ("onset_f1_50ms", "onset_offset_abs_ms", "material_accuracy", "near_miss_silent", "fad"),
}
"""Metrics of the tables."""


def ablations(job: Job) -> list[Table]:
    """The rows of the shipped weights."""
    return [_table(job, "ablations", SHIPPED_WEIGHTS, [(v, job.weights) for v in VARIANTS[job.name] if not v.trained])]


def retrained(job: Job) -> list[Table]:
    """The rows of the weights that the run of a job trained anew; without a run, none.

    Raises:
        UsageError: the run holds no ablations.
    """
    if job.run is None:
        return []
    trained = [(v, job.run / "ablations" / v.trained / "weights") for v in VARIANTS[job.name] if v.trained]
    there = [(variant, str(weights)) for variant, weights in trained if weights.is_dir()]
    if not there:
        raise UsageError(f"{job.run} holds no ablations of {job.name}: there is no folder ablations/NAME/weights")
    return [_table(job, "retrained", RUN, there)]


def _table(job: Job, name: str, source: str, variants: Sequence[tuple[Variant, str]]) -> Table:
    """The rows of variants, each with its weights."""
    count, samples = job.count(CLIPS[job.name]), job.samples or SAMPLES.get(job.name, 1)
    guidance = load(job.name, job.weights).config.guidance  # the same for all: what is compared is the network
    rows: list[Row] = []
    for variant, weights in variants:
        job.say(f"{job.name}, {count} clips: {variant.meaning}")
        rows += _measure(job.name, variant, weights, count, samples, guidance)
    about = {"clips": count, "seed": TESTS[job.name].seed}
    if samples > 1:
        about["samples"] = samples
    return job.table(name, rows, source=source, down="subject", about=about)


def _measure(name: str, variant: Variant, weights: str, count: int, samples: int, guidance: float) -> list[Row]:
    """Rows of one variant.

    Several samples of a clip, which have seeds of their own, count as so many clips of its recording: values are their
    mean, and intervals, which are over recordings, take them as one.
    """
    clips = TESTS[name].joined(count) if variant.joined else TESTS[name].clips(count, variant.style)
    clips = [clip for _ in range(samples) for clip in clips] if samples > 1 else clips
    rows = []
    if variant.retrieve_from is not None:
        model, options = load("retrieval"), {}
        if variant.retrieve_from:
            model.pool = part_of(model.pool, variant.retrieve_from)
    else:
        model, options = load(name, weights), {"guidance": guidance, **variant.options}
        if variant.condition is not None:
            options["ambient"] = variant.condition(clips)
        options |= {option: texts(clips) for option, texts in variant.texts.items()}
        told = OF_TRAINING if variant.trained else OF_TRAINING[:1]
        rows += [Row(each, variant.meaning, model.card[each]) for each in told if each in model.card]
    report = evaluated(model, clips, controls=False, **options)
    measured = {metric["name"]: metric for metric in report.metrics}
    return rows + [Row.of(variant.meaning, measured[metric]) for metric in SHOWN[name]]


def part_of(pool: Pool, count: int) -> Pool:
    """A pool of ``count`` of another one's sounds, drawn at random."""
    rows = np.sort(np.random.default_rng(0).permutation(pool.searched)[:count])
    sources = [pool.sources[i] for i in rows]
    return Pool(pool.audio[rows], pool.video[rows], sources, pool.quiet[rows], pool.sample_rate, tag=pool.tag)
