"""A wav that can be played while it is made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from os import SEEK_CUR
from pathlib import Path

from v2a_nb.clip import Sound
from v2a_nb.errors import MediaError
from v2a_nb.media.writing import pcm, wav_header

BITS = 16


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
        >>> import numpy as np
        >>> from v2a_nb import media
        >>> pieces = growing_wav([Sound(np.zeros(800), 8000)] * 2, Path("film.stream.wav"))
        >>> [(piece.n, media.open_sound("film.stream.wav").n) for piece in pieces], Path("film.stream.wav").exists()
        ([(800, 800), (800, 1600)], False)
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if overwrite:
            path.unlink(missing_ok=True)  # where it is a link, what it leads to stays as it is
        file = path.open("xb")
    except FileExistsError as error:
        raise MediaError(
            f"{path} is there already, perhaps of a command that was ended; remove it, choose another --out, or give "
            "--overwrite"
        ) from error
    except OSError as error:
        raise MediaError(f"{path}: cannot be written: {error.strerror or error}") from error
    size = 0
    try:
        with file:
            for piece in pieces:
                try:
                    file.seek(0)
                    data = pcm(piece.samples, BITS)
                    wav_header(file, piece, BITS, size + len(data), path)
                    file.seek(size, SEEK_CUR)
                    size += file.write(data)
                    file.flush()
                except OSError as error:
                    raise MediaError(f"{path}: cannot be written: {error.strerror or error}") from error
                yield piece
    finally:
        path.unlink(missing_ok=True)
