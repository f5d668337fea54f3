"""A process that forks for every input, sets limits, and judges what is left behind.

The package, torch and PyAV are imported once, in a process of its own; each input then runs in a fork of it, under a
limit of time and of memory, without root's rights to read what is forbidden.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import json
import multiprocessing
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import wave
from dataclasses import dataclass, field
from pathlib import Path

PEAK_MB = 1200
"""Peak of resident memory that no input may exceed."""
BACKSTOP_MB = 4000
"""Memory that an input may ask for before it is refused, so that a machine outlives the campaign."""


@dataclass
class Outcome:
    """What happened to one input.

    Attributes:
        name, family: of the input.
        faults: (kind, step, what): kind is ``traceback``, ``lost`` (a file of the user's changed), ``half`` (a
            half-written or wrong file is left), ``memory``, ``time``, ``crash``, ``silent`` (pictures are lost and
            nothing says so) or ``wrong`` (another result than the known one).
        skipped: why the input could not be made here; empty where it was.
        peak_mb: resident memory at its highest, and ``peak_step`` the step that reached it.
        seconds: of processor time.
        refused: what each step that was refused said.
    """

    name: str
    family: str
    faults: list[tuple[str, str, str]] = field(default_factory=list)
    skipped: str = ""
    peak_mb: int = 0
    peak_step: str = ""
    seconds: float = 0.0
    refused: dict[str, str] = field(default_factory=dict)


class Campaign:
    """The process that runs inputs by name. Use it in a ``with`` block."""

    def __enter__(self) -> Campaign:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other,))
        self._process.start()
        other.close()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()

    def run(self, name: str) -> Outcome:
        """Run one input through everything."""
        self._pipe.send(name)
        return self._pipe.recv()


def serve(pipe) -> None:
    """Import everything once; then run the inputs whose names come in."""
    from hostile.stand_in import install

    import v2a_nb.data.curation
    import v2a_nb.pipeline
    import v2a_nb.scores.registry
    import v2a_nb.training.registry
    import v2a_nb.widgets.monitor  # noqa: F401

    with tempfile.TemporaryDirectory(prefix="hostile-weights-") as folder:
        install(Path(folder))
        _serve(pipe)


def _serve(pipe) -> None:
    from hostile.inputs import CASES
    from tqdm import tqdm

    tqdm.get_lock()  # once, and not in every fork
    gc.freeze()  # so that forks share their pages
    while True:
        try:
            name = pipe.recv()
        except EOFError:
            return
        pipe.send(_one(CASES[name]))


def _one(case) -> Outcome:
    """Write an input, run it, and judge what is left."""
    outcome = Outcome(case.name, case.family)
    folder = Path(tempfile.mkdtemp(prefix="hostile-"))
    work = folder / "work"
    user = work / "user"
    user.mkdir(parents=True)
    try:
        how, _, _ = _forked(lambda _: _write(case, user, folder), 120, None, folder / "writing")
        if (folder / "skip").exists():
            outcome.skipped = (folder / "skip").read_text()
            return outcome
        if how:
            outcome.faults.append(("harness", "write", f"{how} {(folder / 'writing').read_text()[-600:]}"))
            return outcome
        path = Path(os.fsdecode((folder / "path").read_bytes()))
        before = snapshot(work)
        how, used, log = _forked(lambda log: _run(case, path, user, log), case.limit_s, case, folder / "said")
        last = _read_log(log, outcome)
        outcome.peak_mb, outcome.seconds = used.ru_maxrss // 1024, used.ru_utime + used.ru_stime
        if how:
            kind = "time" if "SIGALRM" in how or "SIGXCPU" in how else "crash"
            said = (folder / "said").read_text(errors="replace")[-200:]
            outcome.faults.append((kind, last, f"{how} after {outcome.seconds:.0f} s of processor time {said}"))
        if outcome.peak_mb > PEAK_MB:
            outcome.faults.append(("memory", outcome.peak_step, f"{outcome.peak_mb} MB"))
        outcome.faults += left_behind(work, before)
        outcome.faults = [(kind, step, what.replace(f"{work}{os.sep}", "")) for kind, step, what in outcome.faults]
    finally:
        _unmount(work)
        shutil.rmtree(folder, ignore_errors=True)
    return outcome


def _forked(work, limit_s: int, case, said: Path):
    """Run a function in a fork. Returns how it ended (empty: well), what it used, and what it wrote to its log."""
    log, other = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(log)
            quiet = os.open(said, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            signal.alarm(10 * limit_s)  # of waiting, on a machine that others use too
            resource.setrlimit(resource.RLIMIT_CPU, (limit_s, limit_s + 5))
            if case is not None:
                resource.setrlimit(resource.RLIMIT_DATA, (BACKSTOP_MB << 20, BACKSTOP_MB << 20))
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                if case.file_limit is not None:
                    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                    resource.setrlimit(resource.RLIMIT_FSIZE, (case.file_limit, case.file_limit))
                if not case.as_root:
                    _without_rights()
            work(other)
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    os.close(other)
    with open(log) as file:
        lines = file.read()  # until the fork has ended
    _, status, used = os.wait4(pid, 0)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name, used, lines
    return "" if os.WEXITSTATUS(status) == 0 else f"exit {os.WEXITSTATUS(status)}", used, lines


def _write(case, user: Path, folder: Path) -> None:
    from hostile.cases import CannotBeMade

    os.chdir(user)
    try:
        path = case.write(user)
    except CannotBeMade as error:
        (folder / "skip").write_text(str(error) or "cannot be made here")
        return
    (folder / "path").write_bytes(os.fsencode(path))


def _run(case, path: Path, user: Path, log: int) -> None:
    from hostile.steps import Run, all_ways

    os.chdir(user.parent)
    if case.relative:
        os.chdir(user)
        path = Path(path.name)
    (case.run or all_ways)(Run(case, path, user if not case.relative else Path("."), log))


def _without_rights() -> None:
    """Give up root's right to read and write what permissions forbid (Linux; elsewhere nothing happens)."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or sys.platform != "linux":
        return
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    ctypes.CDLL(None, use_errno=True).capset(header, (ctypes.c_uint32 * 6)())


def _read_log(log: str, outcome: Outcome) -> str:
    """Put what a run noted into its outcome; the step that it began last."""
    highest, step = 0, "start"
    for text in log.splitlines():
        line = json.loads(text)
        if "fault" in line:
            outcome.faults.append((line["fault"], line["step"], line["what"]))
        elif "refused" in line:
            outcome.refused[line["refused"]] = line["what"]
        elif "after" in line:
            if line["peak"] > highest + 1:
                highest, outcome.peak_step = line["peak"], line["after"]
            step = "end"
        elif "step" in line:
            outcome.peak_step, step = (
                (line["step"], line["step"]) if step == "start" else (outcome.peak_step, line["step"])
            )
    return step


# --- what is left -------------------------------------------------------------------------------


def snapshot(work: Path) -> dict[str, str]:
    """What each file below a folder is: its kind, rights and contents."""
    found = {}
    for root, folders, files in os.walk(os.fsencode(work)):
        for name in folders + files:
            path = os.path.join(root, name)
            info = os.lstat(path)
            text = f"{stat.S_IFMT(info.st_mode):o} {stat.S_IMODE(info.st_mode):o}"
            if stat.S_ISLNK(info.st_mode):
                text += f" {os.readlink(path)!r}"
            elif stat.S_ISREG(info.st_mode):
                with open(path, "rb") as file:
                    text += " " + hashlib.sha256(file.read()).hexdigest()
            found[os.fsdecode(path)] = text
    return found


def left_behind(work: Path, before: dict[str, str]) -> list[tuple[str, str, str]]:
    """Faults of the files that are there after a run."""
    after = snapshot(work)
    faults = [
        ("lost", "", f"{name!r} was {'removed' if name not in after else 'changed'}")
        for name in (os.path.relpath(p, work) if p not in after else p for p in before if after.get(p) != before[p])
    ]
    for name in sorted(after.keys() - before.keys()):
        path = Path(name)
        if path.is_symlink() or not path.is_file():
            continue
        wrong = not_whole(path)
        if wrong:
            faults.append(("half", "", f"{os.path.relpath(name, work)!r}: {wrong}"))
    return faults


def not_whole(path: Path) -> str:
    """Why a file that the package wrote is not whole; empty where it is."""
    import av

    size = path.stat().st_size
    if path.suffix == ".part" or ".part" in path.suffixes:
        return f"a part of {size} bytes is left"
    try:
        if path.suffix == ".wav":
            with wave.open(str(path)) as file:
                there = len(file.readframes(file.getnframes()))
                if there != file.getnframes() * file.getnchannels() * file.getsampwidth() or not there:
                    return f"{there} bytes of sound"
        elif path.suffix in (".mp4", ".m4a"):
            with av.open(str(path)) as container:
                for stream in container.streams:
                    if sum(p.size for p in container.demux(stream)) == 0:
                        return f"stream {stream.index} is empty"
                    container.seek(0)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".html" and not path.read_text().rstrip().endswith("</html>"):
            return "no whole page"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


# --- full disks ---------------------------------------------------------------------------------


def mount_tiny(folder: Path, kilobytes: int, more: str = "") -> None:
    """Mount a small disk on a folder; it goes when the input is done. ``more`` are further options of the mount."""
    from hostile.cases import CannotBeMade

    folder.mkdir(parents=True, exist_ok=True)
    options = ",".join(filter(None, [f"size={kilobytes}k", more]))
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise CannotBeMade(f"no small disk can be mounted here ({error})") from error


def _unmount(work: Path) -> None:
    for folder in work.iterdir():
        if folder.is_dir() and not folder.is_symlink() and os.path.ismount(folder):
            subprocess.run(["umount", str(folder)], check=False, capture_output=True)
