"""Train a recipe for a few steps, as one of several processes or alone: NAME OUT CACHE ACCUMULATION."""

from __future__ import annotations

import sys

from v2a_nb.training import loop
from v2a_nb.training.registry import train

name, out, cache, accumulation = sys.argv[1:]
loop._has_bf16 = lambda device: False  # float32, so that sums of two halves are what they are
train(name, steps=2, seed=1, out=out, cache=cache, accumulation=int(accumulation))
