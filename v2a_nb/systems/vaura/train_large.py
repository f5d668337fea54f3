"""Recipes of V-AURA ``small`` and ``paper``: the decoder alone, between a frozen video encoder and a frozen codec.

v2a-nb train vaura --preset paper --data csv:visualsound.csv --set encoder=FOLDER --out runs/paper

Both are run once over each clip, and their tokens and codes are kept in the feature store (about 53 kB a clip at the
published sizes), so that a step of training is one of the decoder. The released code runs the frozen tower at every
step, on another part of the video, cropped at random and mirrored half of the time. Here a video has
``clips_per_recording`` parts instead, with the middle of the pictures. Optimizer and schedule are the released ones:
AdamW, rates by MM1's rule, values of gradients clipped to 1, 1000 steps of warm-up and a cosine over 200,000 steps to a
tenth, of which the paper's 150 epochs are the first 121,000 or so.

Of several GPUs (``accelerate launch -m v2a_nb train ...``) each has batches of its own: on the paper's six give
``--set accumulation=1``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from v2a_nb.clip import Clip
from v2a_nb.data.dataset import Cut, cut_clips
from v2a_nb.data.features import Extractor, Features, FeatureStore
from v2a_nb.data.recordings import Recording, Recordings
from v2a_nb.hub import tag_of
from v2a_nb.models.codec import DacCodec, load_codec
from v2a_nb.models.video_encoders.registry import load_video_encoder
from v2a_nb.parallel import training_processes
from v2a_nb.systems.vaura.system import PRESETS, VAura, VAuraConfig, VAuraDecoder
from v2a_nb.training.loop import BatchOf, OptimConfig
from v2a_nb.training.memory import lines_of, memory_of
from v2a_nb.training.recipe import Recipe, Stage, Stages, TrainConfig, or_zero, scaling

DROP_VIDEO = 0.1
"""Share of clips whose video is replaced by the null (section III-C)."""
SECONDS, FPS = 2.56, 25.0
"""Seconds, and frames a second, of a clip (section V-B)."""


@dataclass(frozen=True)
class LargeTrainConfig(TrainConfig):
    """How much of everything; the defaults are the paper's.

    Attributes:
        steps: of the schedule; training ends sooner where ``patience`` says so.
        clips: of all recordings, of which each has ``clips_per_recording``.
        held_out: recordings that validation is on, at most an eighth of those that there are.
        batch_size: clips of a batch; with ``accumulation``, of 96 a step as on the paper's six GPUs.
        encoder: a name of :data:`v2a_nb.models.video_encoders.registry.ENCODERS`, a folder, or a Hub id.
        encoder_rate: tokens a second, where the encoder lets one choose; 0: its own.
        codec: as :func:`~v2a_nb.models.codec.load_codec` knows it.
        size: pixels of the short side of the pictures that the encoder is given.
        code_init: how code embeddings start, see :class:`~v2a_nb.systems.vaura.model.VAuraConfig`. The released code
            means ``"codec"`` and does ``"released"``.
        lr: the peak rate; 0: by MM1's rule for the decoder's size, exp(-0.4214 ln N - 0.5535), 1.08e-4 for ``paper``.
        patience: epochs without a smaller validation loss after which training ends, with the weights of the smallest;
            0: all steps are trained.
        bf16: compute in bfloat16 where the device has it.
    """

    steps: int = scaling(200_000)
    accumulation: int = 6
    clips: int = 342_488
    clips_per_recording: int = 4
    held_out: int = 8_357
    batch_size: int = 16
    encoder: str = "segment_avclip"
    encoder_rate: float = 0.0
    codec: str = "dac-44khz"
    size: int = 256
    code_init: str = "codec"
    lr: float = 0.0
    warmup: int = 1000
    patience: int = or_zero(13)
    bf16: bool = True


@dataclass(frozen=True)
class SmallTrainConfig(LargeTrainConfig):
    """The same for one GPU of 16 GB and hours instead of days."""

    steps: int = scaling(30_000)
    accumulation: int = 2
    clips: int = 20_000
    held_out: int = 500
    batch_size: int = 32
    encoder: str = "clip"
    encoder_rate: float = 12.5


@dataclass(frozen=True)
class VisualTokensAndCodes(Extractor):
    """Tokens of a frozen video encoder and codes of a frozen codec.

    ``visual`` float16 [n, Tv, D] are of pictures at 25 a second, ``codes`` uint16 [n, K, T] of the sound.

    Attributes:
        encoder, codec: as :class:`LargeTrainConfig` has them.
        encoder_tag, codec_tag: of their weights, which the values hang on.
        frames: T.
    """

    encoder: str
    encoder_rate: float
    codec: str
    encoder_tag: str
    codec_tag: str
    frames: int
    size: int
    name: ClassVar[str] = "visual-tokens-and-codes"

    def revision(self) -> dict:
        named = {"encoder": self.encoder_tag, "codec": self.codec_tag}
        return {**named, "rate": self.encoder_rate, "frames": self.frames, "size": self.size, "seconds": SECONDS}

    def extract(self, recording: Recording, starts: Sequence[int]) -> dict[str, np.ndarray]:
        encoder, codec = networks(self.encoder, self.encoder_rate, self.codec)
        wave, samples = recording.wave(codec.sample_rate), self.frames * codec.hop
        times = np.arange(round(SECONDS * FPS)) / FPS
        visual, codes = [], []
        for start in starts:
            start_s = start / 16000
            clip = Clip(recording.frames(start_s, times, self.size, FPS), fps=FPS)
            visual.append(encoder.features(clip).cpu().half().numpy())
            first = round(start_s * codec.sample_rate)
            part = np.pad(wave[first : first + samples], (0, max(0, first + samples - len(wave))))
            codes.append(codec.encode(torch.from_numpy(part.astype(np.float32))[None])[0].cpu().numpy())
        return {"visual": np.stack(visual), "codes": np.stack(codes).astype(np.uint16)}


@lru_cache(maxsize=1)
def networks(encoder: str, rate: float, codec: str) -> tuple[Any, Any]:
    """Encoder and codec, loaded once in each process, on a GPU where there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return load_video_encoder(encoder, rate or None).to(device), load_codec(codec).to(device)


class LargeRecipe(Recipe):
    """V-AURA of any size, on any registered video encoder and codec.

    Args:
        model: sizes; left out, those of the preset. What hangs on encoder and codec (channels, rates, codebooks) is
            theirs, whatever it says.

    Raises:
        WeightsError: there is no such encoder or codec.
    """

    name = "vaura"
    template = None
    config: LargeTrainConfig

    def __init__(self, config: TrainConfig | None = None, *, model: VAuraConfig | None = None, **options: Any) -> None:
        super().__init__(config, **options)
        self.sizes = model or PRESETS[self.preset]

    def model(self) -> VAuraConfig:
        """Sizes of the decoder, with those that encoder and codec have."""
        c = self.config
        encoder, codec = networks(c.encoder, c.encoder_rate, c.codec)
        return replace(
            self.sizes, visual_dim=encoder.dim, visual_rate=str(Fraction(encoder.rate)),
            frame_rate=str(Fraction(codec.sample_rate, codec.hop)), num_codebooks=codec.num_codebooks,
            codebook_size=codec.codebook_size, context_frames=math.ceil(SECONDS * codec.sample_rate / codec.hop),
            code_init=c.code_init if isinstance(codec, DacCodec) else "random",
        )  # fmt: skip

    def settings(self) -> dict[str, object]:
        encoder, codec = networks(self.config.encoder, self.config.encoder_rate, self.config.codec)
        return {"model": asdict(self.model()), "encoder": tag_of(encoder, "vision"), "codec": tag_of(codec, "codec")}

    def features(self, recordings: Recordings, store: FeatureStore) -> Features:
        c, model = self.config, self.model()
        encoder, codec = networks(c.encoder, c.encoder_rate, c.codec)
        cut = Cut(SECONDS, per_recording=c.clips_per_recording, recordings=-(-c.clips // c.clips_per_recording))
        extractor = VisualTokensAndCodes(
            c.encoder, c.encoder_rate, c.codec, tag_of(encoder, "vision"), tag_of(codec, "codec"),
            model.context_frames, c.size,
        )  # fmt: skip
        if torch.cuda.is_available():  # one process uses a GPU best, and the networks are there already
            store = FeatureStore(store.root, workers=1)
        return store.compute(cut_clips(recordings, cut), recordings, extractor)

    def stages(self, features: Features, store: FeatureStore, out: Path) -> Stages:
        c = self.config
        encoder, codec = networks(c.encoder, c.encoder_rate, c.codec)
        trained = yield self.decoder_stage(features, codec)
        return VAura(trained.decoder.cpu(), encoder.cpu(), codec.cpu()).eval()

    def decoder_stage(self, features: Features, codec: Any) -> Stage:
        """The language model, validated once an epoch on recordings that it does not learn from."""
        c = self.config
        clips, unseen = features.split(c.held_out, -(-c.clips // c.clips_per_recording))
        torch.manual_seed(self.seed)
        decoder = VAuraDecoder(self.model())
        if decoder.config.code_init != "random":
            decoder.init_codes(codec.model.quantizer.quantizers)
        module = DecoderTraining(decoder)
        a_step = c.batch_size * c.accumulation * training_processes().num_processes

        def eval_fn(step: int, module: DecoderTraining) -> dict[str, float]:
            return {"val_loss": round(validation_loss(module, unseen, c.batch_size), 5)}

        return Stage(
            "", module, batches(clips, c.batch_size, self.seed), self.optim(module.decoder), eval_fn,
            -(-len(clips) // a_step), c.patience,
        )  # fmt: skip

    def optim(self, decoder: nn.Module) -> OptimConfig:
        """The released optimizer and schedule for a decoder; its weight decay is a tenth of its rate."""
        c = self.config
        lr = c.lr or rate_of(sum(p.numel() for p in decoder.parameters()))
        return OptimConfig(
            steps=c.steps, lr=lr, warmup=c.warmup, weight_decay=lr / 10, betas=(0.9, 0.95), clip_value=1.0,
            final_lr=0.1, seed=self.seed, bf16=c.bf16, save_every=500,
        )  # fmt: skip

    def dry_run(self) -> list[str]:
        s, b = self.sizes, self.config.batch_size
        with torch.device("meta"):
            decoder = VAuraDecoder(s)
            codes = torch.zeros(b, s.num_codebooks, s.context_frames, dtype=torch.long)
            visual = torch.zeros(b, decoder.tokens_of(s.context_frames), s.visual_dim)

            def run(x: Tensor) -> Tensor:
                """The Llama without its look at the values of positions, which have none here."""
                llama = decoder.backbone
                turned = llama.rotary_emb(x, torch.arange(x.shape[1])[None])
                for layer in llama.layers:
                    x = layer(x, attention_mask=None, position_embeddings=turned)
                return llama.norm(x)

            decoder.run = run
            memory = memory_of(decoder, lambda network: network.loss(codes, visual.to(network.heads.weight))["loss"])
        optim = self.optim(decoder)
        return [
            *super().dry_run(),
            f"lr: {optim.lr:.4g}; weight decay: {optim.weight_decay:.4g}",
            *lines_of(memory, b),
        ]

    def save(self, model: VAura, out: Path, card: dict[str, object]) -> Path:
        """Write the decoder; an encoder or codec with a name of its own is referred to, one of a folder is copied."""
        c = self.config
        named = {"vision": c.encoder, "codec": c.codec}
        parts = {name: where for name, where in named.items() if not Path(where).expanduser().is_dir()}
        return model.save_pretrained(self.folder(out) / "weights", **parts, **card)


class VAuraPaperRecipe(LargeRecipe):
    """V-AURA at the published size, 694 M parameters."""

    preset, TrainConfig = "paper", LargeTrainConfig


class VAuraSmallRecipe(LargeRecipe):
    """V-AURA with 12 layers of width 768."""

    preset, TrainConfig = "small", SmallTrainConfig


def rate_of(parameters: int) -> float:
    """MM1's peak rate for a network of that size, which V-AURA trains with (section V-B)."""
    return math.exp(-0.4214 * math.log(parameters) - 0.5535)


class DecoderTraining(nn.Module):
    """The decoder with its loss, the mean over all codes; some clips lose their video."""

    def __init__(self, decoder: VAuraDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        drop = torch.rand(len(batch["codes"]), device=batch["codes"].device) < DROP_VIDEO
        return self.decoder.loss(batch["codes"], batch["visual"], drop=drop if self.training else None)


def batches(clips: Features, size: int, seed: int) -> BatchOf:
    """From a number to random clips."""

    def batch_of(number: int) -> dict[str, Tensor]:
        return rows(clips, np.sort(np.random.default_rng([seed, number]).integers(0, len(clips), size)))

    return batch_of


def rows(clips: Features, which: np.ndarray | slice) -> dict[str, Tensor]:
    """``codes`` int64 [n, K, T] and ``visual`` float32 [n, Tv, D] of some clips."""
    return {
        "codes": torch.from_numpy(clips["codes"][which].astype(np.int64)),
        "visual": torch.from_numpy(clips["visual"][which].astype(np.float32)),
    }


def validation_loss(module: DecoderTraining, unseen: Features, size: int) -> float:
    """Mean loss over all clips, with their video."""
    device, total = module.decoder.heads.weight.device, 0.0
    for first in range(0, len(unseen), size):
        batch = {k: v.to(device) for k, v in rows(unseen, slice(first, first + size)).items()}
        total += float(module(batch)["loss"]) * len(batch["codes"])
    return total / len(unseen)
