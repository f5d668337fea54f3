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
# # Autoregression: V-AURA from the inside
#
# **Question.** How does a language model over codec tokens keep time with a video?
#
# V-AURA (Viertola, Iashin, Rahtu 2024) answers: *fuse* the picture of each moment with the tokens of that moment,
# at every step. You will lay out tokens, build the fused input, decode step by step from a naive loop to a static
# cache, train a small model until its loss falls, and then listen to what guidance does with the shipped weights.
#
# *Needs:* three minutes of two CPU cores at most, and under 2 GB of memory; a GPU helps only with the presets `small`
# and `paper`. Words are explained in the glossary of [the notebooks' page](README.md).

# %% tags=["parameters"]
import os

PRESET = os.environ.get("V2A_NB_PRESET", "tiny")
STEPS = {"tiny": 40, "small": 400, "paper": 2000}.get(PRESET, 40)
SEED = 0

# %%
import tempfile
from pathlib import Path

import numpy as np
import torch

import v2a_nb as v2a
from v2a_nb import plots

vaura = v2a.load("vaura")
world = v2a.strike_world(seed=12, clips=24, size=64)
device = "cuda" if torch.cuda.is_available() else "cpu"
print(world, "on", device)


def hits_of(c, sounding=True):
    return [e["time_s"] for e in c.truth["events"] if e["sounding"] is sounding]


# the clip to look at: in good light, with hits that lie apart and a near miss
item = max(
    (
        c
        for c in world
        if len(hits_of(c)) > 1 and min(np.diff([0.0, *hits_of(c)])) > 0.25 and hits_of(c, sounding=False)
    ),
    key=lambda c: c.clip.frames.mean(),
)
print(item.narration, "at", *(f"{t:.2f}" for t in hits_of(item)), "s")

# %% [markdown]
# ## The delay pattern
#
# A codec writes each 20 ms of sound, a *frame*, as four integers, its *codes*; each of them picks a vector from a
# table, a *codebook*, and refines what those before it said. If all four were predicted at once, the second could not
# know what the first had chosen. So each codebook is written one step later than the one before, and codebook $q$ of
# frame $t$ stands at step $t + q + 1$. This *delay pattern* turns `codes [B, K, T]` into `steps [B, K, T + K]`; where a
# step has no code yet, or none any more, there is a special token, here a 0.

# %%
from v2a_nb.sampling.autoregressive import delay, undelay

toy = torch.tensor([[[1, 2, 3], [4, 5, 6], [7, 8, 9]]])
print(delay(toy, special=0)[0])
assert torch.equal(undelay(delay(toy, special=0)), toy)

# %% [markdown]
# ## Fusion
#
# $$x_s = [\,\mathrm{MLP}(v_s)\;;\;\textstyle\sum_q E_q(c_{q,s})\,] \in \mathbb{R}^{d_v + d_a}$$
#
# Visual tokens `[B, Tv, D]` are brought to one per codec frame by time (the released code repeats each seven
# times, which is 39 ms late after 2.56 s), projected, and set beside the summed embeddings of past tokens.

# %%
visual = vaura.encode_video(item.clip.silent())
codes = vaura.encode_sound(item.stems["mix"])
decoder = vaura.decoder
steps = delay(codes, decoder.config.special)[..., :-1]
fused = decoder.fuse(steps, decoder.condition(visual, codes.shape[-1]))
print("visual", tuple(visual.shape), "codes", tuple(codes.shape), "fused", tuple(fused.shape))
plots.show(plots.codes(codes[0], 50.0), alt="The clip's own tokens: four rows over time")

# %% [markdown]
# **Check: causality.** Changing the codes of one frame may change what is predicted from them, and nothing before. But
# "after" means later *steps*, and not later frames: codebook $q$ of frame $t$ is predicted at step $t + q + 1$, and
# reads all codes of the steps before. The first code of frame 60 stands at step 61. Codebook 3 of frame 58 is predicted
# at step 62, codebook 2 of frame 59 too. So the delay lets the fine codes of the two frames before hear of it.

# %%
with torch.no_grad():
    before = decoder(codes, visual)
    other = codes.clone()
    other[..., 60] = (other[..., 60] + 1) % 256
    after = decoder(other, visual)
changed = (before - after).abs().amax(dim=(0, 3)) > 1e-5  # [K, T]
first = [int(row.nonzero()[0]) for row in changed]
print("first frame whose prediction changed, by codebook:", first)
# codebook q of frame t is the first to be predicted after step 61 where t + q + 1 = 62
assert first == [61 - q for q in range(decoder.config.num_codebooks)]

# %% [markdown]
# ## Decoding: the same codes, ever faster
#
# Training predicts all steps at once. Decoding cannot: step $s + 1$ needs the codes of step $s$. And guidance, of which
# more below, needs every step twice, with the video and without. "Without" is the *null*: one learned vector in place
# of every visual token, a condition that says nothing, which a part of the clips had in training. The loop is always
# this one; what differs is how it gets its *logits*, the numbers of which the softmax makes probabilities. Here it
# always takes the likeliest code (greedy).

# %%
from v2a_nb.sampling.autoregressive import Sampling, generate_codes

FRAMES = 48  # a second and less: the first way below is slow
gamma, k, special = decoder.config.guidance, decoder.config.num_codebooks, decoder.config.special


def loop(predict):
    """Greedy codes [1, K, FRAMES]; `predict(steps so far)` gives the logits [K, V] with the video and without."""
    steps = torch.full((1, k, FRAMES + k), special)
    for s in range(FRAMES + k - 1):
        seen, blind = predict(steps[..., : s + 1])
        codes = (blind + gamma * (seen - blind)).argmax(-1)
        for q in range(max(0, s - FRAMES + 1), min(k, s + 1)):  # codebook q is at frame s - q, if that is one
            steps[0, q, s + 1] = codes[q]
    return undelay(steps)


with torch.no_grad():
    halves = decoder.condition(visual, FRAMES), decoder.null_condition(visual.shape[1], FRAMES)
both = torch.cat(halves)

# %% [markdown]
# **1, the naive loop** runs the whole past again for each step, once for each half. So does the released code.
#
# **2, one batch.** The halves differ in their pictures alone. Side by side, each weight is read once for both.
#
# **3, keys and values are kept.** A causal network never changes its mind about the past: position $s$ needs only
# itself, and the keys and values of those before. Work falls from $O(T^2)$ positions to $O(T)$.
#
# **4, a place for everything.** The cache of 3 grows by copying, and a Llama layer of this size spends more time on
# calling than on counting. `decoder.cached` holds the same weights fused: one matrix for queries, keys and values,
# whose product is written straight into their places, one for both halves of the feed-forward layer, one table of all
# codes, and norms that are folded into the matrices.
#
# **5, nothing is noted.** `torch.inference_mode` leaves out what gradients would need: `generate_codes` does so.
#
# **6, eight clips side by side** read each weight once for all. It is the cost of one of them that is printed.

# %%
from transformers import DynamicCache


def naive(steps):
    return [decoder.predict(decoder.run(decoder.fuse(steps, h[:, : steps.shape[-1]]))[0, -1]) for h in halves]


def one_batch(steps):
    return decoder.predict(decoder.run(decoder.fuse(steps.expand(2, -1, -1), both[:, : steps.shape[-1]]))[:, -1])


def kept():
    past = DynamicCache()

    def predict(steps):
        n = steps.shape[-1]
        new = decoder.fuse(steps[..., -1:].expand(2, -1, -1), both[:, n - 1 : n])
        out = decoder.backbone(inputs_embeds=new, past_key_values=past, use_cache=True)
        return decoder.predict(out.last_hidden_state[:, -1])

    return predict


def in_place():
    step = decoder.cached(both)
    return lambda steps: step(steps[..., -1:])


def together(clips):
    how = Sampling(gamma, temperature=0.0)
    return generate_codes(decoder, visual.expand(clips, -1, -1), how, torch.Generator(), frames=FRAMES)[:1]


# %%
ways = {  # name -> how often its codes are made at once, and how
    "1 naive": (1, lambda: loop(naive)),
    "2 one batch": (1, lambda: loop(one_batch)),
    "3 keys and values kept": (1, lambda: loop(kept())),
    "4 a place for everything": (1, lambda: loop(in_place())),
    "5 nothing is noted": (1, lambda: together(1)),
    "6 eight clips side by side": (8, lambda: together(8)),
}

# %%
import time

threads = torch.get_num_threads()
torch.set_num_threads(1)
cost, made = {}, {}
with torch.no_grad():
    for name, (clips, way) in ways.items():
        for _ in range(2):  # the first time warms up
            began = time.process_time()
            made[name] = way()
            cost[name] = 1000 * (time.process_time() - began) / clips / (FRAMES + k - 1)
for name, before in zip(cost, [next(iter(cost)), *cost], strict=False):
    print(f"{name:27} {cost[name]:6.2f} CPU ms a step, {cost[before] / cost[name]:5.2f} times as fast as before")
assert all(torch.equal(codes, made["1 naive"]) for codes in made.values()), "the same codes, whatever the way"
assert cost["3 keys and values kept"] < cost["1 naive"]

# %% [markdown]
# **What to notice.** All six give the same codes. The gain of 3 grows with the length of a window, those of 4 and 5 are
# those of a *small* network: a step of `tiny` is short of arithmetic, not of memory. At the paper's size it is the
# other way round. A step then reads every weight once, whatever is done about calls, and a processor can do no more
# than read them as fast as its memory gives them:

# %%
from v2a_nb.systems.vaura.system import PRESETS, VAuraDecoder

with torch.device("meta"):  # sizes without numbers
    large = VAuraDecoder(PRESETS["paper"], lean=True)
weights = sum(p.nbytes for part in (large.backbone, large.heads) for p in part.parameters())
matrix, two = torch.randn(4096, 4096), torch.randn(2, 4096)  # more than any cache holds
seconds = []
for _ in range(4):
    began = time.process_time()
    two @ matrix
    seconds.append(time.process_time() - began)
speed = matrix.nbytes / min(seconds)
window = PRESETS["paper"].context_frames + PRESETS["paper"].num_codebooks - 1
torch.set_num_threads(threads)
print(f"{weights / 1e9:.2f} GB of weights a step; one core here reads {speed / 1e9:.1f} GB/s")
print(f"{window} steps, 2.56 s of sound, take it at least {weights * window / speed:.0f} s")
print(f"a GPU that reads 2000 GB/s: {weights * window / 2e12:.2f} s")
assert weights > 2.5e9

# %% [markdown]
# On a processor, `paper` is for reading its code and counting its parameters, not for making sounds.
#
# ## A short, real training run
#
# The loss is a cross-entropy: $-\log p$ of the true code, in *nats*, the unit of the natural logarithm. How surprised a
# model is by the codes of the first codebook, on average, is `ce0`; that one has most of the timing. A fresh decoder
# starts at exactly $\ln 256$ nats, because its heads are zero, and all 256 codes are as likely. The encoder and the
# codec are frozen, so their outputs are computed once.
#
# Most frames are silence or a ring that goes on, and few begin a hit. So a frame counts up to five times as much where
# the encoder expects one. It says so by the *flux*, which is how much louder a sound gets from one moment to the next,
# here from 0 to 1: a guess from the pictures, so that the loss never favours hits which the pictures do not show.

# %%
tokens = {
    "codes": torch.cat([vaura.encode_sound(c.stems["mix"]) for c in world]),
    "visual": torch.cat([vaura.encode_video(c.clip.silent()) for c in world]),
}
print({k: tuple(v.shape) for k, v in tokens.items()})

# %%
from v2a_nb.systems.vaura.train import DecoderTraining
from v2a_nb.training.loop import OptimConfig, fit

torch.manual_seed(SEED)
fresh = DecoderTraining(VAuraDecoder(decoder.config))
flux = vaura.encoder.expected(tokens["visual"])


def batch_of(step):
    which = torch.randint(len(tokens["codes"]), (8,), generator=torch.Generator().manual_seed(step))
    return {"codes": tokens["codes"][which], "visual": tokens["visual"][which], "flux": flux[which]}


folder = Path(tempfile.mkdtemp())
plan = OptimConfig(steps=STEPS, lr=2e-3, warmup=5, log_every=2)
trained = fit(fresh, batch_of, plan, folder).cpu()

# %%
import json

log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
print(f"step {log[0]['step']}: {log[0]['ce0']:.2f} nats, step {log[-1]['step']}: {log[-1]['ce0']:.2f} nats")
assert log[-1]["ce0"] < 0.9 * torch.log(torch.tensor(256.0))
plots.show(plots.training(log, keys=("loss", "ce0")), alt="The training loss falls from ln 256 = 5.5 nats")

# %% [markdown]
# **What to notice.** `loss` weighs codebooks and frames, `ce0` does not; both fall together. So few steps teach it
# which tokens are common, not when to use them. The shipped weights took thousands, on thousands of clips, for encoder,
# codec and decoder; `v2a-nb train vaura --preset tiny --out runs/vaura` makes such weights from nothing.
#
# ## What the video is worth
#
# The same tokens, scored with the video and with the null: their difference is how much the picture told the
# model, in nats, frame by frame. It is the signal that guidance amplifies.

# %%
with torch.no_grad():
    with_video = vaura.log_likelihood(item.clip, codes).sum(0)
    null = vaura.log_likelihood(item.clip, codes, null=True).sum(0)
gain = (with_video - null).numpy()
figure = plots.curve(torch.arange(len(gain)).numpy() / 50, gain, xlabel="time (s)", ylabel="nats")
plots.mark_events(item.truth["events"], figure.axes[0])
plots.show(figure, alt="Nats that the video is worth over time: highest just after the true hits")

# %%
# check: the video is worth most where something is hit
times = (np.arange(len(gain)) + 0.5) / 50
at_hits = np.any([(times >= t - 0.02) & (times < t + 0.1) for t in hits_of(item)], axis=0)
print(f"{gain[at_hits].mean():.2f} nats a frame in the 100 ms after a hit, {gain[~at_hits].mean():.2f} elsewhere")
assert gain[at_hits].mean() > 2 * gain[~at_hits].mean()

# %% [markdown]
# ## Guidance by ear
#
# $$\ell = \ell_\varnothing + \gamma\,(\ell_v - \ell_\varnothing)$$
#
# $\gamma = 1$ is no guidance. The paper takes 6; the preset of this small model takes `decoder.config.guidance`, under
# 2, which was chosen on many clips. `v2a-nb score vaura --part ablations` measures 1 to 9.
#
# Then a code is drawn. Two numbers say how much is left to chance:
#
# $$p(c) \propto \begin{cases} e^{\ell_c / \tau} & \ell_c \text{ among the } k \text{ largest} \\ 0 &
# \text{else} \end{cases}$$
#
# $\tau$ is the *temperature*: under 1 it favours what is likely, at 0 only the likeliest code is left, above 1 it
# levels differences. *Top-k* never draws any but the $k$ likeliest codes, so that many unlikely ones, which together
# are not so unlikely, cannot spoil a sound.

# %%
v2a.explore_guidance(vaura, item.clip, (1.0, 2.0, 6.0), (SEED, SEED + 1), truth=item.truth)

# %% [markdown]
# **What to notice.** Above, every setting with its onsets over bars at the true events. Two seeds of one guidance
# differ as much as two guidances do: one clip cannot choose between them, and the near miss is what divides them. With
# a kernel, `v2a.explore_guidance(vaura, item.clip, truth=item.truth).live()` gives sliders for guidance, temperature
# and seed (not in a cell that is saved: widgets do not survive their kernel).
#
# **Exercise 1.** Draw the clip's codes at temperature 0.4, and at 0, instead of the preset's. The onsets hardly change;
# listen to what follows them, and count how often the first codebook takes another code than a frame before. What
# becomes of a chance of 1 in 4 when all logits are divided by 0.4?
#
# **Exercise 2.** Draw at temperature 2 with `top_k` 1, the preset's, and 0, which is all codes. What does each do to
# the onsets, and what does temperature change at `top_k` 1?
#
# The cells below are solutions. Try first.

# %% tags=["solution"]
# exercise 1: expect the same onsets, give or take one, and codes that change less than half as often: a chance of 1 in
# 4 is odds of 1 to 3, and becomes 1 to 3 ** (1 / 0.4), about 1 to 16. A ring dies away from code to code, so one that
# keeps its code keeps its level: what follows a hit gets stuck, and louder
from dataclasses import replace

from v2a_nb.audio.onsets import detect_onsets


def drawn(**how):
    """The clip's sounds by three seeds, and the share of frames in which the first code changes."""
    sources = [torch.Generator().manual_seed(SEED + k) for k in range(3)]
    chosen = replace(decoder.config.sampling, **how)
    made = generate_codes(decoder, visual.expand(3, -1, -1), chosen, sources, frames=codes.shape[-1])
    waves = vaura.codec.decode(made, item.stems["mix"].n).numpy()
    return [v2a.Sound(w, vaura.sample_rate) for w in waves], float((made[:, 0, 1:] != made[:, 0, :-1]).float().mean())


print("true hits at", *(f"{t:.2f}" for t in hits_of(item)))
for temperature in (decoder.config.temperature, 0.4, 0.0):
    sounds, changes = drawn(temperature=temperature)
    print(f"temperature {temperature:g}: the first code changes in {100 * changes:.0f} % of the frames; onsets:")
    for made in sounds:
        print("   ", *(f"{t:.2f}" for t in detect_onsets(made)), f"  level {made.rms_dbfs:.1f} dBFS")

# %% tags=["solution"]
# exercise 2: expect the codes of temperature 0 at top-k 1, where one code is left and nothing is drawn; rough sounds
# with nearly the right onsets at the preset's k; and at all codes onsets everywhere, for each unlikely code has little,
# but there are hundreds of them
for top_k in (1, decoder.config.top_k, 0):
    sounds, changes = drawn(temperature=2.0, top_k=top_k)
    print(f"top-k {top_k}: the first code changes in {100 * changes:.0f} % of the frames; onsets by seed:",
          *(len(detect_onsets(made)) for made in sounds))  # fmt: skip
v2a.compare(item.clip, {f"all codes, seed {k}": made for k, made in enumerate(sounds)}, events=item.truth["events"])
