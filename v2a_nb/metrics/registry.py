"""The metrics by name: what ``v2a-nb evaluate --help`` lists and ``--metrics`` takes.

A metric is a class, a :class:`v2a_nb.metrics.base.Metric`, in a file of its own, and one entry here for each of its
names. Nothing is imported before a metric is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from v2a_nb.errors import UsageError
from v2a_nb.metrics import extractors

NEEDS = {
    "truth": "the clips' truth (--truth truth.json)",
    "video": "the videos (--videos DIR)",
    "reference": "true sounds to compare with (--reference DIR)",
    "text": "a line of text for each clip (a CSV with columns id and text, or a truth.json with narrations)",
    "stems": "parts of the true sounds (--reference DIR with ID.action.wav and ID.ambient.wav, as v2a-nb world writes)",
    **{
        f"{factor} pairs": f"a truth with pairs for {factor} (v2a-nb world OUT --pairs {factor})"
        for factor in ("material", "size", "speed", "distance", "damping", "shift", "removal")
    },
}
"""What a metric may need beside the sound that it scores, and how the command line gives it."""


@dataclass(frozen=True)
class Entry:
    """A name of a metric.

    Attributes:
        name: of the value, as in ``--metrics`` and in the JSON.
        where: the class, as ``module.Class``; a class may have several entries.
        needs: out of :data:`NEEDS`.
        help: one line.
        default: whether it is scored where no metric is named and all that it needs is given. Metrics that download
            weights, take over a tenth of a second a clip on one core, or say in detail what another one says, are not.
        or_needs: what does instead of ``needs`` where the metric is named; empty where nothing else does.
        gives: what an extractor must give to be its (:data:`~v2a_nb.metrics.extractors.GIVES`); empty where none can
            be chosen.
        extractor: that was chosen, as in ``"fad[clap]"``; empty for the metric's own.
    """

    name: str
    where: str
    needs: tuple[str, ...]
    help: str
    default: bool = True
    or_needs: tuple[str, ...] = ()
    gives: str = ""
    extractor: str = ""

    @property
    def asked(self) -> str:
        """The name as it was asked for, with the extractor of choice but without the place of its weights."""
        return f"{self.name}[{self.extractor.partition('=')[0]}]" if self.extractor else self.name


_ONSETS, _TRUTH = "v2a_nb.metrics.truth.OnsetMetrics", ("truth",)
_RINGING, _EVENTS = "v2a_nb.metrics.truth.Ringing", "v2a_nb.metrics.truth.EventDistance"
_LAG, _PARTS = "v2a_nb.metrics.timing.EnvelopeLag", "v2a_nb.metrics.leakage.Leakage"
_SOUNDS = ("reference",)
_VAAS, _SUMMARY = "v2a_nb.metrics.vaas.metric.VaasMetric", "v2a_nb.metrics.summarization.metric.SummaryMetric"
_CLASSES, _NEIGHBOURS = "v2a_nb.metrics.kl.KullbackLeibler", "v2a_nb.metrics.density_coverage.DensityCoverage"
_REFERENCE, _CLAP = ("reference",), "v2a_nb.metrics.clap_score"
_PAIRS = (
    ("direction", "share of pairs whose sounds move the right way; 0.5 is chance, 0 one sound for both"),
    ("gain", "the move over the true one: 1 is physics, 0 no move"),
    ("ties", "share of pairs whose sounds do not move, or in which nothing can be measured"),
)
_ENTRIES = (
    Entry(
        "onset_f1_25ms", _ONSETS, _TRUTH, "F1 of onsets against true events, within 25 ms, pooled over clips",
        or_needs=_SOUNDS,
    ),
    Entry("onset_f1_50ms", _ONSETS, _TRUTH, "the same within 50 ms", or_needs=_SOUNDS),
    Entry("onset_f1_100ms", _ONSETS, _TRUTH, "the same within 100 ms", or_needs=_SOUNDS),
    Entry(
        "onset_offset_abs_ms", _ONSETS, _TRUTH, "median distance of onsets from the events they match, ms",
        or_needs=_SOUNDS,
    ),
    Entry(
        "onset_offset_signed_ms", _ONSETS, _TRUTH, "the same with its sign: positive is late", or_needs=_SOUNDS
    ),
    Entry("near_miss_silent", _ONSETS, _TRUTH, "share of near misses without an onset"),
    *(
        Entry(f"onset_{share}_{ms}ms", _ONSETS, _TRUTH, f"{what} within {ms} ms", default=False, or_needs=_SOUNDS)
        for share, what in (("precision", "share of onsets with an event"), ("recall", "share of events with an onset"))
        for ms in (25, 50, 100)
    ),
    Entry(
        "onset_miss_rate", _ONSETS, _TRUTH, "share of events without an onset within 250 ms", default=False,
        or_needs=_SOUNDS,
    ),
    Entry(
        "onset_false_alarm_rate", _ONSETS, _TRUTH, "share of onsets without an event within 250 ms", default=False,
        or_needs=_SOUNDS,
    ),
    Entry(
        "onset_count_error", _ONSETS, _TRUTH, "mean difference of the numbers of onsets and of events in a clip",
        default=False, or_needs=_SOUNDS,
    ),
    Entry(
        "envelope_lag_abs_ms", _LAG, _SOUNDS,
        "median distance, ms, by which onset envelopes of sound and reference are apart", default=False,
    ),
    Entry("envelope_lag_signed_ms", _LAG, _SOUNDS, "the same with its sign: positive is late", default=False),
    Entry(
        "event_energy_ratio_db", "v2a_nb.metrics.timing.EventEnergy", _TRUTH,
        "mean energy within 100 ms of events against that outside, dB", default=False,
    ),
    Entry(
        "event_energy_error_db", "v2a_nb.metrics.timing.EventEnergyError", ("truth", "reference"),
        "mean distance of that ratio from the true sound's, dB", default=False,
    ),
    Entry(
        "ambience_leakage", _PARTS, ("stems",),
        "mean share of the energy that has the spectrum of the clip's ambience, 0 to 1", default=False,
    ),
    Entry(
        "leakage_error", _PARTS, ("stems",), "mean distance of that share from the true sound's", default=False
    ),
    Entry(
        "unexplained_share", _PARTS, ("stems",),
        "mean share of the energy that has the spectrum of no part of the true sound", default=False,
    ),
    Entry(
        "material_accuracy", "v2a_nb.metrics.truth.MaterialAccuracy", _TRUTH,
        "share of strikes and bounces that sound like their material",
    ),
    Entry(
        "ambience_error_db", "v2a_nb.metrics.truth.AmbienceError", _TRUTH,
        "mean distance of the quiet level from the true ambience, dB",
    ),
    Entry(
        "decay_error_db", _RINGING, ("truth", "reference"),
        "mean distance of the hits' decays from the true ones, dB: power of 100 to 400 ms against the first 50 ms",
    ),
    Entry(
        "stuck_share", _RINGING, ("truth", "reference"),
        "share of clips that are loud (over -35 dBFS) for over 25 points of their time more than the true sound",
    ),
    Entry(
        "event_mel_distance", _EVENTS, ("truth", "reference"),
        "mean distance of log10-mels around true events, 0.05 for 1 dB",
    ),
    Entry(
        "event_stft_distance", _EVENTS, ("truth", "reference"),
        "mean multi-resolution STFT distance around true events",
    ),
    Entry(
        "ambience_kind_accuracy", "v2a_nb.metrics.ambience.kind.AmbienceKindAccuracy", _TRUTH,
        "share of clips with the true kind of ambience: hum, hiss, rain or traffic",
    ),
    Entry("ambience_db", "v2a_nb.metrics.ambience.metric.AmbienceLevel", (), "mean level of the ambience, dBFS"),
    Entry(
        "ambience_energy", "v2a_nb.metrics.ambience.metric.AmbienceEnergy", (),
        "mean sum of squares of the quietest half second at 16 kHz (Action2Sound)", default=False,
    ),
    Entry(
        "fad", "v2a_nb.metrics.frechet.Fad", _REFERENCE,
        "Fréchet audio distance of windows to the reference's; compare only at one number of clips", gives="vectors",
    ),
    Entry(
        "fad_inf", "v2a_nb.metrics.frechet.FadInfinity", _REFERENCE,
        "the same as if there were endlessly many clips; needs thousands of windows", default=False, gives="vectors",
    ),
    Entry(
        "fd", "v2a_nb.metrics.frechet.Fd", _REFERENCE,
        "Fréchet distance with one vector a clip", default=False, gives="vectors",
    ),
    Entry(
        "kad", "v2a_nb.metrics.kernel_distance.Kad", _REFERENCE,
        "kernel audio distance of windows, x 100; 0 on average for equal sets, however small", gives="vectors",
    ),
    Entry(
        "kid", "v2a_nb.metrics.kernel_distance.Kid", _REFERENCE,
        "the same with the polynomial kernel of the kernel inception distance, x 1", default=False, gives="vectors",
    ),
    Entry(
        "precision", _NEIGHBOURS, _REFERENCE, "share of clips that are as near to a true one as its neighbours",
        default=False, gives="vectors",
    ),
    Entry("recall", _NEIGHBOURS, _REFERENCE, "the same with both sides exchanged", default=False, gives="vectors"),
    Entry(
        "density", _NEIGHBOURS, _REFERENCE, "precision that counts how many true ones; 1 for equal sets",
        default=False, gives="vectors",
    ),
    Entry(
        "coverage", _NEIGHBOURS, _REFERENCE, "share of true clips with a generated one as near as their neighbours",
        default=False, gives="vectors",
    ),
    Entry(
        "kl", _CLASSES, _REFERENCE, "mean KL(true || generated) of softmax classes, nats, unbounded", gives="logits"
    ),
    Entry(
        "kl_capped", _CLASSES, _REFERENCE, "the same with 1e-6 added to generated ones, as in V-AURA: at most 13.8",
        gives="logits",
    ),
    Entry("kl_sigmoid", _CLASSES, _REFERENCE, "the same of each class by itself, added up", gives="logits"),
    Entry(
        "is", "v2a_nb.metrics.inception_score.InceptionScore", (),
        "inception score: 1 to the number of classes; knows nothing of what is right", default=False, gives="logits",
    ),
    Entry(
        "is_10", "v2a_nb.metrics.inception_score.InceptionScore10", (),
        "its mean over ten splits, as in published tables; lower", default=False, gives="logits",
    ),
    Entry(
        "e_l1", "v2a_nb.metrics.envelope.EnvelopeDistance", _REFERENCE,
        "mean distance of RMS envelopes, full scale 1; prefers silence to a misplaced hit",
    ),
    Entry(
        "av_sim", "v2a_nb.metrics.av_sim.AvSimMetric", ("video",),
        "mean cosine of picture and sound in the embedding AV-Sim, -1 to 1",
    ),
    Entry(
        "av_align", "v2a_nb.metrics.av_align.AvAlignMetric", ("video",),
        "mean overlap of onsets and peaks of motion, 0 to 1 (VTA-LDM); how it is fooled: see its file", default=False,
    ),
    Entry(
        "av_sync_acc", "v2a_nb.metrics.av_sync.metric.AvSyncMetric", ("video",),
        "percent of clips that the classifier AV-Sync calls synchronous (Action2Sound)",
    ),
    Entry("vaas_acc", _VAAS, ("video",), "percent of clips that the classifier VAAS calls aligned (EgoSonics)"),
    Entry("vaas_score", _VAAS, ("video",), "mean score of the classifier VAAS, percent (EgoSonics)"),
    Entry(
        "summary_cosine", _SUMMARY, ("video", "text"),
        "mean cosine of the narration predicted from picture and sound with the true one (EgoSonics)",
    ),
    Entry("summary_gain", _SUMMARY, ("video", "text"), "by how much the sound raises that cosine"),
    Entry(
        "clap", f"{_CLAP}.ClapScore", ("text",), "mean cosine of sound and text in CLAP, -1 to 1",
        default=False, gives="texts",
    ),
    Entry(
        "clap_peak", f"{_CLAP}.ClapScorePeak", ("text",),
        "the same of sounds with a peak of -1 dBFS and 16 bits, as in stable-audio-metrics", default=False,
        gives="texts",
    ),
    Entry(
        "clap_r1", f"{_CLAP}.ClapRecall", ("text",),
        "share of sounds that are nearest to their own text; 1 over their number by chance", default=False,
        gives="texts",
    ),
    Entry(
        "sync_offset_s", "v2a_nb.metrics.sync.Sync", ("video",),
        "mean offset of 21, s, in the middle 4.8 s (V-AURA's Sync without repeats); 1.05 is chance, steps of 0.2",
        default=False, gives="offsets",
    ),
    Entry(
        "sync_tiled_s", "v2a_nb.metrics.sync.SyncTiled", ("video",),
        "the same of clips repeated up to 5 s, as V-AURA has it: 2 s late may pass for 0.56 s early", default=False,
        gives="offsets",
    ),
    Entry(
        "desync_s", "v2a_nb.metrics.sync.DeSync", ("video",),
        "the same of the first and the last 4.8 s (DeSync of av-benchmark)", default=False, gives="offsets",
    ),
    Entry(
        "cavp", "v2a_nb.metrics.contrastive.CavpStyle", ("video",),
        "mean cosine of picture and sound over windows of up to 4 s, -1 to 1 (after VTA-LDM's CAVP)", default=False,
        gives="pairs",
    ),
    Entry(
        "pam", "v2a_nb.metrics.contrastive.PamStyle", (),
        "how much nearer to clear than to noisy a sound is in CLAP, 0 to 1; not the published PAM", default=False,
        gives="texts",
    ),
    *(
        Entry(
            f"pair_{what}_{need.removesuffix(' pairs')}",
            f"v2a_nb.metrics.physics.{need.capitalize().replace(' pairs', 'Pairs')}", (need,), help,
        )
        for need in NEEDS if need.endswith(" pairs")
        for what, help in _PAIRS
    ),
)  # fmt: skip
METRICS = {entry.name: entry for entry in _ENTRIES}


def entries(names: Iterable[str]) -> list[Entry]:
    """The entries of these names.

    Args:
        names: each alone, or with an extractor of :data:`~v2a_nb.metrics.extractors.EXTRACTORS` in brackets, and
            where its weights are, if not where it says: ``"fad[clap]"``, ``"kl[ast-audioset=FOLDER]"``.

    Raises:
        UsageError: a name is unknown, or the metric does not take that extractor.
    """
    return [_entry(name) for name in names]


def _entry(asked: str) -> Entry:
    name, bracket, extractor = asked.partition("[")
    if name not in METRICS:
        raise UsageError(f"unknown metric {asked!r}; known are {', '.join(METRICS)}")
    entry, extractor = METRICS[name], extractor.removesuffix("]")
    if not bracket:
        return entry
    fitting = [each for each, info in extractors.EXTRACTORS.items() if entry.gives and entry.gives in info.gives]
    if extractor.partition("=")[0] not in fitting or not asked.endswith("]"):
        raise UsageError(f"{asked}: {name} takes {' or '.join(f'{name}[{e}]' for e in fitting) or 'no extractor'}")
    return replace(entry, extractor=extractor)


def entries_of(metric: type) -> list[Entry]:
    """The entries of a class, or else of the class that it inherits from."""
    for kind in metric.__mro__:
        found = [e for e in METRICS.values() if e.where == f"{kind.__module__}.{kind.__qualname__}"]
        if found:
            return found
    return []


def listing() -> str:
    """All names with what they need and their one line, for ``--help``."""
    lines = []
    for needs in dict.fromkeys(entry.needs for entry in METRICS.values()):
        lines.append(f"metrics that need {' and '.join(NEEDS[n] for n in needs) or 'nothing else'}:")
        lines += [f"  {e.name:24} {e.help}" for e in METRICS.values() if e.needs == needs]
    alone = [e.name for e in METRICS.values() if e.or_needs == ("reference",)]
    lines.append("named, these are also scored against the onsets of true sounds (--reference DIR) where no truth is:")
    lines += [f"  {name}" for name in alone]
    slow = ", ".join(e.name for e in METRICS.values() if not e.default)
    lines.append(f"scored only where they are named: {slow}")
    for gives, what in extractors.GIVES.items():
        takers = ", ".join(e.name for e in METRICS.values() if e.gives == gives)
        lines.append(f"extractors of {what} for {takers} (as fad[clap]; [NAME=FOLDER] says where weights are):")
        lines += [f"  {name:24} {e.help}" for name, e in extractors.EXTRACTORS.items() if gives in e.gives]
    return "\n".join(lines)
