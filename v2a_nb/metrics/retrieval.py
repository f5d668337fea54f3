"""How good retrieval is: recall of a clip's own sound among others, and whether a found sound has the clip's ambience.

Recall says whether two encoders agree; the papers that train them report it beside chance. Action2Sound retrieves
sounds for their ambience (section 3.3): they should come from such a place, whatever happens in it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from v2a_nb.data.pool import SIMILARITIES, Pool
from v2a_nb.metrics.statistics import accuracy_with_interval, mean_with_interval

KS = (1, 5, 10)


def ranks_of(queries: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """For each query [N, D], how many answers [N, D] are more similar to it than its own, int64 [N].

    Of answers that are as similar as its own, half count.
    """
    scores = queries @ answers.T
    own = np.diag(scores)[:, None]
    ties = (scores == own).sum(1) - 1
    return (scores > own).sum(1) + (ties + 1) // 2


def recall(video: np.ndarray, sound: np.ndarray, names: Sequence[str] | None = None) -> dict:
    """Recall at 1, 5 and 10 in both directions among these clips, with intervals over recordings, and chance.

    Args:
        video, sound: vectors of the clips' pictures and sounds [N, D].
        names: the recording of each clip; left out, each is on its own.
    """
    rows = {}
    for way, ranks in (("video_to_sound", ranks_of(video, sound)), ("sound_to_video", ranks_of(sound, video))):
        rows[way] = {}
        for k in KS:
            rows[way][f"r{k}"] = accuracy_with_interval(ranks < k, names)
        rows[way]["median_rank"] = float(np.median(ranks) + 1)
    return rows | {"chance": {f"r{k}": min(1.0, k / len(video)) for k in KS}}


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
    random = (same & allowed).sum(1) / allowed.sum(1)  # expected of a random draw
    right = {}
    for by in SIMILARITIES:
        found = pool.search(queries, 1, by=by, forbidden=forbidden)[1][:, 0]
        right[by] = accuracy_with_interval(same[np.arange(len(found)), found], names)
    return {"random": mean_with_interval(random, names), **right}
