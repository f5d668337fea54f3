"""The figures that plots are drawn on, and how they are shown: as a picture with alt text."""

from __future__ import annotations

import base64
import html
import io
import json
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from v2a_nb.errors import UsageError
from v2a_nb.files import atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from plotly.graph_objects import Figure as PlotlyFigure

COLOURS = {"wood": "#9a4f0e", "metal": "#3f6384", "glass": "#0f7d74", "ceramic": "#4046c8", "drum": "#b3261e"}
"""Colours by material; the player uses the same."""
MISS = "#6a6a6a"
WAVE = "#2457c5"


class Figure:
    """A rendered figure with alt text; notebooks show it as HTML."""

    def __init__(self, png: bytes, alt: str) -> None:
        self.png, self.alt = png, alt

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.png).decode()
        text = html.escape(self.alt, quote=True)
        return (
            f'<figure style="margin:0"><img alt="{text}" src="data:image/png;base64,{data}" '
            f'style="max-width:100%"><figcaption style="font-size:.85em;opacity:.75">{text}</figcaption></figure>'
        )

    def __repr__(self) -> str:
        return f"Figure({self.alt})"

    def save(self, path: str | Path) -> Path:
        """Write the PNG; the file gets its name when it is complete."""
        with atomic(path) as partial:
            partial.write_bytes(self.png)
        return Path(path)


class Zoomable(Figure):
    """A plotly figure for notebooks: interactive where its mime type is known, else a still picture with alt text."""

    def __init__(self, figure: PlotlyFigure, png: bytes, alt: str) -> None:
        super().__init__(png, alt)
        self.figure = figure

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        numbers = {**json.loads(self.figure.to_json()), "config": {"displaylogo": False}}
        page = self._repr_html_() if self.png else f"<p>{html.escape(self.alt)}</p>"
        return {"application/vnd.plotly.v1+json": numbers, "text/html": page, "text/plain": repr(self)}


def show(fig: Canvas | PlotlyFigure, alt: str | None = None, *, dpi: int = 100, still: Canvas | None = None) -> Figure:
    """Render a figure for a notebook, on white, so that it is readable on a dark page.

    Args:
        fig: a figure of matplotlib or plotly.
        alt: a sentence that describes the figure, also its caption; left out, the figure's own.
        dpi: resolution of the picture.
        still: for a plotly figure, a figure of matplotlib that is shown where plotly cannot be.

    Raises:
        UsageError: there is no alt text.

    Examples:
        >>> from v2a_nb.plots import spectrogram, spectrogram_zoom
        >>> show(spectrogram_zoom(sound), still=spectrogram(sound)).alt[:11]
        'Spectrogram'
    """
    live = type(fig).__module__.startswith("plotly")
    own = ((fig.layout.meta or {}) if live else vars(fig)).get("alt", "")
    alt = own if alt is None else alt
    if not alt.strip():
        raise UsageError("a figure needs an alt text that says what it shows")
    drawn = still if live else fig
    buffer = io.BytesIO()
    if drawn is not None:
        drawn.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight", facecolor="white")
        if "matplotlib.pyplot" in sys.modules:  # a figure of pyplot's would be shown again at the cell's end
            sys.modules["matplotlib.pyplot"].close(drawn)
    return Zoomable(fig, buffer.getvalue(), alt) if live else Figure(buffer.getvalue(), alt)


@lru_cache(maxsize=1)
def _canvas() -> type[Canvas]:
    from matplotlib.figure import Figure as Base  # heavy: only when something is drawn

    class Drawing(Base):
        """matplotlib's figure, which shows itself with its alt text."""

        def _repr_html_(self) -> str:
            return show(self)._repr_html_()

    return Drawing


def axes(ax: Axes | None, size: tuple[float, float] = (9, 2.4)) -> tuple[Canvas, Axes]:
    if ax is not None:
        return ax.figure, ax
    fig = _canvas()(figsize=size, layout="constrained")
    return fig, fig.add_subplot()


def tell(fig: Canvas, words: str) -> Canvas:
    """Append a sentence to the figure's alt text, so that several panels are described one after the other."""
    fig.alt = f"{getattr(fig, 'alt', '')} {words}".strip()
    return fig


def plotly(fig: PlotlyFigure, alt: str, xlabel: str, ylabel: str, height: int) -> PlotlyFigure:
    fig.update_layout(height=height, margin={"r": 20, "t": 20}, template="plotly_white", meta={"alt": alt})
    return fig.update_xaxes(title={"text": xlabel}).update_yaxes(title={"text": ylabel})
