"""The guidance explorer: sounds of one clip for a grid of guidance values and seeds, scored and played."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from v2a_nb import plots
from v2a_nb.audio.onsets import detect_onsets
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError, check_types
from v2a_nb.widgets import explorer_frame as frame
from v2a_nb.widgets.player import Player, compare

MOST = 36  # sounds in a grid
TRACKS = 6  # most tracks of the page's player by default


class GuidanceExplorer(frame.Explorer):
    """What :func:`explore_guidance` returns.

    Attributes:
        system, clip, events: the arguments; the clip's own sound is the reference and never an input.
        chosen: ``(guidance, seed)`` of the sounds in the page's player.
    """

    lead = (
        "Each row is one generated sound. Guidance is worth something where its values differ by more than the "
        "seeds do; too much of it makes wrong hits, too little misses them."
    )

    def __init__(
        self,
        system,
        clip: Clip,
        guidances: float | Sequence[float],
        seeds: int | Sequence[int],
        temperature: float | None,
        truth: Mapping | Sequence | None,
        chosen: Sequence[tuple[float, int]] | None,
        title: str,
        options: dict,
    ) -> None:
        self.system, self.clip, self.options = system, clip, options
        self.times = frame.times_of(truth)
        events = truth.get("events", ()) if isinstance(truth, Mapping) else truth
        given = [] if events is None else list(events)
        self.events = [e if isinstance(e, Mapping) else {"time_s": float(e)} for e in given]
        _accepts(system, ["guidance", *(["temperature"] if temperature is not None else []), *options])
        preset = getattr(getattr(getattr(system, "decoder", None), "config", None), "sampling", None)
        guidances = [guidances] if isinstance(guidances, int | float) else guidances
        seeds = [seeds] if isinstance(seeds, int) else seeds
        grid = [{"guidance": g, "seed": s} for g in guidances for s in seeds]
        if len(grid) > MOST:
            raise UsageError(f"{len(grid)} sounds are too many for one page: {MOST} at most, fewer guidances or seeds")
        super().__init__(
            title or f"Guidance and seed: {clip.name}",
            grid,
            {
                "guidance": getattr(preset, "guidance", 2.0),
                "seed": 0,
                "temperature": getattr(preset, "temperature", None) if temperature is None else temperature,
            },
        )
        if chosen is None:  # all where they are few, else the first seed of each guidance
            few = len(grid) <= TRACKS
            chosen = [(s["guidance"], s["seed"]) for s in grid if few or s["seed"] == grid[0]["seed"]][:8]
        self.chosen = self._pairs(chosen)

    def _check(self, settings: dict) -> None:
        check(**settings)

    def _pairs(self, chosen: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
        try:
            pairs = [(guidance, seed) for guidance, seed in chosen]
        except (TypeError, ValueError) as error:
            raise UsageError(f"chosen sounds are pairs (guidance, seed), not {chosen!r}") from error
        for guidance, seed in pairs:
            self._settings({"guidance": guidance, "seed": seed})
        return pairs

    def _compute(self, settings: dict) -> frame.Variant:
        how = {k: v for k, v in settings.items() if v is not None}
        sound = self.system.generate(self.clip.silent(), **how, **self.options)
        label = f"guidance {settings['guidance']:g}, seed {settings['seed']}"
        if settings["temperature"] != self.defaults["temperature"]:
            label += f", temperature {settings['temperature']:g}"
        numbers = {"onsets": len(detect_onsets(sound)), "level (dBFS)": sound.rms_dbfs}
        if self.times is not None:
            numbers = {**frame.onset_f1(sound, self.times, sound), "true onsets": len(self.times), **numbers}
        return frame.Variant(label, settings, sound, partial(_picture, sound, label, self.times), numbers)

    def _first(self) -> list[frame.Variant]:
        """The clip's own sound, if it has one: its scores are the ceiling."""
        own = self.clip.sound
        if own is None or not own.n:
            return []
        numbers = {"onsets": len(detect_onsets(own)), "level (dBFS)": own.rms_dbfs}
        if self.times is not None:
            numbers = {**frame.onset_f1(own, self.times, own), "true onsets": len(self.times), **numbers}
        return [frame.Variant("the clip's own sound", {}, own, None, numbers)]

    @property
    def variants(self) -> list[frame.Variant]:
        """The sounds of the page, generated at the first access; in a terminal with a progress bar if that takes long.

        In a notebook a bar would stay in the output, as lines of an error.
        """
        from tqdm import tqdm

        how = {"leave": False, "delay": 3.0, "file": sys.stderr, "disable": None}  # None: only a terminal has a bar
        bar = tqdm(self.static, desc=self.clip.name[:24], unit="sound", **how)
        return [self.at(**settings) for settings in bar]

    @property
    def summary(self) -> list[dict]:
        """For each guidance a dictionary: ``guidance``, and mean, least and most of the onset F1 over the seeds.

        The list is empty where no truth is known.
        """
        if self.times is None:
            return []
        rows = []
        for guidance in dict.fromkeys(s["guidance"] for s in self.static):
            found = [v.numbers[frame.F1] for v in self.variants if v.settings["guidance"] == guidance]
            found = [f for f in found if not math.isnan(f)] or [math.nan]
            rows.append({"guidance": guidance, "mean": float(np.mean(found)), "least": min(found), "most": max(found)})
        return rows

    def player(self, chosen: Sequence[tuple[float, int]] | None = None) -> Player:
        """Return a player of the clip with some of the sounds and its own one.

        Args:
            chosen: ``(guidance, seed)`` each; left out, those of the page.

        Raises:
            UsageError: impossible values.
        """
        tracks = {}
        for guidance, seed in self.chosen if chosen is None else self._pairs(chosen):
            variant = self.at(guidance=guidance, seed=seed)
            tracks[variant.label] = variant.sound
        if self.clip.sound is not None:
            tracks["the clip's own"] = self.clip.sound
        return compare(self.clip, tracks, events=self.events, title=f"Heard with the picture: {self.clip.name}")

    def _body(self) -> str:
        rows = [
            {"label": f"guidance {row['guidance']:g}", f"mean {frame.F1}": row["mean"], "least": row["least"],
             "most": row["most"]}
            for row in self.summary
        ]  # fmt: skip
        over = (
            f'<p style="margin:12px 0 4px">Over the seeds of each guidance:</p>{frame.table_html(rows)}' if rows else ""
        )
        picture = f'<div style="margin:12px 0">{frame.image_html(self.picture)}</div>'
        return f"{over}{picture}{self.player().html}"

    @property
    def picture(self) -> plots.Figure:
        """Onsets of all sounds, one row each, over the true events where they are known."""
        shown = self._first() + self.variants
        rows = {v.label: detect_onsets(v.sound) for v in shown}
        return plots.show(plots.timeline(rows, self.clip.duration, events=self.events), dpi=90)

    def _controls(self, w) -> dict:
        style = frame.control_style(w, continuous_update=False)
        controls = {
            "guidance": w.FloatSlider(
                value=self.defaults["guidance"], min=0, max=12, step=0.5, description="Guidance (1: none)", **style
            ),
            "seed": w.BoundedIntText(value=self.static[0]["seed"], min=0, max=2**31 - 1, description="Seed", **style),
        }
        if self.defaults["temperature"] is not None:
            controls["temperature"] = w.FloatSlider(
                value=self.defaults["temperature"], min=0, max=2, step=0.05, description="Temperature", **style
            )
        return controls


@check_types
def explore_guidance(
    system,
    clip: Clip,
    guidances: float | Sequence[float] = (1.0, 2.0, 6.0),
    seeds: int | Sequence[int] = (0, 1),
    *,
    temperature: float | None = None,
    truth: Mapping | Sequence | None = None,
    chosen: Sequence[tuple[float, int]] | None = None,
    title: str = "",
    **options: object,
) -> GuidanceExplorer:
    """Generate one clip's sound for a grid of guidance values and seeds, and compare scores, onsets and sounds.

    The result is displayed as a static page that needs no kernel. ``.live()`` has a guidance slider, a seed box and a
    temperature, and needs one. ``.at(guidance=3.0, seed=5)`` returns one sound, ``.table`` and ``.summary`` have the
    numbers, ``.player([(1.0, 0), (6.0, 0)])`` plays others, and ``.save(path)`` writes the page. Each sound is
    generated once, alone, and is what ``system.generate(clip.silent(), guidance=..., seed=...)`` returns.

    Args:
        system: what :func:`v2a_nb.load` returns.
        clip: the video; its own sound is a reference only.
        guidances: values of classifier-free guidance, 0 to 100; 1 is none.
        seeds: 0 or more each.
        temperature: left out, the preset's.
        truth: true events: an entry of ``truth.json``, its events, or times in s. With them there is an onset F1.
        chosen: ``(guidance, seed)`` of the sounds in the page's player; left out, all where they are six or
            fewer, else the first seed of each guidance.
        title: heading of the page.
        options: further options of ``system.generate``, such as ``top_k``.

    Raises:
        UsageError: an argument of a wrong type, a system without guidance, or impossible values.

    Examples:
        >>> from v2a_nb import load
        >>> explorer = explore_guidance(load("vaura"), item.clip, (1, 2), (0,), truth=item.truth)
        >>> [row["guidance"] for row in explorer.summary]
        [1, 2]
    """
    return GuidanceExplorer(system, clip, guidances, seeds, temperature, truth, chosen, title, options)


def check(guidance: float, seed: int, temperature: float | None) -> None:
    """Raise :class:`UsageError` for values that cannot be meant."""
    for name, value, most in (("guidance", guidance, 100.0), ("temperature", temperature, math.inf)):
        if value is None:
            continue
        if not frame.is_number(value) or not (0 <= value <= most and math.isfinite(value)):
            raise UsageError(f"{name} {value!r}: a number from 0{' to 100' if most == 100 else ''} is needed")
    frame.check_seed(seed)


def _accepts(system, names: Sequence[str]) -> None:
    """Raise :class:`UsageError` where ``system`` is none, or its ``generate`` lacks one of the options."""
    generate = getattr(system, "generate", None)
    if not callable(generate):
        raise UsageError(f"explore_guidance: system must be what v2a.load returns, not {type(system).__name__}")
    known = inspect.signature(generate).parameters
    if any(p.kind is p.VAR_KEYWORD for p in known.values()):
        return
    for name in names:
        if name not in known:
            raise UsageError(f"{getattr(system, 'name', type(system).__name__)} has no {name} to explore")


def _picture(sound: Sound, label: str, times: np.ndarray | None) -> plots.Figure:
    """One sound's spectrogram, with the true onsets on it."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(9, 2.8), layout="constrained")
    ax = fig.add_subplot()
    plots.spectrogram(sound, ax, title=label)
    if times is not None:
        for time in times:
            ax.axvline(time, color="white", lw=1.2, ls="--")
    alt = getattr(fig, "alt", "") + ("" if times is None else f" Dashed: {len(times)} true onsets.")
    return plots.show(fig, alt, dpi=80)
