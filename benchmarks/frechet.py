"""The distances of two sets of vectors on one core: ``python benchmarks/frechet.py [--vectors 1000 --channels 512]``.

CPU milliseconds, best of several, of the Fréchet distance by the nuclear norm, as the package computes it, and by
SciPy's matrix root, where the installed version has one; and of the kernel distances and the neighbours.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # numpy reads it when it is loaded

import numpy as np  # noqa: E402


def by_root(first: np.ndarray, second: np.ndarray) -> float:
    """The Fréchet distance as published code computes it, with the root of the covariances' product."""
    from scipy.linalg import sqrtm

    s, t = (np.cov(x, rowvar=False) for x in (first, second))
    apart = first.mean(0) - second.mean(0)
    return float(apart @ apart + np.trace(s) + np.trace(t) - 2 * np.trace(np.real(sqrtm((s @ t).astype(complex)))))


def main() -> int:
    """Print a row per distance."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--vectors", type=int, default=1000)
    parser.add_argument("--channels", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    from v2a_nb.metrics.density_coverage import density_coverage
    from v2a_nb.metrics.frechet import frechet_distance
    from v2a_nb.metrics.kernel_distance import kernel_audio_distance, kernel_inception_distance

    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, args.vectors, args.channels))
    second = 1.2 * second + 0.1
    print(f"{args.vectors} x {args.channels} against the same, one thread; best of {args.rounds}")
    ways: dict[str, Callable] = {
        "Fréchet distance": frechet_distance, "the same by the matrix root": by_root,
        "kernel audio distance": kernel_audio_distance, "kernel inception distance": kernel_inception_distance,
        "density and coverage": lambda *sets: density_coverage(*sets)["coverage"],
    }  # fmt: skip
    for name, distance in ways.items():
        best, value = float("inf"), float("nan")
        for _ in range(args.rounds):
            began = time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                value = distance(first, second)
            best = min(best, time.process_time() - began)
        print(f"  {name:28} {1000 * best:8.1f} CPU ms   value {value:.6f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
