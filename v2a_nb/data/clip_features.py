"""ClipFeatures: what VAAS and video summarization are trained on, rendered from Strike World and read once.

A **take** is a clip of pictures, read by the frozen encoder, with its sound and two more seconds of sound on
either side, so that a shift brings in what was really heard there, and its narration.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from v2a_nb.audio.onsets import log_mel
from v2a_nb.clip import Clip
from v2a_nb.errors import UsageError
from v2a_nb.files import whole
from v2a_nb.hub import SHIPPED, tag_of
from v2a_nb.models.tiny_codec import TinyCodec
from v2a_nb.models.video_encoders.strike import StrikeVision
from v2a_nb.parallel import parallel_map
from v2a_nb.world import sound as world_sound
from v2a_nb.world.narration import narrate
from v2a_nb.world.picture import frames
from v2a_nb.world.recording import draw

TRAIN_SEED = 6000
"""A world that the encoder was not trained on: on its own training clips it is surer than it should be."""
SECONDS, MARGIN_S, RATE, FPS = 2.56, 2.0, 16000, 25.0
PART = 20
"""Recordings in one file of takes."""
STEP_S = 0.005
"""Shifts are multiples of a column of the log-mel."""
SHIPPED_ENCODER = SHIPPED / "vaura" / "vision"
RECORDINGS, HELD_OUT = 2000, 200
"""Of a recipe, the held-out ones among them."""


@dataclass(frozen=True)
class ClipFeatures:
    """Many takes as arrays; row i of each belongs to take i.

    Attributes:
        vectors: frame vectors, float16 [N, 128, 384].
        mels: log-mel with the margins, float16 [N, 40, 1312].
        latents: the codec's latents of the clip's sound, float16 [N, 32, 128].
        narrations: one line each.
        recordings: int64 [N]; takes of one recording share its number.
        starts: float64 [N], where in the recording each clip begins, seconds.
    """

    vectors: np.ndarray
    mels: np.ndarray
    latents: np.ndarray
    narrations: np.ndarray
    recordings: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.recordings)

    @property
    def margin(self) -> int:
        """Columns of log-mel on either side of the clip."""
        return (self.mels.shape[2] - 4 * self.vectors.shape[1]) // 2

    def heard(self, which: int, shift_s: float = 0.0) -> np.ndarray:
        """Log-mel [40, 512] of take ``which`` with its sound ``shift_s`` late.

        Raises:
            UsageError: the shift goes over the margin.
        """
        first = self.margin - round(shift_s / STEP_S)
        n = self.mels.shape[2] - 2 * self.margin
        if not 0 <= first <= 2 * self.margin:
            raise UsageError(f"a shift of {shift_s} s goes over the margin of {self.margin * STEP_S} s")
        return self.mels[which, :, first : first + n]

    def split(self, held_out: int) -> tuple[ClipFeatures, ClipFeatures]:
        """Training and held-out takes: the last ``held_out`` recordings are kept apart, whole.

        Raises:
            UsageError: nothing would be left to train on.
        """
        last = last_of(self.recordings, held_out)
        return self.where(~last), self.where(last)

    def where(self, chosen: np.ndarray) -> ClipFeatures:
        """Some of the takes: a mask bool [N], or rows int64 [n]."""
        return ClipFeatures(*(getattr(self, f)[chosen] for f in FIELDS))


def last_of(recordings: np.ndarray, held_out: int) -> np.ndarray:
    """Which rows are of the last ``held_out`` recordings, bool [N].

    Raises:
        UsageError: none would be held out, or nothing would be left to train on.
    """
    names = np.unique(recordings)
    if not 0 < held_out < len(names):
        raise UsageError(f"{held_out} of {len(names)} recordings cannot be held out")
    return np.isin(recordings, names[len(names) - held_out :])


FIELDS = tuple(ClipFeatures.__dataclass_fields__)


def compute_clip_features(
    folder: str | Path,
    encoder: str | Path = SHIPPED_ENCODER,
    codec: str | Path = "codec",
    *,
    recordings: int = RECORDINGS,
    per_recording: int = 2,
    seed: int = TRAIN_SEED,
    first: int = 0,
    workers: int | None = None,
) -> ClipFeatures:
    """Render takes and read them with the frozen encoder and codec, once; kept in ``folder``.

    About 0.2 s a take and core. What is there already is not made again, so an interrupted run goes on.

    Args:
        folder: gets ``takes-00000-20.npz`` and so on, :data:`PART` recordings each.
        encoder, codec: folders of weights, or shipped names.
        recordings, per_recording: how many, and how many takes of each; they may overlap.
        seed: of the world.
        first: number of the first recording.
        workers: processes; left out, one for each core that may be used.

    Raises:
        UsageError: ``folder`` holds takes that were read by other weights, or of another world.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tags = [tag_of(StrikeVision.from_pretrained(encoder), "vision"), tag_of(TinyCodec.from_pretrained(codec), "codec")]
    told = {"seed": seed, "per_recording": per_recording, "encoder": tags[0], "codec": tags[1]}
    about = folder / "takes.json"
    if about.exists() and json.loads(about.read_text()) != told:
        raise UsageError(f"{folder} holds other takes: {about.read_text().strip()}; give another folder")
    about.write_text(json.dumps(told) + "\n")
    parts = _parts(folder, recordings, first)
    jobs = [(str(p), str(encoder), str(codec), seed, a, n, per_recording) for p, a, n in parts if not p.exists()]
    parallel_map(_make_takes, jobs, workers)
    return load_clip_features(folder, recordings, first)


def load_clip_features(folder: str | Path, recordings: int, first: int = 0) -> ClipFeatures:
    """What :func:`compute_clip_features` left in ``folder``: ``recordings`` recordings from number ``first`` on.

    Raises:
        UsageError: some are not there.
    """
    parts = [path for path, _, _ in _parts(Path(folder), recordings, first)]
    missing = [path.name for path in parts if not path.exists()]
    if missing:
        raise UsageError(f"{folder} lacks {len(missing)} of {len(parts)} parts, the first is {missing[0]}")
    loaded = [np.load(path) for path in parts]
    return ClipFeatures(*(np.concatenate([part[f] for part in loaded]) for f in FIELDS))


def clips_of(takes: ClipFeatures, seed: int, size: int = 112) -> list[Clip]:
    """The takes' pictures again, for a system to dub: silent clips of ``size`` pixels.

    Args:
        takes: from :func:`compute_clip_features`.
        seed: of their world.
        size: pixels; systems scale what they are given.
    """
    clips = []
    for index, start in zip(takes.recordings, takes.starts, strict=True):
        times = start + np.arange(round(SECONDS * FPS)) / FPS
        pictures = frames(draw(seed, int(index)), times, size, FPS)
        clips.append(Clip(pictures, fps=FPS, duration=SECONDS, name=f"r{index:05d}-{int(1000 * start):05d}"))
    return clips


def _parts(folder: Path, recordings: int, first: int) -> list[tuple[Path, int, int]]:
    """Files of twenty recordings each: path, first recording, how many."""
    last = first + recordings
    parts = [(a, min(PART, last - a)) for a in range(first, last, PART)]
    return [(folder / f"takes-{a:05d}-{count}.npz", a, count) for a, count in parts]


@torch.no_grad()
def _make_takes(job: tuple) -> None:
    """One part of :func:`compute_clip_features`."""
    path, encoder_name, codec_name, seed, first, count, per_recording = job
    torch.set_num_threads(1)
    encoder, codec = StrikeVision.from_pretrained(encoder_name), TinyCodec.from_pretrained(codec_name)
    n, margin = round(SECONDS * RATE), round(MARGIN_S * RATE)
    made: dict[str, list] = {field: [] for field in FIELDS}
    for index in range(first, first + count):
        recording = draw(seed, index)
        mix = world_sound.render(recording, RATE)["mix"]
        rng = recording.rng("takes")
        for _ in range(per_recording):
            # on the grid of the mel's columns, with room for the margins
            start = 80 * int(rng.integers(margin // 80, (len(mix) - n - margin) // 80))
            begin = start / RATE
            pictures = frames(recording, begin + np.arange(round(SECONDS * FPS)) / FPS, encoder.config.size, FPS)
            pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2)[None].float() / 255
            wave = mix[start - margin : start + n + margin]
            events = [e for e in recording.events if begin <= e.time_s < begin + SECONDS]
            clip_wave = torch.from_numpy(wave[None, margin : margin + n].astype(np.float32))
            made["vectors"].append(encoder(pixels)[0].half().numpy())
            made["mels"].append(log_mel(wave)[:, :-1].astype(np.float16))
            made["latents"].append(codec.latents(clip_wave)[0].half().numpy())
            made["narrations"].append(narrate(recording, events))
            made["recordings"].append(index)
            made["starts"].append(begin)
    with whole(path) as partial, open(partial, "wb") as file:
        np.savez(file, **{k: np.array(v) for k, v in made.items()})


# --- the recipes that read takes ------------------------------------------------------------------------


def add_arguments(parser: ArgumentParser, out: str, steps: int) -> None:
    """What the commands of the recipes that read takes have in common.

    Args:
        out, steps: the defaults of ``--out`` and ``--steps``.
    """
    parser.add_argument("--out", default=out, help="folder for log, state and weights (default: %(default)s)")
    parser.add_argument("--takes", help="folder of the takes (default: OUT/takes)")
    parser.add_argument("--recordings", type=int, default=RECORDINGS, help="of the world, held-out ones among them")
    parser.add_argument("--held-out", type=int, default=HELD_OUT, help="recordings that training never sees")
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--seed", type=int, default=0, help="of initialisation and batches")
    parser.add_argument("--encoder", default=str(SHIPPED_ENCODER), help="folder of the frozen vision encoder")
    parser.add_argument("--codec", default="codec", help="name or folder of the codec")
    parser.add_argument("--resume", action="store_true", help="go on with what --out holds")


def told(args: Namespace) -> dict[str, object]:
    """What :func:`add_arguments` was given, but for the folder, as the recipes take it."""
    names = ("takes", "recordings", "held_out", "steps", "seed", "encoder", "codec", "resume")
    return {name: getattr(args, name) for name in names}


def scaled(steps: int, usual: int) -> dict[str, int]:
    """``steps`` and, where they are fewer than usual, fewer recordings in proportion: whole files of them.

    Args:
        usual: steps of the recipe.
    """
    parts = max(1, round(min(1.0, steps / usual) * RECORDINGS / PART))
    recordings = parts * PART
    return {"steps": steps, "recordings": recordings, "held_out": max(2, recordings * HELD_OUT // RECORDINGS)}
