"""The training monitor: progress, loss curve, time left and newest sample of a training run.

It only reads what the run has written (``log.jsonl``, ``plan.json``, ``samples/STEP.wav``), so it can watch a run of
another process and does not disturb it. ``monitor("runs/vaura")`` shows what is there now; ``.live()`` refreshes in a
notebook; ``follow("runs/vaura")`` is the same as text in a terminal.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TextIO

from v2a_nb import media, plots
from v2a_nb.errors import UsageError, V2AError, check_types
from v2a_nb.training.progress import Progress, find_log, look, over, smooth
from v2a_nb.widgets.page import escape
from v2a_nb.widgets.player import sound_html

SAMPLE_S = 10.0  # of the newest sample, at most
BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int = 60) -> str:
    """Draw values as a row of text bars; neighbours are averaged where there are more than ``width``."""
    count = min(width, len(values))
    edges = [round(k * len(values) / count) for k in range(count + 1)] if count else []
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means, default=0), max(means, default=0)
    return "".join(BARS[round((v - low) / (high - low) * 7) if high > low else 0] for v in means)


@lru_cache(maxsize=4)
def curves(key: str, points: tuple[tuple[float, float], ...], rates: tuple[tuple[float, float], ...]) -> str:
    """Plot raw and smoothed values over steps, and the learning rate below: an HTML image with alt text."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(7.5, 3.6), layout="constrained")
    upper, lower = fig.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    steps, values = [step for step, _ in points], [value for _, value in points]
    soft = smooth(values)
    upper.plot(steps, values, lw=0.8, color="0.6", label="as logged")
    upper.plot(steps, soft, lw=2.2, color=plots.WAVE, label="smoothed", marker="o" if len(steps) < 3 else None)
    ranked, cut = sorted(values), len(values) // 50  # one wild value must not flatten the rest
    low, high = min(ranked[cut], *soft), max(ranked[-1 - cut], *soft)
    margin = 0.05 * (high - low) or abs(high) or 1
    upper.set(ylim=(low - margin, high + margin), ylabel=key.replace("$", r"\$"))
    upper.legend(loc="upper right", frameon=False)
    lower.plot([step for step, _ in rates], [rate for _, rate in rates], color=plots.WAVE)
    lower.set(xlabel="step", ylabel="rate")
    said = f"{printable(key)} over steps: {values[0]:.4g} at {steps[0]:,}, smoothed {soft[-1]:.4g} at {steps[-1]:,}"
    return plots.show(fig, f"{said}; below it the learning rate.", dpi=90)._repr_html_()


def status_html(progress: Progress, key: str) -> str:
    """The HTML of state, times, values and curves, without the sample."""
    head, *rest = (escape(line) for line in progress.words())
    share = progress.step / progress.total if progress.total else 0
    bar = f'<progress aria-label="steps done" value="{share}" style="width:100%"></progress>' if progress.total else ""
    plot = f"<p>There is no {escape(key)} in the log, or no finite one.</p>" if progress.lines else ""
    if points := tuple(progress.series(key)):
        plot = curves(key, points, tuple(progress.series("rate")))
    return (
        '<div style="font-size:14px;line-height:1.45;max-width:720px">'
        f'<p dir="auto" style="margin:4px 0;font-weight:600">{head}</p>{bar}'
        f'<p dir="auto" style="margin:4px 0">{"<br>".join(rest)}</p>{plot}</div>'
    )


def sample_html(progress: Progress) -> str:
    """The HTML of the newest sample with the browser's controls, or the reason why there is none."""
    if progress.sample is None:
        return "<p><small>no sound sample yet (samples/STEP.wav)</small></p>"
    try:
        sound = media.open_sound(progress.sample[0])
        cut = f", its first {SAMPLE_S:g} s" if sound.duration > SAMPLE_S else ""
        player = sound_html(sound.slice(0, SAMPLE_S) if cut else sound)
    except V2AError as error:
        return f'<p dir="auto"><small>{escape(error)}</small></p>'
    return f'<p style="margin:8px 0 2px">newest sample: <bdi>{escape(progress.sample[0].name)}</bdi>{cut}</p>{player}'


def printable(text: object) -> str:
    """Replace every control and direction mark of a text, so that it cannot steer a terminal."""
    return "".join(c if c.isprintable() else "\ufffd" for c in str(text).encode("utf-8", "replace").decode())


@dataclass
class Monitor:
    """The result of :func:`monitor`, which reads the run anew whenever it is shown."""

    folder: Path
    key: str = "loss"
    steps: int | None = None
    log: Path | None = None

    def look(self) -> Progress:
        """Read the current state of the run."""
        self.log = find_log(self.folder, self.log)
        return look(self.folder, steps=self.steps, log=self.log)

    def __repr__(self) -> str:
        return f"Monitor({printable(self.look().words()[0])})"

    def _repr_html_(self) -> str:
        progress = self.look()
        note = [escape(progress.sample_age), f"read at {time.strftime('%H:%M:%S')}", ".live() keeps it fresh"]
        under = "; ".join(filter(None, note))
        return (
            '<section aria-label="Training monitor" style="font-family:system-ui,sans-serif">'
            f"{status_html(progress, self.key)}{sample_html(progress)}<p><small>{under}</small></p></section>"
        )

    def text(self, width: int = 80) -> str:
        """One screen of plain text, no line longer than ``width``."""
        progress = self.look()
        soft, lines = smooth([v for _, v in progress.series(self.key)]), [str(self.folder), *progress.words()]
        if progress.total:
            done = round(progress.step / progress.total * (width - 2))
            lines.insert(2, f"[{'#' * done}{'.' * (width - 2 - done)}]")
        if len(soft) > 1:
            room = max(8, width - 26 - len(self.key))
            lines.append(f"{self.key} {soft[0]:.4g} {sparkline(soft, room)} {soft[-1]:.4g}")
        lines += [f"newest sample: samples/{progress.sample_age}"] if progress.sample else []
        return "\n".join(part for line in lines for part in textwrap.wrap(printable(line), width))

    def live(self, every: float = 2.0) -> Live:
        """Refresh in a notebook every so many seconds, until the run ends, ``.stop()``, or an hour without news."""
        return Live(self, every)


@check_types
def monitor(folder: str | Path, *, key: str = "loss", steps: int | None = None) -> Monitor:
    """Watch a training run: curves, rate, time left and the newest sound.

    Args:
        folder: the ``--out`` of ``v2a-nb train``; it may not exist yet. Of several stages the active one is shown.
        key: name of the logged value whose curve is drawn.
        steps: planned number of steps, if the run has not written it into ``plan.json``.

    Raises:
        UsageError: impossible ``steps``.

    Example:
        ``monitor("runs/vaura").live()``
    """
    if steps is not None and steps < 1:
        raise UsageError(f"steps={steps}: at least one step is needed")
    return Monitor(Path(folder), key, steps)


def follow(
    folder: str | Path, out: TextIO | None = None, every: float = 2.0, *, steps: int | None = None, once: bool = False
) -> None:
    """Watch a training run in a terminal, on one screen that is redrawn; into a pipe, print a block for each change.

    Ends when the run ends, after an hour without news, with Ctrl-C, or after one screen (``once``).

    Raises:
        UsageError: there is no such folder, or ``every`` is under 0.1 s.
    """
    stream, watched, before = out or sys.stdout, monitor(folder, steps=steps), None
    if not watched.folder.exists() or not every >= 0.1:
        raise UsageError(
            f"{watched.folder}: no such folder" if every >= 0.1 else f"every {every:g} s: 0.1 is the least"
        )
    screen, code = stream.isatty() and not once, getattr(stream, "encoding", None) or "utf-8"
    try:
        while True:
            shown = watched.text(min(shutil.get_terminal_size().columns, 120) - 1 if screen else 80)
            if screen or shown != before:
                clear = "\x1b[H\x1b[2J" if screen else ""  # to the corner, and nothing there
                stream.write(clear + shown.encode(code, "replace").decode(code) + "\n")
                stream.flush()
            before = shown
            if once or over(watched.look(), watched.folder):
                return
            time.sleep(every)
    except KeyboardInterrupt:
        stream.write("\n")


class Live:
    """A monitor that refreshes itself in a notebook, from a thread that ends with the run.

    A folder has one at a time: a second one stops the first. It also stops when it is garbage-collected, or when its
    ``panel``, an ipywidgets box, is closed.
    """

    def __init__(self, watched: Monitor, every: float) -> None:
        import ipywidgets as w

        if not every >= 0.1:
            raise UsageError(f"every {every:g} s: 0.1 is the least")
        self.watched, self._end, self._heard = watched, threading.Event(), None
        self._status, self._sound, self._age, button = (
            w.HTML(),
            w.HTML(),
            w.HTML(),
            w.Button(description="Stop watching"),
        )
        self.panel = w.VBox([self._status, self._sound, self._age, button])
        self._connected = self.panel.comm is not None
        end = self._end  # not self: widgets are kept for ever, and what they hold as well
        button.on_click(lambda _: end.set())
        here = str(watched.folder.resolve())
        if here in _RUNNING:
            _RUNNING[here].stop()
        _RUNNING[here] = self
        watch = (weakref.ref(self), end, every)
        self.thread = threading.Thread(target=_refresh, args=watch, name="v2a-monitor", daemon=True)
        if self.update():
            self.thread.start()

    def update(self) -> bool:
        """Read the run once and show it; returns False when the run has ended."""
        progress = self.watched.look()
        self._status.value = status_html(progress, self.watched.key)
        if not self._sound.value or progress.sample != self._heard:  # else a new element would cut off what is playing
            self._sound.value, self._heard = sample_html(progress), progress.sample
        ended = over(progress, self.watched.folder)
        note = [escape(progress.sample_age), "no longer watched" if ended else f"read at {time.strftime('%H:%M:%S')}"]
        self._age.value = f"<small>{'; '.join(filter(None, note))}</small>"
        return not ended

    def stop(self) -> None:
        """Stop refreshing; the panel keeps what it shows."""
        self._end.set()

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.panel)


_RUNNING: weakref.WeakValueDictionary[str, Live] = weakref.WeakValueDictionary()


def _refresh(reference: Callable[[], Live | None], end: threading.Event, every: float) -> None:
    """The work of the thread; it refers to the panel only while it refreshes, so that the panel can be collected."""
    while not end.wait(every):
        shown = reference()
        if shown is None or (shown._connected and shown.panel.comm is None):
            return
        try:
            if not shown.update():
                end.set()
        except Exception as error:  # a thread has nobody to raise to: say it where it is seen
            shown._age.value = f"<small>no longer watched: {escape(f'{type(error).__name__}: {error}')}</small>"
            return
        del shown
