"""Plots: every function takes ``ax=None``, has seconds and hertz on its axes, and returns a figure with alt text.

The figures are matplotlib's, made without pyplot, so nothing is shown twice and nothing stays open. Each has an
``alt`` attribute that says what was drawn and shows itself in a notebook with it; ``show(fig, alt=...)`` says it
better, because only the caller knows what there is to notice.

Where pointing and zooming help there are two of plotly: :func:`spectrogram_zoom` and :func:`scores_zoom`. They
are plain ``plotly.graph_objects.Figure`` with their alt text in ``fig.layout.meta["alt"]``, and never a
``FigureWidget``. Put them into a notebook with :func:`show`, which writes their numbers and a still picture: some
of plotly's own renderers write its script as well, 4.9 MB into every notebook, or fetch it from the network.
"""

from __future__ import annotations

import base64
import html
import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from plotly.graph_objects import Figure as PlotlyFigure

COLOURS = {"wood": "#9a4f0e", "metal": "#3f6384", "glass": "#0f7d74", "ceramic": "#4046c8", "drum": "#b3261e"}
"""By material; the player uses the same."""
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
        """Write the PNG, whole or not at all."""
        path = Path(path)
        partial = path.with_name(f".{path.name}.part")
        partial.write_bytes(self.png)
        os.replace(partial, path)
        return path


class Zoomable(Figure):
    """A plotly figure for notebooks: alive where plotly's mime type is known, else a still with its alt text."""

    def __init__(self, figure: PlotlyFigure, png: bytes, alt: str) -> None:
        super().__init__(png, alt)
        self.figure = figure

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        numbers = {**json.loads(self.figure.to_json()), "config": {"displaylogo": False}}
        page = self._repr_html_() if self.png else f"<p>{html.escape(self.alt)}</p>"
        return {"application/vnd.plotly.v1+json": numbers, "text/html": page, "text/plain": repr(self)}


def show(fig: Canvas | PlotlyFigure, alt: str | None = None, *, dpi: int = 100, still: Canvas | None = None) -> Figure:
    """Render a figure for a notebook; on white, so that it reads on a dark page too.

    Args:
        fig: matplotlib's, or plotly's.
        alt: what the figure shows, in a sentence; also its caption. Left out, the figure's own.
        still: with a plotly figure, a matplotlib one for where plotly cannot be shown.

    Raises:
        UsageError: there is no alt text.

    >>> made = show(spectrogram_zoom(sound), still=spectrogram(sound))      # doctest: +SKIP
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


def _axes(ax: Axes | None, size: tuple[float, float] = (9, 2.4)) -> tuple[Canvas, Axes]:
    if ax is not None:
        return ax.figure, ax
    fig = _canvas()(figsize=size, layout="constrained")
    return fig, fig.add_subplot()


def _told(fig: Canvas, words: str) -> Canvas:
    """The figure with one more sentence in its alt text: several panels are told one after the other."""
    fig.alt = f"{getattr(fig, 'alt', '')} {words}".strip()
    return fig


def waveform(sound: Sound, ax: Axes | None = None, *, label: str | None = None, full: float = 1.0) -> Canvas:
    """Lowest and highest sample over seconds.

    Args:
        full: where the amplitude axis ends; the same for sounds that are compared.
    """
    fig, ax = _axes(ax)
    wave = sound.mono().samples[0] if sound.n else np.zeros(1, np.float32)
    starts = np.linspace(0, len(wave), min(4000, len(wave)), endpoint=False).astype(int)
    low, high = np.minimum.reduceat(wave, starts), np.maximum.reduceat(wave, starts)
    ax.fill_between(starts / sound.sample_rate, low, high, lw=0.5, color=WAVE, label=label)
    ax.set(xlabel="time (s)", ylabel="amplitude", xlim=(0, max(sound.duration, 1e-3)), ylim=(-full, full))
    if label is not None:
        ax.legend(loc="upper right")
    level = f"peak {sound.peak:.2g} of full scale" if sound.peak else "silent"
    return _told(fig, f"Waveform{f' of {label}' if label else ''} over {sound.duration:.2f} s, {level}.")


def spectrogram(
    sound: Sound,
    ax: Axes | None = None,
    *,
    n_fft: int = 512,
    hop: int = 128,
    floor_db: float = -80,
    scale: str = "linear",
    title: str = "",
) -> Canvas:
    """Magnitude over seconds and hertz, in dB under a full-scale sine; colours never depend on the sound.

    Args:
        n_fft, hop: samples; frame k is centred at ``k * hop``.
        scale: of the frequency axis: ``linear``, ``log`` or ``mel`` (2595 log10(1 + f / 700)).

    Raises:
        UsageError: an unknown scale or impossible sizes.
    """
    if scale not in ("linear", "log", "mel"):
        raise UsageError(f"a frequency axis is linear, log or mel, not {scale!r}")
    fig, ax = _axes(ax, (9, 3))
    db = _levels(sound, n_fft, hop)
    # cells reach half a hop and half a bin to each side of what they measure
    times = (np.arange(db.shape[1] + 1) - 0.5) * hop / sound.sample_rate
    hertz = np.clip((np.arange(db.shape[0] + 1) - 0.5) * sound.sample_rate / n_fft, 0, sound.sample_rate / 2)
    style = {"vmin": floor_db, "vmax": 0, "cmap": "magma", "rasterized": True}
    picture = ax.pcolormesh(times, hertz, db, **style)
    ax.set(xlabel="time (s)", ylabel="frequency (Hz)", title=title, xlim=(0, max(sound.duration, 1e-3)))
    if scale != "linear":
        _frequency_axis(ax, scale, hertz[1], hertz[-1])
    fig.colorbar(picture, ax=ax, label="dBFS", pad=0.01)
    return _told(fig, _spectrogram_alt(sound, db, hop, n_fft, title))


def _levels(sound: Sound, n_fft: int, hop: int) -> np.ndarray:
    """dB under a full-scale sine, float32 [n_fft // 2 + 1, 1 + n // hop], at least -140."""
    if n_fft < 2 or hop < 1:
        raise UsageError(f"n_fft {n_fft} and hop {hop} make no spectrogram")
    wave = np.pad(sound.mono().samples[0], (n_fft // 2, n_fft - n_fft // 2))
    window = np.hanning(n_fft + 1)[:-1].astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(wave, n_fft)[::hop] * window
    level = np.abs(np.fft.rfft(frames, axis=1)) / (window.sum() / 2)
    return 20 * np.log10(np.maximum(level, 1e-7)).T


def _spectrogram_alt(sound: Sound, db: np.ndarray, hop: int, n_fft: int, title: str) -> str:
    row, column = np.unravel_index(db.argmax(), db.shape)
    time, hertz = min(column * hop / sound.sample_rate, sound.duration), row * sound.sample_rate / n_fft
    most = f"strongest near {hertz:.0f} Hz at {time:.2f} s" if db.max() > -120 else "silent"
    name = f"Spectrogram, {title}," if title else "Spectrogram"
    return f"{name} over {sound.duration:.2f} s and 0 to {sound.sample_rate / 2:.0f} Hz, {most}."


def _frequency_axis(ax: Axes, scale: str, low: float, high: float) -> None:
    if scale == "log":
        ax.set_yscale("log")
    else:
        ax.set_yscale(
            "function",
            functions=(lambda f: 2595 * np.log10(1 + np.maximum(f, 0) / 700), lambda m: 700 * (10 ** (m / 2595) - 1)),
        )
        low = 0
    ax.set_ylim(low, high)
    least = 100 if scale == "log" else 400  # lower ones would stand on each other
    ticks = [f for f in (125, 250, 500, 1000, 2000, 4000, 8000, 16000) if max(low, least) <= f <= high]
    ax.set_yticks(ticks, [str(f) for f in ticks])
    ax.minorticks_off()


def mark_events(events: Sequence[Mapping], ax: Axes | None = None) -> Canvas:
    """Lines at true events over another plot: solid where they sound, dotted at near misses.

    Labels say kind and material; where events are close, their names take turns on two lines. Without ``ax``
    the lines stand alone.
    """
    if ax is None:
        ax = _axes(None, (9, 1.1))[1]
        ax.set(xlabel="time (s)", yticks=[], xlim=(0, 1.05 * max((e["time_s"] for e in events), default=1)))
    ordered = sorted(events, key=lambda e: e["time_s"])
    told: list[str] = []
    for k, event in enumerate(ordered):
        sounding = event.get("sounding", True)
        material = str(event.get("material", ""))
        colour = COLOURS.get(material, "black") if sounding else MISS
        ax.axvline(event["time_s"], color=colour, lw=1.6, ls="-" if sounding else ":")
        words = f"{event.get('kind', '')} {material}".strip() if sounding else "miss"
        told.append(f"{words} at {event['time_s']:.2f} s")
        ax.annotate(
            words.replace("$", r"\$"),
            (event["time_s"], 1),
            xycoords=("data", "axes fraction"),
            xytext=(2, 2 + 11 * (k % 2)),
            textcoords="offset points",
            color=colour,
            fontsize=8,
            annotation_clip=True,
        )
    if ordered and ax.get_title():
        ax.set_title(ax.get_title(), pad=28)
    return _told(ax.figure, f"Marked: {', '.join(told) or 'no event'}.")


def timeline(
    rows: Mapping[str, Sequence[float]],
    duration: float,
    ax: Axes | None = None,
    *,
    events: Sequence[Mapping] = (),
    tolerance: float = 0.05,
) -> Canvas:
    """Onsets of several sounds, one row each, over the true events.

    Args:
        rows: name to onset times, seconds.
        events: a bar of ``tolerance`` to both sides of each: an onset inside it is a hit at that window.
    """
    fig, ax = _axes(ax, (9, 0.5 * len(rows) + 1.2))
    seen: dict[str, object] = {}
    for event in events:
        sounding = event.get("sounding", True)
        material = str(event.get("material", "")) or "event"
        name = material if sounding else "near miss"
        colour = COLOURS.get(material, "black") if sounding else MISS
        style = {"color": colour, "alpha": 0.3} if sounding else {"fill": False, "hatch": "////", "ec": MISS, "lw": 0}
        bar = ax.axvspan(event["time_s"] - tolerance, event["time_s"] + tolerance, **style)
        seen.setdefault(name, bar)
    for k, times in enumerate(rows.values()):
        ax.plot(times, np.full(len(times), k), "|", ms=18, mew=2, color="black")
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set(xlabel="time (s)", xlim=(0, duration), ylim=(len(rows) - 0.3, -0.7))
    if seen:
        title = f"bars: true events ± {tolerance * 1000:g} ms"
        ax.legend(
            list(seen.values()), list(seen), title=title, loc="upper left", bbox_to_anchor=(1.01, 1.05), fontsize=8,
            title_fontsize=8, frameon=False,
        )  # fmt: skip
    counts = ", ".join(f"{name} {len(times)}" for name, times in rows.items())
    bars = f"; bars at {len(events)} true events, {1000 * tolerance:g} ms to each side" if events else ""
    return _told(fig, f"Onsets over {duration:.2f} s: {counts}{bars}.")


def strip(clip: Clip, times: Sequence[float], ax: Axes | None = None) -> Canvas:
    """The frames that are showing at the given times (s), side by side.

    Raises:
        UsageError: no times.
    """
    if not len(times):
        raise UsageError("a strip of frames needs at least one time")
    fig, ax = _axes(ax, (9, min(5.0, 9 / len(times) * clip.height / clip.width + 0.4)))
    index = np.clip(np.searchsorted(clip.times, np.asarray(times) + 1e-6, side="right") - 1, 0, clip.n - 1)
    gap = np.full((clip.height, max(1, clip.width // 40), 3), 255, np.uint8)
    parts = [piece for k in index for piece in (clip.frames[k], gap)][:-1]
    ax.imshow(np.concatenate(parts, axis=1))
    step = clip.width + gap.shape[1]
    ax.set_xticks([k * step + clip.width / 2 for k in range(len(times))], [f"{t:.2f}" for t in times])
    ax.set_yticks([])
    ax.set_xlabel("time (s)")
    ax.spines[:].set_visible(False)
    return _told(fig, f"Frames of {clip.name} at {', '.join(f'{t:.2f}' for t in times)} s.")


def codes(array: np.ndarray, frame_rate: float, ax: Axes | None = None) -> Canvas:
    """Codec tokens [K, T] as colours over seconds; neighbouring colours mean nothing, equal ones are equal.

    Raises:
        UsageError: not [K, T].
    """
    array = np.asarray(array)
    if array.ndim != 2 or not array.size:
        raise UsageError(f"codes of one clip are [K, T], not {list(array.shape)}; take one of a batch with codes[0]")
    fig, ax = _axes(ax, (9, 0.35 * array.shape[0] + 0.9))
    extent = (0, array.shape[1] / frame_rate, array.shape[0] - 0.5, -0.5)
    picture = ax.imshow(array, aspect="auto", interpolation="nearest", cmap="viridis", extent=extent)
    ax.set_yticks(range(array.shape[0]), [str(k + 1) for k in range(array.shape[0])])
    ax.set(xlabel="time (s)", ylabel="codebook")
    fig.colorbar(picture, ax=ax, label="token", pad=0.01)
    return _told(fig, f"Tokens of {len(array)} codebooks over {extent[1]:.2f} s, {len(np.unique(array))} different.")


def curve(x, y, ax: Axes | None = None, *, xlabel: str, ylabel: str, label: str | None = None) -> Canvas:
    """A line; with points where there are few."""
    fig, ax = _axes(ax, (9, 2.6))
    ax.plot(x, y, marker="o" if len(x) < 30 else None, label=label)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.grid(alpha=0.3)
    if label is not None:
        ax.legend()
    ends = [f"{v:.3g}" if not isinstance(v, str) else v for k in (0, -1) for v in (y[k], x[k])] if len(x) else []
    words = ": {} at {}, {} at {}".format(*ends) if ends else ", no points"
    return _told(fig, f"{f'{label}: ' if label else ''}{ylabel} over {xlabel}{words}.")


def training(log: str | Path | Sequence[Mapping], ax: Axes | None = None, *, keys: Sequence[str] = ("loss",)) -> Canvas:
    """Losses over steps, from a ``log.jsonl`` (its path) or its lines.

    Raises:
        UsageError: no such log, a damaged line, or none of the keys in it.
    """
    fig, ax = _axes(ax, (9, 2.6))
    if isinstance(log, str | Path):
        try:
            log = [json.loads(line) for line in Path(log).read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, ValueError) as error:
            raise UsageError(f"{log}: not a training log: {error}") from error
    told = []
    for key in keys:
        points = [(line["step"], line[key]) for line in log if key in line]
        if not points:
            known = sorted({k for line in log for k in line})
            raise UsageError(f"the log has no {key!r}; it has {', '.join(known) or 'no lines'}")
        ax.plot(*zip(*points, strict=True), label=key, marker="o" if len(points) < 30 else None)
        told.append(f"{key} {points[0][1]:.3g} at step {points[0][0]}, {points[-1][1]:.3g} at step {points[-1][0]}")
    ax.set(xlabel="step", ylabel="loss (nats)")
    ax.grid(alpha=0.3)
    ax.legend()
    return _told(fig, f"Training: {'; '.join(told)}.")


def scores(
    rows: Sequence[Mapping], ax: Axes | None = None, *, x: str = "onset_offset_abs_ms", y: str = "onset_f1_50ms"
) -> Canvas:
    """Two scores of every clip against each other.

    Args:
        rows: ``report.per_clip``; clips without one of the two (nothing to count) are counted in the alt text.
        x, y: names of scores.

    Raises:
        UsageError: no clip has both.
    """
    _, across, up, words = _pairs(rows, x, y)
    fig, ax = _axes(ax, (6, 3.6))
    ax.scatter(across, up, s=18, alpha=0.6, color=WAVE)
    ax.set(xlabel=x, ylabel=y)
    ax.grid(alpha=0.3)
    return _told(fig, words)


def scores_zoom(rows: Sequence[Mapping], *, x: str = "onset_offset_abs_ms", y: str = "onset_f1_50ms") -> PlotlyFigure:
    """:func:`scores` to point at: every point says which clip it is."""
    import plotly.graph_objects as go

    names, across, up, words = _pairs(rows, x, y)
    points = go.Scatter(
        x=np.round(across, 4), y=np.round(up, 4), text=names, mode="markers", marker={"color": WAVE, "opacity": 0.6},
        hovertemplate=f"%{{text}}<br>{x} %{{x:.3g}}<br>{y} %{{y:.3g}}<extra></extra>",
    )  # fmt: skip
    return _plotly(go.Figure(points), words, x, y, height=360)


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


def spectrogram_zoom(
    sound: Sound, *, n_fft: int = 512, hop: int = 128, floor_db: float = -80, title: str = ""
) -> PlotlyFigure:
    """:func:`spectrogram` to point at and to zoom into: time, frequency and level under the pointer.

    At most 257 by 640 cells of 8 bits, whole dB (under 0.3 MB; 0.8 MB with plotly 5). Where cells are merged the
    loudest wins, so that a click is never lost; zoom further with ``sound.slice(start, end)``.

    Raises:
        UsageError: impossible sizes.
    """
    import plotly.graph_objects as go

    db = _levels(sound, n_fft, hop)
    words = _spectrogram_alt(sound, db, hop, n_fft, title)
    high, wide = -(-db.shape[0] // 257), -(-db.shape[1] // 640)
    db = np.pad(db, ((0, -db.shape[0] % high), (0, -db.shape[1] % wide)), constant_values=-140)
    db = db.reshape(db.shape[0] // high, high, -1, wide).max(axis=(1, 3))
    dx, dy = wide * hop / sound.sample_rate, high * sound.sample_rate / n_fft
    cells = go.Heatmap(
        z=np.clip(np.round(db), -127, 127).astype(np.int8), dx=dx, x0=dx * (1 - 1 / wide) / 2, dy=dy,
        y0=dy * (1 - 1 / high) / 2, zmin=floor_db, zmax=0, colorscale="Magma", colorbar={"title": {"text": "dBFS"}},
        hovertemplate="%{x:.3f} s, %{y:.0f} Hz: %{z} dBFS<extra></extra>",
    )  # fmt: skip
    fig = _plotly(go.Figure(cells), words, "time (s)", "frequency (Hz)", height=340)
    return fig.update_xaxes(range=[0, max(sound.duration, 1e-3)]).update_yaxes(range=[0, sound.sample_rate / 2])


def _plotly(fig: PlotlyFigure, alt: str, xlabel: str, ylabel: str, height: int) -> PlotlyFigure:
    fig.update_layout(height=height, margin={"r": 20, "t": 20}, template="plotly_white", meta={"alt": alt})
    return fig.update_xaxes(title={"text": xlabel}).update_yaxes(title={"text": ylabel})
