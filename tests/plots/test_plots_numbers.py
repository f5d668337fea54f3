"""Plots of numbers and of pictures over time: intervals, spectrograms as pictures, attention."""

from __future__ import annotations

import numpy as np
import pytest

from v2a_nb import plots
from v2a_nb.errors import UsageError

EVENTS = [
    {"time_s": 0.25, "kind": "strike", "material": "wood", "sounding": True},
    {"time_s": 0.75, "kind": "near_miss", "material": "metal", "sounding": False},
]


def test_intervals_stand_where_they_are_told_and_rows_have_names():
    rows = {"full": {"value": 0.8, "low": 0.7, "high": 0.85}, "none": 0.1, "unknown": float("nan")}
    fig = plots.intervals(rows, xlabel="onset F1", baseline=0.5)
    ax = fig.axes[0]
    points, _, (bars,) = ax.containers[0].lines
    assert list(points.get_xdata())[:2] == [0.8, 0.1] and list(points.get_ydata()) == [0, 1, 2]
    assert np.allclose(bars.get_segments()[0], [[0.7, 0], [0.85, 0]])
    assert [t.get_text() for t in ax.get_yticklabels()] == ["full", "none", "unknown"]
    assert ax.yaxis_inverted() and 0.5 in ax.lines[-1].get_xdata()
    assert fig.alt == "onset F1: full 0.8, none 0.1."


def test_two_calls_of_intervals_lie_side_by_side():
    fig = plots.intervals({"a": 1.0}, xlabel="F1", label="at inference")
    ax = fig.axes[0]
    plots.intervals({"a": 2.0}, ax, xlabel="F1", label="trained", shift=0.2)
    assert [c.lines[0].get_ydata()[0] for c in ax.containers] == [0.0, 0.2]
    assert {t.get_text() for t in ax.get_legend().get_texts()} == {"at inference", "trained"}
    assert "at inference: F1: a 1." in fig.alt and "trained: F1: a 2." in fig.alt


@pytest.mark.parametrize("rows", [{}, {"a": {"value": 0.5, "low": 0.6, "high": 0.7}}])
def test_intervals_refuse_what_cannot_be(rows):
    with pytest.raises(UsageError, match=r"no scores|does not lie"):
        plots.intervals(rows, xlabel="F1")


def test_a_picture_has_its_first_row_on_top_and_its_columns_in_seconds():
    values = np.zeros((4, 10))
    values[0, 5] = 1
    fig = plots.picture(values, 2.0, ylabel="mel band", limits=(-1, 1), title="planted")
    ax, drawn = fig.axes[0], fig.axes[0].images[0]
    assert drawn.get_extent() == [0, 2.0, 3.5, -0.5] and drawn.get_clim() == (-1, 1)
    assert drawn.origin == "upper" and ax.yaxis_inverted() and ax.get_ylabel() == "mel band"
    assert "planted" in fig.alt and "4 rows by 10 columns over 2.00 s" in fig.alt
    marked = plots.picture(values, 2.0, events=EVENTS).axes[0]
    assert [line.get_xdata()[0] for line in marked.lines] == [0.25, 0.75]
    assert all(line.get_ydata()[0] > 1 for line in marked.lines), "over the picture, not on it"
    assert [text.get_text() for text in marked.texts] == ["strike wood", "miss"] and marked.get_xlim() == (0, 2.0)
    for wrong, seconds in ((np.zeros((1, 4, 4)), 1.0), (np.zeros((4, 4)), 0.0), (np.zeros((0, 4)), 1.0)):
        with pytest.raises(UsageError, match=r"\[h, w\]|cannot last"):
            plots.picture(wrong, seconds)


def test_attention_draws_time_against_time_and_says_how_far_away_is_read():
    own = np.kron(np.eye(4), np.ones((1, 2))) / 2  # 4 columns of 0.2 s read their own two tokens of 0.1 s
    fig = plots.attention(own, 0.2, 0.1, events=EVENTS)
    ax = fig.axes[0]
    assert ax.get_xlim() == (0, pytest.approx(0.8)) and ax.get_ylim() == (0, pytest.approx(0.8))
    assert "reads 50 ms away" in fig.alt
    marks = [line for line in ax.lines if line.get_marker() == "v"]
    assert [m.get_xdata()[0] for m in marks] == [0.25, 0.75]
    assert [line.get_ydata()[0] for line in ax.lines if line.get_marker() == "<"] == [0.25, 0.75]
    assert [m.get_markerfacecolor() for m in marks] == [plots.COLOURS["wood"], "none"]
    late = np.roll(own, 2, axis=1)  # all but the last read 0.2 s later
    assert "reads 300 ms away" in plots.attention(late, 0.2, 0.1).alt
    uniform = plots.attention(np.ones((50, 50)) / 50, 0.02, 0.02).alt
    assert "reads 333 ms away" in uniform and "333 ms if it read all alike" in uniform
    with pytest.raises(UsageError, match=r"\[columns, tokens\]"):
        plots.attention(np.zeros((1, 4, 4)), 0.1, 0.1)
