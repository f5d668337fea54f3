"""The feature store: what is computed of clips, once, for all who train on it.

A feature is a set of arrays with one row for each clip of a table. It lies in a folder whose name holds a key: a hash
of the table, of the recordings, and of the extractor with its settings and the tags of its weights. So nothing that
was computed for other clips or by other weights is ever taken for it, and two runs that want the same share it.

Arrays lie in shards, ``.npy`` files that are memory-mapped when they are read. Each is written whole or not at all: a
run that was killed goes on with the shards that are missing, and two writers of one feature write the same bytes. Under
``accelerate launch`` one process of each machine computes, and the others wait and read.

The table of clips is a ``datasets.Dataset``. The arrays are not in it, because reading rows at random through Arrow
takes longer than reading the shards (``python benchmarks/feature_store.py`` prints by how much).
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from v2a_nb.data.recordings import Recording, Recordings
from v2a_nb.errors import UsageError
from v2a_nb.files import atomic, write_text
from v2a_nb.parallel import once_per_machine, parallel_map

if TYPE_CHECKING:
    from datasets import Dataset

RECORDINGS_PER_SHARD = 20
BATCHES_PER_SHARD = 20


class Extractor(ABC):
    """Computes features of the clips of one recording: a frozen dataclass of settings, which goes to other processes.

    Attributes:
        name: of the feature; its folder begins with it.
    """

    name: ClassVar[str]

    def revision(self) -> dict:
        """What the values hang on beside the clips, ready for JSON: settings, and tags of weights."""
        return asdict(self)  # type: ignore[call-overload]

    @abstractmethod
    def extract(self, recording: Recording, starts: Sequence[int]) -> dict[str, np.ndarray]:
        """Arrays [len(starts), ...] by name, of the clips that begin at ``starts`` (samples)."""


class ShardedArray:
    """Rows that lie in several memory-mapped files, read as one array [N, ...].

    Args:
        shards: arrays [n, ...] that differ in n alone.
        rows: which rows, in which order; left out, all.
    """

    def __init__(self, shards: Sequence[np.ndarray], rows: np.ndarray | None = None) -> None:
        self._shards = list(shards)
        self._ends = np.cumsum([len(shard) for shard in self._shards])
        self._rows = np.arange(self._ends[-1]) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """N, and the shape of a row."""
        return (len(self), *self._shards[0].shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """Data type of the values."""
        return self._shards[0].dtype

    def where(self, rows: np.ndarray | slice) -> ShardedArray:
        """Some of the rows (a mask, numbers or a slice), not read yet."""
        return ShardedArray(self._shards, self._rows[rows])

    def __getitem__(self, which) -> np.ndarray:
        """Read a row (a number), or several (numbers, a mask or a slice): a copy in memory."""
        rows = self._rows[which]
        if np.ndim(rows) == 0:
            shard = int(np.searchsorted(self._ends, rows, side="right"))
            return np.asarray(self._shards[shard][rows - (self._ends[shard - 1] if shard else 0)])
        read = np.empty((len(rows), *self.shape[1:]), self.dtype)
        owner = np.searchsorted(self._ends, rows, side="right")
        for shard in np.unique(owner):
            mine = owner == shard
            read[mine] = self._shards[shard][rows[mine] - (self._ends[shard - 1] if shard else 0)]
        return read

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)


@dataclass(frozen=True)
class Features:
    """Arrays with a row for each clip of a table.

    Attributes:
        table: see :func:`~v2a_nb.data.dataset.cut_clips`.
        recordings: the clips were cut out of.
        arrays: by name, [N, ...] each.
        key: of all this; it changes with the clips, the extractors and their weights.
    """

    table: Dataset
    recordings: Recordings
    arrays: Mapping[str, ShardedArray]
    key: str

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, name: str) -> ShardedArray:
        return self.arrays[name]

    def column(self, name: str) -> np.ndarray:
        """A column of the table, [N]."""
        return np.asarray(self.table[name])

    @cached_property
    def recording_ids(self) -> np.ndarray:
        """A number for the recording of each clip, int64 [N]; files of one recording share the first one's."""
        _, first, group = np.unique(self.column("name"), return_index=True, return_inverse=True)
        return self.column("recording")[first][group]

    def where(self, rows: np.ndarray | slice) -> Self:
        """The features of some clips: a mask, numbers or a slice."""
        numbers = np.arange(len(self))[rows]
        arrays = {name: array.where(numbers) for name, array in self.arrays.items()}
        key = _hash([self.key, hashlib.sha256(numbers.astype("<i8").tobytes()).hexdigest()])
        return replace(self, table=self.table.select(numbers), arrays=arrays, key=key)

    def split(self, held_out: int, asked: int | None = None) -> tuple[Self, Self]:
        """Clips to train on, and the clips of the last ``held_out`` recordings, which stay whole.

        Args:
            held_out: recordings.
            asked: how many recordings the recipe asked for. Of a source that has fewer, at most an eighth are held
                out, and at least one.

        Raises:
            UsageError: none would be held out, or nothing would be left to train on.
        """
        there = len(np.unique(self.recording_ids))
        if asked is not None and there < asked:
            held_out = min(held_out, max(1, there // 8))
        last = of_last_recordings(self.recording_ids, held_out)
        return self.where(~last), self.where(last)

    def with_arrays(self, other: Features) -> Self:
        """These arrays and those of the same clips from elsewhere.

        Raises:
            UsageError: they are not of the same clips.
        """
        if list(self.table["id"]) != list(other.table["id"]):
            raise UsageError("features of other clips cannot be put beside these")
        return replace(self, arrays={**self.arrays, **other.arrays}, key=_hash([self.key, other.key]))

    def load(self) -> Self:
        """The same with all arrays read into memory: their files may be removed."""
        return replace(self, arrays={name: ShardedArray([array[:]]) for name, array in self.arrays.items()})

    def to_dataset(self) -> Dataset:
        """Table and arrays as one ``datasets.Dataset``, for ``push_to_hub`` and other tools."""
        from datasets import Dataset

        def rows():
            for i, row in enumerate(self.table):
                yield {**row, **{name: array[i] for name, array in self.arrays.items()}}

        return Dataset.from_generator(rows)


def of_last_recordings(recordings: np.ndarray, held_out: int) -> np.ndarray:
    """Which rows are of the last ``held_out`` recordings, in the order in which they come first: bool [N].

    Raises:
        UsageError: none would be held out, or nothing would be left to train on.
    """
    names = list(dict.fromkeys(recordings.tolist()))
    if not 0 < held_out < len(names):
        raise UsageError(f"{held_out} of {len(names)} recordings cannot be held out: give more, or --set held_out=N")
    return np.isin(recordings, names[len(names) - held_out :])


class FeatureStore:
    """A folder of features.

    Args:
        root: folder; made when something is computed.
        workers: processes that compute; left out, one for each core that may be used.
    """

    def __init__(self, root: str | Path, workers: int | None = None) -> None:
        self.root, self.workers = Path(root), workers

    def compute(self, table: Dataset, recordings: Recordings, extractor: Extractor) -> Features:
        """Features of all clips of a table, computed on all cores where they are not there yet.

        Args:
            table: see :func:`~v2a_nb.data.dataset.cut_clips`.
            recordings: that the table was cut out of.
            extractor: what is computed.
        """
        place = {"clips": _hash([list(table["recording"]), list(table["start"]), list(table["duration_s"])])}
        revision = {"extractor": extractor.name, **extractor.revision(), **place, **recordings.describe()}
        key = _hash(revision)
        folder = self.root / f"{extractor.name}-{key}"
        numbers = np.asarray(table["recording"])
        firsts = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 1))[::RECORDINGS_PER_SHARD]
        bounds = [*firsts.tolist(), len(numbers)]
        starts = np.asarray(table["start"])

        def work() -> None:
            _describe(folder, revision)
            jobs = [
                (str(folder), k, numbers[a:b], starts[a:b], recordings, extractor)
                for k, (a, b) in enumerate(pairwise(bounds))
                if not _is_there(folder, k)
            ]
            parallel_map(_extract, jobs, self.workers)

        once_per_machine(work)
        return Features(table, recordings, _open(folder, len(bounds) - 1), key)

    def map(
        self,
        features: Features,
        name: str,
        function: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]],
        inputs: Sequence[str],
        revision: Mapping[str, object],
        batch_size: int = 16,
    ) -> Features:
        """Features computed from others, batch by batch, in this process.

        Args:
            features: whose arrays are read.
            name: of what is computed.
            function: from arrays [n, ...] of up to ``batch_size`` clips to arrays [n, ...].
            inputs: names of the arrays that it reads.
            revision: what the values hang on beside ``features``: settings, and tags of weights.

        Returns:
            the new arrays alone, of the same clips.
        """
        revision = {"extractor": name, "of": features.key, "inputs": list(inputs), "batch_size": batch_size, **revision}
        key = _hash(revision)
        folder, per_shard = self.root / f"{name}-{key}", batch_size * BATCHES_PER_SHARD
        shards = -(-len(features) // per_shard)

        def work() -> None:
            _describe(folder, revision)
            for k in range(shards):
                if _is_there(folder, k):
                    continue
                parts: list[dict[str, np.ndarray]] = []
                stop = min((k + 1) * per_shard, len(features))
                for i in range(k * per_shard, stop, batch_size):
                    rows = slice(i, min(i + batch_size, stop))
                    parts.append(function({n: features[n][rows] for n in inputs}))
                _write(folder, k, {n: np.concatenate([part[n] for part in parts]) for n in parts[0]})

        once_per_machine(work)
        return replace(features, arrays=_open(folder, shards), key=key)


def _extract(job: tuple) -> None:
    """One shard of :meth:`FeatureStore.compute`."""
    import torch

    folder, shard, numbers, starts, recordings, extractor = job
    torch.set_num_threads(1)
    parts = []
    for number in dict.fromkeys(numbers.tolist()):
        with torch.no_grad():
            parts.append(extractor.extract(recordings.open(number), starts[numbers == number].tolist()))
    _write(Path(folder), shard, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _describe(folder: Path, revision: Mapping[str, object]) -> None:
    """Say in the folder what lies there, for people who look into it."""
    if not (folder / "about.json").exists():
        write_text(folder / "about.json", json.dumps(revision, indent=1, default=str) + "\n")


def _shard(folder: Path, shard: int) -> Path:
    return folder / f"{shard:05d}.json"


def _is_there(folder: Path, shard: int) -> bool:
    return _shard(folder, shard).exists()


def _write(folder: Path, shard: int, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a shard's arrays, and then the file that says that they are all there."""
    for name, array in arrays.items():
        with atomic(folder / f"{shard:05d}.{name}.npy") as partial, open(partial, "wb") as file:
            np.save(file, array)
    write_text(_shard(folder, shard), json.dumps(sorted(arrays)) + "\n")


def _open(folder: Path, shards: int) -> dict[str, ShardedArray]:
    names = json.loads(_shard(folder, 0).read_text())
    return {
        name: ShardedArray([np.load(folder / f"{k:05d}.{name}.npy", mmap_mode="r") for k in range(shards)])
        for name in names
    }
