"""Plot of ambient levels: generated over requested ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from v2a_nb.errors import UsageError
from v2a_nb.plots.figure import MISS, WAVE, axes, tell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

MARGIN_DB = 4.0


def levels(
    asked_dbfs: Sequence[float],
    made_dbfs: Sequence[float],
    ax: Axes | None = None,
    *,
    lines: Mapping[str, float] | None = None,
    here: int | None = None,
    label: str | None = None,
    title: str = "",
) -> Canvas:
    """Plot the ambient level of generated sounds over the requested level (Action2Sound, figure 7a).

    On the dotted line both are the same. A line joins the means of the points of each requested level.

    Args:
        asked_dbfs, made_dbfs: requested and generated levels, dBFS, one pair for each sound.
        lines: names and levels that do not depend on the request, such as that of the true sound.
        here: index of the point that is marked.
        label: name of the points in the legend.

    Raises:
        UsageError: not as many of each, none, or levels that are no numbers.
    """
    asked, made = np.asarray(asked_dbfs, float), np.asarray(made_dbfs, float)
    if asked.ndim != 1 or asked.shape != made.shape or not asked.size:
        raise UsageError(f"levels {asked.shape} asked for and {made.shape} made: one pair for each sound is needed")
    if not (np.isfinite(asked).all() and np.isfinite(made).all()):
        raise UsageError("levels must be numbers, dBFS")
    fig, ax = axes(ax, (6, 3.6))
    at = np.unique(asked)
    means = np.array([made[asked == level].mean() for level in at])
    low, high = asked.min() - MARGIN_DB, asked.max() + MARGIN_DB
    ax.plot([low, high], [low, high], ls=":", lw=1, color="black")
    ax.plot(asked, made, "o", ms=4, alpha=0.45 if len(at) < len(asked) else 1, color=WAVE)
    ax.plot(at, means, lw=1.6, color=WAVE, label=label)
    for k, (name, level) in enumerate((lines or {}).items()):
        ax.axhline(level, ls=("--", "-.")[k % 2], lw=1.2, color=MISS, label=name)
    if here is not None:
        ax.plot(asked[here], made[here], "o", ms=13, mfc="none", mec="#b3261e", mew=2.2)
    if label is not None or lines:
        ax.legend(fontsize=8, loc="upper left")
    ax.set(xlabel="level of the condition (dBFS)", ylabel="level made (dBFS)", xlim=(low, high), title=title)
    ax.grid(alpha=0.3)
    pairs = ", ".join(f"{m:.0f} for {a:.0f}" for a, m in zip(at, means, strict=True))
    words = f"{f'{title}: ' if title else ''}Ambient levels made, dBFS, for levels asked: {pairs}."
    words += "".join(f" {name}: {level:.0f}." for name, level in (lines or {}).items())
    if here is not None:
        words += f" Marked: {made[here]:.0f} for {asked[here]:.0f}."
    return tell(fig, words)
