"""The set-up: make passes paths on as they are, half an environment does not stay, the notebook runner judges."""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from paths import ROOT

make = pytest.mark.skipif(os.name == "nt" or not shutil.which("make"), reason="needs make and a shell")


def run_make(folder: Path, *words: str) -> subprocess.CompletedProcess:
    clean = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "VIDEO", "OUT")}
    return subprocess.run(["make", "-s", *words], cwd=folder, env=clean, capture_output=True, text=True, timeout=60)


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)


@pytest.fixture
def checkout(tmp_path):
    """The Makefile beside an environment that is installed already, whose command tells its arguments."""
    folder = tmp_path / "a check out"
    folder.mkdir()
    for name in ("pyproject.toml", "constraints.txt", "Makefile"):
        shutil.copy(ROOT / name, folder)
    script(folder / ".venv" / "bin" / "v2a-nb", 'for a in "$@"; do echo "[$a]"; done\n')
    script(folder / ".venv" / "bin" / "python", 'echo "python $*"\n')
    for stamp in (".run", ".test", ".lab"):
        (folder / ".venv" / stamp).touch()
    return folder


@make
@pytest.mark.parametrize("name", ["plain.mp4", "my clip.mp4", 'it\'s "one" (1).mp4', "tür & co;.mp4"])
def test_demo_gets_the_video_as_it_is(checkout, name):
    made = run_make(checkout, "demo", f"VIDEO={name}", "OUT=to here")
    assert made.returncode == 0, made.stderr
    assert made.stdout.splitlines() == ["[demo]", f"[{name}]", "[--out]", "[to here]"]


@make
def test_demo_without_a_video(checkout):
    assert run_make(checkout, "demo").stdout.splitlines() == ["[demo]", "[--out]", "[demo]"]


@make
def test_second_time_installs_nothing_and_a_new_floor_does(checkout):
    assert run_make(checkout, "test").stdout.splitlines() == ["python -m pytest -n 2 --dist loadfile"]
    later = (checkout / ".venv" / ".test").stat().st_mtime + 5
    os.utime(checkout / "pyproject.toml", (later, later))
    words = run_make(checkout, "-n", "test").stdout
    assert words.count("pip install") == 3 and "-c constraints.txt" in words and '".[test]"' in words
    lean = run_make(checkout, "-n", "demo").stdout
    assert lean.count("pip install") == 1 and "lab" not in lean and "test" not in lean


@make
def test_half_an_environment_does_not_stay(checkout):
    shutil.rmtree(checkout / ".venv")
    script(checkout / "no-venv", '[ "$1" = -c ] && exit 0\nmkdir -p .venv/bin; touch .venv/bin/python; exit 1\n')
    made = run_make(checkout, "demo", "PYTHON=./no-venv")
    assert made.returncode != 0 and "python3-venv" in made.stderr and not (checkout / ".venv").exists()
    script(checkout / "old", "exit 1\n")
    made = run_make(checkout, "demo", "PYTHON=./old")
    assert made.returncode != 0 and "Python 3.11 or newer is needed" in made.stderr


def test_readme_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for text in ((ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()):
        named = set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.M))
        assert named and named <= targets, named - targets


DOCUMENTS = ["README.md", "notebooks/README.md", "data/README.md", "benchmarks/README.md"]
DOCUMENTS += [f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_in_the_documents_are_understood(name):
    from v2a_nb.cli import _joined, _parser
    from v2a_nb.systems.registry import options_by_system

    options = options_by_system()
    text = (ROOT / name).read_text()
    commands = re.findall(r"`v2a-nb ([^`\n#]+)`|^v2a-nb ([^`\n#]+)", text, re.M)
    for words in (a or b for a, b in commands):
        _parser(options).parse_args(_joined(shlex.split(words), options))  # ends the test with the parser's own words
    assert commands or name != "docs/commands.md"


def test_every_command_is_documented():
    from v2a_nb.cli import _parser

    text = (ROOT / "docs" / "commands.md").read_text()
    commands = next(a for a in _parser({})._actions if isinstance(a, argparse._SubParsersAction)).choices
    assert commands and not [name for name in commands if f"`v2a-nb {name}" not in text]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_in_the_documents_lead_somewhere(name):
    path = ROOT / name
    for link in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
        if not link.startswith(("http://", "https://")):
            assert (path.parent / link).exists(), f"{name}: {link}"


@pytest.mark.parametrize("name", ["README.md", "notebooks/README.md"])
def test_every_notebook_is_listed(name):
    text = (ROOT / name).read_text()
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        assert f"{notebook.name})" in text, f"{notebook.name} is not in {name}"


def test_extras_are_constrained_and_not_in_the_core():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core = {re.split("[>=]", line)[0].lower() for line in project["dependencies"]}
    pins = dict(line.lower().split("==") for line in (ROOT / "constraints.txt").read_text().split())
    assert "jupyterlab" not in core and "pytest" not in core
    assert not core & {"torchaudio", "torchvision", "torchcodec", "decord", "hydra-core"}
    for lines in project["optional-dependencies"].values():
        for line in lines:
            name, _, floor = line.partition(">=")
            name = name.split("[")[0]
            if floor:
                assert name.lower() in pins, f"{name} is not pinned"
    for line in project["dependencies"]:
        name, floor = line.lower().split(">=")
        assert version(pins[name]) >= version(floor), f"{name}: tested {pins[name]}, floor {floor}"


def version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


@pytest.fixture
def runner(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("notebook_runner", ROOT / "notebooks" / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "HERE", tmp_path)
    return module


def write_notebook(path: Path, source: str) -> None:
    import nbformat

    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)]), path)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import os, sys\nassert os.environ['V2A_NB_PRESET']\nprint('x' * 10)", ""),
        ("1 / 0", "ZeroDivisionError"),
        ("import warnings\nwarnings.warn('old')", "a warning in a cell"),
        ("while True:\n    pass", "over 4 s of work"),
    ],
    ids=["good", "error", "warning", "slow"],
)
def test_notebook_runner(runner, tmp_path, source, told):
    path = tmp_path / "toy.ipynb"
    write_notebook(path, source)
    outcome = runner.run(path, None, 4 if told.startswith("over") else 60)
    assert (told in outcome.problem) if told else outcome.problem == ""
    assert outcome.work_s > 0 and outcome.clock_s > 0 and 10 < outcome.peak_mb < runner.LIMIT_MB


def test_notebook_runner_limits_memory(runner, tmp_path, monkeypatch):
    path = tmp_path / "toy.ipynb"
    write_notebook(path, "import time\ntime.sleep(60)")
    monkeypatch.setattr(runner, "LIMIT_MB", 20)
    outcome = runner.run(path, None, 60)
    assert outcome.problem == "over 20 MB" and outcome.peak_mb > 20


def test_notebook_runner_counts_work_and_not_waiting(runner, tmp_path, monkeypatch):
    """A neighbour on the machine stretches the clock and not the work; one that hangs is stopped all the same."""
    path = tmp_path / "toy.ipynb"
    write_notebook(path, "import time\ntime.sleep(600)")
    monkeypatch.setattr(runner, "HUNG_S", 8.0)
    outcome = runner.run(path, None, 60)
    assert "in 8 s" in outcome.problem and outcome.work_s < outcome.clock_s


def test_notebook_runner_runs_all_and_fails_for_one(runner, tmp_path, monkeypatch, capsys):
    write_notebook(tmp_path / "a.ipynb", "1 / 0")
    write_notebook(tmp_path / "b.ipynb", "print(1)")
    monkeypatch.setattr("sys.argv", ["run.py", "--jobs", "2", "--keep", str(tmp_path / "kept")])
    assert runner.main() == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("a ") and lines[0].endswith("FAILED") and lines[-1].endswith("MB  ok")
    assert sorted(p.name for p in (tmp_path / "kept").iterdir()) == ["a.ipynb", "b.ipynb", "notebooks.json"]


def test_notebook_runner_runs_again_only_what_is_stale(runner, tmp_path, monkeypatch, capsys):
    """A copy is stale when its notebook or any file of the package has changed, or when it failed."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "a.py").write_text("1")
    monkeypatch.setattr(runner, "PACKAGE", tmp_path / "package")
    ran = []

    def run(path, keep, limit_s):
        ran.append(path.stem)
        (keep / path.name).write_text("executed")
        return runner.Outcome("wrong" if path.stem == "c" else "", 1.0, 2.0, 300.0)

    monkeypatch.setattr(runner, "run", run)
    monkeypatch.setattr("sys.argv", ["run.py", "--keep", str(tmp_path / "kept"), "--stale"])
    for name in "abc":
        write_notebook(tmp_path / f"{name}.ipynb", f"print({name!r})")

    def again() -> list[str]:
        ran.clear()
        assert runner.main() == 1  # c fails
        return sorted(ran)

    assert again() == ["a", "b", "c"] and again() == ["c"]
    assert runner.record(tmp_path / "kept")["a"]["peak_mb"] == 300.0
    write_notebook(tmp_path / "b.ipynb", "print(2)")
    assert again() == ["b", "c"]
    (tmp_path / "kept" / "a.ipynb").unlink()
    assert again() == ["a", "c"]
    (tmp_path / "package" / "a.py").write_text("2")
    assert again() == ["a", "b", "c"]
    monkeypatch.setattr("sys.argv", ["run.py", "--stale"])
    with pytest.raises(SystemExit):
        runner.main()


def test_notebook_runner_knows_its_notebooks(runner, monkeypatch):
    monkeypatch.setattr("sys.argv", ["run.py", "no-such"])
    with pytest.raises(SystemExit) as stop:
        runner.main()
    assert stop.value.code == 2
