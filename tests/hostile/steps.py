"""The ways in which a user meets a file, and what is wrong with what came out."""

from __future__ import annotations

import io
import json
import os
import resource
import traceback
import wave
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
from hostile.cases import Case, Expect
from hostile.stand_in import OPTIONS

from v2a_nb import cli, media
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import V2AError
from v2a_nb.metrics.base import Metric
from v2a_nb.metrics.evaluate import evaluate_folder
from v2a_nb.widgets.player import compare


class Light(Metric):
    """Mean brightness and peak: needs the pictures and the sound, and costs nothing."""

    names, needs = ("light",), ("video",)

    def score(self, clip) -> float:
        return float(clip.video.frames.mean()) + clip.sound.peak


class Loud(Light):
    """The peak of the sound alone."""

    names, needs = ("loud",), ()

    def score(self, clip) -> float:
        return clip.sound.peak


class Run:
    """One input on its way through the commands; faults are written down as they are found.

    Attributes:
        case: the input.
        path: its file, as commands get it.
        user: the folder of the user's files; the current folder is the one above it, where results go.
        said: what the last command printed.
    """

    def __init__(self, case: Case, path: Path, user: Path, log: int) -> None:
        self.case, self.path, self.user, self._log = case, path, user, log
        self._step, self.said = "start", ""

    def note(self, **what: object) -> None:
        """Write a line to the log, a pipe whose other end outlives this process."""
        os.write(self._log, (json.dumps(what) + "\n").encode())

    def fault(self, kind: str, what: str) -> None:
        self.note(fault=kind, step=self._step, what=what)

    def must(self, holds: bool, what: str, kind: str = "wrong") -> None:
        """A fault where something does not hold."""
        if not holds:
            self.fault(kind, what)

    def step(self, name: str, work: Callable[[], object]) -> object:
        """Do a step. Its result is returned; None where it was refused, which a V2AError of one line may do."""
        self._step = name
        self.note(step=name)
        result = None
        try:
            result = work()
        except V2AError as error:
            self.note(refused=name, what=str(error))
            self.must(len(str(error).splitlines()) == 1, f"not one line: {str(error)!r}", "traceback")
        except BaseException as error:
            self.fault("traceback", _where(error))
        self.note(peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, after=name)
        return result

    def command(self, *argv: object, status: Iterable[int] = (0, 1), step: str = "") -> int | None:
        """Run a command of the command line; its exit status, or None where something escaped from it."""
        words = [str(word) for word in argv]
        if words[0] == "generate" and self.case.system == "beep":
            words[1:1] = OPTIONS
        printed = io.StringIO()

        def work() -> int:
            try:
                return cli.main(words)
            except SystemExit as error:
                return error.code

        with redirect_stdout(printed), redirect_stderr(printed):
            result = self.step(step or words[0], work)
        said = self.said = printed.getvalue()
        self.note(status=result, said=said[-400:])
        self.must("Traceback" not in said, f"a traceback on standard error: {said[-300:]!r}", "traceback")
        if result is not None:
            self.must(result in tuple(status), f"exit status {result}: {said[-200:]!r}")
            self.must(result == 0 or "v2a-nb" in said, f"exit status {result} without a line that says why")
        return result


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if f"v2a_nb{os.sep}" in f.filename] or frames
    place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
    return f"{type(error).__name__} at {place}: {str(error)[:200]}"


def all_ways(run: Run) -> None:
    """Open, windows, generate, evaluate (as generated, and as videos), curate, compare."""
    case, path = run.case, run.path
    clip = run.step("open", lambda: media.open(path, size=case.size))
    if isinstance(clip, Clip):
        check_clip(run, clip, case.expect)
    else:
        run.must(case.expect.opens is not True, "refused, and could be read")
    length = 1.0 if clip is None else max(0.7, clip.duration / 5)
    parts = run.step("windows", lambda: [_brief(p) for p in media.windows(path, length, size=case.size)])
    if clip is not None and parts is not None:
        check_windows(run, clip, parts)
    status = run.command("generate", path, "--out", "out")
    check_made(run, clip, status, Path("out"))
    beep = Sound(np.zeros(16000, np.float32), 16000)
    run.step("evaluate as generated", lambda: evaluate_folder(run.user, metrics=[Loud()]))
    stem = Path(path).stem
    others = Path("sounds")
    try:
        media.save_wav(beep, others / f"{stem}.wav")
    except V2AError:
        others = Path("out")  # a name that is too long for another file
    run.step("evaluate as videos", lambda: evaluate_folder(others, videos=run.user, metrics=[Light()]))
    run.command("curate", run.user, "--filters", "sound,energy", "--out", "kept.json")
    if clip is not None:
        run.step("compare", lambda: compare(clip, {"own": clip.sound, "beep": beep}).save("page.html"))


def _brief(clip: Clip) -> tuple[float, int, np.ndarray, np.ndarray]:
    return clip.duration, clip.n, flashes_in(clip), clicks_in(clip)


def flashes_in(clip: Clip) -> np.ndarray:
    """Seconds at which the picture becomes white."""
    bright = clip.frames[:, :: max(1, clip.height // 16), :: max(1, clip.width // 16)].mean(axis=(1, 2, 3))
    first = np.flatnonzero((bright > 128) & (np.append(0, bright[:-1]) <= 128))
    return clip.times[first]


def clicks_in(clip: Clip) -> np.ndarray:
    """Seconds at which the sound clicks."""
    if clip.sound is None or clip.sound.peak < 0.1:
        return np.zeros(0)
    samples, block = clip.sound.samples, 1 << 20  # an hour has gigabytes
    parts = (np.abs(samples[:, k : k + block]).max(axis=0) for k in range(0, clip.sound.n, block))
    loud = np.concatenate([k * block + np.flatnonzero(part > 0.5 * clip.sound.peak) for k, part in enumerate(parts)])
    new = np.append(True, np.diff(loud) > 0.1 * clip.sound.sample_rate)
    return loud[new] / clip.sound.sample_rate


def check_clip(run: Run, clip: Clip, expect: Expect) -> None:
    """Compare a clip with what is known."""
    if expect.opens is False:
        run.fault("wrong", f"opened, and should be refused: {clip!r}")
        return
    frame = 1 / clip.fps
    if expect.pictures is not None:
        least, most = (expect.pictures,) * 2 if isinstance(expect.pictures, int) else expect.pictures
        run.must(least <= clip.n <= most, f"{clip.n} pictures, not {expect.pictures}")
    if expect.seconds is not None:
        run.must(abs(clip.duration - expect.seconds) <= 1.5 * frame, f"{clip.duration:.3f} s, not {expect.seconds} s")
    if expect.flashes is not None:
        _near(run, "flashes", flashes_in(clip), expect.flashes, 0.55 * frame)
    if expect.clicks is not None:
        _near(run, "clicks", clicks_in(clip), expect.clicks, 0.012)
    if expect.size is not None:
        run.must((clip.width, clip.height) == expect.size, f"{clip.width}x{clip.height}, not {expect.size}")
    if expect.sound is not None:
        run.must((clip.sound is not None) == expect.sound, f"sound: {clip.sound!r}")
    lost = expect.whole is not None and clip.n < expect.whole
    lost |= expect.whole_sound and len(clicks_in(clip)) < 2
    if lost:
        run.must(bool(getattr(clip, "problems", ())), f"{clip.n} of {expect.whole} pictures, and not a word", "silent")
    run.must(np.isfinite(clip.duration) and clip.duration >= clip.times[-1], f"{clip.duration} s", "wrong")


def _near(run: Run, what: str, found: np.ndarray, wanted: Iterable[float], tolerance: float) -> None:
    wanted = np.asarray(tuple(wanted))
    good = len(found) == len(wanted) and (not len(wanted) or np.abs(found - wanted).max() <= tolerance)
    run.must(good, f"{what} at {np.round(found[:6], 3).tolist()}, not {wanted.tolist()}")


def check_windows(run: Run, clip: Clip, parts: list) -> None:
    """All windows together are the whole file."""
    total, frame = sum(p[0] for p in parts), 1 / clip.fps
    run.must(abs(total - clip.duration) < max(0.05, 2 * frame), f"windows: {total:.3f} s of {clip.duration:.3f} s")
    count = sum(p[1] for p in parts)
    run.must(clip.n <= count <= clip.n + len(parts), f"windows: {count} pictures of {clip.n}")
    starts = np.cumsum([0, *(p[0] for p in parts[:-1])]) if parts else []
    for k, name, whole, near in ((2, "flashes", flashes_in(clip), frame), (3, "clicks", clicks_in(clip), 0.012)):
        if k == 3 and run.case.expect.whole is not None:
            continue  # damaged sounds click anywhere
        times = [round(float(start + t), 3) for start, part in zip(starts, parts, strict=True) for t in part[k]]
        missing = [round(float(t), 3) for t in whole if not any(abs(t - other) <= near for other in times)]
        run.must(not missing, f"windows: {name} at {missing} are missing; found {times}")


def check_made(run: Run, clip: Clip | None, status: int | None, out: Path) -> None:
    """What ``generate`` wrote is as long as the clip."""
    sounds = sorted(out.glob("*.wav")) if out.is_dir() else []
    videos = sorted(out.glob("*.mp4")) if out.is_dir() else []
    if status != 0:
        run.must(not videos, f"failed, and wrote {[p.name for p in videos]}", "half")
        if clip is not None and clip.duration >= 0.3:
            run.must(not run.case.expect.made, f"opened, and generate refuses: {run.said[-200:]!r}")
        return
    run.must(len(sounds) == 1 and len(videos) == 1, f"wrote {[p.name for p in sounds + videos]}")
    if clip is None or not sounds or not videos:
        return
    with wave.open(str(sounds[0])) as file:
        seconds = file.getnframes() / file.getframerate()
    run.must(abs(seconds - clip.duration) < max(0.05, 1 / clip.fps), f"wav: {seconds:.3f} s of {clip.duration:.3f} s")
    made = run.step("open what was made", lambda: media.open(videos[0], size=run.case.size, sound=False))
    if not isinstance(made, Clip):
        run.fault("wrong", "what was made cannot be opened")
        return
    if not run.case.expect.made:
        return  # the input is too odd for its pictures to be compared
    run.must(abs(made.n - clip.n) <= 1, f"mp4: {made.n} of {clip.n} pictures")
    before, after = flashes_in(clip), flashes_in(made)
    same = len(before) == len(after) and (not len(before) or np.abs(before - after).max() <= 1 / clip.fps)
    run.must(same, f"mp4: flashes at {np.round(after[:6], 3).tolist()}, not {np.round(before[:6], 3).tolist()}")
