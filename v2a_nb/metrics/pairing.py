"""Which sound belongs to which clip: truth files, folders of sounds and videos, and shuffles.

Files are paired by id. Whatever does not pair is appended to a list of problems, ``{"id", "what"}``; nothing is left
out in silence.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from v2a_nb import media
from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError, V2AError

SOUNDS = (".wav", ".flac", ".aiff", ".aif", ".ogg", ".opus", ".mp3", ".m4a", ".aac")
VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi")
SUFFIXES = (*SOUNDS, *VIDEOS)
"""Endings of files that may hold a clip's sound, in the order in which they are tried: sound files before videos."""
STEMS = ("action", "ambient", "offscreen")
"""Strike World writes ``ID.mix.wav`` beside these, which are parts of a clip's sound."""
LENGTH_S = 0.05
"""Seconds by which a sound may be longer or shorter than its clip."""
SILENT = 1e-5
"""A sound whose largest sample is under this is silent."""


def shuffled(recordings: Sequence[str]) -> list[int] | None:
    """For each clip the index of another one, each used once, none of its own recording.

    Args:
        recordings: the name of each clip's recording.

    Returns:
        always the same permutation for the same names; None where there is none, because one recording has more
        than half of the clips.
    """
    order = sorted(range(len(recordings)), key=lambda i: (recordings[i], i))
    sizes = Counter(recordings)
    shift = max(sizes.values(), default=0)
    if 2 * shift > len(order) or not order:
        return None
    # recordings lie in blocks: a shift by the longest one leaves every block
    others = [0] * len(order)
    for place, i in enumerate(order):
        others[i] = order[(place + shift) % len(order)]
    return others


def read_truth(path: str | Path, problems: list[dict]) -> list[dict]:
    """The clips of a ``truth.json``. Of an id that comes twice the first is taken, and ``problems`` says so.

    Raises:
        V2AError: it cannot be read, or a clip lacks what scoring needs.
    """
    try:
        clips = json.loads(Path(path).read_text())["clips"]
        entries: dict[str, dict] = {}
        for clip in clips:
            for event in clip["events"]:
                float(event["time_s"]), event["kind"], event["material"], event["sounding"]
            if "ambient" in clip:
                float(clip["ambient"]["level_dbfs"])
            if not isinstance(clip["id"], str) or not isinstance(clip.get("recording", ""), str):
                raise ValueError(f"ids and recordings must be text, not {clip['id']!r}, {clip.get('recording')!r}")
            if "pair" in clip and clip["pair"]["side"] not in ("a", "b"):
                raise ValueError(f"clip {clip['id']} is on side {clip['pair']['side']!r} of its pair, not 'a' or 'b'")
            if "pair" in clip:
                clip["pair"]["of"], clip["pair"]["factor"]
            if not 0 < float(clip["duration_s"]) < float("inf"):
                raise ValueError(f"clip {clip['id']} lasts {clip['duration_s']} s")
            if clip["id"] in entries:
                problems.append({"id": clip["id"], "what": f"twice in {path}; the first was taken"})
            entries.setdefault(clip["id"], clip)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise V2AError(f"{path} is not a truth.json: {error}") from error
    except KeyError as error:
        raise V2AError(f"{path} is not a truth.json: there is no {error}") from error
    if not entries:
        raise V2AError(f"{path} holds no clips")
    return list(entries.values())


def names_in(folder: Path) -> list[str]:
    """The ids of the sounds in a folder: names without suffix, and ``ID`` for ``ID.mix.wav``.

    Raises:
        V2AError: it is not a folder.
    """
    names = []
    for path in listing(folder):
        name, _, stem = path.stem.rpartition(".")
        if path.suffix.lower() in SUFFIXES and not (name and stem in STEMS):
            names.append(name if name and stem == "mix" else path.stem)
    return sorted(set(names))


def pair_files(
    folder: Path, ids: Sequence[str], problems: list[dict], *, extra: bool = True, video: bool = False
) -> dict[str, Path]:
    """The file of each id in a folder; what is missing, double or unknown is appended to ``problems``.

    A video beside a sound of the same name is not double: ``v2a-nb generate`` writes both. Strike World's own folder
    of stems is understood too (``ID.mix.wav``).

    Args:
        folder: where to look.
        ids: of the clips.
        problems: is appended to.
        extra: whether files that belong to none of the ids are problems.
        video: look for videos and not for sounds.

    Raises:
        V2AError: it is not a folder.
    """
    suffixes, kind = (VIDEOS, "video") if video else (SUFFIXES, "sound")
    found: dict[str, list[Path]] = {}
    known = set(ids)
    for path in listing(folder):
        if path.suffix.lower() not in suffixes:
            continue
        name, _, stem = path.stem.rpartition(".")
        if path.stem in known:
            found.setdefault(path.stem, []).append(path)
        elif name in known and stem == "mix":
            found.setdefault(name, []).append(path)
        elif extra and not (name in known and stem in STEMS):
            problems.append({"id": path.stem, "what": f"{path} belongs to no clip of the truth"})
    pairs = {}
    for name in ids:
        paths = sorted(found.get(name, []), key=lambda p: (suffixes.index(p.suffix.lower()), p.name))
        if not paths:
            problems.append({"id": name, "what": f"no {kind} in {folder}"})
            continue
        rivals = [p.name for p in paths[1:] if p.suffix.lower() in SOUNDS or paths[0].suffix.lower() in VIDEOS]
        if rivals:
            problems.append({"id": name, "what": f"{paths[0].name} was taken; there is {', '.join(rivals)} too"})
        pairs[name] = paths[0]
    return pairs


def by_name(folders: Sequence[str | Path]) -> dict[str, Path]:
    """Name folders: each by its own name, or by its whole path where two have the same.

    Raises:
        UsageError: a folder comes twice.

    Examples:
        >>> list(by_name(["runs/mine", "runs/theirs"])), list(by_name(["a/out", "b/out"]))
        (['mine', 'theirs'], ['a/out', 'b/out'])
    """
    paths = [Path(folder) for folder in folders]
    if len({path.resolve() for path in paths}) < len(paths):
        raise UsageError(f"each folder once, and not {', '.join(map(str, folders))}")
    short = len({path.resolve().name for path in paths}) == len(paths)
    return {path.resolve().name if short else str(path): path for path in paths}


def stems_in(folder: Path, ids: Sequence[str]) -> dict[str, dict[str, Path]]:
    """The files ``ID.action.wav``, ``ID.ambient.wav`` ... of each id that has any, by the stem.

    Raises:
        V2AError: it is not a folder.
    """
    known, found = set(ids), dict[str, dict[str, Path]]()
    for path in listing(folder):
        name, _, stem = path.stem.rpartition(".")
        if name in known and stem in STEMS and path.suffix.lower() in SOUNDS:
            found.setdefault(name, {})[stem] = path
    return found


def read_sound(path: Path | None, name: str, problems: list[dict]) -> Sound | None:
    """The sound of a file, a video's from its first picture on; None where there is none that can be read.

    What is damaged, or cannot be read at all, is appended to ``problems``.
    """
    if path is None:
        return None  # already among the problems
    damage: list[str] = []
    try:
        sound = media.open_sound(path, problems=damage)
        problems += [{"id": name, "what": f"{path}: {line}"} for line in damage]
        return sound
    except V2AError as error:
        what = str(error) if str(path) in str(error) else f"{path}: {error}"
        problems.append({"id": name, "what": what})
        return None


def flaws(sound: Sound, wanted: float) -> list[str]:
    """List the flaws of a sound, one line each; it is scored all the same.

    Args:
        sound: any.
        wanted: seconds that the clip lasts.
    """
    odd = []
    if abs(sound.duration - wanted) > LENGTH_S:
        odd.append(f"lasts {sound.duration:.2f} s instead of {wanted:.2f} s")
    if sound.peak < SILENT:
        odd.append("silent")
    return odd


def listing(folder: Path) -> list[Path]:
    """The files of a folder in the order of their names.

    Raises:
        V2AError: it is not a folder.
    """
    if not folder.is_dir():
        raise V2AError(f"{folder} is not a folder")
    return sorted(p for p in folder.iterdir() if p.is_file())
