"""Agreement of onsets: controls that regular and many onsets cannot fool, AUC, offsets, thresholds over halves."""

from __future__ import annotations

import numpy as np
import pytest

from v2a_nb.scores import onset_agreement as agree

RNG = np.random.default_rng(0)
SECONDS = [6.0] * 8
TRUE = [0.3 + np.cumsum(RNG.uniform(0.35, 1.1, 7)) for _ in SECONDS]
SCENES = [f"s{i}" for i in range(8)]


def values(found, **others):
    return {row.metric: row for row in agree.rows("all", agree.agreements(TRUE, found, SECONDS, SCENES, **others))}


def bumps(times, height=1.0, late=0.0):
    """A curve with a narrow bump at each time."""
    grid = np.arange(0, 6, 0.005)
    return grid, height * sum(np.exp(-(((grid - t - late) / 0.012) ** 2)) for t in times)


def test_a_perfect_generator_beats_its_controls():
    rows = values([[times] for times in TRUE])
    assert rows["onset_f1_50ms"].value == rows["onset_f1_100ms_per_clip_median"].value == 1
    assert rows["onset_f1_50ms"].n == 56 and rows["onset_f1_50ms_shifted"].value < 0.25
    assert rows["onset_f1_100ms_over_shifted"].low > 0.5
    assert rows["onset_f1_50ms_other_clips"].value < rows["onset_f1_100ms_other_clips"].value < 0.5


@pytest.mark.parametrize("gap", [0.2, 0.5])
def test_a_ticker_does_not_beat_shifted(gap):
    rows = values([[np.arange(phase, 6, gap) for phase in (0, gap / 3, gap / 2)] for _ in TRUE])
    assert abs(rows["onset_f1_100ms_over_shifted"].value) < 0.05
    assert abs(rows["onset_f1_50ms_per_clip_over_shifted_median"].value) < 0.05


def test_silence_scores_nothing():
    rows = values([[np.zeros(0)] for _ in TRUE])
    assert rows["onset_f1_50ms"].value == 0 and "onset_offset_signed_ms" not in rows


@pytest.mark.parametrize("late", [-0.034, 0.0, 0.021])
def test_an_offset_is_found(late):
    row = values([[times + late + RNG.normal(0, 0.002, len(times)) for _ in range(3)] for times in TRUE])
    assert row["onset_offset_signed_ms"].value == pytest.approx(1000 * late, abs=1)
    assert (
        row["onset_offset_signed_ms"].low <= row["onset_offset_signed_ms"].value <= row["onset_offset_signed_ms"].high
    )


def test_medians_are_over_clips():
    rows = values([[times] if i < 5 else [np.zeros(0)] for i, times in enumerate(TRUE)])
    assert rows["onset_f1_50ms_per_clip_median"].value == 1 and rows["onset_f1_50ms_per_clip_q25"].value == 0
    assert 0 < rows["onset_f1_50ms"].value < 1 and rows["onset_f1_50ms_per_clip_median"].n == 8


def test_shifts_stay_away_from_no_shift():
    for seconds in (2.0, 8.0):
        moved = agree.shifts(seconds)
        assert len(moved) == 19 and moved.min() >= 0.2 - 1e-9 and moved.max() <= seconds - 0.2 + 1e-9


def test_auc_of_the_truth_is_one_and_of_noise_a_half():
    assert agree.auc(bumps(TRUE[0]), TRUE[0], 6.0) == 1
    noise = [agree.auc((np.arange(0, 6, 0.005), RNG.uniform(size=1200)), times, 6.0) for times in TRUE * 20]
    assert np.mean(noise) == pytest.approx(0.5, abs=0.03)
    assert agree.auc((np.arange(0, 6, 0.005), np.zeros(1200)), TRUE[0], 6.0) == 0.5
    assert agree.auc(bumps(TRUE[0], -1.0), TRUE[0], 6.0) < 0.2


def test_auc_does_not_depend_on_the_rate_or_the_scale_of_a_curve():
    times, curve = bumps(TRUE[0][::2])
    curve = curve + 0.1 * np.sin(3 * times)
    thirds = (times[::3], curve[::3])
    assert agree.auc((times, curve), TRUE[0], 6.0) == agree.auc((times, np.exp(5 * curve)), TRUE[0], 6.0)
    assert agree.auc(thirds, TRUE[0], 6.0) == pytest.approx(agree.auc((times, curve), TRUE[0], 6.0), abs=0.05)


def test_auc_needs_onsets_and_room_between_them():
    curve = bumps([1.0])
    assert np.isnan(agree.auc(curve, np.zeros(0), 6.0)) and np.isnan(agree.auc(curve, np.arange(0, 6, 0.1), 6.0))
    assert np.isnan(agree.auc(curve, np.array([0.02]), 0.04))


def test_peaks_of_a_curve():
    times, heights = agree.peaks(bumps([1.0, 1.03, 3.0]), 6.0)  # equally high, but less than 40 ms apart
    assert times == pytest.approx([1.0, 3.0]) and heights[1] == pytest.approx(1)
    flat = np.zeros(1200)
    flat[200:204] = 1.0
    assert len(agree.peaks((np.arange(0, 6, 0.005), flat), 6.0)[0]) == 1


def test_a_threshold_is_chosen_where_it_is_not_used():
    """Curves of two scales: what fits one half fits the other, but for clips whose scale is nowhere else."""
    curves = [bumps(times, 0.8) for times in TRUE]
    rng = np.random.default_rng(1)
    decoys = [(grid, curve + bumps(rng.uniform(0, 6, 9), 0.3)[1]) for grid, curve in curves]
    found = agree.crossed(decoys, TRUE, SECONDS, SCENES)
    assert all(len(some) == agree.SPLITS for some in found)
    assert values(found)["onset_f1_50ms"].value > 0.97
    alone = [*decoys[:7], (decoys[7][0], 0.2 * decoys[7][1])]  # its own best threshold is not known to the others
    assert all(len(some) == 0 for some in agree.crossed(alone, TRUE, SECONDS, SCENES)[7])


def test_a_constant_offset_is_chosen_with_the_threshold():
    late = [bumps(times, late=0.15) for times in TRUE]
    assert values(agree.crossed(late, TRUE, SECONDS, SCENES))["onset_f1_100ms"].value < 0.4
    moved = values(agree.crossed(late, TRUE, SECONDS, SCENES, offsets=(0.0, -0.15)))
    assert moved["onset_f1_50ms"].value > 0.97 and abs(moved["onset_offset_signed_ms"].value) < 6


def test_clips_of_one_scene_are_on_one_side_and_drawn_together():
    curves, scenes = [bumps(times, 0.2 if i < 4 else 0.9) for i, times in enumerate(TRUE)], ["a"] * 4 + ["b"] * 4
    decoys = [(grid, curve + bumps(RNG.uniform(0, 6, 9), 0.4)[1] * (i >= 4)) for i, (grid, curve) in enumerate(curves)]
    found = agree.crossed(decoys, TRUE, SECONDS, scenes)
    assert all(len(some) == 0 for some in found[0])  # the threshold of b is too high for a
    clips = agree.agreements(TRUE, [[times] for times in TRUE], SECONDS, ["one"] * 8)
    assert all(row.low is None for row in agree.rows("all", clips))  # one scene says nothing of the others


def test_further_numbers_of_clips_are_averaged():
    rows = values([[times] for times in TRUE], stuck_share=[0.0] * 6 + [1.0] * 2, auc=[0.5] * 7 + [float("nan")])
    assert rows["stuck_share"].value == 0.25 and rows["onset_auc"].value == 0.5 and "drone_share" not in rows


@pytest.mark.parametrize("count", [1, 2, 5, 22])
def test_percentiles_are_those_of_numpy(count):
    found = np.random.default_rng(count).uniform(-1, 1, count)
    for percent in agree.PARTS.values():
        assert agree._percentile([*found, np.nan], percent) == pytest.approx(np.percentile(found, percent), abs=1e-12)
    assert np.isnan(agree._percentile([np.nan], 50))
