"""Plots of sounds: waveform, spectrogram, codec tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError
from v2a_nb.plots.figure import WAVE, axes, plotly, tell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from plotly.graph_objects import Figure as PlotlyFigure


def waveform(sound: Sound, ax: Axes | None = None, *, label: str | None = None, full: float = 1.0) -> Canvas:
    """Plot the lowest and highest samples over time.

    Args:
        full: end of the amplitude axis; give the same for sounds that are compared.
    """
    fig, ax = axes(ax)
    wave = sound.mono().samples[0] if sound.n else np.zeros(1, np.float32)
    starts = np.linspace(0, len(wave), min(4000, len(wave)), endpoint=False).astype(int)
    low, high = np.minimum.reduceat(wave, starts), np.maximum.reduceat(wave, starts)
    ax.fill_between(starts / sound.sample_rate, low, high, lw=0.5, color=WAVE, label=label)
    ax.set(xlabel="time (s)", ylabel="amplitude", xlim=(0, max(sound.duration, 1e-3)), ylim=(-full, full))
    if label is not None:
        ax.legend(loc="upper right")
    level = f"peak {sound.peak:.2g} of full scale" if sound.peak else "silent"
    return tell(fig, f"Waveform{f' of {label}' if label else ''} over {sound.duration:.2f} s, {level}.")


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
    """Plot the magnitude over time and frequency, in dB relative to a full-scale sine, on a fixed colour scale.

    Args:
        n_fft, hop: samples; frame k is centred at ``k * hop``.
        scale: of the frequency axis: ``linear``, ``log`` or ``mel`` (2595 log10(1 + f / 700)).

    Raises:
        UsageError: an unknown scale or impossible sizes.
    """
    if scale not in ("linear", "log", "mel"):
        raise UsageError(f"a frequency axis is linear, log or mel, not {scale!r}")
    fig, ax = axes(ax, (9, 3))
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
    return tell(fig, _spectrogram_alt(sound, db, hop, n_fft, title))


def spectrogram_zoom(
    sound: Sound, *, n_fft: int = 512, hop: int = 128, floor_db: float = -80, title: str = ""
) -> PlotlyFigure:
    """Plot :func:`spectrogram` interactively, with time, frequency and level under the pointer.

    The figure has at most 257 by 640 cells of 8 bits (0.3 MB; 0.8 MB with plotly 5). Merged cells show the loudest one,
    so that no click is lost; zoom further with ``sound.slice(start, end)``.

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
    fig = plotly(go.Figure(cells), words, "time (s)", "frequency (Hz)", height=340)
    return fig.update_xaxes(range=[0, max(sound.duration, 1e-3)]).update_yaxes(range=[0, sound.sample_rate / 2])


def codes(array: np.ndarray, frame_rate: float, ax: Axes | None = None) -> Canvas:
    """Plot codec tokens [K, T] as colours over time; only equality of colours has a meaning.

    Raises:
        UsageError: not [K, T].
    """
    array = np.asarray(array)
    if array.ndim != 2 or not array.size:
        raise UsageError(f"codes of one clip are [K, T], not {list(array.shape)}; take one of a batch with codes[0]")
    fig, ax = axes(ax, (9, 0.35 * array.shape[0] + 0.9))
    extent = (0, array.shape[1] / frame_rate, array.shape[0] - 0.5, -0.5)
    picture = ax.imshow(array, aspect="auto", interpolation="nearest", cmap="viridis", extent=extent)
    ax.set_yticks(range(array.shape[0]), [str(k + 1) for k in range(array.shape[0])])
    ax.set(xlabel="time (s)", ylabel="codebook")
    fig.colorbar(picture, ax=ax, label="token", pad=0.01)
    return tell(fig, f"Tokens of {len(array)} codebooks over {extent[1]:.2f} s, {len(np.unique(array))} different.")


def _levels(sound: Sound, n_fft: int, hop: int) -> np.ndarray:
    """Levels in dB relative to a full-scale sine, float32 [n_fft // 2 + 1, 1 + n // hop], at least -140."""
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
