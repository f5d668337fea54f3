"""The metrics by name: what ``v2a-nb evaluate --help`` lists and ``--metrics`` takes.

A metric is a class, a :class:`v2a_nb.metrics.base.Metric`, in a file of its own, and one entry here for each of its
names. Nothing is imported before a metric is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from v2a_nb.errors import UsageError

NEEDS = {
    "truth": "the clips' truth (--truth truth.json)",
    "video": "the videos (--videos DIR)",
    "reference": "true sounds to compare with (--reference DIR)",
    "text": "a line of text for each clip (a CSV with columns id and text, or a truth.json with narrations)",
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
            weights or take over a tenth of a second a clip on one core are not.
    """

    name: str
    where: str
    needs: tuple[str, ...]
    help: str
    default: bool = True


_ONSETS, _TRUTH = "v2a_nb.metrics.truth.OnsetMetrics", ("truth",)
_RINGING, _EVENTS = "v2a_nb.metrics.truth.Ringing", "v2a_nb.metrics.truth.EventDistance"
_VAAS, _SUMMARY = "v2a_nb.metrics.vaas.metric.VaasMetric", "v2a_nb.metrics.summarization.metric.SummaryMetric"
_ENTRIES = (
    Entry("onset_f1_25ms", _ONSETS, _TRUTH, "F1 of onsets against true events, within 25 ms, pooled over clips"),
    Entry("onset_f1_50ms", _ONSETS, _TRUTH, "the same within 50 ms"),
    Entry("onset_f1_100ms", _ONSETS, _TRUTH, "the same within 100 ms"),
    Entry("onset_offset_abs_ms", _ONSETS, _TRUTH, "median distance of onsets from the events they match, ms"),
    Entry("onset_offset_signed_ms", _ONSETS, _TRUTH, "the same with its sign: positive is late"),
    Entry("near_miss_silent", _ONSETS, _TRUTH, "share of near misses without an onset"),
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
        "fad", "v2a_nb.metrics.frechet.Fad", ("reference",),
        "Fréchet audio distance to the reference sounds, in the embedding StrikeAudio",
    ),
    Entry(
        "av_sim", "v2a_nb.metrics.av_sim.AvSimMetric", ("video",),
        "mean cosine of picture and sound in the embedding AV-Sim, -1 to 1",
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
)  # fmt: skip
METRICS = {entry.name: entry for entry in _ENTRIES}


def entries(names: Iterable[str]) -> list[Entry]:
    """The entries of these names.

    Raises:
        UsageError: a name is unknown.
    """
    names = list(names)
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise UsageError(f"unknown metric {unknown[0]!r}; known are {', '.join(METRICS)}")
    return [METRICS[name] for name in names]


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
    return "\n".join(lines)
