"""Inputs whose contents are good and whose names, places, neighbours or lists are not."""

from __future__ import annotations

import json
import os
import socket
import stat
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hostile.cases import ANY, REFUSED, CannotBeMade, Case, Expect
from hostile.films import clicks, film, wav
from hostile.inputs_damage import mp4_of

if TYPE_CHECKING:
    from hostile.steps import Run


GOOD = Expect()


def cases() -> Iterator[Case]:
    """All of them."""
    for family, inputs in {
        "names": names,
        "places": places,
        "outputs that exist": existing,
        "disks": disks,
        "batches": batches,
        "truth.json": truths,
        "tables": tables,
        "runs": runs,
    }.items():
        for case in inputs():
            yield replace(case, family=family)


def case(name: str, write: Callable[[Path], Path], expect: Expect = GOOD, **more) -> Case:
    """A case whose family :func:`cases` sets."""
    return Case(name, "", write, expect, **more)


def good(folder: Path, name: str = "clip.mp4") -> Path:
    """A video with nothing odd about it but its name."""
    path = folder / name
    try:
        path.write_bytes(mp4_of())
    except (OSError, ValueError) as error:
        raise CannotBeMade(f"no such name here: {error}") from error
    return path


# --- names --------------------------------------------------------------------------------------


def names() -> Iterator[Case]:
    """Typed in their folder, as a user does; a leading dash comes as ./-name."""
    odd = {
        "markup": '<script>alert(1)<b>&amp;".mp4',
        "quotes": 'it\'s "my" `clip`.mp4',
        "a newline": "two\nlines.mp4",
        "a tab": "a\tb.mp4",
        "a carriage return": "a\rb.mp4",
        "a bell": "a\x07\x1b[31mb.mp4",
        "a colon": "12:30.mp4",
        "a protocol": "http:x.mp4",
        "another protocol": "concat:a|b.mp4",
        "file:": "file:x.mp4",
        "a pipe": "pipe:0.mp4",
        "accents, composed": unicodedata.normalize("NFC", "été.mp4"),
        "accents, decomposed": unicodedata.normalize("NFD", "été.mp4"),
        "200 characters": "x" * 196 + ".mp4",
        "250 characters": "y" * 246 + ".mp4",
        "255 characters": "z" * 251 + ".mp4",
        "80 wide characters": "漢" * 80 + ".mp4",
        "a percent": "100%d%s%05d.mp4",
        "braces": "{0}{name}.mp4",
        "a star": "*.mp4",
        "a question": "[a]?.mp4",
        "a backslash": "a\\b.mp4",
        "spaces": "  my clip .mp4",
        "dots": "a.b.c..mp4",
        "two suffixes": "clip.wav.mp4",
        "a capital suffix": "CLIP.MP4",
        "no suffix": "clip",
        "only a suffix": ".mp4",
        "hidden": ".clip.mp4",
        "a tilde": "~clip.mp4",
        "only a tilde": "~",
        "a dollar": "$HOME.mp4",
        "right to left": "\u202egpj.4pm.mp4",
        "a zero width joiner": "a\u200db.mp4",
        "an emoji": "🎬.mp4",
        "a part": "clip.mp4.part",
        "a comma": "a,b=c;d.mp4",
        "an at": "@clip.mp4",
        "a hash": "#clip.mp4",
        "bytes that are no text": os.fsdecode(b"\xff\xfe.mp4"),
        "a lone surrogate's bytes": os.fsdecode(b"\xed\xa0\x80.mp4"),
    }
    fast = ("markup", "a newline", "a colon", "accents, decomposed", "200 characters")
    for name, text in odd.items():
        expect = replace(GOOD, made=len(os.fsencode(text)) < 240)  # a longer one may leave no room for a part's name
        expect = REFUSED if text == "~" else expect  # which is the home folder
        yield case(f"named with {name}", partial(good, name=text), expect, relative=True, fast=name in fast)
    yield case("named with a dash", partial(good, name="-clip.mp4"), run=dashed, fast=True)


def dashed(run: Run) -> None:
    """A name that begins like an option, behind ``--`` and as a path."""
    os.chdir(run.user)
    run.must(run.command("generate", f"./{run.path.name}", "--out", "../a") == 0, "as ./-clip.mp4")
    run.must(run.command("generate", "--out", "../b", "--", run.path.name) == 0, "behind --")
    run.command("generate", run.path.name, "--out", "../c", status=(0, 1, 2))


# --- places -------------------------------------------------------------------------------------


def places() -> Iterator[Case]:
    yield case("a link", linked("real.mov"), fast=True)
    yield case("a link to a link", linked("real.mov", links=2))
    yield case("a link to nothing", linked(None), REFUSED)
    yield case("a link to itself", looped, REFUSED, fast=True)
    yield case("a link to a folder", linked("folder"), ANY)
    yield case("a link to endless zeros", linked("/dev/zero"), REFUSED, fast=True)
    yield case("a link to nothing at all", linked("/dev/null"), REFUSED)
    yield case("a folder named a.mp4", folder_named, ANY, fast=True)
    yield case("a pipe named a.mp4", fifo, REFUSED, fast=True)
    yield case("a socket named a.mp4", unix_socket, REFUSED)
    yield case("a file that must not be read", forbidden, REFUSED, fast=True)
    yield case("a folder that must not be read", forbidden_folder, REFUSED)
    yield case("a file that is not there", lambda folder: folder / "nothing.mp4", REFUSED, fast=True)
    yield case("a file below a file", lambda folder: good(folder) / "x.mp4", REFUSED)
    yield case("an empty name", good, run=lambda run: said(run, "generate", "", "--out", "out"))
    yield case("a name with a zero byte", good, run=lambda run: said(run, "generate", "a\0b.mp4", "--out", "out"))
    yield case("a name of 5000 characters", good, run=lambda run: said(run, "generate", "x" * 5000, "--out", "out"))
    yield case("an address", good, run=lambda run: said(run, "generate", "http://127.0.0.1:9/x.mp4", "--out", "out"))
    yield case("standard input", good, run=lambda run: said(run, "generate", "-", "--out", "out"))
    yield case("standard input as a device", good, run=lambda run: said(run, "generate", "/dev/stdin", "--out", "out"))
    yield case("a folder with a good, a broken and a foreign file", mixed, run=folder_of_files, fast=True)


def said(run: Run, *argv: object) -> None:
    """A command that cannot succeed says so."""
    run.command(*argv, status=(1, 2))


def linked(target: str | None, links: int = 1) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "clip.mp4"
        if target == "folder":
            (folder / "folder").mkdir()
            path.symlink_to("folder")
        elif target is None:
            path.symlink_to("not-there.mov")
        elif target.startswith("/"):
            path.symlink_to(target)
        else:
            other = folder / "elsewhere"
            other.mkdir()
            good(other, target)
            for k in range(1, links):
                (other / f"link{k}").symlink_to(target)
            path.symlink_to(Path("elsewhere") / (target if links == 1 else f"link{links - 1}"))
        return path

    return write


def looped(folder: Path) -> Path:
    (folder / "clip.mp4").symlink_to("other.mp4")
    (folder / "other.mp4").symlink_to("clip.mp4")
    return folder / "clip.mp4"


def folder_named(folder: Path) -> Path:
    path = folder / "a.mp4"
    path.mkdir()
    good(path)
    return path


def fifo(folder: Path) -> Path:
    path = folder / "a.mp4"
    os.mkfifo(path)
    return path


def unix_socket(folder: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.bind("a.mp4")  # relative: such names are short
        except OSError as error:
            raise CannotBeMade(str(error)) from error
    return folder / "a.mp4"


def forbidden(folder: Path) -> Path:
    path = good(folder)
    path.chmod(0)
    return path


def forbidden_folder(folder: Path) -> Path:
    (folder / "closed").mkdir()
    path = good(folder / "closed")
    path.parent.chmod(0)
    return path


def mixed(folder: Path) -> Path:
    good(folder, "good.mp4")
    (folder / "broken.mp4").write_bytes(mp4_of()[:2000])
    (folder / "notes.txt").write_text("mine")
    (folder / "sub").mkdir()
    good(folder / "sub", "good.mp4")
    return folder


def folder_of_files(run: Run) -> None:
    """All commands of a folder go on behind the broken file."""
    status = run.command("generate", run.user, "--out", "out", step="generate a folder")
    made = sorted(str(p.relative_to("out")) for p in Path("out").rglob("*.mp4"))
    run.must(status == 1 and made == ["good.mp4", "sub/good.mp4"], f"exit {status}, made {made}")
    files = sorted(run.user.rglob("*.mp4"))
    status = run.command("generate", *files, "--out", "listed", step="generate files")
    run.must(status == 1 and len(list(Path("listed").rglob("*.mp4"))) == 2, f"exit {status}")
    status = run.command("curate", run.user, "--filters", "sound", "--out", "kept.json")
    kept = json.loads(Path("kept.json").read_text()) if Path("kept.json").exists() else {}
    run.must(status == 0 and len(kept.get("clips", ())) == 2, f"exit {status}")
    run.must(len(kept.get("curation", {}).get("problems", ())) == 1, "the broken file is not among the problems")
    status = run.command("evaluate", "--generated", run.user, "--metrics", "ambience_db", "--json", "scores.json")
    scores = json.loads(Path("scores.json").read_text()) if Path("scores.json").exists() else {}
    run.must(status == 0 and any("broken" in p["id"] for p in scores.get("problems", ())), f"exit {status}")


# --- outputs ------------------------------------------------------------------------------------


def existing() -> Iterator[Case]:
    """What is there before stays, byte for byte; so do links, rights and folders."""
    for name in ("clip.mp4", "clip.wav", "clip.html"):
        yield case(f"{name} of the user's is there", with_results(name), run=generate_demo, fast=name == "clip.wav")
    yield case("clip.mp4 is the user's by a link", with_results("clip.mp4", link=True), run=generate_demo, fast=True)
    yield case("clip.wav is a link to nothing", with_results("clip.wav", link=True, dangling=True), run=generate_demo)
    yield case("clip.wav is a folder", with_results("clip.wav", folder=True), run=generate_demo)
    yield case("clip.mp4 is a folder", with_results("clip.mp4", folder=True), run=generate_demo)
    yield case("clip.wav must not be written", with_results("clip.wav", mode=0o400), run=generate_demo)
    yield case("a part of somebody else's is there", with_results(".clip.wav.1.part"), run=generate_demo)
    yield case("results beside the video", neighbours, run=beside, fast=True)
    yield case("the results' folder is a link to the videos'", own_link, run=through_link)
    yield case("the list is a video", good, run=lambda run: said(run, "curate", run.user, "--out", run.path))
    yield case("the list is the user's", with_results("kept.json"), run=keep_list)
    yield case("the scores are a video", with_sound, run=scores_over_video)
    yield case("the scores are the user's", with_sound_and_list, run=scores_over_list)
    yield case("a world over the user's files", with_world, run=world_over)
    yield case("a training over the user's files", with_run, run=train_over)
    yield case("a device as a file of scores", device, run=to_device, as_root=True)
    yield case("generated again", good, run=again, fast=True)


def with_results(name: str, *, link=False, dangling=False, folder=False, mode=None) -> Callable[[Path], Path]:
    """``out/NAME`` is there before; it may be a link, a folder, or read-only."""

    def write(user: Path) -> Path:
        out = user.parent / "out"
        out.mkdir()
        place = out / name
        if folder:
            place.mkdir()
            (place / "mine.txt").write_text("mine")
        elif link:
            if not dangling:
                (user / "precious.mov").write_bytes(b"mine")
            place.symlink_to(user / "precious.mov")
        else:
            place.write_bytes(b"mine")
            if mode is not None:
                place.chmod(mode)
        return good(user)

    return write


def generate_demo(run: Run) -> None:
    """Both commands that make ``STEM.*``."""
    run.command("generate", run.path, "--out", "out", status=(0, 1, 2))
    run.command("demo", run.path, "--out", "out", status=(0, 1, 2))


def neighbours(user: Path) -> Path:
    (user / "clip.wav").write_bytes(b"mine")
    (user / "clip.mp4").write_bytes(b"mine")
    (user / "clip.html").write_text("mine")
    return good(user, "clip.mov")


def beside(run: Run) -> None:
    os.chdir(run.user)
    run.command("generate", "clip.mov", "--out", ".", status=(0, 1, 2))
    run.command("demo", "clip.mov", "--out", ".", status=(0, 1, 2))


def own_link(user: Path) -> Path:
    (user.parent / "out").symlink_to("user")
    (user / "clip.wav").write_bytes(b"mine")
    return good(user)


def through_link(run: Run) -> None:
    generate_demo(run)


def keep_list(run: Run) -> None:
    Path("kept").mkdir()
    run.command("curate", run.user, "--filters", "sound", "--out", "out/kept.json", status=(0, 1, 2))


def with_sound(user: Path) -> Path:
    wav(user / "clip.wav", clicks(2.0, 16000) * 32767, 16000)
    return good(user)


def with_sound_and_list(user: Path) -> Path:
    (user / "scores.json").write_text('{"mine": 1}')
    (user / "scores.html").write_text("mine")
    return with_sound(user)


def scores_over_video(run: Run) -> None:
    scores = ("evaluate", "--generated", run.user, "--metrics", "ambience_db")
    run.command(*scores, "--json", run.path, status=(0, 1, 2))
    run.command(*scores, "--html", run.user / "clip.wav", status=(0, 1, 2))


def scores_over_list(run: Run) -> None:
    scores = ("evaluate", "--generated", run.user, "--metrics", "ambience_db")
    run.command(*scores, "--json", run.user / "scores.json", status=(0, 1, 2))
    run.command(*scores, "--html", run.user / "scores.html", status=(0, 1, 2))


def with_world(user: Path) -> Path:
    out = user.parent / "world"
    (out / "clips").mkdir(parents=True)
    (out / "truth.json").write_text('{"clips": "mine"}')
    (out / "clips" / "mine.mp4").write_bytes(b"mine")
    return good(user)


def world_over(run: Run) -> None:
    run.command("world", "world", "--clips", "1", "--seconds", "0.5", "--size", "64", status=(0, 1, 2))


def with_run(user: Path) -> Path:
    out = user.parent / "run"
    (out / "weights").mkdir(parents=True)
    for name in ("weights/config.json", "log.jsonl", "run.json", "plan.json"):
        (out / name).write_text("mine")
    return good(user)


def train_over(run: Run) -> None:
    run.command("train", "vocoder", "--steps", "2", "--out", "run", status=(0, 1, 2))


def device(user: Path) -> Path:
    """A full device of our own: the machine's must outlive the campaign."""
    path = user.parent / "full"
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 7))
    except (OSError, AttributeError) as error:
        raise CannotBeMade(f"no device can be made here: {error}") from error
    with_sound(user)
    return path


def to_device(run: Run) -> None:
    """Neither is a device replaced by a file, nor does a full one go unsaid."""
    run.command("evaluate", "--generated", run.user, "--metrics", "ambience_db", "--json", run.path, status=(1, 2))


def again(run: Run) -> None:
    """The same command twice leaves its own results as they are; another video of the same name keeps out."""
    run.command("generate", run.path, "--out", "out")
    first = Path("out/clip.wav").read_bytes(), Path("out/clip.mp4").read_bytes()
    run.command("generate", run.path, "--out", "out", step="again")
    run.must((Path("out/clip.wav").read_bytes(), Path("out/clip.mp4").read_bytes()) == first, "other results", "lost")
    other = Path("other")
    other.mkdir()
    film(other / "clip.mp4", pictures=20)
    run.command("generate", other / "clip.mp4", "--out", "out", step="another", status=(0, 1, 2))
    run.must((Path("out/clip.wav").read_bytes(), Path("out/clip.mp4").read_bytes()) == first, "overwritten", "lost")


# --- disks --------------------------------------------------------------------------------------


def disks() -> Iterator[Case]:
    yield case("a folder that must not be written", closed, run=write_any, fast=True)
    yield case("a folder that must not be written by any command", closed, run=write_all)
    yield case("a folder that is a file", out_is("file"), run=write_all)
    yield case("a folder below a file", out_is("below"), run=write_all)
    yield case("a folder that is a link to nothing", out_is("dangling"), run=write_any)
    yield case("a folder that is a link to itself", out_is("loop"), run=write_all)
    for size in (4, 16, 48):
        yield case(f"a disk of {size} kB", partial(tiny_disk, size), run=write_any)
    yield case("a disk without room for a page", partial(tiny_disk, 120), run=write_any)
    for size in (0, 1000, 20_000):
        yield case(f"files of at most {size} bytes", good, run=write_any, file_limit=size, fast=size == 1000)
    yield case("a disk without a free inode", inodes, run=write_any)


def closed(user: Path) -> Path:
    (user.parent / "out").mkdir(mode=0o555)
    return good(user)


def out_is(kind: str) -> Callable[[Path], Path]:
    def write(user: Path) -> Path:
        out = user.parent / "out"
        if kind == "file":
            out.write_text("mine")
        elif kind == "below":
            out.symlink_to("user/clip.mp4/out")
        elif kind == "dangling":
            out.symlink_to("not-there")
        else:
            out.symlink_to("out")
        return good(user)

    return write


def tiny_disk(kilobytes: int, user: Path) -> Path:
    from hostile.harness import mount_tiny

    mount_tiny(user.parent / "out", kilobytes)
    return good(user)


def inodes(user: Path) -> Path:
    from hostile.harness import mount_tiny

    out = user.parent / "out"
    mount_tiny(out, 1000, "nr_inodes=3")
    return good(user)


def write_any(run: Run) -> None:
    """Every command that writes, into ``out``; it may fail, in one line, and leaves nothing half-written."""
    write_all(run, (0, 1))


def write_all(run: Run, status: tuple[int, ...] = (1,)) -> None:
    """Every command that writes, into ``out``."""
    out = Path("out")
    run.command("generate", run.path, "--out", out, status=status)
    run.command("demo", run.path, "--out", out, status=status)
    run.command("curate", run.user, "--filters", "sound", "--out", out / "kept.json", status=status)
    scores = ("evaluate", "--generated", run.user, "--metrics", "ambience_db")
    run.command(*scores, "--json", out / "scores.json", status=status, step="evaluate --json")
    run.command(*scores, "--html", out / "scores.html", status=status, step="evaluate --html")
    run.command("world", out / "world", "--clips", "1", "--seconds", "0.5", "--size", "64", status=status)
    run.command("train", "vocoder", "--steps", "2", "--out", out / "run", status=status)


# --- batches ------------------------------------------------------------------------------------


def batches() -> Iterator[Case]:
    yield case("two of one name", two_of_one_name, run=one_name, fast=True)
    yield case("the same file twice", good, run=twice)
    yield case("a broken one first", mixed, run=broken_first)
    yield case("parts that are not there", good, run=parts)
    yield case("devices that are not there", good, run=no_devices)


def two_of_one_name(user: Path) -> Path:
    (user / "a").mkdir()
    (user / "b").mkdir()
    good(user / "a")
    film(user / "b" / "clip.mov", pictures=20)
    return user


def one_name(run: Run) -> None:
    status = run.command("generate", run.user / "a/clip.mp4", run.user / "b/clip.mov", "--out", "out")
    made = sorted(Path("out").rglob("*.mp4"))
    run.must(status == 0 and len(made) == 2, f"exit {status}, made {made}")


def twice(run: Run) -> None:
    run.command("generate", run.path, run.path, "--out", "out")


def broken_first(run: Run) -> None:
    status = run.command(
        "generate", run.user / "broken.mp4", run.user / "notes.txt", run.user / "good.mp4", "--out", "o"
    )
    run.must(status == 1 and Path("o/good.mp4").exists(), f"exit {status}; the good one was not made")


def parts(run: Run) -> None:
    for words in (
        ("--start", "5"),
        ("--start", "nan"),
        ("--start", "-1"),
        ("--duration", "0"),
        ("--duration", "inf"),
        ("--start", "1.99"),
        ("--duration", "0.01"),
        ("--start", "1e300"),
        ("--duration", "1e-300"),
    ):
        run.command("generate", run.path, "--out", "out", *words, status=(1, 2), step=f"generate {' '.join(words)}")


def no_devices(run: Run) -> None:
    for name in ("mps", "cuda:99", "nonsense", "meta", ""):
        run.command("generate", run.path, "--out", "out", "--device", name, status=(1, 2), step=f"--device {name!r}")


# --- lists --------------------------------------------------------------------------------------

CLIP = {
    "id": "clip",
    "video": "clip.mp4",
    "recording": "r",
    "start_s": 0.0,
    "duration_s": 2.0,
    "narration": "",
    "mismatched": False,
    "ambient": {"kind": "hum", "level_dbfs": -40.0},
    "events": [
        {
            "time_s": 0.4,
            "kind": "strike",
            "material": "wood",
            "sounding": True,
            "object": 0,
            "speed": 1.0,
            "box": [0, 0, 9, 9],
        }
    ],
    "stems": {},
}


def truths() -> Iterator[Case]:
    """``truth.json`` in the wrong shape: read by evaluate, by curate, and by training."""

    def clip(**changes) -> bytes:
        return json.dumps({"world": "strike", "clips": [{**CLIP, **changes}]}).encode()

    def event(**changes) -> bytes:
        return clip(events=[{**CLIP["events"][0], **changes}])  # type: ignore[index]

    wrong = {
        "empty": b"",
        "no json": b"{",
        "null": b"null",
        "a number": b"5",
        "a list": b"[]",
        "text": b'"clips"',
        "an object": b"{}",
        "clips null": b'{"clips": null}',
        "clips a number": b'{"clips": 5}',
        "clips text": b'{"clips": "abc"}',
        "clips of numbers": b'{"clips": [1, 2]}',
        "clips of null": b'{"clips": [null]}',
        "clips an object": b'{"clips": {"a": 1}}',
        "no clips": b'{"clips": []}',
        "clips of objects": b'{"clips": [{}]}',
        "not utf-8": b'{"clips": "\xff\xfe"}',
        "utf-16": '{"clips": []}'.encode("utf-16"),
        "bytes": bytes(range(256)),
        "deep": b"[" * 100_000,
        "deep and closed": b'{"clips":' + b"[" * 5000 + b"]" * 5000 + b"}",
        "a huge number": b'{"clips": [' + b"9" * 10_000 + b"]}",
        "an id that is a number": clip(id=7),
        "an id that is null": clip(id=None),
        "an id that is a list": clip(id=["clip"]),
        "an empty id": clip(id=""),
        "an id that climbs": clip(id="../../clip"),
        "a video that climbs": clip(video="../../../etc/passwd"),
        "a video that is null": clip(video=None),
        "a video that is a number": clip(video=3),
        "a video with a zero byte": clip(video="a\0b.mp4"),
        "an absolute video": clip(video="/etc/passwd"),
        "a duration of NaN": clip(duration_s=float("nan")),
        "an infinite duration": clip(duration_s=float("inf")),
        "a duration of 0": clip(duration_s=0),
        "a negative duration": clip(duration_s=-1),
        "a duration of 1e300": clip(duration_s=1e300),
        "a duration of text": clip(duration_s="long"),
        "a duration of a list": clip(duration_s=[2]),
        "a start of NaN": clip(start_s=float("nan")),
        "a start of text": clip(start_s="x"),
        "a recording that is a list": clip(recording=[1]),
        "a recording that is null": clip(recording=None),
        "a narration that is a number": clip(narration=5),
        "events null": clip(events=None),
        "events text": clip(events="x"),
        "events of numbers": clip(events=[1]),
        "no events": clip(events=[]),
        "an event at NaN": event(time_s=float("nan")),
        "an event at infinity": event(time_s=float("inf")),
        "an event before zero": event(time_s=-5),
        "an event after the end": event(time_s=99),
        "an event at text": event(time_s="x"),
        "a material of stone": event(material="stone"),
        "a material of a list": event(material=["wood"]),
        "a kind of null": event(kind=None),
        "sounding text": event(sounding="no"),
        "an ambience of null": clip(ambient=None),
        "an ambience of text": clip(ambient="hum"),
        "a level of text": clip(ambient={"kind": "hum", "level_dbfs": "x"}),
        "an ambience of {}": clip(ambient={}),
        "a level of NaN": clip(ambient={"kind": "hum", "level_dbfs": float("nan")}),
        "two of one id": json.dumps({"clips": [CLIP, CLIP]}).encode(),
        "tags of text": clip(tags="x"),
        "tags of NaN": clip(tags={"speech": float("nan")}),
        "scenarios of numbers": clip(scenarios=[1]),
        "mismatched text": clip(mismatched="no"),
        "a root that is a number": json.dumps({"root": 5, "clips": [CLIP]}).encode(),
        "right": clip(),
    }
    for name, data in wrong.items():
        yield case(f"truth.json: {name}", partial(truth, data), run=read_truth, fast=name in ("deep", "clips text"))
    yield case("truth.json: a folder", truth_folder, run=read_truth)


def truth(data: bytes, user: Path) -> Path:
    with_sound(user)
    path = user / "truth.json"
    path.write_bytes(data)
    return path


def truth_folder(user: Path) -> Path:
    with_sound(user)
    (user / "truth.json").mkdir()
    return user / "truth.json"


def read_truth(run: Run) -> None:
    """Every command that takes a ``truth.json``."""
    names = "onset_f1_50ms,near_miss_silent,material_accuracy,ambience_error_db"
    run.command(
        "evaluate",
        "--generated",
        run.user,
        "--truth",
        run.path,
        "--json",
        "scores.json",
        "--metrics",
        names,
        status=(0, 1, 2),
    )
    run.command("curate", run.user, "--filters", "sound,tags,energy", "--out", "kept.json", status=(0, 1, 2))
    run.command(
        "curate", run.path, "--filters", "sound,scenario", "--out", "kept.csv", status=(0, 1, 2), step="as a list"
    )
    run.command("train", "vocoder", "--data", f"folder:{run.user}", "--steps", "1", "--out", "run", status=(0, 1, 2))


def tables() -> Iterator[Case]:
    """CSV files in the wrong shape."""
    wrong = {
        "empty": b"",
        "a head alone": b"video,text\n",
        "no head": b"clip.mp4,hello\n",
        "zeros": bytes(1000),
        "not utf-8": b"video\n\xff\xfe.mp4\n",
        "a field of a megabyte": b"video,text\nclip.mp4," + b"x" * 10**6 + b"\n",
        "a quote that stays open": b'video,text\n"clip.mp4,hello\n' * 50,
        "columns twice": b"video,video\nclip.mp4,\n",
        "more fields than columns": b"video\nclip.mp4,a,b,c\n",
        "a start of text": b"video,start_s\nclip.mp4,x\n",
        "a start of NaN": b"video,start_s,duration_s\nclip.mp4,nan,nan\n",
        "a video that climbs": b"video\n../../etc/passwd\n",
        "a start beyond the end": b"video,start_s,duration_s\nclip.mp4,99,1\n",
        "right": b"video,text\nclip.mp4,hello\n",
        "an infinite duration": b"video,start_s,duration_s\nclip.mp4,0,inf\n",
        "a zero byte": b"video\nclip\0.mp4\n",
        "of Ego4D-Sounds, broken": b"video_uid,clip_start\nx,y\n",
        "a binary": bytes(range(256)) * 20,
    }
    for name, data in wrong.items():
        yield case(f"table: {name}", partial(table, data), run=read_table, fast=name == "zeros")


def table(data: bytes, user: Path) -> Path:
    with_sound(user)
    path = user / "clips.csv"
    path.write_bytes(data)
    return path


def read_table(run: Run) -> None:
    run.command("curate", run.path, "--filters", "sound,energy", "--out", "kept.csv", status=(0, 1, 2))
    run.command("train", "vocoder", "--data", f"csv:{run.path}", "--steps", "1", "--out", "run", status=(0, 1, 2))


def runs() -> Iterator[Case]:
    """Folders of runs that are broken."""
    state = {"run.json": b"{}", "state/state.pt": b"x"}
    for name, files in {
        "an empty folder": {},
        "half of run.json": {"run.json": b'{"name": "voc'},
        "an empty run.json": {"run.json": b""},
        "a run.json of a list": {"run.json": b"[]"},
        "a run.json of null": {"run.json": b"null"},
        "a run.json of nothing": state,
        "a run.json of bytes": {"run.json": bytes(range(256))},
        "a log of bytes": {"run.json": b"{}", "log.jsonl": bytes(range(256))},
        "a plan of a list": {"plan.json": b"[1]"},
        "a log of half a line": {"log.jsonl": b'{"step": 1, "loss": 0.5}\n{"step": 2, "lo'},
        "a log of lists": {"log.jsonl": b"[1]\nnull\n5\n"},
        "a log of NaN": {"log.jsonl": b'{"step": 1, "loss": NaN}\n'},
    }.items():
        yield case(f"run: {name}", partial(broken_run, files), run=resume, fast=name == "half of run.json")


def broken_run(files: dict[str, bytes], user: Path) -> Path:
    path = user / "run"
    path.mkdir()
    for name, data in files.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(data)
    return path


def resume(run: Run) -> None:
    run.command("monitor", run.path, "--once", status=(0, 1, 2))
    if (run.path / "run.json").exists():  # else there is nothing to go on with
        run.command("train", "vocoder", "--steps", "2", "--out", run.path, "--resume", status=(1, 2))
