"""Fixtures that several files use."""

from __future__ import annotations

import pytest
from pipeline_parts import Tone


@pytest.fixture
def tone(monkeypatch):
    system, loads = Tone(), []

    def load(*args, **kwargs):
        loads.append(args)
        return system

    system.loads = loads
    monkeypatch.setattr("v2a_nb.systems.registry.load", load)
    return system


@pytest.fixture(scope="module")
def browser():
    from chromium_parts import CHROMIUM, sync_api

    with sync_api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--mute-audio"])
        yield made
        made.close()
