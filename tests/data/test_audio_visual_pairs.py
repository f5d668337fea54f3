"""Audio-visual pairs: what they hold, where a pool finds their sounds, and how batches are drawn of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from av_parts import easy_pairs
from clip_parts import in_memory
from feature_parts import small_video

from v2a_nb import media
from v2a_nb.audio.onsets import log_mel
from v2a_nb.data.audio_visual_pairs import (
    AudioVisualPairs,
    compute_ambient_levels,
    compute_audio_visual_pairs,
    random_gain,
    relight,
)
from v2a_nb.data.clip_features import ClipFeatureExtractor, compute_clip_features, load_encoder
from v2a_nb.data.features import FeatureStore
from v2a_nb.data.pool import Pool, quiet_dbfs
from v2a_nb.data.recordings import StrikeRecordings
from v2a_nb.data.sources import open_recordings
from v2a_nb.errors import UsageError
from v2a_nb.models.av_embedding import AudioVisualEmbedding
from v2a_nb.world.dataset import Settings, Take
from v2a_nb.world.recording import draw

PLAIN = StrikeRecordings(6000, variety="plain")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return FeatureStore(tmp_path_factory.mktemp("store"), workers=1)


@pytest.fixture(scope="module")
def pairs(store) -> AudioVisualPairs:
    return compute_audio_visual_pairs(store, PLAIN, count=2)


def test_pairs_are_clips_of_the_world(pairs, store):
    assert pairs["thumbnail"].shape == (4, 8, 8, 3)
    one = pairs.where(np.array([2]))
    recording = draw(6000, 1, variety="plain")
    item = Take(recording, Settings(seconds=2.56, size=64)).clip(one.column("start_s")[0], "x")
    embeddings, thumbnails = AudioVisualEmbedding(frame_encoder=load_encoder("strike_vision")).windows(
        item.clip.silent()
    )
    assert (one.video_inputs([0])[0] - embeddings).abs().max() < 0.02  # kept in half precision
    assert torch.equal(one.video_inputs([0])[1], thumbnails)
    assert torch.equal(one.audio_inputs([0]), one.log_mels([0]).transpose(1, 2))
    wave = item.stems["mix"].samples
    assert compute_ambient_levels(store, one) == pytest.approx(quiet_dbfs(wave[0], 16000), abs=1e-4)
    assert one.ambiences().tolist() == [recording.ambience]
    pool = Pool(np.ones((1, 4)), np.ones((1, 4)), one.sources(), [0.0])
    assert np.array_equal(pool.sound(0).samples, wave)  # of a plain world, too


def test_they_share_the_clip_features_of_other_recipes(pairs, store, monkeypatch):
    monkeypatch.setattr(ClipFeatureExtractor, "extract", None)  # nothing can be computed any more
    again = compute_audio_visual_pairs(store, PLAIN, count=2)
    assert np.array_equal(again["thumbnail"][:], pairs["thumbnail"][:]) and again.key == pairs.key
    assert np.array_equal(compute_clip_features(store, PLAIN, count=2)["video"][:], pairs["video"][:])


def test_sounds_of_files_are_found_again(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        small_video(tmp_path / name, 10.0, seed=len(name))
    (tmp_path / "clips.csv").write_text("video,start_s,duration_s\na.mp4,1.5,7\nb.mp4,,\n")
    recordings = open_recordings(f"csv:{tmp_path / 'clips.csv'}")
    pairs = compute_audio_visual_pairs(FeatureStore(tmp_path / "store", workers=1), recordings)
    sources = pairs.sources()
    pool = Pool(np.ones((4, 4)), np.ones((4, 4)), sources, [0.0] * 4)
    whole = media.open(tmp_path / "a.mp4").sound.mono().samples[0]
    start = round(16000 * sources[0].start_s)
    assert sources[0].start_s == pytest.approx(1.5 + pairs.column("start_s")[0])
    assert np.corrcoef(pool.sound(0).samples[0], whole[start : start + 40960])[0, 1] > 0.99
    assert not recordings.known_ambience and pool.sound(3).n == 40960


def test_clips_of_different_recordings_are_drawn():
    pairs, rng = easy_pairs(20), np.random.default_rng(0)
    which = pairs.draw(12, 2, rng)
    assert len(set(pairs.recording_ids[which])) == 12 and len(set(which)) == 24
    assert np.array_equal(pairs.recording_ids[which[:12]], pairs.recording_ids[which[12:]])
    mixed = in_memory(np.array([1, 0, 1, 2, 0, 2]), view=AudioVisualPairs, video=np.zeros((6, 75, 4)))
    for _ in range(20):  # clips of one recording need not lie side by side
        which = mixed.draw(3, 2, rng)
        assert np.array_equal(mixed.recording_ids[which[:3]], mixed.recording_ids[which[3:]]) and len(set(which)) == 6
    for size, each in ((21, 1), (2, 3), (0, 1)):
        with pytest.raises(UsageError, match="cannot be drawn"):
            pairs.draw(size, each, rng)


def test_parts_of_clips(pairs):
    rng = np.random.default_rng(0)
    assert easy_pairs(2).draw_part(3, rng)[1] == pytest.approx(1.5)  # shorter than the least: whole
    for _ in range(8):
        start, seconds = pairs.draw_part(50, rng)
        assert 2.0 - 1e-9 <= seconds <= 2.56 + 1e-9 and np.allclose(start * 50, np.round(start * 50))
        assert (start >= 0).all() and (start + seconds <= 2.56 + 1e-9).all()
        assert pairs.video_inputs(np.zeros(50, int), start, seconds)[0].shape[1] == round(seconds * 50)


def test_another_light_is_the_same_place():
    plain = torch.from_numpy(easy_pairs(30)["thumbnail"][:])
    lit = relight(plain, np.random.default_rng(0))
    away = lit - plain.float() / 255
    assert 0.005 < away.abs().mean() < 0.06 and lit.min() >= 0 and lit.max() <= 1
    assert away.mean((1, 2)).std() > 0.02 and torch.equal(lit, relight(plain, np.random.default_rng(0)))


def test_random_gain_is_in_decibels():
    wave = 0.1 * np.random.default_rng(0).standard_normal(16000)
    mel = torch.from_numpy(log_mel(wave).T.copy())
    louder = random_gain(mel.repeat(32, 1, 1), np.random.default_rng(0))
    gain = (louder - mel).flatten(1).median(1)[0] * 10 / np.log(10)
    assert -6 <= gain.min() < -3 and 3 < gain.max() <= 6.01
    i = int(gain.argmax())
    true = torch.from_numpy(log_mel(wave * 10 ** (gain[i].item() / 20)).T.copy())
    assert (louder[i] - true).abs().median() < 0.01 and louder.min() >= np.log(1e-5) - 1e-5


def test_the_easy_pairs_are_what_they_say():
    pairs = easy_pairs(4)
    video, thumbnail = pairs.video_inputs([0])
    assert (
        video.shape == (1, 75, 384)
        and thumbnail.shape == (1, 8, 8, 3)
        and pairs.audio_inputs([0]).shape == (1, 300, 40)
    )
    row = int(np.argmax(video[0].amax(0)[:32].numpy().reshape(4, 8).mean(1)))
    loud = video[0, :, 8 * row] > 1
    heard = pairs.audio_inputs([0])[0, ::4, 10 * row] > -5
    assert (loud & ~heard).sum() == 0 and loud.any()  # what is seen is heard at that moment
