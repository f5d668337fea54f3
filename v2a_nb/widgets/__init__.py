"""The player: :func:`play` for one soundtrack, :func:`compare` for several; :class:`PlayerWidget` for a kernel."""

from importlib import import_module

from v2a_nb.widgets.player import Player, compare, play

__all__ = ["Player", "PlayerWidget", "compare", "play"]


def __getattr__(name: str):
    # imported on demand, because the player itself needs no ipywidgets
    if name != "PlayerWidget":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("v2a_nb.widgets.widget").PlayerWidget
