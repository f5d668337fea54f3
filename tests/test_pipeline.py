"""What the commands rest on: originals are kept, names do not collide, bad folders are one line."""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
import pytest
import tqdm
from pipeline_parts import video

from v2a_nb import media, pipeline
from v2a_nb.cli import main
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import MediaError, UsageError
from v2a_nb.media import decoding, growing
from v2a_nb.systems import long_videos


def test_originals_are_never_written_over(tmp_path, tone, capsys):
    path = video(tmp_path / "a.mp4")
    before = path.read_bytes()
    assert main(["generate", str(path), "--out", str(tmp_path)]) == 1
    assert main(["demo", str(path), "--out", str(tmp_path)]) == 1
    assert path.read_bytes() == before
    assert capsys.readouterr().err.count("choose another --out") == 2


def test_nor_that_of_another_video_in_the_list(tmp_path, tone):
    (tmp_path / "made").mkdir()
    first, second = video(tmp_path / "a.mp4"), video(tmp_path / "made" / "a.mp4", 1.0)
    before = second.read_bytes()
    made, failed = pipeline.generate_files([first, second], tmp_path / "made")
    assert second.read_bytes() == before
    assert [p.name for p in made] == ["a.2.mp4"] and len(failed) == 1


def test_names_never_collide(tmp_path, tone):
    for folder in ("x", "y", "z"):
        (tmp_path / folder).mkdir()
    videos = [video(tmp_path / p) for p in ("x/a.mp4", "y/a.mp4", "z/a.2.mp4")]
    made, failed = pipeline.generate_files(videos, tmp_path / "made")
    assert len({p.name for p in made}) == 3 and not failed
    assert all(p.with_suffix(".wav").exists() for p in made)


def test_one_load_for_many_and_options_reach_the_system(tmp_path, tone):
    videos = [str(video(tmp_path / f"{n}.mp4")) for n in "abc"]
    words = ["generate", *videos, "--out", str(tmp_path / "m"), "--seed", "7", "--guidance", "1.5", "--top-k", "9"]
    assert main(words) == 0
    assert len(tone.loads) == 1
    assert tone.seen == [{"name": n, "seed": 7, "guidance": 1.5, "top_k": 9} for n in "abc"]


def test_steps_of_the_sampler_reach_a_diffusion_system(tmp_path, tone):
    path = video(tmp_path / "a.mp4")
    words = ["generate", str(path), "--system", "egosonics", "--out", str(tmp_path / "m"), "--steps", "7"]
    assert main(words) == 0
    assert tone.loads == [("egosonics", None)] and tone.seen == [{"name": "a", "seed": 0, "steps": 7}]


def test_a_sound_that_no_wav_holds_is_refused_before_it_is_made(tmp_path, tone):
    path = tmp_path / "a.y4m"  # five pictures, one in 20 hours
    path.write_bytes(b"YUV4MPEG2 W16 H16 F1:72000 Ip A1:1 C420jpeg\n" + (b"FRAME\n" + bytes(384)) * 5)
    made, failed = pipeline.generate_files([path], tmp_path / "m")
    assert not made and not tone.seen
    assert failed == [
        f"{path}: a wav holds 75 hours of sound (4 GB), and this video is longer; give --duration, or --format flac"
    ]
    made, failed = pipeline.generate_files([path], tmp_path / "m", duration=0.5)
    assert len(made) == 1 and not failed
    two = media.Output(sample_rate=48000, channels=2, bits=24)
    assert two.longest(8000) < 4.2 * 3600 and media.Output(format="flac").longest(8000) == float("inf")


@pytest.mark.parametrize("steps", [None, 11])
def test_the_bar_is_as_long_as_the_system_says(tmp_path, tone, monkeypatch, steps):
    made = []

    class Bar(tqdm.tqdm):
        def close(self):
            made.append((self.total, self.n))
            super().close()

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    with media.Video(video(tmp_path / "a.mp4")) as file:
        pipeline.generate_long(tone, file, **({} if steps is None else {"steps": steps}))
    assert made[0] == (steps or 3, steps or 3)


def test_the_seed_decides_the_bytes(tmp_path, tone):
    path = video(tmp_path / "a.mp4")
    for out, seed in (("m", 3), ("n", 3), ("o", 4)):
        pipeline.generate_files([path], tmp_path / out, seed=seed)
    for name in ("a.wav", "a.mp4"):
        first, again, other = ((tmp_path / out / name).read_bytes() for out in ("m", "n", "o"))
        assert first == again and first != other


@pytest.mark.parametrize(
    "part", [{"start": -1.0}, {"start": float("nan")}, {"duration": 0.0}, {"duration": float("inf")}]
)
def test_parts_that_no_video_has(tmp_path, tone, part):
    with pytest.raises(UsageError, match="seconds"):
        pipeline.generate_files([video(tmp_path / "a.mp4")], tmp_path / "m", **part)
    assert not tone.loads  # said before the model is loaded


@pytest.mark.parametrize(
    "words",
    [["generate", "VIDEO", "--out", "FILE"], ["demo", "VIDEO", "--out", "FILE"], ["demo", "VIDEO", "--out", "FILE/x"],
     ["world", "FILE", "--clips", "1", "--size", "64"]],
)  # fmt: skip
def test_a_file_where_a_folder_should_be(tmp_path, tone, capsys, words):
    path, file = video(tmp_path / "a.mp4"), tmp_path / "file"
    file.write_text("here first")
    names = {"VIDEO": str(path), "FILE": str(file), "FILE/x": str(file / "x")}
    assert main([names.get(word, word) for word in words]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("v2a-nb: ") and "file" in lines[0]
    assert file.read_text() == "here first"


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MediaError, match="cannot be made"):
        pipeline.generate_files([], tmp_path / "file")


@pytest.mark.parametrize("seed", ["-1", "x", str(2**70)])
def test_seeds_that_are_none(tmp_path, capsys, seed):
    with pytest.raises(SystemExit) as stop:
        main(["world", str(tmp_path / "w"), "--seed", seed])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and "--seed" in said and "_seed" not in said


def test_interrupted_is_one_line(tmp_path, monkeypatch, capsys):
    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "generate_files", stopped)
    assert main(["generate", "a.mp4", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.strip() == "v2a-nb: interrupted"


def test_a_full_disk_is_one_line(tmp_path, monkeypatch, capsys):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device", "made/a.wav")

    monkeypatch.setattr(pipeline, "generate_files", full)
    assert main(["generate", "a.mp4", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.strip() == "v2a-nb: made/a.wav: No space left on device"


def test_a_reader_that_leaves_early(monkeypatch):
    def gone(*args, **kwargs):
        raise BrokenPipeError

    monkeypatch.setattr("v2a_nb.doctor.check_environment", gone)
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # main puts a sink in its place; put it back afterwards
    assert main(["check"]) == 1


def test_presets_without_a_recipe_say_so(tmp_path, capsys):
    assert main(["train", "egosonics", "--preset", "small", "--out", str(tmp_path)]) == 2
    assert "'small'" in capsys.readouterr().err


def test_problems_stand_on_lines_of_their_own(tmp_path, tone, capfd):
    good, bad = video(tmp_path / "good.mp4"), tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    assert main(["generate", str(good), str(bad), str(good), "--out", str(tmp_path / "m")]) == 1
    problems = [line.rsplit("\r", 1)[-1] for line in capfd.readouterr().err.split("\n") if "v2a-nb:" in line]
    assert len(problems) == 2 and all(line.startswith("v2a-nb: ") for line in problems)
    assert "bad.mp4" in problems[0] and "1 of 3" in problems[1]


def test_a_large_video_is_read_small_and_written_large(tmp_path, tone, monkeypatch):
    sizes, generate = [], tone.generate
    monkeypatch.setattr(tone, "generate", lambda clip, **how: sizes.append(clip.frames.shape) or generate(clip, **how))
    frames = np.random.default_rng(0).integers(0, 255, (10, 240, 320, 3), dtype=np.uint8)
    original = media.save_mp4(Clip(frames, fps=20.0), None, tmp_path / "big.mp4")
    for name, most in (("a", 1e9), ("b", long_videos.BLOCK_S * 20 * 3 * 120 * 160), ("c", 1.0)):
        monkeypatch.setattr(pipeline, "BLOCK_BYTES", most)
        made, failed = pipeline.generate_files([original], tmp_path / name)
        assert not failed and np.array_equal(media.open(made[0]).frames, media.open(original).frames)
    assert sizes == [(10, 240, 320, 3), (10, 120, 160, 3), (10, pipeline.SMALLEST, 85, 3)]


def test_a_long_video_goes_through_in_blocks(tmp_path, tone, monkeypatch):
    monkeypatch.setattr(long_videos, "BLOCK_S", 1.5)
    lengths, generate = [], tone.generate
    monkeypatch.setattr(tone, "generate", lambda clip, **how: lengths.append(clip.duration) or generate(clip, **how))
    path = video(tmp_path / "a.mp4", 4.0)
    made, failed = pipeline.generate_files([path], tmp_path / "m", start=0.5)
    assert not failed and lengths == pytest.approx([1.5, 2.5, 1.5])
    assert media.open_sound(tmp_path / "m" / "a.wav").n == round(3.5 * tone.sample_rate)
    assert media.open(made[0]).duration == pytest.approx(3.5, abs=0.02)


@pytest.fixture
def reads(monkeypatch) -> Counter:
    """How often files were opened, and how many frames of each type were decoded."""
    counts, container, decode = Counter(), decoding.container, decoding.decode

    def opened(path):
        counts["open"] += 1
        return container(path)

    def decoded(stream, packet):
        frames, error = decode(stream, packet)
        counts[stream.type] += len(frames)
        return frames, error

    monkeypatch.setattr(decoding, "container", opened)
    monkeypatch.setattr(decoding, "decode", decoded)
    return counts


@pytest.mark.parametrize(
    ("part", "pictures"), [({}, 20), ({"duration": 0.5}, 22), ({"start": 0.25, "duration": 0.5}, 32)]
)
def test_a_video_is_read_once(tmp_path, tone, reads, part, pictures):
    """Pictures that can be copied are decoded once, those of a part once more to be encoded; no sound is decoded."""
    path = video(tmp_path / "a.mp4", 1.0)
    made, failed = pipeline.generate_files([path], tmp_path / "out", **part)
    assert not failed and reads["video"] == pictures and not reads["audio"]
    assert media.open(made[0]).sound is not None


def test_a_large_video_is_decoded_once_and_copied(tmp_path, tone, reads, monkeypatch):
    monkeypatch.setattr(pipeline, "BLOCK_BYTES", 10 * 3 * 64 * 96)
    frames = np.random.default_rng(0).integers(0, 255, (10, 128, 192, 3), dtype=np.uint8)
    path = media.save_mp4(Clip(frames, fps=20.0), Sound(np.zeros(8000), 16000), tmp_path / "a.mp4")
    made, failed = pipeline.generate_files([path], tmp_path / "out")
    assert not failed and reads["video"] == 10 and reads["audio"] == 0
    assert media.open(made[0]).frames.shape == (10, 128, 192, 3)


def test_the_demo_reads_the_sound_for_its_page(tmp_path, reads):
    path = video(tmp_path / "a.mp4", 1.0)
    files = pipeline.demo(str(path), tmp_path / "out")
    assert reads["video"] == 40 and reads["audio"] > 0  # once for the system, once for the page
    assert all(file.exists() for file in files.values())


def test_what_is_made_can_be_played_before_it_is_whole(tone, tmp_path, monkeypatch):
    film, heard = video(tmp_path / "a.mp4", 3.0), []

    def in_three(clip, **how):
        sound = tone.generate(clip, **how)
        for a in range(0, sound.n, 8000):
            if a:  # the piece before can be heard now
                heard.append(media.open_sound(tmp_path / "out" / "a.stream.wav").n)
            yield Sound(sound.samples[:, a : a + 8000], 8000)

    monkeypatch.setattr(tone, "stream", in_three)
    said: list[str] = []
    _, failed = pipeline.generate_files([film], tmp_path / "out", stream=True, report=said.append)
    assert failed == [] and heard == [8000, 16000]
    assert said == [f"can be played while it is made: {tmp_path / 'out' / 'a.stream.wav'}"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if not p.name.startswith(".")) == ["a.mp4", "a.wav"]
    mine = tmp_path / "out" / "a.stream.wav"
    mine.write_text("mine")
    again = {"stream": True, "seed": 1, "report": said.append}
    assert len(pipeline.generate_files([film], tmp_path / "out", **again)[1]) == 1
    assert "a.stream.wav is there already" in said[-2] and mine.read_text() == "mine"
    (tmp_path / "theirs").write_text("theirs")
    mine.unlink()
    mine.symlink_to(tmp_path / "theirs")
    assert pipeline.generate_files([film], tmp_path / "out", overwrite=True, **again)[1] == []
    assert not mine.is_symlink() and (tmp_path / "theirs").read_text() == "theirs"


def test_a_command_that_was_ended_goes_on_with_the_same_bytes(tmp_path, tone, monkeypatch):
    monkeypatch.setattr(long_videos, "BLOCK_S", 1.0)
    path, generate, made = video(tmp_path / "a.mp4", 4.5), tone.generate, []

    def until(last):
        def stopped(clip, **how):
            if len(made) == last:
                raise KeyboardInterrupt
            made.append(how["seed"])
            return generate(clip, **how)

        monkeypatch.setattr(tone, "generate", stopped)
        made.clear()

    until(None)
    assert pipeline.generate_files([path], tmp_path / "whole")[1] == [] and len(made) == 5
    until(3)
    with pytest.raises(KeyboardInterrupt):
        pipeline.generate_files([path], tmp_path / "m")
    assert [p.name for p in (tmp_path / "m").iterdir()] == [pipeline.BLOCKS]
    said: list[str] = []
    until(None)
    assert pipeline.generate_files([path], tmp_path / "m", report=said.append)[1] == [] and len(made) == 2
    assert said == [f"{path}: goes on after the 3 s that were made before"]
    for name in ("a.wav", "a.mp4"):
        assert (tmp_path / "m" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "m" / pipeline.BLOCKS).exists()


@pytest.mark.parametrize("change", [{"seed": 1}, {"overwrite": True}, {"start": 0.5}])
def test_what_was_done_with_other_settings_is_done_again(tmp_path, tone, monkeypatch, change):
    monkeypatch.setattr(long_videos, "BLOCK_S", 1.0)
    path, stream = video(tmp_path / "a.mp4", 3.5), tone.stream

    def ended(clip, **how):
        if len(tone.seen) == 2:
            raise KeyboardInterrupt
        return stream(clip, **how)

    monkeypatch.setattr(tone, "stream", ended)
    with pytest.raises(KeyboardInterrupt):
        pipeline.generate_files([path], tmp_path / "m")
    monkeypatch.setattr(tone, "stream", stream)
    tone.seen.clear()
    said: list[str] = []
    assert pipeline.generate_files([path], tmp_path / "m", report=said.append, **change)[1] == []
    assert said == [] and len(tone.seen) == (3 if "start" in change else 4)


def test_a_growing_wav_is_what_the_whole_one_would_be_and_names_itself_where_the_disk_is_full(tmp_path, monkeypatch):
    sound = Sound(np.random.default_rng(0).uniform(-1.2, 1.2, (2, 900)), 8000)
    whole = media.save_wav(sound, tmp_path / "whole.wav").read_bytes()
    path = tmp_path / "a.stream.wav"
    pieces = [Sound(sound.samples[:, a : a + 300], 8000) for a in (0, 300, 600)]
    seen = [path.read_bytes() for _ in media.growing_wav(pieces, path)]
    assert seen[-1] == whole and [len(data) for data in seen] == [44 + 4 * n for n in (300, 600, 900)]
    monkeypatch.setattr(growing, "pcm", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(MediaError, match=r"a\.stream\.wav: cannot be written: No space left"):
        list(media.growing_wav(pieces, path))
    assert not path.exists()
