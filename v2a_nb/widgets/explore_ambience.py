"""The ambience explorer: sounds of one clip for conditions of several levels, behind a slider that needs no kernel."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from v2a_nb import plots
from v2a_nb.audio.onsets import detect_onsets
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError, check_types
from v2a_nb.widgets import explorer_frame as frame
from v2a_nb.widgets.page import escape
from v2a_nb.widgets.player import sound_html

if TYPE_CHECKING:
    from v2a_nb.metrics.ambience.metric import LevelCurve

LEVELS_DBFS = (-70.0, -65.0, -60.0, -55.0, -50.0, -45.0, -40.0)
LEAST_DBFS, MOST_DBFS = -120.0, 0.0
MOST = 24  # sounds behind a slider
ASKED, MADE, OVER = "asked (dBFS)", "made (dBFS)", "hits over it (dB)"


class AmbienceExplorer(frame.Explorer):
    """What :func:`explore_ambience` returns.

    Attributes:
        system, clip, condition, events: the arguments; the clip's own sound is never an input.
    """

    lead = (
        "One clip and one seed; only the level of the condition differs. The dotted line is where the sound's "
        "ambience has the level that was asked for; dashes in the spectrogram are true onsets."
    )

    def __init__(
        self,
        system,
        clip: Clip,
        levels: float | Sequence[float],
        condition: Sound | None,
        seed: int,
        truth: Mapping | Sequence | None,
        title: str,
        options: dict,
    ) -> None:
        if "ambient" not in getattr(system, "options", ()):
            name = getattr(system, "name", type(system).__name__)
            raise UsageError(f"system {name} takes no ambience: v2a.load('action2sound') does")
        self.system, self.clip, self.options = system, clip, options
        self.condition = None if condition is None else frame.checked(condition, "explore_ambience")
        self.times = frame.times_of(truth)
        given = truth.get("events", ()) if isinstance(truth, Mapping) else truth
        self.events = [] if given is None else list(given)
        levels = [levels] if isinstance(levels, int | float) else list(levels)
        if len(levels) > MOST:
            raise UsageError(f"{len(levels)} levels are too many for one page: {MOST} at most")
        super().__init__(
            title or f"Ambient level: {clip.name}",
            [{"level": level} for level in levels],
            {"level": -50.0, "seed": seed},
        )

    def _check(self, settings: dict) -> None:
        check(**settings)

    def _compute(self, settings: dict) -> frame.Variant:
        from v2a_nb.metrics.ambience.metric import ambience_dbfs, hit_levels
        from v2a_nb.systems.action2sound.ambient import at_level

        level = float(settings["level"])
        ambient = level if self.condition is None else at_level(self.condition, level)
        sound = self.system.generate(self.clip.silent(), seed=settings["seed"], ambient=ambient, **self.options)
        steady = ambience_dbfs(sound, self.events or None)
        numbers = {ASKED: level, MADE: steady}
        if self.times is not None:
            numbers |= frame.onset_f1(sound, self.times, sound)
            if self.events and all(isinstance(e, Mapping) and "kind" in e for e in self.events):
                over = np.maximum(hit_levels(sound, self.events) - steady, 0.0)
                numbers[OVER] = float(over.mean()) if len(over) else math.nan
        numbers["onsets"] = len(detect_onsets(sound))
        label = f"{level:g} dBFS".replace("-", "\u2212")
        label += f", seed {settings['seed']}" if settings["seed"] != self.defaults["seed"] else ""
        return frame.Variant(label, settings, sound, partial(self._picture, dict(settings)), numbers)

    def _picture(self, settings: dict) -> plots.Figure:
        """The curve of all levels so far, with this one marked, and its spectrogram."""
        from matplotlib.figure import Figure

        variants = [v for v in self._made.values() if v.settings["seed"] == settings["seed"]]
        variants = sorted(variants, key=lambda v: v.settings["level"])
        here = next(k for k, v in enumerate(variants) if v.settings == settings)
        fig = Figure(figsize=(9, 2.9), layout="constrained")
        left, right = fig.subplots(1, 2, width_ratios=(1, 2))
        asked, got = ([v.numbers[name] for v in variants] for name in (ASKED, MADE))
        plots.levels(asked, got, left, here=here)
        left.set(xlabel="asked (dBFS)", ylabel="made (dBFS)")
        plots.spectrogram(variants[here].sound, right, title=f"condition at {variants[here].label}")
        for time in () if self.times is None else self.times:
            right.axvline(time, color="white", lw=1, ls="--", alpha=0.8)
        return plots.show(fig, dpi=80)

    @property
    def curve(self) -> LevelCurve:
        """The straight line through the points of the page (:func:`v2a_nb.metrics.ambience.metric.level_curve`)."""
        from v2a_nb.metrics.ambience.metric import level_curve

        numbers = [v.numbers for v in self.variants]
        return level_curve([n[ASKED] for n in numbers], [n[MADE] for n in numbers])

    def _body(self) -> str:
        shown = self.variants
        pictures = [frame.image_html(v.picture) for v in shown]
        sounds, reduced = frame.fit_sounds(
            [v.sound for v in shown], frame.TARGET_BYTES - sum(map(len, pictures)) - 30_000
        )
        cards = "".join(
            f'<div role="group" aria-label="{escape(v.label)}" data-card="{escape(v.label)}" style="margin:0 0 12px">'
            f'<p data-plain style="font-weight:600;margin:0 0 4px">{escape(v.label)}</p>{picture}'
            f'<div style="margin:4px 0 0;font-size:.8em">{sound_html(sound)}</div></div>'
            for v, picture, sound in zip(shown, pictures, sounds, strict=True)
        )
        small = f"<p style='margin:8px 0 0'><small>{escape(reduced)}</small></p>" if reduced else ""
        token = "v2a-" + hashlib.sha256(cards.encode()).hexdigest()[:12]  # from the content, not from chance
        return (
            f'<div class="{token}" data-name="Level of the condition" data-first="{len(shown) // 2}" '
            f'style="margin:12px 0 0"><div data-cards>{cards}</div>{small}'
            f"<script>(() => {{\n{_script()}\n"
            f'for (const root of document.querySelectorAll("div.{token}:not([data-mounted])")) mount(root);\n'
            "})();</script></div>"
        )

    def _controls(self, w) -> dict:
        style = frame.control_style(w, continuous_update=False)
        return {
            "level": w.FloatSlider(
                value=self.defaults["level"], min=-90, max=-20, step=1, description="Level (dBFS)", **style
            ),
            "seed": w.BoundedIntText(
                value=self.defaults["seed"], min=0, max=2**31 - 1, description="Seed", **style
            ),
        }  # fmt: skip


@check_types
def explore_ambience(
    system,
    clip: Clip,
    levels: float | Sequence[float] = LEVELS_DBFS,
    *,
    condition: Sound | None = None,
    seed: int = 0,
    truth: Mapping | Sequence | None = None,
    title: str = "",
    **options: object,
) -> AmbienceExplorer:
    """Generate one clip's sound for conditions of several levels, and compare them.

    The page has a table and a slider over curve, spectrogram and sound. The slider needs no kernel, because the sounds
    are generated beforehand; where scripts are off, all cards are visible. ``.live()`` generates any other level and
    needs a kernel, ``.at(level=-52)`` returns one of them, ``.curve`` is the straight line through the generated levels
    (Action2Sound, figure 7a), and ``.save(path)`` writes the page.

    Args:
        system: one with the option ``ambient``, such as ``v2a.load("action2sound")``.
        clip: the video; its own sound is not used.
        levels: levels of the condition, dBFS, from -120 to 0.
        condition: a sound that is scaled to these levels; left out, the one that the system retrieves.
        seed: of all sounds.
        truth: true events: an entry of ``truth.json``, its events, or times in s. With them there is an onset F1, and
            the ambience is measured away from them.
        title: heading of the page.
        options: further options of ``system.generate``, such as ``guidance``.

    Raises:
        UsageError: an argument of a wrong type, a system without ambience, or impossible levels.

    Examples:
        >>> from v2a_nb import load
        >>> explorer = explore_ambience(load("action2sound"), item.clip, (-70, -40), truth=item.truth)
        >>> explorer.curve.follows
        True
    """
    return AmbienceExplorer(system, clip, levels, condition, seed, truth, title, options)


def check(level: float, seed: int) -> None:
    """Raise :class:`UsageError` for values that cannot be meant."""
    if not frame.is_number(level) or not LEAST_DBFS <= level <= MOST_DBFS:
        raise UsageError(f"level {level!r}: a number from {LEAST_DBFS:g} to {MOST_DBFS:g} dBFS is needed")
    frame.check_seed(seed)


def _script() -> str:
    """The module as a plain script: outputs of notebooks cannot import from each other."""
    source = (Path(__file__).parent / "slider.js").read_text(encoding="utf-8")
    return re.sub(r"^export ", "", source, flags=re.M).strip()
