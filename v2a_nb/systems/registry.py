"""Systems by name."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from v2a_nb.errors import UsageError, WeightsError, check_types
from v2a_nb.hub import SHIPPED, find_weights, shipped

if TYPE_CHECKING:
    import torch

    from v2a_nb.systems.base import Option, System

SYSTEMS = {
    "vaura": "VAura",
    "egosonics": "EgoSonics",
    "action2sound": "Action2Sound",
    "vta_ldm": "VtaLdm",
    "retrieval": "Retrieval",
}
"""By name, the class, in the file of that name."""
CONVERTERS = {"vta_ldm": "v2a_nb.systems.vta_ldm.official:convert"}
"""By the name of a system, a function ``(files, out) -> folder`` from its released weights to ours."""
_HONEST = (
    "The tiny weights have only ever seen Strike World, a drawn world of sticks and hands that hit "
    "wood, metal, glass, ceramic and drums. On real video expect impact sounds at best; everything else "
    "in a picture is unknown to them."
)


def honest() -> str:
    """The warning, to be shown where shipped weights meet a user's own video; ``generate`` then gives it no more."""
    from v2a_nb.systems.base import WARNED

    WARNED.add(_HONEST)
    return _HONEST


@check_types
def load(name: str | Path, weights: str | Path | None = None, *, device: str | torch.device = "cpu") -> System:
    """A system, ready to generate.

    Args:
        name: a system (``"vaura"``), which comes with its shipped ``tiny`` weights (unless a folder of that name here
            holds a ``config.json``, see :func:`v2a_nb.hub.find_weights`); or directly a folder or a Hub id.
        weights: other weights for the system of that name: a folder or a Hub id.
        device: ``"cpu"``, ``"cuda"`` ...

    Raises:
        UsageError: there is no such system, or no such device.
        WeightsError: there are no such weights.
    """
    import torch

    if name not in SYSTEMS:
        if weights is not None:
            raise UsageError(f"{name} and {weights} are both weights: give one of them, or the name of a system first")
        name, weights = _system_in(name), name
    try:
        target = torch.device(device)
        torch.zeros(1, device=target)
    except Exception as error:  # of many kinds
        what = str(error).splitlines()[0]
        what = "there is none" if what.startswith("Could not run") else what
        raise UsageError(f"device {str(device)!r} cannot be used here: {what}") from error
    if target.type == "meta":
        raise UsageError("device 'meta' has shapes and no numbers: nothing can be generated on it")
    if weights is not None and not str(weights).strip():
        raise WeightsError("an empty name for weights")
    if weights is None and name not in with_weights() and not (Path(name) / "config.json").is_file():
        raise WeightsError(
            f"no weights of {name} are shipped yet: v2a-nb train {name} --out runs/{name} trains some, to be given as "
            f"weights: runs/{name}/weights"
        )
    system = class_of(name).from_pretrained(weights or name).to(target)
    if is_shipped(name, weights):
        system.warning = _HONEST
    return system


def is_shipped(name: str | Path, weights: str | Path | None = None) -> bool:
    """Whether :func:`load` takes shipped weights, given the same."""
    if name not in with_weights():
        return False
    return SHIPPED / name == (find_weights(name) if weights is None else Path(weights))


def with_weights() -> tuple[str, ...]:
    """The systems whose ``tiny`` weights are shipped."""
    return tuple(name for name in SYSTEMS if name in shipped())


def convert(name: str, files: Sequence[str | Path], out: str | Path) -> Path:
    """Write the released weights of a system in our layout; returns the folder, which :func:`load` takes.

    Args:
        name: of :data:`CONVERTERS`.
        files: see ``official.py`` of the system.
        out: folder, which is made.

    Raises:
        UsageError: a system without a converter, or the wrong number of files.
        WeightsError: files that cannot be read or hold something else, or ``out`` holds weights.
    """
    if name not in CONVERTERS:
        raise UsageError(f"no converter for {name!r}; there is {', '.join(CONVERTERS)}")
    if (Path(out) / "config.json").exists():
        raise WeightsError(f"{out} holds weights already: give another --out")
    module, _, function = CONVERTERS[name].partition(":")
    return getattr(import_module(module), function)(files, out)


def class_of(name: str | Path) -> type[System]:
    """The class of a system, by its name or by a place as for :func:`load`; only that one's file is imported.

    Raises:
        UsageError: there is no such system.
    """
    if name not in SYSTEMS:
        name = _system_in(name)
    return getattr(import_module(f"v2a_nb.systems.{name}.system"), SYSTEMS[str(name)])


def options_by_system() -> dict[str, dict[str, Option]]:
    """Options of ``generate`` by name, each by the systems that have it. All systems are imported."""
    options: dict[str, dict[str, Option]] = {}
    for system in SYSTEMS:
        for name, option in class_of(system).options.items():
            options.setdefault(name, {})[system] = option
    return options


def _system_in(place: str | Path) -> str:
    """Which system's weights a folder or a Hub id holds.

    Raises:
        UsageError: neither a system's name nor a place.
        WeightsError: there are no weights, their configuration is damaged, or they are of no system.
    """
    from v2a_nb.hub import find_weights, kind_of, read_config

    if not Path(place).exists() and "/" not in str(place):
        raise UsageError(f"no system {place!r}; there is {', '.join(SYSTEMS)}")
    path = find_weights(place)
    kind = kind_of(read_config(path))
    if not isinstance(kind, str) or kind not in SYSTEMS:
        raise WeightsError(f"{path} holds {kind!r} weights, not those of a system; there is {', '.join(SYSTEMS)}")
    return kind
