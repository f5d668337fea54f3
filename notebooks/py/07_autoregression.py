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
# at every step. You will lay out tokens, build the fused input, train a small model until its loss falls, and
# then listen to what guidance does with the shipped weights.
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
    (c for c in world if len(hits_of(c)) > 1 and min(np.diff(hits_of(c))) > 0.3 and hits_of(c, sounding=False)),
    key=lambda c: c.clip.frames.mean(),
)
print(item.narration, "at", *(f"{t:.2f}" for t in hits_of(item)), "s")

# %% [markdown]
# ## The delay pattern
#
# Four codebooks describe each frame, and each refines the one before. If all four were predicted at once, the
# second could not know what the first had chosen. So codebook $q$ of frame $t$ stands at step $t + q + 1$:
# `codes [B, K, T]` become `steps [B, K, T + K]`.

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
# ## A short, real training run
#
# A fresh decoder starts at exactly $\ln 256$ nats, because its heads are zero. The encoder and the codec are
# frozen, so their outputs are computed once.

# %%
tokens = {
    "codes": torch.cat([vaura.encode_sound(c.stems["mix"]) for c in world]),
    "visual": torch.cat([vaura.encode_video(c.clip.silent()) for c in world]),
}
print({k: tuple(v.shape) for k, v in tokens.items()})

# %%
from v2a_nb.systems.vaura.system import VAuraDecoder
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
# **What to notice.** Forty steps teach it which tokens are common, not when to use them. The shipped weights took
# thousands; `v2a-nb train vaura --preset tiny --out runs/vaura` makes them again from nothing.
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
# $\gamma = 1$ is no guidance. The paper takes 6; a small model over-fires there.

# %%
v2a.explore_guidance(vaura, item.clip, (1.0, 2.0, 6.0), (SEED, SEED + 1), truth=item.truth)

# %% [markdown]
# **What to notice.** Above, every setting with its onsets over bars at the true events. With a kernel,
# `v2a.explore_guidance(vaura, item.clip, truth=item.truth).live()` gives sliders for guidance, temperature and
# seed (not in a cell that is saved: widgets do not survive their kernel).
#
# **Exercise.** Repeat with `temperature=0.4` instead of the preset's. The onsets hardly change; listen to what follows
# them. In a ring the model gives a chance of about 1 in 4 to another code than the last one: what becomes of that
# chance when all logits are divided by 0.4?
