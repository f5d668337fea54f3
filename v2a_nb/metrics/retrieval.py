"""Retrieval scored: recall of a clip's own sound among others, and whether what is found has the clip's ambience.

Recall says whether two encoders agree; the papers that train them report it beside chance. The ambience is what
Action2Sound retrieves for (section 3.3): a sound of such a place, whatever happens in it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from v2a_nb.data.pool import SIMILARITIES, Pool
from v2a_nb.metrics.statistics import bootstrap

KS = (1, 5, 10)


def share(right: np.ndarray, names: Sequence[str] | None = None) -> dict:
    """The mean of what was right, 0 to 1, with its interval over recordings."""
    low, high = bootstrap(list(right), lambda part: float(np.mean(part)), names)
    return {"value": float(np.mean(right)), "low": low, "high": high, "n": len(right)}


def ranks_of(queries: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """How many answers [N, D] are more similar to query i than answer i, int64 [N]; of equals half count."""
    scores = queries @ answers.T
    own = np.diag(scores)[:, None]
    ties = (scores == own).sum(1) - 1
    return (scores > own).sum(1) + (ties + 1) // 2


def recall(seen: np.ndarray, heard: np.ndarray, names: Sequence[str] | None = None) -> dict:
    """Recall at 1, 5 and 10 in both directions among these clips, with intervals over recordings, and chance."""
    rows = {}
    for way, ranks in (("video_to_sound", ranks_of(seen, heard)), ("sound_to_video", ranks_of(heard, seen))):
        rows[way] = {}
        for k in KS:
            rows[way][f"r{k}"] = share((ranks < k).astype(float), names)
        rows[way]["median_rank"] = float(np.median(ranks) + 1)
    return rows | {"chance": {f"r{k}": min(1.0, k / len(seen)) for k in KS}}


def ambience_found(
    pool: Pool, queries: np.ndarray, kinds: np.ndarray, of_pool: np.ndarray, names: Sequence[str], forbidden=None
) -> dict:
    """How often the sound that is found has the query's kind of ambience, by each similarity, beside a random one.

    Args:
        pool: what is searched.
        queries: what clips look like [Q, D].
        kinds: of their own ambience [Q].
        of_pool: of the pool's sounds [N].
        names: the recording of each query, for the intervals.
        forbidden: as for :meth:`Pool.search`.
    """
    allowed = np.ones((len(queries), len(pool)), bool) if forbidden is None else ~forbidden
    same = of_pool[None] == kinds[:, None]
    right = {"random": (same & allowed).sum(1) / allowed.sum(1)}  # expected of a random draw
    for by in SIMILARITIES:
        found = pool.search(queries, 1, by=by, forbidden=forbidden)[1][:, 0]
        right[by] = same[np.arange(len(found)), found].astype(float)
    return {name: share(values, names) for name, values in right.items()}
