"""The clip browser: the same filters in Python, in the page's script and in the panel; safe with any name."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from page_parts import Tags

from v2a_nb import media
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import MediaError, UsageError
from v2a_nb.widgets import browser
from v2a_nb.widgets.browser import NOTHING, Entry, browse, options, select
from v2a_nb.world import strike_world, write_world

HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>\n\u202eright to left\u202c\0 &amp;"


def clip_of(name: str = "a clip", seconds: float = 0.6) -> Clip:
    frames = np.zeros((round(seconds * 10), 32, 48, 3), np.uint8)
    frames[:, :16] = (200, 120, 40)
    tone = 0.3 * np.sin(np.arange(round(seconds * 16000)) * 0.1)
    return Clip(frames, fps=10.0, name=name, sound=Sound(tone, 16000))


def entry(name: str, ambience: str = "", events: list | None = None, narration: str = "") -> Entry:
    """An entry with events written as ``material kind`` (a trailing ``?`` makes it a near miss)."""
    made = None if events is None else tuple(
        {"time_s": 0.1, "kind": e.split()[1].rstrip("?"), "material": e.split()[0], "sounding": e[-1] != "?"}
        for e in events
    )  # fmt: skip
    clip = clip_of(name)
    return Entry(name, lambda s, side: clip, lambda t: clip.frames[0], narration, ambience, made)


SET = [
    entry("a", "hum", ["metal strike", "wood scrape"], "A Mallet strikes"),
    entry("b", "rain", ["metal strike?", "wood strike"], "a hand"),
    entry("c", "rain", ["glass bounce"]),
    entry("d", "hum", []),
    entry("e"),
]
CASES = [
    ({}, "abcde"),
    ({"material": "metal"}, "a"),  # a near miss does not sound
    ({"material": "metal", "event": "near miss"}, "b"),
    ({"material": "metal", "event": "scrape"}, ""),  # one event must fit both
    ({"material": "wood", "event": "scrape"}, "a"),
    ({"event": "strike"}, "ab"),
    ({"event": NOTHING}, "d"),
    ({"event": NOTHING, "material": "wood"}, ""),
    ({"ambience": "rain"}, "bc"),
    ({"ambience": "rain", "event": "strike"}, "b"),
    ({"text": "MALLET strikes"}, "a"),
    ({"text": "rain  glass"}, "c"),
    ({"material": "steel"}, ""),
]


def names(entries) -> str:
    return "".join(e.name for e in entries)


@pytest.mark.parametrize(("want", "found"), CASES)
def test_select(want, found):
    assert names(select(SET, **want)) == found


def test_the_script_selects_the_same():
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    facts = json.loads(re.search(r'json">(.*?)</script>', browser.Browser(SET, []).html, re.S).group(1))["clips"]
    code = f"{browser.SCRIPT}\nconst clips = {json.dumps(facts)};\n" + (
        f"console.log(JSON.stringify({json.dumps([want for want, _ in CASES])}"
        ".map((want) => clips.map((clip, k) => (fits(clip, want) ? 'abcde'[k] : '')).join(''))))"
    )
    done = subprocess.run([node, "-e", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [found for _, found in CASES]


def test_select_takes_clips_of_a_world_and_returns_them():
    world = strike_world(seed=1, clips=6, size=32, seconds=1.0)
    made = select(world.clips, material="metal")
    wanted = [c for c in world if any(e["material"] == "metal" and e["sounding"] for e in c.truth["events"])]
    assert made == wanted
    kinds = {e["ambient"]["kind"] for e in (c.truth for c in world)}
    assert options(browse(world).entries)["ambience"] == sorted(kinds)


def test_page_is_whole_without_scripts_and_needs_nothing_from_outside():
    world = strike_world(seed=2, clips=3, size=32, seconds=1.0)
    page = browse(world)._repr_html_()
    tags = Tags(page)
    assert len(tags.all("img")) == 3 and all(i["src"].startswith("data:image/jpeg") for i in tags.all("img"))
    assert all(c.narration in " ".join(tags.words) for c in world)
    assert all("hidden" not in item for item in tags.all("li")) and "hidden" in tags.all("form")[0]
    assert tags.all("section")[0]["aria-label"] and tags.all("output")[0]["aria-live"] == "polite"
    assert not re.search(r"https?:|//cdn|fetch\(|XMLHttpRequest|<link|@import", page)
    data = json.loads(re.search(r'json">(.*?)</script>', page, re.S).group(1))
    assert set(data["players"]) == {"0", "1", "2"}
    # joined again, each is the player's own page
    whole = data["shared"].join(data["players"]["1"])
    assert whole.startswith("<figure") and whole.count("function ") > 3 and world[1].id not in data["shared"]
    assert "3 of 3 clips, 3 with a player" in page and ".live()" not in page


def test_budget_is_kept_and_said(monkeypatch):
    monkeypatch.setattr(browser, "BUDGET_BYTES", 260_000)
    made = browse([clip_of(f"clip {k}", 2.0) for k in range(8)])
    players = json.loads(re.search(r'json">(.*?)</script>', made.html, re.S).group(1))["players"]
    assert 0 < len(players) < 8 and list(players) == [str(k) for k in range(len(players))]
    assert len(made.html) < 260_000
    assert f"8 of 8 clips, {len(players)} with a player" in made.html and "0.26 MB" in made.html
    monkeypatch.setattr(browser, "CARDS", 5)
    assert "5 of 8 clips" in browse([clip_of(f"clip {k}", 2.0) for k in range(8)]).html


def test_hostile_words_are_text():
    event = {"time_s": 0.1, "kind": HOSTILE, "material": HOSTILE, "sounding": True}
    clip = clip_of(HOSTILE)
    bad = Entry(HOSTILE, lambda s, side: clip, lambda t: clip.frames[0], HOSTILE, HOSTILE, (event,), (HOSTILE,))
    made = browser.Browser([bad], [HOSTILE])
    tags = Tags(made.html)
    assert "onerror" not in {name for _, attrs in tags.tags for name in attrs}
    assert len(tags.all("script")) == 2 and len(tags.all("img")) == 1
    clean = HOSTILE.replace("\0", "\ufffd")
    assert clean in tags.all("img")[0]["alt"] and "".join(tags.words).count(clean) >= 5
    assert tags.all("option")[1]["value"] == clean
    data = json.loads(re.search(r'json">(.*?)</script>', made.html, re.S).group(1))
    assert "<script>alert" not in data["shared"].join(data["players"]["0"])
    assert clean.lower() in data["clips"][0]["text"]
    live = made.live()
    shown = " ".join(w.value for w in widgets_of(live, "HTML"))
    assert "<img src=x" not in shown and "<script" not in shown and "&lt;img src=x" in shown


def test_folder_without_truth_names_what_cannot_be_read(tmp_path):
    media.save_mp4(clip_of(), None, tmp_path / "good.MP4".lower())
    (tmp_path / "broken <b>.mp4").write_bytes(b"no video at all" * 50)
    (tmp_path / "notes.txt").write_text("no video")
    (tmp_path / ".hidden.mp4").write_bytes(b"")
    made = browse(tmp_path)
    assert [e.name for e in made.entries] == ["broken <b>.mp4", "good.mp4"]
    tags = Tags(made.html)
    assert len(tags.all("img")) == 1 and "problems: 1" in tags.words
    assert any("broken <b>.mp4: cannot be read as video" in word for word in tags.words)
    assert not tags.all("select") and tags.all("input")


def test_folder_of_a_world_is_shown_with_its_truth(tmp_path):
    write_world(tmp_path / "w", 3, seconds=0.6, size=32, seed=4)
    truth = json.loads((tmp_path / "w" / "truth.json").read_text())
    made = browse(str(tmp_path / "w"))
    assert [e.name for e in made.entries] == [c["id"] for c in truth["clips"]] and not made.problems
    assert [e.narration for e in made.entries] == [c["narration"] for c in truth["clips"]]
    assert made.html.count("<img ") >= 3
    truth["clips"][0]["video"] = "../outside.mp4"
    del truth["clips"][1]["id"]
    truth["clips"].append(7)
    (tmp_path / "w" / "truth.json").write_text(json.dumps(truth))
    made = browse(tmp_path / "w")
    assert [e.name for e in made.entries] == [truth["clips"][2]["id"]]
    assert len(made.problems) == 3 and "outside of the folder" in made.problems[0] and "'id'" in made.problems[1]
    (tmp_path / "w" / "truth.json").write_text('{"clips": ')
    made = browse(tmp_path / "w")
    assert len(made.entries) == 3 and made.entries[0].events is None
    assert "truth.json cannot be read" in made.problems[0]


def test_wrong_things_are_refused_by_name(tmp_path):
    with pytest.raises(MediaError, match="no such folder"):
        browse(tmp_path / "nothing")
    with pytest.raises(MediaError, match="no videos in this folder"):
        browse(tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"x")
    with pytest.raises(MediaError, match="a file, not a folder"):
        browse(tmp_path / "a.mp4")
    with pytest.raises(UsageError, match="the list is empty"):
        browse([])
    with pytest.raises(UsageError, match="a int is no clip"):
        browse([3])
    with pytest.raises(UsageError, match="a world, a list of clips or a folder, not int"):
        browse(3)


def widgets_of(box, kind: str) -> list:
    """All widgets of a kind below a box."""
    found = [box] if type(box).__name__ == kind else []
    return found + [w for child in getattr(box, "children", ()) for w in widgets_of(child, kind)]


def test_panel_filters_pages_and_plays(monkeypatch):
    monkeypatch.setattr(browser, "PAGE", 2)
    made = browse(SET).live()
    choice = {w.description: w for w in widgets_of(made, "Dropdown")}
    (text,), (page,) = widgets_of(made, "Text"), widgets_of(made, "BoundedIntText")
    buttons, (output,) = widgets_of(made, "Button"), widgets_of(made, "Output")
    said = widgets_of(made, "HTML")[0]
    cards = [w for w in widgets_of(made, "VBox") if w is not made]
    assert list(choice) == ["material", "ambience", "event"] and len(cards) == 2
    assert said.value == "of 3; 5 of 5 clips" and page.max == 3
    page.value = 3
    assert [c.layout.display for c in cards] == [None, "none"] and buttons[0].description == "Play 5"
    choice["ambience"].value = "rain"
    assert page.value == 1 and page.max == 1 and said.value == "of 1; 2 of 5 clips"
    assert "Picture: a hand" in cards[0].children[0].value
    assert output.outputs == ()
    buttons[1].click()
    assert (
        output.outputs[0]["data"]["text/html"].startswith("<figure") and output.outputs[0]["data"]["text/plain"] == "c"
    )
    text.value = "nowhere"
    assert said.value == "No clip fits." and all(c.layout.display == "none" for c in cards)


def test_panel_says_what_cannot_be_opened(tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video at all" * 50)
    media.save_mp4(clip_of(), None, tmp_path / "good.mp4")
    made = browse(tmp_path).live()
    shown = [w.value for w in widgets_of(made, "HTML")]
    assert sum("broken.mp4: cannot be read" in value for value in shown) == 1
    buttons = widgets_of(made, "Button")
    assert [b.disabled for b in buttons[:2]] == [True, False]
    Path(tmp_path / "good.mp4").unlink()  # gone between the poster and the click
    buttons[1].click()
    assert any('role="alert"' in w.value and "no such file" in w.value for w in widgets_of(made, "HTML"))
    assert widgets_of(made, "Output")[0].outputs == ()
