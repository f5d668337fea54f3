"""Physics on counterfactual pairs: does a sound change as it should when one thing in the picture changes?

The two clips of a pair (:mod:`v2a_nb.world.counterfactual`) differ in one factor, so the truth says how their sounds
should differ. A quantity is measured at the hits that change, in both sounds, and ``b`` minus ``a`` is the move:

========  ==============================================================  ==================================
factor    quantity                                                        what the truth predicts
========  ==============================================================  ==================================
material  how much more a hit sounds like the new than like the old one   from 0 to 1
size      place of the spectrum on a logarithmic axis, octaves            the ratio of all modes
speed     level of the first 50 ms, dB                                    -6.02 dB for half the speed
distance  the same                                                        -3.52 dB for 1.5 times the distance
damping   logarithm of the decay time, to base 2                          that of the ratio of decay times
shift     time of the onset, s                                            the shift
removal   whether there is an onset                                       it is gone
========  ==============================================================  ==================================

``pair_direction_FACTOR`` is the share of pairs that move the right way. ``pair_ties_FACTOR`` is the share that does
not move, by less than :attr:`PairMetric.least` or because there is nothing to measure; such a pair is not right.
``pair_gain_FACTOR`` is the generated move over the true one: 1 is physics, 0 is no move. It is the median over pairs,
and the mean where a quantity is only there or not (material, removal). Single-factor pairs and directional accuracy
are as in FlatSounds (arXiv 2605.30339), where people recorded them; here they are rendered. The true sounds' own scores
are the ceiling, and what a codec leaves of them is the ceiling of a system that uses it.

How it is fooled: sounds that differ at random move the right way in half of the pairs, so a direction of 0.5 is chance
and 0 is one sound for both; read it beside the ties. In Strike World the second clip is always slower, farther or more
damped, so one that is softer or duller for any reason is right. A sound that was normalised to one level has lost what
speed and distance did. And two halves that a system draws with different seeds differ by chance: give both one seed.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from v2a_nb.audio.onsets import beside_peak, detect_onsets
from v2a_nb.errors import V2AError
from v2a_nb.metrics.base import Metric, ScoredClip
from v2a_nb.metrics.statistics import bootstrap, compare_paired, mean, share_interval
from v2a_nb.metrics.truth import GATE_S, NEAR_MISS_S, nearest_pairs

if TYPE_CHECKING:
    from v2a_nb.metrics.material.metric import MaterialClassifier

WHAT = ("direction", "gain", "ties")
"""Each factor's metrics are ``pair_WHAT_FACTOR``."""
RATE = 16000
HEAD_S = 0.05
BEFORE_S = (0.03, 0.005)
"""What sounds from 30 to 5 ms before a hit is there without it, and its power is taken off."""
AUDIBLE_DB = 3.0
"""A hit raises the power by so much, or nothing is measured at it."""
GUARD_S = 0.02
"""A hit is measured until so long before the next one."""
SPECTRUM_S = (0.004, 0.08)
"""The spectrum of a hit: after the click of the contact, and while it still stands over the ambience."""
LOWEST_HZ, HIGHEST_HZ, PER_OCTAVE = 60.0, 7500.0, 24
FAR_OCTAVES = 1.5
"""A spectrum may have moved by so much."""
WINDOW_S, HOP_S, RANGE_DB, MARGIN_DB = 0.008, 0.002, 30.0, 3.0
"""The decay is the slope of the power in such windows, down to 30 dB below the loudest or 3 dB over the ambience."""
LONGEST_S = 12.0
"""A sound that decays more slowly, or not at all, counts as this slow."""
LEAST_MATERIAL_S = 0.1
"""A hit of which less can be heard is not classified."""


class Hit(NamedTuple):
    """A stretch of a wave, seconds: from a hit on, until what comes next."""

    time: float
    end: float


@dataclass(frozen=True)
class Half:
    """The quantity of one clip of a pair, with the true move between both.

    Attributes:
        pair: name of the pair.
        side: ``"a"`` or ``"b"``.
        expected: the true move from ``a`` to ``b``.
        value: of the quantity; None where there is nothing to measure.
    """

    pair: str
    side: str
    expected: float
    value: Any


class Move(NamedTuple):
    """What became of a pair: whether it moves as it should, or not at all, and by which share of the true move."""

    right: bool
    tie: bool
    gain: float
    recording: str


class PairMetric(Metric):
    """The move of one quantity between the clips of a pair, pooled over pairs. A subclass measures the quantity."""

    per_clip = False
    factor: ClassVar[str]
    least: ClassVar[float]
    """A move that is not larger is a tie: what a listener would hardly notice, or the detector cannot tell."""
    there_or_not: ClassVar[bool] = False
    """Whether the quantity takes two values, so that the gain is a mean and no median."""

    @abstractmethod
    def expected(self, pair: Mapping) -> float:
        """The true move, by the ``pair`` of a clip's truth."""

    @abstractmethod
    def measure(self, wave: np.ndarray, truth: Mapping) -> Any:
        """The quantity in a wave [n] at 16 kHz of the clip with this truth; None where it cannot be measured."""

    def move(self, a: Any, b: Any) -> float:
        """How far the quantity moved."""
        return float(b - a)

    def score(self, clip: ScoredClip) -> Half:
        assert clip.truth is not None
        pair, wave = clip.truth["pair"], clip.fitted_sound.mono().resample(RATE).samples[0].astype(np.float64)
        try:
            return Half(pair["of"], pair["side"], self.expected(pair), self.measure(wave, clip.truth))
        except (KeyError, TypeError, ValueError) as error:
            raise V2AError(f"its pair for {self.factor} lacks something in the truth: {error!r}") from error

    def moves(self, rows: Sequence[Half], recordings: Sequence[str] = ()) -> list[Move]:
        """The moves of all pairs of which both clips are there.

        Args:
            rows: that :meth:`score` gave; what a bootstrap drew twice counts twice.
            recordings: of the clips.
        """
        sides: dict[str, dict[str, list[tuple[Half, str]]]] = {}
        for row, recording in zip(rows, recordings or [""] * len(rows), strict=True):
            sides.setdefault(row.pair, {"a": [], "b": []})[row.side].append((row, recording))
        found = []
        for side in sides.values():
            for (a, recording), (b, _) in zip(side["a"], side["b"], strict=False):
                moved = 0.0 if a.value is None or b.value is None else self.move(a.value, b.value)
                tie = abs(moved) <= self.least
                found.append(Move(not tie and moved * a.expected > 0, tie, moved / a.expected, recording))
        return found

    def pool(self, rows: Sequence[Half], name: str) -> float:
        moves = self.moves(rows)
        if name.startswith("pair_gain_"):
            gains = [move.gain for move in moves]
            return mean(gains) if self.there_or_not or not gains else float(np.median(gains))
        return mean([float(move.tie if name.startswith("pair_ties_") else move.right) for move in moves])

    def count(self, rows: Sequence[Half], name: str) -> int:
        return len(self.moves(rows))

    def interval(self, rows: Sequence[Half], recordings: Sequence[str], name: str) -> tuple[float, float]:
        if name.startswith("pair_gain_"):
            return bootstrap(rows, lambda part: self.pool(part, name), recordings)
        moves = self.moves(rows, recordings)
        trials = [(float(move.tie if name.startswith("pair_ties_") else move.right), 1) for move in moves]
        return share_interval(trials, [move.recording for move in moves])

    def difference(self, first: Sequence, second: Sequence, recordings: Sequence[str], name: str) -> dict:
        return compare_paired(first, second, lambda rows: self.pool(rows, name), recordings)

    def left_out(self, rows: Sequence[Half]) -> list[dict]:
        sides: dict[str, set[str]] = {}
        for row in rows:
            sides.setdefault(row.pair, set()).add(row.side)
        return [
            {"id": pair, "what": f"only clip {side} of this pair could be scored; {self.factor} leaves the pair out"}
            for pair, (side, *others) in sides.items()
            if not others
        ]


class MaterialPairs(PairMetric):
    """Whether hits sound more like the new material than like the old one."""

    factor, least, there_or_not = "material", 0.05, True

    def load_model(self) -> MaterialClassifier:
        from v2a_nb.metrics.material.metric import shipped_classifier

        return shipped_classifier()

    def expected(self, pair: Mapping) -> float:
        return 1.0

    def measure(self, wave: np.ndarray, truth: Mapping) -> float | None:
        times = np.array([hit.time for hit in _hits(wave, truth) if hit.end - hit.time >= LEAST_MATERIAL_S])
        return self.model.preference(wave.astype(np.float32), times, truth["pair"]["from"], truth["pair"]["to"])


class SizePairs(PairMetric):
    """By how many octaves the spectra of hits move."""

    factor, least = "size", 0.05
    extractor = "log-spectrum"

    def expected(self, pair: Mapping) -> float:
        return math.log2(pair["expect"]["pitch_ratio"])

    def measure(self, wave: np.ndarray, truth: Mapping) -> np.ndarray | None:
        return log_spectrum(wave, _hits(wave, truth))

    def move(self, a: np.ndarray, b: np.ndarray) -> float:
        return octaves_between(a, b)


class SpeedPairs(PairMetric):
    """By how many dB the level of hits moves."""

    factor, least = "speed", 1.0
    extractor = "level"

    def expected(self, pair: Mapping) -> float:
        return float(pair["expect"]["level_db"])

    def measure(self, wave: np.ndarray, truth: Mapping) -> float | None:
        return hit_level(wave, [hit.time for hit in _hits(wave, truth)])


class DistancePairs(SpeedPairs):
    """The same where the distance changes."""

    factor = "distance"


class DampingPairs(PairMetric):
    """By which ratio the decay time of hits moves, as a logarithm to base 2."""

    factor, least = "damping", 0.15
    extractor = "decay"

    def expected(self, pair: Mapping) -> float:
        return math.log2(pair["expect"]["decay_ratio"])

    def measure(self, wave: np.ndarray, truth: Mapping) -> float | None:
        seconds = decay_time(wave, _hits(wave, truth))
        return None if seconds is None else math.log2(seconds)


class ShiftPairs(PairMetric):
    """By how many seconds the onset of the event moves."""

    factor, least = "shift", 0.01
    extractor = "mel-rise"

    def expected(self, pair: Mapping) -> float:
        return float(pair["expect"]["shift_s"])

    def measure(self, wave: np.ndarray, truth: Mapping) -> float | None:
        return _onset_at(wave, truth, float(truth["pair"]["from" if truth["pair"]["side"] == "a" else "to"]), GATE_S)


class RemovalPairs(PairMetric):
    """Whether the onset of the event goes."""

    factor, least, there_or_not = "removal", 0.5, True
    extractor = "mel-rise"

    def expected(self, pair: Mapping) -> float:
        return float(pair["expect"]["onsets"])

    def measure(self, wave: np.ndarray, truth: Mapping) -> float:
        return float(_onset_at(wave, truth, float(truth["pair"]["from"]), NEAR_MISS_S) is not None)


def hit_level(wave: np.ndarray, times: Sequence[float]) -> float | None:
    """Level of the first 50 ms of hits together, dB, less what sounds before each; None where none can be heard.

    Args:
        wave: [n] at 16 kHz.
        times: of the hits, s.

    Examples:
        >>> wave = np.concatenate([np.zeros(8000), np.full(8000, 0.1)])
        >>> round(hit_level(wave, [0.5]), 2), hit_level(wave, [0.8])
        (-20.0, None)
    """
    powers = [_power(wave, time, time + HEAD_S) - _before(wave, time) for time in times if _audible(wave, time)]
    return 10 * math.log10(sum(powers)) if powers else None


def log_spectrum(wave: np.ndarray, hits: Sequence[Hit]) -> np.ndarray | None:
    """Power of the rings of hits in bands of a twenty-fourth of an octave, 60 to 7500 Hz; None where none is heard.

    What sounds before each hit is taken off.

    Args:
        wave: [n] at 16 kHz.
        hits: at least 25 ms long, or they are passed over.
    """
    total = np.zeros(len(_edges()) - 1)
    for time, end in hits:
        first, last = round((time + SPECTRUM_S[0]) * RATE), round(min(time + SPECTRUM_S[1], end) * RATE)
        ring, calm = wave[first:last], round((time - BEFORE_S[1]) * RATE)
        if len(ring) < 400 or not _audible(wave, time):
            continue
        before = wave[max(0, calm - len(ring)) : calm]
        total += np.maximum(_bands(ring) - (_bands(before) if len(before) >= 400 else 0.0), 0.0)
    return total if total.any() else None


def octaves_between(first: np.ndarray, second: np.ndarray) -> float:
    """By how many octaves the second of two spectra of :func:`log_spectrum` is higher.

    The shift at which the roots of both fit best (cross-correlation), with a parabola through its neighbours.

    Examples:
        >>> time = np.arange(8000) / 16000
        >>> low, high = (sum(np.sin(2 * np.pi * f * r * time) for r in (1, 2.57, 4.2)) for f in (300, 450))
        >>> a, b = (log_spectrum(np.append(np.zeros(8000), wave), [Hit(0.5, 1.0)]) for wave in (low, high))
        >>> bool(abs(octaves_between(a, b) - np.log2(1.5)) < 0.02)
        True
    """
    roots = [np.sqrt(spectrum / spectrum.max()) for spectrum in (first, second)]
    a, b = (root - root.mean() for root in roots)
    reach, middle = round(FAR_OCTAVES * PER_OCTAVE), len(a) - 1
    fits = np.correlate(b, a, "full")[middle - reach : middle + reach + 1]
    k = int(np.argmax(fits))
    return float((k - reach + beside_peak(fits, k)) / PER_OCTAVE)


def decay_time(wave: np.ndarray, hits: Sequence[Hit]) -> float | None:
    """Seconds in which hits decay by 60 dB, the geometric mean weighted by their powers; None where none can be heard.

    The slope of a line through the levels, less the power before the hit, from its loudest window down to
    :data:`RANGE_DB` below that or :data:`MARGIN_DB` over what sounded before. Where a hit falls below that within two
    windows, the time is the longest that it can have.

    Args:
        wave: [n] at 16 kHz.
        hits: until the next one.

    Examples:
        >>> time = np.arange(16000) / 16000
        >>> ring = np.sin(2 * np.pi * 700 * time) * 10 ** (-3 * time / 0.4)
        >>> round(decay_time(np.append(np.zeros(8000), ring), [Hit(0.5, 1.5)]), 2)
        0.4
    """
    window, hop = round(WINDOW_S * RATE), round(HOP_S * RATE)
    times, weights = [], []
    for time, end in hits:
        part = np.square(wave[round(time * RATE) : round(end * RATE)])
        if len(part) < window + 2 * hop or not _audible(wave, time):
            continue
        sums = np.concatenate([[0.0], np.cumsum(part)])
        starts = np.arange(0, len(part) - window + 1, hop)
        before = _before(wave, time)
        power = np.maximum((sums[starts + window] - sums[starts]) / window - before, 0.0)
        power = power[int(np.argmax(power[: round(HEAD_S / HOP_S)])) :]
        least = max(before * (10 ** (MARGIN_DB / 10) - 1), power[0] * 10 ** (-RANGE_DB / 10))
        quiet = np.flatnonzero(power < least)
        stop = max(int(quiet[0]) if len(quiet) else len(power), 2)
        if power[0] <= least or len(power) < 2:
            continue
        levels = 10 * np.log10(np.maximum(power[:stop], least))
        slope = float(np.polyfit(np.arange(stop) * HOP_S, levels, 1)[0])
        times.append(60 / max(-slope, 60 / LONGEST_S))
        weights.append(power[0])
    return math.exp(float(np.average(np.log(times), weights=weights))) if times else None


def _hits(wave: np.ndarray, truth: Mapping) -> list[Hit]:
    """The strikes and bounces that change: where they begin in the wave, and until when they sound alone."""
    events = sorted((e for e in truth["events"] if e["sounding"]), key=lambda e: e["time_s"])
    times = np.array([float(e["time_s"]) for e in events])
    begins, onsets = times.copy(), detect_onsets(wave.astype(np.float32))
    for i, j in nearest_pairs(times, onsets, NEAR_MISS_S):
        begins[i] = onsets[j]
    ends = [*(begins[1:] - GUARD_S), len(wave) / RATE]
    thing = truth["pair"].get("object")
    return [
        Hit(float(begin), float(end))
        for event, begin, end in zip(events, begins, ends, strict=True)
        if event["kind"] != "scrape" and (thing is None or event["object"] == thing)
    ]


def _onset_at(wave: np.ndarray, truth: Mapping, time: float, gate: float) -> float | None:
    """The onset at a time that belongs to none of the clip's other events; None where there is none."""
    others = [float(e["time_s"]) for e in truth["events"] if e["sounding"] and abs(e["time_s"] - time) > 1e-3]
    times, onsets = np.array(sorted([*others, time])), detect_onsets(wave.astype(np.float32))
    found = dict(nearest_pairs(times, onsets, gate)).get(int(np.flatnonzero(times == time)[0]))
    return None if found is None else float(onsets[found])


def _audible(wave: np.ndarray, time: float) -> bool:
    return _power(wave, time, time + HEAD_S) > max(_before(wave, time) * 10 ** (AUDIBLE_DB / 10), 1e-10)


def _before(wave: np.ndarray, time: float) -> float:
    return _power(wave, time - BEFORE_S[0], time - BEFORE_S[1])


def _power(wave: np.ndarray, start: float, end: float) -> float:
    part = wave[max(0, round(start * RATE)) : max(0, round(end * RATE))]
    return float(np.mean(np.square(part))) if len(part) else 0.0


_FFT = 16384  # its bins are finer than the lowest band


@lru_cache(maxsize=1)
def _edges() -> np.ndarray:
    """The first bin of each band, and the end of the last."""
    count = int(PER_OCTAVE * math.log2(HIGHEST_HZ / LOWEST_HZ))
    return np.ceil(LOWEST_HZ * 2 ** (np.arange(count + 1) / PER_OCTAVE) * _FFT / RATE).astype(int)


def _bands(part: np.ndarray) -> np.ndarray:
    """Power of a part of a wave in the bands."""
    spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), _FFT)) ** 2 / len(part)
    return np.diff(np.concatenate([[0.0], np.cumsum(spectrum)])[_edges()])
