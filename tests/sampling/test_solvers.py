"""The solvers against diffusers' schedulers, number for number."""

from __future__ import annotations

import pytest
import torch

from v2a_nb.errors import UsageError
from v2a_nb.sampling.diffusion import NoiseSchedule, alphas_cumprod, make_scheduler, make_solver


@pytest.mark.parametrize("steps", [1, 2, 14, 25, 333])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize(
    "how",
    [
        {"sampler": "ddim"}, {"sampler": "dpm++", "final": "zero"}, {"sampler": "dpm++", "final": "sigma_min"},
        {"sampler": "ddim", "beta_schedule": "linear", "train_steps": 700},
    ],
    ids=["ddim", "dpm-zero", "dpm-sigma-min", "linear"],
)  # fmt: skip
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_solver_takes_diffusers_steps(prediction: str, how: dict, spacing: str, steps: int):
    schedule = NoiseSchedule(prediction=prediction, spacing=spacing, **how)
    solver, scheduler = make_solver(schedule, steps), make_scheduler(schedule, steps)
    assert solver.timesteps == scheduler.timesteps.tolist()
    assert torch.equal(alphas_cumprod(schedule), scheduler.alphas_cumprod.double())
    generator = torch.Generator().manual_seed(0)
    ours = theirs = torch.randn(1, 2, 4, 6, generator=generator)
    for t in solver.timesteps:
        predicted = torch.randn(ours.shape, generator=generator)
        ours = solver(predicted, ours)
        theirs = scheduler.step(predicted, t, theirs, return_dict=False)[0]
        assert torch.equal(ours, theirs)


def test_an_unknown_beta_schedule_is_refused():
    with pytest.raises(UsageError, match="beta_schedule must be one of linear, scaled_linear, not 'cosine'"):
        NoiseSchedule(beta_schedule="cosine")
