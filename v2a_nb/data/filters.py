"""Filters: which clips are worth training on.

Action2Sound's four stages (section 7.3), by the names that ``v2a-nb curate --filters`` takes:

| name | removes | paper |
|---|---|---|
| ``sound`` | clips without a sound stream, or with digital silence | 3.8M to 2.5M clips |
| ``scenario`` | recordings of social scenarios | to 1.7M |
| ``tags`` | clips that are likely speech, music or off-screen sounds alone | to 1.23M |
| ``energy`` | clips that are quiet beside the loudest moment of their recording | to 1.18M |

VTA-LDM's two (section 5.5):

| name | removes | needs |
|---|---|---|
| ``audio_text`` | clips whose sound is unlike their text | a CLAP model |
| ``av_align`` | clips whose onsets and motion do not fall together | OpenCV (``v2a-nb[flow]``) |

and one of ours: ``correspondence`` removes clips whose sound does not fit their pictures, which none of Action2Sound's
can see.

A filter judges each clip by itself or beside its recording, and says why. What it cannot judge it keeps and counts
apart; what cannot be read it removes and reports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from v2a_nb.clip import Sound
from v2a_nb.data.av_align import av_align as av_align_score
from v2a_nb.data.collection import Collection, Entry
from v2a_nb.data.correspondence import ClipScore
from v2a_nb.data.correspondence import correspondence as clip_correspondence
from v2a_nb.data.taggers import Tagger, offscreen_tagger
from v2a_nb.errors import MediaError, UsageError, V2AError
from v2a_nb.models.optical_flow import need_opencv

SILENT = 1e-5
"""Peak under which a sound is digital silence: less than one step of 16 bits."""
SOCIAL = ("board games", "party", "talking with")
"""Found in the labels that section 7.3 names. The paper picked 28 labels and published neither them nor a file."""
OFFSCREEN = ("speech", "background_music", "offscreen")
TAG_LIMIT, ENERGY_DB, CORRESPONDENCE, AUDIO_TEXT, AV_ALIGN = 0.5, -60.0, 0.3, 0.3, 0.2
SHORT_SIDE = 256
"""Pixels of the short side of pictures whose motion is measured, as where metrics are."""
TextScorer = Callable[[Sound, str], float]
"""A function from a sound and a text to how well they fit, higher is better."""
UNREADABLE = "cannot be read"


@dataclass(frozen=True)
class Verdict:
    """On one clip. ``why`` is a reason to be counted; ``problem`` one line where its media cannot be read."""

    keep: bool
    why: str = ""
    value: float | None = None
    judged: bool = True
    problem: str = ""


@dataclass(frozen=True)
class Filter:
    """A stage by name: ``judge`` gives one verdict for each clip that is still there, in their order."""

    name: str
    judge: Callable[[Sequence[Entry], Collection], Iterator[Verdict]]


def _each(name: str, judge_one: Callable[[Entry, Collection], Verdict]) -> Filter:
    """A filter of single clips; media that cannot be read are a verdict too."""

    def judge(entries: Sequence[Entry], source: Collection) -> Iterator[Verdict]:
        for entry in entries:
            try:
                yield judge_one(entry, source)
            except (MediaError, UsageError) as error:
                yield Verdict(False, UNREADABLE, problem=str(error))

    return Filter(name, judge)


def _unknown(why: str) -> Verdict:
    return Verdict(True, why, judged=False)


def sound() -> Filter:
    """Stage 1: clips without sound are removed. Its value is the peak."""

    def judge(entry: Entry, source: Collection) -> Verdict:
        peak = source.levels(entry).peak
        if peak is None:
            return Verdict(False, "no sound stream")
        return Verdict(peak >= SILENT, "" if peak >= SILENT else "digital silence", peak)

    return _each("sound", judge)


def scenario(social: Sequence[str] = SOCIAL, labels: Mapping[str, Sequence[str]] | None = None) -> Filter:
    """Stage 2: recordings are removed whose scenario is social, "where majority of the sounds are speech".

    Args:
        social: parts of labels, in any case; one in any label of the recording is enough.
        labels: of each recording; left out, those of the source (``ego4d.json`` for Ego4D-Sounds).
    """
    parts = [part.lower() for part in social]

    def judge(entry: Entry, source: Collection) -> Verdict:
        found = entry.scenarios if labels is None else labels.get(entry.recording)
        if found is None:
            return _unknown("no scenario is known")
        hit = next((name for name in found if any(part in str(name).lower() for part in parts)), None)
        return Verdict(hit is None, "" if hit is None else str(hit))

    return _each("scenario", judge)


def tags(threshold: float = TAG_LIMIT, tagger: Tagger | None = None, names: Sequence[str] = OFFSCREEN) -> Filter:
    """Stage 3: clips are removed that are tagged as off-screen sounds with a probability of ``threshold`` or more.

    Args:
        threshold: 0 to 1; 0.5 in the paper, whose published rows are all under it.
        tagger: of the sounds of clips without published tags; left out, Strike World gets
            :func:`~v2a_nb.data.taggers.offscreen_tagger` and other clips cannot be judged.
        names: of the tags that are off-screen.
    """
    _share("tags", threshold)

    def judge(entry: Entry, source: Collection) -> Verdict:
        found = {name: entry.tags[name] for name in names if name in entry.tags}
        tag = tagger or (offscreen_tagger if source.kind == "strike" else None)
        if not found:
            if tag is None:
                return _unknown("no tags are published, and no tagger was given")
            sound = entry.hear()
            if sound is None:
                return _unknown("no sound stream")
            probabilities = tag(sound)
            found = {name: float(probabilities[name]) for name in names if name in probabilities}
            if not found:
                raise V2AError(f"the tagger gives {', '.join(probabilities)} and none of {', '.join(names)}")
        name = max(found, key=found.__getitem__)
        return Verdict(found[name] < threshold, "" if found[name] < threshold else name, found[name])

    return _each("tags", judge)


def energy(threshold_db: float = ENERGY_DB, peaks: Mapping[str, float] | None = None) -> Filter:
    """Stage 4: clips are removed that lie under ``threshold_db`` of the loudest moment of their recording.

    The value is the clip's RMS over the recording's largest absolute sample, in dB.

    Args:
        threshold_db: -60 in the paper.
        peaks: of recordings, 0 to 1; left out, the largest among the source's own clips of that recording, those
            that other stages removed among them. A recording with one clip is compared with itself.
    """

    def judge(entries: Sequence[Entry], source: Collection) -> Iterator[Verdict]:
        wanted = {entry.recording for entry in entries}
        loudest = dict(peaks or {})
        for other in source.entries:
            if other.recording in wanted and not (peaks and other.recording in peaks):
                try:
                    peak = source.levels(other).peak or 0.0
                except (MediaError, UsageError):
                    continue  # reported where it is judged itself
                loudest[other.recording] = max(peak, loudest.get(other.recording, 0.0))

        def one(entry: Entry, source: Collection) -> Verdict:
            levels = source.levels(entry)
            if levels.rms_dbfs is None or levels.peak is None:
                return _unknown("no sound stream")
            if levels.peak < SILENT:  # beside a recording that is silent too it would be as loud as anything
                return Verdict(False, "quiet", levels.rms_dbfs)
            value = float(levels.rms_dbfs - 20 * np.log10(loudest[entry.recording]))
            return Verdict(value >= threshold_db, "" if value >= threshold_db else "quiet", value)

        yield from _each("energy", one).judge(entries, source)

    if not np.isfinite(threshold_db):
        raise UsageError(f"energy={threshold_db}: a number of dB is needed, such as -60")
    return Filter("energy", judge)


def correspondence(threshold: float = CORRESPONDENCE, score: ClipScore | None = None, by: str = "clip") -> Filter:
    """Clips are removed whose sound fits their pictures less than ``threshold``.

    Args:
        threshold: of the score.
        score: of a clip with its sound, higher is better, NaN where it is not known. Left out,
            :func:`~v2a_nb.data.correspondence.correspondence`, for which the default threshold was chosen (seed 9100)
            and which knows Strike World alone: clips from elsewhere are then not judged.
        by: ``"clip"``, or ``"recording"``: all clips of a recording share the mean of their scores, for collections
            in which a whole recording has the wrong sound.
    """
    if by not in ("clip", "recording"):
        raise UsageError(f"by={by!r} is neither 'clip' nor 'recording'")
    if not np.isfinite(threshold):
        raise UsageError(f"correspondence={threshold}: a number is needed")

    def one(entry: Entry, source: Collection) -> Verdict:
        if score is None and source.kind != "strike":
            return _unknown("the score of its own knows Strike World only; give another")
        value = float((score or clip_correspondence)(entry.open()))
        if np.isnan(value):
            return _unknown("no strike is in its pictures or its sound" if score is None else "the score is NaN")
        return _against(value, threshold)

    def judge(entries: Sequence[Entry], source: Collection) -> Iterator[Verdict]:
        verdicts = _each("correspondence", one).judge(entries, source)
        if by == "clip":
            yield from verdicts
            return
        verdicts = list(verdicts)
        values: dict[str, list[float]] = {}
        for entry, verdict in zip(entries, verdicts, strict=True):
            if verdict.value is not None:
                values.setdefault(entry.recording, []).append(verdict.value)
        for entry, verdict in zip(entries, verdicts, strict=True):
            shared = values.get(entry.recording)
            yield verdict if verdict.problem or not shared else _against(float(np.mean(shared)), threshold)

    return Filter("correspondence", judge)


def audio_text(threshold: float = AUDIO_TEXT, scorer: TextScorer | str | Path | None = None) -> Filter:
    """Clips are removed whose sound is less like their text than ``threshold``; those without text are not judged.

    Args:
        threshold: of the score; 0.3 in the paper, of CLAP's cosine.
        scorer: from a sound and a text to a score; or a CLAP's folder or Hub id (:class:`~v2a_nb.models.clap.Clap`).

    Raises:
        UsageError: no scorer is given, or the threshold is no number.
    """
    if not np.isfinite(threshold):
        raise UsageError(f"audio_text={threshold}: a number is needed")
    if scorer is None:
        raise UsageError(
            "audio_text needs a CLAP model: give its folder or Hub id, such as --clap laion/clap-htsat-unfused (0.6 GB)"
        )
    fit = _clap(scorer) if isinstance(scorer, (str, Path)) else scorer

    def judge(entry: Entry, source: Collection) -> Verdict:
        if not entry.narration.strip():
            return _unknown("no text")
        sound = entry.hear()
        if sound is None:
            return _unknown("no sound stream")
        return _against(float(fit(sound, entry.narration)), threshold, "does not fit the text")

    return _each("audio_text", judge)


def _clap(weights: str | Path) -> TextScorer:
    """The similarity of a CLAP, which is loaded when the first clip is judged."""

    @cache
    def load():
        from v2a_nb.models.clap import Clap

        return Clap(weights)

    return lambda sound, text: load().similarity(sound, text)


def av_align(threshold: float = AV_ALIGN) -> Filter:
    """Clips are removed whose AV-Align (:func:`v2a_nb.data.av_align.av_align`) is under ``threshold``.

    A clip in which nothing moves and nothing starts to sound is not judged.

    Args:
        threshold: of the score, 0 to 1; 0.2 in the paper.

    Raises:
        UsageError: OpenCV is not installed, or the threshold is out of range.
    """
    _share("av_align", threshold)
    need_opencv()

    def judge(entry: Entry, source: Collection) -> Verdict:
        clip = entry.open(size=SHORT_SIDE)
        if clip.sound is None:
            return _unknown("no sound stream")
        value = av_align_score(clip)
        return _unknown("neither motion nor onsets") if np.isnan(value) else _against(value, threshold)

    return _each("av_align", judge)


def _against(value: float, threshold: float, why: str = "does not fit the pictures") -> Verdict:
    keep = value >= threshold
    return Verdict(keep, "" if keep else why, value)


def _share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UsageError(f"{name}={value}: a probability between 0 and 1 is needed")


FILTERS: dict[str, Callable[..., Filter]] = {
    "sound": sound, "scenario": scenario, "tags": tags, "energy": energy, "correspondence": correspondence,
    "audio_text": audio_text, "av_align": av_align,
}  # fmt: skip
PAPER = ("sound", "scenario", "tags", "energy")
THRESHOLDS = ("tags", "energy", "correspondence", "audio_text", "av_align")


def make_filters(wanted: str | Sequence[str | Filter], clap: str | Path | None = None) -> list[Filter]:
    """Filters by name, in the order given.

    Args:
        wanted: filters, names, or one line such as ``"sound,energy=-50"``; ``"paper"`` stands for the four stages.
        clap: folder or Hub id of the model that ``audio_text`` needs.

    Raises:
        UsageError: none, one twice, no such name, or a threshold that makes no sense.

    Examples:
        >>> [f.name for f in make_filters("paper,correspondence=0.4")]
        ['sound', 'scenario', 'tags', 'energy', 'correspondence']
    """
    names = wanted.split(",") if isinstance(wanted, str) else wanted
    made: list[Filter] = []
    for item in names:
        if isinstance(item, Filter):
            made.append(item)
            continue
        name, _, value = (part.strip() for part in item.partition("="))
        if name == "paper" and not value:
            made += [FILTERS[stage]() for stage in PAPER]
        elif name not in FILTERS:
            raise UsageError(
                f"filter {name!r} is unknown; choose of {', '.join(FILTERS)}, or 'paper' for the first four"
            )
        elif not value:
            made.append(FILTERS[name](**_given(name, clap)))
        elif name not in THRESHOLDS:
            raise UsageError(f"filter {name!r} takes no threshold ({item.strip()!r})")
        else:
            try:
                limit = float(value)
            except ValueError:
                raise UsageError(f"filter {item.strip()!r}: {value!r} is no number") from None
            made.append(FILTERS[name](limit, **_given(name, clap)))
    found = [f.name for f in made]
    if not found or len(set(found)) < len(found):
        raise UsageError(f"filters {', '.join(found) or '(none)'}: at least one is needed, and none twice")
    return made


def _given(name: str, clap: str | Path | None) -> dict[str, str | Path | None]:
    return {"scorer": clap} if name == "audio_text" else {}
