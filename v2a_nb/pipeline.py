"""The work of the commands ``generate`` and ``demo``: videos go through a system, and the results become files."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2a_nb import media
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import MediaError, UsageError, V2AError
from v2a_nb.hub import SHIPPED

if TYPE_CHECKING:
    from v2a_nb.systems.base import System

SMALLEST = 64  # pixels of the short side, which the encoders read
FEW_BYTES, MOST_BYTES = 300e6, 1.5e9  # of pictures in memory: as wished, and at most (at SMALLEST)


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
    report: Callable[[str], None] | None = None,
    **options: Any,
) -> tuple[list[Path], list[str]]:
    """Write ``STEM.wav`` and ``STEM.mp4`` for each video; one bad video does not stop the others.

    Each file is opened once. Its pictures are decoded once, or a second time where they were too large to be kept in
    memory in full size; its own sound is not decoded.

    Args:
        videos: files; where two have the same stem, the second one's results are called ``STEM.2``.
        out: folder for the results, made if it is missing.
        system, weights, device: as for :func:`v2a_nb.load`.
        seed: for every video.
        start, duration: the part of every video that is used, seconds; left out, all of it.
        report: receives one line per problem.
        options: those of the system's ``generate``, such as ``guidance``.

    Returns:
        the mp4 files that were made, and one line per video that failed.

    Raises:
        UsageError: an impossible part, an unknown system or device, an option that the system does not have.
        MediaError: the folder cannot be made.
        WeightsError: there are no such weights.
    """
    from tqdm import tqdm

    from v2a_nb.systems.registry import class_of, load

    if not (math.isfinite(start) and start >= 0):
        raise UsageError(f"--start {start:g}: seconds from the beginning are needed, 0 or more")
    if duration is not None and not (math.isfinite(duration) and duration > 0):
        raise UsageError(f"--duration {duration:g}: more than 0 seconds are needed")
    known = list(class_of(system).options)
    unknown = [name for name in options if name not in known]
    if unknown:
        raise UsageError(f"{_flags(unknown)}: no option of {system}, which has {_flags(known) or 'none'}")
    out = _folder(out)
    model = load(system, weights, device=device)
    made, failed = [], []
    taken: set[str] = set()
    for video in tqdm(videos, desc="videos", unit="video", disable=len(videos) < 2, file=sys.stderr):
        stem = Path(video).stem
        name = next(n for n in (stem, *(f"{stem}.{k}" for k in range(2, len(videos) + 2))) if n not in taken)
        taken.add(name)
        try:
            _keep(videos, out / f"{name}.mp4")
            with media.Video(video) as file:
                clip = read_small(file, start=start, duration=duration, sound=False)
                sound = generate_one(model, clip, seed=seed, **options)
                media.save_wav(sound, out / f"{name}.wav")
                made.append(_with_sound(file, clip, sound, out / f"{name}.mp4", start=start, duration=duration))
        except V2AError as error:
            failed.append(str(error))
            if report:
                report(str(error))
    return made, failed


def read_small(file: media.Video, *, start: float = 0.0, duration: float | None = None, sound: bool = True) -> Clip:
    """Read a video with pictures as large as memory allows, and no larger than its own.

    The encoders read 64 pixels and the page shows 320, so that a minute of full HD (11 GB of pixels) need not be in
    memory.

    Args:
        file: the opened video.
        start, duration, sound: as for :func:`v2a_nb.open`.

    Raises:
        MediaError: the video cannot be decoded, or is so long that even small pictures are too many.
        UsageError: the part lies outside of the video.
    """
    info = file.info
    seconds = min(info.duration - start, math.inf if duration is None else duration)
    short, long = sorted((info.width, info.height))
    row = 3 * max(1.0, seconds * info.fps) * long / max(short, 1)  # bytes for each pixel of the short side squared
    size = max(SMALLEST, int(math.sqrt(FEW_BYTES / row)))
    if size**2 * row > MOST_BYTES:
        most = int(seconds * MOST_BYTES / (size**2 * row))
        raise MediaError(
            f"{file.path}: {seconds / 60:.0f} minutes are too long for one go; name a part with --start and "
            f"--duration, at most {most} s"
        )
    return file.read(start=start, duration=duration, size=size, sound=sound)


def _with_sound(file: media.Video, clip: Clip, sound: Sound, path: Path, **part: Any) -> Path:
    """Write a clip that was read from ``file`` with another sound, in the file's own size."""
    if (clip.width, clip.height) == (file.info.width, file.info.height):
        return media.save_mp4(clip, sound, path)
    return file.dub(sound, path, **part)


def generate_one(model: System, clip: Clip, *, seed: int = 0, bar: bool = True, **options: Any) -> Sound:
    """Generate one soundtrack, with a progress bar on standard error if it takes longer than two seconds.

    Args:
        model: the system.
        clip: the system gets it without its sound.
        seed, options: those of the system's ``generate``.
        bar: False shows no progress bar.
    """
    from tqdm import tqdm

    steps = model.steps_of(clip, **options)
    with tqdm(
        total=steps, desc=clip.name[:24], unit="step", leave=False, delay=2.0, file=sys.stderr, disable=not bar
    ) as progress:
        return model.generate(clip.silent(), seed=seed, progress=progress.update, **options)


def demo(video: str | None, out: str | Path, *, seed: int = 0) -> dict[str, Path]:
    """Make a soundtrack with V-AURA, a video that has it, and a page that plays it.

    Args:
        video: a file; None takes a Strike World clip that was not in the training data.
        out: folder for the results, made if it is missing.
        seed: for the sound, and for the choice of the Strike World clip.

    Returns:
        the paths of the files: ``mp4``, ``wav`` and ``page``.

    Raises:
        MediaError: the video cannot be read, the folder cannot be made, or a result would replace the video.
        WeightsError: the shipped weights are missing.
    """
    from v2a_nb.systems.registry import load
    from v2a_nb.widgets.player import compare

    out = _folder(out)
    events = None
    with ExitStack() as stack:
        if video is None:
            from v2a_nb.world import strike_world

            item = strike_world(seed=77 + seed, clips=3, seconds=5.12, size=224)[1]
            clip, events, file = item.clip, item.truth["events"], None
            stem, title = "demo", f"Strike World: {item.narration}"
        else:
            _keep([video], out / f"{Path(video).stem}.mp4")
            file = stack.enter_context(media.Video(video))
            clip = read_small(file)
            stem, title = Path(video).stem, Path(video).name
        sound = generate_one(load("vaura", SHIPPED / "vaura"), clip, seed=seed)
        wav, mp4 = media.save_wav(sound, out / f"{stem}.wav"), out / f"{stem}.mp4"
        if file is None:
            media.save_mp4(clip, sound, mp4)
        else:
            _with_sound(file, clip, sound, mp4)
    tracks = {"V-AURA (tiny)": sound}
    if clip.sound is not None:
        tracks["the clip's own sound"] = clip.sound
    page = compare(clip, tracks, events=events, title=title).save(out / f"{stem}.html")
    return {name: Path(os.path.relpath(path)) for name, path in (("wav", wav), ("mp4", mp4), ("page", page))}


def _flags(names: Sequence[str]) -> str:
    """Names of options as the command line writes them."""
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def _folder(out: str | Path) -> Path:
    """Make the folder if it is missing."""
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError(f"{out}: the folder cannot be made: {error.strerror}; choose another --out") from error
    return out


def _keep(videos: Sequence[str | Path], target: Path) -> None:
    """Refuse to write over one of the input videos."""
    for video in videos:
        if target.exists() and Path(video).exists() and target.samefile(video):
            raise MediaError(f"{video}: a result would be written over it; choose another --out")
