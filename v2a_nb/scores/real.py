"""Real clips: onsets of generated sounds against the onsets in the clips' own sound.

``v2a-nb score real FOLDER`` reads the folder's ``onsets.tsv``: lines of five columns (file, class, what, source,
onset times in seconds, divided by spaces), a line of their names before them, comments with ``#``. The weights have
never seen a real video, and the clips are third-party: nothing of them is kept but the numbers.

Pooled F1 rewards many onsets and regular ones, so every value stands beside two controls: the same generated onsets
against those of other clips, and against the clip's own moved by every tenth of its length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from v2a_nb import media
from v2a_nb.audio.onsets import detect_onsets, match_onsets
from v2a_nb.errors import UsageError
from v2a_nb.metrics.statistics import bootstrap
from v2a_nb.scores.base import Job
from v2a_nb.systems.registry import load
from v2a_nb.training.results import REAL, Row, Table

TABLE = "onsets.tsv"
SYSTEMS = ("vaura", "egosonics", "action2sound", "retrieval")
WINDOWS_S = (0.05, 0.1)
SEEDS = 3
SHIFTS = 10
SIZE = 256


@dataclass(frozen=True)
class RealClip:
    """A video whose onsets are known.

    Attributes:
        path: of the video.
        onsets: float [n], seconds from its start.
    """

    path: Path
    onsets: np.ndarray


def read_onsets(folder: str | Path) -> list[RealClip]:
    """The clips of a folder with ``onsets.tsv``, in its order.

    Raises:
        UsageError: there is no such table, a line that cannot be read, or a file that is missing.
    """
    path = Path(folder) / TABLE
    if not path.is_file():
        raise UsageError(f"{folder} has no {TABLE}: give a folder of videos with a table of their onsets")
    clips = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        cells = line.split("\t")
        if not line.strip() or line.startswith("#") or cells[0] == "file":
            continue
        try:
            onsets = np.sort(np.array([float(x) for x in cells[4].split()]))
        except (IndexError, ValueError) as error:
            raise UsageError(f"{path}, line {number}: five columns are needed, the last with times: {error}") from error
        if not (Path(folder) / cells[0]).is_file():
            raise UsageError(f"{path}, line {number}: there is no {cells[0]}")
        clips.append(RealClip(Path(folder) / cells[0], onsets))
    if len(clips) < 2:
        raise UsageError(f"{path} names {len(clips)} clips: at least two are needed")
    return clips


def real(job: Job, folder: str | Path, systems: Sequence[str] = SYSTEMS) -> dict[str, Table]:
    """By system, the table of its onset F1 on the clips of a folder.

    Raises:
        UsageError, MediaError: see :func:`read_onsets`; a video that cannot be read.
    """
    known = read_onsets(folder)
    clips = [media.open(clip.path, size=SIZE).silent() for clip in known]
    true = [clip.onsets for clip in known]
    about = {"clips": len(known), "onsets": sum(len(times) for times in true), "seeds": SEEDS}
    tables = {}
    for name in systems:
        job.say(f"{name}: {len(known)} clips, {SEEDS} seeds")
        model = load(name)
        found = [[detect_onsets(model.generate(clip, seed=seed)) for seed in range(SEEDS)] for clip in clips]
        rows = f1_rows(name, true, found, [clip.duration for clip in clips])
        command = "v2a-nb score real FOLDER"
        tables[name] = Table("real", command, tuple(rows), job.table("", []).version, REAL, about=about)
    return tables


def f1_rows(
    subject: str, true: Sequence[np.ndarray], found: Sequence[Sequence[np.ndarray]], durations: Sequence[float]
) -> list[Row]:
    """Pooled onset F1 of a system with its controls.

    Args:
        subject: the system.
        true: onsets of each clip, seconds.
        found: of each clip, those of the sounds that were generated for it with each seed.
        durations: of the clips, seconds.
    """
    n = len(true)
    rows = []
    for window in WINDOWS_S:
        own = [[(true[i], some) for some in found[i]] for i in range(n)]
        moved = [
            [
                (np.sort((true[i] + k * durations[i] / SHIFTS) % durations[i]), some)
                for some in found[i]
                for k in _SHIFTED
            ]
            for i in range(n)
        ]
        others = [
            [_common(true[i], some, min(durations[i], durations[j])) for j in range(n) if j != i for some in found[j]]
            for i in range(n)
        ]
        columns = {subject: own, "onsets moved in time": moved, "sounds of other clips": others}
        for column, groups in columns.items():
            counts = [_counts(pairs, window) for pairs in groups]
            low, high = bootstrap(counts, _f1)
            measured = {"value": _f1(counts), "low": low, "high": high, "n": sum(len(times) for times in true)}
            rows.append(Row.of(column, measured, f"onset_f1_{1000 * window:.0f}ms"))
    return rows


_SHIFTED = range(1, SHIFTS)


def _common(true: np.ndarray, found: np.ndarray, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Both as far as the shorter of two clips goes."""
    return true[true < seconds], found[found < seconds]


def _counts(pairs: Sequence[tuple[np.ndarray, np.ndarray]], window: float) -> tuple[int, int]:
    """Matched onsets, and all onsets of both sides."""
    return sum(len(match_onsets(a, b, window)) for a, b in pairs), sum(len(a) + len(b) for a, b in pairs)


def _f1(counts: Sequence[tuple[int, int]]) -> float:
    matched, total = np.sum(counts, axis=0)
    return float(2 * matched / total) if total else float("nan")
