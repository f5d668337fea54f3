"""AudioVisualPairs: what the audio-visual encoders and AV-Sync learn from, which are takes with their places.

A take (:mod:`v2a_nb.data.clip_features`) is a clip as the frozen encoder sees it, with its sound and more of it on either
side, so that a shift brings in what was really heard there. What its place looks like is added here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from v2a_nb.audio.onsets import FLOOR
from v2a_nb.data.clip_features import (
    FPS,
    PART,
    RATE,
    SECONDS,
    SHIPPED_ENCODER,
    STEP_S,
    TRAIN_SEED,
    ClipFeatures,
    compute_clip_features,
    last_of,
)
from v2a_nb.data.pool import Source, quiet_dbfs
from v2a_nb.errors import UsageError
from v2a_nb.files import whole
from v2a_nb.hub import tag_of
from v2a_nb.models.video_encoders.clip_transformer import THUMBNAIL_FPS, scene_thumbnail
from v2a_nb.models.video_encoders.strike import StrikeVision
from v2a_nb.parallel import parallel_map
from v2a_nb.world import sound as world_sound
from v2a_nb.world.picture import frames
from v2a_nb.world.recording import draw

UNSEEN_SEED = 6500
"""The scores are of this world, and so is what the frozen encoder was never trained on."""
SHORTEST_S = 2.0
"""While training, parts of shots are this long or longer, as clips are that are no longer than a shot."""
VECTOR_S = 0.02
"""Of a frame vector."""
LIGHT = ((0.9, 1.1), (-0.05, 0.05))
"""Gain and shift of each colour of a place, and :data:`GRAIN` on every one of its numbers."""
GRAIN = 0.02


@dataclass(frozen=True)
class TrainConfig:
    """How much of everything.

    Attributes:
        recordings: of seed ``data_seed``, two shots of each, of which the last ``watched`` are not trained on and are
            followed meanwhile.
        unseen: recordings of seed ``unseen_seed``, four shots of each, which the scores are of.
        steps, batch_size: of training; a batch has so many recordings.
    """

    recordings: int = 2000
    watched: int = 100
    unseen: int = 100
    steps: int = 800
    batch_size: int = 32
    data_seed: int = TRAIN_SEED
    unseen_seed: int = UNSEEN_SEED

    def scaled(self, share: float) -> TrainConfig:
        """The same proportions with fewer steps and recordings (for tests and notebooks): whole files of these."""
        if share >= 1:
            return replace(self, steps=round(self.steps * share))
        recordings = PART * max(1, round(self.recordings * share / PART))
        held = max(4, round(self.watched * share))
        size = min(self.batch_size, 2 * max(1, (recordings - held) // 2))
        steps = max(1, round(self.steps * share))
        return replace(self, recordings=recordings, watched=held, unseen=held, steps=steps, batch_size=size)


@dataclass(frozen=True)
class AudioVisualPairs:
    """Many shots; entry i of everything belongs to shot i, and the shots of a recording are neighbours.

    Attributes:
        takes: vectors and log-mels.
        places: see :func:`~v2a_nb.models.video_encoders.clip_transformer.scene_thumbnail`, uint8 [N, 8, 8, 3].
        ambiences: the kind of the room's steady sound [N]. Nothing is trained on it.
        seed: of the world.
        encoder: tag of what saw the vectors.
    """

    takes: ClipFeatures
    places: np.ndarray
    ambiences: np.ndarray
    seed: int
    encoder: str

    def __len__(self) -> int:
        return len(self.takes)

    @property
    def recordings(self) -> np.ndarray:
        """int64 [N]; shots of one recording share its number."""
        return self.takes.recordings

    @property
    def seconds(self) -> float:
        """Of a shot."""
        return self.takes.vectors.shape[1] * VECTOR_S

    @property
    def margin_s(self) -> float:
        """Of sound on either side of a shot."""
        return self.takes.margin * STEP_S

    def seen(
        self, which: Sequence[int] | np.ndarray, start_s: float | np.ndarray = 0.0, seconds: float | None = None
    ) -> tuple[Tensor, Tensor]:
        """Vectors float32 [n, T, D] and places uint8 [n, 8, 8, 3] of some shots, or of parts of them.

        Args:
            which: rows.
            start_s: from where in the shot, one for all or one each.
            seconds: how much; left out, the shot's length.
        """
        count = round((self.seconds if seconds is None else seconds) / VECTOR_S)
        firsts = np.broadcast_to(np.round(np.asarray(start_s) / VECTOR_S).astype(int), len(which))
        parts = [self.takes.vectors[i, a : a + count] for i, a in zip(which, firsts, strict=True)]
        return torch.from_numpy(np.stack(parts).astype(np.float32)), torch.from_numpy(self.places[which])

    def heard(
        self, which: Sequence[int] | np.ndarray, start_s: float | np.ndarray = 0.0, seconds: float | None = None
    ) -> Tensor:
        """Log-mels float32 [n, columns, 40] of some shots, or of parts of them.

        Args:
            which, seconds: as for :meth:`seen`.
            start_s: from where in the shot, one for all or one each; a late sound is one read earlier.

        Raises:
            UsageError: a part that goes over the margins.
        """
        seconds = self.seconds if seconds is None else seconds
        columns = round(seconds / STEP_S)
        firsts = self.takes.margin + np.round(np.broadcast_to(start_s, len(which)) / STEP_S).astype(int)
        if (firsts < 0).any() or (firsts + columns > self.takes.mels.shape[2]).any():
            raise UsageError(f"{seconds:.2f} s of sound go over the margin of {self.margin_s:.2f} s")
        parts = [self.takes.mels[i, :, a : a + columns].T for i, a in zip(which, firsts, strict=True)]
        return torch.from_numpy(np.stack(parts).astype(np.float32))

    def sources(self) -> list[Source]:
        """Where each shot's sound can be had again, for a pool."""
        places = zip(self.recordings, self.takes.starts, strict=True)
        return [Source(f"r{r:05d}", float(start), self.seconds, world_seed=self.seed) for r, start in places]

    def quiet_dbfs(self) -> np.ndarray:
        """Ambient level of each shot's sound, see :func:`~v2a_nb.data.pool.quiet_dbfs`, [N]; sounds are rendered
        again, 0.2 s a recording."""
        made, n = np.empty(len(self)), round(self.seconds * RATE)
        for name in np.unique(self.recordings):
            mix = world_sound.render(draw(self.seed, int(name)), RATE)["mix"]
            for i in np.flatnonzero(self.recordings == name):
                first = round(self.takes.starts[i] * RATE)
                made[i] = quiet_dbfs(mix[first : first + n], RATE)
        return made

    def split(self, held_out: int) -> tuple[AudioVisualPairs, AudioVisualPairs]:
        """Training and held-out shots: the last ``held_out`` recordings are kept apart, whole.

        Raises:
            UsageError: nothing would be left to train on.
        """
        last = last_of(self.recordings, held_out)
        return self.where(~last), self.where(last)

    def where(self, chosen: np.ndarray) -> AudioVisualPairs:
        """Some of the shots: a mask bool [N], or rows int64 [n]."""
        return replace(
            self, takes=self.takes.where(chosen), places=self.places[chosen], ambiences=self.ambiences[chosen]
        )

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

    def part(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        """Which part of each of ``count`` shots is used: where it begins [count], and how long all are, seconds.

        The length is drawn from :data:`SHORTEST_S` to the whole; each begins at a vector.
        """
        whole = self.takes.vectors.shape[1]
        length = int(rng.integers(min(round(SHORTEST_S / VECTOR_S), whole), whole + 1))
        return rng.integers(0, whole - length + 1, count) * VECTOR_S, length * VECTOR_S


def relit(places: Tensor, rng: np.random.Generator) -> Tensor:
    """Places uint8 [n, 8, 8, 3] in another light: float32 in [0, 1]."""
    gain, shift = (torch.from_numpy(rng.uniform(a, b, (len(places), 1, 1, 3)).astype(np.float32)) for a, b in LIGHT)
    grain = GRAIN * torch.from_numpy(rng.standard_normal(places.shape, dtype=np.float32))
    return (places.float() / 255 * gain + shift + grain).clamp(0, 1)


def louder(mels: Tensor, rng: np.random.Generator, most_db: float = 6.0) -> Tensor:
    """Log-mels [n, T, 40], each made louder or softer by up to ``most_db``: level alone tells nothing."""
    gain = torch.from_numpy(rng.uniform(-most_db, most_db, (len(mels), 1, 1)).astype(np.float32)) * (np.log(10) / 10)
    # log(power + floor): only the power is made louder
    return torch.log((mels.exp() - FLOOR).clamp(min=0) * gain.exp() + FLOOR)


def compute_audio_visual_pairs(
    folder: str | Path,
    encoder: str | Path = SHIPPED_ENCODER,
    *,
    recordings: int,
    per_recording: int = 2,
    seed: int = TRAIN_SEED,
    workers: int | None = None,
) -> AudioVisualPairs:
    """ClipFeatures, which VAAS and the summarizer may have left in ``folder``, and their places, which are kept there as well.

    Some 15 ms a shot and core where there are takes, else see :func:`~v2a_nb.data.clip_features.compute_clip_features`, whose
    arguments and errors these are.
    """
    how = {"recordings": recordings, "per_recording": per_recording, "seed": seed, "workers": workers}
    takes = compute_clip_features(folder, encoder, **how)
    folder, eyes = Path(folder), StrikeVision.from_pretrained(encoder)
    names = np.unique(takes.recordings)
    parts = [(folder / f"places-{part[0]:05d}-{len(part)}.npy", part) for part in _by(names, PART)]
    jobs = []
    for path, part in parts:
        rows = np.isin(takes.recordings, part)
        if not path.exists():
            jobs.append((str(path), seed, eyes.config.size, takes.recordings[rows], takes.starts[rows]))
    parallel_map(_make_places, jobs, workers)
    places = np.concatenate([np.load(path) for path, _ in parts])
    kinds = {int(name): draw(seed, int(name)).ambience for name in names}
    ambiences = np.array([kinds[int(r)] for r in takes.recordings])
    return AudioVisualPairs(takes, places, ambiences, seed, tag_of(eyes, "vision"))


def gather_all(
    folder: str | Path, budget: TrainConfig, encoder: str | Path, say: Callable[[str], None]
) -> tuple[AudioVisualPairs, AudioVisualPairs, AudioVisualPairs]:
    """AudioVisualPairs to train on, to follow the training with, and of recordings of another seed for the scores."""
    say(f"shots: of {budget.recordings} recordings of seed {budget.data_seed}, {budget.unseen} of {budget.unseen_seed}")
    every = compute_audio_visual_pairs(folder, encoder, recordings=budget.recordings, seed=budget.data_seed)
    unseen = compute_audio_visual_pairs(
        Path(folder) / "unseen", encoder, recordings=budget.unseen, per_recording=4, seed=budget.unseen_seed
    )
    return *every.split(budget.watched), unseen


def _make_places(job: tuple) -> None:
    """One part of :func:`compute_audio_visual_pairs`."""
    path, seed, size, recordings, starts = job
    times = np.arange(0, SECONDS - 1e-6, 1 / THUMBNAIL_FPS)
    made = []
    for index, start in zip(recordings, starts, strict=True):
        made.append(scene_thumbnail(frames(draw(seed, int(index)), start + times, size, FPS), size))
    with whole(path) as partial, open(partial, "wb") as file:
        np.save(file, np.stack(made))


def _by(items: np.ndarray, size: int) -> list[np.ndarray]:
    return [items[i : i + size] for i in range(0, len(items), size)]
