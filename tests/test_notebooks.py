"""Contracts of the notebooks: valid, bare, paired, runnable alone, described."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import json
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

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
    named |= {"03b_diffusion", "06_hidden_alignment", "07_autoregression", "08_evaluation"}
    assert named | {"11_your_own_video"} <= set(ids)


@pytest.mark.parametrize("path", BOOKS, ids=ids)
def test_valid_and_bare(path):
    import nbformat

    book = load(path)
    nbformat.validate(nbformat.read(path, as_version=4))
    assert book["metadata"]["kernelspec"] == {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert "widgets" not in book["metadata"]
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in book["cells"]}) == len(book["cells"])
    for cell in book["cells"]:
        assert "".join(cell["source"]).strip(), "an empty cell"
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
def test_begins_with_the_ways_in(path):
    """Badges and the install line below the title, then the cell that installs on Colab; see tests/test_entry.py."""
    first, second, third = load(path)["cells"][:3]
    module = sync()
    assert "".join(first["source"]).split("\n\n")[1:3] == module.entry_of(path.stem).split("\n\n")
    assert second["metadata"]["tags"] == ["install"] and "".join(second["source"]) == module.COLAB
    assert all("install" not in c["metadata"].get("tags", []) for c in [third, *load(path)["cells"][3:]])


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
    assert re.search(r"\*\*Exercise( \d)?\.\*\*", text) and "$$" in text
    assert any("assert " in source for source in code_of(book)), "no check cell"


@pytest.mark.parametrize("path", BOOKS, ids=ids)
def test_figures_have_alt_text(path):
    book = load(path)
    for source in code_of(book):
        assert "plt.show" not in source and "matplotlib inline" not in source and "pyplot" not in source
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.module == "IPython.display":
                assert not {a.name for a in node.names} & {"Image", "Audio", "Video", "SVG"}, "none describes itself"
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "plots.show":
                alt = next(k.value for k in node.keywords if k.arg == "alt")
                assert len(ast.unparse(alt)) > 30
    text = "\n".join("".join(c["source"]) for c in book["cells"] if c["cell_type"] == "markdown")
    assert "<img" not in text and all(len(alt) >= 10 for alt in re.findall(r"!\[([^\]]*)\]\(", text))


@pytest.mark.parametrize("path", BOOKS, ids=ids)
def test_runs_alone_and_anywhere(path):
    text = "\n".join(code_of(load(path)))
    assert not re.search(r"""["'](/|~|[A-Z]:\\|\.\./)""", text), "an absolute or parent path"
    whole = path.read_text(encoding="utf-8")
    assert not re.search(
        r"index-url|find-links|pypi\.org|/simple\b|(?<![:\w])/(home|root|work|tmp|content|Users)/", whole
    )
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
    """Whatever a notebook takes from a module of the package, by any name that it imported the module under."""
    tree = ast.parse("\n".join(code_of(load(path))))
    modules = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            ours = [a for a in node.names if a.name.split(".")[0] == "v2a_nb"]
            modules |= {a.asname or "v2a_nb": importlib.import_module(a.name if a.asname else "v2a_nb") for a in ours}
        elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "v2a_nb":
            module = importlib.import_module(node.module)
            for a in node.names:
                if not hasattr(module, a.name):
                    importlib.import_module(f"{node.module}.{a.name}")
                if isinstance(value := getattr(module, a.name), ModuleType):
                    modules[a.asname or a.name] = value
    assert any(module.__name__ == "v2a_nb" for module in modules.values())
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            module = modules[node.value.id]
            assert hasattr(module, node.attr), f"{module.__name__}.{node.attr}"


@pytest.mark.parametrize("path", BOOKS, ids=ids)
def test_calls_of_public_functions_take_these_arguments(path):
    """Keywords that a notebook gives to ``v2a.NAME(...)`` and ``plots.NAME(...)`` are parameters of theirs."""
    import v2a_nb
    from v2a_nb import plots

    for node in ast.walk(ast.parse("\n".join(code_of(load(path))))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = {"v2a": v2a_nb, "plots": plots}.get(ast.unparse(node.func.value))
            if owner is not None:
                there = inspect.signature(getattr(owner, node.func.attr)).parameters
                if not any(p.kind is p.VAR_KEYWORD for p in there.values()):
                    unknown = {k.arg for k in node.keywords if k.arg} - set(there)
                    assert not unknown, f"{ast.unparse(node.func)} has no {unknown}"
