"""Do metrics of synchrony measure synchrony? Their rank correlation with the true offset, and with the true onset F1.

Papers rank systems by learned judges of synchrony, and no paper says how those rank sounds whose lateness is known. In
Strike World it is. Two questions:

- **offset**: the true sound of a clip is moved by known times. Does a metric fall, the further it is moved? Spearman's
  rank correlation of minus its value with the distance, for each clip by itself, then the mean over clips; late and
  early sounds apart. 1 is a perfect order, 0 none.
- **F1**: systems make sounds for the same clips, good and bad ones. Does a metric put those first whose onsets are
  right? Spearman's rank correlation of its value with the true onset F1, over all clips and systems together.

Two metrics that know more than the judges do stand beside them as ceilings: the onset F1, which knows the truth, and
the lag of envelopes, which knows the true sound. A metric that gives all sounds of a clip the same value orders
nothing: it counts as 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from v2a_nb.clip import Sound
from v2a_nb.metrics import registry
from v2a_nb.metrics.base import Metric, ScoredClip, load
from v2a_nb.metrics.evaluate import scored_clip
from v2a_nb.metrics.ladder import delayed
from v2a_nb.metrics.orders import order_of
from v2a_nb.metrics.pairing import shuffled
from v2a_nb.metrics.statistics import bootstrap, mean_with_interval
from v2a_nb.scores.base import Job
from v2a_nb.systems.registry import load as load_system
from v2a_nb.training.results import Row, Table
from v2a_nb.world import WorldClip, strike_world

CLIPS, SEED, SECONDS, SIZE = 80, 11500, 3.0, 112
SHIFTS_MS = (25, 50, 100, 200, 400, 800)
SYSTEMS = ("vaura", "egosonics", "action2sound", "retrieval")
JUDGES = ("av_align", "av_sync_acc", "vaas_score", "av_sim", "sync_offset_s")
CEILINGS = ("onset_f1_50ms", "envelope_lag_abs_ms")
LATE, EARLY, ORDER = "offset_rho_late", "offset_rho_early", "f1_rho"
BATCH = 8


def synchrony(job: Job) -> list[Table]:
    """A row for each metric: how well it orders sounds by their offset, and by their onset F1."""
    count = max(2, job.count(CLIPS))
    clips = list(strike_world(SEED, count, seconds=SECONDS, size=SIZE, per_recording=1))
    metrics = {name: load(registry.METRICS[name]) for name in (*JUDGES, *CEILINGS)}
    job.say(f"synchrony: {count} clips, {2 * len(SHIFTS_MS) + 1} offsets")
    rows = offset_rows(clips, metrics)
    job.say(f"synchrony: the same clips, by {', '.join(SYSTEMS)}")
    rows += f1_rows(clips, metrics, {name: _generated(name, clips) for name in SYSTEMS})
    about = {"clips": count, "seed": SEED, "seconds": SECONDS, "offsets_ms": ", ".join(map(str, SHIFTS_MS))}
    about["systems"] = ", ".join(SYSTEMS)
    return [job.table("synchrony", rows, down="subject", about=about)]


def offset_rows(clips: Sequence[WorldClip], metrics: Mapping[str, Metric]) -> list[Row]:
    """How well each metric orders the true sound of a clip by how far it is moved.

    Args:
        clips: each of another recording, for the interval.
        metrics: by name; those of which one clip alone has a value.
    """
    found: dict[str, dict[str, list[float]]] = {name: {LATE: [], EARLY: []} for name in metrics}
    for clip in clips:
        scored = scored_clip(clip)
        for which, sign in ((LATE, 1), (EARLY, -1)):
            shifts = [0, *(sign * ms for ms in SHIFTS_MS)]
            sounds = [delayed(clip.stems["mix"], ms / 1000) for ms in shifts]
            for name, metric in metrics.items():
                values = [_goodness(metric, name, scored, sound) for sound in sounds]
                found[name][which].append(rank_correlation(-np.array(values), np.abs(shifts)))
    recordings = [clip.recording.id for clip in clips]
    return [
        Row.of(name, {**mean_with_interval(values, recordings), "extractor": metrics[name].extractor}, which)
        for name, both in found.items()
        for which, values in both.items()
    ]


def f1_rows(
    clips: Sequence[WorldClip], metrics: Mapping[str, Metric], sounds: Mapping[str, Sequence[Sound]]
) -> list[Row]:
    """How well each metric orders sounds of several systems by their true onset F1; without F1 itself.

    Args:
        clips: each of another recording, for the interval.
        metrics: by name.
        sounds: for each clip one, by system; those of shuffled videos are added.
    """
    recordings = [clip.recording.id for clip in clips]
    order = shuffled(recordings)
    if order is not None:
        first = next(iter(sounds.values()))
        sounds = {**sounds, "shuffled": [first[other] for other in order]}
    truth = load(registry.METRICS["onset_f1_50ms"])
    pairs: dict[str, list[list[tuple[float, float]]]] = {name: [] for name in metrics if name != "onset_f1_50ms"}
    for k, clip in enumerate(clips):
        scored = scored_clip(clip)
        right = [_goodness(truth, "onset_f1_50ms", scored, some[k]) for some in sounds.values()]
        for name, of_clip in pairs.items():
            values = [_goodness(metrics[name], name, scored, some[k]) for some in sounds.values()]
            of_clip.append(list(zip(values, right, strict=True)))
    rows = []
    for name, of_clips in pairs.items():
        value = _pooled(of_clips)
        low, high = bootstrap(of_clips, _pooled, recordings)
        measured = {"value": value, "low": low, "high": high, "n": sum(map(len, of_clips))}
        rows.append(Row.of(name, {**measured, "extractor": metrics[name].extractor}, ORDER))
    return rows


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation, ties at their mean rank; pairs with NaN are left out.

    Returns:
        -1 to 1; 0 where one side is all the same; NaN of fewer than three pairs.

    Examples:
        >>> rank_correlation(np.array([1.0, 2, 4]), np.array([10.0, 20, 30]))
        1.0
        >>> rank_correlation(np.ones(3), np.arange(3.0))
        0.0
    """
    from scipy.stats import rankdata

    there = np.isfinite(first) & np.isfinite(second)
    if there.sum() < 3:
        return float("nan")
    one, two = (rankdata(side[there]) for side in (first, second))
    spread = one.std() * two.std()
    return float(np.clip(np.mean((one - one.mean()) * (two - two.mean())) / spread, -1, 1)) if spread else 0.0


def _pooled(of_clips: Sequence[Sequence[tuple[float, float]]]) -> float:
    flat = np.array([pair for of_clip in of_clips for pair in of_clip], float).reshape(-1, 2)
    return rank_correlation(flat[:, 0], flat[:, 1])


def _goodness(metric: Metric, name: str, clip: ScoredClip, sound: Sound) -> float:
    """A metric's value of one sound, turned so that higher is better."""
    value = metric.pool([metric.score(clip.with_sound(sound))], name)
    return -value if order_of(name).better == "lower" else value


def _generated(name: str, clips: Sequence[WorldClip]) -> list[Sound]:
    system, sounds = load_system(name), []
    for start in range(0, len(clips), BATCH):
        part = [clip.clip.silent() for clip in clips[start : start + BATCH]]
        sounds += system.generate_batch(part, seeds=list(range(start, start + len(part))))
    return sounds
