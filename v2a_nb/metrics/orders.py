"""What each metric promises: which way is better, and which controls it must put in which order.

One entry for each name of :mod:`v2a_nb.metrics.registry`, whatever its extractor. Each order lists controls of
:mod:`v2a_nb.metrics.ladder` from the best on. Only what a metric is about is listed: the precision of silence, say,
does not exist, and silence keeps every near miss silent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from v2a_nb.world.counterfactual import FACTORS

TRUTH, SILENCE, NOISE, AMBIENCE, ACTION = "truth", "silence", "noise", "ambience alone", "action alone"
SHIFTS_MS = (40, 100, 200, 500)
LATE_40, LATE_100, LATE_200, LATE_500 = LATE = tuple(f"{ms} ms late" for ms in SHIFTS_MS)
OTHER, SAME_MATERIAL, OTHER_MATERIAL = "another clip", "same material", "other material"


@dataclass(frozen=True)
class Order:
    """What a metric promises.

    Attributes:
        better: ``higher`` or ``lower``; empty where the value is no score, such as a level or a signed offset.
        orders: lists of controls, the best first. Those that could not be scored are passed over.
        rising: for a value that is no score, whether its lists rise instead of falling.
    """

    better: str
    orders: tuple[tuple[str, ...], ...] = ()
    rising: bool = False


def _truth_over(*worse: str) -> tuple[tuple[str, ...], ...]:
    return tuple((TRUTH, name) for name in worse)


_FOREIGN = (OTHER, OTHER_MATERIAL)
_NOT_TIMED = _truth_over(*_FOREIGN, SILENCE, NOISE, AMBIENCE)
_DISTANCE = Order("lower", _truth_over(SILENCE, NOISE, AMBIENCE))
_SYNC = Order("higher", ((TRUTH, LATE_100, LATE_200, LATE_500), *_truth_over(*_FOREIGN, SILENCE, NOISE)))

ORDERS: dict[str, Order] = {
    # truth and onsets: a shift over the window costs, one within it must not help
    "onset_f1_25ms": Order("higher", ((TRUTH, LATE_40), (TRUTH, LATE_100), *_NOT_TIMED)),
    "onset_f1_50ms": Order("higher", ((TRUTH, LATE_40, LATE_100), *_NOT_TIMED)),
    "onset_f1_100ms": Order("higher", ((TRUTH, LATE_40, LATE_200), *_NOT_TIMED)),
    "onset_precision_25ms": Order("higher", _truth_over(LATE_40, LATE_100, *_FOREIGN)),
    "onset_precision_50ms": Order("higher", ((TRUTH, LATE_40, LATE_100), *_truth_over(*_FOREIGN))),
    "onset_precision_100ms": Order("higher", ((TRUTH, LATE_40, LATE_200), *_truth_over(*_FOREIGN))),
    "onset_recall_25ms": Order("higher", ((TRUTH, LATE_40), (TRUTH, LATE_100), *_NOT_TIMED)),
    "onset_recall_50ms": Order("higher", ((TRUTH, LATE_40, LATE_100), *_NOT_TIMED)),
    "onset_recall_100ms": Order("higher", ((TRUTH, LATE_40, LATE_200), *_NOT_TIMED)),
    "onset_offset_abs_ms": Order("lower", ((TRUTH, LATE_40, LATE_100, LATE_200), *_truth_over(*_FOREIGN))),
    "onset_offset_signed_ms": Order("", ((TRUTH, LATE_40, LATE_100, LATE_200),), rising=True),
    "onset_miss_rate": Order("lower", _truth_over(LATE_500, *_FOREIGN, SILENCE, NOISE, AMBIENCE)),
    "onset_false_alarm_rate": Order("lower", _truth_over(LATE_500, *_FOREIGN)),
    "onset_count_error": Order("lower", _truth_over(*_FOREIGN, SILENCE, NOISE, AMBIENCE)),
    "near_miss_silent": Order("higher", _truth_over(*_FOREIGN)),
    "envelope_lag_abs_ms": Order("lower", ((TRUTH, *LATE), *_truth_over(*_FOREIGN))),
    "envelope_lag_signed_ms": Order("", ((TRUTH, *LATE),), rising=True),
    "event_energy_ratio_db": Order("higher", _truth_over(LATE_200, *_FOREIGN, NOISE, AMBIENCE)),
    "event_energy_error_db": Order("lower", _truth_over(LATE_200, *_FOREIGN, NOISE, AMBIENCE)),
    # what sounds
    "material_accuracy": Order("higher", ((TRUTH, SAME_MATERIAL, OTHER_MATERIAL), *_truth_over(OTHER, SILENCE, NOISE))),
    "ambience_error_db": Order("lower", _truth_over(SILENCE, ACTION, NOISE, *_FOREIGN)),
    "ambience_kind_accuracy": Order("higher", _truth_over(SILENCE, ACTION, NOISE, *_FOREIGN)),
    "decay_error_db": Order("lower", _truth_over(NOISE, *_FOREIGN)),
    "stuck_share": Order("lower", _truth_over(NOISE)),
    "event_mel_distance": Order("lower", ((TRUTH, LATE_100), *_NOT_TIMED)),
    "event_stft_distance": Order("lower", ((TRUTH, LATE_100), *_NOT_TIMED)),
    "ambience_leakage": Order("lower", ((ACTION, TRUTH, AMBIENCE),)),
    "leakage_error": Order("lower", _truth_over(ACTION, AMBIENCE)),
    "unexplained_share": Order("lower", _truth_over(OTHER_MATERIAL, OTHER, NOISE)),
    "ambience_db": Order("", ((ACTION, AMBIENCE),), rising=True),
    "ambience_energy": Order("", ((ACTION, AMBIENCE),), rising=True),
    # distances between sets: those of a shifted or a foreign sound are near those of the truth
    **dict.fromkeys(("fad", "fad_inf", "fd", "kad", "kid"), _DISTANCE),
    **dict.fromkeys(("precision", "recall", "density", "coverage"), Order("higher", _truth_over(SILENCE, NOISE))),
    **dict.fromkeys(("is", "is_10"), Order("higher", _truth_over(SILENCE, NOISE))),
    # distances of each sound from its own true one
    **dict.fromkeys(("kl", "kl_capped", "kl_sigmoid"), Order("lower", _truth_over(*_FOREIGN, SILENCE, NOISE))),
    "e_l1": Order("lower", _truth_over(LATE_500, *_FOREIGN, SILENCE, NOISE)),
    # sound and picture: later is never better
    "av_sim": _SYNC,
    "av_align": _SYNC,
    "av_sync_acc": _SYNC,
    "vaas_acc": _SYNC,
    "vaas_score": _SYNC,
    "cavp": _SYNC,
    # a judge of steps of 200 ms: a shift within one need not show
    **dict.fromkeys(
        ("sync_offset_s", "sync_tiled_s", "desync_s"),
        Order("lower", ((TRUTH, LATE_200, LATE_500), *_truth_over(*_FOREIGN, NOISE))),
    ),
    "pam": Order("higher", _truth_over(NOISE)),
    # sound and text
    **dict.fromkeys(
        ("summary_cosine", "summary_gain", "clap", "clap_peak", "clap_r1"),
        Order("higher", _truth_over(OTHER_MATERIAL, OTHER, SILENCE, NOISE)),
    ),
    # the two clips of a pair have one ambience
    **{f"pair_direction_{factor}": Order("higher", _truth_over(AMBIENCE, SILENCE, NOISE)) for factor in FACTORS},
    **{f"pair_ties_{factor}": Order("lower", _truth_over(AMBIENCE, SILENCE)) for factor in FACTORS},
    **{f"pair_gain_{factor}": Order("", ((AMBIENCE, TRUTH), (SILENCE, TRUTH)), rising=True) for factor in FACTORS},
}


SLACK = 0.05
"""Share of the distance of the ends of an order by which a step between may go the wrong way."""


def order_of(name: str) -> Order:
    """The promise of a metric, such as ``fad`` or ``fad[clap]``; an empty one where none is declared."""
    return ORDERS.get(name.partition("[")[0], Order(""))


def flags(name: str, values: Mapping[str, float]) -> list[str]:
    """Say, one line each, which controls a metric does not put in order; nothing where it does.

    Args:
        name: of the metric; one that :data:`ORDERS` does not have is in order.
        values: of the controls, by name; those that are NaN or missing are passed over.

    Examples:
        >>> flags("onset_f1_50ms", {"truth": 0.9, "silence": 0.0, "noise": 0.95})
        ['noise (0.950) is not worse than truth (0.900)']
    """
    promise, found = order_of(name), []
    sign = -1.0 if promise.better == "lower" or promise.rising else 1.0
    for order in promise.orders:
        steps = [(control, values[control]) for control in order if math.isfinite(values.get(control, math.nan))]
        if len(steps) < 2:
            continue
        (first, best), (last, worst) = steps[0], steps[-1]
        word = "higher" if promise.rising else "worse"
        if sign * (best - worst) <= 0:
            found.append(f"{last} ({worst:.3f}) is not {word} than {first} ({best:.3f})")
            continue
        for (before, one), (after, two) in pairwise(steps):
            if sign * (two - one) > SLACK * abs(best - worst):
                wrong = "lower" if promise.rising else "better"
                found.append(f"{after} ({two:.3f}) is {wrong} than {before} ({one:.3f})")
    return list(dict.fromkeys(found))
