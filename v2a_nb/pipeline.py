"""What the commands do: many videos through one system, the demo, and their files."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from v2a_nb import media
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import MediaError, UsageError, V2AError

if TYPE_CHECKING:
    from v2a_nb.systems.base import System

SMALLEST = 64  # pixels of the short side: what the encoder looks at
FEW_BYTES, MOST_BYTES = 300e6, 1.5e9  # of pictures that are held at once: if it can be, and if it must be


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
    **options: object,
) -> tuple[list[Path], list[str]]:
    """Write ``STEM.wav`` and ``STEM.mp4`` for each video; one bad video does not stop the others.

    Args:
        videos: files; two of one stem get ``STEM.2`` and so on.
        out: folder, made if it is missing.
        options: what the system has of guidance, steps, temperature and top_k.
        report: receives one line per problem.

    Returns:
        the mp4 files that were made, and one line per video that was not.

    Raises:
        UsageError: a part that no video has, no such system or device, an option that the system does not have.
        MediaError: the folder cannot be made.
        WeightsError: there are no such weights.
    """
    from tqdm import tqdm

    from v2a_nb.systems.registry import class_of, load

    if not (math.isfinite(start) and start >= 0):
        raise UsageError(f"--start {start:g}: seconds from the beginning are needed, 0 or more")
    if duration is not None and not (math.isfinite(duration) and duration > 0):
        raise UsageError(f"--duration {duration:g}: more than 0 seconds are needed")
    known = class_of(system).options
    unknown = [name for name in options if name not in known]
    if unknown:
        raise UsageError(f"{_flags(unknown)}: no option of {system}, which has {_flags(known)}")
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
            clip = open_small(video, start=start, duration=duration)
            sound = generate_one(model, clip, seed=seed, **options)
            media.save_wav(out / f"{name}.wav", sound)
            made.append(media.dub(out / f"{name}.mp4", video, sound, start=start, duration=duration))
        except V2AError as error:
            failed.append(str(error))
            if report:
                report(str(error))
    return made, failed


def open_small(video: str | Path, *, start: float = 0.0, duration: float | None = None) -> Clip:
    """Read a video with pictures as large as memory allows, and no larger than its own.

    The encoder looks at 64 pixels and the page shows 320, so a minute of full HD (11 GB of pixels) need not
    be held; what is written takes its pictures from the file again.

    Raises:
        MediaError: it cannot be read, or is so long that even small pictures are too many.
    """
    seen = media.info(video)
    seconds = min(seen.duration - start, math.inf if duration is None else duration)
    short, long = sorted((seen.width, seen.height))
    row = 3 * max(1.0, seconds * seen.fps) * long / max(short, 1)  # bytes for each pixel of the short side squared
    size = max(SMALLEST, int(math.sqrt(FEW_BYTES / row)))
    if size**2 * row > MOST_BYTES:
        most = int(seconds * MOST_BYTES / (size**2 * row))
        raise MediaError(
            f"{video}: {seconds / 60:.0f} minutes are too long for one go; name a part with --start and "
            f"--duration, at most {most} s"
        )
    return media.open(video, start=start, duration=duration, size=size)


def generate_one(model: System, clip: Clip, *, seed: int = 0, bar: bool = True, **options: object) -> Sound:
    """One soundtrack, with a text progress bar over the system's steps where it takes long."""
    from tqdm import tqdm

    steps = model.steps_of(clip, **options)
    with tqdm(
        total=steps, desc=clip.name[:24], unit="step", leave=False, delay=2.0, file=sys.stderr, disable=not bar
    ) as progress:
        return model.generate(clip.silent(), seed=seed, progress=progress.update, **options)


def demo(video: str | None, out: str | Path, *, seed: int = 0) -> dict[str, Path]:
    """The main job once: a soundtrack, a video that has it, and a page that plays it.

    Args:
        video: a file; left out, a Strike World clip that no weights were trained on.
        out: folder.

    Returns:
        paths of ``mp4``, ``wav`` and ``page``.

    Raises:
        MediaError: the video cannot be read, or the folder cannot be made or holds the video itself.
        WeightsError: the shipped weights are not there.
    """
    from v2a_nb.systems.registry import load
    from v2a_nb.widgets.player import compare

    out = _folder(out)
    events = None
    if video is None:
        from v2a_nb.world import strike_world

        item = strike_world(seed=77 + seed, clips=3, seconds=5.12, size=224)[1]
        clip, events = item.clip, item.truth["events"]
        stem, title = "demo", f"Strike World: {item.narration}"
    else:
        _keep([video], out / f"{Path(video).stem}.mp4")
        clip = open_small(video)
        stem, title = Path(video).stem, Path(video).name
    model = load("vaura")
    sound = generate_one(model, clip, seed=seed)
    tracks = {"V-AURA (tiny)": sound}
    if clip.sound is not None:
        tracks["the clip's own sound"] = clip.sound
    files = {
        "wav": media.save_wav(out / f"{stem}.wav", sound),
    }
    target = out / f"{stem}.mp4"
    files["mp4"] = media.dub(target, video, sound) if video else media.save_mp4(target, clip, sound)
    files["page"] = compare(clip, tracks, events=events, title=title).save(out / f"{stem}.html")
    return {name: Path(os.path.relpath(path)) for name, path in files.items()}


def _flags(names: Sequence[str]) -> str:
    """Options as the command line has them."""
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def _folder(out: str | Path) -> Path:
    """The folder, made if it is missing."""
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError(f"{out}: the folder cannot be made: {error.strerror}; choose another --out") from error
    return out


def _keep(videos: Sequence[str | Path], target: Path) -> None:
    """Refuse to write over a video that is read: nobody expects to lose the original."""
    for video in videos:
        if target.exists() and Path(video).exists() and target.samefile(video):
            raise MediaError(f"{video}: a result would be written over it; choose another --out")
