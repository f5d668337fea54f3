"""Features that an evaluation keeps on disk, so that it can be taken up, and repeated with other metrics.

``v2a-nb evaluate --cache DIR``: what an extractor gives of a sound or a video is computed once for all runs that share
the folder. A feature is found by its name, which holds the extractor's tag, and by the digest of what it was computed
of: changed weights, sounds and videos have other features, and a renamed file has the same.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from v2a_nb.clip import Sound
from v2a_nb.errors import MediaError
from v2a_nb.files import atomic

VERSION = "1"
"""To be raised when a feature of the same name and the same input changes."""
_SCALARS = (bool, int, float)


class FeatureCache:
    """A folder of features.

    Args:
        root: made when the first feature is kept.

    Examples:
        >>> cache = FeatureCache("features")
        >>> [float(cache.get("mean", "0123", lambda: np.float32(x))) for x in (1, 2)]  # the second is not computed
        [1.0, 1.0]
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def get(self, name: str, digest: str, compute: Callable[[], Any]) -> Any:
        """Return the feature ``name`` of the input with this digest, computed where it is not there or damaged.

        Args:
            name: says what the feature is, and of which weights.
            digest: of the input.
            compute: returns an array, a number, or a tuple of these.

        Raises:
            MediaError: the feature cannot be written.
        """
        key = hashlib.sha256(f"{VERSION}\n{name}\n{digest}".encode()).hexdigest()
        path = self.root / key[:2] / f"{key[2:40]}.npz"
        try:
            with np.load(path, allow_pickle=False) as arrays:
                parts = [arrays[f"part{k}"] for k in range(len(arrays.files) - 1)]
                return _joined(parts, str(arrays["shape"]))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
            pass  # damaged: it is computed and written again
        value = compute()
        parts, shape = _parts(value)
        try:
            with atomic(path) as partial, partial.open("wb") as file:
                np.savez(file, shape=shape, **{f"part{k}": part for k, part in enumerate(parts)})
        except OSError as error:
            raise MediaError(f"{self.root}: features cannot be kept there: {error.strerror or error}") from error
        return value


def _parts(value: Any) -> tuple[list[np.ndarray], str]:
    """The arrays of a feature, and a letter for each: ``a`` an array, ``n`` a number; in brackets for a tuple."""
    values = value if isinstance(value, tuple) else (value,)
    letters = "".join("n" if isinstance(part, _SCALARS) else "a" for part in values)
    return [np.asarray(part) for part in values], f"({letters})" if isinstance(value, tuple) else letters


def _joined(parts: list[np.ndarray], shape: str) -> Any:
    values = tuple(
        part.item() if letter == "n" else part for part, letter in zip(parts, shape.strip("()"), strict=True)
    )
    return values if shape.startswith("(") else values[0]


def digest_of_sound(sound: Sound) -> str:
    """The digest of a sound's samples and rate."""
    samples = np.ascontiguousarray(sound.samples)
    head = f"{sound.sample_rate} {samples.shape} {samples.dtype}".encode()
    return hashlib.sha256(head + samples.tobytes()).hexdigest()


def digest_of_file(path: Path) -> str:
    """The digest of a file's bytes.

    Raises:
        MediaError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MediaError(f"{path} cannot be read: {error.strerror or error}") from error
