"""Recipe of the vocoder: HiFi-GAN on Strike World, first on spectra alone, then against discriminators.

One command goes from nothing to weights, another scores weights beside Griffin-Lim::

    python -m v2a_nb.training.recipes.vocoder --out runs/vocoder
    python -m v2a_nb.training.recipes.vocoder --score vocoder

| in the folder | what |
|---|---|
| ``cache/`` | sounds of the world, 0.25 MB a recording |
| ``spectral/`` | log, state and samples of the first stage |
| ``log.jsonl``, ``state/``, ``samples/`` | of the second |
| ``weights/`` | the vocoder with its card |

Action2Sound trains HiFi-GAN on segments of 0.5 s for 120 000 steps of 64 (section 4.1). On one core there is time
for a few thousand of 16, and a generator that starts at noise would spend most of them learning what spectra alone
teach sooner: hence two stages.

HiFi-GAN steps its two optimizers in turn. Both have the same settings, and here the losses of both sides are
taken at the same weights and reach only their own (see ``Discriminators.frozen``), so one optimizer steps both and
the loop of all other recipes serves.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from v2a_nb.audio.match_mels import match_mels
from v2a_nb.audio.onsets import detect_onsets
from v2a_nb.audio.spectrogram import LogScale, Spectrogram
from v2a_nb.clip import Sound
from v2a_nb.data.latent_dataset import BatchOf, write_json
from v2a_nb.errors import UsageError, V2AError
from v2a_nb.hub import as_shipped
from v2a_nb.models import discriminators as critics
from v2a_nb.models.codec_report import log10_mel, pooled_f1
from v2a_nb.models.discriminators import DiscriminatorConfig, Discriminators
from v2a_nb.models.vocoder import Vocoder, VocoderConfig
from v2a_nb.scores.vocoder import (
    CLIP_SECONDS,
    TEST_CLIPS,
    TEST_SEED,
    card_text,
    embedding,
    score_vocoder,
    table,
)
from v2a_nb.training.loop import OptimConfig, fit
from v2a_nb.training.recipe import check_same_run
from v2a_nb.training.recipes.codec import SpectralLoss
from v2a_nb.world import sound as world_sound
from v2a_nb.world import sounds
from v2a_nb.world.recording import draw

SECONDS = 8.0
"""Kept of each recording."""
FRAMES, MARGIN = 32, 4
"""Of a training segment: 8192 samples, 0.512 s; and those that are made on either side where mels are matched, because
the first and the last windows of a match see nothing beyond."""
MATCHED = 4
"""Times that mels are matched while training: enough to teach, and a quarter of what the finished vocoder takes."""
WATCH_SEED, WATCHED, WATCH_EVERY = 1500, 16, 250
SPECTRAL_WEIGHT, FEATURE_WEIGHT = 45.0, 2.0
"""HiFi-GAN's (section 2.3); the adversarial loss counts once."""


@dataclass(frozen=True)
class TrainConfig:
    """How much of everything.

    Attributes:
        recordings: of the world.
        spectral_steps: of the first stage.
        steps: of the second.
        batch_size: segments.
        test_clips: of 3 s, scored at the end; two or more, for there to be an interval.
        data_seed: of the world.

    Raises:
        UsageError: a part that is empty.
    """

    recordings: int = 1500
    spectral_steps: int = 3000
    steps: int = 2400
    batch_size: int = 16
    test_clips: int = TEST_CLIPS
    data_seed: int = 1000

    def __post_init__(self) -> None:
        for name in ("recordings", "spectral_steps", "steps", "batch_size", "test_clips"):
            least = 2 if name == "test_clips" else 1
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}: at least {least} is needed")

    def scaled(self, share: float) -> TrainConfig:
        """The same proportions with fewer steps, recordings and test clips (for tests and notebooks)."""
        scaled = ("recordings", "spectral_steps", "steps", "test_clips")
        return replace(self, **{k: max(4, int(getattr(self, k) * share)) for k in scaled})


class VocoderTraining(nn.Module):
    """The vocoder with its losses, and with the discriminators where there are some.

    These hear what users will hear, which is the wave after its mels were matched
    (:func:`~v2a_nb.audio.match_mels.match_mels`): the generator need not learn an envelope that it will be given, and
    spends itself on what is left.

    Args:
        vocoder: to train.
        judges: left out, spectra are all that counts, those of the generator alone.
    """

    def __init__(self, vocoder: Vocoder, judges: Discriminators | None = None) -> None:
        super().__init__()
        self.vocoder, self.judges = vocoder, judges
        self.spectral = SpectralLoss(vocoder.sample_rate)
        # natural logs, as HiFi-GAN has them, whatever scale the vocoder itself reads
        self.mels = Spectrogram(replace(vocoder.spectrogram.front_end, scale=LogScale()))

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of ``spectrogram`` [B, F, T] and ``wave`` [B, n], whose samples are those in the middle of T * hop."""
        true = batch["wave"]
        made = self.vocoder(batch["spectrogram"])
        if self.judges is not None and self.vocoder.config.match:
            with torch.autocast(true.device.type, enabled=False):
                times = min(MATCHED, self.vocoder.config.match)
                made = match_mels(made.float(), batch["spectrogram"], self.vocoder.spectrogram, times)
        before = (made.shape[-1] - true.shape[-1]) // 2
        made = made[:, before : before + true.shape[-1]]
        losses = self.spectral_losses(made, true)
        whole = losses["mel"] + losses["spectral"] + losses["transport"]
        if self.judges is None:
            return {"loss": whole, **losses}
        losses |= self.discriminator_losses(made, true)
        own = SPECTRAL_WEIGHT * whole + FEATURE_WEIGHT * losses["feature"] + losses["generator"]
        return {"loss": own + losses["discriminator"], **losses}

    def spectral_losses(self, made: Tensor, true: Tensor) -> dict[str, Tensor]:
        """``mel``, ``spectral`` and ``transport`` of waves [B, n], in float32 whatever made them.

        The first is HiFi-GAN's, L1 between natural logs of mels; the others, :class:`SpectralLoss` at five
        resolutions, see onsets and pitch that one window of 64 ms does not.
        """
        with torch.autocast(true.device.type, enabled=False):
            made = made.float()
            mel = (self.mels(made) - self.mels(true)).abs().mean()
            spectral, _, transport = self.spectral(made, true)
        return {"mel": mel, "spectral": spectral, "transport": transport}

    def discriminator_losses(self, made: Tensor, true: Tensor) -> dict[str, Tensor]:
        """``discriminator``, with gradients to the discriminators alone, and ``generator`` and ``feature``, with
        gradients to what made ``made`` alone."""
        on_true, on_made = critics.judge_both(self.judges, true, made)
        fooled = self.judges.frozen(made)
        return {
            "discriminator": critics.discriminator_loss(on_true, on_made),
            "generator": critics.generator_loss(fooled),
            "feature": critics.feature_loss(on_true, fooled),
        }


@torch.no_grad()
def start(vocoder: Vocoder, waves: np.ndarray) -> None:
    """Weights under which the signal keeps its size through narrow layers, and the bands' means and spreads.

    ``transformers``' own, normal with a spread of 0.01, let it die out. The blocks start near doing nothing.

    Args:
        waves: [N, n] at the vocoder's rate; at most 128 of them are heard.
    """
    for name, layer in vocoder.model.named_modules():
        if isinstance(layer, nn.Conv1d):
            nn.init.kaiming_normal_(layer.weight, a=vocoder.model.config.leaky_relu_slope)
            layer.weight.mul_(0.2 if "convs2" in name else 0.1 if name == "conv_post" else 1.0)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.ConvTranspose1d):
            heard = layer.in_channels * layer.kernel_size[0] / layer.stride[0]  # inputs of one output
            nn.init.normal_(layer.weight, 0.0, math.sqrt(2 / heard))
            nn.init.zeros_(layer.bias)
    if vocoder.config.normalize:
        few = np.asarray(waves[:: max(1, len(waves) // 128)][:128], np.float32)
        vocoder.calibrate(vocoder.spectrogram(torch.from_numpy(few)))


def gather_waves(folder: str | Path, recordings: int, seed: int, sample_rate: int = 16000) -> np.ndarray:
    """One window of 8 s of each recording, float16 [N, n]; rendered once (0.03 s each) and kept in ``folder``.

    Raises:
        UsageError: ``folder`` holds other sounds.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path, about = folder / "waves.npy", folder / "waves.json"
    told = {"seed": seed, "recordings": recordings, "seconds": SECONDS, "sample_rate": sample_rate}
    if about.exists():
        if json.loads(about.read_text()) != told:
            raise UsageError(f"{folder} holds other sounds: {about.read_text().strip()}; give another folder")
        return np.load(path, mmap_mode="r")
    n = round(SECONDS * sample_rate)
    waves = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(recordings, n))
    for index, row in enumerate(waves):
        recording = draw(seed, index)
        mix = world_sound.render(recording, sample_rate)["mix"]
        begin = int(recording.rng("vocoder").integers(0, len(mix) - n))
        row[:] = mix[begin : begin + n]
    waves.flush()
    write_json(about, told)  # last: what has it is whole
    return np.load(path, mmap_mode="r")


def batches(
    waves: np.ndarray, front: Spectrogram, size: int, seed: int, frames: int = FRAMES, more: int = 0
) -> BatchOf:
    """From a step to random segments of ``waves`` [N, n], at a random gain of -9 to +3 dB, with their spectrograms.

    A segment's spectrogram is cut out of a longer one, so that its first and last frames are like all others; it has
    ``more`` frames on either side than the segment.
    """
    f = front.front_end
    margin = -(-f.n_fft // f.hop) + more  # frames whose windows a cut could reach
    length = (frames + 2 * margin) * f.hop

    def batch_of(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([seed, step])
        out = np.empty((size, length), np.float32)
        for row in out:
            wave = waves[rng.integers(len(waves))]
            begin = rng.integers(0, len(wave) - length + 1)
            row[:] = wave[begin : begin + length] * np.float32(10 ** (rng.uniform(-9, 3) / 20))
        wave = torch.from_numpy(out).clamp(-1, 1)
        return {
            "spectrogram": front(wave)[..., margin - more : margin + frames + more],
            "wave": wave[:, margin * f.hop : (margin + frames) * f.hop],
        }

    return batch_of


def train_vocoder(
    out: str | Path,
    *,
    budget: TrainConfig | None = None,
    seed: int = 0,
    config: VocoderConfig | None = None,
    judges: DiscriminatorConfig | None = None,
    data: str | Path | None = None,
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> Path:
    """Everything, from nothing to ``out/weights`` with its card.

    Args:
        out: folder.
        budget: left out, the defaults.
        seed: of initialisation and batches.
        config, judges: sizes; left out, ``tiny``.
        data: folder of the rendered sounds; left out, ``out/cache``.
        resume: go on with what ``out`` holds.

    Raises:
        V2AError: ``out`` holds a run and ``resume`` is not set, or one that was made otherwise.
    """
    out, budget = Path(out), budget or TrainConfig()
    torch.manual_seed(seed)
    vocoder = Vocoder(config)
    judging = Discriminators(judges)
    told = {"seed": seed, "config": asdict(vocoder.config), "judges": asdict(judging.config), **asdict(budget)}
    if (out / "run.json").exists() and not resume:
        raise V2AError(f"{out} holds a run already; give --resume, or another --out")
    out.mkdir(parents=True, exist_ok=True)
    check_same_run(out / "run.json", told)
    say(f"world: {budget.recordings} recordings, seed {budget.data_seed}")
    waves = gather_waves(data or out / "cache", budget.recordings, budget.data_seed, vocoder.sample_rate)
    start(vocoder, waves)
    eval_fn = held_out_eval(vocoder)
    say(f"spectra: {budget.spectral_steps} steps")
    common = {"weight_decay": 1e-3, "betas": (0.8, 0.99), "bf16": True}
    plan = OptimConfig(steps=budget.spectral_steps, lr=1e-3, warmup=50, seed=seed, **common)
    batch_of = batches(waves, vocoder.spectrogram, budget.batch_size, seed)
    how = {"resume": resume, "eval_fn": eval_fn, "eval_every": WATCH_EVERY}
    vocoder = fit(VocoderTraining(vocoder), batch_of, plan, out / "spectral", **how).vocoder
    say(f"discriminators: {budget.steps} steps")
    # no clipping: a norm over both sides would let the one's size set the other's step
    plan = OptimConfig(steps=budget.steps, lr=4e-4, warmup=50, clip_norm=1e6, seed=seed + 1, **common)
    more = MARGIN if vocoder.config.match else 0
    batch_of = batches(waves, vocoder.spectrogram, budget.batch_size, seed + 1, more=more)
    vocoder = fit(VocoderTraining(vocoder, judging), batch_of, plan, out, **how).vocoder.cpu()
    as_shipped(vocoder)
    say(f"scores: {budget.test_clips} clips, seed {TEST_SEED}")
    rows = score_vocoder(vocoder, clips=budget.test_clips, embed=embedding())
    card = {"preset": "tiny", "data": "Strike World", "data_seed": budget.data_seed, "seed": seed}
    card |= {"steps": budget.spectral_steps + budget.steps, "budget": asdict(budget), "judges": asdict(judging.config)}
    card["matched"] = min(MATCHED, vocoder.config.match)
    card |= {"versions": {"torch": torch.__version__.split("+")[0]}, "test_seed": TEST_SEED}
    card["scores"] = [{k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()} for row in rows]
    folder = vocoder.save_pretrained(out / "weights", **card)
    partial = folder / "README.md.part"
    partial.write_text(card_text(vocoder, card))
    os.replace(partial, folder / "README.md")
    say(table(card["scores"]))
    return folder


def held_out_eval(vocoder: Vocoder) -> Callable[[int, nn.Module], dict[str, float | Sound]]:
    """Mel distance, and onsets against those of the true sounds, on recordings that are not trained on."""
    rate = vocoder.sample_rate
    true = torch.from_numpy(sounds(WATCH_SEED, WATCHED, seconds=CLIP_SECONDS, sample_rate=rate, per_recording=1))
    seen, mel = vocoder.spectrogram(true), log10_mel(true, rate)
    onsets = [detect_onsets(Sound(w.numpy(), rate)) for w in true]

    def eval_fn(step: int, module: VocoderTraining) -> dict[str, float | Sound]:
        made = torch.cat([module.vocoder.decode(part, true.shape[-1]).cpu() for part in seen.split(4)])
        heard = [Sound(w.numpy(), rate) for w in made]
        return {
            "held_out_mel": round(float((log10_mel(made, rate) - mel).abs().mean()), 5),
            "onset_f1_50ms": round(pooled_f1(onsets, [detect_onsets(sound) for sound in heard]), 4),
            "sample": heard[0],
        }

    return eval_fn


def main(argv: Sequence[str] | None = None, say: Callable[[str], None] = print) -> int:
    """The commands at the top of this file; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m v2a_nb.training.recipes.vocoder", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--out", default="runs/vocoder", help="folder (default: %(default)s)")
    parser.add_argument("--data", help="folder of the rendered sounds (default: OUT/cache)")
    parser.add_argument("--seed", type=int, default=0, help="of initialisation and batches")
    parser.add_argument("--resume", action="store_true", help="go on with what --out holds")
    parser.add_argument("--score", metavar="WEIGHTS", help="only score these weights, a name or a folder")
    for field in fields(TrainConfig):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=int, default=field.default)
    args = parser.parse_args(argv)
    try:
        budget = TrainConfig(**{field.name: getattr(args, field.name) for field in fields(TrainConfig)})
        if args.score:
            vocoder = Vocoder.from_pretrained(args.score)
            say(table(score_vocoder(vocoder, clips=budget.test_clips, embed=embedding())))
            return 0
        say(str(train_vocoder(args.out, budget=budget, seed=args.seed, data=args.data, resume=args.resume, say=say)))
    except V2AError as error:
        print(f"v2a-nb: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
