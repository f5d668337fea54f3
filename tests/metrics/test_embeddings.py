"""Extractors: own ones, published ones by small random weights in the published layout, and how they are named."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from clap_parts import small_clap
from safetensors.torch import save_file
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

from v2a_nb.audio.onsets import detect_onsets
from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.metrics.embeddings import AstAudioSet, ClapAudio, StrikeAudio, StrikeMaterialTags, windows_of
from v2a_nb.metrics.extractors import EXTRACTORS, GIVES, load_extractor
from v2a_nb.models.av_embedding import AudioVisualEmbedding
from v2a_nb.models.clap import Clap
from v2a_nb.models.cnn14 import Cnn14
from v2a_nb.models.vggish import Vggish
from v2a_nb.world import strike_world


def noise(seconds: float, rate: int = 16000, seed: int = 0) -> Sound:
    return Sound(0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate)), rate)


def small_ast(folder) -> ASTForAudioClassification:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    net = ASTForAudioClassification(ASTConfig(**sizes, max_length=128, num_labels=7)).eval()
    net.save_pretrained(folder)
    ASTFeatureExtractor(max_length=128).save_pretrained(folder)
    return net


def test_windows_of_a_sound():
    torch.manual_seed(0)
    embed = StrikeAudio(AudioVisualEmbedding())
    sound = noise(3)
    vectors = embed(sound)
    assert vectors.shape == (5, AudioVisualEmbedding().config.audio.dim) and np.isfinite(vectors).all()
    assert np.allclose(embed(sound.slice(0.5, 1.5))[0], vectors[1], atol=1e-4)
    assert embed(sound.slice(0, 0.4)).shape[0] == 1
    assert embed.tag == StrikeAudio(embed.model).tag and embed.tag.startswith("strike-audio@")


def test_windows_overlap_or_share_a_sound_equally():
    starts = [round(part.samples[0, 0] * 1000) for part in windows_of(Sound(np.arange(3000) / 1000, 1000), 1.0, 0.5)]
    assert starts == [0, 500, 1000, 1500, 2000]
    for seconds, parts in ((0.3, 1), (1.0, 1), (1.1, 2), (3.0, 3), (3.1, 4)):
        cut = windows_of(noise(seconds), 1.0, 1.0)
        assert len(cut) == parts and sum(part.n for part in cut) == round(seconds * 16000)
        assert max(part.n for part in cut) - min(part.n for part in cut) <= 1
    with pytest.raises(UsageError, match="an empty sound"):
        windows_of(Sound(np.zeros(0), 16000), 1.0, 0.5)


def test_material_tags_are_those_of_the_classifier():
    tags = StrikeMaterialTags.from_pretrained()
    right, struck = [], 0
    for item in strike_world(505, 12, size=16):
        sound = item.stems["action"]
        logits = tags.logits(sound)
        assert logits.shape == (6,) == (len(tags.classes),) and np.abs(logits).max() <= 13.82
        wave = sound.mono().resample(16000).samples[0]
        named = set(tags.classifier.classify(wave, detect_onsets(wave)))
        # log-odds over 0: more likely than all others together
        sure = {name for name, logit in zip(tags.classes, logits, strict=True) if logit > 0}
        assert sure <= named or not named
        true = {event["material"] for event in item.truth["events"] if event["sounding"] and event["kind"] != "scrape"}
        if true:
            struck += 1
            right.append(tags.classes[int(logits.argmax())] in true)
    assert struck > 5 and np.mean(right) > 0.8
    quiet = tags.logits(Sound(np.zeros(16000), 16000))
    assert tags.classes[int(quiet.argmax())] == "nothing" and (quiet[:-1] < -13).all()
    assert tags.tag == tags.classifier.tag


def test_ast_is_that_of_transformers(tmp_path):
    net, reader = small_ast(tmp_path), ASTFeatureExtractor.from_pretrained(tmp_path)
    ast, sound = AstAudioSet(tmp_path), noise(1.0)
    read = reader(sound.samples[0], sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        expected = net(**read).logits[0].numpy()
        vector = net.audio_spectrogram_transformer(**read).pooler_output.numpy()
    assert ast.logits(sound) == pytest.approx(expected, abs=1e-4) and ast(sound) == pytest.approx(vector, abs=1e-4)
    long = noise(3.0)
    parts = [ast(part)[0] for part in windows_of(long, 1.28, 1.28)]
    assert ast(long).shape == (3, 32) and ast(long) == pytest.approx(np.stack(parts), abs=1e-4)
    assert ast.logits(long) == pytest.approx(
        np.mean([ast.logits(p) for p in windows_of(long, 1.28, 1.28)], 0), abs=1e-4
    )
    assert ast.tag.startswith("ast-audioset@") and len(ast.classes) == 7
    assert load_extractor(f"ast-audioset={tmp_path}").tag == ast.tag
    with torch.no_grad():
        ast.net.classifier.dense.bias += 1
    ast.net.save_pretrained(tmp_path)
    assert AstAudioSet(tmp_path).tag != ast.tag
    with pytest.raises(WeightsError, match="no AST there"):
        AstAudioSet(tmp_path / "gone")


def test_clap_gives_one_vector_a_clip(tmp_path):
    small_clap(tmp_path)
    clap, sound = ClapAudio(Clap(tmp_path)), noise(1.3, 48000)
    assert clap(sound) == pytest.approx(clap.clap.encode_sound(sound)[None].numpy())
    assert clap(sound).shape == (1, 24) and clap.tag.startswith("clap@")
    assert clap.text("rain") == pytest.approx(clap.clap.encode_texts(["rain"])[0].numpy())
    general = load_extractor(f"clap-general={tmp_path}")  # the same weights under another name
    assert general.tag == clap.tag.replace("clap@", "clap-general@") and general(sound) == pytest.approx(clap(sound))


def test_vggish_gives_a_vector_for_each_full_window(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "vggish.safetensors"
    save_file({name: 3 * x for name, x in Vggish(width=2, hidden=16).state_dict().items()}, path)
    vggish, google = load_extractor(f"vggish={path}"), load_extractor(f"vggish-google={path}")
    assert vggish.tag.startswith("vggish@") and google.tag == vggish.tag.replace("vggish@", "vggish-google@")
    # the numbers of windows of both ports, and of the first implementation
    for seconds, windows, every_half in ((0.3, 1, 1), (1.0, 1, 1), (2.56, 2, 4), (3.0, 3, 5)):
        sound = noise(seconds)
        assert vggish(sound).shape == (windows, 128) and google(sound).shape == (every_half, 128)
    sound = noise(3.0, 48000)
    parts = np.concatenate([vggish(sound.resample(16000).slice(0.96 * k, 0.96 * k + 0.975)) for k in range(3)])
    assert vggish(sound) == pytest.approx(parts, rel=1e-4, abs=1e-3) and np.abs(np.diff(parts, axis=0)).max() > 0.1
    assert vggish(Sound(np.repeat(sound.samples, 2, axis=0), 48000)) == pytest.approx(vggish(sound), abs=1e-6)
    # the level does not count, but for very soft sounds
    loud = Sound(np.clip(noise(2).samples, -0.3, 0.35), 16000)
    assert google(loud.gain(6)) == pytest.approx(google(loud), rel=1e-4, abs=1e-3)
    assert np.abs(vggish(loud.gain(6)) - vggish(loud)).max() > 1
    second = Sound(loud.samples / loud.samples.max(), 16000).slice(0.5, 1.5)
    assert google(loud)[1] == pytest.approx(vggish(second)[0], rel=1e-4, abs=1e-3)
    with pytest.raises(WeightsError, match=r"comes without weights.*fad\[vggish=FILE"):
        load_extractor("vggish")
    for extractor in (vggish, google):
        with pytest.raises(UsageError, match="must be"):
            extractor(Sound(np.zeros(0), 16000))


def test_cnn14_gives_one_vector_a_sound_and_needs_its_file(tmp_path):
    torch.manual_seed(0)
    net, sound = Cnn14(classes=5, width=2).eval(), noise(1.5, 48000)
    save_file({name: x.contiguous() for name, x in net.state_dict().items()}, tmp_path / "cnn14.safetensors")
    panns = load_extractor(f"panns-cnn14={tmp_path / 'cnn14.safetensors'}")
    vector, logits = net(torch.tensor(sound.resample(16000).samples))
    assert panns(sound) == pytest.approx(vector.detach().numpy(), abs=1e-5) and panns(sound).shape == (1, 64)
    assert panns.logits(sound) == pytest.approx(logits[0].detach().numpy(), abs=1e-5)
    assert panns.tag.startswith("panns-cnn14-16k@")
    with pytest.raises(WeightsError, match=r"comes without weights.*fad\[panns-cnn14=FILE"):
        load_extractor("panns-cnn14")


def test_every_entry_says_what_it_is():
    for name, info in EXTRACTORS.items():
        assert info.gives and set(info.gives) <= set(GIVES)
        assert bool(info.dim) == bool({"vectors", "pairs"} & set(info.gives))
        assert bool(info.classes) == ("logits" in info.gives)
        assert info.licence and info.sample_rate > 0 and info.window_s >= info.hop_s >= 0
        assert "\n" not in info.help and len(name) <= 24
    for name in ("strike-audio", "strike-material"):
        extractor, info, sound = load_extractor(name), EXTRACTORS[name], noise(2.56)
        assert extractor.tag.startswith(f"{name}@") and load_extractor(name) is extractor
        if info.dim:
            assert extractor(sound).shape == (4, info.dim)
        else:
            assert extractor.logits(sound).shape == (info.classes,)
    with pytest.raises(UsageError, match="unknown extractor 'mert'; known are strike-audio"):
        load_extractor("mert")
