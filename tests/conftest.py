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
