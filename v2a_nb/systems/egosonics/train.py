"""Recipe of EgoSonics: video to text and SyncroNet, and before them the autoencoder and the base where they are wanted.

    v2a-nb train egosonics --out runs/egosonics
    v2a-nb train egosonics --out runs/egosonics --ablation fps4
    v2a-nb train egosonics --out runs/whole --set base=

The first command starts from the shipped base, as the paper starts from Stable Diffusion: it knows sounds and
narrations, and sees no pictures. The second trains another SyncroNet on what the first one left. The third trains an
autoencoder and a base first, as the shipped ones were (on the plain world: ``--data strike:seed=1000``). A run takes
about an hour of one core with bfloat16, and two with a base. Beside what every run has
(:mod:`v2a_nb.training.recipe`) its folder holds:

| in the folder | what |
|---|---|
| ``autoencoder/``, ``base/``, ``text/`` | logs and states of the stages before the last; the autoencoder's \
``weights/`` |
| ``egosonics_base/`` | the frozen UNet, which the weights refer to |
| ``vaura/vision/``, or ``encoders/NAME/`` | the video encoder, which they refer to as well |

The base and the text are trained on narrations. Real videos have them in the column ``text`` of a table
(``--data csv:FILE``); ``--set narrations=false`` does without, and the base then learns sounds alone.

A recipe for pictures that are resized would train the super-resolution network, too; those of ``tiny`` are not,
and there is nothing that it could undo.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from v2a_nb.audio.onsets import detect_onsets
from v2a_nb.clip import Sound
from v2a_nb.data.clip_features import load_encoder
from v2a_nb.data.dataset import cut_clips
from v2a_nb.data.features import Features, FeatureStore, ShardedArray
from v2a_nb.data.latent_dataset import (
    FrameVectors,
    SpectrogramImages,
    batches,
    in_turns,
    latent_cut,
    true_onsets,
)
from v2a_nb.data.recordings import BOTH, UNSEEN, Recordings
from v2a_nb.errors import UsageError
from v2a_nb.hub import as_shipped, find_weights, parts_of, read_config, tag_of
from v2a_nb.models.autoencoder import AutoencoderConfig, ImageAutoencoder
from v2a_nb.models.codec_report import pooled_f1
from v2a_nb.sampling.diffusion import classifier_free_guidance, sample, use_of_video
from v2a_nb.systems.egosonics.model import AUTOENCODER_OF, BaseUNet
from v2a_nb.systems.egosonics.system import PRESETS, STAGES, EgoSonics, EgoSonicsConfig
from v2a_nb.training.cards import write_card
from v2a_nb.training.recipe import Recipe, Stage, Stages, scaling
from v2a_nb.training.recipes.autoencoder import (
    LatentTrainConfig,
    autoencoder_stage,
    compute_latents,
    keep,
    keep_encoder,
    references,
)

BASE_PROMPT_DROPOUT = 0.1
"""Share of clips whose narration the base gets as the null text, as Stable Diffusion has it."""
EVALUATED = 16
"""Clips that an evaluation takes the loss of."""
SAMPLE_EVERY, SAMPLED = 200, 8
"""Steps between two evaluations that generate sounds, and clips of which SyncroNet then does."""

ABLATIONS: dict[str, dict[str, object]] = {
    "fps4": {"fps": 4.0},
    "fps15": {"fps": 15.0},
    "fps30": {"fps": 30.0},
    "no_cross_attention": {"no_cross_attention": True},
    "no_row_values": {"row_values": 0},
}
"""SyncroNets that the paper compares (section 4.3, table 3), each by what differs in the configuration.

Strike World has 25 frames a second: under ``fps30`` nothing differs, and it is trained to be compared with.
``no_row_values`` is ours."""


@dataclass(frozen=True)
class EgoSonicsTrainConfig(LatentTrainConfig):
    """How much of everything; the defaults take about an hour of one core with bfloat16.

    Attributes:
        steps: of SyncroNet.
        base: name or folder of an EgoSonics whose autoencoder, base and words are kept; empty: they are trained first.
        sound_recordings: whose clips the autoencoder and the base are trained on.
        video_recordings: whose clips the MLP and SyncroNet are trained on.
        base_steps, text_steps: of the other stages.
        prompt_dropout: share of clips whose text SyncroNet gets as the null text. ControlNet drops half (0.5), so that
            the control learns to carry what the text says.
        narrations: the base and the MLP learn from a line of text for each clip. Without, the base learns under the
            null text alone, and the MLP to give that.
    """

    steps: int = scaling(2400)
    base: str = "egosonics"
    sound_recordings: int = scaling(2000)
    video_recordings: int = scaling(1250)
    autoencoder_steps: int = scaling(3500)
    base_steps: int = scaling(2400)
    text_steps: int = scaling(1000)
    prompt_dropout: float = 0.1
    narrations: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sound_recordings > UNSEEN:
            raise UsageError(f"sound_recordings is {self.sound_recordings}: at most {UNSEEN}, since SyncroNet's follow")
        if not 0 <= self.prompt_dropout <= 1:
            raise UsageError(f"prompt_dropout is a share from 0 to 1, not {self.prompt_dropout}")

    @property
    def fewest_recordings(self) -> int:
        return self.video_recordings if self.base else min(self.sound_recordings, self.video_recordings)


@dataclass(frozen=True)
class EgoSonicsFeatures:
    """What the stages read.

    Attributes:
        sounds: ``images`` of the clips that the autoencoder and the base are trained on; None where both are kept.
        videos: ``images`` of those of the MLP and SyncroNet.
        vectors: ``vectors`` of ``videos``.
        shown: the same at the frame rate of an ablation.
    """

    sounds: Features | None
    videos: Features
    vectors: Features
    shown: Features


class EgoSonicsTraining(nn.Module):
    """The system with the loss of one of its later stages; all that is not trained in it is frozen.

    Args:
        system: EgoSonics.
        stage: ``"base"``, ``"text"`` or ``"syncronet"``.
        dropout: share of clips that get the null text.
    """

    def __init__(self, system: EgoSonics, stage: str, dropout: float = 0.1) -> None:
        super().__init__()
        self.system, self.stage, self.dropout = system, stage, dropout
        system.stage(stage)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of ``latents`` [B, C, H, W], ``vectors`` [B, T, dim] and ``ids`` [B, L], as the stage needs them."""
        if self.stage == "text":
            return self.system.loss_text(batch["vectors"], self.text(batch))
        latents = batch["latents"]
        drop = torch.rand(len(latents), device=latents.device) < self.dropout
        if self.stage == "base":
            return {"loss": self.system.loss_base(latents, self.text(batch), drop)["loss"]}
        return {"loss": self.system.loss(latents, batch["vectors"], drop)["loss"]}

    def text(self, batch: dict[str, Tensor]) -> Tensor:
        """Text tokens of the narrations, or the null text where the clips have none: [B, n, width]."""
        if "ids" in batch:
            return self.system.words(batch["ids"])
        clips = next(iter(batch.values()))
        return self.system.null_text.expand(len(clips), -1, -1)


class EgoSonicsRecipe(Recipe):
    """EgoSonics on a video encoder and mostly a base that are there.

    Args:
        model: sizes; left out, those of ``tiny``.
        autoencoder: sizes of one that is trained; left out, those that fit the model's picture.

    Raises:
        UsageError: a configuration without words, or a base of other sizes.
        WeightsError: an encoder or a base that is not there or does not fit.
    """

    name = "egosonics"
    TrainConfig = EgoSonicsTrainConfig
    source = f"strike:seed=1000,version={BOTH}"
    ablations = ABLATIONS

    def __init__(
        self,
        config: EgoSonicsTrainConfig | None = None,
        *,
        model: EgoSonicsConfig = PRESETS["tiny"],
        autoencoder: AutoencoderConfig | None = None,
        **options,
    ) -> None:
        super().__init__(config, **options)
        if not model.words:
            raise UsageError("this recipe trains the words that its base reads: the configuration must have them")
        self.kept = EgoSonics.from_pretrained(self.config.base) if self.config.base else None
        self.model = model
        self.autoencoder = self.kept.autoencoder.config if self.kept else autoencoder or AUTOENCODER_OF[model.picture]
        self.changed = replace(model, **self.ablations.get(self.ablation, {}))
        self.encoder = load_encoder(self.config.encoder)
        system = EgoSonics(model, self.encoder, ImageAutoencoder(self.autoencoder))  # refuses what does not fit
        if self.kept:
            self._start_from(self.kept, system)
        self.encoder_tag = tag_of(self.encoder, "vision")

    def settings(self) -> dict[str, object]:
        sounds: dict[str, object] = {"autoencoder": asdict(self.autoencoder)}
        if self.kept:
            sounds = {
                "autoencoder": tag_of(self.kept.autoencoder, "autoencoder"),
                "base": tag_of(self.kept.base, "base"),
            }
        return {"model": asdict(self.model), **sounds, "encoder": self.encoder_tag}

    def _start_from(self, kept: EgoSonics, system: EgoSonics) -> None:
        """Give a new system the base, the words and the null text of another.

        Raises:
            UsageError: they have other sizes.
        """
        state, own = (
            {k: v for k, v in each.state_dict().items() if k.split(".")[0] in STAGES["base"]} for each in (kept, system)
        )
        if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in own.items()}:
            raise UsageError(f"base: {self.config.base} has other sizes than what is trained")
        system.load_state_dict(state, strict=False)

    # --- features -------------------------------------------------------------------------------------

    def features(self, recordings: Recordings, store: FeatureStore) -> EgoSonicsFeatures:
        c = self.config
        sounds = None
        if not self.kept:
            sounds = cut_clips(recordings, latent_cut(c.sound_recordings, 0, c.seconds, c.per_recording))
        videos = cut_clips(recordings, latent_cut(c.video_recordings, UNSEEN, c.seconds, c.per_recording))
        if c.narrations:
            texts = [*(sounds["text"] if sounds else []), *videos["text"]]
            missing = sum(not text for text in texts)
            if missing:
                learner = "MLP" if self.kept else "base"
                raise UsageError(
                    f"{missing} of {len(texts)} clips have no narration, which the {learner} learns from: give "
                    "csv:FILE with a column text, or --set narrations=false"
                )
        images = SpectrogramImages(self.model.picture, c.seconds)
        vectors = FrameVectors(
            c.encoder, self.encoder_tag, seconds=c.seconds, sample_rate=self.model.stft.sample_rate
        )  # fmt: skip
        fps = self.changed.fps
        shown = vectors if fps is None or fps >= self.encoder.config.fps else replace(vectors, fps=fps)
        return EgoSonicsFeatures(
            store.compute(sounds, recordings, images) if sounds else None, store.compute(videos, recordings, images),
            store.compute(videos, recordings, vectors), store.compute(videos, recordings, shown),
        )  # fmt: skip

    # --- stages ---------------------------------------------------------------------------------------

    def stages(self, features: EgoSonicsFeatures, store: FeatureStore, out: Path) -> Stages:
        c, seed = self.config, self.seed
        if self.kept:
            autoencoder = self.kept.autoencoder
            torch.manual_seed(seed)
            system = EgoSonics(self.model, None, autoencoder).eval()
            self._start_from(self.kept, system)
        else:
            # 1. the autoencoder, on sounds alone
            sounds = features.sounds.split(c.held_out, c.sound_recordings)
            autoencoder = yield from autoencoder_stage(*sounds, out, self.autoencoder, self.model.stft, c, seed=seed)
            sounds = compute_latents(store, features.sounds, autoencoder)
            torch.manual_seed(seed)
            system = EgoSonics(self.model, None, autoencoder).eval()
            # 2. the base: latent diffusion under narrations, which is what Stable Diffusion is in the paper
            yield self.base_stage(system, *self._with_ids(system, sounds).split(c.held_out, c.sound_recordings))
            as_shipped(system)
        # 3. the MLP from video to text tokens (supplement G), which is frozen then
        vectors = self._with_ids(system, features.vectors)
        yield self.text_stage(system, *vectors.split(c.held_out, c.video_recordings))
        as_shipped(system)
        # 4. SyncroNet, which starts as a copy of the base; everything else is frozen
        system.config = self.changed
        torch.manual_seed(seed)
        system.start_syncronet()
        videos = compute_latents(store, features.videos, autoencoder).with_arrays(features.shown)
        yield self.syncronet_stage(system, *videos.split(c.held_out, c.video_recordings))
        return as_shipped(system.cpu())

    def _with_ids(self, system: EgoSonics, clips: Features) -> Features:
        """The clips with ``ids`` of the words of their narrations [N, L], where there are narrations."""
        if not self.config.narrations:
            return clips
        ids = system.words.ids(list(clips.table["text"])).numpy()
        return replace(clips, arrays={**clips.arrays, "ids": ShardedArray([ids])})

    def _batches(self, clips: Features, stage: int, *names: str) -> Callable[[int], dict[str, Tensor]]:
        arrays = {name: clips[name] for name in names if name in clips.arrays}
        return batches(arrays, self.config.batch_size, self.seed, stage)

    def base_stage(self, system: EgoSonics, clips: Features, unseen: Features) -> Stage:
        """Latent diffusion under narrations, a tenth of them left out, so that the null text is trained."""
        steps, which = self.config.base_steps, in_turns(unseen.recording_ids)[:EVALUATED]

        def eval_fn(step: int, module: EgoSonicsTraining) -> dict[str, float | Sound]:
            batch = rows(unseen, which, system.device)
            text = module.text(batch)
            loss = system.loss_base(batch["latents"], text, generator=seeded())["loss"]
            report: dict[str, float | Sound] = {"held_out": round(float(loss), 5)}
            if step % SAMPLE_EVERY == 0 or step == steps:
                condition = {"text": text[:1], "on": torch.zeros(1, dtype=torch.bool, device=system.device)}
                denoise = classifier_free_guidance(system.denoise, condition, None, 1.0)
                shape = batch["latents"].shape[1:]
                latents = sample(denoise, shape, system.config.schedule, [seeded()], device=system.device)
                report["sample"] = Sound(system.decode_latents(latents)[0].cpu().numpy(), system.sample_rate)
            return report

        module = EgoSonicsTraining(system, "base", BASE_PROMPT_DROPOUT)
        batch_of = self._batches(clips, 2, "latents", "ids")
        return Stage("base", module, batch_of, self.config.optim(steps, self.seed, bf16=True), eval_fn, 100)

    def text_stage(self, system: EgoSonics, clips: Features, unseen: Features) -> Stage:
        """The MLP from video to the text tokens of the narration."""

        def eval_fn(step: int, module: EgoSonicsTraining) -> dict[str, float]:
            """``explained``: 1 is perfect, 0 is no better than the mean text of these clips."""
            batch = rows(unseen, np.arange(len(unseen)), system.device)
            text = module.text(batch)
            loss = float(system.loss_text(batch["vectors"], text)["loss"])
            mean = float((text - text.mean(0)).square().mean())
            explained = {"explained": round(1 - loss / max(mean, 1e-12), 4)} if self.config.narrations else {}
            return {"held_out": round(loss, 5), **explained}

        batch_of = self._batches(clips, 3, "vectors", "ids")
        optim = self.config.optim(self.config.text_steps, self.seed)
        return Stage("text", EgoSonicsTraining(system, "text"), batch_of, optim, eval_fn, 200)

    def syncronet_stage(self, system: EgoSonics, clips: Features, unseen: Features) -> Stage:
        """SyncroNet; see :func:`syncronet_report` for its log."""
        steps = self.config.steps

        def eval_fn(step: int, module: EgoSonicsTraining) -> dict[str, float | Sound]:
            return syncronet_report(system, unseen, generate=step % SAMPLE_EVERY == 0 or step == steps)

        module = EgoSonicsTraining(system, "syncronet", self.config.prompt_dropout)
        batch_of = self._batches(clips, 4, "latents", "vectors")
        return Stage("", module, batch_of, self.config.optim(steps, self.seed, bf16=True), eval_fn, 50)

    # --- weights --------------------------------------------------------------------------------------

    def card(self, model: EgoSonics) -> dict[str, object]:
        # what is known of kept parts is what the weights say that they were taken from
        told = self.kept.card if self.kept else {**asdict(self.config), **model.autoencoder.card}
        names = ("autoencoder_steps", "base_steps", "round_trip")
        return {"encoder": self.encoder_tag, **{name: told[name] for name in names if name in told}}

    def save(self, model: EgoSonics, out: Path, card: dict[str, object]) -> Path:
        """Write the system beside its base and its encoder, which V-AURA and the ablations share."""
        weights, base = self.folder(out) / "weights", out / "egosonics_base"
        if not (base / "config.json").exists():
            if self.kept:
                kept_base(self.config.base).save_pretrained(base)
            else:
                BaseUNet(self.model, model.base).save_pretrained(base, **{**card, "steps": self.config.base_steps})
            write_card(base, Path(__file__).with_name("base_card.md"))
        parts = {"base": base, "vision": keep_encoder(self.encoder, self.config.encoder, out)}
        if self.ablation:
            parts["autoencoder"] = keep(model.autoencoder, out / "autoencoder" / "weights")
        return model.save_pretrained(weights, **references(weights, **parts), **card)


def kept_base(name: str) -> BaseUNet:
    """The base of an EgoSonics, with its card."""
    folder = find_weights(name)
    return BaseUNet.from_pretrained(parts_of(folder, read_config(folder), ["base"])["base"])


@torch.no_grad()
def syncronet_report(system: EgoSonics, unseen: Features, generate: bool = True) -> dict[str, float | Sound]:
    """What the log says of clips that SyncroNet is not trained on.

    ``held_out`` is the loss. ``use_of_video`` is what another clip's video costs (see
    :func:`~v2a_nb.sampling.diffusion.use_of_video`); the text is the right one in both, so that it is exactly 0 before
    the first step.

    Args:
        unseen: with ``latents`` and ``vectors``.
        generate: adds ``onset_f1_50ms`` of :data:`SAMPLED` clips, and the sound of the first.
    """
    which = in_turns(unseen.recording_ids)[:EVALUATED]
    batch = rows(unseen, which, system.device)
    latents, vectors = batch["latents"], batch["vectors"]
    columns = latents.shape[-1]
    right = system.conditions(vectors, columns)
    wrong = system.conditions(vectors.roll(1, 0), columns, text=right["text"])
    denoisers = [lambda noisy, t, c=condition: system.denoise(noisy, t, c) for condition in (right, wrong)]
    report: dict[str, float | Sound] = {
        "held_out": round(float(system.loss(latents, vectors, generator=seeded())["loss"]), 5),
        "use_of_video": round(use_of_video(*denoisers, latents, system.config.schedule), 5),
    }
    if generate:
        vectors, which = vectors[:SAMPLED], which[:SAMPLED]
        samples = round(unseen.table[0]["duration_s"] * system.sample_rate)
        latents = system.sample_latents(
            system.window_conditions(vectors, samples), samples, seeds=list(range(len(vectors)))
        )
        sounds = [Sound(w, system.sample_rate) for w in system.decode_latents(latents, samples).cpu().numpy()]
        onsets = true_onsets(unseen, which)
        report["onset_f1_50ms"] = round(pooled_f1(onsets, [detect_onsets(sound) for sound in sounds]), 4)
        report["sample"] = sounds[0]
    return report


def rows(clips: Features, which: np.ndarray, device: torch.device) -> dict[str, Tensor]:
    """Some rows of each array, floating point as float32."""
    batch = {name: torch.from_numpy(array[which]) for name, array in clips.arrays.items()}
    return {k: (v.float() if v.is_floating_point() else v).to(device) for k, v in batch.items()}


def seeded(seed: int = 0) -> torch.Generator:
    """Random numbers of an evaluation, the same each time."""
    return torch.Generator().manual_seed(seed)
