"""Recipe of the ``tiny`` AV-Sync classifier on Strike World.

::

    v2a-nb train av_sync --out runs/av_sync                  # render, train, score, write runs/av_sync/weights
    python -m v2a_nb.metrics.av_sync.train --out runs/av_sync     # the same, with more to choose
    python -m v2a_nb.metrics.av_sync.train --score av_sync        # print the scores of the shipped weights

As the paper trains it (supplement 7.4): half of the pairs matched, a quarter with another video's sound, a quarter
shifted, AdamW. The range of shifts is in the name of the released checkpoint alone, :data:`SHIFTS_S`. Ours: it starts
from AV-Sim's encoders, and beside the pairs' cross-entropy stands :data:`CONTRAST`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb import hub
from v2a_nb.data.audio_visual_pairs import AudioVisualPairs, TrainConfig, gather_all, louder, relit
from v2a_nb.data.clip_features import SHIPPED_ENCODER
from v2a_nb.errors import UsageError
from v2a_nb.metrics.av_sync.metric import AvSync, share_synchronous
from v2a_nb.metrics.av_sync.model import PRESETS, AvSyncConfig, AvSyncNet, loss_of
from v2a_nb.metrics.statistics import bootstrap
from v2a_nb.metrics.vaas.train import Pairs, draw_pairs
from v2a_nb.models.av_embedding import AudioVisualEmbedding
from v2a_nb.models.video_encoders.strike import StrikeVision
from v2a_nb.systems.retrieval.train import VISION, add_arguments, keep_vision, told, with_eyes
from v2a_nb.training.loop import OptimConfig, fit
from v2a_nb.training.recipe import card_of, init_run, rounded, run, write_readme

SHIFTS_S = (1.0, 1.5)
"""Shifted pairs are off by this much, seconds, early or late (released ``half_neg_easy_shift1-1.5``)."""
CONTRAST = 1.0
"""Weight of an InfoNCE in which each video must find its sound among the batch's, its own shifted one included.

Ours: a thousand steps are too few for three layers to discover from yes and no alone what is to be compared."""
CONFIG = TrainConfig(steps=400)
CURVE_S = (0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.25, 1.5)


def batches(
    shots: AudioVisualPairs, size: int, seed: int, shifts_s: tuple[float, float] = SHIFTS_S
) -> Callable[[int], dict[str, Tensor]]:
    """From a step to ``size`` videos with their own sounds, and the first half of these shifted.

    They make ``2 * size`` pairs: :class:`AvSyncTraining` gives the sounds of the first half to the second.

    Args:
        shots: of training, with margins.
        size: videos in a batch, each of another recording; an even number.
        seed: of every choice.
        shifts_s: least and greatest shift.

    Raises:
        UsageError: an odd size, or shifts that go over the margin; at the first step: fewer recordings.
    """
    low, high = shifts_s
    if size < 2 or size % 2:
        raise UsageError(f"{size} videos cannot be halved")
    if not 0 < low <= high <= shots.margin_s + 1e-9:
        raise UsageError(f"shifts from {low} to {high} s: the least over 0, the greatest within {shots.margin_s} s")

    def batch_of(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([seed, step])
        which, half = shots.draw(size, 1, rng), size // 2
        start, seconds = shots.part(size, rng)
        vectors, place = shots.seen(which, start, seconds)
        shift = rng.uniform(low, high, half) * rng.choice([-1, 1], half)
        which, start = np.concatenate([which, which[:half]]), np.concatenate([start, start[:half] - shift])
        bank = louder(shots.heard(which, start, seconds), rng)
        return {"vectors": vectors, "place": relit(place, rng), "bank": bank}

    return batch_of


class AvSyncTraining(nn.Module):
    """The classifier with its loss, as the loop wants it.

    Args:
        net: the classifier.
        contrast: see :data:`CONTRAST`; 0 is the paper.
        positive_weight: of matched pairs; the released checkpoint's name says 2.
    """

    def __init__(self, net: AvSyncNet, contrast: float = CONTRAST, positive_weight: float = 1.0) -> None:
        super().__init__()
        self.net, self.contrast, self.positive_weight = net, contrast, positive_weight

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        seen, heard = self.net.see(batch["vectors"], batch["place"]), self.net.hear(batch["bank"])
        n, half = len(seen), len(seen) // 2
        # matched; shifted for the first half of the videos; for the second half the sound of the first
        pairs = torch.cat([seen, seen]), torch.cat([heard, heard[:half]])
        label = (torch.arange(2 * n, device=seen.device) < n).float()
        logits = self.net.judge(*pairs)
        loss = loss_of(logits, label, self.positive_weight)
        losses = {"loss": loss, "judged": loss, "right": ((logits > 0) == (label > 0.5)).float().mean()}
        if self.contrast:
            unit = F.normalize(seen.float(), dim=-1), F.normalize(heard.float(), dim=-1)
            scores = unit[0] @ unit[1].T / self.net.encoders.temperature  # [videos, sounds]
            found = F.cross_entropy(scores, torch.arange(n, device=seen.device))
            losses |= {"loss": loss + self.contrast * found, "found": found}
        return losses


# --- scores -----------------------------------------------------------------------------------------


@torch.no_grad()
def vectors_of(
    net: AvSyncNet,
    shots: AudioVisualPairs,
    which: np.ndarray | None = None,
    shift_s: np.ndarray | float = 0.0,
    size: int = 64,
) -> Tensor:
    """What the classifier makes of sounds that are ``shift_s`` late: [n, 256]; of all shots where none are named."""
    net.eval()
    which = np.arange(len(shots)) if which is None else which
    shift = np.broadcast_to(shift_s, len(which))
    parts = np.array_split(np.arange(len(which)), -(-len(which) // size))
    return torch.cat([net.hear(shots.heard(which[p], -shift[p])) for p in parts])


@torch.no_grad()
def pictures_of(net: AvSyncNet, shots: AudioVisualPairs, size: int = 64) -> Tensor:
    """What the classifier makes of all that is seen: [N, 256]."""
    net.eval()
    parts = np.array_split(np.arange(len(shots)), -(-len(shots) // size))
    return torch.cat([net.see(*shots.seen(part)) for part in parts])


@torch.no_grad()
def judged(net: AvSyncNet, seen: Tensor, shots: AudioVisualPairs, pairs: Pairs) -> np.ndarray:
    """Probabilities of pairs, float64 [n]; ``seen`` is what :func:`pictures_of` gave."""
    heard = vectors_of(net, shots, pairs.heard, pairs.shift_s)
    return net.judge(seen[pairs.seen], heard).sigmoid().double().numpy()


def held_out_report(
    net: AvSyncNet,
    shots: AudioVisualPairs,
    seed: int = 0,
    pairs: int | None = None,
    shifts_s: tuple[float, float] = SHIFTS_S,
) -> dict:
    """What a card says.

    Args:
        net: a trained classifier.
        shots: of recordings that training never saw, with margins.
        seed: of the pairs.
        pairs: how many, half of them matched: always saying one thing is right for 50 %. Left out, two for each shot.
        shifts_s: of the shifted ones.

    Returns:
        ``accuracy`` with its interval over recordings; ``by_kind``, the share of each kind that is judged rightly;
        ``auc``, the chance that a matched pair gets a higher probability than one that is not; ``ground_truth``, the
        AV-Sync of the true sounds, percent: no generated sound can be expected above it; ``other_video``, that of
        another recording's sounds; ``curve``, AV-Sync of true sounds by how far they were moved, early and late.
    """
    from scipy.stats import rankdata

    pairs = 2 * len(shots) if pairs is None else pairs
    drawn = draw_pairs(shots.recordings, pairs - pairs % 4, np.random.default_rng([seed, 79]), shifts_s)
    seen = pictures_of(net, shots)
    scores = judged(net, seen, shots, drawn)
    right = ((scores >= 0.5) == (drawn.label > 0.5)).astype(float)
    low, high = bootstrap(list(right), lambda rows: float(np.mean(rows)), list(shots.recordings[drawn.seen]))
    ranks, good = rankdata(scores), drawn.label > 0.5
    auc = (ranks[good].sum() - good.sum() * (good.sum() + 1) / 2) / (good.sum() * (~good).sum())
    every = np.arange(len(shots))
    other = (every + len(every) // 2) % len(every)
    curve = []
    for shift in CURVE_S:
        if shift > shots.margin_s + 1e-9:
            continue
        rows = [scored(net, seen, shots, every, sign * shift) for sign in ((1, -1) if shift else (1,))]
        curve.append(
            {"shift_s": shift, **share_synchronous(np.concatenate(rows)[:, None], np.tile(shots.recordings, len(rows)))}
        )
    return {
        "accuracy": {"value": float(right.mean()), "low": low, "high": high, "n": len(right)},
        "by_kind": {k: float(right[drawn.kind == k].mean()) for k in ("matched", "other", "shifted")},
        "auc": float(auc),
        "ground_truth": {k: v for k, v in curve[0].items() if k != "shift_s"},
        "other_video": share_synchronous(scored(net, seen, shots, other)[:, None], shots.recordings),
        "curve": curve,
    }


def scored(
    net: AvSyncNet, seen: Tensor, shots: AudioVisualPairs, heard: np.ndarray, shift_s: float = 0.0
) -> np.ndarray:
    """Probabilities of every shot's pictures with the sounds ``heard``, all ``shift_s`` late."""
    n = len(shots)
    nothing = np.full(n, ""), np.ones(n, np.float32)
    return judged(net, seen, shots, Pairs(np.arange(n), heard, np.full(n, shift_s), *nothing))


def table(report: dict) -> str:
    """The report as Markdown."""
    a, kinds, truth, other = (report[k] for k in ("accuracy", "by_kind", "ground_truth", "other_video"))
    lines = [
        f"- accuracy on unseen recordings: {a['value']:.1%} ({a['low']:.1%} to {a['high']:.1%}, {a['n']} pairs); "
        + ", ".join(f"{k} {v:.1%}" for k, v in kinds.items())
        + f"; area under the curve {report['auc']:.3f}",
        f"- AV-Sync of the true sounds, its upper bound: {truth['value']:.1f} % ({truth['low']:.1f} to "
        f"{truth['high']:.1f}); of another video's: {other['value']:.1f} % ({other['low']:.1f} to {other['high']:.1f})",
        "",
        "| true sound moved by, s | AV-Sync, % |",
        "| ---: | ---: |",
    ]
    for row in report["curve"]:
        lines.append(f"| {row['shift_s']:g} | {row['value']:.1f} ({row['low']:.1f} to {row['high']:.1f}) |")
    return "\n".join(lines)


# --- all of it --------------------------------------------------------------------------------------


def train_classifier(
    shots: AudioVisualPairs,
    out: str | Path,
    *,
    steps: int,
    batch_size: int = 32,
    seed: int = 0,
    config: AvSyncConfig | None = None,
    encoders: AudioVisualEmbedding | None = None,
    contrast: float = CONTRAST,
    positive_weight: float = 1.0,
    shifts_s: tuple[float, float] = SHIFTS_S,
    **how: object,
) -> AvSyncNet:
    """Train on shots; returns the classifier in evaluation mode. ``out`` gets the log and the state.

    Args:
        how: ``resume``, ``eval_fn``, ``eval_every`` and ``until`` of :func:`~v2a_nb.training.loop.fit`.
    """
    torch.manual_seed(seed)
    module = AvSyncTraining(AvSyncNet(config, encoders), contrast, positive_weight)
    plan = OptimConfig(
        steps=steps, lr=1e-3, warmup=min(100, steps // 4), weight_decay=5e-2, betas=(0.9, 0.98), seed=seed,
        save_every=100,
    )  # fmt: skip
    return fit(module, batches(shots, batch_size, seed, shifts_s), plan, out, **how).net


def train_av_sync(
    out: str | Path,
    *,
    budget: TrainConfig | None = None,
    seed: int = 0,
    resume: bool = False,
    data: str | Path | None = None,
    encoders: str | Path | None = "av_sim",
    config: AvSyncConfig | None = None,
    contrast: float = CONTRAST,
    eyes: str | Path = SHIPPED_ENCODER,
    say: Callable[[str], None] = print,
) -> Path:
    """Everything, from nothing to ``out/weights`` with its card, and ``out/vaura/vision``, to which it refers.

    Args:
        out: folder.
        budget: how much.
        seed: of initialisation and pairs.
        resume: go on with what ``out`` holds.
        data: folder of the rendered shots, which AV-Sim's recipe reads as well; left out, ``out/shots``.
        encoders: name or folder of AV-Sim's weights to start from; None, from nothing.
        config: left out, ``tiny`` with the encoders' sizes.
        contrast: see :data:`CONTRAST`.
        eyes: folder of the frozen ``StrikeVision``.

    Raises:
        V2AError: ``out`` holds a run and ``resume`` is not set.
        UsageError: ``data`` holds other shots, or the encoders are of other sizes, or read other ``eyes``.
        WeightsError: there are no such encoders, or no such ``eyes``.
    """
    budget, out = budget or CONFIG, init_run(out, resume)
    training, watched, unseen = gather_all(data or out / "shots", budget, eyes, say)
    start = None if encoders is None else AudioVisualEmbedding.from_pretrained(encoders)
    if config is None:
        config = PRESETS["tiny"] if start is None else replace(PRESETS["tiny"], encoders=start.config)
    config = replace(config, encoders=with_eyes(config.encoders, training))
    rng = np.random.default_rng(78)
    asked = draw_pairs(watched.recordings, 4 * len(watched), rng, SHIFTS_S)

    def eval_fn(step: int, module: AvSyncTraining) -> dict[str, float]:
        scores = judged(module.net, pictures_of(module.net, watched), watched, asked)
        right = (scores >= 0.5) == (asked.label > 0.5)
        return {"watched_accuracy": round(float(right.mean()), 4)}

    say(f"classifier: {budget.steps} steps of {2 * budget.batch_size} pairs, {len(training)} shots to learn from")
    trained = train_classifier(
        training, out, steps=budget.steps, batch_size=budget.batch_size, seed=seed, config=config, encoders=start,
        contrast=contrast, resume=resume, eval_fn=eval_fn, eval_every=100,
    )  # fmt: skip
    net = AvSyncNet(config, eyes=StrikeVision.from_pretrained(eyes))
    net.load_state_dict(trained.state_dict())
    hub.as_shipped(net)
    report, judge = held_out_report(net, unseen), AvSync(net)
    card = card_of(
        **asdict(budget), seed=seed, shifts_s=SHIFTS_S, contrast=contrast,
        started_from=None if start is None else hub.tag_of(start, "av-sim"), scores=rounded(report),
    )  # fmt: skip
    keep_vision(out, eyes)
    folder = judge.save_pretrained(out / "weights", vision=VISION, **card)
    write_readme(folder, card_text(judge.tag, card, report))
    say(table(report))
    return folder


def card_text(tag: str, card: dict, report: dict) -> str:
    """The model card."""
    low, high = card["shifts_s"]
    return f"""# {tag}

Says whether a sound is synchronous with a video: the AV-Sync classifier of Action2Sound (supplement 7.4) in the small
form of `v2a_nb/metrics/av_sync.py`, which reads the vision encoder of `vaura`. fp16 safetensors, MIT licence.

Trained by `python -m v2a_nb.metrics.av_sync.train` on two clips of each of {card["recordings"] - card["watched"]} recordings
of Strike World seed {card["data_seed"]}, {card["steps"]} steps of {2 * card["batch_size"]} pairs, training seed
{card["seed"]}, started from {card["started_from"] or "nothing"}: 50 % matched, 25 % with the sound of another
recording, 25 % {low} to {high} s early or late. It knows no other world.

## Scores

{card["unseen"]} recordings of seed {card["unseen_seed"]}, which training never saw; intervals are over recordings. The
paper's classifier is right for 70.6 % of its pairs and gives the truth 77.7 %.

{table(report)}

Shifts under {low} s were never trained: what the table says of them is how coarse the score is. It is uneven: a sound
that is late by whole tokens of 0.2 s, as those of 0.2 s and 1 s, passes more often than others, for the encoders tell
when within a token a hit lies better than in which one. `vaas` is finer.
"""


def scores_on_card(weights: str | Path) -> str:
    """What the card of a trained classifier says.

    Raises:
        UsageError: it has no scores.
    """
    judge = AvSync.from_pretrained(weights)
    if "scores" not in judge.card:
        raise UsageError(f"{weights}: the card has no scores")
    return f"{judge.tag}\n\n{table(judge.card['scores'])}"


def main(argv: Sequence[str] | None = None, say: Callable[[str], None] = print) -> int:
    """The commands at the top of this file; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m v2a_nb.metrics.av_sync.train", description=__doc__.split("\n")[0])
    add_arguments(parser, "runs/av_sync", CONFIG)
    parser.add_argument("--encoders", default="av_sim", help="name or folder of AV-Sim's weights to start from")
    parser.add_argument("--from-nothing", action="store_true", help="start from no encoders")
    parser.add_argument("--contrast", type=float, default=CONTRAST, help="weight of the InfoNCE; 0 is the paper")
    args = parser.parse_args(argv)
    if args.score:
        return run(lambda: scores_on_card(args.score), say)
    how = {"encoders": None if args.from_nothing else args.encoders, "contrast": args.contrast, "say": say}
    return run(lambda: train_av_sync(args.out, **told(args), **how), say)


if __name__ == "__main__":
    raise SystemExit(main())
