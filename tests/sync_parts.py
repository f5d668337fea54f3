"""A small Synchformer in the published layout, for tests."""

from __future__ import annotations

import math
import zlib

import torch

from v2a_nb.models.synchformer import Synchformer, SynchformerConfig
from v2a_nb.models.video_encoders.segment_avclip import SegmentConfig


def small_config(size: int = 28, patch: int = 14) -> SynchformerConfig:
    return SynchformerConfig(SegmentConfig(size, patch, dim=24, depth=2, heads=3, mlp=96), depth=3, heads=2)


def small_synchformer(patch: int = 14) -> Synchformer:
    return Synchformer(small_config(4 * patch if patch > 14 else 28, patch)).eval()


def filled(net: Synchformer) -> Synchformer:
    """The network with each tensor drawn from a generator that is seeded with the tensor's published name."""
    state = net.state_dict()
    for name, public in net.published_names().items():
        shape = state[name].shape
        numbers = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(public.encode())))
        state[name] = numbers / math.sqrt(shape[-1] if len(shape) > 1 else 4)
    net.load_state_dict(state)
    return net


def published(net: Synchformer) -> dict[str, torch.Tensor]:
    """Its tensors as a published file has them: with the patches that nothing reads."""
    state = net.state_dict()
    unused = {f"vfeat_extractor.patch_embed.proj.{kind}": torch.zeros(2) for kind in ("weight", "bias")}
    return {public: state[name].contiguous() for name, public in net.published_names().items()} | unused
