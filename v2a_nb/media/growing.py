"""A wav that can be played while it is made."""

from __future__ import annotations

import wave
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from v2a_nb.clip import Sound
from v2a_nb.errors import MediaError


def growing_wav(pieces: Iterable[Sound], path: Path, *, overwrite: bool = False) -> Iterator[Sound]:
    """Pass consecutive sounds on, and write each to a 16-bit wav first.

    After each piece the file is a whole wav of what is there so far. It is removed at the end, however that comes: it
    is the way to a sound, and the sound is elsewhere.

    Args:
        pieces: all of one rate and as many channels.
        path: the file.
        overwrite: whether a file of that name may be replaced.

    Raises:
        MediaError: a file of that name is there, or it cannot be written.

    Examples:
        >>> from v2a_nb import media
        >>> pieces = growing_wav([Sound(np.zeros(800), 8000)] * 2, Path("film.stream.wav"))
        >>> [(piece.n, media.open_sound("film.stream.wav").n) for piece in pieces], Path("film.stream.wav").exists()
        ([(800, 800), (800, 1600)], False)
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "w+b" if overwrite else "x+b")  # noqa: SIM115 - closed below, before it is removed
    except FileExistsError as error:
        raise MediaError(
            f"{path} is there already, perhaps of a command that was ended; remove it, choose another --out, or give "
            "--overwrite"
        ) from error
    except OSError as error:
        raise MediaError(f"{path} cannot be written: {error.strerror}") from error
    try:
        with file, wave.open(file, "wb") as out:
            for k, piece in enumerate(pieces):
                if k == 0:
                    out.setparams((piece.channels, 2, piece.sample_rate, 0, "NONE", ""))
                whole = np.round(piece.samples.T.clip(-1, 1) * 32767).astype("<i2")
                out.writeframes(whole.tobytes())  # which also says in the header how long it is now
                file.flush()
                yield piece
    finally:
        path.unlink(missing_ok=True)
