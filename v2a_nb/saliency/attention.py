"""Attention, recorded: what each layer, head and step attended to, of any network, and what can be read out of it.

Networks here compute attention in three ways: transformers' Llama and our UNets by
``scaled_dot_product_attention``, which keeps no shares, and the video encoder by a softmax of its own. So nothing is
asked of the networks. While :func:`record_attention` is open, every softmax and every scaled dot product inside of the
network is noted under the module in which it happens; the product is computed from its shares, so that these are a part
of the graph and can be given gradients.

Attention is what was read, not what the reading was used for: a map of it is judged like any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_SOFTMAX = (torch.Tensor.softmax, torch.softmax, F.softmax)


class _Recorder(TorchFunctionMode):
    """Notes shares under the module that is running."""

    def __init__(self, found: dict[str, list[Tensor]], graph: bool) -> None:
        super().__init__()
        self.found, self.graph, self.running = found, graph, [""]

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return self._product(*args, **kwargs)
        made = func(*args, **kwargs)
        if func in _SOFTMAX:
            self._note(made)
        return made

    def _product(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """``scaled_dot_product_attention`` without dropout, from shares that are kept."""
        if enable_gqa:
            times = query.shape[1] // key.shape[1]
            key, value = key.repeat_interleave(times, 1), value.repeat_interleave(times, 1)
        logits = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            seen = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
            logits = logits.masked_fill(~seen, -torch.inf)
        elif attn_mask is not None and attn_mask.dtype == torch.bool:
            logits = logits.masked_fill(~attn_mask, -torch.inf)
        elif attn_mask is not None:
            logits = logits + attn_mask
        shares = torch.softmax(logits, -1)
        self._note(shares)
        return shares @ value

    def _note(self, shares: Tensor) -> None:
        self.found.setdefault(self.running[-1], []).append(shares if self.graph else shares.detach())


@contextmanager
def record_attention(model: nn.Module, *, graph: bool = False) -> Iterator[dict[str, list[Tensor]]]:
    """Inside, all attention of ``model`` is kept.

    Args:
        model: any network.
        graph: keep the shares in the graph, so that gradients of them can be asked for; needs as much memory more.

    Yields:
        a dictionary that fills: name of a module -> its shares, one tensor for each pass (a step of a sampler, a token
        of a decoder), [..., heads, queries, keys], each row summing to 1. The empty name is the model itself, and what
        happens outside of any module, such as V-AURA's cached decoding: there, layer by layer for each step.

    torch's own ``nn.MultiheadAttention`` is one function to torch, whose inside is not seen; no network here has one.

    Examples:
        >>> from v2a_nb.models.lean_blocks import Attention
        >>> attention = Attention(width=8, heads=2)
        >>> with record_attention(attention) as shares:
        ...     _ = attention(torch.ones(1, 3, 8))
        >>> shares[""][0].shape
        torch.Size([1, 2, 3, 3])
    """
    found: dict[str, list[Tensor]] = {}
    recorder = _Recorder(found, graph)
    hooks = []
    for name, module in model.named_modules():
        if name:
            hooks.append(module.register_forward_pre_hook(lambda *_, name=name: recorder.running.append(name)))
            hooks.append(module.register_forward_hook(lambda *_: recorder.running.pop() and None, always_call=True))
    try:
        with recorder:
            yield found
    finally:
        for hook in hooks:
            hook.remove()


def rollout(layers: Sequence[Tensor]) -> Tensor:
    """Attention rollout (Abnar and Zuidema 2020): how much each query comes from each first input.

    The shares of a layer are averaged over heads, half of a layer's output is taken to be its own input (the residual),
    and layers are multiplied.

    Args:
        layers: shares [B, heads, S, S], the first layer first.

    Returns:
        [B, S, S], each row summing to 1.

    Examples:
        >>> rollout([torch.eye(3)[None, None], torch.full((1, 1, 3, 3), 1 / 3)])[0, 0].round(decimals=2)
        tensor([0.6700, 0.1700, 0.1700])
    """
    size = layers[0].shape[-1]
    one = torch.eye(size, device=layers[0].device)
    total = one.expand(len(layers[0]), -1, -1)
    for shares in layers:
        total = (0.5 * shares.mean(1) + 0.5 * one) @ total
    return total


def gradient_rollout(layers: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """Gradient-weighted rollout (Chefer et al. 2021, equations 5 and 6): only what raises the target counts.

    Args:
        layers: shares [B, heads, S, S], the first layer first.
        gradients: of the target by each of them.

    Returns:
        relevance [B, S, S], at least 0; the identity is taken off.
    """
    one = torch.eye(layers[0].shape[-1], device=layers[0].device)
    total = one.expand(len(layers[0]), -1, -1)
    for shares, gradient in zip(layers, gradients, strict=True):
        total = total + (shares * gradient).clamp(min=0).mean(1) @ total
    return total - one
