"""The page of an evaluation: what it shows, which clips it plays, and in which order."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from v2a_nb import media
from v2a_nb.cli import main
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import V2AError
from v2a_nb.metrics.evaluate import compare_folders, evaluate_folder
from v2a_nb.metrics.report import Comparison, Report
from v2a_nb.plots.metric_rows import metric_rows
from v2a_nb.widgets.evaluation import EvaluationPage

RATE, CLIPS = 16000, 12
METRIC = {"name": "e_l1", "extractor": "x", "value": 0.5, "low": 0.25, "high": 0.75, "n": 4}


def click_at(seconds: float) -> Sound:
    samples = np.zeros(RATE * 2, np.float32)
    start = int(seconds * RATE)
    samples[start : start + 800] = 0.5 * np.sin(np.arange(800) * 0.8) * np.exp(-np.arange(800) / 150)
    return Sound(samples, RATE)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """True clicks, a system whose clip k is 20 k ms late, one that is always right but for clip 5, and videos."""
    at = tmp_path_factory.mktemp("folders")
    for k in range(CLIPS):
        name = f"c{k:02}"
        media.save_sound(click_at(0.5), at / "true" / f"{name}.wav")
        media.save_sound(click_at(0.5 + 0.02 * k), at / "late" / f"{name}.wav")
        media.save_sound(click_at(1.5 if k == 5 else 0.5), at / "right" / f"{name}.wav")
    frames = np.full((20, 32, 32, 3), 90, np.uint8)
    for k in (10, 11):
        media.save_mp4(Clip(frames, fps=10.0), None, at / "videos" / f"c{k:02}.mp4")
    return at


@pytest.fixture(scope="module")
def late(folders) -> Report:
    return evaluate_folder(
        folders / "late", folders / "true", folders / "videos", metrics=["envelope_lag_abs_ms", "e_l1"]
    )


def shown(page: EvaluationPage) -> list[str]:
    """The names of the clips, in the page's order: headings of players and of sounds."""
    html = re.sub(r"<(script|style).*?</\1>", "", page.html, flags=re.S)
    return list(dict.fromkeys(re.findall(r"<(?:h3|figcaption|b|strong|h\d)[^>]*>(c\d\d)<", html)))


def test_worst_clips_come_first_then_others_drawn_at_random(late):
    page = EvaluationPage(late, worst=3, drawn=2)
    assert page.by == "envelope_lag_abs_ms"
    names = shown(page)
    assert names[:3] == ["c11", "c10", "c09"] and len(names) == 5 and len(set(names)) == 5
    assert names == shown(EvaluationPage(late, worst=3, drawn=2)), "the same each time"
    for text in ("late", "the true sound", "The 3 clips with the worst envelope_lag_abs_ms", "2 more, drawn at random"):
        assert text in page.html


def test_pictures_play_where_there_are_some(late):
    html = EvaluationPage(late, worst=3, drawn=0).html
    assert html.count("<video") >= 2 and "c09" in html  # c10 and c11 have videos, c09 its sounds alone
    assert "http://" not in html.replace("http://www.w3.org", "") and "https://" not in html


def test_several_systems_show_where_they_differ_most(folders):
    both = compare_folders(
        {"late": folders / "late", "right": folders / "right"}, folders / "true", metrics=["envelope_lag_abs_ms"]
    )
    assert isinstance(both, Comparison)
    page = EvaluationPage(both, worst=2, drawn=0)
    assert shown(page) == ["c05", "c11"], "900 ms apart, then 220"
    assert "differ most" in page.html and "late: envelope_lag_abs_ms" in page.html


def test_a_metric_that_tells_no_clips_apart_is_passed_over_and_refused_by_name(folders):
    same = evaluate_folder(folders / "true", folders / "true", metrics=["e_l1", "envelope_lag_abs_ms"])
    page = EvaluationPage(same, drawn=2)
    assert page.by is None and len(shown(page)) == 2 and "drawn at random" in page.html
    with pytest.raises(V2AError, match="e_l1 does not tell"):
        EvaluationPage(same, by="e_l1")


def test_a_report_without_folders_has_tables_and_figures_alone():
    report = Report(2, [METRIC], [{"id": "<b>", "e_l1": 0.1}, {"id": "c", "e_l1": 0.9}])
    html = EvaluationPage(report).html
    assert "<b>" not in html and "0.500 [0.250, 0.750]" in html and "<audio" not in html and "alt=" in html


def test_the_command_writes_the_page_and_keeps_other_files(folders, tmp_path, capsys, one_picture):
    words = ["evaluate", "--generated", str(folders / "late"), "--reference", str(folders / "true")]
    words += ["--metrics", "e_l1", "--json", str(tmp_path / "s.json"), "--html", str(tmp_path / "s.html")]
    assert main(words) == 0
    page = (tmp_path / "s.html").read_text()
    assert page.startswith("<!doctype html>") and "The 6 clips with the worst e_l1" in page
    assert "sources" not in json.loads((tmp_path / "s.json").read_text())
    assert main(words) == 0  # its own page is replaced
    (tmp_path / "s.html").write_text("mine")
    assert main(words) == 1 and (tmp_path / "s.html").read_text() == "mine"
    assert "s.html" in capsys.readouterr().err


def test_page_fits_a_telephone(browser, late, tmp_path):
    path = EvaluationPage(late, worst=2, drawn=1).save(tmp_path / "page.html")
    page = browser.new_page(viewport={"width": 400, "height": 800})
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda r: r.url.startswith(("file:", "data:", "blob:")) or wrong.append(r.url))
    page.goto(path.as_uri())
    page.wait_for_load_state("load")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.locator("table").first.is_visible() and page.locator("audio, video").count() >= 3
    page.close()
    assert wrong == []


def test_rows_say_every_value_and_what_has_none():
    missing = dict(METRIC, name="fad", value=float("nan"), low=float("nan"), high=float("nan"))
    controls = {"reference": [dict(METRIC, value=0.0)]}
    clips = [{"id": str(k), "e_l1": k / 10} for k in range(10)]
    fig = metric_rows({"one": Report(2, [METRIC, missing], clips, controls=controls), "two": Report(2, [METRIC])})
    assert fig.alt == ("Scores with 95 % intervals: e_l1: one 0.5, two 0.5, reference 0. Without a value: fad.")
    with pytest.raises(V2AError, match="no scores"):
        metric_rows({"one": Report(2, [missing])})
