"""A soundtrack for a video of any length: the video goes through a system block by block.

Only one block's pictures and one block's sound are in memory, so an hour needs as much as a minute. Each block begins
with the pictures that the one before ended with, so that both make a sound for them, and these are cross-faded. A
video of one block gets exactly what ``system.generate`` gives for it.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from v2a_nb.clip import Clip, Sound
from v2a_nb.files import atomic, write_text
from v2a_nb.hits import Hits
from v2a_nb.systems.base import Progress, System, given

BLOCK_S = 10.0
"""Seconds of new pictures in a block."""
OVERLAP_S = 1.0
"""Seconds that a block has in common with the one before it."""
SEAM_S = 0.03
"""Hits of two blocks that are nearer to each other are one."""
SEED_STEP = 1_000_003  # between the seeds of blocks, whose noise would else be the same


@dataclass(frozen=True)
class DoneBlock:
    """A block whose sound was made, as it is kept beside the results.

    Attributes:
        wave: of the block alone, float32 [channels, n].
        tail: the last sound, which is mixed with the next block's.
        new: hits of its new pictures.
        steps: that the system took.
    """

    wave: np.ndarray
    tail: np.ndarray
    new: Hits
    steps: int


class DoneBlocks:
    """Blocks that are done, in a folder: a soundtrack that was interrupted goes on after them.

    Args:
        folder: is made with the first block; :meth:`remove` removes it.
        about: what the sound hangs on, ready for JSON. A folder that was made of something else is emptied.
        anew: empty it in any case.
    """

    ABOUT = "about.json"

    def __init__(self, folder: Path, about: Mapping[str, object], *, anew: bool = False) -> None:
        self.folder, self.about = folder, json.loads(json.dumps(about, default=str))
        known: object = None
        with suppress(OSError, ValueError):
            known = json.loads((folder / self.ABOUT).read_text(encoding="utf-8"))
        if anew or known != self.about:
            self.remove()

    @property
    def count(self) -> int:
        """Blocks that are done, from the first on."""
        number = 0
        while self.load(number) is not None:
            number += 1
        return number

    def load(self, number: int) -> DoneBlock | None:
        """A block; None where it is not done, or its file is damaged."""
        try:
            with np.load(self._path(number), allow_pickle=False) as saved:
                hits = Hits.from_dict(json.loads(str(saved["hits"])))
                return DoneBlock(saved["wave"], saved["tail"], hits, int(saved["steps"]))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def save(self, number: int, block: DoneBlock) -> None:
        """Keep a block, whole or not at all."""
        if not (self.folder / self.ABOUT).exists():
            write_text(self.folder / self.ABOUT, json.dumps(self.about) + "\n")
        with atomic(self._path(number)) as partial, open(partial, "wb") as file:
            hits = json.dumps(block.new.to_dict())
            np.savez(file, wave=block.wave, tail=block.tail, hits=hits, steps=block.steps)

    def remove(self) -> None:
        """Remove the folder, and the one around it where that is empty then."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            self.folder.parent.rmdir()

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:05d}.npz"


def soundtrack(
    system: System,
    blocks: Iterable[Clip],
    *,
    seed: int = 0,
    progress: Progress = None,
    hits: Hits | None = None,
    sensitivity: float | str | None = None,
    followed: Callable[[Hits], object] | None = None,
    done: DoneBlocks | None = None,
    **options: Any,
) -> Iterator[Sound]:
    """The sound of a long video, in pieces that follow each other.

    Args:
        system: any; its ``options_of_next_block`` says what later blocks are conditioned on.
        blocks: the video's consecutive parts of :data:`BLOCK_S` seconds; the last may be shorter. One of them at a time
            is kept. Their own sounds are not used.
        seed: of the first block; the others' follow from it.
        progress: called with 1 after each step of the system.
        hits, sensitivity: as for ``generate``; times are those of all blocks together.
        followed: called with the hits of each block's new pictures: those that are followed, or that the system
            expects.
        done: blocks that were made before, by the same arguments, are taken from there, and others put there. The
            sound is the same, to the sample.
        options: those of the system's ``generate``.

    Yields:
        sounds of one channel, which together are as long as the blocks, to the sample.

    Raises:
        UsageError: as ``system.generate``; under 0.3 s in all.
    """
    before: Clip | None = None  # the pictures that the next block begins with
    tail = np.zeros((1, 0), np.float32)  # their sound, which is still to be mixed with the next block's
    ended = 0.0  # seconds of all blocks so far
    last = -1.0  # time of the last hit that was expected
    number = 0
    for block in blocks:  # enumerate would keep a block while the next one is read
        clip, seconds = block.silent() if before is None else _joined(before, block.silent()), block.duration
        del block
        start = ended - clip.duration + seconds  # of the clip
        here, new = None, Hits()
        made = None if done is None else done.load(number)
        if made is not None:
            new = made.new
            last = max([last, *new.times])
        elif hits is not None:
            here, new = hits.part(start, start + clip.duration), hits.part(ended, ended + seconds).later(ended)
        elif followed or sensitivity is not None:
            expected = getattr(system, "read_hits", system.hits)  # a stand-in may know no more than hits
            here = expected(clip, **given(sensitivity=sensitivity, fps=options.get("fps")))
            # both blocks may have seen the hit that lies at their seam
            new = Hits(hit for hit in here.later(start) if max(ended, last + SEAM_S) <= hit.time_s < ended + seconds)
            last = max([last, *new.times])
        if followed:
            followed(new)
        told = None if hits is None and sensitivity is None else here
        rate = system.sample_rate
        began, ended = round(start * rate), ended + seconds
        samples = round(ended * rate) - began
        before = clip.slice(max(0.0, clip.duration - OVERLAP_S))
        before = replace(before, frames=before.frames.copy())  # a view would keep the whole block
        keep = samples - (round(ended * rate) - round((ended - before.duration) * rate))
        if made is not None:
            if progress:
                progress(made.steps)
            if made.wave.shape[1]:
                yield Sound(made.wave, rate)
            tail = made.tail
        else:
            wave, sent, known, counted = np.zeros((1, 0), np.float32), 0, tail.shape[1], _Counted(progress)
            for piece in system.stream(clip, seed=seed, progress=counted, **given(hits=told), **options):
                wave = np.concatenate([wave, piece.samples], axis=1)
                if wave.shape[1] > known:  # up to there, both blocks have sounds
                    ready = min(keep, wave.shape[1])
                    if ready > sent:
                        yield Sound(_joined_waves(tail, wave)[:, sent:ready], rate)
                        sent = ready
            wave = _joined_waves(tail, Sound(wave, rate).fit(n=samples).samples)
            if keep > sent:
                yield Sound(wave[:, sent:keep], rate)
            tail = wave[:, keep:]
            if done is not None and seconds > BLOCK_S - 1e-3:
                done.save(number, DoneBlock(wave[:, :keep], tail, new, counted.steps))
            del wave
        if number == 0 and seconds > BLOCK_S - 1e-3:  # only then can there be another block
            options = system.options_of_next_block(clip, options)
        number, seed = number + 1, (seed + SEED_STEP) % 2**63
        del clip, made  # before the next block is read
    if tail.shape[1]:
        yield Sound(tail, rate)


class _Counted:
    """Calls ``progress``, and knows how many steps it was told of."""

    def __init__(self, progress: Progress) -> None:
        self.progress, self.steps = progress, 0

    def __call__(self, steps: int) -> None:
        self.steps += steps
        if self.progress:
            self.progress(steps)


def _joined(first: Clip, second: Clip) -> Clip:
    """Two clips, one after the other."""
    frames = np.concatenate([first.frames, second.frames])
    times = np.concatenate([first.times, first.duration + second.times])
    later = np.append(True, np.diff(times) > 0)  # the frame at the cut may be in both
    if not later.all():
        frames, times = frames[later], times[later]
    return replace(second, frames=frames, times=times, duration=first.duration + second.duration)


def _joined_waves(tail: np.ndarray, wave: np.ndarray) -> np.ndarray:
    """A wave [channels, n] that begins with a crossfade from another's tail."""
    n = tail.shape[1]
    return np.concatenate([_crossfade(tail, wave[:, :n]), wave[:, n:]], axis=1)


def _crossfade(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """From one sound to another as long, at constant power, since they are not the same waves: [channels, n]."""
    angle = (np.arange(first.shape[1]) + 0.5) / max(1, first.shape[1]) * (np.pi / 2)
    return np.clip(first * np.cos(angle) + second * np.sin(angle), -1, 1).astype(np.float32)
