"""Two processes train each recipe as one process does with the same batches (``make golden`` runs these)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rank_parts import in_two_processes

SCRIPT = Path(__file__).with_name("recipe_in_ranks.py")
TRAINED = ("vaura", "egosonics", "action2sound", "vocoder", "av_sim", "av_sync", "vaas", "summary")


@pytest.mark.golden
@pytest.mark.parametrize("name", TRAINED)
def test_two_processes_are_one_with_the_same_batches(tmp_path, name):
    cache = str(tmp_path / "cache")
    in_two_processes(SCRIPT, name, str(tmp_path / "two"), cache, "1")
    rendered = {p: p.stat().st_mtime_ns for p in Path(cache).rglob("*.npy")}
    command = [sys.executable, str(SCRIPT), name, str(tmp_path / "one"), cache, "2"]
    made = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[-3000:]
    states = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("state.pt"))
    assert states and Path("state/state.pt") in states
    for path in states:
        one, two = (torch.load(tmp_path / run / path, weights_only=True)["module"] for run in ("one", "two"))
        assert one.keys() == two.keys()
        for key, value in one.items():
            assert torch.allclose(value.float(), two[key].float(), atol=1e-5, rtol=1e-5), f"{path}: {key}"
    # what hangs on the clips alone was computed by one process, once, and read by all others
    assert all(p.stat().st_mtime_ns == time for p, time in rendered.items())
