"""A real JupyterLab: the tour is opened and run in a browser, its player played, a slider moved, a widget steered."""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from chromium_parts import CHROMIUM, sync_api
from paths import ROOT

pytest.importorskip("jupyterlab", reason="jupyterlab is not installed")

TOUR = ROOT / "notebooks" / "00_tour.ipynb"
EXTRA = [
    "player = v2a.play(silent, sound, title='two-way').widget()\nplayer",
    """import io
import ipywidgets
from PIL import Image

def picture(k=0):
    buffer = io.BytesIO()
    Image.fromarray(silent.frames[k]).save(buffer, "PNG")
    image.value = buffer.getvalue()

image = ipywidgets.Image(format="png")
slider = ipywidgets.IntSlider(description="frame", max=silent.n - 1)
ipywidgets.interactive_output(picture, {"k": slider})
ipywidgets.VBox([slider, image])""",
]


# "done" when the last cell has been run, or what went wrong (asked of the notebook: cells out of sight are not drawn)
RUN = """(() => {
  const cells = jupyterapp.shell.currentWidget.content.widgets.map((w) => w.model).filter((m) => m.type === "code");
  for (const { outputs } of cells) {
    for (let k = 0; k < outputs.length; k++) {
      const { type, ...made } = outputs.get(k).toJSON();
      if (outputs.get(k).type === "error") return `${made.ename}: ${made.evalue}`;
      if (made.name === "stderr") return made.text;
    }
  }
  return cells.at(-1).executionCount && cells.at(-1).outputs.length ? "done" : "";
})()"""


def tour_and_more(folder: Path) -> Path:
    """A copy of the tour with cells at its end that need a kernel to answer."""
    book = json.loads(TOUR.read_text(encoding="utf-8"))
    for k, source in enumerate(EXTRA):
        cell = {"cell_type": "code", "id": f"extra-{k}", "metadata": {}, "outputs": [], "execution_count": None}
        book["cells"].append({**cell, "source": source})
    path = folder / TOUR.name
    path.write_text(json.dumps(book), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab of its own: no settings of this machine, no news, a port that is free."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "work").mkdir()
    tour_and_more(folder / "work")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(8)
    settings = folder / "config" / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    homes = {f"JUPYTER_{name.upper()}_DIR": str(folder / name) for name in ("config", "data", "runtime")}
    words = ["--no-browser", "--allow-root", "--expose-app-in-browser", "--LabApp.extension_manager=readonly"]
    words += ["--ip=127.0.0.1", f"--port={port}", f"--IdentityProvider.token={token}"]
    words += [f"--ServerApp.root_dir={folder / 'work'}"]
    with (folder / "lab.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *words],
            env={**os.environ, **homes, "V2A_NB_PRESET": "tiny", "IPYTHONDIR": str(folder / "ipython")},
            stdout=log,
            stderr=log,
        )
        base = f"http://127.0.0.1:{port}"
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    urllib.request.urlopen(f"{base}/api?token={token}", timeout=5).close()
                    break
                except OSError:
                    waiting = server.poll() is None and time.monotonic() < deadline
                    assert waiting, (folder / "lab.log").read_text()[-2000:]
                    time.sleep(0.2)
            yield base, token
        finally:
            request = urllib.request.Request(f"{base}/api/shutdown?token={token}", method="POST")
            try:
                urllib.request.urlopen(request, timeout=10).close()  # its kernels go with it
                server.wait(20)
            except (OSError, subprocess.TimeoutExpired):
                server.kill()
                server.wait()


def test_tour_runs_and_its_player_plays_in_jupyterlab(lab):
    base, token = lab
    strangers, errors = [], []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 950})
        page.set_default_timeout(30000)
        local = (base, base.replace("http", "ws"), "data:", "blob:")
        page.on("request", lambda r: r.url.startswith(local) or strangers.append(r.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{base}/lab/tree/{TOUR.name}?token={token}")
        page.wait_for_function("window.jupyterapp && document.querySelector('.jp-Notebook .jp-Cell')")
        page.wait_for_function(
            "jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'", timeout=60000
        )
        page.evaluate("void jupyterapp.commands.execute('notebook:run-all-cells')")
        page.wait_for_function(RUN, timeout=120000)
        assert page.evaluate(RUN) == "done"

        # the tour's own player: plain HTML, trusted because it was run here
        first = page.locator("[data-lm-suppress-shortcuts]").first
        first.scroll_into_view_if_needed()
        slider = first.get_by_role("slider", name="position")
        assert first.get_by_role("button", name=re.compile("V-AURA")).get_attribute("aria-pressed") == "true"
        first.get_by_role("button", name="Play").click()
        page.wait_for_timeout(700)
        first.get_by_role("button", name="Pause").click()
        assert 0.2 < float(slider.get_attribute("aria-valuenow")) < 2
        slider.focus()
        cells = page.locator(".jp-Cell").count()
        for key in ("Home", "2", "ArrowRight", "m", "l", "i"):  # in Lab, M would make text of a cell, and the like
            page.keyboard.press(key)
        assert float(slider.get_attribute("aria-valuenow")) == pytest.approx(0.1)
        assert first.locator(".track").nth(1).get_attribute("aria-pressed") == "true"
        assert page.locator(".jp-Cell").count() == cells

        # the same player as a widget: the kernel knows where it stands, and can move it
        second = page.locator("[data-lm-suppress-shortcuts]").nth(1)
        second.scroll_into_view_if_needed()
        second.get_by_role("slider", name="position").focus()
        for key in ("Shift+ArrowRight", "i", "Shift+ArrowRight", "o"):
            page.keyboard.press(key)
        ask = """(code) => new Promise((done, wrong) => {
          const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
          const asked = kernel.requestExecute({ code, silent: false, store_history: false }); let text = "";
          asked.onIOPub = (m) => { text += m.content.text || m.content.evalue || ""; };
          asked.done.then(() => done(text), wrong); })"""
        page.wait_for_timeout(500)
        assert page.evaluate(ask, "print(player.current_time, player.selection)").split("\n")[0] == "2.0 (1.0, 2.0)"
        page.evaluate(ask, "player.current_time = 0.5; player.selection = None")
        second.locator("[role=slider][aria-valuenow='0.50']").wait_for()
        assert second.locator(".tools .readout").inner_text() == ""
        page.evaluate(ask, "player.playing = True")
        page.wait_for_timeout(600)
        page.evaluate(ask, "player.playing = False")
        stopped = float(second.get_by_role("slider", name="position").get_attribute("aria-valuenow"))
        assert stopped > 0.7
        page.wait_for_timeout(400)
        assert float(page.evaluate(ask, "print(player.current_time)")) == pytest.approx(stopped, abs=0.02)

        # a slider of ipywidgets and its picture
        picture = page.locator(".widget-image")
        picture.scroll_into_view_if_needed()
        before = picture.get_attribute("src")
        handle = page.locator(".widget-slider .noUi-handle").last
        handle.focus()
        for _ in range(5):
            page.keyboard.press("ArrowRight")
        page.wait_for_function("(old) => document.querySelector('.widget-image').src !== old", arg=before)
        for _ in range(50):  # the picture changes with the first press; on a busy machine the fifth comes later
            if page.evaluate(ask, "print(slider.value)").strip() == "5":
                break
            page.wait_for_timeout(100)
        assert page.evaluate(ask, "print(slider.value)").strip() == "5"
        browser.close()
    assert strangers == [] and errors == []
