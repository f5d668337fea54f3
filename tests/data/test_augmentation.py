"""Augmentation: cuts that are exact in pictures, sounds and truth, and clips that are stretched."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from feature_parts import Levels, small_video

from v2a_nb.audio.onsets import detect_onsets, match_onsets
from v2a_nb.clip import Clip, Sound
from v2a_nb.data.augmentation import (
    GRID_S,
    JoinedRecordings,
    concatenate,
    join_texts,
    join_world_clips,
    joined_world,
    stretch,
    stretch_truth,
)
from v2a_nb.data.dataset import Cut, cut_clips
from v2a_nb.data.features import FeatureStore
from v2a_nb.data.recordings import StrikeRecordings, of_collection
from v2a_nb.data.sources import read_source
from v2a_nb.errors import UsageError
from v2a_nb.world import strike_world


def numbered(first: int, fps: float, rate: int, seconds: float = 2.0, size: tuple[int, int] = (8, 10)) -> Clip:
    """Frame k is ``first + k`` all over; sample k is ``first + k`` too, over 2 ** 20."""
    n = round(fps * seconds)
    frames = np.broadcast_to(((first + np.arange(n)) % 256).astype(np.uint8)[:, None, None, None], (n, *size, 3))
    wave = (first + np.arange(round(rate * seconds))) / 2**20
    return Clip(frames, fps=fps, sound=Sound(wave, rate), name=f"from {first}")


def shown_at(clip: Clip, time: float) -> int:
    return int(clip.frames[max(0, np.searchsorted(clip.times, time + 1e-9, side="right") - 1), 0, 0, 0])


# --- clips ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fps_a", "fps_b"), [(25, 25), (24, 30), (30000 / 1001, 25), (15, 50), (2, 2)])
@pytest.mark.parametrize("at_s", [0.64, 1.0, 1.2345])
def test_each_moment_shows_what_its_clip_shows(fps_a, fps_b, at_s):
    a, b = numbered(0, fps_a, 16000), numbered(100, fps_b, 16000)
    joined = concatenate(a, b, at_s)
    for time in np.linspace(0, 1.99, 499):
        if abs(time - at_s) > 1e-6:
            assert shown_at(joined, time) == shown_at(a if time < at_s else b, time), time
    assert shown_at(joined, at_s) == shown_at(b, at_s) and at_s in joined.times
    assert joined.duration == b.duration and (np.diff(joined.times) > 0).all()


@pytest.mark.parametrize(("rate_a", "rate_b"), [(16000, 16000), (44100, 44100)])
def test_the_sound_is_cut_at_the_sample(rate_a, rate_b):
    a, b = numbered(0, 25, rate_a), numbered(500, 25, rate_b)
    hard = concatenate(a, b, 0.6, fade_s=0.0).sound
    n = round(0.6 * rate_a)
    assert hard.n == b.sound.n
    np.testing.assert_array_equal(hard.samples[:, :n], a.sound.samples[:, :n])
    np.testing.assert_array_equal(hard.samples[:, n:], b.sound.samples[:, n:])
    soft, half = concatenate(a, b, 0.6).sound, round(0.0025 * rate_a)
    np.testing.assert_array_equal(soft.samples[:, : n - half], a.sound.samples[:, : n - half])
    np.testing.assert_array_equal(soft.samples[:, n + half :], b.sound.samples[:, n + half :])


def test_the_fade_has_equal_power_and_leaves_no_step():
    rng = np.random.default_rng(0)
    frames, powers = np.zeros((50, 4, 4, 3), np.uint8), []
    for _ in range(300):
        a, b = (Clip(frames, fps=25.0, sound=Sound(0.1 * rng.standard_normal(32000), 16000)) for _ in range(2))
        powers.append(np.square(concatenate(a, b, 1.0).sound.samples[0, 15960:16040]).mean())
    assert np.mean(powers) == pytest.approx(0.01, rel=0.03)
    ones = Clip(frames, fps=25.0, sound=Sound(np.full(32000, 0.5), 16000))
    minus = ones.with_sound(Sound(np.full(32000, -0.5), 16000))
    steps = [np.abs(np.diff(concatenate(ones, minus, 1.0, fade_s=f).sound.samples[0])).max() for f in (0.0, 0.005)]
    assert steps[0] == 1.0 and steps[1] < 0.02


def test_sounds_of_two_rates_and_channels_are_cut_at_one_instant():
    def click(rate: int, at_s: float, channels: int) -> Sound:
        wave = np.zeros((channels, 2 * rate))
        wave[:, round(at_s * rate)] = 0.5
        return Sound(wave, rate)

    frames = np.zeros((50, 4, 4, 3), np.uint8)
    a = Clip(frames, fps=25.0, sound=click(16000, 0.5, 1))
    b = Clip(frames, fps=25.0, sound=click(44100, 1.5, 2))
    for first, second in ((a, b), (b.with_sound(click(44100, 0.5, 2)), a.with_sound(click(16000, 1.5, 1)))):
        sound = concatenate(first, second, 1.0).sound
        assert (sound.sample_rate, sound.channels, sound.duration) == (44100, 2, 2.0)
        energy = np.square(sound.samples[0].astype(np.float64))
        for middle in (0.5, 1.5):
            part = slice(round((middle - 0.5) * 44100), round((middle + 0.5) * 44100))
            mean = (np.arange(44100) / 44100 * energy[part]).sum() / energy[part].sum()
            assert mean == pytest.approx(0.5, abs=1e-3)


def test_pictures_get_the_size_of_the_first():
    a, b = numbered(0, 25, 8000, size=(8, 10)), numbered(100, 25, 8000, size=(30, 16))
    marked = b.frames.copy()
    marked[:, :5] = marked[:, -5:] = 255  # outside of the middle in the proportions of a
    joined = concatenate(a, replace(b, frames=marked), 1.0)
    assert joined.frames.shape[1:] == (8, 10, 3)
    assert (joined.frames[25:] == b.frames[25:, :8, :10]).all()


def test_what_cannot_be_joined_is_one_clear_line():
    a, b = numbered(0, 25, 8000), numbered(100, 25, 8000, seconds=1.0)
    for at_s in (0.0, -1.0, 1.0, 3.0, float("nan")):
        with pytest.raises(UsageError, match="cannot be cut at"):
            concatenate(a, b, at_s)
    with pytest.raises(UsageError, match="from 100 has no sound"):
        concatenate(a, b.silent(), 0.5)
    late = replace(a, times=a.times + 0.6, duration=2.6)
    with pytest.raises(UsageError, match="after the cut"):
        concatenate(late, b, 0.5)
    assert concatenate(a.silent(), b.silent(), 0.5).sound is None
    assert join_texts("a", "b") == "a, then b" and join_texts("a", "") == "a" and join_texts("", "") == ""


# --- recordings -------------------------------------------------------------------------------------------

WORLD = StrikeRecordings(41000)


@pytest.fixture(scope="module")
def joined():
    return JoinedRecordings(WORLD, 1.0, 2.56).open(6)


def test_pictures_sounds_and_words_change_at_the_same_cuts(joined):
    a, b = WORLD.open(6), WORLD.open(7)
    assert joined.name == f"{a.name}+{b.name}" and joined.duration_s == a.duration_s
    assert len(joined.cuts) >= 10 and np.allclose(np.diff(joined.cuts), 2.56)
    np.testing.assert_allclose(joined.cuts / GRID_S, np.round(joined.cuts / GRID_S))
    for rate in (16000, 22050):
        wave, waves = joined.wave(rate), (a.wave(rate), b.wave(rate))
        assert wave.dtype == np.float32 and len(wave) == len(waves[0])
        at = np.concatenate([[0], np.round(joined.cuts * rate).astype(int), [len(wave)]])
        fade = round(0.0025 * rate)
        for k, (start, stop) in enumerate(pairwise(at)):
            inside = slice(start + fade * (start > 0), stop - fade * (stop < len(wave)))
            np.testing.assert_array_equal(wave[inside], waves[k % 2][inside])
    cut = joined.cuts[2]
    times = np.arange(10) / 25
    start = cut - 5 / 25
    pictures = joined.frames(start, times, 32, 25.0)
    np.testing.assert_array_equal(pictures[:5], a.frames(start, times[:5], 32, 25.0))
    np.testing.assert_array_equal(pictures[5:], b.frames(cut, times[:5], 32, 25.0))
    words = joined.narration(cut - 1, 2.0)
    assert words == f"{a.narration(cut - 1, 1.0)}, then {b.narration(cut, 1.0)}"
    true = np.concatenate([a.onsets(cut - 1, 1.0), 1 + b.onsets(cut, 1.0)])
    np.testing.assert_allclose(joined.onsets(cut - 1, 2.0), true)


def test_a_joined_clip_has_no_single_origin(joined):
    cut = joined.cuts[0]
    assert joined.source(cut + 0.1, 1.0) == WORLD.open(7).source(cut + 0.1, 1.0)
    with pytest.raises(UsageError, match="no single origin"):
        joined.source(cut - 0.5, 1.0)


@pytest.mark.parametrize("probability", [0.0, 0.25, 0.6, 1.0])
def test_clips_hold_a_cut_with_the_probability(probability):
    source = JoinedRecordings(WORLD, probability, 2.56)
    rng, hits = np.random.default_rng(0), []
    for number in range(40):
        cuts = getattr(source.open(number), "cuts", np.zeros(0))
        for start in rng.uniform(0, 27, 20):
            hits.append(((cuts > start) & (cuts < start + 2.56)).sum())
    assert max(hits) <= 1 and np.mean(hits) == pytest.approx(probability, abs=0.06)


def test_recordings_that_are_held_out_are_joined_with_none_that_are_not(tmp_path):
    source = JoinedRecordings(WORLD, 0.5, 2.56)
    table = cut_clips(source, Cut(2.56, 2, 12, first=20))
    features = FeatureStore(tmp_path, workers=1).compute(table, source, Levels())
    train, held_out = features.split(2)
    used = [set("+".join(part.table["name"]).split("+")) for part in (train, held_out)]
    assert not used[0] & used[1] and len(used[1]) == 4
    assert held_out.table["text"][0] != "" and set(Counter(table["name"]).values()) == {4}


def test_what_is_held_out_can_stay_as_it_is():
    source = JoinedRecordings(WORLD, 1.0, 2.56, plain_from=9)
    names = [source.open(number).name for number in range(6, 12)]
    plain = [WORLD.open(number).name for number in range(6, 12)]
    assert names == [f"{plain[0]}+{plain[1]}"] * 2 + plain[2:]  # 8 would be joined with 9


def test_the_same_seed_gives_the_same_clips_and_another_setting_another_key():
    a, b = (JoinedRecordings(WORLD, 0.5, 2.56) for _ in range(2))
    np.testing.assert_array_equal(a.open(3).wave(16000), pickle.loads(pickle.dumps(b)).open(3).wave(16000))
    settings = [
        a,
        replace(a, probability=0.6),
        replace(a, seconds=3.0),
        replace(a, fade_s=0.0),
        replace(a, plain_from=4),
    ]
    assert len({str(each.describe()) for each in [*settings, WORLD]}) == 6
    for wrong in ({"probability": 1.5}, {"probability": -0.1}, {"seconds": 0.0}):
        with pytest.raises(UsageError):
            replace(a, **wrong)


def test_files_are_joined_too_and_a_short_partner_is_shown_where_it_can_be(tmp_path):
    for name, seconds, seed in (("a", 5.0, 0), ("b", 2.0, 1), ("c", 4.0, 2)):
        small_video(tmp_path / f"{name}.mp4", seconds, seed)
    files = of_collection(read_source(tmp_path))
    source = JoinedRecordings(files, 1.0, 1.0)
    first, second = source.open(0), files.open(1)
    assert (first.name, source.open(1).name, source.open(2).name) == ("a+b", "a+b", "c")  # c has no partner
    assert len(first.cuts) >= 4 and first.duration_s == files.open(0).duration_s
    piece = next(p for p in first.pieces if p.recording is not first.first and p.shift_s < 0)
    a, b = (round(t * 16000) for t in (piece.start_s + 0.01, piece.end_s - 0.01))
    shift = round(piece.shift_s * 16000)
    np.testing.assert_array_equal(first.wave(16000)[a:b], second.wave(16000)[a + shift : b + shift])
    times = np.arange(10) / 25
    shown = first.frames(piece.start_s, times, 32, 25.0)
    np.testing.assert_array_equal(shown, second.frames(piece.start_s + piece.shift_s, times, 32, 25.0))
    assert len(cut_clips(source, Cut(1.0, 3, 3))) == 9


# --- Strike World -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world():
    return joined_world(41100, 12, size=32)


def test_the_truth_of_both_scenes_is_kept(world):
    assert len(world) == 12
    for item in world:
        t, a, b = item.at_s, item.first, item.then
        assert a.recording.id != b.recording.id and 0.25 * 2.56 - 0.021 <= t <= 0.75 * 2.56 + 0.021
        before = [e["time_s"] for e in a.truth["events"] if e["time_s"] < t]
        after = [e["time_s"] for e in b.truth["events"] if e["time_s"] >= t]
        assert [e["time_s"] for e in item.truth["events"]] == before + after and len(item.events) == len(before + after)
        frame = round(25 * t)
        np.testing.assert_array_equal(item.clip.frames[:frame], a.clip.frames[:frame])
        np.testing.assert_array_equal(item.clip.frames[frame:], b.clip.frames[frame:])
        np.testing.assert_allclose(item.clip.times, a.clip.times, atol=1e-6)
        np.testing.assert_array_equal(item.masks[frame:], b.masks[frame:])
        parts = sum(item.stems[name].samples for name in ("action", "ambient", "offscreen"))
        np.testing.assert_allclose(item.clip.sound.samples, parts, atol=1e-6)
        assert item.truth["narration"].count(", then ") == 1
        assert item.truth["joined"] == {"time_s": t, "of": [a.id, b.id]}
    assert len({item.id for item in world}) == 12


def test_pairs_of_recordings_share_nothing(world):
    owners = [set(item.truth["recording"].split("+")) for item in world]
    for a in owners:
        for b in owners:
            assert a == b or not a & b
    again = joined_world(41100, 12, size=32)
    assert [item.at_s for item in again] == [item.at_s for item in world]


def test_true_onsets_of_both_scenes_are_in_the_sound(world):
    hits = total = 0
    for item in world:
        events = [e["time_s"] for e in item.truth["events"] if e["sounding"] and e["kind"] == "strike"]
        hits += len(match_onsets(np.array(sorted(events)), detect_onsets(item.clip.sound), 0.01))
        total += len(events)
    assert total >= 10 and hits / total > 0.8


def test_joined_clips_are_evaluated_as_others_are(world):
    from v2a_nb.metrics.evaluate import evaluate

    class Truth:
        def generate(self, clip, seed=0):
            return next(item for item in world if item.id == clip.name).stems["mix"]

    report = evaluate(world.clips[:4], Truth(), metrics=["onset_f1_50ms"], controls=False)
    assert report["onset_f1_50ms"] > 0.7


def test_scrapes_end_at_the_cut_and_clips_of_other_settings_are_refused():
    clips = strike_world(41200, 24, size=16).clips
    found = 0
    for item in clips:
        for event in item.truth["events"]:
            end = event["time_s"] + event.get("duration_s", 0.0)
            if event["kind"] == "scrape" and event["duration_s"] > 0.12 and event["time_s"] > 0.1 and end < 2.4:
                joined = join_world_clips(item, clips[-1], event["time_s"] + 0.06)
                kept = next(
                    e for e in joined.truth["events"] if e["kind"] == "scrape" and e["time_s"] == event["time_s"]
                )
                assert kept["time_s"] + kept["duration_s"] == pytest.approx(joined.at_s, abs=1e-3)
                found += 1
    assert found
    with pytest.raises(UsageError, match="other lengths"):
        join_world_clips(clips[0], strike_world(0, 1, size=32)[0], 1.0)
    with pytest.raises(UsageError, match="cannot be cut"):
        join_world_clips(clips[0], clips[1], 2.6)


# --- time-stretch -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.5, 0.81, 1.3, 2.0])
def test_onsets_stay_where_the_picture_has_them(factor):
    distances, total = [], 0
    for item in strike_world(41300, 20, size=16):
        before = detect_onsets(item.clip.sound)
        truth = stretch_truth(item.truth, factor)
        clip = stretch(item.clip, factor)
        assert clip.duration == pytest.approx(truth["duration_s"])
        assert clip.sound.n == round(clip.duration * 16000)
        np.testing.assert_allclose(clip.times, item.clip.times * factor, rtol=1e-6)
        found = detect_onsets(clip.sound)
        for old, new in zip(item.truth["events"], truth["events"], strict=True):
            # those that are clear in the sound as it was
            if old["kind"] == "strike" and len(before) and np.abs(before - old["time_s"]).min() < 0.005:
                total += 1
                if len(found):
                    distances.append(np.abs(found - new["time_s"]).min())
    near = np.array(distances)
    assert total > 15 and (near < 0.005).sum() > 0.85 * total and np.median(near) < 0.002


def test_a_stretched_clip_is_the_same_film_at_another_speed():
    t = np.arange(32000) / 16000
    clip = numbered(0, 25, 16000).with_sound(Sound(0.5 * np.sin(2 * np.pi * 1000 * t), 16000))
    slow = stretch(clip, 1.25)
    assert slow.fps == 20 and slow.duration == 2.5 and slow.sound.n == 40000 and (slow.frames == clip.frames).all()
    spectrum = np.abs(np.fft.rfft(slow.sound.samples[0] * np.hanning(40000)))
    assert np.argmax(spectrum) * 16000 / 40000 == pytest.approx(800, abs=1)
    assert stretch(clip, 1.0).sound.samples.tolist() == clip.sound.samples.tolist()
    assert stretch(clip.silent(), 2.0).duration == 4.0
    back = stretch(stretch(clip, 2.0), 0.5)
    np.testing.assert_allclose(back.sound.samples[0, 200:-200], clip.sound.samples[0, 200:-200], atol=2e-3)
    for factor in (0.4, 2.1, float("nan")):
        with pytest.raises(UsageError, match="outside of"):
            stretch(clip, factor)


def test_truth_is_scaled_with_the_clip():
    item = strike_world(41200, 8, size=16)[3]
    truth = stretch_truth(item.truth, 2.0)
    for old, new in zip(item.truth["events"], truth["events"], strict=True):
        assert new["time_s"] == pytest.approx(2 * old["time_s"]) and new["speed"] == pytest.approx(
            old["speed"] / 2, abs=1e-3
        )
    assert truth["duration_s"] == 5.12 and truth["narration"] == item.truth["narration"]
