"""The house: lazy import, floors, file sizes, environment files, names that must not appear."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib

import pytest
from house import file_of, floor, imports
from paths import PACKAGE, ROOT

FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_import_against_the_floors(path):
    for other in imports(path):
        assert floor(other) <= floor(path), f"{path.relative_to(PACKAGE)} imports {other.relative_to(PACKAGE)}"


def test_no_two_files_import_each_other():
    """Neither at once nor later, inside of a function: what is left when files without imports are taken away."""
    left = {path: imports(path) for path in FILES}
    while free := [path for path, others in left.items() if not others & left.keys()]:
        for path in free:
            del left[path]
    assert not left, [str(path.relative_to(PACKAGE)) for path in left]


def test_import_is_lazy():
    code = "import sys, v2a_nb; print(sorted({'torch', 'numpy', 'librosa', 'transformers'} & set(sys.modules)))"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout.strip() == "[]"


def test_every_public_name_exists():
    import v2a_nb

    for name in v2a_nb.__all__:
        assert getattr(v2a_nb, name) is not None
    with pytest.raises(AttributeError):
        _ = v2a_nb.nothing


def test_type_checkers_see_the_public_names_that_there_are():
    import v2a_nb

    stub = ast.parse((PACKAGE / "__init__.pyi").read_text())
    imported = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    assert {a.asname: node.module for node in imported for a in node.names if a.name == a.asname} == v2a_nb._WHERE
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    paths = [ROOT / name for name in config["pyright"]["include"]]
    assert all(path.exists() for path in paths)
    checked = {file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path])}
    assert {file_of(module) for module in v2a_nb._WHERE.values()} <= checked
    assert (PACKAGE / "py.typed").exists() and {"py.typed", "*.pyi"} <= set(
        config["setuptools"]["package-data"]["v2a_nb"]
    )


def test_no_test_reads_a_stopwatch():
    """Tests count operations; a clock may only be read to give up waiting. Times are printed by benchmarks."""
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
            assert name not in ("perf_counter", "process_time", "thread_time", "timeit"), path


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names_of(lines: list[str]) -> dict[str, str]:
    found = {}
    for line in lines:
        match = re.match(r"\s*(?:- )?([A-Za-z0-9_.-]+)>=([0-9.]+)\s*$", line)
        if match:
            found[match.group(1).lower()] = match.group(2)
    return found


def test_dependencies_have_floors_and_no_ceilings():
    for line in project()["dependencies"]:
        assert ">=" in line and "<" not in line and "==" not in line


def test_constraints_pin_every_dependency():
    pinned = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().split()}
    assert set(names_of(project()["dependencies"])) <= pinned


def test_nothing_unfinished_and_no_machine_paths():
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "notebooks").rglob("*.py"), ROOT / "README.md", ROOT / "Makefile"]:
        text = path.read_text()
        for word in ("TO" + "DO", "FIX" + "ME", "NotImplemented" + "Error", "/wor" + "k/", "/ro" + "ot/"):
            assert word not in text, f"{path}: {word}"


def test_shipped_weights_are_small_and_safe():
    folder = PACKAGE / "weights"
    assert not [p for p in folder.rglob("*") if p.suffix in (".pt", ".bin", ".pkl", ".ckpt")]
    for system in folder.iterdir():
        total = sum(p.stat().st_size for p in system.rglob("*.safetensors"))
        assert total <= 12 * 2**20, f"{system.name}: {total / 2**20:.1f} MiB"
        assert (system / "config.json").exists() and (system / "README.md").exists()
