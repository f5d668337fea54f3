"""The editor of hits: a page that needs no kernel, a panel that makes the sound, and one clear error."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from hit_parts import EXPECTED, Clicker
from node_parts import check_script
from page_parts import Tags
from player_parts import HOSTILE, clip_of, tone

from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError
from v2a_nb.hits import Hit, Hits
from v2a_nb.widgets.edit_hits import HitEditor, edit_hits, levels


@pytest.fixture
def editor() -> HitEditor:
    return edit_hits(Clicker(), clip_of().with_sound(tone()), seed=4, guidance=2.0, title="three hits")


def data_of(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" data-hits>(.*?)</script>', page, re.S).group(1))


def test_all_hits_are_there_and_those_that_sound_are_told_apart(editor):
    assert editor.hits == EXPECTED and editor.followed == EXPECTED[:1]
    assert editor.system.told == [], "nothing is generated before it is looked at"
    editor.sensitivity = 0.8
    assert editor.followed == EXPECTED[:2] and "2 of 3 hits sound" in repr(editor)
    sound = editor.make()
    assert sound is editor.sound and editor.system.told == [{"seed": 4, "hits": EXPECTED[:2], "guidance": 2.0}]
    assert list(editor.player.tracks) == ["your hits", "as expected", "its own sound"]
    editor.hits = [0.25, 0.75]
    assert editor.followed == Hits([0.25, 0.75]) and editor.make().samples[0, 4000] == 0.5


def test_the_editor_begins_with_what_auto_follows(editor):
    auto = edit_hits(Clicker(), clip_of(), sensitivity="auto")
    fitted = EXPECTED.fitted
    assert auto.hits == fitted and auto.sensitivity == fitted.fitting_sensitivity
    assert auto.followed == EXPECTED.at("auto")
    editor.sensitivity = "auto"
    assert editor.followed == auto.followed and data_of(editor.html)["sensitivity"] == auto.sensitivity


def test_the_page_needs_no_kernel_and_no_network(editor):
    page = editor._repr_html_()
    tags = Tags(page)
    data = data_of(page)
    assert [hit["time_s"] for hit in data["hits"]] == [0.5, 1.0, 1.5] and data["sensitivity"] == 0.5
    assert data["duration"] == 2.0 and len(data["waves"]) == 1 and data["title"] == "three hits"
    assert "0.97" in "".join(tags.words) and "0.02" in "".join(tags.words), "without scripts there is a table"
    assert not re.search(r"https?:|\bimport\s*\(|fetch\(|<link|@import", page) and "export " not in page
    assert len(tags.all("audio")) == 2 and len(tags.all("script")) == 4
    editor.make()
    assert len(data_of(editor.html)["waves"]) == 2 and len(Tags(editor.html).all("audio")) == 3


def test_levels_are_those_of_the_sound():
    wave = np.concatenate([np.zeros(8000), np.full(8000, 10 ** (-45 / 20))])
    found = levels(Sound(wave, 16000), 1.0)
    assert found.shape == (600,) and (found[:299] == 0).all() and (found[301:] == 106).all()
    assert (levels(Sound(np.ones(100), 16000), 1.0)[10:] == 0).all(), "a short sound is followed by silence"


def test_names_are_text(editor):
    editor = edit_hits(Clicker(), clip_of(), title=HOSTILE)
    tags = Tags(editor.html)
    assert len(tags.all("script")) == 4 and len(tags.all("img")) == 1
    assert not any(name.startswith("on") for _, attrs in tags.tags for name in attrs)


def test_a_saved_page(editor, tmp_path):
    page = editor.save(tmp_path / "hits.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and "<title>three hits</title>" in page


def test_the_panel_and_python_share_the_hits(editor):
    panel = editor.live()
    assert editor.live() is panel
    state = panel.get_state()
    assert [hit["time_s"] for hit in state["_hits"]] == [0.5, 1.0, 1.5] and len(state["_media"]) == 4
    assert json.loads(state["_payload"])["tracks"][0]["label"] == "as expected"
    # from the browser: numbers without a fraction are integers there
    panel.set_state({"_hits": [{"time_s": 1, "probability": 1, "level_db": -6, "origin": "user", "moved_from_s": 0.5}]})
    assert editor.hits == Hits([Hit(1.0, level_db=-6.0, moved_from_s=0.5)])
    panel.set_state({"_sensitivity": 0.9})
    assert editor.sensitivity == 0.9
    editor.hits = editor.hits.add(1.5)
    assert [hit["time_s"] for hit in panel._hits] == [1.0, 1.5]


def test_the_button_makes_the_sound_of_the_hits(editor):
    panel = editor.live()
    panel.set_state({"_hits": [{"time_s": 0.25}]})
    panel.set_state({"_asked": 1})
    assert editor.system.told[-1]["hits"] == Hits([0.25]) and editor.sound.samples[0, 4000] == 0.5
    labels = [track["label"] for track in json.loads(panel._payload)["tracks"]]
    assert labels == ["your hits", "as expected", "its own sound"] and len(panel._media) == 5
    assert len(panel._data["waves"]) == 2
    assert panel._status == {"text": "made with 1 hits; compare with 1 and 2", "bad": False, "busy": False}


def test_what_goes_wrong_is_said_in_the_panel(editor):
    panel = editor.live()
    panel.set_state({"_hits": [{"time_s": 9}]})
    assert panel._status["bad"] and "lies outside of a clip" in panel._status["text"] and editor.hits == EXPECTED
    editor.options["guidance"] = 11.0
    panel.set_state({"_asked": 1})
    assert panel._status == {"text": "guidance 11 is too much", "bad": True, "busy": False} and editor.sound is None


def test_the_panels_script_has_the_player_and_asks_for_traits_that_exist(editor):
    panel = editor.live()
    source = panel.get_state()["_esm"]
    assert source.rstrip().endswith("export default { render };") and source.count("export default") == 1
    own = source[source.index("// The editor of hits") :]
    assert set(re.findall(r'model\.[gs]et\("(\w+)"', own)) <= set(panel.keys)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"system": object()}, "system must be what v2a.load returns, not object"), ({"clip": "a.mp4"}, "clip must be"),
        ({"clip": clip_of(31.0, 8, fps=2.0)}, "31 s, and 30 s can be edited at once"), ({"seed": -1}, "seed -1"),
        ({"sensitivity": 2.0}, "sensitivity must be 0"), ({"hits": Hits([3.0])}, "lies outside of"),
        ({"hits": [0.5]}, "hits must be"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_one_clear_line(change, words):
    with pytest.raises(UsageError) as error:
        edit_hits(**{"system": Clicker(), "clip": clip_of(), **change})
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_system_that_follows_no_hits_is_refused():
    system = Clicker()
    system.options = ()
    with pytest.raises(UsageError, match="clicker finds whole sounds and follows no hits"):
        edit_hits(system, clip_of())


def test_pure_functions_of_the_script():
    check_script("hit_editor")
