"""Where weights come from: shipped, a folder, the Hub; safetensors only; one clear error for everything else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from v2a_nb import hub
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import PUBLISHED, as_shipped, find_weights, load_weights, save_weights, shipped


@pytest.fixture
def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))


@pytest.fixture
def no_hub(monkeypatch):
    """Any call of the Hub fails the test: what is found locally must never ask."""
    import huggingface_hub

    def refuse(*args, **kwargs):
        pytest.fail("the Hub was asked")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)


def test_shipped_by_name(no_hub):
    assert "codec" in shipped()
    for name in shipped():
        folder = find_weights(name)
        assert (folder / "config.json").exists() and list(folder.glob("*.safetensors"))


def test_round_trip_through_a_folder(tmp_path, model, no_hub):
    folder = save_weights(tmp_path / "w", model.state_dict(), {"kind": "toy", "steps": 3})
    assert find_weights(str(folder)) == folder
    assert json.loads((folder / "config.json").read_text()) == {"kind": "toy", "steps": 3}
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]  # no .part is left
    torch.manual_seed(1)
    other = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    load_weights(other, folder)
    for key, value in as_shipped(model).state_dict().items():  # fp16 on disk, fp32 in memory
        assert other.state_dict()[key].dtype == value.dtype
        assert torch.equal(other.state_dict()[key], value)


@pytest.mark.skipif(os.name == "nt", reason="modes of files are those of POSIX")
def test_everybody_may_read_saved_weights(tmp_path, model):
    folder = save_weights(tmp_path, model.state_dict(), {})
    assert (folder / "model.safetensors").stat().st_mode & 0o444 == 0o444


def test_a_pickle_is_refused(tmp_path, no_hub):
    (tmp_path / "config.json").write_text("{}")
    torch.save({"a": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="pickled weights are not read"):
        find_weights(str(tmp_path))


def test_folders_and_files_that_hold_no_weights(tmp_path, no_hub):
    with pytest.raises(WeightsError, match=r"config\.json"):
        find_weights(str(tmp_path))
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"x")
    with pytest.raises(WeightsError, match="is a file; give the folder"):
        find_weights(str(file))
    with pytest.raises(WeightsError, match=r"no weights 'nothing': shipped are .*codec"):
        find_weights("nothing")
    with pytest.raises(WeightsError):
        find_weights(str(tmp_path / "none"))


def test_hub_gets_safetensors_only(tmp_path, model, monkeypatch):
    import huggingface_hub

    asked = {}

    def download(name, revision=None, allow_patterns=None):
        asked.update(name=name, revision=revision, patterns=allow_patterns)
        return str(tmp_path)

    save_weights(tmp_path, model.state_dict(), {})
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert find_weights("someone/model", revision="abc") == tmp_path
    assert asked["name"] == "someone/model" and asked["revision"] == "abc"
    assert all(p.endswith((".safetensors", ".json", ".md")) for p in asked["patterns"])
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"someone/model on the Hub has no \.safetensors"):
        find_weights("someone/model")


def test_offline_is_one_line(monkeypatch):
    import huggingface_hub

    def download(*args, **kwargs):
        raise ConnectionError("no route\nand many more lines")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(WeightsError, match="no route; check the name and the connection") as caught:
        find_weights("someone/model")
    assert "\n" not in str(caught.value)


def test_damaged_and_foreign_weights(tmp_path, model):
    folder = save_weights(tmp_path, model.state_dict(), {})
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(WeightsError, match="cannot be read"):
        load_weights(model, folder)
    path.write_bytes(whole)
    with pytest.raises(WeightsError, match="does not fit Linear"):
        load_weights(torch.nn.Linear(5, 2), folder)
    larger = torch.nn.Sequential(*model, torch.nn.Linear(4, 1))
    with pytest.raises(WeightsError, match="2 are missing"):
        load_weights(larger, folder)
    load_weights(larger, folder, optional=("2.weight", "2.bias"))


def test_published_are_complete():
    for published in PUBLISHED.values():
        assert published.id.count("/") == 1 and published.revision and published.licence
        assert published.megabytes > 0 and published.what


def test_a_broken_installation_says_so(tmp_path, monkeypatch):
    (tmp_path / "codec").mkdir()
    (tmp_path / "codec" / "config.json").write_text("{}")
    monkeypatch.setattr(hub, "SHIPPED", tmp_path)
    with pytest.raises(WeightsError, match=r"shipped folder .* has no \.safetensors"):
        find_weights("codec")
    monkeypatch.setattr(hub, "SHIPPED", Path(tmp_path / "gone"))
    assert shipped() == []


def test_systems_by_name():
    from v2a_nb.systems.registry import load

    with pytest.raises(UsageError, match="there is vaura"):
        load("varua")
    with pytest.raises(UsageError, match="cannot be used here"):
        load("vaura", device="banana")
    with pytest.raises(UsageError, match="meta"):
        load("vaura", device="meta")
    with pytest.raises(WeightsError, match="empty name"):
        load("vaura", "")
