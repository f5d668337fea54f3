"""AV-Sync: how windows make a clip, the classifier's form, its windows, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from av_parts import SMALL, SYNC, VIDEO, random_eyes, small_model

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.metrics.av_sync.metric import AvSync, AvSyncMetric, share_synchronous, synchronous
from v2a_nb.metrics.av_sync.model import PRESETS, AvSyncNet, loss_of
from v2a_nb.metrics.base import ScoredClip
from v2a_nb.models.audio_spectrogram_transformer import AudioSpectrogramTransformerConfig, filter_bank

RATE = 16000


def clip_of(seconds: float, seed: int = 0) -> tuple[Clip, Sound]:
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 255, (round(25 * seconds), 20, 24, 3), dtype=np.uint8)
    return Clip(frames, fps=25.0, duration=seconds), Sound(0.1 * rng.standard_normal(round(seconds * RATE)), RATE)


@pytest.fixture(scope="module")
def judge() -> AvSync:
    from v2a_nb.hub import as_shipped

    torch.manual_seed(0)
    net = AvSyncNet(SYNC, frame_encoder=random_eyes())
    torch.nn.init.normal_(net.head[-1].weight, std=1.0)  # probabilities that differ
    return AvSync(as_shipped(net))


# --- the rule ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "mean", "any_"),
    [(0.2, 0.3, False, False), (0.2, 0.7, False, True), (0.7, 0.2, False, True), (0.4, 0.7, True, True),
     (0.9, 0.8, True, True), (0.5, 0.5, True, True), (0.49, 0.49, False, False)],
)  # fmt: skip
def test_halves(first, second, mean, any_):
    assert synchronous([first, second]) is mean
    assert synchronous([first, second], "any") is any_


def test_a_constant_classifier_calls_all_or_none_synchronous():
    assert share_synchronous([[0.49]] * 5)["value"] == 0.0
    assert share_synchronous([[0.51]] * 5)["value"] == 100.0
    assert share_synchronous([[0.5]] * 5)["value"] == 100.0  # as released: one half does


def test_any_squares_the_chance_of_turning_down():
    rng = np.random.default_rng(0)
    made = (rng.random((20000, 2)) < 0.2) * 0.9  # a fifth of the windows are false alarms
    assert share_synchronous(made, halves="any")["value"] == pytest.approx(36.0, abs=1.5)
    assert share_synchronous(made[:, :1])["value"] == pytest.approx(20.0, abs=1.5)


def test_the_order_of_clips_does_not_matter_and_intervals_are_over_recordings():
    rng = np.random.default_rng(1)
    made, names = rng.random((60, 2)), [str(i // 3) for i in range(60)]
    order = rng.permutation(60)
    score = share_synchronous(made, names)
    assert score["value"] == share_synchronous(made[order], [names[i] for i in order])["value"]
    assert score["low"] < score["value"] < score["high"] and score["n"] == 60
    for bad in ([], [[]], [[np.nan]], [[[0.1]]]):
        with pytest.raises(UsageError):
            share_synchronous(bad)
    with pytest.raises(UsageError, match="rule"):
        synchronous([0.3], "most")


# --- the classifier ---------------------------------------------------------------------------------


def test_paper_form():
    with torch.device("meta"):
        net = AvSyncNet(PRESETS["paper"])
        made = net([torch.empty(2, 16, 3, 224, 224)], torch.empty(2, 148, 128))
    assert made.shape == (2,) and net.config.seconds == 1.5  # two windows in a clip of 3 s
    layers = [(layer.in_features, layer.out_features) for layer in net.head[::2]]
    assert layers == [(512, 1024), (1024, 512), (512, 1)]
    assert [type(layer).__name__ for layer in net.head[1::2]] == ["ReLU", "ReLU"]


def test_it_starts_from_encoders_and_trains_them():
    model = small_model()
    net = AvSyncNet(SYNC, model)
    assert torch.equal(net.encoders.vid_proj.weight, model.vid_proj.weight)
    net.encoders.vid_proj.weight.data.zero_()
    assert model.vid_proj.weight.abs().sum() > 0  # a copy
    net = AvSyncNet(SYNC, model)
    seen, bank = (torch.randn(4, 75, 384), torch.rand(4, 8, 8, 3)), torch.randn(4, 300, 40)
    loss_of(net(seen, bank), torch.tensor([1, 0, 1, 0])).backward()
    silent = [k for k, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert [k for k in silent if not k.endswith(("k_proj.bias", "log_scale"))] == []
    with pytest.raises(UsageError, match="other sizes"):
        AvSyncNet(replace(SYNC, encoders=replace(SMALL, dim=8)), model)


def test_both_sides_count(judge):
    torch.manual_seed(0)
    seen, heard = torch.randn(2, 5, 16)
    logits = judge.net.judge(seen, heard)
    assert (logits - judge.net.judge(seen.roll(1, 0), heard)).abs().max() > 1e-3
    assert (logits - judge.net.judge(seen, heard.roll(1, 0))).abs().max() > 1e-3


def test_loss_by_hand():
    logits, label = torch.tensor([0.0, 2.0]), torch.tensor([1.0, 0.0])
    assert loss_of(logits, label).item() == pytest.approx((np.log(2) + np.log1p(np.e**2)) / 2, abs=1e-6)
    assert loss_of(logits, label, 2.0).item() == pytest.approx((2 * np.log(2) + np.log1p(np.e**2)) / 2, abs=1e-6)


def test_released_crop_leaves_half_a_second():
    torch.manual_seed(0)
    net = AvSyncNet(replace(SYNC, crop="released")).eval()
    whole = AvSyncNet(SYNC, net.encoders).eval()
    bank = torch.randn(1, 300, 40)
    assert torch.equal(net.hear(bank), whole.hear(bank[:, 200:]))  # columns of 5 ms
    other = bank.clone()
    other[:, :190] = -11.5
    assert torch.equal(net.hear(bank), net.hear(other))
    kaldi = AudioSpectrogramTransformerConfig(seconds=1.5, columns=160, dim=32, depth=1, heads=2, mlp=64, stride=16)
    net = AvSyncNet(replace(SYNC, crop="released", encoders=replace(SMALL, audio=kaldi))).eval()
    whole = AvSyncNet(replace(SYNC, encoders=net.config.encoders), net.encoders).eval()
    wave = torch.randn(1, 24000)
    half = filter_bank(wave[:, 16000:])
    assert half.shape[1] == 48 and torch.allclose(net.hear(filter_bank(wave)), whole.hear(half), atol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [{"layers": (8,)}, {"halves": "both"}, {"crop": "middle"},
     {"encoders": replace(SMALL, video=replace(VIDEO, seconds=1.0))},
     {"encoders": replace(SMALL, video=replace(VIDEO, seconds=1.0), audio=replace(SMALL.audio, seconds=0.9)),
      "crop": "released"}],
)  # fmt: skip
def test_impossible_classifiers_are_refused(wrong):
    with pytest.raises(UsageError):
        AvSyncNet(replace(SYNC, **wrong))


# --- clips ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "windows"), [(1.5, 1), (3.0, 2), (3.4, 3), (1.0, 1)])
def test_windows_of_a_clip(judge, seconds, windows):
    clip, sound = clip_of(seconds)
    made = judge.windows(clip, sound)
    assert made.shape == (windows,) and ((made > 0) & (made < 1)).all()
    assert judge.score(clip, sound) == pytest.approx(made.mean())
    assert np.array_equal(made, judge.windows(clip.with_sound(sound), sound))


def test_pictures_are_looked_at_once(judge):
    clip, sound = clip_of(3.4)
    look = judge.look(clip)
    assert look.shape[0] == 3 and np.array_equal(judge.windows(look, sound), judge.windows(clip, sound))
    with pytest.raises(UsageError, match=r"3 windows of picture and 6.00 s of sound"):
        judge.windows(look, sound.fit(6.0))


def test_a_window_is_judged_by_itself(judge):
    clip, sound = clip_of(3.0)
    first = judge.windows(clip.slice(0, 1.5), sound.slice(0, 1.5))
    assert judge.windows(clip, sound)[0] == pytest.approx(first[0], abs=0.1)  # the picture at 1.5 s differs
    other = Sound(np.concatenate([sound.samples[:, :24000], 0.5 * sound.samples[:, :24000]], axis=1), RATE)
    moved = judge.windows(clip, other)
    assert moved[0] == pytest.approx(judge.windows(clip, sound)[0], abs=1e-6)
    assert moved[1] != judge.windows(clip, sound)[1]


def test_any_rate_and_channels(judge):
    clip, sound = clip_of(1.5)
    assert judge.score(clip, sound.stereo()) == pytest.approx(judge.score(clip, sound), abs=1e-6)
    assert judge.score(clip, sound.resample(44100)) == pytest.approx(judge.score(clip, sound), abs=0.05)


@pytest.mark.parametrize(("seen", "heard"), [(1.5, 1.2), (0.9, 0.9)])
def test_bad_pairs_are_refused(judge, seen, heard):
    with pytest.raises(UsageError):
        judge.windows(clip_of(seen)[0], clip_of(heard)[1])


def test_a_row_of_a_report_names_its_classifier(judge):
    metric, pairs = AvSyncMetric(judge), [clip_of(seconds, seed) for seed, seconds in enumerate((1.5, 3.4, 1.5, 4.5))]
    clips = [ScoredClip(str(k), "ab"[k // 2], s, open_video=lambda c=c: c) for k, (c, s) in enumerate(pairs)]
    (row,) = metric.results([metric.score(clip) for clip in clips], [clip.recording for clip in clips])
    assert row["name"] == "av_sync_acc" and row["extractor"] == judge.tag and row["n"] == 4
    assert row["value"] == share_synchronous([judge.windows(*pair) for pair in pairs])["value"]
    assert judge.tag.startswith("av-sync-tiny@") and judge.tag in repr(judge)


def test_weights_come_back(tmp_path, judge):
    judge.save_pretrained(tmp_path, steps=3)
    again = AvSync.from_pretrained(tmp_path)
    assert again.config == judge.config and again.tag == judge.tag and again.card == {"steps": 3}
    pair = clip_of(1.5)
    assert again.score(*pair) == judge.score(*pair)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "kind": "av-sim"}))
    with pytest.raises(WeightsError, match="AV-Sync"):
        AvSync.from_pretrained(tmp_path)
