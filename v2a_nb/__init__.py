"""v2a_nb: video-to-audio generation to hear, open up, change and understand.

>>> import v2a_nb as v2a
>>> clip = v2a.open("my_video.mp4").silent()
>>> sound = v2a.load("vaura").generate(clip)
>>> player = v2a.play(clip, sound)

Everything is loaded when first used: ``import v2a_nb`` costs no torch.
"""

from __future__ import annotations

import sys
from importlib import import_module

__version__ = "0.1.0"

_WHERE = {
    "Clip": "v2a_nb.clip",
    "Hits": "v2a_nb.hits",
    "Saliency": "v2a_nb.saliency.result",
    "Sound": "v2a_nb.clip",
    "V2AError": "v2a_nb.errors",
    "Vaas": "v2a_nb.metrics.vaas.metric",
    "browse": "v2a_nb.widgets.browser",
    "check_environment": "v2a_nb.doctor",
    "compare": "v2a_nb.widgets.player",
    "edit_hits": "v2a_nb.widgets.edit_hits",
    "evaluate": "v2a_nb.metrics.evaluate",
    "explore_ambience": "v2a_nb.widgets.explore_ambience",
    "explore_codec": "v2a_nb.widgets.explore_codec",
    "explore_guidance": "v2a_nb.widgets.explore_guidance",
    "explore_hiding": "v2a_nb.widgets.explore_hiding",
    "explore_saliency": "v2a_nb.widgets.explore_saliency",
    "explore_spectrogram": "v2a_nb.widgets.explore_spectrogram",
    "listening_test": "v2a_nb.widgets.listening",
    "load": "v2a_nb.systems.registry",
    "monitor": "v2a_nb.widgets.monitor",
    "open": "v2a_nb.media",
    "open_sound": "v2a_nb.media",
    "play": "v2a_nb.widgets.player",
    "saliency": "v2a_nb.saliency",
    "save_mp4": "v2a_nb.media",
    "save_wav": "v2a_nb.media",
    "strike_world": "v2a_nb.world",
    "train": "v2a_nb.training.registry",
    "your_video": "v2a_nb.widgets.upload",
}

__all__ = sorted([*_WHERE, "__version__"])


def __getattr__(name: str):
    if name not in _WHERE:
        raise AttributeError(f"module 'v2a_nb' has no attribute {name!r}")
    module = import_module(_WHERE[name])
    value = module if module.__name__ == f"{__name__}.{name}" else getattr(module, name)  # saliency is both
    if "v2a_nb.clip" in sys.modules:
        sys.modules["v2a_nb.clip"].register_display(_html_of)
    if "v2a_nb.saliency.result" in sys.modules:
        sys.modules["v2a_nb.saliency.result"].register_display(plot=_plot_of, play=_player_of)
    globals()[name] = value
    return value


def _html_of(value) -> str:
    """The HTML of a clip or a sound: the player is imported when one is shown for the first time."""
    return import_module("v2a_nb.widgets.player").html_of(value)


def _plot_of(value, *args, **options):
    """The figure of a saliency map: plots are imported when one is drawn for the first time."""
    return import_module("v2a_nb.plots.saliency_maps").saliency(value, *args, **options)


def _player_of(value, *args, **options):
    """The player of a saliency map."""
    return import_module("v2a_nb.widgets.saliency_view").play_saliency(value, *args, **options)


def __dir__() -> list[str]:
    return __all__
