"""The memory that a training needs, counted on the ``meta`` device: shapes without numbers, at any size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of a step of AdamW whose weights are float32.

    Attributes:
        parameters: how many are trained.
        weights, gradients, optimizer: bytes.
        activations, activations_bf16: bytes that a batch's forward pass keeps for the backward pass, in float32 and
            in bfloat16; of the latter, the copies of the weights in bfloat16 are a part.
    """

    parameters: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    activations_bf16: int

    @property
    def fixed(self) -> int:
        """What does not grow with the batch."""
        return self.weights + self.gradients + self.optimizer


def memory_of(module: Network, loss: Callable[[Network], Tensor]) -> TrainingMemory:
    """Count the memory of a training.

    Args:
        module: on the ``meta`` device; it is left in bfloat16.
        loss: from the module to the loss of one batch, on that device.
    """
    count = sum(p.numel() for p in module.parameters() if p.requires_grad)
    whole = sum(p.numel() for p in module.parameters())
    module.train()
    full = _kept(module, loss)
    half = _kept(module.to(torch.bfloat16), loss)
    return TrainingMemory(count, 4 * whole, 4 * count, 8 * count, full, half + 2 * whole)


def _kept(module: Network, loss: Callable[[Network], Tensor]) -> int:
    """Bytes of different tensors that autograd keeps, without the weights."""
    held: dict[int, Tensor] = {}

    def pack(x: Tensor) -> Tensor:
        held[x.untyped_storage()._cdata] = x  # held, so that no other storage gets its address
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        loss(module)
    own = {p.untyped_storage()._cdata for p in module.parameters()}
    return sum(x.untyped_storage().nbytes() for key, x in held.items() if key not in own)


def lines_of(memory: TrainingMemory, batch_size: int) -> list[str]:
    """The memory in words, for people who choose a GPU."""
    gib = 2**30
    each = (memory.activations_bf16 - memory.weights // 2) / batch_size
    return [
        f"{memory.parameters:,} parameters: weights {memory.weights / gib:.1f} GiB, gradients "
        f"{memory.gradients / gib:.1f}, AdamW {memory.optimizer / gib:.1f}",
        f"activations of a batch of {batch_size}: {memory.activations_bf16 / gib:.1f} GiB in bfloat16, "
        f"{memory.activations / gib:.1f} in float32",
        f"together {(memory.fixed + memory.activations_bf16) / gib:.1f} GiB in bfloat16, "
        f"{(memory.fixed + memory.activations) / gib:.1f} in float32; a clip more or less is {each / gib:.2f} and "
        f"{memory.activations / batch_size / gib:.2f} of it",
    ]
