"""``v2a-nb score``: what it writes and what it leaves alone, and that everything shipped is rendered from it."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from paths import PACKAGE, ROOT

from v2a_nb.cli import main
from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError
from v2a_nb.hub import SHIPPED, shipped
from v2a_nb.scores import ablations, registry, systems
from v2a_nb.scores.base import Job
from v2a_nb.scores.registry import NAMES, SCORES, rendered, score
from v2a_nb.systems.registry import SYSTEMS
from v2a_nb.training.cards import SCORES as HEADING
from v2a_nb.training.results import FILE, REAL, RUN, SHIPPED_WEIGHTS, Results, Row, digest_of

torch.set_num_threads(1)
SCORED = [name for name in NAMES if name in shipped()]

# --- what is shipped ---------------------------------------------------------------------------------------


def test_all_shipped_weights_have_a_template():
    assert set(shipped()) <= set(SCORES) <= {*shipped(), *SYSTEMS}  # a system's may come later
    for scored in SCORES.values():
        assert (PACKAGE / scored.template).is_file()


@pytest.mark.parametrize("name", SCORED)
def test_the_committed_weights_are_those_that_were_scored(name):
    results = Results.read(SHIPPED / name)
    assert results.name == name and results.weights == digest_of(SHIPPED / name)
    for table in results.tables:
        assert table.version, f"{name}, {table.name}: who measured this?"
        if table.source == SHIPPED_WEIGHTS:
            assert table.command == f"v2a-nb score {name}"
            assert re.fullmatch(r"commit [0-9a-f]{7,}", table.version), f"{name}, {table.name}: {table.version}"


def test_cards_and_documents_say_what_the_results_say():
    """Byte for byte: after a change, ``v2a-nb score --render``."""
    for path, text in rendered().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.relative_to(ROOT)}: run v2a-nb score --render"


@pytest.mark.parametrize("name", shipped())
def test_nothing_is_missing_in_a_shipped_card(name):
    """A card leaves out what it cannot say; of shipped weights everything is known."""
    template = (PACKAGE / SCORES[name].template).read_text().strip().split("\n\n")
    template = [paragraph for paragraph in template if "config[ablation]" not in paragraph]
    card = (SHIPPED / name / "README.md").read_text().strip().split("\n\n")
    assert len(card) == len(template)
    assert "{" not in "".join(card) and (HEADING in card) == bool(SCORES[name].parts)


@pytest.mark.parametrize("name", SCORED)
def test_a_matching_within_a_wider_window_has_no_fewer_onsets(name):
    """A greatest matching cannot lose onsets when the window grows: numbers of two runs would show here."""
    for table in Results.read(SHIPPED / name).tables:
        for subject in table.subjects:
            values = [r.value for r in table.rows if r.subject == subject and re.fullmatch(r"onset_f1_\d+ms", r.metric)]
            assert values == sorted(values), f"{name}, {table.name}, {subject}: {values}"


@pytest.mark.parametrize("name", SCORED)
def test_distances_and_shares_are_possible(name):
    for table in Results.read(SHIPPED / name).tables:
        for row in table.rows:
            ends = [x for x in (row.value, row.low, row.high) if x is not None]
            if not ends:  # no onset was matched, so that none has an offset
                continue
            if row.metric in ("fad", "mel_distance", "stft_distance") or row.metric.endswith("_abs_ms"):
                assert min(ends) >= 0, f"{name}, {table.name}: {row}"
            share = row.metric.startswith(("onset_f1", "near_miss", "material_accuracy"))
            if share and not re.search("change|over_shifted", row.metric):  # but for differences
                assert min(ends) >= 0 and max(ends) <= 1, f"{name}, {table.name}: {row}"


def test_every_system_stands_beside_its_controls():
    for name, trip in (
        ("vaura", "codec round trip"),
        ("egosonics", "autoencoder round trip"),
        ("action2sound", "autoencoder and vocoder round trip"),
        ("vta_ldm", "autoencoder and vocoder round trip"),
    ):
        if name not in shipped():
            continue
        table = Results.read(SHIPPED / name)["scores"]
        assert set(table.controls) == {"ground truth", trip, "shuffled video", "retrieval"}
        assert {"vaas_acc", "fad", "cpu_s_per_s", "peak_memory_mb"} <= set(table.metrics)
        for control in table.controls:
            assert table.row("onset_f1_50ms", control).value is not None


def test_rows_that_were_trained_anew_have_an_asterisk():
    for name in ("egosonics", "action2sound"):
        table = Results.read(SHIPPED / name)["retrained"]
        assert table.source == RUN
        for place in (SHIPPED / name / "README.md", ROOT / "docs" / "results.md"):
            for subject in table.subjects:
                assert f"| {subject} * |" in place.read_text()


def test_results_and_templates_are_part_of_the_package():
    import tomllib

    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["v2a_nb"]
    files = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    assert {PACKAGE / scored.template for scored in SCORES.values()} <= files
    assert {SHIPPED / name / FILE for name in SCORED} <= files


# --- the command -------------------------------------------------------------------------------------------


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Weights named material, scored by a part that is quick, in a package of their own."""
    folder = tmp_path / "weights" / "material"
    shutil.copytree(SHIPPED / "material", folder)
    monkeypatch.setattr(registry, "SHIPPED", tmp_path / "weights")
    monkeypatch.setattr("v2a_nb.hub.SHIPPED", tmp_path / "weights")
    monkeypatch.setattr(registry, "SCORES", {"material": SCORES["material"]})
    monkeypatch.setattr(registry, "NAMES", ("material",))
    monkeypatch.setattr(registry, "PACKAGE", PACKAGE)
    monkeypatch.setattr(registry, "render", lambda: registry.write_card(folder, PACKAGE / SCORES["material"].template))
    (folder / FILE).unlink(missing_ok=True)
    return folder


def test_a_look_writes_nothing_beside_the_weights(toy, tmp_path, capsys):
    before = (toy / "README.md").read_text()
    assert main(["score", "material", "--clips", "2", "--json", str(tmp_path / "look.json")]) == 0
    assert "clean stems" in capsys.readouterr().out
    assert not (toy / FILE).exists() and (toy / "README.md").read_text() == before
    text = (tmp_path / "look.json").read_text()
    assert '"clips": 2' in text and '"weights": "a look at 2 clips"' in text


def test_a_score_writes_results_and_card_and_keeps_what_it_cannot_measure(toy, monkeypatch):
    monkeypatch.setattr("v2a_nb.metrics.material.train.hits_of", few_hits)
    first = score("material", say=lambda _: None)
    kept = replace(first.tables[0], name="real", source=REAL)
    replace(first, tables=(*first.tables, kept)).write(toy)
    again = score("material", say=lambda _: None)
    assert [table.name for table in again.tables] == ["hits", "real"]
    assert Results.read(toy).dumps() == again.dumps()
    assert "clean stems" in (toy / "README.md").read_text() and again.weights == digest_of(toy)


def few_hits(seed, clips, stem="action"):
    rng = np.random.default_rng(0)
    return rng.standard_normal((20, 160)).astype(np.float32), rng.integers(0, 5, 20)


def test_other_weights_get_their_own_results(toy, tmp_path, monkeypatch):
    monkeypatch.setattr("v2a_nb.metrics.material.train.hits_of", few_hits)
    shutil.copytree(toy, tmp_path / "mine")
    assert main(["score", "material", "--weights", str(tmp_path / "mine")]) == 0
    assert "clean stems" in (tmp_path / "mine" / "README.md").read_text()
    assert Results.read(tmp_path / "mine").weights == digest_of(tmp_path / "mine") and not (toy / FILE).exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["piano"], "nothing is known of how to score 'piano'"),
        (["egosonics_base"], "nothing is known of how to score 'egosonics_base'"),
        (["material", "--clips", "1"], "at least 2 clips"),
        ([], "nothing is known of how to score None"),
        (["real"], "real needs a folder"),
        (["material", "folder"], "real needs a folder"),
        (["real", "nowhere"], "nowhere has no onsets.tsv"),
        (["real", ".", "--clips", "3"], "real takes neither"),
        (["material", "--keep"], "--keep"),
        (["vaura", "--part", "retrained"], "name it with --run"),
    ],
)
def test_wrong_usage_gets_one_line(words, reason, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["score", *words]) == 2
    error = capsys.readouterr().err.strip()
    assert reason in error and "\n" not in error


def test_weights_that_are_not_there(capsys, tmp_path):
    assert main(["score", "material", "--weights", str(tmp_path / "none")]) == 1
    assert "no weights" in capsys.readouterr().err


# --- systems and ablations ---------------------------------------------------------------------------------


class Oracle:
    """Returns the true sound of each clip."""

    round_trip_of = "codec"

    def __init__(self, clips):
        self.card = {"steps": 7, "clips": 12}
        self.sounds = {clip.id: clip.stems["mix"] for clip in clips}
        self.asked = []

    class config:
        guidance = 3.0

    def generate(self, clip, seed, **options):
        self.asked.append(options)
        return self.sounds[clip.name]

    def round_trip(self, sound):
        return Sound(0.5 * sound.samples, sound.sample_rate)


@pytest.fixture
def oracle(monkeypatch):
    made = Oracle(systems.TESTS["action2sound"].clips(8))
    monkeypatch.setattr(systems, "load", lambda *_: made)
    monkeypatch.setattr(ablations, "load", lambda *_: made)
    monkeypatch.setattr(systems, "cost_of", lambda *_: {"cpu_s_per_s": 0.5, "peak_memory_mb": 100.0})
    return made


def test_a_system_is_scored_beside_its_controls(oracle):
    (table,) = systems.scores(Job("action2sound", "action2sound", clips=8, say=lambda _: None))
    assert table.subjects == ["Action2Sound `tiny`", "ground truth", "codec round trip", "shuffled video", "retrieval"]
    assert table.row("onset_f1_50ms").value == table.row("onset_f1_50ms", "ground truth").value > 0.9
    assert table.row("fad").value == pytest.approx(0, abs=1e-3) and table.row("fad").extractor.startswith(
        "strike-audio@"
    )
    assert table.row("cpu_s_per_s").value == 0.5 and table.about["clips"] == 8
    assert table.row("onset_f1_50ms", "shuffled video").value < 0.5


def test_ablations_of_a_run_are_rows_with_its_steps(oracle, tmp_path, monkeypatch):
    variants = (
        ablations.Variant("left out", options={"a": 1}),
        ablations.Variant("trained", "one", condition=ablations.neighbours),
        ablations.Variant("not in this run", "two"),
    )
    monkeypatch.setitem(ablations.VARIANTS, "action2sound", variants)
    (tmp_path / "ablations" / "one" / "weights").mkdir(parents=True)
    job = Job("action2sound", "action2sound", clips=8, run=tmp_path, say=lambda _: None)
    [shipped_rows], [trained] = ablations.ablations(job), ablations.retrained(job)
    assert (shipped_rows.name, trained.name, trained.source) == ("ablations", "retrained", RUN)
    assert trained.subjects == ["trained"] and trained.row("steps") == Row("steps", "trained", 7)
    assert trained.row("clips") == Row("clips", "trained", 12) and "clips" not in shipped_rows.metrics
    assert shipped_rows.metrics == ["steps", *ablations.SHOWN["action2sound"]]
    assert oracle.asked[0] == {"guidance": 3.0, "a": 1}
    assert set(oracle.asked[-1]) == {"guidance", "ambient"} and trained.command.endswith(f"--run {tmp_path}")


def test_a_run_without_ablations_is_refused(oracle, tmp_path, monkeypatch):
    monkeypatch.setitem(ablations.VARIANTS, "action2sound", (ablations.Variant("trained", "one"),))
    with pytest.raises(UsageError, match="holds no ablations"):
        ablations.retrained(Job("action2sound", "action2sound", clips=8, run=tmp_path, say=lambda _: None))
    assert ablations.retrained(Job("action2sound", "action2sound", clips=8, say=lambda _: None)) == []


def test_samples_of_a_clip_are_averaged(monkeypatch):
    """Half of the samples are silent: the mean is between, and an interval still counts recordings."""
    clips = systems.TESTS["vaura"].clips(6)
    made = Oracle(clips)
    true = made.generate

    def generate(clip, seed, **options):
        sound = true(clip, seed, **options)
        return sound if seed < len(clips) else Sound(np.zeros_like(sound.samples), sound.sample_rate)

    made.generate = generate
    monkeypatch.setattr(ablations, "load", lambda *_: made)
    monkeypatch.setattr(systems, "load", lambda *_: made)
    monkeypatch.setitem(ablations.VARIANTS, "vaura", (ablations.Variant("one"),))
    tables = [
        ablations.ablations(Job("vaura", "vaura", clips=6, samples=n, say=lambda _: None))[0] for n in (1, 2)
    ]  # fmt: skip
    assert tables[1].about["samples"] == 2 and "samples" not in tables[0].about
    once, twice = (table.row("material_accuracy") for table in tables)
    assert twice.n == 2 * once.n
    f1 = [table.row("onset_f1_50ms").value for table in tables]
    assert f1[0] > 0.9 and f1[1] == pytest.approx(2 / 3, abs=0.08)  # precision 1, recall a half
    assert ablations.ablations(Job("vaura", "vaura", clips=2, say=lambda _: None))[0].about["samples"] == 10


def test_one_part_is_measured_and_the_others_stay(toy, monkeypatch):
    monkeypatch.setattr("v2a_nb.metrics.material.train.hits_of", few_hits)
    first = score("material", say=lambda _: None)
    other = replace(first.tables[0], name="other")
    replace(first, tables=(*first.tables, other)).write(toy)
    again = score("material", part="material", say=lambda _: None)
    assert {table.name for table in again.tables} == {"hits", "other"}
    with pytest.raises(UsageError, match="no part 'ablations' to score; there is material"):
        score("material", part="ablations", say=lambda _: None)
    replace(first, weights="others").write(toy)
    with pytest.raises(UsageError, match="score all, without --part"):
        score("material", part="material", say=lambda _: None)


def test_vauras_ablations_are_those_that_its_recipe_trains():
    from v2a_nb.systems.vaura.train import ABLATIONS

    assert {variant.trained for variant in ablations.VARIANTS["vaura"]} == {"", *ABLATIONS}
