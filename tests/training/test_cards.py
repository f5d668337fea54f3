"""Cards and documents: fields are filled in, what was not measured says so, and what is unknown is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from paths import PACKAGE
from safetensors.numpy import save_file

from v2a_nb.errors import V2AError
from v2a_nb.training.cards import Fields, render_card, render_document, write_card
from v2a_nb.training.results import RUN, Results, Row, Table

ROWS = (Row("near_miss_silent", "Toy", 0.641, 0.56, 0.72), Row("near_miss_silent", "shuffled video", 0.841))
TOY = Results(
    "toy", "0",
    (
        Table("scores", "v2a-nb score toy", ROWS, "commit 1", about={"clips": 200}),
        Table("retrained", "v2a-nb score toy --run R", (Row("near_miss_silent", "brief", 0.5),), source=RUN),
    ),
)  # fmt: skip
TEMPLATE = """# Toy

{parameters[.]} and {parameters[net]} parameters, {config[steps]:,} steps, {config[budget][recordings]} recordings.

## Scores

{about[scores][clips]} clips (`{about[scores][command]}`, {about[scores][version]}): silent at
{cells[scores][near_miss_silent]} of the near misses, {cells[scores][near_miss_silent][shuffled video]} by chance.

{tables[scores]}

Rows that were trained anew: {about[retrained][version]}.

{tables[scores retrained]}

### Real

{tables[real]}

### Last

Words.
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "weights" / "part").mkdir(parents=True)
    folder = tmp_path / "weights"
    (folder / "config.json").write_text(
        json.dumps({"steps": 2400, "budget": {"recordings": 7}, "parts": {"net": "part"}})
    )
    save_file({"a": np.zeros((1000, 1200), np.float16), "b": np.zeros((), np.float16)}, folder / "model.safetensors")
    save_file({"a": np.zeros(10000, np.float16)}, folder / "part" / "model.safetensors")
    (folder / "part" / "config.json").write_text("{}")
    (tmp_path / "card.md").write_text(TEMPLATE)
    return folder


def test_a_card_says_what_config_weights_and_results_say(folder):
    TOY.write(folder)
    text = render_card(folder, folder.parent / "card.md")
    assert "1.2 M and 0.01 M parameters, 2,400 steps, 7 recordings." in text
    assert "200 clips (`v2a-nb score toy`, commit 1)" in text
    assert "0.641 of the near misses, 0.841 by chance" in text
    assert "| `near_miss_silent` | 0.641 [0.560, 0.720] | 0.841 [" not in text
    assert "| metric | Toy | shuffled video |" in text and "| metric | Toy | shuffled video | brief * |" in text


def test_a_card_is_written_beside_the_weights(folder):
    path = write_card(folder, folder.parent / "card.md", TOY)
    assert path == folder / "README.md" and path.read_text() == render_card(folder, folder.parent / "card.md", TOY)


@pytest.mark.parametrize(("source", "said"), [("strike:seed=5", True), ("folder:clips", False), (None, False)])
def test_what_is_true_of_strike_world_alone_is_not_said_of_other_data(folder, source, said):
    (folder / "config.json").write_text(json.dumps({} if source is None else {"source": source}))
    (folder.parent / "card.md").write_text("# Toy\n\nIt knows `{strike[source]}` alone.\n\nThe end.")
    text = render_card(folder, folder.parent / "card.md")
    assert text == ("# Toy\n\nIt knows `strike:seed=5` alone.\n\nThe end.\n" if said else "# Toy\n\nThe end.\n")


@pytest.mark.parametrize("name", ["egosonics", "action2sound", "vaura"])
def test_cards_of_systems_trained_on_files_claim_nothing_of_strike_world(name, tmp_path):
    from v2a_nb.hub import SHIPPED

    config = json.loads((SHIPPED / name / "config.json").read_text()) | {"source": "folder:clips"}
    (tmp_path / "config.json").write_text(
        json.dumps({k: v for k, v in config.items() if k not in ("parts", "history")})
    )
    text = render_card(tmp_path, PACKAGE / "systems" / name / "card.md")
    for words in ("Strike World", "strike:", "wood", "others than"):
        assert words not in text
        assert words in (SHIPPED / name / "README.md").read_text() or words in ("Strike World", "others than")


def test_weights_that_were_not_scored_have_a_card_that_says_so(folder):
    text = write_card(folder, folder.parent / "card.md").read_text()
    assert text == (
        "# Toy\n\n1.2 M and 0.01 M parameters, 2,400 steps, 7 recordings.\n\n"
        "## Scores\n\nNot scored yet: run `v2a-nb score`.\n"
    )


def test_what_was_not_measured_is_left_out_with_its_heading(folder):
    some = replace(TOY, tables=TOY.tables[:1])
    text = write_card(folder, folder.parent / "card.md", some).read_text()
    assert "silent at 0.641" in text and "trained anew" not in text and "### Real" not in text
    assert text.count("| metric | Toy | shuffled video |") == 2 and "Not scored" not in text
    assert text.endswith("### Last\n\nWords.\n")


@pytest.mark.parametrize(
    "field",
    ["config[history]", "config[budget][none]", "cells[scores][fad]", "cells[scores][near_miss_silent][nobody]",
     "about[scores][none]", "about[real][clips]", "tables[real other]", "parameters[none]"],
)  # fmt: skip
def test_a_paragraph_that_cannot_be_filled_in_is_left_out(folder, field):
    (folder.parent / "card.md").write_text(
        f"# Toy\n\n{{config[steps]}}\n\nHere: {{{field}}}.\n\n## More\n\n{{{field}}}\n"
    )
    assert render_card(folder, folder.parent / "card.md", TOY) == "# Toy\n\n2400\n"


@pytest.mark.parametrize("template", ["{tables.at.all}", "{config[steps]:q}", "{"])
def test_a_template_that_is_no_format_is_refused(folder, template):
    (folder.parent / "card.md").write_text(template)
    with pytest.raises(V2AError, match=r"card\.md cannot be rendered"):
        render_card(folder, folder.parent / "card.md", TOY)


def test_a_document_keeps_its_prose_and_renews_its_numbers(folder):
    TOY.write(folder)
    fields = {"toy": Fields(folder), "summary": "| a |\n| - |"}
    text = (
        "Silent at <!-- {toy.cells[scores][near_miss_silent]} -->0.5<!-- / --> of them.\n\n"
        "<!-- {toy.tables[retrained]} -->old\n<!-- / -->\n\n<!-- {summary} --><!-- / -->\n<!-- a comment -->\n"
    )
    made = render_document(text, fields)
    assert "Silent at <!-- {toy.cells[scores][near_miss_silent]} -->0.641<!-- / --> of them.\n" in made
    assert "<!-- {summary} -->\n\n| a |\n| - |\n\n<!-- / -->\n<!-- a comment -->\n" in made
    assert "old" not in made and "| `near_miss_silent` | 0.500 |" in made
    assert render_document(made, fields) == made


def test_a_mark_that_names_nothing_is_refused(folder):
    with pytest.raises(V2AError, match=r"the document: \{other.tables\[a\]\} names nothing"):
        render_document("<!-- {other.tables[a]} --><!-- / -->", {"toy": Fields(folder)})
