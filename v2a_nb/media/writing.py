"""Writing sounds and videos; files get their names when they are complete."""

from __future__ import annotations

import wave as wave_file
from pathlib import Path

import numpy as np

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import MediaError, check_types
from v2a_nb.files import atomic
from v2a_nb.media import mp4


@check_types
def save_wav(sound: Sound, path: str | Path) -> Path:
    """Write a sound as 16-bit PCM; samples beyond full scale are clipped.

    The file gets its name when it is complete, so that no half-written file is left behind.

    Returns:
        ``path``.

    Raises:
        MediaError: the file cannot be written.
        UsageError: an argument is of the wrong type.
    """
    path = Path(path)
    pcm = np.clip(np.round(sound.samples.T * 32767.0), -32768, 32767).astype("<i2")
    try:
        with atomic(path) as partial, wave_file.open(str(partial), "wb") as file:
            file.setnchannels(sound.channels)
            file.setsampwidth(2)
            file.setframerate(sound.sample_rate)
            file.writeframes(pcm.tobytes())
    except OSError as error:
        raise MediaError(f"{path}: cannot be written: {error}") from error
    return path


@check_types
def save_mp4(clip: Clip, sound: Sound | None, path: str | Path, *, crf: int = 20, preset: str = "veryfast") -> Path:
    """Write a clip as H.264 with its own sound, or another one, as AAC.

    The sound becomes exactly as long as the pictures and starts at zero. The encoder's delay is written as an edit
    list, so that players and :func:`open` put a click back where it was to within 5 ms. Pictures of odd width or
    height lose their last column or row, which H.264 in 4:2:0 cannot hold. The file gets its name when it is complete.

    Args:
        clip: gives the pictures and their times.
        sound: a soundtrack, cut or filled to the clip's length; None writes the clip's own sound, if it has one.
        path: the file to write.
        crf: the encoder's constant rate factor, 0 (best) to 51.
        preset: the encoder's preset, from ``"ultrafast"`` to ``"veryslow"``.

    Returns:
        ``path``.

    Raises:
        MediaError: the file cannot be written, or the pictures are too small for H.264.
        UsageError: an argument is of the wrong type.
    """
    sound = clip.sound if sound is None else sound
    ends = np.append(clip.times[1:], max(clip.duration, clip.times[-1] + 1e-3))
    pictures = zip(clip.frames, clip.times.tolist(), ends.tolist(), strict=True)
    sound = None if sound is None else sound.fit(clip.duration)
    return mp4.write(pictures, sound, path, fps=clip.fps, crf=crf, preset=preset)
