"""Taggers: what a sound holds, as probabilities by name. Curation removes what is heard but not seen.

A tagger is any function from a :class:`~v2a_nb.clip.Sound` to ``{"name": probability}``. Action2Sound used "an
off-the-shelf audio tagging tool" that neither its paper (section 7.3) nor its code names. The columns of its CSV
are called as AudioSet's classes are, so :class:`AudioSetTagger` takes a transformer trained on AudioSet.
:func:`offscreen_tagger` needs no weights and knows Strike World, whose off-screen sounds swell where contacts
start at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from v2a_nb.audio.onsets import SAMPLE_RATE, detect_onsets
from v2a_nb.clip import Sound
from v2a_nb.errors import WeightsError

Tagger = Callable[[Sound], Mapping[str, float]]

AUDIOSET = {
    "speech": ("Speech",),
    "background_music": ("Background music", "Music"),
    "traffic_noise": ("Traffic noise, roadway noise",),
    "wind_noise": ("Wind noise (microphone)",),
}
"""Columns of Ego4D-Sounds, and the AudioSet classes that each is taken from: the likeliest counts."""
AST_ID = "MIT/ast-finetuned-audioset-10-10-0.4593"

FRAME, HOP = 512, 256  # 32 and 16 ms at 16 kHz
SMOOTH = 5
OVER = 4.0
"""A frame stands out where its power is over this many times the quiet level (6 dB)."""
LEAST = 8
"""Fewer frames than this are a fluctuation of the ambience."""


def offscreen_tagger(sound: Sound) -> dict[str, float]:
    """Whether a sound is solely off-screen, as Strike World knows it: ``{"offscreen": 0 to 1}``.

    A contact starts at once and dies away; a call or a passing tone swells. Where an onset is found there was a
    contact: 0. Where nothing stands out of the ambience there is nothing to judge: 0. Else an envelope that may
    only fall is laid over the sound from its start, for the ring of a contact before it, and the answer is the
    share that rises over it. Seed 9100, windows of 2.56 s: 95 % of 260 off-screen sounds without a contact get
    over 0.5, and none of 234 mixes with a contact or of 240 ambiences does.

    Examples:
        >>> t = np.arange(32000) / 16000
        >>> swell = np.sin(np.pi * t / 2) ** 2 * np.sin(2 * np.pi * 500 * t)
        >>> offscreen_tagger(Sound(0.05 * swell, 16000))["offscreen"] > 0.9
        True
    """
    wave = sound.mono().resample(SAMPLE_RATE).samples[0]
    if len(wave) < FRAME * (LEAST + SMOOTH) // 2 or len(detect_onsets(wave)):
        return {"offscreen": 0.0}
    frames = np.lib.stride_tricks.sliding_window_view(wave.astype(np.float64), FRAME)[::HOP]
    power = np.pad(np.square(frames).mean(axis=1), SMOOTH // 2, mode="edge")
    power = np.convolve(power, np.ones(SMOOTH) / SMOOTH, mode="valid")
    quiet = max(float(np.percentile(power, 15)), 1e-9)
    over = np.sqrt(np.where(power > OVER * quiet, power - quiet, 0.0))
    if np.count_nonzero(over) < LEAST:
        return {"offscreen": 0.0}
    falling = np.minimum.accumulate(over)
    return {"offscreen": float(1 - falling.sum() / over.sum())}


class AudioSetTagger:
    """``speech``, ``background_music``, ``traffic_noise`` and ``wind_noise`` from an AudioSet transformer (AST).

    Examples:
        >>> tagger = AudioSetTagger()                       # doctest: +SKIP
        >>> tagger(clip.sound)["speech"] < 0.5              # doctest: +SKIP
    """

    def __init__(self, weights: str | Path = AST_ID) -> None:
        """Load the model; a Hub id is downloaded once.

        Args:
            weights: folder or Hub id of an ``ASTForAudioClassification`` with AudioSet's labels.

        Raises:
            WeightsError: there are none, or they lack a class of :data:`AUDIOSET`.
        """
        from transformers import ASTFeatureExtractor, ASTForAudioClassification

        try:
            self.reader = ASTFeatureExtractor.from_pretrained(str(weights))
            self.net = ASTForAudioClassification.from_pretrained(str(weights), use_safetensors=True).eval()
        except (OSError, ValueError) as error:
            raise WeightsError(f"{weights}: no audio tagger could be loaded: {error}") from error
        places = {name: i for i, name in self.net.config.id2label.items()}
        self.columns = {name: [places[c] for c in classes if c in places] for name, classes in AUDIOSET.items()}
        lacking = [name for name, found in self.columns.items() if not found]
        if lacking:
            raise WeightsError(f"{weights} has no class for {', '.join(lacking)}; it was not trained on AudioSet")

    def __call__(self, sound: Sound) -> dict[str, float]:
        """Probabilities of one sound, each for itself: they need not add up to 1."""
        import torch

        rate = self.reader.sampling_rate
        wave = sound.mono().resample(rate).samples[0]
        with torch.no_grad():
            logits = self.net(**self.reader(wave, sampling_rate=rate, return_tensors="pt")).logits[0]  # [classes]
        chances = logits.sigmoid().numpy()
        return {name: float(chances[found].max()) for name, found in self.columns.items()}
