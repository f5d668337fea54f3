"""The ambience of generated sounds: its level, whether the level follows a condition, and what is left without it.

Action2Sound measures the ambient level of its sounds as that of the quietest half second (section 5.3, figure 7a), and
asks listeners whether action-focused sounds keep their action (section 5.5): "we lack a good evaluation of this setting
(there is no ground truth audio source separation for the data)". In Strike World the times of all hits and the stems
are known, so that both can be measured.

| function | what it measures |
|---|---|
| :func:`ambience_dbfs` | level of the steady sound, away from events; pooled, the metric ``ambience_db`` |
| :func:`level_curve` | whether the level follows that of the condition: slope, R2 |
| :func:`leakage` | differences between action-ambient and action-focused sounds: ambience, hits, onsets |
| :func:`~v2a_nb.metrics.ambience.kind.ambience_kind_accuracy` | whether it is the right kind of ambience |

None of them measures quality: white noise of the right level, with clicks at the right times, passes the first three.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from v2a_nb.audio.onsets import SAMPLE_RATE, detect_onsets
from v2a_nb.clip import Sound
from v2a_nb.data.pool import QUIET_WINDOW_S, quiet_dbfs
from v2a_nb.errors import UsageError, check_types
from v2a_nb.metrics import truth
from v2a_nb.metrics.ambience.kind import band_powers
from v2a_nb.metrics.base import Metric, ScoredClip
from v2a_nb.metrics.statistics import bootstrap, mean

SLOPE, R2, SPAN_DB = 0.8, 0.9, 30.0
"""A level follows its condition with at least this slope and R2, over a range of conditions of at least so many dB."""
AUDIBLE_DB, SOFTER_DB = 6.0, 10.0
"""A hit is audible from 6 dB over the ambience on, and is kept if it becomes at most 10 dB softer."""
HIT_BEFORE_S, HIT_AFTER_S, HIT_S = 0.03, 0.08, 0.02
"""A hit's level is that of the loudest 20 ms around its time: a generated onset may be a frame early or late."""
WINDOW = 0.05
"""Tolerance of onset F1, seconds."""
CLEAR_DB = 10.0
"""A place in time and frequency belongs to a stem that is this much louder there than the others together."""
SOFTEST_DBFS = -120.0


@check_types
def ambience_dbfs(sound: Sound, events: Sequence | None = None) -> float:
    """Level of the steady sound of a clip, dBFS RMS, at least -120.

    Args:
        sound: any rate; it is measured at 16 kHz.
        events: of the clip: entries of ``truth.json``, of which those that sound are used, or times in seconds. The
            quiet frames away from them and from all other onsets are measured
            (:func:`v2a_nb.metrics.truth.quiet_level`). Left out, the quietest half second is measured, as in the paper
            (:func:`~v2a_nb.data.pool.quiet_dbfs`).

    ``v2a-nb score ambience`` measures the error against the ``ambient`` stem of true mixes, with events and without.
    The level is too high where a bowl rings all the time.
    """
    wave = sound.mono().resample(SAMPLE_RATE).samples[0]
    if events is None:
        return quiet_dbfs(wave, SAMPLE_RATE)
    busy = _busy(events)
    busy += [(float(t), float(t)) for t in detect_onsets(wave)]
    return truth.quiet_level(wave, busy)


@check_types
def in_band_dbfs(sound: Sound) -> float:
    """Level between 125 and 7600 Hz, dBFS RMS, at least -120: the range of Action2Sound's mel spectrogram.

    Hum and traffic have most of their power below it: a system that keeps its condition exactly still makes them
    softer.
    """
    power = band_powers(sound.mono().resample(SAMPLE_RATE).samples[0]).sum(axis=1).mean()
    return float(10 * np.log10(max(power, 1e-12)))


def _busy(events: Sequence) -> list[tuple[float, float]]:
    """Start and end (s) of the events that sound; a time is both."""
    stretches = []
    for event in events:
        if not isinstance(event, Mapping):
            stretches.append((float(event), float(event)))
        elif event["sounding"]:
            stretches.append((event["time_s"], event["time_s"] + event.get("duration_s", 0.0)))
    return stretches


class AmbienceLevel(Metric):
    """Mean ambient level over clips, in dBFS; away from the true events where they are known."""

    controls = frozenset({"true", "round trip"})
    extractor = "quiet-level"

    def score(self, clip: ScoredClip) -> float:
        return ambience_dbfs(clip.sound, None if clip.truth is None else clip.truth["events"])


def quiet_energy(sound: Sound) -> float:
    """The lowest sum of squares of any half second at 16 kHz, in steps of 0.1 s: Action2Sound's ambient level.

    Examples:
        >>> round(quiet_energy(Sound(np.full(48000, 0.1), 16000)), 3)
        80.0
    """
    wave = sound.mono().resample(SAMPLE_RATE).samples[0]
    return min(len(wave), round(QUIET_WINDOW_S * SAMPLE_RATE)) * 10 ** (quiet_dbfs(wave, SAMPLE_RATE) / 10)


class AmbienceEnergy(Metric):
    """Mean over clips of :func:`quiet_energy`, as Action2Sound's released code has it: loud clips dominate it.

    A gap between two steps is missed: next to loud sound it may be 18 dB too high.
    """

    controls = frozenset({"true", "round trip"})
    extractor = "quiet-energy"

    def score(self, clip: ScoredClip) -> float:
        return quiet_energy(clip.sound)


# --- does the level follow? -------------------------------------------------------------------------


@dataclass(frozen=True)
class LevelCurve:
    """A straight line through the ambient levels of generated sounds over those of their conditions.

    Attributes:
        slope: dB of the sound for each dB of the condition; 1 follows, 0 does not.
        intercept: dBFS of the sound at a condition of 0 dBFS.
        r2: share of the variance of the sounds' levels that the line explains.
        slope_low, slope_high, r2_low, r2_high: 95 % intervals over recordings.
        span_db: from the lowest condition to the highest.
        n: points.
    """

    slope: float
    intercept: float
    r2: float
    slope_low: float
    slope_high: float
    r2_low: float
    r2_high: float
    span_db: float
    n: int

    @property
    def follows(self) -> bool:
        """Slope of at least 0.8 and R2 of at least 0.9 over at least 30 dB."""
        return self.span_db >= SPAN_DB - 1e-6 and self.slope >= SLOPE and self.r2 >= R2

    def __repr__(self) -> str:
        return (
            f"LevelCurve(slope {self.slope:.3f} [{self.slope_low:.3f}, {self.slope_high:.3f}], R2 {self.r2:.3f} "
            f"[{self.r2_low:.3f}, {self.r2_high:.3f}], {self.n} points over {self.span_db:g} dB)"
        )


@check_types
def level_curve(
    condition_dbfs: Sequence[float], sound_dbfs: Sequence[float], recordings: Sequence[str] | None = None
) -> LevelCurve:
    """Whether the ambient level of generated sounds follows that of their conditions, by least squares.

    Args:
        condition_dbfs: levels of the conditions.
        sound_dbfs: of the sounds generated with them, as :func:`ambience_dbfs` measures.
        recordings: of the points; those of one are drawn together for the intervals. Left out, each is on its own.

    Raises:
        UsageError: not as many of each, levels that are not numbers, or only one level.

    Examples:
        >>> curve = level_curve([-70, -60, -50, -40], [-66, -58, -50, -42])
        >>> round(curve.slope, 3), round(curve.r2, 3), curve.follows
        (0.8, 1.0, True)
    """
    condition, sound = np.asarray(condition_dbfs, float), np.asarray(sound_dbfs, float)
    finite = np.isfinite(condition).all() and np.isfinite(sound).all()
    if condition.ndim != 1 or condition.shape != sound.shape or not finite:
        raise UsageError(f"{condition.shape} conditions and {sound.shape} sounds: one finite level each is needed")
    if len(np.unique(condition)) < 2:
        raise UsageError("a line needs conditions of at least two levels")
    rows = list(zip(condition, sound, strict=True))
    slope, intercept, r2 = _line(rows)
    intervals = [bootstrap(rows, lambda part, k=k: _line(part)[k], recordings) for k in (0, 2)]
    return LevelCurve(slope, intercept, r2, *intervals[0], *intervals[1], float(np.ptp(condition)), len(rows))


def _line(rows: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Slope, intercept and R2; NaN where all x are equal. Where all y are equal, R2 is 0."""
    x, y = np.array(rows).T
    dx, dy = x - x.mean(), y - y.mean()
    if not dx.any():
        return (float("nan"),) * 3
    slope = float(dx @ dy / (dx @ dx))
    total = float(dy @ dy)
    r2 = 1 - float(np.square(dy - slope * dx).sum()) / total if total > 1e-12 else 0.0
    return slope, float(y.mean() - slope * x.mean()), r2


# --- what is left without the ambience? -------------------------------------------------------------


@check_types
def hit_levels(sound: Sound, events: Sequence[Mapping]) -> np.ndarray:
    """Level of each strike and bounce that sounds, dBFS [H], at least -120, with the ambience's power subtracted.

    It is that of the loudest 20 ms between 30 ms before the true time and 80 ms after it, and -120 where nothing rises
    over the ambience.
    """
    wave = sound.mono().resample(SAMPLE_RATE).samples[0]
    steady = 10 ** (ambience_dbfs(sound, events) / 10)
    n = round(HIT_S * SAMPLE_RATE)
    padded = np.pad(wave, (0, n))  # a hit at the very end has at least one window
    sums = np.concatenate([[0.0], np.cumsum(np.square(padded, dtype=np.float64))])
    levels = []
    for event in _hits(events):
        first = int(np.clip((event["time_s"] - HIT_BEFORE_S) * SAMPLE_RATE, 0, len(wave)))
        last = int(np.clip((event["time_s"] + HIT_AFTER_S) * SAMPLE_RATE - n, first, len(wave)))
        starts = np.arange(first, last + 1, n // 4)
        power = float((sums[starts + n] - sums[starts]).max()) / n - steady
        levels.append(10 * np.log10(power) if power > 1e-12 else SOFTEST_DBFS)
    return np.array(levels, float)


def _hits(events: Sequence[Mapping]) -> list[Mapping]:
    return [e for e in events if e["sounding"] and e["kind"] != "scrape"]


@check_types
def support_levels(sound: Sound, stems: Mapping[str, Sound]) -> tuple[float, float]:
    """Level of a generated sound where the true action is, and where the true ambience is, dBFS.

    The places, in time (64 ms) and frequency (mel bands), are those in which one of the true stems is louder than the
    others together by :data:`CLEAR_DB`; the level is the mean power there, times the number of bands. It is NaN where
    there is no such place. A generated hit of the same object has other partials than the true one: compare the levels
    of two generated sounds for one clip, and not with those of the true sound.

    Args:
        sound: as long as the stems.
        stems: ``action``, ``ambient`` and ``offscreen`` of the clip.
    """
    waves = {name: stems[name].mono().resample(SAMPLE_RATE).samples[0] for name in ("action", "ambient", "offscreen")}
    powers = band_powers(sound.mono().resample(SAMPLE_RATE).fit(n=len(waves["action"])).samples[0])
    true = {name: band_powers(wave) for name, wave in waves.items()}
    clear = 10 ** (CLEAR_DB / 10)
    total = sum(true.values())
    levels = []
    for name in ("action", "ambient"):
        there = true[name] > clear * (total - true[name]) + 1e-14
        level = powers[there].mean() * powers.shape[1] if there.any() else np.nan
        levels.append(float(10 * np.log10(max(level, 1e-12))) if np.isfinite(level) else float("nan"))
    return levels[0], levels[1]


@check_types
def leakage(
    ambient: Sequence[Sound],
    focused: Sequence[Sound],
    entries: Sequence[Mapping],
    stems: Sequence[Mapping[str, Sound]] | None = None,
) -> dict[str, dict]:
    """Differences between action-ambient and action-focused sounds of the same clips (section 5.5, figure 8).

    | row | what it measures | good |
    |---|---|---|
    | `ambience_drop_db` | by how much the ambience becomes softer | large |
    | `hit_change_db` | change of hits that stand 6 dB over the first sound's ambience; vanished ones count as -30 | 0 |
    | `hits_kept` | share of those that become softer by no more than 10 dB | 1 |
    | `contrast_ambient_db` `contrast_focused_db` | how far those hits stand over the ambience | rises |
    | `onset_f1_ambient` `onset_f1_focused` | onset F1 at 50 ms, pooled | as high |
    | `onset_f1_change` | second less first | 0 |
    | `action_support_change_db` `ambience_support_drop_db` | :func:`support_levels`, with ``stems`` | 0, large |

    Args:
        ambient, focused: generated for the same clips in the same order, with the same seeds.
        entries: of the clips in ``truth.json``.
        stems: of the clips, for the last row.

    Returns:
        by name ``{"value", "low", "high", "n"}``: means with 95 % intervals over recordings; both sounds of a clip are
        drawn together. ``n`` counts clips, hits or true onsets.

    Raises:
        UsageError: not as many of each.
    """
    if not len(ambient) == len(focused) == len(entries) or (stems is not None and len(stems) != len(entries)):
        raise UsageError(f"{len(ambient)} and {len(focused)} sounds for {len(entries)} clips: one pair each is needed")
    rows = [_pair(a, f, e) for a, f, e in zip(ambient, focused, entries, strict=True)]
    if stems is not None:
        for row, a, f, s in zip(rows, ambient, focused, stems, strict=True):
            row["support"] = np.subtract(support_levels(f, s), support_levels(a, s))
    recordings = [entry.get("recording", entry["id"]) for entry in entries]
    table: dict[str, dict] = {}

    def add(name: str, n: int, score: Callable[[list], float]) -> None:
        low, high = bootstrap(rows, score, recordings)
        table[name] = {"value": score(rows), "low": low, "high": high, "n": n}

    hits = sum(len(row["change"]) for row in rows)
    add("ambience_drop_db", len(rows), lambda part: mean([r["drop"] for r in part]))
    add("hit_change_db", hits, lambda part: mean([max(c, -30.0) for r in part for c in r["change"]]))
    add("hits_kept", hits, lambda part: mean([c >= -SOFTER_DB for r in part for c in r["change"]]))
    for k, name in enumerate(("ambient", "focused")):
        add(f"contrast_{name}_db", hits, lambda part, k=k: mean([max(c[k], 0.0) for r in part for c in r["contrast"]]))
    onsets = sum(row["onsets"][0] for row in rows)
    for k, name in enumerate(("ambient", "focused")):
        add(f"onset_f1_{name}", onsets, lambda part, k=k: _f1(part, k))
    add("onset_f1_change", onsets, lambda part: _f1(part, 1) - _f1(part, 0))
    if stems is not None:
        for k, (name, sign) in enumerate((("action_support_change_db", 1), ("ambience_support_drop_db", -1))):
            n = int(sum(np.isfinite(row["support"][k]) for row in rows))
            add(name, n, lambda part, k=k, sign=sign: sign * mean([r["support"][k] for r in part]))
    return table


def _pair(ambient: Sound, focused: Sound, entry: Mapping) -> dict:
    """Levels and onsets of both sounds of one clip."""
    events = entry["events"]
    steady = [ambience_dbfs(sound, events) for sound in (ambient, focused)]
    levels = np.stack([hit_levels(sound, events) for sound in (ambient, focused)], axis=1)  # [H, 2]
    levels = levels[levels[:, 0] >= steady[0] + AUDIBLE_DB]
    true = np.array(sorted(e["time_s"] for e in events if e["sounding"]))
    found = [detect_onsets(sound) for sound in (ambient, focused)]
    return {
        "drop": steady[0] - steady[1],
        "change": levels[:, 1] - levels[:, 0],
        "contrast": levels - np.array(steady),
        "onsets": (len(true), *((len(f), len(truth.match_onsets(true, f, WINDOW))) for f in found)),
    }


def _f1(rows: Sequence[dict], k: int) -> float:
    """Pooled over clips, of the first or second sound."""
    counts = [(row["onsets"][0], *row["onsets"][1 + k]) for row in rows]
    true, found, matched = np.sum(counts, axis=0) if counts else (0, 0, 0)
    return float(2 * matched / (true + found)) if true + found else float("nan")
