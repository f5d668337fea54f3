"""What the bookkeeping of a container says about pictures that are missing; nothing is decoded.

A gap between two pictures may be what a camera or a screen recorder wrote. It is a loss only where the file itself is
broken: where its boxes, chunks or elements do not follow each other to its end, or where a broadcast holds the
beginning of a picture that never came.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np

from v2a_nb.media import decoding

BROADCAST = {"mpegts", "mpeg"}  # containers without a beginning or an end, whose clock may be set anew
SYNC = 0x47  # the first byte of every packet of a transport stream
BLOCK = 1 << 26  # bytes of a transport stream that are looked at together
NEAR_S = 1.0  # seconds by which damage to a transport stream may lie beside what it cost
MATROSKA_MASTERS = {"18538067", "1f43b675"}
"""Elements that hold others: Segment, Cluster."""
MATROSKA = MATROSKA_MASTERS | {
    *("1a45dfa3", "114d9b74", "1549a966", "1654ae6b", "1043a770", "1c53bb6b", "1941a469", "1254c367"),
    *("ec", "bf", "e7", "5854", "a7", "ab", "a3", "a0", "af"),
}
"""All elements of a file, of a Segment and of a Cluster, by their identifiers."""


class Structure:
    """The order of a file's boxes, chunks or elements; it is read when it is first asked for, and then known.

    Args:
        path: the file.
        container: FFmpeg's name of its format.
        index: of the stream that is decoded.
    """

    def __init__(self, path: str | Path, container: str, index: int) -> None:
        self.path, self.container, self.index = os.path.expanduser(path), container, index

    @cached_property
    def broken_at(self) -> int | None:
        """The byte at which the order ends; the file's size, where it ends within a box, chunk, element or packet.

        None where nothing is broken, or where the format is not known here.
        """
        size = os.path.getsize(self.path)
        if self.container == "mpegts":
            grid = _grid(self.path, 0)
            return size if grid and (size - grid[0]) % grid[1] not in (0, 188) else None
        step = STEPS.get(self.container)
        if step is None:
            return None
        with open(self.path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            at = 0
            while at < size:
                try:
                    found = step(data, at)
                except (struct.error, IndexError):  # the header itself is cut
                    return size
                if found is None:
                    return at
                end, at = found
                if end > size:
                    return size
        return None

    @cached_property
    def promises(self) -> bool:
        """Whether the file says how long it is; else, FFmpeg names the end of what it finds."""
        if self.container in BROADCAST:
            return False
        if STEPS.get(self.container) is not _box:
            return True
        with open(self.path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            at = 0
            while at + 16 <= len(data) and (found := _box(data, at)):
                if data[at + 4 : at + 8] == b"moof":
                    return False
                at = found[1]
        return True

    def note(self, damage: decoding.Damage, end: float) -> None:
        """Say in ``damage`` that the file is cut off behind ``end`` (s), or broken somewhere."""
        if self.broken_at == os.path.getsize(self.path):
            damage.cut = end
        else:
            damage.broken = f"the file is damaged at byte {self.broken_at}; something may be missing"

    def proves(self, begin: float, end: float) -> bool:
        """Whether the file shows that something between two times (s, on its clock) is lost."""
        if self.container != "mpegts":
            return self.broken_at is not None
        times, damaged = self._broadcast
        near = (damaged > begin - NEAR_S) & (damaged < end + NEAR_S)
        return bool(near.any() or ((times > begin) & (times < end)).any())

    @cached_property
    def _broadcast(self) -> tuple[np.ndarray, np.ndarray]:
        """When pieces of the stream begin, as a broadcast has them before they are cut into pictures, and damage.

        Both are seconds on the file's clock.
        """
        times, places = [], []
        with decoding.container(self.path, fflags="noparse+nofillin") as file:
            stream = file.streams[self.index]
            for packet in decoding.packets(file, stream):
                if packet is not None and packet.pts is not None and packet.pos is not None:
                    times.append(float(packet.pts * packet.time_base))
                    places.append(packet.pos)
            damaged = np.array(_damaged_packets(self.path, stream.id), np.int64)
        if not times:
            return np.zeros(0), np.zeros(0)
        before = np.clip(np.searchsorted(places, damaged, side="right") - 1, 0, None)
        return np.array(times), np.array(times)[before]


def _grid(path: str, at: int) -> tuple[int, int] | None:
    """Where the first packet of a transport stream begins behind a byte, and how long packets are; None: nowhere."""
    with open(path, "rb") as file:
        file.seek(at)
        data = np.frombuffer(file.read(1 << 20), np.uint8)
    for first in np.flatnonzero(data == SYNC)[:100_000].tolist():
        for length in (188, 192, 204):
            column = data[first::length][:8]
            if len(column) > 2 and (column == SYNC).all():
                return at + first, length
    return None


def _damaged_packets(path: str, stream: int) -> list[int]:
    """The bytes at which packets of a transport stream are out of order, or hold no beginning where they should.

    Args:
        path: the file.
        stream: number (PID) of the stream whose packets are checked.
    """
    found, at, counter = [], 0, None
    size = os.path.getsize(path)
    while (grid := _grid(path, at)) is not None:
        at, length = grid
        rows = np.memmap(path, np.uint8, "r", at, ((min(size - at, BLOCK) // length), length))
        lost = np.flatnonzero(rows[:, 0] != SYNC)
        good = rows[: lost[0]] if len(lost) else rows
        mine = np.flatnonzero((((good[:, 1] & 31).astype(int) << 8 | good[:, 2]) == stream) & (good[:, 3] & 16 > 0))
        packets = good[mine]
        begin = 4 + np.where(packets[:, 3] & 32, 1 + packets[:, 4].astype(int), 0)  # of the payload
        anew = (packets[:, 3] & 32 > 0) & (packets[:, 4] > 0) & (packets[:, 5] & 128 > 0)  # as the writer says
        counters = (packets[:, 3] & 15).astype(int)
        steps = np.diff(counters, prepend=counters[:1] if counter is None else counter) % 16
        short = np.minimum(begin, length - 3)
        start = [packets[np.arange(len(packets)), short + k] == byte for k, byte in enumerate((0, 0, 1))]
        empty = (packets[:, 1] & 64 > 0) & ~np.logical_and.reduce(start)
        found += (at + mine[((steps > 1) & ~anew) | empty] * length).tolist()
        counter = counters[-1] if len(counters) else counter
        at += len(good) * length
        if len(lost):
            found.append(at)
    return found


def _box(data: mmap.mmap, at: int) -> tuple[int, int] | None:
    """The end of an mp4's box, and where the next one begins; None where there is no box."""
    size, kind = struct.unpack_from(">I4s", data, at)
    if size == 1:
        (size,) = struct.unpack_from(">Q", data, at + 8)
    end = at + size if size else len(data)
    return (end, end) if _printable(kind) and (size >= 8 or not size) else None


def _chunk(data: mmap.mmap, at: int) -> tuple[int, int] | None:
    """The end of a chunk of AVI or WAV, and where the next one begins, which may be inside it."""
    kind, size = struct.unpack_from("<4sI", data, at)
    if not _printable(kind) or (kind[2:] in (b"dc", b"db", b"wb") and not kind[:2].isdigit()):
        return None
    return at + 8 + size, at + 12 if kind in (b"RIFF", b"LIST") else at + 8 + size + size % 2


def _element(data: mmap.mmap, at: int) -> tuple[int, int] | None:
    """The end of a Matroska element, and where the next one begins, which may be inside it."""
    length = 9 - data[at].bit_length()
    kind, at = data[at : at + length].hex(), at + length
    length = 9 - data[at].bit_length()
    if kind not in MATROSKA or length > 8:
        return None
    most = (1 << 7 * length) - 1  # which stands for an unknown size
    size, at = int.from_bytes(data[at : at + length], "big") & most, at + length
    if kind in MATROSKA_MASTERS:
        return at + (size if size < most else 0), at
    return (at + size, at + size) if size < most else None


def _object(data: mmap.mmap, at: int) -> tuple[int, int] | None:
    """The end of an ASF object, where the next one begins."""
    (size,) = struct.unpack_from("<Q", data, at + 16)
    return (at + size, at + size) if size >= 24 else None


def _klv(data: mmap.mmap, at: int) -> tuple[int, int] | None:
    """The end of an MXF's packet of key, length and value, where the next one begins."""
    if data[at : at + 4] != b"\x06\x0e\x2b\x34":
        return None
    size, at = data[at + 16], at + 17
    if size >= 128:
        length = size - 128
        size, at = int.from_bytes(data[at : at + length], "big"), at + length
    return at + size, at + size


def _tag(data: mmap.mmap, at: int) -> tuple[int, int] | None:
    """The end of an FLV's tag, and where the next one begins, behind the length of this one."""
    if at == 0:
        return 9, 13
    if data[at] & 31 not in (8, 9, 18):
        return None
    end = at + 11 + int.from_bytes(data[at + 1 : at + 4], "big")
    return end, end + 4


def _page(data: mmap.mmap, at: int) -> tuple[int, int] | None:
    """The end of an Ogg page, where the next one begins."""
    if data[at : at + 4] != b"OggS":
        return None
    pieces = data[at + 26]
    end = at + 27 + pieces + sum(data[at + 27 : at + 27 + pieces])
    return end, end


def _printable(kind: bytes) -> bool:
    return all(32 <= byte < 127 for byte in kind)


STEPS: dict[str, Callable[[mmap.mmap, int], tuple[int, int] | None]] = {
    "mov,mp4,m4a,3gp,3g2,mj2": _box,
    "matroska,webm": _element,
    "avi": _chunk,
    "wav": _chunk,
    "asf": _object,
    "flv": _tag,
    "mxf": _klv,
    "ogg": _page,
}
