"""The saliency explorer: choose half a second of the sound, and see which pixels and frames it hangs on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from v2a_nb import plots
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError, check_types
from v2a_nb.saliency import saliency
from v2a_nb.saliency.result import Saliency
from v2a_nb.widgets import explorer_frame as frame

if TYPE_CHECKING:
    from v2a_nb.systems.base import System

WINDOW_S = 0.5
"""Seconds of the sound that are explained at a time."""


class SaliencyExplorer(frame.Explorer):
    """What :func:`explore_saliency` returns."""

    lead = (
        "Pictures: the frames on which this half second of the sound hangs most, with the map over them. Curve: when. "
        "Sound: the half second itself. Red is a map that a judge speaks against: it must not be believed."
    )

    def __init__(
        self,
        systems: Mapping[str, System],
        clip: Clip,
        sound: Sound | None,
        starts: Sequence[float],
        methods: Sequence[str],
        prompts: Sequence[str],
        check: bool,
        title: str,
    ) -> None:
        self.systems, self.clip, self.check = dict(systems), clip, check
        given = sound or clip.sound
        self.sound: Sound = next(iter(self.systems.values())).generate(clip, seed=0) if given is None else given
        super().__init__(
            title or f"Saliency explorer: {clip.name}",
            [
                {"system": s, "method": m, "start": t, "prompt": p}
                for s in self.systems
                for m in methods
                for t in starts
                for p in self._prompts(s, prompts)
            ],
            {"system": next(iter(self.systems)), "method": methods[0], "start": starts[0], "prompt": ""},
        )

    def _prompts(self, system: str, prompts: Sequence[str]) -> Sequence[str]:
        """The texts of a system's maps; of one that reads none, no text."""
        return prompts if "prompt" in self.systems[system].options else ("",)

    def _check(self, settings: dict) -> None:
        from v2a_nb.saliency.methods import METHODS  # with torch: only when something is explained

        for name, known in (("system", self.systems), ("method", METHODS)):
            if settings[name] not in known:
                raise UsageError(f"no {name} {settings[name]!r}; there is {', '.join(known)}")
        if settings["prompt"] and "prompt" not in self.systems[settings["system"]].options:
            raise UsageError(f"{settings['system']} reads no prompt")
        start = settings["start"]
        if not frame.is_number(start) or not 0 <= start <= self._last + 1e-6:
            raise UsageError(f"start {start!r}: from 0 to {self._last:.2f} s are needed")

    @property
    def _last(self) -> float:
        """The last start of a window, seconds."""
        return max(0.0, self.clip.duration - WINDOW_S)

    def map(self, **settings: object) -> Saliency:
        """The map of these settings; those that are left out are the first ones."""
        chosen = self._settings(settings)
        window = (chosen["start"], min(self.clip.duration, chosen["start"] + WINDOW_S))
        system = self.systems[chosen["system"]]
        return saliency(
            system, self.clip, window=window, method=chosen["method"], sound=self.sound, check=self.check,
            prompt=chosen["prompt"] or None,
        )  # fmt: skip

    def _compute(self, settings: dict) -> frame.Variant:
        made = self.map(**settings)
        label = f"{settings['system']}, {settings['method'].replace('_', ' ')}, from {settings['start']:.2f} s"
        label += f', with "{settings["prompt"]}"' if settings["prompt"] else ""
        numbers = {"peak (s)": made.peak_s}
        if "randomization" in made.scores:
            numbers["likeness under random weights"] = made.scores["randomization"]
        draw = partial(self._picture, made, label)
        return frame.Variant(label, settings, self.sound.slice(*made.window).mono(), draw, numbers, (made.verdict,))

    def _picture(self, made: Saliency, label: str) -> plots.Figure:
        return plots.show(plots.saliency(made, self.clip, count=4, title=label))

    def _controls(self, w) -> dict:
        from v2a_nb.saliency.methods import METHODS

        style = frame.control_style(w)
        texts = [settings["prompt"] for settings in self.static]
        more = {}
        if any("prompt" in system.options for system in self.systems.values()):
            text = next(filter(None, texts), "")
            more["prompt"] = w.Text(value=text, description="Text", continuous_update=False, **style)
        return {
            **more,
            "start": w.FloatSlider(
                value=self.defaults["start"], min=0.0, max=self._last, step=0.02, description="Window from (s)",
                continuous_update=False, **style,
            ),
            "method": w.Dropdown(options=list(METHODS), value=self.defaults["method"], description="Method", **style),
            "system": w.Dropdown(
                options=list(self.systems), value=self.defaults["system"], description="System", **style
            ),
        }  # fmt: skip


@check_types
def explore_saliency(
    systems: System | Mapping[str, System],
    clip: Clip,
    *,
    starts: Sequence[float] = (0.0,),
    methods: Sequence[str] = ("gradient_attention",),
    prompts: Sequence[str] = ("",),
    sound: Sound | None = None,
    check: bool = False,
    title: str = "",
) -> SaliencyExplorer:
    """See on which pixels and frames half a second of a sound hangs; methods and systems stand side by side.

    The result is displayed as a static page that needs no kernel. ``.live()`` has a slider for the half second and
    needs one, ``.map(start=0.4)`` is one map, ``.save(path)`` writes the page.

    Args:
        systems: one, or several by name.
        clip: the video.
        starts: where the half seconds of the page begin, seconds.
        methods: of the page, out of :data:`v2a_nb.saliency.methods.METHODS`.
        prompts: texts beside the video, for the systems that read some (VTA-LDM); the empty one is without. With
            ``("", "a stick strikes the drum")`` maps with and without a text stand side by side.
        sound: that is explained; left out, the clip's own, or what the first system generates.
        check: ask judges of every map, which takes some seconds each.
        title: heading of the page.

    Raises:
        UsageError: an argument of a wrong type, no system, an unknown method, or a start outside of the clip.
    """
    from v2a_nb.systems.base import System

    given = {systems.title: systems} if isinstance(systems, System) else systems
    if not isinstance(given, Mapping) or not given or not all(isinstance(each, System) for each in given.values()):
        raise UsageError("explore_saliency: systems must be a system, or several by name")
    if not list(starts) or not list(methods) or not list(prompts):
        raise UsageError("explore_saliency: at least one of starts, of methods and of prompts are needed")
    return SaliencyExplorer(given, clip, sound, list(starts), list(methods), list(prompts), check, title)
