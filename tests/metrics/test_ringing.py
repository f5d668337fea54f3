"""What follows a hit: known decays, a held tone, the same sound; and what the metrics leave out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from v2a_nb.clip import Sound
from v2a_nb.metrics import truth
from v2a_nb.metrics.ringing import Hit, decay_errors, event_distances, loud_share
from v2a_nb.world import strike_world

RATE = 16000
QUIET = (-90.0, -90.0)


def hits(times, per_second, level=0.4, seconds=3.0, room=0.0, until=math.inf):
    """Tones that begin at ``times`` and fall by so many dB a second, over noise of ``room`` RMS."""
    wave = room * np.random.default_rng(0).standard_normal(round(seconds * RATE))
    for time, following in zip(times, [*times[1:], math.inf], strict=True):
        t = np.arange(len(wave)) / RATE - time
        held = (t >= 0) & (t < min(following - time, until))
        wave[held] += level * np.sin(2 * np.pi * 800 * t[held]) * 10 ** (-per_second * t[held] / 20)
    return wave


def entry(times, seconds=3.0, kind="strike", level=-80.0):
    events = [{"time_s": t, "kind": kind, "material": "wood", "sounding": True} for t in times]
    return {"id": "a", "duration_s": seconds, "events": events, "ambient": {"kind": "hiss", "level_dbfs": level}}


def scored(wave, true, times, **how):
    return truth.score_clip(Sound(wave, RATE), entry(times, **how), reference=Sound(true, RATE))


def decay(slope):
    """Power of 100 to 400 ms over that of the first 50 ms, dB, of a tone that falls by ``slope`` dB a second."""
    rate = slope * math.log(10) / 10
    mean = [(math.exp(-rate * a) - math.exp(-rate * b)) / (rate * (b - a)) for a, b in ((0, 0.05), (0.1, 0.4))]
    return 10 * math.log10(mean[1] / mean[0])


@pytest.mark.parametrize("slope", [5.0, 30.0, 80.0])
def test_the_decay_error_is_the_difference_of_known_decays(slope):
    true, wave = hits([1.0], 40.0), hits([1.0], slope)
    (error,) = decay_errors(wave, true, [Hit(1.0, 1.0)], QUIET)
    assert error == pytest.approx(decay(slope) - decay(40.0), abs=0.05)
    (louder,) = decay_errors(0.1 * wave, true, [Hit(1.0, 1.0)], QUIET)
    assert louder == pytest.approx(error, abs=1e-6)  # relative to the hit's own first 50 ms


def test_a_sound_that_rings_on_has_positive_decay_error_and_is_stuck():
    times = [0.3, 1.4]
    true = hits(times, 60.0, room=1e-4)
    score = scored(hits(times, 2.0, room=1e-4), true, times)
    assert len(score.decay_errors) == 2 and min(score.decay_errors) > 10
    assert score.loud_excess > 0.5 and truth.pool([score], "stuck_share") == 1
    dead = scored(hits(times, 400.0, room=1e-4), true, times)
    assert max(dead.decay_errors) < -5 and dead.loud_excess < 0
    assert truth.pool([dead], "stuck_share") == 0 and truth.pool([score, dead], "stuck_share") == 0.5
    assert truth.pool([dead], "decay_error_db") == -np.mean(dead.decay_errors)  # absolute


def test_a_held_tone_covers_the_hits_and_counts():
    times = [0.5, 1.2, 2.0]
    true = hits(times, 60.0, room=1e-4)
    drone = 0.1 * np.sin(2 * np.pi * 300 * np.arange(3 * RATE) / RATE)
    score = scored(drone, true, times)
    assert score.onsets == 0 and len(score.decay_errors) == 3 and min(score.decay_errors) > 10
    assert score.loud_excess > 0.5


def test_the_same_sound_is_no_distance():
    for item in strike_world(404, 8, size=16):
        score = truth.score_clip(item.stems["mix"], item.truth, reference=item.stems["mix"])
        assert not any(score.decay_errors) and score.loud_excess == 0
        assert score.event_distances == [(0, 0)] * score.events
        row = score.row()
        assert row["stuck_share"] == 0 and row["decay_error_db"] in (0, pytest.approx(math.nan, nan_ok=True))


def test_a_hit_that_is_not_there_has_no_decay():
    true = hits([0.5, 1.5], 60.0, room=1e-4)
    one = scored(hits([0.5], 60.0, room=1e-4), true, [0.5, 1.5])
    assert len(one.decay_errors) == 1 and abs(one.decay_errors[0]) < 0.5
    silent = scored(np.zeros(3 * RATE), true, [0.5, 1.5])
    assert silent.decay_errors == [] and truth.count([silent], "decay_error_db") == 0
    assert truth.pool([silent], "stuck_share") == 0 and truth.count([silent], "stuck_share") == 1
    assert truth.pool([silent], "event_mel_distance") > truth.pool([one], "event_mel_distance") > 0


def test_the_next_hit_ends_the_tail():
    """A gap of 250 ms is measured up to 20 ms before the next hit, one of 150 ms is not; the next may be early."""
    for gap, measured in ((0.25, 2), (0.15, 1)):
        true = hits([1.0, 1.0 + gap], 60.0)
        for early in (0.0, 0.04):
            wave = hits([1.0, 1.0 + gap - early], 60.0)
            errors = decay_errors(wave, true, [Hit(1.0, 1.0), Hit(1.0 + gap - early, 1.0 + gap)], QUIET)
            assert len(errors) == measured and max(map(abs, errors)) < 0.1
    scrape = [Hit(1.0, 1.0), Hit(1.15, 1.15, decays=False)]
    assert decay_errors(true, true, scrape, QUIET) == []
    assert decay_errors(true, true, [Hit(2.9, 2.9)], QUIET) == []  # the clip ends


def test_the_clip_is_measured_where_the_hit_was_generated():
    true = hits([1.0], 60.0)
    (late,) = decay_errors(hits([1.09], 60.0), true, [Hit(1.09, 1.0)], QUIET)
    assert abs(late) < 0.1


def test_ambience_is_not_ringing():
    true = hits([0.5, 1.5], 100.0, room=10 ** (-60 / 20))
    loud = hits([0.5, 1.5], 100.0, room=10 ** (-42 / 20))
    for wave, other in ((loud, true), (true, loud)):
        errors = scored(wave, other, [0.5, 1.5], level=-60).decay_errors
        assert len(errors) == 2 and max(map(abs, errors)) < 1
    drowned = hits([0.5, 1.5], 100.0, level=0.02, room=10 ** (-42 / 20))
    assert scored(true, drowned, [0.5, 1.5]).decay_errors == []  # nobody can tell how that hit decays


def test_loud_share():
    wave = np.zeros(RATE)
    assert loud_share(wave) == 0 == loud_share(wave[:100])
    wave[: RATE // 2] = 10 ** (-34.9 / 20)
    assert loud_share(wave) == 0.5
    assert loud_share(wave * 10 ** (-0.2 / 20)) == 0


def test_distances_are_of_the_events_windows_and_know_nearer_from_further():
    true = hits([1.0], 60.0)
    near, far = (event_distances(hits([1.0], slope), true, [1.0])[0] for slope in (50.0, 20.0))
    assert 0 < near[0] < far[0] and 0 < near[1] < far[1]
    elsewhere = true + hits([2.0], 60.0)
    assert event_distances(elsewhere, true, [1.0]) == [(0, 0)]
    hissing = true + 1e-4 * np.random.default_rng(0).standard_normal(len(true))
    assert max(event_distances(hissing, true, [1.0])[0]) < 0.02  # far below the hit
    assert len(event_distances(true, true, [0.0, 2.999])) == 2


def test_without_the_true_sound_there_is_nothing_to_compare():
    score = truth.score_clip(Sound(hits([1.0], 60.0), RATE), entry([1.0]))
    for name in truth.NAMES[8:]:
        assert math.isnan(truth.pool([score], name)) and truth.count([score], name) == 0


def test_a_short_sound_is_filled_with_silence():
    true = hits([0.5, 2.0], 2.0)
    score = scored(true[: 2 * RATE], true, [0.5, 2.0])
    assert score.loud_excess == pytest.approx(-1 / 3, abs=0.01) and len(score.event_distances) == 2
