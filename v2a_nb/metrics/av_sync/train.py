"""Recipe of the ``tiny`` AV-Sync classifier.

    v2a-nb train av_sync --out runs/av_sync

As the paper trains it (supplement 7.4): half of the pairs matched, a quarter with another video's sound, a quarter
shifted, AdamW. The range of shifts is in the name of the released checkpoint alone, :data:`SHIFTS_S`. Ours: it starts
from the audio-visual embedding, and beside the pairs' cross-entropy stands an InfoNCE in which each video must find its
sound among the batch's, its own shifted one included: a thousand steps are too few for three layers to discover from
yes and no alone what is to be compared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb import hub
from v2a_nb.data.audio_visual_pairs import AudioVisualPairs, random_gain, relight
from v2a_nb.data.clip_features import load_encoder
from v2a_nb.data.features import FeatureStore
from v2a_nb.errors import UsageError
from v2a_nb.metrics.av_sync.metric import AvSync, share_synchronous
from v2a_nb.metrics.av_sync.model import PRESETS, AvSyncConfig, AvSyncNet, loss_of
from v2a_nb.metrics.vaas.train import Pairs, accuracy_of, draw_pairs
from v2a_nb.models.av_embedding import AudioVisualEmbedding
from v2a_nb.training.loop import BatchOf, OptimConfig
from v2a_nb.training.recipe import Stage, Stages, scaling
from v2a_nb.training.recipes.clips import VISION, PairsRecipe, PairsTrainConfig

SHIFTS_S = (1.0, 1.5)
"""Shifted pairs are off by this much, seconds, early or late (released ``half_neg_easy_shift1-1.5``)."""
CURVE_S = (0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.25, 1.5)
"""Shifts at which :func:`held_out_report` measures, seconds."""


@dataclass(frozen=True)
class AvSyncTrainConfig(PairsTrainConfig):
    """How much of everything.

    Attributes:
        embedding: weights of the audio-visual embedding to start from, a name or a folder; empty: from nothing.
        contrast: weight of the InfoNCE; 0 is the paper.
    """

    steps: int = scaling(400, least=1)
    embedding: str = "av_sim"
    contrast: float = 1.0


class AvSyncRecipe(PairsRecipe):
    """The AV-Sync classifier `tiny`, from the audio-visual embedding. It needs pictures and their sound, and no labels.

    Attributes:
        network: sizes of the classifier; those of its encoders are the embedding's that it starts from.
    """

    name = "av_sync"
    TrainConfig = AvSyncTrainConfig
    network = PRESETS["tiny"]
    config: AvSyncTrainConfig

    def settings(self) -> dict[str, object]:
        return {**super().settings(), "started_from": self.started_from}

    def stages(self, features: tuple[AudioVisualPairs, AudioVisualPairs], store: FeatureStore, out: Path) -> Stages:
        c, start, self.clips = self.config, self.embedding(), len(features[0])
        config = self.network if start is None else replace(self.network, encoders=start.config)
        config = replace(config, encoders=self.with_encoder(config.encoders))
        if start is not None:
            start.config = config.encoders  # names its video encoder where it did not
        trained = yield classifier_stage(
            *features, steps=c.steps, batch_size=self.batch_size(features[0]), seed=self.seed, config=config,
            embedding=start, contrast=c.contrast,
        )  # fmt: skip
        net = AvSyncNet(config, frame_encoder=load_encoder(c.encoder))
        net.load_state_dict(trained.net.cpu().state_dict())
        return AvSync(hub.as_shipped(net))

    def embedding(self) -> AudioVisualEmbedding | None:
        """The audio-visual embedding that the training starts from."""
        return AudioVisualEmbedding.from_pretrained(self.config.embedding) if self.config.embedding else None

    @property
    def started_from(self) -> str | None:
        """The tag of that embedding."""
        start = self.embedding()
        return None if start is None else hub.tag_of(start, "av-sim")

    def card(self, model: AvSync) -> dict[str, object]:
        return {**super().card(model), "shifts_s": SHIFTS_S, "started_from": self.started_from}

    def save(self, model: AvSync, out: Path, card: dict[str, object]) -> Path:
        self.save_encoder(self.folder(out))
        return model.save_pretrained(self.folder(out) / "weights", vision=VISION, **card)


def batches(pairs: AudioVisualPairs, size: int, seed: int, shifts_s: tuple[float, float] = SHIFTS_S) -> BatchOf:
    """From a number to ``size`` videos with their own sounds, and the first half of these shifted.

    They make ``2 * size`` pairs: :class:`AvSyncTraining` gives the sounds of the first half to the second.

    Args:
        pairs: of training, with margins.
        size: videos in a batch, each of another recording; an even number.
        seed: of every choice.
        shifts_s: least and greatest shift.

    Raises:
        UsageError: an odd size, or shifts that go over the margin; at the first step: fewer recordings.
    """
    low, high = shifts_s
    if size < 2 or size % 2:
        raise UsageError(f"{size} videos cannot be halved")
    if not 0 < low <= high <= pairs.margin_s + 1e-9:
        raise UsageError(f"shifts from {low} to {high} s: the least over 0, the greatest within {pairs.margin_s} s")

    def batch_of(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([seed, step])
        which, half = pairs.draw(size, 1, rng), size // 2
        start, seconds = pairs.draw_part(size, rng)
        video, thumbnail = pairs.video_inputs(which, start, seconds)
        shift = rng.uniform(low, high, half) * rng.choice([-1, 1], half)
        which, start = np.concatenate([which, which[:half]]), np.concatenate([start, start[:half] - shift])
        audio = random_gain(pairs.audio_inputs(which, start, seconds), rng)
        return {"video": video, "thumbnail": relight(thumbnail, rng), "audio": audio}

    return batch_of


class AvSyncTraining(nn.Module):
    """The classifier with its loss.

    Args:
        net: the classifier.
        contrast: weight of the InfoNCE; 0 is the paper.
        positive_weight: of matched pairs; the released checkpoint's name says 2.
    """

    def __init__(self, net: AvSyncNet, contrast: float = 1.0, positive_weight: float = 1.0) -> None:
        super().__init__()
        self.net, self.contrast, self.positive_weight = net, contrast, positive_weight

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        video, audio = self.net.see(batch["video"], batch["thumbnail"]), self.net.hear(batch["audio"])
        n, half = len(video), len(video) // 2
        # matched; shifted for the first half of the videos; for the second half the sound of the first
        pairs = torch.cat([video, video]), torch.cat([audio, audio[:half]])
        label = (torch.arange(2 * n, device=video.device) < n).float()
        logits = self.net.judge(*pairs)
        loss = loss_of(logits, label, self.positive_weight)
        losses = {"loss": loss, "judged": loss, "right": ((logits > 0) == (label > 0.5)).float().mean()}
        if self.contrast:
            unit = F.normalize(video.float(), dim=-1), F.normalize(audio.float(), dim=-1)
            scores = unit[0] @ unit[1].T / self.net.encoders.temperature  # [videos, sounds]
            found = F.cross_entropy(scores, torch.arange(n, device=video.device))
            losses |= {"loss": loss + self.contrast * found, "found": found}
        return losses


def classifier_stage(
    pairs: AudioVisualPairs,
    held_out: AudioVisualPairs,
    *,
    steps: int,
    config: AvSyncConfig,
    batch_size: int = 32,
    seed: int = 0,
    embedding: AudioVisualEmbedding | None = None,
    contrast: float = 1.0,
    positive_weight: float = 1.0,
    shifts_s: tuple[float, float] = SHIFTS_S,
) -> Stage:
    """The stage that trains the classifier on pairs; its accuracy on held-out pairs goes to the log.

    Args:
        embedding: whose encoders it starts from; left out, from nothing. Other arguments as for :func:`batches` and
            :class:`AvSyncTraining`.
    """
    asked = draw_pairs(held_out.recording_ids, 4 * len(held_out), np.random.default_rng(78), shifts_s)

    def eval_fn(step: int, module: AvSyncTraining) -> dict[str, float]:
        scores = judge(module.net, video_vectors(module.net, held_out), held_out, asked)
        right = (scores >= 0.5) == (asked.label > 0.5)
        return {"held_out_accuracy": round(float(right.mean()), 4)}

    torch.manual_seed(seed)
    module = AvSyncTraining(AvSyncNet(config, embedding), contrast, positive_weight)
    optim = OptimConfig(
        steps=steps, lr=1e-3, warmup=min(100, steps // 4), weight_decay=5e-2, betas=(0.9, 0.98), seed=seed,
        save_every=100,
    )  # fmt: skip
    return Stage("", module, batches(pairs, batch_size, seed, shifts_s), optim, eval_fn, 100)


# --- scores -----------------------------------------------------------------------------------------


@torch.no_grad()
def audio_vectors(
    net: AvSyncNet, pairs: AudioVisualPairs, rows: np.ndarray, shift_s: np.ndarray, size: int = 64
) -> Tensor:
    """The classifier's vectors [n, 256] of the sounds of clips, each ``shift_s`` late."""
    net.eval()
    parts = np.array_split(np.arange(len(rows)), -(-len(rows) // size))
    device = net.encoders.device
    return torch.cat([net.hear(pairs.audio_inputs(rows[p], -shift_s[p]).to(device)) for p in parts])


@torch.no_grad()
def video_vectors(net: AvSyncNet, pairs: AudioVisualPairs, size: int = 64) -> Tensor:
    """The classifier's vectors [N, 256] of all clips' videos."""
    net.eval()
    parts = np.array_split(np.arange(len(pairs)), -(-len(pairs) // size))
    device = net.encoders.device
    return torch.cat([net.see(*(x.to(device) for x in pairs.video_inputs(part))) for part in parts])


@torch.no_grad()
def judge(net: AvSyncNet, video: Tensor, clips: AudioVisualPairs, pairs: Pairs) -> np.ndarray:
    """Probabilities of pairs, float64 [n].

    Args:
        video: what :func:`video_vectors` gave of ``clips``.
    """
    audio = audio_vectors(net, clips, pairs.sound, pairs.shift_s)
    return net.judge(video[pairs.video], audio).sigmoid().double().cpu().numpy()


def held_out_report(
    net: AvSyncNet,
    clips: AudioVisualPairs,
    seed: int = 0,
    pairs: int | None = None,
    shifts_s: tuple[float, float] = SHIFTS_S,
) -> dict:
    """Accuracy on recordings that training never saw, by kind of pair, and the score of true sounds by their shift.

    Args:
        net: a trained classifier.
        clips: of those recordings, with margins.
        seed: of the pairs.
        pairs: how many, half of them matched: always saying one thing is right for 50 %. Left out, two for each clip.
        shifts_s: of the shifted ones.

    Returns:
        ``accuracy`` with its interval over recordings; ``by_kind``, the share of each kind that is judged rightly;
        ``auc``, the chance that a matched pair gets a higher probability than one that is not; ``ground_truth``, the
        AV-Sync of the true sounds, percent: no generated sound can be expected above it; ``other_video``, that of
        another recording's sounds; ``curve``, AV-Sync of true sounds by how far they were moved, early and late.
    """
    pairs = 2 * len(clips) if pairs is None else pairs
    drawn = draw_pairs(clips.recording_ids, pairs - pairs % 4, np.random.default_rng([seed, 79]), shifts_s)
    video = video_vectors(net, clips)
    scores = judge(net, video, clips, drawn)
    every = np.arange(len(clips))
    other = (every + len(every) // 2) % len(every)
    curve = []
    for shift in CURVE_S:
        if shift > clips.margin_s + 1e-9:
            continue
        rows = [judge_all(net, video, clips, every, sign * shift) for sign in ((1, -1) if shift else (1,))]
        names = np.tile(clips.recording_ids, len(rows))
        curve.append({"shift_s": shift, **share_synchronous(np.concatenate(rows)[:, None], names)})
    return {
        **accuracy_of(scores, drawn, scores >= 0.5, clips.recording_ids),
        "ground_truth": {k: v for k, v in curve[0].items() if k != "shift_s"},
        "other_video": share_synchronous(judge_all(net, video, clips, other)[:, None], clips.recording_ids),
        "curve": curve,
    }


def judge_all(
    net: AvSyncNet, video: Tensor, clips: AudioVisualPairs, sounds: np.ndarray, shift_s: float = 0.0
) -> np.ndarray:
    """Probabilities of every clip's video with the sound of the clip in ``sounds``, all ``shift_s`` late."""
    n = len(clips)
    return judge(net, video, clips, Pairs(np.arange(n), sounds, np.full(n, shift_s), np.full(n, ""), np.ones(n)))
