"""Your own video: both forms of an upload, names and errors as one line, files that are never written over."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from v2a_nb import media
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import MediaError, UsageError
from v2a_nb.media import decoding
from v2a_nb.widgets import upload as room
from v2a_nb.widgets.upload import Downloads, free_paths, safe_stem, soundtrack, uploaded, your_video

HOSTILE = "../<script>alert(1)</script>\"'\n\u202eright to left\0;rm -rf.mp4"


class Beeper:
    """Stands in for a system: remembers what it was asked."""

    sample_rate = 16000

    def __init__(self) -> None:
        self.asked: list[dict] = []

    def generate(self, clip: Clip, *, seed=0, guidance=None, progress=None) -> Sound:
        assert clip.sound is None, "the system must not hear the answer"
        self.asked.append({"seed": seed, "guidance": guidance, "duration": clip.duration})
        for _ in range(3):
            progress(1)
        return Sound(np.full(round(clip.duration * 16000), 0.01 * (1 + seed)), 16000)


@pytest.fixture
def video(tmp_path) -> Path:
    frames = np.zeros((30, 64, 96, 3), np.uint8)
    frames[:, :30] = (200, 120, 40)
    tone = Sound(0.3 * np.sin(np.arange(48000) * 0.1), 16000)
    return media.save_mp4(Clip(frames, fps=10.0), tone, tmp_path / "mine.mp4")


def test_a_path_becomes_a_soundtrack_beside_its_own(video, tmp_path):
    system, told = Beeper(), []
    made = soundtrack(
        video, system=system, seed=3, guidance=2.5, start=0.5, seconds=2, out=tmp_path / "o", report=told.append
    )
    assert system.asked == [{"seed": 3, "guidance": 2.5, "duration": 2.0}]
    assert list(made.player.tracks) == ["Beeper", "its own sound"]
    assert made.clip.duration == 2.0 and made.sound.duration == 2.0
    assert (made.wav, made.mp4) == (tmp_path / "o" / "mine.wav", tmp_path / "o" / "mine.mp4")
    assert media.open_sound(made.wav).samples.mean() == pytest.approx(0.04, abs=1e-4)
    assert media.info(made.mp4).audio_codec == "aac" and media.info(made.mp4).duration == pytest.approx(2, abs=0.02)
    assert told[0].startswith("reading") and any("step 1" in line for line in told) and told[-1].startswith("writing")


def test_the_files_are_as_wished_and_have_the_pictures_in_full_size(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (30, 400, 400, 3), dtype=np.uint8)
    own = Sound(np.zeros(3 * 16000, np.float32), 16000)
    path = media.save_mp4(Clip(frames, fps=10.0, sound=own), None, tmp_path / "a.mp4")
    output = media.Output("flac", 24, 48000, 2, keep_original=True)
    made = soundtrack(path, system=Beeper(), seconds=1, out=tmp_path / "o", output=output)
    assert made.wav.name == "a.flac" and made.clip.height == 360 and "audio/flac" in made.links()
    sound, info = media.open_sound(made.wav), media.info(made.mp4)
    assert (sound.sample_rate, sound.channels, info.audio_tracks, info.height) == (48000, 2, 2, 400)


def test_guidance_is_given_where_a_system_has_it(video, tmp_path):
    class Bare(Beeper):
        options: ClassVar[dict] = {}

        def generate(self, clip, *, seed=0, progress=None):
            return Sound(np.zeros(round(clip.duration * 16000)), 16000)

    how = {"system": Bare(), "seconds": 0.5, "out": tmp_path / "o"}
    assert soundtrack(video, **how).sound.duration == 0.5
    with pytest.raises(UsageError, match="Bare finds whole sounds and has no guidance"):
        soundtrack(video, guidance=2.0, **how)


def test_how_often_a_video_is_opened(video, tmp_path, monkeypatch):
    opened, container = [], decoding.container
    monkeypatch.setattr(decoding, "container", lambda path: opened.append(path) or container(path))
    soundtrack(video, system=Beeper(), seconds=1, out=tmp_path / "o")
    assert len(opened) == 5  # its pictures, its sound; to write: what it holds, when, and its pictures


def test_a_silent_video_is_compared_with_nothing(tmp_path):
    path = media.save_mp4(Clip(np.zeros((10, 32, 32, 3), np.uint8), fps=10.0), None, tmp_path / "s.mp4")
    made = soundtrack(path, system=Beeper(), label="mine", out=tmp_path / "o")
    assert list(made.player.tracks) == ["mine"] and made.player.absent == ["its own sound"]


def test_bytes_are_read_and_nothing_is_written_over(video, tmp_path):
    names = []
    for _ in range(3):
        made = soundtrack(video.read_bytes(), name="a.b.mp4", system=Beeper(), seconds=1, out=tmp_path / "o")
        names += [made.wav.name, made.mp4.name]
    assert names == ["a.b.wav", "a.b.mp4", "a.b.2.wav", "a.b.2.mp4", "a.b.3.wav", "a.b.3.mp4"]
    before = video.read_bytes()
    made = soundtrack(video, system=Beeper(), seconds=1, out=video.parent)
    assert video.read_bytes() == before and made.mp4.name == "mine.2.mp4"


def test_big_pictures_are_shrunk_before_they_fill_the_memory(tmp_path):
    path = media.save_mp4(Clip(np.zeros((3, 720, 1280, 3), np.uint8), fps=10.0), None, tmp_path / "big.mp4")
    assert soundtrack(path, system=Beeper(), out=tmp_path / "o").clip.frames.shape[1:] == (360, 640, 3)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"seconds": 31}, UsageError, "up to 30 s"),
        ({"seconds": 0}, UsageError, "up to 30 s"),
        ({"seconds": float("nan")}, UsageError, "up to 30 s"),
        ({"start": -1}, UsageError, "a start from 0"),
        ({"start": 99}, UsageError, "the video ends before 99"),
        ({"system": "nothing"}, UsageError, "no system 'nothing'"),
    ],
)
def test_impossible_wishes_are_refused(video, tmp_path, options, error, words):
    with pytest.raises(error, match=words):
        soundtrack(video, **{"system": Beeper(), "out": tmp_path / "o", **options})
    assert not (tmp_path / "o").exists()


def test_bad_files_are_named_as_the_user_knows_them(tmp_path, monkeypatch):
    with pytest.raises(MediaError, match=r"^holiday\.mov: cannot be read") as caught:
        soundtrack(b"no video at all" * 99, name="holiday.mov", system=Beeper(), out=tmp_path / "o")
    assert "/tmp" not in str(caught.value)
    with pytest.raises(MediaError, match=r"^e\.mp4: the file is empty"):
        soundtrack(b"", name="e.mp4", system=Beeper(), out=tmp_path / "o")
    with pytest.raises(MediaError, match="no such file"):
        soundtrack(tmp_path / "no.mp4", system=Beeper(), out=tmp_path / "o")
    monkeypatch.setattr(room, "UPLOAD_BYTES", 2_000_000)
    with pytest.raises(UsageError, match=r"^big\.mp4: 3 MB, and 2 MB may be uploaded; cut it"):
        soundtrack(bytes(3_000_000), name="big.mp4", system=Beeper(), out=tmp_path / "o")


def test_a_folder_that_cannot_be_made(video, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MediaError, match="the folder cannot be made"):
        soundtrack(video, system=Beeper(), seconds=1, out=tmp_path / "file" / "below")


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("my clip.mp4", "my clip"),
        ("C:\\films\\a.b.MOV", "a.b"),
        ("../../etc/passwd", "passwd"),
        ("..", "video"),
        ("", "video"),
        (".mp4", "mp4"),
        ("\0\n.mp4", "video"),
        ("фильм №1.mkv", "фильм _1"),
        ("x" * 300 + ".mp4", "x" * 60),
    ],
)
def test_safe_stem(name, stem):
    assert safe_stem(name) == stem


def test_uploads_of_both_versions_of_ipywidgets():
    seven = {"a.mp4": {"metadata": {"name": "a.mp4", "type": "video/mp4", "size": 3}, "content": b"abc"}}
    eight = ({"name": "a.mp4", "type": "video/mp4", "size": 3, "content": memoryview(b"abc"), "last_modified": 0},)
    assert uploaded(seven) == uploaded(eight) == ("a.mp4", b"abc")
    assert uploaded({}) is None and uploaded(()) is None
    assert uploaded({"first": seven["a.mp4"], "b": {"content": b"b"}}) == ("b", b"b")


class Links(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.links, self.tags = [], set()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [dict(attrs)] if tag == "a" else []


def test_links_hold_the_files_or_say_where_they_are(video, tmp_path, monkeypatch):
    made = soundtrack(video, system=Beeper(), seconds=1, out=tmp_path / "<b>o</b>")
    links = Links(made.links())
    assert [link["download"] for link in links.links] == ["mine.wav", "mine.mp4"]
    for link, path in zip(links.links, (made.wav, made.mp4), strict=True):
        assert base64.b64decode(link["href"].split(",", 1)[1]) == path.read_bytes()
    assert links.links[1]["href"].startswith("data:video/mp4;base64,") and "b" not in links.tags
    monkeypatch.setattr(room, "LINK_BYTES", min(p.stat().st_size for p in (made.wav, made.mp4)))
    links = Links(made.links())
    assert len(links.links) == 1 and "too large for a link" in made.links()


def test_downloads_know_their_kinds(tmp_path):
    paths = free_paths(tmp_path / "o", "a", ("flac", "hits.json"))
    for path in paths:
        path.write_bytes(b"{}")
    files = Downloads(*paths)
    kinds = [link["href"].split(";")[0] for link in Links(files._repr_html_()).links]
    assert kinds == ["data:audio/flac", "data:application/json"] and repr(files).splitlines() == [*map(str, paths)]
    assert free_paths(tmp_path / "o", "a", ("wav", "hits.json"))[0].name == "a.2.wav"


# --- the panel ------------------------------------------------------------------------------------


def filled(tmp_path, value: tuple | dict = (), path: str = "", system: object = None):
    """A panel whose upload holds ``value``."""
    made = your_video(system or Beeper(), out=tmp_path / "o")
    _ = made.panel
    made.upload = type("Upload", (), {"value": value})()
    made.path.value = path
    return made


def test_panel_makes_and_plays(video, tmp_path):
    made = filled(tmp_path, ({"name": "holiday.mp4", "content": memoryview(video.read_bytes())},))
    made.length.value, made.seed.value, made.guidance.value = 1.5, 4, " 2 "
    made.button.click()
    assert made.message.value == '<span role="status" dir="auto">Done.</span>' and not made.button.disabled
    assert made.system.asked == [{"seed": 4, "guidance": 2.0, "duration": 1.5}]
    assert made.player.outputs[0]["data"]["text/html"] == made.made.player.html
    assert "holiday.wav" in made.links.value and list(made.made.player.tracks) == ["Beeper", "its own sound"]


def test_panel_takes_a_path_and_the_older_upload(video, tmp_path):
    made = filled(tmp_path, {"a.mp4": {"metadata": {"name": "a.mp4"}, "content": video.read_bytes()}})
    made.button.click()
    assert made.made.wav.name == "a.wav"
    made.path.value = f" {video} "
    made.button.click()
    assert made.made.wav.name == "mine.wav"


@pytest.mark.parametrize(
    ("value", "guidance", "words"),
    [
        ((), "", "choose a video, or give its path"),
        (({"name": HOSTILE, "content": b"no video"},), "", "cannot be read as video"),
        (({"name": "a.mp4", "content": b""},), "", "a.mp4: the file is empty"),
        (({"name": "a.mp4", "content": b"x"},), "much<b>", "is no number"),
    ],
)
def test_panel_says_errors_in_one_line(tmp_path, value, guidance, words):
    made = filled(tmp_path, value)
    made.guidance.value = guidance
    made.button.click()
    said = made.message.value
    assert said.startswith('<span role="alert"') and words in said and "\n" not in said and "Traceback" not in said
    assert set(re.findall(r"<(\w+)", said)) == {"span"}, "names are text"
    assert not made.button.disabled and made.player.outputs == () and made.made is None


def test_panel_has_no_place_for_a_traceback(video, tmp_path):
    class Broken(Beeper):
        def generate(self, *_, **__):
            raise ZeroDivisionError("<i>oh\nno</i>")

    made = filled(tmp_path, path=str(video), system=Broken())
    made.button.click()
    assert "unexpected ZeroDivisionError: &lt;i&gt;oh no" in made.message.value and not made.button.disabled


def test_an_error_takes_the_old_result_away(video, tmp_path):
    made = filled(tmp_path, path=str(video))
    made.button.click()
    assert made.player.outputs and made.links.value
    made.path.value = str(tmp_path / "nothing.mp4")
    made.button.click()
    assert made.player.outputs == () and made.links.value == "" and "no such file" in made.message.value


def test_display_is_the_panel_and_a_sentence_that_works(monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", shown.append)
    made = your_video(Beeper())
    made._ipython_display_()
    assert shown[0] is made.panel and shown[1].data == made._repr_html_()
    assert "v2a.compare(clip" in made._repr_html_() and repr(made) == "YourVideo(Beeper)"
    compile(room.CODE, "sentence", "exec")
    with pytest.raises(UsageError, match="seconds=99"):
        your_video(seconds=99)


def test_with_the_shipped_weights(video, tmp_path):
    made = your_video(out=tmp_path / "o", seconds=0.6)
    _ = made.panel
    made.path.value = str(video)
    made.button.click()
    assert made.message.value.count("Strike World") == 1, made.message.value
    assert list(made.made.player.tracks) == ["vaura", "its own sound"] and made.made.sound.duration == 0.6
    again = soundtrack(video, system=made.system, seconds=0.6, out=tmp_path / "o")
    assert np.array_equal(again.sound.samples, made.made.sound.samples)
    assert not issubclass(type(made.system), str), "loaded once"
