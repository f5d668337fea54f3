"""Hits: a list that gives changed copies, a file, and one line for whatever is no hit."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from v2a_nb.errors import MediaError, UsageError
from v2a_nb.hits import LATE_S, STEP_S, Hit, Hits, least_probability

MODEL = Hits([Hit(0.5, 0.97, 0.2, 0.8, origin="model"), Hit(1.0, 0.3, origin="model"), Hit(1.5, 0.02, origin="model")])


def test_a_list_in_the_order_of_time():
    hits = Hits([1.25, Hit(0.5), {"time_s": 2, "level_db": -3}])
    assert hits.times == [0.5, 1.25, 2.0] and len(hits) == 3 and hits[-1].level_db == -3.0
    assert isinstance(hits[:2], Hits) and hits[:2] == Hits([0.5, 1.25]) and hash(hits[:2]) == hash(Hits([0.5, 1.25]))
    assert [hit.origin for hit in hits] == ["user"] * 3 and list(hits) == [hits[0], hits[1], hits[2]]
    assert not Hits() and Hits(hits) == hits and Hits([0.5]) != [0.5]


def test_changes_give_new_values_and_remember_where_the_model_expected_a_hit():
    moved = MODEL.move(1, 0.1)
    assert MODEL[1].time_s == 1.0, "nothing is changed in place"
    assert moved.times == [0.1, 0.5, 1.5]
    assert moved[0] == Hit(0.1, 1.0, origin="user", moved_from_s=1.0)
    assert moved.move(0, 0.2)[0].moved_from_s == 1.0, "moved twice, it is still the same hit"
    louder = MODEL.scale(0, 6)
    assert louder[0] == Hit(0.5, 1.0, 0.2, 0.8, 6.0, "user", 0.5)
    assert MODEL.add(2.0, x=0.1, y=0.2)[3] == Hit(2.0, 1.0, 0.1, 0.2) and MODEL.add(2.0)[3].moved_from_s is None
    assert MODEL.remove(1).times == [0.5, 1.5] and MODEL.remove(-1).times == [0.5, 1.0]


def test_sensitivity_is_a_threshold_on_the_probability_and_never_drops_a_hit_of_the_user():
    hits = MODEL.add(1.2)
    assert [hits.at(s).times for s in (0, 0.03, 0.5, 0.7, 0.99, 1)] == [
        [1.2], [0.5, 1.2], [0.5, 1.2], [0.5, 1.0, 1.2], [0.5, 1.0, 1.2, 1.5], [0.5, 1.0, 1.2, 1.5]
    ]  # fmt: skip
    steps = [least_probability(k / 20) for k in range(21)]
    assert steps == sorted(steps, reverse=True) and steps[-1] == 0.0 and steps[0] == 0.99
    assert MODEL.move(2, 1.6).at(0).times == [1.6], "what was moved was decided on"


def expected(*probabilities):
    return Hits(Hit(0.1 * k, p, origin="model") for k, p in enumerate(probabilities))


def test_what_suits_a_clip_is_strict_where_hits_are_sure_and_open_where_they_are_doubtful():
    clear, new = expected(0.98, 0.97, 0.95, 0.2), expected(0.3, 0.25, 0.45, 0.5, 0.35, 0.4, 0.3, 0.05)
    assert clear.doubt == pytest.approx((0.0196 + 0.0291 + 0.0475 + 0.16 + 0.2) / (3.1 + 2))
    assert clear.fitting_sensitivity == 0.25 and len(clear.at("auto")) == 3
    assert 0.7 < new.fitting_sensitivity <= 0.8 and len(new.at("auto")) == 7
    assert expected(*[0.3] * 40).fitting_sensitivity == 0.8
    # few hits say little; hits of the user are certain, and say nothing of what the system sees
    assert expected(0.3).doubt < expected(0.3, 0.3, 0.3).doubt and Hits().fitting_sensitivity == 0.25
    assert new.add(1.2).doubt == new.doubt and 1.2 in new.add(1.2).at("auto").times
    with pytest.raises(UsageError, match="not 'high'"):
        new.at("high")


def test_in_a_clip_that_is_new_hits_sound_later_than_they_look():
    clear, new = expected(0.98, 0.97, 0.95, 0.2), expected(*[0.3] * 40)
    assert clear.fitting_delay_s == 0.0 and clear.fitted == clear
    assert new.fitting_delay_s == LATE_S == 0.025
    late = new.fitted
    assert late.times == pytest.approx([t + LATE_S for t in new.times])
    assert [hit.moved_from_s for hit in late] == new.times and late.doubt == new.doubt
    assert {hit.origin for hit in late} == {"model"} and late[3].probability == 0.3, "nobody has decided on them"
    assert late.fitted == late, "once is enough"
    in_steps = Hits([replace(hit, time_s=round(hit.time_s, 2)) for hit in new]).fitted
    assert all(hit.time_s == round(hit.time_s, 3) for hit in in_steps), "a file of hits has no 0.8250000000000001"
    assert new.at("auto") == late.at(0.8)
    # the user's stay where they are, also those that were delayed before, and take the place of what comes to them
    changed = new.add(0.327).fitted
    assert 0.327 in changed.times and len(changed) == len(new)
    assert late.move(3, 0.5501)[5].moved_from_s == pytest.approx(new[3].time_s)
    half = expected(*[0.3] * 3)
    assert 0 < half.fitting_delay_s < LATE_S and half.fitting_delay_s % STEP_S == pytest.approx(0, abs=1e-9)


def test_parts_have_their_own_time():
    hits = MODEL.move(2, 1.7)
    part = hits.part(0.75, 2.0)
    assert part.times == pytest.approx([0.25, 0.95]) and part[1].moved_from_s == pytest.approx(0.75)
    assert hits.part(1.6, 2.0)[0].moved_from_s is None, "where the model expected it is outside"
    assert part.later(0.75).times == pytest.approx([1.0, 1.7]) and hits.part(0.5, 1.0).times == [0.0]
    hits.check_within(1.71)
    with pytest.raises(UsageError, match=r"a hit at 1\.700 s lies outside of a\.mp4, which has 1\.700 s"):
        hits.check_within(1.7, "a.mp4")


def test_a_table_for_the_eye():
    lines = repr(MODEL.move(1, 1.1)).splitlines()
    assert lines[0].split() == ["time", "(s)", "probability", "place", "level", "(dB)", "origin"]
    assert lines[1].split() == ["0", "0.500", "0.97", "0.20", "0.80", "+0.0", "model"]
    assert lines[2].endswith("user, from 1.000 s") and repr(Hits()) == "no hits"
    assert repr(MODEL[0]) == "Hit(0.500 s, probability 0.97, model)"


def test_a_file_there_and_back(tmp_path):
    hits = MODEL.move(1, 1.1).scale(0, -6).add(2.0, x=0.0, y=1.0)
    path = hits.save(tmp_path / "a.hits.json")
    assert Hits.load(path) == hits and Hits.load(Hits().save(tmp_path / "none.json")) == Hits()
    found = json.loads(path.read_text())
    assert found["hits_version"] == 1 and found["hits"][3] == {
        "time_s": 2.0, "probability": 1.0, "x": 0.0, "y": 1.0, "level_db": 0.0, "origin": "user"
    }  # fmt: skip
    path.write_text('{"hits_version": 1, "hits": [{"time_s": 1}, {"time_s": 0.25, "level_db": 3}]}')
    assert Hits.load(path) == Hits([Hit(0.25, level_db=3.0), 1.0]), "a hand needs no more than times"
    assert Hits([0.1]).save(path) == path, "a file of hits is replaced"
    path.write_text("my own notes")
    with pytest.raises(MediaError, match="kept"):
        Hits([0.1]).save(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no JSON"), ("{", "is no JSON"), ("\x00", "is no JSON"), ("[" * 100_000, "is no JSON"),
        ("[0.5]", "hits are {"), ('{"hits": []}', "hits are {"), ('{"hits_version": 2, "hits": []}', "version 2"),
        ('{"hits_version": 1, "hits": 5}', "must be a list, not 5"),
        ('{"hits_version": 1, "hits": [{"probability": 1}]}', "lacks time_s"),
        ('{"hits_version": 1, "hits": [{"time_s": 1, "time": 2}]}', "unknown 'time'"),
        ('{"hits_version": 1, "hits": [{"time_s": NaN}]}', "time_s must be a number, 0 or more, not nan"),
        ('{"hits_version": 1, "hits": [{"time_s": 1e999}]}', "not inf"),
        ('{"hits_version": 1, "hits": [{"time_s": 1' + "0" * 400 + "}]}", "time_s must be a number"),
        ('{"hits_version": 1, "hits": [{"time_s": -1}]}', "not -1"),
        ('{"hits_version": 1, "hits": [{"time_s": "1"}]}', "not '1'"),
        ('{"hits_version": 1, "hits": [{"time_s": true}]}', "not True"),
        ('{"hits_version": 1, "hits": [{"time_s": null}]}', "not None"),
        ('{"hits_version": 1, "hits": [[1]]}', "time_s must be a number"),
        ('{"hits_version": 1, "hits": [{"time_s": 1, "x": 2}]}', "x must be a number, 0 to 1, not 2"),
        ('{"hits_version": 1, "hits": [{"time_s": 1, "level_db": 60}]}', "level_db must be a number, -60 to 24"),
        ('{"hits_version": 1, "hits": [{"time_s": 1, "origin": "cat"}]}', "model or user, not 'cat'"),
        ('{"hits_version": 1, "hits": [{"time_s": 1}, {"time_s": 1.002}]}', "two hits at 1.000 s and 1.002 s"),
    ],
)  # fmt: skip
def test_what_is_no_file_of_hits_is_one_line_that_names_it(tmp_path, text, words):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UsageError) as error:
        Hits.load(path)
    assert words in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "nothing.json", tmp_path, tmp_path / "bytes.json", "\0.json"):
        with pytest.raises(UsageError, match=r"cannot be read|is no JSON"):
            Hits.load(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: Hits(0.5), "must be a list"), (lambda: Hits("0.5"), "must be a list"),
        (lambda: Hits({"time_s": 1}), "must be a list"), (lambda: Hits([object()]), "time_s must be a number"),
        (lambda: Hits([0.5, 0.5]), "two hits"), (lambda: MODEL.add(0.5), "two hits"),
        (lambda: MODEL.move(0, 1.0), "two hits"), (lambda: MODEL.move(3, 1.1), "no hit 3: there are 3"),
        (lambda: MODEL.remove("0"), "which must be a whole number"), (lambda: MODEL.scale(0, 99), "level_db"),
        (lambda: MODEL[7], "no hit 7"), (lambda: MODEL.at(1.01), "sensitivity must be 0"),
        (lambda: MODEL.at(float("nan")), "sensitivity must be 0"), (lambda: MODEL.add("1"), "time_s must be a number"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_one_line(change, words):
    with pytest.raises(UsageError) as error:
        change()
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("probabilities", "words"),
    [
        ([], "0 hits expected"),
        ([0.9], "1 hit expected: 1 sure, 0 doubtful"),
        ([0.9, 0.5, 0.2, 0.01, 0.02], "3 hits expected: 1 sure, 2 doubtful"),
        ([0.05], "0 hits expected"),
    ],
)
def test_how_sure_a_system_is(probabilities, words):
    hits = Hits({"time_s": k, "probability": p, "origin": "model"} for k, p in enumerate(probabilities))
    assert hits.summary == words and len(hits.likely) == int(words[0])


def test_the_users_hits_are_sure():
    assert Hit(1.0, 0.2).sure and Hits([Hit(1.0, 0.0)]).summary == "1 hit expected: 1 sure, 0 doubtful"
