"""Optical flow: how the pictures of a clip move, drawn as colour or as plain numbers.

VTA-LDM (section 5.4, appendix D) gives its model "optical-flow video embeddings" beside those of the pictures, and its
released code has none. Here flow is drawn as colour and goes through the same encoder as the pictures
(:func:`flow_clip`), or it is a few numbers for each part of the picture (:func:`motion_vectors`).

Flow is dense inverse search (Kroeger et al. 2016), OpenCV's ``DISOpticalFlow`` down to single pixels: on textures that
are shifted by 0.3 to 8 pixels or turned by 3° its mean error was 0.03 pixels at most, at 64 and at 112 pixels. Of
scikit-image ``optical_flow_ilk`` and ``optical_flow_tvl1`` lost shifts of 8 pixels at 64, which a stick does in one
frame, and took 24 and 42 times as long. OpenCV is an optional extra: ``pip install "v2a-nb[flow]"``.

One thread takes 0.05 s for a second of video at 64 pixels and 25 frames a second, and 0.15 s at 112
(``python benchmarks/optical_flow.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from v2a_nb.clip import Clip
from v2a_nb.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

FULL_SPEED = 2.0
"""Widths of the picture a second that are drawn in full colour. In Strike World 99.7 % of all motion is slower."""
CELLS = 8
"""Rows, and columns, of the grid of :func:`motion_vectors`."""
ALGORITHMS = ("dis", "farneback")
"""Dense inverse search, and Farnebäck's polynomials with the settings of AV-Align."""
FLOW_SIDE = 64
"""Pixels of the shorter side of the pictures whose flow :func:`flow_vectors` takes."""
SMALLEST = 16
"""Pixels of the shorter side that flow needs."""


def flow(clip: Clip) -> np.ndarray:
    """How each pixel moves between frames that follow each other, pixels a second, float32 [T - 1, H, W, 2].

    Entry i is the motion from frame i to frame i + 1, at the places of frame i, to the right and downwards. It is
    divided by the time between the two, so that it does not depend on the frame rate.

    Raises:
        UsageError: OpenCV is not installed, or the pictures are smaller than :data:`SMALLEST`.
    """
    moved = np.zeros((clip.n - 1, clip.height, clip.width, 2), np.float32)
    for i, each in enumerate(displacements(clip)):
        moved[i] = each / (clip.times[i + 1] - clip.times[i])
    return moved


def displacements(clip: Clip, algorithm: str = "dis") -> Iterator[np.ndarray]:
    """By how many pixels each one moves from a frame to the next, float32 [H, W, 2], one pair of frames at a time.

    It is computed in one thread, so that every machine gives the same.

    Args:
        algorithm: one of :data:`ALGORITHMS`.

    Raises:
        UsageError: OpenCV is not installed, the pictures are smaller than :data:`SMALLEST`, or an unknown algorithm.
    """
    cv2 = need_opencv()
    if algorithm not in ALGORITHMS:
        raise UsageError(f"algorithm must be one of {', '.join(ALGORITHMS)}, not {algorithm!r}")
    if min(clip.height, clip.width) < SMALLEST:
        raise UsageError(
            f"{clip.name}: optical flow needs pictures of {SMALLEST} pixels or more, not {clip.width}x{clip.height}"
        )
    before = None
    for frame in clip.frames:
        grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
        if before is not None:
            threads = cv2.getNumThreads()
            cv2.setNumThreads(1)
            try:
                yield _between(cv2, before, grey, algorithm)
            finally:
                cv2.setNumThreads(threads)
        before = grey


def flow_clip(clip: Clip, full_speed: float = FULL_SPEED) -> Clip:
    """Flow drawn as colour: a clip of the same size, times and frame rate, for the encoder that reads the pictures.

    Each frame shows the motion that led to it, the first one that of the second; see :func:`flow_to_color`.

    Args:
        full_speed: see :data:`FULL_SPEED`; the same for all clips, so that they can be compared.

    Raises:
        UsageError: as :func:`displacements`.
    """
    frames = np.full_like(clip.frames, 255)
    for i, moved in enumerate(displacements(clip), 1):
        frames[i] = flow_to_color(moved / (clip.times[i] - clip.times[i - 1]) / clip.width, full_speed)
    if clip.n > 1:
        frames[0] = frames[1]
    return replace(clip, frames=frames)


def flow_to_color(flow: np.ndarray, full_speed: float = FULL_SPEED) -> np.ndarray:
    """Motion [..., 2] as colours, uint8 [..., 3]: the usual wheel, on which white stands still.

    The hue is the direction: red to the right, chartreuse downwards, cyan to the left, violet upwards. The saturation
    is the speed, full at ``full_speed`` and over it.

    Examples:
        >>> flow_to_color(np.array([[0.0, 0.0], [2.0, 0.0], [-1.0, 0.0]])).tolist()
        [[255, 255, 255], [255, 0, 0], [128, 255, 255]]
    """
    saturation = np.minimum(np.linalg.norm(flow, axis=-1) / full_speed, 1.0)[..., None]
    sixth = (np.arctan2(flow[..., 1], flow[..., 0]) * 3 / np.pi)[..., None]
    lacking = np.clip(2 - np.abs((sixth + np.array([0.0, -2.0, -4.0]) + 3) % 6 - 3), 0, 1)  # of hue: 1 is all there
    return np.round(255 * (1 - saturation * (1 - lacking))).astype(np.uint8)


def motion_vectors(clip: Clip, rate: float, cells: int = CELLS) -> np.ndarray:
    """Motion as plain numbers, float32 [ceil(rate * duration), 3 * cells * cells], widths of the picture a second.

    For each cell of a grid, row by row, there are the mean motion to the right and downwards, and how much the motion
    varies in the cell (standard deviation). Vector k is the mean over the time within half a step of ``k / rate``, so
    that no motion is lost between two vectors. Before the first and after the last frame it goes on as it was.

    Args:
        rate: vectors a second, such as those of the video encoder.
        cells: rows, and columns, of the grid.

    Raises:
        UsageError: a rate or a grid that makes no sense, or as :func:`displacements`.
    """
    if not rate > 0:
        raise UsageError(f"rate={rate}: a positive number of vectors a second is needed")
    if not 0 < cells <= min(clip.height, clip.width):
        raise UsageError(f"cells={cells} do not divide pictures of {clip.width}x{clip.height}")
    moving = [_of_cells(moved / clip.width, cells) for moved in displacements(clip)]
    n = max(1, int(np.ceil(rate * clip.duration - 1e-6)))
    if not moving:  # one frame: nothing is known to move
        return np.zeros((n, 3 * cells * cells), np.float32)
    gaps = np.diff(clip.times)
    speeds = np.stack(moving).reshape(len(gaps), -1) / gaps[:, None]  # [T - 1, D]
    # what has moved until each frame, going on at both ends; its differences are means without loss
    edges = (np.arange(n + 1) - 0.5) / rate
    way = np.concatenate([np.zeros((1, speeds.shape[1])), np.cumsum(speeds * gaps[:, None], axis=0)])
    times, reach = clip.times, 1 + clip.duration + 1 / rate
    times = np.concatenate([[times[0] - reach], times, [times[-1] + reach]])
    way = np.concatenate([way[:1] - speeds[:1] * reach, way, way[-1:] + speeds[-1:] * reach])
    at = np.clip(np.searchsorted(times, edges, side="right") - 1, 0, len(times) - 2)
    share = ((edges - times[at]) / (times[at + 1] - times[at]))[:, None]
    reached = way[at] * (1 - share) + way[at + 1] * share  # [n + 1, D]
    return (np.diff(reached, axis=0) * rate).astype(np.float32)


def flow_vectors(clip: Clip, how: str, encoder: Any) -> Tensor:
    """Vectors float32 [T, D] of a clip's optical flow, as many a second as a video encoder gives of its pictures.

    Flow is that of pictures whose shorter side is :data:`FLOW_SIDE` at most: the same at any size of the clip.

    Args:
        how: ``"color"``: drawn, and read by the encoder (D is its dim); ``"vectors"``: D is 3 * CELLS * CELLS.
        encoder: has ``features(clip)`` and ``rate``.

    Raises:
        UsageError: as :func:`displacements`.
    """
    import torch

    scale = FLOW_SIDE / min(clip.height, clip.width)
    if scale < 1:
        clip = clip.resize(round(clip.height * scale), round(clip.width * scale))
    if how == "vectors":
        return torch.from_numpy(motion_vectors(clip, encoder.rate))
    return encoder.features(flow_clip(clip)).float()


def _of_cells(moved: np.ndarray, cells: int) -> np.ndarray:
    """Mean and spread of motion [H, W, 2] in each cell: float64 [cells, cells, 3]."""
    height, width = moved.shape[:2]
    rows, columns = (np.round(np.arange(cells) * side / cells).astype(int) for side in (height, width))
    area = np.outer(np.diff([*rows, height]), np.diff([*columns, width]))[..., None]

    def mean(values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1) / area

    moved = moved.astype(np.float64)
    middle = mean(moved)
    variance = mean(moved**2) - middle**2
    return np.concatenate([middle, np.sqrt(variance.sum(-1, keepdims=True).clip(0))], axis=-1)


def _between(cv2: Any, before: np.ndarray, after: np.ndarray, algorithm: str) -> np.ndarray:
    if algorithm == "farneback":
        return cv2.calcOpticalFlowFarneback(before, after, None, 0.5, 3, 15, 3, 5, 1.2, 0)
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(0)
    return search.calc(before, after, None)


def need_opencv() -> Any:
    """OpenCV, which is an optional extra.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise UsageError('optical flow needs OpenCV: pip install "v2a-nb[flow]"') from error
    return cv2
