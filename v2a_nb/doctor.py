"""The environment check: what this machine has, what is missing, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
import tempfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Finding:
    """One line of the report.

    Attributes:
        state: ``ok``, ``note`` or ``problem``.
        what: the finding in words.
        remedy: what to do about it.
    """

    state: str
    what: str
    remedy: str = ""


@dataclass
class Report:
    """All findings; its ``repr`` is a table."""

    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether no finding is a problem."""
        return all(f.state != "problem" for f in self.findings)

    def __repr__(self) -> str:
        marks = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}
        lines = []
        for f in self.findings:
            lines.append(f"{marks[f.state]}  {f.what}" + (f"\n         -> {f.remedy}" if f.remedy else ""))
        lines.append("everything needed is here" if self.ok else "something needs mending, see PROBLEM above")
        return "\n".join(lines)

    def add(self, state: str, what: str, remedy: str = "") -> None:
        """Append a finding."""
        self.findings.append(Finding(state, what, remedy))


def check_environment() -> Report:
    """Check Python, dependencies, codecs, weights, memory, the current folder and the notebook platform.

    Nothing is raised: what is broken becomes a finding.
    """
    report = Report()
    add = report.add
    version = platform.python_version()
    if _numbers(version) >= (3, 11):
        add("ok", f"Python {version}")
    else:
        add("problem", f"Python {version}", "install Python 3.11 or newer and make the environment again")
    wanted = requirements()
    if not wanted:
        add("problem", "v2a-nb is not installed: its dependencies are not known", "pip install v2a-nb")
    for name, floor in wanted:
        _check_package(report, name, floor)
    _check_torch(report)
    _check_codecs(report)
    _check_weights(report)
    _check_memory(report)
    _check_folder(report)
    _check_notebooks(report)
    if "google.colab" in sys.modules or os.path.isdir("/content/sample_data"):
        add("note", "Colab", "install with --no-deps, so that nothing preinstalled moves")
    if "BINDER_SERVICE_HOST" in os.environ:
        add("note", "Binder: 2 GB of memory, one slow core", "keep to the tiny preset")
    return report


def requirements() -> list[tuple[str, str]]:
    """Return the names of this package's runtime dependencies and their lowest versions; empty if unknown."""
    try:
        lines = importlib.metadata.requires("v2a-nb") or []
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        project = Path(__file__).parent.parent / "pyproject.toml"
        if not project.exists():
            return []
        lines = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]
    found = []
    for line in lines:
        if "extra ==" in line:
            continue
        if match := re.match(r"([A-Za-z0-9_.-]+)\s*(?:>=\s*([0-9.]+))?", line):
            found.append((match.group(1), match.group(2) or "0"))
    return found


def _numbers(version: str) -> tuple[int, ...]:
    parts = [int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3]]
    return tuple(parts + [0] * (3 - len(parts)))  # 0.9 is 0.9.0


def _check_package(report: Report, name: str, floor: str) -> None:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        report.add("problem", f"{name} is missing", f'pip install "{name}>={floor}"')
        return
    if _numbers(version) < _numbers(floor):
        remedy = f'pip install --upgrade "{name}>={floor}"'
        report.add("problem", f"{name} {version} is older than {floor}", remedy)
    else:
        report.add("ok", f"{name} {version}")


def _check_torch(report: Report) -> None:
    try:
        import torch
    except Exception as error:  # a broken binary raises OSError, ImportError, ...
        report.add("problem", f"torch cannot be imported: {error}", "pip install --force-reinstall torch")
        return
    threads = torch.get_num_threads()
    if torch.cuda.is_available():
        gigabytes = torch.cuda.get_device_properties(0).total_memory / 2**30
        report.add("ok", f"GPU: {torch.cuda.get_device_name(0)}, {gigabytes:.0f} GB")
    else:
        report.add("note", f"no GPU; {threads} CPU threads: the tiny presets need no more")
    try:
        import numpy as np

        torch.from_numpy(np.zeros(1, np.float32)).numpy()
    except Exception as error:  # torch built against another numpy says so only when they meet
        remedy = 'pip install --upgrade "numpy>=1.26" torch, then restart the kernel'
        report.add("problem", f"torch and numpy do not work together: {error}", remedy)


def _check_codecs(report: Report) -> None:
    try:
        import av

        missing = [name for name in ("libx264", "aac") if name not in av.codecs_available]
    except Exception as error:
        report.add("problem", f"PyAV cannot be imported: {error}", "pip install --force-reinstall av")
        return
    if missing:
        remedy = "install the av wheel from PyPI (conda builds may lack encoders)"
        report.add("problem", f"PyAV has no {' and no '.join(missing)}", remedy)
    else:
        report.add("ok", "PyAV writes H.264 and AAC")


def _check_weights(report: Report) -> None:
    from v2a_nb.hub import SHIPPED, shipped

    there = shipped()
    for name in sorted({"vaura", "material", *there}):
        if name not in there:
            remedy = "install the package again; its weights/ folder is not complete"
            report.add("problem", f"the shipped weights {name!r} are missing", remedy)
            continue
        try:
            from safetensors import safe_open

            files, count = sorted((SHIPPED / name).rglob("*.safetensors")), 0
            for path in files or [SHIPPED / name / "model.safetensors"]:
                with safe_open(str(path), "np") as file:  # reads the header, and that the file is whole
                    count += len(list(file.keys()))
            report.add("ok", f"weights {name!r}: {count} tensors")
        except Exception as error:
            remedy = "install the package again; the file is damaged"
            report.add("problem", f"weights {name!r} cannot be read: {error}", remedy)


def _check_memory(report: Report) -> None:
    if not hasattr(os, "sysconf") or "SC_AVPHYS_PAGES" not in os.sysconf_names:
        return
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    if free < 1.2:
        remedy = "close other notebooks: generating needs about 1.2 GB"
        report.add("note", f"{free:.1f} GB of memory free", remedy)
    else:
        report.add("ok", f"{free:.1f} GB of memory free")


def _check_folder(report: Report) -> None:
    try:
        with tempfile.TemporaryFile(dir="."):
            report.add("ok", "this folder can be written to")
    except OSError as error:
        remedy = "change to a folder of your own, or give --out"
        report.add("note", f"this folder cannot be written to: {error.strerror}", remedy)


def _check_notebooks(report: Report) -> None:
    if importlib.util.find_spec("ipykernel") is None:
        report.add("note", "no notebook kernel here (the commands need none)", "make lab, or pip install ipykernel")
        return
    report.add("ok", "a notebook kernel is here; the player needs no widget manager")
