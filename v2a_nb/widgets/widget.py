"""The player as a widget: the same script, synchronised with a kernel in both directions."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import anywidget
from traitlets import Any, Bytes, List, Unicode, validate

from v2a_nb.errors import UsageError

_numbers = itertools.count()


class PlayerWidget(anywidget.AnyWidget):
    """A :class:`~v2a_nb.widgets.player.Player` whose state is in Python; ``v2a.play(clip, sound).widget()`` makes one.

    It needs a running kernel, so the plain player is what a notebook should show; this is for code that reacts:
    ``widget.observe(function, "selection")``. While playing, Python is notified at most five times per second.

    Attributes:
        current_time: seconds, 0 to the clip's duration. Set it to seek.
        selection: ``(start, end)`` in seconds, or None. Set it to select.
        track: label of the soundtrack that is heard; a number is taken as its index. It is "" without sound.
        playing: set it to start or stop. A browser may refuse to start before the page was clicked on; then it
            becomes False again.
        player: the :class:`~v2a_nb.widgets.player.Player` that is shown.

    Raises:
        UsageError: an impossible value, such as a time outside of the clip or an unknown track.
    """

    _esm = Path(__file__).with_name("player.js")
    _payload = Unicode().tag(sync=True)
    _media = List(Bytes()).tag(sync=True)
    _key = Unicode().tag(sync=True)  # tells the views of one widget from those of another
    current_time = Any(0.0).tag(sync=True)
    selection = Any(None).tag(sync=True)
    track = Any("").tag(sync=True)
    playing = Any(False).tag(sync=True)

    def __init__(self, player, **traits: object) -> None:
        if not (hasattr(player, "payload") and hasattr(player, "tracks")):
            raise UsageError(f"the widget needs a Player, as v2a.play makes it, not a {type(player).__name__}")
        self.player = player
        super().__init__(
            _payload=json.dumps(player.payload, allow_nan=False),
            _media=player.media,
            _key=f"player-{next(_numbers)}",
            **{"track": 0 if player.tracks else "", **traits},
        )

    def __repr__(self) -> str:
        return f"PlayerWidget({self.current_time:.2f} of {self.player.clip.duration:.2f} s, track {self.track!r})"

    def _seconds(self, value: object, what: str) -> float:
        length = self.player.payload["duration"]
        try:
            time = float(value)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{what} must be in seconds, not {value!r}") from error
        if not -0.01 <= time <= length + 0.01:  # NaN as well; a hair is the rounding of a browser
            raise UsageError(f"{what} of {time:g} s lies outside of the clip, which has {length:.2f} s")
        return min(max(time, 0.0), length)

    @validate("current_time")
    def _check_time(self, proposal: dict) -> float:
        return self._seconds(proposal["value"], "a current_time")

    @validate("selection")
    def _check_selection(self, proposal: dict) -> tuple[float, float] | None:
        given = proposal["value"]
        if given is None:
            return None
        if isinstance(given, str) or not hasattr(given, "__len__") or len(given) != 2:
            raise UsageError(f"a selection is (start, end) in seconds or None, not {given!r}")
        start, end = (self._seconds(t, "a selection's edge") for t in given)
        if end <= start or math.isclose(start, end):
            raise UsageError(f"a selection from {start:g} s to {end:g} s is empty")
        return start, end

    @validate("track")
    def _check_track(self, proposal: dict) -> str:
        given, labels = proposal["value"], list(self.player.tracks)
        if isinstance(given, int) and not isinstance(given, bool) and 0 <= given < len(labels):
            return labels[given]
        if given in labels or (given == "" and not labels):
            return given
        raise UsageError(f"there is no track {given!r}; there are {', '.join(map(repr, labels)) or 'none'}")

    @validate("playing")
    def _check_playing(self, proposal: dict) -> bool:
        return bool(proposal["value"])
