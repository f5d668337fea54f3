"""Recipe of EgoSonics on Strike World: autoencoder, base, video to text, SyncroNet.

One command goes from nothing to weights, another trains an ablation on the same first stages::

    v2a-nb train egosonics --preset tiny --out runs/egosonics
    python -m v2a_nb.systems.egosonics.train --out runs/egosonics --ablation fps4

Each stage leaves its result in the folder and is skipped when it is there, so ``--resume`` goes on with whatever
was interrupted:

| in the folder | what | GB |
|---|---|---|
| ``cache/sounds``, ``cache/videos`` | clips, see :mod:`v2a_nb.data.latent_dataset` | 1.8 |
| ``latents/`` | of all clips, by the trained autoencoder | 0.2 |
| ``autoencoder/``, ``base/``, ``text/`` | logs and states of the first stages | 0.2 |
| ``log.jsonl``, ``state/``, ``samples/`` | of SyncroNet | 0.1 |
| ``weights/``, ``egosonics_base/``, ``vaura/vision/`` | the system, which refers to the other two as its neighbours, \
just as the shipped folders lie | 0.03 |
| ``ablations/NAME/`` | SyncroNet once more, with its own ``weights/`` | 0.1 |

A recipe for pictures that are resized would train the super-resolution network, too; those of ``tiny`` are not,
and there is nothing that it could undo.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from v2a_nb.audio.onsets import detect_onsets
from v2a_nb.clip import Sound
from v2a_nb.data.latent_dataset import PER_RECORDING, SECONDS, BatchOf, LatentDataset, batches, compute_latent_dataset
from v2a_nb.errors import UsageError, V2AError
from v2a_nb.hub import SHIPPED, as_shipped, find_weights, save_weights, tag_of
from v2a_nb.models.autoencoder import AutoencoderConfig, ImageAutoencoder
from v2a_nb.models.codec_report import pooled_f1
from v2a_nb.models.video_encoders.strike import StrikeVision
from v2a_nb.sampling.diffusion import classifier_free_guidance, sample, use_of_video
from v2a_nb.systems.egosonics.model import AUTOENCODER_OF
from v2a_nb.systems.egosonics.system import PRESETS, EgoSonics, EgoSonicsConfig
from v2a_nb.training.loop import OptimConfig, fit
from v2a_nb.training.recipe import check_same_run, write_readme
from v2a_nb.training.recipes.autoencoder import cache_latents, train_autoencoder

SHIPPED_ENCODER = SHIPPED / "vaura" / "vision"
VIDEO_FIRST = 20000
"""SyncroNet's clips are of recordings from here on, which V-AURA's recipe and so the encoder never saw: features
of clips that it was trained on are surer than they ever are on others, and SyncroNet would trust them too much."""
NULL_SHARE = 0.1
LISTEN_EVERY, LISTENED = 200, 8
ABLATIONS: dict[str, dict[str, object]] = {
    "fps4": {"fps": 4.0},
    "fps15": {"fps": 15.0},
    "fps30": {"fps": 30.0},
    "no_cross_attention": {"no_cross_attention": True},
}
"""SyncroNets that the paper compares (section 4.3, table 3), each by what differs in the configuration.

Strike World has 25 frames a second: under ``fps30`` nothing differs, and it is trained to be compared with."""

BASE_CARD = """# EgoSonics `{preset}`: its frozen base

A small latent diffusion model of {data} spectrograms under one-line narrations: what Stable Diffusion is to
EgoSonics. It has never seen a video. `egosonics` refers to it; by itself it generates nothing. fp16 safetensors, MIT
licence.

Trained by `v2a-nb train egosonics` on sounds of {data} seed {data_seed}, {steps} steps, training seed {seed}.
Held-out loss {held_out} (mean squared error of v; 1 is what knowing nothing costs). Its scores stand in the card of
the system.
"""


@dataclass(frozen=True)
class TrainConfig:
    """How much of everything; the defaults take about two hours of one core.

    Attributes:
        sound_recordings: of which the autoencoder and the base hear four clips each.
        video_recordings: of which the MLP and SyncroNet see four clips each.
        held_out: recordings of both that are never trained on.
        autoencoder_steps, base_steps, text_steps, steps: the last are SyncroNet's.
        batch_size: clips.
        data_seed: of the world.

    Raises:
        UsageError: nothing is left to train on, or a stage without a step.
    """

    sound_recordings: int = 2000
    video_recordings: int = 1250
    held_out: int = 16
    autoencoder_steps: int = 3500
    base_steps: int = 2400
    text_steps: int = 1000
    steps: int = 2400
    batch_size: int = 16
    data_seed: int = 1000

    def __post_init__(self) -> None:
        for name in ("autoencoder_steps", "base_steps", "text_steps", "steps", "batch_size"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}: at least 1 is needed")
        if not 2 <= self.held_out < min(self.sound_recordings, self.video_recordings):
            raise UsageError(
                f"{self.held_out} of {self.sound_recordings} and {self.video_recordings} recordings cannot be held "
                "out: at least 2, and some must be left"
            )
        if self.sound_recordings > VIDEO_FIRST:
            raise UsageError(f"at most {VIDEO_FIRST} recordings can be heard: SyncroNet's come after them")

    def scaled(self, share: float) -> TrainConfig:
        """The same proportions with fewer steps and clips (for tests and notebooks)."""
        kept = ("held_out", "batch_size", "data_seed")
        made = {f.name: max(4, int(getattr(self, f.name) * share)) for f in fields(self) if f.name not in kept}
        made["held_out"] = min(self.held_out, max(2, made["video_recordings"] // 8))
        return replace(self, **made)


class Stage(nn.Module):
    """The system with the loss of one of its later stages; all that is not trained in it is frozen.

    Args:
        system: EgoSonics.
        name: ``"base"``, ``"text"`` or ``"syncronet"``.
    """

    def __init__(self, system: EgoSonics, name: str) -> None:
        super().__init__()
        self.system, self.name = system, name
        system.stage(name)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.name == "text":
            return self.system.loss_text(batch["vectors"], self.system.words(batch["ids"]))
        latents = batch["latents"]
        drop = torch.rand(len(latents), device=latents.device) < NULL_SHARE
        if self.name == "base":
            return {"loss": self.system.loss_base(latents, self.system.words(batch["ids"]), drop)["loss"]}
        return {"loss": self.system.loss(latents, batch["vectors"], drop)["loss"]}


# --- base, text and SyncroNet -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Data:
    """What a stage after the autoencoder reads of its clips; the last ``held`` are not trained on."""

    scenes: LatentDataset
    latents: np.ndarray
    ids: Tensor
    held: int

    @property
    def n(self) -> int:
        """Clips that are trained on."""
        return len(self.scenes) - self.held

    def batches(self, names: Sequence[str], budget: TrainConfig, seed: int, stage: int) -> BatchOf:
        arrays = {"latents": self.latents, "ids": self.ids.numpy(), "vectors": self.scenes.vectors}
        return batches({name: arrays[name] for name in names}, self.n, budget.batch_size, seed, stage)

    def kept(self, system: EgoSonics, many: int = 16) -> dict[str, Tensor]:
        """Clips that are not trained on, each of another recording than its neighbour."""
        which = self.n + np.argsort(np.arange(self.held) % PER_RECORDING, kind="stable")[:many]
        arrays = {"latents": self.latents, "ids": self.ids.numpy(), "vectors": self.scenes.vectors}
        made = {k: torch.from_numpy(v[which]) for k, v in arrays.items() if v is not None}
        made = {k: (v if k == "ids" else v.float()).to(system.device) for k, v in made.items()}
        return made | {"which": torch.from_numpy(which)}


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def train_base(system: EgoSonics, data: _Data, folder: Path, budget: TrainConfig, seed: int = 0) -> None:
    """Latent diffusion under narrations, a tenth of them left out: what Stable Diffusion is in the paper."""

    def eval_fn(step: int, module: Stage) -> dict[str, float | Sound]:
        system = module.system
        kept = data.kept(system)
        text = system.words(kept["ids"])
        seen = {"held_out": round(float(system.loss_base(kept["latents"], text, generator=_seeded())["loss"]), 5)}
        if step % LISTEN_EVERY == 0 or step == budget.base_steps:
            nothing = {"text": text[:1], "on": torch.zeros(1, dtype=torch.bool, device=system.device)}
            denoise = classifier_free_guidance(system.denoise, nothing, None, 1.0)
            shape = kept["latents"].shape[1:]
            latents = sample(denoise, shape, system.config.schedule, [_seeded()], device=system.device)
            seen["sample"] = Sound(system.decode_latents(latents)[0].cpu().numpy(), system.sample_rate)
        return seen

    plan = OptimConfig(budget.base_steps, lr=1e-3, warmup=min(100, budget.base_steps // 4), seed=seed, bf16=True)
    batch_of = data.batches(("latents", "ids"), budget, seed, 2)
    fit(Stage(system, "base"), batch_of, plan, folder, resume=True, eval_fn=eval_fn, eval_every=100)
    as_shipped(system)


def train_text(system: EgoSonics, data: _Data, folder: Path, budget: TrainConfig, seed: int = 0) -> None:
    """The MLP from video to text tokens (supplement G): trained before SyncroNet, then frozen."""

    def eval_fn(step: int, module: Stage) -> dict[str, float]:
        """``explained``: 1 is perfect, 0 is no better than the mean text of these clips."""
        kept = data.kept(module.system, data.held)
        text = module.system.words(kept["ids"])
        loss = float(module.system.loss_text(kept["vectors"], text)["loss"])
        mean = float((text - text.mean(0)).square().mean())
        return {"held_out": round(loss, 5), "explained": round(1 - loss / max(mean, 1e-12), 4)}

    plan = OptimConfig(budget.text_steps, lr=1e-3, warmup=min(100, budget.text_steps // 4), seed=seed)
    batch_of = data.batches(("vectors", "ids"), budget, seed, 3)
    fit(Stage(system, "text"), batch_of, plan, folder, resume=True, eval_fn=eval_fn, eval_every=200)
    as_shipped(system)


def train_syncronet(
    system: EgoSonics, data: _Data, folder: Path, budget: TrainConfig, seed: int = 0, resume: bool = False
) -> None:
    """SyncroNet, started from the trained base; everything else is frozen.

    The log has ``held_out`` (loss), ``use_of_video`` (see :func:`~v2a_nb.sampling.diffusion.use_of_video`; the
    text is the right one in both, so that it is exactly 0 before the first step) and, now and then,
    ``onset_f1_50ms`` of :data:`LISTENED` clips that are not trained on.
    """

    def eval_fn(step: int, module: Stage) -> dict[str, float | Sound]:
        return syncronet_report(module.system, data, listen=step % LISTEN_EVERY == 0 or step == budget.steps)

    torch.manual_seed(seed)
    system.start_syncronet()
    plan = OptimConfig(budget.steps, lr=1e-3, warmup=min(100, budget.steps // 4), seed=seed, bf16=True)
    batch_of = data.batches(("latents", "vectors"), budget, seed, 4)
    fit(Stage(system, "syncronet"), batch_of, plan, folder, resume=resume, eval_fn=eval_fn, eval_every=50)
    as_shipped(system)


@torch.no_grad()
def syncronet_report(system: EgoSonics, data: _Data, listen: bool = True) -> dict[str, float | Sound]:
    """What :func:`train_syncronet` logs, of clips that are not trained on."""
    kept = data.kept(system)
    latents, vectors = kept["latents"], kept["vectors"]
    columns = latents.shape[-1]
    right = system.conditions(vectors, columns)
    wrong = system.conditions(vectors.roll(1, 0), columns, text=right["text"])
    denoisers = [lambda noisy, t, told=told: system.denoise(noisy, t, told) for told in (right, wrong)]
    seen: dict[str, float | Sound] = {
        "held_out": round(float(system.loss(latents, vectors, generator=_seeded())["loss"]), 5),
        "use_of_video": round(use_of_video(*denoisers, latents, system.config.schedule), 5),
    }
    if listen:
        vectors, which = vectors[:LISTENED], kept["which"][:LISTENED]
        samples = round(SECONDS * system.sample_rate)
        made = system.sample_latents(vectors, samples, seeds=list(range(len(vectors))))
        sounds = [Sound(w, system.sample_rate) for w in system.decode_latents(made, samples).cpu().numpy()]
        onsets = [data.scenes.onsets[i] for i in which]
        seen["onset_f1_50ms"] = round(pooled_f1(onsets, [detect_onsets(sound) for sound in sounds]), 4)
        seen["sample"] = sounds[0]
    return seen


# --- all of it --------------------------------------------------------------------------------------


def train_egosonics(
    out: str | Path,
    *,
    budget: TrainConfig | None = None,
    seed: int = 0,
    resume: bool = False,
    data: str | Path | None = None,
    encoder: str | Path = SHIPPED_ENCODER,
    ablation: str | None = None,
    config: EgoSonicsConfig | None = None,
    autoencoder: AutoencoderConfig | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """All stages; returns the folder of weights, which ``--weights`` loads.

    Args:
        out: folder for stages, logs, states and weights; see the top of this file.
        budget: how much; left out, about two hours on one core.
        seed: of initialisation, batches, timesteps and noise.
        data: folder for the rendered clips; left out, ``out/cache``.
        encoder: folder of the frozen vision encoder.
        ablation: one of :data:`ABLATIONS`: only SyncroNet is trained anew, under ``out/ablations``.
        config, autoencoder: left out, ``tiny``.
        say: receives one line per stage.

    Raises:
        UsageError: an unknown ablation, or clips of another encoder in ``data``.
        V2AError: ``out`` holds another run, or this one and ``resume`` is not set.
        WeightsError: an encoder that does not fit.
    """
    if ablation is not None and ablation not in ABLATIONS:
        raise UsageError(f"no ablation {ablation!r}; there are {', '.join(ABLATIONS)}")
    budget, config = budget or TrainConfig(), config or PRESETS["tiny"]
    autoencoder = autoencoder or AUTOENCODER_OF[config.picture]
    if not config.words:
        raise UsageError("this recipe trains the words that its base is told: the configuration must have them")
    out = Path(out)
    folder = out if ablation is None else out / "ablations" / ablation
    if (folder / "log.jsonl").exists() and not resume:
        raise V2AError(f"{folder} holds a run already; give --resume, or another --out")
    eyes = StrikeVision.from_pretrained(encoder)
    EgoSonics(config, eyes, ImageAutoencoder(autoencoder))  # says what does not fit before anything is rendered
    told = {"seed": seed, "encoder": tag_of(eyes, "vision"), **asdict(budget)}
    told_all = told | {"config": asdict(config), "autoencoder": asdict(autoencoder)}
    check_same_run(out / "run.json", told_all, () if ablation is None else ("steps",))
    cache = Path(data) if data else out / "cache"
    hear, see = PER_RECORDING * budget.sound_recordings, PER_RECORDING * budget.video_recordings
    say(f"world: {hear} clips to hear and {see} to see, seed {budget.data_seed}")
    common = {"seed": budget.data_seed, "picture": config.picture}
    sounds = compute_latent_dataset(cache / "sounds", recordings=budget.sound_recordings, **common)
    common |= {"first": VIDEO_FIRST, "encoder": encoder}
    videos = compute_latent_dataset(cache / "videos", recordings=budget.video_recordings, **common)
    say(f"autoencoder: {budget.autoencoder_steps} steps")
    held = PER_RECORDING * budget.held_out
    trained = train_autoencoder(
        sounds, out / "autoencoder", autoencoder, steps=budget.autoencoder_steps, held=held,
        batch_size=budget.batch_size, seed=seed,
    )  # fmt: skip
    score = json.loads((out / "autoencoder" / "weights" / "config.json").read_text())["round_trip"]
    say("  " + ", ".join(f"{k} {v}" for k, v in score.items()))
    torch.manual_seed(seed)
    system = EgoSonics(config, None, trained).eval()
    heard, seen = (
        _Data(part, cache_latents(trained, part, out / "latents" / name), system.words.ids(part.narrations), held)
        for name, part in (("sounds", sounds), ("videos", videos))
    )
    say(f"base: {budget.base_steps} steps")
    train_base(system, heard, out / "base", budget, seed)
    card = {"preset": "tiny", "data": "Strike World", "data_seed": budget.data_seed, "seed": seed}
    card |= {"budget": asdict(budget), "versions": {"torch": torch.__version__.split("+")[0]}}
    base = out / "egosonics_base"
    if not (base / "config.json").exists():
        told_base = {"kind": "egosonics-base", **asdict(config), **card, "steps": budget.base_steps}
        save_weights(base, system.base.state_dict(), told_base)
        held_out = json.loads((out / "base" / "log.jsonl").read_text().splitlines()[-1])["held_out"]
        write_readme(base, BASE_CARD.format(held_out=held_out, **card, **{"steps": budget.base_steps}))
    say(f"video to text: {budget.text_steps} steps")
    train_text(system, seen, out / "text", budget, seed)
    if ablation is not None:
        system.config = replace(config, **ABLATIONS[ablation])
        if system.config.fps is not None and system.config.fps < eyes.config.fps:
            told_slow = {**common, "fps": system.config.fps}
            slow = compute_latent_dataset(cache / f"videos_{ablation}", recordings=budget.video_recordings, **told_slow)
            seen = replace(seen, scenes=replace(seen.scenes, vectors=slow.vectors))  # the same clips
    say(f"SyncroNet{f' with {ablation}' if ablation else ''}: {budget.steps} steps")
    train_syncronet(system, seen, folder, budget, seed, resume)
    card |= {"steps": budget.steps, "encoder": told["encoder"], "round_trip": score}
    card |= {"ablation": ablation} if ablation else {}
    return _write(system.cpu(), out, folder, encoder, card)


def _write(system: EgoSonics, out: Path, folder: Path, encoder: str | Path, card: dict) -> Path:
    """Weights of the system, beside its base and its encoder, which V-AURA and the ablations share."""
    weights, vision = folder / "weights", out / "vaura" / "vision"
    if not (vision / "config.json").exists():
        shutil.copytree(find_weights(str(encoder)), vision, dirs_exist_ok=True)
    parts = {"base": out / "egosonics_base", "vision": vision}
    if folder != out:
        parts["autoencoder"] = out / "autoencoder" / "weights"
    parts = {k: Path(os.path.relpath(v, weights)).as_posix() for k, v in parts.items()}
    return system.save_pretrained(weights, **parts, **card)


def main(argv: Sequence[str] | None = None, say: Callable[[str], None] = print) -> int:
    """The second command at the top of this file; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m v2a_nb.systems.egosonics.train", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--out", default="runs/egosonics", help="folder (default: %(default)s)")
    parser.add_argument("--ablation", choices=ABLATIONS, help="train only SyncroNet anew, with this difference")
    parser.add_argument("--encoder", default=str(SHIPPED_ENCODER), help="folder of the frozen vision encoder")
    parser.add_argument("--data", help="folder of the rendered clips (default: OUT/cache)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on with what --out holds")
    for field in fields(TrainConfig):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=int, default=field.default)
    args = parser.parse_args(argv)
    try:
        budget = TrainConfig(**{field.name: getattr(args, field.name) for field in fields(TrainConfig)})
        path = train_egosonics(
            args.out, budget=budget, seed=args.seed, resume=args.resume, data=args.data, encoder=args.encoder,
            ablation=args.ablation, say=say,
        )  # fmt: skip
    except V2AError as error:
        print(f"v2a-nb: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    say(str(path))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
