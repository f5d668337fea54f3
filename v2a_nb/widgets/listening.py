"""A blind listening test: in a notebook with a kernel, or as a page that runs alone.

The designs are those of the papers, see :mod:`v2a_nb.metrics.listening_plan`. A listener sees letters: names of
systems, clips and files are neither shown nor sent to the browser, and all sounds have the same rate, length and number
of channels. Waveforms and levels are not shown, and levels are not changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError, V2AError, check_types
from v2a_nb.files import HTML_MARK
from v2a_nb.metrics.listening import Analysis, analyse
from v2a_nb.metrics.listening_plan import Plan, Trial, append_answers, listener_name, resume
from v2a_nb.widgets.page import escape, json_text, save_page
from v2a_nb.widgets.payload import encode, film_of, pcm_of, poster_of

PAGE_BYTES = 24_000_000
"""Largest saved page; a longer test is split into several."""
LIMIT_PAGES = 20
FILM_BYTES = 400_000  # of one film in base64; its quality is reduced, that of the sounds is not
TOP_RATE = 48000  # Hz
HEAR = 0.8  # share of a sound, or of its first three seconds, that must be played before an answer counts
_TITLES = {
    "plausible": "Most plausible", "ambient": "Least ambient noise", "overall": "Overall", "audio": "Audio quality",
    "semantic": "Semantic alignment", "temporal": "Temporal alignment",
}  # fmt: skip


@check_types
def listening_test(
    trials: Mapping[str, tuple[Clip, Mapping[str, Sound]]],
    kind: str = "choose",
    out: str | Path = "answers.csv",
    listener: str = "listener",
    seed: int = 0,
    *,
    several: bool = False,
    true: str | None = None,
    shuffled: str | None = None,
    controls: int | None = None,
    repeats: int | None = None,
) -> ListeningTest:
    """Create a blind listening test that compares systems on clips.

    Args:
        trials: by clip id, the clip and the sound of each system; the same systems for every clip.
        kind: ``choose``: the most plausible and the least ambient one (Action2Sound, section 5.4); ``rate``: 1 to
            100 for overall and audio quality, semantic and temporal alignment (VTA-LDM, section 4.3).
        out: file to which answers are appended as they are given; several listeners of one test may share it. The key
            ``OUT.key.json`` beside it says which letter was which system.
        listener, seed: determine the order of trials and letters.
        several, true, shuffled, controls, repeats: see :class:`~v2a_nb.metrics.listening_plan.Plan`.

    Returns:
        the test, which runs where a notebook shows it. With the same arguments it resumes where it stopped.

    Raises:
        UsageError: trials that do not belong together, or an ``out`` of another test.

    Examples:
        >>> trials = {"a": (clip, {"one system": sound, "another": sound.gain(-20)})}
        >>> test = listening_test(trials, out="anna.csv", listener="anna")
        >>> page = test.save("anna.html")  # for any browser, without a kernel; a notebook shows ``test`` itself
        >>> test.analyse()  # doctest: +SKIP
    """
    options = {"several": several, "true": true, "shuffled": shuffled, "controls": controls, "repeats": repeats}
    return ListeningTest(trials, kind, out, listener, seed, **options)


class ListeningTest:
    """The result of :func:`listening_test`.

    Attributes:
        plan: the test; ``plan.trials(listener)`` has the order, with names.
        out, key: paths of answers and key.
        listener: name of the listener, on one line.
        notice: what was repaired in ``out``, or "".
    """

    def __init__(self, trials: Mapping, kind: str, out: str | Path, listener: str, seed: int, **options) -> None:
        self._given = _check(trials)
        systems = tuple(next(iter(self._given.values()))[1])
        self.plan = Plan(kind, tuple(self._given), systems, seed, content=_digest(self._given), **options)
        self.listener, self.out = listener_name(listener), Path(out)
        self.key = self.out.with_suffix(".key.json")
        if self.key.exists() and Plan.from_key(self.key) != self.plan:
            raise UsageError(f"{self.key} is the key of another test: give another out=; nothing was changed")
        self._trials = self.plan.trials(self.listener)
        self._done, self.notice = resume(self.out, self.plan, self.listener)
        sounds = [s for _, by_system in self._given.values() for s in by_system.values()]
        # the same for all: a rate or a second channel would tell the systems apart
        self._rate = min(TOP_RATE, max(s.sample_rate for s in sounds))
        self._channels = min(2, max(s.channels for s in sounds))
        self._films: dict[str, tuple[bytes, bytes]] = {}

    # --- what is left to do -----------------------------------------------------------------------

    @property
    def next(self) -> Trial | None:
        """The first trial without an answer; None at the end."""
        return next((t for t in self._trials if t.number not in self._done), None)

    @property
    def minutes(self) -> int:
        """Estimated duration of the test: every sound twice, and 10 seconds for a choice or 4 for a rating."""
        each = {"choose": 10, "rate": 4}[self.plan.kind]
        seconds = sum(
            2 * len(t.candidates) * self._given[t.clip][0].duration + each * len(self.plan.expected(t))
            for t in self._trials
        )
        return max(1, round(seconds / 60))

    def record(self, number: int, answers: Sequence[Sequence], seconds: float = 0.0) -> None:
        """Write the answers of the next trial to disk.

        Args:
            number: number of the trial.
            answers: tuples (question, candidate, answer), such as ``("plausible", "", "C")`` in ``choose`` and
                ``("overall", "A", 75)`` in ``rate``.
            seconds: duration of the trial.

        Raises:
            UsageError: another trial is next, or an answer is missing or impossible; nothing was written.
            MediaError: the file cannot be written; former answers are untouched.
        """
        trial = self.next
        if trial is None or number != trial.number:
            where = "the test is finished" if trial is None else f"trial {trial.number} is next"
            raise UsageError(f"trial {number} cannot be answered now: {where}")
        self.plan.save_key(self.key)
        append_answers(self.out, self.plan, self.listener, trial, answers, seconds)
        self._done.add(number)

    def analyse(self, **options) -> Analysis:
        """Analyse the answers of all listeners in ``out`` with :func:`~v2a_nb.metrics.listening.analyse`."""
        return analyse(self.out, self.key, **options)

    # --- what a browser gets ------------------------------------------------------------------------

    def _spec(self) -> dict:
        questions = [[q, _TITLES[q], text] for q, text in self.plan.questions.items()]
        return {
            "kind": self.plan.kind, "several": self.plan.several, "questions": questions, "test": self.plan.test,
            "listener": self.listener, "total": len(self._trials), "minutes": self.minutes,
        }  # fmt: skip

    def _film(self, clip: str) -> tuple[bytes, bytes]:
        """The pictures of a clip as MP4, and a poster as JPEG."""
        if clip not in self._films:
            self._films[clip] = (film_of(self._given[clip][0], FILM_BYTES), poster_of(self._given[clip][0]))
        return self._films[clip]

    def _hear(self, trial: Trial) -> float:
        return round(HEAR * min(3.0, self._given[trial.clip][0].duration), 3)

    def _media(self, trial: Trial) -> list[bytes]:
        """Film, poster and the sounds in the order of the letters."""
        clip = self._given[trial.clip][0]
        size = 2 * self._channels * self._rate * clip.duration * len(trial.candidates)
        if size > PAGE_BYTES * 3 / 4:
            raise UsageError(
                f"the sounds of {trial.clip!r} have {size / 1e6:.0f} MB, more than a trial can hold; "
                "use parts with clip.slice(start, end) and sound.slice(start, end)"
            )
        sounds = [self._given[c][1][s] for c, s in trial.candidates]
        return [*self._film(trial.clip), *(_wav(s, clip.duration, self._channels, self._rate) for s in sounds)]

    def widget(self):
        """Return the live panel (anywidget), which is operated by keyboard and writes answers to ``out`` at once.

        Enter is accepted only after every sound was played for 0.8 of its length (at most 2.4 s).

        Raises:
            UsageError: a trial that is too large.
        """
        return _panel()(self)

    def save(self, path: str | Path) -> list[Path]:
        """Write a page that runs the test in any browser, and its key ``NAME.key.json``.

        The page contains no names of systems and needs no network. It stores answers in the browser and offers them as
        CSV for ``analyse(csv, key="NAME.key.json")``. Send the page and keep the key. Save one page for each listener,
        because their orders differ.

        Returns:
            the page; several ``NAME.1.html``, ``NAME.2.html`` ... where one would be over 24 MB.

        Raises:
            UsageError: over 20 pages, a trial too large for a page, or the key of another test is there.
            MediaError: a page cannot be written.
        """
        path = Path(path)
        media: dict[str, str] = {}  # id -> base64; ids are numbers in the order of use
        ids: dict[bytes, str] = {}
        parts: list[list[tuple[dict, list[str]]]] = [[]]
        room = PAGE_BYTES - 200_000
        left, on_page = room, set()
        for trial in self._trials:
            used = []
            for data in self._media(trial):
                name = ids.setdefault(hashlib.sha256(data).digest(), f"m{len(ids) + 1}")
                media.setdefault(name, encode(data))
                used.append(name)
            entry = {"number": trial.number, "hear": self._hear(trial), "film": used[0], "poster": used[1]}
            cost = sum(len(media[name]) for name in set(used) - on_page)
            if cost > left and parts[-1]:
                parts.append([])
                left, on_page, cost = room, set(), sum(len(media[name]) for name in set(used))
            if len(parts) > LIMIT_PAGES or cost > left:
                raise UsageError(
                    f"this test does not fit {LIMIT_PAGES} pages of {PAGE_BYTES / 1e6:.0f} MB; take fewer or shorter "
                    "clips, or sounds of a lower rate"
                )
            left, on_page = left - cost, on_page | set(used)
            parts[-1].append((entry | {"sounds": used[2:]}, used))
        self.plan.save_key(path.with_suffix(".key.json"))
        written = []
        for number, part in enumerate(parts, 1):
            target = path if len(parts) == 1 else path.with_suffix(f".{number}{path.suffix}")
            wanted = sorted({name for _, used in part for name in used}, key=lambda name: int(name[1:]))
            spec = self._spec() | {
                "part": number,
                "parts": len(parts),
                "suffix": f"-{number}" if len(parts) > 1 else "",
            }
            save_page(target, _page(spec, [entry for entry, _ in part], {name: media[name] for name in wanted}))
            written.append(target)
        return written

    # --- in words -----------------------------------------------------------------------------------

    def _words(self) -> list[str]:
        kind = {"choose": "choose among", "rate": "rate"}[self.plan.kind]
        count = len(self._trials[0].candidates)
        first = f"Blind listening test {self.plan.test}: {kind} {count} sounds for one picture"
        asked = ", ".join(_TITLES[q].lower() for q in self.plan.questions)
        state = f"{len(self._done)} of {len(self._trials)} trials answered; about {self.minutes} min in all"
        return [first, f"Asked: {asked}", state, f"Listener: {self.listener}", f"Answers: {self.out}"]

    def __repr__(self) -> str:
        return "\n".join(self._words() + ([self.notice] if self.notice else []))

    def _repr_html_(self) -> str:
        first, *rest = [escape(text) for text in self._words()]
        notice = f"<p><strong>{escape(self.notice)}</strong></p>" if self.notice else ""
        listed = "".join(f"<li><bdi>{text}</bdi></li>" for text in rest)
        return (
            f"<div><p><strong>{first}</strong></p><ul>{listed}</ul>{notice}<p>The panel needs a running kernel. "
            "Without one, <code>test.save(&quot;test.html&quot;)</code> makes a page that runs the test in any "
            "browser. Which letter is which system is in the <code>.key.json</code> beside it: keep it from the "
            "listener.</p></div>"
        )

    def _ipython_display_(self) -> None:
        from IPython import get_ipython
        from IPython.display import display

        if getattr(get_ipython(), "kernel", None) is None:
            print(repr(self))
            return
        # two outputs: a saved notebook without kernel shows the words where the widget is dead
        display({"text/html": self._repr_html_(), "text/plain": repr(self)}, raw=True)
        display(self.widget())


def _check(trials: Mapping) -> dict[str, tuple[Clip, dict[str, Sound]]]:
    if not trials:
        raise UsageError("a listening test needs {clip id: (clip, {system: sound})} with at least one clip")
    checked: dict[str, tuple[Clip, dict[str, Sound]]] = {}
    for name, pair in trials.items():
        if not (isinstance(pair, Sequence) and len(pair) == 2 and isinstance(pair[0], Clip)):
            raise UsageError(f"{name!r}: a trial is (clip, {{system: sound}}), not {type(pair).__name__}")
        sounds = pair[1] if isinstance(pair[1], Mapping) else {}
        for system, sound in sounds.items():
            if not isinstance(sound, Sound) or not sound.n:
                raise UsageError(f"{name!r}: {system!r} has no sound ({type(sound).__name__})")
        checked[_text(name)] = (pair[0], {_text(system): sound for system, sound in sounds.items()})
    wanted = list(next(iter(checked.values()))[1])
    for name, (_, sounds) in checked.items():
        if set(sounds) != set(wanted):
            odd = sorted(set(sounds) ^ set(wanted))[0]
            raise UsageError(f"{name!r}: every clip needs the same systems; {odd!r} is not in all of them")
    return checked


def _text(value: object) -> str:
    return str(value).encode("utf-8", "replace").decode("utf-8")


def _digest(trials: dict[str, tuple[Clip, dict[str, Sound]]]) -> str:
    """A digest of all pictures and sounds, by which answers about others are recognised."""
    digest = hashlib.sha256()
    for clip, sounds in trials.values():
        digest.update(np.ascontiguousarray(clip.frames).tobytes())
        digest.update(clip.times.tobytes())
        for name in sorted(sounds):
            digest.update(f"{sounds[name].sample_rate} {sounds[name].samples.shape}".encode())
            digest.update(sounds[name].samples.tobytes())
    return digest.hexdigest()[:16]


def _wav(sound: Sound, seconds: float, channels: int, rate: int) -> bytes:
    """Encode a sound as 16-bit PCM at its own level, as long as the clip."""
    return pcm_of((sound.mono() if channels == 1 else sound.stereo()).resample(rate).fit(seconds))


@lru_cache(maxsize=1)
def _script() -> str:
    """The module as a plain script, for a page that imports nothing."""
    source = Path(__file__).with_name("listening.js").read_text(encoding="utf-8")
    return source.replace("\nexport default { render };", "").replace("\nexport ", "\n").strip()


def _page(spec: dict, trials: list[dict], media: Mapping[str, str]) -> str:
    held = "".join(f'<script type="text/plain" id="{name}">{data}</script>\n' for name, data in media.items())
    policy = (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
        "media-src data: blob:"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'{HTML_MARK}<meta name="color-scheme" content="light dark"><title>Listening test</title>'
        "<style>:root{color-scheme:light dark}body{max-width:960px;margin:24px auto;padding:0 16px;"
        "font-family:system-ui,sans-serif}.foot{margin:32px 0 0}</style></head>\n<body>"
        '<main id="test"></main><noscript><p>This listening test needs scripts: please allow them for this page.</p>'
        f'</noscript>\n<script type="application/json" id="spec">{json_text(spec)}</script>\n'
        f'<script type="application/json" id="trials">{json_text(trials)}</script>\n{held}'
        f"<script>(() => {{\n{_script()}\n"
        "const read = (id) => document.getElementById(id).textContent;\n"
        'page(document.getElementById("test"), JSON.parse(read("spec")), JSON.parse(read("trials")), read);\n'
        "})();</script></body></html>\n"
    )


@lru_cache(maxsize=1)
def _panel() -> type:
    """The widget class, created on demand, because pages and analysis need no ipywidgets."""
    import anywidget
    from traitlets import Bytes, Dict, List, Unicode

    class ListeningPanel(anywidget.AnyWidget):
        """One trial at a time, without names; answers come back in ``_answer``."""

        _esm = Path(__file__).with_name("listening.js")
        _spec = Unicode("{}").tag(sync=True)
        _trial = Unicode("{}").tag(sync=True)
        _media = List(Bytes()).tag(sync=True)
        _answer = Dict().tag(sync=True)
        _notice = Unicode("").tag(sync=True)

        def __init__(self, test: ListeningTest) -> None:
            self._test = test
            super().__init__(_spec=json.dumps(test._spec()), _notice=test.notice, **self._state())
            self.observe(self._receive, "_answer")

        def _state(self) -> dict:
            trial = self._test.next
            if trial is None:
                return {"_trial": "{}", "_media": []}
            data = {"number": trial.number, "hear": self._test._hear(trial)}
            return {"_trial": json.dumps(data), "_media": self._test._media(trial)}

        def _receive(self, change: dict) -> None:
            given = change["new"]
            self._notice = ""
            try:
                if given.get("trial") not in self._test._done:  # sent again because no word came back
                    self._test.record(given.get("trial"), given.get("answers", ()), given.get("seconds", 0.0))
                state = self._state()
            except V2AError as error:
                self._notice = str(error)
                return
            except (TypeError, ValueError) as error:
                self._notice = f"this answer cannot be read: {error}"
                return
            with self.hold_sync():
                self._media, self._trial = state["_media"], state["_trial"]

    return ListeningPanel
