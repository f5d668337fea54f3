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
# # Summarization: does a sound help to say what happens?
#
# **Question.** Somebody watches a clip and says in one line what happens. Does it help to hear it, too? And does a
# *generated* sound do what the true one does?
#
# EgoSonics (Rai and Sridhar 2024, section 4.2) answers yes: with its sounds a small network predicts narrations of
# egocentric video better than without. You will repeat that experiment where everything is known, with the controls
# that it needs, and find out what the gain is made of.
#
# *Needs:* three minutes of two CPU cores at most, and under 2 GB of memory; a GPU does not help. Words are explained in
# the glossary of [the notebooks' page](README.md).

# %% tags=["parameters"]
import os

PRESET = os.environ.get("V2A_NB_PRESET", "tiny")
CLIPS = {"tiny": 160, "small": 800, "paper": 2000}.get(PRESET, 160)
DUBBED = {"tiny": 20, "small": 100, "paper": 400}.get(PRESET, 20)

# %%
import numpy as np
import torch
from matplotlib.figure import Figure

import v2a_nb as v2a
from v2a_nb import plots
from v2a_nb.metrics.summarization.model import Summarizer

model = Summarizer.from_pretrained("summary")
text, card = model.text, model.card
vaura, egosonics = v2a.load("vaura"), v2a.load("egosonics")
worlds = range(430, 430 + CLIPS // 20)  # of 20 clips each: seeds that nothing was trained on
print(*(c.narration for c in v2a.strike_world(seed=430, clips=5, size=64, per_recording=1)), sep="\n")

# %% [markdown]
# ## What is predicted: a narration as a vector
#
# $$u = \frac{n^\top P}{\lVert n^\top P \rVert} \in \mathbb{R}^{64}, \qquad P = \mathrm{diag}(\mathrm{rarity}) \cdot
# V_{64}$$
#
# $n$ counts the words and the pairs of neighbouring words of a line; $V_{64}$ are the main directions of all
# narrations of the training set. It is latent semantic analysis, from 1990, and does for a small world what CLIP's
# text encoder does in the paper.

# %%
examples = [
    "a mallet strikes the metal bowl once",
    "a mallet strikes the metal bowl twice",
    "a hand strikes the metal bowl once",
    "a mallet strikes the drum once",
    "a ball bounces on the glass tumbler twice",
]
alike = text.encode(examples) @ text.encode(examples).T
print(f"{len(text.terms)} terms, for instance {', '.join(text.terms[40:46])}")
for line, row in zip(examples, alike, strict=True):
    print(f"{line:40}" + "".join(f"{value:7.2f}" for value in row))

# %%
# check: lengths are 1, a line is like itself, and more like its neighbour than like a stranger
assert np.allclose(np.linalg.norm(text.encode(examples), axis=1), 1, atol=1e-5)
assert np.allclose(np.diag(alike), 1, atol=1e-5)
assert alike[0, 1] > alike[0, 3] > alike[0, 4]

# %% [markdown]
# ## A network with a switch
#
# $$\hat u = f\big([\,E_V \;;\; s \cdot E_A\,]\big), \qquad E_V \in \mathbb{R}^{T \times 384},\;
# E_A \in \mathbb{R}^{T \times 32},\; s \in \{0, 1\}$$
#
# Three convolutions over time read the frame vectors and, beside them, the codec's latents of a sound, or zeros in
# their place. The switch $s$ was thrown at random in training, so one and the same network is used to both.

# %%
from v2a_nb.hub import tag_of
from v2a_nb.metrics.summarization.model import codec_vectors
from v2a_nb.models.video_encoders.registry import load_video_encoder

encoder = load_video_encoder("strike")
assert tag_of(encoder, "vision") == card["encoder"]  # these weights know this encoder and no other
videos, audio, narrations, recordings, events, kept = [], [], [], [], [], {}
for seed in worlds:  # one after the other: a world keeps its recordings in memory
    for c in v2a.strike_world(seed=seed, clips=20, size=64, per_recording=2):
        if len(videos) % (CLIPS // DUBBED) == 0:
            kept[len(videos)] = c.clip  # to be dubbed below, each of another recording
        videos.append(encoder.features(c.clip.silent()).numpy())  # [T, 384]
        audio.append(codec_vectors(vaura.codec, c.stems["mix"]))  # [T, 32]
        narrations.append(c.narration)
        recordings.append(f"{seed}-{c.recording.id}")
        events.append(c.truth["events"])
targets = text.encode(narrations)  # [N, 64]
print(f"{len(videos)} clips of {len(set(recordings))} recordings, pictures {videos[0].shape}, sounds {audio[0].shape}")

# %%
# check: the switch is a switch
v, a = torch.from_numpy(videos[0].copy())[None], torch.from_numpy(audio[0].copy())[None]
with torch.no_grad():
    off, on, none = model(v, a, torch.zeros(1)), model(v, a, torch.ones(1)), model(v)
assert torch.equal(off, none) and not torch.allclose(on, none)
print("prediction", tuple(on.shape), f"moved by the sound: {float((on - none).norm()):.3f}")

# %% [markdown]
# ## The score, and what it must be read beside
#
# $$\cos(\hat u, u) = \frac{\hat u \cdot u}{\lVert \hat u \rVert \lVert u \rVert}$$
#
# A cosine alone says little: narrations resemble each other. So two controls: the *mean predictor*, which looks at
# nothing and always says the mean narration, and *shuffled* sound, the true one of another recording. What counts is
# the *gain* over no sound, clip by clip, with an interval over recordings: had other recordings been filmed, the mean
# gain would have been another one, and 95 times in 100 it would lie about here. If an interval *contains 0*, if it
# begins below and ends above, then no gain at all is among the values that go with these clips: nothing is shown,
# neither a gain nor that there is none. If it leaves 0 out, a gain (or a loss) is shown, however small.

# %%
from v2a_nb.hub import find_weights
from v2a_nb.metrics.summarization.metric import score_summaries
from v2a_nb.training.results import Results


def show_rows(rows):
    for r in rows:
        interval = f"({r['gain_low']:+.3f} to {r['gain_high']:+.3f})" if r["sound"] != "none" else ""
        print(f"{r['sound']:16} cosine {r['cosine']:.3f}   gain {r['gain']:+.3f} {interval}")


rows = score_summaries(model, videos, {"true": audio}, targets, recordings)
by_name = {r["sound"]: r for r in rows}
print(f"{CLIPS} clips here")
show_rows(rows)
narrations_score = Results.read(find_weights("summary"))["narrations"]
print(f"{narrations_score.about['clips']} clips that training never saw, from the results of the weights")
for row in narrations_score.rows:
    print(f"{row.subject:16} {row.metric:20} {row.text_with_interval}")

# %%
# check: everything beats the mean, and a wrong sound misleads
assert by_name["none"]["cosine"] > by_name["mean predictor"]["cosine"]
assert by_name["true"]["gain"] > by_name["shuffled"]["gain"]
gains = {r["sound"]: {"value": r["gain"], "low": r["gain_low"], "high": r["gain_high"]} for r in rows[2:]}
gains |= {
    f"{sound}, results": vars(narrations_score.row("gain_over_no_sound", sound)) for sound in ("shuffled", "true")
}
plots.show(
    plots.intervals(gains, xlabel="gain over no sound (cosine)", baseline=0),
    alt="The gain of the true sound lies above 0, that of a shuffled one below; both are small",
)

# %% [markdown]
# ## What it would say
#
# An embedding can be spoken: the known narration that is nearest to it.

# %%
from v2a_nb.metrics.summarization.metric import nearest

without = nearest(model, text, videos, None, narrations)
with_sound = nearest(model, text, videos, audio, narrations)
changed = [i for i in range(CLIPS) if without[i] != with_sound[i]]
print(f"the sound changes what is said of {len(changed)} of {CLIPS} clips")
for name, said in (("without sound", without), ("with sound", with_sound)):
    print(f"{name}: {sum(a == b for a, b in zip(said, narrations, strict=True))} lines are right to the word")
for i in changed[:5]:
    print(f"\ntrue     {narrations[i]}\nwithout  {without[i]}\nwith     {with_sound[i]}")

# %% [markdown]
# ## Generated sounds
#
# $$I(U;\, G(V) \mid V) = 0$$
#
# A sound that is made *from the picture alone* knows nothing that the picture does not know. A perfect reader of
# pictures would gain nothing from it. If a real one gains, the generator has said in plain sound what the reader
# could not read off the picture itself; and where the generator errs, it misleads.

# %%
clips = list(kept.values())
made = {
    "EgoSonics": [egosonics.generate(clip.silent(), seed=seed) for seed, clip in enumerate(clips)],
    "V-AURA": [vaura.generate(clip.silent(), seed=seed) for seed, clip in enumerate(clips)],
}
vectors_of = {name: [codec_vectors(vaura.codec, s) for s in sounds] for name, sounds in made.items()}
vectors_of["true"] = [audio[i] for i in kept]
few = score_summaries(model, [videos[i] for i in kept], vectors_of, targets[list(kept)], [recordings[i] for i in kept])
print(f"{len(clips)} clips")
show_rows(few)
for r in few[2:]:
    open_ = r["gain_low"] <= 0 <= r["gain_high"]
    print(f"{r['sound']:16} the interval {'contains 0: nothing is shown' if open_ else 'leaves 0 out'}")

# %%
gains = {r["sound"]: {"value": r["gain"], "low": r["gain_low"], "high": r["gain_high"]} for r in few[2:]}
plots.show(
    plots.intervals(gains, xlabel="gain over no sound (cosine)", baseline=0),
    alt="Gains of shuffled, generated and true sounds on a few clips, with wide intervals; the dashed line is no gain",
)

# %%
which = max(kept, key=lambda i: len({e["material"] for e in events[i] if e["sounding"]}))
k = list(kept).index(which)
tracks = {"true": clips[k].sound} | {name: sounds[k] for name, sounds in made.items()}
v2a.compare(clips[k], tracks, events=events[which], title=narrations[which])

# %% [markdown]
# **What to notice.** Read the intervals, not the numbers before them. Where one contains 0, no gain is shown, however
# large the number; where it does not, there is one, however wide the interval. With so few clips a table without
# intervals could have shown whatever one likes. And a sound that is on time and of the right material has
# passed other tests than this one: it must be nearer to the truth than the reader of the picture already is.
#
# ## Why the gain is small
#
# Perhaps the sound just says nothing? Ask it alone. A *linear probe* predicts the embedding from means, maxima and
# deviations over time, by ridge regression on other recordings, picture and sound with equal weight:
#
# $$\hat U = K (K_{\mathrm{fit}} + \lambda I)^{-1} (U_{\mathrm{fit}} - \bar u) + \bar u, \qquad
# K = \sum_{\mathrm{blocks}} X X^\top / D \in \mathbb{R}^{N \times N}$$
#
# And the picture is taken away bit by bit: the camera turns away after a part of the clip, while the sound goes on.

# %%
from v2a_nb.metrics.summarization.metric import cosine

fold = np.unique(recordings, return_inverse=True)[1] % 5


def probe(*blocks, strength=1.0):
    """Cosine of each clip, predicted from blocks [N, D] by a probe that was fitted on other recordings."""
    made = np.zeros_like(targets)
    for part in range(5):
        fit, test, alike = fold != part, fold == part, np.zeros((CLIPS, CLIPS))
        for block in blocks:
            x = (block - block[fit].mean(0)) / (block[fit].std(0) + 1e-6)
            alike += x @ x.T / x.shape[1]
        mean = targets[fit].mean(0)
        weights = np.linalg.solve(alike[np.ix_(fit, fit)] + strength * np.eye(fit.sum()), targets[fit] - mean)
        made[test] = alike[np.ix_(test, fit)] @ weights + mean
    return cosine(made, targets)


def over_time(arrays, share=1.0):
    """Mean, maximum and deviation of the first part of each [T, D]: [N, 3 D]."""
    cut = [x[: round(share * len(x))] for x in arrays]
    return np.stack([np.concatenate([x.mean(0), x.max(0), x.std(0)]) for x in cut]).astype(np.float64)


# %%
SHARES = (0.0, 0.25, 0.5, 1.0)
sound = over_time(audio)
lines = {"picture alone": [], "picture and sound": []}
for share in SHARES:
    picture = [over_time(videos, share)] if share else []
    lines["picture alone"].append(probe(*picture).mean())
    lines["picture and sound"].append(probe(*picture, sound).mean())
    alone, both = (line[-1] for line in lines.values())
    print(f"{100 * share:4.0f} % of the picture: {alone:.3f} alone, {both:.3f} with sound, gain {both - alone:+.3f}")

# %%
# check: sound alone says a lot, and is worth the more the less is seen
worth = np.subtract(lines["picture and sound"], lines["picture alone"])
assert worth[0] > 0.03 and worth[0] > worth[2] > worth[3]
fig = Figure(figsize=(9, 3.2), layout="constrained")
axis = fig.add_subplot()
for name, line in lines.items():
    plots.curve(SHARES, line, axis, xlabel="share of the clip that is seen", ylabel="cosine", label=name)
plots.show(fig, alt="Two curves that meet: with sound far above without where no frame is shown, the same at the end")

# %% [markdown]
# **What to notice.** At the left the probe knows nothing but the sound, and is well above the mean predictor. At the
# right the sound has not become worse: the picture has said it already. A small gain is no sign of a poor sound,
# and a large one is a sign of what the picture lacks. Egocentric video, where hands leave the frame and objects
# hide each other, may well stand further to the left than Strike World.
#
# ## Where it helps
#
# Clip by clip, in the trained network: what the picture alone already gets right leaves nothing to gain.

# %%
from v2a_nb.metrics.pairing import shuffled
from v2a_nb.metrics.summarization.metric import predict

alone = cosine(predict(model, videos), targets)
gain = cosine(predict(model, videos, audio), targets) - alone
wrong = [audio[i] for i in shuffled(recordings)]
misled = cosine(predict(model, videos, wrong), targets) - alone
points = [{"id": n, "without": a, "gain": g} for n, a, g in zip(narrations, alone, gain, strict=True)]
still = plots.scores(points, x="without", y="gain")
still.axes[0].set(xlabel="cosine without sound", ylabel="gain by the true sound")
zoom = plots.scores_zoom(points, x="without", y="gain")
plots.show(
    zoom.update_xaxes(title="cosine without sound").update_yaxes(title="gain by the true sound"),
    alt="Gain of each clip against its cosine without sound, larger where that is low; point at one to read it",
    still=still,
)

# %%
groups = {
    "worst quarter by picture": alone <= np.quantile(alone, 0.25),
    "best quarter by picture": alone >= np.quantile(alone, 0.75),
    "with a scrape": np.array([any(e["kind"] == "scrape" for e in row) for row in events]),
    "with a near miss": np.array([any(not e["sounding"] for e in row) for row in events]),
    "neither": np.array([all(e["sounding"] and e["kind"] != "scrape" for e in row) for row in events]),
}
print(f"{'gain, ± standard error':26}clips       true sound       wrong sound")
for name, rows in groups.items():
    told = (f"{x[rows].mean():+.3f} ± {x[rows].std() / max(1, rows.sum()) ** 0.5:.3f}" for x in (gain, misled))
    print(f"{name:26}{rows.sum():5}   " + "   ".join(told))
worst, best = (gain[rows].mean() for rows in list(groups.values())[:2])
assert worst > best and worst > misled[groups["worst quarter by picture"]].mean()

# %% [markdown]
# **What to notice.** Sound helps where the picture fails. But beware of such a table: a quarter that was chosen
# *because* it scored low would score higher with anything new, by chance alone. The wrong sound beside it is the
# control: it is as new, and gains nothing. Between kinds of events, compare the differences with their errors before
# you believe in one.
#
# **Exercise 1.** A clip of a world also has its stems: give `probe` `codec_vectors(vaura.codec, c.stems["action"])` in
# place of the mix, then `"ambient"`, then `"offscreen"`. Which of them carries the gain where no picture is shown?
#
# **Exercise 2.** Let V-AURA dub all clips. It reads the very vectors that the probe reads: `generate_codes` takes some
# of `videos` and makes codes of them, as in `07_autoregression`. Give `probe` these sounds in place of the true ones.
# Do they gain where it sees nothing, and where it sees everything? Does the first contradict the equation above?
#
# The cells below are solutions. Try first.

# %% tags=["solution"]
# exercise 1: expect the action alone to gain more than the mix, in which the room lies over it. The room and what goes
# on outside of the picture say nothing of what happens in it; a probe that is fitted on them finds chance, and is worse
# than the mean narration on other recordings
from v2a_nb.metrics.statistics import mean_with_interval

stems = {"mix": audio, "action": [], "ambient": [], "offscreen": []}
for seed in worlds:
    for c in v2a.strike_world(seed=seed, clips=20, size=64, per_recording=2):
        for name in list(stems)[1:]:
            stems[name].append(codec_vectors(vaura.codec, c.stems[name]))
nothing = probe()  # always the mean narration
for name, vectors in stems.items():
    row = mean_with_interval(probe(over_time(vectors)) - nothing, recordings)
    print(f"{name:10} gain over the mean narration {row['value']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]")

# %% tags=["solution"]
# exercise 2: expect a gain where little is seen, of most of what the true sound gains, and none where all is seen,
# rather a loss. That is no contradiction: the equation speaks of a reader that has the picture whole. With no picture,
# or a part of it, the sound brings what V-AURA saw in the rest; with all of it, there is nothing left to bring but
# errors
from v2a_nb.sampling.autoregressive import generate_codes

dubbed = []
for at in range(0, CLIPS, 16):
    visual = torch.from_numpy(np.stack(videos[at : at + 16]))  # [B, T, 384]
    drawn = torch.Generator().manual_seed(at)
    codes = generate_codes(vaura.decoder, visual, vaura.decoder.config.sampling, drawn, frames=visual.shape[1])
    with torch.no_grad():
        waves = vaura.codec.decode(codes, clips[0].sound.n).numpy()
    dubbed += [codec_vectors(vaura.codec, v2a.Sound(wave, vaura.sample_rate)) for wave in waves]
for share in (0.0, 0.25, 1.0):
    picture = [over_time(videos, share)] if share else []
    for name, vectors in {"true": audio, "dubbed": dubbed}.items():
        row = mean_with_interval(probe(*picture, over_time(vectors)) - probe(*picture), recordings)
        print(f"{100 * share:3.0f} % of the picture, {name:6} sound: gain {row['value']:+.3f} "
              f"[{row['low']:+.3f}, {row['high']:+.3f}]")  # fmt: skip
