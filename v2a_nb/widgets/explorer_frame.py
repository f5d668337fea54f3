"""The base of the explorers: a static page for a set of settings, and a live panel with sliders.

An explorer displays a **static page** by default: a table of numbers, and a picture and a sound for each of a few
settings, computed once. It has no script, no widget and nothing from the network, so that a saved notebook shows it
everywhere, even an untrusted one. ``explorer.live()`` returns an ipywidgets panel whose sliders compute anew. A
notebook that was saved with such a panel shows "model not found" where no kernel runs: leave it out of notebooks that
are published with their outputs.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from v2a_nb import plots
from v2a_nb.audio.onsets import detect_onsets, onset_scores
from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError, V2AError
from v2a_nb.widgets.page import Page, escape
from v2a_nb.widgets.payload import notes_of
from v2a_nb.widgets.player import sound_html

TARGET_BYTES = 2_000_000
"""Target size of a static page: the sample rate of its sounds is reduced, then their length."""
KEPT = 32  # computed settings that an explorer caches beside those of its page
RATES = (48000, 32000, 24000, 16000)  # Hz, tried in this order
F1 = "onset F1 (50 ms)"
NOT_THERE = "–"


@dataclass(frozen=True)
class Variant:
    """The result of one choice of settings.

    Attributes:
        label: the settings in words.
        settings: by name.
        sound: the resulting sound, at its own level.
        draw: draws the picture; None for a sound alone.
        numbers: measures by name with unit; NaN where there was nothing to count.
        remarks: further information in words.
    """

    label: str
    settings: dict
    sound: Sound
    draw: Callable[[], plots.Figure] | None = field(default=None, repr=False, compare=False)
    numbers: dict[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @cached_property
    def picture(self) -> plots.Figure | None:
        """The picture with alt text, drawn at the first access."""
        return None if self.draw is None else self.draw()

    @property
    def notes(self) -> list[str]:
        """The remarks, and ``silent`` or ``clipped`` if the sound is."""
        return [*self.remarks, *notes_of(self.sound, self.sound.duration)]


class Explorer(Page):
    """The base of the explorers: displays a static page; :meth:`live` has sliders.

    Attributes:
        title: heading of the page, any text.
        static: the settings of the page, one dictionary each.
        defaults: initial values of the sliders, and of settings that are left out of :meth:`at`.
    """

    lead = ""
    """What to look and listen for, shown on the page."""

    def __init__(self, title: str, static: Sequence[Mapping], defaults: Mapping) -> None:
        self.title, self.defaults = str(title), dict(defaults)
        if isinstance(static, Mapping) or not all(isinstance(settings, Mapping) for settings in static):
            raise UsageError("settings are a list of dictionaries, one for each choice")
        self.static = [self._settings(settings) for settings in static]
        if not self.static:
            raise UsageError("an explorer needs at least one choice of settings")
        self._made: dict[tuple, Variant] = {}

    # --- for an explorer to fill in ---------------------------------------------------------------

    def _check(self, settings: dict) -> None:
        """Raise :class:`UsageError` for impossible settings."""
        raise UsageError(f"{type(self).__name__} has no settings")  # pragma: no cover

    def _compute(self, settings: dict) -> Variant:
        raise UsageError(f"{type(self).__name__} computes nothing")  # pragma: no cover

    def _controls(self, w) -> dict:
        """Create the widgets of the module ``w`` (ipywidgets), by the name of their setting."""
        return {}  # pragma: no cover

    def _read(self, name: str, value: object) -> object:
        """Convert a widget's value to the value of the setting."""
        return value

    def _first(self) -> list[Variant]:
        """The originals, shown before the settings."""
        return []

    # --- values ---------------------------------------------------------------------------------

    def _settings(self, settings: Mapping) -> dict:
        unknown = set(settings) - set(self.defaults)
        if unknown:
            raise UsageError(f"no setting {sorted(unknown)[0]!r}; there is {', '.join(self.defaults)}")
        complete = {**self.defaults, **settings}
        self._check(complete)
        return complete

    def at(self, **settings) -> Variant:
        """Return the result of these settings; it is computed once.

        Raises:
            UsageError: an unknown or impossible setting.
        """
        complete = self._settings(settings)
        key = tuple(complete.items())
        if key not in self._made:
            if len(self._made) >= KEPT + len(self.static):
                self._made.pop(next(iter(self._made)))
            self._made[key] = self._compute(complete)
        return self._made[key]

    @property
    def variants(self) -> list[Variant]:
        """The results on the page, computed at the first access."""
        return [self.at(**settings) for settings in self.static]

    @property
    def table(self) -> list[dict]:
        """The rows of the page's table as dictionaries: ``label``, the numbers by name, ``notes``."""
        return [{"label": v.label, **v.numbers, "notes": ", ".join(v.notes)} for v in self._first() + self.variants]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.title!r}, {len(self.static)} settings; .live() has sliders)"

    # --- the page -------------------------------------------------------------------------------

    @cached_property
    def html(self) -> str:
        """The HTML of the static page, which has no script, no widget and no external address."""
        return (
            '<figure style="margin:8px 0;max-width:1000px;font-family:system-ui,sans-serif">'
            f'<figcaption dir="auto" style="font-weight:600;margin:0 0 4px;text-align:start">{escape(self.title)}'
            f'</figcaption><p style="margin:0 0 8px">{escape(self.lead)}</p>{table_html(self.table)}{self._body()}'
            "</figure>"
        )

    def _body(self) -> str:
        shown = self._first() + self.variants
        pictures = [image_html(v.picture) for v in shown]
        sounds, reduced = fit_sounds([v.sound for v in shown], TARGET_BYTES - sum(map(len, pictures)) - 30_000)
        cards = "".join(
            f'<div role="group" aria-label="{escape(v.label)}" style="border:1px solid #8886;border-radius:6px;'
            f'padding:8px;min-width:0"><p style="font-weight:600;margin:0 0 6px">{escape(v.label)}</p>{picture}'
            f'<div style="margin:6px 0 0;font-size:.8em">{sound_html(sound)}</div></div>'
            for v, picture, sound in zip(shown, pictures, sounds, strict=True)
        )
        small = f"<p style='margin:8px 0 0'><small>{escape(reduced)}</small></p>" if reduced else ""
        grid = "display:grid;grid-template-columns:repeat(auto-fill,minmax(310px,1fr));gap:12px;margin:12px 0 0"
        return f'<div style="{grid}">{cards}</div>{small}'

    # --- sliders --------------------------------------------------------------------------------

    def live(self):
        """Return a panel that computes anew when a setting changes; it needs a kernel.

        Sliders react when they are released or a key is pressed (``continuous_update=False``), because every change is
        a computation. Impossible settings become a message in the panel, and the last result stays. The original is
        shown below for comparison.

        Returns:
            an ``ipywidgets.VBox``; its ``controls`` are the widgets by name of their setting, ``status`` and
            ``output`` two ``ipywidgets.HTML``.
        """
        import ipywidgets as w  # only here: the static page does without

        controls = self._controls(w)
        status, output = w.HTML(), w.HTML()
        row = w.Box(list(controls.values()), layout=w.Layout(flex_flow="row wrap"))
        original = "".join(f"<p><b>{escape(v.label)}</b></p>{variant_html(v)}" for v in self._first())
        panel = w.VBox([row, status, output, *([w.HTML(original)] if original else [])])
        panel.controls, panel.status, panel.output = controls, status, output

        def update(_change=None) -> None:
            status.value = '<p role="status">computing …</p>'
            try:
                variant = self.at(**{name: self._read(name, control.value) for name, control in controls.items()})
                output.value = variant_html(variant)
            except V2AError as error:
                status.value = f'<p role="alert"><b>Not possible:</b> {escape(error)}</p>'
            except Exception as error:
                status.value = f'<p role="alert"><b>Failed:</b> {escape(error)}</p>'
                raise  # a fault of ours: the log has where
            else:
                status.value = f'<p role="status">{escape(variant.label)}</p>'

        for control in controls.values():
            control.observe(update, names="value")
        update()
        return panel


def control_style(w, **more) -> dict:
    """Layout options of every control."""
    layout = w.Layout(width="360px", max_width="100%", margin="2px 16px 2px 0")
    return {"style": {"description_width": "initial"}, "layout": layout, **more}


# --- HTML -----------------------------------------------------------------------------------------


def number_text(value: object) -> str:
    """Format a number with three digits; a missing one is a dash."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NOT_THERE
    if isinstance(value, int | np.integer | str):
        return str(value)
    plain = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return plain.replace("-", "\u2212")


def table_html(rows: Sequence[Mapping]) -> str:
    """Format rows as an HTML table, ``label`` first, without columns that are empty."""
    # the last row has all the numbers, the original's fewer
    ordered = dict.fromkeys(k for row in (*rows[-1:], *rows) for k in row if k not in ("label", "notes"))
    names = [n for n in ("label", *ordered, "notes") if any(row.get(n) not in (None, "") for row in rows)]
    style = 'style="padding:2px 10px;text-align:right;white-space:nowrap;border-bottom:1px solid #8884"'
    side = style.replace("right", "left")
    words = side.replace("nowrap", "normal")
    head = "".join(
        f'<th scope="col" {side if n in ("label", "notes") else style}>{"settings" if n == "label" else escape(n)}</th>'
        for n in names
    )
    body = "".join(
        f'<tr><th scope="row" {side}>{escape(row["label"])}</th>'
        + "".join(
            f"<td {words if n == 'notes' else style}>{escape(number_text(row.get(n)))}</td>"
            for n in names
            if n != "label"
        )
        + "</tr>"
        for row in rows
    )
    table = 'style="border-collapse:collapse;font-size:.9em;font-variant-numeric:tabular-nums"'
    whole = f"<table {table}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div tabindex="0" style="overflow-x:auto">{whole}</div>'  # reached by keys, to be scrolled by them


def spectrogram_of(sound: Sound) -> plots.Figure:
    """Draw the spectrogram of a sound in the size of a card."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(4.6, 2.4), layout="constrained")
    return plots.show(plots.spectrogram(sound, fig.add_subplot()))


def image_html(picture: plots.Figure | None) -> str:
    """The HTML of a picture with its alt text, or nothing."""
    if picture is None:
        return ""
    small = plots.Figure(small_png(picture.png), picture.alt, small_png(picture.dark) if picture.dark else b"")
    return f'<div tabindex="0" style="overflow-x:auto">{small.picture_html}</div>'


def variant_html(variant: Variant) -> str:
    """The HTML of one result: numbers, picture, sound."""
    words = [f"{name}: {number_text(value)}" for name, value in variant.numbers.items()] + list(variant.notes)
    return f"<p>{escape('; '.join(words))}</p>{image_html(variant.picture)}{sound_html(variant.sound)}"


def small_png(png: bytes) -> bytes:
    """Reduce a PNG to 256 colours, which halves its size without a visible difference in spectrograms."""
    from PIL import Image

    buffer = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return min(png, buffer.getvalue(), key=len)


# --- sounds ---------------------------------------------------------------------------------------


def checked(sound: Sound, what: str) -> Sound:
    """Return the sound as mono.

    Raises:
        UsageError: the sound is empty.
    """
    if not sound.n:
        raise UsageError(f"{what} needs a sound, and this one is empty")
    return sound.mono()


def is_number(value: object) -> bool:
    """Whether a setting is a number, finite or not; True and False are none."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def check_seed(seed: object) -> None:
    """Raise :class:`UsageError` for what is no seed."""
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0:
        raise UsageError(f"seed {seed!r}: a whole number from 0 is needed")


def fit_sounds(sounds: Sequence[Sound], room: float) -> tuple[list[Sound], str]:
    """Reduce mono sounds to ``room`` bytes of base64 WAV, at their own level; returns a remark on what was reduced."""
    longest = max((s.duration for s in sounds), default=0.0)
    for rate in RATES:
        a_second = sum(min(s.sample_rate, rate) for s in sounds) * 8 / 3  # 16 bits, base64
        if a_second * longest <= room:
            break
    seconds = min(longest, max(room / max(a_second, 1), 0.1))
    lost = [f"at {rate / 1000:g} kHz"] if any(s.sample_rate > rate for s in sounds) else []
    lost += [f"the first {seconds:.2f} of {longest:.2f} s"] if seconds < longest else []
    fitted = [s.slice(0, seconds) if s.duration > seconds else s for s in sounds]
    fitted = [s.resample(min(rate, s.sample_rate)) for s in fitted]
    return fitted, f"Played {', '.join(lost)}, to keep this output small; the numbers are of the whole." if lost else ""


def onset_f1(sound: Sound, times: np.ndarray | None, original: Sound) -> dict[str, float]:
    """F1 of a sound's onsets against true times (s), or against the original's onsets where none are known."""
    if times is not None:
        return {F1: onset_scores(times, detect_onsets(sound), 0.05)[2]}
    return {"onsets kept (F1, 50 ms)": onset_scores(detect_onsets(original), detect_onsets(sound), 0.05)[2]}


def times_of(events: Mapping | Sequence | None) -> np.ndarray | None:
    """Sorted times (s) of the sounding events of an entry of ``truth.json``, a list of events, or a list of times.

    Raises:
        UsageError: an event without a time.
    """
    if events is None:
        return None
    if isinstance(events, Mapping):
        events = events.get("events", ())
    try:
        given = [e for e in events if not isinstance(e, Mapping) or e.get("sounding", True)]
        times = np.array([float(e["time_s"] if isinstance(e, Mapping) else e) for e in given])
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"events need a time_s in seconds each: {error!r}") from error
    if not np.isfinite(times).all():
        raise UsageError("events need finite times in seconds")
    return np.sort(times)


def distance_db(original: Sound, other: Sound) -> float:
    """Mean distance of two sounds' log-mel spectrograms, dB (80 bands, floor -100 dB; see ``codec_report``)."""
    import warnings

    import torch

    from v2a_nb.models.codec_report import log10_mel

    other = other.resample(original.sample_rate).fit(n=original.n)
    pair = torch.from_numpy(np.concatenate([original.samples, other.samples]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of librosa, over low bands that hold no bin at high rates
        mel = log10_mel(pair, original.sample_rate)
    return 20 * float((mel[0] - mel[1]).abs().mean())
