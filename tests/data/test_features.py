"""The feature store: computed once, keyed by everything, whole after a kill, the same for two writers."""

from __future__ import annotations

import json
import shutil
from collections import Counter

import numpy as np
import pytest
from feature_parts import Levels, features_of

from v2a_nb.data import features as module
from v2a_nb.data.dataset import Cut, cut_clips
from v2a_nb.data.features import FeatureStore, ShardedArray
from v2a_nb.data.recordings import StrikeRecordings
from v2a_nb.errors import UsageError

WORLD = StrikeRecordings(3)


def clips(recordings: int = 5, **how):
    return cut_clips(WORLD, Cut(1.0, per_recording=2, recordings=recordings, **how))


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(module, "RECORDINGS_PER_SHARD", 2)
    monkeypatch.setattr(module, "BATCHES_PER_SHARD", 2)


def test_rows_are_those_of_the_table_in_its_order(tmp_path):
    table = clips()
    computed = FeatureStore(tmp_path, workers=1).compute(table, WORLD, Levels())
    assert len(computed) == 10 and computed["level"].shape == (10,) and computed["first"].shape == (10, 10)
    for i in (0, 3, 9):
        wave = WORLD.open(table[i]["recording"]).wave(16000)[table[i]["start"] :][:100]
        assert computed["level"][i] == np.abs(wave).mean().astype(np.float32)
        assert np.array_equal(computed["first"][i], wave[:10].astype(np.float16))


def test_what_is_there_is_not_computed_again_and_what_a_kill_left_out_is(tmp_path):
    note = tmp_path / "asked"
    store, extractor = FeatureStore(tmp_path / "store", workers=1), Levels(note=str(note))
    first = store.compute(clips(), WORLD, extractor)
    levels = first["level"][:]
    assert Counter(note.read_text().split()) == {WORLD.open(k).name: 1 for k in range(5)}
    store.compute(clips(), WORLD, extractor)
    assert len(note.read_text().split()) == 5
    folder = next((tmp_path / "store").iterdir())
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    (folder / "00001.json").unlink()  # a kill between the arrays and the file that says they are whole
    (folder / "00001.level.npy").write_bytes(b"half of")
    again = store.compute(clips(), WORLD, extractor)
    assert len(note.read_text().split()) == 7  # the two recordings of that shard
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert np.array_equal(again["level"][:], levels)


def test_two_writers_leave_what_one_leaves(tmp_path):
    """Both find nothing, both write: the later replaces each file by the same bytes."""
    store = FeatureStore(tmp_path / "both", workers=1)
    store.compute(clips(), WORLD, Levels())
    folder = next((tmp_path / "both").iterdir())
    kept = {p.name: p.read_bytes() for p in folder.iterdir()}
    for path in folder.glob("*.json"):
        path.unlink()  # as the second writer saw the folder
    store.compute(clips(), WORLD, Levels())
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == kept


def test_one_process_or_two_compute_the_same(tmp_path):
    one, two = (FeatureStore(tmp_path / str(k), workers=k).compute(clips(), WORLD, Levels()) for k in (1, 2))
    assert one.key == two.key and np.array_equal(one["level"][:], two["level"][:])


@pytest.mark.parametrize("what", ["clips", "world", "settings", "variety"])
def test_other_clips_worlds_or_settings_have_another_key(tmp_path, what):
    store = FeatureStore(tmp_path, workers=1)
    first = store.compute(clips(2), WORLD, Levels())
    if what == "clips":
        other = store.compute(clips(2, first=1), WORLD, Levels())
    elif what == "settings":
        other = store.compute(clips(2), WORLD, Levels(samples=50))
    else:
        world = StrikeRecordings(4) if what == "world" else StrikeRecordings(3, variety="plain")
        other = store.compute(clips(2), world, Levels())
    assert other.key != first.key and len(list(tmp_path.iterdir())) == 2
    assert json.loads((tmp_path / f"levels-{other.key}" / "about.json").read_text())["extractor"] == "levels"


def test_features_of_features_are_computed_in_batches_and_kept(tmp_path):
    store, sizes = FeatureStore(tmp_path, workers=1), []
    levels = store.compute(clips(), WORLD, Levels())

    def double(batch):
        sizes.append(len(batch["level"]))
        return {"double": 2 * batch["level"]}

    doubled = store.map(levels, "double", double, ["level"], {"by": 2}, batch_size=4)
    assert sizes == [4, 4, 2] and np.array_equal(doubled["double"][:], 2 * levels["level"][:])
    store.map(levels, "double", double, ["level"], {"by": 2}, batch_size=4)
    assert len(sizes) == 3
    store.map(levels.where(slice(0, 4)), "double", double, ["level"], {"by": 2}, batch_size=4)
    assert sizes[3:] == [4]  # other clips, another key
    (tmp_path / f"double-{doubled.key}" / "00001.json").unlink()
    store.map(levels, "double", double, ["level"], {"by": 2}, batch_size=4)
    assert sizes[4:] == [2]
    both = levels.with_arrays(doubled)
    assert set(both.arrays) == {"level", "first", "double"}
    with pytest.raises(UsageError, match="other clips"):
        levels.with_arrays(doubled.where(slice(0, 4)))


def test_sharded_rows_read_as_one_array_does():
    rng = np.random.default_rng(0)
    whole = rng.standard_normal((23, 3, 2))
    array = ShardedArray([whole[:7], whole[7:8], whole[8:]])
    assert len(array) == 23 and array.shape == whole.shape and array.dtype == whole.dtype
    for which in (0, 22, -1, slice(3, 20, 4), slice(None), [5, 5, 22, 0], whole[:, 0, 0] > 0):
        assert np.array_equal(array[which], whole[which])
    some = array.where(slice(5, 15)).where(np.array([9, 0, 3]))
    assert np.array_equal(some[:], whole[[14, 5, 8]]) and np.array_equal(np.asarray(some), whole[[14, 5, 8]])
    with pytest.raises(IndexError):
        array[23]


def test_the_last_recordings_are_held_out_whole():
    features = features_of(x=np.arange(6))
    features = features.where(np.array([0, 1, 2, 3, 4, 5]))
    training, unseen = features.split(2)
    assert training["x"][:].tolist() == [0, 1, 2, 3] and unseen["x"][:].tolist() == [4, 5]
    for wrong in (0, 6):
        with pytest.raises(UsageError, match="held out"):
            features.split(wrong)


def test_all_of_it_becomes_a_dataset_for_other_tools(tmp_path):
    computed = FeatureStore(tmp_path, workers=1).compute(clips(2), WORLD, Levels())
    rows = computed.to_dataset()
    assert len(rows) == 4 and rows[2]["id"] == computed.table[2]["id"]
    assert np.allclose(rows[2]["first"], computed["first"][2]) and rows[1]["level"] == computed["level"][1]


def test_a_store_that_was_removed_is_made_again(tmp_path):
    store = FeatureStore(tmp_path / "s", workers=1)
    store.compute(clips(1), WORLD, Levels())
    shutil.rmtree(tmp_path / "s")
    assert len(store.compute(clips(1), WORLD, Levels())) == 2
