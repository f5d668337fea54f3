"""The clip browser: a grid of posters with their truth, filters that need no kernel, and a player for each clip.

``browse(world.test)`` or ``browse("folder")`` shows self-contained HTML: the filters are plain script, and as many
clips have a player as fit into :data:`BUDGET_BYTES`. Where scripts are off the whole grid is visible.
``browse(...).live()`` needs a kernel and shows every clip, page by page, with its full player.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from v2a_nb import media
from v2a_nb.clip import Clip
from v2a_nb.errors import MediaError, UsageError, V2AError
from v2a_nb.widgets.page import data_uri, escape, json_text
from v2a_nb.widgets.payload import as_text
from v2a_nb.widgets.player import play

BUDGET_BYTES = 2_000_000
"""Target size of the static display: posters come first, then as many players as fit."""
CARDS = 60
"""Most clips in the static display; ``live()`` pages through all of them."""
PAGE = 12  # clips of a page of ``live()``
PREVIEW_S, PREVIEW_RATE, PREVIEW_SIDE = 4.0, 16000, 200  # of a static player: seconds, Hz (mono), pixels
LIVE_S, LIVE_SIDE, POSTER = 30.0, 320, 176  # of a live player: seconds, pixels; a poster's longer side, pixels
MISS, NOTHING = "near miss", "no event"
SUFFIXES = re.compile(r"\.(mp4|m4v|mov|mkv|webm|avi|mpe?g|m?ts|wmv|flv|ogv|3gp)", re.I)
SCRIPTS = re.compile(r"<script>(.*?)</script>", re.S)
SCRIPT = (Path(__file__).parent / "browser.js").read_text(encoding="utf-8").strip()
DAMAGED = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError, OSError)


@dataclass(frozen=True, eq=False)
class Entry:
    """A clip that can be opened, and what is known about it; its texts are never read as HTML."""

    name: str
    open: Callable[[float, int], Clip]  # the first so many seconds, shrunk to a short side of so many pixels
    peek: Callable[[float | None], np.ndarray]  # the picture at a time (s; None: the middle), uint8 [H, W, 3]
    narration: str = ""
    ambience: str = ""
    events: tuple[Mapping, ...] | None = None  # as in truth.json; None where there is no truth
    extra: tuple[str, ...] = ()  # further tags
    seconds: float | None = None

    @cached_property
    def pairs(self) -> list[tuple[str, str]]:
        """The distinct (material, kind) of all events; an event without sound is of the kind ``near miss``."""
        kinds = ((e, e.get("kind", "") if e.get("sounding", True) else MISS) for e in self.events or ())
        return sorted({(as_text(e.get("material", "")), as_text(kind)) for e, kind in kinds})

    @cached_property
    def tags(self) -> list[str]:
        """Materials that sound, kinds of events, ambience and further tags."""
        words = [m for m, k in self.pairs if k != MISS] + [k for _, k in self.pairs] + [self.ambience, *self.extra]
        return [*([NOTHING] if self.events == () else []), *dict.fromkeys(filter(None, words))]

    @cached_property
    def words(self) -> str:
        """The text that the text filter searches, in lower case."""
        return " ".join([self.name, self.narration, *self.tags]).lower()

    @cached_property
    def card(self) -> str:
        """HTML of the poster, at the first event or in the middle, and the tags; raises V2AError without a picture."""
        from PIL import Image

        first = min((e["time_s"] for e in self.events or ()), default=None)
        image, jpeg = Image.fromarray(np.ascontiguousarray(self.peek(first))), io.BytesIO()
        image.thumbnail((POSTER, POSTER), Image.Resampling.BILINEAR)
        image.save(jpeg, "JPEG", quality=72)
        title = escape(self.narration or self.name)
        tags = " ".join(f"<bdi>{escape(tag)}</bdi>" for tag in self.tags)
        under = [f"<bdi>{escape(self.name)}</bdi>"] * bool(self.narration)
        under += [f"{self.seconds:.2f} s"] if self.seconds else []
        return (
            f'<img alt="Picture: {title}" src="{data_uri("image/jpeg", jpeg.getvalue())}" '
            'style="display:block;width:100%;height:132px;object-fit:contain">'
            f'<p class="name" dir="auto" style="margin:4px 0"><bdi>{title}</bdi></p>'
            f'<p class="tags" style="margin:4px 0">{tags}</p>'
            f'<p style="margin:4px 0"><small>{" · ".join(under)}</small></p>'
        )


def select(items: Iterable, *, material: str = "", ambience: str = "", event: str = "", text: str = "") -> list:
    """Select the items that pass all filters, in their order; an empty filter passes everything.

    Args:
        items: clips of a world, ``Clip``, video paths, or a browser's entries.
        material: some event must sound on this material; with ``event``, one event must match both.
        ambience: kind of the ambience.
        event: a kind (``strike``, ``scrape``, ``bounce``), ``near miss``, or ``no event``.
        text: words that must all occur in the name, narration or tags; case does not matter.

    Raises:
        UsageError: an item that is no clip.
    """

    def fits(entry: Entry) -> bool:  # the script's ``fits`` below is the same
        if (ambience and entry.ambience != ambience) or not all(word in entry.words for word in text.lower().split()):
            return False
        if event == NOTHING:
            return entry.events == () and not material
        right = [m for m, kind in entry.pairs if (kind == event if event else kind != MISS)]
        return material in right if material else bool(right) or not event

    return [item for item in items if fits(_entry(item))]


def browse(source: object) -> Browser:
    """Show a browser of clips, which works with or without a kernel.

    Args:
        source: a ``StrikeWorld`` or one of its splits; any list of its clips, of ``Clip`` or of video paths; or a
            folder of videos. A folder that ``v2a-nb world`` wrote is shown with its truth.

    Raises:
        UsageError: there is nothing to show, or an item is no clip.
        MediaError: there is no such folder, or it has no videos. A single unreadable file is named in the display.

    Example:
        ``browse(select(world.test, material="metal", event="strike"))``
    """
    if isinstance(source, str | os.PathLike):
        return Browser(*_folder(Path(source)))
    if not isinstance(source, Iterable):
        raise UsageError(f"browse: source must be a world, a list of clips or a folder, not {type(source).__name__}")
    entries = [_entry(item) for item in source]
    if not entries:
        raise UsageError("there is no clip to browse: the list is empty")
    return Browser(entries, [])


@dataclass(eq=False)
class Browser:
    """The result of :func:`browse`: ``entries`` in order, and ``problems``, a line for each unusable file."""

    entries: list[Entry]
    problems: list[str]

    def __repr__(self) -> str:
        return f"Browser({len(self.entries)} clips)"

    def _repr_html_(self) -> str:
        return self.html

    @cached_property
    def html(self) -> str:
        """The HTML: the whole grid, then the script that adds filters and players."""
        shown, problems, room = [], list(self.problems), BUDGET_BYTES - 20_000
        for entry in self.entries:
            if len(shown) == CARDS or room < 0.2 * BUDGET_BYTES:
                break
            try:
                room -= len(entry.card) + len(entry.words) + 300
                shown.append(entry)
            except V2AError as error:
                problems.append(str(error))
        players = _players(shown, room, problems)
        facts = [{"text": e.words, "ambience": e.ambience, "pairs": e.pairs, "empty": e.events == ()} for e in shown]
        # the players' scripts are the same up to their names, so one copy is written
        shared = os.path.commonprefix([s for p in players.values() for s in SCRIPTS.findall(p)])  # noqa: RUF071
        pages = {k: page.split(shared) if shared else [page] for k, page in players.items()}
        data = json_text({"shared": shared, "clips": facts, "players": pages})
        style = "display:inline-block;vertical-align:top;width:180px;margin:0 10px 14px 0"
        cards = "".join(f'<li style="{style}">{entry.card}</li>' for entry in shown)
        token = "v2a-" + hashlib.sha256((data + cards).encode()).hexdigest()[:12]
        said = (
            f"{len(shown)} of {len(self.entries)} clips, {len(players)} with a player ({PREVIEW_S:g} s, mono, 16 kHz)"
        )
        more = f": as much as {BUDGET_BYTES / 1e6:g} MB hold. With a running kernel, .live() plays them all in full"
        return (
            f'<section class="{token}" data-lm-suppress-shortcuts="true" aria-label="Clip browser" '
            'style="font-family:system-ui,sans-serif;max-width:1000px">'
            f"<style>{STYLE.replace('ROOT', '.' + token)}</style>{_controls(options(shown))}"
            f"<p><small>{said}{more * (len(players) < len(self.entries))}.</small></p>{_listed(problems)}"
            '<div class="box" role="region" tabindex="-1" hidden></div>'
            f'<ul class="grid" style="list-style:none;margin:0;padding:0">{cards}</ul>'
            f'<script type="application/json">{data}</script><script>(() => {{\n{SCRIPT}\n'
            f'for (const root of document.querySelectorAll("section.{token}:not([data-mounted])")) mount(root);\n'
            "})();</script></section>"
        )

    def live(self):
        """Return an ipywidgets panel with all clips, page by page, each with its full player; it needs a kernel."""
        # widgets are created once and refilled, because a kernel never frees one
        import ipywidgets as w

        from v2a_nb.widgets.upload import put

        found, choices = self.entries, {}
        for name, values in options(self.entries).items():
            if values:
                choices[name] = w.Dropdown(options=[("any", ""), *((v, v) for v in values)], description=name)
        choices["text"] = w.Text(description="text", placeholder="words, in any order")
        count, listed, message, player = w.HTML(), w.HTML(_listed(self.problems)), w.HTML(), w.Output()
        page = w.BoundedIntText(1, min=1, max=1, description="page")
        cards = [(w.HTML(), w.Button(tooltip="open the player of this clip")) for _ in range(PAGE)]
        boxes = [w.VBox(card, layout=w.Layout(width="190px")) for card in cards]

        def fill(_=None) -> None:
            count.value = f"of {page.max}; {len(found)} of {len(self.entries)} clips" if found else "No clip fits."
            for k, (box, (card, button)) in enumerate(zip(boxes, cards, strict=True), (page.value - 1) * PAGE):
                box.layout.display = None if k < len(found) else "none"
                if k < len(found):
                    button.description, button.disabled = f"Play {k + 1}", False
                    try:
                        card.value = found[k].card
                    except V2AError as error:
                        card.value, button.disabled = f'<p dir="auto">{escape(error)}</p>', True

        def choose(_=None) -> None:
            nonlocal found
            found = select(self.entries, **{name: choice.value for name, choice in choices.items()})
            page.value, page.max = 1, max(1, -(-len(found) // PAGE))
            fill()

        def show(k: int) -> None:
            message.value, entry = "opening ...", found[(page.value - 1) * PAGE + k]
            try:
                clip = entry.open(LIVE_S, LIVE_SIDE)
                put(player, play(clip, events=entry.events, title=entry.narration or entry.name).html, entry.name)
                message.value = f"The first {LIVE_S:g} s." if clip.duration >= LIVE_S - 1e-6 else ""
            except V2AError as error:
                message.value = f'<span role="alert" dir="auto">{escape(error)}</span>'

        for choice in choices.values():
            choice.observe(choose, "value")
        page.observe(fill, "value")
        for k, (_, button) in enumerate(cards):
            button.on_click(lambda _, k=k: show(k))
        choose()
        filters, grid = (w.Box(x, layout=w.Layout(flex_flow="row wrap")) for x in (list(choices.values()), boxes))
        return w.VBox([filters, w.HBox([page, count]), listed, message, player, grid])


def options(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """The choices for material, ambience and event."""
    pairs = [pair for entry in entries for pair in entry.pairs]
    kinds = sorted({k for _, k in pairs if k}) + [NOTHING] * any(entry.events == () for entry in entries)
    ambiences = sorted({entry.ambience for entry in entries if entry.ambience})
    return {"material": sorted({m for m, _ in pairs if m}), "ambience": ambiences, "event": kinds}


def _entry(item: object) -> Entry:
    """Convert any kind of item to an :class:`Entry`."""
    if isinstance(item, Entry):
        return item
    if isinstance(item, Clip):
        return _of_clip(item)
    if isinstance(item, str | os.PathLike):
        return _of_file(Path(item))
    if hasattr(item, "truth") and hasattr(item, "take"):
        return _of_world(item)
    raise UsageError(f"a {type(item).__name__} is no clip: a browser takes clips of a world, Clip, or video paths")


def _of_clip(clip: Clip) -> Entry:
    def opened(seconds: float, side: int) -> Clip:
        part = clip.slice(0, seconds) if clip.duration > seconds else clip
        scale = min(1.0, side / min(clip.height, clip.width))
        return part.resize(max(2, round(clip.height * scale)), max(2, round(clip.width * scale)))

    return Entry(as_text(clip.name), opened, lambda time: clip.frames[clip.n // 2], seconds=clip.duration)


def _of_world(item) -> Entry:
    """The entry of a clip of Strike World; only one picture is rendered for its poster."""
    from v2a_nb.world.picture import frames

    def peek(time: float | None) -> np.ndarray:
        at, s = 0.5 if time is None else time, item.take.settings
        return frames(item.recording, np.array([item.start_s + at]), s.size, s.fps)[0]

    return _of_truth(item.truth, lambda seconds, side: _of_clip(item.clip).open(seconds, side), peek)


def _of_file(path: Path) -> Entry:
    def peek(time: float | None) -> np.ndarray:
        with media.Video(path) as video:
            start = video.info.duration / 2 if time is None else time
            try:
                return video.read(start=start, duration=0.05, size=POSTER, sound=False).frames[0]
            except UsageError:  # the header, or the truth, promised more pictures than there are
                return video.read(duration=0.05, size=POSTER, sound=False).frames[0]

    return Entry(as_text(path.name), lambda seconds, side: media.open(path, duration=seconds, size=side), peek)


def _of_truth(entry: Mapping, opened: Callable, peek: Callable) -> Entry:
    """Convert an entry of ``truth.json``; raises one of ``DAMAGED`` where it is damaged."""
    events = tuple({**e, "time_s": float(e["time_s"])} for e in entry.get("events", ()))
    if not all(0 <= e["time_s"] < 1e6 for e in events):
        raise ValueError("an event outside of all time")
    extra = ["mismatched sound"] * bool(entry.get("mismatched"))
    extra += [as_text(f"pair: {entry['pair']['factor']}")] if entry.get("pair") else []
    ambience, narration = dict(entry.get("ambient") or {}).get("kind", ""), entry.get("narration", "")
    seconds = float(entry["duration_s"]) if "duration_s" in entry else None
    return Entry(
        as_text(entry["id"]), opened, peek, as_text(narration), as_text(ambience), events, tuple(extra), seconds
    )


def _folder(folder: Path) -> tuple[list[Entry], list[str]]:
    """Read entries and problems of a folder, with its ``truth.json`` if there is one."""
    if not folder.is_dir():
        what = "a file, not a folder; play it with v2a.play(v2a.open(path))" if folder.exists() else "no such folder"
        raise MediaError(f"{folder}: {what}")
    entries, problems, truth = [], [], folder / "truth.json"
    if truth.is_file():
        try:
            clips = list(json.loads(truth.read_text(encoding="utf-8"))["clips"])
        except DAMAGED as error:
            clips = []
            problems.append(f"{truth} cannot be read ({type(error).__name__}); clips are shown without it")
        for number, one in enumerate(clips, 1):
            try:
                video = (folder / one["video"]).resolve()
                if not video.is_relative_to(folder.resolve()):
                    raise ValueError("its video lies outside of the folder")
                file = _of_file(video)
                entries.append(_of_truth(one, file.open, file.peek))
            except DAMAGED as error:
                problems.append(f"{truth}, clip {number} is damaged: {type(error).__name__}: {error}")
    if not entries:
        found = [p for p in [*folder.iterdir(), *folder.glob("clips/*")] if SUFFIXES.fullmatch(p.suffix)]
        entries = [_of_file(p) for p in sorted(found, key=lambda p: p.name.lower()) if p.name[0] != "."]
    if not entries:
        raise MediaError("; ".join([f"{folder}: no videos in this folder (.mp4, .mov, .webm ...)", *problems]))
    return entries, problems


def _players(shown: Sequence[Entry], room: float, problems: list[str]) -> dict[str, str]:
    """The HTML of players by the number of the card, until one does not fit; unplayable clips become problems."""
    players: dict[str, str] = {}
    for k, entry in enumerate(shown):
        try:
            clip = entry.open(PREVIEW_S, PREVIEW_SIDE)
            if clip.sound is not None:
                clip = replace(clip, sound=clip.sound.mono().resample(min(PREVIEW_RATE, clip.sound.sample_rate)))
            page = play(clip, events=entry.events, title=entry.narration or entry.name).html
        except V2AError as error:
            problems.append(str(error))
            continue
        room -= 1.05 * len(SCRIPTS.sub("", page) if players else page)  # JSON escapes its quotes
        if room < 0:
            break
        players[str(k)] = page
    return players


def _controls(choices: Mapping[str, Sequence[str]]) -> str:
    """The HTML of the filters, hidden until the script runs."""
    menus = ""
    for name, values in choices.items():
        listed = "".join(f'<option value="{escape(v)}">{escape(v)}</option>' for v in values)
        if values:
            menus += f'<label>{name} <select name="{name}"><option value="">any</option>{listed}</select></label>'
    return (
        f'<form class="bar" role="search" aria-label="Filter clips" hidden>{menus}<label>text <input type="search" '
        'name="text" size="14"></label><button type="reset">clear</button> <output aria-live="polite"></output></form>'
    )


def _listed(problems: Sequence[str]) -> str:
    items = "".join(f'<li dir="auto">{escape(line)}</li>' for line in problems[:50])
    return f"<details open><summary>problems: {len(problems)}</summary><ul>{items}</ul></details>" if problems else ""


STYLE = """
ROOT [hidden]{display:none!important}
ROOT .bar,ROOT label{display:flex;flex-wrap:wrap;gap:6px 12px;align-items:center}
ROOT .bar :is(button,select,input){font:inherit;color:inherit;background:transparent;max-width:16em;padding:3px 8px}
ROOT :is(button,select,input,.tags bdi){border:1px solid color-mix(in srgb,currentColor 40%,#0000);border-radius:6px}
ROOT option{background:Canvas;color:CanvasText}
ROOT .grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(170px,1fr));gap:14px;font-size:14px}
ROOT .grid>li{width:auto!important;margin:0!important;overflow-wrap:anywhere;min-width:0}
ROOT .tags bdi{display:inline-block;padding:0 6px;font-size:12px}
ROOT .open{position:relative;width:100%;padding:0;cursor:pointer;overflow:hidden;background:transparent}
ROOT .open span{position:absolute;left:6px;bottom:6px;background:#000c;color:#fff;border-radius:5px;padding:0 7px}
ROOT .open[aria-expanded=true]{border-color:#2457c5;box-shadow:0 0 0 2px #2457c5}
ROOT :focus-visible{outline:3px solid #e8710a;outline-offset:2px}
"""
