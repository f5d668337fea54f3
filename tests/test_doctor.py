"""The environment doctor: every finding that is no "ok" says what to do, and nothing makes it fall over."""

from __future__ import annotations

import builtins
import importlib.metadata
import tomllib

import pytest
from paths import ROOT

import v2a_nb
from v2a_nb import doctor, hub
from v2a_nb.doctor import Finding, Report, check_environment, requirements


def states(report: Report, part: str) -> list[str]:
    return [f.state for f in report.findings if part in f.what]


def test_public_name():
    assert v2a_nb.check_environment is check_environment


def test_requirements_are_those_of_the_project():
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    found = requirements()
    assert {name.lower().replace("-", "_") for name, _ in found} == {
        line.split(">=")[0].lower().replace("-", "_") for line in wanted
    }
    assert dict(found)["captum"] == "0.9"


def test_requirements_in_a_checkout_that_is_not_installed(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.importlib.metadata, "requires", missing)
    assert ("captum", "0.9") in requirements()


def test_unknown_dependencies_are_a_problem(monkeypatch):
    monkeypatch.setattr(doctor, "requirements", list)
    assert states(check_environment(), "not installed") == ["problem"]


def test_this_machine():
    report = check_environment()
    assert states(report, "PyAV writes H.264 and AAC") == ["ok"]
    assert states(report, "weights 'codec'") == ["ok"]
    assert states(report, "torch and numpy do not work together") == []
    assert len(states(report, "Python 3")) == 1
    for finding in report.findings:
        assert finding.state in ("ok", "note", "problem")
        assert finding.remedy or finding.state != "problem"


def test_table():
    report = Report([Finding("ok", "good"), Finding("note", "so"), Finding("problem", "bad", "mend it")])
    lines = repr(report).splitlines()
    assert lines[0].startswith("ok") and lines[2].startswith("PROBLEM") and lines[3].strip() == "-> mend it"
    assert not report.ok and Report([Finding("note", "so")]).ok


@pytest.mark.parametrize(
    ("version", "floor", "state"),
    [("0.9", "0.9.0", "ok"), ("0.10", "0.9", "ok"), ("2.13.0+cpu", "2.3", "ok"), ("8.1.9rc1", "8.2", "problem")],
)
def test_versions_are_numbers_and_not_words(monkeypatch, version, floor, state):
    monkeypatch.setattr(doctor.importlib.metadata, "version", lambda name: version)
    report = Report()
    doctor._check_package(report, "thing", floor)
    assert [f.state for f in report.findings] == [state]


def test_old_python(monkeypatch):
    monkeypatch.setattr(doctor.platform, "python_version", lambda: "3.10.4")
    assert states(check_environment(), "Python 3.10.4") == ["problem"]


@pytest.mark.parametrize("broken", ["torch", "av"])
def test_an_import_that_fails_is_a_finding(monkeypatch, broken):
    real = builtins.__import__

    def importing(name, *args, **kwargs):
        if name == broken:
            raise OSError("a binary of another machine")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", importing)
    report = Report()
    (doctor._check_torch if broken == "torch" else doctor._check_codecs)(report)
    assert [f.state for f in report.findings] == ["problem"]
    assert "another machine" in report.findings[0].what and f"force-reinstall {broken}" in report.findings[0].remedy


def test_missing_encoders(monkeypatch):
    import av

    monkeypatch.setattr(av, "codecs_available", {"aac"})
    report = Report()
    doctor._check_codecs(report)
    assert report.findings[0].state == "problem" and "no libx264" in report.findings[0].what


def test_missing_and_damaged_weights(monkeypatch, tmp_path):
    for name in ("vaura", "vision"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "vision" / "model.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{cut")
    monkeypatch.setattr(hub, "SHIPPED", tmp_path)
    report = Report()
    doctor._check_weights(report)
    assert [f.state for f in report.findings] == ["problem"] * 3
    told = [f.what for f in report.findings]
    assert "'material' are missing" in told[0] and "'vaura' cannot be read" in told[1]
    assert "'vision' cannot be read" in told[2]


def test_little_memory(monkeypatch):
    sizes = {"SC_AVPHYS_PAGES": 200_000, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(doctor.os, "sysconf", sizes.__getitem__, raising=False)
    monkeypatch.setattr(doctor.os, "sysconf_names", sizes, raising=False)
    report = Report()
    doctor._check_memory(report)
    assert report.findings[0].state == "note" and "close other notebooks" in report.findings[0].remedy


def test_a_folder_that_cannot_be_written(monkeypatch):
    def refuse(**kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    report = Report()
    doctor._check_folder(report)
    assert report.findings[0].state == "note" and "--out" in report.findings[0].remedy


def test_binder(monkeypatch):
    monkeypatch.setenv("BINDER_SERVICE_HOST", "somewhere")
    assert states(check_environment(), "Binder") == ["note"]
