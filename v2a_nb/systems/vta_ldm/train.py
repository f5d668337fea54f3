"""Recipe of VTA-LDM: the diffusion model, on parts that are there already, perhaps pre-trained.

    v2a-nb train vta_ldm --out runs/vta_ldm
    v2a-nb train vta_ldm --out runs/vta_ldm --ablation vision_only

It starts from Action2Sound's autoencoder and vocoder and from a video encoder, all of them frozen: their recipes are
elsewhere. The second command trains another diffusion model on what the first one left. Beside what every run has
(:mod:`v2a_nb.training.recipe`) its folder holds, just as the shipped folders lie:

| in the folder | what |
|---|---|
| ``vaura/vision/``, or ``encoders/NAME/`` | the video encoder, which the weights refer to |
| ``action2sound/autoencoder/`` | the autoencoder |

The ablations are the rows of the paper's tables 2 to 4, and some of ours. What the paper trains on more data first is
``--set pretrain=audio`` (the UNet learns sounds alone, under the null) or ``pretrain=video``, from recordings of their
own; then all of it is trained on.

The paper's filter kept about half of VGGSound. ``--set aligned=0.5`` keeps that half of the clips whose AV-Align is
higher: a limit of 0.2, as there, would keep 4 of 48 clips of Strike World, whose steady noises have onsets of their
own. CLAP's filter is a command, whose list this recipe reads: ``v2a-nb curate SOURCE --filters audio_text --out
kept.json`` and ``--data list:kept.json``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from v2a_nb.audio.onsets import detect_onsets
from v2a_nb.clip import Sound
from v2a_nb.data.augmentation import JoinedRecordings
from v2a_nb.data.dataset import cut_clips
from v2a_nb.data.features import Features, FeatureStore
from v2a_nb.data.latent_dataset import (
    FEATURE_NOISE,
    AlignScores,
    ClipVectors,
    SpectrogramImages,
    in_turns,
    latent_cut,
    true_onsets,
)
from v2a_nb.data.recordings import BOTH, UNSEEN, Recordings, StrikeRecordings
from v2a_nb.data.sources import open_recordings
from v2a_nb.errors import UsageError
from v2a_nb.hub import as_shipped, shipped, tag_of
from v2a_nb.models.codec_report import pooled_f1
from v2a_nb.models.text_encoders import StrikeText
from v2a_nb.models.video_encoders.registry import ENCODERS, load_video_encoder
from v2a_nb.models.vocoder import load_vocoder
from v2a_nb.sampling.diffusion import Conditions, use_of_video
from v2a_nb.systems.vta_ldm.model import for_encoder
from v2a_nb.systems.vta_ldm.system import PRESETS, VtaLdm, VtaLdmConfig
from v2a_nb.training.loop import BatchOf
from v2a_nb.training.recipe import Recipe, Stage, Stages, scaling
from v2a_nb.training.recipes.autoencoder import (
    ClipTrainConfig,
    compute_latents,
    keep,
    keep_encoder,
    load_autoencoder,
    references,
)

SHORTEST_S = 0.3
"""Least length of a video that ends within a training window."""
EVALUATED = 16
"""Windows that an evaluation takes the loss of."""
SAMPLE_EVERY, SAMPLED = 500, 12
"""Steps between two evaluations that generate sounds, and windows of which they do."""
PRETRAINING = ("", "audio", "video")

ABLATIONS: dict[str, dict[str, object]] = {
    "whole": {},
    # table 3
    "text_only": {"vision": False, "time_bias": False},
    "vision_only": {"text": False},
    "vision_pe": {"text": False, "position": True},
    "vision_text_pe": {"position": True},
    "vision_flow": {"text": False, "flow": "color"},
    "vision_motion": {"text": False, "flow": "vectors"},
    # table 2
    **{f"encoder_{name}": {"encoder": name} for name in ENCODERS if name != "strike_wide"},
    # table 4
    "filtered": {"aligned": 0.5},
    "concat": {"joined": 0.5},
    "pretrain_audio": {"pretrain": "audio"},
    "pretrain_video": {"pretrain": "video"},
    # ours
    "no_time_bias": {"time_bias": False, "row_values": 0},
    "no_row_values": {"row_values": 0},
    "released_loss": {"snr_form": "epsilon"},
    "never_dropped": {"condition_dropout": 0.0, "video_dropout": 0.0, "text_dropout": 0.0},
    "fps5": {"fps": 5.0},
    "fps10": {"fps": 10.0},
}
"""The ablations, each by what differs in the configuration of the model or of its training. ``whole``, which differs in
nothing, reads pictures and text; ``never_dropped`` has a null in sampling that training never had, as released."""


@dataclass(frozen=True)
class VtaLdmTrainConfig(ClipTrainConfig):
    """How much of everything; the defaults take about an hour and a half of one core with bfloat16.

    Attributes:
        steps: of the diffusion model.
        recordings: whose clips are trained on.
        autoencoder: name or folder of a frozen autoencoder, or of a system that has one.
        vocoder: name or folder, or ``griffin-lim``; the weights refer to it, and evaluations decode with it.
        condition_dropout: share of clips whose video and text both become the null (the paper's, and the release's
            ``uncondition``); ``video_dropout``, ``text_dropout``: of those that lose one of the two.
        misled: share of the clips with pictures and a text whose pictures say what another clip's do of what is hit, so
            that a text is worth reading: in Strike World pictures leave nothing open. Not in the paper, and only for
            encoders that have ``content_channels``.
        init: a VTA-LDM of the same sizes to go on from, at half the rate: a name, a folder or a Hub id.
        ended: share of windows in which the video ends at some time, so that the mask of what comes after it is known.
        joined: probability that a clip is cut together from two (:mod:`v2a_nb.data.augmentation`).
        aligned: share of the clips that are kept, those with the highest AV-Align; 1 keeps all. Needs OpenCV.
        pretrain: ``audio`` or ``video``, see the top of this file; empty for none.
        pretrain_steps, pretrain_recordings: how much of it.
        pretrain_data: its recordings, as ``--data`` names them; empty: those that follow, of Strike World.
    """

    steps: int = scaling(5000)
    recordings: int = scaling(1000)
    autoencoder: str = "action2sound"
    vocoder: str = "vocoder"
    condition_dropout: float = 0.1
    video_dropout: float = 0.1
    text_dropout: float = 0.4
    misled: float = 0.0
    init: str = ""
    ended: float = 0.25
    joined: float = 0.0
    aligned: float = 1.0
    pretrain: str = ""
    pretrain_steps: int = scaling(1500)
    pretrain_recordings: int = scaling(500)
    pretrain_data: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("condition_dropout", "video_dropout", "text_dropout", "misled", "ended", "joined", "aligned"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is a share from 0 to 1, not {getattr(self, name)}")
        if self.condition_dropout + self.video_dropout + self.text_dropout > 1:
            raise UsageError("condition_dropout, video_dropout and text_dropout are shares of one whole: at most 1")
        if self.pretrain not in PRETRAINING:
            raise UsageError(f"pretrain is audio, video or empty, not {self.pretrain!r}")

    @property
    def fewest_recordings(self) -> int:
        return self.recordings


class VtaLdmTraining(nn.Module):
    """The system with its loss; what it does not train is frozen.

    Args:
        system: VTA-LDM.
        texts: of all clips.
        train: the shares that are dropped.
        blind: everything is dropped: sounds alone are learned.
    """

    def __init__(self, system: VtaLdm, texts: list[str], train: VtaLdmTrainConfig, blind: bool = False) -> None:
        super().__init__()
        self.system, self.texts, self.train_config, self.blind = system, texts, train, blind
        system.trained()

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The loss of a batch as :meth:`Windows.batches` makes it."""
        latents, c = batch["latents"], self.train_config
        b, device = len(latents), latents.device
        draw = torch.rand(b, device=device)
        both, video = c.condition_dropout, c.condition_dropout + c.video_dropout
        given = {"video": draw >= video, "text": (draw >= video + c.text_dropout) | ((draw >= both) & (draw < video))}
        if self.blind:
            given = {name: torch.zeros_like(each) for name, each in given.items()}
        vectors = batch.get("vectors")
        if c.misled and not self.blind:
            vectors = misleading(vectors, self.system.encoder.content_channels, given, c.misled)
        conditions = self.system.context(
            vectors, batch.get("flow"), texts_of(self.system, self.texts, batch["row"]),
            start_s=batch["start_s"], seconds=batch["seconds"], given=given,
        )  # fmt: skip
        return {"loss": self.system.loss(latents, conditions)["loss"]}


def misleading(vectors: Tensor, channels: slice, given: dict[str, Tensor], share: float) -> Tensor:
    """Frame vectors [B, T, D] of which some say what the clip before them in the batch says of what is hit.

    Args:
        vectors: of a batch.
        channels: that say what is hit; those that say when stay.
        given: bool [B] of ``video`` and ``text``: clips with both may be misleading.
        share: of those.
    """
    chosen = (torch.rand(len(vectors), device=vectors.device) < share) & given["video"] & given["text"]
    made = vectors.clone()
    made[..., channels] = torch.where(chosen[:, None, None], vectors.roll(1, 0), vectors)[..., channels]
    return made


def texts_of(system: VtaLdm, texts: list[str], rows: Tensor) -> Tensor | None:
    """Vectors of the texts of some clips, with gradients; None for a system that reads no text."""
    if system.text_encoder is None:
        return None
    return system.text_encoder.encode([texts[row] for row in rows.tolist()]).to(system.device)


@dataclass(frozen=True)
class Windows:
    """Windows of clips: any latent column of a clip may be a window's first.

    Attributes:
        clips: with ``latents`` [N, C, H, columns], and ``vectors`` and ``flow`` where they are read.
        columns: of a window.
        column_s: seconds of one.
    """

    clips: Features
    columns: int
    column_s: float

    def batch(self, rows: np.ndarray, at: np.ndarray, seconds: np.ndarray | None = None) -> dict[str, Tensor]:
        """What the loss wants of windows that begin at columns ``at`` of clips ``rows``.

        Args:
            seconds: when each video ends, from the clip's start; left out, it does not.
        """
        latents = self.clips["latents"][rows]
        parts = [each[..., a : a + self.columns] for each, a in zip(latents, at, strict=True)]
        batch = {"latents": torch.from_numpy(np.stack(parts).astype(np.float32))}
        for name in ("vectors", "flow"):
            if name in self.clips.arrays:
                batch[name] = torch.from_numpy(self.clips[name][rows].astype(np.float32))
        seconds = np.full(len(rows), np.inf) if seconds is None else seconds
        times = {"start_s": at * self.column_s, "seconds": seconds}
        return batch | {k: torch.from_numpy(v).float() for k, v in times.items()} | {"row": torch.from_numpy(rows)}

    def batches(self, size: int, seed: int, ended: float) -> BatchOf:
        """From a number to random windows, :data:`FEATURE_NOISE` on what encoders say of the pictures."""
        last, window_s = self.clips["latents"].shape[-1] - self.columns, self.columns * self.column_s

        def batch_of(number: int) -> dict[str, Tensor]:
            rng = np.random.default_rng([seed, 5, number])
            rows, at = np.sort(rng.integers(0, len(self.clips), size)), rng.integers(0, last + 1, size)
            ends = at * self.column_s + rng.uniform(SHORTEST_S, window_s, size)
            batch = self.batch(rows, at, np.where(rng.random(size) < ended, ends, np.inf))
            for name in ("vectors", "flow"):
                if name in batch:
                    noise = rng.standard_normal(tuple(batch[name].shape), dtype=np.float32)
                    # where nothing moves, motion vectors are exactly 0
                    spread = 1.0 if name == "vectors" else float(batch[name].std())
                    batch[name] += FEATURE_NOISE * spread * torch.from_numpy(noise)
            return batch

        return batch_of


def aligned(clips: Features, share: float) -> Features:
    """The share of the clips whose AV-Align is highest (array ``align``); those that it says nothing of come first."""
    if share >= 1:
        return clips
    order = np.argsort(-np.nan_to_num(clips["align"][:], nan=np.inf), kind="stable")
    return clips.where(np.sort(order[: max(1, round(share * len(order)))]))


@torch.no_grad()
def report_of(system: VtaLdm, unseen: Windows, generate: bool = True) -> dict[str, float | Sound]:
    """What the log says of windows that are not trained on.

    ``held_out`` is the loss; ``use_of_video`` what another clip's video would cost (see
    :func:`~v2a_nb.sampling.diffusion.use_of_video`), and ``use_of_text`` the same of the text.

    Args:
        generate: adds ``onset_f1_50ms`` of :data:`SAMPLED` windows, without any text where pictures are read, and the
            sound of the first.
    """
    c, clips = system.config, unseen.clips
    rows = in_turns(clips.recording_ids)[:EVALUATED]
    batch = {k: v.to(system.device) for k, v in unseen.batch(rows, np.zeros(len(rows), int)).items()}
    latents, vectors, flow = batch["latents"], batch.get("vectors"), batch.get("flow")
    text = texts_of(system, list(clips.table["text"]), batch["row"])
    generator = torch.Generator().manual_seed(0)

    def rolled(values: Tensor | None, on: bool) -> Tensor | None:
        return values.roll(1, 0) if on and values is not None else values

    def denoiser(video: bool = False, words: bool = False) -> Callable:
        """With the video, or the text, of other clips."""
        condition = condition_of(video, words)
        return lambda noisy, t: system.denoise(noisy, t, condition)

    def condition_of(video: bool = False, words: bool = False) -> Conditions:
        return system.context(rolled(vectors, video), rolled(flow, video), rolled(text, words))

    loss = system.loss(latents, condition_of(), generator=generator)["loss"]
    report: dict[str, float | Sound] = {"held_out": round(float(loss), 5)}
    for name, there, how in (("video", c.timed, {"video": True}), ("text", text is not None, {"words": True})):
        if there:
            report[f"use_of_{name}"] = round(use_of_video(denoiser(), denoiser(**how), latents, c.schedule), 5)
    if generate:
        samples, n = round(c.window_s * system.sample_rate), min(SAMPLED, len(rows))
        parts = [None if each is None else each[:n] for each in (vectors, flow, None if c.timed else text)]
        latents = system.sample_latents(system.window_conditions(*parts), samples, seeds=list(range(n)))
        sounds = [Sound(w, system.sample_rate) for w in system.decode_latents(latents, samples).cpu().numpy()]
        onsets = [times[times < c.window_s] for times in true_onsets(clips, rows[:n])]
        report["onset_f1_50ms"] = round(pooled_f1(onsets, [detect_onsets(sound) for sound in sounds]), 4)
        report["sample"] = sounds[0]
    return report


class VtaLdmRecipe(Recipe):
    """VTA-LDM on an autoencoder, a vocoder and a video encoder that are there.

    Args:
        model: sizes; left out, those of ``tiny``. What hangs on the encoder follows it
            (:func:`~v2a_nb.systems.vta_ldm.model.for_encoder`).

    Raises:
        WeightsError: an encoder, an autoencoder or a vocoder that is not there or does not fit.
    """

    name = "vta_ldm"
    TrainConfig = VtaLdmTrainConfig
    source = f"strike:seed=1000,version={BOTH}"
    ablations = ABLATIONS

    def __init__(
        self, config: VtaLdmTrainConfig | None = None, *, model: VtaLdmConfig = PRESETS["tiny"], **options
    ) -> None:
        super().__init__(config, **options)
        changes = self.ablations.get(self.ablation, {})
        training = {f.name for f in fields(self.config)}
        self.changed_config = replace(self.config, **{k: v for k, v in changes.items() if k in training})
        self.encoder = load_video_encoder(self.changed_config.encoder)
        self.autoencoder, self.vocoder = load_autoencoder(self.config.autoencoder), load_vocoder(self.config.vocoder)
        changed = replace(model, **{k: v for k, v in changes.items() if k not in training})
        self.model, self.changed = model, for_encoder(changed, self.encoder.dim, self.encoder.rate)
        self.system()  # refuses what does not fit
        if self.changed_config.misled and not (self.changed.text and hasattr(self.encoder, "content_channels")):
            raise UsageError(
                "misled wants a model with a text, and an encoder that knows which channels say what is hit"
            )
        self.encoder_tag = tag_of(self.encoder, "vision")

    def system(self) -> VtaLdm:
        """A new system."""
        text = StrikeText(self.changed.text_dim) if self.changed.text else None
        made = VtaLdm(self.changed, self.encoder, self.autoencoder, self.vocoder, text)
        if self.config.init:
            try:
                made.load_state_dict(VtaLdm.from_pretrained(self.config.init).state_dict())
            except RuntimeError as error:
                raise UsageError(f"init: {self.config.init} has other sizes than what is trained") from error
        return made

    def settings(self) -> dict[str, object]:
        # of the run: an ablation may have another encoder
        same = self.changed_config.encoder == self.config.encoder
        tag = self.encoder_tag if same else tag_of(load_video_encoder(self.config.encoder), "vision")
        return {
            "model": asdict(self.model), "encoder": tag, "autoencoder": tag_of(self.autoencoder, "autoencoder"),
        }  # fmt: skip

    # --- features -------------------------------------------------------------------------------------

    def features(self, recordings: Recordings, store: FeatureStore) -> list[Features]:
        """Latents, and what is read of the pictures: of the clips, and of those that are pre-trained on."""
        c = self.changed_config
        found = [self._features(self._joined(recordings), store, UNSEEN, c.recordings)]
        if c.pretrain:
            more, first = recordings, UNSEEN + c.recordings
            if c.pretrain_data:
                more, first = open_recordings(c.pretrain_data, self.seed), UNSEEN
            elif not isinstance(recordings, StrikeRecordings) or recordings.limit is not None:
                raise UsageError("pre-training wants recordings of its own: name them with --set pretrain_data=SOURCE")
            found.append(self._features(more, store, first, c.pretrain_recordings))
        return found

    def _joined(self, recordings: Recordings) -> Recordings:
        """The recordings, or the same cut together; those of Strike World that are held out stay whole."""
        c = self.changed_config
        if not c.joined:
            return recordings
        whole = isinstance(recordings, StrikeRecordings) and recordings.limit is None
        return JoinedRecordings(
            recordings, c.joined, c.seconds, plain_from=UNSEEN + c.recordings - c.held_out if whole else None
        )

    def _features(self, recordings: Recordings, store: FeatureStore, first: int, count: int) -> Features:
        c, m, rate = self.changed_config, self.changed, self.changed.stft.sample_rate
        table = cut_clips(recordings, latent_cut(count, first, c.seconds, c.per_recording))
        images = store.compute(table, recordings, SpectrogramImages(m.picture, c.seconds))
        clips = compute_latents(store, images, self.autoencoder)
        for flow in [*([None] if m.vision else []), *([m.flow] if m.flow else [])]:
            extractor = ClipVectors(c.encoder, self.encoder_tag, flow, m.fps, c.seconds, rate)
            clips = clips.with_arrays(store.compute(table, recordings, extractor))
        if c.aligned < 1:
            clips = clips.with_arrays(store.compute(table, recordings, AlignScores(c.seconds, rate)))
        return clips

    # --- stages ---------------------------------------------------------------------------------------

    def stages(self, features: list[Features], store: FeatureStore, out: Path) -> Stages:
        c, columns, column_s = self.changed_config, self.changed.context, self.changed.column_s
        clips, held_out = features[0].split(c.held_out, c.recordings)
        windows, unseen = (Windows(each, columns, column_s) for each in (aligned(clips, c.aligned), held_out))
        self.clips = len(windows.clips)
        torch.manual_seed(self.seed)
        system = self.system()
        if c.pretrain:
            more = Windows(aligned(features[1], c.aligned), columns, column_s)
            name = f"ablations/{self.ablation}/pretrain" if self.ablation else "pretrain"
            yield self.stage(name, system, more, unseen, c.pretrain_steps, blind=c.pretrain == "audio")
        yield self.stage("", system, windows, unseen, self.config.steps)
        return as_shipped(system.cpu())

    def stage(
        self, name: str, system: VtaLdm, windows: Windows, unseen: Windows, steps: int, blind: bool = False
    ) -> Stage:
        """A training of the diffusion model; see :func:`report_of` for its log."""
        c = self.changed_config

        def eval_fn(step: int, module: VtaLdmTraining) -> dict[str, float | Sound]:
            return report_of(system, unseen, generate=not name and (step % SAMPLE_EVERY == 0 or step == steps))

        module = VtaLdmTraining(system, list(windows.clips.table["text"]), c, blind)
        batch_of = windows.batches(c.batch_size, self.seed + bool(name), c.ended)
        rate = {"lr": 5e-4} if self.config.init else {}
        return Stage(name, module, batch_of, c.optim(steps, self.seed, bf16=True, **rate), eval_fn, 100)

    # --- weights --------------------------------------------------------------------------------------

    def card(self, model: VtaLdm) -> dict[str, object]:
        begun = {"begun_at": self.config.init} if self.config.init else {}
        return {"encoder": self.encoder_tag, "clips": self.clips, **begun}

    def save(self, model: VtaLdm, out: Path, card: dict[str, object]) -> Path:
        """Write the system beside the parts that it shares with others."""
        weights, vocoder = self.folder(out) / "weights", self.config.vocoder
        own = Path(vocoder).is_dir() and vocoder not in shipped()
        parts: dict[str, Path | str] = {"vocoder": Path(vocoder) if own else vocoder}
        parts["autoencoder"] = keep(self.autoencoder, out / "action2sound" / "autoencoder")
        parts["vision"] = keep_encoder(self.encoder, self.changed_config.encoder, out)
        return model.save_pretrained(weights, **references(weights, **parts), **card)
