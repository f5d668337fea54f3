"""Exact search in a pool on one core: ``python benchmarks/retrieval.py [--vectors 100000]``.

CPU milliseconds of :meth:`v2a_nb.data.pool.Pool.search`, best of several, for one query and for many at once, with
vectors held as float32 and as float16; and how often it finds what sorting all similarities finds.
"""

from __future__ import annotations

import argparse
import os
import time

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # numpy reads it when it is loaded

import numpy as np  # noqa: E402


def main() -> int:
    """Print a row per way of searching."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    from v2a_nb.data.pool import Pool, Source

    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((args.vectors, args.channels), dtype=np.float32)
    queries = rng.standard_normal((64, args.channels), dtype=np.float32)
    sources = [Source(f"r{i // 4:05d}", 3.0 * (i % 4), 3.0, world_seed=0) for i in range(args.vectors)]
    level = np.full(args.vectors, -50.0)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, vectors)]
    expected = np.argsort(-(unit[0] @ unit[1].T), axis=1, kind="stable")[:, :10]
    print(f"{args.vectors} vectors of {args.channels} channels, one thread; best of {args.rounds}")
    for half in (False, True):
        pool = Pool(vectors, vectors, sources, level, half=half)
        forbidden = pool.same_recording(sources[0])
        for what, asked, mask in (
            ("one query", queries[0], None),
            ("one query, its recording left out", queries[0], forbidden),
            ("64 queries, each", queries, None),
        ):
            best = float("inf")
            for _ in range(args.rounds):
                began = time.process_time()
                found = pool.search(asked, 10, forbidden=mask)[1]
                best = min(best, time.process_time() - began)
            each = 1000 * best / (len(asked) if asked.ndim == 2 else 1)
            wanted = expected if asked.ndim == 2 else expected[0]
            same = "" if mask is not None else f", {np.mean(found == wanted):.1%} of the ten best as by sorting"
            print(f"  {'float16' if half else 'float32'}, {what:34} {each:6.1f} CPU ms{same}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
