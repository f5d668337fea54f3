"""Sync and DeSync: windows, classes, shifts, and both judges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sync_parts import filled, published, small_synchformer

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.metrics import registry
from v2a_nb.metrics.base import ScoredClip, load
from v2a_nb.metrics.extractors import load_extractor
from v2a_nb.metrics.ladder import noise_like
from v2a_nb.metrics.offsets import StrikeOffsets, SynchformerOffsets
from v2a_nb.metrics.sync import CHANCE_S, OFFSETS_S, DeSync, Protocol, Sync, SyncTiled, late_s
from v2a_nb.models import synchformer

RATE = 16000


class Told:
    """A judge that answers what it is told, whatever it sees."""

    tag = "told@0000"

    def __init__(self, *classes: int) -> None:
        self.classes = iter(classes)

    def look(self, clip, start, protocol):
        return None

    def offsets(self, seen, sound, start, protocol):
        return np.eye(21)[next(self.classes)]


class Expecting:
    """An encoder that expects hits at these times."""

    config = None

    def __init__(self, *times: float) -> None:
        self.times = times

    def hits(self, clip, faint=False):
        return [{"time_s": time, "probability": 0.9, "x": 0.5, "y": 0.5} for time in self.times]


def judge_of(*times: float) -> StrikeOffsets:
    judge = StrikeOffsets.__new__(StrikeOffsets)
    judge.model, judge.tag = Expecting(*times), "strike-sync@test"  # type: ignore[assignment]
    return judge


def clicks(times, seconds: float) -> Sound:
    wave = np.zeros(round(seconds * RATE))
    for time in times:
        if 0 <= time < seconds - 0.05:
            wave[round(time * RATE) :][:200] = np.sin(np.arange(200)) * np.exp(-np.arange(200) / 50)
    return Sound(wave, RATE)


def clip_of(seconds: float, sound: Sound) -> ScoredClip:
    frames = np.zeros((round(25 * seconds), 16, 16, 3), np.uint8)
    return ScoredClip("a", "a", sound, open_video=lambda: Clip(frames, fps=25.0, duration=seconds))


def test_the_grid_is_that_of_synchformer():
    assert len(OFFSETS_S) == 21 and OFFSETS_S[10] == 0 and pytest.approx(0.2) == np.diff(OFFSETS_S)
    assert np.array_equal(OFFSETS_S, synchformer.OFFSETS_S)
    assert pytest.approx(1.047619, abs=1e-6) == CHANCE_S
    assert (synchformer.FRAMES, synchformer.SAMPLES) == (120, 76800)


@pytest.mark.parametrize("k", range(21))
def test_a_class_is_its_distance_from_zero(k):
    clip = clip_of(2.56, clicks([1.0], 2.56))
    assert late_s(np.eye(21)[k]) == pytest.approx(2 - 0.2 * k)  # class 0: the sound is 2 s late
    for metric in (Sync, SyncTiled):
        row = metric(Told(k)).score(clip)
        assert metric().pool([row], "sync_offset_s") == pytest.approx(abs(-2 + 0.2 * k))
    row = DeSync(Told(k, 10)).score(clip_of(8.0, clicks([1.0], 8.0)))
    assert DeSync().pool([row], "desync_s") == pytest.approx(abs(-2 + 0.2 * k) / 2)


def test_pooling_counts_windows_and_leaves_out_what_has_none():
    rows = [[0.2, -0.4], [float("nan"), 1.0], [float("nan")]]
    assert Sync().pool(rows, "sync_offset_s") == pytest.approx(1.6 / 3) and Sync().count(rows, "sync_offset_s") == 2
    assert Sync().pool(rows[::-1], "sync_offset_s") == Sync().pool(rows, "sync_offset_s")
    assert np.isnan(Sync().pool(rows[2:], "sync_offset_s")) and np.isnan(late_s(np.full(21, np.nan)))


def test_windows_of_each_protocol():
    middle, tiled, ends = Protocol(), Protocol(tiled=True), Protocol(ends=True)
    assert middle.starts(2.56) == [-28] and middle.starts(4.8) == [0] and middle.starts(5.0) == [2]
    assert tiled.starts(2.56) == tiled.starts(9.0) == [2]
    assert ends.starts(4.8) == [0, 0] and ends.starts(8.0) == [0, 80] and ends.starts(5.1) == [0, 0]
    with pytest.raises(UsageError, match="too short for DeSync"):
        ends.starts(4.7)
    values = np.arange(1, 65)
    held = middle.window(values, -28, 25, hold=True)
    assert len(held) == 120 and (held[:28] == 1).all() and (held[28:92] == values).all() and (held[92:] == 64).all()
    silent = middle.window(values, -28, 25)
    assert (silent[:28] == 0).all() and (silent[28:92] == values).all() and (silent[92:] == 0).all()
    assert np.array_equal(tiled.window(values, 2, 25), np.tile(values, 2)[2:122])
    assert np.array_equal(values, np.arange(1, 65))


TIMES = (0.31, 0.72, 1.5, 2.31, 2.44, 3.17, 4.02)


@pytest.mark.parametrize("k", [-10, -7, -3, -1, 0, 1, 2, 5, 10])
def test_a_sound_that_is_k_classes_late_is_k_classes_late(k):
    for seconds in (4.8, 6.4):
        clip = clip_of(seconds, clicks([time + 0.2 * k for time in TIMES], seconds))
        (late,) = Sync(judge_of(*TIMES)).score(clip)
        assert late == pytest.approx(0.2 * k)
    assert all(x == pytest.approx(0.2 * k) for x in DeSync(judge_of(*TIMES)).score(clip) if abs(k) <= 5)


def test_repeats_hide_how_late_a_sound_is():
    """2.0 s late in a clip of 2.56 s that is repeated may pass for 0.56 s early; with silence around, it cannot."""
    times, seconds = (0.38, 0.5), 2.56
    late = clip_of(seconds, clicks([time + 2.0 for time in times], seconds))
    assert Sync(judge_of(*times)).score(late) == [pytest.approx(2.0)]
    assert SyncTiled(judge_of(*times)).score(late) == [pytest.approx(-0.6)]
    same = clip_of(seconds, clicks(times, seconds))
    assert Sync(judge_of(*times)).score(same) == SyncTiled(judge_of(*times)).score(same) == [0.0]


def test_our_judge_says_nothing_where_there_is_nothing():
    seconds, judge = 2.56, judge_of(0.5, 1.4)
    for sound in (Sound(np.zeros(40960), RATE), Sound(np.full(40960, 0.1), RATE), Sound(np.zeros(10), RATE)):
        assert np.isnan(Sync(judge).score(clip_of(seconds, sound))).all()
    assert np.isnan(Sync(judge_of()).score(clip_of(seconds, clicks([1.0], seconds)))).all()
    hiss = noise_like(clicks([0.5], seconds), 0)
    assert np.isnan(Sync(judge).score(clip_of(seconds, hiss))).all()


def test_the_shipped_judge_hears_known_shifts():
    from v2a_nb.world import strike_world

    judge, right, found = load_extractor("strike-sync"), 0, 0
    assert judge.tag.startswith("strike-sync@") and load(registry.METRICS["sync_offset_s"]).extractor == judge.tag
    for item in strike_world(8100, 8):
        clip = item.clip.silent()
        (start,) = Protocol().starts(clip.duration)
        seen = judge.look(clip, start, Protocol())
        for k in (0, 2):
            sound = item.stems["mix"]
            later = Sound(np.roll(sound.samples, round(0.2 * k * sound.sample_rate), axis=1), sound.sample_rate)
            late = late_s(judge.offsets(seen, later, start, Protocol()))
            found += np.isfinite(late)
            right += abs(late - 0.2 * k) < 0.21
    assert found >= 10 and right >= 0.7 * found


def test_synchformer_judges_by_your_file(tmp_path, monkeypatch):
    net, path = filled(small_synchformer()), tmp_path / "synchformer.safetensors"
    save_file(published(net), path)
    whole = synchformer.Synchformer.from_file.__func__
    small = net.config
    monkeypatch.setattr(synchformer.Synchformer, "from_file", classmethod(lambda cls, file: whole(cls, file, small)))
    (entry,) = registry.entries([f"sync_offset_s[synchformer={path}]"])
    metric = load(entry)
    assert entry.asked == "sync_offset_s[synchformer]" and metric.extractor.startswith("synchformer@")
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (64, 30, 40, 3), dtype=np.uint8)
    sound = Sound(0.1 * rng.standard_normal(40960), RATE)
    clip = ScoredClip("a", "a", sound, open_video=lambda: Clip(frames, fps=25.0))
    (late,) = metric.score(clip)
    held = np.concatenate([np.repeat(frames[:1], 28, 0), frames, np.repeat(frames[-1:], 28, 0)])
    wave = np.pad(sound.samples[0], 28 * 640)
    with torch.no_grad():
        logits = net(net.see(held, 256)[None], net.hear(wave)[None])[0]
    assert late == pytest.approx(2 - 0.2 * int(logits.argmax()))
    judge = SynchformerOffsets(net)
    assert judge.offsets(judge.look(clip.video, 2, Protocol(tiled=True)), sound, 2, Protocol(tiled=True)).shape == (21,)
    with pytest.raises(WeightsError, match=r"comes without weights.*sync_offset_s\[synchformer=FILE"):
        load_extractor("synchformer")
    with pytest.raises(UsageError, match=r"takes sync_offset_s\[strike-sync\] or sync_offset_s\[synchformer\]"):
        registry.entries(["sync_offset_s[clap]"])
