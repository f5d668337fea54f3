"""Frame vectors of a clip, picked for the video tokens of a window."""

from __future__ import annotations

import torch
from torch import Tensor


def vectors_of_tokens(
    vectors: Tensor, start_s: float | Tensor, *, rate: float, token_s: float, count: int, stack: int
) -> Tensor:
    """Vectors [B, count * stack, dim] for ``count`` tokens of the window that begins at ``start_s``.

    Each token reads ``stack`` vectors spread evenly over its time, interpolated linearly. Before the video begins and
    after it ends the nearest vector stays.

    Args:
        vectors: [B, T, dim] of the whole clip; vector i stands for the time (i + 0.5) / rate.
        start_s: seconds, one for all or [B].
        rate: vectors a second.
        token_s: seconds of a token.
    """
    b, t, _ = vectors.shape
    start = torch.as_tensor(start_s, dtype=torch.float32, device=vectors.device).expand(b)
    inside = (torch.arange(count * stack, device=vectors.device) + 0.5) * (token_s / stack)
    where = ((start[:, None] + inside) * rate - 0.5).clamp(0, t - 1)  # [B, count * stack]
    low = where.floor().long().clamp(max=max(0, t - 2))
    high = (low + 1).clamp(max=t - 1)
    share = (where - low).clamp(0, 1)[..., None].to(vectors)
    rows = torch.arange(b, device=vectors.device)[:, None]
    return vectors[rows, low] * (1 - share) + vectors[rows, high] * share
