"""Recipe of Action2Sound on Strike World: autoencoder, then the diffusion model with its neighbours.

One command goes from nothing to weights, another trains an ablation on the same first stage::

    v2a-nb train action2sound --preset tiny --out runs/action2sound
    python -m v2a_nb.systems.action2sound.train --out runs/action2sound --ablation no_condition

| in the folder | what | GB |
|---|---|---|
| ``cache/clips`` | scenes of 5.12 s, see :mod:`v2a_nb.data.latent_dataset` | 1.4 |
| ``cache/strangers`` | their rooms with others' actions | 0.4 |
| ``latents/``, ``latents_strangers/`` | of both, by the trained autoencoder | 0.2 |
| ``autoencoder/`` | its log, state and weights | 0.03 |
| ``log.jsonl``, ``state/``, ``samples/`` | of the diffusion model | 0.1 |
| ``weights/``, ``vaura/vision/`` | the system, and the encoder that it refers to | 0.02 |
| ``ablations/NAME/`` | the diffusion model once more, with its own ``weights/`` | 0.1 |

The vocoder and the pool have recipes of their own (``train vocoder``, ``train av_sim``).

A scene holds several windows of 3.07 s, which are the clips that may be each other's neighbours. Rooms get a level
between -85 and -38 dBFS, wider than Strike World's own: the condition shall be followed over 30 dB, and be soft.

The paper's premise is that a neighbour shares the ambience and not the action. Nearly half of Strike World's recordings
have one thing that is struck, and a neighbour would say what it is made of: a model that believed it would be misled by
whatever is retrieved later. So the neighbours of ``tiny`` are *strangers*: the same moment of the same room, in which
the things and actions of another recording are heard (:attr:`TrainConfig.strangers`).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from v2a_nb.audio.onsets import detect_onsets
from v2a_nb.clip import Sound
from v2a_nb.data.denoised import denoised_dataset
from v2a_nb.data.latent_dataset import FEATURE_NOISE, PER_RECORDING, BatchOf, LatentDataset, compute_latent_dataset
from v2a_nb.data.neighbours import MIN_GAP_S, Neighbours
from v2a_nb.errors import UsageError
from v2a_nb.hub import SHIPPED, as_shipped, find_weights, tag_of
from v2a_nb.models.autoencoder import AutoencoderConfig, ImageAutoencoder
from v2a_nb.models.codec_report import pooled_f1
from v2a_nb.models.video_encoders.strike import StrikeVision
from v2a_nb.models.vocoder import load_vocoder
from v2a_nb.sampling.diffusion import use_of_video
from v2a_nb.systems.action2sound.model import AUTOENCODER_OF
from v2a_nb.systems.action2sound.system import PRESETS, Action2Sound, Action2SoundConfig
from v2a_nb.training.loop import OptimConfig, fit
from v2a_nb.training.recipe import card_of, check_same_run, init_run, run
from v2a_nb.training.recipes.autoencoder import cache_latents, train_autoencoder

SHIPPED_ENCODER = SHIPPED / "vaura" / "vision"
FIRST = 20000
"""Of the recordings: V-AURA's recipe and so the encoder never saw them, as for EgoSonics."""
LEVELS_DBFS = (-85.0, -38.0)
CROP = 64
"""Columns (1.02 s) of the pictures that the autoencoder is trained on."""
STRIDE = 8
"""Latent columns from one window of a scene to the next."""
NULL_SHARE = 0.2
"""Of clips whose video is dropped (released ``uncond_prob``); their neighbour stays."""
LISTEN_EVERY, LISTENED = 250, 12
SLOW_RECORDINGS = 400
"""Of which the frame vectors of a slow camera are made: half a thousand steps see none of their windows thrice."""

ABLATIONS: dict[str, dict[str, object]] = {
    "whole": {},
    "no_condition": {"neighbour": False},
    "denoised": {"neighbour": False},
    "no_time_bias": {"time_bias": False},
    "own_actions": {},
    "frozen_audio": {"train_audio_projection": False},
    "no_row_values": {"row_values": 0},
    "fps5": {"fps": 5.0},
    "fps8": {"fps": 8.0},
    "fps10": {"fps": 10.0},
}
"""What is trained anew to be compared, each by what differs in the configuration (the paper's table 2; 5, 8 and 10
frames a second in its first version). ``denoised`` has no condition, and targets whose steady noise was gated away
before training; the neighbours of ``own_actions`` are no strangers; ``whole`` differs in nothing."""


@dataclass(frozen=True)
class TrainConfig:
    """How much of everything; the defaults take about two hours of one core with bfloat16.

    Attributes:
        recordings: of four scenes each.
        held_out: recordings that are never trained on.
        autoencoder_steps, steps: the latter are the diffusion model's.
        batch_size: clips.
        data_seed: of the world.
        min_gap_s: from a clip's start to its neighbour's, at least; 0 lets them overlap, as the released loader does.
        strangers: share of neighbours in which others act; 0 is the paper's. See the top of this file.

    Raises:
        UsageError: nothing is left to train on, a stage without a step, or a share beyond 0 to 1.
    """

    recordings: int = 1250
    held_out: int = 16
    autoencoder_steps: int = 3000
    steps: int = 7500
    batch_size: int = 16
    data_seed: int = 1000
    min_gap_s: float = MIN_GAP_S
    strangers: float = 1.0

    def __post_init__(self) -> None:
        for name in ("autoencoder_steps", "steps", "batch_size"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}: at least 1 is needed")
        if not 2 <= self.held_out < self.recordings:
            raise UsageError(f"{self.held_out} of {self.recordings} recordings cannot be held out: at least 2 must be")
        if self.min_gap_s < 0:
            raise UsageError(f"neighbours cannot be {self.min_gap_s} s apart")
        if not 0 <= self.strangers <= 1:
            raise UsageError(f"strangers is a share from 0 to 1, not {self.strangers}")

    def scaled(self, share: float) -> TrainConfig:
        """The same proportions with fewer steps and clips (for tests and notebooks)."""
        scaled = ("recordings", "autoencoder_steps", "steps")
        made = {k: max(4, int(getattr(self, k) * share)) for k in scaled}
        return replace(self, **made, held_out=min(self.held_out, max(2, made["recordings"] // 8)))


class Stage(nn.Module):
    """The system with its loss; what it does not train is frozen."""

    def __init__(self, system: Action2Sound) -> None:
        super().__init__()
        self.system = system
        system.trained()

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        latents = batch["latents"]
        drop = torch.rand(len(latents), device=latents.device) < NULL_SHARE
        told = self.system.loss(latents, batch["vectors"], batch.get("neighbour"), batch["start_s"], drop)
        return {"loss": told["loss"]}


@dataclass(frozen=True)
class Windows:
    """The windows of all scenes: row i is window ``at[i]`` (a latent column) of scene ``scene[i]``.

    Attributes:
        scenes: what was rendered.
        latents: of the scenes, float16 [N, C, H, columns].
        strangers: latents of the same rooms with others' actions, of the same shape; None where nobody needs them.
        share: of neighbours that are taken from there.
        scene, at: int64 [M].
        neighbours: which rows may be whose neighbours.
        held: the last so many scenes are not trained on.
        columns: of a window.
        column_s: seconds of one.
    """

    scenes: LatentDataset
    latents: np.ndarray
    strangers: np.ndarray | None
    share: float
    scene: np.ndarray
    at: np.ndarray
    neighbours: Neighbours
    held: int
    columns: int
    column_s: float

    @classmethod
    def of(
        cls,
        scenes: LatentDataset,
        latents: np.ndarray,
        held: int,
        config: Action2SoundConfig,
        min_gap_s: float = MIN_GAP_S,
        strangers: np.ndarray | None = None,
        share: float = 1.0,
    ) -> Windows:
        """Every :data:`STRIDE`-th window of each scene."""
        offsets = np.arange(0, latents.shape[-1] - config.context + 1, STRIDE)
        scene = np.repeat(np.arange(len(scenes)), len(offsets))
        at = np.tile(offsets, len(scenes))
        starts = scenes.starts[scene] / scenes.stft.sample_rate + at * config.column_s
        rule = "apart" if min_gap_s > 0 else "released"
        neighbours = Neighbours(
            scenes.recordings[scene], starts, config.window_s, min_gap_s=min_gap_s, rule=rule
        )  # fmt: skip
        return cls(scenes, latents, strangers, share, scene, at, neighbours, held, config.context, config.column_s)

    def usable(self, unseen: bool = False) -> np.ndarray:
        """Rows that have a neighbour, of training or of the scenes that are held out."""
        kept = self.scene >= len(self.scenes) - self.held
        return np.flatnonzero(self.neighbours.usable & (kept if unseen else ~kept))

    def latents_of(self, rows: np.ndarray, heard: np.ndarray | None = None) -> Tensor:
        """Latents float32 [n, C, H, columns] of rows, out of ``heard`` or else of the scenes'."""
        heard = self.latents if heard is None else heard
        parts = [heard[s, :, :, a : a + self.columns] for s, a in zip(self.scene[rows], self.at[rows], strict=True)]
        return torch.from_numpy(np.stack(parts).astype(np.float32))

    def batch(self, rows: np.ndarray, seed: Sequence[int]) -> dict[str, Tensor]:
        """What the loss wants of some rows: ``latents``, ``neighbour``, ``vectors`` and ``start_s``."""
        near = self.neighbours.draw(seed, rows)
        heard = self.latents_of(near)
        if self.strangers is not None:
            theirs = torch.from_numpy(np.random.default_rng([*seed, 8]).random(len(rows)) < self.share)
            heard = torch.where(theirs[:, None, None, None], self.latents_of(near, self.strangers), heard)
        vectors = self.scenes.vectors[self.scene[rows]].astype(np.float32)
        return {
            "latents": self.latents_of(rows),
            "neighbour": heard,
            "vectors": torch.from_numpy(vectors),
            "start_s": torch.from_numpy(self.at[rows] * self.column_s).float(),
        }

    def batches(self, size: int, seed: int, neighbour: bool = True) -> BatchOf:
        """From a step to random rows of training, :data:`FEATURE_NOISE` on their frame vectors."""
        usable = self.usable()

        def batch_of(step: int) -> dict[str, Tensor]:
            rng = np.random.default_rng([seed, 5, step])
            made = self.batch(np.sort(rng.choice(usable, size)), [seed, 6, step])
            noise = rng.standard_normal(tuple(made["vectors"].shape), dtype=np.float32)
            made["vectors"] += FEATURE_NOISE * torch.from_numpy(noise)
            return made if neighbour else {k: v for k, v in made.items() if k != "neighbour"}

        return batch_of

    def onsets(self, row: int, seconds: float) -> np.ndarray:
        """True onsets of a row, seconds from its start."""
        times = self.scenes.onsets[self.scene[row]] - self.at[row] * self.column_s
        return times[(times >= 0) & (times < seconds)]


@torch.no_grad()
def report_of(system: Action2Sound, windows: Windows, listen: bool = True) -> dict[str, float | Sound]:
    """What the log says of clips that are not trained on.

    ``held_out`` is the loss; ``use_of_video`` and ``use_of_neighbour`` what another clip's would cost (see
    :func:`~v2a_nb.sampling.diffusion.use_of_video`); now and then ``onset_f1_50ms`` of :data:`LISTENED` clips.
    """
    c, rows = system.config, windows.usable(unseen=True)
    rooms = windows.scenes.recordings[windows.scene[rows]]  # one window of each room, then the next of each
    rows = rows[np.argsort(np.arange(len(rows)) - np.searchsorted(rooms, rooms), kind="stable")][:16]
    kept = {k: v.to(system.device) for k, v in windows.batch(rows, [7]).items()}
    latents, vectors, start = kept["latents"], kept["vectors"], kept["start_s"]
    near = kept["neighbour"] if c.neighbour else None
    generator = torch.Generator().manual_seed(0)

    def denoiser(vectors: Tensor, near: Tensor | None) -> Callable:
        told = {"context": system.context(vectors, near, start)}
        return lambda noisy, t: system.denoise(noisy, t, told)

    right = denoiser(vectors, near)
    seen: dict[str, float | Sound] = {
        "held_out": round(float(system.loss(latents, vectors, near, start, generator=generator)["loss"]), 5),
        "use_of_video": round(use_of_video(right, denoiser(vectors.roll(1, 0), near), latents, c.schedule), 5),
    }
    if near is not None:
        seen["use_of_neighbour"] = round(
            use_of_video(right, denoiser(vectors, near.roll(1, 0)), latents, c.schedule), 5
        )
    if listen:
        rows, samples = rows[:LISTENED], round(c.window_s * system.sample_rate)
        first = (windows.at[rows] * c.column_s * c.video_rate).round().astype(int)
        count = round(c.window_s * c.video_rate)
        cut = torch.stack([v[a : a + count] for v, a in zip(vectors, first)])
        made = system.sample_latents(
            cut, samples, None if near is None else near[: len(rows)], seeds=list(range(len(rows)))
        )  # fmt: skip
        sounds = [Sound(w, system.sample_rate) for w in system.decode_latents(made, samples).cpu().numpy()]
        onsets = [windows.onsets(row, c.window_s) for row in rows]
        seen["onset_f1_50ms"] = round(pooled_f1(onsets, [detect_onsets(sound) for sound in sounds]), 4)
        seen["sample"] = sounds[0]
    return seen


def train_diffusion(
    system: Action2Sound, windows: Windows, folder: Path, budget: TrainConfig, seed: int = 0, resume: bool = False
) -> None:
    """The diffusion model; see :func:`report_of` for its log."""

    def eval_fn(step: int, module: Stage) -> dict[str, float | Sound]:
        return report_of(module.system, windows, listen=step % LISTEN_EVERY == 0 or step == budget.steps)

    plan = OptimConfig(budget.steps, lr=1e-3, warmup=min(100, budget.steps // 4), seed=seed, bf16=True)
    batch_of = windows.batches(budget.batch_size, seed, system.config.neighbour)
    fit(Stage(system), batch_of, plan, folder, resume=resume, eval_fn=eval_fn, eval_every=50)
    as_shipped(system)


# --- all of it --------------------------------------------------------------------------------------


def train_action2sound(
    out: str | Path,
    *,
    budget: TrainConfig | None = None,
    seed: int = 0,
    resume: bool = False,
    data: str | Path | None = None,
    encoder: str | Path = SHIPPED_ENCODER,
    vocoder: str | Path = "vocoder",
    retrieval: str | None = "retrieval",
    ablation: str | None = None,
    config: Action2SoundConfig | None = None,
    autoencoder: AutoencoderConfig | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """All stages; returns the folder of weights, which ``--weights`` loads.

    Args:
        out: folder for stages, logs, states and weights; see the top of this file.
        budget: how much; left out, the defaults.
        seed: of initialisation, batches, neighbours, timesteps and noise.
        data: folder for the rendered scenes; left out, ``out/cache``.
        encoder: folder of the frozen vision encoder.
        vocoder: name or folder, or ``"griffin-lim"``; the weights refer to it, and what is logged is heard through it.
        retrieval: name or folder of the pool that the weights refer to.
        ablation: one of :data:`ABLATIONS`: only the diffusion model is trained anew, under ``out/ablations``.
        config, autoencoder: left out, ``tiny``.
        say: receives one line per stage.

    Raises:
        UsageError: an unknown ablation, or scenes of another encoder in ``data``.
        V2AError: ``out`` holds another run, or this one and ``resume`` is not set.
        WeightsError: an encoder or a vocoder that does not fit.
    """
    if ablation is not None and ablation not in ABLATIONS:
        raise UsageError(f"no ablation {ablation!r}; there are {', '.join(ABLATIONS)}")
    out, budget, whole = Path(out), budget or TrainConfig(), config or PRESETS["tiny"]
    config = replace(whole, **ABLATIONS[ablation]) if ablation else whole
    autoencoder = autoencoder or AUTOENCODER_OF[config.picture]
    folder = init_run(out if ablation is None else out / "ablations" / ablation, resume)
    eyes, heard = StrikeVision.from_pretrained(encoder), load_vocoder(vocoder)
    Action2Sound(config, eyes, ImageAutoencoder(autoencoder), heard)  # says what does not fit before work begins
    told = {"seed": seed, "encoder": tag_of(eyes, "vision"), **asdict(budget)}
    told |= {"autoencoder": asdict(autoencoder), "config": asdict(whole)}
    check_same_run(out / "run.json", told, () if ablation is None else ("steps",))
    if ablation == "own_actions":
        budget = replace(budget, strangers=0.0)
    cache = Path(data) if data is not None else out / "cache"
    say(f"world: {budget.recordings} recordings, seed {budget.data_seed}")
    how = {
        "recordings": budget.recordings, "first": FIRST, "seed": budget.data_seed, "picture": config.picture,
        "encoder": encoder, "ambience_dbfs": LEVELS_DBFS,
    }  # fmt: skip
    scenes = compute_latent_dataset(cache / "clips", **how)
    held = budget.held_out * PER_RECORDING
    say(f"autoencoder: {budget.autoencoder_steps} steps")
    pictures = train_autoencoder(
        scenes, out / "autoencoder", autoencoder, steps=budget.autoencoder_steps, held=held,
        batch_size=budget.batch_size, seed=seed, crop=CROP,
    )  # fmt: skip
    heard_scenes, place = scenes, out / "latents"
    if ablation == "denoised":
        heard_scenes, place = denoised_dataset(scenes, cache / "denoised"), out / "latents_denoised"
    latents, strangers = cache_latents(pictures, heard_scenes, place), None
    if config.neighbour and budget.strangers > 0:
        theirs = compute_latent_dataset(cache / "strangers", **how | {"encoder": None, "strangers": True})
        strangers = cache_latents(pictures, theirs, out / "latents_strangers")
    if config.fps is not None and config.fps < eyes.config.fps:
        few = min(SLOW_RECORDINGS, budget.recordings)
        how |= {"recordings": few, "first": FIRST + budget.recordings - few, "fps": config.fps}
        slow = compute_latent_dataset(cache / f"clips_{config.fps:g}", **how)
        scenes = replace(scenes.last(len(slow)), vectors=slow.vectors)  # the same clips, those held out among them
        latents = latents[-len(slow) :]
        strangers = None if strangers is None else strangers[-len(slow) :]
    windows = Windows.of(scenes, latents, held, config, budget.min_gap_s, strangers, budget.strangers)
    torch.manual_seed(seed)
    system = Action2Sound(config, eyes, pictures, heard)
    say(f"diffusion{f', {ablation}' if ablation else ''}: {budget.steps} steps; {windows.neighbours.counts()}")
    train_diffusion(system, windows, folder, budget, seed, resume)
    card = card_of(data_seed=budget.data_seed, steps=budget.steps, seed=seed, budget=asdict(budget))
    card |= {"preset": "tiny", "encoder": told["encoder"], "neighbours": windows.neighbours.counts()}
    card |= {"round_trip": json.loads((out / "autoencoder" / "weights" / "config.json").read_text())["round_trip"]}
    if ablation:
        card["ablation"] = ablation
    parts = {"vocoder": Path(vocoder) if Path(vocoder).is_dir() else str(vocoder), "retrieval": retrieval}
    return _write(system.cpu(), out, folder, encoder, parts, card)


def _write(system: Action2Sound, out: Path, folder: Path, encoder: str | Path, parts: dict, card: dict) -> Path:
    """Weights of the system, beside the encoder, which V-AURA and the ablations share."""
    weights, vision = folder / "weights", out / "vaura" / "vision"
    if not (vision / "config.json").exists():
        shutil.copytree(find_weights(str(encoder)), vision, dirs_exist_ok=True)
    parts = dict(parts, vision=vision)
    if folder != out:
        parts["autoencoder"] = out / "autoencoder" / "weights"
    parts = {
        k: Path(os.path.relpath(v, weights)).as_posix() if isinstance(v, Path) else v for k, v in parts.items()
    }  # fmt: skip
    return system.save_pretrained(weights, **parts, **card)


def main(argv: Sequence[str] | None = None, say: Callable[[str], None] = print) -> int:
    """The second command at the top of this file; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m v2a_nb.systems.action2sound.train", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--out", default="runs/action2sound", help="folder (default: %(default)s)")
    parser.add_argument("--ablation", choices=ABLATIONS, help="train only the diffusion model anew, so changed")
    parser.add_argument("--encoder", default=str(SHIPPED_ENCODER), help="folder of the frozen vision encoder")
    parser.add_argument("--vocoder", default="vocoder", help="name or folder, or griffin-lim (default: %(default)s)")
    parser.add_argument("--retrieval", default="retrieval", help="name or folder of the pool (default: %(default)s)")
    parser.add_argument("--data", help="folder of the rendered scenes (default: OUT/cache)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on with what --out holds")
    for field in fields(TrainConfig):
        kind = type(field.default)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    args = parser.parse_args(argv)

    def train() -> Path:
        budget = TrainConfig(**{field.name: getattr(args, field.name) for field in fields(TrainConfig)})
        return train_action2sound(
            args.out, budget=budget, seed=args.seed, resume=args.resume, data=args.data, encoder=args.encoder,
            vocoder=args.vocoder, retrieval=args.retrieval, ablation=args.ablation, say=say,
        )  # fmt: skip

    return run(train, say)


if __name__ == "__main__":
    raise SystemExit(main())
