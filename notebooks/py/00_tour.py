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
# You will let several systems make a soundtrack, hear each beside the true one, look at when it starts to sound, and
# then ask the best of them *why there*: which part of the picture made it sound.
#
# *Needs:* half a minute on one free CPU core and 1 GB of memory; a GPU does not help. The world is drawn by the package
# itself, so the truth is known to the sample. Words are explained in the glossary of [the notebooks' page](README.md),
# which also says what to read next.

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
world = v2a.strike_world(seed=78, clips=9, seconds=5.12, size=160, per_recording=1)
item = world[8]
events = item.truth["events"]
print(item.narration)
print(item.clip)
for event in events[:4]:
    print(event["time_s"], event["kind"], event["material"], "sounding" if event["sounding"] else "silent")

# %%
# check: the clip has what it is here to show, hits on several materials and near misses, bright and not too soft
true, hits = item.stems["mix"], [e for e in events if e["sounding"]]
assert len({e["material"] for e in hits}) > 1 and len(hits) < len(events)
assert item.clip.frames.mean() > 90 and true.peak > 0.15
moments = [e["time_s"] for e in events][:6]
plots.show(plots.strip(item.clip, moments), alt=f"Frames at the first {len(moments)} events: {item.narration}")

# %% [markdown]
# ## Soundtracks
#
# $$p(\text{codes} \mid \text{video}) = \prod_s p(c_s \mid c_{<s}, v_{\le s})$$
#
# V-AURA predicts codec tokens one step after another, `codes [K, T]` with $K = 4$ codebooks at 50 frames a
# second, and sees the picture of every step before it speaks. Others paint a spectrogram out of noise, and *retrieval*
# makes nothing: it plays the sound of the training clip that looks most alike.

# %%
from v2a_nb.systems.registry import with_weights

silent = item.clip.silent()
systems = {name: v2a.load(name) for name in with_weights()}
titles = {name: "retrieval" if name == "retrieval" else system.title for name, system in systems.items()}
sounds = {titles[name]: system.generate(silent, seed=SEED) for name, system in systems.items()}
for title, sound in sounds.items():
    print(f"{title:13} {sound}")

# %%
# check: exactly as long as the clip, and a second run with the same seed is the same sound
vaura = systems["vaura"]
sound = sounds[vaura.title]
assert all(made.n == round(item.clip.duration * made.sample_rate) for made in sounds.values())
assert np.array_equal(sound.samples, vaura.generate(silent, seed=SEED).samples)
print(f"{sound.n} samples for {item.clip.duration:.2f} s, reproducible")

# %% [markdown]
# Press play. Switch tracks with the number keys: the position stays, the levels are not evened out. Solid ticks are
# true hits, dotted ones are near misses, which must stay silent.

# %%
v2a.compare(item.clip, {**sounds, "true": true}, events=events, title=item.narration)

# %% [markdown]
# ## Is it on time?
#
# An onset detector listens to all of them. The bars behind are the truth.

# %%
from v2a_nb.audio.onsets import detect_onsets

onsets = {"true sound": detect_onsets(true)} | {title: detect_onsets(made) for title, made in sounds.items()}
figure = plots.timeline(onsets, item.clip.duration, events=events)
plots.show(figure, alt="Onsets of the true sound and of each system's, over bars at the true events")

# %%
from v2a_nb.metrics.truth import score_clip

names = {"onset_f1_50ms": "F1", "onset_offset_abs_ms": "off by ms", "near_miss_silent": "silent at misses"}
names["material_accuracy"] = "material"
rows = {title: score_clip(made, item.truth).row() for title, made in sounds.items()}
print(" " * 13 + "".join(f"{name:>{len(name) + 3}}" for name in names.values()))
for title, row in rows.items():
    print(f"{title:13}" + "".join(f"{row[name]:{len(short) + 3}.2f}" for name, short in names.items()))
# check: who looks is on time, who only plays what looks alike is not
assert rows[vaura.title]["onset_f1_50ms"] > 0.8 > 0.5 > rows["retrieval"]["onset_f1_50ms"]

# %% [markdown]
# **What to notice.** One clip is an anecdote. `v2a.evaluate(world.test, vaura)` makes a table with intervals and
# controls; `docs/results.md` has the numbers for 200 clips.
#
# ## Why there?
#
# The visual encoder says where it expects a hit, how sure it is, and which place it looked at.

# %%
for hit in vaura.hits(silent, sensitivity=1.0):
    print(f"{hit.time_s:.2f} s  probability {hit.probability:.2f}  at ({hit.x:.2f}, {hit.y:.2f})")

# %% [markdown]
# Take the moment at which V-AURA's onset is nearest to a true hit, and ask: which pixels, in which pictures, made the
# sound of the next quarter of a second as likely as it was? The answer is a saliency map, here the encoder's attention
# times its gradient.

# %%
best = min(hits, key=lambda e: np.abs(onsets[vaura.title] - e["time_s"]).min() + (e["time_s"] < 0.5))
window = (best["time_s"] - 0.02, best["time_s"] + 0.23)
made = v2a.saliency(vaura, item.clip, window=window, sound=sound, check=False)
print(f"explained: the {best['kind']} on {best['material']} at {best['time_s']:.2f} s")
plots.show(
    made.plot(item.clip, events=events),
    alt=f"Pictures with the map over them, and its curve over time: it is bright around {best['time_s']:.2f} s",
)

# %%
# check: the map is about this moment, and about the place of the thing that was struck
(x, y), (x0, y0, x1, y1) = (160 * np.array(made.place)).round(), best["box"]
print(f"the map is brightest at {made.peak_s:.2f} s, at pixel ({x:.0f}, {y:.0f})")
box = f"({x0:.0f}, {y0:.0f}) and ({x1:.0f}, {y1:.0f})"
print(f"the {best['material']} was struck at {best['time_s']:.2f} s, and fills what lies between {box}")
assert abs(made.peak_s - best["time_s"]) < 0.2 and x0 - 30 < x < x1 + 30 and y0 - 30 < y < y1 + 30

# %% [markdown]
# **What to notice.** In time the map is sharp: what counted are the pictures around the strike. In space it has a spot
# at the glass, and others where nothing is struck. Does the model look there, or is the map at fault? `09_saliency`
# asks such maps hard questions: whether the truth agrees, whether plain motion would do as well, and whether the map
# is still there when the weights are shuffled.
#
# **Exercise.** Cut the clip with `silent.slice(1.0, 3.0)` and generate again. Do the hits stay where they were?
# Then swap the pictures' order in time (`v2a.Clip(silent.frames[::-1], fps=silent.fps)`). What does the model say to
# that?
#
# **From here.** `v2a.browse(v2a.strike_world(seed=5, clips=12))` shows more clips with their truth, to filter and to
# open. `v2a.your_video()` makes a soundtrack for a file of yours, and is honest about what these weights know;
# `11_your_own_video` goes through it step by step. A solution of the exercise:

# %% tags=["solution"]
# expect the hits of the part where they were, 1 s earlier by its own clock; and backwards all at the mirrored times and
# perhaps one more: a strike looks much the same in both directions of time
for name, clip in {
    "1 to 3 s": silent.slice(1.0, 3.0),
    "backwards": v2a.Clip(silent.frames[::-1], fps=silent.fps),
}.items():
    print(f"{name:10} hits expected at", *(f"{t:.2f}" for t in vaura.hits(clip).times))
print("true hits, less 1 s:   ", *(f"{e['time_s'] - 1:.2f}" for e in hits if 1 <= e["time_s"] < 3))
print("true hits, mirrored:   ", *(f"{silent.times[-1] - e['time_s']:.2f}" for e in hits[::-1]))
