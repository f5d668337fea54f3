"""Strike World: a small, seeded, rendered world of which pictures, sounds and the truth about both are known.

:func:`strike_world` makes clips in memory, :func:`write_world` writes them with ``truth.json``,
:mod:`v2a_nb.world.counterfactual` renders a clip again with one factor changed.
"""

from __future__ import annotations

from v2a_nb.world.bulk import arrays, sounds
from v2a_nb.world.counterfactual import FACTORS, counterfactual
from v2a_nb.world.dataset import Settings, StrikeWorld, Take, WorldClip, strike_world
from v2a_nb.world.description import ACTORS, AMBIENCES, MATERIALS, STYLES, Event, Recording, Thing
from v2a_nb.world.recording import VERSION, VERSIONS, draw
from v2a_nb.world.writing import write_world

__all__ = [
    "ACTORS", "AMBIENCES", "FACTORS", "MATERIALS", "STYLES", "VERSION", "VERSIONS", "Event", "Recording", "Settings",
    "StrikeWorld", "Take", "Thing", "WorldClip", "arrays", "counterfactual", "draw", "sounds", "strike_world",
    "write_world",
]  # fmt: skip
