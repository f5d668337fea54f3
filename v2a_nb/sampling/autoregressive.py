"""Autoregressive decoding of codes: the delay pattern, sampling, cached decoding, and windows over long clips.

The delay pattern puts codebook ``q`` of frame ``t`` at step ``t + q + 1`` (V-AURA, section III-B; MusicGen, Copet et
al. 2023): each residual codebook is one step later than the one before, so that within a frame a code is predicted
after the coarser ones. Step 0 holds only the special token.

A decoder here is any module with ``config.num_codebooks``, ``config.special``, ``config.context_frames`` and the
methods ``condition``, ``null_condition``, ``cached``, ``fuse``, ``run``, ``predict`` and ``frames_of`` of
:class:`v2a_nb.systems.vaura.model.VAuraDecoder`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from v2a_nb.errors import UsageError

# --- delay pattern --------------------------------------------------------------------------------------


def delay(codes: Tensor, special: int) -> Tensor:
    """Codes [B, K, T] to steps [B, K, T + K]; places without a code hold ``special``.

    Raises:
        UsageError: not [B, K, T].

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
    """The inverse of :func:`delay`: steps [B, K, T + K, ...] to [B, K, T, ...].

    Raises:
        UsageError: too few steps for one frame.
    """
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


# --- sampling -------------------------------------------------------------------------------------------


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
        """Raise :class:`UsageError` for values out of range (negative, infinite, NaN)."""
        if not 0 <= self.guidance <= 100:
            raise UsageError(f"guidance must lie in 0..100, not {self.guidance}")
        if not 0 <= self.temperature < math.inf:
            raise UsageError(f"temperature must be 0 (greedy) or more, not {self.temperature}")
        if self.top_k < 0:
            raise UsageError(f"top_k must be 0 (all codes) or more, not {self.top_k}")


Generators = torch.Generator | Sequence[torch.Generator]
"""One source of randomness for the batch, or one for each clip of it."""


def sample(logits: Tensor, how: Sampling, generator: Generators) -> Tensor:
    """Draw codes from logits [B, ..., V]: int64 [B, ...].

    With one generator per clip a clip gets the same codes alone and in any batch.
    """
    if how.temperature == 0:
        return logits.argmax(-1)
    logits = logits / how.temperature
    if how.top_k and how.top_k < logits.shape[-1]:
        floor = logits.topk(how.top_k, dim=-1).values[..., -1:]
        logits.masked_fill_(logits < floor, -torch.inf)  # of the quotient, which is nobody else's
    # an exponential race draws from the softmax without waiting for a multinomial's result
    if isinstance(generator, torch.Generator):
        noise = torch.empty(logits.shape).exponential_(generator=generator)
    else:
        rows = [torch.empty(logits.shape[1:]).exponential_(generator=g) for g in generator]
        noise = torch.stack(rows)
    # noise of exactly 0 would give 0 / 0 for codes outside of the top k
    noise.clamp_min_(torch.finfo(torch.float32).tiny)
    return logits.float().softmax(-1).div_(noise.to(logits.device)).argmax(-1)


@torch.no_grad()
def generate_codes(
    decoder,
    visual: Tensor,
    how: Sampling,
    generator: Generators,
    *,
    frames: int | None = None,
    first: int = 0,
    prompt: Tensor | None = None,
    use_cache: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """Codes int64 [B, K, frames] for visual tokens, one context long at most.

    Args:
        decoder: see the module's docstring.
        visual: visual tokens [B, Tv, D] of the whole clip, at the decoder's visual rate.
        how: guidance, temperature, top-k.
        generator: the source of randomness (on the CPU), or one for each clip.
        frames: how many codec frames; left out, as many as the tokens last.
        first: the clip's frame at which this window starts.
        prompt: codes [B, K, P] of the window's first P frames, kept as they are.
        use_cache: keys and values are kept from step to step; without, every step runs the whole past
            again (the released behaviour; the same codes, slower).
        progress: called with 1 after every step.

    Raises:
        UsageError: sampling settings out of range, or a prompt that does not fit.
    """
    how.check()
    b, k, special = len(visual), decoder.config.num_codebooks, decoder.config.special
    t = decoder.frames_of(visual.shape[1]) - first if frames is None else frames
    if t < 1:
        raise UsageError(f"{t} frames cannot be generated")
    steps = torch.full((b, k, t + k), special, dtype=torch.long, device=visual.device)
    known = 0
    if prompt is not None:
        known = prompt.shape[-1]
        if prompt.shape[:2] != (b, k) or known >= t:
            raise UsageError(f"a prompt {tuple(prompt.shape)} does not fit {t} frames of {k} codebooks")
        for q in range(k):
            steps[:, q, q + 1 : q + 1 + known] = prompt[:, q].to(visual.device)
    guidance = how.guidance != 1.0
    # a cached step is a hundred small operations, and what is noted of them for gradients is a tenth of its time;
    # without a cache a LlamaModel runs, which may be trained later
    with torch.inference_mode() if use_cache else torch.no_grad():
        condition = decoder.condition(visual, t, first)  # [B, prefix + T + K - 1, d]
        if guidance:  # both halves go through the network as one batch
            null = decoder.null_condition(visual.shape[1], t, first)
            condition = torch.cat([condition, null.expand(b, -1, -1)])
        prefix = condition.shape[1] - (t + k - 1)  # positions of the picture before those of the codes
        cached, fed = decoder.cached(condition, prefix) if use_cache else None, 0
        for s in range(known, t + k - 1):
            if cached is not None:
                logits = cached(steps[:, :, fed : s + 1])  # [B or 2 B, K, V]
            else:
                inputs = steps[:, :, : s + 1]
                inputs = torch.cat([inputs, inputs]) if guidance else inputs
                logits = decoder.predict(decoder.run(decoder.fuse(inputs, condition[:, : prefix + s + 1]))[:, -1])
            fed = s + 1
            if guidance:
                conditional, unconditional = logits.chunk(2)
                logits = torch.lerp(unconditional, conditional, how.guidance)
            codes = sample(logits, how, generator)  # [B, K]
            # codebook q is at frame s - q; what lies outside of the frames to be made keeps what it has
            low, high = max(0, s - t + 1), min(k, s - known + 1)
            steps[:, low:high, s + 1] = codes[:, low:high]
            if progress:
                progress(1)
    return undelay(steps)


# --- long clips -----------------------------------------------------------------------------------------


def windows(frames: int, context: int, keep: int | None = None) -> list[tuple[int, int, int]]:
    """``(start, stop, prompt)`` of the windows that cover ``frames``.

    Each window after the first starts with ``keep`` frames of the past as its prompt; left out, half the context.

    Examples:
        >>> windows(300, 128)
        [(0, 128, 0), (64, 192, 64), (128, 256, 64), (192, 300, 64)]
    """
    keep = context // 2 if keep is None else keep
    if frames < 1:
        raise UsageError(f"{frames} frames cannot be covered")
    if not 0 < keep < context:
        raise UsageError(f"a prompt of {keep} frames does not fit a context of {context}")
    spans = [(0, min(frames, context), 0)]
    while spans[-1][1] < frames:
        start = spans[-1][1] - keep
        spans.append((start, min(frames, start + context), keep))
    return spans


def steps_of(frames: int, context: int, keep: int | None, num_codebooks: int) -> int:
    """Decoding steps that :func:`stream_codes` will take: the length of its progress bar."""
    spans = windows(frames, context, keep)
    return sum(stop - start - known + num_codebooks - 1 for start, stop, known in spans)


def stream_codes(
    decoder,
    visual: Tensor,
    how: Sampling,
    generator: Generators,
    *,
    frames: int | None = None,
    keep: int | None = None,
    use_cache: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Tensor]:
    """Codes for any number of frames as they become known: windows over the tokens, the past as prompt.

    The released code slides its window in steps of 0.64 s and fails where a length is no multiple of it;
    here the last window is as long as it must be. Positions restart in every window, so that the model
    gets none that training did not have.

    Args:
        keep: see :func:`windows`.

    See :func:`generate_codes` for the others.

    Yields:
        the new codes of each window, [B, K, T]; ``frames`` in all.
    """
    total = decoder.frames_of(visual.shape[1]) if frames is None else frames
    part: Tensor | None = None
    for start, stop, known in windows(total, decoder.config.context_frames, keep):
        prompt = part[..., -known:] if part is not None else None
        part = generate_codes(
            decoder, visual, how, generator, frames=stop - start, first=start, prompt=prompt,
            use_cache=use_cache, progress=progress,
        )  # fmt: skip
        yield part[..., known:]
