"""What the recipes share: beginning a run, work on all cores, the card beside the weights, exit statuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from v2a_nb.errors import UsageError, V2AError
from v2a_nb.files import write_text


def init_run(out: str | Path, resume: bool = False) -> Path:
    """The folder of a run.

    Raises:
        V2AError: it holds a run and ``resume`` is not set.
    """
    out = Path(out)
    if (out / "log.jsonl").exists() and not resume:
        raise V2AError(f"{out} holds a run already; give --resume, or another --out")
    return out


def check_same_run(path: Path, told: dict, may_differ: Sequence[str] = ()) -> None:
    """Keep what a run was made with in ``path``; another run's results must not be taken for this one's.

    Args:
        told: settings, by name.
        may_differ: names that are not compared.

    Raises:
        V2AError: the folder holds a run with other settings.
    """
    told = json.loads(json.dumps(told))
    if not path.exists():
        write_text(path, json.dumps(told) + "\n")
        return
    before = json.loads(path.read_text())
    other = [k for k in told if told[k] != before.get(k) and k not in may_differ]
    if other:
        raise V2AError(
            f"{path.parent} holds a run with another {', '.join(other)}; give what it was made with, or another --out"
        )


def card_of(*, data_seed: int, steps: int, seed: int, **more: object) -> dict[str, object]:
    """What the card of every ``tiny`` says, and ``more``: goes to ``config.json``."""
    told = {"data": "Strike World", "data_seed": data_seed, "steps": steps, "seed": seed}
    return {**told, **more, "versions": versions()}


def versions() -> dict[str, str]:
    """Of what was computed with."""
    return {"torch": torch.__version__.split("+")[0], "numpy": np.__version__}


def rounded(value: object) -> object:
    """Numbers to four places, in dictionaries and lists as well."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return round(value, 4) if isinstance(value, float) else value


def write_readme(folder: str | Path, text: str) -> Path:
    """The model card beside the weights."""
    return write_text(Path(folder) / "README.md", text)


def run(command: Callable[[], object], say: Callable[[str], None] = print) -> int:
    """Run a command and say what it returns; the exit status, as those of ``v2a-nb``: 0, 1 or 2."""
    try:
        say(str(command()))
    except V2AError as error:
        print(f"v2a-nb: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0
