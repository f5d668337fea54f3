"""VAAS: the pairs, the classifier, both readings of its score, the curve, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from clip_parts import in_memory, run_stage

from v2a_nb.clip import Clip, Sound
from v2a_nb.data.clip_features import ClipFeatures
from v2a_nb.errors import MediaError, UsageError, V2AError, WeightsError
from v2a_nb.hub import tag_of
from v2a_nb.metrics.base import ScoredClip
from v2a_nb.metrics.vaas import train as recipe
from v2a_nb.metrics.vaas.metric import Vaas, VaasMetric, conventions
from v2a_nb.metrics.vaas.model import PRESETS, PaperVaas, TinyVaas, VaasConfig, build
from v2a_nb.metrics.vaas.train import (
    VaasRecipe,
    classifier_stage,
    draw_pairs,
    held_out_report,
    scores_of,
    shift_curve,
)
from v2a_nb.training.recipe import run_recipe
from v2a_nb.training.recipes.clips import ClipTrainConfig

DIM = 12
SMALL = VaasConfig(vector_dim=DIM, width=16, embed=16, groups=4, lags=8, layers=(32, 16, 16, 8))
RECORDINGS = np.repeat(np.arange(20), 2)


def easy_clips(recordings: int = 60, seed: int = 0) -> ClipFeatures:
    """Clips in which some channels are lit exactly when every band rises: easy, and with no way around."""
    rng = np.random.default_rng(seed)
    n = 2 * recordings
    video = 0.3 * rng.standard_normal((n, 64, DIM))  # 1.28 s, to be quick
    mels = -11.0 + 0.3 * rng.standard_normal((n, 40, 1056))
    for i in range(n):
        for token in rng.choice(np.arange(4, 256), 16, replace=False):  # hits over the clip and its margins
            mels[i, :, 4 * token : 4 * token + 24] = -3.0
            if 100 <= token < 164:
                video[i, token - 100, :4] += 3.0
    numbers = np.repeat(np.arange(recordings), 2)
    return in_memory(numbers, video=video.astype(np.float16), log_mel=mels.astype(np.float16))


class EasyRecipe(VaasRecipe):
    """The recipe on easy clips, with a small network but for the channels that the shipped encoder has."""

    template = None
    network = replace(SMALL, vector_dim=384)

    def features(self, recordings, store):
        clips = easy_clips(8)
        video = np.pad(clips["video"][:], ((0, 0), (0, 0), (0, 384 - DIM)))
        return in_memory(clips.recording_ids, video=video, log_mel=clips["log_mel"][:]).split(2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small classifier after some steps of the easy task, and clips that it never saw."""
    torch.set_num_threads(1)
    training, unseen = easy_clips().split(20)
    stage = classifier_stage(training, unseen, steps=100, batch_size=24, config=SMALL)
    return run_stage(stage, tmp_path_factory.mktemp("vaas")).net, unseen


@pytest.mark.parametrize("size", [4, 48, 400])
def test_pairs_are_half_matched_and_a_quarter_each(size):
    pairs = draw_pairs(RECORDINGS, size, np.random.default_rng(0))
    assert [(pairs.kind == k).sum() for k in ("matched", "other", "shifted")] == [size // 2, size // 4, size // 4]
    assert np.array_equal(pairs.label, (pairs.kind == "matched").astype(np.float32))


def test_pairs_hold_what_their_kind_says():
    pairs = draw_pairs(RECORDINGS, 4000, np.random.default_rng(1))
    for kind in ("matched", "shifted"):
        assert np.array_equal(pairs.video[pairs.kind == kind], pairs.sound[pairs.kind == kind])
    other = pairs.kind == "other"
    assert (RECORDINGS[pairs.video[other]] != RECORDINGS[pairs.sound[other]]).all()
    assert (pairs.shift_s[pairs.kind != "shifted"] == 0).all()


@pytest.mark.parametrize("shifts", [(0.1, 2.0), (0.5, 0.5), (1.0, 1.5)])
def test_shifts_never_leave_their_range(shifts):
    pairs = draw_pairs(RECORDINGS, 4000, np.random.default_rng(2), shifts)
    off = pairs.shift_s[pairs.kind == "shifted"]
    assert np.abs(off).min() >= shifts[0] - 1e-9 and np.abs(off).max() <= shifts[1] + 1e-9
    assert 0.4 < (off > 0).mean() < 0.6  # as often late as early


def test_tolerance_moves_matched_pairs_alone():
    pairs = draw_pairs(RECORDINGS, 4000, np.random.default_rng(5), (0.2, 2.0), tolerance_s=0.045)
    near = np.abs(pairs.shift_s[pairs.kind == "matched"])
    assert 0.04 < near.max() <= 0.045 + 1e-9 and (near == 0).any()
    assert (pairs.shift_s[pairs.kind == "other"] == 0).all()
    assert np.abs(pairs.shift_s[pairs.kind == "shifted"]).min() >= 0.2 - 1e-9
    assert (pairs.label[pairs.kind == "matched"] == 1).all()
    for wrong in (0.2, -0.1):
        with pytest.raises(UsageError, match="tolerance"):
            draw_pairs(RECORDINGS, 8, np.random.default_rng(5), (0.2, 2.0), tolerance_s=wrong)


def test_pairs_come_in_random_order_from_the_generator_alone():
    a, b, c = (draw_pairs(RECORDINGS, 64, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert all(np.array_equal(getattr(a, f), getattr(b, f)) for f in ("video", "sound", "shift_s", "kind"))
    assert not np.array_equal(a.video, c.video)
    assert (np.diff(a.label) != 0).sum() > 8


@pytest.mark.parametrize(
    ("recordings", "size", "shifts"),
    [(RECORDINGS, 6, (0.1, 2.0)), (RECORDINGS, 0, (0.1, 2.0)), (np.zeros(9), 8, (0.1, 2.0)),
     (RECORDINGS, 8, (0.0, 2.0)), (RECORDINGS, 8, (2.0, 1.0))],
)  # fmt: skip
def test_impossible_pairs_are_refused(recordings, size, shifts):
    with pytest.raises(UsageError):
        draw_pairs(recordings, size, np.random.default_rng(0), shifts)


def test_a_short_training_tells_matched_from_the_rest(trained):
    net, unseen = trained
    report = held_out_report(net, unseen, pairs=200)
    assert report["accuracy"]["value"] > 0.85
    assert report["accuracy"]["low"] > 0.7  # well over the 50 % of always saying one thing
    assert min(report["by_kind"].values()) > 0.7
    assert report["auc"] > 0.9
    assert report["varies"] > 0.2  # the last ReLU is alive


def test_the_curve_falls_with_the_shift(trained):
    net, unseen = trained
    rows = shift_curve(net, unseen, (0.0, 0.06, 0.5, 1.0))
    score = [row["vaas_score"]["value"] for row in rows]
    assert score[0] > 75 and score[0] > score[2] + 40 and score[0] > score[3] + 40
    assert rows[0]["vaas_acc"]["n"] == len(unseen) and rows[1]["vaas_acc"]["n"] == 2 * len(unseen)


def test_sounds_in_time_score_above_the_same_sounds_moved(trained):
    net, _ = trained
    vaas = Vaas(net)
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(6):
        wave = 1e-4 * rng.standard_normal(round(4.56 * 16000))
        vectors = 0.3 * rng.standard_normal((128, DIM))
        for token in rng.choice(118, 5, replace=False) + 5:
            start = 16000 + 320 * token
            wave[start : start + 1600] += 0.3 * rng.standard_normal(1600)
            vectors[token, :4] += 3.0
        pairs.append((vectors.astype(np.float32), Sound(wave, 16000)))
    in_time, late = ([vaas.score(v, s.slice(start, start + 2.56)) for v, s in pairs] for start in (1.0, 0.3))
    assert np.mean(in_time) > np.mean(late)


def test_both_readings_of_the_score():
    made = conventions([0.5, 0.51, 7.0, 0.0])
    assert made["vaas_acc"]["value"] == 50.0  # one half is not aligned
    assert made["vaas_score"]["value"] == pytest.approx(100 * (0.5 + 0.51 + 1 + 0) / 4)  # cut to 1
    order = conventions([0.0, 7.0, 0.51, 0.5])
    assert order["vaas_acc"]["value"] == made["vaas_acc"]["value"]
    assert conventions([0.51] * 3)["vaas_acc"]["value"] == 100 and conventions([0.49] * 3)["vaas_acc"]["value"] == 0


def test_intervals_are_over_recordings():
    scores = [1.0] * 10 + [0.0] * 10
    few = conventions(scores, ["a"] * 10 + ["b"] * 10)["vaas_acc"]
    many = conventions(scores, [str(i) for i in range(20)])["vaas_acc"]
    assert few["low"] <= many["low"] < 50 < many["high"] <= few["high"]
    for bad in ([], [np.nan], [[0.1, 0.2]]):
        with pytest.raises(UsageError):
            conventions(bad)


def test_five_linear_layers_each_with_a_relu():
    for net in (TinyVaas(SMALL), build(PRESETS["tiny"])):
        kinds = [type(layer).__name__ for layer in net.head]
        assert kinds == ["Linear", "ReLU"] * 5
        assert net.head[-2].out_features == 1 and net.head[-2].bias.item() == 0.5
        seen = torch.randn(3, 128, net.config.vector_dim)
        scores = net.eval()(seen, torch.randn(3, 40, 512))
        assert scores.shape == (3,) and (scores >= 0).all()


def test_one_encoder_reads_both_pictures():
    net = TinyVaas(SMALL)
    net.loss(torch.randn(4, 128, DIM), torch.randn(4, 40, 512), torch.tensor([1.0, 0, 1, 0])).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.shared.parameters())
    seen, heard = net.encode(torch.randn(2, 128, DIM), torch.randn(2, 40, 512))
    assert seen.shape == heard.shape == (2, 16, 128)


def test_a_dead_score_of_a_matched_pair_still_learns():
    net = TinyVaas(SMALL)
    torch.nn.init.constant_(net.head[-2].bias, -50.0)
    args = (torch.randn(4, 128, DIM), torch.randn(4, 40, 512))
    assert net(*args).eq(0).all()
    net.loss(*args, torch.ones(4)).backward()
    assert net.head[-2].bias.grad.abs() > 0
    net.zero_grad()
    assert net.loss(*args, torch.zeros(4)) == 0  # and one that does not belong together is right


def test_paper_preset_is_a_vit_b32_with_five_layers():
    with torch.device("meta"):
        net = PaperVaas()
    assert sum(p.numel() for p in net.vit.parameters()) == 87_456_000
    widths = [(layer.in_features, layer.out_features) for layer in net.head[::2]]
    assert widths == [(1536, 1024), (1024, 512), (512, 256), (256, 64), (64, 1)]
    assert not any(p.requires_grad for p in net.vit.parameters())  # only the linear layers were trained
    made = net(torch.empty(2, 300, 768, device="meta"), torch.empty(2, 1025, 862, device="meta"))
    assert made.shape == (2,)


def small_paper() -> PaperVaas:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vit = CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=32, patch_size=16))
    return PaperVaas(VaasConfig("paper", 2.0, 8, 30.0, layers=(16, 16, 16, 16)), vit)


def test_paper_form_scores_sound_and_keeps_its_encoder_frozen():
    net = small_paper()
    vaas = Vaas(net)
    rng = np.random.default_rng(0)
    sound = Sound(0.1 * rng.standard_normal(4 * 22050), 22050)
    windows = vaas.windows(rng.standard_normal((120, 8)), sound)
    assert windows.shape == (2,) and np.isfinite(windows).all()
    assert net.train().vit.training is False
    net.loss(torch.randn(2, 60, 8), torch.rand(2, 1025, 173), torch.tensor([1.0, 0.0])).backward()
    assert all(p.grad is None for p in net.vit.parameters())
    assert net.head[0].weight.grad.abs().sum() > 0


def test_paper_weights_hold_what_was_trained_and_take_the_vit_by_its_id(tmp_path):
    net = small_paper()
    net.vit.save_pretrained(tmp_path / "vit")
    config = VaasConfig("paper", 2.0, 8, 30.0, layers=(16, 16, 16, 16), vit=str(tmp_path / "vit"))
    vaas = Vaas(PaperVaas.from_pretrained(config=config))
    vaas.save_pretrained(tmp_path / "weights")
    from safetensors.torch import load_file

    assert not [k for k in load_file(tmp_path / "weights" / "model.safetensors") if k.startswith("vit.")]
    again = Vaas.from_pretrained(tmp_path / "weights")
    rng = np.random.default_rng(0)
    pair = rng.standard_normal((60, 8)), Sound(0.1 * rng.standard_normal(44100), 22050)
    assert again.windows(*pair) == pytest.approx(vaas.windows(*pair), abs=5e-3)  # fp16 rounds the layers


def test_paper_vit_that_cannot_be_had_is_said_so(tmp_path):
    with pytest.raises(WeightsError, match="ViT of VAAS"):
        PaperVaas.from_pretrained(str(tmp_path))


def test_long_clips_are_scored_window_by_window(trained):
    vaas = Vaas(trained[0])
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((320, DIM)).astype(np.float32)  # 6.4 s: two windows and the last 2.56 s
    sound = Sound(0.05 * rng.standard_normal(round(6.4 * 16000)), 16000)
    windows = vaas.windows(vectors, sound)
    assert windows.shape == (3,)
    assert vaas.score(vectors, sound) == pytest.approx(np.clip(windows, 0, 1).mean())
    first = vaas.windows(vectors[:128], sound.slice(0, 2.56))
    assert first == pytest.approx(windows[:1], abs=0.05)  # the cut's edge alone differs
    assert vaas.windows(vectors[:60], sound.slice(0, 1.2)).shape == (1,)
    assert np.array_equal(windows, vaas.windows(vectors, sound))


@pytest.mark.parametrize(
    ("vectors", "seconds", "error"),
    [
        (np.zeros((128, DIM + 1)), 2.56, UsageError),
        (np.zeros((128,)), 2.56, UsageError),
        (np.zeros((0, DIM)), 2.56, UsageError),
        (np.full((128, DIM), np.nan), 2.56, MediaError),
        (np.zeros((128, DIM)), 2.0, UsageError),  # the sound is shorter
        (np.zeros((40, DIM)), 0.8, UsageError),  # too short to tell
    ],
)
def test_bad_input_is_refused(vectors, seconds, error):
    with pytest.raises(error) as caught:
        Vaas(TinyVaas(SMALL)).score(vectors, Sound(np.zeros(round(seconds * 16000)), 16000))
    assert isinstance(caught.value, V2AError)


def test_a_clip_needs_an_encoder():
    clip = Clip(np.zeros((64, 64, 64, 3), np.uint8))
    with pytest.raises(UsageError, match="no encoder"):
        Vaas(TinyVaas(SMALL)).score(clip, Sound(np.zeros(40960), 16000))


def test_impossible_sizes_are_refused():
    for wrong in ({"preset": "huge"}, {"layers": (8, 8)}, {"embed": 30}, {"seconds": 0.5}):
        with pytest.raises(UsageError):
            build(VaasConfig(**wrong))


def test_weights_come_back_with_encoder_and_card(tmp_path):
    from v2a_nb.hub import as_shipped
    from v2a_nb.models.video_encoders.strike import StrikeVision

    torch.manual_seed(0)
    vaas = Vaas(as_shipped(TinyVaas()), as_shipped(StrikeVision().eval()))
    vaas.save_pretrained(tmp_path, data_seed=5)
    again = Vaas.from_pretrained(tmp_path)
    assert again.tag == vaas.tag and again.config == vaas.config and again.card["data_seed"] == 5
    assert tag_of(again.encoder, "vision") == tag_of(vaas.encoder, "vision")
    clip = Clip(np.random.default_rng(0).integers(0, 255, (32, 48, 64, 3), dtype=np.uint8), fps=25.0)
    sound = Sound(np.random.default_rng(0).standard_normal(20480) * 0.1, 16000)
    assert again.score(clip, sound) == vaas.score(clip, sound)


def test_other_weights_are_refused(tmp_path):
    vaas = Vaas(TinyVaas(SMALL))
    vaas.save_pretrained(tmp_path / "small")
    config = json.loads((tmp_path / "small" / "config.json").read_text())
    for field, value in (("kind", "vaura"), ("width", 32)):
        (tmp_path / "small" / "config.json").write_text(json.dumps(config | {field: value}))
        with pytest.raises(WeightsError):
            Vaas.from_pretrained(tmp_path / "small")
    with pytest.raises(WeightsError):
        Vaas.from_pretrained("no-such-weights")
    from v2a_nb.models.video_encoders.strike import StrikeVision

    with pytest.raises(WeightsError, match="encoder gives"):
        Vaas(TinyVaas(SMALL), StrikeVision())


def test_training_is_the_same_twice_and_after_a_break(tmp_path):
    clips = easy_clips(8)

    def run(folder, seed=0, **how):
        stage = classifier_stage(clips, clips, steps=6, batch_size=8, config=SMALL, seed=seed)
        return run_stage(stage, tmp_path / folder, **how).net

    whole = run("a")
    run("b", until=3)
    resumed, other = run("b", resume=True), run("c", seed=1)
    assert tag_of(whole, "x") == tag_of(resumed, "x") != tag_of(other, "x")
    pairs = draw_pairs(clips.recording_ids, 8, np.random.default_rng(0))
    assert np.array_equal(scores_of(whole, clips, pairs), scores_of(resumed, clips, pairs))


def test_gain_changes_the_level_and_nothing_else():
    clips = easy_clips(4)
    loud = recipe.batches(clips, 8, 0, noise=0.0, gain_db=6.0)(0)
    same = recipe.batches(clips, 8, 0, noise=0.0, gain_db=0.0)(0)
    assert torch.equal(loud["video"], same["video"]) and torch.equal(loud["label"], same["label"])
    change = (loud["log_mel"] - same["log_mel"])[same["log_mel"] > -4]  # far over the floor a gain is a plain sum
    assert change.abs().max() <= 6.0 * np.log(10) / 10 + 1e-2
    assert change.abs().max() > 0.3


def test_from_nothing_to_weights(tmp_path):
    config = ClipTrainConfig(steps=2, batch_size=8)
    folder = run_recipe(EasyRecipe(config), tmp_path, say=lambda line: None)
    vaas = Vaas.from_pretrained(folder)
    assert vaas.encoder is not None and vaas.card["tolerance_s"] == recipe.TOLERANCE_S
    assert vaas.card["train_config"]["batch_size"] == 8 and vaas.card["steps"] == 2
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert "held_out_accuracy" in log[-1]
    with pytest.raises(V2AError, match="--resume"):  # a run is never overwritten
        run_recipe(EasyRecipe(config), tmp_path, say=lambda line: None)
    again = run_recipe(EasyRecipe(config), tmp_path, resume=True, say=lambda line: None)
    assert Vaas.from_pretrained(again).tag == vaas.tag
    with pytest.raises(V2AError, match="another seed"):
        run_recipe(EasyRecipe(config, seed=1), tmp_path, resume=True, say=lambda line: None)


def test_a_sound_that_ends_before_the_pictures_is_scored():
    class Equal:
        tag = "equal@0000"

        def vectors(self, clip):
            return torch.zeros(clip.n, 4)

        def score(self, vectors, sound):
            return float(sound.duration == pytest.approx(len(vectors) / 10))

    video, sound = Clip(np.zeros((60, 8, 8, 3), np.uint8), fps=10.0), Sound(np.ones(int(5.6 * 16000)), 16000)
    clip = ScoredClip("a", "r", sound, reference=sound, open_video=lambda: video)
    assert VaasMetric(Equal()).score(clip) == {"vaas_acc": 100.0, "vaas_score": 100.0}
