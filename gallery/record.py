"""Records the player for the README: ``python gallery/record.py`` writes ``player.webp`` and ``player.mp4`` here.

A Strike World clip gets a soundtrack by V-AURA; the player with it is opened in a headless Chromium and a picture is
taken at every tenth of a second. The pictures have no sound, so the README links them to the mp4, which has it.
Playwright (in the extra ``test``) and a Chromium are needed.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image

import v2a_nb as v2a

HERE = Path(__file__).parent
SEED, CLIP, SECONDS = 80, 1, 5.12
EVERY_S = 0.1  # what the player's right arrow moves by
WIDTH, HEIGHT = 960, 400
MOST_BYTES = 2_000_000
READY = """() => {
  const root = document.querySelector("[data-lm-suppress-shortcuts]").shadowRoot;
  return [...root.querySelectorAll("audio, video")].every((m) => m.readyState >= 2 && !m.seeking);
}"""


def pictures(page: Path, seconds: float) -> list[Image.Image]:
    """Pictures of a saved player at regular times."""
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    shots = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        tab.goto(page.as_uri())
        tab.wait_for_function(READY)
        slider = tab.get_by_role("slider", name="position")
        slider.focus()
        slider.evaluate("element => { element.style.outline = 'none'; }")
        for _ in range(round(seconds / EVERY_S)):
            tab.wait_for_function(READY)
            tab.wait_for_timeout(80)  # one more frame, in which the playhead is drawn
            shots.append(Image.open(io.BytesIO(tab.screenshot())).convert("RGB"))
            tab.keyboard.press("ArrowRight")  # a tenth of a second
        browser.close()
    return shots


def main() -> None:
    """Write both files."""
    item = v2a.strike_world(seed=SEED, clips=CLIP + 1, seconds=SECONDS, size=224)[CLIP]
    sound = v2a.load("vaura").generate(item.clip.silent(), seed=0)
    player = v2a.compare(
        item.clip, {"V-AURA (tiny)": sound, "true sound": item.clip.sound}, events=item.truth["events"],
        title=item.narration,
    )  # fmt: skip
    v2a.save_mp4(item.clip, sound, HERE / "player.mp4")
    with tempfile.TemporaryDirectory() as folder:
        shots = pictures(player.save(Path(folder) / "player.html"), SECONDS)
    path = HERE / "player.webp"
    shots[0].save(
        path, save_all=True, append_images=shots[1:], duration=round(1000 * EVERY_S), loop=0, quality=75, method=6
    )  # fmt: skip
    size = path.stat().st_size
    print(
        f"{path.name}: {len(shots)} pictures, {size / 1e6:.2f} MB; player.mp4: {(HERE / 'player.mp4').stat().st_size}"
    )
    if size > MOST_BYTES:
        raise SystemExit(f"{path.name} is larger than {MOST_BYTES / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
