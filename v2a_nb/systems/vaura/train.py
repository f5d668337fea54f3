"""Recipe of V-AURA on Strike World: codec, vision encoder, cached tokens, decoder.

One command goes from nothing to weights::

    v2a-nb train vaura --preset tiny --out runs/vaura

Each stage leaves its result in the folder and is skipped when it is there, so ``--resume`` goes on with
whatever was interrupted.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.audio import targets
from v2a_nb.clip import Sound
from v2a_nb.hub import as_shipped
from v2a_nb.models.tiny_codec import TinyCodec
from v2a_nb.models.video_encoders.event_crop import EventCropConfig
from v2a_nb.models.video_encoders.strike import StrikeVision
from v2a_nb.systems.vaura.system import PRESETS, VAura, VAuraDecoder
from v2a_nb.training.loop import OptimConfig, fit
from v2a_nb.training.recipe import card_of, init_run
from v2a_nb.training.recipes.codec import CYCLES, Cycle, train_codec
from v2a_nb.training.recipes.event_crop import calibrate, gather, train_event_crop
from v2a_nb.training.recipes.video_encoder import train_pretraining
from v2a_nb.world import strike_world

CODEBOOK_WEIGHTS = (2.0, 1.0, 0.7, 0.4)
"""The first codebook carries timing and material, the last one texture."""


CAUTION, GAIN = 1.75, 8.0
"""How the glimpse decides once training is over, chosen on seed 4000."""


@dataclass(frozen=True)
class TrainConfig:
    """How much of everything; the defaults made the shipped weights.

    The glimpse reads the codec's and the motion stream's ``clips`` and as many again; the decoder reads clips
    that no other stage saw. On clips that the encoder knows its answers are surer than they ever are on others,
    and a decoder that was taught with those believes them too much.
    """

    clips: int = 8000
    glimpse_clips: int = 16000
    decoder_clips: int = 8000
    codec_cycles: tuple[Cycle, ...] = CYCLES
    vision_steps: int = 2000
    glimpse_steps: int = 6000
    steps: int = 2400
    batch_size: int = 16
    data_seed: int = 1000

    def scaled(self, share: float) -> TrainConfig:
        """The same proportions with fewer steps and clips (for tests and notebooks)."""
        return replace(
            self,
            clips=max(32, int(self.clips * share)),
            glimpse_clips=max(32, int(self.glimpse_clips * share)),
            decoder_clips=max(32, int(self.decoder_clips * share)),
            codec_cycles=tuple(replace(c, steps=max(8, int(c.steps * share))) for c in self.codec_cycles),
            vision_steps=max(4, int(self.vision_steps * share)),
            glimpse_steps=max(4, int(self.glimpse_steps * share)),
            steps=max(4, int(self.steps * share)),
        )


def world_arrays(folder: Path, clips: int, seed: int, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pictures and sounds of the clips from ``first`` on as memory maps, rendered once, on all cores."""
    from concurrent.futures import ProcessPoolExecutor

    done = folder / "world.json"
    wanted = {"clips": clips, "seed": seed, "first": first}
    shapes = {"frames": ((clips, 64, 64, 64, 3), np.uint8), "sounds": ((clips, 40960), np.float32)}
    folder.mkdir(parents=True, exist_ok=True)
    if not done.exists() or json.loads(done.read_text()) != wanted:
        for name, (shape, kind) in shapes.items():
            np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=kind, shape=shape)
        jobs = [(str(folder), a, min(a + 200, clips), seed, first) for a in range(0, clips, 200)]
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(_render, jobs))
        done.write_text(json.dumps(wanted))
    return tuple(np.load(folder / f"{name}.npy", mmap_mode="r") for name in shapes)


def _render(job: tuple[str, int, int, int, int]) -> None:
    from v2a_nb.world.bulk import arrays

    folder, a, b, seed, first = job
    frames, sounds = (np.load(f"{folder}/{name}.npy", mmap_mode="r+") for name in ("frames", "sounds"))
    arrays(seed, b - a, first=(first + a) // 2, out=(frames[a:b], sounds[a:b]))


def mels_of(sounds: np.ndarray, path: Path) -> np.ndarray:
    """Log-mels of all sounds, float16 [N, 40, 512], cached in ``path``."""
    if not path.exists() or len(np.load(path, mmap_mode="r")) != len(sounds):
        out = np.empty((len(sounds), targets.BANDS, sounds.shape[1] // targets.HOP), np.float16)
        for i in range(0, len(sounds), 64):
            out[i : i + 64] = targets.log_mel(torch.from_numpy(sounds[i : i + 64].copy())).numpy()
        np.save(path, out)
    return np.load(path, mmap_mode="r")


def aim(encoder: StrikeVision, glimpse: EventCropConfig) -> None:
    """Give the encoder's glimpse other settings; sizes must stay."""
    encoder.config = replace(encoder.config, glimpse=glimpse)
    encoder.glimpse.config = glimpse


def gather_examples(encoder, frames: np.ndarray, mels: np.ndarray, folder: Path) -> dict[str, np.ndarray]:
    """Aims the encoder's glimpse and returns its examples of all clips; both are cached in ``folder``."""
    aimed, path = folder / "aim.json", folder / "examples.npz"
    if not aimed.exists():
        aimed.write_text(json.dumps(asdict(calibrate(encoder, frames))))
    aim(encoder, EventCropConfig(**json.loads(aimed.read_text())))
    if not path.exists():
        np.savez(path, **gather(encoder, frames, mels, 0, len(frames)))
    return dict(np.load(path))


@torch.no_grad()
def cache_tokens(
    encoder, codec: TinyCodec, frames: np.ndarray, sounds: np.ndarray, folder: Path
) -> dict[str, np.ndarray]:
    """Frozen features, predicted flux and codes of every clip, once.

    Returns:
        ``visual`` float16 [N, 128, 384], ``flux`` float16 [N, 128], ``codes`` uint8 [N, 4, 128].
    """
    names = ("visual", "flux", "codes")
    if not (folder / "tokens.json").exists():
        encoder.eval()
        n = len(frames)
        visual = np.empty((n, 128, encoder.dim), np.float16)
        flux, codes = np.empty((n, 128), np.float16), np.empty((n, 4, 128), np.uint8)
        for i in range(0, n, 16):
            pictures = torch.from_numpy(frames[i : i + 16].copy()).permute(0, 1, 4, 2, 3).float() / 255
            tokens = encoder(pictures)
            visual[i : i + 16] = tokens.numpy()
            flux[i : i + 16] = encoder.expected(tokens).numpy()
            codes[i : i + 16] = codec.encode(torch.from_numpy(sounds[i : i + 16].copy())).numpy()
        for name, array in zip(names, (visual, flux, codes), strict=True):
            np.save(folder / f"{name}.npy", array)
        (folder / "tokens.json").write_text(json.dumps({"clips": n}))
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}


def frame_weights(flux: Tensor) -> Tensor:
    """Weight of each frame in the loss, 1 to 5, from the *predicted* flux [B, T].

    Held from one frame before to six after, since the material is in what follows a hit. Because it
    depends on the conditioning alone it does not make the model fire more than the picture says, as
    weights at the true hits do.
    """
    padded = F.pad(flux[:, None], (6, 1))
    return 1 + 4 * F.max_pool1d(padded, 8, stride=1)[:, 0]


class DecoderTraining(nn.Module):
    """The decoder with its loss on cached tokens; 10 % of the clips lose their video."""

    def __init__(self, decoder: VAuraDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        drop = torch.rand(len(batch["codes"]), device=batch["codes"].device) < 0.1
        return self.decoder.loss(
            batch["codes"], batch["visual"], frame_weights=frame_weights(batch["flux"]),
            codebook_weights=CODEBOOK_WEIGHTS, drop=drop,
        )  # fmt: skip


def batches(tokens: dict[str, np.ndarray], size: int, seed: int, noise: float = 0.1):
    """From a step to random clips; a little noise on the features stands in for unseen pictures."""

    def batch_of(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([seed, step])
        which = np.sort(rng.integers(0, len(tokens["codes"]), size))
        visual = torch.from_numpy(tokens["visual"][which].astype(np.float32))
        visual = visual + noise * torch.from_numpy(rng.standard_normal(visual.shape, dtype=np.float32))
        return {
            "codes": torch.from_numpy(tokens["codes"][which].astype(np.int64)),
            "visual": visual,
            "flux": torch.from_numpy(tokens["flux"][which].astype(np.float32)),
        }

    return batch_of


def train_decoder(
    tokens: dict[str, np.ndarray],
    out: str | Path,
    *,
    steps: int,
    batch_size: int = 16,
    seed: int = 0,
    preset: str = "tiny",
    **how: object,
) -> VAuraDecoder:
    """Train the language model on cached tokens; ``how``: the rest of :func:`~v2a_nb.training.loop.fit`."""
    torch.manual_seed(seed)
    module = DecoderTraining(VAuraDecoder(PRESETS[preset]))
    plan = OptimConfig(steps=steps, lr=1.5e-3, warmup=150, weight_decay=3e-2, seed=seed)
    return fit(module, batches(tokens, batch_size, seed), plan, out, **how).decoder


def train_vaura(
    out: str | Path,
    *,
    budget: TrainConfig | None = None,
    seed: int = 0,
    resume: bool = False,
    data: str | Path | None = None,
    say=print,
) -> Path:
    """All stages; returns ``out/weights``, which ``--weights`` loads.

    Args:
        out: folder for stages, logs, state and weights.
        budget: how much; left out, what made the shipped weights (about three hours on one core, 24 GB of disk).
        data: folder for the rendered world; left out, ``out/cache``.
        say: receives one line per stage.

    Raises:
        V2AError: ``out`` holds another run and ``resume`` is not set.
    """
    budget = budget or TrainConfig()
    out = init_run(out, resume)
    cache = Path(data) if data else out / "cache"
    n, many = budget.clips, max(budget.clips, budget.glimpse_clips)
    say(f"world: {many} clips of seed {budget.data_seed}")
    frames, sounds = world_arrays(cache, many, budget.data_seed)
    mels = mels_of(sounds, cache / "mels.npy")
    say(f"codec: {' + '.join(str(c.steps) for c in budget.codec_cycles)} steps")
    codec = train_codec(sounds[:n], out / "codec", cycles=budget.codec_cycles, seed=seed, resume=True)
    say(f"vision: {budget.vision_steps} steps")
    vision = out / "vision"
    pretraining = train_pretraining(frames[:n], mels[:n], vision, steps=budget.vision_steps, seed=seed, resume=True)
    encoder = pretraining.encoder.eval()
    say(f"glimpse: {budget.glimpse_steps} steps")
    examples = gather_examples(encoder, frames, mels, vision)
    glimpse = {"steps": budget.glimpse_steps, "seed": seed, "resume": True}
    encoder = train_event_crop(encoder, frames, examples, vision / "glimpse", **glimpse)
    # codes and features must be those of the weights that are shipped, which are fp16
    as_shipped(codec)
    as_shipped(encoder)
    say(f"tokens: frozen features and codes of {budget.decoder_clips} fresh clips")
    tokens = cache_tokens(
        encoder, codec, *world_arrays(cache / "fresh", budget.decoder_clips, budget.data_seed, many), vision
    )
    say(f"decoder: {budget.steps} steps")
    clip = strike_world(seed=77, clips=1, size=64)[0].clip.silent()

    def listen(step: int, module: DecoderTraining) -> dict[str, Sound]:
        """What it makes now of a clip that it is not trained on, for the monitor."""
        return {"sample": VAura(module.decoder, encoder, codec).generate(clip, seed=0)}

    decoder = train_decoder(
        tokens, out, steps=budget.steps, batch_size=budget.batch_size, seed=seed, resume=resume,
        eval_fn=listen, eval_every=200,
    )  # fmt: skip
    aim(encoder, replace(encoder.config.glimpse, caution=CAUTION, gain=GAIN))
    system = VAura(decoder, encoder, codec).eval()
    card = card_of(data_seed=budget.data_seed, steps=budget.steps, seed=seed, preset="tiny")
    return system.save_pretrained(out / "weights", **card)
