"""Attribution methods: from a :class:`~v2a_nb.saliency.targets.Target` to a map [T, h, w] of where and when.

Those that need gradients or perturbations are captum's; their names here are those of the field:

=====================  ================================================================================================
``gradient``           gradient times input, measured from a baseline (captum ``InputXGradient``)
``integrated_gradients``  gradients along the way from a baseline (Sundararajan et al. 2017), with completeness error
``smoothgrad``         mean gradient under a little noise (Smilkov et al. 2017; captum ``NoiseTunnel``)
``occlusion``          what a space-time tubelet is worth: it is replaced by the baseline (Zeiler and Fergus 2014)
``token_ablation``     the same of video tokens, moment by moment: a curve over time, without a place
``grad_cam``           Layer Grad-CAM (Selvaraju et al. 2017) of the encoder's maps around each expected event
``motion_grad_cam``    the same of the motion branch's maps, for each frame
``attention``          where the event-crop encoder attended at each event that it expects; asks only the window
``motion_attention``   where the motion branch attended, as much as a sound was expected then
``gradient_attention`` attention of both, weighted by the target's gradient, positive part (Chefer et al. 2021)
``place_and_time``     where by ``gradient_attention``, when by ``token_ablation``
``rollout``            when: rollout through the decoder's layers (V-AURA), or cross-attention over steps, layers and
                       heads (diffusion); where: the motion branch's attention at that time
``gradient_rollout``   the same, with the decoder's attention weighted by gradients
=====================  ================================================================================================

Gradients of single pixels jump from pixel to pixel, so maps of pixels are summed over channels and averaged, as
absolute values, over cells of a sixteenth of the picture's side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from v2a_nb.errors import UsageError
from v2a_nb.saliency.attention import gradient_rollout, record_attention, rollout
from v2a_nb.saliency.result import Saliency
from v2a_nb.saliency.targets import Denoising, LogLikelihood, Target, as_it_is

CELLS = 16
"""Cells of a map along each side of the picture."""
BATCH = 4
"""Clips that go through the system at once: with gradients, four need about 400 MB."""
TUBELET, STRIDE = (8, 16, 16), (8, 8, 8)
"""Frames, rows and columns of what occlusion hides at a time, and steps between, of pictures of 64 pixels."""
NEAR_S = 0.06
"""An expected event so near to the window belongs to it."""
IG_STEPS = (32, 96)
"""Steps of integrated gradients, by the quadrature of Gauss and Legendre; the second where the first miss."""
COMPLETE = 0.05
"""Share of the target's change that integrated gradients may miss before more steps are taken."""
HELD = "integrated gradients: the moments and places at which the encoder looks closely are held as the clip has them"
SMOOTH_S = 0.4
"""Standard deviation of the moments whose places ``place_and_time`` takes together, seconds."""
Progress = Callable[[int], object] | None
"""Called with the number of passes: versions of the clip that have gone through the system."""


@dataclass(frozen=True)
class Ask:
    """What a method is asked with.

    Attributes:
        target: the number that is explained.
        baseline: frames [1, T, 3, H, W] that stand for nothing.
        seed: of noise.
        progress: see :data:`Progress`.
    """

    target: Target
    baseline: Tensor
    seed: int = 0
    progress: Progress = None

    def values(self, frames: Tensor) -> Tensor:
        """The target, counted."""
        if self.progress is not None:
            self.progress(len(frames))
        return self.target(frames)


# --- baselines --------------------------------------------------------------------------------------


def blurred(frames: Tensor, share: float = 0.125) -> Tensor:
    """Frames [B, T, 3, H, W] under a Gaussian blur whose deviation is that share of the picture's side."""
    height, width = frames.shape[-2:]
    x = frames.flatten(0, 1)
    for axis, side in ((2, height), (3, width)):
        reach = max(1, min(side - 1, round(2.5 * share * side)))
        line = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
        weights = torch.exp(-0.5 * (line / (share * side)) ** 2)
        weights = (weights / weights.sum()).expand(3, 1, -1)
        pad = (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0)
        shape = weights[..., None] if axis == 2 else weights[:, :, None]
        x = F.conv2d(F.pad(x, pad, mode="replicate"), shape, groups=3)
    return x.unflatten(0, frames.shape[:2])


BASELINES: dict[str, Callable[[Tensor], Tensor]] = {
    "blur": blurred,
    "mean": lambda frames: frames.mean(1, keepdim=True).expand_as(frames).contiguous(),
    "black": torch.zeros_like,
}
"""What stands for nothing: each frame blurred, the mean of all frames (nothing moves), or black."""


# --- of pixels --------------------------------------------------------------------------------------


def _gradient(ask: Ask) -> tuple[Tensor, float | None]:
    from captum.attr import InputXGradient

    # measured from the baseline: captum multiplies by what it is given, which is the difference
    away = InputXGradient(lambda d: ask.values(ask.baseline + d))
    return in_cells(away.attribute((ask.target.frames - ask.baseline).requires_grad_())), None


def _integrated_gradients(ask: Ask) -> tuple[Tensor, float | None]:
    from captum.attr import IntegratedGradients

    target, ends = ask.target, (ask.target.frames, ask.baseline)
    made, error = ask.baseline, math.inf
    with held_choices(target):
        with torch.no_grad():
            first, last = (float(target(each)[0]) for each in ends)
        for steps in IG_STEPS:
            found: Any = IntegratedGradients(ask.values).attribute(
                *ends, n_steps=steps, method="gausslegendre", internal_batch_size=BATCH, return_convergence_delta=True
            )
            made, error = found[0], abs(float(found[1][0])) / max(abs(first - last), 1e-9)
            if error < COMPLETE:
                break
    if target.encoder is not None and hasattr(target.encoder, "event_crop"):
        target.notes.append(HELD)
    return in_cells(made), error


@contextmanager
def held_choices(target: Target) -> Iterator[None]:
    """Inside, the event-crop encoder looks at the moments and places that it chose for the target's own frames.

    On the way from a baseline to the clip it would choose others, all at once, and gradients see no jump, so
    that they add up to something else than the change of the target. Held, the target is continuous.
    """
    crops = getattr(target.encoder, "event_crop", None)
    if crops is None:
        yield
        return
    with torch.no_grad(), as_it_is(target.system):
        timing, _, attention = target.encoder.timing_and_content(target.frames)
        peaks = crops.peaks(target.encoder.flux(timing).sigmoid())  # [N, 2]
        places = crops.places(attention, peaks) if len(peaks) else attention.new_zeros(0, 2)

    def of_each(flux: Tensor, least: float | None = None) -> Tensor:
        clips = torch.arange(len(flux), device=peaks.device).repeat_interleave(len(peaks))
        return torch.stack([clips, peaks[:, 1].repeat(len(flux))], dim=1)

    # an attribute of the object stands before the method of its class
    crops.peaks, crops.places = of_each, lambda _, which: places.repeat(len(which) // max(1, len(places)), 1)
    try:
        yield
    finally:
        del crops.peaks, crops.places


def _smoothgrad(ask: Ask) -> tuple[Tensor, float | None]:
    from captum.attr import NoiseTunnel
    from captum.attr import Saliency as Gradient

    with torch.random.fork_rng(devices=[]):  # captum draws from the global generator
        torch.manual_seed(ask.seed)
        made: Any = NoiseTunnel(Gradient(ask.values)).attribute(
            ask.target.frames.clone().requires_grad_(), nt_type="smoothgrad", nt_samples=16,
            nt_samples_batch_size=BATCH, stdevs=0.03, abs=False,
        )  # fmt: skip
    return in_cells(made), None


def _occlusion(ask: Ask) -> tuple[Tensor, float | None]:
    from captum.attr import Occlusion

    frames, side = ask.target.frames, ask.target.frames.shape[-1]
    size = [min(TUBELET[0], frames.shape[1]), 3, *(max(1, n * side // 64) for n in TUBELET[1:])]
    step = [min(STRIDE[0], size[0]), 3, *(max(1, n * side // 64) for n in STRIDE[1:])]
    with torch.no_grad():
        made = Occlusion(ask.values).attribute(
            frames, sliding_window_shapes=tuple(size), strides=tuple(step), baselines=ask.baseline,
            perturbations_per_eval=BATCH,
        )  # fmt: skip
    # what makes the sound likelier is what it depends on; what makes it less likely when hidden is not counted
    return pooled(made[0].mean(1).clamp(min=0)), None


def in_cells(made: Tensor) -> Tensor:
    """Attributions [1, T, 3, H, W] to a map [T, 16, 16], at least 0."""
    return pooled(made[0].detach().sum(1).abs())


def pooled(map_: Tensor) -> Tensor:
    """A map [T, H, W] averaged over cells: [T, 16, 16], or as it is where it is smaller."""
    if map_.shape[-1] <= CELLS and map_.shape[-2] <= CELLS:
        return map_
    return F.adaptive_avg_pool2d(map_[:, None], CELLS)[:, 0]


# --- of tokens and layers ---------------------------------------------------------------------------


def _token_ablation(ask: Ask) -> tuple[Tensor, float | None]:
    from captum.attr import FeatureAblation

    target = _with_encoder(ask.target)
    tokens = target.tokens
    count, each = tokens.shape[1], max(1, round(0.08 * target.token_rate))  # 80 ms at a time
    groups = (torch.arange(count, device=tokens.device) // each)[None, :, None]

    def values(some: Tensor) -> Tensor:
        if ask.progress is not None:
            ask.progress(len(some))
        return target.of_tokens(some)

    with torch.no_grad():
        made: Any = FeatureAblation(values).attribute(
            tokens, baselines=tokens.mean(1, keepdim=True).expand_as(tokens), feature_mask=groups,
            perturbations_per_eval=BATCH,
        )  # fmt: skip
    return at_frames(made[0].mean(-1).clamp(min=0), target)[:, None, None], None


def _grad_cam(ask: Ask) -> tuple[Tensor, float | None]:
    from captum.attr import LayerGradCam

    target = _with_encoder(ask.target)
    found = _events(target)
    if not len(found.steps):
        return found.on_frames(found.attention.mean(1)), None
    if len(found.steps) > 64:
        raise UsageError(f"{len(found.steps)} expected events are too many for grad_cam: explain a shorter part")
    layer = target.encoder.event_crop.frame.wide
    made: Any = LayerGradCam(ask.values, layer).attribute(target.frames.clone(), relu_attributions=True)
    return found.on_frames(made[:, 0].detach()), None


def _motion_grad_cam(ask: Ask) -> tuple[Tensor, float | None]:
    from captum.attr import LayerGradCam

    target = _with_encoder(ask.target)
    # the input of this layer is the motion branch's map of all frames, [T, C, 8, 8]: frames are captum's batch
    layer = target.encoder.motion_values
    made: Any = LayerGradCam(ask.values, layer).attribute(
        target.frames.clone(), attribute_to_layer_input=True, relu_attributions=True
    )
    return made[:, 0].detach(), None


# --- of attention -----------------------------------------------------------------------------------


def _attention(ask: Ask) -> tuple[Tensor, float | None]:
    found = _events(_with_encoder(ask.target))
    return found.on_frames(found.attention.mean(1) * found.weights[:, None, None]), None


def _motion_attention(ask: Ask) -> tuple[Tensor, float | None]:
    target = _with_encoder(ask.target)
    with torch.no_grad(), as_it_is(target.system):
        timing, _, attention = target.encoder.timing_and_content(target.frames)
        expected = target.encoder.flux(timing).sigmoid()[0, :, :4].amax(-1)  # of each token
    inside = _inside((torch.arange(len(expected)) + 0.5) / target.token_rate, target.window)
    return attention[0].mean(1) * at_frames(expected * inside.to(expected), target)[:, None, None], None


def _gradient_attention(ask: Ask) -> tuple[Tensor, float | None]:
    target = _with_encoder(ask.target)
    found, frames = _events(target), target.frames.clone().requires_grad_()
    with record_attention(target.system, graph=True) as shares:
        value = ask.values(frames)[0]
    asked = {name: some for name, some in shares.items() if name.startswith("encoder") and some[0].requires_grad}
    flat = [each for some in asked.values() for each in some]
    gradients = iter(torch.autograd.grad(value, flat, allow_unused=True))
    total = torch.zeros(frames.shape[1], CELLS, CELLS, device=frames.device)
    for some in asked.values():
        parts = [each * g for each, g in ((each, next(gradients)) for each in some) if g is not None]
        if not parts:
            continue
        raised = torch.cat(parts).detach().clamp(min=0).sum(1)  # [T or N, cells]
        grid = round(raised.shape[-1] ** 0.5)
        maps = raised.unflatten(-1, (grid, grid))
        maps = maps if len(maps) == len(total) else found.on_frames(maps)
        # as much in all: a cell of eight is four of sixteen
        total += F.interpolate(maps[:, None], (CELLS, CELLS), mode="bilinear")[:, 0] * (grid / CELLS) ** 2
    return total, None


def _place_and_time(ask: Ask) -> tuple[Tensor, float | None]:
    place, curve = _gradient_attention(ask)[0], _token_ablation(ask)[0].flatten()  # [T, 16, 16] and [T]
    if not curve.any():
        ask.target.notes.append("no moment of the video made the sound likelier: when it looked is by gradients alone")
        return place, None
    # a frame says where by what it and the frames around it read, and ablation says how much it counts
    reach = min(round(3 * SMOOTH_S * ask.target.fps), len(place) - 1)
    line = torch.arange(-reach, reach + 1, device=place.device) / (SMOOTH_S * ask.target.fps)
    weights = torch.exp(-0.5 * line.square())
    flat = F.pad(place.flatten(1).T[:, None], (reach, reach), mode="replicate")  # [256, 1, T + 2 reach]
    smooth = F.conv1d(flat, weights[None, None])[:, 0].T.reshape(place.shape)
    return smooth * curve[:, None, None], None


def _rollout(ask: Ask, weighted: bool = False) -> tuple[Tensor, float | None]:
    target = _with_encoder(ask.target)
    curve = at_frames(decoder_attention(target, weighted=weighted), target)
    with torch.no_grad(), as_it_is(target.system):
        where = target.encoder.timing_and_content(target.frames)[2][0].mean(1)  # [T, 8, 8]
    return where * curve[:, None, None], None


def decoder_attention(target: Target, *, weighted: bool = False) -> Tensor:
    """How much the sound in the window read each video token, [Tv], from attention alone.

    V-AURA's decoder has the video inside of its inputs, so that this is rollout over its positions: what is read there
    is a moment's picture together with its codes. The diffusion systems cross-attend to video tokens, and shares are
    averaged over timesteps, layers, heads and the columns of the window; EgoSonics' second way in, the frame image, has
    no attention.

    Args:
        weighted: weigh shares by the target's gradient, positive part.
    """
    target = _with_encoder(target)
    tokens = target.tokens.requires_grad_(weighted)
    parts = [p for name in ("decoder", "syncronet", "unet") if (p := getattr(target.system, name, None)) is not None]
    target.of_tokens(target.tokens)  # the decoder's weights become a Llama when it runs for the first time
    with torch.set_grad_enabled(weighted), record_attention(parts[0], graph=weighted) as shares:
        value = target.of_tokens(tokens)[0]
    names = [n for n in shares if isinstance(target, LogLikelihood) or n.endswith(".attn2")]
    # a time bias makes shares of its own, without queries: [heads, columns, tokens]
    layers = [each for name in names for each in shares[name] if each.ndim == 4]
    gradients = [torch.zeros_like(each) for each in layers]
    if weighted:
        found = torch.autograd.grad(value, layers, allow_unused=True)
        gradients = [z if g is None else g for z, g in zip(gradients, found, strict=True)]
        layers = [each.detach() for each in layers]
    count = tokens.shape[1]
    if isinstance(target, LogLikelihood):
        total = (gradient_rollout(layers, gradients) if weighted else rollout(layers))[0]
        books = target.system.config.num_codebooks
        read = total[target.first : target.last + books - 1].mean(0)  # a position predicts K codebooks
        decoder = target.system.decoder
        index = decoder.token_of_position(target.codes.shape[-1], count).to(read.device)
        return read.new_zeros(count + 1).index_add(0, index, read)[:count]
    assert isinstance(target, Denoising)
    c, read = target.system.config, torch.zeros(count, device=tokens.device)
    timed = getattr(c, "video_tokens", None)
    for shares_, gradient in zip(layers, gradients, strict=True):
        shares_ = ((shares_ * gradient).clamp(min=0) if weighted else shares_)[..., :timed].mean((0, 1))  # [rows W, K]
        # a picture of half the size has half the rows and columns
        depth = round(np.log2((c.rows * target.columns / len(shares_)) ** 0.5))
        columns = -(-target.columns // 2**depth)
        first, last = target.first >> depth, max((target.first >> depth) + 1, -(-target.last >> depth))
        each = shares_.unflatten(0, (-1, columns))[:, first:last].mean((0, 1))  # [K]
        times = (torch.arange(count, device=each.device) + 0.5) / target.token_rate
        read += each[(times / c.token_s).long().clamp(max=len(each) - 1)]
    return read


# --- what methods share -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """The events that the encoder expects: steps of 5 ms, weights within the window [N], attention [N, h, 16, 16]."""

    steps: Tensor
    weights: Tensor
    attention: Tensor
    frames: int
    step_frames: float
    reach: int

    def on_frames(self, maps: Tensor) -> Tensor:
        """Maps [N, h, w] of events, shared out to the frames that they were read from, [T, h, w]."""
        total = maps.new_zeros(self.frames, *maps.shape[1:])
        middles = (self.steps * self.step_frames).round().long().tolist()
        for middle, map_ in zip(middles, maps, strict=True):
            for away in range(-self.reach, self.reach + 1):
                if 0 <= middle + away < self.frames:
                    total[middle + away] += map_ * (1 - abs(away) / (self.reach + 1)) / (self.reach + 1)
        return total


def _events(target: Target) -> _Found:
    encoder, frames = target.encoder, target.frames
    with torch.no_grad(), as_it_is(target.system):
        timing, _, attention = encoder.timing_and_content(frames)
        flux = encoder.flux(timing).sigmoid()
        peaks, _, probability, attended = encoder.event_crop.events(frames, timing, flux, attention)
    steps = peaks[:, 1]
    step_s = 1 / (4 * target.token_rate)
    weights = probability * _inside(steps.cpu() * step_s, target.window).to(probability)
    if len(steps) and not weights.any():
        target.notes.append("the encoder expects no event in the window: attention of all that it expects is shown")
        weights = probability
    reach = encoder.config.event_crop.frames // 2
    return _Found(steps, weights, attended, frames.shape[1], step_s * target.fps, reach)


def _inside(times: Tensor, window: tuple[float, float]) -> Tensor:
    """Which times (s) belong to a window."""
    return (times >= window[0] - NEAR_S) & (times <= window[1] + NEAR_S)


def at_frames(curve: Tensor, target: Target) -> Tensor:
    """A curve over video tokens [Tv] as one over frames [T]: the mean of each frame's tokens."""
    count = target.frames.shape[1]
    frame = ((torch.arange(len(curve)) + 0.5) / target.token_rate * target.fps).long().clamp(max=count - 1)
    frame = frame.to(curve.device)
    total = curve.new_zeros(count).index_add(0, frame, curve)
    return total / curve.new_zeros(count).index_add(0, frame, torch.ones_like(curve)).clamp(min=1)


def _with_encoder(target: Target) -> Target:
    if target.encoder is None:
        raise UsageError(f"{target.title} has no encoder of a system: take a method of pixels, such as occlusion")
    return target


METHODS: dict[str, Callable[[Ask], tuple[Tensor, float | None]]] = {
    "gradient": _gradient, "integrated_gradients": _integrated_gradients, "smoothgrad": _smoothgrad,
    "occlusion": _occlusion, "token_ablation": _token_ablation, "grad_cam": _grad_cam,
    "motion_grad_cam": _motion_grad_cam, "attention": _attention, "motion_attention": _motion_attention,
    "gradient_attention": _gradient_attention, "place_and_time": _place_and_time,
    "rollout": _rollout,
    "gradient_rollout": lambda ask: _rollout(ask, weighted=True),
}  # fmt: skip
"""By name, from what is asked to a map [T, h, w] and the completeness error."""
WITHOUT_BASELINE = (
    "smoothgrad", "grad_cam", "motion_grad_cam", "attention", "motion_attention", "gradient_attention",
    "place_and_time", "rollout", "gradient_rollout",
)  # fmt: skip
"""Methods that compare with nothing."""
DEFAULT = "gradient_attention"
"""The method where none is named; ``docs/saliency.md`` has how each method scores."""


def attribute(
    target: Target, method: str = DEFAULT, *, baseline: str = "blur", seed: int = 0, progress: Progress = None
) -> Saliency:
    """A map of where and when the target looked.

    The same arguments give the same map. Memory is bounded by :data:`BATCH`.

    Args:
        target: what is explained.
        method: out of :data:`METHODS`.
        baseline: out of :data:`BASELINES`, for the methods that need one.
        seed: of noise.
        progress: see :data:`Progress`.

    Raises:
        UsageError: no such method or baseline, or a method that needs an encoder where there is none.

    Examples:
        >>> from v2a_nb.saliency.targets import FrameFunction
        >>> frames = torch.rand(1, 4, 3, 32, 32)
        >>> corner = FrameFunction(lambda frames: frames[..., :8, :8].sum((1, 2, 3, 4)), frames, 25)
        >>> made = attribute(corner, "gradient", baseline="black")
        >>> made.map.shape, bool(made.map[:, 4:].any())
        ((4, 16, 16), False)
    """
    for kind, name, known in (("method", method, METHODS), ("baseline", baseline, BASELINES)):
        if name not in known:
            raise UsageError(f"unknown {kind} {name!r}; there is {', '.join(known)}")
    notes = len(target.notes)
    ask = Ask(target, BASELINES[baseline](target.frames), seed, progress)
    with torch.enable_grad():
        map_, error = METHODS[method](ask)
    made, more = map_.cpu().float().numpy(), tuple(target.notes)
    del target.notes[notes:]
    return Saliency(
        np.maximum(made, 0), target.fps, target.window, target=target.title, method=method,
        baseline="" if method in WITHOUT_BASELINE else baseline, completeness_error=error, value=target.value,
        notes=more,
    )  # fmt: skip
