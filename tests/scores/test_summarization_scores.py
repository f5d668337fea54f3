"""A system's sounds for the summarizer: what it is given, what becomes of it, and which features are refused."""

from __future__ import annotations

import numpy as np
import pytest

from v2a_nb.clip import Clip, Sound
from v2a_nb.data.clip_features import compute_clip_features
from v2a_nb.data.features import FeatureStore
from v2a_nb.data.recordings import StrikeRecordings
from v2a_nb.errors import UsageError
from v2a_nb.metrics.summarization.metric import Summarizer, codec_vectors
from v2a_nb.models.tiny_codec import TinyCodec
from v2a_nb.scores import summarization
from v2a_nb.scores.summarization import sounds_of_system


class Tone:
    """A system whose sound is a tone."""

    def __init__(self):
        self.clips: list[Clip] = []

    def generate(self, clip, seed):
        assert clip.sound is None and seed == 3
        self.clips.append(clip)
        return Sound(0.1 * np.sin(np.arange(round(clip.duration * 16000)) * 0.3), 16000)


def test_a_system_s_sounds_become_vectors():
    codec = TinyCodec().eval()
    clips = [Clip(np.zeros((16, 8, 8, 3), np.uint8)) for _ in range(4)]
    vectors, sounds = sounds_of_system(Tone(), clips, codec, seed=3)
    assert vectors[0].shape == (32, 32) and sounds[0].duration == pytest.approx(0.64) and len(vectors) == 4
    assert np.array_equal(vectors[0], codec_vectors(codec, sounds[0]))


def test_a_system_stands_beside_the_true_sounds(tmp_path, monkeypatch):
    tone = Tone()
    monkeypatch.setattr(summarization, "load", lambda name: tone)
    clips = compute_clip_features(FeatureStore(tmp_path, workers=1), StrikeRecordings(7), count=2)
    model = Summarizer.from_pretrained("summary")
    rows = summarization.measure(model, clips, ["tone"], seed=3)
    subjects = list(dict.fromkeys(row.subject for row in rows))
    assert subjects == ["mean predictor", "none", "shuffled", "true", "tone"]
    assert len(tone.clips) == rows[0].n == 4 and tone.clips[0].frames.shape == (64, 112, 112, 3)
    model.card["encoder"] = "vision@0000"
    with pytest.raises(UsageError, match="reads features of vision@0000"):
        summarization.measure(model, clips, [])
