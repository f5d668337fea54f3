"""What the recipes on clip features share: how much of everything, and which frozen networks the features hang on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from v2a_nb.data.audio_visual_pairs import AudioVisualPairs, compute_audio_visual_pairs
from v2a_nb.data.clip_features import HELD_OUT, RECORDINGS, TRAIN_SEED, compute_clip_features, load_encoder
from v2a_nb.data.features import FeatureStore
from v2a_nb.data.recordings import Recordings
from v2a_nb.errors import UsageError
from v2a_nb.hub import tag_of
from v2a_nb.models.av_embedding import AudioVisualEmbeddingConfig
from v2a_nb.models.tiny_codec import TinyCodec
from v2a_nb.training.recipe import Recipe, TrainConfig, scaling

VISION = "../strike_vision"
"""Path of the frozen video encoder, relative to a folder of audio-visual weights."""


@dataclass(frozen=True)
class ClipTrainConfig(TrainConfig):
    """How much of everything.

    Attributes:
        recordings: of which two clips each are cut, the held-out ones among them.
        held_out: recordings that are not trained on. The training is followed with them.
        batch_size: see the recipe.
        encoder: weights of the frozen video encoder: a name or a folder, of a V-AURA or of the encoder itself.
        codec: weights of the codec: a name or a folder.
    """

    steps: int = scaling(1500, least=1)
    recordings: int = scaling(RECORDINGS, least=20)
    held_out: int = scaling(HELD_OUT, least=2)
    batch_size: int = 48
    encoder: str = "strike_vision"
    codec: str = "codec"

    def scaled(self, share: float) -> ClipTrainConfig:
        """Exactly that share of the steps, and never more recordings than there are now."""
        return replace(super().scaled(min(share, 1.0)), steps=max(1, round(self.steps * share)))


class ClipRecipe(Recipe):
    """A recipe on the features of clips.

    Attributes:
        network: sizes of what is trained.
        described: whether only clips with a line of text are used.
        clips: how many were trained on, once that is known.
    """

    config: ClipTrainConfig
    network: Any
    source = f"strike:seed={TRAIN_SEED}"
    described: ClassVar[bool] = False
    clips: int = 0

    def settings(self) -> dict[str, object]:
        return {**self.tags(), "network": asdict(self.network)}

    def tags(self) -> dict[str, object]:
        """The tags of the frozen networks."""
        codec = TinyCodec.from_pretrained(self.config.codec)
        return {"encoder": tag_of(load_encoder(self.config.encoder), "vision"), "codec": tag_of(codec, "codec")}

    def features(self, recordings: Recordings, store: FeatureStore) -> Any:
        """Clips to train on, and those of the held-out recordings."""
        c = self.config
        clips = compute_clip_features(
            store, recordings, count=c.recordings, encoder=c.encoder, codec=c.codec, described=self.described
        )  # fmt: skip
        return clips.hold_out(c.held_out, of=c.recordings)

    def card(self, model: Any) -> dict[str, object]:
        return {"clips": self.clips}


@dataclass(frozen=True)
class PairsTrainConfig(ClipTrainConfig):
    """How much of everything; a batch has clips of ``batch_size`` different recordings, or of as many as there are."""

    steps: int = scaling(800, least=1)
    held_out: int = scaling(100, least=4)
    batch_size: int = 32


class PairsRecipe(ClipRecipe):
    """A recipe on audio-visual pairs."""

    config: PairsTrainConfig

    def compute(self, recordings: Recordings, store: FeatureStore, **cut: int) -> AudioVisualPairs:
        """Pairs that the recipe's networks gave; ``cut`` as for :func:`compute_audio_visual_pairs`."""
        return compute_audio_visual_pairs(
            store, recordings, encoder=self.config.encoder, codec=self.config.codec, **cut
        )  # fmt: skip

    def features(self, recordings: Recordings, store: FeatureStore) -> Any:
        """Pairs to train on, and those of the held-out recordings."""
        pairs = self.compute(recordings, store, count=self.config.recordings)
        return pairs.hold_out(self.config.held_out, of=self.config.recordings)

    def batch_size(self, training: AudioVisualPairs) -> int:
        """Recordings in a batch: an even number, and no more than there are."""
        return min(self.config.batch_size, len(np.unique(training.recording_ids)) // 2 * 2)

    def with_encoder(self, config: AudioVisualEmbeddingConfig) -> AudioVisualEmbeddingConfig:
        """The sizes of an embedding that reads the embeddings of this recipe's frozen video encoder.

        Raises:
            UsageError: it was trained with another encoder.
        """
        tag = tag_of(load_encoder(self.config.encoder), "vision")
        if config.video.encoder not in ("", tag):
            raise UsageError(f"the audio-visual embedding reads {config.video.encoder}, and the encoder is {tag}")
        return replace(config, video=replace(config.video, encoder=tag))

    def save_encoder(self, out: Path) -> None:
        """Put the frozen video encoder where :data:`VISION` finds it from a folder of weights in ``out``."""
        load_encoder(self.config.encoder).save_pretrained(out / "strike_vision")
