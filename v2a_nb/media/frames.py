"""The decoded pictures of a file with their times, from any moment on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import Any, NamedTuple

from v2a_nb.errors import MediaError
from v2a_nb.media import decoding
from v2a_nb.media.structure import BROADCAST, Structure

SAME = 1e-6  # seconds within which two times are one
STEPS = (0.0, 1.0, 4.0, 15.0)  # seconds by which a seek is tried earlier, before the file is read from its beginning
AHEAD = 4.0  # seconds up to which reading on is preferred to a seek
JUMP = 10.0  # seconds by which a broadcast's clock may run ahead before it counts as set anew
BACK = 1.0  # seconds by which a clock may run backwards before it counts as set anew
LONGEST_S = 86400.0  # seconds that a picture may last, before its times count as damaged
HOLE = 1.5  # pictures after which the next one is late
SPARSE = {"mpeg": 2.0}  # seconds that FFmpeg needs to find the times again, where not every packet has one


class Picture(NamedTuple):
    """A decoded frame, when it appears and how long it lasts; seconds from the first picture."""

    frame: Any
    time: float
    lasts: float


class Pictures:
    """The pictures of a file, read forwards; from an earlier, or a much later, moment on after a seek.

    A packet that cannot be decoded is noted in ``damage``, and decoding goes on behind it. So are pictures that are
    late where the file shows that others were between (:mod:`v2a_nb.media.structure`). Timestamps out of order
    (AVI, or B-frames that a writer did not know of) are given to the pictures in the order in which they are shown.

    Attributes:
        container, stream: as PyAV opened them; both change when the file is read from its beginning again.
        damage: what could not be decoded so far.
        zero: the first picture's time on the file's clock, seconds.
        fps: average frames per second.
        duration: seconds that the header promises; 0 where it promises nothing.

    Raises:
        MediaError: the file cannot be read, or not one picture can be decoded; a picture lasts for more than a day.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self.damage = decoding.Damage()
        self.zero: float | None = None
        self._seekable, self._frame_threads, self._checked = True, True, False
        self._end = 0.0  # of the last picture that was decoded
        self.container: Any = None
        self._open()
        try:
            self._by_dts = self.container.format.name == "avi"  # whose timestamps count packets
            self._in_order = self._by_dts
            if self._by_dts and self.stream.codec_context.has_b_frames:
                self._seekable = False
            self.fps = decoding.fps_of(self.stream)
            self.duration = decoding.duration_of(self.container, self.stream)
            self._structure = Structure(self.path, self.container.format.name, self.stream.index)
            self._skips = self.stream.codec_context.name == "mpeg4"  # packets may say that nothing changes
            first = self._next()
            if first is None:
                raise MediaError(f"{path}: not one picture could be decoded")
            self._unread.appendleft(first)
            self._last = None
            begins = self.zero or 0.0
            if "matroska" in self.container.format.name and 0 < begins < self.duration:
                self.duration -= begins  # which is when it ends, and not how long it lasts
            self.damage.pictures = self.stream.frames or round(self.duration * self.fps)
        except BaseException:
            self.container.close()
            raise

    def close(self) -> None:
        self.container.close()

    def begin_at(self, start: float) -> None:
        """Go to where the next picture is the one that is visible at ``start`` (s), or the first of the file."""
        if self._last is not None:
            self._unread.appendleft(self._last)
            self._last = None
        newest = max((p.time for p in self._unread if p.time <= start + SAME), default=None)
        known = bool(self._unread) and self._unread[-1].time > start  # the newest is the one that is wanted
        if newest is None or (start - newest > AHEAD and not known):
            self._go(start)
        visible = self._visible(start)
        over = visible is not None and not self._unread and visible.time + visible.lasts <= start
        if over and self.container.format.name in BROADCAST:  # its clock may have been set anew behind the seek
            self._open()
            visible = self._visible(start)
        if visible is not None:
            self._unread.appendleft(visible)
        self._last = None

    def _visible(self, start: float) -> Picture | None:
        """Read on to the picture that is visible at ``start`` (s), and return it."""
        visible = None
        while (picture := self._next()) is not None:
            if picture.time > start + SAME:
                self._unread.appendleft(picture)
                break
            visible = picture
        return visible

    def peek(self) -> Any:
        """The frame that comes next, or None at the end; it stays the next one."""
        picture = self._next()
        if picture is None:
            return None
        self._unread.appendleft(picture)
        return picture.frame

    def next(self, stop: float | None = None) -> Picture | None:
        """The next picture; None at the end, and where it appears at ``stop`` (s) or later."""
        picture = self._next()
        if picture is not None and stop is not None and picture.time >= stop - SAME:
            self._unread.appendleft(picture)
            return None
        if picture is not None:
            self._last = picture
        return picture

    def _open(self) -> None:
        """Begin at the beginning of the file."""
        if self.container is not None:
            self.container.close()
        self.container = decoding.container(self.path)
        try:
            self.stream = decoding.video_stream(self.container, self.path, frame_threads=self._frame_threads)
        except BaseException:
            self.container.close()
            raise
        self._base = float(self.stream.time_base or 1)
        self._start_over(after_seek=False)

    def _start_over(self, after_seek: bool) -> None:
        self._unread: deque[Picture] = deque()
        self._last: Picture | None = None
        self._newest = -float("inf")
        self._again = False
        self._decoder = self._decode(after_seek)

    def _next(self) -> Picture | None:
        if self._unread:
            return self._unread.popleft()
        picture = next(self._decoder, None)
        if picture is None and self._again:
            # of damage, a decoder of several frames at a time makes something else each time; and where it meets some
            # at the very end, it forgets the pictures before
            newest, self._frame_threads = self._newest, False
            self._open()
            self._go(newest)
            while (picture := self._next()) is not None and picture.time <= newest + SAME:
                pass
        return picture

    def _go(self, start: float) -> None:
        """Seek to a key picture at or before ``start`` (s): further and further back, and at last to the beginning."""
        from av.error import FFmpegError

        margin = SPARSE.get(self.container.format.name, 0.0)
        for step in STEPS if self._seekable else ():
            target = start - 2 * margin - step
            if target <= 0 or self.zero is None:
                break
            try:
                offset = int((self.zero + target) / self._base)
                self.container.seek(offset, stream=self.stream, backward=True)
            except (FFmpegError, OSError):
                continue
            self._start_over(after_seek=True)
            first = self._next()
            if first is not None and first.time <= start - margin + SAME:
                self._unread.appendleft(first)
                return
        self._open()

    def _decode(self, after_seek: bool) -> Iterator[Picture]:
        """Pictures in the order in which they are shown; after a seek, from the first key picture on."""
        stream, base = self.stream, self._base
        sent: list[int] = []  # the timestamps of the packets that no picture came of yet
        count, failures, failed, ordered = 0, 0, False, True
        stamp, latest, raw, shift, ends, step = None, None, None, 0.0, 0.0, 1 / self.fps
        steps: deque[float] = deque(maxlen=9)  # from picture to picture
        broadcast = self.container.format.name in BROADCAST
        for packet in decoding.packets(self.container, stream):
            if packet is not None and packet.size and not packet.is_discard:
                count += 1
                stamp = packet.dts if self._by_dts else packet.pts
                if stamp is not None:
                    ordered = ordered and (latest is None or stamp > latest)
                    latest = stamp
                    heappush(sent, stamp)
            frames, error = decoding.decode(stream, packet)
            if self._frame_threads and (error or any(frame.is_corrupt for frame in frames)):
                self._again = True
                return
            failed, failures = failed or error, failures + error
            if error and self._in_order and stamp in sent:
                sent.remove(stamp)
                heapify(sent)
                self._lose([stamp], shift)
            elif error and stamp is None:
                self.damage.lost[round(ends, 4)] = 1
            for frame in frames:
                decoding.check_size(self.path, frame)  # it may be larger than the headers say
                count -= 1
                if after_seek and raw is None and not frame.key_frame:
                    continue
                lasts = frame.duration * base if frame.duration else 1 / self.fps
                lasts = step if lasts > LONGEST_S else lasts
                first, before, missing = raw is None, self._newest, []
                if self._in_order:
                    stamp = heappop(sent) if sent else None
                else:
                    stamp = frame.pts
                    while stamp is not None and sent and sent[0] <= stamp:
                        missing.append(heappop(sent))
                    missing = [m for m in missing if m != stamp]
                    if stamp is not None and stamp == raw:
                        continue  # a repeated timestamp shows nothing new
                if stamp is None:
                    if first and after_seek:
                        return  # nobody knows where this is
                    self._seekable = False
                    time = 0.0 if first else ends
                else:
                    if self.zero is None:
                        self.zero = stamp * base
                    time = stamp * base - self.zero + shift
                if self.zero is None:
                    self.zero = 0.0
                raw = stamp if stamp is not None else -1
                if not first and (time < before - BACK or (broadcast and time > before + JUMP)):
                    shift, time, self._seekable = shift + ends - time, ends, False  # the clock was set anew
                elif not first and time <= before:
                    if ordered and not self._in_order:  # timestamps in the order of the packets, which is another one
                        self._in_order, self._seekable = True, False
                        self.damage.lost.clear()  # they were not lost but late
                    time = before + lasts / 2
                if not first:
                    self._check_length(time - before)
                if missing and failed:
                    self._lose(missing, shift)
                    failed = False
                elif not first and time - before > HOLE * step + base:
                    self._check_hole(before + step, time, step, shift, missing)
                steps.append(lasts if first else time - before)
                step = sorted(steps)[len(steps) // 2]
                self._newest, ends = time, time + lasts
                self._end = max(self._end, ends)
                if frame.is_corrupt:
                    self.damage.flawed.add(round(time, 4))
                yield Picture(frame, time, lasts)
        if count > failures and self._frame_threads:
            self._again = True
            return
        if failed and not self._in_order:
            self._lose(sent, shift)
        elif raw is not None and not self._in_order:
            self._check_hole(ends, float("inf"), step, shift, sent)
        if raw is not None:
            self._check_length(ends - self._newest)
        if self.zero is not None and not self._checked:
            self._checked = True
            self._check_end(self._end, step, 0.0 if shift else self.duration)

    def _lose(self, stamps: list[int], shift: float) -> None:
        zero = (self.zero or 0.0) - shift
        self.damage.lost |= {round(stamp * self._base - zero, 4): 1 for stamp in stamps}

    def _check_length(self, seconds: float) -> None:
        if seconds > LONGEST_S:
            raise MediaError(f"{self.path}: a picture lasts for {seconds / 3600:.0f} hours; its times are damaged")

    def _check_hole(self, begin: float, end: float, step: float, shift: float, missing: list[int]) -> None:
        """Note the pictures that were between two times.

        Args:
            begin, end: when the next picture was due, and when it came, seconds; infinite at the end of the file.
            step: seconds from one picture to the next.
            shift: seconds by which the file's clock was set anew.
            missing: timestamps of packets that no picture came of.
        """
        zero = (self.zero or 0.0) - shift
        first, last = begin - 0.4 * step + zero, end - 0.5 * step + zero  # without the second half of a picture
        inside = [m for m in missing if first < m * self._base < last]
        if inside and not self._skips:
            self._lose(inside, shift)
        elif end < float("inf") and self._structure.proves(first, last):
            count = max(1, round((end - begin) / step))
            self.damage.lost[round(begin, 4)] = 1
            if count > 1:
                self.damage.lost[round(end - step, 4)] = count - 1

    def _check_end(self, end: float, step: float, promised: float) -> None:
        """Note a file that ends before its header says so; by less than half a second only where it is broken.

        Args:
            end, promised: seconds; a promise of 0 is none, as where the file's clock was set anew.
            step: seconds from one picture to the next.
        """
        zero = self.zero or 0.0
        counted = max(promised, self.stream.frames * self._base) if self._by_dts else promised
        promises = promised and self._structure.promises
        if (not promises or end < counted - step / 2) and self._structure.broken_at is not None:
            if end < counted - step / 2:
                self.damage.ends["the video"] = end, counted
            self._structure.note(self.damage, end)
            return
        longest = end
        if end < promised - decoding.SHORT_S and not decoding.own_duration(self.stream):
            # the header speaks of the longest stream, which may be the sound
            longest = decoding.scan(self.path, after=zero + end) - zero
        if longest < promised - decoding.SHORT_S:
            self.damage.ends["the video"] = end, promised
