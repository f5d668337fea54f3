"""The plan of a system: its parts, how often each is called, its CPU seconds and bytes.

``python benchmarks/profile.py --system NAME`` generates the sound of a Strike World clip on one thread, once to warm up
and once watched; between them it begins a stream. A part is a module, or a method of one; its time holds that of the
parts inside of it. The cached steps of V-AURA, which are no module, are counted with ``decoder.cached()``.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import sysconfig
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

if __name__ == "profile":  # a script of this folder imports torch, which wants the standard library's module
    _spec = importlib.util.spec_from_file_location("profile", Path(sysconfig.get_path("stdlib")) / "profile.py")
    assert _spec is not None and _spec.loader is not None
    sys.modules["profile"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["profile"])

os.environ.setdefault("OMP_NUM_THREADS", "1")  # numpy and torch read it when they are loaded


@dataclass
class Part:
    """A module or a method of a system, with what its calls cost.

    Attributes:
        name: path in the system.
        kind: name of its class.
        depth: 0 for the system's own parts.
        weights: bytes of its parameters and buffers.
        calls: how often it ran.
        seconds: CPU seconds, with the parts inside of it.
        output: bytes of all that it returned.
    """

    name: str
    kind: str
    depth: int
    weights: int
    calls: int = 0
    seconds: float = 0.0
    output: int = 0


def size_of(value: object) -> int:
    """Bytes of the tensors in a value."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(size_of, value.values()))
    return sum(map(size_of, value)) if isinstance(value, list | tuple) else 0


def timed(part: Part, work: Callable) -> Callable:
    """The same function, which adds to a part what it took."""

    def run(*args: object, **kwargs: object) -> object:
        began = time.process_time()
        result = work(*args, **kwargs)
        part.seconds += time.process_time() - began
        part.calls += 1
        part.output += size_of(result)
        return result

    return run


def watch(system, stack: ExitStack, depth: int) -> list[Part]:
    """Watch all modules of a system down to a depth, and the methods of its own parts, until the stack is left."""
    import torch

    parts = []
    for name, module in system.named_modules():
        level = name.count(".")
        if not name or level >= depth or isinstance(module, torch.nn.ModuleList):
            continue
        weights = sum(t.nbytes for t in (*module.parameters(), *module.buffers()))
        part = Part(name, type(module).__name__, level, weights)
        parts.append(part)
        stack.enter_context(mock.patch.object(module, "forward", timed(part, module.forward)))
        if level:
            continue
        # what is called on a part besides, such as an encoder's features and a codec's decode
        for method in ("features", "encode", "decode", "condition", "cached", "look"):
            if callable(work := getattr(module, method, None)):
                part = Part(f"{name}.{method}()", type(module).__name__, level, 0)
                parts.append(part)
                stack.enter_context(mock.patch.object(module, method, _method(part, work)))
    return parts


def _method(part: Part, work: Callable) -> Callable:
    """A watched method; where it returns a function, such as V-AURA's cached steps, that is watched with it."""
    run = timed(part, work)

    def call(*args: object, **kwargs: object) -> object:
        result = run(*args, **kwargs)
        return timed(part, result) if callable(result) else result

    return call


def main() -> int:
    """Print a table, the dearest part first."""
    from v2a_nb.systems.registry import SYSTEMS, load
    from v2a_nb.world import strike_world

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--system", default="vaura", help=f"{', '.join(SYSTEMS)}, or a folder (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.56, help="of the clip (default: %(default)s)")
    parser.add_argument("--depth", type=int, default=2, help="of modules within modules (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=30, help="of the table (default: %(default)s)")
    args = parser.parse_args()
    system = load(Path(args.system) if Path(args.system).is_dir() else args.system)
    clip = strike_world(seed=3, clips=1, seconds=args.seconds, size=112)[0].clip.silent()
    system.generate(clip, seed=0)
    began = time.process_time()
    piece = next(iter(system.stream(clip, seed=0)))
    first = time.process_time() - began
    with ExitStack() as stack:
        parts = watch(system, stack, args.depth)
        began = time.process_time()
        system.generate(clip, seed=0)
        total = time.process_time() - began
    print(f"{system.title}, {clip.duration:g} s: {total:.2f} CPU s", end="")
    print(f"; of a stream the first {piece.duration:.2f} s after {first:.2f} CPU s")
    parts = sorted((part for part in parts if part.calls), key=lambda part: -part.seconds)[: args.rows]
    print(f"{'part':44} {'class':22} {'calls':>6} {'CPU s':>7} {'share':>6} {'weights':>10} {'output':>10}")
    for part in parts:
        print(
            f"{'  ' * part.depth + part.name:44} {part.kind:22} {part.calls:6} {part.seconds:7.3f} "
            f"{part.seconds / total:6.1%} {part.weights / 1e6:7.2f} MB {part.output / 1e6:7.2f} MB"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
