"""Several plots of one kind in one figure, so that they can be compared: pictures, attention, intervals, lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from v2a_nb.errors import UsageError
from v2a_nb.plots.events import mark_events
from v2a_nb.plots.figure import axes, tell
from v2a_nb.plots.numbers import curve, intervals
from v2a_nb.plots.pictures import attention, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas


def pictures(
    rows: Mapping[str, object],
    seconds: float,
    *,
    columns: int = 1,
    ylabel: str = "",
    limits: tuple[float, float] | None = None,
    events: Sequence[Mapping] = (),
    colours: str = "magma",
) -> Canvas:
    """Draw several matrices [h, w] over the same time with :func:`~v2a_nb.plots.picture`, below each other.

    Args:
        rows: title to matrix; they may differ in size, and last equally long.
        seconds: duration of each.
        columns: of the figure; with 2, the second picture stands to the right of the first.
        ylabel: meaning of the matrices' rows.
        limits: values of the darkest and the brightest colour of all, with one scale beside them; left out, each
            has its own.
        events: true events, marked above the first picture.
        colours: name of a colour map of matplotlib.

    Raises:
        UsageError: no pictures, no columns, or a matrix that is not [h, w].
    """
    fig, grid = _grid(len(rows), columns, 9, 1.75 if columns == 1 else 1.6)
    for k, (title, values) in enumerate(rows.items()):
        ax = grid[k]
        style = {"ylabel": ylabel if not k % columns else "", "limits": limits, "colours": colours}
        marks = events if not k else ()
        picture(values, seconds, ax, title=title, events=marks, bar=limits is None, **style)
        if k + columns < len(rows):
            ax.set_xlabel("")
            ax.tick_params(labelbottom=False)
    if limits is not None:
        fig.colorbar(grid[0].images[0], ax=grid, pad=0.01, aspect=10 + 12 * len(rows) // columns)
    return fig


def attentions(maps: Mapping[str, object], seconds: float, token_s: float, *, events: Sequence[Mapping] = ()) -> Canvas:
    """Draw attention over time of several models or layers side by side with :func:`~v2a_nb.plots.attention`.

    Args:
        maps: title to shares [columns, tokens]; they may have other numbers of columns.
        seconds: duration of the sound that all columns of a map stand for.
        token_s: duration of a token.
        events: true events.

    Raises:
        UsageError: no maps, or one that is not [columns, tokens].
    """
    fig, grid = _grid(len(maps), max(1, len(maps)), 3.6 * max(1, len(maps)), 3.4)
    for k, (ax, (title, shares)) in enumerate(zip(grid, maps.items(), strict=True)):
        attention(shares, seconds / max(1, len(shares)), token_s, ax, title=title, events=events)  # type: ignore[arg-type]
        ax.set(xlabel="time in the video (s)", ylabel="" if k else "time in the sound (s)")
    return fig


def interval_columns(
    columns: Mapping[str, Mapping[str, Mapping[str, float] | float]], *, baseline: float | None = None
) -> Canvas:
    """Draw scores with their intervals side by side with :func:`~v2a_nb.plots.intervals`, with the same rows.

    Args:
        columns: what is measured, to the scores of the rows.
        baseline: value at which a thin line is drawn in all.

    Raises:
        UsageError: no columns, or as in :func:`~v2a_nb.plots.intervals`.
    """
    count = max((len(rows) for rows in columns.values()), default=0)
    fig, grid = _grid(len(columns), max(1, len(columns)), 9, 0.34 * count + 1.0)
    for k, (ax, (xlabel, rows)) in enumerate(zip(grid, columns.items(), strict=True)):
        intervals(rows, ax, xlabel=xlabel, baseline=baseline)
        ax.tick_params(labelleft=not k)
    return fig


def curves(
    lines: Mapping[str, tuple[Sequence[float] | np.ndarray, Sequence[float] | np.ndarray]],
    ax: Axes | None = None,
    *,
    xlabel: str,
    ylabel: str,
    events: Sequence[Mapping] = (),
    log: bool = False,
) -> Canvas:
    """Draw several lines with :func:`~v2a_nb.plots.curve` into the same axes.

    Args:
        lines: name in the legend, to x and y.
        events: true events, marked over the lines; x is then in seconds.
        log: y on a logarithmic axis.

    Raises:
        UsageError: no lines.
    """
    if not lines:
        raise UsageError("there are no lines to draw")
    fig, ax = axes(ax, (9, 2.8))
    for name, (x, y) in lines.items():
        curve(x, y, ax, xlabel=xlabel, ylabel=ylabel, label=name)
    if log:
        ax.set_yscale("log")
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.02), frameon=False)
    if events:
        mark_events(events, ax)
    return fig


def classes(
    labels,
    seconds: float,
    colours: Mapping[str, str],
    ax: Axes | None = None,
    *,
    ylabel: str = "row",
    title: str = "",
) -> Canvas:
    """Draw to which class each place of a picture belongs, with the share of each class beside its name.

    Args:
        labels: whole numbers [h, w], the first row at the top; 0 is the first class.
        seconds: duration of all columns together.
        colours: name of each class to its colour, in order.

    Raises:
        UsageError: not [h, w], or a number that has no class.
    """
    from matplotlib.colors import ListedColormap

    values = np.asarray(labels)
    if values.ndim != 2 or not values.size or not set(np.unique(values)) <= set(range(len(colours))):
        raise UsageError(f"classes of a picture are whole numbers [h, w] from 0 to {len(colours) - 1}")
    fig, ax = axes(ax, (9, 2.2))
    style = {"cmap": ListedColormap(list(colours.values())), "vmin": -0.5, "vmax": len(colours) - 0.5}
    extent = (0, seconds, len(values) - 0.5, -0.5)
    drawn = ax.imshow(values, aspect="auto", extent=extent, interpolation="nearest", **style)
    share = {name: float((values == k).mean()) for k, name in enumerate(colours)}
    bar = fig.colorbar(drawn, ax=ax, ticks=range(len(colours)), pad=0.01)
    bar.ax.set_yticklabels([f"{name}, {100 * part:.0f} %" for name, part in share.items()], fontsize=8)
    ax.set(xlabel="time (s)", ylabel=ylabel, title=title)
    words = ", ".join(f"{name} {100 * part:.0f} %" for name, part in share.items())
    return tell(fig, f"{title or 'Classes'} of {len(values)} rows by {values.shape[1]} columns: {words}.")


def _grid(count: int, columns: int, wide: float, high: float) -> tuple[Canvas, list[Axes]]:
    """A figure with ``count`` axes in rows of ``columns``: inches of the whole width, and of a row's height."""
    if not count or columns < 1:
        raise UsageError("there is nothing to draw")
    rows = -(-count // columns)
    fig, first = axes(None, (wide, high * rows + 0.5))
    first.remove()
    made = fig.subplots(rows, columns, squeeze=False).ravel().tolist()
    for ax in made[count:]:
        ax.remove()
    return fig, made[:count]
