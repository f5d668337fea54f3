"""Results in and out: what is kept, what is refused, and how tables are printed."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from v2a_nb.errors import V2AError
from v2a_nb.training.results import FILE, REAL, RUN, Results, Row, Table, digest_of, markdown, number, package_version

SCORES = Table(
    "scores",
    "v2a-nb score toy",
    (
        Row("onset_f1_50ms", "Toy", 0.89361, 0.8449, 0.924, 300, "mel-rise"),
        Row("vaas_acc", "Toy", 98.25, 97.0, 99.5, 200),
        Row("onset_f1_50ms", "true", 0.996, 0.99, 1.0, 300, "mel-rise"),
        Row("steps", "Toy", 600),
    ),
    "commit 1234567",
    controls=("true",),
    about={"clips": 200},
)
TOY = Results("toy", "0123456789ab", (SCORES,))


def test_what_is_written_is_read(tmp_path):
    assert Results.read(TOY.write(tmp_path).parent) == TOY
    text = (tmp_path / FILE).read_text()
    lines = [line for line in text.splitlines() if '"subject"' in line]
    assert len(lines) == 4 and json.loads(lines[3].strip()) == {"metric": "steps", "subject": "Toy", "value": 600}
    assert list(tmp_path.iterdir()) == [tmp_path / FILE]


def test_numbers_are_kept_to_six_digits(tmp_path):
    rows = (Row("fad", "Toy", 1 / 3, 1e-7 / 3, 2.0),)
    Results("toy", "", (Table("a", "c", rows),)).write(tmp_path)
    row = Results.read(tmp_path)["a"].row("fad")
    assert row.value == 0.333333 and row.low == 3.33333e-08


@pytest.mark.parametrize(
    "rows",
    [
        (),
        (Row("a", "Toy", math.inf),),
        (Row("a", "Toy", math.nan),),
        (Row("a", "Toy", True),),
        (Row("a", "Toy", 1.0, 2.0, 1.0),),
        (Row("a", "Toy", 1.0, 0.5),),
        (Row("a", "Toy", 1.0), Row("a", "Toy", 2.0)),
    ],
)
def test_nonsense_is_neither_written_nor_read(tmp_path, rows):
    with pytest.raises(V2AError, match="make no sense"):
        Results("toy", "", (Table("a", "c", rows),)).write(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config["tables"].append(config["tables"][0]),
        lambda config: config["tables"][0].update(source="memory"),
        lambda config: config["tables"][0].update(controls=["nobody"]),
        lambda config: config["tables"][0]["rows"][0].update(value="0.9"),
        lambda config: config["tables"][0]["rows"][0].pop("subject"),
        lambda config: config.pop("tables"),
    ],
)
def test_a_damaged_file_gets_one_line(tmp_path, change):
    TOY.write(tmp_path)
    config = json.loads((tmp_path / FILE).read_text())
    change(config)
    (tmp_path / FILE).write_text(json.dumps(config))
    with pytest.raises(V2AError, match=r"damaged.*score again") as error:
        Results.read(tmp_path)
    assert "\n" not in str(error.value)


def test_weights_without_results_are_named(tmp_path):
    with pytest.raises(V2AError, match="not scored yet"):
        Results.read(tmp_path)


def test_nan_is_nothing():
    row = Row.of("Toy", {"name": "near_miss_silent", "value": math.nan, "low": math.nan, "high": math.nan, "n": 0})
    assert (row.value, row.low, row.n, row.text_with_interval) == (None, None, 0, "–")


def test_new_tables_replace_what_the_plain_command_measures_and_nothing_else():
    run = replace(SCORES, name="retrained", source=RUN)
    real = replace(SCORES, name="real", source=REAL)
    other = replace(SCORES, name="ablations")
    before = replace(TOY, tables=(SCORES, other, run, real))
    after = before.updated([replace(SCORES, version="commit 7654321"), replace(run, version="new")])
    assert [(t.name, t.version) for t in after.tables] == [
        ("scores", "commit 7654321"), ("retrained", "new"), ("real", "commit 1234567"),
    ]  # fmt: skip


def test_tables_are_asked_by_name_metric_and_subject():
    assert TOY["scores"].row("onset_f1_50ms").value == 0.89361
    assert TOY["scores"].row("onset_f1_50ms", "true").value == 0.996
    assert "scores" in TOY and "ablations" not in TOY
    with pytest.raises(KeyError, match="no vaas_acc of true"):
        TOY["scores"].row("vaas_acc", "true")
    with pytest.raises(KeyError, match="there is scores"):
        TOY["ablations"]


def test_metrics_down():
    assert markdown(SCORES).splitlines() == [
        "| metric | Toy | true |",
        "| --- | ---: | ---: |",
        "| `onset_f1_50ms` (mel-rise) | 0.894 [0.845, 0.924] | 0.996 |",
        "| `vaas_acc` | 98.2 [97.0, 99.5] |  |",
        "| `steps` | 600 |  |",
    ]


def test_subjects_down_and_an_asterisk_for_what_was_trained_anew():
    first = Table("ablations", "c", (Row("f", "whole", 0.5, 0.4, 0.6), Row("g", "whole", 1.0)), down="subject")
    second = Table("retrained", "c", (Row("f", "brief", 0.25),), down="subject", source=RUN)
    assert markdown(first, second).splitlines() == [
        "|  | `f` | `g` |",
        "| --- | ---: | ---: |",
        "| whole | 0.500 [0.400, 0.600] | 1.000 |",
        "| brief * | 0.250 |  |",
    ]


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("onset_offset_signed_ms", -0.0001, "0.00"), ("onset_offset_signed_ms", -1.489, "-1.49"),
        ("peak_memory_mb", 569.7, "570"), ("median_rank", 8.0, "8"), ("level_at_-40_dbfs", -41.77, "-41.8"),
        ("fad", 0.3509, "0.351"), ("fad", None, "–"),
    ],
)  # fmt: skip
def test_digits_hang_on_the_metric(metric, value, text):
    assert number(metric, value) == text


def test_other_weights_have_another_digest(tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "model.safetensors").write_bytes(b"a")
    one = digest_of(tmp_path)
    (tmp_path / "README.md").write_text("a card")
    assert digest_of(tmp_path) == one and len(one) == 12
    (tmp_path / "hit_windows").mkdir()
    (tmp_path / "hit_windows" / "model.safetensors").write_bytes(b"what follows from the weights")
    assert digest_of(tmp_path) == one
    (tmp_path / "part" / "model.safetensors").write_bytes(b"b")
    assert digest_of(tmp_path) != one


def test_the_version_names_a_commit_or_a_release():
    assert package_version().split()[0] in ("commit", "v2a-nb")
