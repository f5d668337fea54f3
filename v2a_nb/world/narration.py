"""One-line descriptions of clips, in the style of Ego4D narrations."""

from __future__ import annotations

from v2a_nb.world.description import Event, Recording

_NOUN = {"wood": "block", "metal": "bowl", "glass": "tumbler", "ceramic": "cup", "drum": "drum"}
_TIMES = {1: "once", 2: "twice", 3: "three times", 4: "four times", 5: "five times"}


def narrate(recording: Recording, events: list[Event]) -> str:
    """Describe a clip's events in one sentence without a full stop.

    Examples:
        >>> from v2a_nb.world.recording import draw
        >>> narrate(draw(0, 0), [])
        'nothing is touched'
    """
    actor = f"a {recording.actor}"
    phrases: list[str] = []
    counts: dict[tuple[str, int], int] = {}
    for event in events:
        key = ("touch" if event.manner == "touch" else event.kind, event.thing)
        counts[key] = counts.get(key, 0) + 1
    for (kind, thing), count in counts.items():
        material = recording.things[thing].material
        noun = "the drum" if material == "drum" else f"the {material} {_NOUN[material]}"
        times = _TIMES.get(count, f"{count} times")
        if kind == "bounce":
            phrases.append(f"bounces on {noun} {times}")
        else:
            verb = {"strike": "strikes", "scrape": "scrapes", "near_miss": "misses", "touch": "touches"}[kind]
            phrases.append(f"{verb} {noun} {times}")
    if not phrases:
        return "nothing is touched"
    if len(phrases) == 1:
        return f"{actor} {phrases[0]}"
    return f"{actor} {', '.join(phrases[:-1])} and {phrases[-1]}"
