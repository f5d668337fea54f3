"""Work on all cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parallel_map(work: Callable[[tuple], None], jobs: Sequence[tuple], workers: int | None = None) -> None:
    """Call ``work(job)`` for every job, in as many processes; left out, one for each core that may be used."""
    workers = min(workers or cores(), max(1, len(jobs)))
    if workers == 1:
        for job in jobs:
            work(job)
    else:  # spawned, not forked: a fork of a process that used torch's threads can hang
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            list(pool.map(work, jobs))
