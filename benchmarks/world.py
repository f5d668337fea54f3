"""Strike World clips a second on one core, in memory: ``python benchmarks/world.py``."""

from __future__ import annotations

import time

from v2a_nb.world import arrays


def main() -> int:
    """Print the rate at two picture sizes."""
    for size in (64, 112):
        arrays(1, 8, size=size)
        began = time.process_time()
        arrays(2, 100, size=size)
        rate = 100 / (time.process_time() - began)
        print(f"{size} px, 25 fps, 16 kHz, 2.56 s: {rate:.1f} clips a second of one core")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
