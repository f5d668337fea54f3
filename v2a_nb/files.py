"""Atomic writes: a file gets its name when it is complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a hidden path beside ``path`` to write to, and rename it to ``path`` at the end.

    If something is raised, the file is removed. Missing folders are made.

    Raises:
        OSError: the file cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> Path:
    """Write text as UTF-8, atomically."""
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return Path(path)
