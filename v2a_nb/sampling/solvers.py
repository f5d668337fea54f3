"""DDIM and DPM-Solver++ as diffusers' schedulers compute them, number for number, for sampling alone.

:func:`~v2a_nb.sampling.diffusion.make_scheduler` makes diffusers' own; importing these takes longer than a sound takes
to generate.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor


def betas(kind: str, start: float, end: float, steps: int) -> Tensor:
    """Variance of the noise that each training timestep adds, float32 [steps].

    Args:
        kind: ``"linear"``, or ``"scaled_linear"``, whose square roots are.
        start, end: the first one and the last.
    """
    if kind == "linear":
        return torch.linspace(start, end, steps, dtype=torch.float32)
    return torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float32) ** 2


def spaced(spacing: str, steps: int, train_steps: int, offset: int, more: int = 0) -> np.ndarray:
    """Timesteps int64 [steps] from noisy to clean.

    Args:
        spacing: ``"leading"``, ``"trailing"`` or ``"linspace"``, see
            :class:`~v2a_nb.sampling.diffusion.NoiseSchedule`.
        offset: is added to leading ones.
        more: so many more are spread, and the last ones left out.
    """
    count = steps + more
    if spacing == "linspace":
        times = np.linspace(0, train_steps - 1, count).round()[::-1][:steps]
    elif spacing == "leading":
        times = (np.arange(count) * (train_steps // count))[::-1][:steps] + offset
    else:
        times = np.arange(train_steps, 0, -train_steps / steps).round() - 1
    return times.astype(np.int64)


class Solver(ABC):
    """A sampler under way: it is called once for each of its :attr:`timesteps`, in order.

    Args:
        alphas: share of the signal's power that is left at each training timestep, float32.
        times: timesteps, see :func:`spaced`.
        prediction: ``"epsilon"`` or ``"v_prediction"``.
    """

    def __init__(self, alphas: Tensor, times: np.ndarray, prediction: str) -> None:
        self.alphas, self.prediction = alphas, prediction
        self.timesteps: list[int] = times.tolist()
        self.done = 0

    def __call__(self, predicted: Tensor, latents: Tensor) -> Tensor:
        """The latents of the next timestep, from what was predicted for those of this one."""
        after = self.step(predicted, latents, self.done)
        self.done += 1
        return after

    init_noise_sigma = 1.0
    """By which the first noise is multiplied."""

    def scaled(self, latents: Tensor) -> Tensor:
        """The latents as the model is to see them."""
        return latents

    @abstractmethod
    def step(self, predicted: Tensor, latents: Tensor, index: int) -> Tensor:
        """One step from ``timesteps[index]``."""


class Ddim(Solver):
    """DDIM without noise (Song et al. 2021, formula 12).

    Args:
        stride: timesteps from one step to the next.
    """

    def __init__(self, alphas: Tensor, times: np.ndarray, prediction: str, stride: int) -> None:
        super().__init__(alphas, times, prediction)
        self.stride = stride

    def step(self, predicted: Tensor, latents: Tensor, index: int) -> Tensor:
        t = self.timesteps[index]
        now, then = self.alphas[t], self.alphas[max(0, t - self.stride)]
        spread = (1 - now) ** 0.5
        if self.prediction == "epsilon":
            clean, noise = (latents - spread * predicted) / now**0.5, predicted
        else:
            clean, noise = now**0.5 * latents - spread * predicted, now**0.5 * predicted + spread * latents
        return then**0.5 * clean + (1 - then) ** 0.5 * noise


class DpmSolver(Solver):
    """DPM-Solver++ of order 2, multistep, midpoint (Lu et al. 2022, algorithm 2).

    Args:
        final: ``"zero"``: no noise is left after the last step; ``"sigma_min"``: that of timestep 0.
    """

    def __init__(self, alphas: Tensor, times: np.ndarray, prediction: str, final: str) -> None:
        super().__init__(alphas, times, prediction)
        sigmas = (((1 - alphas) / alphas) ** 0.5).numpy()
        last = 0 if final == "zero" else ((1 - alphas[0]) / alphas[0]) ** 0.5
        at_times = np.interp(times, np.arange(len(sigmas)), sigmas)
        self.sigmas = torch.from_numpy(np.concatenate([at_times, [last]]).astype(np.float32))
        # the last step is of order 1 where order 2 would be unstable
        self.ends_with_first_order = final == "zero" or len(times) < 15
        self.before: Tensor | None = None

    def step(self, predicted: Tensor, latents: Tensor, index: int) -> Tensor:
        alpha_s, sigma_s = self._scales(index)
        if self.prediction == "epsilon":
            clean = (latents - sigma_s * predicted) / alpha_s
        else:
            clean = alpha_s * latents - sigma_s * predicted
        before, self.before = self.before, clean
        alpha_t, sigma_t = self._scales(index + 1)
        now, then = _log_ratio(alpha_s, sigma_s), _log_ratio(alpha_t, sigma_t)
        h = then - now
        factor = alpha_t * (torch.exp(-h) - 1.0)
        after = (sigma_t / sigma_s) * latents.float() - factor * clean
        if before is not None and not (self.ends_with_first_order and index == len(self.timesteps) - 1):
            ratio = (now - _log_ratio(*self._scales(index - 1))) / h
            after = after - 0.5 * factor * ((1.0 / ratio) * (clean - before))
        return after.to(clean.dtype)

    def _scales(self, index: int) -> tuple[Tensor, Tensor]:
        """Factors of signal and noise."""
        sigma = self.sigmas[index]
        alpha = 1 / ((sigma**2 + 1) ** 0.5)
        return alpha, sigma * alpha


def _log_ratio(alpha: Tensor, sigma: Tensor) -> Tensor:
    return torch.log(alpha) - torch.log(sigma)
