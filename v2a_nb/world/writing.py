"""Writing Strike World to disk: ``clips/*.mp4``, ``stems/*.wav`` and ``truth.json``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from v2a_nb.errors import UsageError, V2AError
from v2a_nb.files import write_text
from v2a_nb.world.counterfactual import FACTORS, pairs_of
from v2a_nb.world.dataset import strike_world
from v2a_nb.world.recording import VERSION

UNFINISHED = ".unfinished"
"""A file in the folder of a world whose ``truth.json`` is not there yet."""


def write_world(
    out: str | Path,
    clips: int = 16,
    *,
    seconds: float = 2.56,
    seed: int = 0,
    size: int = 112,
    fps: float = 25.0,
    sample_rate: int = 16000,
    mismatched: float = 0.0,
    pairs: str | None = None,
    variety: str = "wide",
    style: str = "camera",
    version: int = VERSION,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Render clips and write them with their truth.

    ``truth.json`` gets its name when it is complete, after all clips: a folder that has one is complete.

    Args:
        out: the folder to make; it must not hold a ``truth.json`` yet, nor files in ``clips`` or ``stems``, but for
            those of a world that was not finished.
        clips: number of clips, or of pairs where ``pairs`` is given.
        seconds, seed, size, fps, sample_rate, mismatched, variety: as for :func:`~v2a_nb.world.dataset.strike_world`.
        pairs: a factor of :data:`~v2a_nb.world.counterfactual.FACTORS`: every clip is written twice,
            as ``ID.a`` and ``ID.b``, with this factor changed.
        style: as for :func:`~v2a_nb.world.dataset.strike_world`; ``truth.json`` names it if it is not ``"camera"``.
        version: of the world, which ``truth.json`` names.
        progress: called with (done, total) after each clip.

    Returns:
        the path of ``truth.json``.

    Raises:
        UsageError: an argument is out of range, or ``size`` is odd: H.264 holds no such pictures.
        V2AError: the folder holds a world already or other clips, or too few clips allow the factor.
    """
    from v2a_nb import media

    if pairs is not None and pairs not in FACTORS:
        raise UsageError(f"factor {pairs!r} is unknown; choose one of {', '.join(FACTORS)}")
    out = Path(out)
    if (out / "truth.json").exists():
        raise V2AError(f"{out} already holds a world (truth.json); choose another folder or remove it")
    if size % 2:
        raise UsageError(f"size={size}: an even number of pixels is needed, since H.264 holds no others")
    keep = {"seconds": seconds, "size": size, "fps": fps, "sample_rate": sample_rate}
    options = {**keep, "variety": variety, "mismatched": mismatched, "style": style, "version": version}
    world = strike_world(seed, clips if pairs is None else max(4 * clips, 8), **options)
    items = list(world) if pairs is None else pairs_of(world, pairs, clips)
    for folder in (out / "clips", out / "stems"):
        folder.mkdir(parents=True, exist_ok=True)
        if not (out / UNFINISHED).exists() and any(folder.iterdir()):
            raise V2AError(f"{folder} holds files that are of no world and are kept; choose another folder")
    write_text(out / UNFINISHED, "what is in clips and stems may be replaced: its world has no truth.json yet\n")
    entries = []
    for done, item in enumerate(items, 1):
        media.save_mp4(item.clip, None, out / item.truth["video"])
        for name, sound in item.stems.items():
            media.save_wav(sound, out / item.truth["stems"][name])
        entries.append(item.truth)
        if progress:
            progress(done, len(items))
    truth = {
        "world": "strike", "version": version, "seed": seed, "fps": world.settings.fps, "sample_rate": sample_rate,
        "size": size, "variety": variety,
        **({} if style == "camera" else {"style": style}), "clips": entries,
    }  # fmt: skip
    path = write_text(out / "truth.json", json.dumps(truth, indent=1))
    (out / UNFINISHED).unlink()
    return path
