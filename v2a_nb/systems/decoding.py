"""Cached token decoding, shared by autoregressive systems.

A decoder is anything with ``config.num_codebooks``, ``config.special``, ``fuse(steps, visual)`` (token
steps and per-position visual vectors to input embeddings) and ``backbone``/``heads``; see
:class:`v2a_nb.systems.vaura.VAuraDecoder`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from v2a_nb.errors import UsageError
from v2a_nb.systems.delay import delay, undelay


@dataclass(frozen=True)
class Sampling:
    """How the next code is drawn.

    Attributes:
        guidance: classifier-free guidance, ``null + guidance * (conditional - null)`` on logits; 1 is
            none, and then the null half is not computed.
        temperature: 0 takes the likeliest code.
        top_k: codes to draw from; 0 is all.
    """

    guidance: float = 2.0
    temperature: float = 0.5
    top_k: int = 64

    def check(self) -> None:
        """Raise :class:`UsageError` for values that cannot be meant."""
        if self.temperature < 0 or self.top_k < 0 or not 0 <= self.guidance <= 100:
            raise UsageError(f"guidance, temperature and top_k must not be negative: {self}")


def sample(logits: Tensor, how: Sampling, generator: torch.Generator) -> Tensor:
    """Draw codes from logits [..., V]: int64 [...]."""
    if how.temperature == 0:
        return logits.argmax(-1)
    logits = logits / how.temperature
    if how.top_k and how.top_k < logits.shape[-1]:
        floor = logits.topk(how.top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < floor, -torch.inf)
    # an exponential race (Gumbel) draws from the softmax without normalising it
    noise = torch.empty(logits.shape, dtype=torch.float32).exponential_(generator=generator)
    return (logits.softmax(-1) / noise.to(logits.device)).argmax(-1)


@torch.no_grad()
def generate_codes(
    decoder,
    visual: Tensor,
    how: Sampling,
    generator: torch.Generator,
    *,
    prompt: Tensor | None = None,
    use_cache: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """Codes [B, K, T] for per-frame visual tokens [B, T, D], one context long at most.

    Args:
        decoder: see the module's docstring.
        visual: one visual vector per codec frame.
        how: guidance, temperature, top-k.
        generator: the source of randomness (CPU).
        prompt: codes [B, K, P] of the first P frames, kept as they are.
        use_cache: keys and values are kept from step to step; without, every step runs the whole past
            again (the released behaviour; the same codes, slower).
        progress: called with 1 after every step.
    """
    how.check()
    b, t, _ = visual.shape
    k, special = decoder.config.num_codebooks, decoder.config.special
    steps = torch.full((b, k, t + k), special, dtype=torch.long, device=visual.device)
    known = 0
    if prompt is not None:
        known = prompt.shape[-1]
        if prompt.shape[:2] != (b, k) or known >= t:
            raise UsageError(f"a prompt {tuple(prompt.shape)} does not fit {t} frames of {k} codebooks")
        laid = delay(prompt.to(visual.device), special)  # the prompt's own tail is filler: cut it
        for q in range(k):
            steps[:, q, q + 1 : q + 1 + known] = laid[:, q, q + 1 : q + 1 + known]
    guided = how.guidance != 1.0
    condition = decoder.condition(visual)  # [B, T + K - 1, d]
    if guided:
        condition = torch.cat([condition, decoder.null_condition(b, t)], dim=0)
    cache, fed = None, 0
    for s in range(known, t + k - 1):
        begin = fed if use_cache else 0
        inputs = steps[:, :, begin : s + 1]
        inputs = torch.cat([inputs, inputs]) if guided else inputs
        embeddings = decoder.fuse(inputs, condition[:, begin : s + 1])
        hidden, cache = decoder.run(embeddings, cache if use_cache else None, use_cache)
        fed = s + 1
        logits = decoder.predict(hidden[:, -1])  # [B or 2 B, K, V]
        if guided:
            seen, null = logits.chunk(2)
            logits = null + how.guidance * (seen - null)
        drawn = sample(logits, how, generator)
        for q in range(k):
            if known <= s - q < t:
                steps[:, q, s + 1] = drawn[:, q]
        if progress:
            progress(1)
    return undelay(steps)


def windows(frames: int, context: int, keep: int) -> list[tuple[int, int, int]]:
    """``(start, stop, prompt)`` of the windows that cover ``frames``.

    Each window after the first starts with ``keep`` frames of the past as its prompt.

    Examples:
        >>> windows(300, 128, 64)
        [(0, 128, 0), (64, 192, 64), (128, 256, 64), (192, 300, 64)]
    """
    if not 0 < keep < context:
        raise UsageError(f"a prompt of {keep} frames does not fit a context of {context}")
    made = [(0, min(frames, context), 0)]
    while made[-1][1] < frames:
        start = made[-1][1] - keep
        made.append((start, min(frames, start + context), keep))
    return made


@torch.no_grad()
def generate_long(
    decoder,
    visual: Tensor,
    how: Sampling,
    generator: torch.Generator,
    *,
    keep: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """Codes [B, K, T] for any number of frames: windows over the tokens, the past as prompt.

    The released code slides its window in steps of 0.64 s and fails where a length is no multiple of it;
    here the last window is as long as it must be.
    """
    context = decoder.config.context_frames
    keep = context // 2 if keep is None else keep
    codes: Tensor | None = None
    for start, stop, known in windows(visual.shape[1], context, keep):
        prompt = codes[..., start : start + known] if known else None
        part = generate_codes(
            decoder, visual[:, start:stop], how, generator, prompt=prompt, progress=progress
        )
        codes = part if codes is None else torch.cat([codes, part[..., known:]], dim=-1)
    return codes
