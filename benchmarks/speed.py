"""CPU milliseconds of what is called often, on one core: ``python benchmarks/speed.py``.

The tests count operations instead, because a clock says something about the machine, too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

os.environ["OMP_NUM_THREADS"] = "1"  # numpy and torch read it when they are loaded

import numpy as np
import torch


def milliseconds(work: Callable[[], object], rounds: int = 7) -> float:
    """CPU milliseconds of ``work``, the least of some rounds after a first one that is not counted."""
    best = float("inf")
    for i in range(rounds + 1):
        began = time.process_time()
        work()
        if i:
            best = min(best, 1000 * (time.process_time() - began))
    return best


def main() -> int:
    """Print a row for each."""
    from v2a_nb.audio.onsets import detect_onsets
    from v2a_nb.data.neighbours import Neighbours
    from v2a_nb.models.tiny_codec import TinyCodec
    from v2a_nb.models.vocoder import Vocoder
    from v2a_nb.world import STYLES, draw, sounds
    from v2a_nb.world.picture import frames

    wave = sounds(1, 1)[0]
    codec, vocoder = TinyCodec.from_pretrained("codec"), Vocoder.from_pretrained("vocoder")
    codes = codec.encode(torch.from_numpy(wave)[None])
    spectrogram = vocoder.spectrogram(torch.from_numpy(wave)[None])
    rng = np.random.default_rng(0)
    names, starts = rng.integers(0, 400, 100_000), rng.uniform(0, 4000, 100_000)
    work = {
        "onsets of 2.56 s": lambda: detect_onsets(wave),
        "codec: 2.56 s decoded": lambda: codec.decode(codes),
        "vocoder: 2.56 s decoded": lambda: vocoder.decode(spectrogram),
        "neighbours: 100,000 clips indexed and drawn for": lambda: Neighbours(names, starts, 3.0).draw(0),
        "neighbours: the same in one recording": lambda: Neighbours(0 * names, starts, 3.0).draw(0),
    }
    for style in STYLES:
        recording = draw(9, 3, style=style)
        work[f"world: 64 pictures of 112 px, {style}"] = lambda r=recording: frames(r, np.arange(64) / 25, 112, 25.0)
    for what, run in work.items():
        print(f"{what:50} {milliseconds(run):8.1f} CPU ms")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
