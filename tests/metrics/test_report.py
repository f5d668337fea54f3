"""The report: text, JSON and HTML."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest

from v2a_nb.metrics.report import Report, plain

METRIC = {"name": "onset_f1_50ms", "extractor": "x", "value": 0.5, "low": 0.25, "high": float("nan"), "n": 4}


class Text(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_report_shows_itself():
    controls = {"truth": [dict(METRIC, value=0.75)], "chance": []}
    report = Report(2, [METRIC], [{"id": "a"}], [{"id": "<b>", "what": "5 < 6"}], controls)
    text = repr(report)
    assert "0.500 [0.250, –]" in text and "0.750" in text and "problem: <b>: 5 < 6" in text
    page = report._repr_html_()
    assert "&lt;b&gt;" in page and "<b>" not in page and "0.750" in page
    parser = Text()
    parser.feed(page)
    assert parser.open == [] and {"table", "caption", "th", "td"} <= set(parser.seen)
    with pytest.raises(KeyError, match="onset_f1_50ms"):
        report["fad"]


@pytest.mark.parametrize(("recordings", "said"), [(0, False), (1, True), (19, True), (20, False)])
def test_few_recordings_are_said_in_one_line(recordings, said):
    report = Report(40, [METRIC], recordings=recordings)
    lines = [line for line in repr(report).splitlines() if "intervals mean little" in line]
    assert len(lines) == said == report._repr_html_().count("intervals mean little")
    assert not said or lines[0].startswith(f"note: {recordings} recordings")


def test_a_cell_that_says_nothing_is_empty():
    other = dict(METRIC, name="fad", value=2.0)
    report = Report(30, [METRIC, other], controls={"shuffled": [dict(METRIC, value=0.125)]})
    onset, fad = repr(report).splitlines()[2:4]
    assert onset.split()[-1] == "0.125" and fad.split()[-1] == "–]"
    assert report._repr_html_().count("<td></td>") == 1 + 1  # the corner, and the distance of shuffled sounds


def test_small_values_keep_two_digits():
    report = Report(9, [dict(METRIC, value=value) for value in (0.00243, -0.0061, 0.0)])
    cells = [line.split()[1] for line in repr(report).splitlines()[2:5]]
    assert cells == ["0.0024", "-0.0061", "0.000"]


def test_plain_values_are_json():
    value = {"a": (np.float32(0.5), float("inf")), "b": [np.int64(3), None, "x"], "c": 1 / 3}
    assert plain(value, digits=2) == {"a": [0.5, None], "b": [3, None, "x"], "c": 0.33}
    assert plain(1 / 3) == 1 / 3 and type(plain(np.int64(3))) is int
