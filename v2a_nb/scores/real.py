"""Real clips: onsets of generated sounds against the onsets in the clips' own sound.

``v2a-nb score real FOLDER`` reads the folder's ``onsets.tsv``: lines of five columns (file, class, what, source,
onset times in seconds, divided by spaces), a line of their names before them, comments with ``#``. The weights have
never seen a real video, and the clips are third-party: nothing of them is kept but the numbers.

What the numbers are is told in :mod:`v2a_nb.scores.onset_agreement`. Clips of Greatest Hits (by the column source) are
counted apart: it is the one published set in which a stick hits things in plain view.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from v2a_nb import media
from v2a_nb.audio.onsets import HOP, SAMPLE_RATE, detect_onsets, onset_strength
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError
from v2a_nb.hits import Hits
from v2a_nb.metrics.ringing import STUCK, longest_hold, loud_share
from v2a_nb.metrics.statistics import mean
from v2a_nb.scores import onset_agreement as agree
from v2a_nb.scores.base import Job
from v2a_nb.scores.real_results import ALL, GREATEST_HITS, GROUPS, REST, SENSITIVITY
from v2a_nb.systems.base import System, evaluating
from v2a_nb.systems.registry import load
from v2a_nb.training.results import REAL, Row, Table

if TYPE_CHECKING:
    from v2a_nb.models.video_encoders.strike import StrikeVision

TABLE = "onsets.tsv"
SYSTEMS = ("vaura", "egosonics", "action2sound", "vta_ldm", "retrieval")
BASELINES_WITH = "vaura"
"""The system beside whose results the baselines are kept, which depend on the clips alone."""
SEEDS, PHASES = 3, 8
SIZE = 128
"""Pixels of the pictures' short side; encoders read at most so many."""
LAGS_S = tuple(np.arange(-20, 21, 4) * 0.005)
"""Constant offsets among which that of a baseline is chosen."""


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
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no text in UTF-8: {error}") from error
    for number, line in enumerate(lines, 1):
        cells = line.split("\t")
        if not line.strip() or line.startswith("#") or cells[0] == "file":
            continue
        try:
            onsets = np.sort(np.array([float(x) for x in cells[4].split()]))
            if not (np.isfinite(onsets) & (onsets >= 0)).all():
                raise ValueError(f"{cells[4]} are no times")
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
        UsageError, MediaError: see :func:`read_onsets`; a video that cannot be read, or ends before an onset.
    """

    def __init__(self, folder: str | Path, size: int = SIZE) -> None:
        self.known = read_onsets(folder)
        self.clips = [media.open(clip.path, size=size) for clip in self.known]
        self.true = [clip.onsets for clip in self.known]
        self.durations = [clip.duration for clip in self.clips]
        self.scenes = [clip.scene for clip in self.known]
        for clip, seconds in zip(self.known, self.durations, strict=True):
            if len(clip.onsets) and clip.onsets[-1] > seconds:
                raise UsageError(
                    f"{clip.path} lasts {seconds:.2f} s, and {TABLE} has an onset at {clip.onsets[-1]:g} s"
                )

    def rows_of(
        self,
        found: Sequence[Sequence[np.ndarray]],
        curves: Sequence[Sequence[agree.Curve]] | None = None,
        **shares: Sequence[float],
    ) -> list[Row]:
        """The numbers of a table, whose columns are the groups of clips.

        Args:
            found: onsets in seconds, for each clip one list a seed.
            curves: that should rise at onsets, for each clip one a seed; left out, there is no AUC.
            shares: other numbers of :class:`~.onset_agreement.Agreement`, one for each clip.
        """
        aucs = [
            mean([agree.auc(curve, self.true[i], self.durations[i]) for curve in some])
            for i, some in enumerate(curves or [[]] * len(self.known))
        ]
        all_clips = agree.agreements(self.true, found, self.durations, self.scenes, auc=aucs, **shares)
        rows = []
        for group in GROUPS:
            some = [one for one, clip in zip(all_clips, self.known, strict=True) if group in (ALL, clip.group)]
            rows += agree.rows(group, some) if some else []
        return rows

    def rows_of_sounds(self, sounds: Sequence[Sequence[Sound]]) -> list[Row]:
        """The numbers of sounds, some for each clip: the onsets that the detector hears in them, and drones."""
        waves = [[_wave(sound) for sound in some] for some in sounds]
        own = [None if clip.sound is None else _wave(clip.sound) for clip in self.clips]
        shares = {
            name: [
                float("nan") if truth is None else mean([measure(wave) - measure(truth) > STUCK for wave in some])
                for truth, some in zip(own, waves, strict=True)
            ]
            for name, measure in {"stuck_share": loud_share, "drone_share": longest_hold}.items()
        }
        found = [[detect_onsets(wave) for wave in some] for some in waves]
        return self.rows_of(found, [[strength_curve(wave) for wave in some] for some in waves], **shares)

    def rows_of_curves(self, curves: Sequence[agree.Curve], offsets: Sequence[float] = (0.0,)) -> list[Row]:
        """The numbers of one curve a clip, whose peaks are its onsets (:func:`~.onset_agreement.crossed`)."""
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
        a table whose subjects are all clips, Greatest Hits and the rest:
        ``table.row("onset_f1_100ms", "Greatest Hits").value``.
    """
    clips = clips if isinstance(clips, RealSet) else RealSet(clips)
    curve = getattr(encoder, "onset_curve", encoder)
    rows = clips.rows_of_curves([curve(clip.silent()) for clip in clips.clips])
    return Table(name, "v2a_nb.scores.real.score_encoder", tuple(rows), source=REAL)


def real(
    job: Job, folder: str | Path, systems: Sequence[str] = SYSTEMS, weights: Mapping[str, str] | None = None
) -> Iterator[tuple[str, list[Table]]]:
    """Measure systems on the clips of a folder, one after the other.

    - ``real``: of its generated sounds; ``real_sensitive``: of those that follow doubtful hits too, with
      :data:`~v2a_nb.scores.real_results.SENSITIVITY`, where a system can be told.
    - ``real_encoder``: of the peaks of its encoder's expected onset flux; ``real_hits``: of the hits that it expects,
      by their probability. Both are without generation, and left out where a system has neither.
    - with :data:`BASELINES_WITH` also those of :func:`baselines`.

    Args:
        job: says what is done.
        folder: with ``onsets.tsv``.
        systems: names out of :data:`SYSTEMS`.
        weights: folders of other weights by system; left out, the shipped ones.

    Yields:
        the name of a system and its tables.

    Raises:
        UsageError, MediaError: see :func:`read_onsets`; a video that cannot be read, an unknown system.
        WeightsError: there are no such weights.
    """
    clips, weights = RealSet(folder), dict(weights or {})
    about = {"clips": len(clips.known), "onsets": sum(len(times) for times in clips.true), "seeds": SEEDS}

    def table(name: str, rows: Sequence[Row]) -> Table:
        return Table(name, "v2a-nb score real FOLDER", tuple(rows), job.table("", []).version, REAL, about=about)

    for name in systems:
        job.say(f"{name}: {len(clips.known)} clips, {SEEDS} seeds")
        model = load(name, weights.get(name))
        tables = [table("real", clips.rows_of_sounds(_generated(model, clips.clips)))]
        if "sensitivity" in getattr(model, "options", ()):
            made = _generated(model, clips.clips, sensitivity=SENSITIVITY)
            tables += [table("real_sensitive", clips.rows_of_sounds(made))]
        if hasattr(getattr(model, "encoder", None), "onset_curve"):
            with evaluating(model):
                curves = [model.encoder.onset_curve(clip.silent()) for clip in clips.clips]
            hits = [hits_curve(model.hits(clip, sensitivity=1.0), clip.duration) for clip in clips.clips]
            tables += [table("real_encoder", clips.rows_of_curves(curves))]
            tables += [table("real_hits", clips.rows_of_curves(hits))]
        if name == BASELINES_WITH:
            tables += [table(f"real_{what}", rows) for what, rows in baselines(clips).items()]
        yield name, tables


def _generated(model: System, clips: Sequence[Clip], **options: object) -> list[list[Sound]]:
    """For each clip, a sound for each seed; ``options`` of ``generate``."""
    seeds = list(range(SEEDS))
    return [model.generate_batch([clip.silent()] * SEEDS, seeds=seeds, **options) for clip in clips]


def baselines(clips: RealSet) -> dict[str, list[Row]]:
    """By name, the numbers of what needs no network.

    - ``truth``: the clips' own sounds, through the onset detector.
    - ``ticker``: onsets at a constant rate, as many as the clip has, from several beginnings.
    - ``motion_energy``: the mean difference of neighbouring frames; ``deceleration``: how much that falls. Threshold
      and a constant offset are chosen on the other half.
    """
    energies = [motion_energy(clip) for clip in clips.clips]
    falls = [(times, np.maximum(-np.diff(values, prepend=values[:1]), 0.0)) for times, values in energies]
    tickers = [
        [(np.arange(len(true)) + phase / PHASES) * seconds / max(len(true), 1) for phase in range(PHASES)]
        for true, seconds in zip(clips.true, clips.durations, strict=True)
    ]
    return {
        "truth": clips.rows_of_sounds([[] if clip.sound is None else [clip.sound] for clip in clips.clips]),
        "ticker": clips.rows_of(tickers),
        "motion_energy": clips.rows_of_curves(energies, LAGS_S),
        "deceleration": clips.rows_of_curves(falls, LAGS_S),
    }


def motion_energy(clip: Clip) -> agree.Curve:
    """The mean absolute difference of each frame from the one before, relative to the clip's largest one."""
    greys = (frame.mean(axis=2, dtype=np.float32) for frame in clip.frames)  # two at a time in memory
    energy = np.array([0.0, *(np.abs(b - a).mean() for a, b in pairwise(greys))], np.float32)
    return clip.times, energy / max(float(energy.max()), 1e-9)


def hits_curve(hits: Hits, duration: float) -> agree.Curve:
    """The probability of expected hits every 5 ms, zero between them."""
    values = np.zeros(max(1, round(duration / agree.STEP_S)))
    for hit in hits:
        at = min(round(hit.time_s / agree.STEP_S), len(values) - 1)
        values[at] = max(values[at], hit.probability)
    return np.arange(len(values)) * agree.STEP_S, values


def strength_curve(wave: np.ndarray) -> agree.Curve:
    """The onset strength of a 16 kHz wave, every 5 ms."""
    strength = onset_strength(wave)
    return np.arange(len(strength)) * HOP / SAMPLE_RATE, strength


def _wave(sound: Sound) -> np.ndarray:
    """The samples of a sound, [n] at 16 kHz."""
    return sound.mono().resample(SAMPLE_RATE).samples[0]
