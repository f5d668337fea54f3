"""The extractors by name: what turns sounds into the vectors or the classes that distribution metrics compare.

A number depends on its extractor as much as on the sounds. Every value names it, with four digits of its weights:
``fad[strike-audio@3fa9]``. Values of two extractors do not compare.

An extractor is an object with a ``tag`` that, called with a :class:`~v2a_nb.clip.Sound`, returns its vectors,
float32 [W, D], one for each window; or that has ``logits(sound)``, float32 [C], one number for each class; or both. One
that has ``text(line)``, float32 [D], puts texts among the vectors of sounds. One of pairs has ``look(clip)`` and
``listen(sound)``, float32 [D] in one space; one of offsets is a judge as in :mod:`v2a_nb.metrics.offsets`.
Nothing is imported before one is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

from v2a_nb.errors import UsageError, WeightsError

INFINITE = float("inf")
GIVES = {
    "vectors": "vectors", "logits": "classes", "texts": "vectors of sounds and texts",
    "pairs": "vectors of pictures and sounds", "offsets": "offsets of sounds from pictures",
}  # fmt: skip
"""What an extractor may give, in words."""


@dataclass(frozen=True)
class ExtractorInfo:
    """An entry of :data:`EXTRACTORS`.

    Attributes:
        help: one line.
        where: the class, as ``module.Class``; its ``from_pretrained`` takes ``id``, or a folder.
        id: on the Hub, or the name of shipped weights; empty where the weights have to be given.
        licence: of these weights.
        gives: out of :data:`GIVES`.
        sample_rate: Hz, that sounds are read at, mono; where weights of several rates fit, that of the most used.
        window_s, hop_s: seconds of a window, and from one to the next. Where both are the same, windows follow each
            other, and equally long parts of a sound take the place of a full window and a rest (VGGish leaves the rest
            out); infinite, the sound is one window. A hop of 0: windows lie at onsets.
        dim: numbers in a vector; 0 where there is none.
        classes: how many; 0 where there are none.
    """

    help: str
    where: str
    id: str
    licence: str
    gives: tuple[str, ...]
    sample_rate: int
    window_s: float
    hop_s: float
    dim: int = 0
    classes: int = 0


EXTRACTORS = {
    "strike-audio": ExtractorInfo(
        "AV-Sim's audio encoder, 128 numbers a second, shipped; the default",
        "v2a_nb.metrics.embeddings.StrikeAudio", "av_sim", "MIT", ("vectors",), 16000, 1.0, 0.5, dim=128,
    ),
    "strike-material": ExtractorInfo(
        "the material classifier at the sound's hits, five materials and nothing, shipped; the default",
        "v2a_nb.metrics.embeddings.StrikeMaterialTags", "material", "MIT", ("logits",), 16000, 0.27, 0.0, classes=6,
    ),
    "ast-audioset": ExtractorInfo(
        "AST on AudioSet, 768 numbers and 527 classes for 10.24 s; 0.35 GB, BSD-3-Clause",
        "v2a_nb.metrics.embeddings.AstAudioSet", "MIT/ast-finetuned-audioset-10-10-0.4593", "BSD-3-Clause",
        ("vectors", "logits"), 16000, 10.24, 10.24, dim=768, classes=527,
    ),
    "clap": ExtractorInfo(
        "LAION-CLAP (HTSAT, unfused: 630k-audioset-best), 512 numbers for 10 s; 0.6 GB, Apache-2.0",
        "v2a_nb.metrics.embeddings.ClapAudio", "laion/clap-htsat-unfused", "Apache-2.0", ("vectors", "texts"),
        48000, 10.0, 10.0, dim=512,
    ),
    "clap-fused": ExtractorInfo(
        "LAION-CLAP that fuses parts of long sounds (630k-audioset-fusion-best); 0.6 GB, Apache-2.0",
        "v2a_nb.metrics.embeddings.ClapFused", "laion/clap-htsat-fused", "Apache-2.0", ("vectors", "texts"),
        48000, 10.0, 10.0, dim=512,
    ),
    "clap-general": ExtractorInfo(
        "the larger LAION-CLAP, also for music and speech; 0.8 GB, Apache-2.0",
        "v2a_nb.metrics.embeddings.ClapGeneral", "laion/larger_clap_general", "Apache-2.0", ("vectors", "texts"),
        48000, 10.0, 10.0, dim=512,
    ),
    "vggish": ExtractorInfo(
        "VGGish, 128 numbers for each full 0.96 s; your FILE.safetensors of the published weights, Apache-2.0",
        "v2a_nb.metrics.embeddings.VggishAudio", "", "Apache-2.0", ("vectors",), 16000, 0.96, 0.96, dim=128,
    ),
    "vggish-google": ExtractorInfo(
        "the same as the first FAD had it: a second every half second, of sounds with a peak of 1",
        "v2a_nb.metrics.embeddings.VggishGoogle", "", "Apache-2.0", ("vectors",), 16000, 1.0, 0.5, dim=128,
    ),
    "av-sim": ExtractorInfo(
        "our audio-visual embedding AV-Sim, 256 numbers, shipped; the default",
        "v2a_nb.metrics.contrastive.AvSimPairs", "av_sim", "MIT", ("pairs",), 16000, 2.56, 2.56, dim=256,
    ),
    "strike-sync": ExtractorInfo(
        "the encoder of our systems and the sound's onsets, cross-correlated over 4.8 s, shipped; the default",
        "v2a_nb.metrics.offsets.StrikeOffsets", "strike_vision", "MIT", ("offsets",), 16000, 4.8, 4.8,
    ),
    "synchformer": ExtractorInfo(
        "Synchformer, 4.8 s; your FILE.safetensors of the published weights, MIT",
        "v2a_nb.metrics.offsets.SynchformerOffsets", "", "MIT", ("offsets",), 16000, 4.8, 4.8,
    ),
    "panns-cnn14": ExtractorInfo(
        "PANNs' Cnn14, 2048 numbers and 527 classes a sound; your FILE.safetensors of the published weights, CC-BY-4.0",
        "v2a_nb.metrics.embeddings.PannsCnn14", "", "CC-BY-4.0", ("vectors", "logits"), 16000, INFINITE, INFINITE,
        dim=2048, classes=527,
    ),
}  # fmt: skip


@lru_cache(maxsize=4)
def load_extractor(name: str) -> Any:
    """The extractor of this name, loaded once for all metrics that use it.

    Args:
        name: out of :data:`EXTRACTORS`; behind ``=`` a folder with its weights, as in ``"clap=FOLDER"``.

    Raises:
        UsageError: the name is unknown.
        WeightsError: there are no such weights, or their place has to be given.
    """
    name, _, folder = name.partition("=")
    if name not in EXTRACTORS:
        raise UsageError(f"unknown extractor {name!r}; known are {', '.join(EXTRACTORS)}")
    info = EXTRACTORS[name]
    if not (folder or info.id):
        metric = "sync_offset_s" if "offsets" in info.gives else "fad"
        raise WeightsError(f"{name} comes without weights: say where they are, as in {metric}[{name}=FILE.safetensors]")
    module, _, kind = info.where.rpartition(".")
    return getattr(import_module(module), kind).from_pretrained(folder or info.id)
