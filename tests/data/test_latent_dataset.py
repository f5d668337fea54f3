"""What the latent-diffusion recipes learn from: images and frame vectors of clips, and what is true of the clips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from feature_parts import small_video

from v2a_nb import media
from v2a_nb.audio.stft_image import STFT_IMAGES
from v2a_nb.data import denoised
from v2a_nb.data.dataset import cut_clips, cut_sounds
from v2a_nb.data.features import FeatureStore
from v2a_nb.data.latent_dataset import (
    SECONDS,
    FrameVectors,
    SpectrogramImages,
    batches,
    in_turns,
    latent_cut,
    true_onsets,
    true_sounds,
)
from v2a_nb.data.recordings import StrikeRecordings
from v2a_nb.data.sources import open_recordings
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import tag_of
from v2a_nb.models.video_encoders.strike import StrikeVision
from v2a_nb.world.dataset import Settings, Take
from v2a_nb.world.recording import draw

WORLD = StrikeRecordings(1000)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return FeatureStore(tmp_path_factory.mktemp("store"), workers=1)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    torch.manual_seed(0)
    return str(StrikeVision().save_pretrained(tmp_path_factory.mktemp("encoder")))


def tag(encoder: str) -> str:
    return tag_of(StrikeVision.from_pretrained(encoder), "vision")


def test_clips_are_of_the_world_with_their_truth(store):
    table = cut_clips(WORLD, latent_cut(2))
    clips, stft = store.compute(table, WORLD, SpectrogramImages()), STFT_IMAGES["tiny"]
    assert clips["images"].shape == (8, 1, 64, 512) and clips["images"].dtype == np.float16
    which = np.array([1, 6])
    for i, wave, onsets in zip(which, true_sounds(clips, which, 16000), true_onsets(clips, which), strict=True):
        take = Take(draw(1000, table[int(i)]["recording"]), Settings(SECONDS, 64))
        clip = take.clip(table[int(i)]["start"] / 16000, "x")
        assert np.array_equal(wave, clip.stems["mix"].samples[0])
        assert table[int(i)]["text"] == clip.narration
        assert np.allclose(onsets, [e["time_s"] for e in clip.truth["events"] if e["sounding"]])
        assert np.abs(clips["images"][i] - stft.to_image(torch.from_numpy(wave[None]))[0].numpy()).max() < 1e-3


def test_vectors_are_what_generation_will_see(store, encoder):
    table = cut_clips(WORLD, latent_cut(1, first=20000))
    vectors = store.compute(table, WORLD, FrameVectors(encoder, tag(encoder)))["vectors"]
    clip = Take(draw(1000, 20000), Settings(SECONDS, 64)).clip(table[2]["start"] / 16000, "x").clip
    assert np.abs(vectors[2] - StrikeVision.from_pretrained(encoder).features(clip).numpy()).max() < 5e-3
    slow = store.compute(table, WORLD, FrameVectors(encoder, tag(encoder), fps=4.0))["vectors"]
    wanted = StrikeVision.from_pretrained(encoder).features(clip.at_fps(4.0))
    assert np.abs(slow[2] - wanted.numpy()).max() < 5e-3 and not np.array_equal(slow[2], vectors[2])


def test_vectors_hang_on_the_encoders_weights_and_not_on_its_folder():
    here, there, other = FrameVectors("here", "a"), FrameVectors("there", "a"), FrameVectors("here", "b")
    assert here.revision() == there.revision() != other.revision()


def test_vectors_of_another_encoder_are_not_kept_under_this_ones_tag(encoder):
    with pytest.raises(WeightsError, match="strike is vision@c329, and features of vision@0000 are wanted"):
        FrameVectors("strike", "vision@0000").extract(WORLD.open(0), [0])


def test_clips_of_files_are_what_their_players_show(store, encoder, tmp_path):
    path = small_video(tmp_path / "a.mp4", 5.2, seed=3)
    recordings = open_recordings(path.parent)
    table = cut_clips(recordings, replace(latent_cut(9), seconds=2.56))
    assert len(table) == 4 and table["start"] == sorted(table["start"])
    clips = store.compute(table, recordings, SpectrogramImages(seconds=2.56))
    clips = clips.with_arrays(store.compute(table, recordings, FrameVectors(encoder, tag(encoder), seconds=2.56)))
    assert clips["images"].shape == (4, 1, 64, 256) and clips["vectors"].shape == (4, 128, 384)
    start, part = table[1]["start_s"], media.open(path, start=table[1]["start_s"], duration=2.56)
    assert np.abs(true_sounds(clips, np.array([1]), 16000)[0] - part.sound.samples[0][:40960]).max() < 0.02
    onsets = true_onsets(clips, np.array([1]))[0]
    first = np.argmax(np.abs(part.sound.samples[0]) > 0.1) / 16000
    assert np.abs(onsets - first).min() < 0.03 and (onsets < 2.56).all(), start


def test_sounds_that_end_sooner_are_followed_by_silence():
    recording = WORLD.open(3)
    length = len(recording.wave(16000))
    sounds = cut_sounds(recording, [0, length - 1000], 0.1, 16000)
    assert sounds.shape == (2, 1600) and sounds.dtype == np.float32
    assert np.array_equal(sounds[1, :1000], recording.wave(16000)[-1000:]) and not sounds[1, 1000:].any()


def test_denoised_images_are_of_denoised_sounds(store, monkeypatch):
    monkeypatch.setattr(denoised, "denoise", lambda waves, rate: (np.abs(waves) > 0.05) * waves)
    table = cut_clips(WORLD, latent_cut(1))
    plain = store.compute(table, WORLD, SpectrogramImages())
    clips = store.compute(table, WORLD, denoised.DenoisedImages())
    wave = true_sounds(clips, np.array([2]), 16000)
    wanted = STFT_IMAGES["tiny"].to_image(torch.from_numpy((np.abs(wave) > 0.05) * wave)).numpy()
    assert np.abs(clips["images"][2] - wanted[0]).max() < 1e-3
    assert clips.key != plain.key and not np.array_equal(clips["images"][2], plain["images"][2])


def test_groups_take_turns():
    groups = np.array([7, 7, 7, 1, 1, 1, 2, 2, 4])
    assert groups[in_turns(groups)].tolist() == [7, 1, 2, 4, 7, 1, 2, 7, 1]
    assert in_turns(np.array([3, 1, 3, 1])).tolist() == [0, 1, 2, 3]


def test_batches_are_functions_of_their_number():
    arrays = {"images": np.random.default_rng(0).standard_normal((6, 1, 4, 32)), "vectors": np.zeros((6, 8, 3))}
    of = batches(arrays, 4, seed=0, stage=1, crop=8)
    a, b, c = of(3), of(3), of(4)
    assert torch.equal(a["images"], b["images"]) and not torch.equal(a["images"], c["images"])
    assert a["images"].shape == (4, 1, 4, 8)
    assert a["vectors"].std() == pytest.approx(0.1, abs=0.03)
    drawn = torch.cat([batches(arrays, 4, 0, 1)(number)["images"] for number in range(50)])
    assert all((drawn == torch.from_numpy(x).float()).flatten(1).all(1).any() for x in arrays["images"])
    assert not torch.equal(batches(arrays, 4, 0, 2)(3)["images"], batches(arrays, 4, 0, 1)(3)["images"])


def test_loud_clips_can_be_chosen():
    every, cut = cut_clips(WORLD, latent_cut(2)), replace(latent_cut(2), min_rms_dbfs=-60.0)
    loud = cut_clips(WORLD, cut)
    assert len(loud) == len(every) and list(loud["start"]) != list(every["start"])
    for clip in loud:
        wave = cut_sounds(WORLD.open(clip["recording"]), [clip["start"]], SECONDS, 16000)
        assert 10 * np.log10(np.mean(wave.astype(np.float64) ** 2)) > -60
    same = np.diff(loud["recording"]) == 0
    assert (np.diff(loud["start"])[same] >= round(SECONDS * 16000)).all()
    with pytest.raises(UsageError, match="above 0 dBFS"):
        cut_clips(WORLD, replace(latent_cut(1), min_rms_dbfs=0.0))
