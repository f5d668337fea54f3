"""Video summarization: text embedding, the network and its switch, controls, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from clip_parts import in_memory, run_stage

from v2a_nb.clip import Sound
from v2a_nb.data.clip_features import ClipFeatures
from v2a_nb.errors import UsageError, V2AError, WeightsError
from v2a_nb.metrics.summarization import train as recipe
from v2a_nb.metrics.summarization.metric import cosine, nearest, predict, score_summaries
from v2a_nb.metrics.summarization.model import (
    PRESETS,
    ClipText,
    EncodecSound,
    NarrationText,
    Summarizer,
    SummaryConfig,
)
from v2a_nb.metrics.summarization.train import (
    SummaryRecipe,
    SummaryTrainConfig,
    held_out_scores,
    summarizer_stage,
)
from v2a_nb.training.recipe import run_recipe

ACTORS, VERBS, NOUNS = ("hand", "mallet", "ball"), ("strikes", "misses"), ("wood block", "drum")
SMALL = SummaryConfig(vector_dim=8, sound_dim=4, text_dim=64, widths=(24, 24))


def easy_clips(recordings: int = 80, seed: int = 0) -> ClipFeatures:
    """Clips whose pictures say who, and whose sounds alone say whether and what: sound must help."""
    rng = np.random.default_rng(seed)
    n = 2 * recordings
    video = 0.3 * rng.standard_normal((n, 32, 8))
    latents = 0.3 * rng.standard_normal((n, 4, 32))
    narrations = []
    for i in range(n):
        who, does, what = rng.integers(3), rng.integers(2), rng.integers(2)
        video[i, :, who] += 2.0
        latents[i, does] += 2.0
        latents[i, 2 + what] += 2.0
        narrations.append(f"a {ACTORS[who]} {VERBS[does]} the {NOUNS[what]}")
    arrays = {"video": video.astype(np.float16), "latents": latents.astype(np.float16)}
    return in_memory(np.repeat(np.arange(recordings), 2), texts=narrations, **arrays)


class EasyRecipe(SummaryRecipe):
    """The recipe on easy clips, with a small network."""

    template = None
    network = SMALL

    def features(self, recordings, store):
        return easy_clips(8).split(2)


def summarizer(clips: ClipFeatures, text: NarrationText, out, *, steps: int, batch_size: int, seed: int = 0, **how):
    """The network after a training on clips."""
    stage = summarizer_stage(clips, text, steps=steps, batch_size=batch_size, seed=seed, config=SMALL)
    return run_stage(stage, out, **how).model


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small network after some steps of the easy task, its text encoder, and clips that it never saw."""
    torch.set_num_threads(1)
    training, unseen = easy_clips().split(20)
    text = NarrationText.learn(training.column("text").tolist())
    return summarizer(training, text, tmp_path_factory.mktemp("summary"), steps=120, batch_size=32), text, unseen


def test_text_embeddings_are_unit_vectors_that_know_what_is_alike():
    texts = [f"a {a} {v} the {n}" for a in ACTORS for v in VERBS for n in NOUNS]
    text = NarrationText.learn(texts, dim=16)
    made = text.encode(texts)
    assert made.shape == (12, 16) and made.dtype == np.float32
    assert np.allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
    one, near, far = text.encode(
        ["a hand strikes the drum", "a mallet strikes the drum", "a ball misses the wood block"]
    )
    assert one @ near > one @ far + 0.3
    assert np.array_equal(made, NarrationText.learn(texts, dim=16).encode(texts))  # no chance involved
    assert np.allclose(text.encode(["The DRUM, a hand strikes"]), text.encode(["drum hand strikes"]))


def test_words_in_another_order_are_another_text():
    texts = ["a hand strikes the drum and misses the wood block", "a hand misses the drum and strikes the wood block"]
    a, b = NarrationText.learn([*texts, "a ball misses the drum"], dim=3).encode(texts)
    assert a @ b < 0.999  # a bag of single words could not tell them apart


def test_texts_that_teach_or_mean_nothing_are_refused():
    for bad in ([], ["one"], ["", ""]):
        with pytest.raises(UsageError):
            NarrationText.learn(bad)
    text = NarrationText.learn(["a hand strikes", "a ball bounces"])
    with pytest.raises(UsageError, match="zither"):
        text.encode(["a zither"])
    assert text.encode([]).shape[0] == 0
    with pytest.raises(WeightsError):
        NarrationText(["one"], np.zeros((2, 3)))


def test_a_narration_without_a_direction_is_left_out_and_not_guessed():
    texts = [f"a {a} {v} the {n}" for a in ACTORS for v in VERBS for n in NOUNS]
    text = NarrationText.learn([*texts, "nothing moves"], dim=4)  # its words are its own: no room for it in four
    assert text.knows(texts[0]) and not text.knows("nothing moves") and not text.knows("zither")
    clips = easy_clips(4)
    texts = clips.column("text").tolist()
    texts[2] = "nothing moves"
    kept = recipe.with_known_text(in_memory(clips.recording_ids, texts=texts, video=clips["video"][:]), text)
    assert len(kept) == len(clips) - 1 and "nothing moves" not in kept.column("text")
    assert np.array_equal(kept["video"][:], np.delete(clips["video"][:], 2, axis=0))


def test_the_switch_off_is_a_sound_of_zeros():
    torch.manual_seed(0)
    model = Summarizer(SMALL).eval()
    video, audio = torch.randn(3, 32, 8), torch.randn(3, 17, 4)
    assert torch.equal(model(video), model(video, torch.zeros(3, 17, 4)))
    model.sound_mean.fill_(2.0)
    half = model(video, audio, torch.tensor([0.0, 1.0, 0.0]))
    assert torch.allclose(half[::2], model(video)[::2], atol=1e-6)
    assert torch.allclose(half[1], model(video, audio)[1], atol=1e-6)
    assert not torch.allclose(model(video), model(video, torch.randn(3, 17, 4)))
    assert model(video, torch.randn(3, 75, 4)).shape == (3, 64)  # any rate, over the same time


@pytest.mark.parametrize(
    ("video", "audio"),
    [((3, 32, 9), None), ((32, 8), None), ((3, 32, 8), (3, 20, 5)), ((3, 32, 8), (2, 20, 4)), ((3, 32, 8), (20, 4))],
)
def test_channels_that_do_not_fit_are_refused(video, audio):
    with pytest.raises(UsageError):
        Summarizer(SMALL)(torch.zeros(video), None if audio is None else torch.zeros(audio))
    with pytest.raises(UsageError, match="unknown preset"):
        Summarizer(SummaryConfig(preset="huge"))


def test_sound_helps_and_shuffled_sound_does_not(trained):
    model, text, unseen = trained
    rows = {row["sound"]: row for row in held_out_scores(model, text, unseen)}
    assert list(rows) == ["mean predictor", "none", "shuffled", "true"]
    assert rows["true"]["cosine"] > 0.9
    assert rows["true"]["gain_low"] > 0.1  # and not by chance
    assert rows["shuffled"]["gain"] < 0.02
    assert rows["none"]["cosine"] > rows["mean predictor"]["cosine"] + 0.1  # pictures alone say who
    assert rows["none"]["gain"] == rows["none"]["gain_low"] == 0
    for row in rows.values():
        assert row["low"] <= row["cosine"] <= row["high"] and row["n"] == 40


def test_mean_predictor_is_the_mean_of_the_training_narrations(trained):
    model, text, unseen = trained
    training, _ = easy_clips().split(20)
    mean = text.encode(training.column("text").tolist()).mean(0)
    assert np.allclose(model.mean.numpy(), mean, atol=1e-6)
    targets = text.encode(unseen.column("text").tolist())
    row = held_out_scores(model, text, unseen)[0]
    assert row["cosine"] == pytest.approx(cosine(mean[None], targets).mean(), abs=1e-6)


def test_generated_sounds_stand_beside_the_true_one(trained):
    model, text, unseen = trained
    silence = [model.sound_mean.numpy()[None].repeat(32, 0)] * len(unseen)
    good = [latents.T + 0.1 for latents in unseen["latents"][:]]
    rows = {r["sound"]: r for r in held_out_scores(model, text, unseen, {"mute": silence, "good": good})}
    assert rows["mute"]["cosine"] == pytest.approx(rows["none"]["cosine"], abs=1e-5)
    assert rows["good"]["cosine"] > rows["mute"]["cosine"] + 0.1


def test_scores_need_as_many_of_everything(trained):
    model, text, unseen = trained
    targets = text.encode(unseen.column("text").tolist())
    with pytest.raises(UsageError, match="cannot be scored"):
        score_summaries(model, unseen["video"][:], {}, targets[:-1], unseen.recording_ids)
    with pytest.raises(UsageError, match="cannot be scored"):
        score_summaries(model, [], {}, targets[:0], [])
    with pytest.raises(UsageError, match="sounds for"):
        predict(model, unseen["video"][:], [])
    with pytest.raises(UsageError, match="more than half"):
        true = [latents.T for latents in unseen["latents"][:]]
        score_summaries(model, unseen["video"][:], {"true": true}, targets, ["r"] * len(unseen))


def test_cosine_of_nothing_is_nothing():
    made = cosine(np.array([[1.0, 0], [0, 2], [0, 0]]), np.array([[2.0, 0], [1, 0], [1, 1]]))
    assert made.tolist() == [1.0, 0.0, 0.0]


def test_prediction_names_the_nearest_narration(trained):
    model, text, unseen = trained
    narrations = unseen.column("text").tolist()
    said = nearest(model, text, unseen["video"][:], [latents.T for latents in unseen["latents"][:]], narrations)
    assert np.mean([a == b for a, b in zip(said, narrations, strict=True)]) > 0.8


def test_weights_come_back_with_their_words(trained, tmp_path):
    from v2a_nb.hub import as_shipped

    model, text, unseen = trained
    model = as_shipped(model)
    model.text = text
    model.save_pretrained(tmp_path, data_seed=7)
    again = Summarizer.from_pretrained(tmp_path)
    words = again.text
    assert again.card == {"data_seed": 7} and words.terms == text.terms and again.config == model.config
    assert np.array_equal(predict(again, unseen["video"][:]), predict(model, unseen["video"][:]))
    assert np.allclose(words.encode(["a hand strikes the drum"]), text.encode(["a hand strikes the drum"]), atol=2e-3)
    config = json.loads((tmp_path / "config.json").read_text())
    for field, value in (("kind", "vaas"), ("widths", [8])):
        (tmp_path / "config.json").write_text(json.dumps(config | {field: value}))
        with pytest.raises(WeightsError):
            Summarizer.from_pretrained(tmp_path)


def test_training_is_the_same_twice_and_after_a_break(tmp_path):
    clips = easy_clips(10)
    text = NarrationText.learn(clips.column("text").tolist())
    run = {"steps": 6, "batch_size": 8}
    whole = summarizer(clips, text, tmp_path / "a", **run)
    summarizer(clips, text, tmp_path / "b", until=3, **run)
    resumed = summarizer(clips, text, tmp_path / "b", resume=True, **run)
    other = summarizer(clips, text, tmp_path / "c", seed=1, **run)
    a, b, c = (predict(m, clips["video"][:]) for m in (whole, resumed, other))
    assert np.array_equal(a, b) and not np.allclose(a, c)
    with pytest.raises(UsageError, match="do not fit"):
        summarizer_stage(clips, text, steps=1)  # reads 384 channels


def test_paper_preset_has_clip_and_encodec_sizes():
    with torch.device("meta"):
        model = Summarizer(PRESETS["paper"])
        made = model(torch.empty(2, 300, 768), torch.empty(2, 750, 128))
    assert made.shape == (2, 512)
    assert model.layers[0].in_channels == 768 + 128


def test_encodec_vectors_through_transformers():
    from transformers import EncodecConfig, EncodecModel

    torch.manual_seed(0)
    model = EncodecModel(EncodecConfig(num_filters=2, hidden_size=16, codebook_dim=16, upsampling_ratios=[8, 5, 4, 2]))
    sound = Sound(0.1 * np.random.default_rng(0).standard_normal(16000), 16000)
    encodec = EncodecSound(model)
    made = encodec.vectors(sound)
    assert made.shape == (75, 16) == (75, encodec.dim) and np.isfinite(made).all()


def test_clip_text_through_transformers():
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = CLIPTextModelWithProjection(CLIPTextConfig(**sizes, vocab_size=50, projection_dim=12, eos_token_id=49))

    def tokenizer(texts, **_):
        ids = torch.tensor([[1, 2 + len(t) % 7, 49] for t in texts])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    made = ClipText(model, tokenizer).encode(["a", "bb", "a"])
    assert made.shape == (3, 12) and np.allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
    assert np.allclose(made[0], made[2], atol=1e-5) and not np.allclose(made[0], made[1], atol=1e-3)


@pytest.mark.parametrize("kind", [ClipText, EncodecSound])
def test_published_encoders_that_cannot_be_had_are_said_so(kind, tmp_path):
    with pytest.raises(WeightsError, match="cannot be loaded"):
        kind.from_pretrained(str(tmp_path))


def test_from_nothing_to_weights(tmp_path):
    config = SummaryTrainConfig(steps=2, batch_size=4)
    folder = run_recipe(EasyRecipe(config), tmp_path, say=lambda line: None)
    model = Summarizer.from_pretrained(folder)
    text, card = model.text, model.card
    assert text.dim == model.config.text_dim and card["left_out"] == 0
    assert card["encoder"].startswith("vision@") and card["codec"].startswith("codec@")
    with pytest.raises(V2AError, match="--resume"):
        run_recipe(EasyRecipe(config), tmp_path, say=lambda line: None)
    with pytest.raises(V2AError, match=r"another config\.text_dim"):
        run_recipe(EasyRecipe(replace(config, text_dim=3)), tmp_path, resume=True, say=lambda line: None)
