"""Make ``NN_name.ipynb`` from ``py/NN_name.py`` (the reviewed text): no outputs, stable cell ids.

Each notebook, and the README, get the same entry: badges that open it on Colab and on Binder, the line that installs
the package, and in a notebook the cell that does so on Colab (``install.py``). They name the repository that
``pyproject.toml`` names: ``repository`` in ``[tool.v2a-nb]``.

``python notebooks/sync.py`` writes; ``--check`` only says whether something would change.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tomllib
from pathlib import Path

import jupytext
import nbformat

HERE = Path(__file__).parent
ROOT = HERE.parent
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["v2a-nb"]["repository"]
INSTALL = f'pip install "v2a-nb @ git+https://github.com/{REPOSITORY}"'
COLAB = (HERE / "install.py").read_text(encoding="utf-8").replace("REPOSITORY", REPOSITORY).strip()
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def badges(name: str, gallery: str) -> str:
    """Links that open a notebook elsewhere, as pictures in the folder ``gallery``: no page asks the network."""
    colab = f"https://colab.research.google.com/github/{REPOSITORY}/blob/main/notebooks/{name}.ipynb"
    binder = f"https://mybinder.org/v2/gh/{REPOSITORY}/main?urlpath=lab/tree/notebooks/{name}.ipynb"
    return (
        f"[![Open in Colab]({gallery}/badge_colab.svg)]({colab}) "
        f"[![Open on Binder]({gallery}/badge_binder.svg)]({binder})"
    )


def entry_of(name: str) -> str:
    """What stands below the title of a notebook."""
    return f"{badges(name, '../gallery')}\n\nInstall: `{INSTALL}`. On Colab the next cell does it; Binder has it."


def readme_of(text: str) -> str:
    """The README with its entry, which stands between two comments.

    Raises:
        ValueError: the comments are not there.
    """
    entry = f"{badges('00_tour', 'gallery')}\n\n```bash\n{INSTALL}\n```"
    made, count = re.subn(
        r"(?<=<!-- entry -->\n).*?(?=\n<!-- /entry -->)", lambda _: entry, text, count=1, flags=re.DOTALL
    )
    if not count:
        raise ValueError("README.md has no <!-- entry --> and <!-- /entry -->")
    return made


def notebook_of(source: Path) -> str:
    """The notebook's JSON text for one py:percent file."""
    notebook = jupytext.read(source)
    title, _, rest = notebook.cells[0].source.partition("\n")
    notebook.cells[0].source = f"{title}\n\n{entry_of(source.stem)}\n{rest}"
    notebook.cells.insert(1, nbformat.v4.new_code_cell(COLAB, metadata={"tags": ["install"]}))
    cells = []
    for index, cell in enumerate(cell for cell in notebook.cells if cell.source.strip()):
        made = {"cell_type": cell.cell_type, "id": _id(source.stem, index, cell.source)}
        made["metadata"] = {k: cell.metadata[k] for k in ("tags",) if k in cell.metadata}
        made["source"] = cell.source.splitlines(keepends=True)
        if cell.cell_type == "code":
            made |= {"execution_count": None, "outputs": []}
        cells.append(made)
    whole = {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _id(stem: str, index: int, source: str) -> str:
    return hashlib.sha256(f"{stem}:{index}:{source}".encode()).hexdigest()[:12]


def main(check: bool) -> int:
    """Write or compare all pairs and the README; returns how many differ (in check) or 0."""
    stale = 0
    readme = ROOT / "README.md"
    made = {readme: readme_of(readme.read_text(encoding="utf-8"))}
    made |= {HERE / f"{source.stem}.ipynb": notebook_of(source) for source in sorted((HERE / "py").glob("*.py"))}
    for target, text in made.items():
        if target.exists() and target.read_text(encoding="utf-8") == text:
            continue
        stale += 1
        print(f"{'stale' if check else 'wrote'}: {target.name}")
        if not check:
            target.write_text(text, encoding="utf-8")
    return stale if check else 0


if __name__ == "__main__":
    raise SystemExit(min(1, main("--check" in sys.argv)))
