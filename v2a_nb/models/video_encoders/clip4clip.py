"""CLIP4Clip (Luo et al., 2021): CLIP frame by frame and a head over time; the encoder that VTA-LDM settled on.

The paper has two heads that keep a vector for each frame. ``"meanP"`` has no parameters: the frames' vectors stay as
they are, and a clip's vector is their mean. ``"seqTransf"`` adds an embedding of the frame's place, lets a transformer
of CLIP's own kind look at all frames of a window, and adds what it gives to CLIP's vectors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.clip import Clip
from v2a_nb.errors import UsageError
from v2a_nb.models.video_encoders.clip_frames import ClipFrames
from v2a_nb.models.video_encoders.transformer_encoders import load_published
from v2a_nb.models.video_encoders.video_encoder import new_in_windows

HEADS = ("meanP", "seqTransf")
"""Heads over time, under the names of the released code."""
PLACES, FRAMES, LAYERS = 77, 64, 4
"""Places that have an embedding (CLIP's text has as many), frames of a window, and layers, as released."""


class Clip4Clip(ClipFrames):
    """CLIP's image encoder with a head over time: a vector for each frame.

    All is frozen. To train the head call ``encoder.head.requires_grad_(True)`` and give :meth:`temporal` vectors of
    :class:`ClipFrames`.

    Args:
        model: a ``CLIPVisionModelWithProjection``.
        rate: frames a second; VTA-LDM has 2.
        head: one of :data:`HEADS`.
        layers: of ``"seqTransf"``.
        how: ``resize``, ``middle`` and ``normalise`` of :class:`ClipFrames`.

    Raises:
        UsageError: an unknown head.
    """

    kind, title = "clip4clip", "a CLIP4Clip"
    settings = (*ClipFrames.settings, "head", "layers")

    def __init__(
        self, model: nn.Module, rate: float = 2.0, *how: Any, head: str = "meanP", layers: int = LAYERS, **settings: Any
    ) -> None:
        super().__init__(model, rate, *how, **settings)
        if head not in HEADS:
            raise UsageError(f"head must be one of {', '.join(HEADS)}, not {head!r}")
        self.head = (
            SequentialTransformer(self.dim, layers).eval().requires_grad_(False) if head == "seqTransf" else None
        )

    def temporal(self, vectors: Tensor) -> Tensor:
        """Vectors [T, dim] of CLIP to vectors [T, dim] that know of their neighbours; windows of 64 frames."""
        if self.head is None:
            return vectors
        return torch.cat(
            [self.head(vectors[None, a : a + FRAMES])[0][new] for a, new in new_in_windows(len(vectors), FRAMES)]
        )

    @torch.no_grad()
    def features(self, clip: Clip) -> Tensor:
        """Vectors float32 [ceil(rate * duration), dim] of a clip of any size, frame rate and length."""
        return self.temporal(super().features(clip))

    @staticmethod
    def pooled(vectors: Tensor) -> Tensor:
        """A clip's vector [dim] of length 1, as the paper compares it with a text: the mean over frames of length 1."""
        return F.normalize(F.normalize(vectors, dim=-1).mean(0), dim=0)

    def _network(self) -> nn.Module:
        return self

    def _settings(self) -> dict[str, Any]:
        head = {"head": "meanP"} if self.head is None else {"head": "seqTransf", "layers": len(self.head.layers)}
        return super()._settings() | head

    def start_from_text(self, name: str | Path) -> Self:
        """Give ``"seqTransf"`` the first layers and the places of a whole CLIP's text encoder, as the paper does.

        Args:
            name: a folder or a Hub id of a ``CLIPModel`` with as many channels.

        Raises:
            UsageError: this head has no weights, or another width.
            WeightsError: it cannot be read.
        """
        from transformers import CLIPModel

        text = load_published(CLIPModel, name).text_model
        width = text.config.hidden_size
        if self.head is None or width != self.dim:
            raise UsageError(
                f"a text encoder of {width} channels is no start for the head {self._settings()['head']!r}"
            )
        self.head.start_from(text)
        return self


class SequentialTransformer(nn.Module):
    """The head ``"seqTransf"``: vectors [B, T, dim], T up to 77, to as many. Its layers are those of CLIP.

    Raises:
        UsageError: a width that heads of 64 channels do not fit.
    """

    def __init__(self, dim: int, layers: int = LAYERS) -> None:
        super().__init__()
        heads = max(1, dim // 64)
        if dim % heads:
            raise UsageError(f"{dim} channels cannot be shared by {heads} heads")
        how = {"dropout": 0.0, "activation": quick_gelu, "batch_first": True, "norm_first": True}
        self.places = nn.Parameter(0.01 * torch.randn(PLACES, dim))
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(dim, heads, 4 * dim, **how) for _ in range(layers))

    def forward(self, vectors: Tensor) -> Tensor:
        x = vectors + self.places[: vectors.shape[1]]
        for layer in self.layers:
            x = layer(x)
        return vectors + x

    def start_from(self, text: Any) -> None:
        """Copy places and first layers of a text encoder of ``transformers``' CLIP with as many channels."""
        names = {
            "self_attn.out_proj": "self_attn.out_proj", "norm1": "layer_norm1", "norm2": "layer_norm2",
            "linear1": "mlp.fc1", "linear2": "mlp.fc2",
        }  # fmt: skip
        with torch.no_grad():
            self.places.copy_(text.embeddings.position_embedding.weight[:PLACES])
        for own, layer in zip(self.layers, text.encoder.layers, strict=False):
            theirs, state = layer.state_dict(), {}
            for part in ("weight", "bias"):
                state |= {f"{ours}.{part}": theirs[f"{name}.{part}"] for ours, name in names.items()}
                joined = [theirs[f"self_attn.{each}_proj.{part}"] for each in ("q", "k", "v")]
                state[f"self_attn.in_proj_{part}"] = torch.cat(joined)
            own.load_state_dict(state)


def quick_gelu(x: Tensor) -> Tensor:
    """CLIP's activation."""
    return x * torch.sigmoid(1.702 * x)
