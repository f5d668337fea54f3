"""Work on all cores, and the processes of one training."""

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


def on_processors() -> bool:
    """Whether several processes train together without a GPU, as ``accelerate launch --cpu`` starts them."""
    import torch

    asked = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    return asked or (int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.cuda.is_available())


def training_processes():
    """The processes of this training, as Accelerate's ``PartialState``: who is the main one, and a barrier."""
    from accelerate import PartialState

    return PartialState(cpu=on_processors())


def once_per_machine(work: Callable[[], None]) -> None:
    """Call ``work`` in one process of each machine; the others wait until it is done."""
    processes = training_processes()
    if processes.is_local_main_process:
        work()
    processes.wait_for_everyone()
