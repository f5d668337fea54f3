"""Video summarization: text embedding, the network and its switch, controls, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from v2a_nb.clip import Sound
from v2a_nb.data.clip_features import ClipFeatures
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.metrics.summarization import train as recipe
from v2a_nb.metrics.summarization.metric import cosine, predict, score_summaries
from v2a_nb.metrics.summarization.model import (
    PRESETS,
    ClipText,
    EncodecSound,
    NarrationText,
    Summarizer,
    SummaryConfig,
    codec_vectors,
    load_summarizer,
    save_summarizer,
)
from v2a_nb.metrics.summarization.train import held_out_scores, nearest, sounds_of_system, train_summarizer

ACTORS, VERBS, NOUNS = ("hand", "mallet", "ball"), ("strikes", "misses"), ("wood block", "drum")
SMALL = SummaryConfig(vector_dim=8, sound_dim=4, text_dim=64, widths=(24, 24))


def easy_takes(recordings: int = 80, seed: int = 0) -> ClipFeatures:
    """ClipFeatures whose pictures say who, and whose sounds alone say whether and what: sound must help."""
    rng = np.random.default_rng(seed)
    n = 2 * recordings
    vectors = 0.3 * rng.standard_normal((n, 32, 8))
    latents = 0.3 * rng.standard_normal((n, 4, 32))
    narrations = []
    for i in range(n):
        who, does, what = rng.integers(3), rng.integers(2), rng.integers(2)
        vectors[i, :, who] += 2.0
        latents[i, does] += 2.0
        latents[i, 2 + what] += 2.0
        narrations.append(f"a {ACTORS[who]} {VERBS[does]} the {NOUNS[what]}")
    mels = np.zeros((n, 40, 128), np.float16)
    names = np.repeat(np.arange(recordings), 2)
    return ClipFeatures(
        vectors.astype(np.float16), mels, latents.astype(np.float16), np.array(narrations), names, np.zeros(n)
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small network after some steps of the easy task, its text encoder, and takes that it never saw."""
    torch.set_num_threads(1)
    training, unseen = easy_takes().split(20)
    text = NarrationText.learn([str(n) for n in training.narrations])
    out = tmp_path_factory.mktemp("summary")
    model = train_summarizer(training, text, out, steps=120, batch_size=32, config=SMALL)
    return model, text, unseen


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
    takes = easy_takes(4)
    narrations = takes.narrations.astype("U40")
    narrations[2] = "nothing moves"
    odd = replace(takes, narrations=narrations)
    kept = recipe.told_of(odd, text)
    assert len(kept) == len(takes) - 1 and "nothing moves" not in kept.narrations
    assert np.array_equal(kept.vectors, np.delete(takes.vectors, 2, axis=0))


def test_the_switch_off_is_a_sound_of_zeros():
    torch.manual_seed(0)
    model = Summarizer(SMALL).eval()
    seen, heard = torch.randn(3, 32, 8), torch.randn(3, 17, 4)
    assert torch.equal(model(seen), model(seen, torch.zeros(3, 17, 4)))
    model.sound_mean.fill_(2.0)
    half = model(seen, heard, torch.tensor([0.0, 1.0, 0.0]))
    assert torch.allclose(half[::2], model(seen)[::2], atol=1e-6)
    assert torch.allclose(half[1], model(seen, heard)[1], atol=1e-6)
    assert not torch.allclose(model(seen), model(seen, torch.randn(3, 17, 4)))
    assert model(seen, torch.randn(3, 75, 4)).shape == (3, 64)  # any rate, over the same time


@pytest.mark.parametrize(
    ("seen", "heard"),
    [((3, 32, 9), None), ((32, 8), None), ((3, 32, 8), (3, 20, 5)), ((3, 32, 8), (2, 20, 4)), ((3, 32, 8), (20, 4))],
)
def test_channels_that_do_not_fit_are_refused(seen, heard):
    with pytest.raises(UsageError):
        Summarizer(SMALL)(torch.zeros(seen), None if heard is None else torch.zeros(heard))
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
    training, _ = easy_takes().split(20)
    mean = text.encode([str(n) for n in training.narrations]).mean(0)
    assert np.allclose(model.mean.numpy(), mean, atol=1e-6)
    targets = text.encode([str(n) for n in unseen.narrations])
    row = held_out_scores(model, text, unseen)[0]
    assert row["cosine"] == pytest.approx(cosine(mean[None], targets).mean(), abs=1e-6)


def test_generated_sounds_stand_beside_the_true_one(trained):
    model, text, unseen = trained
    silence = [model.sound_mean.numpy()[None].repeat(32, 0)] * len(unseen)
    good = [latents.T + 0.1 for latents in unseen.latents]
    rows = {r["sound"]: r for r in held_out_scores(model, text, unseen, {"mute": silence, "good": good})}
    assert rows["mute"]["cosine"] == pytest.approx(rows["none"]["cosine"], abs=1e-5)
    assert rows["good"]["cosine"] > rows["mute"]["cosine"] + 0.1


def test_scores_need_as_many_of_everything(trained):
    model, text, unseen = trained
    targets = text.encode([str(n) for n in unseen.narrations])
    with pytest.raises(UsageError, match="cannot be scored"):
        score_summaries(model, unseen.vectors, {}, targets[:-1], unseen.recordings)
    with pytest.raises(UsageError, match="cannot be scored"):
        score_summaries(model, [], {}, targets[:0], [])
    with pytest.raises(UsageError, match="sounds for"):
        predict(model, unseen.vectors, [])
    with pytest.raises(UsageError, match="more than half"):
        true = [latents.T for latents in unseen.latents]
        score_summaries(model, unseen.vectors, {"true": true}, targets, ["r"] * len(unseen))


def test_cosine_of_nothing_is_nothing():
    made = cosine(np.array([[1.0, 0], [0, 2], [0, 0]]), np.array([[2.0, 0], [1, 0], [1, 1]]))
    assert made.tolist() == [1.0, 0.0, 0.0]


def test_prediction_names_the_nearest_narration(trained):
    model, text, unseen = trained
    narrations = [str(n) for n in unseen.narrations]
    said = nearest(model, text, unseen.vectors, [latents.T for latents in unseen.latents], narrations)
    assert np.mean([a == b for a, b in zip(said, narrations, strict=True)]) > 0.8


def test_weights_come_back_with_their_words(trained, tmp_path):
    from v2a_nb.hub import as_shipped

    model, text, unseen = trained
    model = as_shipped(model)
    save_summarizer(model, text, tmp_path, data_seed=7)
    again, words, card = load_summarizer(tmp_path)
    assert card["data_seed"] == 7 and words.terms == text.terms and again.config == model.config
    assert np.array_equal(predict(again, unseen.vectors), predict(model, unseen.vectors))
    assert np.allclose(words.encode(["a hand strikes the drum"]), text.encode(["a hand strikes the drum"]), atol=2e-3)
    config = json.loads((tmp_path / "config.json").read_text())
    for field, value in (("kind", "vaas"), ("widths", [8])):
        (tmp_path / "config.json").write_text(json.dumps(config | {field: value}))
        with pytest.raises(WeightsError):
            load_summarizer(tmp_path)


def test_training_is_the_same_twice_and_after_a_break(tmp_path):
    takes = easy_takes(10)
    text = NarrationText.learn([str(n) for n in takes.narrations])
    run = {"steps": 6, "batch_size": 8, "config": SMALL}
    whole = train_summarizer(takes, text, tmp_path / "a", **run)
    train_summarizer(takes, text, tmp_path / "b", until=3, **run)
    resumed = train_summarizer(takes, text, tmp_path / "b", resume=True, **run)
    other = train_summarizer(takes, text, tmp_path / "c", seed=1, **run)
    a, b, c = (predict(m, takes.vectors) for m in (whole, resumed, other))
    assert np.array_equal(a, b) and not np.allclose(a, c)
    with pytest.raises(UsageError, match="do not fit"):
        train_summarizer(takes, text, tmp_path / "d", steps=1)


def test_a_system_s_sounds_become_vectors():
    from v2a_nb.clip import Clip
    from v2a_nb.models.tiny_codec import TinyCodec

    class Tone:
        def generate(self, clip, seed):
            assert clip.sound is None and seed == 3
            return Sound(0.1 * np.sin(np.arange(round(clip.duration * 16000)) * 0.3), 16000)

    codec = TinyCodec().eval()
    clips = [Clip(np.zeros((16, 8, 8, 3), np.uint8)) for _ in range(4)]
    vectors, sounds = sounds_of_system(Tone(), easy_takes(2), codec, clips, seed=3)
    assert vectors[0].shape == (32, 32) and sounds[0].duration == pytest.approx(0.64)
    assert np.array_equal(vectors[0], codec_vectors(codec, sounds[0]))
    with pytest.raises(UsageError, match="clips for"):
        sounds_of_system(Tone(), easy_takes(2), codec, clips[:1])


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


def test_the_whole_recipe_leaves_weights_with_a_card(tmp_path, capsys):
    from v2a_nb.models.tiny_codec import TinyCodec
    from v2a_nb.models.video_encoders.strike import StrikeVision

    torch.manual_seed(0)
    StrikeVision().eval().save_pretrained(tmp_path / "vision")
    TinyCodec().eval().save_pretrained(tmp_path / "codec")
    args = ["--out", str(tmp_path / "run"), "--recordings", "4", "--held-out", "2", "--steps", "2"]
    assert recipe.main([*args, "--encoder", str(tmp_path / "vision"), "--codec", str(tmp_path / "codec")]) == 0
    model, text, card = load_summarizer(tmp_path / "run" / "weights")
    assert [row["sound"] for row in card["scores"]] == ["mean predictor", "none", "shuffled", "true"]
    assert text.dim == model.config.text_dim
    assert "mean predictor" in (tmp_path / "run" / "weights" / "README.md").read_text()
    assert recipe.main(args) == 1 and "--resume" in capsys.readouterr().err
    said = []
    assert recipe.main([*args, "--score", str(tmp_path / "run" / "weights")], said.append) == 0
    assert "| true |" in said[0]
    with pytest.raises(SystemExit):
        recipe.main(["--system", "vaura"])
