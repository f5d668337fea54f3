"""The plot of generated onsets and expected hits over the true waveform."""

from __future__ import annotations

import numpy as np

from v2a_nb import plots
from v2a_nb.clip import Sound
from v2a_nb.hits import Hit, Hits

SOUND = Sound(0.2 * np.sin(np.arange(32000)), 16000)


def test_what_meets_a_true_onset_is_filled():
    hits = Hits([Hit(0.4, 0.3), Hit(1.5)])
    fig = plots.against_truth(SOUND, [0.5, 1.5], [0.45, 1.0, 1.52], hits, title="a")
    filled, open_ = [line for line in fig.axes[0].lines if line.get_marker() == "v"]
    assert list(filled.get_xdata()) == [0.45, 1.52] and list(open_.get_xdata()) == [1.0]
    dots = [line for line in fig.axes[0].lines if line.get_marker() == "o"]
    assert [(d.get_xdata()[0], d.get_ydata()[0]) for d in dots] == [(0.4, 0.3), (1.5, 1.0)]
    assert "a: 2 true onsets, 3 generated, 2 of them within 100 ms; 2 expected hits." in fig.alt


def test_each_onset_is_met_once_and_nothing_is_fine_too():
    fig = plots.against_truth(SOUND, [0.5], [0.45, 0.55], tolerance=0.06)
    assert "1 of them within 60 ms" in fig.alt
    assert "0 generated" in plots.against_truth(Sound(np.zeros(16000), 16000), [], []).alt


def test_several_fit_below_each_other(recwarn):
    from matplotlib.figure import Figure

    fig = Figure(figsize=(9, 8), layout="constrained")
    for ax in fig.subplots(4):
        plots.against_truth(SOUND, [0.5], [0.5], ax=ax)
    plots.show(fig)
    tops = [ax.get_position().y0 for ax in fig.axes]
    assert min(np.diff(tops[::-1])) > 0.2 and not [w for w in recwarn if "layout" in str(w.message)]
