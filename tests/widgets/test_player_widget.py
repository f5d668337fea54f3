"""The player in Python's hands: traits both ways, with ipywidgets 7.7 and 8, and nothing that needs a browser."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from player_parts import EVENTS, clip_of, tone

from v2a_nb.errors import UsageError
from v2a_nb.widgets import PlayerWidget, payload, widget
from v2a_nb.widgets.player import compare, play

NAMES = ("current_time", "selection", "track", "playing")


@pytest.fixture
def made() -> PlayerWidget:
    return compare(clip_of(), {"a": tone(), "b": tone(level=0.1)}, events=EVENTS).widget()


def test_state_is_what_the_script_reads(made):
    state = made.get_state()
    assert [state[name] for name in NAMES] == [0.0, None, "a", False]
    assert json.loads(state["_payload"]) == json.loads(json.dumps(made.player.payload))
    assert list(state["_media"]) == made.player.media and len(made.player.media) == 4
    assert state["_media"][0][4:8] == b"ftyp" and state["_media"][2][:4] == b"RIFF"
    script = (Path(widget.__file__).parent / "player.js").read_text(encoding="utf-8")
    assert state["_esm"] == script and script.rstrip().endswith("export default { render };")
    # every trait that the script asks for exists, and the other way round
    read = set(re.findall(r'model\.get\("(\w+)"\)', script))
    assert read == {"_payload", "_media", "_key", "playing"} and read < set(made.keys)
    applies = re.search(r"const applies = \{(.*?)\n  \};", script, re.S).group(1)
    assert re.findall(r"^    (\w+): ", applies, re.M) == ["current_time", "track", "selection", "playing"]


def test_values_travel_both_ways_and_are_checked_once_for_both(made):
    seen = []
    made.observe(lambda change: seen.append((change["name"], change["new"])), names=list(NAMES))
    made.current_time, made.track, made.selection, made.playing = 1, 1, [0.5, 1.5], True
    # as a browser sends it: JSON, so lists for tuples
    made.set_state({"current_time": 2.0004, "selection": [0.25, 1.0], "track": "a", "playing": False})
    assert seen[:4] == [("current_time", 1.0), ("track", "b"), ("selection", (0.5, 1.5)), ("playing", True)]
    assert sorted(seen[4:], key=str) == sorted(
        [("current_time", 2.0), ("selection", (0.25, 1.0)), ("track", "a"), ("playing", False)], key=str
    )
    assert repr(made) == "PlayerWidget(2.00 of 2.00 s, track 'a')"
    made.selection = None
    assert made.get_state()["selection"] is None


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("current_time", 2.5, r"outside of the clip, which has 2\.00 s"),
        ("current_time", float("nan"), "outside of the clip"),
        ("current_time", "soon", "in seconds, not 'soon'"),
        ("selection", (1.0, 1.0), "from 1 s to 1 s is empty"),
        ("selection", (0.5,), r"\(start, end\)"),
        ("selection", (0.5, 9), "outside of the clip"),
        ("selection", "ab", r"\(start, end\)"),
        ("track", "c", "no track 'c'; there are 'a', 'b'"),
        ("track", 2, "no track 2"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(made, name, value, words):
    before = getattr(made, name)
    with pytest.raises(UsageError, match=words):
        setattr(made, name, value)
    assert getattr(made, name) == before


def test_without_sound_there_is_no_track_and_only_a_player_will_do():
    silent = play(clip_of()).widget()
    assert silent.track == "" and len(silent.get_state()["_media"]) == 2
    with pytest.raises(UsageError, match="there are none"):
        silent.track = "a"
    with pytest.raises(UsageError, match="needs a Player"):
        PlayerWidget(clip_of())
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        from v2a_nb import widgets

        _ = widgets.Nothing


def test_two_widgets_are_told_apart_and_media_travel_as_bytes(made):
    other = made.player.widget()
    assert other._key != made._key and other.model_id != made.model_id
    assert all(isinstance(data, bytes) for data in made._media)
    assert sum(map(len, made._media)) + len(made._payload) < payload.TARGET_BYTES


def test_nothing_that_ipywidgets_7_lacks():
    """Names from traitlets and anywidget only; both of them exist beside ipywidgets 7.7."""
    tree = ast.parse(Path(widget.__file__).read_text(encoding="utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not any(module.startswith("ipywidgets") for module in modules)
    assert modules - {"__future__", "pathlib"} == {"traitlets", "v2a_nb.errors"}
    own = {name for name in vars(PlayerWidget) if not name.startswith("__")}
    assert not own & {"tooltip", "tabbable", "layout", "comm", "close", "open", "send"}, "names that 7 and 8 use apart"


def test_no_kernel_no_player_in_the_saved_notebook(made):
    """The widget is for a running kernel; the plain player beside it is what a notebook keeps."""
    data = made._repr_mimebundle_()
    data = data[0] if isinstance(data, tuple) else data
    assert set(data) == {"text/plain", "application/vnd.jupyter.widget-view+json"}
    assert "PlayerWidget(0.00 of 2.00 s" in data["text/plain"]
