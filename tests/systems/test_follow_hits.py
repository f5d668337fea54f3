"""Hits in the user's hands: what a system expects, and sounds that follow what it is told instead."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from system_parts import clip_of
from vaura_parts import fake_system

from v2a_nb.audio.onsets import detect_onsets
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError
from v2a_nb.hits import Hits
from v2a_nb.models.video_encoders import hit_windows
from v2a_nb.models.video_encoders.strike import StrikeVision
from v2a_nb.systems.base import System
from v2a_nb.systems.long_videos import soundtrack
from v2a_nb.systems.registry import load, with_weights
from v2a_nb.world import strike_world


@pytest.fixture(scope="module")
def vaura() -> System:
    return load("vaura")


@pytest.fixture(scope="module")
def item():
    """Three strikes and two near misses."""
    return strike_world(seed=8000, clips=2, size=64, version=1)[1]


@pytest.fixture(scope="module")
def clip(item) -> Clip:
    return item.clip.silent()


def onsets(sound: Sound) -> list[float]:
    return [float(time) for time in detect_onsets(sound)]


def near(times) -> object:
    return pytest.approx(list(times), abs=0.03)


def test_what_is_expected_has_times_probabilities_and_places(vaura, item, clip):
    hits = vaura.hits(clip)
    assert hits.times == near(e["time_s"] for e in item.truth["events"] if e["sounding"])
    assert all(h.origin == "model" and h.probability >= 0.5 and 0 <= h.x <= 1 and 0 <= h.y <= 1 for h in hits)
    doubts = vaura.hits(clip, sensitivity=1.0)
    assert set(hits) < set(doubts) and doubts.at(0.5) == hits
    part = vaura.hits(clip, start=1.0, duration=1.0)
    assert part.times == near(t - 1 for t in hits.times if 1 <= t < 2)


@pytest.mark.parametrize("name", with_weights())
def test_every_system_expects_the_same(name, vaura, clip):
    assert load(name).hits(clip).times == near(vaura.hits(clip).times)


def test_sounds_follow(vaura, clip):
    hits = vaura.hits(clip)
    first, second, third = hits.times
    generate = lambda hits: onsets(vaura.generate(clip, hits=hits))  # noqa: E731
    assert generate(hits) == near(hits.times)
    assert generate(hits.remove(1)) == near([first, third])
    assert generate(hits.add(1.0)) == near([first, 1.0, second, third])
    assert generate(hits.move(0, 0.7)) == near([0.7, second, third])
    assert generate([]) == [] and generate([0.4, 1.9]) == near([0.4, 1.9])


def test_a_louder_hit_is_louder_and_the_others_stay(vaura, clip):
    hits = vaura.hits(clip)
    plain, louder = vaura.generate(clip, hits=hits), vaura.generate(clip, hits=hits.scale(1, -12.0))
    a, b = (sound.slice(hits[1].time_s, hits[1].time_s + 0.1).rms_dbfs for sound in (plain, louder))
    assert a - b == pytest.approx(12, abs=0.1)
    assert np.array_equal(plain.slice(0, 1.5).samples, louder.slice(0, 1.5).samples)


def test_sensitivity_chooses_among_its_own_hits(vaura, clip):
    hits = vaura.hits(clip)
    same = vaura.generate(clip, hits=hits)
    assert np.array_equal(vaura.generate(clip, sensitivity=0.5).samples, same.samples)
    assert np.array_equal(
        vaura.generate(clip, hits=vaura.hits(clip, sensitivity=1.0), sensitivity=0.5).samples, same.samples
    )
    assert len(onsets(vaura.generate(clip, sensitivity=1.0))) > len(hits)
    assert np.array_equal(vaura.generate(clip).samples, vaura.generate(clip, hits=None).samples)


def test_a_sound_that_follows_expected_hits_reads_its_clip_once(vaura, clip, monkeypatch):
    told = vaura.encode_video(clip, vaura.hits(clip, sensitivity="auto"))
    read, reading = [], type(vaura.encoder).reading
    monkeypatch.setattr(type(vaura.encoder), "reading", lambda self, *a, **k: read.append(1) or reading(self, *a, **k))
    monkeypatch.setattr(vaura.encoder, "features", None)
    (hits,) = vaura._hits(clip, None, "auto", 0.0, None)
    assert hits == vaura.hits(clip, sensitivity="auto") and len(read) == 2
    assert torch.equal(vaura.encode_videos([clip], [hits]), told) and len(read) == 2
    vaura.generate(clip.slice(0, 1), sensitivity=0.5)
    assert len(read) == 3
    part, expected = clip.slice(0, 1), []
    whole = [*soundtrack(vaura, [part], sensitivity=0.5, followed=expected.append)]
    assert len(read) == 4 and expected[0].times == Hits(vaura.read_hits(part, sensitivity=0.5)).times
    same = np.concatenate([piece.samples for piece in whole], axis=1)
    assert np.array_equal(same, vaura.generate(part, sensitivity=0.5).samples)


@pytest.mark.parametrize("name", ["egosonics", "action2sound", "vta_ldm"])
def test_a_slow_camera_is_slow_for_the_hits_too(name, clip, monkeypatch):
    monkeypatch.setattr(hit_windows, "CLIPS", 2)  # whose windows are not what is looked at
    system, seen, reading = load(name), [], StrikeVision.reading
    monkeypatch.setattr(
        StrikeVision, "reading", lambda self, clip, *a: seen.append(len(clip.frames)) or reading(self, clip, *a)
    )
    part = clip.slice(0, 1)
    system.generate(part, sensitivity=0.5, fps=5.0, steps=1)
    [*soundtrack(system, [part], sensitivity=0.5, fps=5.0, steps=1)]
    assert [count for count in seen if count < 128] == [5, 5]  # the others are taken windows of hits


def test_a_part_of_a_clip_has_its_part_of_the_hits(vaura, clip):
    hits = vaura.hits(clip).add(1.2)
    part = vaura.generate(clip, hits=hits, start=1.0, duration=1.0)
    assert part.n == 16000 and onsets(part) == near(t - 1 for t in hits.times if 1 <= t < 2)


def test_a_batch_has_a_list_for_each_clip(vaura, clip):
    alone = vaura.generate(clip, hits=[1.0], seed=3)
    both = vaura.generate_batch([clip, clip], seeds=[2, 3], hits=[Hits([0.5]), Hits([1.0])])
    assert onsets(both[0]) == near([0.5]) and onsets(both[1]) == pytest.approx(onsets(alone), abs=1e-6)


def test_a_file_of_hits_does_as_well(vaura, clip, tmp_path):
    path = Hits([0.5]).save(tmp_path / "hits.json")
    assert onsets(vaura.generate(clip, hits=path)) == near([0.5])


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"hits": [9.0]}, "a hit at 9.000 s lies outside of s8000"), ({"hits": [0.5, 0.5]}, "two hits"),
        ({"hits": 0.5}, "must be a list"), ({"hits": ["0.5"]}, "time_s must be a number"),
        ({"hits": "nowhere.json"}, "cannot be read"), ({"sensitivity": 2}, "sensitivity must be 0"),
        ({"sensitivity": "high"}, "sensitivity must be 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_followed_is_one_line(vaura, clip, how, words):
    with pytest.raises(UsageError) as error:
        vaura.generate(clip, **how)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_lists_for_clips_must_be_as_many(vaura, clip):
    for hits in (Hits([0.5]), [Hits([0.5])], "hits.json"):
        with pytest.raises(UsageError, match="2 clips need as many lists of hits"):
            vaura.generate_batch([clip, clip], seeds=[0, 1], hits=hits)


def test_an_encoder_that_knows_no_hits_says_so():
    system, clip = fake_system(), clip_of(0.6)
    for call in (
        lambda: system.hits(clip), lambda: system.generate(clip, hits=[0.2]),
        lambda: system.generate(clip, sensitivity=0.5),
    ):  # fmt: skip
        with pytest.raises(UsageError, match="knows no hits"):
            call()
    with pytest.raises(UsageError, match="clip must be a Clip"):
        system.hits("a.mp4")


class Clicks:
    """A stand-in for a system: it expects a hit at every white frame, and notes what it is to follow."""

    sample_rate = 8000

    def __init__(self) -> None:
        self.told: list[list[float] | None] = []

    def hits(self, clip, *, sensitivity=0.5):
        white = clip.times[clip.frames.max(axis=(1, 2, 3)) > 0]
        return Hits({"time_s": float(t), "probability": 0.9, "origin": "model"} for t in white)

    def generate(self, clip, *, seed, progress=None, hits=None):
        self.told.append(None if hits is None else hits.times)
        return Sound(np.zeros(round(8000 * clip.duration)), 8000)

    def stream(self, clip, **how):
        yield self.generate(clip, **how)

    def options_of_next_block(self, clip, options):
        return options


TIMES = [0.5, 9.5, 9.95, 10.0, 10.4, 20.0, 22.0]


def blocks() -> list[Clip]:
    frames = np.zeros((500, 4, 4, 3), np.uint8)  # 25 s
    frames[[round(20 * t) for t in TIMES]] = 255
    clip = Clip(frames, fps=20.0)
    return [clip.slice(a, a + 10.0) for a in (0, 10)] + [clip.slice(20, 25)]


@pytest.mark.parametrize("how", [{"hits": Hits(TIMES)}, {"sensitivity": 0.5}])
def test_a_long_video_is_followed_block_by_block(how):
    system, followed = Clicks(), []
    sounds = list(soundtrack(system, blocks(), followed=followed.append, **how))
    assert sum(s.n for s in sounds) == 25 * 8000
    assert [t for hits in followed for t in hits.times] == pytest.approx(TIMES), "each of them once"
    # a block begins with the last second of the one before
    assert system.told[1] == pytest.approx([0.5, 0.95, 1.0, 1.4]) and system.told[2] == pytest.approx([1.0, 3.0])


def test_what_is_expected_can_be_noted_without_being_followed():
    system, followed = Clicks(), []
    list(soundtrack(system, blocks(), followed=followed.append))
    assert system.told == [None] * 3 and [t for hits in followed for t in hits.times] == pytest.approx(TIMES)
    plain = Clicks()
    list(soundtrack(plain, blocks()))
    assert plain.told == [None] * 3
