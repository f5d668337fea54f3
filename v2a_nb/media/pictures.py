"""Pictures as players show them: upright, with square pixels, in the colours of an ordinary screen."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

PQ, HLG = 16, 18  # transfer characteristics, by their numbers in ITU-T H.273
BT709, UNSPECIFIED, SMPTE170M, BT2020 = 1, 2, 6, 9  # matrix coefficients and primaries, by the same numbers
WHITE_NITS, PEAK_NITS = 203.0, 1000.0  # of BT.2408: diffuse white, and the brightest highlight that is kept apart
LIKE_DB = 45.0  # PSNR from which on pictures look alike
KNEE = 0.5  # of diffuse white: darker pixels stay as they are
TO_BT709 = np.array(  # linear light, BT.2087
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)


class Orientation(NamedTuple):
    """How a stored picture becomes the shown one: rows and columns are swapped first, then mirrored."""

    swapped: bool = False
    left_right: bool = False
    top_bottom: bool = False

    @property
    def mirrored(self) -> bool:
        """Whether it is a mirror image, and not only turned."""
        return (self.swapped + self.left_right + self.top_bottom) % 2 == 1


def orientation_of(frame) -> Orientation:
    """What the frame's display matrix asks for, to the nearest quarter turn.

    Ask only one frame of a file: PyAV's side data keeps a frame in memory until Python collects cycles.
    """
    from av.sidedata.sidedata import Type

    try:
        side_data = frame.side_data
    except ValueError:  # a kind that this PyAV does not know
        return Orientation()
    if not side_data or Type.DISPLAYMATRIX not in side_data:
        return Orientation()
    a, b, _, c, d, *_ = np.frombuffer(bytes(side_data[Type.DISPLAYMATRIX]), np.int32).tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, a < 0, d < 0)
    return Orientation(True, c < 0, b < 0)


def pixel_shape(stream) -> float:
    """Width over height of one pixel; 1 where the file says nothing, or nothing that can be true."""
    ratio = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    return float(ratio) if ratio and 1 / 8 <= ratio <= 8 else 1.0


def shown_size(frame, how: Orientation, sar: float) -> tuple[int, int]:
    """Width and height of the picture as players show it, in square pixels."""
    width, height = max(1, round(frame.width * sar)), frame.height
    return (height, width) if how.swapped else (width, height)


def upright(frame, how: Orientation, shown: tuple[int, int], size: int | None) -> np.ndarray:
    """The picture as players show it, uint8 [H, W, 3]: turned and mirrored by its display matrix, in square pixels.

    Its short side has at most ``size`` pixels. Colours follow the frame's tags; without tags, a picture of more than
    1279 columns or 576 rows is BT.709, and a smaller one BT.601. HDR (PQ, HLG) becomes SDR: see :func:`tone_mapped`.

    Args:
        frame: as PyAV decoded it.
        how: the orientation of the video's pictures.
        shown: width and height of the video's first picture as players show it, which this one takes too.
        size: pixels; None keeps all of them.
    """
    width, height = shown
    if size and min(width, height) > size:
        scale = size / min(width, height)
        width, height = (max(2, int(round(v * scale))) for v in (width, height))
    if how.swapped:
        width, height = height, width
    hdr = frame.color_trc in (PQ, HLG)
    # left to itself, swscale starts threads for every frame
    options: dict[str, Any] = {"format": "rgb48le" if hdr else "rgb24", "threads": 1}
    if frame.colorspace == UNSPECIFIED and frame.format.components[0].is_luma:
        matrix = assumed_matrix(frame)
        if matrix != SMPTE170M:  # which is swscale's own choice
            options["src_colorspace"] = matrix
    if (width, height) != (frame.width, frame.height):
        smaller = width <= frame.width and height <= frame.height
        options |= {"width": width, "height": height, "interpolation": "AREA" if smaller else "BICUBIC"}
    picture = frame.to_ndarray(**options)
    if hdr:
        picture = tone_mapped(picture, frame.color_trc, bt2020=frame.color_primaries in (BT2020, UNSPECIFIED))
    if how.swapped:
        picture = picture.transpose(1, 0, 2)
    return picture[:: -1 if how.top_bottom else 1, :: -1 if how.left_right else 1]


def assumed_matrix(frame) -> int:
    """The matrix coefficients that players assume of a picture without tags: BT.2020 for HDR, else by its size."""
    if frame.color_trc in (PQ, HLG):
        return BT2020
    return BT709 if frame.width >= 1280 or frame.height > 576 else SMPTE170M


def is_rgb(kind) -> bool:
    """Whether pixels of a format are red, green and blue, or numbers of such in a palette."""
    return kind.is_rgb or kind.has_palette


def suffers_from_420(picture: np.ndarray) -> bool:
    """Whether an RGB picture, uint8 [H, W, 3], loses visibly, under :data:`LIKE_DB`, where its colours are halved."""
    import av

    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    again = frame.reformat(format="yuv420p").to_ndarray(format="rgb24")
    error = np.mean(np.square(again.astype(np.float32) - picture))
    return bool(error > 255**2 / 10 ** (LIKE_DB / 10))


def tone_mapped(picture: np.ndarray, transfer: int, *, bt2020: bool = True) -> np.ndarray:
    """An HDR picture for an ordinary screen, uint8 [H, W, 3].

    Light is made linear (PQ: SMPTE ST 2084; HLG: ARIB STD-B67 on a screen of 1000 nits), with the diffuse white of
    BT.2408 (203 nits) as 1. The brightest of red, green and blue tells by how much all three are dimmed: not at all up
    to half of white, and from there along an extended Reinhard curve on which 1000 nits become full scale. Then BT.2020
    becomes BT.709, and the gamma is that of sRGB.

    Args:
        picture: uint16 [H, W, 3], full range.
        transfer: ``PQ`` or ``HLG``.
        bt2020: whether its primaries are those of BT.2020; else they are kept.
    """
    light = _linear(transfer)[picture]  # [H, W, 3]
    if transfer == HLG:  # the system gamma of 1.2 acts on luminance
        luminance = light @ np.array([0.2627, 0.6780, 0.0593], np.float32)
        light *= (PEAK_NITS / WHITE_NITS * np.maximum(luminance, 1e-6) ** 0.2)[..., None]
    brightest = light.max(axis=-1, keepdims=True)
    over = np.maximum(brightest - KNEE, 0) / (1 - KNEE)
    most = (PEAK_NITS / WHITE_NITS - KNEE) / (1 - KNEE)
    dimmed = np.minimum(brightest, KNEE) + (1 - KNEE) * over * (1 + over / most**2) / (1 + over)
    light *= dimmed / np.maximum(brightest, 1e-6)
    if bt2020:
        light = light @ TO_BT709.T
    light = np.clip(light, 0, 1)
    coded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(255 * coded).astype(np.uint8)


@lru_cache(maxsize=2)
def _linear(transfer: int) -> np.ndarray:
    """Light by code, float32 [65536]: PQ over diffuse white; HLG, 0 to 1 of the scene."""
    code = np.arange(65536) / 65535
    if transfer == PQ:
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        power = code ** (1 / m2)
        return (10000 / WHITE_NITS * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)).astype(np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12).astype(np.float32)
