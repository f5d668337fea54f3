"""What a system expects to sound in a clip, before it makes a sound: hits with their probability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from v2a_nb.clip import Clip
from v2a_nb.systems.base import System, evaluating
from v2a_nb.systems.long_videos import BLOCK_S, OVERLAP_S

SURE, LEAST = 0.75, 0.1
"""A hit is sure from this probability on, and doubtful between the two; what is below is not counted."""
Hit = Mapping[str, float]


def expected_hits(system: System, clip: Clip) -> list[dict[str, float]] | None:
    """The hits that a system expects in a clip of any length; None where it expects none of any clip.

    Args:
        system: its encoder has ``hits(clip)``.
        clip: its sound is not used.

    Returns:
        ``time_s``, ``probability`` and the place ``x``, ``y`` in [0, 1] of each, by time.
    """
    encoder = getattr(system, "encoder", None)
    if not hasattr(encoder, "hits"):
        return None
    clip, hits, start = clip.silent(), [], 0.0
    with evaluating(encoder):
        while start < clip.duration - 1e-6:
            before, end = max(0.0, start - OVERLAP_S), start + BLOCK_S
            part = clip.slice(before, min(clip.duration, end + OVERLAP_S))
            found = [{**hit, "time_s": hit["time_s"] + before} for hit in encoder.hits(part)]
            hits += [hit for hit in found if start <= hit["time_s"] < end]
            start = end
    return hits


def is_sure(hit: Hit) -> bool:
    """Whether a system is sure of a hit."""
    return hit["probability"] >= SURE


def likely(hits: Sequence[Hit]) -> list[Hit]:
    """The hits that are worth a look: sure or doubtful ones."""
    return [hit for hit in hits if hit["probability"] >= LEAST]


def summary(hits: Sequence[Hit]) -> str:
    """How sure a system is, in words.

    Examples:
        >>> summary([{"probability": 0.9}, {"probability": 0.3}, {"probability": 0.01}])
        '2 hits expected (1 other motion looks like none): 1 sure, 1 doubtful'
    """
    some = likely(hits)
    sure = sum(map(is_sure, some))
    text = f"{len(some)} hit{'' if len(some) == 1 else 's'} expected"
    if rest := len(hits) - len(some):
        text += f" ({rest} other motion{' looks' if rest == 1 else 's look'} like none)"
    return text + (f": {sure} sure, {len(some) - sure} doubtful" if some else "")
