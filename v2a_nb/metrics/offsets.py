"""Judges of synchrony: extractors of offsets, which :mod:`v2a_nb.metrics.sync` makes Sync and DeSync of.

A judge has ``look(clip, start, protocol)``, what it keeps of a window of pictures, and ``offsets(seen, sound, start,
protocol)``, a logit for each of 21 offsets; NaN where it cannot say.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from v2a_nb.clip import Clip, Sound
from v2a_nb.metrics.sync import FPS, OFFSETS_S, Protocol

if TYPE_CHECKING:
    from v2a_nb.models.synchformer import Synchformer
    from v2a_nb.models.video_encoders.strike import StrikeVision

RATE = 200
"""Values a second of our judge's curves, that of onset strength."""
SPREAD_S = 0.02
"""Standard deviation of the moment of a hit that the encoder expects: half of a picture."""
FAINTEST = 0.1
"""A hit that is less likely than this is none."""


class StrikeOffsets:
    """Our own judge: when pictures show hits, and when the sound has onsets, laid over each other.

    The frozen encoder of our systems (:mod:`v2a_nb.models.video_encoders.strike`) says when it expects a hit, and how
    likely. The cross-correlation with the rises of the sound's spectrum is the logit of an offset, the largest within
    0.1 s of the class. Nothing of it is trained for this, and a sound that is shifted by a class is a class off.

    It knows hits and nothing else: of speech, engines or rain it says nothing, or anything. A sound that repeats with a
    period fits at each. Our systems read the same encoder, so what it overlooks is counted against none of them.

    Args:
        model: the encoder.

    Examples:
        >>> judge = StrikeOffsets.from_pretrained()
        >>> judge.look(clip, -28, Protocol()).shape  # 4.8 s with a clip of 2.56 s in the middle
        (960,)
    """

    def __init__(self, model: StrikeVision) -> None:
        from v2a_nb.hub import tag_of

        self.model = model.eval()
        self.tag = tag_of(self.model, "strike-sync")

    def look(self, clip: Clip, start: int, protocol: Protocol) -> np.ndarray:
        """How much each 5 ms of a window expects a hit, float64 [960]."""
        times = np.arange(round(clip.duration * RATE)) / RATE
        expected = np.zeros(len(times))
        for hit in self.model.hits(clip, faint=True):
            if hit["probability"] >= FAINTEST:
                expected += hit["probability"] * np.exp(-0.5 * ((times - hit["time_s"]) / SPREAD_S) ** 2)
        return protocol.window(expected, start, RATE)

    def offsets(self, seen: np.ndarray, sound: Sound, start: int, protocol: Protocol) -> np.ndarray:
        """Logits float64 [21]; NaN where the window has no onset, or shows no hit."""
        from v2a_nb.audio.onsets import HOP, SAMPLE_RATE, THRESHOLD, onset_strength

        wave = sound.mono().resample(SAMPLE_RATE).samples[0]
        strength = onset_strength(wave)[: len(wave) // HOP].astype(np.float64) if len(wave) >= 4 * HOP else np.zeros(1)
        strength = protocol.window(np.where(strength > THRESHOLD / 2, strength, 0.0), start, RATE)
        if strength.max() < THRESHOLD or not seen.any():
            return np.full(len(OFFSETS_S), np.nan)
        fits = np.correlate(
            strength, seen, "full"
        )  # at len(seen) - 1 both lie as they are, beyond it the sound is late
        half, step = round(0.1 * RATE), round(0.2 * RATE)
        centres = len(seen) - 1 - np.arange(-10, 11) * step
        logits = np.array([fits[max(0, c - half) : c + half].max() for c in centres])
        return logits - 1e-6 * np.abs(OFFSETS_S)  # of two that fit as well, the nearer

    @classmethod
    def from_pretrained(cls, name: str | Path = "strike_vision") -> StrikeOffsets:
        """With the encoder of these weights: shipped ones of a system, their ``vision`` folder, or an encoder's own."""
        from v2a_nb.hub import find_weights
        from v2a_nb.models.video_encoders.strike import StrikeVision

        folder = find_weights(name)
        return cls(StrikeVision.from_pretrained(folder / "vision" if (folder / "vision").is_dir() else folder))


class SynchformerOffsets:
    """Synchformer (:mod:`v2a_nb.models.synchformer`): the judge of V-AURA, MMAudio and most that came after.

    Args:
        net: the network.

    Examples:
        >>> judge = SynchformerOffsets.from_pretrained("synchformer.safetensors")  # doctest: +SKIP
    """

    def __init__(self, net: Synchformer) -> None:
        from v2a_nb.metrics.embeddings import tag_of_weights

        self.net = net.eval()
        self.tag = tag_of_weights(net, "synchformer")

    def look(self, clip: Clip, start: int, protocol: Protocol) -> np.ndarray:
        """Vectors [14, 8, dim] of a window of pictures."""
        frames = protocol.window(clip.at_fps(FPS).frames, start, FPS, hold=True)
        return self.net.see(frames, protocol.short_side).cpu().numpy()

    def offsets(self, seen: np.ndarray, sound: Sound, start: int, protocol: Protocol) -> np.ndarray:
        """Logits float64 [21]."""
        import torch

        from v2a_nb.models.synchformer import SAMPLE_RATE

        wave = protocol.window(sound.mono().resample(SAMPLE_RATE).samples[0], start, SAMPLE_RATE)
        with torch.no_grad():
            return self.net(torch.from_numpy(seen)[None], self.net.hear(wave)[None])[0].double().cpu().numpy()

    @classmethod
    def from_pretrained(cls, path: str | Path) -> SynchformerOffsets:
        """With the published weights in this file."""
        from v2a_nb.models.synchformer import Synchformer

        return cls(Synchformer.from_file(path))
