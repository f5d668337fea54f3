"""Recipe of Action2Sound: the diffusion model with its neighbours, and the autoencoder where one is wanted.

    v2a-nb train action2sound --out runs/action2sound
    v2a-nb train action2sound --out runs/action2sound --ablation no_condition
    v2a-nb train action2sound --out runs/whole --set autoencoder=

The first command starts from the shipped autoencoder, which hears sounds and sees no pictures, as the paper starts from
a pre-trained one. The second trains another diffusion model on what the first one left. The third trains an
autoencoder first, as the shipped one was (on the plain world: ``--data strike:seed=1000``). A run takes about an hour
and a half of one core with bfloat16. Beside what every run has (:mod:`v2a_nb.training.recipe`) its folder holds:

| in the folder | what |
|---|---|
| ``autoencoder/`` | log, state and weights of the autoencoder, where it is trained; where it is kept, what ablations \
refer to |
| ``vaura/vision/``, or ``encoders/NAME/`` | the video encoder, which the weights refer to |

The vocoder and the pool have recipes of their own (``train vocoder``, ``train av_sim``).

A clip of 5.12 s holds several windows of 3.07 s, which may be each other's neighbours. The rooms of Strike World get a
level between -85 and -38 dBFS, wider than its own: the condition shall be followed over 30 dB, and be soft.

The paper's premise is that a neighbour shares the ambience and not the action. Nearly half of Strike World's recordings
have one thing that is struck, and a neighbour would say what it is made of: a model that believed it would be misled by
whatever is retrieved later. So the neighbours of ``tiny`` have a **cross-recording foreground**: the same moment of the
same room, in which the things and actions of another recording sound. Only a world with stems can mix that. On real
videos ``--set cross_recording_foreground=0`` gives the paper's neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from v2a_nb.audio.onsets import detect_onsets
from v2a_nb.clip import Sound
from v2a_nb.data.clip_features import load_encoder
from v2a_nb.data.dataset import cut_clips
from v2a_nb.data.denoised import DenoisedImages, denoise
from v2a_nb.data.features import Features, FeatureStore
from v2a_nb.data.latent_dataset import FEATURE_NOISE, FrameVectors, SpectrogramImages, in_turns, latent_cut, true_onsets
from v2a_nb.data.neighbours import MIN_GAP_S, Neighbours
from v2a_nb.data.recordings import BOTH, UNSEEN, Recordings, StrikeRecordings
from v2a_nb.errors import UsageError
from v2a_nb.hub import as_shipped, shipped, tag_of
from v2a_nb.models.autoencoder import AutoencoderConfig, ImageAutoencoder
from v2a_nb.models.codec_report import pooled_f1
from v2a_nb.models.vocoder import load_vocoder
from v2a_nb.sampling.diffusion import use_of_video
from v2a_nb.systems.action2sound.model import AUTOENCODER_OF
from v2a_nb.systems.action2sound.system import PRESETS, Action2Sound, Action2SoundConfig
from v2a_nb.training.loop import BatchOf
from v2a_nb.training.recipe import Recipe, Stage, Stages, scaling
from v2a_nb.training.recipes.autoencoder import (
    LatentTrainConfig,
    autoencoder_stage,
    compute_latents,
    keep,
    keep_encoder,
    load_autoencoder,
    references,
)

LEVELS_DBFS = (-85.0, -38.0)
CROP = 64
"""Columns (1.02 s) of the images that the autoencoder is trained on."""
STRIDE = 8
"""Latent columns from one window of a clip to the next."""
EVALUATED = 16
"""Windows that an evaluation takes the loss of."""
SAMPLE_EVERY, SAMPLED = 250, 12
"""Steps between two evaluations that generate sounds, and windows of which they do."""
SLOW_RECORDINGS = 400
"""Recordings whose frame vectors are made for a slow camera: 500 steps use none of their windows three times."""

ABLATIONS: dict[str, dict[str, object]] = {
    "whole": {},
    "no_condition": {"neighbour": False},
    "denoised": {"neighbour": False, "denoised_targets": True},
    "no_time_bias": {"time_bias": False},
    "own_actions": {"cross_recording_foreground": 0.0},
    "frozen_audio": {"train_audio_projection": False},
    "no_row_values": {"row_values": 0},
    "fps5": {"fps": 5.0},
    "fps8": {"fps": 8.0},
    "fps10": {"fps": 10.0},
}
"""The ablations, each by what differs in the configuration of the model or of its training (the
paper's table 2; 5, 8 and 10 frames a second in its first version). ``denoised`` has no condition, and targets whose
steady noise was gated away before training; ``whole`` differs in nothing."""


@dataclass(frozen=True)
class Action2SoundTrainConfig(LatentTrainConfig):
    """How much of everything; the defaults take about an hour and a half of one core with bfloat16.

    Attributes:
        steps: of the diffusion model.
        autoencoder: name or folder of a frozen autoencoder, or of a system that has one; empty: one is trained first.
        recordings: whose clips are trained on.
        min_gap_s: from a window's start to its neighbour's, at least; 0 lets them overlap, as the released loader does.
        cross_recording_foreground: share of neighbours in which another recording's actions sound; 0 is the paper's.
            See the top of this file.
        video_dropout: share of clips whose video becomes zeros (released ``uncond_prob``); their neighbour stays.
        denoised_targets: learn sounds whose steady noise was gated away.
        vocoder: name or folder, or ``griffin-lim``; the weights refer to it, and evaluations decode with it.
        retrieval: name or folder of the pool of ambiences that the weights refer to; empty for none.
    """

    steps: int = scaling(4500)
    autoencoder: str = "action2sound"
    recordings: int = scaling(1250)
    min_gap_s: float = MIN_GAP_S
    cross_recording_foreground: float = 1.0
    video_dropout: float = 0.2
    denoised_targets: bool = False
    vocoder: str = "vocoder"
    retrieval: str = "retrieval"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.min_gap_s >= 0:
            raise UsageError(f"neighbours cannot be {self.min_gap_s} s apart")
        for name in ("cross_recording_foreground", "video_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is a share from 0 to 1, not {getattr(self, name)}")

    @property
    def fewest_recordings(self) -> int:
        return self.recordings


@dataclass(frozen=True)
class Action2SoundFeatures:
    """What the stages read; all of the same clips.

    Attributes:
        images: of their sounds, for the autoencoder.
        targets: images that the diffusion model learns.
        foreign: images of their rooms with a cross-recording foreground; None where nobody needs them.
        vectors: ``vectors`` of the pictures, perhaps of the last clips alone.
    """

    images: Features
    targets: Features
    foreign: Features | None
    vectors: Features


class Action2SoundTraining(nn.Module):
    """The system with its loss; what it does not train is frozen.

    Args:
        system: Action2Sound.
        dropout: share of clips whose video is dropped.
    """

    def __init__(self, system: Action2Sound, dropout: float = 0.2) -> None:
        super().__init__()
        self.system, self.dropout = system, dropout
        system.trained()

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The loss of a batch as :meth:`Windows.batch` makes it."""
        latents = batch["latents"]
        drop = torch.rand(len(latents), device=latents.device) < self.dropout
        losses = self.system.loss(latents, batch["vectors"], batch.get("neighbour"), batch["start_s"], drop)
        return {"loss": losses["loss"]}


@dataclass(frozen=True)
class Windows:
    """The windows of all clips: row i is window ``at[i]`` (a latent column) of clip ``clip[i]``.

    Attributes:
        clips: with ``latents`` [N, C, H, columns], ``vectors`` and perhaps ``foreign``, which are latents of the same
            rooms with a cross-recording foreground.
        share: of neighbours that are taken from ``foreign``.
        clip, at: int64 [M].
        neighbours: which rows may be whose neighbours.
        columns: of a window.
        column_s: seconds of one.
    """

    clips: Features
    share: float
    clip: np.ndarray
    at: np.ndarray
    neighbours: Neighbours
    columns: int
    column_s: float

    @classmethod
    def of(
        cls,
        clips: Features,
        config: Action2SoundConfig,
        min_gap_s: float = MIN_GAP_S,
        share: float = 1.0,
    ) -> Windows:
        """Every :data:`STRIDE`-th window of each clip.

        Raises:
            UsageError: none has a neighbour.
        """
        offsets = np.arange(0, clips["latents"].shape[-1] - config.context + 1, STRIDE)
        clip = np.repeat(np.arange(len(clips)), len(offsets))
        at = np.tile(offsets, len(clips))
        starts = clips.column("time_s")[clip] + at * config.column_s
        rule = "apart" if min_gap_s > 0 else "released"
        recordings = clips.recording_ids[clip]
        neighbours = Neighbours(recordings, starts, config.window_s, min_gap_s=min_gap_s, rule=rule)
        windows = cls(clips, share, clip, at, neighbours, config.context, config.column_s)
        if not len(windows.usable()):
            raise UsageError(
                f"no clip of {len(np.unique(recordings))} recordings has a neighbour {min_gap_s:g} s from it: give "
                "longer videos or several clips of a recording, or --set min_gap_s=0, which lets neighbours overlap"
            )
        return windows

    def usable(self) -> np.ndarray:
        """Rows that have a neighbour."""
        return np.flatnonzero(self.neighbours.usable)

    def latents_of(self, rows: np.ndarray, name: str = "latents") -> Tensor:
        """Latents float32 [n, C, H, columns] of rows, out of the array ``name``."""
        latents = self.clips[name]
        parts = [latents[c][..., a : a + self.columns] for c, a in zip(self.clip[rows], self.at[rows], strict=True)]
        return torch.from_numpy(np.stack(parts).astype(np.float32))

    def batch(self, rows: np.ndarray, seed: Sequence[int]) -> dict[str, Tensor]:
        """What the loss wants of some rows: ``latents``, ``neighbour``, ``vectors`` and ``start_s``."""
        near = self.neighbours.draw(seed, rows)
        neighbour = self.latents_of(near)
        if "foreign" in self.clips.arrays:
            foreign = torch.from_numpy(np.random.default_rng([*seed, 8]).random(len(rows)) < self.share)
            neighbour = torch.where(foreign[:, None, None, None], self.latents_of(near, "foreign"), neighbour)
        vectors = self.clips["vectors"][self.clip[rows]].astype(np.float32)
        return {
            "latents": self.latents_of(rows),
            "neighbour": neighbour,
            "vectors": torch.from_numpy(vectors),
            "start_s": torch.from_numpy(self.at[rows] * self.column_s).float(),
        }

    def batches(self, size: int, seed: int, neighbour: bool = True) -> BatchOf:
        """From a number to random rows, :data:`FEATURE_NOISE` on their frame vectors."""
        usable = self.usable()

        def batch_of(number: int) -> dict[str, Tensor]:
            rng = np.random.default_rng([seed, 5, number])
            batch = self.batch(np.sort(rng.choice(usable, size)), [seed, 6, number])
            noise = rng.standard_normal(tuple(batch["vectors"].shape), dtype=np.float32)
            batch["vectors"] += FEATURE_NOISE * torch.from_numpy(noise)
            return batch if neighbour else {k: v for k, v in batch.items() if k != "neighbour"}

        return batch_of

    def onsets(self, row: int, seconds: float) -> np.ndarray:
        """True onsets of a row, seconds from its start."""
        times = true_onsets(self.clips, self.clip[[row]])[0] - self.at[row] * self.column_s
        return times[(times >= 0) & (times < seconds)]


@torch.no_grad()
def report_of(system: Action2Sound, unseen: Windows, generate: bool = True) -> dict[str, float | Sound]:
    """What the log says of windows that are not trained on.

    ``held_out`` is the loss; ``use_of_video`` and ``use_of_neighbour`` what another clip's would cost (see
    :func:`~v2a_nb.sampling.diffusion.use_of_video`).

    Args:
        generate: adds ``onset_f1_50ms`` of :data:`SAMPLED` windows, and the sound of the first.
    """
    c, rows = system.config, unseen.usable()
    rows = rows[in_turns(unseen.clips.recording_ids[unseen.clip[rows]])][:EVALUATED]
    batch = {k: v.to(system.device) for k, v in unseen.batch(rows, [7]).items()}
    latents, vectors, start = batch["latents"], batch["vectors"], batch["start_s"]
    near = batch["neighbour"] if c.neighbour else None
    generator = torch.Generator().manual_seed(0)

    def denoiser(vectors: Tensor, near: Tensor | None) -> Callable:
        condition = {"context": system.context(vectors, near, start)}
        return lambda noisy, t: system.denoise(noisy, t, condition)

    right = denoiser(vectors, near)
    report: dict[str, float | Sound] = {
        "held_out": round(float(system.loss(latents, vectors, near, start, generator=generator)["loss"]), 5),
        "use_of_video": round(use_of_video(right, denoiser(vectors.roll(1, 0), near), latents, c.schedule), 5),
    }
    if near is not None:
        wrong = denoiser(vectors, near.roll(1, 0))
        report["use_of_neighbour"] = round(use_of_video(right, wrong, latents, c.schedule), 5)
    if generate:
        rows, samples = rows[:SAMPLED], round(c.window_s * system.sample_rate)
        first = (unseen.at[rows] * c.column_s * c.video_rate).round().astype(int)
        count = round(c.window_s * c.video_rate)
        cut = torch.stack([v[a : a + count] for v, a in zip(vectors, first)])
        conditions = system.window_conditions(cut, None if near is None else near[: len(rows)])
        latents = system.sample_latents(conditions, samples, seeds=list(range(len(rows))))
        sounds = [Sound(w, system.sample_rate) for w in system.decode_latents(latents, samples).cpu().numpy()]
        onsets = [unseen.onsets(row, c.window_s) for row in rows]
        report["onset_f1_50ms"] = round(pooled_f1(onsets, [detect_onsets(sound) for sound in sounds]), 4)
        report["sample"] = sounds[0]
    return report


class Action2SoundRecipe(Recipe):
    """Action2Sound on a video encoder, a vocoder and mostly an autoencoder that are there.

    Args:
        model: sizes; left out, those of ``tiny``.
        autoencoder: sizes of one that is trained; left out, those that fit the model's picture.

    Raises:
        WeightsError: an encoder, an autoencoder or a vocoder that is not there or does not fit.
    """

    name = "action2sound"
    TrainConfig = Action2SoundTrainConfig
    source = f"strike:seed=1000,version={BOTH}"
    ablations = ABLATIONS

    def __init__(
        self,
        config: Action2SoundTrainConfig | None = None,
        *,
        model: Action2SoundConfig = PRESETS["tiny"],
        autoencoder: AutoencoderConfig | None = None,
        **options,
    ) -> None:
        super().__init__(config, **options)
        changes = self.ablations.get(self.ablation, {})
        training = {f.name for f in fields(self.config)}
        named = self.config.autoencoder
        self.kept = load_autoencoder(named) if named else None
        self.model = model
        self.autoencoder = self.kept.config if self.kept else autoencoder or AUTOENCODER_OF[model.picture]
        self.changed = replace(model, **{k: v for k, v in changes.items() if k not in training})
        self.changed_config = replace(self.config, **{k: v for k, v in changes.items() if k in training})
        self.encoder, self.vocoder = load_encoder(self.config.encoder), load_vocoder(self.config.vocoder)
        Action2Sound(model, self.encoder, ImageAutoencoder(self.autoencoder), self.vocoder)  # refuses what does not fit
        self.encoder_tag = tag_of(self.encoder, "vision")

    def settings(self) -> dict[str, object]:
        autoencoder = tag_of(self.kept, "autoencoder") if self.kept else asdict(self.autoencoder)
        return {"model": asdict(self.model), "autoencoder": autoencoder, "encoder": self.encoder_tag}

    # --- features -------------------------------------------------------------------------------------

    def features(self, recordings: Recordings, store: FeatureStore) -> Action2SoundFeatures:
        c, rate = self.changed_config, self.model.stft.sample_rate
        cross = self.changed.neighbour and c.cross_recording_foreground > 0
        shown = recordings  # the pictures are those of any loudness: other recipes share what is read of them
        if isinstance(recordings, StrikeRecordings):
            recordings = replace(recordings, ambience_dbfs=LEVELS_DBFS)
        elif cross:
            raise UsageError(
                "a cross-recording foreground needs stems, which only Strike World has: give --set "
                "cross_recording_foreground=0, and the neighbours are the paper's"
            )
        if c.denoised_targets:
            denoise(np.full((1, 4096), 1e-3, np.float32), rate)  # says what is missing before work begins
        table = cut_clips(recordings, latent_cut(c.recordings, UNSEEN, c.seconds, c.per_recording))
        images = targets = store.compute(table, recordings, SpectrogramImages(self.model.picture, c.seconds))
        if c.denoised_targets:
            targets = store.compute(table, recordings, DenoisedImages(self.model.picture, c.seconds))
        foreign = None
        if cross:
            foreign_recordings = replace(recordings, cross_recording_foreground=True)
            foreign = store.compute(table, foreign_recordings, SpectrogramImages(self.model.picture, c.seconds))
        fps, vectors = self.changed.fps, FrameVectors(c.encoder, self.encoder_tag, None, c.seconds, rate)
        if fps is not None and fps < self.encoder.config.fps:
            numbers, vectors = np.asarray(table["recording"]), replace(vectors, fps=fps)
            # the last recordings are enough, and those that are held out are among them
            table = table.select(np.flatnonzero(np.isin(numbers, np.unique(numbers)[-SLOW_RECORDINGS:])))
        return Action2SoundFeatures(images, targets, foreign, store.compute(table, shown, vectors))

    # --- stages ---------------------------------------------------------------------------------------

    def stages(self, features: Action2SoundFeatures, store: FeatureStore, out: Path) -> Stages:
        c, seed = self.changed_config, self.seed
        # 1. the autoencoder, on sounds alone
        autoencoder = self.kept
        if autoencoder is None:
            images = features.images.split(c.held_out, c.recordings)
            autoencoder = yield from autoencoder_stage(
                *images, out, self.autoencoder, self.model.stft, c, seed=seed, crop=CROP
            )  # fmt: skip
        # 2. the diffusion model, on windows of latents and their neighbours
        windows, unseen = self.windows(features, store, autoencoder)
        self.neighbours = windows.neighbours.counts()
        torch.manual_seed(seed)
        system = Action2Sound(self.changed, self.encoder, autoencoder, self.vocoder)
        yield self.diffusion_stage(system, windows, unseen)
        return as_shipped(system.cpu())

    def windows(
        self, features: Action2SoundFeatures, store: FeatureStore, autoencoder: ImageAutoencoder
    ) -> list[Windows]:
        """The windows that are trained on, and those of the recordings that are held out."""
        c, few = self.changed_config, slice(-len(features.vectors), None)
        clips = compute_latents(store, features.targets, autoencoder).where(few).with_arrays(features.vectors)
        if features.foreign is not None:
            foreign = compute_latents(store, features.foreign, autoencoder)["latents"].where(few)
            clips = replace(clips, arrays={**clips.arrays, "foreign": foreign})
        parts = clips.split(c.held_out, c.recordings)
        return [Windows.of(part, self.changed, c.min_gap_s, c.cross_recording_foreground) for part in parts]

    def diffusion_stage(self, system: Action2Sound, windows: Windows, unseen: Windows) -> Stage:
        """The diffusion model; see :func:`report_of` for its log."""
        c, steps = self.changed_config, self.config.steps

        def eval_fn(step: int, module: Action2SoundTraining) -> dict[str, float | Sound]:
            return report_of(system, unseen, generate=step % SAMPLE_EVERY == 0 or step == steps)

        module = Action2SoundTraining(system, c.video_dropout)
        batch_of = windows.batches(c.batch_size, self.seed, self.changed.neighbour)
        return Stage("", module, batch_of, c.optim(steps, self.seed, bf16=True), eval_fn, 50)

    # --- weights --------------------------------------------------------------------------------------

    def card(self, model: Action2Sound) -> dict[str, object]:
        told = model.autoencoder.card
        names = {"autoencoder_steps": "steps", "round_trip": "round_trip"}
        sounds = {name: told[word] for name, word in names.items() if word in told}
        return {"encoder": self.encoder_tag, "neighbours": self.neighbours, **sounds}

    def save(self, model: Action2Sound, out: Path, card: dict[str, object]) -> Path:
        """Write the system beside its encoder, which V-AURA and the ablations share."""
        weights = self.folder(out) / "weights"
        named = {"vocoder": self.config.vocoder, "retrieval": self.config.retrieval}
        parts = {k: Path(v) if Path(v).is_dir() and v not in shipped() else v for k, v in named.items() if v}
        parts["vision"] = keep_encoder(self.encoder, self.config.encoder, out)
        if self.ablation:
            parts["autoencoder"] = keep(model.autoencoder, out / "autoencoder" / "weights")
        return model.save_pretrained(weights, **references(weights, **parts), **card)
