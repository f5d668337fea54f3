"""The work of ``generate``, ``demo`` and ``saliency``: videos go through a system, and the results become files."""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import os
import shlex
import sys
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2a_nb import __version__, media
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import MediaError, UsageError, V2AError
from v2a_nb.files import Ledger, fingerprint, noting, write_text
from v2a_nb.hits import AUTO, Hits
from v2a_nb.hub import SHIPPED, find_weights

if TYPE_CHECKING:
    from v2a_nb.saliency.result import Saliency
    from v2a_nb.systems.base import System
    from v2a_nb.systems.long_videos import DoneBlocks

SMALLEST = 64  # pixels of the short side, which the encoders read
BLOCK_BYTES = 30e6  # of pictures in a block
BLOCKS = ".v2a-nb.blocks"  # folder of the blocks that are done, beside the results
EXPLAIN_S = 20.0  # seconds of a video that are read around what is to be explained
PAGE_BYTES, PAGE_S = 100e6, 120.0  # of pictures that are read for a page, and seconds that it shows at most


def generate_files(
    videos: Sequence[str | Path],
    out: str | Path,
    *,
    system: str = "vaura",
    weights: str | None = None,
    device: str = "cpu",
    seed: int = 0,
    start: float = 0.0,
    duration: float | None = None,
    audio_track: int | None = None,
    output: media.Output | None = None,
    hits: str | Path | Hits | None = None,
    save_hits: bool = False,
    stream: bool = False,
    overwrite: bool = False,
    report: Callable[[str], None] | None = None,
    **options: Any,
) -> tuple[list[Path], list[str]]:
    """Write ``STEM.wav`` and ``STEM.mp4`` for each video; one bad video does not stop the others.

    A video may be of any length: one block of it is in memory at a time (:mod:`v2a_nb.systems.long_videos`). Its
    pictures are decoded once where they can be copied into the result, else twice; its own sound is not decoded.

    A command that was ended goes on where it was when it is given again: what is done of a video is kept beside the
    results, in a hidden folder, until these are written.

    What was made from the same video by the same system with the same options is not made again. A file that has the
    name of a result and is not ours (see :class:`~v2a_nb.files.Ledger`), or that another system made, is kept: then
    that video fails. With other options, such as another seed, the result is replaced.

    Args:
        videos: files, or folders, whose videos are taken with those in all folders below them.
        out: folder for the results, made if it is missing. What was found in a folder below ``FOLDER`` has its results
            in a folder of the same name. Where two videos have the same stem, the second one's results are called
            ``STEM.2``.
        system, weights, device: as for :func:`v2a_nb.load`.
        seed: for every video.
        start, duration: the part of every video that is used, seconds; left out, all of it.
        audio_track: which of a video's own sounds ``output`` keeps, from 0; left out, the one that players choose.
        output: what the files are like.
        hits: those that are to sound in the one video that there is, or a file of them.
        save_hits: also write ``STEM.hits.json``, the hits that were followed, or that the system expects; in the
            time of the whole video.
        stream: while a sound is made, what there is of it can be played from ``STEM.stream.wav``.
        overwrite: make everything anew and replace files of the same names, whoever made them; never a video of
            ``videos``.
        report: receives one line per problem, and per result that was there already.
        options: those of the system's ``generate``, such as ``guidance``.

    Returns:
        the mp4 files that were made, and one line per video that failed.

    Raises:
        UsageError: an impossible part, an unknown system or device, an option that the system does not have.
        MediaError: the folder cannot be made.
        WeightsError: there are no such weights.
    """
    from tqdm import tqdm

    from v2a_nb.systems.long_videos import BLOCK_S
    from v2a_nb.systems.registry import class_of, load

    _check_part(start, duration)
    known = list(class_of(system).options)
    if hits is not None:
        hits = options["hits"] = hits if isinstance(hits, Hits) else Hits.load(hits)
    unknown = [name for name in options if name not in known]
    if unknown:
        raise UsageError(f"{_flags(unknown)}: no option of {system}, which has {_flags(known) or 'none'}")
    if audio_track is not None and audio_track < 0:
        raise UsageError(f"--audio-track {audio_track}: tracks are counted from 0")
    output, out = output or media.Output(), _folder(out)
    model = load(system, weights, device=device)
    by = {"system": str(system), "weights": None if weights is None else str(weights)}
    settings = {
        "weights_files": _state_of(weights or system), "version": __version__, "device": device, "seed": seed,
        "start": start, "duration": duration, "audio_track": audio_track, "output": asdict(output), **options,
        **({} if hits is None else {"hits": hits.to_dict()}),
    }  # fmt: skip
    made, failed, done = [], [], 0
    report = report or (lambda line: None)

    def fail(path: str | Path, error: Exception) -> None:
        text = str(error) if isinstance(error, V2AError) else f"{path}: {error or type(error).__name__}"
        failed.append(text)
        report(text)

    inputs = list(_inputs(videos, report, fail))
    if hits is not None and len(inputs) > 1:
        raise UsageError(f"--hits: hits are of one video, and there are {len(inputs)}")
    endings = (*output.endings, "hits.json") if save_hits else output.endings
    shelf = _Shelf(out, [path for path, _ in inputs], overwrite, by, settings)
    for path, below in tqdm(inputs, desc="videos", unit="video", disable=len(inputs) < 2, file=sys.stderr):
        try:
            files = shelf.place(path, str(below / _short(Path(path).stem)), endings)
            if files.done:
                done += 1
                report(f"already made: {files.paths[1]}")
                continue
            part = {"start": start, "duration": duration}
            followed: list[Hits] = []
            with ExitStack() as stack:
                file = stack.enter_context(media.Video(path, audio_track=audio_track))
                _check_length(file, output.longest(model.sample_rate), **part)
                notes: dict[str, Any] = {"followed": followed.append} if save_hits else {}
                if stream:
                    growing = files.paths[1].with_name(f"{files.paths[1].stem}.stream.wav")
                    notes["through"] = partial(media.growing_wav, path=growing, overwrite=overwrite)
                    report(f"can be played while it is made: {growing}")
                notes["done"] = blocks = shelf.blocks(path, files.paths[1])
                if blocks.count:
                    report(f"{path}: goes on after the {blocks.count * BLOCK_S:.0f} s that were made before")
                sound = stack.enter_context(generate_long(model, file, seed=seed, **part, **notes, **options))
                for problem in file.problems:
                    report(f"{path}: {problem}")
                output.write(file, sound, files.paths, files.note, report, **part)
            if save_hits:
                with noting(files.note):
                    write_text(files.paths[2], Hits(hit for some in followed for hit in some).later(start).text())
            blocks.remove()
            made.append(files.paths[1])
        except Exception as error:  # of whatever kind: the other videos are made
            fail(path, error)
    if failed:
        report(f"{len(failed)} of {len(failed) + len(made) + done} videos failed")
    return made, failed


def _inputs(
    videos: Sequence[str | Path], report: Callable[[str], None], fail: Callable[[str | Path, Exception], None]
) -> Iterator[tuple[str | Path, Path]]:
    """Each video, and the folder below the named one in which it was found."""
    for video in videos:
        text = os.path.expanduser(video)
        if not (text and os.path.isdir(text)):
            yield text if str(video).startswith("~") else video, Path()
            continue
        try:
            for path in media.find_videos(text, report):
                yield path, path.relative_to(text).parent
        except (V2AError, OSError) as error:
            fail(video, error)


@dataclass(frozen=True)
class _Files:
    """The paths of the results of one video.

    Attributes:
        paths: of the results, in the order of their endings.
        done: whether all are there already, made with the same settings.
        note: writes into the ledger that one of them is made, see :func:`~v2a_nb.files.noting`.
    """

    paths: tuple[Path, ...]
    done: bool
    note: Callable[[Path, Path], None]


class _Shelf:
    """Names for the results in a folder, none of which replaces a file that is not ours.

    Args:
        out: the folder.
        videos: all inputs, none of which is ever replaced.
        overwrite: whether other files may be replaced.
        by: what must be the same for a result to be replaced without ``overwrite``.
        settings: what must also be the same for it to stay as it is.
    """

    def __init__(
        self, out: Path, videos: Sequence[str | Path], overwrite: bool, by: dict[str, Any], settings: dict[str, Any]
    ) -> None:
        self.out, self.overwrite, self.ledger = out, overwrite, Ledger(out)
        self.by, self.settings = by, json.loads(json.dumps(settings, default=str))
        self._taken: set[str] = set()
        self._inputs = {_identity(os.path.expanduser(video)): video for video in videos}

    def place(self, video: str | Path | None, stem: str, endings: Sequence[str]) -> _Files:
        """Choose names for the results of a video: ``STEM.ENDING``, or ``STEM.2.ENDING`` where another video has those.

        Args:
            video: the input; None: the clip of Strike World.
            stem: relative to the folder.
            endings: of the results.

        Raises:
            MediaError: the input cannot be read, or a file of that name must be kept.
        """
        source = None if video is None else media.check_file(video)
        for number in count(1):
            name = stem if number == 1 else f"{stem}.{number}"
            paths = tuple(self.out / f"{name}.{ending}" for ending in endings)
            key = unicodedata.normalize("NFC", name).casefold()  # some disks know no other difference
            origins = [self.ledger.origin(path) for path in paths]
            others = [origin for origin in origins if origin and not _is_input(source, origin["input"])]
            if key not in self._taken and (self.overwrite or not others):
                break
        self._taken.add(key)
        ours = [origin if origin and self.by.items() <= origin.items() else None for origin in origins]
        for path, origin, other in zip(paths, ours, origins, strict=True):
            if path.exists() and _identity(path) in self._inputs:
                raise MediaError(
                    f"{self._inputs[_identity(path)]}: a result would be written over it; choose another --out"
                )
            if os.path.lexists(path) and not self.overwrite and not origin:
                whose = f"made by {other['system']}" if other else "not made by this command, or changed since"
                raise MediaError(
                    f"{'' if video is None else f'{video}: '}{path} is there already, {whose}; choose another --out, "
                    "or give --overwrite"
                )
        done = not self.overwrite and all(origin and origin["settings"] == self.settings for origin in ours)
        origin = {**self.by, "settings": self.settings}

        def note(path: Path, partial: Path) -> None:
            if "input" not in origin:
                about = {} if source is None else {"path": os.path.abspath(source), **fingerprint(source)}
                origin["input"] = about
            self.ledger.record(path, origin, partial)

        return _Files(paths, done, note)

    def blocks(self, video: str | Path, result: Path) -> DoneBlocks:
        """Blocks of a video's result that an ended command with the same settings has made."""
        from v2a_nb.systems.long_videos import DoneBlocks

        state = os.stat(media.check_file(video))
        name = Path(os.path.relpath(result, self.out)).as_posix()
        about = {
            **self.by,
            "settings": self.settings,
            "input": [os.path.abspath(video), state.st_size, state.st_mtime_ns],
        }
        folder = self.out / BLOCKS / f"{zlib.crc32(os.fsencode(name)):08x}"
        return DoneBlocks(folder, {**about, "result": name}, anew=self.overwrite)


def _is_input(video: Path | None, before: dict[str, Any]) -> bool:
    """Whether a result was made from what is now in a file; it is read only where its path or its time is another."""
    if video is None or not before:
        return video is None and not before
    about = video.stat()
    if about.st_size != before["size"]:
        return False
    if about.st_mtime_ns == before["mtime_ns"] and os.path.abspath(video) == before["path"]:
        return True
    return fingerprint(video)["sha256"] == before["sha256"]


def _identity(path: str | Path) -> tuple[int, int] | None:
    """What two names of one file have in common; None where there is no file."""
    try:
        about = os.stat(path)
    except (OSError, ValueError):
        return None
    return about.st_dev, about.st_ino


def _short(stem: str) -> str:
    """A stem that leaves room for a number and an ending; most disks take 255 bytes."""
    return os.fsencode(stem)[:235].decode("utf-8", "ignore") if len(os.fsencode(stem)) > 235 else stem


def _state_of(weights: str | Path) -> str:
    """A digest of sizes and times of a folder of weights: it changes when they are trained again."""
    folder = find_weights(weights)
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors"))
    states = [(p.relative_to(folder).as_posix(), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    return hashlib.sha256(repr(states).encode()).hexdigest()[:16]


def _check_part(start: float, duration: float | None) -> None:
    if not (math.isfinite(start) and start >= 0):
        raise UsageError(f"--start {start:g}: seconds from the beginning are needed, 0 or more")
    if duration is not None and not (math.isfinite(duration) and duration > 0):
        raise UsageError(f"--duration {duration:g}: more than 0 seconds are needed")


def _check_length(file: media.Video, longest: float, start: float, duration: float | None) -> None:
    """Refuse a sound that is too long for its file before it is made.

    Args:
        longest: seconds that the file holds.
        start, duration: the part of the video that is used, seconds.

    Raises:
        UsageError: the video is that long, as its packets say, since headers lie.
    """
    most = start + longest
    if (duration is None or duration > longest) and file.info.duration > most and file.scan() > most:
        raise UsageError(
            f"{file.path}: a wav holds {longest / 3600:.0f} hours of sound (4 GB), and this video is longer; "
            "give --duration, or --format flac"
        )


def generate_long(
    model: System,
    file: media.Video,
    *,
    start: float = 0.0,
    duration: float | None = None,
    hits: Hits | None = None,
    followed: Callable[[Hits], object] | None = None,
    through: Callable[[Iterator[Sound]], Iterable[Sound]] | None = None,
    done: DoneBlocks | None = None,
    bar: bool = True,
    **options: Any,
) -> media.SpooledSound:
    """Generate the soundtrack of a video of any length, of which one block at a time is in memory.

    A progress bar is shown on standard error if it takes longer than two seconds.

    Args:
        model: the system.
        file: the opened video.
        start, duration: the part that is used, seconds; left out, all of it.
        hits: those that are to sound, in the time of the whole video.
        followed: see :func:`~v2a_nb.systems.long_videos.soundtrack`.
        through: what is to be done with the pieces of the sound as they come; it passes them on.
        done: see :func:`~v2a_nb.systems.long_videos.soundtrack`.
        bar: False shows no progress bar.
        options: ``seed``, and those of the system's ``generate``.

    Raises:
        MediaError, UsageError: as :func:`v2a_nb.open` and the system's ``generate``.
    """
    from tqdm import tqdm

    from v2a_nb.systems.long_videos import soundtrack

    if hits is not None:
        hits.check_within(file.info.duration, str(file.path))
        options["hits"] = hits.part(start, math.inf if duration is None else start + duration)
    seconds = min(file.info.duration - start, math.inf if duration is None else duration)
    title = Path(file.path).stem[:24]
    with tqdm(desc=title, unit="step", leave=False, delay=2.0, file=sys.stderr, disable=not bar) as progress:

        def count_steps(clip: Clip) -> None:
            if progress.total is None:
                steps = {name: value for name, value in options.items() if name != "seed"}
                progress.total = round(model.steps_of(clip, **steps) * max(1.0, seconds / clip.duration))

        blocks = _blocks(file, start, duration, count_steps)
        pieces = soundtrack(model, blocks, progress=progress.update, followed=followed, done=done, **options)
        return media.SpooledSound(through(pieces) if through else pieces)


def _blocks(file: media.Video, start: float, duration: float | None, read: Callable[[Clip], None]) -> Iterator[Clip]:
    """Consecutive parts of a video, with small pictures; none is kept here.

    Args:
        read: called with each.
    """
    from v2a_nb.systems.long_videos import BLOCK_S

    for block in file.windows(
        BLOCK_S, start=start, duration=duration, size=_size(file, BLOCK_S, BLOCK_BYTES), sound=False
    ):
        read(block)
        blocks = [block]
        del block  # nothing here keeps it while the system works on it
        yield blocks.pop()
        _give_memory_back()


def _give_memory_back() -> None:
    """Return freed memory to the system. glibc keeps what lies between pieces in use, and grows from block to block."""
    with suppress(OSError, AttributeError):  # other systems' C libraries have no such function
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _size(file: media.Video, seconds: float, most: float) -> int:
    """Pixels of the short side of so many seconds of pictures that need ``most`` bytes, as encoders read at least."""
    short, long = sorted((file.info.width, file.info.height))
    return max(SMALLEST, int(math.sqrt(most / (3 * seconds * file.info.fps * long / max(short, 1)))))


def demo(
    video: str | None,
    out: str | Path,
    *,
    system: str | None = None,
    seed: int = 0,
    start: float = 0.0,
    duration: float | None = None,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
    report: Callable[[str], None] = print,
) -> dict[str, Path]:
    """Make a soundtrack, a video that has it, and a page that plays it and marks the hits that were expected.

    Args:
        video: a file; None takes a Strike World clip that was not in the training data.
        out: folder for the results, made if it is missing.
        system: as for :func:`v2a_nb.load`. Left out, for a video the one that scores best on real clips, by the
            ``results.json`` of the shipped weights; for a Strike World clip V-AURA.
        seed: for the sound, and for the choice of the Strike World clip.
        start, duration: the part that is used, seconds; left out, all of it.
        overwrite: replace files of the same names, whoever made them; left out, only earlier results of ``demo`` from
            the same video are replaced.
        say: receives a line that says how sure the system is, and one that says how its hits are changed.
        report: receives one line per problem.

    Returns:
        the paths of the files: ``wav``, ``mp4``, ``page``, and for a video of at most 30 s ``edit``, a page in which
        the hits can be changed; without ``page`` and ``edit`` where they could not be made.

    Raises:
        MediaError: the video cannot be read, the folder cannot be made, or a result would replace another file.
        UsageError: an impossible part, an unknown system.
        WeightsError: the shipped weights are missing.
    """
    from v2a_nb.scores.real_results import best_sensitivity, best_system
    from v2a_nb.systems.registry import load, with_weights
    from v2a_nb.widgets.edit_hits import MOST_S, edit_hits
    from v2a_nb.widgets.player import compare

    _check_part(start, duration)
    out, output = _folder(out), media.Output()
    by = {"system": "v2a-nb demo"}
    shelf = _Shelf(out, [] if video is None else [video], overwrite, by, {"seed": seed})
    stem = "demo" if video is None else _short(Path(video).stem)
    files = shelf.place(video, stem, (*output.endings, "html", "edit.html"))
    wav, mp4, page, edit = files.paths
    clip: Clip | None = None
    hits, sensitivity, whole = None, None, False
    system = system or ("vaura" if video is None else best_system(with_weights()))
    with ExitStack() as stack:
        model = load(system, SHIPPED / system if system in with_weights() else None)
        if video is None:
            from v2a_nb.systems.base import part_of
            from v2a_nb.world import strike_world

            item = strike_world(seed=77 + seed, clips=3, seconds=5.12, size=224)[1]
            clip, events = part_of(item.clip, start, duration), item.truth["events"]
            events = [{**event, "time_s": event["time_s"] - start} for event in events]
            title = f"Strike World: {item.narration}"
            sound = model.generate(clip.silent(), seed=seed)
            output.write(clip, sound, (wav, mp4), files.note)
        else:
            file = stack.enter_context(media.Video(video))
            part = {"start": start, "duration": duration}
            _check_length(file, output.longest(model.sample_rate), **part)
            sensitivity = best_sensitivity(system) if "sensitivity" in model.options else None
            whole = start == 0 and duration is None and file.info.duration <= MOST_S
            how: dict[str, Any] = {} if sensitivity is None else {"sensitivity": sensitivity}
            if whole and sensitivity is not None:  # the hits of the pages are then those of the sound
                clip = file.read(size=_size(file, file.info.duration, PAGE_BYTES))
                hits = _expected_hits(model, clip)
                if hits is not None:
                    how = {"hits": hits.at(sensitivity).part(0.0, clip.duration)}
            sound = stack.enter_context(generate_long(model, file, seed=seed, **part, **how))
            for problem in file.problems:
                report(f"{video}: {problem}")
            output.write(file, sound, (wav, mp4), files.note, report, **part)
            if clip is None:
                seconds = min(PAGE_S, sound.duration)
                clip = file.read(start=start, duration=seconds, size=_size(file, seconds, PAGE_BYTES))
            title, events = Path(video).name, None
            title += f", the first {PAGE_S:.0f} s" if sound.duration > PAGE_S + 1 else ""
            sound = sound.first(clip.duration)
        hits = _expected_hits(model, clip) if hits is None else hits
    if hits is not None and sensitivity == AUTO:
        hits = hits.fitted.part(0.0, clip.duration)
    if hits is not None:
        hollow = " (hollow in the page)" if events is None and not all(hit.sure for hit in hits.likely) else ""
        say(f"{model.title}: {hits.summary}{hollow}")
        events = hits.likely if events is None else events  # of a Strike World clip, the truth is shown
    tracks = {f"{model.title} (tiny)" if system in with_weights() else model.title: sound}
    if clip.sound is not None:
        tracks["the clip's own sound"] = clip.sound
    results = {"wav": wav, "mp4": mp4}
    try:
        with noting(files.note):
            compare(clip, tracks, events=events, title=title).save(page, overwrite=True)
            results["page"] = page
            if hits is not None and whole and sound.duration <= MOST_S and "hits" in model.options:
                shown = {} if sensitivity is None else {"sensitivity": sensitivity}
                editor = edit_hits(model, clip, hits, seed=seed, **shown)
                editor.before = sound
                results["edit"] = editor.save(edit, overwrite=True)
    except Exception as error:  # the sound and the video do not depend on the pages
        at = edit if "page" in results else page
        report(str(error) if isinstance(error, V2AError) else f"{at}: {error or type(error).__name__}")
    results = {name: Path(os.path.relpath(path)) for name, path in results.items()}
    if "edit" in results:
        words = ["v2a-nb", "generate", str(video), "--system", system, "--out", "made"]
        again = shlex.join([*words, *(["--seed", str(seed)] if seed else []), "--hits"])
        say(f"To change its hits: {results['edit']}, save them there, then {again} FILE")
    return results


def explain_video(
    video: str | Path,
    out: str | Path,
    *,
    system: str = "vaura",
    weights: str | None = None,
    device: str = "cpu",
    method: str | None = None,
    baseline: str = "blur",
    window: tuple[float, float] | None = None,
    target: str | None = None,
    prompt: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Callable[[int], object] | None = None,
    report: Callable[[str], None] = print,
) -> tuple[Saliency, dict[str, Path]]:
    """Write where and when a system looked for a part of its sound: ``v2a-nb saliency``.

    Args:
        video: a file. Of a long one, the part around the window is read.
        out: folder for the results, made if it is missing.
        system, weights, device: as for :func:`v2a_nb.load`.
        method, baseline, target, prompt, seed: as for :func:`v2a_nb.saliency`.
        window: seconds of the sound that are explained; left out, around the hit that the system is surest of.
        overwrite: replace files of the same names, whoever made them.
        progress: as for :func:`v2a_nb.saliency`.
        report: receives one line per problem.

    Returns:
        the map, and the paths of its files: ``overlay.mp4``, ``saliency.npz``, ``scores.json`` and ``index.html``.

    Raises:
        MediaError: the video cannot be read, or a result would replace another file.
        UsageError: as :func:`v2a_nb.saliency`.
    """
    from v2a_nb.plots.saliency_maps import overlay
    from v2a_nb.saliency.explain import explain
    from v2a_nb.saliency.judges import onset_pointing
    from v2a_nb.saliency.methods import DEFAULT
    from v2a_nb.systems.registry import load
    from v2a_nb.widgets.saliency_view import saliency_page

    out, method = _folder(out), method or DEFAULT
    shelf = _Shelf(out, [video], overwrite, {"system": "v2a-nb saliency"}, {"system": system, "method": method})
    names = {"overlay": "mp4", "saliency": "npz", "scores": "json", "index": "html"}
    places = {stem: shelf.place(video, stem, [ending]) for stem, ending in names.items()}
    files = {stem: place.paths[0] for stem, place in places.items()}
    model = load(system, weights, device=device)
    with media.Video(video) as file:
        middle = 0.0 if window is None else (window[0] + window[1]) / 2
        start = max(0.0, min(middle - EXPLAIN_S / 2, file.info.duration - EXPLAIN_S))
        clip = file.read(start=start, duration=EXPLAIN_S, size=_size(file, EXPLAIN_S, PAGE_BYTES))
        for problem in file.problems:
            report(f"{video}: {problem}")
    if window is None:
        window = _surest(model, clip)
    inside = (window[0] - start, window[1] - start)
    made = explain(
        model, clip, window=inside, method=method, baseline=baseline, seed=seed, target=target, prompt=prompt,
        progress=progress,
    )  # fmt: skip
    notes = [*made.notes, "of a real clip nobody knows which place made the sound: these checks know no truth"]
    if start:
        notes.append(f"times are those of the part that begins at {start:.2f} s")
    scores = onset_pointing(made, clip.sound)
    made = replace(made, notes=tuple(notes), scores={**made.scores, **scores})
    about = {
        "system": system, "prompt": prompt, "method": made.method, "baseline": made.baseline, "target": made.target,
        "window": list(made.window), "part_start_s": start, "value": made.value,
        "completeness_error": made.completeness_error, "peak_s": made.peak_s, "place": list(made.place),
        "verdict": made.verdict, "marks": list(made.marks), "scores": dict(made.scores), "notes": list(made.notes),
        "fps": made.fps, "curve": [round(float(v), 6) for v in made.curve],
    }  # fmt: skip
    with noting(places["scores"].note):
        media.save_mp4(overlay(made, clip), clip.sound, files["overlay"])
        made.save(files["saliency"])
        write_text(files["scores"], json.dumps(about, indent=1))
        write_text(files["index"], saliency_page(made, clip, clip.sound, Path(video).name))
    return made, files


def _surest(model: System, clip: Clip) -> tuple[float, float]:
    """The moments around the hit that a system is surest of; of one that expects none, the beginning."""
    hits = _expected_hits(model, clip)
    time = max(hits, key=lambda hit: hit.probability).time_s if hits else 0.15
    end = min(clip.duration, time + 0.15)
    return max(0.0, min(time - 0.15, end - 0.3)), end


def _expected_hits(model: System, clip: Clip) -> Hits | None:
    """All hits that a system expects, also what it doubts; None of a system that knows no hits."""
    try:
        return model.hits(clip.silent(), sensitivity=1.0)
    except UsageError:
        return None


def _flags(names: Sequence[str]) -> str:
    """Names of options as the command line writes them."""
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def _folder(out: str | Path) -> Path:
    """Make the folder if it is missing."""
    out = Path(os.path.expanduser(out))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError(f"{out}: the folder cannot be made: {error.strerror}; choose another --out") from error
    return out
