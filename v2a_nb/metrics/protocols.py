"""Named protocols: which metrics a paper or a tool reports, and how it prepares sounds, as data.

``v2a-nb evaluate --protocol NAME`` scores these metrics and says, for each, what differs here from there. Published
numbers come from networks that are not part of this package. Those whose weights can be loaded are scored where
``--weights`` gives them; others are left out, or another network stands in for them. A stand-in measures the same kind
of thing, and its values do not compare with published ones. What is left out is never replaced in silence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from v2a_nb.errors import UsageError
from v2a_nb.metrics import registry
from v2a_nb.metrics.extractors import EXTRACTORS

if TYPE_CHECKING:
    from v2a_nb.clip import Clip, Sound
    from v2a_nb.metrics.base import ScoredClip

SHORT_S = 0.05
"""Seconds by which a clip may be shorter than its protocol."""


@dataclass(frozen=True)
class Measure:
    """A number that a paper or a tool reports, and what is measured for it here.

    Attributes:
        original: its name there, and the network that it reads.
        metric: its name here, with an extractor as in ``--metrics``; empty where nothing here measures it.
        differs: how the value differs from the original's, or why there is none.
        stand_in: whether another network than the original's is read.
    """

    original: str
    metric: str = ""
    differs: str = ""
    stand_in: bool = False


@dataclass(frozen=True)
class Protocol:
    """How a paper or a tool measures.

    Attributes:
        title: whose it is.
        sources: where it is written, paper and code.
        measures: what it reports.
        seconds: from the start of a clip that are scored; None for all of it.
        sample_rate: Hz, of the sounds before anything is measured; None where each extractor takes its own.
        zero_mean: whether the mean of a sound is taken off.
        loudness: what is done to the level of sounds.
        differs: what holds for all measures.
    """

    title: str
    sources: str
    measures: tuple[Measure, ...]
    seconds: float | None = None
    sample_rate: int | None = None
    zero_mean: bool = False
    loudness: str = "left as it is"
    differs: tuple[str, ...] = ()

    @property
    def settings(self) -> str:
        """How sounds are prepared, in one line."""
        return ", ".join(
            [
                "whole clips" if self.seconds is None else f"the first {self.seconds:g} s",
                "mono",
                "at each extractor's rate" if self.sample_rate is None else f"at {self.sample_rate} Hz",
                *(["mean taken off"] if self.zero_mean else []),
                f"loudness {self.loudness}",
            ]
        )

    def sound(self, sound: Sound) -> Sound:
        """A sound as the protocol scores it."""
        sound = sound.mono()
        if self.zero_mean and sound.n:
            sound = replace(sound, samples=sound.samples - sound.samples.mean(dtype=float))
        if self.sample_rate is not None:
            sound = sound.resample(self.sample_rate)
        return sound if self.seconds is None else sound.fit(min(sound.duration, self.seconds))

    def clip(self, clip: ScoredClip) -> ScoredClip:
        """A clip with sounds, pictures and truth as the protocol scores them."""
        truth, open_video, seconds = clip.truth, clip.open_video, self.seconds
        digest = clip.video_digest
        if seconds is not None:
            if truth is not None:
                events = [event for event in truth["events"] if event["time_s"] < seconds]
                truth = {**truth, "events": events, "duration_s": min(float(truth["duration_s"]), seconds)}
            if open_video is not None:
                open_video = _Start(open_video, seconds)
            if digest is not None:  # features of the beginning are not those of the whole
                digest = _DigestOfStart(digest, seconds)
        return replace(
            clip,
            sound=None if clip.sound is None else self.sound(clip.sound),
            reference=None if clip.reference is None else self.sound(clip.reference),
            stems=None if clip.stems is None else {name: self.sound(stem) for name, stem in clip.stems.items()},
            truth=truth, open_video=open_video, video_digest=digest, _of_clip={}, _of_sound={},
        )  # fmt: skip


@dataclass(frozen=True)
class _Start:
    """Opens the first seconds of a video."""

    whole: Any
    seconds: float

    def __call__(self) -> Clip:
        return self.whole().slice(0.0, self.seconds)


@dataclass(frozen=True)
class _DigestOfStart:
    """The digest of the first seconds of a video."""

    whole: Callable[[], str]
    seconds: float

    def __call__(self) -> str:
        return f"{self.whole()} to {self.seconds:g} s"


_RESAMPLED = "resampled by another filter"
_VGGISH = f"{_RESAMPLED}; a sound under 0.98 s is filled with silence, where the original fails"
_AST = "AST in PaSST's place: 16 kHz, filled to 10.24 s"
_AV_SIM = "AV-Sim in ImageBind's place: it knows Strike World, and a cosine is not multiplied by 100"

PROTOCOLS = {
    "v-aura": Protocol(
        "V-AURA", "arXiv:2409.13689, section IV; github.com/ilpoviertola/GMELab d8b53b1",
        (
            Measure(
                "FAD (VGGish, 16 kHz)", "fad[vggish]",
                f"{_VGGISH}; the reference is cut as well, which GMELab does not do",
            ),
            Measure(
                "KLD (PaSST, 32 kHz)", "kl_capped[ast-audioset]",
                f"{_AST}; as there softmax, KL(true || generated) and log(q + 1e-6)", stand_in=True,
            ),
            Measure("IB (ImageBind)", "av_sim", _AV_SIM, stand_in=True),
            Measure(
                "Sync (Synchformer)", "sync_tiled_s[synchformer]",
                "clips are repeated up to 5 s as there, after decoding; GMELab repeats files that it encoded, whose "
                "sound is a little longer than their pictures",
            ),
        ),
        seconds=2.56,
        differs=(
            "V-AURA averages 10 sounds of each video (3 on VAS); here one: evaluate a folder of each, and average",
            "GMELab encodes videos and sounds anew (AAC, 25 fps); here files are read as they are",
        ),
    ),
    "egosonics": Protocol(
        "EgoSonics", "arXiv:2407.20592, section 4, supplement F and H; no code was released",
        (
            Measure(
                "FID (network not stated)", "fd[ast-audioset]",
                "the paper does not say of which network and which picture; here one vector a clip of AST, which reads "
                "log-mel pictures", stand_in=True,
            ),
            Measure(
                "IS (network not stated)", "is_10[ast-audioset]",
                "the paper names no network and no splits; here AST's classes and ten splits", stand_in=True,
            ),
            Measure(
                "VAAS", "vaas_acc", "our classifier, trained on Strike World: the paper's was not released; share over "
                "one half", stand_in=True,
            ),
            Measure("VAAS, the other reading", "vaas_score", "the same classifier; mean of clipped scores", True),
            Measure(
                "Summarization, cosine", "summary_cosine",
                "our network, trained on Strike World's narrations; the paper's reads EnCodec and CLIP", stand_in=True,
            ),
        ),
        seconds=10.0, sample_rate=22050,
        differs=("the paper scores its baselines on sounds of their own length, 5 to 10 s",),
    ),
    "action2sound": Protocol(
        "Action2Sound", "arXiv:2406.09272, section 5.1; github.com/ChanganVR/action2sound f2e9969",
        (
            Measure("FAD (VGGish)", "fad[vggish]", _VGGISH),
            Measure(
                "AV-Sync (TimeSformer and AST)", "av_sync_acc",
                "our classifier, trained on Strike World: the paper's was not released; the mean of both halves "
                "decides, where the released code asks whether any is over one half", stand_in=True,
            ),
            Measure(
                "CLAP (tuned on Ego4D-Sounds)", "clap[clap]",
                "the published CLAP: the tuned one was not released, and the released code scores AST with DistilBERT "
                "under this name", stand_in=True,
            ),
            Measure(
                "ambient level", "ambience_energy", f"{_RESAMPLED}; as in the released code, sum of squares of the "
                "quietest half second",
            ),
        ),
        seconds=3.0, sample_rate=16000,
        differs=("averages are over clips, where the released code averages batches",),
    ),
    "vta-ldm": Protocol(
        "VTA-LDM",
        "arXiv:2407.07464, section 4.2; no code was released for it; audioldm_eval 8dc07ee and TempoTokens bf0b1e3 fit",
        (
            Measure("FAD (VGGish)", "fad[vggish]", _VGGISH),
            Measure(
                "FD (PANNs, by convention)", "fd[panns-cnn14]", f"{_RESAMPLED}; the paper does not name its network"
            ),
            Measure("IS (PANNs, by convention)", "is_10[panns-cnn14]", f"{_RESAMPLED}; at least 500 clips"),
            Measure(
                "KL (PANNs, by convention)", "kl_capped[panns-cnn14]",
                f"{_RESAMPLED}; log(q + 1e-6), which the paper's values fit; it does not state it",
            ),
            Measure(
                "PAM (MS-CLAP)", "pam[clap]", "LAION's CLAP and its scale in place of MS-CLAP 2023", stand_in=True
            ),
            Measure(
                "CLAP", "clap[clap]", "the paper does not say which CLAP, nor where texts of VGGSound come from"
            ),
            Measure(
                "CAVP", "cavp", "AV-Sim, which knows Strike World, in CAVP's place; the paper gives no formula",
                stand_in=True,
            ),
            Measure(
                "AV-Align", "av_align",
                "one peak of motion for one onset, after the fix of 2025: the paper's version was never published",
            ),
        ),
        sample_rate=16000, zero_mean=True,
        differs=("channels are averaged, where audioldm_eval takes the first",),
    ),
    "av-benchmark": Protocol(
        "av-benchmark (MMAudio)", "github.com/hkchengrex/av-benchmark 050a5cd, with its default length",
        (
            Measure("FD-VGG", "fad[vggish]", _VGGISH),
            Measure("FD-PANN", "fd[panns-cnn14]", _RESAMPLED),
            Measure("FD-PASST", "fd[ast-audioset]", _AST, stand_in=True),
            Measure(
                "KL-PANNS-softmax", "kl[panns-cnn14]", f"{_RESAMPLED}; a shorter sound is filled to its clip's length"
            ),
            Measure("KL-PASST-softmax", "kl[ast-audioset]", _AST, stand_in=True),
            Measure("ISC-PANNS", "is_10[panns-cnn14]", f"{_RESAMPLED}; at least 500 clips"),
            Measure("ISC-PASST", "is_10[ast-audioset]", f"{_AST}; at least 500 clips", stand_in=True),
            Measure("IB-Score (ImageBind)", "av_sim", _AV_SIM, stand_in=True),
            Measure(
                "DeSync (Synchformer)", "desync_s[synchformer]",
                f"{_RESAMPLED}; a clip under 4.8 s is a problem, as it is there",
            ),
            Measure(
                "LAION-CLAP-Score", "clap[clap-general]",
                "music_speech_audioset_epoch_15_esc_89.98 as transformers has it; that it was converted without loss "
                "is not confirmed",
            ),
            Measure("MS-CLAP-Score", "", "needs MS-CLAP 2023, which cannot be loaded here"),
        ),
        seconds=8.0, zero_mean=True,
        differs=("a file that cannot be read is a problem here; there the next one takes its place",),
    ),
}  # fmt: skip
"""By name."""


@dataclass
class Plan:
    """A protocol with what a user gives to it.

    Attributes:
        name, protocol: which.
        metrics: to score, as for ``--metrics``.
        rows: for each measure ``{"original", "metric", "status", "differs", "give"}``. ``status`` is ``scored``,
            ``stand-in`` or ``left out``; ``give`` says what option would have it scored, where there is one.
    """

    name: str
    protocol: Protocol
    metrics: list[str] = field(default_factory=list)
    rows: list[dict] = field(default_factory=list)

    def problems(self, clips: Sequence[ScoredClip]) -> list[dict]:
        """A problem that says how many clips are shorter than the protocol's length; empty where none is."""
        seconds = self.protocol.seconds
        short = 0 if seconds is None else sum(clip.duration < seconds - SHORT_S for clip in clips)
        what = f"{short} of {len(clips)} clips are shorter than its {seconds or 0:g} s"
        return [{"id": f"protocol {self.name}", "what": what}] if short else []

    def to_dict(self, results: Sequence[Mapping]) -> dict:
        """The part ``"protocol"`` of a report: what was scored for what, and what differs from there.

        Args:
            results: rows of the report; a metric without a value there was left out.
        """
        without = {row["name"] for row in results if not math.isfinite(row["value"])}
        rows = [
            {**row, "status": "left out", "differs": "no value: see the problems"} if row["metric"] in without else row
            for row in self.rows
        ]
        about = {key: value for key, value in asdict(self.protocol).items() if key not in ("measures", "differs")}
        settings = self.protocol.settings
        return {"name": self.name, **about, "settings": settings, "measures": rows, "differs": self.protocol.differs}


def plan(name: str, given: Collection[str], weights: Sequence[str] = ()) -> Plan:
    """What of a protocol can be scored, and what would be needed for the rest.

    Args:
        name: out of :data:`PROTOCOLS`.
        given: out of :data:`~v2a_nb.metrics.registry.NEEDS`.
        weights: extractors that may be read: ``"vggish=FILE.safetensors"``, ``"clap=FOLDER"``, or ``"clap"`` alone for
            the published weights, which are downloaded once.

    Raises:
        UsageError: the protocol is unknown or does not read such an extractor, or nothing of it can be scored.
    """
    if name not in PROTOCOLS:
        raise UsageError(f"unknown protocol {name!r}; known are {', '.join(PROTOCOLS)}")
    planned = Plan(name, PROTOCOLS[name])
    places = {extractor: path for extractor, _, path in (each.partition("=") for each in weights)}
    read = list(dict.fromkeys(e for e in map(_extractor, planned.protocol.measures) if e))
    for extractor in places:
        if extractor not in read:
            raise UsageError(f"weights {extractor!r}: the protocol {name} reads {', '.join(read)}")
    for measure in planned.protocol.measures:
        extractor, give = _extractor(measure), ""
        if measure.metric:
            (entry,) = registry.entries([measure.metric])
            missing = [registry.NEEDS[need] for need in entry.needs if need not in given]
            missing += [f"weights ({_option(extractor)})"] if extractor and extractor not in places else []
            give = " and ".join(missing)
        status = "left out" if give or not measure.metric else "stand-in" if measure.stand_in else "scored"
        if status != "left out":
            place = f"={places[extractor]}" if places.get(extractor) else ""
            planned.metrics.append(measure.metric.replace("]", f"{place}]"))
        planned.rows.append(
            {"original": measure.original, "metric": measure.metric, "status": status, "differs": measure.differs,
             "give": give}
        )  # fmt: skip
    if not planned.metrics:
        wants = "; ".join(f"{row['metric']} needs {row['give']}" for row in planned.rows if row["give"])
        raise UsageError(f"nothing of the protocol {name} can be scored: {wants}")
    return planned


def _extractor(measure: Measure) -> str:
    """The extractor that a measure names, empty where it names none."""
    return measure.metric.partition("[")[2].removesuffix("]")


def _option(extractor: str) -> str:
    """The option that gives an extractor's weights."""
    if not EXTRACTORS[extractor].id:
        return f"--weights {extractor}=FILE.safetensors"
    return f"--weights {extractor}, which downloads them, or {extractor}=FOLDER"


def listing() -> str:
    """All protocols with what they measure, for ``--help``."""
    lines = ["protocols (--protocol; reports say what differs from the original):"]
    for name, protocol in PROTOCOLS.items():
        lines += [f"  {name:24} {protocol.title}: {protocol.settings}"]
        lines += [f"    {measure.metric or 'left out':30} for {measure.original}" for measure in protocol.measures]
    return "\n".join(lines)


def document() -> str:
    """All protocols as tables of Markdown, for ``docs/protocols.md``."""
    parts = []
    for name, protocol in PROTOCOLS.items():
        parts += [
            f"## `{name}`: {protocol.title}", f"Sources: {protocol.sources}.", f"Sounds: {protocol.settings}.",
            "\n".join(["| there | here | what differs |", "|---|---|---|", *map(_markdown_row, protocol.measures)]),
            "\n".join(f"- {line[0].upper()}{line[1:]}." for line in protocol.differs),
        ]  # fmt: skip
    return "\n\n".join(part for part in parts if part)


def _markdown_row(measure: Measure) -> str:
    here = f"`{measure.metric}`{', stand-in' if measure.stand_in else ''}" if measure.metric else "left out"
    return f"| {measure.original} | {here} | {measure.differs} |".replace("||", r"\|\|")
