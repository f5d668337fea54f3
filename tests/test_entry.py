"""The ways in: badges and install lines, the cell that installs on Colab, the environments of conda and Binder."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
import types
from importlib import metadata

import pytest
import yaml
from paths import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
REPOSITORY = PYPROJECT["tool"]["v2a-nb"]["repository"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CONDA_NAMES = {"pytorch-cpu": "torch", "matplotlib-base": "matplotlib"}


@pytest.fixture(scope="module")
def sync():
    spec = importlib.util.spec_from_file_location("sync", ROOT / "notebooks" / "sync.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_one_setting_names_the_repository(sync):
    """Whoever hosts the project writes one line and runs ``make sync``; nothing else names a repository of ours."""
    assert re.fullmatch(r"[\w-]+/[\w.-]+", REPOSITORY) and sync.REPOSITORY == REPOSITORY
    for path in [ROOT / "README.md", *NOTEBOOKS]:
        text = path.read_text(encoding="utf-8")
        name = "00_tour" if path.suffix == ".md" else path.stem
        assert f"colab.research.google.com/github/{REPOSITORY}/blob/main/notebooks/{name}.ipynb" in text
        assert f"mybinder.org/v2/gh/{REPOSITORY}/main?urlpath=lab/tree/notebooks/{name}.ipynb" in text
        ours = re.findall(r"git\+https://github\.com/([\w.-]+/[\w.-]+)", text)
        assert ours and set(ours) == {REPOSITORY}, path.name


def test_readme_is_in_step_and_must_have_room_for_its_entry(sync):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert sync.readme_of(text) == text, "run: make sync"
    assert text.index("<!-- entry -->") < text.index("\n## ")
    with pytest.raises(ValueError, match="entry"):
        sync.readme_of("# no entry")


@pytest.fixture
def colab(sync, monkeypatch):
    """Run the cell where some packages are installed; gives the commands that it ran."""

    def run(there: dict[str, str]) -> list[list[str]]:
        commands = []

        def installed(command, check):
            assert check
            commands.append(command)
            for line in command[command.index("--no-deps") + 1 :]:
                there[re.split("[ >=]", line)[0]] = "new"

        def distributions(name):
            return [types.SimpleNamespace(version=there[name])] if name in there else []

        monkeypatch.setattr(subprocess, "run", installed)
        monkeypatch.setattr(metadata, "distributions", distributions)
        monkeypatch.setattr(metadata, "requires", lambda name: [*PYPROJECT["project"]["dependencies"], LAB])
        exec(compile(sync.COLAB, "cell", "exec"), {})
        return commands

    return run


LAB = 'jupyterlab>=4.0; extra == "lab"'


def test_colab_gets_what_it_lacks_and_keeps_what_it_has(colab, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    there = {re.split(">=", line)[0]: "1.0" for line in PYPROJECT["project"]["dependencies"]}
    there |= {"numpy": "2.1.3", "torch": "2.11.0", "pandas": "2.2.3", "ipython": "7.34.0"}
    for name in ("av", "captum"):
        del there[name]
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]
    first, second = colab(there)
    assert first == [*pip, f"v2a-nb @ git+https://github.com/{REPOSITORY}"]
    assert second == [*pip, *[d for d in PYPROJECT["project"]["dependencies"] if d.split(">=")[0] in ("av", "captum")]]
    words = capsys.readouterr().out
    assert "v2a-nb" in words and "captum" in words
    assert "left as they were: numpy 2.1.3, torch 2.11.0, pandas 2.2.3, ipython 7.34.0" in words
    assert colab(there) == [] and "nothing" in capsys.readouterr().out  # a second run of the cell


def test_elsewhere_the_cell_does_nothing(colab, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)
    assert colab({}) == [] and capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["environment.yml", "binder/environment.yml"])
def test_environments_equal_pyproject(name):
    text = (ROOT / name).read_text()
    made = yaml.safe_load(text)
    assert made["channels"] == ["conda-forge"] and "://" not in text
    lines = [line for line in made["dependencies"] if isinstance(line, str) and ">=" in line]
    (pip,) = [entry["pip"] for entry in made["dependencies"] if isinstance(entry, dict)]
    floors = dict(line.split(">=") for line in [*lines, *pip])
    assert len(floors) == len(lines) + len(pip), "a package is named twice"
    floors = {CONDA_NAMES.get(package, package): floor for package, floor in floors.items()}
    assert "pytorch-cpu" in text  # the default build of torch on Linux brings gigabytes of CUDA
    lab = PYPROJECT["project"]["optional-dependencies"]["lab"]
    wanted = PYPROJECT["project"]["dependencies"] + [d for d in lab if name == "environment.yml" or "ipykernel" in d]
    assert floors == dict(line.split(">=") for line in wanted)


def test_the_two_environments_differ_in_the_lab_alone():
    top, binder = (
        set((ROOT / name).read_text().splitlines()) for name in ("environment.yml", "binder/environment.yml")
    )
    assert [line.strip() for line in top ^ binder if not line.startswith("#")] == ["- jupyterlab>=4.0"]


def test_no_file_names_a_package_index():
    files = ["Makefile", "pyproject.toml", "constraints.txt", "environment.yml", "binder/environment.yml"]
    files += ["binder/postBuild", ".ci/run", "README.md", "notebooks/install.py"]
    files += [str(p.relative_to(ROOT)) for p in (ROOT / ".github").rglob("*.yml")]
    for name in files:
        assert not re.search(r"index-url|find-links|--index|pypi\.org|/simple\b|/whl/", (ROOT / name).read_text()), name


def test_import_takes_no_more_than_the_standard_library():
    """``import v2a_nb`` is quick because it imports nothing: neither torch nor any other package."""
    code = (
        "import sys; before = set(sys.modules); import v2a_nb; "
        "print(sorted({n.split('.')[0] for n in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert made.stdout.strip() == "['v2a_nb']"
