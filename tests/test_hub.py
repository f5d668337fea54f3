"""Where weights come from: shipped, a folder, the Hub; safetensors only; one clear error for everything else."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from v2a_nb import hub
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import (
    PUBLISHED,
    Pretrained,
    as_shipped,
    config_from_json,
    config_to_json,
    find_weights,
    later,
    load_one_of,
    load_weights,
    parts_of,
    read_config,
    save_weights,
    shipped,
    tag_of,
)


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
    with pytest.raises(WeightsError, match=r"no weights 'nothing': known are .*codec"):
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


# --- whose weights a name means -------------------------------------------------------------------------


def test_a_shipped_name_never_hides_a_folder_of_the_user(tmp_path, model, no_hub, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_weights("vaura") == hub.SHIPPED / "vaura"
    (tmp_path / "vaura").mkdir()
    assert find_weights("vaura") == hub.SHIPPED / "vaura"  # a folder of other things
    for name in ("./vaura", Path("vaura"), tmp_path / "vaura"):
        with pytest.raises(WeightsError, match=r"no config\.json"):
            find_weights(name)
    mine = save_weights(tmp_path / "vaura", model.state_dict(), {"kind": "mine"})
    for name in ("vaura", "./vaura", Path("vaura"), mine):
        assert read_config(find_weights(name)) == {"kind": "mine"}
    with pytest.raises(WeightsError, match="no weights"):
        find_weights("./codec")
    with pytest.raises(WeightsError, match="no weights"):
        find_weights(Path("codec"))


def test_what_is_shipped_is_loaded_where_no_weights_are_named(tmp_path, model, monkeypatch):
    from v2a_nb.models.tiny_codec import TinyCodec

    monkeypatch.chdir(tmp_path)
    save_weights(tmp_path / "codec", model.state_dict(), {"kind": "mine"})
    assert TinyCodec.from_pretrained().card["preset"] == "tiny"
    with pytest.raises(WeightsError, match="holds 'mine' weights, not a tiny codec"):
        TinyCodec.from_pretrained("codec")


def test_parts_lie_below_or_elsewhere(tmp_path, monkeypatch):
    here = tmp_path / "w"
    for folder in ("w/vision", "eyes", "codec"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert parts_of(here, {}, ["vision", "codec"]) == {"vision": here / "vision"}
    saved = {"parts": {"codec": "someone/dac", "vision": "../eyes", "extra": "vision"}}
    assert parts_of(here, saved, ["vision", "codec"]) == {
        "vision": here / "../eyes", "codec": "someone/dac", "extra": here / "vision",
    }  # fmt: skip
    # what a file says is not taken from where the user happens to stand
    assert parts_of(here, {"parts": {"codec": "codec"}}) == {"codec": hub.SHIPPED / "codec"}


# --- what inherits saving and loading ------------------------------------------------------------------


@dataclass(frozen=True)
class InnerConfig:
    disk_names: ClassVar[dict[str, str]] = {"bias": "caution"}

    bias: float = 0.0
    sizes: tuple[tuple[int, ...], ...] = ((1, 2),)


@dataclass(frozen=True)
class OtherConfig:
    height: int = 1


@dataclass(frozen=True)
class ToyConfig:
    width: int = 3
    inner: OtherConfig | InnerConfig = field(default_factory=InnerConfig)
    added: str = later("no")


class Inner(torch.nn.Linear):
    disk_names: ClassVar[dict[str, str]] = {"bias": "shift"}


class Toy(Pretrained, torch.nn.Module):
    kind, title, config_class = "toy", "a toy", ToyConfig
    part_names, optional_parts = ("wheel",), ("horn",)
    disk_names: ClassVar[dict[str, str]] = {"inner": "core"}

    def __init__(self, config=None, wheel=None, horn=None):
        super().__init__()
        self.config = config or ToyConfig()
        self.inner, self.free = torch.nn.Sequential(Inner(2, self.config.width)), torch.nn.Linear(1, 1)
        self.wheels = (wheel, horn)

    def _stored(self, name):
        return not name.startswith("free.")

    def _parts(self):
        return dict(zip(("wheel", "horn"), self.wheels, strict=True))

    @classmethod
    def _load_parts(cls, where):
        return {name: Wheel.from_pretrained(place) for name, place in where.items()}


class Wheel(Pretrained, torch.nn.Linear):
    kind, title, config_class = "wheel", "a wheel", OtherConfig

    def __init__(self, config=None):
        super().__init__(1, 1)
        self.config = config or OtherConfig()


def test_saved_and_loaded_with_other_names_on_disk(tmp_path):
    from safetensors.torch import load_file

    config = ToyConfig(4, InnerConfig(0.5, ((1,), (2, 3))))
    toy = as_shipped(Toy(config, as_shipped(Wheel())))
    folder = toy.save_pretrained(tmp_path / "toy", steps=7)
    saved = read_config(folder)
    assert saved["inner"] == {"caution": 0.5, "sizes": [[1], [2, 3]]} and saved["parts"] == {"wheel": "wheel"}
    state = load_file(folder / "model.safetensors")
    assert set(state) == {"core.0.weight", "core.0.shift"} and state["core.0.shift"].dtype == torch.float16
    again = Toy.from_pretrained(folder)
    assert again.config == config and again.card == {"steps": 7} and not again.training
    assert torch.equal(again.inner[0].bias, toy.inner[0].bias) and again.wheels[1] is None
    assert torch.equal(again.wheels[0].weight, toy.wheels[0].weight)
    assert read_config(again.save_pretrained(tmp_path / "copy"))["steps"] == 7  # the card goes along


def test_settings_of_a_kind_are_read_whatever_else_is_there():
    assert config_from_json(ToyConfig, {"width": 5, "steps": 7}) == ToyConfig(5)
    assert config_from_json(ToyConfig, {"inner": {"height": 2, "colour": "red"}}).inner == OtherConfig(2)
    assert config_to_json(ToyConfig()) == {"width": 3, "inner": {"caution": 0.0, "sizes": ((1, 2),)}, "added": "no"}


def test_a_tag_is_of_values_and_not_of_names():
    torch.manual_seed(0)
    toy = Toy()
    tag = tag_of(toy, "toy")
    assert tag_of(toy, "game").split("@") == ["game", tag.split("@")[1]]
    toy.free.weight.data += 1  # is not stored
    assert tag_of(toy, "toy") == tag
    toy.config = replace(toy.config, added="no")
    assert tag_of(toy, "toy") == tag  # a field that came later and has its default
    for config in (replace(toy.config, added="yes"), replace(toy.config, inner=InnerConfig(1.0))):
        toy.config = config
        assert tag_of(toy, "toy") != tag
    toy.config = ToyConfig()
    toy.inner[0].bias.data += 1
    assert tag_of(toy, "toy") != tag


def test_parts_that_are_not_there(tmp_path):
    with pytest.raises(UsageError, match=r"no wheel to save: .*wheel=.* make a toy with one"):
        Toy().save_pretrained(tmp_path / "toy")
    with pytest.raises(UsageError, match="a Linear cannot be saved: say where it is with wheel="):
        Toy(wheel=torch.nn.Linear(1, 1)).save_pretrained(tmp_path / "toy")
    assert not any(tmp_path.iterdir())
    wheel = Wheel().save_pretrained(tmp_path / "wheel")
    folder = Toy().save_pretrained(tmp_path / "toy", wheel="../wheel", horn=str(wheel))
    assert {p.name for p in folder.iterdir()} == {"config.json", "model.safetensors"}
    assert all(isinstance(part, Wheel) for part in Toy.from_pretrained(folder).wheels)
    config = read_config(folder)
    (folder / "config.json").write_text(json.dumps({**config, "parts": {}}))
    with pytest.raises(WeightsError, match="has no wheel: a toy needs one"):
        Toy.from_pretrained(folder)


def test_one_clear_error_for_what_cannot_be_saved_or_read(tmp_path):
    with pytest.raises(UsageError, match="card cannot say added, width: the configuration has fields"):
        Toy(wheel=Wheel()).save_pretrained(tmp_path / "toy", width=4, added="", steps=1)
    folder = Toy(wheel=Wheel()).save_pretrained(tmp_path / "toy", width=3)  # which is what the configuration says
    with pytest.raises(WeightsError, match="holds 'toy' weights, not a wheel"):
        Wheel.from_pretrained(folder)
    assert isinstance(load_one_of(folder, "a vehicle", Wheel, Toy), Toy)
    with pytest.raises(WeightsError, match="holds 'toy' weights, not a house"):
        load_one_of(folder, "a house", Wheel)
    config = read_config(folder)
    for text, message in (
        ("{", "cannot be read"), ("[1]", "no JSON object"), ("\xff", "cannot be read"),
        ("{}", "holds None weights, not a toy"), (json.dumps({**config, "width": [3]}), "does not describe a toy"),
        (json.dumps({**config, "width": 5}), "does not fit Toy: 2 tensors differ"),
    ):  # fmt: skip
        (folder / "config.json").write_text(text, encoding="latin-1")
        with pytest.raises(WeightsError, match=message):
            Toy.from_pretrained(folder)


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


def test_a_damaged_configuration_is_not_taken_for_that_of_another_system(tmp_path, model):
    from v2a_nb.systems.registry import class_of, load

    folder = save_weights(tmp_path / "mine", model.state_dict(), {"kind": "codec"})
    for text, message in (
        ("{", "cannot be read"), ("[]", "no JSON object"), ("{}", "holds None weights, not those of a system"),
        ('{"kind": "codec"}', "holds 'codec' weights"), ('{"kind": ["vaura"]}', "not those of a system"),
    ):  # fmt: skip
        (folder / "config.json").write_text(text)
        for ask in (load, class_of):
            with pytest.raises(WeightsError, match=message):
                ask(str(folder))
