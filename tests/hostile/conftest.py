"""The campaign's process, and the table at its end."""

from __future__ import annotations

from collections import Counter

import pytest
from hostile.harness import Campaign, Outcome

_OUTCOMES: list[Outcome] = []


@pytest.fixture(scope="session")
def campaign():
    """Runs inputs by name."""
    with Campaign() as process:
        yield process


@pytest.fixture(scope="session")
def outcomes() -> list[Outcome]:
    """What has happened so far."""
    return _OUTCOMES


def pytest_terminal_summary(terminalreporter) -> None:
    """Inputs, tracebacks, lost files and peaks, by family; only where inputs ran in this process."""
    ran = [outcome for outcome in _OUTCOMES if not outcome.skipped]
    if not ran:
        return
    kinds = ("traceback", "crash", "lost", "half", "silent", "wrong", "memory", "time")
    write = terminalreporter.write_line
    terminalreporter.section("hostile inputs")
    write(
        f"{'family':26}{'inputs':>7}{'skipped':>8}{'faulty':>7}"
        + "".join(f"{k:>10}" for k in kinds)
        + f"{'peak MB':>9}"
    )
    families = dict.fromkeys(outcome.family for outcome in _OUTCOMES)
    for family in (*families, "all"):
        some = [o for o in ran if family in (o.family, "all")]
        skipped = sum(bool(o.skipped) and family in (o.family, "all") for o in _OUTCOMES)
        counts = Counter(kind for o in some for kind in {fault[0] for fault in o.faults})
        row = f"{family:26}{len(some):7}{skipped:8}{sum(bool(o.faults) for o in some):7}"
        write(row + "".join(f"{counts[k]:10}" for k in kinds) + f"{max((o.peak_mb for o in some), default=0):9}")
    top, slow = max(ran, key=lambda o: o.peak_mb), max(ran, key=lambda o: o.seconds)
    write(f"highest peak: {top.peak_mb} MB, {top.family}: {top.name} ({top.peak_step})")
    write(f"slowest: {slow.seconds:.1f} s, {slow.family}: {slow.name}; all: {sum(o.seconds for o in ran):.0f} s")
