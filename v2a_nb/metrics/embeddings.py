"""The classes of the extractors: own ones, which are shipped, and published ones, whose weights are downloaded.

:mod:`v2a_nb.metrics.extractors` lists them with licences and windows, and says what an extractor is.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.metrics.extractors import EXTRACTORS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from v2a_nb.metrics.material.metric import MaterialClassifier
    from v2a_nb.models.av_embedding import AudioVisualEmbedding
    from v2a_nb.models.clap import Clap
    from v2a_nb.models.cnn14 import Cnn14
    from v2a_nb.models.vggish import Vggish

LIMIT = float(np.log(1e6))
"""The largest log-odds of a material, either way: a million to one."""


def windows_of(sound: Sound, window_s: float, hop_s: float) -> list[Sound]:
    """Windows of a sound, at least one. With a hop as long as the window, equal parts that are no longer than it.

    Raises:
        UsageError: a sound without samples.
    """
    if not sound.n:
        raise UsageError("an empty sound has no vector")
    if hop_s == window_s:
        parts = max(1, int(np.ceil(sound.duration / window_s - 1e-6)))
        return [sound.slice(k * sound.duration / parts, (k + 1) * sound.duration / parts) for k in range(parts)]
    starts = np.arange(0.0, max(sound.duration - window_s, 0.0) + 1e-6, hop_s)
    return [sound.slice(s, min(sound.duration, s + window_s)) for s in starts]


class StrikeAudio:
    """The embedding of our Fréchet distance: AV-Sim's audio encoder on windows of a second, every half second.

    It is not VGGish: its values compare with each other and with no published ones.

    Args:
        model: whose audio encoder it is.

    Examples:
        >>> embed = StrikeAudio.from_pretrained()
        >>> embed(sound).shape  # 2.56 s
        (4, 128)
    """

    def __init__(self, model: AudioVisualEmbedding) -> None:
        self.model = model.eval()

    @property
    def tag(self) -> str:
        """``strike-audio@`` and four digits of its weights."""
        from v2a_nb.hub import tag_of

        return tag_of(self.model.audio, "strike-audio")

    def __call__(self, sound: Sound) -> np.ndarray:
        """Vectors float32 [W, D] of a sound; one shorter than a window has one.

        Raises:
            UsageError: under 25 ms.
        """
        import torch

        info = EXTRACTORS["strike-audio"]
        parts = windows_of(sound, info.window_s, info.hop_s)
        with torch.no_grad():
            banks = torch.cat([self.model.audio.listen(part) for part in parts])
            return self.model.audio(banks).float().cpu().numpy()

    @classmethod
    def from_pretrained(cls, name: str | Path = "av_sim") -> StrikeAudio:
        """With the audio encoder of these weights of AV-Sim."""
        from v2a_nb.models.av_embedding import AudioVisualEmbedding

        return cls(AudioVisualEmbedding.from_pretrained(name))


class StrikeMaterialTags:
    """What a sound's hits are made of, as a tagger of AudioSet would say it: the offline classifier of IS and KL.

    The shipped material classifier judges every onset of the sound. A material's logit is the largest log-odds that
    it has at any of them, between -13.8 and 13.8; a sound without an onset, or without a hit that rises out of what
    was there before, is "nothing". As with AudioSet, several classes may be there at once (sigmoid), and a softmax
    shares 1 among them.

    It knows the hits of Strike World and nothing else: no ambience, no voice, and on real sounds it says what a sound
    of Strike World would have been. It is sure of nearly every hit, so that a divergence of its classes is little more
    than a share of clips with other materials.

    Args:
        classifier: of materials.

    Examples:
        >>> tags = StrikeMaterialTags.from_pretrained()
        >>> tags.classes[int(tags.logits(Sound([0.0] * 16000, 16000)).argmax())]
        'nothing'
    """

    def __init__(self, classifier: MaterialClassifier) -> None:
        from v2a_nb.metrics.material.metric import CLASSES, NOTHING

        self.classifier = classifier
        self.classes = (*CLASSES, NOTHING)

    @property
    def tag(self) -> str:
        """``strike-material@`` and four digits of its weights."""
        return self.classifier.tag

    def logits(self, sound: Sound) -> np.ndarray:
        """Log-odds float32 [6] that each material, and that nothing, is struck in the sound."""
        from v2a_nb.audio.onsets import SAMPLE_RATE, detect_onsets
        from v2a_nb.metrics.material.metric import describe

        wave = sound.mono().resample(SAMPLE_RATE).samples[0]
        features = [describe(wave, time) for time in detect_onsets(wave)]
        features = [row for row in features if row.any()]  # the largest is 0: all zero means that nothing rose
        if not features:
            return np.array([-LIMIT] * (len(self.classes) - 1) + [LIMIT], np.float32)
        c = self.classifier
        scores = (
            (np.stack(features) - c.mean) / c.scale
        ) @ c.weight.T + c.bias  # [hits, C], log-posteriors but for one
        others = np.where(np.eye(scores.shape[1], dtype=bool), -np.inf, scores[:, None])  # constant each
        odds = scores - np.logaddexp.reduce(others, axis=2)
        return np.append(odds.max(0), -LIMIT).clip(-LIMIT, LIMIT).astype(np.float32)

    @classmethod
    def from_pretrained(cls, name: str | Path = "material") -> StrikeMaterialTags:
        """With these weights of the material classifier."""
        from v2a_nb.metrics.material.metric import MaterialClassifier

        return cls(MaterialClassifier.from_pretrained(name))


class AstAudioSet:
    """The Audio Spectrogram Transformer trained on AudioSet (Gong et al. 2021): GMELab, which scores V-AURA, uses it.

    Vectors are the mean of the CLS and the distillation token, one for each window of 10.24 s; equal parts of a longer
    sound are read one by one, and their logits averaged. The logits were trained with a sigmoid for each class; the
    published IS and KL take their softmax all the same.

    Args:
        weights: Hub id, downloaded once, or a folder in transformers' layout.

    Raises:
        WeightsError: there are none.

    Examples:
        >>> ast = AstAudioSet.from_pretrained()                          # doctest: +SKIP
        >>> ast(sound).shape, ast.logits(sound).shape                    # doctest: +SKIP
        ((1, 768), (527,))
    """

    def __init__(self, weights: str | Path = EXTRACTORS["ast-audioset"].id) -> None:
        from transformers import ASTFeatureExtractor, ASTForAudioClassification

        from v2a_nb.hub import reason

        try:
            self.reader: Any = ASTFeatureExtractor.from_pretrained(str(weights))
            self.net: Any = ASTForAudioClassification.from_pretrained(str(weights), use_safetensors=True).eval()
        except (OSError, ValueError) as error:
            raise WeightsError(f"{weights}: no AST there: {reason(error)}") from error
        self.tag = tag_of_weights(self.net, "ast-audioset")
        self.classes = tuple(self.net.config.id2label[i] for i in range(self.net.config.num_labels))

    def __call__(self, sound: Sound) -> np.ndarray:
        """Vectors float32 [W, D] of a sound."""
        return self._pooled(sound).numpy()

    def logits(self, sound: Sound) -> np.ndarray:
        """Logits float32 [C] of a sound, the mean over its windows."""
        import torch

        with torch.no_grad():
            return self.net.classifier(self._pooled(sound)).mean(0).numpy()

    def _pooled(self, sound: Sound) -> Any:
        import torch

        seconds, rate = self.reader.max_length / 100, self.reader.sampling_rate  # a column each 10 ms
        parts = [part.samples[0] for part in windows_of(sound.mono().resample(rate), seconds, seconds)]
        with torch.no_grad():
            read = self.reader(parts, sampling_rate=rate, return_tensors="pt")
            return self.net.audio_spectrogram_transformer(**read).pooler_output.float()

    @classmethod
    def from_pretrained(cls, name: str | Path) -> AstAudioSet:
        """With these weights."""
        return cls(name)


class ClapAudio:
    """CLAP (Wu et al. 2023): one unit vector a sound, the mean over equal parts of at most 10 s, and one a text.

    Args:
        clap: the model.

    Examples:
        >>> ClapAudio.from_pretrained()(sound).shape  # doctest: +SKIP
        (1, 512)
    """

    name: ClassVar[str] = "clap"

    def __init__(self, clap: Clap) -> None:
        self.clap = clap
        self.tag = tag_of_weights(clap.model, self.name)

    def __call__(self, sound: Sound) -> np.ndarray:
        """The vector of a sound, float32 [1, D]."""
        return self.clap.encode_sound(sound)[None].numpy()

    def text(self, line: str) -> np.ndarray:
        """The vector of a line of text, float32 [D]."""
        return self.clap.encode_texts([line])[0].numpy()

    @property
    def scale(self) -> float:
        """What CLAP multiplies the cosines of a sound and texts with before a softmax."""
        return float(self.clap.model.logit_scale_a.detach().exp())

    @classmethod
    def from_pretrained(cls, name: str | Path = EXTRACTORS["clap"].id) -> ClapAudio:
        """With these weights."""
        from v2a_nb.models.clap import Clap

        return cls(Clap(name))


class ClapFused(ClapAudio):
    """The CLAP that reads a long sound as several parts at once."""

    name = "clap-fused"


class ClapGeneral(ClapAudio):
    """The larger CLAP, trained on music, speech and AudioSet as well."""

    name = "clap-general"


class VggishAudio:
    """VGGish (:mod:`v2a_nb.models.vggish`) as published FAD uses it: 128 numbers for each full 0.96 s of a sound.

    Args:
        net: the network.

    Examples:
        >>> VggishAudio.from_pretrained("vggish.safetensors")(sound).shape  # 2.56 s  # doctest: +SKIP
        (2, 128)
    """

    name: ClassVar[str] = "vggish"

    def __init__(self, net: Vggish) -> None:
        self.net = net
        self.tag = tag_of_weights(net, self.name)

    def __call__(self, sound: Sound) -> np.ndarray:
        """Vectors float32 [W, 128] of a sound; one shorter than a window is filled with silence.

        Raises:
            UsageError: a sound without samples.
        """
        import torch

        from v2a_nb.models.vggish import SAMPLE_RATE

        with torch.no_grad():
            return self.net(self._examples(torch.tensor(sound.mono().resample(SAMPLE_RATE).samples[0]))).numpy()

    def _examples(self, wave: Tensor) -> Tensor:
        from v2a_nb.models.vggish import examples

        return examples(wave)

    @classmethod
    def from_pretrained(cls, path: str | Path) -> VggishAudio:
        """With the published weights in this file."""
        from v2a_nb.models.vggish import Vggish

        return cls(Vggish.from_file(path))


class VggishGoogle(VggishAudio):
    """VGGish as Google's own FAD uses it: a second every half second, of a sound at the level of its highest sample.

    A sound is divided by its largest sample, and by 0.1 at least. That is the largest with its sign: one whose largest
    excursion is below zero becomes louder than full scale.
    """

    name = "vggish-google"

    def _examples(self, wave: Tensor) -> Tensor:
        from torch.nn.functional import pad

        from v2a_nb.models.vggish import HOP, SAMPLE_RATE, examples

        if not len(wave):
            return examples(wave)
        wave = pad(wave / wave.max().clamp(min=0.1), (0, max(0, SAMPLE_RATE - len(wave))))
        windows = 1 + (len(wave) - SAMPLE_RATE) // (SAMPLE_RATE // 2)
        return examples(wave, SAMPLE_RATE // 2 // HOP)[:windows]  # an example is the first 0.96 s of its second


class PannsCnn14:
    """PANNs' Cnn14 (:mod:`v2a_nb.models.cnn14`): one vector of 2048 numbers a sound, and logits of 527 classes.

    FD of most papers is of its vectors; with fewer than some thousand clips, those are more numbers than it can
    compare. Each sound is read whole at the rate of the weights.

    Args:
        net: the network.

    Examples:
        >>> PannsCnn14.from_pretrained("cnn14_16k.safetensors")(sound).shape  # doctest: +SKIP
        (1, 2048)
    """

    def __init__(self, net: Cnn14) -> None:
        self.net = net
        self.tag = tag_of_weights(net, f"panns-cnn14-{net.sample_rate // 1000}k")

    def __call__(self, sound: Sound) -> np.ndarray:
        """The vector of a sound, float32 [1, 2048]."""
        return self._read(sound)[0].numpy()

    def logits(self, sound: Sound) -> np.ndarray:
        """Logits float32 [527] of a sound."""
        return self._read(sound)[1][0].numpy()

    def _read(self, sound: Sound) -> tuple[Tensor, Tensor]:
        import torch

        with torch.no_grad():
            return self.net(torch.tensor(sound.mono().resample(self.net.sample_rate).samples))

    @classmethod
    def from_pretrained(cls, path: str | Path) -> PannsCnn14:
        """With the published weights in this file."""
        from v2a_nb.models.cnn14 import Cnn14

        return cls(Cnn14.from_file(path))


def tag_of_weights(net: nn.Module, name: str) -> str:
    """``name@`` and four hexadecimal digits of a published network's weights, whatever their names and order."""
    tensors = (value.half().cpu().contiguous().numpy().tobytes() for value in net.state_dict().values())
    digests = sorted(hashlib.sha256(tensor).digest() for tensor in tensors)
    return f"{name}@{hashlib.sha256(b''.join(digests)).hexdigest()[:4]}"
