"""Recipe of video summarization.

    v2a-nb train summary --out runs/summary
    v2a-nb train summary --data csv:clips.csv --out runs/mine          # with a column text

The clip features are those of VAAS (:mod:`v2a_nb.data.clip_features`): with the same ``--cache`` nothing is computed
twice. One network is trained with the switch of EgoSonics' supplement F thrown at random: half of the time it gets the
true sound, half of the time zeros. So what sound adds is measured in one network, and a network that was given no sound
is not at a loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb import hub
from v2a_nb.data.clip_features import ClipFeatures
from v2a_nb.data.features import FeatureStore
from v2a_nb.errors import UsageError
from v2a_nb.metrics.summarization.metric import score_summaries
from v2a_nb.metrics.summarization.model import NarrationText, Summarizer, SummaryConfig
from v2a_nb.training.loop import BatchOf, OptimConfig
from v2a_nb.training.recipe import Stage, Stages, scaling
from v2a_nb.training.recipes.clips import ClipRecipe, ClipTrainConfig

SWITCHED_OFF = 0.5
"""Share of training clips whose sound is switched off."""


@dataclass(frozen=True)
class SummaryTrainConfig(ClipTrainConfig):
    """How much of everything.

    Attributes:
        text_dim: channels of the text embedding, at most.
    """

    steps: int = scaling(2000, least=1)
    text_dim: int = 64


class SummaryRecipe(ClipRecipe):
    """The summarizer `tiny` from nothing. It needs one line of text for each clip.

    Attributes:
        left_out: clips that were not used, because no word of their text has an embedding.
    """

    name = "summary"
    TrainConfig = SummaryTrainConfig
    network, described = SummaryConfig(), True
    left_out: int = 0

    def stages(self, features: tuple[ClipFeatures, ClipFeatures], store: FeatureStore, out: Path) -> Stages:
        c = self.config
        text = NarrationText.learn(features[0].column("text").tolist(), c.text_dim)
        training, held_out = (with_known_text(clips, text) for clips in features)
        self.clips, self.left_out = len(training), sum(map(len, features)) - len(training) - len(held_out)
        trained = yield summarizer_stage(
            training, text, steps=c.steps, batch_size=c.batch_size, seed=self.seed, config=self.network
        )  # fmt: skip
        model = hub.as_shipped(trained.model.cpu())
        model.text = text
        return model

    def card(self, model: Summarizer) -> dict[str, object]:
        return {**super().card(model), **self.tags(), "left_out": self.left_out}


class SummaryTraining(nn.Module):
    """The network with its loss: squared error to the embedding, as in the paper."""

    def __init__(self, config: SummaryConfig) -> None:
        super().__init__()
        self.model = Summarizer(config)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        predicted = self.model(batch["video"], batch["sound"], batch["on"])
        # summed over channels: the mean over 64 of a unit vector's channels would be a tiny number
        loss = (predicted - batch["target"]).square().sum(1).mean()
        with torch.no_grad():
            cosine = F.cosine_similarity(predicted, batch["target"]).mean()
        return {"loss": loss, "cosine": cosine}


def batches(clips: ClipFeatures, targets: np.ndarray, size: int, seed: int, noise: float = 0.1) -> BatchOf:
    """From a number to a batch: random clips, a little noise on the video embeddings, the switch thrown at random.

    Args:
        clips: of training.
        targets: float32 [N, text_dim], the embeddings of their narrations.
        size: clips in a batch.
        seed: of every choice.
        noise: standard deviation, in the place of unseen pictures.
    """

    def batch_of(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([seed, step])
        which = rng.integers(0, len(clips), size)
        video = clips.video_embeddings(which)
        return {
            "video": video + noise * torch.from_numpy(rng.standard_normal(video.shape, dtype=np.float32)),
            "sound": torch.from_numpy(clips["latents"][which].astype(np.float32)).transpose(1, 2),
            "on": torch.from_numpy((rng.random(size) >= SWITCHED_OFF).astype(np.float32)),
            "target": torch.from_numpy(targets[which]),
        }

    return batch_of


def summarizer_stage(
    clips: ClipFeatures,
    text: NarrationText,
    *,
    steps: int,
    batch_size: int = 48,
    seed: int = 0,
    config: SummaryConfig | None = None,
) -> Stage:
    """The stage that trains the network on clips whose narrations the text encoder knows.

    Raises:
        UsageError: clips whose channels do not fit ``config``.
    """
    config = replace(config or SummaryConfig(), text_dim=text.dim)
    channels = clips["video"].shape[2], clips["latents"].shape[1]
    if channels != (config.vector_dim, config.sound_dim):
        raise UsageError(
            f"clips with {channels[0]} and {channels[1]} channels do not fit a network of {config.vector_dim} and "
            f"{config.sound_dim}"
        )
    targets = text.encode(clips.column("text").tolist())
    torch.manual_seed(seed)
    module = SummaryTraining(config)
    module.model.mean.copy_(torch.from_numpy(targets.mean(0)))
    latents = clips["latents"][:].astype(np.float32)
    module.model.sound_mean.copy_(torch.from_numpy(latents.mean((0, 2))))
    module.model.sound_deviation.copy_(torch.from_numpy(latents.std((0, 2)) + 1e-3))
    optim = OptimConfig(steps=steps, lr=1.5e-3, warmup=100, weight_decay=5e-2, betas=(0.9, 0.999), seed=seed)
    return Stage("", module, batches(clips, targets, batch_size, seed), optim)


def with_known_text(clips: ClipFeatures, text: NarrationText) -> ClipFeatures:
    """The clips whose narration has an embedding: "nothing is touched" shares no word with any other."""
    return clips.where(np.array([text.knows(line) for line in clips.column("text").tolist()], bool))


def held_out_scores(
    model: Summarizer, text: NarrationText, clips: ClipFeatures, generated: Mapping[str, Sequence] | None = None
) -> list[dict]:
    """Rows of :func:`~v2a_nb.metrics.summarization.metric.score_summaries` on clips that training never saw.

    Args:
        model, text: trained.
        clips: held out; their narrations are known to ``text``.
        generated: by system's name, codec latents [S, sound_dim] of its sound for each clip.
    """
    targets = text.encode(clips.column("text").tolist())
    true = [latents.T for latents in clips["latents"][:]]
    return score_summaries(model, clips["video"][:], {"true": true, **(generated or {})}, targets, clips.recording_ids)
