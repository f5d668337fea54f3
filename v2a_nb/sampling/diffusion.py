"""Latent diffusion: noise schedule, loss, guidance, sampling, and windows over long latents.

A *model* here is any function ``model(noisy, t, conditions) -> prediction`` over latents [N, C, H, W], timesteps
[N] and a dictionary of tensors whose first axis is N. Guidance puts the conditional and the null half into one
batch. Windows put long latents together from parts as long as training had. They do so at every step of the sampler
and not afterwards, so that no seam can form (MultiDiffusion, Bar-Tal et al. 2023, along time).

No scheduler is downloaded: the numbers of Stable Diffusion stand in :class:`NoiseSchedule`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from v2a_nb.errors import UsageError
from v2a_nb.models.lean_unet import UNet, UNetSizes
from v2a_nb.sampling.solvers import Ddim, DpmSolver, Solver, betas, spaced

Conditions = dict[str, Tensor]
"""By name, each [N, ...]."""
Model = Callable[[Tensor, Tensor, Conditions], Tensor]
"""From noisy latents [N, C, H, W], timesteps [N] and conditions to a prediction [N, C, H, W]."""
Denoiser = Callable[[Tensor, Tensor], Tensor]
"""A model with its conditions filled in."""


SAMPLERS = ("ddim", "dpm++", "ddpm")
"""Samplers by short names; the first two have solvers of our own (:mod:`v2a_nb.sampling.solvers`)."""


@dataclass(frozen=True)
class NoiseSchedule:
    """How latents are noised in training, and by which steps the noise is taken away.

    The defaults are Stable Diffusion's schedule with EgoSonics' sampler (section 3.4: 1000 steps of noise,
    20 steps of DDIM).

    Attributes:
        prediction: what the network predicts: the noise (``"epsilon"``), or ``"v_prediction"`` (Salimans and Ho
            2022), which keeps its scale where nearly all is noise.
        beta_start, beta_end, beta_schedule: as in diffusers, of which ``"linear"`` and ``"scaled_linear"`` are known.
        train_steps: timesteps are 0 to ``train_steps - 1``.
        sampler: ``"ddim"`` (without added noise), ``"dpm++"`` (DPM-Solver++ of order 2, Action2Sound), ``"ddpm"``
            (Ho et al. 2020, VTA-LDM), or any scheduler of diffusers by the name of its class, such as
            ``"UniPCMultistepScheduler"``.
        spacing: which timesteps a sampler visits: ``"leading"`` (Stable Diffusion), ``"trailing"`` (starts
            at the last one, whose latents are what it is given), ``"linspace"``.
        final: where DPM-Solver++ ends: ``"sigma_min"`` is what Action2Sound's own solver does.
        steps: of the sampler.
        snr_gamma: the loss is weighted by ``min(SNR, gamma)``, in the form that belongs to the prediction (Hang et
            al. 2023); None weights all timesteps alike.
        snr_form: ``"prediction"``, or ``"epsilon"``: the weights of epsilon under any prediction, as in VTA-LDM's
            released code.

    Raises:
        UsageError: an unknown word.
    """

    prediction: str = "epsilon"
    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: str = "scaled_linear"
    train_steps: int = 1000
    sampler: str = "ddim"
    spacing: str = "leading"
    final: str = "sigma_min"
    steps: int = 20
    snr_gamma: float | None = None
    snr_form: str = "prediction"

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS and not self.sampler.endswith("Scheduler"):
            raise UsageError(
                f"sampler must be one of {', '.join(SAMPLERS)} or a scheduler of diffusers by the name of its class, "
                f"not {self.sampler!r}"
            )
        for name, known in (
            ("prediction", ("epsilon", "v_prediction")),
            ("beta_schedule", ("linear", "scaled_linear")),
            ("spacing", ("leading", "trailing", "linspace")),
            ("final", ("zero", "sigma_min")),
            ("snr_form", ("prediction", "epsilon")),
        ):
            if getattr(self, name) not in known:
                raise UsageError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")


def make_scheduler(schedule: NoiseSchedule, steps: int | None = None):
    """The diffusers scheduler of ``schedule`` with its timesteps set; each run needs a new one, because it has a state.

    :func:`sample` takes the same steps by :func:`make_solver` where there is a solver of our own.

    Raises:
        UsageError: steps out of range, or diffusers has no scheduler of that name that takes these settings.
    """
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

    steps = _steps(schedule, steps)
    common = {
        "num_train_timesteps": schedule.train_steps, "beta_start": schedule.beta_start, "beta_end": schedule.beta_end,
        "beta_schedule": schedule.beta_schedule, "prediction_type": schedule.prediction,
        "timestep_spacing": schedule.spacing, "steps_offset": 1 if schedule.spacing == "leading" else 0,
    }  # fmt: skip
    if schedule.sampler == "ddim":
        # latents are no pictures in [-1, 1]: nothing may be clipped
        scheduler = DDIMScheduler(**common, clip_sample=False, set_alpha_to_one=False)
    elif schedule.sampler != "dpm++":
        return _scheduler_by_name(schedule, common, steps)
    else:
        scheduler = DPMSolverMultistepScheduler(
            **common,
            algorithm_type="dpmsolver++",
            solver_order=2,
            solver_type="midpoint",
            final_sigmas_type=schedule.final,
        )
    scheduler.set_timesteps(steps)
    return scheduler


def _scheduler_by_name(schedule: NoiseSchedule, settings: dict, steps: int):
    """A scheduler of diffusers by the name of its class, with as many of the settings as it takes."""
    import inspect

    import diffusers

    name = "DDPMScheduler" if schedule.sampler == "ddpm" else schedule.sampler
    kind = getattr(diffusers, name, None)
    if kind is None or not hasattr(kind, "set_timesteps"):
        raise UsageError(f"diffusers has no scheduler {name!r}; DDPMScheduler is one, for example")
    taken = inspect.signature(kind.__init__).parameters
    needed = ("beta_schedule", "beta_start", "beta_end", "num_train_timesteps", "prediction_type")
    if any(word not in taken for word in needed):
        raise UsageError(f"{name} knows no such noise as this model was trained under: give another sampler")
    known = {word: value for word, value in {**settings, "clip_sample": False}.items() if word in taken}
    scheduler = kind(**known)
    scheduler.set_timesteps(steps)
    return scheduler


class _OfDiffusers:
    """A scheduler of diffusers as a :class:`~v2a_nb.sampling.solvers.Solver`.

    Args:
        scheduler: with its timesteps set.
        generators: of the noise that it may add, one for each item.
    """

    def __init__(self, scheduler, generators: Sequence[torch.Generator]) -> None:
        import inspect

        self.scheduler, self.timesteps, self.done = scheduler, list(scheduler.timesteps), 0
        self.init_noise_sigma = float(scheduler.init_noise_sigma)
        takes = inspect.signature(scheduler.step).parameters
        self.how = {"generator": list(generators)} if "generator" in takes else {}

    def scaled(self, latents: Tensor) -> Tensor:
        return self.scheduler.scale_model_input(latents, self.timesteps[self.done])

    def __call__(self, predicted: Tensor, latents: Tensor) -> Tensor:
        t = self.timesteps[self.done]
        self.done += 1
        return self.scheduler.step(predicted, t, latents, **self.how, return_dict=False)[0]


def make_solver(schedule: NoiseSchedule, steps: int | None = None) -> Solver:
    """The sampler of ``schedule``, without diffusers; each run needs a new one, because it has a state.

    Raises:
        UsageError: steps out of range, or there is no solver of our own for this sampler.
    """
    if schedule.sampler not in ("ddim", "dpm++"):
        raise UsageError(f"{schedule.sampler} is a sampler of diffusers: make_scheduler makes it")
    s, steps = schedule, _steps(schedule, steps)
    alphas, offset = _alphas(s), 1 if s.spacing == "leading" else 0
    if s.sampler == "ddim":
        times = spaced(s.spacing, steps, s.train_steps, offset)
        return Ddim(alphas, times, s.prediction, s.train_steps // steps)
    return DpmSolver(alphas, spaced(s.spacing, steps, s.train_steps, offset, more=1), s.prediction, s.final)


def _steps(schedule: NoiseSchedule, steps: int | None) -> int:
    steps = schedule.steps if steps is None else steps
    if not 1 <= steps <= schedule.train_steps:
        raise UsageError(f"steps must lie in 1..{schedule.train_steps}, not {steps}")
    return steps


@lru_cache(maxsize=8)
def alphas_cumprod(schedule: NoiseSchedule) -> Tensor:
    """Share of the signal's power that is left at each timestep, [train_steps], float64."""
    return _alphas(schedule).double()


def _alphas(schedule: NoiseSchedule) -> Tensor:
    """The same as float32, as diffusers has it."""
    s = schedule
    return torch.cumprod(1.0 - betas(s.beta_schedule, s.beta_start, s.beta_end, s.train_steps), dim=0)


def add_noise(latents: Tensor, noise: Tensor, t: Tensor, schedule: NoiseSchedule) -> tuple[Tensor, Tensor]:
    """Noisy latents and what the network should predict of them, both [B, C, H, W].

    Args:
        latents: [B, C, H, W], of about unit variance.
        noise: Gaussian noise of the same shape.
        t: timesteps int64 [B].
    """
    alphas = alphas_cumprod(schedule).to(latents.device)[t][:, None, None, None]
    signal, spread = alphas.sqrt().to(latents), (1 - alphas).sqrt().to(latents)
    noisy = signal * latents + spread * noise
    return noisy, noise if schedule.prediction == "epsilon" else signal * noise - spread * latents


def draw_timesteps(b: int, schedule: NoiseSchedule, generator: torch.Generator | None = None) -> Tensor:
    """Timesteps int64 [b], each uniform, spread over the range so that small batches are alike.

    One falls into each of ``b`` equal parts of the range, in random order.
    """
    where = (torch.randperm(b, generator=generator) + torch.rand(b, generator=generator)) / b
    return (where * schedule.train_steps).long().clamp(max=schedule.train_steps - 1)


def loss_weights(t: Tensor, schedule: NoiseSchedule) -> Tensor:
    """Weight of each timestep, float32 [B]; see :attr:`NoiseSchedule.snr_gamma`."""
    if schedule.snr_gamma is None:
        return torch.ones(len(t), device=t.device)
    alphas = alphas_cumprod(schedule).to(t.device)[t]
    snr = alphas / (1 - alphas)
    # the released VTA-LDM divides by SNR under a v target, too; SNR + 1 is what belongs there
    under = snr if "epsilon" in (schedule.prediction, schedule.snr_form) else snr + 1
    return (snr.clamp(max=schedule.snr_gamma) / under).float()


def diffusion_loss(
    denoise: Denoiser,
    latents: Tensor,
    schedule: NoiseSchedule,
    *,
    generator: torch.Generator | None = None,
    t: Tensor | None = None,
) -> dict[str, Tensor]:
    """Mean squared error of the predicted noise (or v): ControlNet's loss (EgoSonics, equation 2).

    Args:
        denoise: the model with its conditions.
        latents: [B, C, H, W].
        generator: of timesteps and noise, on the CPU; None takes the global one.
        t: timesteps int64 [B]; left out, they are drawn.

    Returns:
        ``loss``, weighted, and ``mse`` [B] of the items.
    """
    t = draw_timesteps(len(latents), schedule, generator) if t is None else t
    t = t.to(latents.device)
    noise = torch.randn(latents.shape, generator=generator).to(latents)
    noisy, target = add_noise(latents, noise, t, schedule)
    mse = (denoise(noisy, t) - target).square().flatten(1).mean(1)  # [B]
    return {"loss": (mse * loss_weights(t, schedule)).mean(), "mse": mse}


@torch.no_grad()
def use_of_video(
    right: Denoiser, wrong: Denoiser, latents: Tensor, schedule: NoiseSchedule, *, t: int = 850, seed: int = 0
) -> float:
    """Loss with the wrong video minus loss with the right one, under the same noise: 0 means that it is not used.

    At t = 850 nearly all is noise, so that only the conditions can tell what was there: the check is cheap and
    varies little.

    Args:
        right: denoiser with the conditions that belong to ``latents``.
        wrong: with those of other clips (roll the batch by one).
        latents: [B, C, H, W].
        t: timestep of all items.
        seed: of the noise.

    Returns:
        the difference, in units of the target's variance.
    """
    times = torch.full((len(latents),), t)
    losses = []
    for denoise in (wrong, right):
        generator = torch.Generator().manual_seed(seed)
        losses.append(diffusion_loss(denoise, latents, schedule, generator=generator, t=times)["mse"].mean())
    return float(losses[0] - losses[1])


def classifier_free_guidance(
    model: Model,
    conditions: Conditions,
    null: Conditions | None,
    guidance: float,
    within: tuple[float, float] | None = None,
) -> Denoiser:
    """Classifier-free guidance: ``null + guidance * (conditional - null)``, both halves in one batch.

    Args:
        conditions: [B, ...] each.
        null: the same names, [B, ...] or [1, ...]; not needed where guidance is 1.
        guidance: 1 is the conditional model alone, and then the null half is not computed.
        within: the first and the last timestep at which there is guidance; at others the conditional model is alone.
            None: at all.

    Raises:
        UsageError: guidance out of range, or other names.
    """
    if not 0 <= guidance <= 100:
        raise UsageError(f"guidance must lie in 0..100, not {guidance}")
    if guidance == 1:
        return lambda noisy, t: model(noisy, t, conditions)
    if null is None or null.keys() != conditions.keys():
        raise UsageError(f"guidance {guidance} needs a null with the conditions {', '.join(conditions)}")
    both = {k: torch.cat([v, null[k].to(v).expand_as(v)]) for k, v in conditions.items()}

    def denoise(noisy: Tensor, t: Tensor) -> Tensor:
        if within is not None and not within[0] <= int(t[0]) <= within[1]:
            return model(noisy, t, conditions)
        conditional, unconditional = model(torch.cat([noisy, noisy]), torch.cat([t, t]), both).chunk(2)
        return unconditional + guidance * (conditional - unconditional)

    return denoise


def windows(total: int, context: int, overlap: int, align: int = 1) -> list[tuple[int, int]]:
    """``(start, stop)`` of the windows that cover ``total`` columns, evenly spread.

    Args:
        context: columns of a window; one that covers all is as short as it may be.
        overlap: columns that neighbours share at least.
        align: starts are multiples of it.

    Raises:
        UsageError: an overlap that leaves no way forward.

    Examples:
        >>> windows(128, 64, 16, 4)
        [(0, 64), (32, 96), (64, 128)]
        >>> windows(40, 64, 16)
        [(0, 40)]
    """
    if total < 1 or not 0 <= overlap < context or context - overlap < align:
        raise UsageError(f"{total} columns cannot be covered by windows of {context} that overlap by {overlap}")
    if total <= context:
        return [(0, total)]
    stride = (context - overlap) // align * align
    last = -(-(total - context) // align) * align  # the first possible start from which the end is reached
    n = -(-last // stride)
    starts = [i * last // n // align * align for i in range(n)]
    return [(a, a + context) for a in starts] + [(last, total)]


def _share(start: int, stop: int, total: int, overlap: int) -> Tensor:
    """Weights of a window's columns: 1 inside, falling towards ends that another window reaches across."""
    weight = torch.ones(stop - start)
    ramp = (torch.arange(overlap) + 0.5) / max(1, overlap)
    ramp = (ramp * ramp * (3 - 2 * ramp))[: stop - start]  # next to nothing where a window's padding is felt
    if start > 0:
        weight[: len(ramp)] *= ramp
    if stop < total:
        weight[-len(ramp) :] *= ramp.flip(0)
    return weight


def in_windows(parts: Sequence[tuple[int, int, Denoiser]], total: int, overlap: int) -> Denoiser:
    """One denoiser of ``total`` columns from those of its windows, cross-faded.

    Args:
        parts: ``(start, stop, denoise)``, covering all columns.
        overlap: columns of the cross-fade.
    """
    if len(parts) == 1:
        return parts[0][2]
    shares = [_share(start, stop, total, overlap) for start, stop, _ in parts]
    sums = torch.zeros(total)
    for (start, stop, _), share in zip(parts, shares, strict=True):
        sums[start:stop] += share

    def denoise(noisy: Tensor, t: Tensor) -> Tensor:
        prediction = torch.zeros_like(noisy)
        for (start, stop, part), share in zip(parts, shares, strict=True):
            weight = (share / sums[start:stop]).to(noisy)
            prediction[..., start:stop] += weight * part(noisy[..., start:stop], t)
        return prediction

    return denoise


def in_batch(spans: Sequence[tuple[int, int]], part: Denoiser, total: int, overlap: int) -> Denoiser:
    """:func:`in_windows` where all windows are as wide and go through one denoiser as one batch, window by window.

    Args:
        spans: ``(start, stop)`` of the windows.
        part: denoiser of len(spans) * B items.
        total, overlap: as for :func:`in_windows`.
    """

    def denoise(noisy: Tensor, t: Tensor) -> Tensor:
        wide = part(torch.cat([noisy[..., start:stop] for start, stop in spans]), t.repeat(len(spans)))
        pieces = wide.split(len(noisy))
        found = [(*span, lambda noisy, t, piece=piece: piece) for span, piece in zip(spans, pieces, strict=True)]
        return in_windows(found, total, overlap)(noisy, t)

    return denoise


def _joined(conditions: Sequence[Conditions]) -> Conditions:
    """The conditions of several windows as those of one batch."""
    return {name: torch.cat([each[name] for each in conditions]) for name in conditions[0]}


@torch.no_grad()
def sample(
    denoise: Denoiser,
    shape: Sequence[int],
    schedule: NoiseSchedule,
    generators: Sequence[torch.Generator],
    *,
    steps: int | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """Latents [B, C, H, W] out of noise; DDIM and DPM-Solver++ draw no more of it on the way.

    Args:
        denoise: see :func:`classifier_free_guidance` and :func:`in_windows`.
        shape: (C, H, W).
        schedule: the one that the model was trained under.
        generators: one for each of the B items, on the CPU, so that an item starts from the same noise alone,
            in any batch and on any device.
        steps: of the sampler; left out, the preset's.
        progress: called with 1 after every step.

    Raises:
        UsageError: steps out of range.
    """
    own = schedule.sampler in ("ddim", "dpm++")
    solver = make_solver(schedule, steps) if own else _OfDiffusers(make_scheduler(schedule, steps), generators)
    latents = torch.stack([torch.randn(*shape, generator=g) for g in generators]).to(device)
    latents = latents * solver.init_noise_sigma
    for t in solver.timesteps:
        times = torch.full((len(latents),), int(t), dtype=torch.long, device=latents.device)
        latents = solver(denoise(solver.scaled(latents), times), latents)
        if progress:
            progress(1)
    return latents


def sample_long(
    model: Model,
    conditions: Callable[[int, int], tuple[Conditions, Conditions | None]],
    shape: Sequence[int],
    schedule: NoiseSchedule,
    generators: Sequence[torch.Generator],
    *,
    guidance: float,
    context: int,
    overlap: int,
    align: int = 1,
    interval: Sequence[float] = (0.0, 1.0),
    together: bool = False,
    **how,
) -> Tensor:
    """:func:`sample` for any number of columns: one draw of noise, windows at every step.

    Args:
        conditions: from a window ``(start, stop)`` to its conditions and their null.
        shape: (C, H, W) of all columns.
        guidance: see :func:`classifier_free_guidance`.
        context, overlap, align: see :func:`windows`.
        interval: from which share of the timesteps to which there is guidance (Kynkäänniemi et al. 2024): 0 is where
            nothing is noise, 1 where all is.
        together: windows of one width go through the model as one batch. That is faster where a window alone does not
            keep the processor busy, and differs by a rounding.
        how: ``steps``, ``device`` and ``progress`` of :func:`sample`.

    Raises:
        UsageError: guidance or interval out of range.
    """
    total = shape[-1]
    if len(interval) != 2 or not 0 <= interval[0] <= interval[1] <= 1:
        raise UsageError(f"the interval of guidance must lie in 0..1, from low to high, not {tuple(interval)}")
    low, high = interval
    within = None if (low, high) == (0, 1) else (low * schedule.train_steps, high * schedule.train_steps)
    spans = windows(total, context, overlap, align)
    each = [conditions(start, stop) for start, stop in spans]
    alike = [i for i, (start, stop) in enumerate(spans) if stop - start == spans[0][1] - spans[0][0]]
    if together and len(alike) == len(spans) > 1:
        both = [None if part[0] is None else _joined(part) for part in zip(*each, strict=True)]
        whole = classifier_free_guidance(model, *both, guidance, within)
        return sample(in_batch(spans, whole, total, overlap), shape, schedule, generators, **how)
    parts = []
    for (start, stop), (condition, null) in zip(spans, each, strict=True):
        parts.append((start, stop, classifier_free_guidance(model, condition, null, guidance, within)))
    return sample(in_windows(parts, total, overlap), shape, schedule, generators, **how)


def decode_long(
    decode: Callable[[Tensor], Tensor],
    latents: Tensor,
    channels: int,
    factor: int,
    context: int,
    overlap: int,
    align: int = 1,
) -> Tensor:
    """The picture [B, channels, H factor, W factor] of latents of any width.

    Decoded in windows as wide as training had, cross-faded, so that a long sound needs no more memory at a time.

    Args:
        decode: latents [B, C, H, w] to pictures.
        latents: [B, C, H, W].
        channels: of the picture.
        factor: pixels, in each direction, of one latent.
        context, overlap, align: latent columns, see :func:`windows`.
    """
    rows, columns = latents.shape[-2:]
    parts = [
        (a * factor, b * factor, lambda wide, t, a=a, b=b: decode(latents[..., a:b]))
        for a, b in windows(columns, context, overlap, align)
    ]
    wide = latents.new_zeros(len(latents), channels, rows * factor, columns * factor)
    return in_windows(parts, wide.shape[-1], overlap * factor)(wide, torch.zeros(0))


def spectrogram_unet(
    *,
    rows: int,
    channels: int,
    widths: Sequence[int],
    layers: int,
    heads: Sequence[int],
    groups: int,
    context_width: int,
    linear: bool = True,
    lean: bool = False,
) -> nn.Module:
    """Stable Diffusion's UNet in any size: cross-attention at all sizes but the coarsest, and in the middle.

    Args:
        rows: H of the latents.
        channels: of the latents.
        widths, layers: channels at each size, and residual blocks there.
        heads: attention heads at each size (diffusers calls them ``attention_head_dim``).
        groups: of the group norms.
        context_width: numbers in a context token.
        linear: how attention is projected: Stable Diffusion 2 has linear maps, version 1 convolutions.
        lean: a :class:`~v2a_nb.models.lean_unet.UNet`, for weights that are loaded, and not diffusers' own.
    """
    if lean:
        return UNet(UNetSizes(channels, tuple(widths), layers, tuple(heads), groups, context_width, linear))
    from diffusers import UNet2DConditionModel

    n = len(widths)
    return UNet2DConditionModel(
        sample_size=rows, in_channels=channels, out_channels=channels,
        down_block_types=("CrossAttnDownBlock2D",) * (n - 1) + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (n - 1),
        block_out_channels=tuple(widths), layers_per_block=layers, attention_head_dim=tuple(heads),
        norm_num_groups=groups, cross_attention_dim=context_width, use_linear_projection=linear,
    )  # fmt: skip
