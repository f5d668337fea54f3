"""Shots: what the audio-visual encoders and AV-Sync learn from, rendered from Strike World once.

A shot is a clip's pictures at a few frames a second and the filter bank of its sound, with more sound on either
side so that a shift brings in what was really heard there. Pictures stay bytes: the encoders are trained.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from v2a_nb.audio.ast import BANDS, FLOOR, HOP, SAMPLE_RATE, columns_of, filter_bank
from v2a_nb.errors import UsageError
from v2a_nb.systems.pool import Source, quiet_dbfs
from v2a_nb.training.egosonics_world import cores, write_json
from v2a_nb.world import sound as world_sound
from v2a_nb.world.dataset import Settings, cut_points
from v2a_nb.world.picture import frames
from v2a_nb.world.recording import draw

TRAIN_SEED = 11000
SHORTEST_S = 2.0
"""While training, parts of shots are this long or longer, as clips are that are no longer than a shot."""
EXPOSURE_FPS = 25.0
"""Pictures are those of a camera at this rate, of which some are kept: blurred no more than those of any clip."""
STEP_S = HOP / SAMPLE_RATE
"""Shifts are multiples of a column of the filter bank, 10 ms."""
PART = 20
"""Recordings that are rendered between two savings."""


@dataclass(frozen=True)
class Budget:
    """How much of everything; see what each recipe says of its time."""

    recordings: int = 2000
    held_out: int = 200
    per_recording: int = 4
    steps: int = 900
    batch_size: int = 32
    data_seed: int = TRAIN_SEED

    def scaled(self, share: float) -> Budget:
        """The same proportions with fewer steps and recordings (for tests and notebooks)."""
        held = max(4, int(self.held_out * share))
        recordings = max(held + self.batch_size, int(self.recordings * share))
        return replace(self, recordings=recordings, held_out=held, steps=max(4, int(self.steps * share)))


@dataclass(frozen=True)
class Shots:
    """Many shots as arrays; row i of each belongs to shot i, and the shots of a recording are neighbours.

    Attributes:
        pictures: uint8 [N, T, size, size, 3], a memory map.
        banks: filter banks with the margins, float16 [N, columns, 128], a memory map.
        recordings: int64 [N]; shots of one recording share its number.
        starts: float64 [N], where in the recording each begins, seconds.
        ambiences: the kind of the room's steady sound [N]. Nothing is trained on it.
        quiet_dbfs: float32 [N], level of the quietest half second.
        seed: of the world.
        seconds, margin_s: of a shot, and of sound on either side of it.
        fps: of the pictures; the first is at the shot's start and the last at its end.
    """

    pictures: np.ndarray
    banks: np.ndarray
    recordings: np.ndarray
    starts: np.ndarray
    ambiences: np.ndarray
    quiet_dbfs: np.ndarray
    seed: int
    seconds: float
    margin_s: float
    fps: float

    def __len__(self) -> int:
        return len(self.recordings)

    def seen(self, which: Sequence[int] | np.ndarray) -> torch.Tensor:
        """Pictures uint8 [n, T, 3, size, size] of some shots."""
        return torch.from_numpy(np.stack([self.pictures[i] for i in which])).permute(0, 1, 4, 2, 3)

    def heard(
        self,
        which: Sequence[int] | np.ndarray,
        start_s: float | np.ndarray = 0.0,
        seconds: float | None = None,
        most_s: float = np.inf,
    ) -> torch.Tensor:
        """Filter banks float32 [n, columns, 128] of some shots.

        Args:
            which: rows.
            start_s: from where in the shot, one for all or one each; a late sound is one read earlier.
            seconds: how much; left out, the shot's length.
            most_s: of that only the middle so much.

        Raises:
            UsageError: a part that goes over the margins.
        """
        seconds = self.seconds if seconds is None else seconds
        spare = max(0.0, seconds - most_s)
        starts, seconds = np.broadcast_to(start_s, len(which)) + spare / 2, seconds - spare
        columns = columns_of(round(seconds * SAMPLE_RATE))
        firsts = np.round((starts + self.margin_s) / STEP_S).astype(int)
        if (firsts < 0).any() or (firsts + columns > self.banks.shape[1]).any():
            raise UsageError(
                f"{seconds} s from {starts.min():.2f} s or {starts.max():.2f} s go over the margin of {self.margin_s} s"
            )
        parts = [self.banks[i, a : a + columns] for i, a in zip(which, firsts, strict=True)]
        return torch.from_numpy(np.stack(parts).astype(np.float32))

    def sources(self) -> list[Source]:
        """Where each shot's sound can be had again, for a pool."""
        return [
            Source(f"r{r:05d}", float(start), self.seconds, world_seed=self.seed)
            for r, start in zip(self.recordings, self.starts, strict=True)
        ]

    def split(self, held_out: int) -> tuple[Shots, Shots]:
        """Training and held-out shots: the last ``held_out`` recordings are kept apart, whole.

        Raises:
            UsageError: nothing would be left to train on.
        """
        names = np.unique(self.recordings)
        if not 0 < held_out < len(names):
            raise UsageError(f"{held_out} of {len(names)} recordings cannot be held out")
        first = int(np.searchsorted(self.recordings, names[len(names) - held_out]))
        return tuple(self.rows(part) for part in (slice(None, first), slice(first, None)))

    def rows(self, which: slice) -> Shots:
        """Some shots in a row; memory maps stay memory maps."""
        arrays = (getattr(self, f)[which] for f in ("pictures", "banks", *_COLUMNS))
        return Shots(*arrays, self.seed, self.seconds, self.margin_s, self.fps)

    def draw(self, size: int, each: int, rng: np.random.Generator) -> np.ndarray:
        """Rows of ``each`` shots of ``size`` different recordings: the first of every recording, then the second ...

        Raises:
            UsageError: there are not so many.
        """
        names, first, count = np.unique(self.recordings, return_index=True, return_counts=True)
        if not 0 < size <= len(names) or not 0 < each <= count.min():
            raise UsageError(
                f"{each} shots of each of {size} recordings cannot be drawn; there are {len(names)} recordings with "
                f"{count.min()} or more"
            )
        chosen = rng.permutation(len(names))[:size]
        return np.array([first[i] + rng.permutation(count[i])[:each] for i in chosen]).T.ravel()

    def part(self, which: np.ndarray, rng: np.random.Generator) -> tuple[torch.Tensor, np.ndarray, float]:
        """Pictures of parts of shots, half of them mirrored: uint8 [n, T, 3, size, size]; where each begins, and how
        long they are, seconds.

        All are equally long, which is drawn from :data:`SHORTEST_S` to the whole; each begins at a picture.
        """
        seconds = float(rng.uniform(min(SHORTEST_S, self.seconds), self.seconds))
        count = int(seconds * self.fps + 1e-6) + 1
        most = int((self.seconds - seconds) * self.fps + 1e-6)
        firsts = rng.integers(0, most + 1, len(which))
        parts = np.stack([self.pictures[i, a : a + count] for i, a in zip(which, firsts, strict=True)])
        frames = torch.from_numpy(parts).permute(0, 1, 4, 2, 3)
        mirrored = torch.from_numpy(rng.random(len(which)) < 0.5)
        return torch.where(mirrored[:, None, None, None, None], frames.flip(-1), frames), firsts / self.fps, seconds


def louder(banks: torch.Tensor, rng: np.random.Generator, most_db: float = 6.0) -> torch.Tensor:
    """Filter banks [n, T, 128], each made louder or softer by up to ``most_db``: level alone tells nothing."""
    gain = torch.from_numpy(rng.uniform(-most_db, most_db, len(banks)).astype(np.float32)) * (np.log(10) / 10)
    return (banks + gain[:, None, None]).clamp(min=np.log(FLOOR))


def rounded(value: object) -> object:
    """Scores with numbers of four decimals, for a card."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return round(value, 4) if isinstance(value, float) else value


_COLUMNS = ("recordings", "starts", "ambiences", "quiet_dbfs")


def gather_shots(
    folder: str | Path,
    *,
    recordings: int,
    first: int = 0,
    per_recording: int = 4,
    seconds: float = 3.0,
    margin_s: float = 0.0,
    fps: float = 5.0,
    size: int = 64,
    seed: int = TRAIN_SEED,
    workers: int | None = None,
) -> Shots:
    """Render shots that do not overlap, once; kept in ``folder``.

    About 0.15 s a recording and core, nearly all of it for the sound, and 0.3 MB a shot. An interrupted run goes on
    after its last part.

    Args:
        folder: gets ``pictures.npy``, ``banks.npy`` and a small file for each part.
        recordings, first: how many, from which on.
        per_recording: shots of each.
        seconds, margin_s: of a shot, and of sound on either side; multiples of 10 ms.
        fps: pictures a second, the shot's end included.
        size: pixels of a side.
        seed: of the world.
        workers: processes; left out, one for each core that this process may use.

    Raises:
        UsageError: ``folder`` holds other shots, or a recording has no room for so many.
    """
    folder, n = Path(folder), recordings * per_recording
    folder.mkdir(parents=True, exist_ok=True)
    if (seconds + 2 * margin_s) + (per_recording - 1) * seconds > 28 or per_recording < 1 or recordings < 1:
        raise UsageError(f"{per_recording} shots of {seconds} s with {margin_s} s around do not fit into a recording")
    told = {
        "seed": seed, "first": first, "recordings": recordings, "per_recording": per_recording, "seconds": seconds,
        "margin_s": margin_s, "fps": fps, "size": size,
    }  # fmt: skip
    about = folder / "shots.json"
    if about.exists() and json.loads(about.read_text()) != told:
        raise UsageError(f"{folder} holds other shots: {about.read_text().strip()}; give another folder")
    shapes = {
        "pictures": ((n, round(seconds * fps) + 1, size, size, 3), np.uint8),
        "banks": ((n, columns_of(round((seconds + 2 * margin_s) * SAMPLE_RATE)), BANDS), np.float16),
    }
    if not about.exists():
        for name, (shape, kind) in shapes.items():
            np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=kind, shape=shape)
        for path in folder.glob("part-*.json"):
            path.unlink()
        write_json(about, told)
    parts = [(folder / f"part-{a:05d}.json", a) for a in range(0, recordings, PART)]
    jobs = [(str(path), told, a, min(PART, recordings - a)) for path, a in parts if not path.exists()]
    workers = min(workers or cores(), max(1, len(jobs)))
    if workers == 1:
        for job in jobs:
            _render(job)
    else:  # spawned, not forked: a fork of a process that used torch's threads can hang
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            list(pool.map(_render, jobs))
    shots = [shot for path, _ in parts for shot in json.loads(path.read_text())]
    kinds = (np.int64, np.float64, np.str_, np.float32)
    columns = (np.array([shot[i] for shot in shots], kind) for i, kind in enumerate(kinds))
    maps = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in shapes)
    return Shots(*maps, *columns, seed, seconds, margin_s, fps)


def _render(job: tuple) -> None:
    """One part of :func:`gather_shots`."""
    path, told, begin, count = job
    torch.set_num_threads(1)
    pictures, banks = (np.load(Path(path).parent / f"{name}.npy", mmap_mode="r+") for name in ("pictures", "banks"))
    seconds, margin, many = told["seconds"], told["margin_s"], told["per_recording"]
    n, shots = round((seconds + 2 * margin) * SAMPLE_RATE), []
    times = np.arange(pictures.shape[1]) / told["fps"]
    for index in range(begin, begin + count):
        recording = draw(told["seed"], told["first"] + index)
        mix = world_sound.render(recording, SAMPLE_RATE)["mix"]
        # as if the recording were shorter by what the margins need
        inner = recording.changed(duration_s=recording.duration_s - 2 * margin)
        places = cut_points(inner, Settings(seconds=seconds), many) * SAMPLE_RATE
        for row, start in enumerate(places.astype(int) // HOP * HOP, index * many):
            wave = mix[start : start + n]
            banks[row] = filter_bank(torch.from_numpy(wave[None]))[0].numpy()
            start_s = start / SAMPLE_RATE + margin
            pictures[row] = frames(recording, start_s + times, told["size"], EXPOSURE_FPS)
            inside = wave[round(margin * SAMPLE_RATE) :][: round(seconds * SAMPLE_RATE)]
            shots.append([recording.index, start_s, recording.ambience, round(quiet_dbfs(inside, SAMPLE_RATE), 2)])
    pictures.flush(), banks.flush()
    write_json(Path(path), shots)  # last: a part that has its file is whole
