"""Neighbours: never over the target, always of its recording, the nearest, the same by seed, and quick."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from v2a_nb.data.neighbours import Neighbours, free_neighbours, neighbours_of
from v2a_nb.data.sources import read_source
from v2a_nb.errors import UsageError
from v2a_nb.world import strike_world


def table(seed: int, n: int = 160, groups: int = 9, durations: bool = False):
    """A shuffled table of clips: names, starts (many less than 3 s apart) and durations."""
    rng = np.random.default_rng(seed)
    names = np.array([f"video-{k}" for k in rng.integers(0, groups, n)])
    return names, rng.uniform(0, 60, n), rng.uniform(0.5, 5, n) if durations else np.full(n, 2.56)


def allowed(names, starts, durations, gap: float, i: int) -> list[int]:
    """All that may be neighbours of clip ``i`` by the rule in words, nearest first."""
    found = []
    for j in range(len(names)):
        first, later = (i, j) if starts[i] < starts[j] else (j, i)
        clear = starts[first] + max(durations[first], gap)
        if j != i and names[i] == names[j] and starts[later] >= clear:
            found.append((starts[later] - clear, j))
    return [j for _, j in sorted(found)]


@pytest.mark.parametrize("durations", [False, True], ids=["one length", "many lengths"])
@pytest.mark.parametrize("gap", [0.0, 3.0, 7.5])
@pytest.mark.parametrize("seed", range(3))
def test_candidates_are_the_nearest_that_are_allowed(seed, gap, durations):
    names, starts, lengths = table(seed, durations=durations)
    made = Neighbours(names, starts, lengths, nearest=5, min_gap_s=gap).candidates()
    for i, row in enumerate(made):
        assert [j for j in row if j >= 0] == allowed(names, starts, lengths, gap, i)[:5]


@pytest.mark.parametrize("seed", range(4))
def test_drawn_neighbours_share_the_recording_and_keep_off_the_clip(seed):
    names, starts, lengths = table(seed, durations=True)
    index = Neighbours(names, starts, lengths)
    for draw in range(20):
        got = index.draw([seed, draw])
        i = np.flatnonzero(got >= 0)
        j = got[i]
        assert (names[i] == names[j]).all()
        assert (np.abs(starts[i] - starts[j]) >= 3.0 - 1e-6).all()
        assert (
            np.maximum(starts[i], starts[j]) >= np.minimum(starts[i] + lengths[i], starts[j] + lengths[j]) - 1e-6
        ).all()
        assert all(j in index.candidates([i])[0] for i, j in zip(i[::9], j[::9], strict=True))


def test_every_candidate_is_drawn_equally_often():
    index = Neighbours(["a"] * 8, np.arange(8) * 4.0, 3.0, nearest=4)
    drawn = np.array([index.draw(seed, [3])[0] for seed in range(2000)])
    names, counts = np.unique(drawn, return_counts=True)
    assert names.tolist() == [1, 2, 4, 5]
    assert counts.min() > 430 and counts.max() < 570  # 500 and four standard deviations


def test_the_same_seed_draws_the_same_in_any_batch():
    index = Neighbours(*table(1))
    whole = index.draw(5)
    assert (whole == index.draw(5)).all() and (whole != index.draw(6)).any()
    which = np.array([40, 3, 99])
    assert (index.draw(5, which) == whole[which]).all()


def test_a_clip_that_touches_is_a_neighbour_and_one_that_overlaps_is_not():
    # 12.4 + 2.56 is 14.96 but for a rounding error
    assert Neighbours(["a", "a"], [12.4, 12.4 + 2.56], 2.56, min_gap_s=0).draw(0).tolist() == [1, 0]
    assert Neighbours(["a", "a"], [12.4, 14.95], 2.56, min_gap_s=0).draw(0).tolist() == [-1, -1]
    # two narrators, one moment: the neighbour would be the target
    assert Neighbours(["a", "a"], [5.0, 5.0], 3.0, min_gap_s=0).draw(0).tolist() == [-1, -1]


def test_one_clip_recordings_are_counted_and_have_none():
    index = Neighbours(["a", "b", "b", "c", "c"], [0, 0, 2, 0, 10], 3.0)
    assert index.counts() == {"clips": 5, "with": 2, "alone": 1, "crowded": 2}
    assert index.draw(0).tolist() == [-1, -1, -1, 4, 3]
    assert index.usable.tolist() == [False, False, False, True, True]
    assert Neighbours([], [], 3.0).counts()["clips"] == 0 and not len(Neighbours([], [], 3.0).draw(0))


def test_the_released_rule_takes_rows_in_file_order_and_never_row_0():
    index = Neighbours(["a", "a", "a", "a", "b", "a"], [50, 0, 1, 100, 0, 200], 3.0, rule="released")
    found = [set(row[row >= 0].tolist()) for row in index.candidates()]
    # 0: three rows after; 1: not 0; 3 and 5 go over the row of another video
    assert found == [{1, 2, 3}, {2, 3}, {1, 3, 5}, {1, 2, 5}, set(), {2, 3}]
    narrow = Neighbours(["a"] * 9, np.arange(9.0), 3.0, nearest=2, rule="released").candidates()
    assert narrow[4].tolist() == [3, 5]


def test_what_the_released_rule_gives_away():
    """Clips every 2 s: the released rule hears the target in its neighbour, ours never does."""
    names, starts = np.repeat([f"v{k}" for k in range(20)], 12), np.tile(np.arange(12) * 2.0, 20)
    shares = {}
    for rule in ("released", "apart"):
        index = Neighbours(names, starts, 3.0, rule=rule)
        got = np.stack([index.draw(seed) for seed in range(30)])
        over = np.abs(starts[got] - starts) < 3.0
        shares[rule] = over[got >= 0].mean()
    assert shares["apart"] == 0.0
    # inside a recording two of six candidates overlap, at its ends one of three
    assert 0.3 < shares["released"] < 0.37
    late = Neighbours(["v", "v", "v", "v", "v"], [9.0, 300.0, 0.0, 600.0, 4.0], 3.0, nearest=2)
    assert set(late.candidates([0])[0]) == {4, 2}  # by time; by rows it would be 300.0 and 0.0


def work_of(names, starts) -> tuple[int, int]:
    """Calls of Python functions, and bytes of memory at most, for an index and a draw for every clip."""
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event.endswith("call")

    tracemalloc.start()
    sys.setprofile(count)
    try:
        Neighbours(names, starts, 3.0).draw(0)
    finally:
        sys.setprofile(None)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return calls, peak


@pytest.mark.parametrize("recordings", [1, 40], ids=["one crowded recording", "many recordings"])
def test_work_grows_no_faster_than_the_clips(recordings):
    """No loop over clips, and no table of clips by clips."""
    rng = np.random.default_rng(0)
    names, starts = rng.integers(0, recordings, 8000), rng.uniform(0, 4000, 8000)
    Neighbours(names, starts, 3.0).draw(0)
    few, many = work_of(names[:2000], starts[:2000]), work_of(names, starts)
    assert many[0] < few[0] + 100 and many[1] < 5 * few[1]


def test_a_hundred_thousand_clips_get_neighbours():
    rng = np.random.default_rng(0)
    names, starts = rng.integers(0, 400, 100_000), rng.uniform(0, 4000, 100_000)
    got = Neighbours(names, starts, 3.0).draw(0)
    assert (names[got] == names).all() and (np.abs(starts[got] - starts) >= 3 - 1e-6).all()


def test_clips_of_strike_world_and_bad_tables():
    world = strike_world(0, 5, size=16)
    entries = read_source(world).entries
    index = Neighbours.of(entries, nearest=2)
    got = index.draw(0)
    assert all(world[i].recording.id == world[j].recording.id for i, j in enumerate(got) if j >= 0)
    assert index.counts() == {"clips": 5, "with": 4, "alone": 1, "crowded": 0}
    with pytest.raises(UsageError, match="1 clips have no known duration"):
        Neighbours.of([*entries, replace(entries[0], duration_s=None)])
    for bad, options in (
        ((["a"], [0.0, 1.0], 3.0), {}),
        ((["a"], [np.nan], 3.0), {}),
        ((["a"], [0.0], 0.0), {}),
        ((["a"], [0.0], 3.0), {"rule": "near"}),
        ((["a"], [0.0], 3.0), {"nearest": 0}),
        ((["a"], [0.0], 3.0), {"min_gap_s": -1}),
        ((["a"], [0.0], 3.0), {"rule": "released", "nearest": 5}),
    ):
        with pytest.raises(UsageError):
            Neighbours(*bad, **options)


@pytest.mark.parametrize("gap,within", [(3.0, None), (0.0, None), (4.0, 6.0)])
def test_free_cuts_lie_in_the_recording_and_off_the_clip(gap, within):
    starts = np.random.default_rng(0).uniform(0, 30 - 2.56, 4000)
    made = free_neighbours(starts, 2.56, 30.0, 1, min_gap_s=gap, within_s=within)
    away = np.abs(made - np.round(starts * 16000) / 16000)
    assert not np.isnan(made).any()
    assert made.min() >= 0 and made.max() <= 30 - 2.56 + 1e-9
    assert away.min() >= max(gap, 2.56) - 1e-9 and (within is None or away.max() <= within + 1e-9)
    assert np.allclose(made * 16000, np.round(made * 16000), atol=1e-6)
    assert (made == free_neighbours(starts, 2.56, 30.0, 1, min_gap_s=gap, within_s=within)).all()
    if within is None and gap:  # both ends and both sides are reached
        assert made.min() < 0.1 and made.max() > 27.3 and (made < starts).any() and (made > starts).any()


def test_free_cuts_are_uniform_and_tell_where_there_is_no_room():
    made = free_neighbours(np.full(4000, 10.0), 2.0, 30.0, 3, min_gap_s=4.0)
    # [0, 6] and [14, 28]: 6 of 20 s lie before
    assert abs((made < 10).mean() - 0.3) < 0.03
    assert np.isnan(free_neighbours([3.0], 4.0, 10.0, 0)).all()
    assert not np.isnan(free_neighbours([0.0, 6.0], 4.0, 10.0, 0)).any()
    assert free_neighbours([0.0, 4.0], 4.0, 8.0, 0, min_gap_s=0).tolist() == [4.0, 0.0]
    for bad in ({"starts": [8.0]}, {"duration_s": 0.0}, {"min_gap_s": -1.0}, {"within_s": 0.0}):
        with pytest.raises(UsageError):
            free_neighbours(**{"starts": [1.0], "duration_s": 4.0, "recording_s": 10.0, "seed": 0, **bad})


def test_the_room_needs_no_torch():
    code = (
        "import sys; import v2a_nb.data.neighbours, v2a_nb.data.curation, v2a_nb.data.ego4d_sounds; "
        "print(sorted({'torch', 'librosa', 'transformers', 'av', 'scipy', 'pandas'} & set(sys.modules)))"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout.strip() == "[]"


def test_neighbours_of_world_clips_share_the_room_and_no_time():
    world = strike_world(31, 6, seconds=3.0, size=16)
    near = neighbours_of(list(world), seed=4)
    for item, other in zip(world, near, strict=True):
        assert other.take is item.take and abs(other.start_s - item.start_s) >= 3.0 - 1e-6
        assert other.stems["mix"].n == item.stems["mix"].n == 48000
    assert [n.start_s for n in neighbours_of(list(world)[::-1], seed=4)] == [n.start_s for n in near[::-1]]
    assert [n.start_s for n in neighbours_of(list(world), seed=5)] != [n.start_s for n in near]
    with pytest.raises(UsageError, match="no room"):
        neighbours_of(list(world), min_gap_s=60.0)
