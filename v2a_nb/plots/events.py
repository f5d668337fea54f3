"""Plots over time: true events, onsets, frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from v2a_nb.audio.onsets import match_onsets
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError
from v2a_nb.hits import Hit
from v2a_nb.plots.figure import COLOURS, MISS, axes, tell
from v2a_nb.plots.sounds import waveform

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas


def mark_events(events: Sequence[Mapping], ax: Axes | None = None) -> Canvas:
    """Draw lines at true events over another plot: solid where they sound, dotted at near misses.

    Labels name kind and material; labels of close events alternate between two rows. Without ``ax`` the lines get a
    plot of their own.
    """
    if ax is None:
        ax = axes(None, (9, 1.1))[1]
        ax.set(xlabel="time (s)", yticks=[], xlim=(0, 1.05 * max((e["time_s"] for e in events), default=1)))
    ordered = sorted(events, key=lambda e: e["time_s"])
    marked: list[str] = []
    for k, event in enumerate(ordered):
        sounding = event.get("sounding", True)
        material = str(event.get("material", ""))
        colour = COLOURS.get(material, "black") if sounding else MISS
        ax.axvline(event["time_s"], color=colour, lw=1.6, ls="-" if sounding else ":")
        words = f"{event.get('kind', '')} {material}".strip() if sounding else "miss"
        marked.append(f"{words} at {event['time_s']:.2f} s")
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
    return tell(ax.figure, f"Marked: {', '.join(marked) or 'no event'}.")


def timeline(
    rows: Mapping[str, Sequence[float] | np.ndarray],
    duration: float,
    ax: Axes | None = None,
    *,
    events: Sequence[Mapping] = (),
    tolerance: float = 0.05,
    bars: str = "true events",
) -> Canvas:
    """Draw the onsets of several sounds, one row each, over the true events.

    Args:
        rows: name to onset times, seconds.
        duration: seconds of the time axis.
        events: true events, drawn as bars.
        tolerance: half of a bar's width, seconds: an onset inside of a bar is a hit at that window.
        bars: name of the events where they are others, such as the hits that a sound was to follow.
    """
    fig, ax = axes(ax, (9, 0.5 * len(rows) + 1.2))
    handles: dict[str, object] = {}
    for event in events:
        sounding = event.get("sounding", True)
        material = str(event.get("material", "")) or "event"
        name = material if sounding else "near miss"
        colour = COLOURS.get(material, "black") if sounding else MISS
        style = {"color": colour, "alpha": 0.3} if sounding else {"fill": False, "hatch": "////", "ec": MISS, "lw": 0}
        bar = ax.axvspan(event["time_s"] - tolerance, event["time_s"] + tolerance, **style)
        handles.setdefault(name, bar)
    for k, times in enumerate(rows.values()):
        ax.plot(times, np.full(len(times), k), "|", ms=18, mew=2, color="black")
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set(xlabel="time (s)", xlim=(0, duration), ylim=(len(rows) - 0.3, -0.7))
    if handles:
        title = f"bars: {bars} ± {tolerance * 1000:g} ms"
        ax.legend(
            list(handles.values()), list(handles), title=title, loc="upper left", fontsize=8,
            bbox_to_anchor=(1.01, 1.05),
            title_fontsize=8, frameon=False,
        )  # fmt: skip
    counts = ", ".join(f"{name} {len(times)}" for name, times in rows.items())
    marks = f"; bars at {len(events)} {bars}, {1000 * tolerance:g} ms to each side" if events else ""
    return tell(fig, f"Onsets over {duration:.2f} s: {counts}{marks}.")


def against_truth(
    sound: Sound,
    true: Sequence[float] | np.ndarray,
    onsets: Sequence[float] | np.ndarray,
    hits: Sequence[Hit] = (),
    ax: Axes | None = None,
    *,
    tolerance: float = 0.1,
    title: str = "",
) -> Canvas:
    """Draw the waveform of a true sound, its onsets as bars, and over it the onsets of a generated sound.

    Args:
        sound: the true one, drawn at its own full height.
        true: its onsets, seconds.
        onsets: of the generated sound: filled where one meets a true onset, open where it meets none.
        hits: expected ones, drawn as stems as high as their probability.
        tolerance: half of a bar's width, seconds.
    """
    fig, ax = axes(ax, (9, 1.7))
    waveform(Sound(sound.mono().samples / max(sound.peak, 1e-9), sound.sample_rate), ax)
    true, onsets = np.asarray(true, float), np.asarray(onsets, float)
    for time in true:
        ax.axvspan(time - tolerance, time + tolerance, color=COLOURS["glass"], alpha=0.22, lw=0)
    met = np.zeros(len(onsets), bool)
    met[[k for _, k in match_onsets(true, onsets, tolerance)]] = True
    for which, fill in ((met, "black"), (~met, "white")):
        (marks,) = ax.plot(onsets[which], np.full(which.sum(), 1.25), "v", ms=7, mec="black", mfc=fill, clip_on=False)
        marks.set_in_layout(False)  # marks that are not clipped, and of which there are none, leave no room for axes
    for hit in hits:
        ax.plot([hit.time_s] * 2, [0, hit.probability], color=COLOURS["drum"], lw=1.6)
        ax.plot(hit.time_s, hit.probability, "o", ms=4, color=COLOURS["drum"])
    ax.set(ylim=(-1, 1.5), yticks=[0, 1], ylabel="probability" if len(hits) else "", title=title)
    words = (
        f"{title + ': ' if title else ''}{len(true)} true onsets, {len(onsets)} generated, {met.sum()} of them within"
    )
    return tell(fig, f"{words} {1000 * tolerance:g} ms; {len(hits)} expected hits.")


def strip(clip: Clip, times: Sequence[float], ax: Axes | None = None) -> Canvas:
    """Draw the frames that are visible at the given times (s) side by side.

    Raises:
        UsageError: no times.
    """
    if not len(times):
        raise UsageError("a strip of frames needs at least one time")
    fig, ax = axes(ax, (9, min(5.0, 9 / len(times) * clip.height / clip.width + 0.4)))
    index = np.clip(np.searchsorted(clip.times, np.asarray(times) + 1e-6, side="right") - 1, 0, clip.n - 1)
    gap = np.full((clip.height, max(1, clip.width // 40), 3), 255, np.uint8)
    parts = [piece for k in index for piece in (clip.frames[k], gap)][:-1]
    ax.imshow(np.concatenate(parts, axis=1))
    step = clip.width + gap.shape[1]
    ax.set_xticks([k * step + clip.width / 2 for k in range(len(times))], [f"{t:.2f}" for t in times])
    ax.set_yticks([])
    ax.set_xlabel("time (s)")
    ax.spines[:].set_visible(False)
    return tell(fig, f"Frames of {clip.name} at {', '.join(f'{t:.2f}' for t in times)} s.")
