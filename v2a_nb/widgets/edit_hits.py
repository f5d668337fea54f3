"""The editor of hits: what a system expects to sound in a clip, to be changed by hand and heard again."""

from __future__ import annotations

import hashlib
import json
import re
import time
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError, V2AError, check_types
from v2a_nb.hits import AUTO, SENSITIVITY, Hits, check_sensitivity
from v2a_nb.widgets import explorer_frame as frame
from v2a_nb.widgets.page import Page, escape, json_text
from v2a_nb.widgets.payload import as_text, encode
from v2a_nb.widgets.player import Player, compare
from v2a_nb.widgets.player import script as player_script

MOST_S = 30.0
"""Seconds of the longest clip that is edited at once."""
BEFORE, YOURS, OWN = "as expected", "your hits", "its own sound"
BLOCKS = 600  # levels of a sound
EVERY_S = 0.3  # between two words on the progress


class HitEditor(Page):
    """What :func:`edit_hits` returns.

    Attributes:
        system, clip, seed, options: the arguments; the clip's own sound is never an input.
        before: the sound that the system makes by itself, generated at the first access; set it where it exists.
        sound: that of the hits as they were when it was last made; None before.
    """

    def __init__(
        self,
        system: Any,
        clip: Clip,
        hits: Hits | None,
        sensitivity: float | str,
        seed: int,
        title: str,
        options: dict,
    ) -> None:
        if not (callable(getattr(system, "generate", None)) and callable(getattr(system, "hits", None))):
            raise UsageError(f"edit_hits: system must be what v2a.load returns, not {type(system).__name__}")
        if "hits" not in getattr(system, "options", ()):
            raise UsageError(f"system {system.name} finds whole sounds and follows no hits: v2a.load('vaura') does")
        if clip.duration > MOST_S:
            raise UsageError(
                f"{clip.name} has {clip.duration:.0f} s, and {MOST_S:.0f} s can be edited at once: clip.slice(0, 30)"
            )
        frame.check_seed(seed)
        self.system, self.clip, self.seed, self.options = system, clip, seed, options
        self.title = as_text(title or f"Hits: {clip.name}")
        self.sound: Sound | None = None
        self._hits: Hits | None = None
        self._take(hits=hits, sensitivity=sensitivity)

    def __repr__(self) -> str:
        hits = f"{len(self.followed)} of {len(self.hits)} hits sound"
        return f"HitEditor({self.title!r}, {hits}; .live() makes their sound)"

    # --- values -----------------------------------------------------------------------------------

    @property
    def hits(self) -> Hits:
        """All hits, those that the system doubts as well. Set them to change them.

        Raises:
            UsageError: hits outside of the clip.
        """
        hits = self._hits
        if hits is None:
            hits = self._hits = self.system.hits(self.clip.silent(), sensitivity=1.0)
        return hits

    @hits.setter
    def hits(self, value: Hits) -> None:
        self._take(hits=value)
        if "_panel" in vars(self):
            self._panel.show()

    @property
    def sensitivity(self) -> float:
        """Which of the system's hits sound, see :meth:`v2a_nb.hits.Hits.at`. Set it to change it.

        ``"auto"`` becomes the number that suits the clip, and its hits the :attr:`~v2a_nb.hits.Hits.fitted` ones.
        """
        return self._sensitivity

    @sensitivity.setter
    def sensitivity(self, value: float | str) -> None:
        self._take(sensitivity=value)
        if "_panel" in vars(self):
            self._panel.show()

    def _take(self, *, hits: Any = None, sensitivity: float | str | None = None) -> None:
        """Check values and keep them, without a word to the browser, which may be where they come from."""
        if hits is not None:
            hits = hits if isinstance(hits, Hits) else Hits(hits)
            hits.check_within(self.clip.duration, self.clip.name)
            self._hits = hits
        if sensitivity == AUTO:
            self._hits = self.hits.fitted.part(0.0, self.clip.duration)
            sensitivity = self._hits.fitting_sensitivity
        if sensitivity is not None:
            check_sensitivity(sensitivity)
            self._sensitivity = float(sensitivity)

    @property
    def followed(self) -> Hits:
        """The hits that sound: yours, and those that the system is sure enough of."""
        return self.hits.at(self.sensitivity)

    @cached_property
    def before(self) -> Sound:
        return self.system.generate(self.clip.silent(), seed=self.seed, **self.options)

    def make(self, progress: Any = None) -> Sound:
        """Generate the sound of the hits as they are now, and keep it in :attr:`sound`.

        Args:
            progress: as for ``generate``.

        Raises:
            UsageError: as ``generate``.
        """
        how = {**self.options, "hits": self.followed, "progress": progress}
        sound = self.sound = self.system.generate(self.clip.silent(), seed=self.seed, **how)
        return sound

    @property
    def player(self) -> Player:
        """A player of the clip with the sounds before and after, and its own one."""
        sounds = {YOURS: self.sound, BEFORE: self.before, OWN: self.clip.sound}
        return compare(self.clip, {name: s for name, s in sounds.items() if s is not None}, title=self.title)

    # --- the page ---------------------------------------------------------------------------------

    def _data(self, player: Player) -> dict:
        """What the script is told, but for the hits and the sensitivity."""
        sounds = [player.tracks[name] for name in (BEFORE, YOURS) if name in player.tracks]
        return {
            "duration": self.clip.duration, "name": as_text(self.clip.name), "title": self.title,
            "waves": [encode(levels(sound, self.clip.duration)) for sound in sounds],
        }  # fmt: skip

    @property
    def html(self) -> str:
        """The HTML of the static page: hits can be changed and saved, their sound cannot be made."""
        player = self.player
        hits = self.hits.to_dict()["hits"]
        data = json_text({**self._data(player), "hits": hits, "sensitivity": self.sensitivity})
        token = "v2a-" + hashlib.sha256(data.encode()).hexdigest()[:12]  # from the content, not from chance
        return (
            f'<div class="{token}" style="margin:8px 0;max-width:1000px;font-family:system-ui,sans-serif">'
            f"<pre data-plain>{escape(self.hits)}</pre>{player.html}"
            "<p><small>A page without a kernel: hits can be changed and saved. <code>.live()</code> makes their sound, "
            "and so does <code>v2a-nb generate VIDEO --hits FILE --out made</code>.</small></p>"
            f'<script type="application/json" data-hits>{data}</script>'
            f"<script>(() => {{\n{_script()}\n"
            f'for (const root of document.querySelectorAll("div.{token}:not([data-mounted])"))'
            ' edit(root, JSON.parse(root.querySelector("script[data-hits]").textContent));\n'
            "})();</script></div>"
        )

    # --- with a kernel ----------------------------------------------------------------------------

    def live(self):
        """Return the editor with a button that makes the sound of the hits; it needs a kernel.

        Returns:
            an ``anywidget.AnyWidget``. What is changed in it is in :attr:`hits` and :attr:`sensitivity` at once.
        """
        return self._panel

    @cached_property
    def _panel(self):
        return _panel()(self)


@check_types
def edit_hits(
    system,
    clip: Clip,
    hits: Hits | None = None,
    *,
    sensitivity: float | str = SENSITIVITY,
    seed: int = 0,
    title: str = "",
    **options: object,
) -> HitEditor:
    """Show what a system expects to sound in a clip, to be changed by hand.

    The result is displayed as a page that needs no kernel: hits over the waveform, which are added by a click, dragged,
    made louder and removed, and saved as a file for ``generate --hits``. ``.live()`` has a button that makes their
    sound as well, beside that of before; it needs a kernel. ``.hits`` has the hits as they are now, ``.make()``
    generates their sound in code, and ``.save(path)`` writes the page.

    Args:
        system: what :func:`v2a_nb.load` returns.
        clip: the video, 30 s at most; its own sound is not used.
        hits: to begin with; left out, all that the system expects, also what it doubts.
        sensitivity: which of the system's hits sound, see :meth:`v2a_nb.hits.Hits.at`; ``"auto"``, what suits the clip.
        seed: of all sounds.
        title: heading of the page.
        options: further options of ``system.generate``, such as ``guidance``.

    Raises:
        UsageError: an argument of a wrong type, a system that follows no hits, or a clip that is too long.

    Examples:
        >>> from v2a_nb import load
        >>> editor = edit_hits(load("vaura"), clip)
        >>> editor.hits = editor.hits[:1].add(1.0)
        >>> editor.make().n == round(clip.duration * 16000)
        True
    """
    return HitEditor(system, clip, hits, sensitivity, seed, title, options)


@lru_cache(maxsize=1)
def _panel() -> type:
    """The widget class, created on demand, because the page needs no ipywidgets."""
    import anywidget
    from traitlets import Bytes, Dict, Float, Int, List, Unicode

    class HitPanel(anywidget.AnyWidget):
        """The editor and the player below it; ``_asked`` counts the presses of the button."""

        _esm = f"const player = (() => {{\n{player_script()}\nreturn {{ mount, render }};\n}})();\n{_source()}"
        _data = Dict().tag(sync=True)
        _payload = Unicode().tag(sync=True)
        _media = List(Bytes()).tag(sync=True)
        _hits = List().tag(sync=True)
        _sensitivity = Float(SENSITIVITY).tag(sync=True)
        _asked = Int(0).tag(sync=True)
        _status = Dict().tag(sync=True)

        def __init__(self, editor: HitEditor) -> None:
            self._editor = editor
            super().__init__(**self._sounds(), **self._values(), _status=_status_of(""))
            self.observe(self._changed, ["_hits", "_sensitivity"])
            self.observe(self._make, "_asked")

        def __repr__(self) -> str:
            return f"HitPanel({len(self._editor.followed)} of {len(self._editor.hits)} hits sound)"

        def show(self) -> None:
            """Show what the editor has."""
            with self.hold_sync():
                for name, value in self._values().items():
                    setattr(self, name, value)

        def _values(self) -> dict:
            return {"_hits": self._editor.hits.to_dict()["hits"], "_sensitivity": self._editor.sensitivity}

        def _sounds(self) -> dict:
            player = self._editor.player
            payload = json.dumps(player.payload, allow_nan=False)
            return {"_data": self._editor._data(player), "_payload": payload, "_media": player.media}

        def _changed(self, change: dict) -> None:
            """Take over what the browser has set; what Python has set is there already."""
            if change["new"] == self._values()[change["name"]]:
                return
            try:
                self._editor._take(**{change["name"][1:]: change["new"]})
            except V2AError as error:
                self._status = _status_of(error, bad=True)

        def _make(self, _change: dict) -> None:
            said, steps = time.monotonic(), 0
            total = self._editor.system.steps_of(self._editor.clip, **self._editor.options)

            def progress(more: int) -> None:
                nonlocal said, steps
                steps += more
                if time.monotonic() - said > EVERY_S:
                    said = time.monotonic()
                    self._status = _status_of(f"making the sound: {100 * steps / total:.0f} %", busy=True)

            try:
                self._editor.make(progress)
                sounds = self._sounds()
            except V2AError as error:
                self._status = _status_of(error, bad=True)
            except Exception as error:
                self._status = _status_of(f"unexpected {type(error).__name__}: {error}", bad=True)
                raise  # a fault of ours: the log has where
            else:
                with self.hold_sync():
                    for name, value in sounds.items():
                        setattr(self, name, value)
                    self._status = _status_of(f"made with {len(self._editor.followed)} hits; compare with 1 and 2")

    return HitPanel


def levels(sound: Sound, duration: float) -> np.ndarray:
    """RMS levels over a clip of that duration (s), uint8 [600]: 0 for -70 dBFS and less, 255 for -10 and more."""
    wave = sound.mono().fit(duration).samples[0]
    edges = np.linspace(0, len(wave), BLOCKS + 1).astype(int)
    sums = np.concatenate([[0.0], np.cumsum(np.square(wave, dtype=np.float64))])
    power = np.diff(sums[edges]) / np.maximum(np.diff(edges), 1)
    return np.round(255 * np.clip((10 * np.log10(power + 1e-12) + 70) / 60, 0, 1)).astype(np.uint8)


def _status_of(text: object, *, bad: bool = False, busy: bool = False) -> dict:
    return {"text": " ".join(as_text(text).split()), "bad": bad, "busy": busy}


def _source() -> str:
    return (Path(__file__).parent / "hit_editor.js").read_text(encoding="utf-8")


def _script() -> str:
    """The module as a plain script: outputs of notebooks cannot import from each other."""
    source = re.sub(r"^export default .*$", "", _source(), flags=re.M)
    return re.sub(r"^export ", "", source, flags=re.M).strip()
