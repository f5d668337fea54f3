"""What the commands do: many videos through one system, the demo, and their files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from v2a_nb import media
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import V2AError

HONEST = (
    "Note: the tiny weights have only ever seen Strike World, a drawn world of sticks and hands that hit "
    "wood, metal, glass, ceramic and drums. On real video expect impact sounds at best; everything else "
    "in a picture is unknown to them."
)


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
        options: guidance, temperature, top_k for the system.
        report: receives one line per problem.

    Returns:
        the mp4 files that were made, and one line per video that was not.
    """
    from tqdm import tqdm

    from v2a_nb.systems.registry import load

    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    model = load(system, weights, device=device)
    made, failed = [], []
    taken: dict[str, int] = {}
    for video in tqdm(videos, desc="videos", unit="video", disable=len(videos) < 2, file=sys.stderr):
        stem = Path(video).stem
        taken[stem] = taken.get(stem, 0) + 1
        name = stem if taken[stem] == 1 else f"{stem}.{taken[stem]}"
        try:
            clip = media.open(video, start=start, duration=duration)
            sound = generate_one(model, clip, seed=seed, **options)
            media.save_wav(out / f"{name}.wav", sound)
            made.append(media.save_mp4(out / f"{name}.mp4", clip, sound))
        except V2AError as error:
            failed.append(str(error))
            if report:
                report(str(error))
    return made, failed


def generate_one(model, clip: Clip, *, seed: int = 0, bar: bool = True, **options: object) -> Sound:
    """One soundtrack, with a text progress bar over decoding steps where it takes long."""
    from tqdm import tqdm

    steps = int(clip.duration * 50 * 1.6)
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
    """
    from v2a_nb.systems.registry import load
    from v2a_nb.widgets.player import compare

    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    events = None
    if video is None:
        from v2a_nb.world import strike_world

        item = strike_world(seed=77 + seed, clips=3, seconds=5.12, size=224)[1]
        clip, events = item.clip, item.truth["events"]
        stem, title = "demo", f"Strike World: {item.narration}"
    else:
        clip = media.open(video)
        stem, title = Path(video).stem, Path(video).name
    model = load("vaura")
    sound = generate_one(model, clip, seed=seed)
    tracks = {"V-AURA (tiny)": sound}
    if clip.sound is not None:
        tracks["the clip's own sound"] = clip.sound
    files = {
        "wav": media.save_wav(out / f"{stem}.wav", sound),
        "mp4": media.save_mp4(out / f"{stem}.mp4", clip, sound),
    }
    files["page"] = compare(clip, tracks, events=events, title=title).save(out / f"{stem}.html")
    return {name: Path(os.path.relpath(path)) for name, path in files.items()}
