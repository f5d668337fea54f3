"""Fixtures that several files use."""

from __future__ import annotations

import numpy as np
import pytest
from pipeline_parts import Tone

from v2a_nb.clip import Sound


@pytest.fixture
def tone(monkeypatch):
    system, loads = Tone(), []

    def load(*args, **kwargs):
        loads.append(args)
        return system

    system.loads = loads
    monkeypatch.setattr("v2a_nb.systems.registry.load", load)
    return system


@pytest.fixture
def one_picture(monkeypatch):
    """A page of an evaluation has the same small picture everywhere, for tests that do not look at pictures."""
    from v2a_nb.plots import show, waveform

    picture = show(waveform(Sound(np.zeros(100, np.float32), 1000)))
    monkeypatch.setattr("v2a_nb.widgets.evaluation.show", lambda fig: picture)
    monkeypatch.setattr("v2a_nb.widgets.evaluation.spectrogram", lambda sound: None)


@pytest.fixture(scope="module")
def browser():
    from chromium_parts import CHROMIUM, sync_api

    with sync_api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--mute-audio"])
        yield made
        made.close()
