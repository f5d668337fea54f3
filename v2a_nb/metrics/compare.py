"""Systems against each other: for each metric the difference on common clips, an interval, and a paired test."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations

from v2a_nb.errors import UsageError, V2AError
from v2a_nb.metrics.base import plain_name
from v2a_nb.metrics.orders import order_of
from v2a_nb.metrics.statistics import holm
from v2a_nb.metrics.tally import Tally

LEVEL = 0.05
"""A difference counts where the corrected p is at most this."""


def compare(tallies: Mapping[str, Tally]) -> list[dict]:
    """Compare each two systems by every metric.

    A metric's clips are those that both systems have and that it could score for both. p is corrected after Holm for
    all metrics and all pairs of systems in the table together.

    Args:
        tallies: by system, of the same metrics.

    Returns:
        a dictionary for each metric and pair: ``name``, ``extractor``, ``first`` and ``second`` (systems),
        ``first_value`` and ``second_value`` on the common clips, ``difference`` (second minus first), ``low``, ``high``
        (95 %), ``p``, ``p_holm``, ``better`` (the system that is, or None), ``clips``, ``recordings`` in common,
        and ``why`` there is no p.

    Raises:
        UsageError: two systems have no clip in common.
    """
    rows = []
    for first, second in combinations(tallies, 2):
        one, two = tallies[first], tallies[second]
        if not {clip.id for clip in one.clips} & {clip.id for clip in two.clips}:
            raise UsageError(f"{first} and {second} have no clip in common: nothing can be compared")
        for k, (metric, names) in enumerate(one.metrics):
            of_second = {counted.clip: counted for counted in two.counted(k)}
            common = [(c, of_second[c.clip]) for c in one.counted(k) if c.clip in of_second]
            for name in names:
                pairs = [(a, b) for a, b in common if metric.comparable(a.row, b.row, plain_name(name))]
                sides = [a.row for a, _ in pairs], [b.row for _, b in pairs]
                recordings = [a.recording for a, _ in pairs]
                row = {"name": name, "extractor": metric.extractor, "first": first, "second": second}
                try:
                    values = [metric.results(side, [], [name])[0] for side in sides]
                    row |= {"extractor": values[0]["extractor"]}
                    row |= {"first_value": values[0]["value"], "second_value": values[1]["value"]}
                    row |= metric.difference(*sides, recordings, plain_name(name))
                except V2AError as error:  # a metric that refuses what is common as too little
                    row |= dict.fromkeys(("first_value", "second_value", "difference", "low", "high", "p"), math.nan)
                    row |= {"why": str(error)}
                rows.append({**row, "clips": len(pairs), "recordings": len(set(recordings))})
    for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = p
        promise = order_of(row["name"]).better
        sign = {"higher": 1, "lower": -1}.get(promise, 0) * row["difference"]
        row["better"] = (row["second"] if sign > 0 else row["first"]) if p <= LEVEL and sign else None
    return rows
