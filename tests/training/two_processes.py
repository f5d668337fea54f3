"""Run by ``accelerate launch`` in two processes: train the toy module and keep what each ends with."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from test_loop import Counting, line_batch

from v2a_nb.training.loop import OptimConfig, fit

out = Path(sys.argv[1])
module = fit(Counting(), line_batch, OptimConfig(steps=6, lr=1e-2, warmup=2), out)
torch.save(module.state_dict(), out / f"rank{os.environ['RANK']}.pt")
