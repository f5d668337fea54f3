"""Features on disk: found by what they are and of what, computed again where they are damaged."""

from __future__ import annotations

import numpy as np
import pytest

from v2a_nb import media
from v2a_nb.cli import main
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import MediaError
from v2a_nb.metrics.av_sim import AvSimMetric
from v2a_nb.metrics.base import ScoredClip
from v2a_nb.metrics.evaluate import evaluate_folder
from v2a_nb.metrics.feature_cache import FeatureCache, digest_of_file, digest_of_sound

RATE = 16000


class Counted:
    """Computes a value, and counts how often."""

    def __init__(self, value):
        self.value, self.times = value, 0

    def __call__(self):
        self.times += 1
        return self.value


@pytest.mark.parametrize(
    "value", [np.arange(6.0).reshape(2, 3), np.zeros((0, 4), np.float32), 2.56, 7, True, (np.arange(3), 25.0), ()]
)
def test_what_was_kept_comes_back_as_it_was(tmp_path, value):
    compute = Counted(value)
    for _ in range(2):
        found = FeatureCache(tmp_path).get("a feature", "0123", compute)
        assert type(found) is type(value)
        for one, two in zip(*((v if isinstance(v, tuple) else (v,)) for v in (found, value)), strict=True):
            assert (
                type(one) is type(two) and np.array_equal(one, two) and np.asarray(one).dtype == np.asarray(two).dtype
            )
    assert compute.times == 1


def test_another_name_or_input_is_another_feature(tmp_path):
    cache, compute = FeatureCache(tmp_path), Counted(1.0)
    for name, digest in (("a", "0"), ("b", "0"), ("a", "1"), ("a", "0")):
        cache.get(name, digest, compute)
    assert compute.times == 3


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut off", b"not an archive at all"])
def test_a_damaged_feature_is_computed_again(tmp_path, damage):
    cache, compute = FeatureCache(tmp_path), Counted(np.ones(3))
    cache.get("a", "0", compute)
    (path,) = tmp_path.rglob("*.npz")
    path.write_bytes(damage)
    for _ in range(2):
        assert np.array_equal(cache.get("a", "0", compute), np.ones(3))
    assert compute.times == 2


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MediaError, match="features cannot be kept there"):
        FeatureCache(tmp_path / "file").get("a", "0", Counted(1.0))


def test_digests_change_with_content_and_rate_alone(tmp_path):
    wave = np.linspace(-0.5, 0.5, 800, dtype=np.float32)
    assert digest_of_sound(Sound(wave, RATE)) == digest_of_sound(Sound(wave.copy(), RATE))
    others = (Sound(wave, 8000), Sound(wave[:-1], RATE), Sound(np.stack([wave, wave]), RATE), Sound(-wave, RATE))
    assert len({digest_of_sound(sound) for sound in (Sound(wave, RATE), *others)}) == 5
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"same")
    two.write_bytes(b"same")
    assert digest_of_file(one) == digest_of_file(two)


def test_features_depend_on_the_clip_that_the_sound_is_fitted_to(tmp_path):
    sound, compute = Sound(np.ones(RATE, np.float32), RATE), Counted(1.0)
    for seconds in (1.0, 2.0, 2.0):
        entry = {"duration_s": seconds, "events": []}
        ScoredClip("a", "r", sound, entry, cache=FeatureCache(tmp_path)).feature("sound", "x", compute)
    assert compute.times == 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    at = tmp_path_factory.mktemp("folder")
    noise = np.random.default_rng(0)
    for k in range(3):
        clip = Clip(noise.integers(0, 255, (25, 48, 48, 3), dtype=np.uint8), fps=10.0)
        media.save_mp4(clip, None, at / "videos" / f"c{k}.mp4")
        for kind in ("made", "true"):
            sound = Sound(0.1 * noise.standard_normal(int(2.5 * RATE)).astype(np.float32), RATE)
            media.save_sound(sound, at / kind / f"c{k}.wav")
    return at


def test_a_second_evaluation_gives_the_same_and_listens_and_looks_no_more(folder, tmp_path, monkeypatch):
    given = (folder / "made", folder / "true", folder / "videos")
    metrics = ["av_sim", "kl", "fad", "av_sync_acc", "vaas_score"]
    plain = evaluate_folder(*given, metrics=metrics)
    first = evaluate_folder(*given, metrics=metrics, cache=tmp_path / "cache")
    assert first.to_dict(True) == plain.to_dict(True)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npz")}
    assert kept

    def never(*_):
        raise AssertionError("looked or listened again")

    monkeypatch.setattr("v2a_nb.models.av_embedding.AudioVisualEmbedding.look", never)
    monkeypatch.setattr("v2a_nb.models.av_embedding.AudioVisualEmbedding.listen", never)
    monkeypatch.setattr("v2a_nb.metrics.embeddings.StrikeMaterialTags.logits", never)
    again = evaluate_folder(*given, metrics=metrics, cache=tmp_path / "cache")
    assert again.to_dict(True) == plain.to_dict(True)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npz")} == kept


def test_an_evaluation_that_was_stopped_is_taken_up(folder, tmp_path, monkeypatch):
    score, calls = AvSimMetric.score, []

    def stopped(self, clip):
        calls.append(clip.id)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return score(self, clip)

    words = ["evaluate", "--generated", str(folder / "made"), "--videos", str(folder / "videos"), "--metrics", "av_sim"]
    words += ["--cache", str(tmp_path / "cache"), "--json", str(tmp_path / "scores.json")]
    monkeypatch.setattr(AvSimMetric, "score", stopped)
    assert main(words) != 0
    before = set((tmp_path / "cache").rglob("*.npz"))
    assert before and not (tmp_path / "scores.json").exists()
    monkeypatch.setattr(AvSimMetric, "score", score)
    assert main(words) == 0 and (tmp_path / "scores.json").exists()
    assert before < set((tmp_path / "cache").rglob("*.npz"))
