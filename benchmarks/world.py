"""Strike World clips a second on one core, in memory: ``python benchmarks/world.py``."""

from __future__ import annotations

import time

from v2a_nb.world import VERSIONS, arrays


def main() -> int:
    """Print the rate of both versions at two picture sizes."""
    for version in VERSIONS:
        for size in (64, 112):
            arrays(1, 8, size=size, version=version)
            began = time.process_time()
            arrays(2, 100, size=size, version=version)
            rate = 100 / (time.process_time() - began)
            print(f"version {version}, {size} px, 25 fps, 16 kHz, 2.56 s: {rate:.1f} clips a second of one core")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
