"""The scores of an evaluation in one figure: a row for each metric, each with a scale of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from v2a_nb.errors import UsageError
from v2a_nb.metrics.orders import order_of
from v2a_nb.plots.figure import WAVE, axes, tell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

    from v2a_nb.metrics.report import Report

SYSTEM_COLOURS = (WAVE, "#b3261e", "#0f7d74", "#9a4f0e", "#4046c8", "#6a6a6a")
MARKS = "|xd+v"
"""Marks for controls, in the order in which a report has them."""
ARROWS = {"higher": "→ better", "lower": "← better", "": ""}


def metric_rows(reports: Mapping[str, Report]) -> Canvas:
    """Draw every metric of one report or several: values with 95 % intervals, clips as faint dots, controls as marks.

    Each row has its own axis, since a share, decibels and milliseconds have no scale in common; the arrow says which
    way is better. A metric without a value is left out, and the alt text names it.

    Args:
        reports: by system; the controls are those of the first.

    Raises:
        UsageError: there is no value to draw.
    """
    rows = [metric for report in list(reports.values())[:1] for metric in report.metrics]
    drawn = [row["name"] for row in rows if math.isfinite(row["value"])]
    if not drawn:
        raise UsageError("there are no scores to draw")
    missing = [row["name"] for row in rows if row["name"] not in drawn]
    height = 0.30 + 0.13 * len(reports)
    fig, whole = axes(None, (9, height * len(drawn) + 0.6))
    whole.remove()
    panels: list[Axes] = list(fig.subplots(len(drawn), 1, squeeze=False)[:, 0])
    words = []
    for name, ax in zip(drawn, panels, strict=True):
        words.append(_row(ax, name, reports))
    named = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
    labels = [*(name for name in reports if name in named), *(name for name in named if name not in reports)]
    fig.legend(
        [named[name] for name in labels], labels, loc="outside upper center", ncols=4, fontsize="small", frameon=False
    )
    lacking = f" Without a value: {', '.join(missing)}." if missing else ""
    return tell(fig, f"Scores with 95 % intervals: {'; '.join(words)}.{lacking}")


def _row(ax: Axes, name: str, reports: Mapping[str, Report]) -> str:
    """Draw one metric, and put it in words."""
    words = []
    for k, (system, report) in enumerate(reports.items()):
        colour, y = SYSTEM_COLOURS[k % len(SYSTEM_COLOURS)], -k
        row = next((m for m in report.metrics if m["name"] == name), None)
        clips = [c[name] for c in report.per_clip if math.isfinite(c.get(name, math.nan))]
        faint = min(0.5, max(0.1, 8 / max(len(clips), 1)))
        ax.plot(clips, [y] * len(clips), "o", ms=4, color=colour, alpha=faint, mec="none")
        if row is not None and math.isfinite(row["value"]):
            value = row["value"]
            low, high = (edge if math.isfinite(edge) else value for edge in (row["low"], row["high"]))
            around = [[max(value - low, 0)], [max(high - value, 0)]]
            ax.errorbar(value, y, xerr=around, fmt="o", ms=5, capsize=3, color=colour, label=system)
            words.append(f"{system} {value:.3g}")
    controls = next(iter(reports.values())).controls
    for mark, (control, rows) in zip(MARKS, controls.items(), strict=False):
        value = next((m["value"] for m in rows if m["name"] == name), math.nan)
        if math.isfinite(value):
            ax.plot([value] * len(reports), [-k for k in range(len(reports))], mark, color="black", ms=8, label=control)
            words.append(f"{control} {value:.3g}")
        else:  # so that the legend, which the first row writes, names every control
            ax.plot([], [], mark, color="black", ms=8, label=control)
    ax.set(yticks=[], ylim=(0.7 - len(reports) - 0.4, 0.7))
    ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize="small")
    ax.tick_params(labelsize="x-small")
    ax.grid(axis="x", alpha=0.3)
    ax.margins(x=0.03)
    ax.annotate(ARROWS[order_of(name).better], (1.01, 0.5), xycoords="axes fraction", va="center", fontsize="x-small")
    return f"{name}: {', '.join(words)}"
