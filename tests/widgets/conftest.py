"""Fixtures of the tests of widgets."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def browser():
    from chromium_parts import CHROMIUM, sync_api

    with sync_api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()
