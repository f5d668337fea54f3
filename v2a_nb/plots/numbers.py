"""Plots of numbers: curves, training logs, scores with their intervals."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from v2a_nb.errors import UsageError
from v2a_nb.plots.figure import WAVE, axes, plotly, tell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from plotly.graph_objects import Figure as PlotlyFigure


def curve(x, y, ax: Axes | None = None, *, xlabel: str, ylabel: str, label: str | None = None) -> Canvas:
    """Draw a line, with markers where there are few points; where x are whole numbers, its axis has no others."""
    from matplotlib.ticker import MaxNLocator

    fig, ax = axes(ax, (9, 2.6))
    ax.plot(x, y, marker="o" if len(x) < 30 else None, label=label)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ticks = ax.xaxis.get_major_locator()
    if isinstance(ticks, MaxNLocator) and len(x) and all(isinstance(value, int | np.integer) for value in x):
        ticks.set_params(integer=True)  # there is no codebook 1.5
    ax.grid(alpha=0.3)
    if label is not None:
        ax.legend()
    ends = [f"{v:.3g}" if not isinstance(v, str) else v for k in (0, -1) for v in (y[k], x[k])] if len(x) else []
    words = ": {} at {}, {} at {}".format(*ends) if ends else ", no points"
    return tell(fig, f"{f'{label}: ' if label else ''}{ylabel} over {xlabel}{words}.")


def training(log: str | Path | Sequence[Mapping], ax: Axes | None = None, *, keys: Sequence[str] = ("loss",)) -> Canvas:
    """Plot losses over training steps, from the path of a ``log.jsonl`` or its lines.

    Raises:
        UsageError: no such log, a damaged line, or none of the keys in it.
    """
    fig, ax = axes(ax, (9, 2.6))
    if isinstance(log, str | Path):
        try:
            log = [json.loads(line) for line in Path(log).read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, ValueError) as error:
            raise UsageError(f"{log}: not a training log: {error}") from error
    sentences = []
    for key in keys:
        points = [(line["step"], line[key]) for line in log if key in line]
        if not points:
            known = sorted({k for line in log for k in line})
            raise UsageError(f"the log has no {key!r}; it has {', '.join(known) or 'no lines'}")
        ax.plot(*zip(*points, strict=True), label=key, marker="o" if len(points) < 30 else None)
        sentences.append(
            f"{key} {points[0][1]:.3g} at step {points[0][0]}, {points[-1][1]:.3g} at step {points[-1][0]}"
        )
    ax.set(xlabel="step", ylabel="loss (nats)")
    ax.grid(alpha=0.3)
    ax.legend()
    return tell(fig, f"Training: {'; '.join(sentences)}.")


def intervals(
    rows: Mapping[str, Mapping[str, float] | float],
    ax: Axes | None = None,
    *,
    xlabel: str,
    label: str | None = None,
    baseline: float | None = None,
    shift: float = 0.0,
) -> Canvas:
    """Plot scores with their intervals, one row each, the first at the top.

    Args:
        rows: name to a number, or to ``{"value": ..., "low": ..., "high": ...}``; NaN is left out.
        label: name of these rows in the legend.
        baseline: value at which a thin line is drawn.
        shift: offset of the rows downwards, so that two calls on the same axes can be read side by side.

    Raises:
        UsageError: no rows, or an interval that does not hold its value.
    """
    if not rows:
        raise UsageError("there are no scores to draw")
    fig, ax = axes(ax, (9, 0.34 * len(rows) + 1.0))
    points = {k: r if isinstance(r, Mapping) else {"value": r, "low": r, "high": r} for k, r in rows.items()}
    for name, row in points.items():
        if not row["low"] - 1e-9 <= row["value"] <= row["high"] + 1e-9 and not np.isnan(row["value"]):
            raise UsageError(f"{name}: {row['value']} does not lie in its interval {row['low']} to {row['high']}")
    value, low, high = (np.array([row[k] for row in points.values()], float) for k in ("value", "low", "high"))
    around = np.maximum(np.stack([value - low, high - value]), 0)
    ax.errorbar(value, np.arange(len(value)) + shift, xerr=around, fmt="o", capsize=3, label=label)
    if baseline is not None:
        ax.axvline(baseline, color="grey", lw=0.8, ls="--")
    ax.set_yticks(range(len(points)), list(points))
    ax.set(xlabel=xlabel, ylim=(len(points) - 0.5, -0.5))
    ax.grid(axis="x", alpha=0.3)
    if label is not None:
        ax.legend()
    kept = ", ".join(f"{name} {row['value']:.3g}" for name, row in points.items() if not np.isnan(row["value"]))
    return tell(fig, f"{f'{label}: ' if label else ''}{xlabel}: {kept}.")


def scores(
    rows: Sequence[Mapping], ax: Axes | None = None, *, x: str = "onset_offset_abs_ms", y: str = "onset_f1_50ms"
) -> Canvas:
    """Plot two scores of every clip against each other.

    Args:
        rows: ``report.per_clip``; the alt text counts the clips that lack one of the two.
        x, y: names of scores.

    Raises:
        UsageError: no clip has both.
    """
    _, across, up, words = _pairs(rows, x, y)
    fig, ax = axes(ax, (6, 3.6))
    ax.scatter(across, up, s=18, alpha=0.6, color=WAVE)
    ax.set(xlabel=x, ylabel=y)
    ax.grid(alpha=0.3)
    return tell(fig, words)


def scores_zoom(rows: Sequence[Mapping], *, x: str = "onset_offset_abs_ms", y: str = "onset_f1_50ms") -> PlotlyFigure:
    """Plot :func:`scores` interactively: every point shows the name of its clip."""
    import plotly.graph_objects as go

    names, across, up, words = _pairs(rows, x, y)
    points = go.Scatter(
        x=np.round(across, 4), y=np.round(up, 4), text=names, mode="markers", marker={"color": WAVE, "opacity": 0.6},
        hovertemplate=f"%{{text}}<br>{x} %{{x:.3g}}<br>{y} %{{y:.3g}}<extra></extra>",
    )  # fmt: skip
    return plotly(go.Figure(points), words, x, y, height=360)


def _pairs(rows: Sequence[Mapping], x: str, y: str) -> tuple[list[str], np.ndarray, np.ndarray, str]:
    """Names, two scores and an alt text of the clips that have both scores."""
    kept = [(str(r.get("id", k)), r[x], r[y]) for k, r in enumerate(rows) if None not in (r.get(x), r.get(y))]
    kept = [row for row in kept if np.isfinite(row[1]) and np.isfinite(row[2])]
    if not kept:
        known = ", ".join(sorted({k for row in rows for k in row} - {"id"})) or "nothing"
        raise UsageError(f"no clip has both {x!r} and {y!r}; there is {known}")
    names, across, up = zip(*kept, strict=True)
    words = f"{y} against {x} of {len(kept)} clips, medians {np.median(up):.3g} and {np.median(across):.3g}."
    words += f" {lost} clips have no such score." if (lost := len(rows) - len(kept)) else ""
    return list(names), np.array(across), np.array(up), words
