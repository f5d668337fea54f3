"""Saliency that was checked: where and when a system looked for a part of its sound, and whether to believe it.

``v2a.saliency(system, clip, window=(0.4, 0.7))`` is this folder, called. What is explained stands in
:mod:`~v2a_nb.saliency.targets`, how in :mod:`~v2a_nb.saliency.methods`, what comes out in
:mod:`~v2a_nb.saliency.result`, and who judges it in :mod:`~v2a_nb.saliency.judges`. The other way, from a part of the
picture to the sound that depends on it, is :mod:`~v2a_nb.saliency.hiding`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import check_types

if TYPE_CHECKING:
    from v2a_nb.saliency.result import Saliency
    from v2a_nb.systems.base import System


@check_types
def saliency(
    system: System,
    clip: Clip,
    *,
    window: Sequence[float] | None = None,
    method: str = "gradient_attention",
    baseline: str = "blur",
    sound: Sound | None = None,
    seed: int = 0,
    check: bool = True,
    target: str | None = None,
    prompt: str | None = None,
    progress: Callable[[int], object] | None = None,
) -> Saliency:
    """Where and when a system looked for a part of its sound, as an object that plots, plays and saves itself.

    Args:
        system: V-AURA, EgoSonics, Action2Sound or VTA-LDM, with a frame encoder that gives gradients (that of the
            ``tiny`` presets does).
        clip: the video. Of one that is longer than a pass of the system, the part around the window is explained, and
            the map is zero outside of it.
        window: seconds of the sound that are explained; left out, the whole clip, or as much of its beginning as a
            pass spans.
        method: out of :data:`v2a_nb.saliency.methods.METHODS`.
        baseline: out of :data:`v2a_nb.saliency.methods.BASELINES`: what pixels are compared with.
        sound: that is explained; left out, the clip's own, and of a silent clip what the system generates.
        seed: of that sound, and of noise.
        check: ask the judges that need no truth (:func:`v2a_nb.saliency.judges.check`): another map under randomized
            weights, and insertion and deletion beside motion energy. A map that fails is marked.
        target: what of the sound is explained, out of :data:`v2a_nb.saliency.targets.TARGETS`; left out, how likely it
            is to the system. ``"control_energy"`` (EgoSonics): how much the video steers, whatever it says.
        prompt: a text that the system reads beside the video (VTA-LDM), as in figure 3 of its paper.
        progress: called with the number of passes: versions of the clip that have gone through the system.

    Raises:
        UsageError: a system without that target, or without gradients; an unknown method or baseline, a prompt for a
            system that reads none, a window outside of the clip or longer than a pass of the system.

    Examples:
        >>> from v2a_nb import load
        >>> made = saliency(load("vaura"), clip, window=(0.4, 0.7), check=False)
        >>> made.map.shape, made.verdict
        ((64, 16, 16), 'not checked: nothing says yet whether this map can be believed')
    """
    from v2a_nb.saliency.explain import explain

    return explain(
        system, clip, window=window, method=method, baseline=baseline, sound=sound, seed=seed, check=check,
        target=target, prompt=prompt, progress=progress,
    )  # fmt: skip


class _Room(ModuleType):
    """This folder, which can be called: the function and its folder share a name, and both are ``v2a_nb.saliency``."""

    def __call__(self, *args: object, **options: object) -> Saliency:
        return saliency(*args, **options)  # pyright: ignore[reportArgumentType]


__signature__ = inspect.signature(saliency)
sys.modules[__name__].__class__ = _Room
