"""Finding the videos in a folder, and telling a file from what only looks like one."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from v2a_nb.errors import MediaError
from v2a_nb.files import LEDGER, Ledger

SUFFIXES = {
    ".264", ".265", ".3g2", ".3gp", ".amv", ".apng", ".asf", ".av1", ".avi", ".dv", ".f4v", ".flv", ".gif", ".h264",
    ".h265", ".hevc", ".insv", ".ivf", ".lrv", ".m1v", ".m2t", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mkv",
    ".mod", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mpv", ".mts", ".mxf", ".nut", ".obu", ".ogm", ".ogv", ".qt",
    ".rm", ".rmvb", ".tod", ".ts", ".vob", ".webm", ".wmv", ".wtv", ".y4m",
}  # fmt: skip
"""Endings of the files in a folder that are taken for videos."""


def check_file(path: str | Path) -> Path:
    """Return the path of a file that can be opened, with ``~`` expanded.

    Raises:
        MediaError: there is no such file, or it is empty, a folder, an address, a pipe or a device.
    """
    text = os.path.expanduser(os.fspath(path))
    try:
        about = os.stat(text)
    except (OSError, ValueError) as error:
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text):
            raise MediaError(f"{path}: an address on a network is not read; download the file first") from error
        if text == "-":
            raise MediaError("-: standard input is not read; write it to a file first") from error
        raise MediaError(f"{path or repr('')}: no such file") from error
    if stat.S_ISDIR(about.st_mode):
        raise MediaError(f"{path}: a folder, not a file")
    if not stat.S_ISREG(about.st_mode):
        raise MediaError(f"{path}: a pipe or a device is not read; write what it gives to a file first")
    if about.st_size == 0:
        raise MediaError(f"{path}: the file is empty")
    return Path(text)


def find_videos(folder: str | Path, report: Callable[[str], None] | None = None) -> list[Path]:
    """The videos in a folder and in all folders below it, sorted; how they end decides (:data:`SUFFIXES`).

    Hidden files and folders are left out, and so are results that this package made there and that are as it made them.

    Args:
        folder: where to look.
        report: receives a line that names the files which were passed over.

    Raises:
        MediaError: there is no video.
    """
    folder = Path(folder)
    found: list[Path] = []
    others: list[str] = []
    ledgers: list[Ledger] = []
    for name, folders, files in os.walk(folder):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        if LEDGER in files:
            ledgers.append(Ledger(name))
        for file in sorted(each for each in files if not each.startswith(".")):
            path = Path(name, file)
            if any(ledger.origin(path) for ledger in ledgers):
                continue
            if path.suffix.lower() in SUFFIXES:
                found.append(path)
            else:
                others.append(path.relative_to(folder).as_posix())
    if others and report:
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        report(f"{folder}: passed over, no videos by their names: {', '.join(others[:5])}{more}")
    if not found:
        raise MediaError(f"{folder}: no video in this folder")
    return found
