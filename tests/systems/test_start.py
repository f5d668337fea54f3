"""Inference imports only what it runs: a new process generates, and heavy modules stay out of it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from v2a_nb.clip import Clip
from v2a_nb.media import save_mp4
from v2a_nb.systems.registry import with_weights

HEAVY = (
    "accelerate", "captum", "datasets", "diffusers", "huggingface_hub", "librosa", "matplotlib", "networkx", "numba",
    "pandas", "plotly", "pydantic", "requests", "sklearn", "sympy", "torch._dynamo", "torch._inductor",
    "torch.distributed.tensor", "transformers",
)  # fmt: skip
"""Packages and modules that no generation with the shipped weights needs."""
WORLD = ("scipy", "v2a_nb.world")
"""What only those import that take a sound from Strike World: its ambience, or the whole soundtrack."""
SCRIPT = """
import sys
from v2a_nb.cli import main
status = main(sys.argv[1:])
print(*sorted(sys.modules))
sys.exit(status)
"""


@pytest.mark.parametrize("system", with_weights())
def test_generation_imports_no_heavy_module(system: str, tmp_path):
    video = save_mp4(Clip(np.zeros((16, 64, 64, 3), np.uint8), fps=25.0), None, tmp_path / "a.mp4")
    command = [sys.executable, "-c", SCRIPT, "generate", str(video), "--system", system, "--out", str(tmp_path / "out")]
    if system in ("egosonics", "action2sound", "vta_ldm"):
        command += ["--steps", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "a.wav").exists()
    modules = set(done.stdout.split())
    assert "torch" in modules and f"v2a_nb.systems.{system}.system" in modules
    unwanted = HEAVY + (WORLD if system in ("vaura", "egosonics") else ())
    assert sorted(modules & set(unwanted)) == []
