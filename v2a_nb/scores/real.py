"""Real clips: onsets of generated sounds against the onsets in the clips' own sound.

``v2a-nb score real FOLDER`` reads the folder's ``onsets.tsv``: lines of five columns (file, class, what, source,
onset times in seconds, divided by spaces), a line of their names before them, comments with ``#``. The weights have
never seen a real video, and the clips are third-party: nothing of them is kept but the numbers.

What the numbers are is told in :mod:`v2a_nb.scores.onset_agreement`. Clips of Greatest Hits (by the column source) are
counted apart: it is the one published set in which a stick hits things in plain view.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from v2a_nb import media
from v2a_nb.audio.onsets import HOP, SAMPLE_RATE, detect_onsets, onset_strength
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError
from v2a_nb.scores import onset_agreement as agree
from v2a_nb.scores.base import Job
from v2a_nb.systems.registry import load
from v2a_nb.training.results import REAL, Row, Table

if TYPE_CHECKING:
    from v2a_nb.models.video_encoders.strike import StrikeVision

TABLE = "onsets.tsv"
SYSTEMS = ("vaura", "egosonics", "action2sound", "retrieval")
SEEDS = 3
SIZE = 256
SMALL = 128
"""Pixels of the short side for systems, and for encoders alone."""
ALL, GREATEST_HITS, REST = "all clips", "Greatest Hits", "the rest"


@dataclass(frozen=True)
class RealClip:
    """A video whose onsets are known.

    Attributes:
        path: of the video.
        onsets: float [n], seconds from its start.
        source: where it is from.
    """

    path: Path
    onsets: np.ndarray
    source: str = ""

    @property
    def group(self) -> str:
        """Greatest Hits, or the rest."""
        return GREATEST_HITS if "greatest hits" in self.source.lower() else REST

    @property
    def scene(self) -> str:
        """The file's name, without the letter that tells clips of one scene apart: ``granite`` of ``granite_b``."""
        return re.sub(r"_[a-z]$", "", self.path.stem)


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
        clips.append(RealClip(Path(folder) / cells[0], onsets, cells[3]))
    if len(clips) < 2:
        raise UsageError(f"{path} names {len(clips)} clips: at least two are needed")
    return clips


class RealSet:
    """The clips of a folder, read once: many encoders and systems can be measured on it.

    Args:
        folder: with ``onsets.tsv``.
        size: pixels of the pictures' short side; the whole picture is kept.

    Attributes:
        known: what the table says of each clip.
        clips: with their own sounds.

    Raises:
        UsageError, MediaError: see :func:`read_onsets`; a video that cannot be read.
    """

    def __init__(self, folder: str | Path, size: int = SMALL) -> None:
        self.known = read_onsets(folder)
        self.clips = [media.open(clip.path, size=size) for clip in self.known]
        self.true = [clip.onsets for clip in self.known]
        self.durations = [clip.duration for clip in self.clips]
        self.scenes = [clip.scene for clip in self.known]

    def rows_of(
        self,
        found: Sequence[Sequence[np.ndarray]],
        curves: Sequence[Sequence[agree.Curve]],
        stuck: Sequence[float] | None = None,
    ) -> list[Row]:
        """The numbers of a table, whose columns are the groups of clips.

        Args:
            found: onsets in seconds, for each clip one list a seed.
            curves: that should rise at onsets, for each clip one a seed.
            stuck: for each clip, the share of its sounds that drone.
        """
        aucs = [
            float(np.mean([agree.auc(curve, self.true[i], self.durations[i]) for curve in some]))
            for i, some in enumerate(curves)
        ]
        all_clips = agree.agreements(self.true, found, self.durations, self.scenes, aucs, stuck)
        rows = []
        for group in (ALL, GREATEST_HITS, REST):
            some = [one for one, clip in zip(all_clips, self.known, strict=True) if group in (ALL, clip.group)]
            rows += agree.rows(group, some) if some else []
        return rows

    def rows_of_curves(self, curves: Sequence[agree.Curve], offsets: Sequence[float] = (0.0,)) -> list[Row]:
        """The numbers of one curve a clip; its peaks are the onsets, by :func:`~.onset_agreement.crossed` thresholds."""
        found = agree.crossed(curves, self.true, self.durations, self.scenes, offsets)
        return self.rows_of(found, [[curve] for curve in curves])


def score_encoder(
    encoder: StrikeVision | Callable[[Clip], agree.Curve], clips: RealSet | str | Path, name: str = "encoder"
) -> Table:
    """Measure how well a video encoder alone knows when real clips sound, without any generation. Takes seconds.

    Args:
        encoder: has ``onset_curve(clip) -> (times [N] in seconds, values [N])``, or is such a function.
        clips: a folder with ``onsets.tsv``, or what was read of one before, which saves time.
        name: of the table.

    Returns:
        a table whose subjects are all clips, Greatest Hits and the rest.

    Examples:
        >>> table = score_encoder(v2a_nb.load("vaura").encoder, "clips")
        >>> table.row("onset_f1_100ms", "Greatest Hits").text_with_interval
        '0.532 [0.444, 0.611]'
    """
    clips = clips if isinstance(clips, RealSet) else RealSet(clips)
    curve = getattr(encoder, "onset_curve", encoder)
    rows = clips.rows_of_curves([curve(clip.silent()) for clip in clips.clips])
    return Table(name, "v2a_nb.scores.real.score_encoder", tuple(rows), source=REAL)


def strength_curve(sound: Sound) -> agree.Curve:
    """The onset strength of a sound, every 5 ms."""
    strength = onset_strength(sound.mono().resample(SAMPLE_RATE).samples[0])
    return np.arange(len(strength)) * HOP / SAMPLE_RATE, strength
