"""Make ``NN_name.ipynb`` from ``py/NN_name.py`` (the reviewed text): no outputs, stable cell ids.

``python notebooks/sync.py`` writes; ``--check`` only says whether something would change.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import jupytext

HERE = Path(__file__).parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def notebook_of(source: Path) -> str:
    """The notebook's JSON text for one py:percent file."""
    notebook = jupytext.read(source)
    cells = []
    for index, cell in enumerate(notebook.cells):
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
    """Write or compare all pairs; returns how many differ (in check) or 0."""
    stale = 0
    for source in sorted((HERE / "py").glob("*.py")):
        target, text = HERE / f"{source.stem}.ipynb", notebook_of(source)
        if target.exists() and target.read_text(encoding="utf-8") == text:
            continue
        stale += 1
        print(f"{'stale' if check else 'wrote'}: {target.name}")
        if not check:
            target.write_text(text, encoding="utf-8")
    return stale if check else 0


if __name__ == "__main__":
    raise SystemExit(min(1, main("--check" in sys.argv)))
