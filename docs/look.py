"""Look at every page of the site in a browser, and fail where one asks the network, errs, or is too wide.

``python docs/look.py SITE [--pictures FOLDER] [--axe FILE.js] [--only WORD]`` opens each page at 1280 and 400 px,
light and dark. With axe-core's ``axe.min.js`` (``npm pack axe-core``) it also lists what that finds serious. It needs
Playwright and a chromium.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

WIDTHS, SCHEMES = (1280, 400), ("light", "dark")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
AXE = """async () => (await axe.run({ iframes: false })).violations
  .filter((v) => ["serious", "critical"].includes(v.impact))
  .map((v) => `${v.id}: ${v.help} (${v.nodes.length}): `
    + v.nodes.slice(0, 3).map((n) => n.target.join(" ")).join(" | "))"""
TOO_WIDE = "() => document.documentElement.scrollWidth - window.innerWidth"


def look(site: Path, pictures: Path | None, axe: Path | None, only: str) -> list[str]:
    """Faults of the pages of a site, a line each, found in a browser."""
    problems = []
    pages = [p for p in sorted(site.rglob("*.html")) if only in p.as_posix() and "_static" not in p.parts]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for path in pages:
            name = path.relative_to(site).as_posix()
            for width in WIDTHS:
                for scheme in SCHEMES:
                    # a small window: a picture of a whole long page is taken in one piece all the same
                    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
                    where = f"{name} at {width} px, {scheme}"
                    told = []
                    page.on(
                        "request",
                        lambda r, told=told: r.url.startswith(("file:", "data:", "blob:")) or told.append(r.url),
                    )
                    page.on("pageerror", lambda error, told=told: told.append(str(error)))
                    page.goto(path.resolve().as_uri())
                    page.wait_for_timeout(300)
                    if (wide := page.evaluate(TOO_WIDE)) > 1:
                        told.append(f"{wide} px too wide")
                    if axe and width == WIDTHS[0]:
                        page.add_script_tag(path=str(axe))
                        told += page.evaluate(AXE)
                    if pictures:
                        file = pictures / f"{name.replace('/', '-').removesuffix('.html')}-{width}-{scheme}.png"
                        page.screenshot(path=file, full_page=True)
                    problems += [f"{where}: {words}" for words in told]
                    page.close()
        browser.close()
    return problems


def main() -> int:
    """Look at the named site; returns 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--axe", type=Path)
    parser.add_argument("--only", default="", help="part of a page's path")
    args = parser.parse_args()
    if args.pictures:
        args.pictures.mkdir(parents=True, exist_ok=True)
    problems = look(args.site, args.pictures, args.axe, args.only)
    print("\n".join(problems) or "nothing is wrong")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
