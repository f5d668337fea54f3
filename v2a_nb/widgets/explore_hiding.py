"""The hiding explorer: drag over a part of the picture, and hear which sounds depend on it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from v2a_nb import plots
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError, check_types
from v2a_nb.widgets import explorer_frame as frame
from v2a_nb.widgets.page import data_uri
from v2a_nb.widgets.payload import as_text

if TYPE_CHECKING:
    from v2a_nb.saliency.hiding import Dependence
    from v2a_nb.systems.base import System

Box = tuple[float, float, float, float]
QUARTERS: tuple[Box, ...] = ((0, 0, 0.5, 0.5), (0.5, 0, 1, 0.5), (0, 0.5, 0.5, 1), (0.5, 0.5, 1, 1))
"""The boxes of a page for which none are given."""
HEARD = ("what is lost", "what is left")
"""Which sound is heard: what the whole picture's sound has and the other lacks, or the sound without the part."""


class HidingExplorer(frame.Explorer):
    """What :func:`explore_hiding` returns."""

    lead = (
        "A part of the picture is replaced by its mean colour, and the sound is made again with the same seed. Curves: "
        "the level of both sounds. Sound: what is lost, which is what depends on the part, or what is left."
    )

    def __init__(
        self,
        system: System,
        clip: Clip,
        boxes: Sequence[Sequence[float]],
        times: Sequence[float] | None,
        seed: int,
        title: str,
        options: dict,
    ) -> None:
        frame.check_seed(seed)
        self.system, self.clip, self.seed, self.options = system, clip, seed, options
        start, end = (0.0, clip.duration) if times is None else times
        super().__init__(
            title or f"Hiding explorer: {clip.name}",
            [{"box": box, "heard": heard} for box in boxes for heard in HEARD],
            {"box": tuple(boxes[0]), "start": float(start), "end": float(end), "heard": HEARD[0]},
        )
        self._dependences: dict[tuple, Dependence] = {}

    def _settings(self, settings) -> dict:
        given = dict(settings)
        if "box" in given:
            try:
                given["box"] = tuple(round(float(v), 4) for v in given["box"])  # hashable, and as a browser sends it
            except (TypeError, ValueError) as error:
                raise UsageError(f"a box is (x0, y0, x1, y1), each 0 to 1, not {given['box']!r}") from error
        return super()._settings(given)

    def _check(self, settings: dict) -> None:
        from v2a_nb.saliency.hiding import hide  # with torch: only when something is hidden

        hide(self.clip, settings["box"], (settings["start"], settings["end"]))
        if settings["heard"] not in HEARD:
            raise UsageError(f"no sound {settings['heard']!r}; there is {', '.join(HEARD)}")

    @cached_property
    def whole(self) -> Sound:
        """The sound of the whole picture."""
        return self.system.generate(self.clip.silent(), seed=self.seed, **self.options)

    def dependence(self, **settings: object) -> Dependence:
        """Both sounds of these settings; those that are left out are the first ones.

        Raises:
            UsageError: an unknown setting, or a box or times that are no part of the clip.
        """
        from v2a_nb.saliency.hiding import depends_on

        chosen = self._settings(settings)
        key = (chosen["box"], chosen["start"], chosen["end"])
        if key not in self._dependences:
            if len(self._dependences) >= frame.KEPT:
                self._dependences.pop(next(iter(self._dependences)))
            self._dependences[key] = depends_on(
                self.system, self.clip, key[0], key[1:], seed=self.seed, whole=self.whole, **self.options
            )
        return self._dependences[key]

    def _first(self) -> list[frame.Variant]:
        return [frame.Variant("the whole picture", {}, self.whole)]

    def _compute(self, settings: dict) -> frame.Variant:
        part = self.dependence(**settings)
        x0, y0, x1, y1 = (f"{100 * v:.0f}" for v in settings["box"])
        label = f"without {x0} to {x1} % across, {y0} to {y1} % down"
        if settings["end"] - settings["start"] < self.clip.duration - 1e-3:
            label += f", from {settings['start']:.2f} to {settings['end']:.2f} s"
        lost = settings["heard"] == HEARD[0]
        most = float(part.difference_db[np.abs(part.difference_db).argmax()])
        numbers = {
            "greatest change (dB)": most, "at (s)": part.greatest_s,
            "mean change (dB)": float(np.abs(part.difference_db).mean()),
        }  # fmt: skip
        sound = part.lost if lost else part.hidden
        return frame.Variant(f"{label}: {settings['heard']}", settings, sound, partial(_picture, part, label), numbers)

    def _controls(self, w) -> dict:
        style = frame.control_style(w)
        seconds = {"min": 0.0, "max": self.clip.duration, "step": 0.02, "continuous_update": False}
        middle = self.clip.frames[len(self.clip.frames) // 2]
        return {
            "box": _picker()(middle, self.defaults["box"], f"the middle frame of {self.clip.name}"),
            "start": w.FloatSlider(value=self.defaults["start"], description="Hidden from (s)", **seconds, **style),
            "end": w.FloatSlider(value=self.defaults["end"], description="to (s)", **seconds, **style),
            "heard": w.Dropdown(options=list(HEARD), value=self.defaults["heard"], description="Heard", **style),
        }  # fmt: skip

    def _read(self, name: str, value: object) -> object:
        # a slider's last step may lie a hair beyond the clip
        return min(float(value), self.clip.duration) if name in ("start", "end") else value  # pyright: ignore


def _picture(part: Dependence, label: str) -> plots.Figure:
    """The frame with the hidden part, and the levels of both sounds over time."""
    from matplotlib.figure import Figure

    from v2a_nb.saliency.hiding import STEP_S

    fig = Figure(figsize=(4.6, 2.1), layout="constrained")
    left, right = fig.subplots(1, 2, width_ratios=(1, 1.9))
    at = min(len(part.clip.frames) - 1, int(part.greatest_s * part.clip.fps))
    left.imshow(part.clip.frames[at])
    left.set(xticks=[], yticks=[])
    left.set_title(f"{part.greatest_s:.2f} s", fontsize=8)
    times = (np.arange(len(part.difference_db)) + 0.5) * STEP_S
    for levels, name, colour, dash in (
        (part.whole_db, "whole", "#2457c5", "-"), (part.hidden_db, "part hidden", "#b3261e", "--"),
    ):  # fmt: skip
        right.plot(times, levels, dash, color=colour, lw=1.2, label=name)
    right.set(xlabel="time (s)", ylabel="level (dBFS)")
    right.legend(fontsize=7)
    right.tick_params(labelsize=7)
    return plots.show(fig, alt=f"A frame {label}, and the levels of the sounds with and without that part over time")


@check_types
def explore_hiding(
    system,
    clip: Clip,
    *,
    boxes: Sequence[Sequence[float]] = QUARTERS,
    times: Sequence[float] | None = None,
    seed: int = 0,
    title: str = "",
    **options: object,
) -> HidingExplorer:
    """Hide a part of the picture, and hear which sounds depend on it.

    The result is displayed as a static page that needs no kernel: what is lost and what is left without each box.
    ``.live()`` has the picture to drag over and needs a kernel; ``.dependence(box=(0.3, 0.4, 0.6, 0.9))`` is both
    sounds in code, ``.save(path)`` writes the page.

    Args:
        system: what :func:`v2a_nb.load` returns.
        clip: the video; its own sound is not used.
        boxes: of the page, ``(x0, y0, x1, y1)`` each, from 0 to 1 of the picture; left out, its quarters.
        times: seconds in which they are hidden; left out, always.
        seed: of all sounds.
        title: heading of the page.
        options: further options of ``system.generate``, such as ``guidance``.

    Raises:
        UsageError: an argument of a wrong type, no box, or a box or times that are no part of the clip.

    Examples:
        >>> from v2a_nb import load
        >>> explorer = explore_hiding(load("vaura"), clip, boxes=[(0.3, 0.3, 0.7, 0.9)])
        >>> explorer.dependence().hidden.n == explorer.whole.n
        True
    """
    if not callable(getattr(system, "generate", None)):
        raise UsageError(f"explore_hiding: system must be what v2a.load returns, not {type(system).__name__}")
    if not len(boxes):
        raise UsageError("explore_hiding: at least one box is needed")
    if times is not None and len(times) != 2:
        raise UsageError(f"times are (start, end) in seconds, not {times!r}")
    return HidingExplorer(system, clip, list(boxes), times, seed, title, options)


@lru_cache(maxsize=1)
def _picker() -> type:
    """The widget class, created on demand, because the page needs no ipywidgets."""
    import anywidget
    from traitlets import List, Unicode

    class BoxPicker(anywidget.AnyWidget):
        """A picture on which a box is drawn; ``value`` is the box, from 0 to 1."""

        _esm = Path(__file__).with_name("box_picker.js")
        value = List().tag(sync=True)
        picture = Unicode().tag(sync=True)
        alt = Unicode().tag(sync=True)

        def __init__(self, pixels: np.ndarray, box: Sequence[float], alt: str) -> None:
            super().__init__(value=list(box), picture=data_uri("image/png", _png(pixels)), alt=as_text(alt))

    return BoxPicker


def _png(pixels: np.ndarray) -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
