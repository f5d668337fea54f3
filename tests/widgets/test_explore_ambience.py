"""The ambience explorer and its curve: a slider without a kernel, levels that are measured, one clear error."""

from __future__ import annotations

import numpy as np
import pytest
from ambience_parts import HITS, RATE, Follower, noise
from node_parts import check_script
from page_parts import Tags, wav_of

from v2a_nb import plots
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError
from v2a_nb.widgets import explorer_frame
from v2a_nb.widgets.explore_ambience import ASKED, MADE, OVER
from v2a_nb.widgets.explorers import explore_ambience


@pytest.fixture
def clip():
    return Clip(np.zeros((50, 32, 32, 3), np.uint8), sound=Sound(noise(-30), RATE), name="a <clip>")


def test_levels_are_measured_away_from_the_hits_and_make_a_line(clip):
    system = Follower()
    made = explore_ambience(system, clip, (-70, -55, -40), truth={"events": HITS})
    assert system.asked == [], "nothing is generated before it is looked at"
    rows = made.table
    assert [r[ASKED] for r in rows] == [-70, -55, -40]
    assert [r[MADE] for r in rows] == pytest.approx([-70, -55, -40], abs=1.0)
    assert [r["onset F1 (50 ms)"] for r in rows] == [1, 1, 1]
    over = [r[OVER] for r in rows]
    assert over[0] - over[2] == pytest.approx(30, abs=2), "the hits stay where they are"
    assert made.curve.slope == pytest.approx(1, abs=0.03) and made.curve.follows
    assert len(system.asked) == 3, "made once"
    half = explore_ambience(Follower(0.5), clip, (-70, -55, -40), truth=HITS).curve
    assert half.slope == pytest.approx(0.5, abs=0.03) and not half.follows


def test_a_given_condition_is_brought_to_the_level_and_options_go_through(clip):
    from v2a_nb.data.pool import quiet_dbfs

    system = Follower()
    own = Sound(noise(-33), RATE)
    made = explore_ambience(system, clip, [-60.0], condition=own, seed=4, guidance=1.0)
    assert made.at().settings == {"level": -50.0, "seed": 4} and made.at(level=-60.0).label == "\u221260 dBFS"
    for (sound, seed, guidance), level in zip(system.asked, (-50, -60), strict=True):
        assert quiet_dbfs(sound.samples[0], RATE) == pytest.approx(level, abs=1e-3) and (seed, guidance) == (4, 1.0)
    assert "onset F1 (50 ms)" not in made.table[0] and "seed 5" in made.at(seed=5).label
    assert explore_ambience(Follower(), clip, -45.0).at(level=-45.0).numbers[MADE] == pytest.approx(-45, abs=1)


def test_the_page_has_a_card_for_each_level_and_a_script_that_makes_a_slider_of_them(clip):
    made = explore_ambience(Follower(), clip, (-70, -55, -40), truth=HITS, title="</figure><script>alert(1)</script>")
    page = made.html
    tags = Tags(page)
    assert "alert(1)</script>" not in page and "http" not in page
    cards = [a["data-card"] for _, a in tags.tags if "data-card" in a]
    assert cards == ["\u221270 dBFS", "\u221255 dBFS", "\u221240 dBFS"]
    sounds, pictures = tags.all("audio"), tags.all("img")
    assert len(sounds) == len(pictures) == 3 and all("controls" in a for a in sounds)
    levels = [np.sqrt(np.mean(np.square(wav_of(a["src"])[0][0][:4800] / 32767.0))) for a in sounds]
    assert 20 * np.log10(levels) == pytest.approx([-70, -55, -40], abs=1.5), "heard at their own level"
    assert all("Marked:" in i["alt"] and i["src"].startswith("data:image/png") for i in pictures)
    assert len(tags.all("script")) == 1 and "export" not in page and len(page) < explorer_frame.TARGET_BYTES
    assert made._repr_html_() == page and "live()" in repr(made)


def test_the_panel_makes_any_other_level(clip):
    system = Follower()
    panel = explore_ambience(system, clip, (-60, -40), truth=HITS).live()
    assert len(system.asked) == 1, "the page's sounds are not needed for it"
    panel.controls["level"].value = -66.0
    assert "\u221266 dBFS" in panel.status.value and "asked (dBFS): \u221266" in panel.output.value
    assert system.asked[-1][0] == -66.0
    assert "<img" in panel.output.value and "<audio" in panel.output.value


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"levels": [-130.0]}, "level -130.0: a number from -120 to 0 dBFS"),
        ({"levels": [float("nan")]}, "level nan"),
        ({"levels": ["low"]}, "level 'low'"),
        ({"levels": []}, "at least one choice"),
        ({"levels": range(-60, -20)}, "40 levels are too many"),
        ({"seed": -1}, "seed -1"),
        ({"clip": "a.mp4"}, "clip must be a Clip"),
        ({"condition": np.zeros(4)}, "condition must be a Sound"),
        ({"system": object()}, "system object takes no ambience"),
        ({"truth": [{"kind": "strike"}]}, "time_s"),
    ],
)
def test_what_cannot_be_meant_is_one_clear_line(clip, change, words):
    with pytest.raises(UsageError) as error:
        explore_ambience(**{"system": Follower(), "clip": clip, **change})
    assert words in str(error.value) and "\n" not in str(error.value)


def test_the_slider_shows_one_card_and_goes_on_playing():
    check_script("slider")


# --- the curve --------------------------------------------------------------------------------------


def test_levels_are_drawn_where_they_are_with_means_and_lines():
    fig = plots.levels([-60, -60, -40], [-58, -54, -42], lines={"true": -47.0}, here=2, label="made")
    ax = fig.axes[0]
    same, points, means, line, here = ax.lines
    assert same.get_xdata().tolist() == same.get_ydata().tolist()
    assert points.get_ydata().tolist() == [-58, -54, -42]
    assert means.get_xdata().tolist() == [-60, -40] and means.get_ydata().tolist() == [-56, -42]
    assert set(line.get_ydata()) == {-47.0} and (here.get_xdata()[0], here.get_ydata()[0]) == (-40, -42)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["made", "true"]
    assert fig.alt.startswith("Ambient levels made, dBFS, for levels asked: -56 for -60, -42 for -40.")
    assert "true: -47." in fig.alt and "Marked: -42 for -40." in fig.alt


@pytest.mark.parametrize(
    ("asked", "made"), [([], []), ([-60], [-60, -50]), ([-60], [float("nan")]), ([[-60]], [[-60]])]
)
def test_levels_refuse_what_cannot_be(asked, made):
    with pytest.raises(UsageError, match=r"one pair|must be numbers"):
        plots.levels(asked, made)
