"""Text encoders: CLIP's text tower against transformers' own, and the words of Strike World."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from v2a_nb.data.augmentation import join_texts
from v2a_nb.errors import WeightsError
from v2a_nb.hub import as_shipped
from v2a_nb.models.text_encoders import WORDS, ClipText, StrikeText, load_text_encoder
from v2a_nb.world import strike_world

TEXTS = ["a stick hits", "", "stick", "a hit stick hits a stick " * 9]


def published(folder):
    """A small CLIP with random weights in the published layout, with a vocabulary of a few words."""
    letters = sorted({*"abcdefghijklmnopqrstuvwxyz"})
    units = [*letters, *(f"{letter}</w>" for letter in letters), "st", "ck</w>", "stick</w>", "hit</w>"]
    units += ["<|startoftext|>", "<|endoftext|>"]
    merges = ["s t", "c k</w>"]
    tokenizer = CLIPTokenizer(
        {unit: i for i, unit in enumerate(units)}, [tuple(m.split()) for m in merges], model_max_length=12
    )
    config = CLIPTextConfig(
        vocab_size=len(units), hidden_size=32, intermediate_size=48, projection_dim=24, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=12, bos_token_id=len(units) - 2, eos_token_id=len(units) - 1,
        pad_token_id=len(units) - 1,
    )  # fmt: skip
    torch.manual_seed(0)
    model = CLIPTextModelWithProjection(config).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, tokenizer


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    return folder, *published(folder)


def test_clip_equals_transformers(clip):
    folder, model, tokenizer = clip
    encoder = ClipText.from_hub(str(folder))
    found = encoder.encode(TEXTS)
    assert found.shape == (4, encoder.dim) and encoder.dim == 24 and not found.requires_grad
    for text, vector in zip(TEXTS, found, strict=True):
        tokens = tokenizer([text], truncation=True, max_length=12, return_tensors="pt")
        with torch.no_grad():
            alone = model(**tokens).text_embeds[0]
        torch.testing.assert_close(vector, alone, atol=1e-5, rtol=1e-4)
    assert tokens.input_ids.shape[1] == 12  # the last text was cut
    assert (found[0] - found[2]).abs().max() > 1e-3
    assert encoder.unknown_words("anything at all") == []
    assert not any(p.requires_grad for p in encoder.parameters())


def test_clip_is_saved_with_its_tokenizer(clip, tmp_path):
    encoder = as_shipped(ClipText.from_hub(str(clip[0])))
    encoder.save_pretrained(tmp_path / "text", note="a test")
    for loaded in (ClipText.from_pretrained(tmp_path / "text"), load_text_encoder(tmp_path / "text")):
        torch.testing.assert_close(loaded.encode(TEXTS), encoder.encode(TEXTS))
        assert loaded.card == {"note": "a test"}
    assert isinstance(load_text_encoder(clip[0]), ClipText)


def test_clip_that_is_not_there_is_one_clear_line(clip, tmp_path):
    with pytest.raises(WeightsError, match="no CLIP there"):
        ClipText.from_hub(str(tmp_path / "nothing"))
    ClipText.from_hub(str(clip[0])).save_pretrained(tmp_path / "bare")
    for file in (tmp_path / "bare").glob("*token*"):
        file.unlink()
    with pytest.raises(WeightsError, match="its tokenizer knows"):
        ClipText.from_pretrained(tmp_path / "bare")
    (tmp_path / "other").mkdir()
    StrikeText(8).save_pretrained(tmp_path / "other")
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    (tmp_path / "other" / "config.json").write_text(json.dumps({**config, "kind": "codec"}))
    with pytest.raises(WeightsError, match="not a text encoder"):
        load_text_encoder(tmp_path / "other")


# --- Strike World -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return StrikeText(48).eval()


@pytest.mark.parametrize("version", [1, 2])
def test_it_knows_every_word_of_the_narrations(encoder, version):
    narrations = {clip.narration for clip in strike_world(42000, 60, size=16, per_recording=6, version=version)}
    narrations |= {f"a {actor} bounces on the glass tumbler 7 times" for actor in ("ball", "foot", "knife", "mallet")}
    assert len(narrations) > 40 and all(not encoder.unknown_words(text) for text in narrations)
    meanings = {str(encoder.meanings(text)) for text in narrations}
    assert len(meanings) == len(narrations)  # nothing that was said is lost
    vectors = encoder.encode(sorted(narrations))
    distances = torch.cdist(vectors, vectors) + torch.eye(len(vectors))
    assert distances.min() > 1e-4


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("a hand strikes the wood block once", "hand hits wooden block once"),
        ("strike", "hitting"),
        ("strike", "Tapped!"),
        ("strike", "knocks"),
        ("strikes the metal bowl", "struck a metallic tin"),
        ("strikes the metal bowl", "beating on steel"),
        ("scrapes the ceramic cup", "scratching the mug"),
        ("scrapes the ceramic cup", "dragging over porcelain"),
        ("a ball bounces on the glass tumbler three times", "glass tumbler, ball dropping thrice".replace(",", "")),
        ("strikes the glass tumbler", "hits the glass bowl"),
        ("strikes the metal bowl", "hits the tin cup"),
        ("strikes the metal bowl and scrapes the wood block", "scraping wood and hitting metal"),
        ("the metal bowl 12 times", "the metal bowl many times"),
        ("a foot touches the drum", "feet touching drums"),
        ("knives", "a knife's blade"),
    ],
)
def test_synonyms_are_one_vector(encoder, text, same):
    assert encoder.meanings(text) and not encoder.unknown_words(same)
    a, b = encoder.encode([text, same])
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("strikes the metal bowl", "strikes the glass tumbler"),
        ("strikes the metal bowl once", "strikes the metal bowl twice"),
        ("misses the metal bowl", "strikes the metal bowl"),
        ("strikes the metal bowl and misses the wood block", "misses the metal bowl and strikes the wood block"),
        ("nothing is touched", "the drum is touched"),
        ("a hammer strikes the drum", "a hand strikes the drum"),
    ],
)
def test_what_means_something_else_is_another_vector(encoder, text, other):
    a, b = encoder.encode([text, other])
    assert (a - b).abs().max() > 1e-4


def test_unknown_words_are_left_out_and_named(encoder):
    assert encoder.unknown_words("The Gnome's plastic bowl, gnome and xylophone!") == ["gnome", "plastic", "xylophone"]
    assert encoder.unknown_words("a stick taps the mug two times, then scrapes it") == []
    assert encoder.unknown_words("") == [] and encoder.unknown_words("plastic") == ["plastic"]
    a, b = encoder.encode(["a gnome hits the plastic drum", "hits the drum"])
    torch.testing.assert_close(a, b)


def test_nothing_known_is_the_null(encoder):
    found = encoder.encode(["", "   ", "plastic gnomes", "the drum", "a the of"])
    assert not found[[0, 1, 2, 4]].any() and found[3].any() and torch.isfinite(found).all()
    assert not encoder.encode(["", ""]).any() and encoder.encode([]).shape == (0, 48)


def test_a_text_does_not_depend_on_those_beside_it(encoder):
    texts = ["a stick strikes the drum", join_texts("a hand scrapes the wood block twice", "a ball misses"), ""]
    together = encoder.encode(texts)
    for text, vector in zip(texts, together, strict=True):
        torch.testing.assert_close(encoder.encode([text])[0], vector)
    np.testing.assert_array_equal(encoder.encode(texts).detach(), together.detach())


def test_gradients_reach_all_of_it_and_it_can_learn(encoder):
    torch.manual_seed(1)
    net = StrikeText(16)
    net.encode(["a stick strikes the metal bowl twice", "nothing is touched, and scraped"]).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
    assert not net.embedding.weight.grad[0].any()  # padding
    texts = [f"{verb} the {what}" for verb in ("strikes", "misses") for what in ("wood", "metal", "glass", "drum")]
    goal = torch.tensor([0, 1, 2, 3, 4, 4, 4, 4])  # a miss is silent, whatever it misses
    head = torch.nn.Linear(16, 5)
    optimizer = torch.optim.Adam([*net.parameters(), *head.parameters()], 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(head(net.encode(texts)), goal)
        loss.backward()
        optimizer.step()
    asked = ["a mallet hits the steel pan", "the hammer missed the wooden block", "beats the snare"]
    assert head(net.encode(asked)).argmax(-1).tolist() == [1, 4, 3]


def test_it_is_saved_and_loaded(encoder, tmp_path):
    saved = as_shipped(StrikeText(24))
    saved.save_pretrained(tmp_path / "text", steps=3)
    loaded = load_text_encoder(tmp_path / "text")
    assert isinstance(loaded, StrikeText) and loaded.dim == 24 and loaded.card == {"steps": 3}
    texts = ["a stick strikes the drum", "scrapes"]
    torch.testing.assert_close(loaded.encode(texts), saved.encode(texts))
    # weights that know fewer words say so
    fewer = StrikeText(8, words=[word for word in WORDS if word != "drum"])
    fewer.save_pretrained(tmp_path / "fewer")
    assert load_text_encoder(tmp_path / "fewer").unknown_words("hits the drum") == ["drum"]
