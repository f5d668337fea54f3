"""Contracts of the notebooks: valid, bare, paired, runnable alone, described."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import sys
import tomllib
from pathlib import Path

import pytest
from paths import ROOT

BOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ids = [p.stem for p in BOOKS]


def load(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def code_of(book: dict) -> list[str]:
    return ["".join(c["source"]) for c in book["cells"] if c["cell_type"] == "code"]


def sync():
    spec = importlib.util.spec_from_file_location("sync", ROOT / "notebooks" / "sync.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_notebooks():
    named = {"00_tour", "02_watching_video", "03_data_and_curation", "04_syncronet", "05_neighbour_conditioning"}
    named |= {"06_hidden_alignment", "07_autoregression", "08_evaluation"}
    assert named | {"11_your_own_video"} <= set(ids)


@pytest.mark.parametrize("path", BOOKS, ids=ids)
def test_valid_and_bare(path):
    import nbformat

    book = load(path)
    nbformat.validate(nbformat.read(path, as_version=4))
    assert book["metadata"]["kernelspec"] == {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert "widgets" not in book["metadata"]
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    for cell in book["cells"]:
        assert cell["id"]
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None


@pytest.mark.parametrize("path", BOOKS, ids=ids)
def test_in_step_with_its_text(path):
    source = path.parent / "py" / f"{path.stem}.py"
    assert path.read_text(encoding="utf-8") == sync().notebook_of(source), "run: make sync"


@pytest.mark.parametrize("path", BOOKS, ids=ids)
def test_one_parameters_cell_reads_the_preset(path):
    cells = [c for c in load(path)["cells"] if "parameters" in c["metadata"].get("tags", [])]
    assert len(cells) == 1 and "V2A_NB_PRESET" in "".join(cells[0]["source"])


@pytest.mark.parametrize("path", BOOKS, ids=ids)
def test_cells_are_short_and_parse(path):
    lengths = []
    for source in code_of(load(path)):
        ast.parse(source)
        lengths.append(source.count("\n") + 1)
    assert max(lengths) <= 40 and sorted(lengths)[len(lengths) // 2] <= 15


@pytest.mark.parametrize("path", BOOKS, ids=ids)
def test_tells_a_story(path):
    book = load(path)
    text = "\n".join("".join(c["source"]) for c in book["cells"] if c["cell_type"] == "markdown")
    assert text.startswith("# ") and "**Question.**" in text and "**What to notice.**" in text
    assert "**Exercise.**" in text and "$$" in text
    assert any("assert " in source for source in code_of(book)), "no check cell"


@pytest.mark.parametrize("path", BOOKS, ids=ids)
def test_figures_have_alt_text(path):
    for source in code_of(load(path)):
        assert "plt.show" not in source and "matplotlib inline" not in source
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "plots.show":
                alt = next(k.value for k in node.keywords if k.arg == "alt")
                assert len(ast.unparse(alt)) > 30


@pytest.mark.parametrize("path", BOOKS, ids=ids)
def test_runs_alone_and_anywhere(path):
    text = "\n".join(code_of(load(path)))
    assert not re.search(r"""["'](/|~|[A-Z]:\\|\.\./)""", text), "an absolute or parent path"
    assert "cuda" not in re.sub(r'"cuda" if torch\.cuda\.is_available\(\)', "", text)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    known = {re.split(r"[>=]", d)[0].lower() for d in project["dependencies"]}
    known |= {"v2a_nb", "pil"} | set(sys.stdlib_module_names)
    for node in ast.walk(ast.parse(text)):
        names = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
        for name in names:
            assert name.split(".")[0].lower() in known, f"{name} is no dependency"


@pytest.mark.parametrize("path", BOOKS, ids=ids)
def test_every_name_of_the_package_exists(path):
    import v2a_nb

    for source in code_of(load(path)):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "v2a":
                assert hasattr(v2a_nb, node.attr), f"v2a.{node.attr}"
            if isinstance(node, ast.ImportFrom) and node.module.startswith("v2a_nb"):
                module = importlib.import_module(node.module)
                for name in node.names:
                    assert hasattr(module, name.name) or importlib.util.find_spec(f"{node.module}.{name.name}")
