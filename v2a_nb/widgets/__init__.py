"""The player: :func:`play` one soundtrack, :func:`compare` several; :class:`PlayerWidget` ties it to Python."""

from importlib import import_module

from v2a_nb.widgets.player import Player, compare, play

__all__ = ["Player", "PlayerWidget", "compare", "play"]


def __getattr__(name: str):
    # widgets are loaded when asked for: the player itself needs no ipywidgets
    if name != "PlayerWidget":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("v2a_nb.widgets.widget").PlayerWidget
