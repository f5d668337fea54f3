"""Listening tests: balanced and blind, no answer is ever lost, and the analysis finds what was planted."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import random
import re
import wave
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from node_parts import check_script

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import MediaError, UsageError
from v2a_nb.metrics import listening as analysis
from v2a_nb.metrics import listening_plan as plans
from v2a_nb.metrics.listening import analyse, deviations
from v2a_nb.metrics.listening_plan import COLUMNS, LETTERS, Plan, append_answers, read_answers, resume
from v2a_nb.metrics.statistics import wilson
from v2a_nb.widgets import listening
from v2a_nb.widgets.listening import ListeningTest, listening_test

HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>\n\u202eright to left\u202c, &amp;"
FIVE = ("retrieval", "diff", "plain", "focused", "joint")


def plan_of(n: int = 10, kind: str = "choose", systems: tuple = FIVE, **options) -> Plan:
    return Plan(kind, tuple(f"clip{i}" for i in range(n)), systems, **options)


def respond(plan: Plan, trial, answer) -> list[tuple]:
    """``answer(question, sounds)`` gives a letter's index, or all ratings; sounds are (of this clip, system)."""
    made, sounds = [], [(c == trial.clip, s) for c, s in trial.candidates]
    for question in plan.questions:
        given = answer(question, sounds)
        if plan.kind == "choose":
            made.append((question, "", LETTERS[given]))
        else:
            made += [(question, LETTERS[k], value) for k, value in enumerate(given)]
    return made


def write(path: Path, plan: Plan, listener: str, answer) -> Path:
    """A whole session, in one go."""
    rows = [
        [plan.test, listener, t.number, *a, "1.0", "2026-01-01"]
        for t in plan.trials(listener)
        for a in respond(plan, t, answer)
    ]
    with path.open("a", encoding="utf-8") as file:
        file.write(plans._lines(rows if file.tell() else [COLUMNS, *rows]))
    return path


# --- the plan -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n, systems", [(10, FIVE), (13, FIVE), (7, FIVE[:2]), (9, FIVE[:3])])
def test_each_system_has_each_letter_equally_often(n, systems):
    for listener in ("anna", "ben", "\u202ecleo"):
        trials = [t for t in plan_of(n, systems=systems).trials(listener) if t.role == "test"]
        assert sorted(t.clip for t in trials) == sorted(f"clip{i}" for i in range(n))
        seen = Counter((s, k) for t in trials for k, (_, s) in enumerate(t.candidates))
        counts = [seen[s, k] for s in systems for k in range(len(systems))]
        assert max(counts) - min(counts) <= (n % len(systems) > 0)


def test_plan_is_a_pure_function_of_seed_and_listener():
    one = plan_of(seed=1)
    random.seed(5)
    assert one.trials("anna") == plan_of(seed=1).trials("anna")
    assert one.trials("anna") != one.trials("ben")
    assert one.trials("anna") != plan_of(seed=2).trials("anna")
    # a golden order: an old key must be readable for ever
    small = Plan("choose", ("c1", "c2", "c3"), ("x", "y"), seed=7)
    assert small.test == "395e185265"
    got = [(t.clip, "".join(s for _, s in t.candidates), t.role, t.of) for t in small.trials("anna")]
    assert got == [("c1", "yx", "test", 0), ("c2", "xy", "test", 0), ("c3", "xy", "test", 0), ("c1", "xy", "repeat", 1)]


def test_controls_look_like_trials_and_repeats_come_late():
    plan = plan_of(18, systems=(*FIVE, "true", "wrong"), true="true", shuffled="wrong")
    assert plan.tested == FIVE
    trials = plan.trials("anna")
    assert Counter(t.role for t in trials) == {"test": 18, "control": 3, "repeat": 3}
    assert [t.number for t in trials] == list(range(1, 25)) and trials[0].role == "test"
    by_number = {t.number: t for t in trials}
    for t in trials:
        assert len(t.candidates) == 5 and len(set(t.candidates)) == 5
        if t.role == "control":
            assert t.candidates.count((t.clip, "true")) == 1 and (t.clip, "wrong") in t.candidates
            assert all(c != t.clip for c, s in t.candidates if s not in ("true", "wrong"))
        else:
            assert {s for _, s in t.candidates} == set(FIVE) and {c for c, _ in t.candidates} == {t.clip}
        if t.role == "repeat":
            assert by_number[t.of].clip == t.clip and t.number - t.of >= 6
    many = plan_of(30, systems=(*FIVE, "true"), true="true", controls=30).trials("anna")
    at = [[s for _, s in t.candidates].index("true") for t in many if t.role == "control"]
    assert len(at) == 30 and set(at) == {0, 1, 2, 3, 4}
    rated = plan_of(12, "rate", (*FIVE, "true"), true="true")
    assert rated.tested == (*FIVE, "true"), "VTA-LDM rates the true sound too"
    only = plan_of(12, systems=(*FIVE, "wrong"), shuffled="wrong")
    control = next(t for t in only.trials("anna") if t.role == "control")
    assert {c for c, _ in control.candidates} == {control.clip} and len(control.candidates) == 5


@pytest.mark.parametrize(
    "options, words",
    [
        ({"kind": "mos"}, "choose or rate"),
        ({"systems": ("a",)}, "2 to 9 systems"),
        ({"systems": ("a", "b"), "true": "b"}, "2 to 9 systems"),
        ({"systems": ("a", "a", "b")}, "once"),
        ({"true": "nobody"}, "cannot be the control"),
        ({"controls": 2}, "name the system that is known to fit"),
        ({"repeats": 5}, "at most 3"),
        ({"n": 1, "true": "joint"}, "sounds of other clips"),
    ],
)
def test_impossible_plans_are_refused(options, words):
    with pytest.raises(UsageError, match=words):
        plan_of(**{"n": 10, **options})


def test_key_says_all_and_is_never_written_over_another(tmp_path):
    plan = plan_of(systems=(*FIVE, HOSTILE), true=HOSTILE, seed=3)
    key = plan.save_key(tmp_path / "new" / "a.key.json")
    assert Plan.from_key(key) == plan and plan.save_key(key) == key
    before = key.read_bytes()
    with pytest.raises(UsageError, match="key of another listening test"):
        plan_of(seed=4).save_key(key)
    assert key.read_bytes() == before and len(list(key.parent.iterdir())) == 1
    key.write_text(key.read_text().replace('"seed": 3', '"seed": 4'))
    with pytest.raises(UsageError, match="changed by hand"):
        Plan.from_key(key)
    for text in ("{", "[]", '{"test": "x", "format": "y"}'):
        key.write_text(text)
        with pytest.raises(UsageError, match="is no key"):
            Plan.from_key(key)


# --- the file of answers ------------------------------------------------------------------------


def first(_, sounds):
    return 0


def test_a_cut_anywhere_loses_only_the_answer_that_was_being_written(tmp_path):
    plan, path = plan_of(4, systems=("x", "y")), tmp_path / "answers.csv"
    name = 'An\n"na", \u202e'
    trials, sizes = plan.trials(name), []
    for t in trials[:2]:
        append_answers(path, plan, name, t, respond(plan, t, first), 1.5)
        sizes.append(path.stat().st_size)
    whole = path.read_bytes()
    assert resume(path, plan, name) == ({1, 2}, "") and path.read_bytes() == whole
    for cut in [*range(0, len(whole), 3), len(whole) - 1, sizes[0] - 1, sizes[0]]:
        path.write_bytes(whole[:cut])
        done, notice = resume(path, plan, name)
        assert done == {k + 1 for k, size in enumerate(sizes) if size <= cut}
        kept = path.read_bytes()
        assert whole.startswith(kept) and kept[-1:] in (b"", b"\n") and cut - len(kept) < 100
        assert ("half-written" in notice) == (len(kept) < cut)
        again = trials[len(done)]
        append_answers(path, plan, name, again, respond(plan, again, first), 1.0)
        assert resume(path, plan, name)[0] == done | {again.number}


def test_a_file_of_another_test_is_refused_and_left_alone(tmp_path):
    path = write(tmp_path / "answers.csv", plan_of(seed=1), "anna", first)
    path.write_bytes(path.read_bytes() + b"half a li")
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"answers of test \w{10}, and this is test .* Nothing was changed"):
        resume(path, plan_of(seed=2), "anna")
    assert path.read_bytes() == before
    for text in ("name,age\nanna,7\n", "\n\n", "a poem"):
        path.write_text(text)
        with pytest.raises(UsageError, match="holds no answers of a listening test"):
            resume(path, plan_of(seed=1), "anna")
        assert path.read_text() == text
    path.write_text(",".join(COLUMNS) + "\na,b,c\n")
    with pytest.raises(UsageError, match="line 2: 3 fields"):
        read_answers(path)


def test_answers_are_checked_before_they_are_written(tmp_path):
    path = tmp_path / "answers.csv"
    choose, rate = plan_of(4), plan_of(4, "rate", ("x", "y"))
    several = plan_of(4, several=True)
    for plan, answers in [
        (choose, [("plausible", "", "C")]),
        (choose, [("plausible", "", "C"), ("ambient", "", "F")]),
        (choose, [("plausible", "", "C"), ("ambient", "", "AB")]),
        (choose, [("plausible", "", "C"), ("ambient", "", "")]),
        (choose, [("plausible", "", "C"), ("ambient", "", "A"), ("smell", "", "A")]),
        (several, [("plausible", "", "AA"), ("ambient", "", "A")]),
        (rate, [(q, k, v) for q in rate.questions for k, v in (("A", 0), ("B", 5))]),
        (rate, [(q, k, "7.5") for q in rate.questions for k in "AB"]),
        (rate, [(q, "A", 7) for q in rate.questions]),
    ]:
        with pytest.raises(UsageError, match="trial 1"):
            append_answers(path, plan, "anna", plan.trials("anna")[0], answers, 1)
        assert not path.exists()
    append_answers(path, several, "anna", several.trials("anna")[0], [("plausible", "", "CA"), ("ambient", "", "B")], 1)
    assert [r["answer"] for r in read_answers(path)[0]] == ["AC", "B"]
    for bad in ("", " \n", "x" * 201):
        with pytest.raises(UsageError, match="a name of 1 to 200"):
            choose.trials(bad)


# --- the analysis -------------------------------------------------------------------------------


def test_a_planted_preference_is_found_with_its_controls(tmp_path):
    plan = plan_of(20, systems=(*FIVE, "true"), true="true", seed=5)
    path, key = tmp_path / "answers.csv", plan.save_key(tmp_path / "answers.key.json")
    for name in ("anna", "ben", "cleo", "dora"):
        rng = np.random.default_rng(len(name) + ord(name[0]))

        def good(question, sounds, rng=rng):
            names = [s for _, s in sounds]
            if (True, "true") in sounds:
                return sounds.index((True, "true"))
            best = "joint" if question == "plausible" else "focused"
            return names.index(best) if rng.random() < 0.7 else int(rng.integers(5))

        write(path, plan, name, good)
    write(path, plan, "zoe", first)  # always A
    made = analyse(path, reference="retrieval")
    best = made["plausible", "joint"]
    assert best["low"] < 0.76 < best["high"] and best["n"] == 80 and best["chance"] == pytest.approx(0.2)
    assert best["p_chance"] < 0.01 and best["differs"] and best["difference_low"] > 0.3
    assert made["ambient", "focused"]["differs"] and not made["ambient", "joint"]["differs"]
    zoe = next(p for p in made.listeners if p["listener"] == "zoe")
    assert zoe["excluded"] and zoe["controls"] == 3
    assert any("zoe passed" in n and "left out" in n for n in made.notes)
    assert all(not p["excluded"] and p["passed"] == 3 for p in made.listeners if p["listener"] != "zoe")
    assert 0.3 < np.mean([p["consistency"] for p in made.listeners]) <= 1
    assert sum(made["plausible", s]["value"] for s in FIVE) == pytest.approx(1)
    kept = analyse(path, key, exclude=False)
    assert kept["plausible", "joint"]["n"] == 100 and any("kept" in n for n in kept.notes)
    data = json.loads(made.to_json(tmp_path / "r.json"))
    assert data["reference"] == "retrieval" and len(data["table"]) == 10 and (tmp_path / "r.json").exists()
    with pytest.raises(UsageError, match="'true' is not in the test"):
        analyse(path, reference="true")


def test_one_listener_has_wilson_and_exact_tests(tmp_path):
    plan = plan_of(12)
    plan.save_key(tmp_path / "a.key.json")
    path = write(tmp_path / "a.csv", plan, "anna", lambda q, s: [n for _, n in s].index("joint"))
    made = analyse(path)
    row, none = made["plausible", "joint"], made["plausible", "diff"]
    assert row["value"] == 1 and (row["low"], row["high"]) == pytest.approx(wilson(12, 12))
    assert row["p_chance"] == pytest.approx(0.2**12) and row["p"] == pytest.approx(2 / 2**12)
    assert none["value"] == 0 and none["high"] == pytest.approx(wilson(0, 12)[1]) and none["p"] == 1
    assert "one listener" in made.notes[0] and made.listeners[0]["consistency"] == 1
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)


def test_several_votes_have_their_own_chance(tmp_path):
    plan = plan_of(10, several=True)
    plan.save_key(tmp_path / "a.key.json")
    rows = [[plan.test, "anna", t.number, q, "", "AB", "1", ""] for t in plan.trials("anna") for q in plan.questions]
    (tmp_path / "a.csv").write_text(plans._lines([COLUMNS, *rows]))
    made = analyse(tmp_path / "a.csv")
    assert [made["ambient", s]["value"] for s in FIVE] == pytest.approx([0.4] * 5) and made.table[0]["chance"] == 0.4


def test_ratings_and_their_files(tmp_path):
    plan = plan_of(12, "rate", ("x", "y", "true"), true="true", controls=2, repeats=2)
    worth = {"x": 40, "y": 70, "true": 90}
    names = ("anna", "ben", "cleo", HOSTILE.replace("\n", " "))
    for k, name in enumerate(names):
        rng = np.random.default_rng(k)

        def rate(question, sounds, rng=rng, k=k):
            felt = [(worth[s] if fits else 10) + 2 * k + rng.normal(0, 5) for fits, s in sounds]
            return [int(np.clip(value, 1, 100)) for value in felt]

        write(tmp_path / f"{k}.csv", plan, name, rate)
    key = plan.save_key(tmp_path / "test.key.json")
    files = [tmp_path / f"{k}.csv" for k in range(4)]
    made = analyse(files, key, reference="x")
    for system, value in worth.items():
        for question in plan.questions:
            row = made[question, system]
            assert row["low"] < row["value"] < row["high"] and abs(row["value"] - value - 3) < 3
    assert made["overall", "y"]["difference"] == pytest.approx(30, abs=4) and made["overall", "y"]["p_holm"] < 0.05
    assert all(p["passed"] == 2 and 2 < p["consistency"] < 9 for p in made.listeners)
    page, text = made._repr_html_(), repr(made)
    assert "<script>" not in page and "<img" not in page and "&lt;script&gt;" in page and "\u202e" not in text
    whole = files[0].read_text()
    files[0].write_text(whole[:-30])
    assert any("half-written" in n for n in analyse(files, key).notes)
    files[0].write_text("\ufeff" + whole.replace("\n", "\r\n"))  # as a spreadsheet saves it
    files[1].write_text(files[1].read_text() + "".join(whole.splitlines(True)[1:5]).replace("anna", "ben"))
    assert any("given twice" in n for n in analyse(files, key).notes)
    files[2].write_text(whole.replace(plan.test, "0" * 10))
    with pytest.raises(UsageError, match=r"2\.csv, line 2: an answer of test 0000000000"):
        analyse(files, key)
    with pytest.raises(UsageError, match=r"nothing\.csv: the answers cannot be read"):
        analyse(tmp_path / "nothing.csv", key)
    with pytest.raises(UsageError, match="is no key"):
        analyse(files)


def test_nobody_left_is_an_error_and_unfinished_trials_are_named(tmp_path):
    plan = plan_of(12, systems=(*FIVE, "true"), true="true")
    plan.save_key(tmp_path / "a.key.json")
    path = write(tmp_path / "a.csv", plan, "anna", lambda q, s: int(s[0] == (True, "true")))
    with pytest.raises(UsageError, match="no listener is left: anna passed 0 of 2"):
        analyse(path)
    lines = path.read_text().splitlines(True)
    path.write_text("".join(lines[:6]))
    assert any("anna answered 2 of 16 trials in full" in n for n in analyse(path, exclude=False).notes)


def test_position_bias_of_a_listener_cancels_exactly():
    plan = plan_of(20, "rate")
    answers = {
        name: {
            t.number: {(q, letter): str(90 - 17 * k) for q in plan.questions for k, letter in enumerate("ABCDE")}
            for t in plan.trials(name)
        }
        for name in ("anna", "ben")
    }
    values, seen, _, positions = analysis._gather(plan, answers)
    assert seen.all() and np.ptp(values[0, :, 0].mean(0)) == pytest.approx(0)
    assert positions == {"A": 90, "B": 73, "C": 56, "D": 39, "E": 22}


@pytest.mark.parametrize("listeners, clips, kind", [(6, 12, "rate"), (10, 20, "rate"), (8, 15, "choose")])
def test_intervals_cover_and_equal_systems_are_not_called_different(listeners, clips, kind):
    plan, rounds = plan_of(9, kind, ("x", "y", "z")), 300
    covered, called, within = 0, 0, 0
    seen = np.ones((listeners, clips), bool)
    for r in range(rounds):
        rng = np.random.default_rng(r)
        # what listeners, clips, and systems at listeners and clips have in common, and scatter
        made = 60 + 6 * rng.normal(size=(listeners, 1, 1)) + 4 * rng.normal(size=(1, clips, 1))
        made = made + 4 * rng.normal(size=(listeners, 1, 3)) + 5 * rng.normal(size=(1, clips, 3))
        made = made + 9 * rng.normal(size=(listeners, clips, 3))
        truth = 60.0
        if kind == "choose":
            made, truth = (made == made.max(2, keepdims=True)).astype(float), 1 / 3
        rows = analysis._compare(plan, made, seen, 0, 1 / 3, 300, r)
        covered += sum(row["low"] <= truth <= row["high"] for row in rows) / 3
        within += rows[1]["difference_low"] <= 0 <= rows[1]["difference_high"]
        called += any(row["differs"] for row in rows)
    # three standard errors of 300 rounds around 95 %, and a little more above: the intervals lean to the safe side
    assert 0.91 <= covered / rounds <= 0.99 and 0.91 <= within / rounds <= 0.99
    assert called / rounds <= 0.085


def test_a_small_planted_difference_is_inside_its_interval_and_found_by_enough_listeners():
    plan, found, inside = plan_of(9, "rate", ("x", "y")), 0, 0
    for r in range(100):
        rng = np.random.default_rng(r)
        made = 50 + np.array([0, 8]) + 10 * rng.normal(size=(12, 1, 1)) + 12 * rng.normal(size=(12, 20, 2))
        row = analysis._compare(plan, made, np.ones((12, 20), bool), 0, 0.5, 300, r)[1]
        found += row["differs"]
        inside += row["difference_low"] <= 8 <= row["difference_high"]
    assert found >= 95 and inside >= 90


def test_spread_needs_more_than_one_of_something():
    assert np.isnan(deviations(np.ones((1, 1, 2)), np.ones((1, 1), bool), 10)).all()
    holes = np.ones((4, 5), bool)
    holes[0, :4] = False
    values = np.random.default_rng(0).normal(size=(4, 5, 2))
    values[0, :4] = 1e9  # what was not answered does not count
    assert np.abs(deviations(values, holes, 200)).max() < 20


def test_plot_has_words(tmp_path):
    plan = plan_of(6, systems=("x", HOSTILE, "$y$"))
    plan.save_key(tmp_path / "a.key.json")
    for name in ("anna", "ben"):
        write(tmp_path / "a.csv", plan, name, first)
    made = analyse(tmp_path / "a.csv")
    fig = made.plot()
    assert "share of times chosen" in fig.alt and "x 0." in fig.alt
    fig.savefig(io.BytesIO(), format="png")
    from matplotlib.figure import Figure

    ax = Figure().add_subplot()
    assert made.plot(ax) is ax.figure


# --- the screen ---------------------------------------------------------------------------------


def clip_of(k: int, seconds: float = 0.4) -> Clip:
    frames = np.zeros((round(seconds * 25), 32, 48, 3), np.uint8)
    frames[:, :, : 4 + 6 * k] = (200, 120, 40)
    return Clip(frames, fps=25, name=f"secretname{k}")


def trials_of(n: int = 3, systems: tuple = ("secretx", "secrety", "secretz"), seconds: float = 0.4) -> dict:
    made = {}
    for k in range(n):
        sounds = {}
        for j, name in enumerate(systems):
            rate = (16000, 24000)[j % 2]
            t = np.arange(round((seconds + 0.1 * (j % 2)) * rate)) / rate
            sounds[name] = Sound(0.01 * 10**j * np.sin(2 * np.pi * (300 + 100 * j + 10 * k) * t), rate)
        made[f"secretclip{k}"] = (clip_of(k, seconds), sounds)
    return made


def media_of(page: str) -> dict[str, bytes]:
    return {
        k: base64.b64decode(v) for k, v in re.findall(r'<script type="text/plain" id="(m\d+)">(.*?)</script>', page)
    }


@pytest.mark.parametrize("kind", ["choose", "rate"])
def test_names_reach_neither_page_nor_panel_nor_words(tmp_path, kind):
    out = tmp_path / "a.csv"
    test = listening_test(trials_of(), kind, out, "anna", seed=1, true="secretz", controls=1)
    (path,) = test.save(tmp_path / "anna.html")
    page = path.read_text(encoding="utf-8")
    panel = test.widget()
    state = json.dumps({k: v for k, v in panel.get_state().items() if k != "_media"}, default=str)
    shown = panel.get_state()
    for text in (page, state, test._repr_html_(), repr(test), path.name):
        assert "secret" not in text
    assert all(b"secret" not in data for data in [*media_of(page).values(), *shown["_media"]])
    assert Plan.from_key(tmp_path / "anna.key.json") == test.plan
    test.record(1, respond(test.plan, test.next, lambda q, s: 0 if kind == "choose" else [50] * len(s)))
    assert "secret" not in out.read_text() and (tmp_path / "a.key.json").exists()


def test_sounds_cannot_be_told_apart_by_their_form_and_keep_their_level(tmp_path):
    given = trials_of()
    test = listening_test(given, out=tmp_path / "a.csv")
    for trial in test._trials:
        forms, peaks = set(), []
        for data in test._media(trial)[2:]:
            with wave.open(io.BytesIO(data)) as file:
                forms.add((file.getnchannels(), file.getframerate(), file.getnframes(), len(data)))
                peaks.append(np.abs(np.frombuffer(file.readframes(file.getnframes()), "<i2")).max() / 32767)
        assert forms == {(1, 24000, 9600, 9600 * 2 + 44)}
        wanted = [given[c][1][s].peak for c, s in trial.candidates]
        assert peaks == pytest.approx(wanted, rel=0.05)


def test_page_is_whole_alone_and_safe_with_any_name(tmp_path):
    test = listening_test(trials_of(), out=tmp_path / "a.csv", listener=HOSTILE)
    (path,) = test.save(tmp_path / "new" / "anna.html")
    page = path.read_text(encoding="utf-8")
    assert not re.search(r"https?:|//cdn|\bimport\s*\(|\bimport\s.*\bfrom\b|fetch\(|XMLHttpRequest|<link|@import", page)
    assert "default-src 'none'" in page and "export " not in page
    spec = json.loads(re.search(r'<script type="application/json" id="spec">(.*?)</script>', page, re.S).group(1))
    assert spec["listener"] == HOSTILE.replace("\n", " ") and spec["total"] == 4
    assert page.count("<script>") == 1 and "<img" not in page and "<noscript>" in page
    assert ".innerHTML" not in page and "insertAdjacentHTML" not in page
    assert "&lt;script&gt;" in test._repr_html_() and "<script>" not in test._repr_html_()
    assert sorted(p.name for p in path.parent.iterdir()) == ["anna.html", "anna.key.json"]


def test_large_tests_become_several_pages_and_too_large_ones_an_error(tmp_path, monkeypatch):
    test = listening_test(trials_of(4), out=tmp_path / "a.csv", repeats=1)
    one = len(test.save(tmp_path / "one.html")[0].read_text())
    monkeypatch.setattr(listening, "PAGE_BYTES", 200_000 + (one - 30_000) // 2)
    pages = test.save(tmp_path / "t.html")
    assert [p.name for p in pages] == [f"t.{k}.html" for k in range(1, len(pages) + 1)] and 2 <= len(pages) <= 4
    numbers = []
    for page in (p.read_text() for p in pages):
        trials = json.loads(re.search(r'id="trials">(.*?)</script>', page).group(1))
        numbers += [t["number"] for t in trials]
        assert {m for t in trials for m in [t["film"], t["poster"], *t["sounds"]]} == set(media_of(page))
        assert len(page) < listening.PAGE_BYTES
    assert numbers == [1, 2, 3, 4, 5]
    monkeypatch.setattr(listening, "LIMIT_PAGES", 1)
    with pytest.raises(UsageError, match="does not fit 1 pages"):
        test.save(tmp_path / "u.html")
    monkeypatch.setattr(listening, "PAGE_BYTES", 50_000)
    with pytest.raises(UsageError, match=r"clip\.slice"):
        test.save(tmp_path / "u.html")
    assert not list(tmp_path.glob("u*"))
    monkeypatch.undo()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(MediaError, match="disk full"):
        test.save(tmp_path / "u.html")
    assert not list(tmp_path.glob("*u*"))


def test_a_session_goes_on_where_it_stopped(tmp_path):
    given, out = trials_of(), tmp_path / "a.csv"
    test = listening_test(given, out=out, listener="anna")
    with pytest.raises(UsageError, match="trial 2 cannot be answered now: trial 1 is next"):
        test.record(2, respond(test.plan, test.next, first))
    test.record(1, respond(test.plan, test.next, first))
    test.record(2, respond(test.plan, test.next, first))
    out.write_bytes(out.read_bytes()[:-3])
    again = listening_test(given, out=out, listener="anna")
    assert again.next.number == 2 and "half-written" in again.notice and "1 of 4 trials" in repr(again)
    assert listening_test(given, out=out, listener="ben").next.number == 1
    before = out.read_bytes()
    other = trials_of()
    other["secretclip0"][1]["secretx"] = other["secretclip0"][1]["secretx"].gain(-1)
    for changed in ((given, "rate"), (other, "choose")):
        with pytest.raises(UsageError, match="another test"):
            listening_test(*changed, out=out, listener="anna")
    assert out.read_bytes() == before
    while again.next:
        again.record(again.next.number, respond(again.plan, again.next, first))
    with pytest.raises(UsageError, match="the test is finished"):
        again.record(5, [])
    assert again.analyse().systems == ["secretx", "secrety", "secretz"]


def test_panel_keeps_answers_and_shows_what_went_wrong(tmp_path):
    out = tmp_path / "a.csv"
    test = listening_test(trials_of(), out=out)
    panel = test.widget()
    answer = {"trial": 1, "answers": [["plausible", "", "B"], ["ambient", "", "A"]], "seconds": 4.2}
    seen = []
    panel.observe(lambda change: seen.append(json.loads(change["new"]).get("number")), "_trial")
    panel._answer = {**answer, "serial": 1}
    assert [r["answer"] for r in read_answers(out)[0]] == ["B", "A"] and seen == [2] and len(panel._media) == 5
    panel._answer = {**answer, "serial": 2}  # sent twice, kept once
    assert len(read_answers(out)[0]) == 2 and panel._notice == ""
    for wrong in ({"trial": 2, "answers": [["plausible", "", "Z"]]}, {"trial": [2]}, {"trial": 2, "answers": 7}):
        panel._answer = wrong
        assert panel._notice and len(read_answers(out)[0]) == 2
    for number in (2, 3, 4):
        panel._answer = {**answer, "trial": number}
    assert panel._trial == "{}" and panel._media == [] and test.next is None


def test_wrong_material_is_refused_by_name(tmp_path):
    good = trials_of(2)
    clip, sounds = good["secretclip0"]
    for bad, words in [
        ({}, "at least one clip"),
        ([clip], "trials must be a dictionary"),
        ({"c": clip}, r"'c': a trial is \(clip"),
        ({"c": (clip, {"x": None, "y": sounds["secretx"]})}, "'x' has no sound"),
        ({**good, "c": (clip, {"secretx": sounds["secretx"]})}, "'c': every clip needs the same systems"),
    ]:
        with pytest.raises(UsageError, match=words):
            listening_test(bad, out=tmp_path / "a.csv")
    assert not list(tmp_path.iterdir())


def test_shown_as_words_where_there_is_no_kernel(tmp_path, capsys):
    test = listening_test(trials_of(), out=tmp_path / "a.csv")
    test._ipython_display_()
    assert "Blind listening test" in capsys.readouterr().out
    assert isinstance(test, ListeningTest) and "test.save(" in test._repr_html_()


def test_pure_functions_of_the_script():
    check_script("listening")


# --- in a real browser, by keys alone -----------------------------------------------------------

FAKE = """<!doctype html><meta charset="utf-8"><div id="el"></div><script>(() => {
SOURCE
const state = STATE, heard = {}, bytes64 = (t) => Uint8Array.from(atob(t), (c) => c.charCodeAt(0));
state._media = state._media.map((t) => new DataView(bytes64(t).buffer));
const model = { get: (k) => state[k], set(k, v) { state[k] = v; }, on(k, f) { heard[k] = f; }, off() {},
  save_changes() { window.sent = state._answer; state._notice = "disk full"; heard["change:_notice"](); } };
window.end = render({ model, el: document.getElementById("el") });
window.go = () => { state._trial = "{}"; state._media = []; heard["change:_trial"](); };
})();</script>"""


class Listener:
    """Somebody in front of the page, with a keyboard only. Every look waits until the page has followed."""

    def __init__(self, page, expect) -> None:
        self.page, self.expect, self.problems = page, expect, []
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", lambda m: self.problems.append(m.text) if m.type in ("error", "warning") else None)

    def press(self, *names: str) -> None:
        for name in names:
            self.page.keyboard.press(name)

    def sees(self, where: str, words: str | re.Pattern) -> None:
        self.expect(self.page.locator(where)).to_have_text(words, timeout=30_000)

    def comes_back_and_sees(self, where: str, words: str | re.Pattern) -> None:
        """As one who looks at this tab now and then: what another tab kept is told by the browser, sooner or later."""
        for _ in range(20):
            self.page.evaluate("window.dispatchEvent(new Event('focus'))")
            with contextlib.suppress(AssertionError):
                return self.expect(self.page.locator(where)).to_have_text(words, timeout=1_500)
        url = self.page.url  # a busy browser may never tell a tab that was open: opened again, it reads what was kept
        self.page.goto("about:blank")
        self.page.goto(url)
        if where == "h2":  # it begins with its title, and says how many trials are answered until the first key
            self.press("Enter")
        return self.sees(where, words)

    @property
    def focused(self):
        """The element with the focus, to be expected things of; its host, outside the shadow, has it too."""
        return self.expect(self.page.locator(":focus").last)

    def hears(self, letters: str) -> None:
        for k, letter in enumerate(letters):
            ticked = self.expect(self.page.locator(".sound").nth(k))
            for _ in range(20):  # it comes in where the one before was; from its start at the second time
                self.press(letter)
                try:
                    ticked.to_contain_text("\u2713", timeout=1_000)
                except AssertionError:
                    continue
                break
            ticked.to_contain_text("\u2713")

    def downloads(self, path: Path) -> str:
        """Press the button that has the focus; the name that the page gave the file, which is then at ``path``.

        A busy browser may drop a download; then the button is pressed again, as anybody would.
        """
        from chromium_parts import sync_api

        for last in (False, False, False, True):
            try:
                with self.page.expect_download(timeout=10_000) as waiting:
                    self.press("Enter")
                break
            except sync_api.TimeoutError:
                if last:
                    raise
        waiting.value.save_as(path)
        return waiting.value.suggested_filename


@pytest.fixture
def listener(browser):
    from chromium_parts import sync_api

    context = browser.new_context(viewport={"width": 1040, "height": 900})
    yield Listener(context.new_page(), sync_api.expect)
    context.close()


def test_in_chromium_choose_by_keyboard_alone(tmp_path, listener):
    test = listening_test(trials_of(seconds=0.2), out=tmp_path / "a.csv", listener='An "na" <b>', seed=2)
    (page,) = test.save(tmp_path / "choose.html")
    listener.page.goto(page.as_uri())
    listener.sees("h2", "Listening test")
    listener.press("Enter")
    listener.sees("h2", "Trial 1 of 4")
    listener.press("Enter")
    listener.sees(".say", "Answer question 1 first.")
    listener.press("3", "1", "Enter", "2", "Enter")
    listener.sees(".say", "Listen to A, B and C first.")
    listener.hears("abc")
    for k in range(3):
        sound = listener.page.locator(".sound").nth(k)
        assert sound.get_attribute("aria-label") == f"sound {LETTERS[k]}, heard"
    listener.press("Enter")
    listener.sees("h2", "Trial 2 of 4")
    listener.page.evaluate("localStorage.clear()")  # as Chromium may do by itself where a page is a file
    listener.page.goto("about:blank")
    listener.page.goto(page.as_uri())  # closed and opened again
    listener.sees(".say", re.compile("Trials answered already: 1;"))
    listener.press("Enter")
    for number in (2, 3, 4):
        listener.sees("h2", f"Trial {number} of 4")
        listener.hears("abc")
        # back to the first question to change the answer, then on
        listener.press("1", "Enter", "2", "ArrowUp", "3", "Enter")
    listener.sees("h2", re.compile("^That was all"))
    listener.focused.to_have_text(re.compile("Download"), timeout=30_000)
    listener.downloads(tmp_path / "choose.csv")
    assert listener.problems == []
    rows, rest = read_answers(tmp_path / "choose.csv")
    assert rest == "" and [r["trial"] for r in rows] == [str(n) for n in (1, 1, 2, 2, 3, 3, 4, 4)]
    assert [r["answer"] for r in rows] == ["A", "B"] + ["C", "B"] * 3
    assert {r["listener"] for r in rows} == {'An "na" <b>'} and all(float(r["seconds"]) > 0 for r in rows)
    made = analyse(tmp_path / "choose.csv", key=tmp_path / "choose.key.json")
    assert made["plausible", "secretx"]["n"] == 3 and made.listeners[0]["repeats"] == 1


def test_in_chromium_two_tabs_answer_one_test(tmp_path, listener):
    test = listening_test(trials_of(2, seconds=0.2), out=tmp_path / "a.csv")
    (page,) = test.save(tmp_path / "choose.html")
    tabs = [listener, Listener(listener.page.context.new_page(), listener.expect)]
    for tab in tabs:
        tab.page.goto(page.as_uri())
        tab.press("Enter")
        tab.sees("h2", "Trial 1 of 2")
    for number, tab in enumerate(tabs, 1):  # each answers one; neither asks again nor loses what the other had
        tab.page.bring_to_front()
        tab.comes_back_and_sees("h2", f"Trial {number} of 2")
        tab.hears("abc")
        tab.press("1", "Enter", "2", "Enter")
        tab.sees("h2", re.compile("^That was all" if number == 2 else "^Trial 2"))
    listener.comes_back_and_sees("h2", re.compile("^That was all"))
    listener.page.bring_to_front()
    listener.page.locator("button.go").focus()
    listener.downloads(tmp_path / "choose.csv")
    assert [r["trial"] for r in read_answers(tmp_path / "choose.csv")[0]] == ["1", "1", "2", "2"]


def test_in_chromium_rate_by_keyboard_alone(tmp_path, listener):
    test = listening_test(trials_of(2, ("secretx", "secrety"), 0.2), "rate", tmp_path / "r.csv", "ben")
    (page,) = test.save(tmp_path / "rate.html")
    listener.page.goto(page.as_uri())
    listener.sees("h2", "Listening test")
    listener.press("Enter")
    for number in (1, 2):
        listener.sees("h2", f"Trial {number} of 2")
        listener.hears("ab")
        listener.press("a", "7", "5", "Enter", "1", "0", "0", "Enter", "ArrowRight", "Enter")
        listener.focused.to_have_attribute("aria-label", "sound A, Temporal alignment")
        listener.press("Enter")
        listener.sees(".say", re.compile("Rate this field first"))
        listener.press("5", "Enter", "6", "Enter", "7", "Enter", "8", "Enter", "9", "Enter")
    listener.focused.to_have_text(re.compile("Download"), timeout=30_000)
    assert listener.downloads(tmp_path / "rate.csv") == "answers-ben.csv"
    assert listener.problems == []
    rows, _ = read_answers(tmp_path / "rate.csv")
    assert [r["answer"] for r in rows] == ["75", "100", "51", "5", "6", "7", "8", "9"] * 2
    assert analyse(tmp_path / "rate.csv", key=tmp_path / "rate.key.json").kind == "rate"


def test_in_chromium_the_panel_sends_and_hears_of_trouble(tmp_path, listener):
    test = listening_test(trials_of(1, ("secretx", "secrety"), 0.2), out=tmp_path / "a.csv", several=True)
    state = {k: v for k, v in test.widget().get_state().items() if k in ("_spec", "_trial", "_media", "_notice")}
    state["_media"] = [base64.b64encode(bytes(data)).decode() for data in state["_media"]]
    path = tmp_path / "panel.html"
    text = FAKE.replace("SOURCE", listening._script()).replace("STATE", json.dumps(state).replace("<", "\\u003c"))
    path.write_text(text, encoding="utf-8")
    page = listener.page
    page.goto(path.as_uri())
    assert page.evaluate("document.activeElement === document.body"), "a notebook's focus stays where it is"
    page.locator(".go").evaluate("button => button.click()")
    listener.hears("ab")
    listener.press("1", "2", "Enter", "2", "Enter")
    sent = page.wait_for_function("window.sent").json_value()
    assert sent["trial"] == 1 and sent["answers"] == [["plausible", "", "AB"], ["ambient", "", "B"]]
    listener.sees(".say", "disk full")
    page.evaluate("window.sent = null")
    listener.press("Enter")  # it can be sent again
    page.wait_for_function("window.sent")
    page.evaluate("window.go()")
    listener.sees("h2", re.compile("^That was all"))
    page.evaluate("window.end()")
    assert page.evaluate("document.getElementById('el').children.length") == 0
    assert listener.problems == []
