"""What the audio-visual encoders must tell of a clip's own sound beside matching it: when it rises, and in which bands.

Label-free, and ours: the paper's encoders were trained for weeks by others before InfoNCE saw them. InfoNCE says of three
seconds at once that they belong together or do not; in a thousand steps a network that starts from nothing does not
find out by that alone where to look, and when.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.audio.ast import BANDS as ALL_BANDS
from v2a_nb.audio.ast import HOP, SAMPLE_RATE
from v2a_nb.errors import UsageError

FRAME_BANDS, CLIP_BANDS = 8, 32
BINS = 4
"""Parts of the time from one frame to the next."""


def over_quiet(bank: Tensor, bands: int) -> Tensor:
    """How far each band is over the clip's own quiet level, [B, bands, T], nepers of power over 3, 0 to 3.

    The quiet level is the 20th percentile over time: of the room nothing need be guessed.

    Args:
        bank: [B, T, 128].
        bands: to which the 128 are averaged.
    """
    level = bank.unflatten(2, (bands, ALL_BANDS // bands)).mean(-1).transpose(1, 2)  # [B, bands, T]
    return (level - level.quantile(0.2, dim=-1, keepdim=True)).clamp(0, 9) / 3


def frame_targets(bank: Tensor, frames: int, fps: float) -> Tensor:
    """What is heard after each frame: [B, frames, 2, 4, 8], level and rise, four parts of the time, eight bands.

    Args:
        bank: of whole clips, [B, T, 128]; a part that is missing at the end is as the last column.
        frames: that are followed by a whole 1 / fps of sound.
        fps: of the frames; a frame must last a multiple of four columns.

    Raises:
        UsageError: frames and columns that do not meet.
    """
    each, rest = divmod(round(SAMPLE_RATE / HOP / fps, 6), BINS)
    if rest or not each:
        raise UsageError(f"a frame at {fps} a second does not last a multiple of {BINS} columns of 10 ms")
    columns = frames * BINS * int(each)
    level = over_quiet(bank, FRAME_BANDS)[..., :columns]
    level = F.pad(level, (0, columns - level.shape[-1]), mode="replicate")
    level = F.max_pool1d(level, int(each))  # [B, 8, frames * 4]
    rise = (level - F.pad(level, (1, 0), mode="replicate")[..., :-1]).clamp(min=0)
    return torch.stack([level, rise], dim=1).unflatten(-1, (frames, BINS)).permute(0, 3, 1, 4, 2)


def clip_targets(bank: Tensor, frames: int, fps: float) -> tuple[Tensor, Tensor]:
    """What is heard in all: when it rises most, [B, frames], and the loudest of each band, [B, 32]."""
    rise = frame_targets(bank, frames, fps)[:, :, 1].mean(-1).amax(-1)
    return rise, over_quiet(bank, CLIP_BANDS).amax(-1)


class Teller(nn.Module):
    """The heads that are trained beside the encoders and left behind afterwards.

    One reads the video's vectors per frame, which the diffusion model will be conditioned on. The other reads the
    vectors that are compared, of video and of sound *alike*: what both must tell lies in both at the same place.

    Args:
        video_dim: channels of a vector per frame.
        dim: of a vector that is compared.
        most: frames of a clip.
        fps: of the frames.
    """

    def __init__(self, video_dim: int, dim: int, most: int, fps: float) -> None:
        super().__init__()
        self.fps = fps
        self.frame = nn.Linear(video_dim, 2 * BINS * FRAME_BANDS)
        self.when, self.what = nn.Linear(dim, most), nn.Linear(dim, CLIP_BANDS)

    def forward(self, patches: Tensor, seen: Tensor, heard: Tensor, bank: Tensor) -> dict[str, Tensor]:
        """How much is left untold: 1 is no better than the mean of the batch, 0 is all.

        Args:
            patches: of the video [B, T, places, dim]; the last frame is followed by nothing.
            seen, heard: vectors that are compared, before they get length one, [B, D].
            bank: of the whole sound [B, T, 128].
        """
        frames = patches.shape[1] - 1
        told = self.frame(patches.amax(2)[:, :-1])
        made = {"untold_frames": _left(told, frame_targets(bank, frames, self.fps).flatten(2))}
        when, what = clip_targets(bank, frames, self.fps)
        for name, vectors in (("seen", seen), ("heard", heard)):
            left = _left(self.when(vectors)[:, :frames], when) + _left(self.what(vectors), what)
            made[f"untold_{name}"] = left / 2
        return made


def _left(told: Tensor, target: Tensor) -> Tensor:
    """Squared error over that of each target's mean."""
    away = target - target.mean(tuple(range(target.ndim - 1)), keepdim=True)
    return (told.float() - target).square().mean() / away.square().mean().clamp(min=1e-4)
