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
# # Spectrograms and codecs
#
# **Question.** What does a model see of a sound, and what is lost on the way back?
#
# Two representations carry all systems of this package that learn to make sound: *spectrograms* (EgoSonics,
# Action2Sound and VTA-LDM, whose recipe is here) and *codec tokens* (V-AURA). You will change their settings and hear
# what that does.
#
# *Needs:* a minute on one CPU core and 1 GB of memory; a GPU does not help. Words are explained in the glossary of
# [the notebooks' page](README.md).

# %% tags=["parameters"]
import os

PRESET = os.environ.get("V2A_NB_PRESET", "tiny")
SEED = 3

# %%
import numpy as np
import torch

import v2a_nb as v2a
from v2a_nb import plots

# %%
world = v2a.strike_world(seed=SEED, clips=8, size=64)
item = max(world, key=lambda c: len({e["material"] for e in c.truth["events"] if e["sounding"]}))
sound = item.stems["mix"]
wave = torch.from_numpy(sound.samples.copy())  # [1, n]
print(item.narration)
sound

# %% [markdown]
# ## Time against frequency
#
# $$X[k, m] = \sum_n x[n + mH]\, w[n]\, e^{-2\pi i k n / N}$$
#
# A piece of $N$ samples is cut out by a *window* $w$ and taken apart into waves, $k$ of which fit into it; the next
# piece begins $H$ samples later, the *hop*. So `X` is `[N / 2 + 1, frames]`, with $f_s / H$ frames a second for $f_s$
# samples. $\lvert X \rvert$ is the *magnitude*, how strong each wave is; the angle of $X$ is its *phase*, where in its
# swing it is. A window of $N$ samples resolves $f_s / N$ hertz and $N / f_s$ seconds: their product is 1, whatever you
# choose. The hop decides how often one looks, and not how sharply.

# %%
for n_fft in (128, 512, 2048):
    print(f"n_fft {n_fft:4}: {sound.sample_rate / n_fft:6.1f} Hz wide, {1000 * n_fft / sound.sample_rate:6.1f} ms long")

# %%
from matplotlib.figure import Figure

fig = Figure(figsize=(9, 7))
for row, n_fft in enumerate((128, 512, 2048)):
    axis = fig.add_subplot(3, 1, row + 1)
    plots.spectrogram(sound, axis, n_fft=n_fft, hop=64, title=f"n_fft {n_fft}")
fig.tight_layout()
plots.show(fig, alt="The same sound at three window lengths: short ones draw sharp onsets, long ones sharp pitches")

# %% [markdown]
# **What to notice.** At 128 a hit is a thin upright line and its pitch a smear; at 2048 it is the other way round.
# A model that must be on time *and* on pitch has to pay for both.
#
# Some questions ask for a pointer. Where exactly does the first hit begin, which pitch rings longest, how far is it
# above the room? Below, the same sound with time, frequency and level wherever you point; drag to zoom, double-click to
# come back. Where no script runs, the still picture is all there is.

# %%
plots.show(
    plots.spectrogram_zoom(sound),
    alt="The sound to point at and to zoom into: each hit begins at one moment over all frequencies, few bands ring",
    still=plots.spectrogram(sound),
)

# %% [markdown]
# ## The way back: Griffin-Lim
#
# A magnitude has lost its phase. Griffin-Lim guesses one and corrects it until a magnitude and a sound agree.
# Hear how few iterations ring and many do not.

# %%
from v2a_nb.audio.griffin_lim import griffin_lim, spectral_convergence, stft

magnitude = stft(wave, 512, 128).abs()  # [1, 257, T]
guesses = {}
for rounds in (1, 8, 64):
    made = griffin_lim(magnitude, 128, iterations=rounds, num_samples=sound.n)
    guesses[f"{rounds} iterations"] = v2a.Sound(made[0].numpy().clip(-1, 1), sound.sample_rate)
    error = spectral_convergence(made, magnitude, 128).item()
    print(f"{rounds:3} iterations: spectral convergence {error:.3f}")
assert error < 0.2

# %%
v2a.compare(item.clip, {"original": sound, **guesses}, events=item.truth["events"], title="Griffin-Lim")

# %% [markdown]
# All of it in one table, each setting with its picture and sound. With a kernel, `.live()` on the same call gives
# sliders (not in a cell that is saved: widgets do not survive their kernel).

# %%
v2a.explore_spectrogram(sound, events=item.truth)

# %% [markdown]
# ## Mel bands
#
# Between 200 and 300 Hz we hear a large step, between 5200 and 5300 Hz hardly any. The *mel* scale is a frequency axis
# on which equal steps sound equally large: linear up to about 1 kHz, logarithmic above. Ears, and the diffusion papers,
# look at bands of equal width on it, which are few and wide at high frequencies: `mel = B @ |X|` with `B [bands,
# bins]`. The three papers' front ends are in `v2a_nb.audio.spectrogram`, each with its way back.

# %%
import librosa

for bands in (16, 64, 128):
    basis = librosa.filters.mel(sr=16000, n_fft=512, n_mels=bands)
    back = np.linalg.pinv(basis) @ (basis @ magnitude[0].numpy())
    lost = np.linalg.norm(np.maximum(back, 0) - magnitude[0].numpy()) / magnitude.norm().item()
    print(f"{bands:3} bands: {100 * lost:5.1f} % of the magnitude is not recovered")

# %%
from v2a_nb.audio.spectrogram import FRONT_ENDS, Spectrogram

papers = {}
for name in FRONT_ENDS:
    front = Spectrogram(name)
    resampled = sound.resample(front.front_end.sample_rate)
    picture = front(resampled)
    back = front.to_wave(picture, resampled.n)
    papers[name] = v2a.Sound(back[0].numpy().clip(-1, 1), resampled.sample_rate)
    print(f"{name:14} {tuple(picture.shape)} at {resampled.sample_rate} Hz")
v2a.compare(item.clip, {"original": sound, **papers}, title="three front ends, and back by Griffin-Lim")

# %% [markdown]
# ## Tokens
#
# A *codec* says the same in integers. Its encoder makes a vector of every 20 ms. A *codebook* is a table of vectors,
# and writing the number of the nearest one, a *code*, in place of the vector is quantization. One table would have to
# be huge; *residual* vector quantization has several small ones. It chooses a code, subtracts its vector, and lets the
# next codebook work on what is left:
#
# $$c_k = \mathrm{arg}\min_j \lVert r_k - e_{k,j} \rVert, \qquad r_{k+1} = r_k - e_{k, c_k}$$
#
# `codes [1, 4, T]`, 50 frames a second, 256 entries each: 1.6 kilobits a second where the wave has 256.

# %%
codec = v2a.load("vaura").codec
codes = codec.encode(wave)
print(codes.shape, codes[0, :, :6])
plots.show(plots.codes(codes[0], codec.frame_rate), alt="Tokens of four codebooks over time; they change at every hit")

# %%
v2a.explore_codec(sound, codec, events=item.truth)

# %% [markdown]
# **Check.** Each codebook brings the log-mel spectrogram nearer to the original.

# %%
from v2a_nb.audio.onsets import log_mel

target = log_mel(sound.samples[0])
decoded = [codec.decode(codes[:, :books], sound.n)[0].numpy() for books in (1, 2, 3, 4)]
distance = [np.abs(log_mel(wave) - target).mean() for wave in decoded]
print([f"{d:.3f}" for d in distance])
assert distance[3] < distance[0]
figure = plots.curve([1, 2, 3, 4], distance, xlabel="codebooks", ylabel="log-mel distance (nepers)")
plots.show(figure, alt="The distance to the original falls with every added codebook")

# %% [markdown]
# **What to notice.** One codebook already has the timing; the later ones bring texture. That is why V-AURA's loss
# weighs the first one most.
#
# **Exercise 1.** Point at the first hit in the spectrogram above: when does it begin? Compare with
# `item.truth["events"]`. Measure the same with windows of 128 and 2048 samples: which begins earlier, and by how much?
#
# **Exercise 2.** Keep `n_fft` at 512 and let the hop grow: 64, 128, 256, 384. Go back by 64 rounds of Griffin-Lim, and
# measure the spectral convergence once at the frames that it was given, and once at those of a hop of 64. From which
# hop on do the two contradict each other, and which one do your ears believe?
#
# **Exercise 3.** Replace the codes of frames 20 to 40 by those of another clip and decode. Where does the seam
# begin to be heard, and why a few frames off?
#
# The cells below are solutions. Try first.

# %% tags=["solution"]
# exercise 1: expect each to begin early, by a good quarter of its window: a frame stands for its middle, and hears of
# the hit as soon as its last samples do. An onset that is read off a picture is as exact as the picture's window
first = min(e["time_s"] for e in item.truth["events"] if e["sounding"])
for n_fft in (128, 512, 2048):
    frames = stft(wave, n_fft, 16).abs()[0].amax(0)  # the strongest bin of each frame
    times = np.arange(len(frames)) * 16 / sound.sample_rate
    near = np.abs(times - first) < 0.1
    around = frames.numpy()[near]
    begins = times[near][int(np.argmax(around > np.sqrt(around[0] * around.max())))]  # half of the way up, in dB
    early, whole = 1000 * (first - begins), 1000 * n_fft / sound.sample_rate
    print(f"n_fft {n_fft:4}: begins at {begins:.3f} s, {early:4.1f} ms early; a window lasts {whole:.0f} ms")

# %% tags=["solution"]
# exercise 2: expect both to agree up to 128, and the second to rise from 256 on, while the first falls. With a hop over
# 257 there are fewer magnitudes than samples, so many sounds have exactly these: the one that is found fits wherever it
# was asked and does what it likes in between. A fit is worth as much as what it was not fitted to
from v2a_nb.audio.onsets import detect_onsets

fine, sparse = stft(wave, 512, 64).abs(), {}
for hop in (64, 128, 256, 384):
    given = stft(wave, 512, hop).abs()
    made = griffin_lim(given, hop, iterations=64, num_samples=sound.n)
    sparse[f"hop {hop}"] = v2a.Sound(made[0].numpy().clip(-1, 1), sound.sample_rate)
    asked, everywhere = (spectral_convergence(made, m, h).item() for m, h in ((given, hop), (fine, 64)))
    print(f"hop {hop:3}: {given.numel() / sound.n:.2f} magnitudes a sample, error {asked:.3f} where asked, "
          f"{everywhere:.3f} everywhere; {len(detect_onsets(sparse[f'hop {hop}']))} onsets")  # fmt: skip
print(len(detect_onsets(sound)), "onsets in the original")
v2a.compare(item.clip, {"original": sound, **sparse}, events=item.truth["events"], title="longer and longer hops")

# %% tags=["solution"]
# exercise 3: expect a change some eight frames before the seam that nobody hears, and one that is heard from one frame
# before it on: the decoder's convolutions look to both sides, and make each sample of the codes around it. The same the
# other way round: exchange the *sound* of these frames and encode it, and codes beside them change too
other = next(c for c in world if c is not item)
strange = torch.from_numpy(other.stems["mix"].samples.copy())
seam = codes.clone()
seam[..., 20:40] = codec.encode(strange)[..., 20:40]
plain, patched = (codec.decode(c, sound.n)[0].numpy() for c in (codes, seam))
frame = round(sound.sample_rate / codec.frame_rate)
apart = np.abs(patched - plain)[: codes.shape[-1] * frame].reshape(-1, frame).max(1)  # [T]
for least in (1e-6, 1e-4, 1e-2):
    where = np.flatnonzero(apart > least)
    print(f"they differ by {least:g} of full scale and more in frames {where[0]} to {where[-1]}")
swapped = wave.clone()
swapped[:, 20 * frame : 40 * frame] = strange[:, 20 * frame : 40 * frame]
changed = np.flatnonzero((codec.encode(swapped) != codes)[0].any(0).numpy())
print(f"the sound of frames 20 to 39 exchanged, codes change in frames {changed[0]} to {changed[-1]}")
