"""Plots: every function takes ``ax=None``, has seconds and hertz on its axes, and returns a figure with alt text
(those that need several axes of their own take none: :func:`metric_rows`, :func:`pictures`, :func:`attentions`,
:func:`interval_columns`).

The figures are matplotlib's, created without pyplot, so that none is shown twice or stays open. Each has an ``alt``
attribute that describes it and is shown with it in a notebook. ``show(fig, alt=...)`` replaces the description by a
better one, since only the caller knows what there is to notice.

Two plots are plotly's, for pointing and zooming: :func:`spectrogram_zoom` and :func:`scores_zoom`. They
are plain ``plotly.graph_objects.Figure`` with their alt text in ``fig.layout.meta["alt"]``, and never a
``FigureWidget``. Put them into a notebook with :func:`show`, which writes their numbers and a still picture: some
of plotly's own renderers write its script as well, 4.9 MB into every notebook, or fetch it from the network.
"""

from v2a_nb.plots.events import against_truth, mark_events, strip, timeline
from v2a_nb.plots.figure import COLOURS, MISS, WAVE, Figure, Zoomable, show
from v2a_nb.plots.levels import levels
from v2a_nb.plots.metric_rows import metric_rows
from v2a_nb.plots.numbers import curve, intervals, scores, scores_zoom, training
from v2a_nb.plots.panels import attentions, classes, curves, interval_columns, pictures
from v2a_nb.plots.pictures import attention, picture
from v2a_nb.plots.saliency_maps import overlay, saliency
from v2a_nb.plots.sounds import codes, spectrogram, spectrogram_zoom, waveform

__all__ = [
    "COLOURS",
    "MISS",
    "WAVE",
    "Figure",
    "Zoomable",
    "against_truth",
    "attention",
    "attentions",
    "classes",
    "codes",
    "curve",
    "curves",
    "interval_columns",
    "intervals",
    "levels",
    "mark_events",
    "metric_rows",
    "overlay",
    "picture",
    "pictures",
    "saliency",
    "scores",
    "scores_zoom",
    "show",
    "spectrogram",
    "spectrogram_zoom",
    "strip",
    "timeline",
    "training",
    "waveform",
]
