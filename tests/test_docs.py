"""The documentation site: what is put into its pages, and the check of what was made. ``make docs`` builds it whole."""

from __future__ import annotations

import json
import re

import house
import pages
import pytest
from paths import PACKAGE, ROOT

import v2a_nb


def test_the_house_is_drawn_as_it_is():
    rooms = house.rooms()
    there = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert {room.name for room in rooms} == there - {"weights", "__pycache__"}
    media = next(room for room in rooms if room.name == "media")
    assert media.uses == {"clip", "errors", "files"} and media.files == len(list((PACKAGE / "media").rglob("*.py")))
    svg, table = house.drawing(rooms), house.table(rooms)
    for room in rooms:
        assert room.what and svg.count(f'class="room r-{room.name}"') == 1 and f"| `{room.name}` |" in table
        assert svg.count(f'class="import f-{room.name} ') == len(room.uses)
    places = house.places(rooms)
    for a in rooms:
        x, y, wide = places[a.name]
        assert x >= house.LEFT and x + wide <= house.WIDTH
        for b in rooms:
            assert (places[b.name][1] > y) == (b.floor < a.floor)
            other, _, width = places[b.name]
            assert a is b or b.floor != a.floor or other + width < x or x + wide < other, "two rooms overlap"


def test_the_api_has_the_public_names():
    text = (ROOT / "docs" / "api.md").read_text()
    made = pages.api(text)
    documented = re.findall(r"^\.\. auto(?:class|function):: v2a_nb\.([\w.]+)$", made, re.M)
    assert sorted(name.split(".")[-1] for name in documented) == sorted(set(v2a_nb.__all__) - {"__version__"})
    for wrong in (text.replace("`play`, ", ""), text.replace("`play`, ", "`play`, `players`, ")):
        with pytest.raises(pages.SiteError, match="play"):
            pages.api(wrong)


def test_every_document_has_a_place_in_the_contents():
    listed = {name for names in pages.CONTENTS.values() for name in names}
    there = {f"docs/{path.stem}" for path in (ROOT / "docs").glob("*.md")}
    assert there <= listed and all((ROOT / f"{name}.md").exists() for name in listed - {"notebooks/*"})


def cell(source: str, *outputs: dict, tags: tuple[str, ...] = ()) -> dict:
    data = [{"output_type": "display_data", "data": output, "metadata": {}} for output in outputs]
    return {"cell_type": "code", "source": [source], "outputs": data, "metadata": {"tags": list(tags)}}


def test_pages_of_notebooks_have_the_outputs_of_their_executed_copies(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "EXECUTED", tmp_path)
    bare = json.dumps({"cells": [cell("a"), cell("b", tags=("install",))], "metadata": {}})
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "0"}, "text/plain": ["FileUpload()"]}
    zoom = {"application/vnd.plotly.v1+json": {"data": [], "layout": {"title": "</script>"}}, "text/html": ["<p>still"]}
    run = {"cells": [cell("a", zoom, widget), cell("b", tags=("install",))], "metadata": {"widgets": {"state": {}}}}
    (tmp_path / "00_tour.ipynb").write_text(json.dumps(run))

    made = json.loads(pages.executed("00_tour", bare))
    first, second = (output["data"] for output in made["cells"][0]["outputs"])
    assert made["metadata"] == {} and made["cells"][1]["metadata"]["tags"] == ["install", "remove-cell"]
    assert list(first) == ["text/html"] and first["text/html"].startswith('<div class="zoomable"><p>still')
    assert first["text/html"].count("</script>") == 1  # the numbers cannot end the script that holds them
    assert list(second) == ["text/plain"] and "kernel" in second["text/plain"]

    run["cells"][0]["source"] = ["another text"]
    (tmp_path / "00_tour.ipynb").write_text(json.dumps(run))
    assert json.loads(pages.executed("00_tour", bare))["cells"][0]["outputs"] == []


def test_an_equation_that_cannot_be_drawn_ends_the_build():
    pytest.importorskip("latex2mathml", reason="the extra docs is not installed")
    assert "<msub>" in pages.mathml(r"\min_j x")
    with pytest.raises(pages.SiteError, match=r"cannot draw \\arg"):  # its library writes such commands as text
        pages.mathml(r"\arg x")


def test_what_notebooks_took_is_a_table(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "EXECUTED", tmp_path)
    assert pages.costs() == ""
    (tmp_path / "notebooks.json").write_text(json.dumps({"00_tour": {"work_s": 41.26, "peak_mb": 803.9}}))
    assert pages.costs().endswith("| [`00_tour`](00_tour.ipynb) | 41 | 804 |\n")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('<a href="https://example.org/x">a link to follow</a><a href="#here">here</a>', None),
        ('<img src="data:image/png;base64,AA"><a href="b.html#there">there</a>', None),
        ('<script src="https://example.org/x.js"></script>', "asks for https://example.org/x.js"),
        ('<link rel="stylesheet" href="//example.org/x.css">', "asks for //example.org/x.css"),
        ('<video poster="http://example.org/x.png"></video>', "asks for http://example.org/x.png"),
        ('<a href="c.html">gone</a>', "c.html leads nowhere"),
        ('<a href="b.html#gone">gone</a>', "b.html has no place gone"),
        ('<img src="x.png">', "x.png leads nowhere"),
    ],
)
def test_the_check_of_pages(tmp_path, line, told):
    (tmp_path / "a.html").write_text(f'<p id="here">{line}</p>')
    (tmp_path / "b.html").write_text('<p id="there">words</p>')
    assert pages.problems_of(tmp_path) == ([] if told is None else [f"a.html{'' if 'asks' in told else ':'} {told}"])
