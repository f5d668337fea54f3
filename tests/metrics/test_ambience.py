"""Levels of ambience, the curve of what was asked, what is left without it, and which kind it is."""

from __future__ import annotations

import json

import numpy as np
import pytest
from feature_parts import small_video

from v2a_nb.clip import Sound
from v2a_nb.data.pool import quiet_dbfs
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import find_weights
from v2a_nb.metrics.ambience import kind as ambience_kind
from v2a_nb.metrics.ambience import train as recipe
from v2a_nb.metrics.ambience.kind import AmbienceKind, ambience_kind_accuracy
from v2a_nb.metrics.ambience.metric import (
    AmbienceEnergy,
    ambience_dbfs,
    hit_levels,
    in_band_dbfs,
    leakage,
    level_curve,
    quiet_energy,
    support_levels,
)
from v2a_nb.metrics.base import ScoredClip
from v2a_nb.metrics.material.metric import shipped_classifier
from v2a_nb.training.registry import train
from v2a_nb.training.results import Results
from v2a_nb.world import AMBIENCES, draw, strike_world
from v2a_nb.world.dataset import Settings, Take

RATE = 16000
LEVELS = (-72, -60, -48, -36)


def noise(level_dbfs, seconds=3.0, seed=0):
    wave = np.random.default_rng(seed).standard_normal(int(seconds * RATE))
    return 10 ** (level_dbfs / 20) * wave / np.sqrt(np.mean(wave**2))


def hits(times, peak=0.3, seconds=3.0):
    wave = np.zeros(int(seconds * RATE))
    for time in times:
        start = round(time * RATE)
        n = min(2400, len(wave) - start)
        wave[start : start + n] += peak * np.sin(np.arange(n) * 0.4) * np.exp(-np.arange(n) / 300)
    return wave


def entry(times, name="a"):
    events = [{"time_s": t, "kind": "strike", "material": "wood", "sounding": True} for t in times]
    return {"id": name, "recording": name, "duration_s": 3.0, "events": events}


@pytest.fixture(scope="module")
def levelled():
    """(asked, event-aware, blind, truth) of clips whose ambience was rendered at each of LEVELS."""
    rows = []
    for index in range(10):
        recording = draw(9400, index, duration_s=7.5)
        for level in LEVELS:
            take = Take(recording.changed(ambience_dbfs=float(level)), Settings(seconds=3.0, size=16))
            item = take.clip(4.0, f"c{index}")
            mix = item.stems["mix"]
            rows.append((level, ambience_dbfs(mix, item.truth["events"]), ambience_dbfs(mix), item.truth, index))
    return rows


# --- levels -----------------------------------------------------------------------------------------


def test_level_of_true_mixes_is_that_of_the_ambient_stem(levelled):
    for level, spread in ((-72, 4.0), (-60, 1.5), (-48, 0.6), (-36, 0.6)):
        errors = np.array([r[1] - r[3]["ambient"]["level_dbfs"] for r in levelled if r[0] == level])
        assert abs(np.median(errors)) < 0.3, level
        assert errors.std() < spread, level


def test_knowing_the_events_is_no_worse_than_the_quietest_half_second(levelled):
    errors = np.array([[r[k] - r[3]["ambient"]["level_dbfs"] for k in (1, 2)] for r in levelled])
    assert np.abs(errors[:, 0]).mean() <= np.abs(errors[:, 1]).mean()


def test_without_events_it_is_the_papers_level():
    sound = Sound(noise(-50) + hits([0.5, 1.5]), RATE)
    assert ambience_dbfs(sound) == quiet_dbfs(sound.samples[0], RATE)
    assert ambience_dbfs(Sound(np.zeros(RATE), RATE)) == ambience_dbfs(Sound(np.zeros(RATE), RATE), []) == -120


def test_energy_of_the_quietest_half_second_is_that_of_the_released_code():
    loud = np.full(48000, 0.5)
    for start, energy in ((20000, 202.88), (20800, 3.2)):  # a gap between two steps of 0.1 s, and one on a step
        wave = loud.copy()
        wave[start : start + 8000] = 0.02
        assert quiet_energy(Sound(wave, 16000)) == pytest.approx(energy, rel=1e-6)
    tenth = Sound(np.full(48000, 0.1), 16000)
    assert quiet_energy(tenth) == pytest.approx(80, rel=1e-6)
    assert quiet_energy(tenth.gain(20)) == pytest.approx(8000, rel=1e-5)
    assert quiet_energy(Sound(np.zeros(48000), 16000)) < 1e-8
    clips = [ScoredClip(name, name, Sound(np.full(48000, level), 16000)) for name, level in (("a", 0.1), ("b", 0.3))]
    metric = AmbienceEnergy()
    assert metric.pool([metric.score(clip) for clip in clips], "ambience_energy") == pytest.approx(400, rel=1e-5)


def test_events_may_be_entries_or_times_and_near_misses_are_none():
    times = [0.5, 1.2, 2.0]
    sound = Sound(noise(-50) + hits(times), RATE)
    told = entry(times)["events"]
    assert ambience_dbfs(sound, told) == ambience_dbfs(sound, times) == pytest.approx(-50, abs=0.3)
    missed = [{**told[0], "time_s": 2.6, "sounding": False}]
    assert ambience_dbfs(sound, told + missed) == ambience_dbfs(sound, told)


def test_level_does_not_depend_on_the_rate():
    sound = Sound(noise(-40), RATE)
    assert ambience_dbfs(sound.resample(32000), []) == pytest.approx(
        ambience_dbfs(sound, []), abs=0.5
    )  # the edge of the band is lost


def test_level_in_band_leaves_out_what_the_spectrogram_does_not_have():
    t = np.arange(48000) / RATE
    for hertz, kept in ((50, False), (500, True), (3000, True)):
        sound = Sound(0.1 * np.sin(2 * np.pi * hertz * t), RATE)
        level = in_band_dbfs(sound)
        assert abs(level - sound.rms_dbfs) < 0.5 if kept else level < sound.rms_dbfs - 20
    assert in_band_dbfs(Sound(np.zeros(RATE), RATE)) == -120


# --- the curve --------------------------------------------------------------------------------------


def test_curve_is_the_least_squares_line():
    rng = np.random.default_rng(0)
    asked = np.repeat([-70.0, -60, -50, -40], 5)
    made = 0.7 * asked - 12 + rng.normal(0, 3, 20)
    curve = level_curve(asked, made, [f"r{i % 5}" for i in range(20)])
    slope, intercept = np.polyfit(asked, made, 1)
    assert (curve.slope, curve.intercept) == pytest.approx((slope, intercept))
    assert curve.r2 == pytest.approx(np.corrcoef(asked, made)[0, 1] ** 2)
    assert curve.slope_low < curve.slope < curve.slope_high and curve.r2_low < curve.r2_high <= 1
    assert curve.n == 20 and curve.span_db == 30 and not curve.follows


def test_true_ambiences_follow_and_a_constant_does_not(levelled):
    asked, made, recordings = [r[0] for r in levelled], [r[1] for r in levelled], [str(r[4]) for r in levelled]
    curve = level_curve(asked, made, recordings)
    assert curve.follows and curve.slope == pytest.approx(1, abs=0.06)
    flat = level_curve(asked, [-50.0] * len(asked), recordings)
    assert flat.slope == 0 and flat.r2 == 0 and not flat.follows
    assert not level_curve([-60, -50], [-60, -50]).follows  # 10 dB tell nothing of 30


@pytest.mark.parametrize(
    ("asked", "made"), [([-60.0], [-60.0, -50.0]), ([-60.0, -60.0], [-60.0, -50.0]), ([-60, -50], [np.nan, -50])]
)
def test_no_line_without_two_levels(asked, made):
    with pytest.raises(UsageError):
        level_curve(asked, made)


# --- hits and leakage -------------------------------------------------------------------------------


def test_hit_level_is_the_hits_own_and_not_the_ambiences():
    times = [0.5, 1.2, 2.0]
    alone = hit_levels(Sound(hits(times), RATE), entry(times)["events"])
    over = hit_levels(Sound(hits(times) + noise(-40), RATE), entry(times)["events"])
    assert alone == pytest.approx(over, abs=0.5)
    late = hit_levels(Sound(hits([t + 0.04 for t in times]), RATE), entry(times)["events"])
    assert late == pytest.approx(alone, abs=0.5)
    assert (hit_levels(Sound(np.zeros(48000), RATE), entry(times)["events"]) == -120).all()
    assert len(hit_levels(Sound(np.zeros(48000), RATE), [{**entry([1.0])["events"][0], "kind": "scrape"}])) == 0


def pairs(ambience, focused, peak=0.3, n=6):
    """The same hits over an ambience and over a softer one, ``peak`` high in the second."""
    rng = np.random.default_rng(1)
    entries, first, second = [], [], []
    for i in range(n):
        times = np.round(np.sort(rng.uniform(0.1, 0.8, 3)) + np.arange(3) * 0.9, 3).tolist()
        entries.append(entry(times, f"c{i}"))
        first.append(Sound(hits(times) + noise(ambience, seed=i), RATE))
        second.append(Sound(hits(times, peak) + noise(focused, seed=i + 100), RATE))
    return first, second, entries


def test_ambience_that_falls_with_its_action_kept():
    made = leakage(*pairs(-40, -65))
    assert made["ambience_drop_db"]["value"] == pytest.approx(25, abs=0.5)
    assert made["hit_change_db"]["value"] == pytest.approx(0, abs=0.3) and made["hits_kept"]["value"] == 1
    assert made["contrast_focused_db"]["value"] - made["contrast_ambient_db"]["value"] == pytest.approx(25, abs=1)
    assert made["onset_f1_ambient"]["value"] == made["onset_f1_focused"]["value"] == 1
    assert made["onset_f1_change"]["value"] == 0 and made["onset_f1_change"]["n"] == made["hits_kept"]["n"] == 18
    row = made["ambience_drop_db"]
    assert row["low"] <= row["value"] <= row["high"] and row["n"] == 6


def test_action_that_falls_with_the_ambience_is_seen():
    softer = leakage(*pairs(-40, -65, peak=0.03))
    assert softer["hit_change_db"]["value"] == pytest.approx(-20, abs=0.5) and softer["hits_kept"]["value"] == 0
    gone = leakage(*pairs(-40, -65, peak=0.0))
    assert gone["hit_change_db"]["value"] == pytest.approx(-30, abs=1)  # what vanished counts as -30
    assert gone["onset_f1_focused"]["value"] == 0 and gone["onset_f1_change"]["value"] == -1


def test_identical_pairs_leak_nothing():
    first, _, entries = pairs(-50, -50)
    made = leakage(first, first, entries)
    for name in ("ambience_drop_db", "hit_change_db", "onset_f1_change"):
        assert made[name]["value"] == made[name]["low"] == made[name]["high"] == 0


def test_supports_tell_the_stems_apart():
    world = strike_world(9400, 6, seconds=3.0, size=16)
    seen = 0
    for item in world:
        stems = item.stems
        action, ambient = support_levels(stems["mix"], stems)
        if not np.isfinite(action):
            continue
        seen += 1
        quieter = Sound(stems["action"].samples + 0.1 * stems["ambient"].samples, RATE)
        after = support_levels(quieter, stems)
        assert after[1] - ambient == pytest.approx(-20, abs=2)
        assert after[0] - action == pytest.approx(0, abs=1)
    assert seen >= 3
    item = world[0]
    told = leakage([item.stems["mix"]] * 2, [quieter.fit(3.0)] * 2, [item.truth] * 2, [item.stems] * 2)
    assert {"action_support_change_db", "ambience_support_drop_db"} <= told.keys()


def test_pairs_must_be_pairs():
    first, second, entries = pairs(-50, -60, n=2)
    with pytest.raises(UsageError, match="one pair each"):
        leakage(first, second[:1], entries)
    with pytest.raises(UsageError, match="one pair each"):
        leakage(first, second, entries, stems=[])


# --- kinds ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def heard():
    """Recordings that the shipped classifier was neither trained nor scored on."""
    return list(recipe.mixes(9401, 60))


def test_shipped_classifier_knows_unseen_ambiences(heard):
    sounds = [Sound(wave, RATE) for wave, _, _ in heard]
    kinds = [kind for _, kind, _ in heard]
    row = ambience_kind_accuracy(sounds, kinds, [f"r{i // 2}" for i in range(len(heard))])
    assert row["value"] >= 0.95 and row["low"] <= row["value"] <= row["high"] and row["n"] == 60
    assert row["name"] == "ambience_kind_accuracy" and row["extractor"].startswith("strike-ambience@")
    wrong = ambience_kind_accuracy(sounds, kinds[1:] + kinds[:1])
    assert wrong["value"] < 0.5


def test_shipped_classifier_hears_what_came_back_from_mels(heard):
    back = recipe.through_mel([wave for wave, _, _ in heard[:12]], iterations=8, method="pinv")
    row = ambience_kind_accuracy([Sound(w, RATE) for w in back], [kind for _, kind, _ in heard[:12]])
    assert row["value"] >= 0.8


def test_kind_depends_on_neither_level_nor_rate(heard):
    judge = AmbienceKind.from_pretrained("ambience")
    for wave, kind, _ in heard[:6]:
        sound = Sound(wave, RATE)
        assert judge.classify(sound) == judge.classify(sound.gain(-12)) == judge.classify(wave)
        assert judge.classify(sound.resample(32000)) == kind
    assert judge.classify(Sound(np.zeros(RATE), RATE)) == ambience_kind.NOTHING
    assert judge.classify(np.zeros(10, np.float32)) == ambience_kind.NOTHING


def test_card_says_what_the_weights_score():
    folder = find_weights("ambience")
    card = json.loads((folder / "config.json").read_text())
    assert card["source"] == "strike:seed=3500"
    scored = Results.read(folder)["kinds"].row("ambience_kind_accuracy", "true mixes")
    assert scored.value > 0.95 and scored.n >= 200
    again = [(w, k) for w, k, _ in recipe.mixes(9300, 40, first=recipe.TEST_FIRST)]
    row = ambience_kind_accuracy([Sound(w, RATE) for w, _ in again], [k for _, k in again])
    assert row["value"] >= scored.low - 0.05 and row["extractor"] == scored.extractor


def test_training_repeats_to_the_byte_and_learns(tmp_path, heard):
    made = recipe.train_ambience(3600, 60)
    again = recipe.train_ambience(3600, 60)
    assert all(np.array_equal(getattr(made, k), getattr(again, k)) for k in ("mean", "scale", "weight"))
    kinds = np.array([AMBIENCES.index(kind) for _, kind, _ in heard])
    found = made.predict(np.stack([ambience_kind.describe(wave) for wave, _, _ in heard]))
    assert (found == kinds).mean() > 0.7
    read = AmbienceKind.from_pretrained(made.save_pretrained(tmp_path / "w"))
    assert np.abs(read.weight - made.weight).max() < 1e-3 and read.tag == made.tag


def test_the_recipe_trains_on_the_world_of_both_seeds(tmp_path):
    folder = train("ambience", data="strike:seed=3600,clips=24", seed=1, out=tmp_path / "run")
    trained = AmbienceKind.from_pretrained(folder)
    assert (
        trained.tag == AmbienceKind.from_pretrained(recipe.train_ambience(3601, 24).save_pretrained(tmp_path / "w")).tag
    )
    card = json.loads((folder / "config.json").read_text())
    assert card["source"] == "strike:seed=3600,clips=24" and card["seed"] == 1
    small_video(tmp_path / "videos" / "a.mp4", 1.0)
    with pytest.raises(UsageError, match="only Strike World tells"):
        train("ambience", data=f"folder:{tmp_path / 'videos'}", out=tmp_path / "other")
    with pytest.raises(UsageError, match="at least 4"):
        recipe.train_ambience(3600, 3)


def test_bad_input_is_one_clear_error(tmp_path):
    sound = Sound(noise(-50), RATE)
    with pytest.raises(UsageError, match="one each is needed"):
        ambience_kind_accuracy([sound], ["hum", "hiss"])
    with pytest.raises(UsageError, match="ambience 'wind' is unknown"):
        ambience_kind_accuracy([sound], ["wind"])
    with pytest.raises(WeightsError, match="not a classifier of ambiences"):
        AmbienceKind.from_pretrained("material")
    shipped_classifier().save_pretrained(tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps({**config, "kind": "strike-ambience"}))
    with pytest.raises(WeightsError, match="do not fit a classifier"):
        AmbienceKind.from_pretrained(tmp_path / "m")
