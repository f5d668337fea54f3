"""Files that commands write: they get their names when they are complete, and nobody else's files are replaced.

:func:`atomic` and :func:`write_text` write. :class:`Ledger` knows which results in a folder this package made, and from
what; :func:`keep_others` recognises a report or a page that is about to be replaced.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from v2a_nb.errors import MediaError

LEDGER = ".v2a-nb.jsonl"
HTML_MARK = '<meta name="generator" content="v2a-nb">'
"""In the head of every page that this package writes, so that it may replace it."""


_note: ContextVar[Callable[[Path, Path], object] | None] = ContextVar("note", default=None)


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a hidden path beside ``path`` to write to, and rename it to ``path`` at the end.

    If something is raised, the file is removed. Missing folders are made. A device, such as ``/dev/stdout``, is written
    to directly.

    Raises:
        OSError: the file cannot be written; its ``filename`` is ``path``.
    """
    path = Path(path)
    full = Path(os.path.abspath(path))  # FFmpeg would take "take:1.wav" for an address
    if full.exists() and not (full.is_file() or full.is_dir()):
        yield full
        return
    partial = partial_of(full)
    try:
        full.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        if note := _note.get():
            note(path, partial)
        os.replace(partial, full)
    except OSError as error:
        nameless = error.filename is None or str(error.filename) == str(partial)
        if type(error).__module__ == "builtins" and nameless and error.args:  # FFmpeg's errors name the file themselves
            # without a number it is numpy's word for a full disk
            raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error
        raise
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


@contextmanager
def noting(note: Callable[[Path, Path], object]) -> Iterator[None]:
    """Inside, :func:`atomic` calls ``note(path, partial)`` for each complete file, just before it gets its name.

    A kill at any moment leaves no file without its note, but perhaps a note without its file.
    """
    token = _note.set(note)
    try:
        yield
    finally:
        _note.reset(token)


def partial_of(path: Path) -> Path:
    """The hidden path beside ``path`` to which :func:`atomic` writes in this process."""
    number = f"{zlib.crc32(os.fsencode(path.name)):08x}"  # the whole name may be as long as a name can be
    return path.with_name(f".{path.name[:32]}.{number}.{os.getpid()}.part")


def write_text(path: str | Path, text: str) -> Path:
    """Write text as UTF-8, atomically."""
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return Path(path)


def keep_others(path: str | Path, ours: Callable[[str], bool]) -> None:
    """Refuse to replace a file whose text does not look like what the caller writes; an empty file may be replaced.

    Args:
        path: the file that is about to be written.
        ours: whether a text is a result of the caller.

    Raises:
        MediaError: there is another file.
    """
    path = Path(path)
    if not os.path.lexists(path) or (path.exists() and not (path.is_file() or path.is_dir())):
        return
    try:
        text = path.read_text(encoding="utf-8")
        known = not text or ours(text)
    except (OSError, ValueError):
        known = False
    if not known:
        raise MediaError(f"{path} was not written by this command and is kept; choose another name, or remove it")


def is_json_with(*keys: str) -> Callable[[str], bool]:
    """For :func:`keep_others`: whether a text is a JSON object that has these keys."""

    def check(text: str) -> bool:
        found = json.loads(text)
        return isinstance(found, dict) and all(key in found for key in keys)

    return check


def fingerprint(path: str | Path) -> dict[str, Any]:
    """Size, time of the last change, and hash of a file."""
    with open(path, "rb") as file:
        about = os.fstat(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"size": about.st_size, "mtime_ns": about.st_mtime_ns, "sha256": digest}


def unchanged(path: str | Path, before: dict[str, Any]) -> bool:
    """Whether a file has a fingerprint; it is read only where its size is right and its time is not."""
    try:
        about = os.stat(path)
        if about.st_size != before["size"]:
            return False
        return about.st_mtime_ns == before["mtime_ns"] or fingerprint(path)["sha256"] == before["sha256"]
    except OSError:
        return False


class Ledger:
    """What commands made in a folder, and from what: a line of JSON for each file, in ``.v2a-nb.jsonl`` there.

    A line is only ever appended, so that two processes may share a folder. A file that was changed since, or copied
    to another folder, is no longer known: it is its owner's.

    Args:
        folder: of the results; names of files in folders below are relative to it.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._lines: dict[str, list[dict]] = {}
        with suppress(OSError):
            for line in (self.folder / LEDGER).read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(ValueError, KeyError, TypeError):  # half a line, which a kill left
                    entry = json.loads(line)
                    self._lines.setdefault(entry["name"], []).append(entry)

    def __bool__(self) -> bool:
        return bool(self._lines)

    def origin(self, path: Path) -> dict | None:
        """What a file was made from, as :meth:`record` received it; None where it is not ours as it is now."""
        entries = self._lines.get(self._name(path), [])
        return next((e["origin"] for e in reversed(entries) if unchanged(path, e["result"])), None)

    def record(self, path: Path, origin: dict, partial: Path | None = None) -> None:
        """Note that a file was made just now.

        Args:
            path: of the file.
            origin: what it was made from.
            partial: where the file is until it gets its name, see :func:`noting`; None: it has its name.

        Raises:
            OSError: the note cannot be written.
        """
        entry = {"name": self._name(path), "result": fingerprint(partial or path), "origin": origin}
        with open(self.folder / LEDGER, "a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps(entry)}\n")  # on a line of its own, even behind half a line
        self._lines.setdefault(entry["name"], []).append(entry)

    def _name(self, path: Path) -> str:
        return Path(os.path.relpath(path, self.folder)).as_posix()
