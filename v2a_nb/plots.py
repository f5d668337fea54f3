"""Plots: every function takes ``ax=None``, has seconds and hertz on its axes, and returns a matplotlib figure.

``show(fig, alt=...)`` puts a figure into a notebook with a text for those who cannot see it. The figures are
made without pyplot, so nothing is shown twice and nothing stays open.
"""

from __future__ import annotations

import base64
import html
import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

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


def show(fig: Canvas, alt: str, *, dpi: int = 100) -> Figure:
    """Render a matplotlib figure to a :class:`Figure`, on white, so that it reads on a dark page too.

    Args:
        alt: what the figure shows, in a sentence; also its caption.

    Raises:
        UsageError: the alt text is empty.
    """
    if not alt.strip():
        raise UsageError("a figure needs an alt text that says what it shows")
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight", facecolor="white")
    if "matplotlib.pyplot" in sys.modules:  # a figure of pyplot's would be shown again at the cell's end
        sys.modules["matplotlib.pyplot"].close(fig)
    return Figure(buffer.getvalue(), alt)


def _axes(ax: Axes | None, size: tuple[float, float] = (9, 2.4)) -> tuple[Canvas, Axes]:
    if ax is not None:
        return ax.figure, ax
    from matplotlib.figure import Figure as Canvas

    fig = Canvas(figsize=size, layout="constrained")
    return fig, fig.add_subplot()


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
    return fig


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
    if n_fft < 2 or hop < 1:
        raise UsageError(f"n_fft {n_fft} and hop {hop} make no spectrogram")
    fig, ax = _axes(ax, (9, 3))
    wave = np.pad(sound.mono().samples[0], (n_fft // 2, n_fft - n_fft // 2))
    window = np.hanning(n_fft + 1)[:-1].astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(wave, n_fft)[::hop] * window
    level = np.abs(np.fft.rfft(frames, axis=1)) / (window.sum() / 2)
    db = 20 * np.log10(np.maximum(level, 1e-7)).T
    # cells reach half a hop and half a bin to each side of what they measure
    times = (np.arange(db.shape[1] + 1) - 0.5) * hop / sound.sample_rate
    hertz = np.clip((np.arange(db.shape[0] + 1) - 0.5) * sound.sample_rate / n_fft, 0, sound.sample_rate / 2)
    style = {"vmin": floor_db, "vmax": 0, "cmap": "magma", "rasterized": True}
    picture = ax.pcolormesh(times, hertz, db, **style)
    ax.set(xlabel="time (s)", ylabel="frequency (Hz)", title=title, xlim=(0, max(sound.duration, 1e-3)))
    if scale != "linear":
        _frequency_axis(ax, scale, hertz[1], hertz[-1])
    fig.colorbar(picture, ax=ax, label="dBFS", pad=0.01)
    return fig


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


def mark_events(ax: Axes, events: Sequence[Mapping]) -> Canvas:
    """Lines at true events over another plot: solid where they sound, dotted at near misses.

    Labels say kind and material; where events are close, their names take turns on two lines.
    """
    ordered = sorted(events, key=lambda e: e["time_s"])
    for k, event in enumerate(ordered):
        sounding = event.get("sounding", True)
        material = str(event.get("material", ""))
        colour = COLOURS.get(material, "black") if sounding else MISS
        ax.axvline(event["time_s"], color=colour, lw=1.6, ls="-" if sounding else ":")
        words = f"{event.get('kind', '')} {material}".strip() if sounding else "miss"
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
    return ax.figure


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
    return fig


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
    return fig


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
    return fig


def curve(x, y, ax: Axes | None = None, *, xlabel: str, ylabel: str, label: str | None = None) -> Canvas:
    """A line; with points where there are few."""
    fig, ax = _axes(ax, (9, 2.6))
    ax.plot(x, y, marker="o" if len(x) < 30 else None, label=label)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.grid(alpha=0.3)
    if label is not None:
        ax.legend()
    return fig


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
    for key in keys:
        points = [(line["step"], line[key]) for line in log if key in line]
        if not points:
            known = sorted({k for line in log for k in line})
            raise UsageError(f"the log has no {key!r}; it has {', '.join(known) or 'no lines'}")
        ax.plot(*zip(*points, strict=True), label=key, marker="o" if len(points) < 30 else None)
    ax.set(xlabel="step", ylabel="loss (nats)")
    ax.grid(alpha=0.3)
    ax.legend()
    return fig
