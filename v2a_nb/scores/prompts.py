"""Whether a prompt decides which material is heard, and whether it does so where the picture leaves that open.

The paper says that a text helps a model to find what sounds (section 5.4). In Strike World that can be asked for hits:
each clip gets a material that nothing that is hit in it is made of, and what is counted is the share of its hits that
are heard as that material, by the same classifier as in ``material_accuracy``. Without a prompt it is the share that is
heard so anyway. Every way to prompt is asked twice: with the pictures as they are, and with pictures that are grey and
blurred, in which a bowl may be of steel, of wood or of clay.

Changes are paired: the same clips, the same noise. Guidance is the preset's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from v2a_nb.clip import Clip, Sound
from v2a_nb.metrics.material.metric import CLASSES
from v2a_nb.metrics.statistics import compare_paired, share_interval
from v2a_nb.metrics.truth import ClipScore, pool, score_clip
from v2a_nb.scores.base import Job
from v2a_nb.scores.systems import TESTS
from v2a_nb.systems.registry import load
from v2a_nb.training.results import Row, Table
from v2a_nb.world import WorldClip
from v2a_nb.world.narration import narrate

CLIPS, BATCH = 60, 8
BLUR = 0.02
"""Standard deviation of the blur, as a share of the pictures' height."""


@dataclass(frozen=True)
class Asked:
    """A clip, and the material that is asked for.

    Attributes:
        item: the clip.
        material: that nothing that is hit in it is made of.
    """

    item: WorldClip
    material: str

    @property
    def own(self) -> str:
        """The material of most of its things that are struck."""
        struck = [event["material"] for event in self.item.truth["events"] if event["sounding"]]
        return max(dict.fromkeys(struck), key=struck.count)

    @property
    def narration(self) -> str:
        """What happens, told as if all were made of that material."""
        things = tuple(replace(thing, material=self.material) for thing in self.item.recording.things)
        return narrate(self.item.recording.changed(things=things), self.item.events)


WAYS: dict[str, Callable[[Asked], dict[str, str]]] = {
    "no prompt": lambda asked: {},
    "the material as prompt": lambda asked: {"prompt": asked.material},
    "a narration with the material as prompt": lambda asked: {"prompt": asked.narration},
    "the true material as negative prompt": lambda asked: {"negative_prompt": asked.own},
}
"""The texts that a clip is given, by way of prompting; the others are compared with the first."""


def ambiguous(clip: Clip) -> Clip:
    """The clip without colours, and blurred: what moves can be seen, what it is made of cannot."""
    from scipy.ndimage import gaussian_filter

    grey = clip.frames.mean(axis=3, dtype=np.float32)  # [T, H, W]
    soft = gaussian_filter(grey, (0, BLUR * clip.height, BLUR * clip.height))
    return replace(clip, frames=np.repeat(np.rint(soft).astype(np.uint8)[..., None], 3, axis=3))


PICTURES: dict[str, Callable[[Clip], Clip]] = {"as they are": lambda clip: clip, "grey and blurred": ambiguous}


def cases(items: Sequence[WorldClip], seed: int) -> list[Asked]:
    """The clips in which something is hit, each with a material that is drawn out of those that it does not have."""
    found = []
    for number, item in enumerate(items):
        there = {event["material"] for event in item.truth["events"]}
        others = [name for name in CLASSES if name not in there]
        if others and any(event["sounding"] and event["kind"] != "scrape" for event in item.truth["events"]):
            material = str(np.random.default_rng([seed, number]).choice(others))
            found.append(Asked(item, material))
    return found


def prompts(job: Job) -> list[Table]:
    """The table ``prompts``: for each kind of pictures and each way to prompt, what is heard."""
    test, count, model = TESTS[job.name], job.count(CLIPS), load(job.name, job.weights)
    asked = cases(test.clips(count), test.seed)
    rows: list[Row] = []
    for pictures, change in PICTURES.items():
        plain: list[ClipScore] | None = None
        for way, options_of in WAYS.items():
            job.say(f"{job.name}, {len(asked)} clips: pictures {pictures}, {way}")
            scores = [
                score_clip(sound, one.item.truth) for sound, one in zip(_made(model, asked, change, options_of), asked)
            ]
            rows += rows_of(f"pictures {pictures}: {way}", asked, scores, plain)
            plain = scores if plain is None else plain
    about = {"clips": len(asked), "seed": test.seed}
    return [job.table("prompts", rows, down="subject", about=about)]


def _made(
    model, asked: Sequence[Asked], change: Callable[[Clip], Clip], options_of: Callable[[Asked], dict[str, str]]
) -> list[Sound]:
    sounds = []
    for first in range(0, len(asked), BATCH):
        part = asked[first : first + BATCH]
        texts = [options_of(one) for one in part]
        options = {name: [text[name] for text in texts] for name in texts[0]}
        seeds = list(range(first, first + len(part)))
        sounds += model.generate_batch([change(one.item.clip.silent()) for one in part], seeds=seeds, **options)
    return sounds


def rows_of(
    subject: str, asked: Sequence[Asked], scores: Sequence[ClipScore], plain: Sequence[ClipScore] | None
) -> list[Row]:
    """The numbers of one way to prompt.

    ``prompted_material_share`` is the share of hits that are heard as the material that is asked for, and
    ``prompted_material_change`` what the prompt adds to it; ``material_accuracy`` is the share that is heard as what is
    seen to be hit.

    Args:
        plain: the scores without a prompt; None where these are they.
    """
    names = [one.item.recording.id for one in asked]
    trials = _trials(asked, scores)
    low, high = share_interval(trials, names)
    hits, count = _share(trials), sum(n for _, n in trials)
    rows = [Row.of(subject, {"name": "prompted_material_share", "value": hits, "low": low, "high": high, "n": count})]
    if plain is not None:
        found = compare_paired(_trials(asked, plain), trials, _share, names)
        rows += [Row.of(subject, {**found, "value": found["difference"]}, "prompted_material_change")]
    own = [(sum(a == b for a, b in score.materials), len(score.materials)) for score in scores]
    low, high = share_interval(own, names)
    rows += [Row.of(subject, {"name": "material_accuracy", "value": _share(own), "low": low, "high": high, "n": count})]
    rows += [Row.of(subject, {"name": "onset_f1_50ms", "value": pool(list(scores), "onset_f1_50ms")})]
    return rows


def _trials(asked: Sequence[Asked], scores: Sequence[ClipScore]) -> list[tuple[int, int]]:
    """For each clip how many hits are heard as the material that is asked for, and how many there are."""
    return [
        (sum(heard == one.material for _, heard in score.materials), len(score.materials))
        for one, score in zip(asked, scores, strict=True)
    ]


def _share(trials: Sequence[tuple[int, int]]) -> float:
    hits, count = np.sum(trials, axis=0)
    return float(hits / count) if count else float("nan")
