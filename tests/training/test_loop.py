"""The loop: learns, resumes to the byte, refuses nonsense; recipes put every module in the optimizer."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from v2a_nb.audio import targets
from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError, V2AError
from v2a_nb.media import open_sound
from v2a_nb.models.video_encoders.event_crop import Glimpse
from v2a_nb.models.video_encoders.strike import StrikeVision, VisionConfig
from v2a_nb.systems.vaura.model import PRESETS, VAuraDecoder
from v2a_nb.systems.vaura.train import DecoderTraining, batches, frame_weights, train_decoder, world_arrays
from v2a_nb.training import loop
from v2a_nb.training.loop import OptimConfig, fit
from v2a_nb.training.recipes.codec import CodecTraining, Cycle, train_codec
from v2a_nb.training.recipes.event_crop import BELOW, calibrate, train_event_crop
from v2a_nb.training.recipes.video_encoder import Pretraining
from v2a_nb.training.registry import train
from v2a_nb.world import arrays, sounds


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.2), nn.Linear(8, 1))

    def forward(self, batch):
        return {"loss": (self.layer(batch["x"])[:, 0] - batch["y"]).square().mean()}


def line_batch(step):
    x = torch.from_numpy(np.random.default_rng(step).standard_normal((32, 2), dtype=np.float32))
    return {"x": x, "y": x[:, 0] - 2 * x[:, 1]}


def test_resumed_run_equals_the_run_that_was_not_killed(tmp_path):
    plan = OptimConfig(steps=40, lr=1e-2, warmup=5, save_every=10, log_every=5)
    whole = fit(Line(), line_batch, plan, tmp_path / "a")
    fit(Line(), line_batch, plan, tmp_path / "b", until=20)
    with (tmp_path / "b" / "log.jsonl").open("a") as log:  # written after the saved state, then killed
        log.write(json.dumps({"step": 25, "loss": 9.0}) + "\n" + '{"step": 30, "lo')
    resumed = fit(Line(), line_batch, plan, tmp_path / "b", resume=True)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    logs = [[json.loads(line) for line in (tmp_path / f / "log.jsonl").read_text().splitlines()] for f in "ab"]
    assert [(x["step"], x["loss"]) for x in logs[0]] == [(x["step"], x["loss"]) for x in logs[1]]
    assert logs[0][-1]["loss"] < 0.6 * logs[0][0]["loss"]


def test_the_run_says_how_long_it_is_and_keeps_what_was_listened_to(tmp_path):
    def eval_fn(step, module):
        assert not module.training
        return {"score": step / 10, "sample": Sound(np.full(800, step / 100, np.float32), 8000)}

    fit(Line(), line_batch, OptimConfig(steps=20, log_every=100), tmp_path, eval_fn=eval_fn, eval_every=8)
    assert json.loads((tmp_path / "plan.json").read_text())["last"] == 20
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == ["16.wav", "20.wav", "8.wav"]
    assert open_sound(tmp_path / "samples" / "16.wav").peak == pytest.approx(0.16, abs=1e-3)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [x["step"] for x in log] == [8, 16, 20] and log[0]["score"] == 0.8 and "sample" not in log[0]


class Watched(Line):
    """Says in which precision its layers computed."""

    def forward(self, batch):
        self.computed = self.layer(batch["x"]).dtype
        return super().forward(batch)


@pytest.mark.parametrize("has", [True, False])
def test_bfloat16_is_for_processors_that_have_it_and_for_computing_only(has, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_has_bf16", lambda device: has)
    trained = {}
    for bf16 in (True, False):
        plan = OptimConfig(steps=40, lr=1e-2, warmup=5, log_every=5, bf16=bf16)
        trained[bf16] = fit(Watched(), line_batch, plan, tmp_path / str(bf16))
    assert trained[False].computed == torch.float32
    assert trained[True].computed == (torch.bfloat16 if has else torch.float32)
    assert all(p.dtype == torch.float32 for p in trained[True].parameters())
    pairs = list(zip(*(m.parameters() for m in trained.values()), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs) == (not has)
    assert all(torch.allclose(a, b, atol=0.1) for a, b in pairs)  # and it learns the same


def test_a_loss_that_is_not_a_number_stops_the_run(tmp_path):
    class Bad(Line):
        def forward(self, batch):
            return {"loss": super().forward(batch)["loss"] * float("nan")}

    with pytest.raises(V2AError, match="step 0"):
        fit(Bad(), line_batch, OptimConfig(steps=2), tmp_path)


def test_rate_warms_up_and_falls():
    plan = OptimConfig(steps=100, lr=1.0, warmup=10, final_lr=0.1)
    rates = [plan.rate(s) for s in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)


def test_codec_recipe_starts_its_codebooks_from_the_data(tmp_path):
    torch.manual_seed(0)
    waves = sounds(1, 12, seconds=1.5)
    codec = train_codec(waves, tmp_path, cycles=(Cycle(8, 1e-3), Cycle(2, 1e-4, tonal=0.3)), batch_size=4)
    codes = codec.encode(torch.from_numpy(waves))
    assert codes.shape == (12, 4, 75)
    assert len(codes[:, 0].unique()) > 20  # quantizing from the first step leaves one to seventeen


def test_every_codec_parameter_gets_a_gradient():
    module = CodecTraining()
    wave = torch.from_numpy(sounds(1, 2, seconds=1.28))
    module.tonal = 0.3
    module({"wave": wave, "quantize": torch.tensor(True)})["loss"].backward()
    assert [n for n, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum()] == []


def test_every_pretraining_parameter_but_the_glimpse_gets_a_gradient():
    module = Pretraining()
    frames, waves = arrays(1, 2)
    batch = {
        "frames": torch.from_numpy(frames).permute(0, 1, 4, 2, 3).float() / 255,
        "mel": targets.log_mel(torch.from_numpy(waves)),
    }
    module(batch)["loss"].backward()
    bare = {n for n, p in module.named_parameters() if p.grad is None}
    assert bare == {n for n, _ in module.named_parameters() if "glimpse" in n}


def test_glimpse_recipe_touches_only_the_glimpse(tmp_path):
    torch.manual_seed(0)
    encoder = StrikeVision()
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (4, 20, 64, 64, 3), dtype=np.uint8)
    examples = {
        "clip": rng.integers(0, 4, 40).astype(np.int32),
        "frame": np.tile(np.arange(5, dtype=np.int16), (40, 1)),
        "place": rng.uniform(0, 64, (40, 2)).astype(np.float32),
        "context": rng.standard_normal((40, encoder.glimpse.context_dim)).astype(np.float16),
        "sounded": np.tile([0.0, 1.0], 20).astype(np.float16),
        "colour": rng.standard_normal((40, 80)).astype(np.float16),
    }
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    train_event_crop(encoder, frames, examples, tmp_path, steps=3, batch_size=8)
    changed = {k.split(".")[0] for k, v in encoder.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"glimpse"}


class Follower:
    """An encoder whose heads attend near a square that flashes, one of them always by the same distance."""

    def __init__(self):
        self.config = VisionConfig()
        self.glimpse = Glimpse(self.config.glimpse, self.config.when_dim)

    def streams(self, pictures):
        b, t = pictures.shape[:2]
        change = pictures[:, 1:] - pictures[:, :-1]
        energy = F.pad(change.square().flatten(2).sum(2), (1, 0))  # [B, T]: the flux hangs on what flashes
        when = energy.repeat_interleave(2, 1)[..., None]
        rng = np.random.default_rng(0)
        line = torch.arange(8) * 8 + 4.0
        heads = []
        for clip in pictures.detach():
            y, x = (v.float().mean() for v in (clip[-1, 0] > 0.8).nonzero().T)
            away = [(9.0, -6.0), *rng.uniform(-20, 20, (3, 2))][::-1]  # the last head is the steady one
            maps = [torch.exp(-((line - y - a[1])[:, None] ** 2 + (line - x - a[0]) ** 2) / 60) for a in away]
            heads.append(torch.stack([m / m.sum() for m in maps]))
        return when, None, torch.stack(heads)[:, None].expand(b, t, -1, -1, -1)

    def flux(self, when):
        moment = torch.tensor([0.0, 1.0, 0.0, 0.0] + [0.0] * 8)
        return when * moment - 4


def test_calibration_finds_the_steady_head_and_its_distance_without_labels():
    rng = np.random.default_rng(1)
    frames = np.full((16, 20, 64, 64, 3), 60, np.uint8)
    for clip in frames:
        x, y = rng.integers(20, 44, 2)
        clip[9:, y : y + 5, x : x + 5] = 255
    found = calibrate(Follower(), frames)
    assert found.head == 3
    assert abs(found.shift_x + 9) < 2 and abs(found.shift_y - (6 + BELOW)) < 2
    with pytest.raises(V2AError, match="nowhere"):
        calibrate(Follower(), frames[:, :5])


def test_decoder_starts_at_ln_256_and_learns(tmp_path):
    rng = np.random.default_rng(0)
    tokens = {
        "codes": np.repeat(rng.integers(0, 256, (8, 4, 1)), 128, axis=2).astype(np.uint8),
        "visual": rng.standard_normal((8, 128, 384)).astype(np.float16),
        "flux": np.zeros((8, 128), np.float16),
    }
    torch.manual_seed(0)
    fresh = {name: p.detach().clone() for name, p in DecoderTraining(VAuraDecoder(PRESETS["tiny"])).named_parameters()}
    start = DecoderTraining(VAuraDecoder(PRESETS["tiny"]))(batches(tokens, 4, seed=0)(0))
    assert start["ce"].item() == pytest.approx(np.log(256), abs=0.05)
    decoder = train_decoder(tokens, tmp_path, steps=20, batch_size=4)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log[-1]["ce"] < np.log(256) - 0.3
    trained = dict(DecoderTraining(decoder).named_parameters())
    assert trained.keys() == fresh.keys() and not [k for k, p in trained.items() if torch.equal(p.cpu(), fresh[k])]


def test_frame_weights_hold_from_one_before_to_six_after():
    flux = torch.zeros(1, 20)
    flux[0, 8] = 1.0
    weights = frame_weights(flux)[0]
    assert weights.tolist() == [1.0] * 7 + [5.0] * 8 + [1.0] * 5


def test_targets_stand_where_the_hit_is():
    wave = torch.zeros(1, 40960)
    t = torch.arange(4000) / 16000
    wave[0, 16000:20000] = 0.5 * torch.sin(2 * torch.pi * 900 * t) * torch.exp(-t * 20)
    wave += 1e-4 * torch.randn(1, 40960, generator=torch.Generator().manual_seed(0))
    sharp, _ = targets.flux_target(targets.log_mel(wave))
    fine = sharp.flatten(1)[0]
    assert abs(int(fine.argmax()) - 200) <= 2
    assert fine[:150].max() < 0.1 and fine[260:].max() < 0.1


def test_recipes_refuse_what_they_cannot_make(tmp_path):
    with pytest.raises(UsageError, match="no recipe"):
        train("nothing", out=tmp_path)
    with pytest.raises(UsageError, match="preset"):
        train("vaura", preset="paper", out=tmp_path)
    with pytest.raises(UsageError, match="at least one step"):
        train("vaura", steps=0, out=tmp_path)


def test_the_world_is_rendered_once_and_from_the_clip_that_was_asked_for(tmp_path):
    frames, waves = world_arrays(tmp_path, 4, seed=9, first=6)
    seen, heard = arrays(9, 4, first=3)  # two clips of a recording: clip 6 is the first of recording 3
    assert np.array_equal(frames, seen) and np.array_equal(waves, heard)
    before = (tmp_path / "frames.npy").stat().st_mtime_ns
    world_arrays(tmp_path, 4, seed=9, first=6)
    assert (tmp_path / "frames.npy").stat().st_mtime_ns == before
    others, _ = world_arrays(tmp_path, 4, seed=9, first=0)
    assert not np.array_equal(others, seen)
