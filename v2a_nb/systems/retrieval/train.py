"""Recipe of Action2Sound's audio-visual embedding, and of the pool that is searched with it.

    v2a-nb train av_sim --out runs/av_sim

Section 3.5: two encoders, InfoNCE. What the paper leaves open or a small world cannot give is ours: both directions
of the loss (the paper's is from sound to video), a temperature that is learned, :data:`ROOM_TEMPERATURE`'s loss, and
that the video side reads embeddings of V-AURA's frozen encoder, as the paper's starts from EgoVLP.

In ``out`` lie, as in the package, ``weights``, the ``retrieval`` system with the training sounds, and its neighbours
``av_sim``, the embedding, and ``strike_vision``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from v2a_nb import hub
from v2a_nb.data.audio_visual_pairs import (
    UNSEEN_SEED,
    AudioVisualPairs,
    compute_ambient_levels,
    random_gain,
    relight,
)
from v2a_nb.data.clip_features import load_encoder
from v2a_nb.data.features import FeatureStore
from v2a_nb.data.pool import SIMILARITIES, Pool, quiet_dbfs
from v2a_nb.data.recordings import Recordings
from v2a_nb.errors import UsageError
from v2a_nb.metrics.retrieval import ambience_found, ranks_of
from v2a_nb.models.av_embedding import PRESETS, AudioVisualEmbedding, AudioVisualEmbeddingConfig, info_nce
from v2a_nb.systems.retrieval.system import Retrieval
from v2a_nb.training.cards import write_card
from v2a_nb.training.loop import BatchOf, OptimConfig
from v2a_nb.training.recipe import Stage, Stages, scaling
from v2a_nb.training.recipes.clips import VISION, PairsRecipe, PairsTrainConfig

CARD = Path(__file__).with_name("av_sim_card.md")
"""Template of the embedding's model card; that of the system is the recipe's."""
ROOM_TEMPERATURE = 0.1
"""Temperature of a second InfoNCE, between the pictures of two clips of one recording: a room must be recognised.

Ours. The paper retrieves to get the ambience of such a place, and an embedding that was trained on a sound's *own*
video alone keeps of the place only what helps to tell hits apart."""
POOL = 1000
"""Sounds of the pool, at most; 1 KB each."""
QUIET_ROOMS, QUIET_ROOM_DBFS = 20, -80.0
"""So many of these sounds stand there once more in rooms that are quieter than Strike World's: for action-focused
sounds."""


@dataclass(frozen=True)
class RetrievalTrainConfig(PairsTrainConfig):
    """How much of everything.

    Attributes:
        unseen: recordings of another Strike World, four clips of each, on which the pool's similarity is chosen.
        room: weight of the loss with :data:`ROOM_TEMPERATURE`; 0 is the paper.
        both: InfoNCE in both directions; false is the paper, from sound to video.
    """

    unseen: int = scaling(100, least=4)
    room: float = 0.3
    both: bool = True


@dataclass(frozen=True)
class RetrievalFeatures:
    """What the recipe reads.

    Attributes:
        training, held_out: pairs.
        unseen: pairs of another world; None where the kinds of ambience are not known.
        pool: the training pairs whose sounds the pool holds.
        ambient_dbfs: ambient level of each of the pool's sounds.
    """

    training: AudioVisualPairs
    held_out: AudioVisualPairs
    unseen: AudioVisualPairs | None
    pool: AudioVisualPairs
    ambient_dbfs: np.ndarray


class RetrievalRecipe(PairsRecipe):
    """The audio-visual embedding `tiny` and its pool from nothing. It needs pictures and their sound, and no labels."""

    name = "av_sim"
    TrainConfig = RetrievalTrainConfig
    network = PRESETS["tiny"]
    config: RetrievalTrainConfig

    def features(self, recordings: Recordings, store: FeatureStore) -> RetrievalFeatures:
        training, held_out = super().features(recordings, store)
        unseen = None
        if recordings.known_ambience:
            other = replace(recordings, seed=UNSEEN_SEED, limit=None)
            unseen = self.compute(other, store, count=self.config.unseen, per_recording=4)
        pool = thinned(training, POOL)
        return RetrievalFeatures(training, held_out, unseen, pool, compute_ambient_levels(store, pool))

    def stages(self, features: RetrievalFeatures, store: FeatureStore, out: Path) -> Stages:
        c, config, self.clips = self.config, self.with_encoder(self.network), len(features.training)
        trained = yield embedding_stage(
            features.training, features.held_out, steps=c.steps, batch_size=self.batch_size(features.training),
            seed=self.seed, config=config, room=c.room, both=c.both,
        )  # fmt: skip
        model = AudioVisualEmbedding(config, load_encoder(c.encoder))
        model.load_state_dict(trained.model.cpu().state_dict())
        hub.as_shipped(model).eval()
        pool = pool_of(model, features.pool, features.ambient_dbfs)
        if features.unseen is None:
            return Retrieval(model, pool)
        pool = with_quiet_rooms(pool, model, min(QUIET_ROOMS, len(pool)))
        known = known_rooms(model, features.unseen)
        return Retrieval(model, pool, max(SIMILARITIES, key=lambda by: known[by]["value"]))

    def save(self, model: Retrieval, out: Path, card: dict[str, object]) -> Path:
        out = self.folder(out)
        self.save_encoder(out)
        write_card(model.model.save_pretrained(out / "av_sim", vision=VISION, **card), CARD)
        return model.save_pretrained(out / "weights", encoder="../av_sim", **card)


def batches(pairs: AudioVisualPairs, size: int, seed: int) -> BatchOf:
    """From a number to parts of two clips each of ``size`` different recordings.

    Args:
        pairs: of training, at least two of each recording.
        size: recordings in a batch.
        seed: of every choice.

    Raises:
        UsageError: at the first step: fewer recordings than ``size``, or one with a single clip.
    """

    def batch_of(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([seed, step])
        which = pairs.draw(size, 2, rng)
        start, seconds = pairs.draw_part(len(which), rng)
        video, thumbnail = pairs.video_inputs(which, start, seconds)
        audio = random_gain(pairs.audio_inputs(which, start, seconds), rng)
        recording = torch.from_numpy(pairs.recording_ids[which])
        return {"video": video, "thumbnail": relight(thumbnail, rng), "audio": audio, "recording": recording}

    return batch_of


class EmbeddingTraining(nn.Module):
    """The audio-visual embedding with its loss.

    Args:
        config: of the embedding.
        room, both: see :class:`RetrievalTrainConfig`.
    """

    def __init__(self, config: AudioVisualEmbeddingConfig, room: float, both: bool) -> None:
        super().__init__()
        self.model, self.room, self.both = AudioVisualEmbedding(config), room, both

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        video, audio = self.model.see(batch["video"], batch["thumbnail"]), self.model.hear(batch["audio"])
        pairs = info_nce(audio, video, self.model.temperature, both=self.both, groups=batch["recording"])
        right = ((audio @ video.T).argmax(1) == torch.arange(len(video), device=video.device)).float().mean()
        losses = {"loss": pairs, "pairs": pairs, "right": right, "temperature": self.model.temperature}
        if self.room:
            room = info_nce(*video.chunk(2), ROOM_TEMPERATURE)
            losses |= {"loss": pairs + self.room * room, "room": room}
        return losses


def embedding_stage(
    pairs: AudioVisualPairs,
    held_out: AudioVisualPairs,
    *,
    steps: int,
    config: AudioVisualEmbeddingConfig,
    batch_size: int = 32,
    seed: int = 0,
    room: float = 0.3,
    both: bool = True,
) -> Stage:
    """The stage that trains the embedding on pairs; its recall of held-out pairs goes to the log."""

    def eval_fn(step: int, module: EmbeddingTraining) -> dict[str, float]:
        ranks = ranks_of(*vectors_of(module.model, held_out))
        return {f"held_out_r{k}": round(float((ranks < k).mean()), 4) for k in (1, 10)}

    torch.manual_seed(seed)
    module = EmbeddingTraining(config, room, both)
    # the paper's Adam; weight decay since our recordings are few
    optim = OptimConfig(
        steps=steps, lr=1.5e-3, warmup=min(100, steps // 4), weight_decay=5e-2, betas=(0.9, 0.98), seed=seed,
        save_every=100,
    )  # fmt: skip
    return Stage("", module, batches(pairs, batch_size, seed), optim, eval_fn, 100)


# --- the pool ---------------------------------------------------------------------------------------


@torch.no_grad()
def vectors_of(model: AudioVisualEmbedding, pairs: AudioVisualPairs, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """The vectors of all clips' videos and of their sounds: float32 [N, D] each."""
    model.eval()
    video, audio = [], []
    for part in np.array_split(np.arange(len(pairs)), -(-len(pairs) // size)):
        video.append(model.see(*(x.to(model.device) for x in pairs.video_inputs(part))).cpu().numpy())
        audio.append(model.hear(pairs.audio_inputs(part).to(model.device)).cpu().numpy())
    return np.concatenate(video), np.concatenate(audio)


def thinned(pairs: AudioVisualPairs, most: int) -> AudioVisualPairs:
    """Keep about ``most`` clips: those of every second recording, or of every third ..."""
    number = np.unique(pairs.recording_ids, return_inverse=True)[1]
    return pairs.where(number % -(-len(pairs) // most) == 0)


def pool_of(model: AudioVisualEmbedding, pairs: AudioVisualPairs, ambient_dbfs: np.ndarray | None = None) -> Pool:
    """The clips as a pool, whose sounds are rendered or read again when they are asked for.

    Args:
        ambient_dbfs: ambient level of each clip's sound; left out, the pool knows no levels.
    """
    video, audio = vectors_of(model, pairs)
    levels = np.full(len(pairs), np.nan) if ambient_dbfs is None else ambient_dbfs
    return Pool(audio, video, pairs.sources(), levels, tag=hub.tag_of(model, "av-sim"))


def with_quiet_rooms(
    pool: Pool, model: AudioVisualEmbedding, count: int = QUIET_ROOMS, dbfs: float = QUIET_ROOM_DBFS
) -> Pool:
    """The pool, and ``count`` of its sounds once more, as they would be in rooms of another level.

    Strike World has no room under -64 dBFS, and its quietest sound would be the quietest condition that Action2Sound
    has for an action-focused sound. These are there for their levels: no search finds them.

    Args:
        pool: of sounds of Strike World.
        model: whose vectors it holds.
        dbfs: level of the rooms.

    Raises:
        UsageError: more sounds than there are, or some that are not of a Strike World.
    """
    if not 0 <= count <= len(pool):
        raise UsageError(f"{count} quiet rooms cannot be made of {len(pool)} sounds")
    rows = np.arange(count) * len(pool) // max(1, count)
    if any(pool.sources[i].world_seed is None for i in rows):
        raise UsageError("only the rooms of Strike World can be made quiet")

    def with_rows(audio: np.ndarray, quiet: np.ndarray) -> Pool:
        sources = (*pool.sources, *(replace(pool.sources[i], ambience_dbfs=float(dbfs)) for i in rows))
        audio, quiet = np.concatenate([pool.audio, audio]), np.concatenate([pool.quiet, quiet])
        return Pool(audio, np.concatenate([pool.video, pool.video[rows]]), sources, quiet, rate, tag=pool.tag)

    rate = pool.sample_rate
    silent = with_rows(pool.audio[rows], pool.quiet[rows])  # renders; its vectors are not yet those of its sounds
    sounds = [silent.sound(len(pool) + i) for i in range(count)]
    audio = [model.listen(sound) for sound in sounds]
    return with_rows(np.reshape(audio, (-1, pool.dim)), np.array([quiet_dbfs(s.samples[0], rate) for s in sounds]))


# --- scores -----------------------------------------------------------------------------------------


def known_rooms(model: AudioVisualEmbedding, pairs: AudioVisualPairs) -> dict:
    """How often the sound that is found among other clips of known rooms has a clip's kind of ambience.

    The pool has other clips of the query's recording; what overlaps with the query is left out. See
    :func:`~v2a_nb.metrics.retrieval.ambience_found` for what is returned.
    """
    pool, kinds = pool_of(model, pairs), pairs.ambiences()
    names = [str(r) for r in pairs.recording_ids]
    return ambience_found(pool, pool.video, kinds, kinds, names, overlaps(pool))


def overlaps(pool: Pool) -> np.ndarray:
    """Which sounds of a pool share time, bool [N, N]."""
    return np.stack([pool.overlapping(source) for source in pool.sources])
