"""The player in a real Chromium: the saved page, and the same module as a widget with a model that is not Jupyter's."""

from __future__ import annotations

import base64
import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT
from PIL import Image
from player_parts import EVENTS, HOSTILE, clip_of, tone

from v2a_nb.clip import Clip
from v2a_nb.widgets.player import Player, compare
from v2a_nb.world import strike_world

TOOLS = """
window.host = (k = 0) => document.querySelectorAll("[data-lm-suppress-shortcuts]")[k];
window.find = (s, k = 0) => host(k).shadowRoot.querySelector(s);
window.every = (s, k = 0) => [...host(k).shadowRoot.querySelectorAll(s)];
window.heard = (k = 0) => every("audio", k).find((a) => a.volume > 1e-3);
window.ready = () => every("audio").every((a) => a.readyState === 4) && find("video").readyState >= 2;
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """Saved pages: three tracks with saliency; the same content twice, by a hostile name; three long tracks."""
    folder = tmp_path_factory.mktemp("pages")
    map_ = np.zeros((50, 4, 4), np.float32)
    map_[25:, :, 3] = 1.0  # from 1 s on, the right edge
    tracks = {"a": tone(), "b": tone(level=0.05), "c": tone(level=0.25)}
    one = compare(clip_of(), tracks, events=EVENTS, saliency=(map_, 25.0), title="three")
    two = compare(clip_of(), {"a": tone(), HOSTILE: tone(level=0.1)}, events=EVENTS, title=HOSTILE)
    twice = folder / "twice.html"
    twice.write_text(f'<!doctype html><meta charset="utf-8">{two.html}{two.html}', encoding="utf-8")
    slow = {name: tone(15.0, level) for name, level in (("a", 0.5), ("b", 0.05), ("c", 0.25))}
    # long enough that a busy machine does not reach its end between two looks
    long = compare(clip_of(15.0), slow, title="long").save(folder / "long.html")
    return {"three": one.save(folder / "three.html"), "twice": twice, "long": long}


@pytest.fixture
def visit(browser):
    """Opens a page in a context of its own; at the end: no error in the console, nothing asked of any network."""
    contexts, wrong = [], []

    def go(path: Path | None, ready: str = "ready()", **options):
        context = browser.new_context(**({"viewport": {"width": 1040, "height": 700}} | options))
        contexts.append(context)
        page = context.new_page()
        # (Chromium's remark on canvases that are read often is about these tests)
        page.set_default_timeout(30000)
        page.on(
            "console", lambda m: m.type in ("error", "warning") and "Canvas2D" not in m.text and wrong.append(m.text)
        )
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda r: r.url.startswith(("file:", "data:", "blob:")) or wrong.append(r.url))
        page.add_init_script(TOOLS)
        page.goto("about:blank" if path is None else path.as_uri())
        if ready:
            page.wait_for_function(ready)
        return page

    yield go
    for context in contexts:
        context.close()
    assert wrong == []


def place(page, seconds: float, length: float = 2.0) -> tuple[float, float]:
    """Where a time stands on the curves, in the page's pixels."""
    box = page.locator("[role=slider] canvas").bounding_box()
    return box["x"] + 56 + (box["width"] - 68) * seconds / length, box["y"] + 60


def time_of(page) -> float:
    return page.evaluate("heard().currentTime")


def test_nothing_starts_by_itself_and_play_moves_sound_and_picture(visit, pages):
    page = visit(pages["long"])
    page.wait_for_timeout(200)
    assert page.evaluate("every('audio, video').every((m) => m.paused && m.currentTime === 0)")
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("heard().currentTime > 0.3")
    assert page.get_by_role("button", name="Pause").is_visible()
    page.wait_for_function("Math.abs(find('video').currentTime - heard().currentTime) < 0.1")
    page.get_by_role("button", name="Pause").click()
    page.wait_for_function("!find('video').seeking")
    assert page.evaluate("Math.abs(find('video').currentTime - heard().currentTime)") < 0.05
    assert page.evaluate("every('audio, video').every((m) => m.paused)")
    assert page.evaluate("every('audio').map((a) => a.muted ? 0 : a.volume)") == pytest.approx([1, 0, 0], abs=2e-6)


def test_click_and_drag_seek(visit, pages):
    page = visit(pages["three"])
    page.mouse.click(*place(page, 1.0))
    slider = page.get_by_role("slider", name="position")
    assert time_of(page) == pytest.approx(1.0, abs=0.01)
    assert float(slider.get_attribute("aria-valuenow")) == pytest.approx(1.0, abs=0.01)
    page.mouse.move(*place(page, 0.5))
    page.mouse.down()
    page.mouse.move(*place(page, 0.7))
    page.mouse.move(*place(page, 1.4), steps=3)
    page.mouse.up()
    page.mouse.move(*place(page, 0.1))
    assert time_of(page) == pytest.approx(1.4, abs=0.01)
    assert slider.get_attribute("aria-valuetext") == "1.40 of 2.00 seconds, saliency 1.00"
    # the playhead is where its time is, in every lane
    column = "find('.slider canvas').getContext('2d').getImageData({x}, {y}, 1, 1).data.slice(0, 3).join()"
    x = round(56 + (page.evaluate("find('.slider canvas').width") - 68) * time_of(page) / 2)
    for y in (30, 60, 140, 210, 240):
        assert page.evaluate(column.format(x=x, y=y)) == "232,113,10"


def test_switching_keeps_the_position_within_30_ms_and_never_stops(visit, pages):
    page = visit(pages["long"])
    page.keyboard.press("Tab")
    page.keyboard.press("2")  # at rest: exactly
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("1")
    assert page.evaluate("every('audio').map((a) => a.currentTime)") == pytest.approx([1.0] * 3, abs=1e-3)
    page.keyboard.press("Home")
    page.keyboard.press(" ")
    page.wait_for_function("heard().currentTime > 0.4")
    switch = """async () => {
      const out = [], slider = find("[role=slider]");
      const key = (key) => slider.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
      for (const k of [2, 3, 1, 2]) {
        const last = heard(), t = last.currentTime;
        key(String(k));
        const next = heard();
        out.push({ by: next.currentTime - t, gap: next.seeking || next.paused, same: next === last });
        await new Promise((done) => setTimeout(done, 150));
      }
      return out;
    }"""
    for _ in range(3):  # a machine too busy to decode three sounds at once drops behind: it may try again
        jumps = page.evaluate(switch)
        if not any(jump["gap"] for jump in jumps):
            break
        page.keyboard.press("Home")
        page.keyboard.press("1")
        page.wait_for_function("!heard().seeking && heard().currentTime > 0.4")
    assert all(abs(jump["by"]) < 0.03 for jump in jumps), jumps
    assert not any(jump["gap"] or jump["same"] for jump in jumps), jumps  # each was running already
    assert page.evaluate("every('.track').map((b) => b.getAttribute('aria-pressed'))") == ["false", "true", "false"]
    assert page.evaluate("heard().volume") == 1, "levels are never touched unasked"


def test_even_levels_turn_down_and_say_by_how_much(visit, pages):
    page = visit(pages["three"])
    even = page.get_by_role("button", name="Even levels")
    even.click()
    volumes = []
    for track in page.locator(".track").all():
        track.click()
        volumes.append(page.evaluate("heard().volume"))
    assert volumes == pytest.approx([0.1, 1, 0.2], abs=1e-3)
    words = [text.replace("\n", " ") for text in page.locator(".track").all_inner_texts()]
    assert "−20 dB" in words[0] and words[1] == "2 b −29 dBFS" and "−14 dB" in words[2]
    even.click()
    assert page.evaluate("heard().volume") == 1 and "−20 dB" not in page.locator(".track").first.inner_text()


def test_loop_stays_inside_the_selection(visit, pages):
    page = visit(pages["three"])
    page.mouse.click(*place(page, 0.5))
    for key in ("i", "ArrowRight", "ArrowRight", "ArrowRight", "o", "l", "Home"):
        page.keyboard.press(key)
    assert page.locator(".tools .readout").inner_text() == "0.50 to 0.80 s"
    page.get_by_label("speed", exact=True).select_option("0.25")  # what a busy machine is late by counts a quarter
    page.get_by_role("slider", name="position").focus()
    page.keyboard.press(" ")
    seen = page.evaluate(
        """async () => {
          const seen = [heard().currentTime];
          for (let turns = 0; turns < 2;) {
            await new Promise(requestAnimationFrame);
            seen.push(heard().currentTime);
            turns += seen.at(-1) < seen.at(-2) - 0.1;
          }
          return seen;
        }"""
    )
    turns = [(a, b) for a, b in itertools.pairwise(seen) if b < a - 0.1]
    assert len(turns) == 2, turns
    assert all(b == pytest.approx(0.5, abs=0.06) for _, b in turns) and max(seen) < 0.8 + 0.1, turns
    page.get_by_label("speed", exact=True).select_option("1")
    page.get_by_role("slider", name="position").focus()
    page.keyboard.press("Escape")  # let go: to the end, where it stops
    page.wait_for_function("heard().currentTime > 1.0")
    assert page.locator(".tools .readout").inner_text() == ""
    page.wait_for_function("heard().ended")
    assert page.get_by_role("button", name="Play").is_visible()
    page.keyboard.press("l")  # all of it: goes round at the clip's end too
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press(" ")
    page.wait_for_function("!heard().paused && heard().currentTime > 0.1 && heard().currentTime < 1")


def test_selecting_with_the_mouse(visit, pages):
    page = visit(pages["three"])
    readout = page.locator(".tools .readout")

    def drag(a: float, b: float) -> None:
        page.mouse.move(*place(page, a))
        page.mouse.down()
        page.mouse.move(*place(page, b), steps=3)
        page.mouse.up()

    page.keyboard.down("Shift")
    drag(1.5, 0.5)
    page.keyboard.up("Shift")
    assert readout.inner_text() == "0.50 to 1.50 s" and time_of(page) == 0
    drag(0.5, 0.9)  # by its edge
    assert readout.inner_text() == "0.90 to 1.50 s" and time_of(page) == 0
    drag(0.2, 0.4)
    assert readout.inner_text() == "0.90 to 1.50 s" and time_of(page) == pytest.approx(0.4, abs=0.01)
    page.get_by_role("button", name="Clear").click()
    assert readout.inner_text() == "" and page.get_by_role("button", name="Clear").is_disabled()


def test_everything_by_keys_alone(visit, pages):
    page = visit(pages["three"])
    focused = "host().shadowRoot.activeElement.innerText || host().shadowRoot.activeElement.getAttribute('aria-label')"
    names = []
    for _ in range(12):
        page.keyboard.press("Tab")
        names.append(page.evaluate(focused).split()[0])
        style = page.evaluate("getComputedStyle(host().shadowRoot.activeElement).outlineStyle")
        assert style == "solid", f"{names[-1]}: the focus is not seen"
    # Clear is passed over while there is nothing to clear
    assert names == ["Play", "1", "2", "3", "position", "In", "Out", "Loop", "0.25×", "Even", "opacity", "Keys"]
    page.keyboard.press("Enter")
    assert page.get_by_text("Space: play or pause").is_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("host().shadowRoot.activeElement") is None, "and out again: no trap"


def test_keys_do_what_they_say(visit, pages):
    page = visit(pages["three"])
    page.get_by_role("slider", name="position").focus()
    press = page.keyboard.press
    for key in ("ArrowRight", ".", ".", ","):
        press(key)
    assert time_of(page) == pytest.approx(0.16, abs=1e-3), "a step by picture lands on a picture"
    press("Shift+ArrowRight")
    assert time_of(page) == pytest.approx(1.16, abs=1e-3)
    for _ in range(8):
        press("ArrowLeft")  # faster than a picture is found
    page.wait_for_function("Math.abs(find('video').currentTime - heard().currentTime) < 0.01")
    press("End")
    assert time_of(page) == 2
    press("m")
    assert page.evaluate("every('audio').every((a) => a.muted)")
    press("m")
    for key, speed in ((">", 1.25), (">", 1.5), ("<", 1.25)):
        press(key)
        assert page.evaluate("heard().playbackRate") == speed
    assert page.evaluate("heard().preservesPitch") and page.get_by_label("speed", exact=True).input_value() == "1.25"
    page.get_by_label("speed", exact=True).select_option("0.5")
    assert page.evaluate("heard().playbackRate") == 0.5
    said = page.locator("[role=status]")
    assert said.inner_text() == "speed 0.5"
    page.get_by_role("slider", name="position").focus()
    press("2")
    assert said.inner_text().strip() == "soundtrack 2: b"
    press("[")
    assert page.get_by_label("opacity of the saliency overlay").input_value() == "50"
    assert said.inner_text() == "saliency overlay 50 percent"


def test_saliency_lies_over_the_picture_where_and_when_it_is(visit, pages):
    page = visit(pages["three"])
    alpha = """[0.1, 0.9].map((x) => { const c = find(".overlay");
      return c.getContext("2d").getImageData(Math.round(x * c.width), c.height / 2, 1, 1).data[3]; })"""
    page.mouse.click(*place(page, 0.5))
    assert page.evaluate(alpha) == [0, 0]
    page.mouse.click(*place(page, 1.5))
    assert page.evaluate(alpha) == pytest.approx([0, 153], abs=2)  # opacity 0.6
    page.get_by_label("opacity of the saliency overlay").fill("100")
    assert page.evaluate(alpha)[1] >= 250
    page.get_by_label("opacity of the saliency overlay").fill("0")
    assert page.evaluate(alpha) == [0, 0]
    box, film = (page.evaluate(f"JSON.stringify(find('{s}').getBoundingClientRect())") for s in (".overlay", "video"))
    assert box == film


def test_shown_twice_hostile_names_are_text_and_one_player_sounds(visit, pages):
    page = visit(pages["twice"])
    assert page.evaluate("document.querySelectorAll('[data-lm-suppress-shortcuts]').length") == 2
    shown = HOSTILE.replace("\0", "\ufffd").replace("\n", " ")
    assert page.evaluate("every('.track bdi')[1].textContent").replace("\n", " ") == shown
    assert page.evaluate("document.querySelectorAll('script[src], img[src=x]').length") == 0
    for k in (0, 1):
        page.evaluate(f"find('.play', {k}).click()")
        page.wait_for_function(f"heard({k}).currentTime > 0.1")
    assert page.evaluate("[heard(0).paused, heard(1).paused]") == [True, False]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_readable_in_light_and_dark(visit, pages, scheme):
    """Ink against page, on the canvas and beside it."""
    page = visit(pages["three"], color_scheme=scheme)
    ink = page.evaluate("getComputedStyle(host()).color")
    assert ink == {"light": "rgb(0, 0, 0)", "dark": "rgb(255, 255, 255)"}[scheme]
    # the axis line under the curves is drawn in that ink
    line = """(() => { const c = find(".slider canvas"); return
      c.getContext("2d").getImageData(c.width / 2 | 0, c.height - 24, 1, 1).data[0]; })()""".replace(
        "return\n", "return "
    )
    assert page.evaluate(line) == {"light": 0, "dark": 255}[scheme]
    other = {"light": "dark", "dark": "light"}[scheme]
    page.emulate_media(color_scheme=other)  # the page turns while it is open
    after = {"light": 0, "dark": 255}[other]
    page.wait_for_function(f"{line} === {after}")


def test_reduced_motion_moves_the_playhead_in_steps(visit, pages):
    counts = {}
    for wish in ("reduce", "no-preference"):
        page = visit(pages["long"], reduced_motion=wish)
        page.evaluate(
            """() => { window.drawn = 0; const of = CanvasRenderingContext2D.prototype, old = of.clearRect;
            of.clearRect = function (...a) { window.drawn++; return old.apply(this, a); }; }"""
        )
        page.get_by_role("button", name="Play").click()
        page.wait_for_function("heard().currentTime > 1")
        counts[wish] = page.evaluate("window.drawn")
    assert counts["reduce"] <= 8 < counts["no-preference"], counts


def test_without_scripts_there_are_native_controls_and_words(visit, pages):
    page = visit(pages["three"], ready="", java_script_enabled=False)
    assert page.locator("video[controls]").count() == 1 and page.locator("audio[controls]").count() == 3
    assert page.get_by_text("Scripts are off here").is_visible()
    for box in (page.locator("audio").nth(2).bounding_box(), page.locator("video").bounding_box()):
        assert box["width"] >= 200 and box["height"] >= 40


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    """What the gallery shows: a clip whose truth is known, its stems, and the truth in the place of saliency."""
    item = strike_world(seed=80, clips=2, seconds=5.12, size=224)[1]
    masks = item.masks.astype(np.float32)
    tracks = {"all": item.stems["mix"], "action": item.stems["action"], "ambience": item.stems["ambient"]}
    title = f"{item.narration}; as saliency, the truth"
    made = compare(item.clip, tracks, events=item.truth["events"], title=title, saliency=(masks, item.clip.fps))
    return made.save(tmp_path_factory.mktemp("scene") / "scene.html")


@pytest.mark.parametrize("look", ["light", "dark", "noscript"])
def test_how_it_looks(visit, scene, tmp_path, look):
    """Nothing is blank; with V2A_NB_GALLERY=gallery the pictures go there."""
    off = look == "noscript"
    view = {"width": 1040, "height": 690 if off else 500}
    scheme = "light" if off else look
    page = visit(
        scene,
        "" if off else "ready()",
        viewport=view,
        color_scheme=scheme,
        java_script_enabled=not off,
        device_scale_factor=1.5,
    )
    if off:
        page.wait_for_timeout(500)
    else:
        slider = page.get_by_role("slider", name="position")
        slider.focus()
        for key in ["Home", *["Shift+ArrowRight"] * 2, "i", *["ArrowRight"] * 9, "o", *["ArrowLeft"] * 4]:
            page.keyboard.press(key)
        page.wait_for_function("Math.abs(find('video').currentTime - heard().currentTime) < 0.01")
        page.wait_for_timeout(200)
    path = Path(os.environ.get("V2A_NB_GALLERY", tmp_path)) / f"player_{look}.png"
    page.screenshot(path=path)
    shot = np.asarray(Image.open(path).convert("L")).astype(float)
    assert (shot[:8, :8].mean() > 200) == (scheme == "light")
    parts = ["video"] if off else ["video", ".slider canvas", ".overlay", ".bar", ".tools", ".under"]
    for part in parts:
        box = page.locator(part).first.bounding_box()
        x, y, wide, high = (round(box[k] * 1.5) for k in ("x", "y", "width", "height"))
        assert shot[y : y + high, x : x + wide].std() > 12, f"{part} is blank"


@pytest.mark.parametrize("width", [1040, 380])
def test_nothing_is_cut_off(visit, pages, width):
    page = visit(pages["three"], viewport={"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    over = page.evaluate(
        "every('button, select, input, .under span').filter((e) => e.getBoundingClientRect().right > innerWidth).length"
    )
    assert over == 0


# --- the module as a widget -----------------------------------------------------------------------

MODEL = """
window.open_widget = async (state) => {
  const bytes = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  window.values = { ...state.values, _media: state.media.map(bytes) };
  window.saves = []; window.listeners = {};
  window.model = {
    get: (k) => values[k],
    set: (k, v) => { if (JSON.stringify(values[k]) !== JSON.stringify(v)) { values[k] = v; fire(k); } },
    save_changes: () => saves.push({ at: performance.now(), ...values, _media: 0, _payload: 0 }),
    on: (name, run) => (listeners[name] = listeners[name] || []).push(run),
    off: (name, run) => { listeners[name] = listeners[name].filter((r) => r !== run); },
  };
  window.fire = (k) => (listeners["change:" + k] || []).forEach((run) => run());
  window.widget = (await import("data:text/javascript;base64," + state.source)).default;
  window.views = [];
  window.show = async () => { const el = document.createElement("div"); document.body.append(el);
    views.push(await widget.render({ model, el })); };
  await show();
};
0
"""


@pytest.fixture
def widget(visit):
    """A page with the module's own view of a model that only remembers."""
    made = Player(clip_of(), {"a": tone(), "b": tone(level=0.1)})
    script = ROOT / "v2a_nb" / "widgets" / "player.js"
    values = {"current_time": 0.5, "selection": [0.4, 1.6], "track": "b", "playing": False, "_key": "k"}
    state = {
        "values": {**values, "_payload": json.dumps(made.payload)},
        "media": [base64.b64encode(data).decode() for data in made.media],
        "source": base64.b64encode(script.read_bytes()).decode(),
    }
    page = visit(None, ready="")
    page.evaluate(MODEL)
    page.evaluate("(state) => window.open_widget(state)", state)
    page.wait_for_function("ready()")
    return page


def test_widget_shows_what_python_says_and_tells_what_is_done(widget):
    page = widget
    assert page.evaluate("[heard() === every('audio')[1], heard().currentTime]") == [True, 0.5]
    assert page.locator(".tools .readout").inner_text() == "0.40 to 1.60 s"
    page.evaluate("saves.length = 0")
    page.evaluate("model.set('current_time', 1.25); model.set('track', 'a'); model.set('selection', null)")
    assert page.evaluate("[heard() === every('audio')[0], heard().currentTime]") == [True, 1.25]
    assert page.locator(".tools .readout").inner_text() == ""
    page.wait_for_timeout(300)
    assert page.evaluate("saves") == [], "what Python set is not told back to it"
    page.get_by_role("slider", name="position").focus()
    for key in ("Home", "i", "Shift+ArrowRight", "o", "2"):
        page.keyboard.press(key)
    page.wait_for_function("saves.length && saves.at(-1).track === 'b'")
    last = page.evaluate("saves.at(-1)")
    assert last["current_time"] == 1.0 and last["selection"] == [0, 1.0] and last["playing"] is False


def test_widget_plays_for_python_and_tells_at_most_five_times_a_second(widget):
    page = widget
    page.evaluate("saves.length = 0; model.set('playing', true)")
    page.wait_for_function("heard().currentTime > 1.4")
    page.evaluate("model.set('playing', false)")
    assert page.evaluate("heard().paused")
    page.wait_for_timeout(250)
    saves = page.evaluate("saves")
    times = [s["at"] for s in saves]  # as a busy browser's timers have them, some ms early or late
    assert len(saves) >= 3 and times[-1] - times[0] > 180 * (len(saves) - 1), times
    assert saves[-1]["current_time"] == pytest.approx(time_of(page), abs=0.01) and saves[-1]["playing"] is False


def test_widget_shown_twice_sounds_once_and_leaves_nothing_behind(widget):
    page = widget
    page.evaluate("show()")
    page.wait_for_function("every('audio', 1).every((a) => a.readyState === 4)")
    page.evaluate("model.set('playing', true)")
    page.wait_for_function("every('audio, video', 0).some((m) => !m.paused)")
    assert page.evaluate("every('audio', 1).every((a) => a.paused)")
    page.evaluate("find('.play', 1).click()")  # the other view takes over
    page.wait_for_function("heard(1).currentTime > 0.8 && heard(0).paused && values.playing === true")
    page.evaluate("find('.play', 1).click()")
    page.wait_for_function("values.playing === false")
    page.evaluate("views.forEach((close) => close())")
    assert page.evaluate("document.querySelectorAll('figure').length") == 0
    assert page.evaluate("Object.values(listeners).flat().length") == 0


def test_a_clip_without_sound_plays_too(visit, tmp_path):
    page = visit(
        Player(Clip(clip_of().frames, fps=25.0), {}).save(tmp_path / "p.html"), "find('video').readyState >= 2"
    )
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("find('video').currentTime > 0.3")
    page.get_by_role("slider", name="position").focus()
    page.keyboard.press(">")
    assert page.evaluate("find('video').playbackRate") == 1.25
    page.keyboard.press(" ")
    assert page.evaluate("find('video').paused")
