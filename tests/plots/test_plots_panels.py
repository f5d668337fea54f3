"""Several plots of one kind in one figure."""

from __future__ import annotations

import numpy as np
import pytest

from v2a_nb import plots
from v2a_nb.errors import UsageError

EVENTS = [{"time_s": 0.5, "kind": "strike", "material": "wood", "sounding": True}]


def test_pictures_share_time_and_scale_and_are_named():
    rows = {name: np.full((4, n), v) for name, n, v in (("a", 10, 0.1), ("b", 5, 0.9), ("c", 10, 0.5))}
    fig = plots.pictures(rows, 2.0, columns=2, ylabel="band", limits=(0, 1), events=EVENTS)
    first, second, third, bar = fig.axes
    assert [ax.get_title() for ax in (first, second, third)] == ["a", "b", "c"]
    assert all(ax.get_xlim() == (0, 2.0) and ax.images[0].get_clim() == (0, 1) for ax in (first, second, third))
    assert [ax.get_ylabel() for ax in (first, second, third)] == ["band", "", "band"]
    assert [ax.get_xlabel() for ax in (first, second, third)] == ["", "time (s)", "time (s)"]
    assert [bool(ax.lines) for ax in (first, second, third)] == [True, False, False] and not bar.get_title()
    assert all(f"Picture, {name}," in fig.alt for name in rows)
    assert len(plots.pictures(rows, 2.0).axes) == 6, "each with its own scale"


def test_attentions_have_columns_of_their_own_length():
    maps = {"fine": np.eye(8) / 1, "coarse": np.kron(np.eye(4), np.ones((1, 2))) / 2}
    fig = plots.attentions(maps, 0.8, 0.1, events=EVENTS)
    panels = [ax for ax in fig.axes if ax.images and ax.get_title()]
    assert [ax.get_title() for ax in panels] == ["fine", "coarse"]
    assert all(ax.get_ylim() == (0, pytest.approx(0.8)) for ax in panels)
    assert "fine: a column reads 0 ms away" in fig.alt and "coarse: a column reads 50 ms away" in fig.alt


def test_interval_columns_have_the_same_rows_and_one_set_of_names():
    rows = {"full": {"value": 0.8, "low": 0.7, "high": 0.9}, "none": 0.1}
    fig = plots.interval_columns({"F1": rows, "material": rows}, baseline=0.5)
    assert [ax.get_xlabel() for ax in fig.axes] == ["F1", "material"]
    assert [t.get_text() for t in fig.axes[0].get_yticklabels()] == ["full", "none"]
    assert [ax.yaxis.get_tick_params()["labelleft"] for ax in fig.axes] == [True, False]
    assert "F1: full 0.8, none 0.1." in fig.alt and "material: full 0.8" in fig.alt


def test_curves_have_a_legend_and_marks():
    fig = plots.curves({"a": ([0, 1], [1, 10]), "b": ([0, 1], [2, 3])}, xlabel="s", ylabel="x", events=EVENTS, log=True)
    ax = fig.axes[0]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a", "b"] and ax.get_yscale() == "log"
    assert any(list(line.get_xdata()) == [0.5, 0.5] for line in ax.lines) and "b: x over s: 2 at 0, 3 at 1." in fig.alt


def test_classes_have_their_colours_and_shares():
    fig = plots.classes([[0, 1], [1, 1]], 2.0, {"room": "#d5d8de", "action": "#b3261e"}, ylabel="band")
    ax, bar = fig.axes
    drawn = ax.images[0]
    assert np.allclose(drawn.cmap(drawn.norm(1))[:3], [0xB3 / 255, 0x26 / 255, 0x1E / 255])
    assert [t.get_text() for t in bar.get_yticklabels()] == ["room, 25 %", "action, 75 %"]
    assert "room 25 %, action 75 %" in fig.alt


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.pictures({}, 1.0),
        lambda: plots.pictures({"a": np.zeros((2, 2))}, 1.0, columns=0),
        lambda: plots.attentions({}, 1.0, 0.1),
        lambda: plots.interval_columns({}),
        lambda: plots.curves({}, xlabel="x", ylabel="y"),
        lambda: plots.classes([[0, 2]], 1.0, {"a": "red", "b": "blue"}),
        lambda: plots.classes([0, 1], 1.0, {"a": "red", "b": "blue"}),
    ],
)
def test_nothing_to_draw_is_refused(draw):
    with pytest.raises(UsageError, match=r"to draw|whole numbers"):
        draw()
