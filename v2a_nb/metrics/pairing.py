"""Which sound belongs to which clip: truth files, folders of sounds, and shuffles.

Pairing is by explicit id. Whatever does not pair is put into a list of problems, ``{"id", "what"}``; nothing
is left out in silence.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from v2a_nb import media
from v2a_nb.clip import Sound
from v2a_nb.errors import V2AError

SOUNDS = (".wav", ".flac", ".aiff", ".aif", ".ogg", ".opus", ".mp3", ".m4a", ".aac")
VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi")
SUFFIXES = (*SOUNDS, *VIDEOS)
"""What is looked for under a clip's id, the first found first: a sound before a video's soundtrack."""
LENGTH_S = 0.05
SILENT = 1e-5


def shuffled(recordings: Sequence[str]) -> list[int] | None:
    """For each clip the index of another one, each used once, none of its own recording.

    Args:
        recordings: the name of each clip's recording.

    Returns:
        a fixed permutation; None where there is none, because one recording has more than half of the
        clips.
    """
    order = sorted(range(len(recordings)), key=lambda i: (recordings[i], i))
    sizes = Counter(recordings)
    shift = max(sizes.values(), default=0)
    if 2 * shift > len(order) or not order:
        return None
    # recordings lie in blocks: a shift by the longest one leaves every block
    made = [0] * len(order)
    for place, i in enumerate(order):
        made[i] = order[(place + shift) % len(order)]
    return made


def read_truth(path: str | Path, problems: list[dict]) -> list[dict]:
    """The clips of a ``truth.json``; an id that comes twice is put into ``problems`` and taken once.

    Raises:
        V2AError: it cannot be read, or a clip lacks what scoring needs.
    """
    try:
        clips = json.loads(Path(path).read_text())["clips"]
        entries: dict[str, dict] = {}
        for clip in clips:
            for event in clip["events"]:
                float(event["time_s"]), event["kind"], event["material"], event["sounding"]
            if not float(clip["duration_s"]) > 0:
                raise ValueError(f"clip {clip['id']} lasts {clip['duration_s']} s")
            if clip["id"] in entries:
                problems.append({"id": clip["id"], "what": f"twice in {path}; the first was taken"})
            entries.setdefault(clip["id"], clip)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise V2AError(f"{path} is not a truth.json: {error}") from error
    except KeyError as error:
        raise V2AError(f"{path} is not a truth.json: there is no {error}") from error
    if not entries:
        raise V2AError(f"{path} holds no clips")
    return list(entries.values())


def pair_files(folder: Path, ids: Sequence[str], problems: list[dict], *, extra: bool = True) -> dict[str, Path]:
    """The sound of each id in a folder; what is missing, double or unknown goes into ``problems``.

    A video beside a sound of the same name is no double: ``v2a-nb generate`` writes both. Strike World's
    own stems folder is understood too (``ID.mix.wav``).
    """
    found: dict[str, list[Path]] = {}
    known = set(ids)
    for path in listing(folder):
        if path.suffix.lower() not in SUFFIXES:
            continue
        name, _, stem = path.stem.rpartition(".")
        if path.stem in known:
            found.setdefault(path.stem, []).append(path)
        elif name in known and stem == "mix":
            found.setdefault(name, []).append(path)
        elif extra and not (name in known and stem in ("action", "ambient", "offscreen")):
            problems.append({"id": path.stem, "what": f"{path} belongs to no clip of the truth"})
    made = {}
    for name in ids:
        paths = sorted(found.get(name, []), key=lambda p: (SUFFIXES.index(p.suffix.lower()), p.name))
        if not paths:
            problems.append({"id": name, "what": f"no sound in {folder}"})
            continue
        rivals = [p.name for p in paths[1:] if p.suffix.lower() in SOUNDS or paths[0].suffix.lower() in VIDEOS]
        if rivals:
            problems.append({"id": name, "what": f"{paths[0].name} was taken; there is {', '.join(rivals)} too"})
        made[name] = paths[0]
    return made


def read_sound(path: Path | None, entry: dict, problems: list[dict]) -> Sound | None:
    """A clip's sound, its flaws put into ``problems``; None where there is none to read."""
    if path is None:
        return None  # already among the problems
    try:
        sound = media.open_sound(path)
    except V2AError as error:
        what = str(error) if str(path) in str(error) else f"{path}: {error}"
        problems.append({"id": entry["id"], "what": what})
        return None
    problems += [{"id": entry["id"], "what": f"{path}: {w}"} for w in flaws(sound, entry["duration_s"])]
    return sound


def flaws(sound: Sound, wanted: float) -> list[str]:
    """What is odd about a sound that can be scored all the same."""
    made = []
    if abs(sound.duration - wanted) > LENGTH_S:
        made.append(f"lasts {sound.duration:.2f} s instead of {wanted:.2f} s")
    if sound.peak < SILENT:
        made.append("silent")
    return made


def listing(folder: Path) -> list[Path]:
    """The files of a folder by name.

    Raises:
        V2AError: it is no folder.
    """
    if not folder.is_dir():
        raise V2AError(f"{folder} is not a folder")
    return sorted(p for p in folder.iterdir() if p.is_file())
