"""Ego4D-Sounds: windows by hand, rows that cannot be read, media that are not there. All rows are invented."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from paths import FIXTURES

from v2a_nb import media
from v2a_nb.clip import Clip, Sound
from v2a_nb.data.ego4d_sounds import COLUMNS, media_window, plain, read_about, read_ego4d_sounds
from v2a_nb.data.neighbours import Neighbours
from v2a_nb.data.sources import read_source
from v2a_nb.errors import MediaError, UsageError, V2AError

TABLE = FIXTURES / "ego4d_sounds.csv"
GOOD = TABLE.read_text().splitlines()


def written(tmp_path: Path, *lines: str, name: str = "clips.csv") -> Path:
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n")
    return path


def with_fields(number: int, **fields: str) -> str:
    """A good row with some columns changed."""
    values = dict(zip(COLUMNS, GOOD[number].split("\t"), strict=True)) | fields
    return "\t".join(values.values())


def video(path: Path, seconds: float, *, fps: float = 10, loud_from: float = 0.0) -> None:
    """Pictures whose brightness is the time (8 a second), and a tone from ``loud_from`` on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    times = np.arange(round(seconds * fps)) / fps
    frames = np.broadcast_to((8 * times + 20).astype(np.uint8)[:, None, None, None], (len(times), 32, 32, 3))
    clock = np.arange(round(seconds * 16000)) / 16000
    tone = 0.3 * np.sin(2 * np.pi * 440 * clock) * (clock >= loud_from)
    media.save_mp4(Clip(frames, times, fps, seconds, Sound(tone, 16000)), None, path)


def test_windows_equal_those_computed_by_hand():
    sounds = read_ego4d_sounds(TABLE)
    assert not sounds.problems and len(sounds) == 10
    windows = [(round(e.start_s, 6), round(e.start_s + e.duration_s, 6)) for e in sounds.entries]
    assert windows == [
        (8.5, 11.5),  # in the middle: clip_start 9.5 and clip_end 11.0 are not the window
        (0.0, 3.0),  # 1.1 s too near to the beginning
        (0.0, 3.0),  # a hair before it
        (57.0, 60.0),  # 0.5 s too near to the end of 60 s
        (28.5, 31.5),
        (3.75, 6.75),
        (5.5, 8.5),
        (98.5, 101.5),
        (0.0, 2.0),  # the video is shorter than a clip: whole, and never from -1.0 s
        (17.0, 20.0),  # its own row says 20 s, ego4d.json does not know it
    ]


def test_windows_without_a_known_length_are_not_shifted_at_the_end(tmp_path):
    alone = written(tmp_path, *GOOD)  # no ego4d.json beside it
    entries = read_ego4d_sounds(alone).entries
    assert (entries[3].start_s, entries[3].duration_s) == (57.5, 3.0)
    assert entries[9].start_s == 17.0 and entries[0].scenarios is None
    about = read_ego4d_sounds(alone, about=FIXTURES / "ego4d.json").entries
    assert about[3].start_s == 57.0 and about[0].scenarios == ("Cooking",)


@pytest.mark.parametrize("narration,length", [(-2.0, None), (62.0, 60.0), (float("nan"), 60.0)])
def test_a_narration_outside_of_its_video_is_refused(narration, length):
    with pytest.raises(UsageError, match="outside of its video"):
        media_window(narration, length)


def test_windows_always_lie_in_the_video():
    for length in np.random.default_rng(0).uniform(0.5, 40, 200):
        for time in np.linspace(0, length, 17):
            start, end = media_window(float(time), float(length))
            assert start >= 0 and end <= length + 1e-9 and start <= time <= end + 1e-9
            assert abs(end - start - min(3.0, length)) < 1e-9


def test_narrations_lose_their_marks_in_every_spelling():
    entries = read_ego4d_sounds(TABLE).rows
    assert [(r.text, r.actor) for r in entries[:8]] == [
        ("rinses a pan", "wearer"),
        ("opens a tap", "wearer"),
        ("picks spoons", "wearer"),
        ("The man X cuts something", "other"),
        ("wipes the counter", "wearer"),
        ("hammers a nail", "wearer"),
        ("shakes a tin", "wearer"),
        ('puts a "red" cup down', "wearer"),
    ]
    for text in ("#C  C cuts", " #C C cuts", "C C cuts", "@C C cuts", "3C C cuts", "#cc cuts", "#c  c cuts"):
        assert plain(text) == ("cuts", "wearer")
    assert plain("-#O The boy drops a card.") == ("The boy drops a card.", "other")
    assert plain("cuts onions") == ("cuts onions", "") and plain("#Person O cuts") == ("Person O cuts", "")
    assert plain("covers a pot") == ("covers a pot", "") and plain("opens a pot") == ("opens a pot", "")


def test_rows_keep_what_was_published():
    sounds = read_ego4d_sounds(TABLE)
    assert sounds.header == COLUMNS
    row = sounds.rows[5]
    assert row.id == "garden-2_narration_pass_1_0" and row.line == 7
    assert row.tags == {"speech": 0.4991, "background_music": 0.01, "traffic_noise": 0.0001, "wind_noise": 0.0004}
    assert row.fields["clip_end"] == "6.2500000"


def test_bad_rows_are_collected_with_their_lines(tmp_path):
    path = written(
        tmp_path,
        GOOD[0],
        GOOD[1],
        with_fields(2, narration_time="soon"),
        with_fields(2, narration_time="nan"),
        with_fields(2, clip_file=""),
        with_fields(2, clip_file="../../secret.mp4"),
        with_fields(2, speech="1.7"),
        GOOD[2] + "\tone more",
        GOOD[1],
        "",
        with_fields(2, video_dur="0.1", narration_time="30.0"),
        GOOD[4],
    )
    sounds = read_ego4d_sounds(path)
    assert [r.line for r in sounds.rows] == [2, 12]
    told = {p["id"]: p["what"] for p in sounds.problems}
    assert list(told) == [f"line {n}" for n in (3, 4, 5, 6, 7, 8, 9, 11)]
    assert "narration_time is 'soon', which is no number" in told["line 3"]
    assert "'nan'" in told["line 4"] and "clip_file is empty" in told["line 5"]
    assert "leaves its folder" in told["line 6"] and "speech is 1.7" in told["line 7"]
    assert "17 columns instead of 16" in told["line 8"] and "line 2 once more" in told["line 9"]
    assert "outside of its video" in told["line 11"]
    assert all(what.startswith("clips.csv, line ") and "\n" not in what for what in told.values())


def test_a_quotation_mark_that_is_not_closed_costs_its_rows_and_says_so(tmp_path):
    path = written(tmp_path, GOOD[0], GOOD[1], with_fields(2, clip_text='"#C C cuts'), GOOD[3], GOOD[4])
    sounds = read_ego4d_sounds(path)
    assert len(sounds) == 1 and len(sounds.problems) == 1
    assert "line 3: a quotation mark is opened here and not closed before line 5" in sounds.problems[0]["what"]


@pytest.mark.parametrize(
    "lines,what",
    [
        ([GOOD[0].replace("narration_time", "time"), GOOD[1]], "lacks the columns narration_time$"),
        ([GOOD[0].replace("\t", ","), GOOD[1].replace("\t", ",")], "video_uid, .* separated by commas"),
        (["version https://git-lfs.github.com/spec/v1", "oid sha256:00", "size 374409542"], "git lfs pull"),
        ([GOOD[0]], "not one row can be used; there are none"),
        ([GOOD[0], with_fields(1, narration_time="")], "not one row .* line 2: narration_time is empty"),
        ([GOOD[0].replace("tag_noun", "tag_verb"), GOOD[1]], "columns twice: tag_verb"),
        ([""], "lacks the columns video_uid"),
    ],
)
def test_a_table_of_no_use_is_one_clear_error(tmp_path, lines, what):
    with pytest.raises(V2AError, match=what) as caught:
        read_ego4d_sounds(written(tmp_path, *lines))
    assert "\n" not in str(caught.value) and "clips.csv" in str(caught.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(V2AError, match=r"none\.csv"):
        read_ego4d_sounds(tmp_path / "none.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00video_uid\x00")
    with pytest.raises(V2AError, match="cannot be read as tab-separated text"):
        read_ego4d_sounds(tmp_path / "bytes.csv")
    for text in ("{}", "[1]", "nothing", '{"videos": [{"duration_sec": 3}]}'):
        path = written(tmp_path, text, name="about.json")
        with pytest.raises(V2AError, match=r"is no ego4d\.json"):
            read_about(path)


def test_optional_columns_may_be_lacking(tmp_path):
    keep = [COLUMNS.index(name) for name in ("video_uid", "narration_time", "clip_text", "clip_file")]
    path = written(tmp_path, *("\t".join(line.split("\t")[i] for i in keep) for line in GOOD[:4]))
    row = read_ego4d_sounds(path).rows[0]
    assert row.id == "kitchen-1/kitchen-1_narration_pass_1_0" and row.tags == {} and row.video_s is None


def test_missing_media_are_listed_and_not_made_up():
    sounds = read_ego4d_sounds(TABLE)
    assert [entry.id for entry in sounds.missing] == [row.id for row in sounds.rows]
    with pytest.raises(MediaError, match=r"kitchen-1_narration_pass_1_0\.mp4: no such file"):
        sounds.open(0)


def test_clips_are_read_from_cut_files_and_from_whole_videos(tmp_path):
    video(tmp_path / "clips" / "garden-2" / "garden-2_narration_pass_1_0.mp4", 3.0)
    # the column of this row says .wav, the published script cuts .mp4
    video(tmp_path / "clips" / "kitchen-1" / "kitchen-1_narration_pass_1_4.mp4", 3.0)
    video(tmp_path / "videos" / "told-5.mp4", 20.0, loud_from=18.0)
    sounds = read_ego4d_sounds(TABLE, tmp_path / "clips", videos=tmp_path / "videos")
    assert len(sounds.missing) == 7
    cut = sounds.open(5, sample_rate=16000)
    assert abs(cut.duration - 3.0) < 0.02 and cut.sound.sample_rate == 16000 and cut.frames[0].mean() < 25
    assert sounds.open(4).n == 30
    whole = sounds.open(9)  # 17 s to 20 s of 20 s
    assert abs(whole.duration - 3.0) < 0.02 and abs(whole.frames[0].mean() - (8 * 17 + 20)) < 4
    quiet, loud = whole.sound.slice(0.0, 0.9), whole.sound.slice(1.1, 2.9)
    assert quiet.rms_dbfs < -40 and abs(loud.rms_dbfs - 20 * np.log10(0.3 / np.sqrt(2))) < 1.5
    heard = sounds.entries[9].hear()
    assert abs(heard.rms_dbfs - whole.sound.rms_dbfs) < 0.2


def test_a_videos_length_is_read_from_its_file_where_nothing_tells_it(tmp_path):
    path = written(tmp_path, GOOD[0], with_fields(4, narration_time="5.5"))
    video(tmp_path / "kitchen-1.mp4", 6.0)
    entry = read_ego4d_sounds(path).entries[0]
    assert abs(entry.start_s - 3.0) < 0.02 and abs(entry.at_s - 3.0) < 0.02


def test_neighbours_go_by_the_shifted_windows():
    entries = read_source(TABLE).entries
    found = Neighbours.of(entries).candidates([1, 5])
    # rows 1 and 2 have one window; 0, 4 and 3 follow at 8.5, 28.5 and 57 s
    assert [j for j in found[0] if j >= 0] == [0, 4, 3]
    assert (found[1] == -1).all()  # the other clip of the garden is 1.75 s away
