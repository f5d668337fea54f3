"""The table of clips that a recipe trains on: where each begins, and what is said of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from v2a_nb.audio.loudness import loud_parts
from v2a_nb.data.recordings import Recording, Recordings
from v2a_nb.errors import UsageError

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Cut:
    """How clips are cut out of recordings.

    Attributes:
        seconds: of a clip.
        per_recording: clips of each recording; they may overlap.
        recordings, first: how many, and from which on.
        stream: word that names the random numbers which place the clips.
        margin_s: of sound that must be left before and after a clip.
        grid: clips begin at multiples of so many samples.
        in_order: the clips of a recording are sorted by time.
        min_rms_dbfs: only parts above this level (EgoSonics, section 3.1); None: all.
        sample_rate: Hz, of the starts.
    """

    seconds: float
    per_recording: int
    recordings: int
    first: int = 0
    stream: str = "windows"
    margin_s: float = 0.0
    grid: int = 1
    in_order: bool = False
    min_rms_dbfs: float | None = None
    sample_rate: int = 16000


def cut_clips(recordings: Recordings, cut: Cut) -> Dataset:
    """The table of clips, one row each, a recording's rows side by side.

    Columns: ``id``, ``recording`` (the number to open), ``name`` (of the recording, which several files may be parts
    of), ``start`` (samples) and ``start_s`` from the start of what is opened, ``time_s`` from the start of the
    recording, ``duration_s`` and ``text`` (one line, or empty).

    Raises:
        UsageError: no recording is long enough, or one has too few parts that are loud enough.
    """
    from datasets import Dataset, Features, Value

    rows: dict[str, list] = {name: [] for name in _COLUMNS}
    count = cut.recordings
    if recordings.limit is not None:
        count = max(1, -(-recordings.limit // cut.per_recording))
    for number in recordings.numbers(cut.first, count):
        recording = recordings.open(number)
        for start in _starts(recording, cut):
            start_s = int(start) / cut.sample_rate
            rows["id"].append(f"{recording.name}-{round(1000 * start_s):05d}")
            rows["recording"].append(number)
            rows["name"].append(recording.name)
            rows["start"].append(int(start))
            rows["start_s"].append(start_s)
            rows["time_s"].append(recording.begin_s + start_s)
            rows["duration_s"].append(cut.seconds)
            rows["text"].append(recording.narration(start_s, cut.seconds))
    if not rows["id"]:
        least = cut.seconds + 2 * cut.margin_s
        raise UsageError(
            f"no recording lasts {least:.2f} s: give longer videos, or --set seconds=S where the recipe has it"
        )
    return Dataset.from_dict(rows, features=Features({name: Value(kind) for name, kind in _COLUMNS.items()}))


_COLUMNS = {
    "id": "string", "recording": "int64", "name": "string", "start": "int64", "start_s": "float64",
    "time_s": "float64", "duration_s": "float64", "text": "string",
}  # fmt: skip


def cut_sounds(recording: Recording, starts: Sequence[int], seconds: float, sample_rate: int) -> np.ndarray:
    """The sounds of a recording's clips, float32 [len(starts), samples]; silence where the recording ends sooner."""
    samples, wave = round(seconds * sample_rate), recording.wave(sample_rate)
    wave = np.pad(wave, (0, max(0, max(starts) + samples - len(wave))))
    return np.stack([wave[start : start + samples] for start in starts]).astype(np.float32)


def _starts(recording: Recording, cut: Cut) -> np.ndarray:
    """Starts of the clips of a recording, samples; empty where it is too short."""
    rate = cut.sample_rate
    total = round(recording.duration_s * rate)
    length, margin = round(cut.seconds * rate), round(cut.margin_s * rate)
    if total < length + 2 * margin:
        return np.zeros(0, np.int64)
    rng = recording.rng(cut.stream)
    if cut.min_rms_dbfs is not None:
        seed = int(rng.integers(2**31))
        starts = loud_parts(
            recording.wave(rate), rate, cut.seconds, cut.min_rms_dbfs, at_most=cut.per_recording, seed=seed
        )  # fmt: skip
        if len(starts) < cut.per_recording:
            raise UsageError(
                f"only {len(starts)} of {cut.per_recording} clips of {recording.name} lie above "
                f"{cut.min_rms_dbfs:g} dBFS"
            )
        return starts
    low, high = margin // cut.grid, (total - length - margin) // cut.grid
    starts = cut.grid * rng.integers(low, max(high, low + 1), cut.per_recording)
    return np.sort(starts) if cut.in_order else starts
