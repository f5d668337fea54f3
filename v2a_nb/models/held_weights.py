"""Weights without their network: what a loaded model holds until a library's network is needed."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn


class HeldWeights(nn.Module):
    """Parameters under the names that they have in a library's network, not initialised, to be loaded.

    Importing transformers' networks takes longer than a sound takes to generate, and not every use of a model runs all
    of them.

    Args:
        sizes: names of parameters -> shapes.

    Examples:
        >>> weights = HeldWeights({"layers.0.fc1.weight": (4, 2)})
        >>> weights.layers[0].fc1.weight.shape
        torch.Size([4, 2])
    """

    def __init__(self, sizes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        for name, size in sizes.items():
            *path, last = name.split(".")
            module: nn.Module = self
            for word, follows in zip(path, [*path[1:], last], strict=True):
                if word not in module._modules:
                    module.add_module(word, nn.ModuleList() if follows.isdigit() else nn.Module())
                module = module._modules[word]
            module.register_parameter(last, nn.Parameter(torch.empty(size)))


def take_over(held: nn.Module, network: nn.Module) -> None:
    """Give the network the very parameters that are held, and their mode: an optimizer or a saliency map keeps them.

    Both have them under the same names.
    """
    state = held.state_dict(keep_vars=True)
    frozen = [tensor for tensor in state.values() if not tensor.requires_grad]
    network.to(next(iter(state.values())).device).load_state_dict(state, assign=True)
    for parameter in frozen:  # assigning thaws
        parameter.requires_grad_(False)
    network.train(held.training)
