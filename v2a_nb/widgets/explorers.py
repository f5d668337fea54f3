"""Explorers show the effect of settings in numbers, pictures and sounds.

| call | explores |
|---|---|
| :func:`explore_spectrogram` | window, hop, mel bands, Griffin-Lim iterations |
| :func:`explore_codec` | how many codebooks |
| :func:`explore_guidance` | guidance, seed, temperature |
| :func:`explore_ambience` | the level of the condition |
| :func:`explore_hiding` | which sounds hang on a part of the picture |
| :func:`explore_saliency` | what half a second of the sound hangs on, by which method |

Each returns an explorer that displays a static page (no kernel, no widget, about 2 MB at most) and whose
``live()`` is a panel with sliders; :mod:`v2a_nb.widgets.explorer_frame` says when to use which.

Examples:
    >>> explorer = explore_spectrogram(sound)
    >>> panel = explore_codec(sound, events=item.truth).live()
"""

from v2a_nb.widgets.explore_ambience import AmbienceExplorer, explore_ambience
from v2a_nb.widgets.explore_codec import CodecExplorer, explore_codec
from v2a_nb.widgets.explore_guidance import GuidanceExplorer, explore_guidance
from v2a_nb.widgets.explore_hiding import HidingExplorer, explore_hiding
from v2a_nb.widgets.explore_saliency import SaliencyExplorer, explore_saliency
from v2a_nb.widgets.explore_spectrogram import SpectrogramExplorer, explore_spectrogram
from v2a_nb.widgets.explorer_frame import Explorer, Variant

__all__ = [
    "AmbienceExplorer",
    "CodecExplorer",
    "Explorer",
    "HidingExplorer",
    "GuidanceExplorer",
    "SaliencyExplorer",
    "SpectrogramExplorer",
    "Variant",
    "explore_ambience",
    "explore_codec",
    "explore_guidance",
    "explore_hiding",
    "explore_saliency",
    "explore_spectrogram",
]
