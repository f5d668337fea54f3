"""Sources: what --data may say, files as recordings, and tables; what cannot be used is said."""

from __future__ import annotations

import numpy as np
import pytest
from feature_parts import small_video

from v2a_nb.data.dataset import Cut, cut_clips
from v2a_nb.data.recordings import StrikeRecordings
from v2a_nb.data.sources import open_recordings, read_source
from v2a_nb.errors import UsageError, V2AError
from v2a_nb.world import arrays
from v2a_nb.world import sound as world_sound
from v2a_nb.world.recording import draw


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("videos")
    for i, seconds in enumerate((3.0, 4.0, 1.0)):
        small_video(made / f"take{i}.mp4", seconds, seed=i)
    small_video(made / "silent.mp4", 3.0, sound=False)
    return made


def test_strike_options_are_read_and_checked():
    assert open_recordings("strike:seed=5,clips=100,variety=plain") == StrikeRecordings(5, 100, "plain")
    assert open_recordings("strike:") == StrikeRecordings()
    both = open_recordings("strike:seed=5,version=1+2")
    for number, version in ((6, 1), (7, 2)):  # in turn, each recording as its version has it
        assert both.open(number).description == StrikeRecordings(5, version=version).open(number).description
    assert both.describe()["version"] == "1+2"
    with pytest.raises(UsageError, match="is for training"):
        read_source("strike:seed=5,clips=4,version=1+2")
    for wrong in ("seed=x", "clips=0", "variety=odd", "size=3", "seed", "seed=-1"):
        with pytest.raises(UsageError, match="is none of seed=N"):
            open_recordings(f"strike:{wrong}")


def test_strike_clips_can_be_curated_by_the_same_words():
    collection = read_source("strike:seed=2,clips=4")
    assert len(collection) == 4 and collection.kind == "strike"
    with pytest.raises(UsageError, match="how many clips"):
        read_source("strike:seed=2")


def test_clips_of_strike_world_begin_where_bulk_rendering_begins():
    """The table names the windows that ``world.arrays`` renders, which other seeds' goldens hang on."""
    table = cut_clips(StrikeRecordings(9), Cut(2.56, per_recording=2, recordings=2, first=3))
    _, waves = arrays(9, 4, first=3)
    for row, wave in zip(table, waves, strict=True):
        whole = world_sound.render(draw(9, row["recording"]), 16000)["mix"]
        assert np.array_equal(wave, whole[row["start"] : row["start"] + 40960].astype(np.float32))


def test_a_limit_counts_clips():
    table = cut_clips(open_recordings("strike:seed=1,clips=5"), Cut(1.0, per_recording=2, recordings=50))
    assert len(table) == 6  # whole recordings


def test_margins_and_grid_are_kept():
    cut = Cut(2.56, per_recording=8, recordings=3, margin_s=2.0, grid=80)
    starts = np.array(cut_clips(StrikeRecordings(1), cut)["start"])
    assert (starts % 80 == 0).all() and starts.min() >= 32000 and starts.max() <= 16000 * 30 - 40960 - 32000


@pytest.mark.parametrize("words", ["folder:{}", "{}"])
def test_files_are_recordings_and_the_silent_one_is_named(folder, words):
    recordings = open_recordings(words.format(folder))
    assert [e.id for e in recordings.entries] == ["take0.mp4", "take1.mp4", "take2.mp4"]
    table = cut_clips(recordings, Cut(2.56, per_recording=2, recordings=100, first=20000))
    assert set(table["name"]) == {"take0", "take1"}  # the third is too short
    recording = recordings.open(1)
    assert recording.duration_s == pytest.approx(4.0, abs=0.05)
    wave = recording.wave(16000)
    assert wave.dtype == np.float32 and abs(len(wave) - 64000) < 400
    frames = recording.frames(0.4, np.arange(25) / 25, 32, 25.0)
    assert frames.shape == (25, 32, 32, 3) and frames.dtype == np.uint8
    assert len(recording.onsets(0.0, 3.0)) >= 4 and recording.narration(0.0, 1.0) == ""
    assert recording.onsets(1.0, 1.0).max() <= 1.0


def test_what_is_drawn_about_files_hangs_on_the_seed_alone(folder):
    cut = Cut(1.5, per_recording=3, recordings=9)
    first, again, other = (cut_clips(open_recordings(f"folder:{folder}", s), cut)["start"] for s in (0, 0, 1))
    assert list(first) == list(again) != list(other)


def test_a_table_names_videos_parts_and_texts(folder, tmp_path):
    path = folder / "clips.csv"
    path.write_text("video,start_s,duration_s,text\ntake1.mp4,0.5,2.6,a click\ntake0.mp4,,,two clicks\ngone.mp4,,,x\n")
    collection = read_source(f"csv:{path}")
    assert [e.id for e in collection.entries] == ["take1.mp4@0.5", "take0.mp4", "gone.mp4"]
    recordings = open_recordings(f"csv:{path}")
    assert len(recordings.entries) == 2  # the missing file is among the problems
    table = cut_clips(recordings, Cut(2.56, per_recording=1, recordings=5))
    assert list(table["text"]) == ["a click", "two clicks"]
    part = recordings.open(0)
    assert part.duration_s == 2.6
    whole = recordings.open(1).wave(16000)
    assert abs(len(part.wave(16000)) - 41600) < 400 < len(whole)


def test_a_table_with_bad_rows_keeps_the_good_ones(tmp_path):
    small_video(tmp_path / "a.mp4", 1.0)
    (tmp_path / "t.csv").write_text("id,video,start_s\n1,a.mp4,0\n1,a.mp4,0.2\n2,,0\n3,a.mp4,soon\n4,a.mp4,-1\n")
    collection = read_source(tmp_path / "t.csv")
    assert [e.id for e in collection.entries] == ["1"]
    assert [p["what"].split(": ", 1)[0].rpartition(" ")[2] for p in collection.problems] == ["3", "4", "5", "6"]
    (tmp_path / "bad.csv").write_text("video,start_s\n,1\n")
    with pytest.raises(V2AError, match="no row can be used"):
        read_source(tmp_path / "bad.csv")


def test_sources_that_are_none_are_refused(tmp_path, folder):
    with pytest.raises(V2AError, match="no such file or folder"):
        open_recordings(f"folder:{tmp_path / 'nowhere'}")
    with pytest.raises(UsageError, match="is no csv"):
        open_recordings(f"csv:{folder}")
    with pytest.raises(UsageError, match="is no folder"):
        open_recordings(f"folder:{folder / 'take0.mp4'}")
    small_video(tmp_path / "silent" / "a.mp4", 1.0, sound=False)
    with pytest.raises(UsageError, match="no clip has a sound"):
        open_recordings(f"folder:{tmp_path / 'silent'}")
    with pytest.raises(UsageError, match="give longer videos"):
        cut_clips(open_recordings(f"folder:{folder}"), Cut(20.0, per_recording=1, recordings=3))


def test_each_file_of_a_folder_is_a_recording_unless_a_table_says_otherwise(tmp_path):
    for name in ("kitchen/1.mp4", "kitchen/2.mp4", "garage/1.mp4", "1.mp4"):
        small_video(tmp_path / name, 0.5)
    names = ["1", "garage/1", "kitchen/1", "kitchen/2"]
    assert [e.recording for e in read_source(f"folder:{tmp_path}").entries] == names
    table = tmp_path / "clips.csv"
    table.write_text("\n".join(["video", *(f"{name}.mp4" for name in names)]))
    assert [e.recording for e in read_source(f"csv:{table}").entries] == names
    table.write_text("video,recording\nkitchen/1.mp4,kitchen\nkitchen/2.mp4,kitchen\n")
    assert [e.recording for e in read_source(f"csv:{table}").entries] == ["kitchen", "kitchen"]
