"""Recipe of V-AURA: codec, video encoder, event crops, decoder. It needs pictures and their sound, and no labels.

v2a-nb train vaura --preset tiny --out runs/vaura
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.audio import targets
from v2a_nb.clip import Clip, Sound
from v2a_nb.data.dataset import Cut, cut_clips
from v2a_nb.data.features import Extractor, Features, FeatureStore
from v2a_nb.data.recordings import BOTH, UNSEEN, Recording, Recordings
from v2a_nb.errors import UsageError
from v2a_nb.files import atomic, write_text
from v2a_nb.hub import as_shipped, tag_of
from v2a_nb.models.av_embedding import AudioVisualEmbedding
from v2a_nb.models.tiny_codec import TinyCodec
from v2a_nb.models.video_encoders.event_crop import EventCropConfig
from v2a_nb.models.video_encoders.frames import at_times
from v2a_nb.models.video_encoders.hit_windows import windows_of
from v2a_nb.models.video_encoders.strike import StrikeVision
from v2a_nb.parallel import once_per_machine
from v2a_nb.systems.vaura.model import levels_of
from v2a_nb.systems.vaura.system import PRESETS, VAura, VAuraDecoder
from v2a_nb.training.loop import BatchOf, OptimConfig
from v2a_nb.training.recipe import Recipe, Stage, Stages, TrainConfig, scaling
from v2a_nb.training.recipes.codec import CYCLES, Cycle, codec_stages
from v2a_nb.training.recipes.event_crop import calibrate, calibrate_contact, event_crop_stage, gather
from v2a_nb.training.recipes.video_encoder import pretraining_stage, undecided
from v2a_nb.world import strike_world

CODEBOOK_WEIGHTS = (2.0, 1.0, 0.7, 0.4)
"""The first codebook carries timing and material, the last one texture."""
LEVEL_BINS, LEVEL_WEIGHT = 64, 1.0
"""Steps of the level, 1 dB each, and its weight beside those of the codebooks."""
LOGIT_BIAS, LOGIT_SCALE = 1.0, 8.0
"""How the event crops decide once training is over, chosen on seed 4000."""
CAMERA_RATES = (25.0, 25.0, 25.0, 15.0, 24.0, 30.0, 30.0, 50.0)
"""Frames a second of the cameras that clips are filmed with, each as likely as often as it stands here."""
CALIBRATION_CLIPS = 1000
"""Clips of the decoder on which the probability of hits is fitted, at most."""
DROP_VIDEO = 0.1
"""Share of clips whose video is replaced by the null (section III-C)."""
MISMATCHED = 0.3
"""Share of recordings whose clips get foreign sounds, in the ablations of noisy data."""
NOISY: dict[str, object] = {"mismatched": MISMATCHED}
ABLATIONS: dict[str, dict[str, object]] = {
    "whole": {},
    "prepend": {"conditioning": "prepend"},
    "noisy": NOISY,
    "noisy_00": {**NOISY, "similarity": 0.0},
    "noisy_02": {**NOISY, "similarity": 0.2},
    "noisy_03": {**NOISY, "similarity": 0.3},
    "noisy_04": {**NOISY, "similarity": 0.4},
}
"""Decoders that the paper compares: how they are conditioned (table III), and clips with mismatched ones among them, of
which only those are kept whose audio-visual similarity, by our embedding instead of ImageBind, is so high (table II).
"""


@dataclass(frozen=True)
class VAuraTrainConfig(TrainConfig):
    """How much of everything.

    The event crops read the ``clips`` of the codec and of the motion features and as many again. The decoder reads
    clips that no other stage saw: on clips that the encoder knows, its answers are surer than they ever are on others,
    and a decoder that was taught with those believes them too much.

    Attributes:
        camera_rates: whether the cameras have other frame rates than the encoder's as well, :data:`CAMERA_RATES`.
        init: a V-AURA to go on from instead of from nothing: a name of shipped weights, a folder or a Hub id. Its
            codec stays as it is; video encoder, event crops and decoder begin at its weights, at half the rate. The
            decoder of an ablation begins from nothing, so that all of them do.
        keep_encoder: the video encoder of ``init`` stays as it is, too, and only a decoder is trained.

    Raises:
        UsageError: ``keep_encoder`` without ``init``.
    """

    steps: int = scaling(2400)
    clips: int = scaling(8000, least=32)
    event_crop_clips: int = scaling(16000, least=32)
    decoder_clips: int = scaling(8000, least=32)
    vision_steps: int = scaling(2000)
    event_crop_steps: int = scaling(6000)
    codec_cycles: tuple[Cycle, ...] = CYCLES
    batch_size: int = 16
    levels: bool = False
    camera_rates: bool = True
    init: str = ""
    keep_encoder: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep_encoder and not self.init:
            raise UsageError("keep_encoder keeps the video encoder of other weights: say which, as --set init=vaura")

    def scaled(self, share: float) -> VAuraTrainConfig:
        cycles = tuple(replace(c, steps=max(8, int(c.steps * share))) for c in self.codec_cycles)
        return replace(super().scaled(share), codec_cycles=cycles)


@dataclass(frozen=True)
class PicturesAndSound(Extractor):
    """Pictures ``frames`` uint8 [n, T, size, size, 3] and their ``sounds`` float32 [n, samples].

    Attributes:
        camera_rates: frames a second of the cameras, drawn anew for each clip. Their pictures become those of ``fps``
            as any video's do before an encoder (:func:`~v2a_nb.models.video_encoders.frames.at_times`). None: ``fps``.
    """

    seconds: float = 2.56
    size: int = 64
    fps: float = 25.0
    sample_rate: int = 16000
    camera_rates: tuple[float, ...] = ()
    name: ClassVar[str] = "pictures-and-sound"

    def extract(self, recording: Recording, starts) -> dict[str, np.ndarray]:
        wave, samples = recording.wave(self.sample_rate), round(self.seconds * self.sample_rate)
        times = np.arange(round(self.seconds * self.fps)) / self.fps
        rates = recording.rng("camera-rates").choice(self.camera_rates or (self.fps,), len(starts))
        frames = [
            self._filmed(recording, s / self.sample_rate, times, float(rate))
            for s, rate in zip(starts, rates, strict=True)
        ]
        return {"frames": np.stack(frames), "sounds": np.stack([wave[s : s + samples] for s in starts])}

    def _filmed(self, recording: Recording, start_s: float, times: np.ndarray, rate: float) -> np.ndarray:
        """The pictures at ``start_s + times`` as they come out of a video of ``rate`` frames a second."""
        if rate == self.fps:
            return recording.frames(start_s, times, self.size, self.fps)
        shown = np.arange(int(np.ceil(times[-1] * rate)) + 1) / rate
        video = Clip(recording.frames(start_s, shown, self.size, rate), shown, rate, float(shown[-1] + 1 / rate))
        return at_times(video, times, self.fps)


@dataclass(frozen=True)
class VAuraFeatures:
    """What the stages read.

    Attributes:
        clips: ``frames``, ``sounds`` and ``mels`` for codec and encoder; None where those are there already.
        decoder_clips: ``frames`` and ``sounds`` of other clips, where there are others.
    """

    clips: Features | None
    decoder_clips: Features


class VAuraRecipe(Recipe):
    """V-AURA `tiny` from nothing: about three hours on one core and 24 GB of disk."""

    name = "vaura"
    TrainConfig = VAuraTrainConfig
    source = f"strike:seed=1000,version={BOTH}"
    ablations = ABLATIONS

    def features(self, recordings: Recordings, store: FeatureStore) -> VAuraFeatures:
        c = self.config
        extractor = PicturesAndSound(camera_rates=CAMERA_RATES if c.camera_rates else ())
        many = max(c.clips, c.event_crop_clips)

        def compute(clips: int, first: int) -> Features:
            cut = Cut(extractor.seconds, per_recording=2, recordings=-(-clips // 2), first=first)
            features = store.compute(cut_clips(recordings, cut), recordings, extractor)
            return features.where(slice(0, clips))

        if c.keep_encoder:
            return VAuraFeatures(None, compute(c.decoder_clips, UNSEEN))
        clips = compute(many, 0)
        mels = store.map(
            clips, "mels", lambda batch: {"mels": targets.log_mel(torch.from_numpy(batch["sounds"])).half().numpy()},
            ["sounds"], {}, batch_size=64,
        )  # fmt: skip
        return VAuraFeatures(clips.with_arrays(mels), compute(c.decoder_clips, many // 2))

    def stages(self, features: VAuraFeatures, store: FeatureStore, out: Path) -> Stages:
        c, seed, clips = self.config, self.seed, features.clips
        init = VAura.from_pretrained(c.init) if c.init else None
        before = None if init is None else init.encoder
        # 1. the codec, on sounds alone
        if init is None:
            codec = yield from codec_stages(clips.where(slice(0, c.clips))["sounds"], cycles=c.codec_cycles, seed=seed)
        else:
            codec = init.codec
        # 2. the video encoder
        if c.keep_encoder:
            encoder = before
            set_decision(encoder, undecided(encoder.config.event_crop))
        else:
            encoder = yield from self.encoder_stages(clips, out / "vision", before)
            set_decision(encoder, calibrated(encoder, features.decoder_clips, out / "vision"))
        # 3. the decoder, on features and codes of the weights that are shipped, which are fp16
        as_shipped(codec)
        as_shipped(encoder.eval())
        tokens = compute_tokens(store, features.decoder_clips, encoder, codec, LEVEL_BINS * c.levels)
        self.learned_from = {"clips": len(tokens["codes"]), "mismatched_share": 0.0}
        if "mismatched" in self.changes:
            tokens = self.noisy(store, features.decoder_clips, tokens)
        begun = None if init is None or self.ablation else init.decoder
        trained = yield self.decoder_stage(tokens, encoder, codec, begun)
        set_decision(encoder, replace(encoder.config.event_crop, logit_bias=LOGIT_BIAS, logit_scale=LOGIT_SCALE))
        return VAura(trained.decoder.cpu(), encoder, codec).eval()

    def save(self, model: VAura, out: Path, card: dict[str, object]) -> Path:
        """Write the system, its encoder with the windows of hits that it is sure of."""
        with suppress(UsageError):  # an encoder that is sure of none cannot follow given hits
            windows_of(model.encoder)
        return super().save(model, out, card)

    def encoder_stages(self, clips: Features, folder: Path, before: StrikeVision | None) -> Stages:
        """The video encoder and its event crops, from nothing or from the weights of another one.

        Args:
            folder: for what the event crops learn from.

        Returns:
            the encoder.
        """
        c, seed = self.config, self.seed
        some = clips.where(slice(0, c.clips))
        # on the flux and spectra of the clips' own sounds
        pretraining = yield pretraining_stage(
            some["frames"], some["mels"], steps=c.vision_steps, seed=seed, init=before
        )  # fmt: skip
        encoder = pretraining.encoder.eval()
        # where it expects a sound
        examples = gather_examples(encoder, clips["frames"], clips["mels"], folder)
        trained = yield event_crop_stage(
            encoder, clips["frames"], examples, steps=c.event_crop_steps, seed=seed,
            init=None if before is None else before.event_crop,
        )  # fmt: skip
        encoder.event_crop = trained.event_crop.eval()
        return encoder

    @property
    def changes(self) -> dict[str, Any]:
        """What the ablation changes."""
        return dict(self.ablations[self.ablation]) if self.ablation else {}

    def noisy(self, store: FeatureStore, clips: Features, tokens: Features) -> Features:
        """The tokens with foreign sounds for some, of which only clips are kept that are similar enough.

        Raises:
            UsageError: fewer clips are left than are in a batch.
        """
        sounds = foreign_sounds(clips.recording_ids, self.changes["mismatched"], self.seed)
        kept = np.ones(len(sounds), bool)
        tokens = replace(tokens, arrays={**tokens.arrays, "codes": tokens["codes"].where(sounds)})
        least = self.changes.get("similarity")
        if least is not None:
            vectors = compute_similarity(store, clips)
            kept = (vectors["pictures"][:] * vectors["sounds"][:][sounds]).sum(1) >= least
        if kept.sum() < self.config.batch_size:
            raise UsageError(
                f"{kept.sum()} of {len(kept)} clips have a similarity of {least} or more: a batch has "
                f"{self.config.batch_size}; give more clips, or --set batch_size=N"
            )
        foreign = sounds != np.arange(len(sounds))
        self.learned_from = {"clips": int(kept.sum()), "mismatched_share": round(float(foreign[kept].mean()), 4)}
        return tokens.where(kept)

    def card(self, model: VAura) -> dict[str, object]:
        begun = {"begun_at": self.config.init} if self.config.init else {}
        return begun | (self.learned_from if self.ablation else {})

    def decoder_stage(
        self, tokens: Features, encoder: StrikeVision, codec: TinyCodec, init: VAuraDecoder | None = None
    ) -> Stage:
        """The language model on codes and visual tokens, from nothing or from the weights of another one."""
        c, seed = self.config, self.seed
        clip = strike_world(seed=77, clips=1, size=64)[0].clip.silent()

        def eval_fn(step: int, module: DecoderTraining) -> dict[str, float | Sound]:
            """The sound of a clip that it is not trained on."""
            return {"sample": VAura(module.decoder, encoder, codec).generate(clip, seed=0)}

        config = PRESETS["tiny"]
        if c.levels:
            config = replace(config, num_codebooks=config.num_codebooks + 1, level_bins=LEVEL_BINS)
        if "conditioning" in self.changes:
            config = replace(config, conditioning=self.changes["conditioning"])
        torch.manual_seed(seed)
        module = DecoderTraining(VAuraDecoder(config))
        if init is not None:
            load_decoder(module.decoder, init)
        optim = OptimConfig(
            steps=c.steps, lr=1.5e-3 if init is None else 0.75e-3, warmup=150, weight_decay=3e-2, seed=seed
        )
        return Stage("", module, batches(tokens, c.batch_size, seed), optim, eval_fn, 200)


def load_decoder(decoder: VAuraDecoder, init: VAuraDecoder) -> None:
    """Put the weights of one decoder into another.

    Raises:
        UsageError: they have other sizes.
    """
    try:
        decoder.load_state_dict(init.state_dict())
    except RuntimeError as error:
        raise UsageError("init: this V-AURA's decoder has other sizes than the one that is trained") from error


def set_decision(encoder: StrikeVision, config: EventCropConfig) -> None:
    """Give the encoder's event crops other settings; sizes must stay."""
    encoder.config = replace(encoder.config, event_crop=config)
    encoder.event_crop.config = config


def gather_examples(encoder: StrikeVision, frames, mels, folder: Path) -> dict[str, np.ndarray]:
    """Calibrate the encoder's event crops and return its examples of all clips; both are kept in ``folder``."""
    aimed, path = folder / "aim.json", folder / "examples.npz"

    def work() -> None:
        if aimed.exists():
            return
        config = calibrate(encoder, frames)
        set_decision(encoder, config)
        examples = gather(encoder, frames, mels, 0, len(frames))
        with atomic(path) as partial, open(partial, "wb") as file:
            np.savez(file, **examples)
        write_text(aimed, json.dumps(asdict(config)) + "\n")

    once_per_machine(work)
    set_decision(encoder, EventCropConfig(**json.loads(aimed.read_text())))
    return dict(np.load(path))


def calibrated(encoder: StrikeVision, clips: Features, folder: Path) -> EventCropConfig:
    """Settings of the event crops whose probability is fitted on clips that they have not seen, kept in ``folder``."""
    path = folder / "calibration.json"

    def work() -> None:
        if path.exists():
            return
        some = clips.where(slice(0, CALIBRATION_CLIPS))
        frames, sounds = (
            np.stack([some[name][i] for i in range(len(some["sounds"]))]) for name in ("frames", "sounds")
        )
        mels = np.concatenate(
            [targets.log_mel(torch.from_numpy(part)).numpy() for part in np.array_split(sounds, -(-len(sounds) // 64))]
        )
        write_text(path, json.dumps(asdict(calibrate_contact(encoder, frames, mels))) + "\n")

    once_per_machine(work)
    return EventCropConfig(**json.loads(path.read_text()))


@torch.no_grad()
def compute_tokens(
    store: FeatureStore, clips: Features, encoder: StrikeVision, codec: TinyCodec, level_bins: int = 0
) -> Features:
    """Frozen features, predicted flux and codes of every clip.

    Args:
        level_bins: with these, the levels of the frames stand before the codes.

    Returns:
        ``visual`` float16 [N, 128, 384], ``flux`` float16 [N, 128], ``codes`` uint8 [N, 4 or 5, 128].
    """
    encoder.eval()

    def function(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        pictures = torch.from_numpy(batch["frames"]).permute(0, 1, 4, 2, 3).float() / 255
        with torch.no_grad():
            tokens, waves = encoder(pictures), torch.from_numpy(batch["sounds"])
            codes = codec.encode(waves)
            if level_bins:
                codes = torch.cat([levels_of(waves, codec.hop, level_bins)[:, None], codes], dim=1)
        return {
            "visual": tokens.half().numpy(), "flux": encoder.expected(tokens).half().numpy(),
            "codes": codes.numpy().astype(np.uint8),
        }  # fmt: skip

    revision = {"encoder": tag_of(encoder, "vision"), "codec": tag_of(codec, "codec")}
    if level_bins:
        revision["level_bins"] = str(level_bins)
    return store.map(clips, "tokens", function, ["frames", "sounds"], revision)


def foreign_sounds(recordings: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Which clip's sound each clip gets, int64 [N]: of a share of the recordings, that of another one of them.

    Args:
        recordings: a number for each clip's recording.
    """
    rng, sounds = np.random.default_rng([seed, 88]), np.arange(len(recordings))
    names = np.unique(recordings)
    chosen = rng.permutation(names)[: round(share * len(names))]
    if len(chosen) < 2:
        return sounds
    rows = {name: np.flatnonzero(recordings == name) for name in chosen.tolist()}
    for name, other in zip(chosen.tolist(), np.roll(chosen, 1).tolist(), strict=True):
        sounds[rows[name]] = np.resize(rows[other], len(rows[name]))
    return sounds


def compute_similarity(store: FeatureStore, clips: Features) -> Features:
    """Vectors of the shipped audio-visual embedding, float32 [N, 256]: ``pictures`` and ``sounds``, of length 1."""
    model = AudioVisualEmbedding.from_pretrained("av_sim")

    def function(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        pictures = [model.look(Clip(frames, fps=PicturesAndSound.fps)) for frames in batch["frames"]]
        sounds = [model.listen(Sound(wave, PicturesAndSound.sample_rate)) for wave in batch["sounds"]]
        return {"pictures": np.stack(pictures), "sounds": np.stack(sounds)}

    return store.map(clips, "similarity", function, ["frames", "sounds"], {"embedding": tag_of(model, "av-sim")})


def frame_weights(flux: Tensor) -> Tensor:
    """Weight of each frame in the loss, 1 to 5, from the *predicted* flux [B, T].

    It is held from one frame before to six after, since the material is in what follows a hit. Because it depends on
    the conditioning alone, it does not make the model fire more than the picture says, as weights at the true hits do.
    """
    padded = F.pad(flux[:, None], (6, 1))
    return 1 + 4 * F.max_pool1d(padded, 8, stride=1)[:, 0]


class DecoderTraining(nn.Module):
    """The decoder with its loss on visual tokens and codes; some clips lose their video."""

    def __init__(self, decoder: VAuraDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        drop = torch.rand(len(batch["codes"]), device=batch["codes"].device) < DROP_VIDEO
        weights = (LEVEL_WEIGHT,) * self.decoder.config.first_code + CODEBOOK_WEIGHTS
        return self.decoder.loss(
            batch["codes"], batch["visual"], frame_weights=frame_weights(batch["flux"]),
            codebook_weights=weights, drop=drop,
        )  # fmt: skip


def batches(tokens: Features, size: int, seed: int, noise: float = 0.3) -> BatchOf:
    """From a number to random clips; noise on the features, for each clip another one, stands in for unseen pictures.

    Args:
        noise: its greatest standard deviation; that of the features is about 1.
    """

    def batch_of(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([seed, step])
        which = np.sort(rng.integers(0, len(tokens["codes"]), size))
        visual = torch.from_numpy(tokens["visual"][which].astype(np.float32))
        scale = torch.from_numpy(rng.uniform(0, noise, (len(visual), 1, 1)).astype(np.float32))
        visual = visual + scale * torch.from_numpy(rng.standard_normal(visual.shape, dtype=np.float32))
        return {
            "codes": torch.from_numpy(tokens["codes"][which].astype(np.int64)),
            "visual": visual,
            "flux": torch.from_numpy(tokens["flux"][which].astype(np.float32)),
        }

    return batch_of
