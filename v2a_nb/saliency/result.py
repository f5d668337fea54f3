"""The result of an attribution: a map over the frames of a clip, and all that must be said beside it.

It needs no torch: a map that was saved can be loaded, plotted and played where no system can run. How it is drawn is
registered by ``plots/`` and ``widgets/``, which stand a floor above (:func:`register_display`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import MediaError, UsageError, check_value
from v2a_nb.files import atomic

UNCHECKED = "not checked: nothing says yet whether this map can be believed"


@dataclass(frozen=True, eq=False)
class Saliency:
    """Where and when a system looked for a part of its sound.

    Attributes:
        map: float32 [T, h, w], not negative; only its proportions mean something. A method that knows no place has
            h = w = 1.
        fps: frames of the map a second.
        window: seconds of the sound that is explained.
        target: what was explained, in words.
        method, baseline: how; a method that compares with nothing has no baseline.
        completeness_error: of integrated gradients, by how much attributions miss the target's change, as a share of
            it; None for other methods.
        value: of the target.
        system: its title.
        notes: what a reader must know.
        scores: numbers of judges by name.
        marks: why the map should not be believed, in words; they are drawn into the picture.
        checked: whether judges have looked at it.

    Raises:
        UsageError: a map of another shape, negative, or with NaN in it; an impossible rate or window.

    Examples:
        >>> made = Saliency(np.eye(4)[None].repeat(5, 0), fps=25.0, window=(0.0, 0.2))
        >>> made.peak_s, made.place
        (0.02, (0.125, 0.125))
    """

    map: np.ndarray
    fps: float
    window: tuple[float, float]
    target: str = ""
    method: str = ""
    baseline: str = ""
    completeness_error: float | None = None
    value: float = float("nan")
    system: str = ""
    notes: tuple[str, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    marks: tuple[str, ...] = ()
    checked: bool = False

    def __post_init__(self) -> None:
        number = (float, type(None))
        for name, *kinds in (
            ("fps", float), ("target", str), ("method", str), ("baseline", str), ("completeness_error", *number),
            ("value", float), ("system", str), ("notes", Sequence), ("scores", Mapping), ("marks", Sequence),
            ("checked", bool),
        ):  # fmt: skip
            check_value("Saliency", name, getattr(self, name), *kinds)
        try:
            found = np.array(self.map, np.float32)
            window = tuple(float(t) for t in self.window)
        except (TypeError, ValueError) as error:
            raise UsageError(f"a saliency map needs numbers, and a window (start, end) in seconds: {error}") from error
        if found.ndim != 3 or not found.size or not np.isfinite(found).all() or found.min() < 0:
            raise UsageError(f"a saliency map is [T, h, w], finite and not negative; this is {list(found.shape)}")
        if not 0 < self.fps < 10000 or len(window) != 2 or not window[0] < window[1]:
            raise UsageError(f"a saliency map at {self.fps} frames per second, window {self.window}, is impossible")
        found.flags.writeable = False
        for name, value in (("map", found), ("window", window), ("fps", float(self.fps))):
            object.__setattr__(self, name, value)
        for name in ("notes", "marks"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def curve(self) -> np.ndarray:
        """The map over time: the mean over the picture, float32 [T]."""
        return self.map.mean(axis=(1, 2))

    @property
    def peak_s(self) -> float:
        """The middle of the frame with the greatest mean, seconds."""
        return (int(self.curve.argmax()) + 0.5) / self.fps

    @property
    def place(self) -> tuple[float, float]:
        """Where the map, summed over time, is greatest: x and y from 0 to 1, the middle of the cell."""
        total = self.map.sum(0)
        y, x = np.unravel_index(int(total.argmax()), total.shape)
        return (float(x) + 0.5) / total.shape[1], (float(y) + 0.5) / total.shape[0]

    @property
    def title(self) -> str:
        """A line that names method, system and window."""
        words = self.method.replace("_", " ") + (f" from {self.baseline}" if self.baseline else "")
        start, end = self.window
        return f"{words or 'saliency'}{f' of {self.system}' if self.system else ''}, sound {start:.2f} to {end:.2f} s"

    @property
    def verdict(self) -> str:
        """Whether the map can be believed, in a line."""
        if self.marks:
            return "do not believe this map: " + "; ".join(self.marks)
        return "no check speaks against this map" if self.checked else UNCHECKED

    def with_scores(self, scores: Mapping[str, float], marks: tuple[str, ...] = ()) -> Saliency:
        """The same map with what judges say of it; it counts as checked."""
        return replace(self, scores={**self.scores, **scores}, marks=(*self.marks, *marks), checked=True)

    def part(self, clip: Clip, start: float) -> Saliency:
        """A map of a part of a clip as one of the whole clip: zero outside of the part.

        Args:
            clip: the whole one.
            start: where the part begins, seconds.
        """
        whole = np.zeros((max(1, int(np.ceil(clip.duration * self.fps - 1e-6))), *self.map.shape[1:]), np.float32)
        first = min(round(start * self.fps), len(whole) - 1)
        count = min(len(self.map), len(whole) - first)
        whole[first : first + count] = self.map[:count]
        return replace(self, map=whole, window=(self.window[0] + start, self.window[1] + start))

    def in_picture(self, width: int, height: int) -> Saliency:
        """A map of the middle square as one of the whole picture, which encoders crop so: zero beside the square."""
        (_, h, w), short = self.map.shape, min(width, height)
        if width == height or (h, w) == (1, 1):
            return self
        high, wide = (max(n, round(n * side / short)) for n, side in ((h, height), (w, width)))
        above, left = (high - h) // 2, (wide - w) // 2
        padding = ((0, 0), (above, high - h - above), (left, wide - w - left))
        return replace(self, map=np.pad(self.map, padding))

    # --- files --------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write an ``.npz`` with ``map`` float32 [T, h, w], ``fps``, ``window`` and ``curve``, and the rest as JSON.

        Returns:
            the path.

        Raises:
            MediaError: it cannot be written.
        """
        about = {name: getattr(self, name) for name in _ABOUT}
        about["scores"] = {k: float(v) for k, v in self.scores.items()}
        arrays = {"map": self.map, "fps": np.float64(self.fps), "window": np.array(self.window), "curve": self.curve}
        try:
            with atomic(path) as partial, open(partial, "wb") as file:
                np.savez_compressed(file, **arrays, about=np.array(json.dumps(about)))
        except OSError as error:
            raise MediaError(f"{path}: the map cannot be written: {error.strerror or error}") from error
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Saliency:
        """Read what :meth:`save` wrote; a file with ``map`` and ``fps`` alone is enough.

        Raises:
            MediaError: it cannot be read, or holds no map.
        """
        try:
            with np.load(path, allow_pickle=False) as found:
                about = json.loads(str(found["about"])) if "about" in found else {}
                map_, fps = found["map"], float(found["fps"])
                start, end = found["window"] if "window" in found else (0.0, len(map_) / fps)
            return cls(
                map_, fps, (float(start), float(end)), **{k: v for k, v in about.items() if k in (*_ABOUT, "scores")}
            )
        except (OSError, ValueError, KeyError, TypeError, EOFError, UsageError) as error:
            raise MediaError(f"{path}: no saliency map can be read: {error}") from error

    # --- shown --------------------------------------------------------------------------------------

    def plot(self, clip: Clip | None = None, **options: Any) -> Any:
        """A figure: the frames that mattered with the map over them, and the curve over time.

        Args:
            clip: whose frames are drawn below; left out, the map alone.
            options: of :func:`v2a_nb.plots.saliency`.
        """
        return _shown("plot", self, clip, **options)

    def play(self, clip: Clip, sound: Sound | None = None, **options: Any) -> Any:
        """The player with the map over the picture.

        Args:
            clip: the video.
            sound: the soundtrack; left out, the clip's own.
            options: of :func:`v2a_nb.play`.
        """
        return _shown("play", self, clip, sound, **options)

    def __repr__(self) -> str:
        t, h, w = self.map.shape
        return f"Saliency({self.title}; {t} x {h} x {w}, peak at {self.peak_s:.2f} s; {self.verdict})"

    def _repr_html_(self) -> str:
        return _shown("plot", self, None)._repr_html_()


_ABOUT = (
    "target", "method", "baseline", "completeness_error", "value", "system", "notes", "marks", "checked",
)  # fmt: skip
_display: dict[str, Callable[..., Any]] = {}


def register_display(**ways: Callable[..., Any]) -> None:
    """Set how maps are drawn: ``plot(saliency, clip, **options)`` and ``play(saliency, clip, sound, **options)``."""
    _display.update(ways)


def _shown(way: str, *args: Any, **options: Any) -> Any:
    if way not in _display:
        _ = import_module("v2a_nb").Saliency  # the package's front registers ways to draw it
    return _display[way](*args, **options)
