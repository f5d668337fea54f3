"""Reading random batches of features: memory-mapped shards beside Arrow, through ``datasets``.

    python benchmarks/feature_store.py

The feature store keeps its table in a ``datasets.Dataset`` and its arrays in shards. This prints why: milliseconds for
a batch of clips drawn at random, single-threaded, warmed up, the median of many batches.
"""

from __future__ import annotations

import argparse
import tempfile
import time

import numpy as np
from datasets import Array2D, Dataset, Features

from v2a_nb.data.features import ShardedArray

SHAPE = (128, 384)


def batch_ms(read, rows: int, size: int, batches: int) -> float:
    """Median milliseconds of ``read(numbers)`` for random numbers under ``rows``."""
    rng, times = np.random.default_rng(0), []
    for k in range(batches + 5):
        numbers = np.sort(rng.integers(0, rows, size))
        start = time.perf_counter()
        total = float(read(numbers)[:, 0, 0].sum())
        times.append(time.perf_counter() - start)
        assert np.isfinite(total)
        if k < 5:
            times.clear()
    return 1000 * float(np.median(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--batches", type=int, default=100)
    args = parser.parse_args()
    values = np.random.default_rng(1).standard_normal((args.clips, *SHAPE)).astype(np.float16)
    with tempfile.TemporaryDirectory() as folder:
        names = [f"{folder}/{k}.npy" for k in range(-(-args.clips // 40))]
        for k, name in enumerate(names):
            np.save(name, values[40 * k : 40 * k + 40])
        shards = ShardedArray([np.load(name, mmap_mode="r") for name in names])
        flat = Dataset.from_dict({"x": list(values.reshape(args.clips, -1))})
        flat.save_to_disk(f"{folder}/flat")
        flat = Dataset.load_from_disk(f"{folder}/flat").with_format("numpy")
        types = Features({"x": Array2D(SHAPE, "float16")})
        square = Dataset.from_dict({"x": list(values)}, features=types)
        square.save_to_disk(f"{folder}/square")
        square = Dataset.load_from_disk(f"{folder}/square").with_format("numpy")
        readers = {
            "memory-mapped shards": lambda rows: shards[rows],
            "datasets, Array2D": lambda rows: np.asarray(square[rows]["x"]),
            "datasets, flat lists": lambda rows: np.stack(flat[rows]["x"]).reshape(-1, *SHAPE),
        }
        first = None
        for name, read in readers.items():
            assert np.array_equal(read(np.array([3, 77])), values[[3, 77]])
            ms = batch_ms(read, args.clips, args.batch, args.batches)
            first = first or ms
            print(f"{name:24}{ms:8.2f} ms a batch of {args.batch}   {ms / first:5.2f} of the first")


if __name__ == "__main__":
    main()
