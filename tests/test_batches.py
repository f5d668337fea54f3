"""Many videos at once: folders, names, what is there already, and what fails."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from pipeline_parts import video

from v2a_nb import media, pipeline
from v2a_nb.cli import main
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --- nobody's files are overwritten ---------------------------------------------------------------


@pytest.mark.parametrize("other", ["take.wav", "take.mp4"])
def test_a_file_of_the_user_is_kept(tmp_path, tone, capsys, other):
    take, good = video(tmp_path / "take.mkv.mp4"), video(tmp_path / "good.mkv.mp4")
    take, good = take.rename(tmp_path / "take.mov"), good.rename(tmp_path / "good.mov")
    (tmp_path / other).write_bytes(b"mine")
    assert main(["generate", str(take), str(good), "--out", str(tmp_path)]) == 1
    assert (tmp_path / other).read_bytes() == b"mine" and (tmp_path / "good.mp4").exists()
    lines = capsys.readouterr().err
    assert f"{other} is there already" in lines and "--overwrite" in lines and "--out" in lines
    assert main(["generate", str(take), "--out", str(tmp_path), "--overwrite"]) == 0
    assert (tmp_path / other).read_bytes() != b"mine"


def test_a_dangling_link_is_somebodys_too(tmp_path, tone):
    path = video(tmp_path / "a.mp4")
    (tmp_path / "made").mkdir()
    os.symlink(tmp_path / "elsewhere.wav", tmp_path / "made" / "a.wav")
    _, failed = pipeline.generate_files([path], tmp_path / "made")
    assert "is there already" in failed[0] and not (tmp_path / "elsewhere.wav").exists()


def test_a_result_that_was_edited_is_the_users(tmp_path, tone, capsys):
    path, out = video(tmp_path / "a.mp4"), tmp_path / "made"
    pipeline.generate_files([path], out)
    media.save_wav(Sound(np.ones(99) / 2, 8000), out / "a.wav")
    before = contents(out)
    _, failed = pipeline.generate_files([path], out, seed=1)
    assert "changed since" in failed[0] and contents(out) == before


def test_what_is_done_is_not_made_again(tmp_path, tone, capsys):
    path, out = video(tmp_path / "a.mp4"), tmp_path / "made"
    words = ["generate", str(path), "--out", str(out)]
    assert main(words) == main(words) == 0 and len(tone.seen) == 1
    captured = capsys.readouterr()
    assert captured.err.count(f"already made: {out / 'a.mp4'}") == 1 and captured.out.count("a.mp4") == 1
    assert main([*words, "--overwrite"]) == 0 and len(tone.seen) == 2
    (out / "a.wav").unlink()  # half of it is gone
    assert main(words) == 0 and len(tone.seen) == 3 and (out / "a.wav").exists()


def test_other_options_replace_and_another_system_does_not(tmp_path, tone):
    path, out = video(tmp_path / "a.mp4"), tmp_path / "made"
    pipeline.generate_files([path], out)
    made, failed = pipeline.generate_files([path], out, seed=1)
    assert len(made) == 1 and not failed
    before = contents(out)
    made, failed = pipeline.generate_files([path], out, system="egosonics")
    assert not made and "made by vaura" in failed[0] and contents(out) == before


def test_another_video_of_that_name_gets_another_name(tmp_path, tone):
    (tmp_path / "x").mkdir()
    first, second, out = video(tmp_path / "a.mp4"), video(tmp_path / "x" / "a.mp4", 0.6), tmp_path / "made"
    pipeline.generate_files([first], out)
    before = contents(out)["a.wav"]
    made, _ = pipeline.generate_files([second], out)
    assert [p.name for p in made] == ["a.2.mp4"] and contents(out)["a.wav"] == before
    made, failed = pipeline.generate_files([second, first], out)
    assert not made and not failed  # in whatever order: both are there


def test_a_video_that_was_moved_is_still_done(tmp_path, tone):
    path, out = video(tmp_path / "a.mp4"), tmp_path / "made"
    pipeline.generate_files([path], out)
    (tmp_path / "x").mkdir()
    shutil.copy(path, tmp_path / "x" / "a.mp4")
    made, failed = pipeline.generate_files([tmp_path / "x" / "a.mp4"], out)
    assert not made and not failed and len(tone.seen) == 1


def test_overwrite_never_replaces_an_input(tmp_path, tone, capsys):
    path = video(tmp_path / "a.mp4")
    os.link(path, tmp_path / "b.mov")
    before = path.read_bytes()
    for words in (["generate", str(path)], ["generate", str(tmp_path / "b.mov"), str(path)], ["demo", str(path)]):
        assert main([*words, "--out", str(tmp_path), "--overwrite"]) == 1
        assert path.read_bytes() == before


def test_the_demo_replaces_its_own_results_alone(tmp_path, monkeypatch, tone, capsys):
    path, out = video(tmp_path / "a.mp4"), tmp_path / "made"
    words = ["demo", str(path), "--out", str(out)]
    assert main(words) == main(words) == main([*words, "--seed", "1"]) == 0
    (out / "a.html").write_text("my page")
    before = contents(out)
    assert main(words) == 1 and contents(out) == before and "a.html is there already" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0 and "my page" not in (out / "a.html").read_text()


# --- folders --------------------------------------------------------------------------------------


def test_a_folder_keeps_its_sub_folders_and_passes_over_the_rest(tmp_path, tone, capsys):
    takes = tmp_path / "takes"
    (takes / "day 2").mkdir(parents=True)
    (takes / ".cache").mkdir()
    for name in ("a.mp4", "day 2/a.mp4", "day 2/b.MP4", ".hidden.mp4", ".cache/c.mp4"):
        video(takes / name)
    (takes / "notes.txt").write_text("text")
    out = takes / "made"
    words = ["generate", str(takes), "--out", str(out)]
    assert main(words) == 0
    captured = capsys.readouterr()
    assert {p for p in contents(out) if p.endswith("mp4")} == {"a.mp4", "day 2/a.mp4", "day 2/b.mp4"}
    assert "passed over" in captured.err and "notes.txt" in captured.err
    assert main(words) == 0 and len(tone.seen) == 3  # nor are its own results taken for videos
    assert main(["generate", str(takes), "--out", str(tmp_path / "other")]) == 0 and len(tone.seen) == 6


def test_a_folder_of_results_and_videos_in_one(tmp_path, tone, monkeypatch):
    monkeypatch.chdir(tmp_path)
    video(tmp_path / "a.mp4").rename("a.mov")
    assert main(["generate", ".", "--out", "."]) == 0
    assert main(["generate", ".", "--out", "."]) == 0 and len(tone.seen) == 1
    assert {p.name for p in tmp_path.iterdir()} == {"a.mov", "a.mp4", "a.wav", ".v2a-nb.jsonl"}


def test_a_folder_without_videos_is_an_error_and_so_is_a_damaged_one(tmp_path, tone, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "some").mkdir()
    video(tmp_path / "some" / "a.mp4")
    (tmp_path / "some" / "b.mp4").write_bytes(b"no video")
    assert main(["generate", str(tmp_path / "empty"), str(tmp_path / "some"), "--out", str(tmp_path / "m")]) == 1
    lines = capsys.readouterr().err
    assert "no video in this folder" in lines and "b.mp4" in lines and "2 of 3" in lines
    assert (tmp_path / "m" / "a.mp4").exists()


# --- names ----------------------------------------------------------------------------------------

NAMES = [
    "a:b.mp4", "http:x.mp4", "a\nb.mp4", "e\u0301.mp4", "-a.mp4", "x" * 251 + ".mp4", "é" * 125 + ".mp4",
    os.fsdecode(b"\xff\xfe.mp4"), "<b>.mp4", "a b'\"$(x).mp4", "...mp4", "%d.mp4", "a.b.c.mp4", "~.mp4",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_of_every_kind(tmp_path, tone, monkeypatch, name, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.mp4").write_bytes(video(tmp_path / "v.mp4").read_bytes())
    os.rename("plain.mp4", name)
    assert main(["generate", "--out", "made", "--format", "wav", "--", name]) == 0
    sounds, videos = ([p for p in (tmp_path / "made").iterdir() if p.suffix == s] for s in (".wav", ".mp4"))
    assert len(sounds) == len(videos) == 1 and sounds[0].stem == videos[0].stem
    assert name.startswith(sounds[0].stem) and media.open(videos[0]).sound is not None
    assert "Traceback" not in capfd.readouterr().err


def test_stems_that_some_disks_take_for_one(tmp_path, tone):
    videos = [video(tmp_path / str(n) / name) for n, name in enumerate(["a.mp4", "A.mp4", "é.mp4", "e\u0301.mp4"])]
    made, failed = pipeline.generate_files(videos, tmp_path / "made")
    assert not failed and [p.name for p in made] == ["a.mp4", "A.2.mp4", "é.mp4", "e\u0301.2.mp4"]


def test_a_name_with_a_line_break_stays_one_line(tmp_path, tone, capfd):
    bad = tmp_path / "a\nb\x1b[1m.mp4"
    bad.write_bytes(b"no video")
    assert main(["generate", str(bad), "--out", str(tmp_path / "m")]) == 1
    lines = [line for line in capfd.readouterr().err.splitlines() if line]
    assert len(lines) == 2 and all(line.startswith("v2a-nb: ") for line in lines) and "a\\nb\\x1b" in lines[0]


@pytest.mark.parametrize(
    ("name", "said"),
    [("https://example.org/a.mp4", "download"), ("-", "standard input"), ("/dev/zero", "device"), ("FIFO", "pipe"),
     ("", "no such file"), ("a\0b.mp4", "no such file"), ("y" * 300, "no such file")],
)  # fmt: skip
def test_what_is_no_file_is_said(tmp_path, tone, monkeypatch, name, said):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("FIFO")
    made, failed = pipeline.generate_files([name, video(tmp_path / "a.mp4")], tmp_path / "m")
    assert len(made) == 1 and len(failed) == 1 and said in failed[0]


def test_home_is_found(tmp_path, tone, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    video(tmp_path / "a.mp4")
    assert main(["generate", "~/a.mp4", "--out=~/made"]) == 0
    assert (tmp_path / "made" / "a.mp4").exists() and media.info("~/a.mp4").duration > 0


# --- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [OSError(1, "Operation not permitted"), MemoryError(), RuntimeError("odd\nerror"), KeyError("x")]
)
def test_whatever_one_video_raises_the_others_are_made(tmp_path, tone, monkeypatch, capfd, error):
    read, bad = media.Video.read, video(tmp_path / "bad.mp4")

    def reading(file, **part):
        if Path(file.path) == bad:
            raise error
        return read(file, **part)

    monkeypatch.setattr(media.Video, "read", reading)
    good = video(tmp_path / "good.mp4")
    assert main(["generate", str(bad), str(good), "--out", str(tmp_path / "m")]) == 1
    text = capfd.readouterr().err
    assert "bad.mp4: " in text and "1 of 2 videos failed" in text and "Traceback" not in text
    assert {p.name for p in (tmp_path / "m").iterdir()} == {"good.wav", "good.mp4", ".v2a-nb.jsonl"}


def test_an_interrupt_ends_all(tmp_path, tone, monkeypatch):
    monkeypatch.setattr(media.Video, "read", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt()))
    videos = [str(video(tmp_path / f"{n}.mp4")) for n in "ab"]
    assert main(["generate", *videos, "--out", str(tmp_path / "m")]) == 1
    assert not list((tmp_path / "m").iterdir())


def test_what_was_lost_is_said_once(tmp_path, tone, monkeypatch, capsys):
    monkeypatch.setattr(media.Video, "problems", ("3 pictures are damaged",))
    path = video(tmp_path / "a.mp4")
    assert main(["generate", str(path), "--out", str(tmp_path / "m")]) == 0
    assert capsys.readouterr().err.count(f"v2a-nb: {path}: 3 pictures are damaged\n") == 1


@pytest.mark.parametrize("device", ["mps", "cuda", "nothing", "hpu", "meta"])
def test_a_device_that_is_not_there_is_one_line(tmp_path, capsys, monkeypatch, device):
    if device == "cuda" and __import__("torch").cuda.is_available():
        pytest.skip("there is one")
    monkeypatch.setattr(media, "Video", lambda *a, **k: pytest.fail("a video was opened"))
    path = video(tmp_path / "a.mp4")
    assert main(["generate", str(path), "--out", str(tmp_path / "m"), "--device", device]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and repr(device) in lines[0]


# --- what the files are like ----------------------------------------------------------------------


def test_sample_rate_and_channels(tmp_path, tone):
    path = video(tmp_path / "a.mp4")
    words = ["generate", str(path), "--out", str(tmp_path / "m"), "--sample-rate", "44100", "--channels", "2"]
    assert main(words) == 0
    for made in ("a.wav", "a.mp4"):
        sound = media.open_sound(tmp_path / "m" / made)
        assert (sound.sample_rate, sound.channels) == (44100, 2)
    assert media.open_sound(tmp_path / "m" / "a.wav").n == round(media.info(path).duration * 44100)


@pytest.mark.parametrize(
    "wrong",
    [{"format": "ogg"}, {"bits": 8}, {"bits": 24, "format": "m4a"}, {"sample_rate": 0}, {"channels": 3},
     {"mix": float("nan")}, {"mix": 0.0, "keep_original": True}, {"format": "m4a", "sample_rate": 192000}],
)  # fmt: skip
def test_impossible_files_are_refused(wrong):
    with pytest.raises(UsageError, match="--"):
        media.Output(**wrong)


def test_the_options_reach_the_writer(tmp_path, monkeypatch):
    given = {}
    monkeypatch.setattr(pipeline, "generate_files", lambda videos, out, **how: given.update(how) or ([], []))
    words = ["--format", "flac", "--bits", "24", "--mix", "-6dB", "--audio-track", "1"]
    assert main(["generate", "a.mp4", "--out", "m", *words, "--overwrite"]) == 0
    assert given["output"] == media.Output("flac", 24, mix=-6.0)
    assert given["audio_track"] == 1 and given["overwrite"]


@pytest.mark.parametrize(("wish", "tracks"), [("--keep-original", 2), ("--mix=0dB", 1)])
@pytest.mark.parametrize("part", [[], ["--duration", "0.3"]])
def test_the_videos_own_sound_is_kept_or_mixed(tmp_path, tone, capsys, wish, tracks, part):
    loud = Sound(0.5 * np.sin(np.arange(8000) / 3), 16000)
    path = media.save_mp4(Clip(np.zeros((10, 32, 32, 3), np.uint8), fps=20.0), loud, tmp_path / "a.mp4")
    silent = media.save_mp4(Clip(np.zeros((10, 32, 32, 3), np.uint8), fps=20.0), None, tmp_path / "b.mp4")
    assert main(["generate", str(path), str(silent), "--out", str(tmp_path / "m"), wish, *part]) == 0
    assert "b.mp4: has no sound of its own" in capsys.readouterr().err
    made = tmp_path / "m" / "a.mp4"
    assert media.info(made).audio_tracks == tracks and media.info(tmp_path / "m" / "b.mp4").audio_tracks == 1
    levels = [media.open(made, audio_track=n).sound.rms_dbfs for n in range(tracks)]
    assert max(levels) == pytest.approx(loud.rms_dbfs, abs=1.0) and len(tone.seen) == 2
    assert media.open_sound(tmp_path / "m" / "a.wav").rms_dbfs < -20  # alone


@pytest.mark.parametrize(("ending", "bits"), [("wav", 24), ("flac", 16), ("flac", 24), ("m4a", 16)])
def test_formats(tmp_path, tone, ending, bits):
    path = video(tmp_path / "a.mp4")
    words = ["--format", ending, "--bits", str(bits), "--sample-rate", "48000"]
    assert main(["generate", str(path), "--out", str(tmp_path / "m"), *words]) == 0
    sound = media.open_sound(tmp_path / "m" / f"a.{ending}")
    assert (sound.sample_rate, sound.channels) == (48000, 1) and sound.duration == pytest.approx(0.5, abs=0.05)
    assert {p.name for p in (tmp_path / "m").iterdir()} == {f"a.{ending}", "a.mp4", ".v2a-nb.jsonl"}


def test_a_clip_from_no_file_gives_its_own_pictures(tmp_path):
    clip = Clip(np.zeros((5, 32, 32, 3), np.uint8), fps=10.0)
    paths, noted = (tmp_path / "a.wav", tmp_path / "a.mp4"), []
    note = lambda path, partial: noted.append((path, path.exists(), partial.stat().st_size > 0))  # noqa: E731
    media.Output().write(clip, Sound(np.zeros(4000), 8000), paths, note)
    assert noted == [(path, False, True) for path in paths] and media.open(paths[1]).n == 5
