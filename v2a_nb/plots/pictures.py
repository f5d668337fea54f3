"""Plots of matrices over time: spectrograms as a model has them, stacked frame vectors, attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from v2a_nb.errors import UsageError
from v2a_nb.plots.figure import COLOURS, MISS, axes, tell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas


def picture(
    values,
    seconds: float,
    ax: Axes | None = None,
    *,
    ylabel: str = "row",
    limits: tuple[float, float] | None = None,
    events: Sequence[Mapping] = (),
    title: str = "",
    colours: str = "magma",
    bar: bool = True,
) -> Canvas:
    """Draw a matrix [h, w] over time, its first row at the top.

    Args:
        values: the matrix.
        seconds: duration of all columns together.
        ylabel: meaning of the rows.
        limits: values of the darkest and the brightest colour; left out, the least and the greatest. Give the
            same to pictures that are compared.
        events: true events, marked above the picture, so that no line hides a part of it: filled where they
            sound, hollow at near misses.
        colours: name of a colour map of matplotlib.
        bar: whether the scale of the colours stands beside it.

    Raises:
        UsageError: not [h, w], or no time.
    """
    values = _flat(values, "a picture is [h, w]")
    if not seconds > 0:
        raise UsageError(f"a picture cannot last {seconds} s")
    fig, ax = axes(ax, (9, 2.4))
    low, high = limits or (values.min(), values.max())
    extent = (0, seconds, len(values) - 0.5, -0.5)
    style = {"vmin": low, "vmax": high, "cmap": colours, "interpolation": "nearest"}
    drawn = ax.imshow(values, aspect="auto", extent=extent, **style)
    ax.set(xlabel="time (s)", ylabel=ylabel, xlim=(0, seconds))
    ax.set_title(title, pad=32 if len(events) else 6)
    _mark(ax, events, named=True)
    if bar:
        fig.colorbar(drawn, ax=ax, pad=0.01)
    size = f"{len(values)} rows by {values.shape[1]} columns over {seconds:.2f} s"
    name = f"Picture, {title}," if title else "Picture"
    return tell(fig, f"{name} of {size}, values from {values.min():.3g} to {values.max():.3g}.")


def attention(
    shares,
    column_s: float,
    token_s: float,
    ax: Axes | None = None,
    *,
    events: Sequence[Mapping] = (),
    title: str = "",
) -> Canvas:
    """Draw which moment of the video each moment of the sound attends to; the diagonal is the same moment.

    Args:
        shares: attention [columns, tokens], each row summing to 1. Rows are drawn upwards, so that time grows
            along both axes.
        column_s, token_s: duration of a column and of a token, seconds.
        events: true events, as ticks outside of both axes: filled where they sound, hollow at near misses.

    Raises:
        UsageError: not [columns, tokens].
    """
    shares = _flat(shares, "attention over time is [columns, tokens]")
    fig, ax = axes(ax, (5, 4.4))
    high, wide = len(shares) * column_s, shares.shape[1] * token_s
    drawn = ax.imshow(
        shares, aspect="auto", origin="lower", extent=(0, wide, 0, high), vmin=0, vmax=np.quantile(shares, 0.999),
        cmap="viridis", interpolation="nearest",
    )  # fmt: skip
    ax.plot([0, wide], [0, wide], ls=":", lw=0.9, color="white")
    _mark(ax, events)
    _mark(ax, events, upright=True)
    ax.set(xlabel="time of what is read (s)", ylabel="time of the sound (s)", xlim=(0, wide), ylim=(0, high))
    ax.set_title(title, pad=12 if len(events) else 6)
    fig.colorbar(drawn, ax=ax, pad=0.06, label="share")
    near, all_alike = (1000 * _away(s, column_s, token_s) for s in (shares, np.ones_like(shares)))
    name = f"Attention, {title}:" if title else "Attention:"
    words = f"a column reads {near:.0f} ms away from its own time on average"
    return tell(fig, f"{name} {words}, {all_alike:.0f} ms if it read all alike.")


def _mark(ax: Axes, events: Sequence[Mapping], upright: bool = False, named: bool = False) -> None:
    """Draw triangles at the times of events above the axes, optionally with names, or to the right of them."""
    for k, event in enumerate(sorted(events, key=lambda e: e["time_s"])):
        sounding, material = event.get("sounding", True), str(event.get("material", ""))
        colour = COLOURS.get(material, "black") if sounding else MISS
        style = {"color": colour, "mfc": colour if sounding else "none", "ms": 7, "clip_on": False, "ls": "none"}
        if upright:
            ax.plot(1.01, event["time_s"], "<", transform=ax.get_yaxis_transform(), **style)
            continue
        ax.plot(event["time_s"], 1.02, "v", transform=ax.get_xaxis_transform(), **style)
        if named:
            words = f"{event.get('kind', '')} {material}".strip() if sounding else "miss"
            at = {"xytext": (0, 7 + 10 * (k % 2)), "textcoords": "offset points", "xycoords": ax.get_xaxis_transform()}
            ax.annotate(words.replace("$", r"\$"), (event["time_s"], 1.02), color=colour, fontsize=8, ha="center", **at)


def _away(shares: np.ndarray, column_s: float, token_s: float) -> float:
    """Mean distance in time between a column and the tokens that it attends to, seconds; shares [columns, tokens]."""
    columns, tokens = ((np.arange(n) + 0.5) * s for n, s in zip(shares.shape, (column_s, token_s), strict=True))
    weights = shares / shares.sum(1, keepdims=True).clip(1e-12)
    return float((weights * np.abs(tokens[None] - columns[:, None])).sum(1).mean())


def _flat(values, what: str) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or not values.size:
        raise UsageError(f"{what}, not {list(values.shape)}; take one of a batch with [0]")
    return values
