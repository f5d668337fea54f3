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
# `X` is `[N / 2 + 1, frames]`. A window of $N$ samples resolves $f_s / N$ hertz and $N / f_s$ seconds: their
# product is 1, whatever you choose.

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
# Ears, and the diffusion papers, look at fewer, wider bands at high frequencies: `mel = B @ |X|` with
# `B [bands, bins]`. The three papers' front ends are in `v2a_nb.audio.spectrogram`, each with its way back.

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
# A codec says the same in integers. Residual vector quantization chooses a code, subtracts it, and lets the next
# codebook work on what is left:
#
# $$c_k = \arg\min_j \lVert r_k - e_{k,j} \rVert, \qquad r_{k+1} = r_k - e_{k, c_k}$$
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
# **Exercise.** Replace the codes of frames 20 to 40 by those of another clip and decode. Where does the seam
# begin to be heard, and why a few frames off?
