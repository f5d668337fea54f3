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
# # Your own video
#
# **Question.** These weights have only ever seen a drawn world. What do they make of *your* video, and what can you
# do where they are wrong?
#
# You will choose a file, see which hits a system expects in it and how sure it is, change them until they are right,
# hear every system on the same pictures, measure them where the file has a sound of its own, and take the files home.
#
# Without a file everything runs too, on a clip that the package draws.
#
# *Needs:* three minutes of two CPU cores at most, and under 2 GB of memory, for half a minute of video; a GPU does not
# help. Words are explained in the glossary of [the notebooks' page](README.md).

# %% tags=["parameters"]
import os

PRESET = os.environ.get("V2A_NB_PRESET", "tiny")
VIDEO = os.environ.get("V2A_NB_VIDEO", "")  # path of your file; empty: what you upload below, or a drawn clip
START, SECONDS = 0.0, 8.0  # the part that is used, 30 s at most
SEED = 0

# %% [markdown]
# ## 1. Choose a file
#
# Press the button, choose a short video, and wait until the button counts it: *(1)*. Then run all cells *below* it;
# the cell of the button itself would forget the file. Notebook servers may drop large uploads without a word, Colab
# small ones already. Then drag the file into the file browser at the left, and write its name into `VIDEO` above.

# %%
import ipywidgets
import numpy as np

import v2a_nb as v2a
from v2a_nb import plots

upload = ipywidgets.FileUpload(accept="video/*", multiple=False, description="Choose a video")
upload

# %%
import tempfile
from pathlib import Path

from v2a_nb.widgets.upload import safe_stem, uploaded

folder, out = Path(tempfile.mkdtemp()), Path("your_video")
chosen = uploaded(upload.value)
if chosen:
    video = folder / safe_stem(chosen[0])
    video.write_bytes(chosen[1])
elif VIDEO:
    video = Path(VIDEO).expanduser()
else:  # wide Strike World: any camera, light and actor, and photographs behind it
    drawn = v2a.strike_world(seed=67, clips=1, seconds=5.12, size=224, version=2)[0]
    video, out = v2a.save_mp4(drawn.clip, None, folder / "drawn.mp4"), folder
    print("drawn for you:", drawn.narration)

# %%
clip = v2a.open(
    video, start=START, duration=SECONDS, size=240
)  # pixels of the short side: half a minute fits into 2 GB
silent = clip.silent()
whole = v2a.media.info(video).duration
print(f"{clip.duration:.2f} s of {whole:.2f} s are used", *clip.problems, sep="\n")
clip

# %% [markdown]
# **What to expect.** Best are impacts in plain view: a stick, a hammer, a ball, a foot that hits something hard, filmed
# from the side with 24 frames a second or more. Speech, music, animals, engines and water are unknown to the weights,
# and so is the room. Of real clips, that no weights have seen, `v2a-nb score real` measures how well the onsets of
# generated sounds meet the true ones, beside the same onsets *shifted*, which is what chance would score. Where that
# was done, its numbers are drawn here.

# %%
from v2a_nb.scores.real_results import best_system, rows
from v2a_nb.systems.registry import class_of, honest, with_weights

print(honest())
ax = None
for k, (metric, label) in enumerate({"onset_f1_100ms": "onset F1", "onset_f1_100ms_shifted": "shifted"}.items()):
    if found := {row.subject: vars(row) for row in rows({name: name for name in with_weights()}, [metric])}:
        ax = plots.intervals(found, ax, xlabel="onset F1 within 100 ms", label=label, shift=0.22 * k).axes[0]
plots.show(ax.figure, alt="Onset F1 on real clips of all, beside that of shifted onsets") if ax else "not scored yet"

# %% [markdown]
# ## 2. What a system expects
#
# $$p_k = P(\text{contact at } t_k \mid v), \quad v \in \mathbb{R}^{T \times D}, \qquad
# H(s) = \{\,k : p_k \ge 1 - s\,\}$$
#
# The video encoder makes of $T$ frames as many vectors, and of these a list of hits: when, how likely, where in the
# picture. The decoder makes sound at $H(s)$, where $s$, the *sensitivity*, is yours: 0 follows what is as good as
# certain ($p \ge 0.99$), 1 every doubt, and 0.5 what is more likely than not. The list calls a hit *sure* from $p =
# 0.75$ on, and *doubtful* below, down to 0.1; what is less likely it does not show.

# %%
following = [name for name in with_weights() if "hits" in class_of(name).options]
system = v2a.load(best_system(following))  # the best on real clips; before any was scored, the first
doubts = system.hits(silent, sensitivity=1.0)
print(f"{system.title}: {doubts.summary}")
doubts.likely

# %%
from v2a_nb.scores.real import motion_energy

figure = plots.curve(*motion_energy(silent), xlabel="time (s)", ylabel="motion (line), probability (dots)")
axis = figure.axes[0]
for hit in doubts.likely:
    axis.plot([hit.time_s] * 2, [0, hit.probability], color="#b3261e", ls="-" if hit.sure else ":")
    axis.plot(hit.time_s, hit.probability, "o", color="#b3261e", mfc="#b3261e" if hit.sure else "white")
axis.set(xlim=(0, clip.duration), ylim=(0, 1.08))
plots.show(figure, alt=f"Motion and {doubts.summary}, sure ones filled. A hit ends a motion, and few ends are hits")

# %%
# look for yourself: the pictures at the likeliest hits, in the order of time
likeliest = sorted(doubts.likely, key=lambda hit: -hit.probability)[:5]
moments = sorted(hit.time_s for hit in likeliest) or [clip.duration / 2]
listed = ", ".join(f"{t:.2f}" for t in moments)
plots.show(plots.strip(clip, moments), alt=f"Pictures at {listed} s: does something touch?")

# %% [markdown]
# How many hits are followed, and what does that sound like? Where nothing changes between two rows, the system has
# no doubts there, which is not the same as being right. `sensitivity="auto"` reads off the doubts themselves what
# suits the clip: with $d = \sum_k p_k (1 - p_k) / \sum_k p_k$ small, as in the drawn world, a doubtful hit is a near
# miss; with $d$ large, as on most real video, it is the best that there is. There hits also sound a little later than
# the system sees them: a camera's picture is older than its time says, and a stick slows down before it hits.

# %%
names = {0.0: "certain", 0.5: "more likely than not", 0.9: "doubtful too", 1.0: "every doubt"}
for s, name in names.items():
    print(f"sensitivity {s:.1f}  {name:21} hits: {len(doubts.at(s))}")
late = 1000 * doubts.fitting_delay_s
print(f'"auto" is {doubts.fitting_sensitivity:.2f} here, {late:.0f} ms later: the doubt is {doubts.doubt:.2f}')
counts = [len(doubts.at(s)) for s in np.linspace(0, 1, 21)]
assert counts == sorted(counts)  # check: more sensitive never takes a hit away

# %%
tried = {names[s]: system.generate(silent, seed=SEED, sensitivity=s) for s in names}
v2a.compare(clip, tried, events=doubts.likely, title=f"{system.title}, from certain to every doubt")

# %% [markdown]
# **What to notice.** Marks with a hollow head are doubtful. A missed hit and an imagined one cost about the same in
# a score, and not at all the same to a listener: what is worse depends on what you need the sound for.
#
# ## 3. Change the hits
#
# Hits are a list, and the list is yours. In code: make the first one louder, move the second, take the last one away,
# and add one where nothing happens at all. No claim is made that this is *right*; the claim is that the sound does
# what the list says.


# %%
def widest_gap(hits):
    """The middle of the longest time without a hit, seconds."""
    edges = np.array([0.0, *hits.times, clip.duration])
    k = int(np.argmax(np.diff(edges)))
    return round(float(edges[k : k + 2].mean()), 3)


hits = doubts.likely
sounding = [k for k, hit in enumerate(hits) if hit.probability >= 0.5]
if sounding:
    hits = hits.scale(sounding[0], 9.0)  # dB
if len(sounding) > 1:
    hits = hits.remove(sounding[-1])
if len(sounding) > 2:
    hits = hits.move(sounding[1], widest_gap(hits))
hits = hits.add(widest_gap(hits))
hits

# %%
from v2a_nb.audio.onsets import detect_onsets, match_onsets

editor = v2a.edit_hits(system, clip, hits, seed=SEED)
editor.make()
wanted = np.array(editor.followed.times)
onsets = {"as expected": detect_onsets(editor.before), "your hits": detect_onsets(editor.sound)}
met = {name: len(match_onsets(wanted, times, 0.05)) for name, times in onsets.items()}
for name, count in met.items():
    print(f"{name:12} {count} of your {len(wanted)} hits are heard within 50 ms")
bars = [{"time_s": t, "material": "hit"} for t in wanted]
figure = plots.timeline(onsets, clip.duration, events=bars, bars="your hits")
plots.show(
    figure, alt=f"Onsets before and after, over bars at your hits: on {met['as expected']}, and {met['your hits']}"
)

# %%
# check: exactly as long as the clip, the same hits give the same sound, and the old list is as it was
assert editor.sound.n == round(clip.duration * editor.sound.sample_rate)
again = system.generate(silent, hits=editor.followed, seed=SEED)
assert np.array_equal(again.samples, editor.sound.samples)
assert system.hits(silent, sensitivity=1.0) == doubts

# %% [markdown]
# And by hand, which is how it is meant. Click on the line to add a hit, drag one, make it louder, delete it; dashed
# ones are doubtful and stay silent until you say so. *Make the sound*, then switch between the tracks with 1 and 2.
# Every action has a key, listed under *Keys*. Do it until it sounds as it looks, then run the cells below: they go on
# with what the editor holds.

# %%
editor.live()

# %%
sound = editor.make()
print(editor)
print(editor.hits.at(editor.sensitivity))

# %% [markdown]
# ## 4. All systems, the same pictures
#
# Every system that the package knows, each with its own best settings. None hears the clip's own sound. Left alone, a
# system weighs its doubts itself: it may be silent at a hit of its list, and sound where the list has none.

# %%
sounds = {}
for name in with_weights():
    model = system if name == system.name else v2a.load(name)
    sounds[name] = model.generate(silent, seed=SEED)
sounds["your hits"] = sound
v2a.compare(clip, {**sounds, "its own sound": clip.sound}, events=doubts.likely, title=f"{clip.name}: all systems")

# %% [markdown]
# Is one of them on time? Where the file has a sound, its onsets are the truth: those of everything that is heard, also
# of what is not in the picture. F1 alone flatters a sound that ticks all the time, so each stands beside its control:
# the same onsets against the true ones *moved in time* by $n = 19$ amounts $\delta_i$.
#
# $$\text{gain} = F_1(\hat t,\, t) - \tfrac{1}{n} \textstyle\sum_i F_1(\hat t,\, t + \delta_i)$$

# %%
from v2a_nb.scores.onset_agreement import agreements

true = detect_onsets(clip.sound) if clip.sound else np.zeros(0)
heard = {name: detect_onsets(made) for name, made in {**sounds, "its own sound": clip.sound}.items() if made}
if len(true):
    print(f"{'within 100 ms':14}{'onsets':>8}{'F1':>7}{'moved':>7}{'gain':>7}{'late by (ms)':>14}")
    for name, times in heard.items():
        [score] = agreements([true], [[times]], [clip.duration], [clip.name])
        f1, moved = score.f1(100), score.f1(100, "_shifted")
        late = f"{np.median(score.offsets_ms):.0f}" if len(score.offsets_ms) else "-"
        print(f"{name:14}{len(times):8}{f1:7.2f}{moved:7.2f}{f1 - moved:7.2f}{late:>14}")
    assert f1 == 1  # check: the last row is the truth against itself
else:
    print("The file has no sound in which something begins: listen, and trust your eyes.")

# %%
if len(true):
    title = f"{clip.name}: its own sound, and {system.title}"
    figure = plots.against_truth(clip.sound, true, heard[system.name], doubts.likely, title=title)
    legend = "Filled triangles are on time, open ones are not; stems are expected hits."
else:
    figure, legend = plots.timeline(heard, clip.duration), "Nothing is known of the truth."
plots.show(figure, alt=f"Onsets on your clip. {figure.alt} {legend}")

# %% [markdown]
# **What to notice.** One clip is an anecdote, and five onsets are few: a gain of 0.3 on your file says little, and the
# figure above, over many clips, says more. Did your own edits raise the row *your hits*? They should, if you edited
# towards what you see; the edits in code above did not try to.
#
# Look at *retrieval*, too: a sound that was found and not made, which knows nothing of *when*. What it gains on your
# clip is luck, and tells you how lucky a single clip can be.
#
# ## 5. Take it home
#
# The video with its new sound, the sound alone, and the hits. Pictures are copied as they are where an mp4 can hold
# them, and a part is encoded again, in full size. Times of hits are those of the whole file, so that
# `v2a-nb generate VIDEO --hits FILE` follows them anywhere.

# %%
from v2a_nb.media import Output, Video
from v2a_nb.widgets.upload import Downloads, free_paths

TAKE = "your hits"  # or a system's name
wav, mp4, kept = free_paths(out, f"{clip.name}_{TAKE}".replace(" ", "_"), ("wav", "mp4", "hits.json"))
with Video(video) as file:
    Output().write(file, sounds[TAKE], (wav, mp4), start=START, duration=SECONDS, report=print)
editor.followed.later(START).save(kept)
Downloads(mp4, wav, kept)

# %%
# check: what was written is what was heard
assert v2a.open_sound(wav).n == sounds[TAKE].n
assert v2a.Hits.load(kept) == editor.followed.later(START)
written = v2a.media.info(mp4)
print(f"{mp4.name}: {written.width} x {written.height}, {written.duration:.2f} s, sound {written.audio_codec}")

# %% [markdown]
# The links hold the files themselves, so they work in JupyterLab, on Binder and on Colab. A larger file is named by its
# path: find it in the file browser at the left, in the folder beside this notebook, and download it from there.
# Binder and Colab forget it when the session ends. `Output(keep_original=True)` keeps the file's own sound as a second
# track, `Output(mix=-6.0)` mixes the new one into it.
#
# **Exercise 1.** Film it: a pencil on a cup, a mug and a book, from the side, ten seconds, with the sound on. Which
# system has the largest gain? Then edit by hand without listening to the file's own sound. By how much does the row
# *your hits* rise, and after how many edits does it rise no more?
#
# **Exercise 2.** Compute the gain for `doubts.at(s).times` in place of onsets, with $s$ from 0 to 1, and draw it over
# $s$. Where is the best sensitivity for your clip? Is it the best for another one, and is it near `"auto"`? What would
# you have to do before you believed it?
#
# **Exercise 3.** A slow camera: `system.hits(clip.at_most_fps(12).silent())`. Which hits go first, soft or loud ones,
# near or far ones? Then show the film to the system backwards, as in the tour. A hit ends a motion; what does one
# look like that begins it?
#
# The cells below are solutions of the second and the third, for the clip that you have chosen, or the drawn one. The
# first needs a camera, and only you can solve it: expect a rise with each hit that you add or move until all that one
# sees is right, and no more after it; what is left are sounds of things outside of the picture. Try first.

# %% tags=["solution"]
# exercise 2: expect the best of each clip somewhere under 0.6, at another place for each, and a fall where every doubt
# is followed. The best value of one clip is chosen *on* it, and so flatters itself: before you believe in one, choose
# it on many clips, measure it on others, and draw the interval
sensitivities = np.linspace(0, 1, 11)


def gains(c, expected):
    """The gain of hits over moved ones for each sensitivity; NaN where nothing begins in the clip's own sound."""
    own = detect_onsets(c.sound) if c.sound else np.zeros(0)
    lists = [np.asarray(expected.at(s).times, float) for s in sensitivities]
    rows = [agreements([own], [[times]], [c.duration], [c.name])[0] for times in lists]
    return np.array([row.f1(100) - row.f1(100, "_shifted") if len(own) else np.nan for row in rows])


expected = {"your clip": doubts}
curves = {"your clip": gains(clip, doubts)}
for take in v2a.strike_world(seed=68, clips=4, seconds=5.12, size=224, version=2):
    expected[take.id] = system.hits(take.clip.silent(), sensitivity=1.0)
    curves[take.id] = gains(take.clip, expected[take.id])
figure = None
for name, values in curves.items():
    if np.isfinite(values).all():
        axis = figure.axes[0] if figure else None
        label = "your clip" if name == "your clip" else "another"
        figure = plots.curve(sensitivities, values, axis, xlabel="sensitivity", ylabel="gain", label=label)
        best = int(values.argmax())
        print(f"{name:20} best at {sensitivities[best]:.1f}: gain {values[best]:.2f}; at 0.5 {values[5]:.2f}", end="")
        print(f'; "auto" is {expected[name].fitting_sensitivity:.2f}')
plots.show(figure, alt="Gain over sensitivity of your clip and others: each has its best elsewhere")

# %% tags=["solution"]
# exercise 3: expect lower probabilities of the slow camera, times that are off by a picture or more, and where two
# moments are close a hit that moves or is seen twice: the pictures between which it lay are gone. Backwards, most hits
# stay at the mirrored times. A turn that touches looks much the same in both directions of time, so a contact that
# begins a motion is taken for a hit as well
from dataclasses import replace

slow = system.hits(clip.at_most_fps(12).silent(), sensitivity=1.0)
turned = system.hits(replace(silent, frames=silent.frames[::-1]), sensitivity=1.0)
for name, found, back in (("as it is", doubts, False), ("12 a second", slow, False), ("backwards", turned, True)):
    end = silent.times[-1]  # a picture that is shown backwards is seen at the mirrored time
    listed = [(end - h.time_s if back else h.time_s, h.probability) for h in found.likely if h.probability > 0.1]
    print(f"{name:12}", "  ".join(f"{t:.2f} s ({p:.2f})" for t, p in sorted(listed)))
