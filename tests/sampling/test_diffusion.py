"""NoiseSchedule, loss, guidance, sampling, windows and the time bias, on models whose answer is known."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from v2a_nb.errors import UsageError
from v2a_nb.models.attention import (
    RowValues,
    TimeBias,
    cross_attentions,
    set_time_bias,
    watch_attention,
    without_cross_attention,
)
from v2a_nb.sampling.diffusion import (
    NoiseSchedule,
    add_noise,
    alphas_cumprod,
    classifier_free_guidance,
    decode_long,
    diffusion_loss,
    draw_timesteps,
    in_windows,
    loss_weights,
    make_scheduler,
    sample,
    sample_long,
    spectrogram_unet,
    use_of_video,
    windows,
)

KINDS = [
    NoiseSchedule(),
    NoiseSchedule(prediction="v_prediction", spacing="trailing"),
    NoiseSchedule(sampler="dpm++", spacing="linspace"),
    NoiseSchedule(sampler="dpm++", prediction="v_prediction", spacing="linspace", final="zero"),
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def oracle(schedule: NoiseSchedule, mean: float, spread: float):
    """The best possible prediction where every latent is Gaussian: what training would end at."""

    def denoise(noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        alphas = alphas_cumprod(schedule)[t][:, None, None, None].float()
        signal, sigma = alphas.sqrt(), (1 - alphas).sqrt()
        gain = signal * spread**2 / (signal**2 * spread**2 + sigma**2)
        clean = mean + gain * (noisy - signal * mean)
        noise = (noisy - signal * clean) / sigma
        return noise if schedule.prediction == "epsilon" else signal * noise - sigma * clean

    return denoise


# --- noise and loss -------------------------------------------------------------------------------------


def test_the_schedule_is_stable_diffusions():
    alphas = alphas_cumprod(NoiseSchedule())
    assert alphas[0].item() == pytest.approx(1 - 0.00085, abs=1e-6)
    assert alphas[-1].item() == pytest.approx(0.0047, abs=2e-4)
    assert make_scheduler(NoiseSchedule(), 20).timesteps.tolist()[:2] == [951, 901]  # "leading", offset 1
    assert make_scheduler(replace(NoiseSchedule(), spacing="trailing"), 20).timesteps.tolist()[:2] == [999, 949]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_target_gives_the_latents_back(prediction: str):
    schedule = NoiseSchedule(prediction=prediction)
    latents, noise = torch.randn(3, 4, 2, 5, generator=seeded()), torch.randn(3, 4, 2, 5, generator=seeded(1))
    t = torch.tensor([0, 500, 999])
    noisy, target = add_noise(latents, noise, t, schedule)
    alphas = alphas_cumprod(schedule)[t][:, None, None, None].float()
    signal, sigma = alphas.sqrt(), (1 - alphas).sqrt()
    clean = (noisy - sigma * target) / signal if prediction == "epsilon" else signal * noisy - sigma * target
    assert torch.allclose(clean, latents, atol=1e-4)
    scheduler = make_scheduler(schedule)
    assert torch.allclose(noisy, scheduler.add_noise(latents, noise, t), atol=1e-6)
    if prediction == "v_prediction":
        assert torch.allclose(target, scheduler.get_velocity(latents, noise, t), atol=1e-6)


@pytest.mark.parametrize("schedule", KINDS[:2])
def test_the_loss_is_zero_for_the_right_answer_and_the_targets_power_for_zeros(schedule: NoiseSchedule):
    latents, t = torch.full((32, 4, 8, 8), 1.5), torch.arange(16, 1000, 31)
    right = diffusion_loss(oracle(schedule, 1.5, 1e-9), latents, schedule, generator=seeded(), t=t)
    wrong = diffusion_loss(oracle(schedule, -1.5, 1e-9), latents, schedule, generator=seeded(), t=t)
    zeros = diffusion_loss(lambda noisy, t: torch.zeros_like(noisy), latents, schedule, generator=seeded(), t=t)
    assert right["loss"] < 1e-6 and (wrong["mse"] > 0.01).all() and wrong["loss"] > 1
    signal = alphas_cumprod(schedule)[
        t
    ].float()  # the target is the noise, or sqrt(signal) noise - sqrt(1 - signal) 1.5
    power = torch.ones(32) if schedule.prediction == "epsilon" else signal + (1 - signal) * 1.5**2
    assert zeros["mse"].shape == (32,) and torch.allclose(zeros["mse"], power, rtol=0.35)
    assert zeros["loss"].item() == pytest.approx(power.mean().item(), rel=0.05)


def test_the_loss_is_the_same_for_the_same_seed():
    latents = torch.randn(4, 4, 4, 8, generator=seeded())
    first, again, other = (
        diffusion_loss(lambda noisy, t: 0 * noisy, latents, NoiseSchedule(), generator=seeded(s))["loss"]
        for s in (1, 1, 2)
    )
    assert first == again != other


def test_timesteps_cover_the_range_evenly():
    t = draw_timesteps(10, NoiseSchedule(), seeded())
    assert sorted((t // 100).tolist()) == list(range(10))
    assert t.tolist() != sorted(t.tolist())
    many = torch.cat([draw_timesteps(1, NoiseSchedule(), seeded(s)) for s in range(500)])
    assert many.min() < 20 and many.max() > 980 and abs(many.float().mean() - 500) < 50


def test_min_snr_weights_have_the_form_of_the_prediction():
    t = torch.tensor([0, 500, 999])
    assert loss_weights(t, NoiseSchedule()).tolist() == [1, 1, 1]
    alphas = alphas_cumprod(NoiseSchedule())[t]
    snr = alphas / (1 - alphas)
    epsilon = loss_weights(t, NoiseSchedule(snr_gamma=5.0))
    assert torch.allclose(epsilon.double(), snr.clamp(max=5) / snr, atol=1e-6)
    v = loss_weights(t, NoiseSchedule(snr_gamma=5.0, prediction="v_prediction"))
    assert torch.allclose(v.double(), snr.clamp(max=5) / (snr + 1), atol=1e-6)


def test_use_of_video_is_zero_if_it_is_not_used_and_positive_if_it_is():
    schedule = NoiseSchedule(prediction="v_prediction")
    latents = torch.full((4, 2, 2, 8), 1.5)
    right, wrong = oracle(schedule, 1.5, 0.1), oracle(schedule, -1.5, 0.1)
    assert use_of_video(right, right, latents, schedule) == 0.0
    assert use_of_video(right, wrong, latents, schedule) > 0.5
    assert use_of_video(right, wrong, latents, schedule) == use_of_video(right, wrong, latents, schedule)


@pytest.mark.parametrize(
    "wrong", [{"prediction": "sample"}, {"sampler": "euler"}, {"spacing": "even"}, {"final": "one"}]
)
def test_unknown_words_are_refused(wrong: dict):
    with pytest.raises(UsageError, match=next(iter(wrong.values()))):
        NoiseSchedule(**wrong)


# --- sampling -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", KINDS)
def test_samples_of_the_best_model_are_distributed_as_the_data(schedule: NoiseSchedule):
    # a mean much further off would show that the last timestep still holds 0.5 % of the signal
    made = sample(oracle(schedule, 0.6, 0.5), (4, 16, 16), schedule, [seeded(0), seeded(1)], steps=30)
    assert made.mean().item() == pytest.approx(0.6, abs=0.05)
    assert made.std().item() == pytest.approx(0.5, abs=0.08)


def test_an_item_is_the_same_alone_and_in_a_batch():
    denoise = oracle(KINDS[1], 0.0, 1.0)
    both = sample(denoise, (4, 2, 8), KINDS[1], [seeded(5), seeded(6)], steps=4)
    alone = sample(denoise, (4, 2, 8), KINDS[1], [seeded(6)], steps=4)
    assert torch.equal(both[1], alone[0])
    assert not torch.equal(both[0], both[1])


def test_progress_counts_the_steps():
    seen: list[int] = []
    sample(oracle(KINDS[0], 0.0, 1.0), (1, 2, 2), KINDS[0], [seeded()], steps=7, progress=seen.append)
    assert seen == [1] * 7


def test_dpm_solver_is_that_of_action2sound():
    """Its own DPM-Solver++ 2M, "time_uniform": 25 steps of continuous time down to that of the first timestep."""
    schedule = NoiseSchedule(sampler="dpm++", spacing="linspace", steps=25)
    denoise = oracle(schedule, 0.6, 0.5)
    made = sample(denoise, (4, 8, 8), schedule, [seeded()])
    x = torch.randn(4, 8, 8, generator=seeded())[None].double()
    alphas, last = alphas_cumprod(schedule), None
    for a, b in pairwise(torch.linspace(999, 0, 26).round().long()):
        t, s = alphas[a], alphas[b]
        lam_a, lam_b = 0.5 * torch.log(t / (1 - t)), 0.5 * torch.log(s / (1 - s))
        clean = (x - (1 - t).sqrt() * denoise(x.float(), a[None]).double()) / t.sqrt()
        direction = clean
        if last is not None:
            ratio = (lam_a - last[0]) / (lam_b - lam_a)
            direction = (1 + 1 / (2 * ratio)) * clean - last[1] / (2 * ratio)
        x = ((1 - s) / (1 - t)).sqrt() * x - s.sqrt() * torch.expm1(lam_a - lam_b) * direction
        last = (lam_a, clean)
    assert torch.allclose(made.double(), x, atol=1e-3)
    other = sample(denoise, (4, 8, 8), replace(schedule, final="zero"), [seeded()])
    assert (other - made).abs().max() > 5 * (made - x).abs().max()


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_steps_that_cannot_be_meant_are_refused(steps: int):
    with pytest.raises(UsageError, match="steps"):
        make_scheduler(NoiseSchedule(), steps)


# --- guidance -------------------------------------------------------------------------------------------


def by_condition(noisy: torch.Tensor, t: torch.Tensor, conditions: dict) -> torch.Tensor:
    return noisy * 0 + conditions["x"][:, None, None, None]


def test_guidance_extrapolates_from_the_null():
    noisy, t = torch.zeros(2, 1, 1, 1), torch.zeros(2, dtype=torch.long)
    conditions, null = {"x": torch.tensor([3.0, 5.0])}, {"x": torch.tensor([1.0])}
    for guidance, wanted in ((0, [1.0, 1.0]), (1, [3.0, 5.0]), (2, [5.0, 9.0])):
        assert classifier_free_guidance(by_condition, conditions, null, guidance)(noisy, t).flatten().tolist() == wanted


def test_both_halves_are_one_batch_and_without_guidance_there_is_one_half():
    sizes = []

    def model(noisy, t, conditions):
        sizes.append((len(noisy), len(t), len(conditions["x"])))
        return noisy

    noisy, t = torch.zeros(3, 1, 1, 1), torch.zeros(3, dtype=torch.long)
    conditions = {"x": torch.zeros(3)}
    classifier_free_guidance(model, conditions, conditions, 2.0)(noisy, t)
    classifier_free_guidance(model, conditions, None, 1.0)(noisy, t)
    assert sizes == [(6, 6, 6), (3, 3, 3)]
    with pytest.raises(UsageError, match="null"):
        classifier_free_guidance(model, conditions, None, 2.0)
    with pytest.raises(UsageError, match="guidance"):
        classifier_free_guidance(model, conditions, conditions, -1.0)


# --- windows --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("context", "overlap", "align"), [(64, 16, 4), (16, 4, 4), (10, 3, 1), (64, 16, 16)])
def test_windows_cover_all_and_overlap(context: int, overlap: int, align: int):
    for total in [*range(align, 300, align), 4096]:
        made = windows(total, context, overlap, align)
        assert made[0][0] == 0 and made[-1][1] == total
        assert all(b - a == min(context, total) for a, b in made)
        assert all(a % align == 0 for a, _ in made)
        assert all(before[1] - after[0] >= overlap for before, after in pairwise(made))


def test_windows_of_lengths_that_are_not_aligned_still_cover_all():
    for total in range(1, 200):
        made = windows(total, 16, 4, 4)
        assert made[0][0] == 0 and made[-1][1] == total
        assert all(a < b and b - a <= 16 and a % 4 == 0 for a, b in made)
        assert all(before[1] - after[0] >= 4 for before, after in pairwise(made))


@pytest.mark.parametrize("wrong", [(0, 16, 4, 1), (50, 16, 16, 1), (50, 16, -1, 1), (50, 16, 14, 4)])
def test_windows_that_cannot_be_are_refused(wrong: tuple):
    with pytest.raises(UsageError, match="cannot be covered"):
        windows(*wrong)


def test_weights_of_windows_add_up_to_one():
    spans = windows(100, 24, 8, 4)
    parts = [(a, b, lambda noisy, t: torch.ones_like(noisy)) for a, b in spans]
    made = in_windows(parts, 100, 8)(torch.zeros(1, 1, 1, 100), torch.zeros(1))
    assert torch.allclose(made, torch.ones_like(made), atol=1e-6)


def test_windows_of_steady_content_leave_no_seam():
    """A window's level may differ from its neighbour's; the whole has no step where they meet."""
    schedule = KINDS[1]
    level = {0: 1.0, 12: 1.6, 24: 0.7, 36: 1.3}

    def model(noisy, t, conditions):
        return oracle(schedule, float(conditions["level"][0]), 0.3)(noisy, t)

    def conditions(start, stop):
        return {"level": torch.tensor([level[start]])}, None

    made = sample_long(
        model, conditions, (8, 16, 52), schedule, [seeded()], guidance=1.0, context=16, overlap=4, align=4, steps=20
    )  # fmt: skip
    columns = made.mean(dim=(0, 1, 2))
    change = columns.diff().abs()
    assert abs(columns[:12].mean() - 1.0) < 0.1 and abs(columns[16:24].mean() - 1.6) < 0.1
    # put side by side, windows would step by up to 0.9 from one column to the next
    assert change.max() < 0.4


def test_a_long_latent_of_one_kind_equals_the_whole():
    schedule = KINDS[1]

    def model(noisy, t, conditions):
        return oracle(schedule, 1.0, 0.5)(noisy, t)

    how = {"guidance": 1.0, "overlap": 4, "align": 4, "steps": 5}
    parts = sample_long(model, lambda a, b: ({}, None), (2, 3, 52), schedule, [seeded()], context=16, **how)
    whole = sample_long(model, lambda a, b: ({}, None), (2, 3, 52), schedule, [seeded()], context=64, **how)
    assert torch.allclose(parts, whole, atol=1e-4)


def test_long_latents_are_decoded_in_windows_and_without_seams():
    widths = []

    def decode(latents: torch.Tensor) -> torch.Tensor:
        """Each latent is 4 x 4 pixels; zeros pad the ends, which shows within two latents."""
        widths.append(latents.shape[-1])
        mean = torch.nn.functional.avg_pool1d(latents.mean((1, 2))[:, None], 5, 1, 2)[:, 0]  # [B, w]
        return mean.repeat_interleave(4, -1)[:, None, None].expand(-1, 3, 8, -1)

    latents = torch.randn(2, 4, 2, 60, generator=seeded())
    made, whole = decode_long(decode, latents, 3, 4, 24, 8, 4), decode(latents)
    assert made.shape == (2, 3, 8, 240) and max(widths[:-1]) == 24
    inside = torch.ones(60, dtype=torch.bool)
    for a, b in windows(60, 24, 8, 4):
        inside[a + 2 : b - 2] &= True
        inside[[a, a + 1, b - 2, b - 1]] = False  # there one window feels its end, and counts for little
    wide = inside.repeat_interleave(4)
    assert torch.allclose(made[..., wide], whole[..., wide], atol=1e-6) and wide.float().mean() > 0.6
    assert (made - whole).abs().max() < 0.25 * whole.abs().max()
    short = latents[..., :20]
    assert torch.equal(decode_long(decode, short, 3, 4, 24, 8, 4), decode(short))


def test_the_shared_unet_is_stable_diffusions_in_any_size():
    how = {"rows": 8, "channels": 4, "widths": (16, 32, 32), "layers": 1, "heads": (2, 4, 4), "groups": 8}
    unet = spectrogram_unet(**how, context_width=12)
    found = cross_attentions(unet)
    assert {depth: attn.heads for depth, attn in found.values()} == {0: 2, 1: 4, 2: 4}
    assert {n.split(".")[0] + n.split(".")[1] for n in found if n.startswith("down")} == {
        "down_blocks0",
        "down_blocks1",
    }
    with torch.no_grad():
        assert unet(torch.zeros(1, 4, 8, 12), torch.tensor([5]), torch.zeros(1, 7, 12)).sample.shape == (1, 4, 8, 12)
    first = {linear: spectrogram_unet(**how, context_width=12, linear=linear).state_dict() for linear in (True, False)}
    assert first[True].keys() == first[False].keys()
    name = "down_blocks.0.attentions.0.proj_in.weight"
    assert (first[True][name].ndim, first[False][name].ndim) == (2, 4)


# --- time bias ------------------------------------------------------------------------------------------


def test_the_bias_peaks_at_its_own_time_at_first():
    bias = TimeBias(4, rows=8, column_s=0.08, token_s=0.02).bias(40, 160)  # [4, 40, 160]
    times = (bias.argmax(-1) + 0.5) * 0.02
    columns = (torch.arange(40) + 0.5) * 0.08
    wanted = torch.tensor([-0.03, -0.01, 0.01, 0.03])[:, None] + columns
    assert (times - wanted).abs().max() <= 0.0101
    assert bias.amax().item() == pytest.approx(6.0, abs=0.3)
    far = bias[:, 20, :40]  # 0.8 s and more before
    assert far.abs().max() < 0.5


def test_the_bias_is_in_seconds_and_holds_at_any_length():
    made = TimeBias(2, rows=4, column_s=0.08, token_s=0.04)
    torch.nn.init.normal_(made.cos)
    short, long = made.bias(16, 32), made.bias(200, 400)
    assert torch.allclose(long[:, :16, :32], short, atol=1e-4)
    assert torch.allclose(long[:, 100:116, 200:232], short, atol=1e-3)
    # beyond its reach it is flat: a token of a period later is not taken for one of now
    assert torch.allclose(long[:, 0, 100:], long[:, 0, 100:101].expand(-1, 300), atol=1e-4)


def test_without_timed_and_free_the_bias_is_what_it_was():
    """EgoSonics' weights have no other parameters, and begin as they did: to the bit."""
    made = TimeBias(5, rows=8, column_s=0.08, token_s=0.04)
    turns = torch.arange(1, 33) / 4.0
    taper = torch.exp(-((2 * torch.pi * turns * 0.04) ** 2) / 2)
    taper = taper * (6.0 / taper.sum())
    angle = 2 * torch.pi * turns * (((torch.arange(5) + 0.5) / 5 - 0.5) * 0.08)[:, None]
    assert made.state_dict().keys() == {"cos", "sin"}
    assert torch.equal(made.cos, taper * angle.cos()) and torch.equal(made.sin, taper * angle.sin())
    away = ((torch.arange(70) + 0.5) * 0.04 - ((torch.arange(30) + 0.5) * 0.08)[:, None]).clamp(-2, 2)
    basis = 2 * torch.pi * turns[:, None, None] * away
    wanted = torch.cat([made.cos, made.sin], 1) @ torch.cat([basis.cos(), basis.sin()]).flatten(1)
    assert torch.equal(made.bias(30, 70), wanted.view(5, 30, 70))
    given = TimeBias(5, rows=8, column_s=0.08, token_s=0.04, timed=None, free=0)
    assert torch.equal(given.bias(30, 70), made.bias(30, 70))


def test_tokens_beyond_the_timed_ones_have_one_number_a_head():
    how = {"column_s": 0.128, "token_s": 0.192, "width_s": 0.096}
    timed, plain = TimeBias(3, 4, **how, timed=16), TimeBias(3, 4, **how)
    assert timed.state_dict().keys() == {"cos", "sin", "others"}
    made = timed.bias(24, 40)
    assert made.shape == (3, 24, 40)
    assert torch.equal(made[..., :16], plain.bias(24, 16)) and not made[..., 16:].any()
    with torch.no_grad():
        timed.others.copy_(torch.tensor([1.0, -2.0, 3.0]))
    made = timed.bias(24, 40)
    assert (made[..., 16:] == torch.tensor([1.0, -2.0, 3.0])[:, None, None]).all()
    assert torch.equal(made[..., :16], plain.bias(24, 16))
    assert torch.equal(timed.bias(24, 16), plain.bias(24, 16)) and timed.bias(24, 9).shape == (3, 24, 9)
    assert timed.for_queries(4 * 24, 40).shape == (1, 3, 4 * 24, 40)
    timed.bias(24, 40).square().sum().backward()
    assert (timed.others.grad != 0).all() and timed.cos.grad.abs().min() > 0


def test_free_heads_begin_without_a_bump_and_listen_to_the_others():
    made = TimeBias(5, 8, column_s=0.128, token_s=0.192, timed=16, free=2)
    bias = made.bias(24, 40)
    assert not bias[3:, :, :16].any() and (bias[3:, :, 16:] == 2).all() and not bias[:3, :, 16:].any()
    fewer = TimeBias(3, 8, column_s=0.128, token_s=0.192)  # those that are left divide the column between them
    assert torch.allclose(bias[:3, :, :16], fewer.bias(24, 16), atol=1e-5)
    made.bias(24, 40).square().sum().backward()
    assert (made.others.grad[3:] != 0).all()
    alone = TimeBias(5, 8, column_s=0.128, token_s=0.192, free=2)
    assert alone.state_dict().keys() == {"cos", "sin"} and not alone.bias(24, 16)[3:].any()
    for free in (5, 6, -1):
        with pytest.raises(UsageError, match="cannot be free of time"):
            TimeBias(5, 8, 0.128, 0.192, free=free)


def test_row_values_begin_as_nothing_and_give_each_row_its_own():
    torch.manual_seed(0)
    values = RowValues(rows=4, width=6, channels=8, rank=5)
    tokens, shares = torch.randn(2, 10, 6), torch.rand(7, 10).softmax(-1)
    assert values(tokens, shares).shape == (2, 4 * 7, 8) and not values(tokens, shares).any()
    torch.nn.init.normal_(values.write.weight)
    made = values(tokens, shares).view(2, 4, 7, 8)
    wanted = torch.einsum("wk,bkd,rd,hcr->bhwc", shares, tokens, values.read.weight, values.write.weight.view(4, 8, 5))
    assert torch.allclose(made, wanted, atol=1e-5)
    assert (made[:, 0] - made[:, 1]).abs().mean() > 0.1  # attention alone gives all rows the same


def test_row_values_read_the_token_of_a_columns_own_time():
    unet = small_unet()
    set_time_bias(unet, rows=4, column_s=0.08, token_s=0.08, timed=16, free=1, row_values=3)
    attn = next(attn for depth, attn in cross_attentions(unet).values() if depth == 0)
    torch.nn.init.normal_(attn.processor.by_row.write.weight)
    queries, tokens = torch.zeros(1, 4 * 16, 8), torch.zeros(1, 20, 6, requires_grad=True)
    told = attn.processor.row_values(queries, tokens).view(4, 16, 8)
    told[:, 9].sum().backward()
    said = tokens.grad[0].abs().sum(-1)
    assert said.argmax() == 9 and said[9] > 0.3 * said.sum() and not said[16:].any()  # a neighbour's say nothing here
    plain = small_unet()
    set_time_bias(plain, rows=4, column_s=0.08, token_s=0.08, timed=16, free=1)
    assert all(attn.processor.row_values(queries, tokens) == 0 for _, attn in cross_attentions(plain).values())
    assert not any("by_row" in name for name in plain.state_dict())


@pytest.mark.parametrize("row_values", [0, 3])
def test_what_is_watched_is_what_is_done_with_others_as_well(row_values):
    unet = small_unet()
    set_time_bias(unet, rows=4, column_s=0.08, token_s=0.04, timed=16, free=1, row_values=row_values)
    for name, p in unet.named_parameters():
        if "by_row.write" in name:
            torch.nn.init.normal_(p)
    x, t, tokens = torch.randn(1, 2, 4, 16, generator=seeded()), torch.tensor([5]), torch.randn(1, 24, 6)
    with torch.no_grad():
        plain = unet(x, t, tokens).sample
        with watch_attention(unet) as seen:
            assert torch.allclose(unet(x, t, tokens).sample, plain, atol=1e-5)
    bound, free = next(v for k, v in seen.items() if k.startswith("down_blocks"))[0]
    assert free[:, 16:].sum(-1).mean() > 0.7 > 0.3 > bound[:, 16:].sum(-1).mean()


def small_unet():
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8, in_channels=2, out_channels=2, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=6, attention_head_dim=2, norm_num_groups=4,
    ).eval()  # fmt: skip


def test_published_weights_load_unchanged_without_the_bias_and_with_it_all_else_does():
    plain, biased = small_unet(), small_unet()
    names = set(plain.state_dict())
    set_time_bias(biased, rows=4, column_s=0.08, token_s=0.04)
    missing, unexpected = biased.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected and missing and all(name.endswith(("processor.cos", "processor.sin")) for name in missing)
    assert names == set(small_unet().state_dict())
    depths = {name: depth for name, (depth, _) in cross_attentions(plain).items()}
    assert {name.split(".")[0]: depth for name, depth in depths.items()} == {
        "down_blocks": 0, "mid_block": 1, "up_blocks": 0,
    }  # fmt: skip


def test_a_bias_of_zero_changes_nothing_and_one_that_peaks_moves_the_attention():
    unet = small_unet()
    x, t, tokens = torch.randn(1, 2, 4, 16, generator=seeded()), torch.tensor([5]), torch.randn(1, 32, 6)
    with torch.no_grad():
        before = unet(x, t, tokens).sample
        set_time_bias(unet, rows=4, column_s=0.08, token_s=0.04)
        with watch_attention(unet) as seen:
            moved = unet(x, t, tokens).sample
        assert torch.allclose(moved, unet(x, t, tokens).sample, atol=1e-5)
        for _, attn in cross_attentions(unet).values():
            attn.processor.cos.zero_()
            attn.processor.sin.zero_()
        assert torch.allclose(unet(x, t, tokens).sample, before, atol=1e-5)
    assert not torch.allclose(moved, before, atol=1e-4)
    name = next(n for n in seen if n.startswith("down_blocks"))
    attention = seen[name].view(1, 2, 4, 16, 32)  # [B, heads, rows, columns, tokens]
    assert torch.allclose(attention.sum(-1), torch.ones(1, 2, 4, 16), atol=1e-5)
    near = (torch.arange(32)[None] - 2 * torch.arange(16)[:, None] - 0.5).abs() < 3
    assert (attention * near).sum(-1).mean() > 0.6  # without the bias about 0.2


def test_cross_attention_can_be_left_out_and_comes_back():
    unet = small_unet()
    set_time_bias(unet, rows=4, column_s=0.08, token_s=0.04)
    names = set(unet.state_dict())
    x, t = torch.randn(1, 2, 4, 16), torch.tensor([5])
    first, second = torch.randn(1, 32, 6), torch.randn(1, 32, 6)
    with torch.no_grad():
        before = unet(x, t, first).sample
        with without_cross_attention(unet):
            assert torch.equal(unet(x, t, first).sample, unet(x, t, second).sample)
        with without_cross_attention(unet, False):
            assert torch.equal(unet(x, t, first).sample, before)
        assert torch.equal(unet(x, t, first).sample, before)
    assert set(unet.state_dict()) == names


def test_the_bias_is_trained():
    unet = small_unet()
    set_time_bias(unet, rows=4, column_s=0.08, token_s=0.04)
    unet(torch.randn(1, 2, 4, 16), torch.tensor([5]), torch.randn(1, 32, 6)).sample.square().mean().backward()
    biases = [p for n, p in unet.named_parameters() if ".processor." in n]
    assert len(biases) == 2 * len(cross_attentions(unet))
    assert all(p.grad.abs().max() > 0 for p in biases)


# --- cost -----------------------------------------------------------------------------------------------


def linear_model(noisy: torch.Tensor, t: torch.Tensor, conditions: dict) -> torch.Tensor:
    """Hangs on latents, time and conditions, item by item."""
    return 0.3 * noisy + conditions["c"][:, None, None, None] * (1 + t[:, None, None, None] / 1000)


def test_guidance_within_an_interval_leaves_the_null_half_out_elsewhere():
    sizes = []

    def model(noisy, t, conditions):
        sizes.append((int(t[0]), len(noisy)))
        return linear_model(noisy, t, conditions)

    how = {"guidance": 3.0, "context": 16, "overlap": 4}
    schedule = NoiseSchedule(spacing="trailing", steps=10)

    def run(**changes):
        sizes.clear()
        given = {**how, **changes}
        both = {"c": torch.ones(1)}, {"c": torch.zeros(1)}
        return sample_long(model, lambda a, b: both, (2, 4, 12), schedule, [seeded(1)], **given)

    always = run()
    assert {n for _, n in sizes} == {2} and len(sizes) == 10
    assert torch.equal(run(interval=(0.0, 1.0)), always)
    between = run(interval=(0.25, 0.75))
    assert [n for _, n in sizes] == [2 if 250 <= t <= 750 else 1 for t, _ in sizes] and len({n for _, n in sizes}) == 2
    plain = run(guidance=1.0)
    assert not torch.allclose(between, always) and not torch.allclose(between, plain)
    assert torch.equal(run(interval=(0.9995, 1.0)), plain)  # nowhere
    for wrong in ((-0.1, 1.0), (0.8, 0.2), (0.0, 1.5)):
        with pytest.raises(UsageError, match="the interval of guidance"):
            run(interval=wrong)


@pytest.mark.parametrize("guidance", [1.0, 2.5])
@pytest.mark.parametrize("batch", [1, 2])
def test_windows_together_are_windows_one_by_one(guidance: float, batch: int):
    calls = []

    def model(noisy, t, conditions):
        calls.append(len(noisy))
        return linear_model(noisy, t, conditions)

    def conditions(start, stop):
        return {"c": torch.arange(batch) + 0.1 * start}, {"c": torch.zeros(batch)}

    def run(**how):
        calls.clear()
        generators = [seeded(i) for i in range(batch)]
        return sample_long(
            model, conditions, (2, 4, 40), NoiseSchedule(steps=4), generators, guidance=guidance, context=16, overlap=4,
            **how,
        )  # fmt: skip

    apart, halves = run(), 1 if guidance == 1 else 2
    assert len(calls) == 4 * 3 and set(calls) == {halves * batch}
    together = run(together=True)
    assert calls == [3 * halves * batch] * 4 and torch.allclose(together, apart, atol=1e-5)
