# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py//py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Diffusion: a sound out of noise
#
# **Question.** How can something that only learns to take noise *away* make a sound that never was? And how is it told
# *which* sound to make?
#
# Three of the systems here are diffusion models (notebooks 04, 05 and 06). You will bury the picture of a sound in
# noise and hear it go under, train a small network to dig it out, walk from nothing but noise to a sound, count how
# many steps that takes, and tell the network when something is to be hit: a little, and far too loudly. Then the same
# with a system that is shipped.
#
# *Needs:* less than two minutes of one CPU core and 1.5 GB of memory; a GPU does not help. `01_spectrograms_and_codecs`
# explains spectrograms; other words are explained in the glossary of [the notebooks' page](README.md).

# %% tags=["parameters"]
import os

PRESET = os.environ.get("V2A_NB_PRESET", "tiny")
STEPS = {"tiny": 300, "small": 2000, "paper": 10000}.get(PRESET, 300)
SEED = 0

# %%
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import v2a_nb as v2a
from v2a_nb import plots

torch.set_num_threads(1)

# %%
painter = v2a.load("vta_ldm").requires_grad_(False)
sizes = painter.config
LENGTH = round(sizes.window_s * 16000)  # samples of 24 columns of latents
world = v2a.strike_world(seed=71, clips=240, seconds=3.08, size=64, per_recording=6).clips
TRAIN = 192  # clips; the others are of other recordings


def hits_of(c):
    """When something sounds in a clip: [hits], seconds."""
    return np.array([e["time_s"] for e in c.truth["events"] if e["sounding"] and e["time_s"] < sizes.window_s])


first = max(range(TRAIN, len(world)), key=lambda i: len(hits_of(world[i])))
item, events = world[first], world[first].truth["events"]
print(item.narration)
v2a.play(item.clip, events=events)

# %% [markdown]
# ## What is painted
#
# $$x \in [-1, 1]^{128 \times 192} \;\xrightarrow{\ \text{autoencoder}\ }\; z \in \mathbb{R}^{16 \times 16 \times 24}
# \;\longrightarrow\; \hat x \;\xrightarrow{\ \text{vocoder}\ }\; \text{sound}$$
#
# A *mel picture* has the pitch upwards, the time to the right, and the loudness as brightness. An *autoencoder* makes
# it eight times smaller in both directions and deeper instead: **latents**, 16 small pictures of 16 rows and 24
# columns, a column for each 128 ms. They hold a quarter of the numbers, and diffusion works on them, because that is
# cheaper. A *vocoder* makes a sound of the picture in the end.


# %%
def heard(latents):
    """Latents [N, 16, 16, 24] to a list of sounds."""
    return [v2a.Sound(wave, 16000) for wave in painter.decode_latents(latents, LENGTH).numpy()]


waves = torch.from_numpy(np.stack([c.stems["mix"].samples[0, :LENGTH] for c in world]))  # [240, 49152]
z = torch.cat([painter.encode_sound(some) for some in waves.split(8)])  # [240, 16, 16, 24]
x, clean = sizes.stft.to_image(waves[first][None]), z[first][None]
print("picture", tuple(x.shape), "latents", tuple(clean.shape), f"spread of all latents {float(z.std()):.2f}")
decoded = painter.decode_picture(clean)
shown = {"the sound": x[0, 0], "one of its 16 latents": clean[0, 0], "out of its latents": decoded[0, 0]}
plots.show(
    plots.pictures(shown, sizes.window_s, events=events),
    alt="A sound as a picture of 128 mel bands; one channel of its latents, 16 by 24 places; the picture out of these",
)

# %% [markdown]
# ## Going under
#
# $$z_t = \alpha_t\, z + \sigma_t\, \epsilon, \qquad \epsilon \sim \mathcal{N}(0, 1)^{16 \times 16 \times 24},
# \qquad \alpha_t^2 + \sigma_t^2 = 1, \qquad \lambda_t = \log \frac{\alpha_t^2}{\sigma_t^2}$$
#
# There are 1000 **timesteps** $t$, and a **schedule** that says how much of the sound each leaves, $\alpha_t$, and how
# much noise it has, $\sigma_t$. One number says both: the **log-SNR** $\lambda_t$, the logarithm of how much stronger
# the sound is than the noise. At 0 both are alike.

# %%
from v2a_nb.sampling.diffusion import NoiseSchedule, add_noise, alphas_cumprod

schedule = NoiseSchedule(prediction="v_prediction", sampler="ddim", spacing="trailing")
kept = alphas_cumprod(schedule).float()  # alpha squared, [1000]
alpha, sigma = kept.sqrt(), (1 - kept).sqrt()
log_snr = (kept / (1 - kept)).log()
LEVELS = [0, 200, 400, 600, 800, 999]
t = torch.tensor(LEVELS)
noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(SEED))
noisy, _ = add_noise(clean, noise, t, schedule)  # [6, 16, 16, 24]: the same noise, at six levels

# %%
# check: what is left of the sound, measured over all clips, is what the schedule promises
many = torch.randn(z.shape, generator=torch.Generator().manual_seed(SEED + 1))
for level in LEVELS:
    mixed, _ = add_noise(z, many, torch.full((len(z),), level), schedule)
    share = float((mixed * z).mean() / z.square().mean())  # of the sound in the mixture: alpha
    measured = float(np.log(share**2 / float((mixed - share * z).square().mean())))
    print(f"t {level:3}: alpha {alpha[level]:.2f}, sigma {sigma[level]:.2f}, log-SNR {log_snr[level]:5.2f}, "
          f"measured {measured:5.2f}; spread of the mixture {float(mixed.std()):.2f}")  # fmt: skip
    assert abs(measured - log_snr[level]) < 0.15
assert (log_snr.diff() < 0).all() and 0.01 < alpha[999] < 0.1

# %%
pixels, _ = add_noise(x, torch.randn(x.shape, generator=torch.Generator().manual_seed(SEED)), t, schedule)
buried = painter.decode_picture(noisy)
shown = {}
for k in (1, 2, 3, 4):
    shown |= {f"picture, t = {LEVELS[k]}": pixels[k, 0], f"out of noisy latents, t = {LEVELS[k]}": buried[k, 0]}
plots.show(
    plots.pictures(shown, sizes.window_s, columns=2, limits=(-1, 1)),
    alt="Noise over the picture, on the left, and over the latents, on the right: hits are lost from t = 600 on, and "
    "on the right a little later",
)

# %%
tracks = {f"t = {level}": sound for level, sound in zip(LEVELS, heard(noisy), strict=True)}
v2a.compare(item.clip, {"true": item.stems["mix"], **tracks}, events=events, title="latents under more and more noise")

# %% [markdown]
# **What to notice.** On the left noise lies over the picture, as snow does on a screen. On the right as much
# noise lies over the latents, and the decoder makes of it what it was trained to make: something that looks like a
# sound. The spread stays near 1 at every level, so that a network is never shown numbers that are ten times as large.
# And the last level is not *all* noise: $\alpha$ is small there, and not 0.
#
# ## What the network says
#
# $$v = \alpha_t\, \epsilon - \sigma_t\, z \qquad\Longrightarrow\qquad
# \hat z = \alpha_t\, z_t - \sigma_t\, \hat v, \qquad \hat\epsilon = \sigma_t\, z_t + \alpha_t\, \hat v$$
#
# A network is given $z_t$ and $t$. It could say what the noise was, $\hat\epsilon$, or what the sound was, $\hat z$:
# from either one follows the other. But not equally well. Let a prediction be off by 1, and see by how much the guess
# of the sound is off that follows from it:

# %%
every = torch.arange(1000)
gains = {
    "the noise is predicted": sigma / alpha,
    "v is predicted": sigma,
    "the sound is predicted": torch.ones(1000),
}
# check: v leads to both, exactly; and an error of the prediction grows as the curves say
mixed, v = add_noise(clean, noise, t, schedule)
a, s = (each[t][:, None, None, None] for each in (alpha, sigma))
assert torch.allclose(a * mixed - s * v, clean.expand_as(mixed), atol=1e-4)
assert torch.allclose(s * mixed + a * v, noise.expand_as(mixed), atol=1e-4)
error = 0.1 * torch.randn(v.shape, generator=torch.Generator().manual_seed(SEED + 2))
for name, guess in {
    "the noise is predicted": (mixed - s * (noise + error)) / a,
    "v is predicted": a * mixed - s * (v + error),
}.items():
    grown = (guess - clean).flatten(1).std(1) / error.flatten(1).std(1)
    print(f"{name:24}", *(f"{value:6.2f}" for value in grown), "at t", LEVELS)
    assert torch.allclose(grown, gains[name][t], rtol=0.02)
plots.show(
    plots.curves(
        {name: (every, gain) for name, gain in gains.items()},
        xlabel="timestep t",
        ylabel="error of the sound",
        log=True,
    ),
    alt="Error of the guessed sound for an error of 1 in the prediction: over 10 at the end if the noise is predicted, "
    "never over 1 if v is",
)

# %% [markdown]
# **What to notice.** Where nearly all is noise, saying what the noise was is easy and helps little: a small mistake
# becomes a large one in the sound. There $v$ is, but for its sign, the sound; where nearly nothing is noise, it is the
# noise. It asks at every level for what is not known yet, and its size never changes. So $v$ is what the networks here
# predict, and the **loss** is its squared error:
#
# $$L = \mathbb{E}_{z,\, t,\, \epsilon}\, \lVert v - v_\theta(z_t, t, c) \rVert^2$$
#
# ## A condition, as small as can be
#
# $c$ is the **condition**: what the network is told. In 04 to 06 that is a video. Here it is the least that says
# *when*: a row of 24 numbers, 1 for each column in which something is hit. A second row says whether we tell anything
# at all. If it is 0, so is the first: that is the **null** condition, "I do not say". The network has to have met it in
# training, so one clip in five gets it. It is not the same as "there is no hit"!


# %%
def told(rows, given=True):
    """The condition [N, 2, 24] of rows [N, 24] of hits; not given, the null."""
    both = torch.stack([rows, torch.ones_like(rows)], 1)
    return {"row": both if given else torch.zeros_like(both)}


def rows_of(times):
    """Rows [N, 24] for a list of times (s) of hits."""
    rows = torch.zeros(len(times), sizes.context)
    for row, hits in zip(rows, times, strict=True):
        row[[int(hit / sizes.column_s) for hit in hits]] = 1
    return rows


rows = rows_of([hits_of(c) for c in world])
print("hits of the clip above, s:", *(f"{hit:.2f}" for hit in hits_of(item)))
print("told, a number for each 128 ms:", *rows[first].int().tolist())
print(f"{rows.sum(1).mean():.1f} columns of 24 have a hit, on average")


# %%
class Block(nn.Module):
    """Looks at the neighbourhood of each place, then at whole columns: [N, w, 16, 24] to the same."""

    def __init__(self, w, dilation):
        super().__init__()
        self.norm, self.level = nn.GroupNorm(8, w), nn.Linear(64, w)
        self.near = nn.Conv2d(w, w, 3, padding=(1, dilation), dilation=(1, dilation))
        self.place, self.column = nn.Conv2d(w, w, 1), nn.Conv1d(w, w, 1)

    def forward(self, x, level):
        h = self.near(F.silu(self.norm(x))) + self.level(level)[:, :, None, None]
        x = x + self.place(F.silu(h))
        return x + self.column(x.mean(2))[:, :, None]


class Denoiser(nn.Module):
    """Predicts v [N, 16, 16, 24] of noisy latents at timesteps [N], told some rows [N, 2, 24]."""

    def __init__(self, w=48):
        super().__init__()
        self.enter, self.out = nn.Conv2d(16 + 2, w, 3, padding=1), nn.Conv2d(w, 16, 1)
        self.heights = nn.Parameter(torch.zeros(w, 16, 1))  # low rows of a picture are not high ones
        self.blocks = nn.ModuleList(Block(w, dilation) for dilation in (1, 2, 4, 1, 2, 4))

    def forward(self, noisy, t, conditions):
        waves = log_snr[t][:, None] * torch.linspace(0.05, 1.5, 32)  # how much is noise, as 64 numbers
        level = torch.cat([waves.sin(), waves.cos()], 1)
        row = conditions["row"][:, :, None].expand(-1, -1, noisy.shape[2], -1)
        x = self.enter(torch.cat([noisy, row], 1)) + self.heights
        for block in self.blocks:
            x = block(x, level)
        return self.out(x)


torch.manual_seed(SEED)
net = Denoiser()
print(f"{sum(p.numel() for p in net.parameters()):,} numbers to learn")

# %% [markdown]
# ## Training, and what it has to beat
#
# Draw clips, timesteps and noise; predict $v$; take a step against the error. `diffusion_loss` does the first two, and
# spreads the timesteps evenly over a batch. That is all of the recipe; the shipped systems do the same for longer.

# %%
from functools import partial

from v2a_nb.sampling.diffusion import diffusion_loss

optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=0.01)
pace = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=STEPS, pct_start=0.1)
chance, losses = torch.Generator().manual_seed(SEED), []
for _ in range(STEPS):
    some = torch.randint(TRAIN, (16,), generator=chance)
    condition = told(rows[some])["row"] * (torch.rand(16, 1, 1, generator=chance) > 0.2)  # one in five: the null
    denoise = partial(net, conditions={"row": condition})
    loss = diffusion_loss(denoise, z[some], schedule, generator=chance)["loss"]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    pace.step()
    losses.append(loss.item())
net.eval().requires_grad_(False)
print(f"loss of the first ten steps {np.mean(losses[:10]):.2f}, of the last fifty {np.mean(losses[-50:]):.2f}")

# %% [markdown]
# One number over all timesteps hides what happens. So ask at each **noise level** on its own, on clips of recordings
# that it has never heard: with the right rows, with those of another clip, with the null. And compare with a guess that
# needs no network. Who knows only the mean $\mu$ and the variance $s^2$ that each row of the latents has, and takes the
# best guess in between what is seen and the mean, has the loss
#
# $$L_{\mathrm{mean}}(t) = \frac{1}{\sigma_t^2} \cdot \frac{s^2 \sigma_t^2}{\alpha_t^2 s^2 + \sigma_t^2}$$

# %%
unseen, wide = z[TRAIN:], range(50, 1000, 100)


def loss_at(level, conditions):
    """Loss of the unseen clips at one timestep, under the same noise for any conditions."""
    t = torch.full((len(unseen),), level)
    how = {"t": t, "generator": torch.Generator().manual_seed(level)}
    return float(diffusion_loss(partial(net, conditions=conditions), unseen, schedule, **how)["loss"])


asked = {
    "told the right row": told(rows[TRAIN:]),
    "told another clip's": told(rows[TRAIN:].roll(1, 0)),
    "told nothing": told(rows[TRAIN:], given=False),
}
by_level = {name: [loss_at(level, conditions) for level in wide] for name, conditions in asked.items()}
spread = z[:TRAIN].var((0, 3))  # [16, 16]
mean_only = [float((spread / (kept[k] * spread + 1 - kept[k])).mean()) for k in wide]
# check: it knows more than mean and variance at every level, and its row is worth something where much is noise
for k, level in enumerate(wide):
    print(
        f"t {level:3}", *(f"{name} {values[k]:.3f}  " for name, values in by_level.items()), f"mean {mean_only[k]:.3f}"
    )
assert all(right < mean for right, mean in zip(by_level["told the right row"], mean_only, strict=True))
right, other, nothing = (np.mean(values[5:]) for values in by_level.values())
assert right < nothing < other
plots.show(
    plots.curves(
        {name: (list(wide), values) for name, values in {"mean and variance alone": mean_only, **by_level}.items()},
        xlabel="timestep t: more noise to the right", ylabel="loss of unseen clips",
    ),
    alt="Loss by noise level: below the guess from mean and variance at each; told the right row is lowest",
)  # fmt: skip

# %% [markdown]
# **What to notice.** The loss has a valley. Where little is noise, the network is asked for that noise, which nobody
# can know exactly. Where nearly all is noise, it is asked for the sound, of which hardly anything is seen. And there
# the lines part: *when* is decided at high noise. With little noise the hits can be seen, and a wrong row harms little.
#
# ## A guess in one step
#
# $$\hat z = \alpha_t\, z_t - \sigma_t\, v_\theta(z_t, t, c)$$
#
# The clip of the beginning, which it never heard, under more and more noise. What does it guess was there?

# %%
levels = (200, 600, 800, 999)
t = torch.tensor(levels)
mixed, _ = add_noise(clean, noise, t, schedule)
its_row = rows[first : first + 1]
predicted = net(mixed, t, {"row": told(its_row)["row"].expand(len(t), -1, -1)})
a, s = (each[t][:, None, None, None] for each in (alpha, sigma))
guesses = a * mixed - s * predicted
# check: the more noise, the worse the guess; but far better than what it was given, and blurred where it does not know
off = (guesses - clean).square().flatten(1).mean(1)
given = ((mixed / a) - clean).square().flatten(1).mean(1)
for k, level in enumerate(levels):
    print(f"t {level}: the guess is off by {off[k]:.2f}, the noisy latents by {given[k]:.2f}; "
          f"spread of the guess {guesses[k].std():.2f}, of the truth {clean.std():.2f}")  # fmt: skip
assert (off.diff() > 0).all() and (off < 0.5 * given).all() and guesses[-1].std() < 0.9 * clean.std()
shown = {f"guess from t = {k}": p for k, p in zip(levels, painter.decode_picture(guesses)[:, 0], strict=True)}
plots.show(
    plots.pictures({"out of the true latents": decoded[0, 0], **shown}, sizes.window_s, limits=(-1, 1), events=events),
    alt="Guesses in one step: nearly the true picture from t = 200, blurred from 600 and 800; from nothing but noise, "
    "faint upright bars, most of them where hits were told, in no room in particular",
)

# %% [markdown]
# **What to notice.** From pure noise the guess is no sound: it is the *mean* of all sounds that could be meant, because
# the mean is what a squared error likes best. A mean of many rooms is no room. One step cannot make a sound, then.
#
# ## Many small steps
#
# $$z_{t'} = \alpha_{t'}\, \hat z + \sigma_{t'}\, \hat\epsilon, \qquad t' < t$$
#
# But a step *towards* the mean can be gone, and from there, with a little less noise, the guess is a better one. That
# is **DDIM** (Song et al. 2021): guess, go back to a lower level along the guessed noise, guess again. Five lines:


# %%
from itertools import pairwise

from v2a_nb.sampling.diffusion import sample


def walk(denoise, begin, count, start=999):
    """Latents after ``count`` steps of DDIM from ``begin`` at timestep ``start``, and the guesses on the way."""
    times = torch.linspace(start, -1, count + 1).round().long().tolist()  # the last step ends at timestep 0
    z_t, guesses = begin, []
    for now, then in pairwise(times):
        v = denoise(z_t, torch.full((len(z_t),), now))
        guess, rest = alpha[now] * z_t - sigma[now] * v, sigma[now] * z_t + alpha[now] * v
        z_t = alpha[max(then, 0)] * guess + sigma[max(then, 0)] * rest
        guesses.append(guess)
    return z_t, guesses


begin = torch.randn(1, 16, 16, 24, generator=torch.Generator().manual_seed(SEED))
denoise = partial(net, conditions=told(its_row))
made, guesses = walk(denoise, begin, 20)
# check: the library walks the same way
shape = tuple(begin.shape[1:])
theirs = sample(denoise, shape, schedule, [torch.Generator().manual_seed(SEED)], steps=20)
print(f"largest difference from the library's DDIM: {float((theirs - made).abs().max()):.1e}")
assert torch.allclose(theirs, made, atol=1e-3)
shown = {f"guess after {k} of 20 steps": painter.decode_picture(guesses[k - 1])[0, 0] for k in (1, 4, 10, 20)}
plots.show(
    plots.pictures(shown, sizes.window_s, limits=(-1, 1), events=events),
    alt="Guesses on the way from noise: at first a blur, in the end a picture with a room and hits of its own, some of "
    "them at the times that were told",
)

# %% [markdown]
# **What to notice.** The first guess is vague, and each step decides a little more: which room, which hits, at last
# their pitch. The sound is a new one: nobody played it. And not every hit that was told is there. Guidance, below, is
# for that.
#
# ## How many steps?
#
# Each step costs one pass of the network, so fewer would be welcome. DDIM goes straight on from each guess. The solver
# **DPM-Solver++** (Lu et al. 2022) also looks at how the guess has changed since the last step, and bends its way
# accordingly. Both come to the same end if the steps are small. So how far from that end are they after fewer?

# %%
from dataclasses import replace

COUNTS = (1, 2, 4, 8, 20, 50)
starts = [SEED + i for i in range(4)]
four = partial(net, conditions=told(rows[TRAIN : TRAIN + 4]))


def sampled(sampler, count):
    how = replace(schedule, sampler=sampler)
    return sample(four, shape, how, [torch.Generator().manual_seed(s) for s in starts], steps=count)


# %%
end = sampled("dpm++", 200)
by_steps = {name: {count: sampled(name, count) for count in COUNTS} for name in ("ddim", "dpm++")}
far = {
    name: [float((made - end).square().mean() / end.var()) for made in each.values()] for name, each in by_steps.items()
}
for name, values in far.items():
    print(f"{name:6}", *(f"{count}: {value:.4f}  " for count, value in zip(COUNTS, values, strict=True)))
plots.show(
    plots.curves(
        {name: ([str(count) for count in COUNTS], values) for name, values in far.items()},
        xlabel="steps", ylabel="distance from 200 steps", log=True,
    ),
    alt="Distance from the end of 200 steps, over fewer steps: it falls for both samplers, for DPM-Solver++ faster",
)  # fmt: skip

# %%
# check: DPM-Solver++ is at the end sooner
assert far["ddim"][0] > 0.3 and all(far["dpm++"][k] < 0.75 * far["ddim"][k] for k in (2, 3))
few = {f"steps: {count}": heard(by_steps["dpm++"][count][:1])[0] for count in (1, 2, 4, 20)}
near = world[TRAIN]
v2a.compare(near.clip, {"true": near.stems["mix"], **few}, events=near.truth["events"], title="steps of DPM-Solver++")

# %% [markdown]
# **What to notice.** One step is the mean. From about eight on, it is the same sound, by either way: what is left
# differs less than two noises would. The noise at the beginning decides which room, which things; the row decides when.
# The shipped systems take 12 to 18 steps.
#
# ## More than it was told: guidance
#
# $$\hat v = v_\theta(z_t, t, \varnothing) + \gamma \,\big(v_\theta(z_t, t, c) - v_\theta(z_t, t, \varnothing)\big)$$
#
# A condition can be told and still be heard only faintly. So ask twice, with the condition and with the null
# $\varnothing$; the difference is what the condition *changes*. **Classifier-free guidance** (Ho and Salimans 2022)
# takes it times $\gamma$. At 0 nobody is told anything, 1 is the network as it is, and above that it exaggerates.

# %%
from v2a_nb.audio.onsets import detect_onsets, onset_scores
from v2a_nb.sampling.diffusion import classifier_free_guidance

SCALES = (0.0, 1.0, 2.0, 4.0, 10.0)
six = list(range(TRAIN, TRAIN + 36, 6))  # a clip of each of six unseen recordings
fast = replace(schedule, sampler="dpm++")


def guided(conditions, gamma, count=12):
    """Latents for some conditions, each from its own noise."""
    nothing = {"row": torch.zeros_like(conditions["row"])}
    denoise = classifier_free_guidance(net, conditions, nothing, gamma)
    chance = [torch.Generator().manual_seed(SEED + k) for k in range(len(conditions["row"]))]
    return sample(denoise, shape, fast, chance, steps=count)


def on_time(sounds, times):
    """F1 of the onsets of some sounds within 0.1 s, the mean over those: a column is 0.128 s wide."""
    return float(np.mean([onset_scores(t, detect_onsets(s), 0.1)[2] for s, t in zip(sounds, times, strict=True)]))


asked = [hits_of(world[i]) for i in six]
made = {gamma: guided(told(rows[six]), gamma) for gamma in SCALES}
sounds = {gamma: heard(latents) for gamma, latents in made.items()}
f1 = {gamma: on_time(each, asked) for gamma, each in sounds.items()}
spreads = {gamma: float(latents.std()) for gamma, latents in made.items()}
for gamma in SCALES:
    level = np.mean([sound.rms_dbfs for sound in sounds[gamma]])
    print(
        f"guidance {gamma:4g}: onset F1 {f1[gamma]:.2f}, {level:5.1f} dBFS, spread of the latents {spreads[gamma]:.2f}"
    )

# %%
# check: told nothing it cannot know when, guidance makes it surer, and too much leaves what it was trained on
assert f1[0.0] < f1[1.0] - 0.2 and max(f1[2.0], f1[4.0]) >= f1[1.0] and spreads[10.0] > 1.3 * spreads[1.0]
shown = {f"guidance {gamma:g}": painter.decode_picture(made[gamma][:1])[0, 0] for gamma in (0.0, 1.0, 4.0, 10.0)}
near = world[six[0]]
plots.show(
    plots.pictures(shown, sizes.window_s, limits=(-1, 1), events=near.truth["events"]),
    alt="One noise at four scales of guidance: hits anywhere at 0; at the told times from 1 on; at 10 glaring, with "
    "black around them",
)

# %%
tracks = {f"guidance {gamma:g}": each[0] for gamma, each in sounds.items()}
v2a.compare(near.clip, {"true": near.stems["mix"], **tracks}, events=near.truth["events"], title="told when, not what")

# %% [markdown]
# **What to notice.** Told nothing, it makes a sound with hits of its own choice. Told the row, most of them come in
# time; at 2 to 4 nearly all do. But guidance knows no measure: it exaggerates *everything* that goes with a hit, so
# the sound becomes louder and louder, and the latents leave what the decoder was trained on. And it cannot say what the
# condition does not know. The row says nothing of what is hit, so at no scale is it the right thing.
#
# ## The same, told by a video
#
# The network above was trained for a minute on 192 clips. VTA-LDM (notebook 06) is the same idea with a real UNet
# (first fewer places with more numbers each, then more places again), trained for 5000 steps, and its condition is the
# video. Its null is a context of zeros. Again several scales of guidance, from one noise for each clip:

# %%
from v2a_nb.metrics.truth import pool, score_clip

videos = [item, *(world[i] for i in six[:3])]
still = v2a.Clip(np.repeat(item.clip.frames[:1], item.clip.n, 0), item.clip.times, item.clip.fps, item.clip.duration)
films = [*(c.clip.silent() for c in videos), still]  # the last one shows a picture in which nothing moves
table, by_scale = {}, {}
print("guidance  onset F1  right thing       level  at full scale  onsets where nothing moves")
for gamma in (0.0, 1.0, 3.0, 12.0):
    by_scale[gamma] = painter.generate_batch(films, seeds=range(len(films)), guidance=gamma)
    *each, calm = by_scale[gamma]
    scores = [score_clip(sound, c.truth) for sound, c in zip(each, videos, strict=True)]
    row = {m: pool(scores, m) for m in ("onset_f1_50ms", "material_accuracy")}
    row["level"] = float(np.mean([sound.rms_dbfs for sound in each]))
    row["full"] = float(np.mean([np.mean(np.abs(sound.samples) > 0.98) for sound in each]))
    row["calm"] = len(detect_onsets(calm))
    table[gamma] = row
    print(f"{gamma:8g}{row['onset_f1_50ms']:10.2f}{row['material_accuracy']:13.2f}{row['level']:7.1f} dBFS"
          f"{100 * row['full']:13.2f} %{row['calm']:28}")  # fmt: skip

# %%
# check: only told of the video it knows when, and under too much guidance it is far louder than the truth
true_level = np.mean([c.stems["mix"].rms_dbfs for c in videos])
print(f"the true sounds: {true_level:.1f} dBFS")
assert table[3.0]["onset_f1_50ms"] > 0.3 + table[0.0]["onset_f1_50ms"]
assert table[12.0]["level"] > true_level + 3 > table[1.0]["level"]
tracks = {f"guidance {gamma:g}": each[0] for gamma, each in by_scale.items()}
v2a.compare(item.clip, {"true": item.stems["mix"], **tracks}, events=events, title=item.narration)

# %% [markdown]
# **What to notice.** At 0 it makes the sounds of some other video, also for a picture in which nothing moves. At 1 it
# is mostly in time, at 3 it is in time, as loud as the truth, and more often the right thing. At 12 it is no better in
# time, some 10 dB too loud, and cut off at full scale here and there. No metric of *when* notices that: listen. So
# each system here comes with a guidance of its own (`config.guidance`), leaves it out on the later steps, which fill in
# what is decided, and has its level and its room measured beside its onsets.
#
# ## What to read next
#
# Now you know all of a diffusion system but one part: how the condition gets *in*. Our row was laid beside the latents,
# because it has a number for each column. A video has no such row. 04 puts a trained copy of half of the network beside
# a frozen one; 05 gives the sound of a room as part of the condition; 06 lets the network look for the right moment by
# itself. On the library's side: `v2a_nb.sampling.diffusion` has the schedule, the loss, guidance and `sample`, and
# `v2a_nb.sampling.solvers` both solvers.
#
# **Exercise.** Diffusion need not begin with noise alone. Bury the *true* sound of one clip only to $t = 300$, 600 or
# 900 (`add_noise`), and `walk` from there (its `start`) under the row of *another* clip. Whose hits do you hear, and
# whose room?
#
# **Another.** Guidance costs a second pass of the network. `classifier_free_guidance(..., within=(600, 999))` gives it
# on the noisy part of the way only, `(0, 599)` on the other. Which part needs it, for *when* and for the level?
#
# The cells below are solutions. Try first.

# %% tags=["solution"]
# the first exercise: expect the buried clip's hits and room from 300 and 600, since both can be seen through the noise;
# from 900 mostly the hits that are told, and a room that is only half the old one
source, target = six[0], six[4]
dug = {}
for level in (300, 600, 900):
    mixed, _ = add_noise(z[source][None], begin, torch.tensor([level]), schedule)
    latents, _ = walk(partial(net, conditions=told(rows[[target]])), mixed, 20, start=level)
    dug[f"from t = {level}"] = heard(latents)[0]
    whose = [on_time([dug[f"from t = {level}"]], [hits_of(world[i])]) for i in (source, target)]
    quiet = float((latents.median(-1).values - z[source].median(-1).values).square().mean())
    print(f"from t = {level}: F1 with the buried clip's hits {whose[0]:.2f}, with the told ones {whose[1]:.2f}; "
          f"off the buried clip's room by {quiet:.2f}")  # fmt: skip
v2a.compare(world[source].clip, {"buried": world[source].stems["mix"], **dug}, title="the picture is the buried clip's")

# %% tags=["solution"]
# the second exercise: expect either part to be enough for nearly all of when, and most of the level to come from the
# noisy one: there it is decided how strong a hit is, and later guidance can only make clearer what is there
for name, within in {
    "nowhere": (1000, 1000),
    "t from 600": (600, 999),
    "t to 599": (0, 599),
    "all the way": None,
}.items():
    nothing = {"row": torch.zeros(6, 2, 24)}
    denoise = classifier_free_guidance(net, told(rows[six]), nothing, 4.0, within)
    chance = [torch.Generator().manual_seed(SEED + k) for k in range(6)]
    each = heard(sample(denoise, shape, fast, chance, steps=12))
    print(f"guidance 4, {name:12} F1 {on_time(each, asked):.2f}, {np.mean([e.rms_dbfs for e in each]):.1f} dBFS")
