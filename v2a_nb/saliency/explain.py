"""From a system and a clip of any length to a checked map: what :func:`v2a_nb.saliency` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError, check_value
from v2a_nb.saliency import judges
from v2a_nb.saliency.methods import DEFAULT, Progress, attribute
from v2a_nb.saliency.result import Saliency
from v2a_nb.saliency.targets import check_window, longest_s, target_of
from v2a_nb.systems.base import System, part_of

LEAD = 0.6
"""Share of the time beside the window that lies before it, where a part of a long clip is read: decoders look back."""


def explain(
    system: System,
    clip: Clip,
    *,
    window: Sequence[float] | None = None,
    method: str = DEFAULT,
    baseline: str = "blur",
    sound: Sound | None = None,
    seed: int = 0,
    check: bool = True,
    target: str | None = None,
    prompt: str | None = None,
    progress: Progress = None,
) -> Saliency:
    """See :func:`v2a_nb.saliency.saliency`, whose arguments these are."""
    check_value("saliency", "system", system, System)
    window, start, seconds = part_around(clip, window, longest_s(system))
    part = part_of(clip.silent(), start, seconds) if seconds < clip.duration else clip.silent()
    notes = []
    if sound is None:
        sound = clip.sound
        if sound is None:
            words: dict[str, Any] = {"prompt": prompt} if prompt else {}
            sound = system.generate(part, seed=seed, **words)
            notes.append(f"the sound that is explained was generated, with seed {seed}")
            start_of_sound = 0.0
        else:
            notes.append("the sound that is explained is the clip's own")
            start_of_sound = start
    else:
        start_of_sound = start
    if start_of_sound or sound.duration > part.duration:
        sound = sound.slice(start_of_sound, start_of_sound + part.duration)
    inside = (window[0] - start, window[1] - start)
    goal = target_of(system, part, sound, inside, target=target, prompt=prompt)
    made = attribute(goal, method, baseline=baseline, seed=seed, progress=progress)
    if check:
        made = judges.check(made, goal, seed=seed, progress=progress)
    made = replace(made, system=system.title, notes=(*notes, *made.notes))
    if part.duration < clip.duration - 1e-6:
        made = made.part(clip, start)
    if getattr(goal.encoder.config, "fit", "crop") == "squash":  # the encoder saw all of the picture
        return made
    return made.in_picture(clip.width, clip.height)


def part_around(clip: Clip, window: Sequence[float] | None, longest: float) -> tuple[tuple[float, float], float, float]:
    """The window, and start and length of the part of a clip that a pass of the system spans around it, seconds.

    Raises:
        UsageError: a window outside of the clip, or one that is longer than a pass.
    """
    if window is None:
        window = (0.0, min(clip.duration, longest))
    start, end = check_window(window, clip)
    if clip.duration <= longest + 1e-3:
        return (start, end), 0.0, clip.duration
    if end - start > longest + 1e-6:
        raise UsageError(f"a window of {end - start:.2f} s is too long: a pass of this system spans {longest:.2f} s")
    first = start - LEAD * (longest - (end - start))
    first = min(max(0.0, first), clip.duration - longest)
    step = round(first * 25) / 25  # on a frame of the encoder, so that frames of the part are frames of the clip
    return (start, end), max(0.0, min(step, start)), longest
