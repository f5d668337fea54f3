"""Recipe of the ``tiny`` VAAS classifier on Strike World.

::

    v2a-nb train vaas --out runs/vaas                             # render, train, score, write runs/vaas/weights
    python -m v2a_nb.metrics.vaas.train --out runs/vaas                # the same, with more to choose
    python -m v2a_nb.metrics.vaas.train --score vaas                   # print the scores of the shipped weights

Pairs of the pictures and sounds of takes (:mod:`v2a_nb.data.clip_features`) are drawn anew at every step: half of
them matched, a quarter with the sound of another recording, a quarter shifted (EgoSonics, section 3.5). The
range of shifts is lost from the paper; ours is :data:`SHIFTS_S`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from v2a_nb import hub
from v2a_nb.data.clip_features import (
    HELD_OUT,
    RECORDINGS,
    SHIPPED_ENCODER,
    STEP_S,
    TRAIN_SEED,
    ClipFeatures,
    add_arguments,
    compute_clip_features,
    told,
)
from v2a_nb.errors import UsageError
from v2a_nb.metrics.statistics import bootstrap
from v2a_nb.metrics.vaas.metric import Vaas, conventions
from v2a_nb.metrics.vaas.model import PRESETS, VaasConfig, build
from v2a_nb.models.video_encoders.strike import StrikeVision
from v2a_nb.training.loop import OptimConfig, fit
from v2a_nb.training.recipe import card_of, init_run, rounded, run, write_readme

STEPS = 1500
SHIFTS_S = (0.2, 2.0)
"""Shifted pairs are off by this much, seconds, early or late."""
TOLERANCE_S = 0.045
"""While training, matched pairs are moved by up to this much, early or late, and are matched all the same.

Ours, not the paper's. Trained on exact pairs alone, the classifier turns down a sound that is 20 ms off, which
nobody notices and no system gets right; 45 ms is where a sound ahead of its picture begins to be noticed
(ITU-R BT.1359).
"""
CURVE_S = (0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Pairs:
    """Which picture goes with which sound.

    Attributes:
        seen, heard: int64 [n], rows of the takes.
        shift_s: float64 [n], how late the sound is.
        kind: ``"matched"``, ``"other"`` or ``"shifted"`` [n].
        label: float32 [n], 1 for matched.
    """

    seen: np.ndarray
    heard: np.ndarray
    shift_s: np.ndarray
    kind: np.ndarray
    label: np.ndarray


def draw_pairs(
    recordings: np.ndarray,
    size: int,
    rng: np.random.Generator,
    shifts_s: tuple[float, float] = SHIFTS_S,
    tolerance_s: float = 0.0,
) -> Pairs:
    """Exactly half matched, a quarter with another recording's sound, a quarter shifted, in random order.

    Args:
        recordings: [N], the recording of each take.
        size: how many pairs, a multiple of four.
        rng: the only source of chance.
        shifts_s: least and greatest shift, seconds; which of the two comes first is drawn as well.
        tolerance_s: matched pairs are moved by up to this much; under the least shift.

    Raises:
        UsageError: a size that has no exact quarters, fewer than two recordings, an empty range of shifts, a
            tolerance that reaches it.
    """
    if size < 4 or size % 4:
        raise UsageError(f"{size} pairs cannot be half matched and a quarter each of the others; take a multiple of 4")
    if len(np.unique(recordings)) < 2:
        raise UsageError("pairs with another video need at least two recordings")
    low, high = (round(s / STEP_S) for s in shifts_s)
    if not 0 < low <= high:
        raise UsageError(f"shifts from {shifts_s[0]} to {shifts_s[1]} s: the least must be over 0, and not the greater")
    slack = round(tolerance_s / STEP_S)
    if not 0 <= slack < low:
        raise UsageError(f"a tolerance of {tolerance_s} s must lie under the least shift of {shifts_s[0]} s")
    kind = np.repeat(["matched", "other", "shifted"], [size // 2, size // 4, size // 4])
    kind = kind[rng.permutation(size)]
    seen = rng.integers(0, len(recordings), size)
    heard, shift = seen.copy(), np.zeros(size)
    for i in np.flatnonzero(kind == "other"):
        heard[i] = rng.choice(np.flatnonzero(recordings != recordings[seen[i]]))
    shift[kind == "matched"] = rng.integers(-slack, slack + 1, size // 2) * STEP_S
    off = kind == "shifted"
    steps = rng.integers(low, high + 1, off.sum()) * rng.choice([-1, 1], off.sum())
    shift[off] = steps * STEP_S
    return Pairs(seen, heard, shift, kind, (kind == "matched").astype(np.float32))


def arrays_of(takes: ClipFeatures, pairs: Pairs) -> dict[str, Tensor]:
    """The pairs' ``vectors`` [n, T, D], ``audio`` [n, 40, 4 T] and ``label`` [n]."""
    audio = np.stack([takes.heard(i, s) for i, s in zip(pairs.heard, pairs.shift_s, strict=True)])
    return {
        "vectors": torch.from_numpy(takes.vectors[pairs.seen].astype(np.float32)),
        "audio": torch.from_numpy(audio.astype(np.float32)),
        "label": torch.from_numpy(pairs.label),
    }


def batches(takes: ClipFeatures, size: int, seed: int, noise: float = 0.1, gain_db: float = 6.0):
    """From a step to a batch of pairs.

    Args:
        takes: of training.
        size: pairs in a batch.
        seed: of every choice.
        noise: deviation of noise on the vectors, which stands in for unseen pictures.
        gain_db: sounds are made up to this much louder or softer: level alone says nothing of alignment.
    """

    def batch_of(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([seed, step])
        batch = arrays_of(takes, draw_pairs(takes.recordings, size, rng, tolerance_s=TOLERANCE_S))
        vectors = batch["vectors"]
        batch["vectors"] = vectors + noise * torch.from_numpy(rng.standard_normal(vectors.shape, dtype=np.float32))
        gain = torch.from_numpy(rng.uniform(-gain_db, gain_db, (size, 1, 1)).astype(np.float32)) * 0.2303
        # the mels hold log(power + 1e-5): only the power is made louder
        floor = 1e-5
        batch["audio"] = torch.log((batch["audio"].exp() - floor).clamp(min=0) * gain.exp() + floor)
        return batch

    return batch_of


class VaasTraining(nn.Module):
    """The classifier with its loss, as the loop wants it."""

    def __init__(self, config: VaasConfig | None = None) -> None:
        super().__init__()
        self.net = build(config or PRESETS["tiny"])

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": self.net.loss(batch["vectors"], batch["audio"], batch["label"])}


@torch.no_grad()
def scores_of(net: nn.Module, takes: ClipFeatures, pairs: Pairs) -> np.ndarray:
    """The classifier's raw score of each pair, float64 [n]."""
    net.eval()
    made = []
    for part in np.array_split(np.arange(len(pairs.seen)), max(1, len(pairs.seen) // 64)):
        some = Pairs(*(getattr(pairs, f)[part] for f in Pairs.__dataclass_fields__))
        batch = arrays_of(takes, some)
        made.append(net(batch["vectors"], batch["audio"]).double().numpy())
    return np.concatenate(made)


def held_out_report(net: nn.Module, takes: ClipFeatures, seed: int = 0, pairs: int | None = None) -> dict:
    """What a card says: accuracy on unseen recordings, by kind of pair, and the curve against known shifts.

    Args:
        net: a trained classifier.
        takes: of recordings that training never saw.
        seed: of the pairs.
        pairs: how many, half of them matched: always saying one thing scores 50 %. Left out, eight for each
            take, at most 2000.

    Returns:
        ``accuracy`` with its interval over recordings; ``by_kind``, the share of each kind that is judged
        rightly; ``auc``, the chance that a matched pair scores above one that is not; ``varies``, the
        deviation of the scores (0: the last ReLU is dead); ``curve`` as
        :func:`~v2a_nb.metrics.vaas.metric.conventions` by shift in seconds, mean of early and late.
    """
    from scipy.stats import rankdata

    pairs = min(2000, 8 * len(takes)) if pairs is None else pairs
    drawn = draw_pairs(takes.recordings, pairs - pairs % 4, np.random.default_rng([seed, 77]))
    scores = scores_of(net, takes, drawn)
    right = ((scores > 0.5) == (drawn.label > 0.5)).astype(float)
    names = [str(takes.recordings[i]) for i in drawn.seen]
    low, high = bootstrap(list(right), lambda rows: float(np.mean(rows)), names)
    ranks = rankdata(scores)  # ties, of which a ReLU makes many, share their rank
    good = drawn.label > 0.5
    auc = (ranks[good].sum() - good.sum() * (good.sum() + 1) / 2) / (good.sum() * (~good).sum())
    return {
        "accuracy": {"value": float(right.mean()), "low": low, "high": high, "n": len(right)},
        "by_kind": {k: float(right[drawn.kind == k].mean()) for k in ("matched", "other", "shifted")},
        "auc": float(auc),
        "varies": float(scores.std()),
        "curve": shift_curve(net, takes),
    }


def shift_curve(net: nn.Module, takes: ClipFeatures, shifts_s: Sequence[float] = CURVE_S) -> list[dict]:
    """Both score conventions of true pairs whose sound is moved, each shift both early and late."""
    rows, every = [], np.arange(len(takes))
    for shift in shifts_s:
        scores = []
        for sign in (1, -1) if shift else (1,):
            moved = np.full(len(every), sign * shift)
            scores.append(scores_of(net, takes, Pairs(every, every, moved, every, np.ones(len(every), np.float32))))
        names = [str(r) for r in takes.recordings] * len(scores)
        rows.append({"shift_s": shift, **conventions(np.concatenate(scores), names)})
    return rows


def train_classifier(
    takes: ClipFeatures,
    out: str | Path,
    *,
    steps: int = STEPS,
    batch_size: int = 48,
    seed: int = 0,
    config: VaasConfig | None = None,
    **how: object,
) -> nn.Module:
    """Train on takes; returns the classifier in evaluation mode. ``out`` gets the log and the state.

    Args:
        how: ``resume``, ``eval_fn``, ``eval_every`` and ``until`` of :func:`~v2a_nb.training.loop.fit`.
    """
    torch.manual_seed(seed)
    module = VaasTraining(config)
    # betas: the paper's Adam; what is added is weight decay, since our pairs are few
    plan = OptimConfig(steps=steps, lr=1.5e-3, warmup=100, weight_decay=5e-2, betas=(0.9, 0.999), seed=seed)
    return fit(module, batches(takes, batch_size, seed), plan, out, **how).net


def train_vaas(
    out: str | Path,
    *,
    recordings: int = RECORDINGS,
    held_out: int = HELD_OUT,
    steps: int = STEPS,
    seed: int = 0,
    encoder: str | Path = SHIPPED_ENCODER,
    codec: str | Path = "codec",
    takes: str | Path | None = None,
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> Path:
    """Everything, from nothing to ``out/weights`` with its card.

    Args:
        out: folder.
        recordings: of the world, the held-out ones among them.
        held_out: recordings that training never sees.
        steps: of training.
        seed: of initialisation and pairs.
        encoder, codec: see :func:`compute_clip_features`.
        takes: folder of the takes; left out, ``out/takes``.
        resume: go on with what ``out`` holds.

    Raises:
        V2AError: ``out`` holds a run and ``resume`` is not set.
    """
    out = init_run(out, resume)
    say(f"takes: {recordings} recordings of seed {TRAIN_SEED}")
    every = compute_clip_features(takes or out / "takes", encoder, codec, recordings=recordings)
    training, unseen = every.split(held_out)
    quick = draw_pairs(unseen.recordings, min(400, 4 * len(unseen)), np.random.default_rng(78))

    def eval_fn(step: int, module: VaasTraining) -> dict[str, float]:
        right = (scores_of(module.net, unseen, quick) > 0.5) == (quick.label > 0.5)
        return {"held_out_accuracy": round(float(right.mean()), 4)}

    say(f"classifier: {steps} steps on {len(training)} takes")
    net = train_classifier(training, out, steps=steps, seed=seed, resume=resume, eval_fn=eval_fn, eval_every=500)
    net = hub.as_shipped(net)
    report = held_out_report(net, unseen)
    vaas = Vaas(net, StrikeVision.from_pretrained(encoder))
    card = card_of(
        data_seed=TRAIN_SEED, steps=steps, seed=seed, recordings=recordings - held_out, held_out=held_out,
        shifts_s=SHIFTS_S, tolerance_s=TOLERANCE_S, scores=rounded(report),
    )  # fmt: skip
    folder = vaas.save_pretrained(out / "weights", **card)
    write_readme(folder, card_text(vaas.tag, card, report))
    say(table(report))
    return folder


def table(report: dict) -> str:
    """Held-out accuracy and the curve against known shifts, as Markdown."""
    a, kinds = report["accuracy"], report["by_kind"]
    lines = [
        f"- accuracy on unseen recordings: {a['value']:.1%} ({a['low']:.1%} to {a['high']:.1%}, {a['n']} pairs); "
        + ", ".join(f"{k} {v:.1%}" for k, v in kinds.items())
        + f"; area under the curve {report['auc']:.3f}",
        "",
        "| true sound moved by, ms | `vaas_acc` | `vaas_score` |",
        "| ---: | ---: | ---: |",
    ]
    for row in report["curve"]:
        cells = [f"{row[k]['value']:.1f} ({row[k]['low']:.1f} to {row[k]['high']:.1f})" for k in _READINGS]
        lines.append(f"| {1000 * row['shift_s']:.0f} | {' | '.join(cells)} |")
    return "\n".join(lines)


_READINGS = ("vaas_acc", "vaas_score")


def card_text(tag: str, card: dict, report: dict) -> str:
    """The model card."""
    low, high = card["shifts_s"]
    return f"""# {tag}

Says whether a sound belongs to a video at this very moment: the alignment classifier of EgoSonics (supplement
H) in the small form of `v2a_nb/metrics/vaas_net.py`. `vision/` is the frozen encoder that it reads pictures
with. fp16 safetensors, MIT licence.

Trained by `python -m v2a_nb.metrics.vaas.train` on {card["recordings"]} recordings of Strike World seed
{card["data_seed"]}, {card["steps"]} steps, training seed {card["seed"]}: 50 % matched pairs, 25 % with the
sound of another recording, 25 % with a sound that is {low} to {high} s early or late. It knows no other
world: on real video its scores mean little.

## Scores

{card["held_out"]} recordings that training never saw; intervals are over recordings. Always giving the
same answer is right for 50 % of the pairs. In the table, every shift is taken early and late.

{table(report)}

While it was trained, matched sounds were up to {1000 * card["tolerance_s"]:.0f} ms off. What the
table says of shifts between that and {1000 * low:.0f} ms was never trained.
"""


def scores_on_card(weights: str | Path) -> str:
    """What the card of a trained classifier says.

    Raises:
        UsageError: it has no scores.
    """
    vaas = Vaas.from_pretrained(weights)
    if "scores" not in vaas.card:
        raise UsageError(f"{weights}: the card has no scores")
    return f"{vaas.tag}\n\n{table(vaas.card['scores'])}"


def main(argv: Sequence[str] | None = None, say: Callable[[str], None] = print) -> int:
    """The commands at the top of this file; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m v2a_nb.metrics.vaas.train", description=__doc__.split("\n")[0])
    add_arguments(parser, "runs/vaas", STEPS)
    parser.add_argument("--score", metavar="WEIGHTS", help="only print what the card of these weights says")
    args = parser.parse_args(argv)
    if args.score:
        return run(lambda: scores_on_card(args.score), say)
    return run(lambda: train_vaas(args.out, **told(args), say=say), say)


if __name__ == "__main__":
    raise SystemExit(main())
