"""Low-bitrate H.264 in memory, for the look of compressed video."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from v2a_nb.errors import V2AError

RATE = 25


def compressed(pictures: np.ndarray, crf: int) -> np.ndarray:
    """Encode pictures as H.264 and decode them again: as many as before, in the same order, with block artefacts.

    Args:
        pictures: uint8 [T, H, W, 3].
        crf: constant rate factor; the higher, the worse.

    Returns:
        uint8 [T, H, W, 3]. On one machine the same pictures give the same bytes.
    """
    import av

    count, height, width = pictures.shape[:3]
    padded = np.pad(pictures, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    encoder: av.VideoCodecContext = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = padded.shape[2], padded.shape[1], "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, RATE), Fraction(RATE)
    encoder.thread_count = 1
    # without cpu-independent, x264 differs from run to run at small sizes
    encoder.options = {"crf": str(crf), "preset": "ultrafast", "x264-params": "cpu-independent=1:bframes=0"}
    decoder: av.VideoCodecContext = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    packets = []
    for k, picture in enumerate(padded):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p", threads=1)
        frame.pts, frame.time_base = k, encoder.time_base
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    frames = [frame for packet in packets for frame in decoder.decode(packet)]
    frames += decoder.decode(None)
    frames.sort(key=lambda frame: frame.pts)
    if len(frames) != count:  # never a picture of something else
        raise V2AError(f"H.264: {count} pictures were encoded and {len(frames)} decoded; try another version of PyAV")
    return np.stack([f.reformat(format="rgb24", threads=1).to_ndarray()[:height, :width] for f in frames])
