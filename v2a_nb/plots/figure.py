"""The figures that plots are drawn on, and how they are shown: as a picture with alt text."""

from __future__ import annotations

import base64
import html
import io
import json
import sys
from collections.abc import Sequence
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


LEGIBLE = 2 / 3
"""On a narrow page a figure shrinks to this share of its size and no further, and is scrolled: smaller, its labels
cannot be read."""
NIGHT = 18
"""Grey level of a dark figure's background, of 255: that of dark pages, which are not black."""


class Figure:
    """A rendered figure with alt text; notebooks show it as HTML.

    Attributes:
        png: the picture, on white.
        alt: what it shows, in words.
        dark: the picture for a dark page; empty where there is none.
    """

    def __init__(self, png: bytes, alt: str, dark: bytes = b"") -> None:
        self.png, self.alt, self.dark = png, alt, dark

    def _repr_html_(self) -> str:
        text = html.escape(self.alt, quote=True)
        return (
            f'<figure tabindex="0" style="margin:0;overflow-x:auto">{self.picture_html}'
            f'<figcaption style="font-size:.85em;opacity:.75">{text}</figcaption></figure>'
        )

    @property
    def picture_html(self) -> str:
        """The picture with its alt text and no caption, light or dark as the page is."""
        text = html.escape(self.alt, quote=True)
        least = round(LEGIBLE * int.from_bytes(self.png[16:20], "big"))  # a PNG begins with its size
        image = f'<img alt="{text}" src="{_uri(self.png)}" style="max-width:max(100%,{least}px)">'
        if not self.dark:
            return image
        return f'<picture><source media="(prefers-color-scheme: dark)" srcset="{_uri(self.dark)}">{image}</picture>'

    def __repr__(self) -> str:
        return f"Figure({self.alt})"

    def save(self, path: str | Path) -> Path:
        """Write the PNG; the file gets its name when it is complete."""
        with atomic(path) as partial:
            partial.write_bytes(self.png)
        return Path(path)


class Zoomable(Figure):
    """A plotly figure for notebooks: interactive where its mime type is known, else a still picture with alt text."""

    def __init__(self, figure: PlotlyFigure, png: bytes, alt: str, dark: bytes = b"") -> None:
        super().__init__(png, alt, dark)
        self.figure = figure

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        numbers = {**json.loads(self.figure.to_json()), "config": {"displaylogo": False}}
        page = self._repr_html_() if self.png else f"<p>{html.escape(self.alt)}</p>"
        return {"application/vnd.plotly.v1+json": numbers, "text/html": page, "text/plain": repr(self)}


def show(fig: Canvas | PlotlyFigure, alt: str | None = None, *, dpi: int = 100, still: Canvas | None = None) -> Figure:
    """Render a figure for a notebook, once for light pages and once for dark ones.

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
    png = dark = b""
    if drawn is not None:
        buffer = io.BytesIO()
        drawn.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight", facecolor="white")
        png = buffer.getvalue()
        dark = darkened(png, _pictures(drawn, dpi))
        if "matplotlib.pyplot" in sys.modules:  # a figure of pyplot's would be shown again at the cell's end
            sys.modules["matplotlib.pyplot"].close(drawn)
    return Zoomable(fig, png, alt, dark) if live else Figure(png, alt, dark)


def darkened(png: bytes, kept: Sequence[tuple[int, int, int, int]] = ()) -> bytes:
    """A picture for a dark page: light and dark change places, and every colour keeps its hue.

    Args:
        png: a picture on white.
        kept: boxes that stay as they are (left, top, right, bottom, pixels): photographs, and colours that stand for
            numbers.
    """
    import numpy as np
    from PIL import Image

    light = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    levels = light.astype(np.int16)
    turned = levels + (255 - levels.max(-1, keepdims=True) - levels.min(-1, keepdims=True))  # of HSL, the L
    made = (NIGHT + turned * ((255 - NIGHT) / 255)).round().astype(np.uint8)
    for left, top, right, bottom in kept:
        made[top:bottom, left:right] = light[top:bottom, left:right]
    buffer = io.BytesIO()
    Image.fromarray(made).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _pictures(fig: Canvas, dpi: int) -> list[tuple[int, int, int, int]]:
    """Where a figure that was saved within its tight box has images: left, top, right, bottom, pixels of the file."""
    from matplotlib import rcParams
    from matplotlib.collections import QuadMesh

    whole = fig.get_tightbbox().padded(rcParams["savefig.pad_inches"])  # inches, as savefig does
    boxes = []
    for ax in fig.axes:
        if ax.images or any(isinstance(part, QuadMesh) for part in ax.collections):
            box = ax.get_window_extent().transformed(fig.dpi_scale_trans.inverted())
            edges = (box.x0 - whole.x0, whole.y1 - box.y1, box.x1 - whole.x0, whole.y1 - box.y0)
            left, top, right, bottom = (round(edge * dpi) for edge in edges)
            boxes.append((max(left, 0), max(top, 0), right, bottom))
    return boxes


def _uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


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
