"""The study runner: which cells a grid names, what each trains, and that what was done is not done again.

Studies train, so they run with the other trainings of `make golden`.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from action2sound_parts import SMALL_AUTOENCODER
from vta_parts import SMALL

from v2a_nb.audio.stft_image import STFT_IMAGES
from v2a_nb.cli import main
from v2a_nb.errors import UsageError, V2AError
from v2a_nb.models.autoencoder import ImageAutoencoder
from v2a_nb.models.video_encoders.registry import small
from v2a_nb.models.vocoder import GriffinLimVocoder
from v2a_nb.scores import study as runner
from v2a_nb.scores.study import AUGMENTATION, AUXILIARY, METRICS, TABLES, Cell, cells_of, study
from v2a_nb.systems.vta_ldm import train as recipe
from v2a_nb.systems.vta_ldm.model import PRESETS
from v2a_nb.systems.vta_ldm.train import ABLATIONS, VtaLdmTrainConfig
from v2a_nb.training.results import Results


def test_a_grid_is_the_product_of_its_axes_and_the_rows_of_the_tables():
    names = [cell.name for cell in cells_of(["encoder=strike,cavp", "augmentation=none,concat"])]
    assert names == ["strike_vision_none", "strike_vision_concat", "cavp_vision_none", "cavp_vision_concat"]
    whole = cells_of([*TABLES])
    assert len(whole) == 1 + 2 + 6 + 4 and whole[0] == Cell("strike", "vision", "none")
    assert cells_of(["table3", "auxiliary=text+vision"]) == cells_of(["table3"])  # the same in another order


def test_every_cell_is_a_configuration_and_the_papers_are_ablations_of_the_recipe():
    def of(cell):
        model = replace(PRESETS["tiny"], **cell.model)
        return model, replace(VtaLdmTrainConfig(), **cell.training)

    rows = {"text": "text_only", "vision": "vision_only", "vision+pe": "vision_pe", "vision+text+pe": "vision_text_pe",
            "vision+flow": "vision_flow", "vision+motion": "vision_motion", "vision+text": "whole"}  # fmt: skip
    for auxiliary, ablation in rows.items():
        model, _ = of(Cell("strike", auxiliary, "none"))
        other = replace(PRESETS["tiny"], **ABLATIONS[ablation])
        assert replace(model, row_values=0) == replace(other, row_values=0) and (model.time_bias or not model.vision)
    for augmentation, ablation in (("filtered",) * 2, ("concat",) * 2, ("pretrain-audio", "pretrain_audio")):
        assert of(Cell("strike_wide", "vision", augmentation))[1] == replace(VtaLdmTrainConfig(), **ABLATIONS[ablation])
    both = of(Cell("cavp", "vision", "concat+filtered"))[1]
    assert (both.encoder, both.joined, both.aligned) == ("cavp", 0.5, 0.5)
    assert {*AUXILIARY} == {"text", "vision", "pe", "flow", "motion"} and len(AUGMENTATION) == 5


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        (["table9"], "'table9' is neither"), (["encoder="], "neither"), (["speed=1"], "neither"),
        (["auxiliary=sound"], "'sound' is not known"), (["augmentation=more"], "'more' is not known"),
        (["auxiliary=flow+motion"], "give one of them"),
    ],
)  # fmt: skip
def test_what_is_no_grid_is_refused_in_one_line(tmp_path, capsys, grid, words):
    with pytest.raises(UsageError, match=words):
        cells_of(grid)
    assert main(["study", *grid, "--out", str(tmp_path / "s")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1 and not (tmp_path / "s").exists()


def test_encoders_in_folders_of_one_name_are_not_taken_for_each_other(tmp_path):
    with pytest.raises(UsageError, match="two cells would be called vision_vision_none"):
        study(["encoder=runs/a/vision,runs/b/vision"], tmp_path / "s")
    assert not (tmp_path / "s").exists()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study of small models: a function that runs it, its folder, and the cells that were trained in turn."""
    quick, trained = {"iterations": 2, "method": "pinv"}, []
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("study")
    for name, encoder in (("eyes", small("strike")), ("vivit", small("vivit"))):
        encoder.save_pretrained(root / name)
    ImageAutoencoder(SMALL_AUTOENCODER).save_pretrained(root / "autoencoder")
    base = {**runner.BASE, "encoder": str(root / "eyes")}
    run_recipe = runner.run_recipe

    def run(*grid, steps=4, **changes):
        how = {"steps": steps, "clips": 6, "metrics": ["fad", "onset_f1_50ms", "near_miss_silent"], **changes}
        return study(
            grid, root / "s", sizes=replace(SMALL, video_dim=384), say=[].append, batch_size=4, vocoder="griffin-lim",
            autoencoder=str(root / "autoencoder"), **how,
        )  # fmt: skip

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STFT_IMAGES, "action2sound", replace(STFT_IMAGES["action2sound"], **quick))
        patch.setattr(recipe, "load_vocoder", lambda name: GriffinLimVocoder(**quick))
        patch.setattr(recipe, "SAMPLED", 2)
        patch.setattr(runner, "BASE", base)
        patch.setattr(runner, "run_recipe", lambda r, out, **how: trained.append(out.name) or run_recipe(r, out, **how))
        yield run, root, trained


@pytest.mark.golden
def test_a_study_trains_scores_and_writes_the_tables_and_a_row_can_be_added(made):
    run, root, trained = made
    first = run("auxiliary=vision,vision+text")
    assert trained == ["eyes_vision_none", "eyes_vision+text_none"]
    table = first["table3"]
    assert table.subjects == ["Vision-only", "Vision + text"] and "table2" not in first and "joined" not in first
    row = table.row("onset_f1_50ms", "Vision-only")
    assert row.low <= row.value <= row.high and table.row("fad").extractor
    text = (root / "s" / "tables.md").read_text()
    assert "Auxiliary embeddings (table 3)" in text and "| Vision + text" in text and "6 clips of Strike World" in text
    assert Results.read(root / "s")["table3"] == table
    features = {path.name for path in (root / "s" / "features").iterdir()}

    vivit = str(root / "vivit")
    more = run(f"encoder={vivit}", "augmentation=none,concat")
    assert trained[2:] == ["vivit_vision_none", "vivit_vision_concat"]  # and nothing again
    assert more["table2"].subjects == [str(root / "eyes"), vivit] and more["table3"].rows == table.rows
    assert more["grid"].subjects[0] == "eyes_vision_none" and len(more["grid"].subjects) == 4
    assert {"eyes_vision_none", "vivit_vision_concat"} <= set(more["joined"].subjects)
    assert features < {path.name for path in (root / "s" / "features").iterdir()}


@pytest.mark.golden
def test_what_was_interrupted_goes_on_and_another_study_is_refused(made):
    run, root, trained = made
    cell = root / "s" / "cells" / "eyes_vision_none"
    scores, weights = (cell / "scores.json").read_bytes(), (cell / "weights" / "model.safetensors").read_bytes()
    for path in (cell / "weights").glob("*.*"):
        path.unlink()
    (cell / "scores.json").unlink()
    before = len(trained)
    run("auxiliary=vision")
    assert trained[before:] == ["eyes_vision_none"]
    assert (cell / "weights" / "model.safetensors").read_bytes() == weights
    assert (cell / "scores.json").read_bytes() == scores
    with pytest.raises(V2AError, match="another"):
        run("auxiliary=vision", clips=5)
    with pytest.raises(UsageError, match="at least 2"):
        run("auxiliary=vision", clips=1)
    with pytest.raises(UsageError, match="no setting"):
        run("auxiliary=vision", speed=1)


@pytest.mark.golden
def test_texts_are_given_to_those_that_read_them_and_to_no_others(made, monkeypatch, tmp_path):
    _, root, _ = made
    given, evaluate = [], runner.evaluate
    monkeypatch.setattr(runner, "evaluate", lambda *a, **k: given.append(k.get("prompt")) or evaluate(*a, **k))
    for name in ("eyes_vision_none", "eyes_vision+text_none"):
        runner._score(root / "s" / "cells" / name / "weights", tmp_path / f"{name}.json", 2, ["onset_f1_50ms"])
    assert given[0] is None and len(given[1]) == 2 and all(isinstance(text, str) for text in given[1])
    assert json.loads((tmp_path / "eyes_vision_none.json").read_text())["cell"]["auxiliary"] == "vision"
    assert set(METRICS) >= {"fad", "is", "fd", "kl", "cavp", "av_align"}
