"""The player: :func:`play` one soundtrack, :func:`compare` several."""

from v2a_nb.widgets.player import Player, compare, play

__all__ = ["Player", "compare", "play"]
