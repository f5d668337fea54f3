"""The pool and the retrieval baseline: exact search, what is left out, levels, sounds, seams."""

from __future__ import annotations

import json

import numpy as np
import pytest
from av_parts import small_model

from v2a_nb import media
from v2a_nb.clip import Clip, Sound
from v2a_nb.data import pool as pool_module
from v2a_nb.data.pool import Pool, Source, quiet_dbfs, to_int16
from v2a_nb.errors import MediaError, UsageError, WeightsError
from v2a_nb.systems.retrieval.system import Retrieval
from v2a_nb.systems.retrieval.train import with_quiet_rooms
from v2a_nb.world import strike_world

RNG = np.random.default_rng(0)
RATE = 16000


def random_pool(n: int = 200, dim: int = 16, seed: int = 0, **options) -> Pool:
    rng = np.random.default_rng(seed)
    audio, video = rng.standard_normal((2, n, dim))
    sources = [Source(f"r{i // 4:05d}", 3.0 * (i % 4), 3.0, world_seed=5) for i in range(n)]
    return Pool(audio, video, sources, rng.uniform(-70, -30, n), **options)


def by_sorting(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    unit = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    return np.argsort(-(unit @ vectors.astype(np.float64).T), axis=1, kind="stable")[:, :k]


def noise_clip(seconds: float = 1.5, seed: int = 0, level: float = 0.05, name: str = "a") -> Clip:
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 255, (round(25 * seconds), 20, 24, 3), dtype=np.uint8)
    sound = Sound(level * rng.standard_normal(round(seconds * RATE)), RATE)
    return Clip(frames, fps=25.0, duration=seconds, sound=sound, name=name)


@pytest.fixture(scope="module")
def system() -> Retrieval:
    model = small_model()
    clips = [(noise_clip(seed=i, level=0.02 * (i + 1)), Source(f"own{i // 2}", 1.5 * (i % 2), 1.5)) for i in range(6)]
    return Retrieval(model, Pool.of(model, clips))


# --- search -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["sound", "look"])
@pytest.mark.parametrize("at_once", [1 << 22, 64])
def test_search_equals_sorting_everything(by, at_once, monkeypatch):
    monkeypatch.setattr(pool_module, "_AT_ONCE", at_once)  # in one piece, and in pieces of a few rows
    pool = random_pool()
    queries = RNG.standard_normal((9, 16))
    scores, rows = pool.search(queries, 7, by=by)
    vectors = pool.audio if by == "sound" else pool.video
    assert np.array_equal(rows, by_sorting(vectors, queries, 7))
    assert rows.shape == scores.shape == (9, 7) and rows.dtype == np.int64 and scores.dtype == np.float32
    assert (np.diff(scores, axis=1) <= 0).all()
    unit = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    assert np.allclose(scores, np.take_along_axis(unit @ vectors.T, rows, 1), atol=1e-5)
    one = pool.search(queries[3], 7, by=by)
    assert one[1].shape == (7,) and np.array_equal(one[1], rows[3])


def test_a_sound_finds_itself_and_length_does_not_count():
    pool = random_pool()
    scores, rows = pool.search(10 * pool.audio[[3, 77]])
    assert rows[:, 0].tolist() == [3, 77] and np.allclose(scores, 1, atol=1e-5)


def test_of_equals_the_first_comes_first():
    vectors = np.ones((6, 4))
    pool = Pool(vectors, vectors, random_pool(6).sources, np.full(6, -50.0))
    assert pool.search(np.ones(4), 4)[1].tolist() == [0, 1, 2, 3]


def test_half_precision_finds_the_same_but_for_near_ties():
    full, half = random_pool(), random_pool(half=True)
    queries = RNG.standard_normal((20, 16))
    assert half.audio.dtype == np.float16
    assert np.allclose(full.search(queries, 5)[0], half.search(queries, 5)[0], atol=2e-3)
    assert (full.search(queries)[1] == half.search(queries)[1]).mean() >= 0.95


def test_what_is_forbidden_is_never_found():
    pool = random_pool()
    queries = pool.audio[[0, 5, 9]]
    own = np.stack([pool.same_recording(pool.sources[i]) for i in (0, 5, 9)])
    assert own.sum(1).tolist() == [4, 4, 4]
    rows = pool.search(queries, 196, forbidden=own)[1]  # all that is left
    assert not np.take_along_axis(own, rows, 1).any()
    for row, mask in zip(rows, own, strict=True):
        assert set(row) == set(np.flatnonzero(~mask))
    assert pool.search(queries, forbidden=own[0])[1][0, 0] != 0
    with pytest.raises(UsageError, match="196 of 200 are allowed"):
        pool.search(queries, 197, forbidden=own)


def test_recordings_of_other_worlds_are_others():
    pool = random_pool()
    assert pool.same_recording(Source("r00001", 0, 1, world_seed=5)).sum() == 4
    assert pool.same_recording(Source("r00001", 0, 1, world_seed=6)).sum() == 0
    assert pool.same_recording(Source("r00001", 0, 1, path="r00001.mp4")).sum() == 0


@pytest.mark.parametrize(
    ("start", "length", "found"), [(0.0, 3.0, [4]), (2.9, 0.2, [4, 5]), (3.0, 3.0, [5]), (0, 12, [4, 5, 6, 7])]
)
def test_overlap(start, length, found):
    mask = random_pool().overlapping(Source("r00001", start, length, world_seed=5))
    assert np.flatnonzero(mask).tolist() == found


@pytest.mark.parametrize(
    ("queries", "options", "message"),
    [
        (np.ones((2, 8)), {}, "cannot be compared"),
        (np.zeros(16), {}, "point nowhere"),
        (np.full(16, np.nan), {}, "point nowhere"),
        (np.ones(16), {"by": "name"}, "unknown similarity"),
        (np.ones(16), {"k": 0}, "0 sounds are asked for"),
        (np.ones(16), {"k": 201}, "201 sounds are asked for, 200 of 200"),
        (np.ones(16), {"forbidden": np.zeros(3, bool)}, "forbidden must be"),
    ],
)
def test_bad_searches_are_refused(queries, options, message):
    with pytest.raises(UsageError, match=message):
        random_pool().search(queries, **options)


def test_bad_pools_are_refused():
    pool = random_pool(8)
    good = {"audio": pool.audio, "video": pool.video, "sources": pool.sources, "quiet": pool.quiet}
    homeless = [Source("x", 0, 1)] * 8
    for wrong, message in (
        ({"sources": []}, "at least one"),
        ({"video": pool.video[:7]}, "are no pool"),
        ({"quiet": [-50.0]}, "are no pool"),
        ({"audio": np.zeros((8, 16))}, "point nowhere"),
        ({"sources": homeless}, "neither a world nor a file"),
        ({"waves": [np.zeros(3)]}, "samples of 1 sounds"),
    ):
        with pytest.raises(UsageError, match=message):
            Pool(**{**good, **wrong})


# --- levels -----------------------------------------------------------------------------------------


def test_quiet_level_is_that_of_the_quietest_half_second():
    wave = np.full(3 * RATE, 0.5)
    wave[RATE : RATE + RATE // 2] = 0.01  # exactly on a window
    assert quiet_dbfs(wave, RATE) == pytest.approx(-40.0, abs=1e-6)
    assert quiet_dbfs(np.full(RATE // 10, 0.1), RATE) == pytest.approx(-20.0)  # shorter than a window
    assert quiet_dbfs(np.zeros(RATE), RATE) == -120.0 and quiet_dbfs(np.zeros(0), RATE) == -120.0
    # the released measure: smallest sum of squares over 8000 samples, stepped by 1600
    rng = np.random.default_rng(3)
    wave = rng.standard_normal(3 * RATE) * np.repeat(rng.uniform(0.01, 0.1, 30), RATE // 10)
    energies = [np.square(wave[a : a + 8000]).sum() for a in range(0, len(wave) - 8000 + 1, 1600)]
    assert quiet_dbfs(wave, RATE) == pytest.approx(10 * np.log10(min(energies) / 8000))


def test_the_quietest_sound_is_never_silence():
    pool = random_pool(6)
    pool.quiet[:] = (-120.0, -50.0, -63.0, -95.0, -40.0, -61.0)
    assert pool.quietest() == 2
    assert pool.at_level(-45.1) == 1 and pool.at_level(-44.9) == 4 and pool.at_level(0) == 4
    pool.quiet[:] = -120.0
    with pytest.raises(UsageError, match="silent"):
        pool.quietest()
    with pytest.raises(UsageError, match="not a number"):
        pool.at_level(float("nan"))


# --- sounds -----------------------------------------------------------------------------------------


def test_sounds_of_a_world_are_rendered_again():
    item = strike_world(seed=5, clips=1, seconds=1.52, size=16)[0]
    source = Source(item.recording.id, item.start_s, 1.52, world_seed=5)
    pool = Pool(np.ones((1, 4)), np.ones((1, 4)), [source], np.array([-50.0]))
    assert np.array_equal(pool.sound(0).samples, item.stems["mix"].samples)
    with pytest.raises(UsageError, match="no sound 1"):
        pool.sound(1)


def test_quiet_rooms_are_there_for_their_level_and_no_search_finds_them():
    model, n = small_model(), 8
    audio, video = np.random.default_rng(3).standard_normal((2, n, model.config.dim))
    sources = [Source(f"r{i:05d}", 1.0, 1.5, world_seed=5) for i in range(n)]
    plain = Pool(audio, video, sources, np.full(n, -50.0))
    pool = with_quiet_rooms(plain, model, 2, -80.0)
    assert len(pool) == 10 and pool.searched.tolist() == list(range(8)) and plain.searched.tolist() == list(range(8))
    assert [s.ambience_dbfs for s in pool.sources] == [None] * 8 + [-80.0] * 2
    assert [s.recording for s in pool.sources[8:]] == ["r00000", "r00004"]
    for row, own in ((8, 0), (9, 4)):  # the same hits, and another room
        louder, softer = pool.sound(own).samples[0], pool.sound(row).samples[0]
        assert quiet_dbfs(softer, RATE) == pytest.approx(pool.quiet[row], abs=1e-3) and pool.quiet[row] < -70
        assert np.corrcoef(louder, softer)[0, 1] > 0.5 or np.abs(louder).max() < 0.01
        assert np.allclose(pool.audio[row], model.listen(pool.sound(row)), atol=1e-5)
    assert pool.quietest() in (8, 9)
    for by in ("sound", "look"):
        query = pool.audio[8] if by == "sound" else pool.video[8]
        assert sorted(pool.search(query, 8, by=by)[1]) == list(range(8))
        masked = pool.search(query, 3, by=by, forbidden=np.arange(10) < 4)[1]
        assert set(masked) < {4, 5, 6, 7}
    with pytest.raises(UsageError, match="8 of 10 are allowed"):
        pool.search(pool.audio[0], 9)
    again = Pool.from_tensors(*pool.tensors())
    assert again.sources == pool.sources and again.quietest() == pool.quietest()
    for count in (-1, 9):
        with pytest.raises(UsageError, match="cannot be made of 8"):
            with_quiet_rooms(plain, model, count, -80.0)


def test_only_rooms_of_the_world_can_be_made_quiet(system):
    with pytest.raises(UsageError, match="only the rooms of Strike World"):
        with_quiet_rooms(system.pool, system.model, 1, -80.0)


def test_sounds_of_files_are_read_again(tmp_path):
    model = small_model()
    media.save_mp4(noise_clip(4.0), noise_clip(4.0).sound, tmp_path / "kitchen.mp4")
    pool = Pool.of_files(model, [tmp_path / "kitchen.mp4"])
    assert [s.start_s for s in pool.sources] == [0.0, 1.5, 3.0] and pool.sources[2].duration_s == pytest.approx(1.0)
    whole = media.open(tmp_path / "kitchen.mp4").sound.mono().resample(RATE)
    part = pool.sound(1)
    assert part.n == 24000
    assert np.corrcoef(part.samples[0], whole.samples[0][24000:48000])[0, 1] > 0.999
    media.save_mp4(noise_clip(1.2), noise_clip(1.2).sound, tmp_path / "kitchen.mp4")
    with pytest.raises(MediaError, match="build the pool anew"):
        pool.sound(2)


def test_a_pool_of_clips_keeps_their_samples(system):
    clip = noise_clip(seed=2, level=0.06)
    assert np.allclose(system.pool.sound(2).samples, clip.sound.samples, atol=1 / 32767)
    assert system.pool.quiet[2] == pytest.approx(20 * np.log10(0.06), abs=0.3)
    with pytest.raises(UsageError, match="has no sound"):
        Pool.of(system.model, [(clip.silent(), Source("x", 0, 1.5))])
    with pytest.raises(UsageError, match="at least one"):
        Pool.of(system.model, [])
    assert to_int16(np.array([-2.0, 0.0, 1.0])).tolist() == [-32767, 0, 32767]


def test_a_pool_comes_back(tmp_path, system):
    for name, pool in (("own", system.pool), ("world", random_pool())):
        pool.save_pretrained(tmp_path / name)
        again = Pool.from_pretrained(tmp_path / name)
        assert again.sources == pool.sources and again.tag == pool.tag and again.sample_rate == pool.sample_rate
        assert np.allclose(again.audio, pool.audio, atol=1e-3) and np.allclose(again.video, pool.video, atol=1e-3)
        assert np.allclose(again.quiet, pool.quiet, atol=0.05)
    assert np.array_equal(Pool.from_pretrained(tmp_path / "own").sound(3).samples, system.pool.sound(3).samples)
    config = json.loads((tmp_path / "world" / "config.json").read_text())
    for broken, message in (({**config, "kind": "vaas"}, "pool"), ({**config, "recordings": []}, "no pool")):
        (tmp_path / "world" / "config.json").write_text(json.dumps(broken))
        with pytest.raises(WeightsError, match=message):
            Pool.from_pretrained(tmp_path / "world")


# --- the system -------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["sound", "look"])
def test_the_most_similar_sound_is_what_is_given(system, by):
    clip = noise_clip(seed=4, level=0.1)
    scores, rows = system.find(clip.silent(), 6, by=by)
    vectors = system.pool.audio if by == "sound" else system.pool.video
    assert rows.tolist() == np.argsort(-(vectors @ system.model.look(clip)), kind="stable").tolist()
    assert (np.diff(scores) <= 0).all()
    sound = system.generate(clip.silent(), by=by)
    assert np.array_equal(sound.samples, system.pool.sound(int(rows[0])).samples)


def test_a_clip_of_the_pool_finds_its_own_look(system):
    for i in range(6):
        assert system.find(noise_clip(seed=i).silent())[1][0] == i
    own = Source("own1", 0.0, 1.5)
    assert system.find(noise_clip(seed=2), leave_out=own)[1][0] not in (2, 3)


@pytest.mark.parametrize("seconds", [0.3, 0.731, 1.5, 2.56, 7.013])
def test_the_sound_is_exactly_as_long_as_the_clip(system, seconds):
    sound = system.generate(noise_clip(seconds, seed=1).silent())
    assert sound.n == round(seconds * RATE) and sound.channels == 1 and sound.sample_rate == system.sample_rate
    assert sound.peak > 0.01


def test_seeds_choose_among_the_best(system):
    clip = noise_clip(seed=9).silent()
    best = [system.pool.sound(int(r)).samples for r in system.find(clip, 3)[1]]
    assert all(np.array_equal(system.generate(clip, seed=s).samples, best[0]) for s in range(3))
    made = [system.generate(clip, seed=s, among=3).samples for s in range(12)]
    assert all(any(np.array_equal(m, b) for b in best) for m in made)
    assert all(any(np.array_equal(m, b) for m in made) for b in best)
    assert np.array_equal(system.generate(clip, seed=5, among=3).samples, made[5])


def test_it_is_a_system_like_the_others(system):
    clips = [noise_clip(seed=s).silent() for s in (1, 2)]
    both = system.generate_batch(clips, seeds=[0, 1])
    for made, clip in zip(both, clips, strict=True):
        assert np.array_equal(made.samples, system.generate(clip).samples)
    calls = []
    system.generate(clips[0], progress=calls.append, start=0.2, duration=1.0)
    assert calls == [1] and system.steps_of(clips[0]) == 1
    assert system.encode_video(clips[0]).shape == (1, 1, 16)
    with pytest.raises(UsageError, match="too short"):
        system.generate(noise_clip(0.2))
    with pytest.raises(UsageError, match="unknown options"):
        system.generate_batch(clips, seeds=[0, 1], guidance=2.0)
    with pytest.raises(UsageError, match="asked for"):
        system.generate(clips[0], among=7)


def test_the_system_comes_back_with_its_encoders(tmp_path, system):
    system.save_pretrained(tmp_path / "whole", clips=6)
    again = Retrieval.from_pretrained(tmp_path / "whole")
    assert again.card["clips"] == 6 and again.by == system.by
    clip = noise_clip(seed=8).silent()
    assert np.array_equal(again.generate(clip).samples, system.generate(clip).samples)
    system.model.save_pretrained(tmp_path / "encoders")
    system.save_pretrained(tmp_path / "light", encoder="../encoders")
    assert not (tmp_path / "light" / "encoder").exists()
    light = Retrieval.from_pretrained(tmp_path / "light")
    assert np.array_equal(light.generate(clip).samples, again.generate(clip).samples)


def test_vectors_of_other_encoders_are_refused(system):
    with pytest.raises(WeightsError, match="build the pool anew"):
        Retrieval(small_model(seed=1), system.pool)
    with pytest.raises(WeightsError, match="build the pool anew"):
        Retrieval(system.model, random_pool(8, dim=8))
    with pytest.raises(UsageError, match="similarity"):
        Retrieval(system.model, system.pool, by="smell")
