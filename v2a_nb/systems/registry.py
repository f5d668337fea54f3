"""Systems by name."""

from __future__ import annotations

import json
from pathlib import Path

from v2a_nb.errors import UsageError, WeightsError

SYSTEMS = ("vaura", "egosonics")
HONEST = (
    "The tiny weights have only ever seen Strike World, a drawn world of sticks and hands that hit "
    "wood, metal, glass, ceramic and drums. On real video expect impact sounds at best; everything else "
    "in a picture is unknown to them."
)
"""What a user of the shipped weights is told wherever they meet a video of their own."""


def load(name: str, weights: str | Path | None = None, *, device: str = "cpu"):
    """A system, ready to generate.

    Args:
        name: a system (``"vaura"``), which then comes with its shipped ``tiny`` weights; or directly a
            folder or a Hub id that holds one.
        weights: other weights for the system of that name: a folder or a Hub id.
        device: ``"cpu"``, ``"cuda"`` ...

    Raises:
        UsageError: there is no such system, or no such device.
        WeightsError: there are no such weights.
    """
    import torch

    if name not in SYSTEMS:
        looks_like_a_place = Path(name).exists() or "/" in name
        if not looks_like_a_place:
            raise UsageError(f"no system {name!r}; there is {', '.join(SYSTEMS)}")
        name, weights = _system_in(name), name
    try:
        target = torch.device(device)
        torch.zeros(1, device=target)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {device!r} cannot be used here: {str(error).splitlines()[0]}") from error
    if target.type == "meta":
        raise UsageError("device 'meta' has shapes and no numbers: nothing can be generated on it")
    if weights is not None and not str(weights).strip():
        raise WeightsError("an empty name for weights")
    return _class_of(name).from_pretrained(weights or name).to(target)


def _class_of(name: str):
    """A system's class; only that one's file is imported."""
    if name == "egosonics":
        from v2a_nb.systems.egosonics import EgoSonics

        return EgoSonics
    from v2a_nb.systems.vaura import VAura

    return VAura


def _system_in(place: str | Path) -> str:
    """Which system's weights a folder or a Hub id holds; V-AURA, which then says what is wrong, if none."""
    from v2a_nb.hub import find_weights

    try:
        kind = json.loads((find_weights(str(place)) / "config.json").read_text())["kind"]
    except (OSError, ValueError, KeyError, TypeError):
        return "vaura"
    return kind if kind in SYSTEMS else "vaura"
