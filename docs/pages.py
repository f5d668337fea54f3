"""What the site puts into the pages: executed notebooks, the house, the API, equations; and the check of what was made.

Everything that a page needs lies beside it: a page that is opened asks nobody for anything.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import house

import v2a_nb

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

ROOT = Path(__file__).parent.parent
EXECUTED = ROOT / "build" / "notebooks"
CONTENTS = {
    "Notebooks": ["notebooks/README", "notebooks/*"],
    "Guides": [
        "docs/systems",
        "docs/widgets",
        "docs/saliency",
        "docs/video_encoders",
        "docs/add_your_own",
        "data/README",
    ],
    "Reference": ["docs/commands", "docs/api", "docs/architecture", "docs/protocols", "benchmarks/README"],
    "Results": ["docs/results", "CHANGELOG", "CONTRIBUTING"],
}
"""The pages below the README, by heading."""
log = logging.getLogger(__name__)


class SiteError(Exception):
    """The site cannot be built, or it is broken; the text says where."""


def read(app: Sphinx, name: str, source: list[str]) -> None:
    """Put into a document what only the site shows."""
    if name == "README":
        source[0] += "".join(contents(title, pages) for title, pages in CONTENTS.items())
    elif name == "notebooks/README":
        source[0] += costs()
    elif name.startswith("notebooks/"):
        source[0] = executed(name.removeprefix("notebooks/"), source[0])
    elif name == "docs/architecture":
        rooms = house.rooms()
        drawing = f'<div class="house-frame">\n{house.drawing(rooms)}\n</div>'
        for mark, text in {"drawing": f"```{{raw}} html\n{drawing}\n```", "rooms": house.table(rooms)}.items():
            source[0] = source[0].replace(f"<!-- {{{mark}}} -->", text)
    elif name == "docs/api":
        source[0] = api(source[0])


def contents(title: str, pages: list[str]) -> str:
    """A table of contents that only the side bar shows."""
    lines = "\n".join(pages)
    return f"\n\n```{{toctree}}\n:hidden:\n:glob:\n:caption: {title}\n\n{lines}\n```\n"


def costs() -> str:
    """What each notebook took when the site was made, as a table; nothing where none was executed."""
    path = EXECUTED / "notebooks.json"
    if not path.exists():
        return ""
    lines = ["\n\n## What each took\n", "When this site was made, with the `tiny` preset, each in its own process:\n"]
    lines += ["| notebook | seconds of one core | peak memory (MB) |", "|---|---:|---:|"]
    for name, took in json.loads(path.read_text(encoding="utf-8")).items():
        lines.append(f"| [`{name}`]({name}.ipynb) | {took['work_s']:.0f} | {took['peak_mb']:.0f} |")
    return "\n".join(lines) + "\n"


def executed(name: str, text: str) -> str:
    """A notebook with the outputs of its executed copy, where that has the same cells; it shows no empty widgets."""
    book, copy = json.loads(text), EXECUTED / f"{name}.ipynb"
    if copy.exists():
        made = json.loads(copy.read_text(encoding="utf-8"))
        if [as_text(c) for c in made["cells"]] == [as_text(c) for c in book["cells"]]:
            book = made
        else:
            log.info("%s: the executed copy is of another text, and its outputs are left out", name)
    book["metadata"].pop("widgets", None)
    for cell in book["cells"]:
        if "install" in cell["metadata"].get("tags", []):
            cell["metadata"]["tags"].append("remove-cell")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "application/vnd.jupyter.widget-view+json" in data:
                output["data"] = {
                    "text/plain": "Controls are here where a kernel runs: open this notebook to use them."
                }
            elif numbers := data.pop("application/vnd.plotly.v1+json", None):
                data["text/html"] = zoomable(numbers, "".join(data["text/html"]))
    return json.dumps(book)


def as_text(cell: dict) -> str:
    return "".join(cell["source"])


def zoomable(numbers: dict, still: str) -> str:
    """A still picture that becomes plotly's figure where scripts run."""
    data = json.dumps(numbers).replace("</", "<\\/")
    return f'<div class="zoomable">{still}<script type="application/json">{data}</script></div>'


def api(text: str) -> str:
    """The page of public names: a line that lists names becomes what their docstrings say.

    Raises:
        SiteError: a public name is missing, or a listed one is not public.
    """
    listed = []

    def documented(match: re.Match) -> str:
        names = re.findall(r"`(\w+)`", match[0])
        listed.extend(names)
        blocks = [directive(name) for name in names if name in v2a_nb.__all__]
        return "```{eval-rst}\n" + "\n".join(blocks) + "```"

    text = re.sub(r"^`\w+`(?:,\s`\w+`)*$", documented, text, flags=re.M)
    public = set(v2a_nb.__all__) - {"__version__"}
    if sorted(listed) != sorted(public):
        raise SiteError(f"docs/api.md has not exactly the public names: {', '.join(sorted(public ^ set(listed)))}")
    return text


def directive(name: str) -> str:
    """The directive of autodoc for a public name."""
    value = getattr(v2a_nb, name)
    if inspect.ismodule(value):  # a room that can be called
        return f".. autofunction:: {value.__name__}.{name}\n"
    if not inspect.isclass(value):
        return f".. autofunction:: v2a_nb.{name}\n"
    return f".. autoclass:: v2a_nb.{name}\n   :members:\n   :show-inheritance:\n"


def mathml(latex: str, display: str = "inline") -> str:
    """An equation as MathML, which browsers draw by themselves."""
    from latex2mathml.converter import convert

    made = convert(latex, display=display)
    if unknown := re.findall(r"\\[a-zA-Z]+", re.sub("<[^>]*>", "", made)):  # it writes what it does not know as text
        raise SiteError(f"{latex}: the site cannot draw {unknown[0]}")
    return made


def inline_math(translator, node: nodes.math) -> None:
    """Write an equation within a line."""
    translator.body.append(mathml(node.astext()))
    skip()


def block_math(translator, node: nodes.math_block) -> None:
    """Write an equation on lines of its own."""
    translator.body.append(mathml(node.astext(), "block"))
    skip()


def skip() -> None:
    """Nothing else is written of a node."""
    from docutils.nodes import SkipNode

    raise SkipNode


class Parts(HTMLParser):
    """What a page loads when it is opened, where its links lead, and the places in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        has = {name: value or "" for name, value in attrs}
        self.ids.add(has.get("id", ""))
        if tag == "a" and "href" in has:
            self.links.append(has["href"])
        elif tag == "link" and not {"canonical", "next", "prev", "search", "index"} & set(has.get("rel", "").split()):
            self.loads.append(has.get("href", ""))
        self.loads += [has[name] for name in ("src", "poster", "data") if name in has]


def problems_of(site: Path) -> list[str]:
    """Faults of the pages in a folder, a line each: requests to the network, and links that lead nowhere."""
    pages = {path: Parts(path.read_text(encoding="utf-8")) for path in sorted(site.resolve().rglob("*.html"))}
    problems = []
    for path, parts in pages.items():
        name = path.relative_to(site.resolve())
        for address in parts.loads:
            if urlsplit(address).netloc or urlsplit(address).scheme not in ("", "data", "blob"):
                problems.append(f"{name} asks for {address}")
        for address in [*parts.loads, *parts.links]:
            split = urlsplit(address)
            if split.scheme or split.netloc:
                continue
            target = (path.parent / unquote(split.path)).resolve() if split.path else path
            if not target.is_file():
                problems.append(f"{name}: {address} leads nowhere")
            elif split.fragment and target in pages and unquote(split.fragment) not in pages[target].ids:
                problems.append(f"{name}: {target.name} has no place {split.fragment}")
    return problems


def finish(app: Sphinx, error: Exception | None) -> None:
    """Make ``index.html``, and check what all pages load and where their links lead.

    Raises:
        SiteError: a page would ask the network for something, or a link leads nowhere.
    """
    if error or app.builder.name != "html":
        return
    site = Path(app.outdir)
    shutil.copyfile(site / "README.html", site / "index.html")
    if problems := problems_of(site):
        raise SiteError("\n".join(problems))


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (inline_math, None), (block_math, None))
    app.connect("source-read", read)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
