"""The house: lazy import, floors, file sizes, environment files, names that must not appear."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "v2a_nb"
FLOORS = {
    "errors": 0, "clip": 0, "files": 0,
    "audio": 1, "hub": 1,
    "mp4": 1, "vision": 2, "media": 2, "world": 2,
    "data": 3,
    "systems": 4, "metrics": 4,
    "training": 5, "official": 5, "saliency": 5,
    "widgets": 6, "plots": 6,
    "pipeline": 7, "doctor": 7, "cli": 8, "__main__": 9,
}  # fmt: skip
"""A room may import rooms of its own floor and below (design: "A room may import only rooms below it")."""
# what a value needs to show itself in a notebook: imported inside methods, when they are called
DISPLAY = {("clip", "widgets"), ("world", "media")}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("v2a_nb"):
            parts = node.module.split(".")
            names = [parts[1]] if len(parts) > 1 else [a.name for a in node.names]
            yield from names
        elif isinstance(node, ast.Import):
            for name in node.names:
                if name.name.startswith("v2a_nb."):
                    yield name.name.split(".")[1]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_import_against_the_floors(path):
    own = room(path)
    if own == "__init__":
        return
    for other in imports(path):
        if other in FLOORS and other != own and (own, other) not in DISPLAY:
            assert FLOORS[other] <= FLOORS[own], f"{own} (floor {FLOORS[own]}) imports {other} ({FLOORS[other]})"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_can_be_read_in_one_go(path):
    assert path.read_text().count("\n") <= 450


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


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names_of(lines: list[str]) -> dict[str, str]:
    found = {}
    for line in lines:
        match = re.match(r"\s*(?:- )?([A-Za-z0-9_.-]+)>=([0-9.]+)\s*$", line)
        if match:
            found[match.group(1).lower()] = match.group(2)
    return found


@pytest.mark.parametrize("name", ["environment.yml", "binder/environment.yml"])
def test_environment_files_equal_pyproject(name):
    made = names_of((ROOT / name).read_text().splitlines())
    wanted = names_of(project()["dependencies"])
    if "pytorch-cpu" in made:
        made["torch"] = made.pop("pytorch-cpu")
    extra = {"jupyterlab", "ipykernel"}
    assert {k: v for k, v in made.items() if k not in extra} == wanted


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
