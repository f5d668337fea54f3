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
# # Hidden alignment: three questions, asked in small
#
# **Question.** A diffusion model gets a row of vectors, one for each moment of a video, and nobody tells it when
# anything sounds. What must be in that row, what must stand beside it, and what must the training videos be like, so
# that it finds out?
#
# VTA-LDM (Xu et al. 2024) asks three questions: which *vision encoder*, which *auxiliary embedding*, which
# *augmentation*. You will ask the same three, with trainings so small that each takes some seconds: see what a model
# learns first, *when* or *what*; let three encoders compete, one of which you could have written; find out why
# positions help the paper's model and not this one; join clips and count what that teaches; then look at the attention
# and take frames away until it breaks. You will also see what so small a study cannot say.
#
# *Needs:* three minutes on one free CPU core and 1.5 GB of memory; no GPU, no network.

# %% tags=["parameters"]
import os

PRESET = os.environ.get("V2A_NB_PRESET", "tiny")
AMOUNTS = {"tiny": (24, 48, 24), "small": (300, 400, 60), "paper": (2000, 2000, 100)}
STEPS, TRAIN, TEST = AMOUNTS.get(PRESET, AMOUNTS["tiny"])
SEED = 0

# %%
import time
from dataclasses import replace

import numpy as np
import torch

import v2a_nb as v2a
from v2a_nb import plots
from v2a_nb.models.text_encoders import StrikeText
from v2a_nb.models.video_encoders.registry import load_video_encoder
from v2a_nb.models.vocoder import load_vocoder
from v2a_nb.systems.vta_ldm.model import PRESETS, for_encoder
from v2a_nb.systems.vta_ldm.system import VtaLdm
from v2a_nb.training.recipes.autoencoder import load_autoencoder

torch.set_num_threads(1)
autoencoder, vocoder = load_autoencoder("action2sound"), load_vocoder("vocoder")
sizes = replace(PRESETS["tiny"], widths=(32, 48, 64), text=False)  # a smaller UNet than the one that is shipped
plain = VtaLdm(sizes, None, autoencoder, vocoder).requires_grad_(False)
print(f"a window: {sizes.window_s:.2f} s of sound, {sizes.context} columns of latents, {sizes.video_tokens} tokens")

# %% [markdown]
# ## One row of vectors
#
# The pictures go through an encoder that stays as it is, $f_V$; one linear map, which is trained, makes the tokens that
# the UNet attends to; the loss is that of any latent diffusion, with $v = \alpha_t\,\epsilon - \sigma_t\,z$:
#
# $$c = \phi\big(f_V(V)\big) \in \mathbb{R}^{48 \times 128}, \qquad
# L = \mathbb{E}_{z, t, \epsilon}\; w(t)\, \lVert v - v_\theta(z_t, t, c) \rVert^2$$
#
# So all that the model can know of the video is in $f_V$, and it is told nothing but sounds. First, some clips: a
# training set, and a test set of other recordings, each of which is also filmed *with all things made of another
# material*. In Strike World that changes nothing else.

# %%
from v2a_nb.world.dataset import Take
from v2a_nb.world.description import MATERIALS


def in_another_material(c, number):
    """The same moment, the same motion, in a world where all things are made of something else."""
    there = {t.material for t in c.recording.things}
    names = [n for n in MATERIALS if n not in there] or ["metal"]
    name = names[number % len(names)]
    things = tuple(replace(t, material=name) for t in c.recording.things)
    return Take(c.recording.changed(things=things), c.take.settings).clip(c.start_s, c.id)


def world_of(seed, clips, per_recording, size):
    return v2a.strike_world(seed=seed, clips=clips, seconds=3.08, size=size, per_recording=per_recording).clips


# the encoders read 64 x 64 pixels; what is shown is larger
train_clips, test_clips = world_of(61, TRAIN, 4, 64), world_of(62, TEST, 2, 112)
changed_clips = [in_another_material(c, k) for k, c in enumerate(test_clips)]
hits = [[e["time_s"] for e in c.truth["events"] if e["sounding"]] for c in test_clips]
k = max(range(len(hits)), key=lambda i: len(hits[i]))
item, other, events = test_clips[k], changed_clips[k], test_clips[k].truth["events"]
print(item.narration, "|", other.narration)
v2a.compare(item.clip, {"as it is": item.stems["mix"], "changed": other.stems["mix"]}, events=events)

# %% [markdown]
# ## Three encoders
#
# The paper compares CLIP4Clip, ImageBind, LanguageBind, V-JEPA, ViViT and CAVP. Those are gigabytes; with a network,
# `load_video_encoder("clip")` and its like give you them ([the list](../docs/video_encoders.md)). Without one, random
# copies of their layout would say nothing. So three that are here: the package's own, trained to expect sounds, 50
# vectors a second; an audio-visual embedding that stands for CAVP, 5 a second; and sixteen lines of Python that see
# motion and nothing else.


# %%
class MotionGrid:
    """How much the brightness changes from frame to frame, in each cell of an 8 x 8 grid: 25 vectors a second."""

    dim, rate = 64, 25.0

    def features(self, clip):
        """Float32 [T, 64] of a clip of 25 frames a second; vector i stands for the time (i + 0.5) / 25."""
        grey = torch.from_numpy(clip.resize(64, 64).frames.mean(-1, dtype=np.float32)) / 255  # [T, 64, 64]
        change = torch.diff(grey, dim=0, prepend=grey[:1]).abs()
        cells = torch.nn.functional.avg_pool2d(change[:, None], 8).flatten(1)  # [T, 64]
        return (cells / 0.02).clamp(0, 10)


eyes = {"our own": load_video_encoder("strike_wide"), "for CAVP": load_video_encoder("cavp")}
eyes["motion grid"] = MotionGrid()


def vectors_of(clips):
    """By encoder, the frame vectors [N, T, dim] of some clips."""
    return {n: torch.stack([eye.features(c.clip.silent()) for c in clips]) for n, eye in eyes.items()}


def latents_of(clips):
    """Latents [N, 16, 16, 24] of a window of each clip's sound."""
    n = round(sizes.window_s * 16000)
    sounds = torch.from_numpy(np.stack([c.clip.sound.samples[0, :n] for c in clips]))
    return torch.cat([plain.encode_sound(some) for some in sounds.split(8)])  # a few at a time need less memory


train_set = {"z": latents_of(train_clips), "text": [c.narration for c in train_clips]} | vectors_of(train_clips)
test_set = {"z": latents_of(test_clips), "text": [c.narration for c in test_clips]} | vectors_of(test_clips)
changed_set = {"text": [c.narration for c in changed_clips]} | vectors_of(changed_clips)
recordings = [c.recording.id for c in test_clips]
for name in eyes:
    print(f"{name:12} {tuple(test_set[name].shape)}")

# %% [markdown]
# ## When, and what: two numbers that cost a second
#
# The paper scores generated sounds: FAD, AV-Align, CLAP. That is slow, and for small differences it needs hundreds of
# clips. Cheaper is to ask the loss. Take noise ($t = 850$), show the model the right video, then a wrong one; what the
# loss rises by is what the right one was *worth*. With a clever wrong one it says what for:
#
# $$\mathrm{when} = L(\text{its own pictures, 0.4 s late}) - L(\text{right}), \qquad
# \mathrm{what} = L(\text{same motion, other material}) - L(\text{right})$$
#
# 0 means: not used. These are differences on the same clip under the same noise, so that few clips will do.

# %%
from v2a_nb.metrics.statistics import mean_with_interval
from v2a_nb.sampling.diffusion import add_noise


@torch.no_grad()
def losses(model, eye, z, data, late_s=0.0):
    """The loss of each clip [N] where the model is shown ``data``, perhaps late."""
    t = torch.full((len(z),), 850)
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(SEED))
    noisy, target = add_noise(z, noise, t, model.config.schedule)
    made = model.denoise(noisy, t, condition(model, eye, data, late_s=late_s))
    return (made - target).square().mean((1, 2, 3))


def condition(model, eye, data, rows=slice(None), late_s=0.0, given=None):
    """The tokens of some clips: of their pictures, flow and texts, as far as the model reads them."""
    c, shift = model.config, round(late_s * eyes[eye].rate)
    vectors = data[eye][rows].roll(shift, 1) if c.vision else None
    flow = data["flow"][rows].roll(shift, 1) if c.flow else None
    words = np.array(data["text"])[rows].tolist()
    text = model.text_encoder.encode(words) if c.text else None
    return model.context(vectors, flow, text, given=given)


def worth(model, eye):
    """What the right video is worth: ``when`` and ``what``, each with its interval over recordings."""
    z = test_set["z"]
    right = losses(model, eye, z, test_set)
    wrong = {"when": losses(model, eye, z, test_set, 0.4), "what": losses(model, eye, z, changed_set)}
    return {name: mean_with_interval((each - right).tolist(), recordings) for name, each in wrong.items()}


# %% [markdown]
# The training is what it is in the package, without its files: AdamW, a share of the conditions replaced by the null
# that guidance will need, and the same seeds for all, so that every model sees the same clips in the same order.


# %%
def train(eye="our own", data=train_set, steps=STEPS, **changes):
    """A new model after some steps; ``changes`` are fields of its configuration."""
    torch.manual_seed(SEED)
    c = for_encoder(replace(sizes, **changes), eyes[eye].dim, eyes[eye].rate)
    encoder = eyes[eye] if isinstance(eyes[eye], torch.nn.Module) else None
    model = VtaLdm(c, encoder, autoencoder, vocoder, StrikeText(c.text_dim) if c.text else None)
    optimizer = torch.optim.AdamW(model.trained().values(), lr=1e-3)
    rng, generator = np.random.default_rng(SEED), torch.Generator().manual_seed(SEED)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1, (step + 1) / 5)
        rows = rng.integers(0, len(data["z"]), 8)
        given = {name: torch.rand(8, generator=generator) > 0.1 for name in ("video", "text")}
        loss = model.loss(data["z"][rows], condition(model, eye, data, rows, given=given), generator)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


began = time.process_time()
base = train()
print(f"{STEPS} steps took {time.process_time() - began:.0f} s of the processor")
trained = worth(base, "our own")
for name, row in trained.items():
    print(f"{name}: worth {row['value']:.4f} [{row['low']:.4f}, {row['high']:.4f}]")

# %%
# check: the right moment is worth something already; an untrained model has no use for it
untrained = worth(train(steps=0), "our own")
assert trained["when"]["low"] > 0
assert trained["when"]["value"] > 5 * abs(untrained["when"]["value"])

# %% [markdown]
# **What to notice.** *When* comes first, and *what* long after. A hit at the wrong time is wrong in all its bands, a
# wrong material in a few. A study that stops early sees timing alone, and the ranking that it prints may turn round
# later. Keep that in mind for all that follows, and in papers.
#
# ## First question: which encoder?


# %%
def draw_worth(found):
    """Both numbers of some models, printed and side by side."""
    for label, row in found.items():
        cells = (f"{n} {row[n]['value']:8.4f} [{row[n]['low']:.4f}, {row[n]['high']:.4f}]" for n in ("when", "what"))
        print(f"{label:28}", "   ".join(cells))
    sides = {f"worth of {name}": {label: row[name] for label, row in found.items()} for name in ("when", "what")}
    return plots.interval_columns(sides, baseline=0)


models = {"our own": base} | {eye: train(eye) for eye in ("for CAVP", "motion grid")}
found = {eye: worth(model, eye) for eye, model in models.items()}
plots.show(
    draw_worth(found), alt="What the right moment and the right material are worth on three encoders, with intervals"
)

# %% [markdown]
# **What to notice.** The models are alike; the vectors are not. Our own encoder was trained to expect contacts, and a
# few seconds are enough to make use of that. Five vectors a second know a moment to 0.2 s at best, and get a small part
# of it. Motion says that something moves, which is true of every near miss, and the model has not found what to make of
# that. A number below 0 is no slip: what was believed of twelve rooms need not hold in others.
#
# The paper finds that a plain row of CLIP vectors, made for meaning, is enough, and sees encoders that were made for
# video behind. What agrees: one linear map of a row of vectors is all the connection that is needed. What does not:
# here the encoder that knows *when* is far ahead. The paper's clips last ten seconds and are judged by peaks that lie
# near each other; ours have a hit every half second and are judged to 50 ms.
#
# The longer study (`v2a-nb study table2`) generates sounds and scores them. Its rows stand beside the weights, where
# it was run:

# %%
from v2a_nb.hub import SHIPPED
from v2a_nb.training.results import Results


def longer(table, metrics=("onset_f1_50ms", "material_accuracy")):
    """A table of the longer study, drawn; a line that says so where there is none."""
    kept = SHIPPED / "vta_ldm" / "results.json"
    results = Results.read(kept.parent) if kept.exists() else ()
    if table not in results:
        return print(f"no longer study is kept here: v2a-nb study {table} --out studies/{table} makes one")
    rows = results[table]
    fig = plots.interval_columns({m: {s: vars(rows.row(m, s)) for s in rows.subjects} for m in metrics})
    about = rows.about
    print(f"{about['steps']} steps each, {about['clips']} clips")
    plots.show(fig, alt=f"Scores of generated sounds in the longer study, {table}, with intervals over recordings")


longer("table2")

# %% [markdown]
# ## Second question: what beside the pictures?
#
# The paper adds a text (better meaning), sinusoidal positions (better timing), optical flow (little). Which of these
# holds depends on what the model knows already. Ours has a bias over the *time between* a column of sound and a token
# of video: it knows from the start which token is now. The paper's has none. So positions are tried both ways.

# %%
BARE = {"time_bias": False, "row_values": 0}
WAYS = {
    "text alone": {"vision": False, "text": True, **BARE},
    "pictures and text": {"text": True},
    "no time bias": BARE,
    "no time bias, positions": {"position": True, **BARE},
    "positions": {"position": True},
}
beside = {"pictures": trained}
models |= {name: train(**how) for name, how in WAYS.items()}
beside |= {name: worth(models[name], "our own") for name in WAYS}

# %%
# flow needs OpenCV, which is an extra: pip install "v2a-nb[flow]"
import importlib.util

if importlib.util.find_spec("cv2"):
    from v2a_nb.models.optical_flow import flow_vectors

    for data, clips in ((train_set, train_clips), (test_set, test_clips), (changed_set, changed_clips)):
        data["flow"] = torch.stack([torch.as_tensor(flow_vectors(c.clip, "vectors", eyes["our own"])) for c in clips])
    beside["pictures and motion"] = worth(train(flow="vectors"), "our own")
plots.show(
    draw_worth(beside), alt="What moment and material are worth with text, positions or motion beside the pictures"
)

# %%
# check: a text has no time, so that nothing is lost if the pictures are late; the bias is what finds the time
assert beside["text alone"]["when"]["value"] == 0
assert beside["pictures"]["when"]["low"] > beside["no time bias"]["when"]["high"]

# %% [markdown]
# **What to notice.** Text alone cannot know when: exactly 0. Without the bias, the alignment stays hidden for the
# length of this training, with positions or without; the paper trains 120 epochs on 200,000 videos until attention has
# found it. Where the bias is, positions say again what is known, and what is added to the vectors is in their way. Flow
# is worth what the encoder does not see itself, and ours was trained on motion. So "positions improve timing" is a
# finding about *their* model, and true there. The text has nothing to say yet that is heard: that is *what*, and comes
# later. Choose the preset `small` and come back after lunch.

# %%
longer("table3")

# %% [markdown]
# ## Third question: which data?
#
# VGGSound's clips have mostly one scene each, so that a model can guess the sound of the whole from any frame. The
# paper's *concat augmentation* joins two clips, which forces it to look *when* something is seen. Are our clips like
# that? Join them, train on them, test on both.

# %%
from v2a_nb.data.augmentation import join_world_clips


def joined(clips, seed):
    """Each clip up to some moment, and one of another recording from there on."""
    rng = np.random.default_rng(seed)
    half = len(clips) // 2
    pairs = zip(clips[:half], clips[half:], strict=True)
    return [join_world_clips(a, b, float(rng.uniform(0.8, 2.3))) for a, b in pairs]


train_joined, test_joined = joined(train_clips, SEED), joined(test_clips, SEED + 1)
v2a.play(test_joined[0].clip, test_joined[0].stems["mix"], events=test_joined[0].truth["events"])

# %%
mixed = {"z": latents_of(train_joined), "our own": vectors_of(train_joined)["our own"]}
half = TRAIN // 2  # half of the clips are joined, so that both models see as many clips as often
mixed = {name: torch.cat([train_set[name][:half], each]) for name, each in mixed.items()} | {"text": train_set["text"]}
on_joined = train(data=mixed)
tests = {
    "one scene": (test_set, recordings),
    "two scenes": (
        {"z": latents_of(test_joined), "our own": vectors_of(test_joined)["our own"], "text": [""] * len(test_joined)},
        [c.recording.id for c in test_joined],
    ),
}
rows = {}
for name, (data, names) in tests.items():
    before, after = (losses(model, "our own", data["z"], data) for model in (base, on_joined))
    rows[name] = mean_with_interval((before - after).tolist(), names)
    print(f"{name:12} loss {before.mean():.4f} -> {after.mean():.4f}, better by {rows[name]['value']:.4f} "
          f"[{rows[name]['low']:.4f}, {rows[name]['high']:.4f}]")  # fmt: skip
plots.show(
    plots.intervals(rows, xlabel="loss saved by training on joined clips", baseline=0),
    alt="What training on joined clips changes in the loss, on clips of one scene and of two, with intervals",
)

# %% [markdown]
# **What to notice.** If the intervals hold 0, that is the answer, and there is a reason for it. Augmentation teaches
# what the data lack, and a clip of Strike World has two or three hits on several things with silence between: it *is*
# several scenes already. With a time bias every column listens to its own moment, and a cut is nothing special to it.
# The paper's models had neither. The longer study scores generated sounds on joined clips:

# %%
longer("table4")
longer("joined")

# %% [markdown]
# ## What the attention looks at
#
# The paper draws saliency maps and says that the model "shifts its attention with the frames". Here is the attention
# itself: which moment of the video each column of the sound reads, in a model without the bias, in ours after some
# seconds of training, and in the weights that are shipped.

# %%
from v2a_nb.models.attention import watch_attention

listener = v2a.load("vta_ldm").requires_grad_(False)
titles = {"no time bias": models["no time bias"], f"{STEPS} steps": base, "shipped weights": listener}


@torch.no_grad()
def looks(model):
    """Attention of the finest layer [columns, tokens of the video], mean over rows and over heads that have a time."""
    c, z = model.config, test_set["z"][k : k + 1]
    t = torch.full((1,), 850)
    noisy, _ = add_noise(z, torch.randn(z.shape, generator=torch.Generator().manual_seed(SEED)), t, c.schedule)
    with watch_attention(model.unet) as maps:
        model.denoise(noisy, t, model.context(test_set["our own"][k : k + 1]))
    shares = next(iter(maps.values()))[0].unflatten(1, (c.rows, -1)).mean(1)  # [heads, columns, tokens]
    timed = shares[: c.heads[0] - (c.free_heads if c.text else 0), :, : c.video_tokens].mean(0)
    return timed / timed.sum(1, keepdim=True)


maps = {title: looks(model) for title, model in titles.items()}
fig = plots.attentions(maps, sizes.window_s, sizes.token_s, events=events)
plots.show(fig, alt="Which moment of the video each column of the sound reads: any without the bias, its own with it")

# %% [markdown]
# And the other way round: how much is read of each frame? Below the frames that are read most, at least 0.3 s apart.

# %%
read = list(maps.values())[-1].mean(0).numpy()  # [tokens]
at = (np.arange(len(read)) + 0.5) * sizes.token_s
best = []
for place in np.argsort(-read):
    if all(abs(at[place] - t) > 0.3 for t in best) and len(best) < 5:
        best.append(float(at[place]))
print("read most:", np.round(sorted(best), 2), "hits:", np.round(hits[k], 2))
plots.show(plots.strip(item.clip, sorted(best)), alt="The five frames of the clip that the model reads most")

# %% [markdown]
# **What to notice.** A sharp diagonal is no proof of understanding: it was there before the training, put there by the
# bias, and silent moments are read like any others. Attention says what was read, and nothing of what it was good for.
# Notebook `09_saliency` asks for proof.
#
# ## How few frames still work?
#
# The paper's model sees two frames a second. What becomes of ours if the camera gives fewer? Everything else stays:
# the encoder fills the gaps as it can. Onsets are found in generated sounds, with six steps of the sampler, which is
# enough to hear when.

# %%
from v2a_nb.audio.onsets import detect_onsets
from v2a_nb.metrics.statistics import bootstrap
from v2a_nb.models.codec_report import pooled_f1

some, true = test_clips[:6], [np.array(times) for times in hits[:6]]
found_at = {}
for fps in (25.0, 12.5, 5.0, 2.0):
    sounds = []
    for k in range(0, len(some), 2):  # two at a time need less memory
        pair = [c.clip.silent() for c in some[k : k + 2]]
        sounds += listener.generate_batch(pair, seeds=[k, k + 1], steps=6, fps=fps)
    found_at[fps] = [detect_onsets(sound) for sound in sounds]


def f1(pairs):
    return pooled_f1([a for a, _ in pairs], [b for _, b in pairs])


scores = {}
for fps, heard in found_at.items():
    pairs = list(zip(true, heard, strict=True))
    low, high = bootstrap(pairs, f1, [c.recording.id for c in some])
    scores[f"{fps:g} frames a second"] = {"value": f1(pairs), "low": low, "high": high}
plots.show(
    plots.intervals(scores, xlabel="onset F1 within 50 ms"),
    alt=f"Onset F1 of {len(some)} clips, filmed at 25 frames a second and at fewer, with intervals over recordings",
)

# %%
# check: two frames a second cannot say when, to 50 ms
assert scores["2 frames a second"]["value"] < scores["25 frames a second"]["value"]

# %% [markdown]
# **What to notice.** Timing goes first and fast: a contact between two frames is seen by what surrounds it, and from
# some gap on there is nothing left of it. AV-Align, which counts peaks of motion within a second's reach, would hardly
# notice. The question is always: works *for which number*?
#
# ## Words where the picture leaves it open
#
# A text should matter most where the picture does not say it. So take the colours away, blur what is left, and ask for
# one material or the other.

# %%
from v2a_nb.scores.prompts import ambiguous

grey = ambiguous(item.clip)
asked = {"no words": None, "glass": "a glass tumbler", "drum": "a drum"}
made = {name: listener.generate(grey.silent(), seed=SEED, prompt=words, steps=10) for name, words in asked.items()}
v2a.compare(grey, {"true": item.stems["mix"], **made}, events=events, title="grey and blurred; told in words")

# %%
from v2a_nb.metrics.truth import score_clip

for name, sound in made.items():
    print(f"{name:10} hits heard as", [heard for _, heard in score_clip(sound, item.truth).materials])

# %% [markdown]
# One clip is an example. `v2a-nb score vta_ldm` counts hits on many, with clear pictures and with grey ones, and tells
# how many more are heard as what was asked for; the numbers stand in the model card of the weights.
#
# ## What you have, and what you have not
#
# Every answer above is of a model that was trained for seconds, once. Before you believe a ranking, train each row with
# three seeds, long enough that *what* has risen, and score sounds: `v2a-nb study` does the latter two.
#
# **Exercise.** `MotionGrid` cannot say what is hit. Write an encoder that says *what* and not *when*: the mean colour
# of each cell, averaged over the whole clip and repeated. What do you expect of both numbers?
#
# **Another.** Turn the wrong video by other amounts than 0.4 s. From which one on does `our own` notice that it is
# late, and from which one on `for CAVP`? Compare with the time between two of their vectors.
#
# The cells below are solutions. Try first.


# %% tags=["solution"]
# the first exercise: expect "when" at exactly 0, since all moments are alike to it; "what" may rise with more steps
class Still:
    """The mean colour of each cell of a 4 x 4 grid over the whole clip, repeated: [T, 48]."""

    dim, rate = 48, 25.0

    def features(self, clip):
        mean = torch.from_numpy(clip.resize(64, 64).frames.mean(0, dtype=np.float32)).permute(2, 0, 1)  # [3, 64, 64]
        cells = torch.nn.functional.avg_pool2d(mean, 16).flatten() / 64 - 2
        return cells.expand(clip.n, -1)


eyes["still"] = Still()
for data, clips in ((train_set, train_clips), (test_set, test_clips), (changed_set, changed_clips)):
    data["still"] = torch.stack([eyes["still"].features(c.clip) for c in clips])
still = worth(train("still"), "still")
print({name: round(row["value"], 4) for name, row in still.items()})

# %% tags=["solution"]
# the second exercise: expect ours to notice within a few hundredths of a second, the other only near its 0.2 s
right = {eye: losses(models[eye], eye, test_set["z"], test_set) for eye in ("our own", "for CAVP")}
for late_s in (0.02, 0.04, 0.08, 0.2, 0.4):
    late = {eye: losses(models[eye], eye, test_set["z"], test_set, late_s) - each for eye, each in right.items()}
    print(f"{1000 * late_s:3.0f} ms late", {eye: round(float(gap.mean()), 4) for eye, gap in late.items()})
