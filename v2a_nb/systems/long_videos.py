"""A soundtrack for a video of any length: the video goes through a system block by block.

Only one block's pictures and one block's sound are in memory, so an hour needs as much as a minute. Each block begins
with the pictures that the one before ended with, so that both make a sound for them, and these are cross-faded. A
video of one block gets exactly what ``system.generate`` gives for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from v2a_nb.clip import Clip, Sound
from v2a_nb.hits import Hits
from v2a_nb.systems.base import Progress, System, given

BLOCK_S = 10.0
"""Seconds of new pictures in a block."""
OVERLAP_S = 1.0
"""Seconds that a block has in common with the one before it."""
SEAM_S = 0.03
"""Hits of two blocks that are nearer to each other are one."""
SEED_STEP = 1_000_003  # between the seeds of blocks, whose noise would else be the same


def soundtrack(
    system: System,
    blocks: Iterable[Clip],
    *,
    seed: int = 0,
    progress: Progress = None,
    hits: Hits | None = None,
    sensitivity: float | None = None,
    followed: Callable[[Hits], object] | None = None,
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
    first = True
    for block in blocks:  # enumerate would keep a block while the next one is read
        clip, seconds = block.silent() if before is None else _joined(before, block.silent()), block.duration
        del block
        start = ended - clip.duration + seconds  # of the clip
        here, new = None, Hits()
        if hits is not None:
            here, new = hits.part(start, start + clip.duration), hits.part(ended, ended + seconds).later(ended)
        elif followed or sensitivity is not None:
            here = system.hits(clip, **given(sensitivity=sensitivity))
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
        wave, sent, known = np.zeros((1, 0), np.float32), 0, tail.shape[1]
        for piece in system.stream(clip, seed=seed, progress=progress, **given(hits=told), **options):
            wave = np.concatenate([wave, piece.samples], axis=1)
            if wave.shape[1] > known:  # up to there, both blocks have sounds
                ready = min(keep, wave.shape[1])
                if ready > sent:
                    yield Sound(_joined_waves(tail, wave)[:, sent:ready], rate)
                    sent = ready
        wave = _joined_waves(tail, Sound(wave, rate).fit(n=samples).samples)
        if keep > sent:
            yield Sound(wave[:, sent:keep], rate)
        if first and seconds > BLOCK_S - 1e-3:  # only then can there be another block
            options = system.options_of_next_block(clip, options)
        first, seed, tail = False, (seed + SEED_STEP) % 2**63, wave[:, keep:]
        del clip, wave  # before the next block is read
    if tail.shape[1]:
        yield Sound(tail, rate)


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
