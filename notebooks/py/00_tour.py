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
# # A tour in one minute
#
# **Question.** A silent video goes in. Can a model make the sound that belongs to it: the right one, at the
# right time?
#
# You will make one soundtrack, hear it beside the true one, look at when it starts to sound, and then ask the
# model *why there*: which moments of the picture made it expect a hit.
#
# Everything here runs on one CPU core. The world is drawn by the package itself, so the truth is known to the
# sample.

# %% tags=["parameters"]
import os

PRESET = os.environ.get("V2A_NB_PRESET", "tiny")
SEED = 0

# %%
import numpy as np

import v2a_nb as v2a
from v2a_nb import plots

# %% [markdown]
# ## A clip whose truth is known
#
# `strike_world` renders a small world: a recording has objects on a table, something that strikes them, and a
# room that hums or hisses. Its pictures are `uint8 [T, H, W, 3]`; its sound is the exact sum of three stems.

# %%
world = v2a.strike_world(seed=77, clips=3, seconds=5.12, size=160)
item = world[1]
print(item.narration)
print(item.clip)
for event in item.truth["events"][:4]:
    print(event["time_s"], event["kind"], event["material"], "sounding" if event["sounding"] else "silent")

# %%
times = [e["time_s"] for e in item.truth["events"]][:6]
plots.show(plots.strip(item.clip, times), alt=f"Frames at the first {len(times)} events: {item.narration}")

# %% [markdown]
# ## One soundtrack
#
# $$p(\text{codes} \mid \text{video}) = \prod_s p(c_s \mid c_{<s}, v_{\le s})$$
#
# V-AURA predicts codec tokens one step after another, `codes [K, T]` with $K = 4$ codebooks at 50 frames a
# second, and sees the picture of every step before it speaks.

# %%
silent = item.clip.silent()
vaura = v2a.load("vaura")
sound = vaura.generate(silent, seed=SEED)
print(sound)

# %%
# check: exactly as long as the clip, and a second run with the same seed is the same sound
assert sound.n == round(item.clip.duration * sound.sample_rate)
again = vaura.generate(silent, seed=SEED)
assert np.array_equal(sound.samples, again.samples)
print(f"{sound.n} samples for {item.clip.duration:.2f} s, reproducible")

# %% [markdown]
# Press play. Switch tracks with 1 and 2: the position stays, the levels are not evened out. Solid ticks are true
# hits, dotted ones are near misses, which must stay silent.

# %%
v2a.compare(
    item.clip,
    {"V-AURA (tiny)": sound, "true": item.stems["mix"]},
    events=item.truth["events"],
    title=item.narration,
)

# %% [markdown]
# ## Is it on time?
#
# An onset detector listens to both sounds. The bars behind are the truth.

# %%
from v2a_nb.audio.onsets import detect_onsets

onsets = {"true sound": detect_onsets(item.stems["mix"]), "V-AURA": detect_onsets(sound)}
figure = plots.timeline(onsets, item.clip.duration, events=item.truth["events"])
plots.show(figure, alt="Onsets of the true and of the generated sound, over bars at the true events")

# %%
from v2a_nb.metrics.truth import score_clip

row = score_clip(sound, item.truth).row()
for name in ("onset_f1_50ms", "onset_offset_abs_ms", "near_miss_silent", "material_accuracy"):
    print(f"{name:22} {row[name]:.2f}")
assert 0 <= row["onset_f1_50ms"] <= 1

# %% [markdown]
# **What to notice.** One clip is an anecdote. `v2a.evaluate(world.test, vaura)` makes a table with intervals and
# controls; `docs/results.md` has the numbers for 200 clips.
#
# ## Why there?
#
# The visual encoder says where it expects a hit, how sure it is, and which place it looked at.

# %%
for hit in vaura.encoder.hits(silent)[:6]:
    print(f"{hit['time_s']:.2f} s  probability {hit['probability']:.2f}  at ({hit['x']:.2f}, {hit['y']:.2f})")

# %% [markdown]
# **Exercise.** Cut the clip with `silent.slice(1.0, 3.0)` and generate again. Do the hits stay where they were?
# Then swap the pictures' order in time (`v2a.Clip(silent.frames[::-1], fps=silent.fps)`): a bounce that shrinks
# becomes one that grows. What does the model say to that?
#
# **From here.** `v2a.browse(v2a.strike_world(seed=5, clips=12))` shows more clips with their truth, to filter and to
# open. `v2a.your_video()` makes a soundtrack for a file of yours, and is honest about what these weights know;
# `11_your_own_video` goes through it step by step.
