"""Tests of scripts by Node."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from paths import SCRIPTS


def node() -> str | None:
    """Node, 20 or newer: the system's, or the one that Playwright brings along."""
    found = [shutil.which("node")]
    try:
        from playwright._impl._driver import compute_driver_executable

        found.append(compute_driver_executable()[0])
    except ImportError:
        pass
    for path in filter(None, found):
        words = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
        if int(words[1:].split(".")[0]) >= 20:
            return path
    return None


def check_script(name: str) -> None:
    """Run ``name.test.mjs``; skipped without Node."""
    if (program := node()) is None:
        pytest.skip("neither node 20 nor playwright, which brings one, is installed")
    command = [program, "--test", str(SCRIPTS / f"{name}.test.mjs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
