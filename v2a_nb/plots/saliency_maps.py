"""A saliency map over the frames that it is about, its curve over time, and what judges say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from v2a_nb.clip import Clip
from v2a_nb.errors import UsageError
from v2a_nb.plots.figure import WAVE, axes, tell
from v2a_nb.saliency.result import Saliency, register_display

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

HEAT = np.array([229, 0, 125], np.float32)
"""Colour of the overlay, as in the player."""
DOUBT = "#b3261e"
"""Colour of what says that a map should not be believed."""


def saliency(
    made: Saliency, clip: Clip | None = None, *, count: int = 5, events: Sequence[Mapping] = (), title: str = ""
) -> Canvas:
    """Draw the frames at which a map is greatest, with the map over them, above its curve over time.

    A map that a check speaks against is crossed out in words over its pictures, and framed in red.

    Args:
        made: the map.
        clip: whose frames are drawn; left out, the map alone.
        count: of frames.
        events: true events, as ticks on the curve.
        title: left out, the map's own.

    Raises:
        UsageError: no frames are asked for.
    """
    if count < 1:
        raise UsageError(f"{count} frames cannot be drawn")
    fig, first = axes(None, (9, 3.6))
    first.remove()
    grid = fig.add_gridspec(2, count, height_ratios=(2.2, 1))
    shown = clip if clip is None else overlay(made, clip, framed=False)
    for k, frame in enumerate(greatest(made.curve, count)):
        ax, time = fig.add_subplot(grid[0, k]), (frame + 0.5) / made.fps
        if shown is None:
            ax.imshow(made.map[frame], vmin=0, vmax=made.map.max() or 1, cmap="magma", interpolation="nearest")
        else:
            ax.imshow(shown.frames[_frame_at(shown, time)])
        ax.set(xticks=[], yticks=[], xlabel=f"{time:.2f} s")
        if made.marks:
            ax.text(0.5, 0.5, "not to be\nbelieved", transform=ax.transAxes, ha="center", va="center", color="white",
                    fontsize=11, fontweight="bold", bbox={"facecolor": DOUBT, "alpha": 0.75, "lw": 0})  # fmt: skip
            for side in ax.spines.values():
                side.set(color=DOUBT, lw=2.5)
    ax, times = fig.add_subplot(grid[1, :]), (np.arange(len(made.curve)) + 0.5) / made.fps
    ax.axvspan(*made.window, color="0.88", lw=0)
    ax.plot(times, made.curve / (made.curve.max() or 1), color=WAVE)
    for event in events:
        ax.axvline(event["time_s"], color="black", lw=1, ls="-" if event.get("sounding", True) else ":")
    ax.set(xlabel="time (s); grey: the sound that is explained", ylabel="saliency", xlim=(0, len(times) / made.fps),
           ylim=(0, 1.05), yticks=[])  # fmt: skip
    fig.suptitle(f"{title or made.title}\n{made.verdict}", fontsize=10, color=DOUBT if made.marks else "black")
    x, y = made.place
    where = "" if made.map.shape[1:] == (1, 1) else f", most at {100 * x:.0f} % across and {100 * y:.0f} % down"
    words = f"Saliency, {title or made.title}: it peaks at {made.peak_s:.2f} s{where}. {made.verdict}."
    return tell(fig, words)


def greatest(curve: np.ndarray, count: int) -> list[int]:
    """Indices of up to ``count`` frames that are great and not next to each other, in the order of time.

    >>> greatest(np.array([0.0, 3.0, 2.9, 0.0, 0.0, 1.0]), 2)
    [1, 5]
    """
    left, found = np.array(curve, np.float64), []
    while len(found) < min(count, len(curve)):
        best = int(left.argmax())
        if not np.isfinite(left[best]):  # fewer frames than that lie apart
            break
        found.append(best)
        left[max(0, best - 1) : best + 2] = -np.inf
    return sorted(found)


def overlay(made: Saliency, clip: Clip, *, strength: float = 0.65, framed: bool = True) -> Clip:
    """The clip with the map drawn into its pictures.

    Args:
        made: the map, of the whole picture.
        clip: any frame rate and size.
        strength: how opaque the greatest cell is.
        framed: a map that a check speaks against gets a red frame.
    """
    from PIL import Image

    out, top = np.array(clip.frames), float(made.map.max()) or 1.0
    for k, time in enumerate(clip.times):
        at = int(time * made.fps + 1e-6)
        if at < len(made.map) and made.map[at].any():
            cells = Image.fromarray(made.map[at] / top)
            alpha = np.asarray(cells.resize((clip.width, clip.height), Image.Resampling.BILINEAR))[..., None] * strength
            out[k] = np.round(out[k] * (1 - alpha) + HEAT * alpha).astype(np.uint8)
    if framed and made.marks:
        edge = max(2, min(clip.height, clip.width) // 40)
        red = np.array([179, 38, 30], np.uint8)
        out[:, :edge], out[:, -edge:], out[:, :, :edge], out[:, :, -edge:] = red, red, red, red
    return replace(clip, frames=out)


def _frame_at(clip: Clip, time: float) -> int:
    """The frame that is on the screen at a time."""
    return int(np.clip(np.searchsorted(clip.times, time + 1e-6, side="right") - 1, 0, clip.n - 1))


register_display(plot=saliency)
