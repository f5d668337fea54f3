"""Truth metrics: a generated sound against what really happened in a Strike World clip.

Windows of onset F1 are inclusive. As in mir_eval, an onset and an event match at most once; unlike there, the F1 of
two empty lists is NaN and not 0. Offsets are measured over pairs up to 250 ms apart: within 50 ms, errors over 50 ms
would not be noticed; the same gate decides what is missed and what is a false alarm. Every metric is pooled over clips:
all hits over all events, so that a clip with one event weighs as one event. The onset detector is
:mod:`v2a_nb.audio.onsets`. Where no truth is known, the onset metrics that are named compare with the onsets of the
clip's own true sound; their extractor then says ``mel-rise against reference``.

What each one cannot see: silence keeps every near miss silent, so read ``near_miss_silent`` beside the F1; guessing
one material scores about 0.2; the level says nothing of the ambience's kind. The onset metrics do not hear how a hit
decays: ``decay_error_db`` and ``stuck_share`` do (:mod:`v2a_nb.metrics.ringing`), and silence is never stuck. Precision
and the rate of false alarms say nothing of silence, which has no onset; a sound that clicks all the time has full
recall and misses nothing, so read both beside the F1; a count can be right with every onset at a wrong time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from v2a_nb.audio.onsets import detect_onsets, match_onsets
from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError, check_types
from v2a_nb.metrics.base import Metric, ScoredClip
from v2a_nb.metrics.ringing import STUCK, Hit, decay_errors, event_distances, loud_share
from v2a_nb.metrics.statistics import mean, share_interval

if TYPE_CHECKING:
    from v2a_nb.metrics.material.metric import MaterialClassifier

WINDOWS_MS = (25, 50, 100)
GATE_S = 0.25
NEAR_MISS_S = 0.1
TAIL_S = 0.15
"""What follows an event or an onset within this time is not taken for ambience."""
NAMES = (
    *(f"onset_f1_{w}ms" for w in WINDOWS_MS), "onset_offset_abs_ms", "onset_offset_signed_ms", "near_miss_silent",
    "material_accuracy", "ambience_error_db", "decay_error_db", "stuck_share", "event_mel_distance",
    "event_stft_distance",
)  # fmt: skip
"""The truth metrics: what :func:`v2a_nb.evaluate` scores where no metrics are named. The last four also need the true
sound."""
DETAILS = (
    *(f"onset_precision_{w}ms" for w in WINDOWS_MS), *(f"onset_recall_{w}ms" for w in WINDOWS_MS), "onset_miss_rate",
    "onset_false_alarm_rate", "onset_count_error",
)  # fmt: skip
"""What else :func:`pool` and :func:`count` know: scored where it is named."""


@dataclass
class ClipScore:
    """The counts and offsets of one clip, which :func:`pool` turns into scores.

    Attributes:
        id: of the clip.
        recording: name of the recording that it was cut from.
        events: how many true events sound.
        onsets: how many onsets the sound has.
        hits: by window in ms, how many of them match.
        offsets: of onsets from events, s; positive is late.
        near_misses, near_misses_silent: how many there are, and how many of them have no onset.
        materials: (true, classified) for each strike and bounce.
        ambience_error: dB, positive is too loud; NaN where the truth says nothing of the ambience.
        decay_errors: dB, one for each hit whose decay can be compared; positive rings on.
        loud_excess: share of time that is loud, minus that of the true sound; NaN without true sound.
        event_distances: of the log-mels and of the STFTs in the window of each event.
        against: what the onsets are compared with: ``truth``, or the onsets of the ``reference``.
    """

    id: str
    recording: str
    events: int
    onsets: int
    hits: dict[int, int]
    offsets: list[float] = field(default_factory=list)
    near_misses: int = 0
    near_misses_silent: int = 0
    materials: list[tuple[str, str]] = field(default_factory=list)
    ambience_error: float = float("nan")
    decay_errors: list[float] = field(default_factory=list)
    loud_excess: float = float("nan")
    event_distances: list[tuple[float, float]] = field(default_factory=list)
    against: str = "truth"

    def row(self) -> dict:
        """The truth metrics of this clip alone, by name, and its ``id``."""
        return {"id": self.id, **{name: pool([self], name) for name in NAMES}}


@check_types
def score_clip(sound: Sound, entry: dict, classifier=None, reference: Sound | None = None) -> ClipScore:
    """Score one sound against one clip's entry of ``truth.json``.

    Args:
        sound: any rate; it is compared at 16 kHz. What reaches past the clip's end is not scored; events after
            the end of a short sound are missed.
        entry: with ``id``, ``recording``, ``duration_s``, ``events`` and ``ambient``.
        classifier: a :class:`~v2a_nb.metrics.material.metric.MaterialClassifier`; left out, the shipped one.
        reference: the clip's true sound, for the metrics that compare with it.
    """
    from v2a_nb.metrics.material.metric import shipped_classifier

    wave = sound.mono().resample(16000).samples[0]
    seconds = entry.get("duration_s", sound.duration)
    wave = wave[: round(seconds * 16000)]
    events = sorted(entry["events"], key=lambda e: e["time_s"])
    sounding = [e for e in events if e["sounding"]]
    true = np.array([e["time_s"] for e in sounding])
    found = detect_onsets(wave)
    score = compare_onsets(true, found, entry["id"], entry.get("recording", entry["id"]))
    for event in events:
        if event["sounding"]:
            continue
        time = event["time_s"]
        if len(true) and np.abs(true - time).min() < 2 * NEAR_MISS_S:
            continue  # a true hit is so near that an onset there may be its own
        score.near_misses += 1
        quiet = not len(found) or np.abs(found - time).min() > NEAR_MISS_S
        score.near_misses_silent += int(quiet)
    classifier = classifier or shipped_classifier()
    # a hit is classified at its matched onset, else at the true time
    near = {i: float(found[j]) for i, j in nearest_pairs(true, found, NEAR_MISS_S)}
    hits_at = [
        (e["material"], near.get(i, e["time_s"]))
        for i, e in enumerate(sounding)
        if e["kind"] != "scrape" and e["time_s"] < seconds - 0.1  # too little is left of a hit at the very end
    ]
    classified = classifier.classify(wave, np.array([time for _, time in hits_at]))
    score.materials = [(material, name) for (material, _), name in zip(hits_at, classified, strict=True)]
    busy = [(e["time_s"], e["time_s"] + e.get("duration_s", 0.0)) for e in sounding]
    level = quiet_level(wave, busy + [(float(t), float(t)) for t in found])
    if "ambient" in entry:
        score.ambience_error = level - entry["ambient"]["level_dbfs"]
    if reference is not None:
        n = round(seconds * 16000)
        own = sound.mono().resample(16000).fit(n=n).samples[0]
        theirs = reference.mono().resample(16000).fit(n=n).samples[0]
        onsets = detect_onsets(theirs)
        in_true = {i: float(onsets[j]) for i, j in nearest_pairs(true, onsets, NEAR_MISS_S)}
        hits = [
            Hit(near.get(i, np.nan), in_true.get(i, e["time_s"]), e["kind"] != "scrape") for i, e in enumerate(sounding)
        ]
        levels = level, quiet_level(theirs, busy + [(float(t), float(t)) for t in onsets])
        score.decay_errors = decay_errors(own, theirs, hits, levels)
        score.loud_excess = loud_share(own) - loud_share(theirs)
        score.event_distances = event_distances(own, theirs, true)
    return score


def compare_onsets(true: np.ndarray, found: np.ndarray, id: str, recording: str, against: str = "truth") -> ClipScore:
    """Compare the onsets of a clip with those it should have, and nothing else.

    Args:
        true, found: seconds, increasing.
        id, recording, against: as in :class:`ClipScore`.
    """
    hits = {w: len(match_onsets(true, found, w / 1000)) for w in WINDOWS_MS}
    offsets = [float(found[j] - true[i]) for i, j in nearest_pairs(true, found, GATE_S)]
    return ClipScore(id, recording, len(true), len(found), hits, offsets, against=against)


def nearest_pairs(true: np.ndarray, found: np.ndarray, gate: float) -> list[tuple[int, int]]:
    """As many pairs at most ``gate`` seconds apart as there can be and, of those, the nearest.

    F1 needs only how many pairs there are; an offset needs the right partner.

    Examples:
        >>> nearest_pairs(np.array([1.0]), np.array([0.8, 1.0]), 0.25)
        [(0, 1)]
    """
    if not len(true) or not len(found):
        return []
    from scipy.optimize import linear_sum_assignment

    away = np.abs(true[:, None] - found[None, :])
    within = away <= gate + 1e-9
    # one more pair outweighs any sum of distances
    cost = np.where(within, away - gate * (len(true) + len(found) + 1), 0.0)
    rows, columns = linear_sum_assignment(cost)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if within[i, j]]


def quiet_level(wave: np.ndarray, busy: Sequence[tuple[float, float]] = ()) -> float:
    """Level of a 16 kHz wave's quiet parts, dBFS RMS; -120 for silence.

    The mean power of 64 ms frames that (1) lie outside of every ``busy`` stretch (start and end, s) and
    the :data:`TAIL_S` after it, and (2) are at most 4 dB over the 15th percentile of those, which leaves
    out long tails and passing sounds. Calibrated on Strike World's true mixes: half of them are within
    0.1 dB of the ambience stem's level. Where no five frames are free of events, all are taken.
    """
    n, hop = 1024, 256
    wave = np.pad(wave, (0, max(0, n - len(wave))))
    energy = np.concatenate([[0.0], np.cumsum(np.square(wave, dtype=np.float64))])
    starts = np.arange(0, len(wave) - n + 1, hop)
    power = (energy[starts + n] - energy[starts]) / n
    free = np.ones(len(starts), bool)
    for first, last in busy:
        free &= (starts / 16000 >= last + TAIL_S) | ((starts + n) / 16000 <= first - 0.02)
    if free.sum() >= 5:
        power = power[free]
    level = 10 * np.log10(np.maximum(power, 1e-12))
    quiet = power[level <= np.percentile(level, 15) + 4]
    return float(10 * np.log10(max(quiet.mean(), 1e-12)))


@check_types
def pool(scores: Sequence[ClipScore], name: str) -> float:
    """One truth metric over clips; NaN where nothing was counted.

    Raises:
        UsageError: ``name`` is none of :data:`NAMES` and :data:`DETAILS`.
    """
    if name in _F1:
        total = sum(s.events + s.onsets for s in scores)
        return 2 * sum(s.hits[_F1[name]] for s in scores) / total if total else float("nan")
    if name in SHARES:
        hits, trials = np.sum([_share(s, name) for s in scores], axis=0) if scores else (0, 0)
        return float(hits / trials) if trials else float("nan")
    values = _values(scores, name)
    if name.startswith("onset_offset_"):
        return float(np.median(values)) if values else float("nan")
    return mean(values)


@check_types
def count(scores: Sequence[ClipScore], name: str) -> int:
    """How many things a truth metric was counted over: events, offsets, near misses, hits or clips.

    Raises:
        UsageError: ``name`` is none of :data:`NAMES` and :data:`DETAILS`.
    """
    if name in SHARES:
        return sum(_share(s, name)[1] for s in scores)
    return sum(s.events for s in scores) if name in _F1 else len(_values(scores, name))


def _share(score: ClipScore, name: str) -> tuple[int, int]:
    """Return of how many things in a clip the metric is the share, and how many of them count for it."""
    if name == "near_miss_silent":
        return score.near_misses_silent, score.near_misses
    if name == "material_accuracy":
        return sum(true == classified for true, classified in score.materials), len(score.materials)
    if name == "stuck_share":
        return int(score.loud_excess > STUCK), int(np.isfinite(score.loud_excess))
    if name == "onset_miss_rate":
        return score.events - len(score.offsets), score.events
    if name == "onset_false_alarm_rate":
        return score.onsets - len(score.offsets), score.onsets
    _, what, window = name.split("_")
    return score.hits[int(window.removesuffix("ms"))], score.onsets if what == "precision" else score.events


SHARES = frozenset({"near_miss_silent", "material_accuracy", "stuck_share", *DETAILS} - {"onset_count_error"})
"""Those of the truth metrics that are shares: of near misses, hits, clips, onsets or events."""
_F1 = {f"onset_f1_{w}ms": w for w in WINDOWS_MS}
_EVENT = {"event_mel_distance": 0, "event_stft_distance": 1}


def _values(scores: Sequence[ClipScore], name: str) -> list[float]:
    """Return the numbers that a metric averages: one for each offset (ms), hit or clip."""
    if name == "onset_offset_abs_ms":
        return [1000 * abs(offset) for s in scores for offset in s.offsets]
    if name == "onset_offset_signed_ms":
        return [1000 * offset for s in scores for offset in s.offsets]
    if name == "onset_count_error":
        return [float(abs(s.onsets - s.events)) for s in scores]
    if name == "ambience_error_db":
        return [abs(s.ambience_error) for s in scores if np.isfinite(s.ambience_error)]
    if name == "decay_error_db":
        return [abs(error) for s in scores for error in s.decay_errors]
    if name in _EVENT:
        return [distances[_EVENT[name]] for s in scores for distances in s.event_distances]
    raise UsageError(f"unknown truth metric {name!r}; known are {', '.join(NAMES + DETAILS)}")


class _TruthMetric(Metric):
    """A part of :class:`ClipScore`, which is counted once for all truth metrics."""

    def score(self, clip: ScoredClip) -> ClipScore:
        return clip.once_per_sound("truth", lambda: score_clip(clip.sound, clip.truth, reference=clip.reference))

    def pool(self, rows: Sequence[ClipScore], name: str) -> float:
        return pool(rows, name)

    def count(self, rows: Sequence[ClipScore], name: str) -> int:
        return count(rows, name)

    def interval(self, rows: Sequence[ClipScore], recordings: Sequence[str], name: str) -> tuple[float, float]:
        if name not in SHARES:
            return super().interval(rows, recordings, name)
        return share_interval([_share(row, name) for row in rows], recordings)

    def comparable(self, first: ClipScore, second: ClipScore, name: str) -> bool:
        return True  # what is pooled over events and onsets may be nothing in one clip of one system


class OnsetMetrics(_TruthMetric):
    """When it sounds, and when it should not."""

    extractor = "mel-rise"

    def score(self, clip: ScoredClip) -> ClipScore:
        if clip.truth is not None:
            return super().score(clip)
        if clip.reference is None:
            raise UsageError("there are neither true events nor a true sound to compare its onsets with")
        reference = clip.reference.fit(clip.duration)
        true = clip.once_per_clip("onsets of reference", lambda: detect_onsets(reference))
        return clip.once_per_sound(
            "against reference",
            lambda: compare_onsets(true, detect_onsets(clip.fitted_sound), clip.id, clip.recording, "reference"),
        )

    def results(
        self, rows: Sequence[ClipScore], recordings: Sequence[str], names: Sequence[str] | None = None
    ) -> list[dict]:
        results = super().results(rows, recordings, names or NAMES[:6])
        if any(row.against == "reference" for row in rows):
            results = [{**row, "extractor": f"{self.extractor} against reference"} for row in results]
        return results


class MaterialAccuracy(_TruthMetric):
    """Whether hits sound like their material."""

    def load_model(self) -> MaterialClassifier:
        from v2a_nb.metrics.material.metric import shipped_classifier

        return shipped_classifier()


class AmbienceError(_TruthMetric):
    """Whether the ambience has its true level."""

    extractor = "quiet-level"


class Ringing(_TruthMetric):
    """Whether hits decay as the true ones do, and clips become quiet again."""

    controls = frozenset({"round trip", "shuffled"})
    extractor = "rms"


class EventDistance(_TruthMetric):
    """How far the spectra of hits are from the true ones."""

    controls = frozenset({"round trip", "shuffled"})
    extractor = "spectra"


def summarize(scores: Sequence[ClipScore]) -> list[dict]:
    """All truth metrics as rows of a report, with intervals over recordings."""
    metrics = OnsetMetrics(), MaterialAccuracy(), AmbienceError(), Ringing(), EventDistance()
    recordings = [s.recording for s in scores]
    return [row for metric in metrics for row in metric.results(scores, recordings)]
