"""Opening containers and finding their streams."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from v2a_nb.errors import MediaError
from v2a_nb.media.finding import check_file


def container(path: str | Path):
    import av
    from av.error import FFmpegError

    file = check_file(path)
    try:
        return av.open(os.path.abspath(file))  # in full: FFmpeg would take "take:1.mp4" for an address
    except (FFmpegError, OSError, ValueError) as error:
        raise MediaError(
            f"{path}: cannot be read as video or sound (damaged, cut off, or another kind of file)"
        ) from error


def video_stream(container, path: str | Path):
    # a cover picture inside a sound file is no video
    real = [s for s in container.streams.video if not s.disposition & s.disposition.__class__.attached_pic]
    if not real:
        raise MediaError(f"{path}: no video stream in this file")
    real[0].thread_type = "AUTO"
    return real[0]


def first_frame(decoder: Iterator, path: str | Path):
    from av.error import FFmpegError

    try:
        return next(decoder)
    except (StopIteration, FFmpegError) as error:
        raise MediaError(f"{path}: not one picture could be decoded") from error


def fps_of(video) -> float:
    rate = video.average_rate or video.guessed_rate or video.base_rate or Fraction(25)
    return float(rate)


def duration_of(container, video) -> float:
    if video.duration:
        return float(video.duration * video.time_base)
    return container.duration / 1e6 if container.duration else 0.0
