"""The player: a clip, its soundtracks and its events under one playhead, as self-contained HTML.

Where scripts run (JupyterLab, Colab, a saved page) the full player is shown; where they do not (an untrusted
notebook), the same HTML is the browser's own video and audio controls; where those are taken out as well, a
picture. It needs no kernel, no network and no widget state. Levels are never touched: amplitude and colour
have one fixed scale for all tracks, so a quiet track sounds and looks quiet.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from v2a_nb.clip import Clip, Sound, register_display
from v2a_nb.errors import UsageError, check_types
from v2a_nb.hits import Hit
from v2a_nb.widgets import payload as make
from v2a_nb.widgets.page import Page, data_uri, escape, json_text

if TYPE_CHECKING:
    from v2a_nb.widgets.widget import PlayerWidget


class Player(Page):
    """The result of :func:`play` and :func:`compare`, which shows itself in a notebook and can be saved as a page.

    A long clip is shown in smaller pictures, fewer of them and at a lower sample rate; of one that is longer still, the
    beginning is shown, and the page says so.

    Attributes:
        clip, tracks, events, saliency, title: the arguments; tracks by label, in the order of the keys 1 to 9.
        shown: the clip, or as much of its beginning as the page holds.

    Raises:
        UsageError: a track that is no sound, an event without a time, a saliency map of the wrong shape.
    """

    def __init__(
        self,
        clip: Clip,
        tracks: Mapping[str, Sound | tuple | None],
        events: Sequence[Mapping | Hit | float] | None = None,
        title: str = "",
        saliency: object = None,
    ) -> None:
        self.clip = clip
        takes = {make.as_text(k): make.take_of(k, v) for k, v in tracks.items() if v is not None}
        self.tracks = {name: sound for name, (sound, _) in takes.items()}
        self._bad = {name: bad for name, (_, bad) in takes.items()}
        self.absent = [make.as_text(k) for k, v in tracks.items() if v is None]
        self.events = [make.event_of(e) for e in (() if events is None else events)]
        room = make.LIMIT_BYTES - 500_000 - 70_000 * len(self.tracks)
        length = make.longest(list(self.tracks.values()), room)
        self.shown = clip if length >= clip.duration else clip.slice(0.0, max(1.0, length))
        self.saliency = None if saliency is None else make.saliency_of(saliency, clip.duration, self.shown.duration)
        self.title = make.as_text(title or clip.name)

    def __repr__(self) -> str:
        names = ", ".join(self.tracks) or "no sound"
        return f"Player({self.clip.duration:.2f} s, {self.clip.width}x{self.clip.height}, {names}{self._looked()})"

    def _looked(self) -> str:
        return "" if self.saliency is None else f", peak saliency at {self.saliency['peak']:.2f} s"

    @cached_property
    def _fit(self) -> tuple[int, int, str]:
        """Number of channels and highest rate (Hz) with which all fits the target size, and a remark."""
        extra = 0 if self.saliency is None else len(self.saliency["map"]) + len(self.saliency["curve"])
        used = 370_000 + 70_000 * len(self.tracks) + extra
        most = make.LIMIT_BYTES - used - make.FILM_RATE * self.shown.duration
        return make.fit_sound(self.shown.duration, list(self.tracks.values()), make.TARGET_BYTES - used, most)

    @property
    def _part(self) -> str:
        """A remark if a part of the clip is shown."""
        if self.shown is self.clip:
            return ""
        return f"the first {self.shown.duration:.0f} of {self.clip.duration:.0f} s, to keep this output small"

    @cached_property
    def payload(self) -> dict:
        """The data of the script as JSON types: seconds and hertz; per track int8 envelope and uint8 mels, base64."""
        peak = max((s.peak for s in self.tracks.values()), default=1.0)
        full = next((scale for scale in make.SCALES if scale >= peak), 1.0)
        top = min(max((s.sample_rate for s in self.tracks.values()), default=16000) / 2, 16000)
        length = self.shown.duration
        notes = [f"no sound given for {name}" for name in self.absent] + [n for n in (self._part, self._fit[2]) if n]
        if any(bad.any() for bad in self._bad.values()):
            notes.append("samples that are NaN or infinite are played as silence")
        return {
            "version": 2,
            "title": self.title,
            "duration": length,
            "fps": min(self.clip.fps, 240.0),
            "width": self.clip.width,
            "height": self.clip.height,
            "full": full,
            "fmax": top,
            "range": list(make.RANGE_DB),
            "events": [e for e in sorted(self.events, key=lambda e: e["time"]) if 0 <= e["time"] <= length],
            "notes": notes + (self.saliency["notes"] if self.saliency else []),
            "saliency": self.saliency,
            "tracks": [
                make.track_of(k, self._heard(s), self._bad[k], length, full, top) for k, s in self.tracks.items()
            ],
        }

    def _heard(self, sound: Sound) -> Sound:
        """As much of a sound as is played."""
        whole = self.shown is self.clip or sound.duration <= self.shown.duration
        return sound if whole else sound.fit(self.shown.duration)

    @cached_property
    def media(self) -> list[bytes]:
        """Picture (silent MP4), poster (JPEG) and one WAV for each track, reduced to the target size."""
        channels, rate, _ = self._fit
        sounds = [make.wav_of(s.fit(self.shown.duration), channels, rate) for s in self.tracks.values()]
        poster = make.poster_of(self.shown)
        rest = sum(map(len, sounds)) * 4 / 3 + 400 * len(sounds) + len(poster) * 8 / 3 + len(script()) + 4000
        rest += len(json.dumps(self.payload))
        film = make.film_of(self.shown, make.TARGET_BYTES - rest, make.LIMIT_BYTES - rest)
        return [film, poster, *sounds]

    @cached_property
    def alt(self) -> str:
        """A sentence that describes the player, for screen readers."""
        names = ", ".join(self.tracks) or "none"
        looked = self._looked().replace(", p", " P") + "." if self.saliency else ""
        return f"Picture from {self.title}, {self.shown.duration:.2f} seconds long. Soundtracks: {names}.{looked}"

    @cached_property
    def html(self) -> str:
        """The HTML: the browser's own controls, and the script that replaces them."""
        payload = json_text(self.payload)
        film, poster, *waves = self.media
        poster = data_uri("image/jpeg", poster)
        sounds = []
        for track, data in zip(self.payload["tracks"], waves, strict=True):
            name, state = escape(track["label"]), ", ".join(filter(None, [track["level"], *track["notes"]]))
            sounds.append(
                f'<p class="v2a-plain" style="margin:6px 0"><bdi>{name}</bdi>: {state}<br>'
                f'<audio controls preload="auto" aria-label="{name}: {state}" src="{data_uri("audio/wav", data)}">'
                "</audio></p>"
            )
        # from the content, not from chance; shown twice, each output still mounts what is not mounted yet
        token = "v2a-" + hashlib.sha256((payload + poster).encode()).hexdigest()[:12]
        absent = "".join(f"<br>No sound given for <bdi>{escape(name)}</bdi>." for name in self.absent)
        plain = "Scripts are off here: picture and sound start separately." if sounds else "No sound."
        plain += f" This is {self._part}." if self._part else ""
        plain += f" Peak saliency at {self.saliency['peak']:.2f} s." if self.saliency else ""
        alt = escape(self.alt)
        page = (
            f'<figure class="{token}" style="margin:8px 0;max-width:1000px;font-family:system-ui,sans-serif">'
            f'<figcaption dir="auto" style="font-weight:600;margin:0 0 8px;text-align:start">'
            f"{escape(self.title)}</figcaption>"
            f'<video controls muted playsinline preload="auto" width="{make.SIDE}" '
            'style="max-width:100%;max-height:320px" '
            f'aria-label="{alt}" title="{alt}" poster="{poster}" src="{data_uri("video/mp4", film)}">'
            f'<img alt="{alt}" src="{poster}" style="max-width:100%"></video>'
            f'{"".join(sounds)}<p class="v2a-plain" style="margin:6px 0"><small>{plain}{absent}</small></p>'
            f'<script type="application/json">{payload}</script>'
            f"<script>(() => {{\n{script()}\n"
            f'for (const root of document.querySelectorAll("figure.{token}:not([data-mounted])"))'
            " mount(root, JSON.parse(root.querySelector(\"script[type='application/json']\").textContent));\n"
            "})();</script></figure>"
        )
        if len(page) > make.LIMIT_BYTES:  # of more than a hundred tracks, whose pictures alone fill it
            raise UsageError(
                f"{self.title}: this player would have {len(page) / 1e6:.1f} MB, over {make.LIMIT_BYTES / 1e6:.0f}; "
                "show fewer tracks"
            )
        return page

    def widget(self) -> PlayerWidget:
        """Return the player as a widget, whose position, selection, track and playing can be read and set."""
        from v2a_nb.widgets.widget import PlayerWidget

        return PlayerWidget(self)


@check_types
def play(
    clip: Clip,
    sound: Sound | tuple | None = None,
    *,
    events: Sequence[Mapping | Hit | float] | None = None,
    title: str = "",
    saliency: object = None,
) -> Player:
    """Show a player of one clip with one soundtrack.

    Args:
        clip: the video.
        sound: a sound, or ``(samples, sample_rate)``, which may hold NaN; left out, the clip's own sound.
        events: true events as in ``truth.json`` (``time_s``, ``kind``, ``material``, ``sounding``), hits, or times (s).
        title: heading, any text; left out, the clip's name.
        saliency: where a model looked, an object or dict with ``map`` (float [T, h, w], not negative), ``fps`` and
            perhaps ``window`` (seconds), or ``(map, fps)``; drawn over the picture, with its curve over time.

    Raises:
        UsageError: as :class:`Player`.
    """
    sound = clip.sound if sound is None else sound
    return Player(clip, {} if sound is None else {"sound": sound}, events, title, saliency)


@check_types
def compare(
    clip: Clip,
    tracks: Mapping[str, Sound | tuple | None],
    *,
    events: Sequence[Mapping | Hit | float] | None = None,
    title: str = "",
    saliency: object = None,
) -> Player:
    """Show a player of one clip with several soundtracks that switch at the same position.

    Args:
        clip: the video.
        tracks: sounds by label, played at their own level; None, the sound of a silent clip, is shown as absent.
        events, title, saliency: as for :func:`play`.

    Raises:
        UsageError: as :class:`Player`.
    """
    return Player(clip, tracks, events, title, saliency)


def sound_html(sound: Sound) -> str:
    """HTML of a sound with the browser's controls; unlike IPython's, it is not scaled to full level.

    A long sound is played at a lower sample rate and in mono; of one that is longer still, the beginning.
    """
    notes, shown, room = make.notes_of(sound, sound.duration), sound, make.LIMIT_BYTES - 10_000
    length = make.longest([sound], room, film=0)
    if length < sound.duration:
        shown = sound.slice(0, length)
        notes.append(f"the first {length:.0f} of {sound.duration:.0f} s, to keep this output small")
    channels, rate, lower = make.fit_sound(shown.duration, [shown], make.TARGET_BYTES, room)
    words = escape(", ".join(filter(None, [repr(sound), *notes, lower])))
    data = data_uri("audio/wav", make.wav_of(shown, channels, rate))
    return (
        f'<figure style="margin:0"><audio controls aria-label="{words}" src="{data}"></audio>'
        f"<figcaption>{words}</figcaption></figure>"
    )


def html_of(value: Clip | Sound) -> str:
    """The HTML with which a clip or a sound shows itself in a notebook."""
    return sound_html(value) if isinstance(value, Sound) else play(value)._repr_html_()


register_display(html_of)


@lru_cache(maxsize=1)
def script() -> str:
    """The module as a plain script: outputs of notebooks cannot import from each other."""
    source = (Path(__file__).parent / "player.js").read_text(encoding="utf-8")
    source = re.sub(r"^export default .*$", "", source, flags=re.M)
    return source.replace("\nexport ", "\n").strip()
