"""The delay pattern: codebook ``q`` of frame ``t`` stands at step ``t + q + 1``.

Each residual codebook is one step later than the one before (V-AURA, section III-B; MusicGen, Copet et
al. 2023), so that within a frame a code is predicted after the coarser ones. Step 0 holds only the
special token.
"""

from __future__ import annotations

import torch
from torch import Tensor

from v2a_nb.errors import UsageError


def delay(codes: Tensor, special: int) -> Tensor:
    """Codes [B, K, T] to steps [B, K, T + K]; places without a code hold ``special``.

    Examples:
        >>> delay(torch.tensor([[[1, 2, 3], [4, 5, 6]]]), special=9)[0]
        tensor([[9, 1, 2, 3, 9],
                [9, 9, 4, 5, 6]])
    """
    if codes.dim() != 3:
        raise UsageError(f"codes [B, K, T] are needed, not {tuple(codes.shape)}")
    b, k, t = codes.shape
    steps = codes.new_full((b, k, t + k), special)
    for q in range(k):
        steps[:, q, q + 1 : q + 1 + t] = codes[:, q]
    return steps


def undelay(steps: Tensor) -> Tensor:
    """The inverse of :func:`delay`: steps [B, K, T + K, ...] to [B, K, T, ...]."""
    k = steps.shape[1]
    t = steps.shape[2] - k
    if t < 1:
        raise UsageError(f"{steps.shape[2]} steps of {k} codebooks hold no frame")
    return torch.stack([steps[:, q, q + 1 : q + 1 + t] for q in range(k)], dim=1)


def undelay_predictions(logits: Tensor) -> Tensor:
    """Predictions made at positions 0 .. T + K - 2 to frames: [B, T + K - 1, K, V] to [B, K, T, V].

    Position ``s`` predicts step ``s + 1``: frame ``s - q`` of codebook ``q``.
    """
    k = logits.shape[2]
    t = logits.shape[1] - k + 1
    return torch.stack([logits[:, q : q + t, q] for q in range(k)], dim=1)
