"""The editor of hits in a real Chromium: the saved page, and the same module as a widget with a model of its own."""

from __future__ import annotations

import base64
import json

import pytest
from hit_parts import EXPECTED, Clicker
from player_parts import clip_of, tone

from v2a_nb.hits import Hits
from v2a_nb.widgets.edit_hits import edit_hits

MODEL = """
const view = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const state = STATE, media = MEDIA.map(view);
const heard = {};
window.model = {
  sent: {}, saves: 0,
  get: (name) => (name === "_media" ? media : state[name]),
  set(name, value) { state[name] = value; this.sent[name] = value; },
  save_changes() { this.saves += 1; },
  on(name, run) { heard[name] = run; }, off(name) { delete heard[name]; },
  python(changes) {
    Object.assign(state, changes);
    Object.keys(changes).forEach((name) => heard[`change:${name}`]?.());
  },
};
window.cleanup = widget.default.render({ model, el: document.body });
null; // a function would be called
"""


@pytest.fixture
def page(browser):
    """A page in a context of its own; at the end: no error in the console."""
    context, wrong = browser.new_context(viewport={"width": 1040, "height": 900}), []
    made = context.new_page()
    made.set_default_timeout(30000)
    made.on("console", lambda m: m.type in ("error", "warning") and "Canvas2D" not in m.text and wrong.append(m.text))
    made.on("pageerror", lambda error: wrong.append(str(error)))
    yield made
    context.close()
    assert wrong == []


@pytest.fixture
def editor():
    return edit_hits(Clicker(), clip_of().with_sound(tone()), title="three hits")


@pytest.fixture
def saved(editor, page, tmp_path):
    page.goto(editor.save(tmp_path / "hits.html").as_uri())
    page.wait_for_selector(".mark")
    return page


def at(page, seconds: float, length: float = 2.0) -> tuple[float, float]:
    """Where a time stands on the lane, in the page's pixels, under the marks' heads."""
    box = page.locator(".lane").bounding_box()
    return box["x"] + box["width"] * seconds / length, box["y"] + box["height"] - 8


def times(page) -> list[float]:
    words = page.locator(".mark").evaluate_all("(marks) => marks.map((m) => m.title)")
    return [float(text.split(" s,")[0]) for text in words]


def test_hits_are_marks_and_doubtful_ones_are_hollow(saved):
    assert times(saved) == EXPECTED.times
    assert saved.locator(".mark.doubt").count() == 2 and saved.locator(".count").inner_text() == "1 of 3 hits sound"
    saved.get_by_role("slider", name="sensitivity").fill("1")
    assert saved.locator(".mark.doubt").count() == 0 and saved.locator(".count").inner_text() == "3 of 3 hits sound"
    assert not saved.get_by_role("button", name="Make the sound").count(), "there is no kernel"
    assert not saved.locator("pre").is_visible() and saved.locator(".title").inner_text() == "three hits"


def test_click_drag_keys_and_undo(saved):
    page = saved
    page.mouse.click(*at(page, 0.75))
    assert times(page) == pytest.approx([0.5, 0.75, 1.0, 1.5], abs=0.005)
    page.keyboard.press("Delete")
    assert times(page) == [0.5, 1.0, 1.5]
    page.mouse.move(*at(page, 1.0))
    page.mouse.down()
    page.mouse.move(*at(page, 1.1), steps=3)
    page.mouse.move(*at(page, 1.25), steps=3)
    page.mouse.up()
    assert times(page) == pytest.approx([0.5, 1.25, 1.5], abs=0.006)
    assert page.locator(".mark.user").count() == 1
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    assert times(page)[1] == pytest.approx(1.255, abs=0.006) and "+2 dB" in page.locator(".mark").nth(1).get_attribute(
        "title"
    )
    for _ in range(5):
        page.keyboard.press("Control+z")
    assert times(page) == EXPECTED.times, "a whole drag is one step"
    page.get_by_role("button", name="hit at 1.500 s").focus()
    page.keyboard.press("Enter")
    assert page.locator(".count").inner_text() == "2 of 3 hits sound"
    page.keyboard.press("x")
    assert times(page) == [0.5, 1.0]


def test_the_chosen_hit_can_be_set_by_numbers(saved):
    page = saved
    page.mouse.click(*at(page, 0.5))
    page.get_by_label("time of the chosen hit, seconds").fill("0.3")
    page.keyboard.press("Tab")
    page.get_by_label("level of the chosen hit, dB").fill("6")
    assert times(page)[0] == 0.3 and "+6 dB" in page.locator(".mark").first.get_attribute("title")
    page.get_by_label("time of the chosen hit, seconds").fill("1")
    page.keyboard.press("Tab")
    assert times(page)[0] == 0.3 and page.get_by_text("a hit cannot be there").is_visible()


def test_the_file_that_is_saved_is_read_by_python(saved, tmp_path):
    saved.mouse.click(*at(saved, 0.75))
    with saved.expect_download() as download:
        saved.get_by_role("button", name="Save hits").click()
    path = tmp_path / "made.json"
    download.value.save_as(path)
    assert Hits.load(path).times == pytest.approx([0.5, 0.75], abs=0.005), "doubtful ones stay silent"
    assert download.value.suggested_filename == "a clip.hits.json"


def test_the_playhead_is_the_players(saved):
    saved.mouse.click(at(saved, 1.0)[0], at(saved, 1.0)[1] + 20)  # on the ruler
    saved.wait_for_function(
        "Math.abs(parseFloat(document.querySelector('[aria-label^=editor]')"
        ".shadowRoot.querySelector('.play').style.left) - 50) < 1"
    )
    assert saved.get_by_role("slider", name="position").get_attribute("aria-valuenow") == "1.00"


def show(page, editor, folder) -> None:
    panel = editor.live()
    state = {
        name: value
        for name, value in panel.get_state().items()
        if name.startswith("_") and name not in ("_esm", "_media")
    }
    media = [base64.b64encode(data).decode() for data in panel._media]
    esm = base64.b64encode(panel._esm.encode()).decode()
    empty = folder / "empty.html"
    empty.write_text("<!doctype html>")  # media are not shown in about:blank
    page.goto(empty.as_uri())
    page.evaluate(f"import('data:text/javascript;base64,{esm}').then((m) => {{ window.widget = m; }})")
    page.wait_for_function("window.widget")
    page.evaluate(MODEL.replace("STATE", json.dumps(state, default=str)).replace("MEDIA", json.dumps(media)))
    page.wait_for_selector(".mark")


def test_the_widget_tells_python_asks_for_the_sound_and_shows_it(page, editor, tmp_path):
    show(page, editor, tmp_path)
    page.mouse.click(*at(page, 0.75))
    sent = page.evaluate("model.sent._hits")
    assert [hit["time_s"] for hit in sent] == pytest.approx([0.5, 0.75, 1.0, 1.5], abs=0.005)
    editor.live().set_state({"_hits": sent})
    page.get_by_role("button", name="Make the sound").click()
    assert page.evaluate("model.sent._asked") == 1 and page.get_by_role("button", name="Making").is_disabled()
    editor.live().set_state({"_asked": 1})
    panel = editor.live()
    media = [base64.b64encode(data).decode() for data in panel._media]
    page.evaluate(
        "([payload, data, status, media]) => { media.forEach((text, k) => { model.get('_media')[k] = new "
        "DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer); }); "
        "model.python({ _data: data, _payload: payload, _status: status }); }",
        [panel._payload, panel._data, panel._status, media],
    )
    assert page.get_by_role("button", name="1 your hits").is_visible()
    assert page.get_by_role("button", name="Make the sound").is_enabled()
    assert page.locator("figure").count() == 1
    page.evaluate("model.python({ _hits: [{ time_s: 0.2, probability: 1, level_db: 0, origin: 'user' }] })")
    assert times(page) == [0.2]
    page.evaluate("model.python({ _status: { text: 'a clip: too short', bad: true, busy: false } })")
    assert page.get_by_text("a clip: too short").is_visible()
    page.evaluate("cleanup()")
    assert page.locator(".mark").count() == 0 and page.locator("figure").count() == 0
