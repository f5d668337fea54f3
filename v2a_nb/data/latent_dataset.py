"""What the latent-diffusion recipes learn from: clips of Strike World, each reduced at once to what training reads.

A clip of 5.12 s is 1.6 MB of frames and 0.3 MB of sound. Kept are its STFT image (64 KB), the frame vectors of
the frozen encoder (192 KB, where they are wanted), its narration and its true onsets; the frames are never
written. EgoSonics keeps clips above a level (section 3.1, ``min_rms_dbfs`` here): its silent ones are of no use,
while in Strike World silence is the right answer to a clip in which nothing is touched, and is kept.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from v2a_nb.audio.loudness import loud_parts
from v2a_nb.audio.stft_image import STFT_IMAGES, StftImage
from v2a_nb.clip import Clip
from v2a_nb.errors import UsageError
from v2a_nb.hub import tag_of
from v2a_nb.models.video_encoders.clip_frames import slower
from v2a_nb.models.video_encoders.strike import StrikeVision
from v2a_nb.parallel import parallel_map
from v2a_nb.world import sound as world_sound
from v2a_nb.world.narration import narrate
from v2a_nb.world.picture import frames
from v2a_nb.world.recording import Recording, draw

SECONDS = 5.12
"""Of a clip: the 64 latent columns of EgoSonics' windows; Action2Sound's are shorter."""
PER_RECORDING = 4
PART = 20
"""Recordings that are rendered between two savings."""
FEATURE_NOISE = 0.1
"""On the frame vectors, whose spread is about 1: stands in for unseen pictures."""

BatchOf = Callable[[int], dict[str, Tensor]]
"""From a step to a batch on the CPU."""


@dataclass(frozen=True)
class LatentDataset:
    """Many clips; entry i of everything belongs to clip i, and the clips of a recording are neighbours.

    Attributes:
        images: STFT images in [-1, 1], float16 [N, c, h, columns], a memory map.
        vectors: frame vectors, float16 [N, T, dim], a memory map; None where no encoder was given.
        narrations: one line each.
        onsets: times of what is seen to sound, seconds from the clip's start.
        recordings: int64 [N].
        starts: int64 [N], where in its recording each clip begins, samples.
        seed: of the world.
        stft: of the images.
        ambience_dbfs, strangers: see :func:`compute_latent_dataset`.
    """

    images: np.ndarray
    vectors: np.ndarray | None
    narrations: list[str]
    onsets: list[np.ndarray]
    recordings: np.ndarray
    starts: np.ndarray
    seed: int
    stft: StftImage
    ambience_dbfs: tuple[float, float] | None = None
    strangers: bool = False

    def __len__(self) -> int:
        return len(self.images)

    def last(self, clips: int) -> LatentDataset:
        """The last so many clips."""
        some = {
            "images": self.images[-clips:], "vectors": None if self.vectors is None else self.vectors[-clips:],
            "narrations": self.narrations[-clips:], "onsets": self.onsets[-clips:],
            "recordings": self.recordings[-clips:], "starts": self.starts[-clips:],
        }  # fmt: skip
        return replace(self, **some)

    def waves(self, which: np.ndarray) -> np.ndarray:
        """The true sounds of some clips, rendered again: float32 [n, samples]."""
        n, made, last = round(SECONDS * self.stft.sample_rate), [], None
        for i in which:
            if self.recordings[i] != last:
                last = int(self.recordings[i])
                recording = room_of(self.seed, last, self.ambience_dbfs, self.strangers)
                mix = world_sound.render(recording, self.stft.sample_rate)["mix"]
            made.append(mix[self.starts[i] : self.starts[i] + n])
        return np.stack(made).astype(np.float32)


def compute_latent_dataset(
    folder: str | Path,
    *,
    recordings: int,
    first: int = 0,
    seed: int = 1000,
    encoder: str | Path | None = None,
    picture: str = "tiny",
    fps: float | None = None,
    min_rms_dbfs: float | None = None,
    ambience_dbfs: tuple[float, float] | None = None,
    strangers: bool = False,
    workers: int | None = None,
) -> LatentDataset:
    """Render :data:`PER_RECORDING` clips of each recording, once; kept in ``folder``.

    On one core 0.02 s a clip, or 0.2 s with frame vectors. An interrupted run goes on after its last part.

    Args:
        folder: gets ``images.npy``, perhaps ``vectors.npy``, and a small file for each part.
        recordings, first: how many, from which on.
        seed: of the world.
        encoder: folder of a ``StrikeVision``; left out, nothing is seen.
        picture: name of the STFT image.
        fps: frames a second that the encoder is shown, see :func:`~v2a_nb.models.video_encoders.clip_frames.slower`.
        min_rms_dbfs: only clips above this level, see :func:`~v2a_nb.audio.loudness.loud_parts`; left out, all.
        ambience_dbfs: least and greatest level of the rooms, each drawn anew; left out, as the world has them.
        strangers: the rooms as they are, and in each the things and actions of the next recording.
        workers: processes; left out, one for each core that this process may use.

    Raises:
        UsageError: ``folder`` holds other clips, or a recording has too few that are loud enough.
        WeightsError: there is no such encoder.
    """
    folder, stft = Path(folder), STFT_IMAGES[picture]
    folder.mkdir(parents=True, exist_ok=True)
    eyes = None if encoder is None else StrikeVision.from_pretrained(encoder)
    tag = None if eyes is None else tag_of(eyes, "vision")
    told = {
        "seed": seed, "first": first, "recordings": recordings, "per_recording": PER_RECORDING, "seconds": SECONDS,
        "picture": picture, "encoder": tag, "fps": fps, "min_rms_dbfs": min_rms_dbfs,
        "ambience_dbfs": None if ambience_dbfs is None else list(ambience_dbfs), "strangers": strangers or None,
    }  # fmt: skip
    about, n = folder / "scenes.json", recordings * PER_RECORDING
    told = {k: v for k, v in told.items() if v is not None or k == "encoder"}
    if about.exists() and json.loads(about.read_text()) != told:
        raise UsageError(f"{folder} holds other clips: {about.read_text().strip()}; give another folder")
    if not about.exists():
        shapes = {"images": (n, stft.channels, stft.height, stft.columns(round(SECONDS * stft.sample_rate)))}
        if eyes is not None:
            shapes["vectors"] = (n, round(SECONDS * eyes.config.fps) * eyes.config.upsample, eyes.dim)
        for name, shape in shapes.items():
            np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=np.float16, shape=shape)
        for path in folder.glob("part-*.json"):
            path.unlink()
        write_json(about, told)
    parts = [(folder / f"part-{a:05d}.json", a) for a in range(0, recordings, PART)]
    eyes_at, room = None if encoder is None else str(encoder), (ambience_dbfs, strangers)
    jobs = [
        (str(path), eyes_at, picture, fps, min_rms_dbfs, room, seed, first, a, min(PART, recordings - a))
        for path, a in parts
        if not path.exists()
    ]
    parallel_map(_render, jobs, workers)
    clips = [clip for path, _ in parts for clip in json.loads(path.read_text())]
    return LatentDataset(
        images=np.load(folder / "images.npy", mmap_mode="r"),
        vectors=None if eyes is None else np.load(folder / "vectors.npy", mmap_mode="r"),
        narrations=[clip["narration"] for clip in clips],
        onsets=[np.array(clip["onsets"], np.float64) for clip in clips],
        recordings=np.array([clip["recording"] for clip in clips]),
        starts=np.array([clip["start"] for clip in clips]),
        seed=seed,
        stft=stft,
        ambience_dbfs=ambience_dbfs,
        strangers=strangers,
    )


def room_of(
    seed: int, index: int, ambience_dbfs: tuple[float, float] | None = None, strangers: bool = False
) -> Recording:
    """A recording, perhaps its ambience at another level than the world drew, or others acting in its room."""
    recording = draw(seed, index)
    if strangers:
        they = draw(seed, index + 1)
        events = tuple(e for e in they.events if e.time_s + e.duration_s < recording.duration_s)
        recording = recording.changed(
            variety=they.variety, things=they.things, actor=they.actor, actor_scale=they.actor_scale, events=events
        )
    if ambience_dbfs is None:
        return recording
    return recording.changed(ambience_dbfs=float(recording.rng("room-level").uniform(*ambience_dbfs)))


def batches(
    arrays: dict[str, np.ndarray], n: int, size: int, seed: int, stage: int, crop: int | None = None
) -> BatchOf:
    """From a step to random clips of the first ``n``, each as float32 or int64.

    Args:
        arrays: by name, [N, ...]; what is called ``vectors`` gets :data:`FEATURE_NOISE`.
        seed, stage: what is drawn hangs on these two and on the step.
        crop: columns that are cut out of each array's last axis, at a place of each clip's own.
    """

    def batch_of(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([seed, stage, step])
        which = np.sort(rng.integers(0, n, size))
        batch = {}
        for name, array in arrays.items():
            part = array[which]
            if crop is not None and crop < part.shape[-1]:
                starts = rng.integers(0, part.shape[-1] - crop + 1, size)
                part = np.stack([x[..., a : a + crop] for x, a in zip(part, starts, strict=True)])
            batch[name] = torch.from_numpy(part if part.dtype == np.int64 else part.astype(np.float32))
            if name == "vectors":
                noise = rng.standard_normal(part.shape, dtype=np.float32)
                batch[name] += FEATURE_NOISE * torch.from_numpy(noise)
        return batch

    return batch_of


@torch.no_grad()
def _render(job: tuple) -> None:
    """One part of :func:`compute_latent_dataset`."""
    path, encoder, picture, fps, min_rms_dbfs, room, seed, first, begin, count = job
    torch.set_num_threads(1)
    folder, stft = Path(path).parent, STFT_IMAGES[picture]
    eyes = None if encoder is None else StrikeVision.from_pretrained(encoder)
    images = np.load(folder / "images.npy", mmap_mode="r+")
    vectors = None if eyes is None else np.load(folder / "vectors.npy", mmap_mode="r+")
    n, clips = round(SECONDS * stft.sample_rate), []
    for index in range(begin, begin + count):
        recording = room_of(seed, first + index, *room)
        mix = world_sound.render(recording, stft.sample_rate)["mix"]
        rng = recording.rng("scenes")
        starts = _starts(mix, n, rng, stft.sample_rate, min_rms_dbfs)
        row = index * PER_RECORDING
        heard = torch.from_numpy(np.stack([mix[s : s + n] for s in starts]).astype(np.float32))
        images[row : row + PER_RECORDING] = stft.to_image(heard).numpy()
        for i, start in enumerate(starts):
            start_s = start / stft.sample_rate
            events = [e for e in recording.events if start_s <= e.time_s < start_s + SECONDS]
            if eyes is not None:
                times = start_s + np.arange(round(SECONDS * eyes.config.fps)) / eyes.config.fps
                seen = frames(recording, times, eyes.config.size, eyes.config.fps)
                seen = slower(Clip(seen, fps=eyes.config.fps), fps).at_fps(eyes.config.fps).frames.copy()
                pixels = torch.from_numpy(seen).permute(0, 3, 1, 2)[None].float() / 255  # [1, T, 3, 64, 64]
                vectors[row + i] = eyes(pixels)[0].numpy()
            clips.append(
                {
                    "recording": first + index,
                    "start": int(start),
                    "narration": narrate(recording, events),
                    "onsets": [round(e.time_s - start_s, 6) for e in events if e.sounding],
                }
            )
    for array in (images, vectors):
        if array is not None:
            array.flush()
    write_json(Path(path), clips)  # last: a part that has its file is whole


def _starts(mix: np.ndarray, n: int, rng: np.random.Generator, rate: int, min_rms_dbfs: float | None) -> np.ndarray:
    """Where in a recording its clips begin, samples."""
    if min_rms_dbfs is None:
        return np.sort(rng.integers(0, len(mix) - n, PER_RECORDING))
    seed = int(rng.integers(2**31))
    starts = loud_parts(mix, rate, n / rate, min_rms_dbfs, at_most=PER_RECORDING, seed=seed)
    if len(starts) < PER_RECORDING:
        raise UsageError(f"only {len(starts)} of {PER_RECORDING} clips of a recording lie above {min_rms_dbfs:g} dBFS")
    return starts


def write_json(path: Path, value: object) -> None:
    """The whole file or none of it."""
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(value) + "\n")
    os.replace(partial, path)
