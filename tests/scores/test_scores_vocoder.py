"""The score of a vocoder: distances that know the same from the other, and Griffin-Lim beside it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from v2a_nb.models.codec_report import stft_distance
from v2a_nb.models.vocoder import GriffinLimVocoder, Vocoder, VocoderConfig
from v2a_nb.scores.vocoder import REFERENCE, TITLE, TRUE, measure
from v2a_nb.world import sounds

SMALL = VocoderConfig(channels=16, block_kernels=(3,), block_dilations=((1,),), match=4)


def test_distances_know_the_same_from_the_other():
    wave = torch.from_numpy(sounds(5, 3, seconds=1.0))
    assert torch.equal(stft_distance(wave, wave), torch.zeros(3))
    nearer, further = (stft_distance(wave * gain, wave) for gain in (0.9, 0.5))
    assert nearer.shape == (3,) and (nearer > 0).all() and (nearer < further).all()
    noise = 0.1 * torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))
    half = stft_distance(0.5 * noise, noise)
    assert half.item() == pytest.approx(0.5 + np.log(2), abs=1e-3)  # convergence 0.5, log distance log 2


def test_griffin_lim_stands_beside_the_vocoder_and_the_true_sounds(monkeypatch):
    inverted, decode = Counter(), GriffinLimVocoder.decode

    def counted(self, *how):
        inverted[self.iterations] += 1
        return decode(self, *how)

    class Perfect(Vocoder):
        """Griffin-Lim with more iterations, in the place of a vocoder that is better than Griffin-Lim."""

        def decode(self, spectrogram, num_samples=None):
            return decode(GriffinLimVocoder(iterations=90, method="nnls"), spectrogram, num_samples)

    monkeypatch.setattr(GriffinLimVocoder, "decode", counted)
    rows = {(row.metric, row.subject): row for row in measure(Perfect(SMALL), 4)}
    assert rows["mel_distance", TRUE].value == rows["stft_distance", TRUE].value == 0
    subjects = (TITLE, REFERENCE, "Griffin-Lim, 32 iterations")
    better, sixty, thirty = (rows["mel_distance", subject].value for subject in subjects)
    assert 0 < better < sixty < thirty
    assert rows["nearer_than_griffin_lim", TITLE].value > 0.7
    for subject in (TRUE, *subjects, "vocoder, mels not matched"):
        for metric in ("mel_distance", "stft_distance", "onset_f1_50ms"):
            row = rows[metric, subject]
            assert row.low <= row.value <= row.high, (metric, subject)
        assert (("cpu_s", subject) in rows) == (subject != TRUE)
    assert inverted == {60: 1, 32: 1}
