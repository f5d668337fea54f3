"""Plots: every function takes ``ax=None``, has seconds and hertz on its axes, and returns a figure.

``show(fig, alt=...)`` puts a figure into a notebook with a text for those who cannot see it.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from v2a_nb.clip import Clip, Sound

COLOURS = {"wood": "#b5651d", "metal": "#5b7c99", "glass": "#2aa198", "ceramic": "#3657c9", "drum": "#c0392b"}


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
        """Write the PNG."""
        Path(path).write_bytes(self.png)
        return Path(path)


def show(fig, alt: str, *, dpi: int = 100) -> Figure:
    """A matplotlib figure as :class:`Figure`; the original is closed.

    Args:
        alt: what the figure shows, in a sentence; it may not be empty.
    """
    if not alt.strip():
        raise ValueError("a figure needs an alt text that says what it shows")
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight", facecolor="white")
    plt.close(fig)
    return Figure(buffer.getvalue(), alt)


def _axes(ax, size: tuple[float, float] = (9, 2.4)):
    if ax is not None:
        return ax.figure, ax
    from matplotlib.figure import Figure as Canvas

    fig = Canvas(figsize=size)
    return fig, fig.add_subplot()


def waveform(sound: Sound, ax=None, *, label: str | None = None):
    """Samples over seconds, full scale on the axis."""
    fig, ax = _axes(ax)
    step = max(1, sound.n // 4000)
    wave = sound.mono().samples[0]
    n = len(wave) // step * step
    blocks = wave[:n].reshape(-1, step)
    t = np.arange(len(blocks)) * step / sound.sample_rate
    ax.fill_between(t, blocks.min(1), blocks.max(1), lw=0.5, color="#3657c9", label=label)
    ax.set(xlabel="time (s)", ylabel="amplitude", xlim=(0, sound.duration), ylim=(-1, 1))
    return fig


def spectrogram(sound: Sound, ax=None, *, n_fft: int = 512, hop: int = 128, floor_db: float = -80, title: str = ""):
    """Magnitude in dB under full scale over seconds and hertz."""
    fig, ax = _axes(ax, (9, 3))
    wave = np.pad(sound.mono().samples[0], n_fft // 2)
    window = np.hanning(n_fft + 1)[:-1].astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(wave, n_fft)[::hop] * window
    level = np.abs(np.fft.rfft(frames, axis=1)) / (window.sum() / 2)
    db = 20 * np.log10(np.maximum(level, 1e-7)).T
    extent = (0, sound.duration, 0, sound.sample_rate / 2)
    picture = ax.imshow(db, origin="lower", aspect="auto", extent=extent, vmin=floor_db, vmax=0, cmap="magma")
    fig.colorbar(picture, ax=ax, label="dBFS", pad=0.01)
    ax.set(xlabel="time (s)", ylabel="frequency (Hz)", title=title)
    return fig


def mark_events(ax, events: Sequence[dict]):
    """Lines at the true events: solid where they sound, dotted where they are near misses."""
    top = ax.get_ylim()[1]
    for event in events:
        colour = COLOURS.get(event["material"], "black") if event["sounding"] else "grey"
        ax.axvline(event["time_s"], color=colour, lw=1.6, ls="-" if event["sounding"] else ":")
        name = event["material"] if event["sounding"] else "miss"
        ax.text(event["time_s"], top, f" {name}", color=colour, fontsize=8, va="bottom", rotation=30)
    return ax.figure


def timeline(rows: dict[str, Sequence[float]], duration: float, ax=None, *, events: Sequence[dict] = ()):
    """Onset times of several sounds, one row each, over the true events."""
    fig, ax = _axes(ax, (9, 0.5 * len(rows) + 1.2))
    for event in events:
        colour = COLOURS.get(event["material"], "black") if event["sounding"] else "grey"
        ax.axvline(event["time_s"], color=colour, lw=6, alpha=0.25, ls="-" if event["sounding"] else ":")
    for k, times in enumerate(rows.values()):
        ax.plot(times, np.full(len(times), k), "|", ms=18, mew=2, color="black")
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set(xlabel="time (s)", xlim=(0, duration), ylim=(-0.7, len(rows) - 0.3))
    ax.invert_yaxis()
    return fig


def strip(clip: Clip, times: Sequence[float], ax=None):
    """Frames at the given times, side by side."""
    fig, ax = _axes(ax, (9, 9 / max(1, len(times)) * clip.height / clip.width + 0.3))
    index = np.clip(np.searchsorted(clip.times, np.asarray(times) + 1e-6, side="right") - 1, 0, clip.n - 1)
    ax.imshow(np.concatenate(list(clip.frames[index]), axis=1))
    width = clip.width
    ax.set_xticks([(k + 0.5) * width for k in range(len(times))], [f"{t:.2f} s" for t in times])
    ax.set_yticks([])
    ax.set_xlabel("time")
    return fig


def codes(array, frame_rate: float, ax=None):
    """Codec tokens [K, T] as colours over seconds."""
    fig, ax = _axes(ax, (9, 1.8))
    array = np.asarray(array)
    extent = (0, array.shape[1] / frame_rate, array.shape[0] - 0.5, -0.5)
    ax.imshow(array, aspect="auto", interpolation="nearest", cmap="viridis", extent=extent)
    ax.set_yticks(range(array.shape[0]))
    ax.set(xlabel="time (s)", ylabel="codebook")
    return fig


def curve(x, y, ax=None, *, xlabel: str, ylabel: str, label: str | None = None):
    """A line."""
    fig, ax = _axes(ax, (9, 2.6))
    ax.plot(x, y, marker="o" if len(x) < 30 else None, label=label)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.grid(alpha=0.3)
    return fig


def training(log: str | Path | Sequence[dict], ax=None, *, keys: Sequence[str] = ("loss",)):
    """Losses of a ``log.jsonl`` over steps."""
    fig, ax = _axes(ax, (9, 2.6))
    if isinstance(log, str | Path):
        log = [json.loads(line) for line in Path(log).read_text().splitlines()]
    for key in keys:
        points = [(line["step"], line[key]) for line in log if key in line]
        if points:
            ax.plot(*zip(*points, strict=True), label=key)
    ax.set(xlabel="step", ylabel="loss (nats)" if keys == ("loss",) else "loss")
    ax.grid(alpha=0.3)
    ax.legend()
    return fig
