"""Synchformer: the released layout and answers, the mel of torchaudio, windows, and files that are refused."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sync_parts import filled, published, small_config, small_synchformer

from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.models.synchformer import DEVIATION, FRAMES, MEAN, OFFSETS_S, SAMPLES, Synchformer, segment_mel
from v2a_nb.models.video_encoders.segment_avclip import SegmentConfig, SegmentVideoTower


def test_the_layout_is_the_published_one():
    """Names and shapes of the released classes, which were run on the meta device beside it."""
    with torch.device("meta"):
        net = Synchformer()
    state = net.state_dict()
    shapes = {public: tuple(state[name].shape) for name, public in net.published_names().items()}
    assert len(shapes) == 511 and sum(x.numel() for x in state.values()) == 236_869_653
    unused = (768 * 3 * 16 * 16) + 768  # patch_embed.proj: in the file, and read by nothing
    assert sum(x.numel() for x in state.values()) + unused == 237_460_245
    layer = {
        "norm1": (768,), "norm2": (768,), "norm3": (768,), "attn.qkv": (2304, 768), "attn.proj": (768, 768),
        "timeattn.qkv": (2304, 768), "timeattn.proj": (768, 768), "mlp.fc1": (3072, 768), "mlp.fc2": (768, 3072),
    }  # fmt: skip
    ast = {
        "attention.attention.query": (768, 768), "attention.attention.key": (768, 768),
        "attention.attention.value": (768, 768), "attention.output.dense": (768, 768),
        "intermediate.dense": (3072, 768), "output.dense": (768, 3072), "layernorm_before": (768,),
        "layernorm_after": (768,),
    }  # fmt: skip
    block = {
        "ln1": (768,), "ln2": (768,), "attn.key": (768, 768), "attn.query": (768, 768), "attn.value": (768, 768),
        "attn.proj": (768, 768), "mlp.0": (3072, 768), "mlp.2": (768, 3072),
    }  # fmt: skip
    summary = {"self_attn.out_proj": (768, 768), "linear1": (3072, 768), "linear2": (768, 3072), "norm1": (768,),
               "norm2": (768,)}  # fmt: skip
    modules = {
        **{f"vfeat_extractor.blocks.{n}.{part}": shape for n in range(12) for part, shape in layer.items()},
        **{f"afeat_extractor.ast.encoder.layer.{n}.{part}": shape for n in range(12) for part, shape in ast.items()},
        **{f"transformer.blocks.{n}.{part}": shape for n in range(3) for part, shape in block.items()},
        **{f"vfeat_extractor.spatial_attn_agg.{part}": shape for part, shape in summary.items()},
        **{f"afeat_extractor.freq_attn_agg.{part}": shape for part, shape in summary.items()},
        "vfeat_extractor.patch_embed_3d.proj": (768, 3, 2, 16, 16), "vfeat_extractor.norm": (768,),
        "afeat_extractor.ast.embeddings.patch_embeddings.projection": (768, 1, 16, 16),
        "afeat_extractor.ast.layernorm": (768,), "vproj": (768, 768), "aproj": (768, 768),
        "transformer.vis_in_lnorm": (768,), "transformer.aud_in_lnorm": (768,), "transformer.ln_f": (768,),
        "transformer.off_head": (21, 768),
    }  # fmt: skip
    expected = {f"{name}.weight": shape for name, shape in modules.items()}
    expected |= {f"{name}.bias": shape[:1] for name, shape in modules.items()}
    for where in ("vfeat_extractor.spatial_attn_agg", "afeat_extractor.freq_attn_agg"):
        expected |= {f"{where}.self_attn.in_proj_weight": (2304, 768), f"{where}.self_attn.in_proj_bias": (2304,)}
        expected |= {f"{where}.cls_token": (1, 1, 768)}
    expected |= {
        "vfeat_extractor.cls_token": (1, 1, 768), "vfeat_extractor.pos_embed": (1, 197, 768),
        "vfeat_extractor.temp_embed": (1, 8, 768), "afeat_extractor.ast.embeddings.cls_token": (1, 1, 768),
        "afeat_extractor.ast.embeddings.distillation_token": (1, 1, 768),
        "afeat_extractor.ast.embeddings.position_embeddings": (1, 74, 768),
        "transformer.OFF_tok": (1, 1, 768), "transformer.MOD_tok": (1, 1, 768),
        "transformer.pos_emb_cfg.pos_emb": (1, 198, 768),
    }  # fmt: skip
    assert shapes == expected


def test_answers_are_those_of_the_released_classes():
    """Numbers that av-benchmark's copy of the classes gave (050a5cd) with the same tensors, at small sizes."""
    net = filled(small_synchformer(patch=56))
    generator = torch.Generator().manual_seed(0)
    segments = torch.rand(2, 16, 3, 224, 224, generator=generator) * 2 - 1
    bank = torch.randn(2, 66, 128, generator=generator)
    video, audio = (torch.randn(1, 14, n, 24, generator=generator) for n in (8, 6))
    with torch.no_grad():
        seen, heard, logits = net.vfeat_extractor(segments), net.afeat_extractor(bank), net(video, audio)
    for found, first, last, spread in (
        (seen, (0.20906, -1.56255, 0.35800), (2.36289, 1.52399, 1.72310), 1.160438),
        (heard, (0.84225, -2.12338, -0.51245), (-0.31790, -0.04974, -0.10807), 1.277365),
        (logits, (0.47103, 0.87167, -0.21139), (1.14462, -0.71818, -0.05528), 0.687948),
    ):
        assert found.flatten()[:3].tolist() == pytest.approx(first, abs=2e-5)
        assert found.flatten()[-3:].tolist() == pytest.approx(last, abs=2e-5)
        assert float(found.std()) == pytest.approx(spread, abs=1e-5)


def test_the_mel_is_that_of_librosa():
    wave = 0.1 * np.random.default_rng(0).standard_normal(10240).astype(np.float32)
    wave[:3000] = 0
    power = librosa.feature.melspectrogram(
        y=wave, sr=16000, n_fft=1024, win_length=400, hop_length=160, n_mels=128, htk=True, norm=None,
        pad_mode="reflect",
    )  # fmt: skip
    bank = segment_mel(torch.from_numpy(wave)[None])[0].numpy()
    assert bank.shape == (66, 128) and power.shape == (128, 65)
    assert bank[:65] == pytest.approx((np.log(power.T + 1e-6) - MEAN) / (2 * DEVIATION), abs=1e-4)
    assert bank[65] == pytest.approx(-MEAN / (2 * DEVIATION))


def test_segments_are_read_one_by_one():
    net = filled(small_synchformer())
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (FRAMES, 30, 40, 3), dtype=np.uint8)
    wave = 0.1 * rng.standard_normal(SAMPLES).astype(np.float32)
    video, audio = net.see(frames), net.hear(wave)
    assert video.shape == (14, 8, 24) and audio.shape == (14, 6, 24)
    other, later = frames.copy(), wave.copy()
    other[-8:], later[-100:] = 0, 0  # of the last segment only
    assert torch.equal(net.see(other)[:13], video[:13]) and not torch.equal(net.see(other)[13], video[13])
    torch.testing.assert_close(net.hear(later)[:13], audio[:13])
    assert not torch.allclose(net.hear(later)[13], audio[13])
    whole = net.see(frames, short_side=56)  # a larger picture is cut out of: another view
    assert whole.shape == video.shape and not torch.equal(whole, video)
    assert net(video[None], audio[None]).shape == (1, len(OFFSETS_S)) == (1, 21)
    for bad in (lambda: net.see(frames[1:]), lambda: net.hear(wave[1:]), lambda: net(video[None, 1:], audio[None])):
        with pytest.raises(UsageError, match="Synchformer reads"):
            bad()
    with pytest.raises(UsageError, match=r"segments must be \[B, 16, 3, 28, 28\]"):
        net.vfeat_extractor(torch.zeros(1, 15, 3, 28, 28))
    with pytest.raises(UsageError, match="cannot be cut into patches"):
        SegmentVideoTower(SegmentConfig(size=30))


def test_published_weights_load_by_name(tmp_path):
    net, path = filled(small_synchformer()), tmp_path / "synchformer.safetensors"
    save_file(published(net), path)
    generator = torch.Generator().manual_seed(1)
    video, audio = (torch.randn(1, 14, n, 24, generator=generator) for n in (8, 6))
    for where in (path, tmp_path):
        loaded = Synchformer.from_file(where, small_config())
        assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
        torch.testing.assert_close(loaded(video, audio), net(video, audio))
    state = published(net)
    for broken in ({**state, "vproj.weight": torch.zeros(3, 3)}, {k: v for k, v in state.items() if k != "vproj.bias"},
                   {**state, "x": torch.zeros(1)}):  # fmt: skip
        save_file(broken, path)
        with pytest.raises(WeightsError, match="no weights of Synchformer"):
            Synchformer.from_file(path, small_config())
    with pytest.raises(WeightsError, match=r"Synchformer needs one \.safetensors file"):
        Synchformer.from_file(tmp_path / "synchformer_state_dict.pth")
