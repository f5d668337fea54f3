"""A panel for your own video: choose a file, press a button, and compare its new soundtrack with its own.

``your_video()`` shows the panel; :func:`soundtrack` does the work of its button.
"""

from __future__ import annotations

import math
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2a_nb import media
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import MediaError, UsageError, V2AError, check_types
from v2a_nb.systems.registry import honest
from v2a_nb.widgets.page import data_uri, escape
from v2a_nb.widgets.payload import as_text
from v2a_nb.widgets.player import Player, compare

if TYPE_CHECKING:
    from v2a_nb.systems.base import System

UPLOAD_BYTES = 50_000_000
"""Largest upload. Notebook servers often drop more than 10 MB; a path has no such limit."""
LINK_BYTES = 4_000_000
"""Largest file that the panel offers as a download; of a larger one it shows the path."""
KINDS = {".mp4": "video/mp4", ".json": "application/json"}
"""Mime types of files that are no sounds."""
SECONDS, MOST_S = 8.0, 30.0  # of the video: by default, and at most
SIDE = 360  # pixels of the picture's shorter side, at most: half a minute of it fits into 2 GB
CODE = (
    'clip = v2a.open("my_video.mp4", duration=8); '
    'v2a.compare(clip, {"vaura": v2a.load("vaura").generate(clip), "its own sound": clip.sound})'
)


@dataclass(frozen=True)
class Made:
    """The result of :func:`soundtrack`: the clip, its new sound, a player of both, and the files."""

    clip: Clip
    sound: Sound
    player: Player
    wav: Path
    """The sound; its ending says in which format."""
    mp4: Path

    def links(self) -> str:
        """HTML of download links, see :class:`Downloads`."""
        return Downloads(self.wav, self.mp4).html


class Downloads:
    """Files as download links, which work in any notebook and in a saved page, since they hold the files.

    Args:
        paths: of the files, in one folder. One over :data:`LINK_BYTES` is named by its path.
    """

    def __init__(self, *paths: Path) -> None:
        self.paths = paths

    def __repr__(self) -> str:
        return "\n".join(str(path) for path in self.paths)

    @property
    def html(self) -> str:
        """The links, and the folder in which the files are."""
        parts = []
        for path in self.paths:
            name = escape(path.name)
            if path.stat().st_size > LINK_BYTES:
                parts.append(f"<bdi>{escape(path)}</bdi> ({path.stat().st_size / 1e6:.0f} MB, too large for a link)")
            else:
                kind = KINDS.get(path.suffix, f"audio/{path.suffix[1:]}")
                data = data_uri(kind, path.read_bytes())
                parts.append(f'<a download="{name}" href="{data}">Download <bdi>{name}</bdi></a>')
        folder = escape(self.paths[0].parent)
        return f"<p>{' · '.join(parts)}<br><small>in the folder <bdi>{folder}</bdi></small></p>"

    def _repr_html_(self) -> str:
        return self.html


@check_types
def soundtrack(
    video: str | Path | bytes,
    *,
    name: str = "",
    system: str | System = "vaura",
    label: str = "",
    weights: str | None = None,
    seed: int = 0,
    guidance: float | None = None,
    start: float = 0.0,
    seconds: float = SECONDS,
    out: str | Path = "your_video",
    output: media.Output | None = None,
    audio_track: int | None = None,
    report: Callable[[str], None] | None = None,
) -> Made:
    """Read a part of a video, make its soundtrack, and write ``STEM.wav`` and ``STEM.mp4``.

    Args:
        video: path of a file, or the bytes of an upload.
        name: file name of the upload, any text; its stem names the results.
        system: a name for :func:`v2a_nb.load`, or a loaded system.
        label: of its track in the player; left out, the system's name.
        weights: of the system; left out, the shipped ones.
        seed: the same seed gives the same sound on one machine.
        guidance: left out, the preset's best.
        start, seconds: the part that is used, 30 s at most; the player shows pictures with a short side of at most 360
            pixels, the mp4 has them in full size.
        out: folder for the results; nothing in it is overwritten, a second ``a.wav`` becomes ``a.2.wav``.
        output: what the files are like, such as ``media.Output(format="flac", keep_original=True)``.
        audio_track: which of the video's own sounds is used, from 0; left out, the one that players choose.
        report: receives messages on the progress.

    Raises:
        MediaError: the video cannot be read, or the folder cannot be written.
        UsageError: an upload over 50 MB, an impossible part, no such system.
        WeightsError: there are no such weights.

    Example:
        ``soundtrack("my_video.mp4", seed=1).player``
    """
    report = report or (lambda line: None)
    _check_system(system)
    if not (math.isfinite(start) and start >= 0 and math.isfinite(seconds) and 0 < seconds <= MOST_S):
        raise UsageError(f"{seconds:g} s from {start:g} s: a start from 0, and up to {MOST_S:g} s, are possible")
    report("reading the video ...")
    output = output or media.Output()
    with _file(video, name) as (path, stem), media.Video(path, audio_track=audio_track) as file:
        clip = file.read(start=start, duration=seconds, size=SIDE)
        label = label or (system if isinstance(system, str) else type(system).__name__)
        if isinstance(system, str):
            from v2a_nb.systems.registry import load

            report("loading the system ...")
            system = load(system, weights)
        reported, done, began = 0.0, 0, time.monotonic()

        def progress(steps: int) -> None:
            nonlocal reported, done
            done += steps
            if time.monotonic() - reported > 0.25:  # a notebook cannot show more
                reported = time.monotonic()
                report(f"making {clip.duration:.1f} s of sound: step {done}, {reported - began:.0f} s so far")

        report(f"making {clip.duration:.1f} s of sound ...")
        options = {} if guidance is None else {"guidance": guidance}
        unknown = options.keys() - getattr(system, "options", options).keys()
        if unknown:
            raise UsageError(f"{label} finds whole sounds and has no guidance; leave it out")
        sound = system.generate(clip.silent(), seed=seed, progress=progress, **options)
        report("writing the files ...")
        paths = free_paths(Path(out), stem, output.endings)
        output.write(file, sound, paths, report=report, start=start, duration=seconds)
    player = compare(clip, {label: sound, "its own sound": clip.sound}, title=stem)
    return Made(clip, sound, player, *paths)


def _check_system(system: object) -> None:
    if not isinstance(system, str) and not callable(getattr(system, "generate", None)):
        raise UsageError(f"system must be a name or what v2a.load returns, not {type(system).__name__}")


@contextmanager
def _file(video: str | Path | bytes, name: str) -> Iterator[tuple[str | Path, str]]:
    """The path of a video, and a stem that is safe in a file system; an upload is a temporary file."""
    if isinstance(video, str | Path):
        yield video, safe_stem(Path(video).name)
        return
    size = len(video)
    if size > UPLOAD_BYTES:
        raise UsageError(
            f"{as_text(name)}: {size / 1e6:.0f} MB, and {UPLOAD_BYTES / 1e6:.0f} MB may be uploaded; "
            "cut it, or put it beside the notebook and give its path"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "upload"
        path.write_bytes(video)
        try:
            yield path, safe_stem(name)
        except V2AError as error:  # under the name that the user knows
            raise type(error)(str(error).replace(str(path), as_text(name) or "the upload")) from error


def safe_stem(name: str) -> str:
    """Return the stem of a file name, without characters that are special to a file system or a shell.

    >>> safe_stem("../my clip;rm.mp4")
    'my clip_rm'
    """
    last = re.split(r"[/\\]", as_text(name))[-1]
    stem = last.rsplit(".", 1)[0] if "." in last[1:] else last
    return re.sub(r"[^\w .-]+", "_", stem).strip(" ._-")[:60].rstrip(" .") or "video"


def free_paths(out: Path, stem: str, endings: Sequence[str]) -> tuple[Path, ...]:
    """Make the folder, and return paths in it, with these endings, that do not exist yet.

    Raises:
        MediaError: the folder cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError(f"{out}: the folder cannot be made: {error.strerror}; choose another out=") from error
    names = (stem if number == 1 else f"{stem}.{number}" for number in count(1))
    every = (tuple(out / f"{name}.{ending}" for ending in endings) for name in names)
    return next(paths for paths in every if not any(os.path.lexists(path) for path in paths))


def uploaded(value: Mapping | Sequence) -> tuple[str, bytes] | None:
    """Return name and bytes of the last file in ``FileUpload.value``, or None where nothing was chosen.

    The value is a dictionary in ipywidgets 7 and a tuple in ipywidgets 8.
    """
    if not value:
        return None
    if isinstance(value, Mapping):
        name, file = list(value.items())[-1]
        return str(file.get("metadata", {}).get("name", name)), bytes(file["content"])
    return str(value[-1]["name"]), bytes(value[-1]["content"])


@check_types
def your_video(
    system: str | System = "vaura",
    *,
    weights: str | None = None,
    out: str | Path = "your_video",
    seconds: float = SECONDS,
    output: media.Output | None = None,
    audio_track: int | None = None,
) -> YourVideo:
    """Return a panel that generates a soundtrack for your own video and plays it beside the video's own.

    Args:
        system: a name for :func:`v2a_nb.load`, loaded at the first press, or a loaded system.
        weights, out, output, audio_track: as in :func:`soundtrack`.
        seconds: default length of the part that is used.

    Raises:
        UsageError: impossible ``seconds``.

    Example:
        ``your_video()``
    """
    _check_system(system)
    if not 0 < seconds <= MOST_S:
        raise UsageError(f"seconds={seconds:g}: more than 0 and up to {MOST_S:g} s can be used")
    return YourVideo(system, weights, out, seconds, output=output, audio_track=audio_track)


class YourVideo:
    """The result of :func:`your_video`.

    Attributes:
        made: the newest result, or None.
        panel: an ipywidgets box, created at the first access.
    """

    def __init__(
        self, system: str | System, weights: str | None, out: str | Path, seconds: float, **files: Any
    ) -> None:
        self.system, self.weights, self.out, self.seconds = system, weights, Path(out), seconds
        self._files = files  # ``output`` and ``audio_track`` of :func:`soundtrack`
        self.label = system if isinstance(system, str) else type(system).__name__
        self.note = honest() if isinstance(system, str) and weights is None else ""
        self.made: Made | None = None

    def __repr__(self) -> str:
        return f"YourVideo({self.label})"

    def _repr_html_(self) -> str:
        """HTML for where no kernel runs."""
        return f"<p><small>Without a running kernel, or in your own code: <code>{escape(CODE)}</code></small></p>"

    def _ipython_display_(self) -> None:
        from IPython.display import HTML, display

        with suppress(ImportError):  # without ipywidgets there is the sentence
            display(self.panel)
        display(HTML(self._repr_html_()))

    @cached_property
    def panel(self):
        """The panel's controls."""
        import ipywidgets as w

        self.upload = w.FileUpload(accept="video/*", multiple=False, description="Choose a video")
        self.path = w.Text(description="or its path", placeholder="used when filled", layout=w.Layout(width="420px"))
        self.start = w.BoundedFloatText(0.0, min=0.0, max=86400.0, step=0.5, description="from (s)")
        self.length = w.BoundedFloatText(self.seconds, min=0.3, max=MOST_S, step=0.5, description="seconds")
        self.seed = w.BoundedIntText(0, min=0, max=2**31 - 1, description="seed")
        self.guidance = w.Text(description="guidance", placeholder="the preset's best")
        self.button = w.Button(description="Make its sound", button_style="primary")
        self.message, self.links, self.player = w.HTML(), w.HTML(), w.Output()
        self.button.on_click(lambda _: self.run())
        limits = (
            f"<small>Up to {UPLOAD_BYTES / 1e6:.0f} MB; notebook servers may drop uploads over 10 MB without a word "
            "(on Colab over 1 MB): then put the file beside the notebook and give its path.</small>"
        )
        rows = (
            [self.upload, self.path],
            [self.start, self.length, self.seed, self.guidance],
            [self.button, self.message],
        )
        boxes = [w.HBox(row, layout=w.Layout(flex_flow="row wrap")) for row in rows]
        return w.VBox([boxes[0], w.HTML(limits), *boxes[1:], self.player, self.links])

    def run(self) -> None:
        """The work of the button; an error becomes one line in the panel."""
        _ = self.panel
        self.button.disabled, self.links.value, self.player.outputs = True, "", ()
        try:
            path = self.path.value.strip()
            chosen = ("", Path(path).expanduser()) if path else uploaded(self.upload.value)
            if chosen is None:
                raise UsageError("choose a video, or give its path")
            name, video = chosen
            if isinstance(self.system, str):  # once: the next press need not load it again
                from v2a_nb.systems.registry import load

                self._say("loading the system ...")
                self.system = load(self.system, self.weights)
            self.made = soundtrack(
                video, name=name, system=self.system, label=self.label, seed=self.seed.value,
                guidance=_number(self.guidance.value), start=self.start.value, seconds=self.length.value,
                out=self.out, report=self._say, **self._files,
            )  # fmt: skip
            put(self.player, self.made.player.html, repr(self.made.player))
            self.links.value = self.made.links()
            self._say(" ".join(["Done.", *(f"{problem}." for problem in self.made.clip.problems), self.note]))
        except KeyboardInterrupt:
            self._say("stopped", alert=True)
        except V2AError as error:
            self._say(error, alert=True)
        except Exception as error:  # not of our making; the panel has no place for a traceback
            self._say(f"unexpected {type(error).__name__}: {error}", alert=True)
        finally:
            self.button.disabled = False

    def _say(self, line: object, alert: bool = False) -> None:
        text = escape(" ".join(as_text(line).split()))
        self.message.value = f'<span role="{"alert" if alert else "status"}" dir="auto">{text}</span>'


def _number(text: str) -> float | None:
    """The number in the guidance box; None where it is empty."""
    if not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"guidance {text!r} is no number; empty, it is the preset's best")
    return value


def put(output, html: str, plain: str) -> None:
    """Show HTML with scripts in an ``ipywidgets.Output``, through its trait, which works from any thread."""
    shown = {"text/html": html, "text/plain": as_text(plain)}
    output.outputs = ({"output_type": "display_data", "data": shown, "metadata": {}},)
