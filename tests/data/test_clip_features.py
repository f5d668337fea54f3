"""Clip features: what they hold, that they are computed once, shifts, and which recordings are held out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from clip_parts import in_memory
from feature_parts import small_video

from v2a_nb.audio.onsets import log_mel
from v2a_nb.data.clip_features import ClipFeatureExtractor, ClipFeatures, compute_clip_features, load_encoder, with_gain
from v2a_nb.data.features import FeatureStore
from v2a_nb.data.recordings import StrikeRecordings
from v2a_nb.data.sources import open_recordings
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import SHIPPED, tag_of
from v2a_nb.models.tiny_codec import TinyCodec
from v2a_nb.models.video_encoders.registry import load_video_encoder
from v2a_nb.models.video_encoders.strike import StrikeVision
from v2a_nb.world.dataset import Settings, Take
from v2a_nb.world.recording import draw

WORLD = StrikeRecordings(6000)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """An encoder and a codec that know nothing."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    StrikeVision().eval().save_pretrained(folder / "vision")
    TinyCodec().eval().save_pretrained(folder / "codec")
    return {"encoder": folder / "vision", "codec": folder / "codec"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return FeatureStore(tmp_path_factory.mktemp("store"), workers=1)


@pytest.fixture(scope="module")
def clips(store, weights):
    return compute_clip_features(store, WORLD, count=4, **weights)


def columns(n: int = 2) -> ClipFeatures:
    """Clips whose log-mel holds in each column its number; fp16 counts exactly up to 2048."""
    mels = np.tile(np.arange(1056, dtype=np.float16), (n, 40, 1))
    return in_memory(np.arange(n), video=np.zeros((n, 64, 2), np.float16), log_mel=mels)


def test_features_are_those_of_the_world_s_own_clips(clips, weights):
    assert clips["video"].shape == (8, 128, 384) and clips["log_mel"].shape == (8, 40, 1312)
    assert clips["latents"].shape == (8, 32, 128) and clips.recording_ids.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert clips.seconds == pytest.approx(2.56) and clips.margin_s == pytest.approx(2.0)
    start_s = clips.column("start_s")[3]
    item = Take(draw(6000, 1), Settings(seconds=2.56, size=64)).clip(start_s, "x")
    seen = load_encoder(weights["encoder"]).features(item.clip)
    assert (clips.video_embeddings([3])[0] - seen).abs().max() < 0.02  # kept in half precision
    wave = item.stems["mix"].samples[0]
    # a cut sound has no past and no future: what its first and last window say differs
    assert np.allclose(clips.log_mels([3])[0][:, 8:-8], log_mel(wave)[:, 8:504], atol=0.02)
    latents = TinyCodec.from_pretrained(weights["codec"]).latents(torch.tensor(wave[None]))[0]
    assert np.abs(clips["latents"][3] - latents.detach().numpy()).max() < 0.02
    assert clips.column("text")[3] == item.narration


def test_they_are_computed_once_and_never_mixed_with_those_of_other_weights(
    clips, store, weights, monkeypatch, tmp_path
):
    torch.manual_seed(1)
    StrikeVision().eval().save_pretrained(tmp_path / "other")
    monkeypatch.setattr(ClipFeatureExtractor, "extract", None)  # nothing can be computed any more
    again = compute_clip_features(store, WORLD, count=4, **weights)
    assert np.array_equal(again["video"][:], clips["video"][:]) and again.key == clips.key
    for other in ({**weights, "encoder": tmp_path / "other"}, {**weights, "codec": "codec"}):
        with pytest.raises(TypeError):
            compute_clip_features(store, WORLD, count=4, **other)
    with pytest.raises(TypeError):
        compute_clip_features(store, StrikeRecordings(6001), count=4, **weights)


def test_the_frozen_encoder_of_a_system_is_found(weights):
    for name in ("vaura", "strike_wide", SHIPPED / "vaura", SHIPPED / "vaura" / "vision"):
        assert tag_of(load_encoder(name), "vision") == tag_of(load_video_encoder(name), "vision") == "vision@dd2e"
    with pytest.raises(WeightsError, match="cavp is a AudioVisualFrames: encoders of Strike World are read here"):
        load_encoder("cavp")
    with pytest.raises(WeightsError):
        load_encoder("no-such-weights")
    with pytest.raises(WeightsError):
        load_encoder(weights["codec"])


def test_a_late_sound_is_one_read_earlier():
    clips = columns()
    assert clips.log_mels([0])[0, 0, 0] == 400
    late = clips.log_mels([0, 1], -np.array([0.05, -2.0]))
    assert late[0, 0, 0] == 390  # what sounded 50 ms earlier is heard now
    assert late[1, 0, -1] == 1055
    assert clips.log_mels([1], 0.5, 0.25)[0, 0].tolist() == list(range(500, 550))
    for start in (-2.005, 2.005):
        with pytest.raises(UsageError, match="margin"):
            clips.log_mels([0], start)


def test_parts_of_pictures():
    video = np.arange(128, dtype=np.float16).reshape(1, 64, 2).repeat(2, 0)
    clips = in_memory(np.arange(2), video=video, log_mel=np.zeros((2, 40, 256), np.float16))
    assert clips.video_embeddings([1]).shape == (1, 64, 2)
    parts = clips.video_embeddings([0, 1], np.array([0.0, 0.5]), 0.2)
    assert parts[:, :, 0].tolist() == [list(range(0, 20, 2)), list(range(50, 70, 2))]


def test_held_out_recordings_are_never_shared():
    clips = in_memory(np.repeat(np.arange(10), 2), video=np.zeros((20, 2, 2)))
    training, held_out = clips.hold_out(3, of=10)
    assert not set(training.recording_ids) & set(held_out.recording_ids)
    assert (len(training), len(held_out)) == (14, 6) and type(training) is type(clips)
    for wrong in (0, 10):
        with pytest.raises(UsageError, match="held out"):
            clips.split(wrong)


def test_of_fewer_recordings_the_same_share_is_held_out():
    clips = in_memory(np.repeat(np.arange(30), 2), video=np.zeros((60, 2, 2)))
    assert len(np.unique(clips.hold_out(200, of=1000)[1].recording_ids)) == 6
    assert len(np.unique(clips.hold_out(200, of=2000)[1].recording_ids)) == 3
    few = clips.where(slice(0, 8))
    assert [len(part) for part in few.hold_out(200, of=2000)] == [4, 4]
    with pytest.raises(UsageError, match="at least 4 are needed"):
        few.where(slice(0, 6)).hold_out(200, of=2000)


def test_files_of_one_recording_stay_together(tmp_path, weights):
    for i, name in enumerate(("a/1.mp4", "a/2.mp4", "b.mp4", "c.mp4")):
        small_video(tmp_path / "v" / name, 6.8, seed=i)
    table = tmp_path / "v" / "clips.csv"
    table.write_text("video,recording\na/1.mp4,a\na/2.mp4,a\nb.mp4,b\nc.mp4,c\n")
    store = FeatureStore(tmp_path / "store", workers=1)
    clips = compute_clip_features(store, open_recordings(f"csv:{table}"), **weights)
    assert clips.column("name").tolist() == ["a"] * 4 + ["b"] * 2 + ["c"] * 2
    assert clips.recording_ids.tolist() == [0] * 4 + [2] * 2 + [3] * 2
    assert set(clips.split(1)[1].column("name")) == {"c"}
    with pytest.raises(UsageError, match="column text"):
        compute_clip_features(
            FeatureStore(tmp_path / "none"), open_recordings(f"folder:{tmp_path / 'v'}"), described=True, **weights
        )  # fmt: skip
    assert not (tmp_path / "none").exists()  # said before anything is computed


def test_gain_changes_the_power_and_not_its_floor():
    wave = 0.1 * np.random.default_rng(0).standard_normal(16000)
    quiet = torch.from_numpy(log_mel(wave))
    loud = with_gain(quiet, torch.tensor(np.log(4.0)))
    assert (loud - torch.from_numpy(log_mel(2 * wave))).abs().max() < 1e-3
    assert with_gain(torch.full((1,), np.log(1e-5)), torch.tensor(3.0)).item() == pytest.approx(np.log(1e-5), abs=1e-4)
