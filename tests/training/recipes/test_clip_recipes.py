"""The recipes on clip features learn from files as they do from Strike World; what shrinks, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from feature_parts import small_video

from v2a_nb.data.clip_features import ClipFeatureExtractor
from v2a_nb.errors import UsageError, V2AError
from v2a_nb.metrics.av_sync.metric import AvSync
from v2a_nb.metrics.av_sync.train import AvSyncTrainConfig
from v2a_nb.metrics.summarization.model import Summarizer
from v2a_nb.metrics.vaas.metric import Vaas
from v2a_nb.systems.retrieval.system import Retrieval
from v2a_nb.systems.retrieval.train import RetrievalTrainConfig
from v2a_nb.training.recipes.clips import ClipTrainConfig, PairsTrainConfig
from v2a_nb.training.registry import train

TEXTS = ("one click", "two clicks", "many clicks", "a click and another", "")
LOADERS = {"vaas": Vaas, "summary": Summarizer, "av_sim": Retrieval, "av_sync": AvSync}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Five small videos with a sound, a table that describes four of them, and room for what is computed of them."""
    folder = tmp_path_factory.mktemp("videos")
    for i in range(5):
        small_video(folder / "clips" / f"v{i}.mp4", 6.8, seed=i)
    rows = [f"clips/v{i}.mp4,{text}" for i, text in enumerate(TEXTS)]
    (folder / "table.csv").write_text("\n".join(["video,text", *rows]) + "\n")
    return folder


@pytest.mark.parametrize(
    ("name", "source"),
    [("vaas", "folder:{}/clips"), ("av_sim", "folder:{}/clips"), ("av_sync", "csv:{}/table.csv"),
     ("summary", "csv:{}/table.csv")],
)  # fmt: skip
def test_files_are_learned_from_as_strike_world_is(videos, tmp_path, name, source):
    source = source.format(videos)
    how = {"data": source, "steps": 2, "out": tmp_path / "run", "cache": videos / "cache"}
    model = LOADERS[name].from_pretrained(train(name, **how))
    assert model.card["source"] == source and model.card["steps"] == 2
    # two are held out of five, and of the four that are described
    assert model.card["clips"] == {"summary": 4}.get(name, 6)
    settings = json.loads((tmp_path / "run" / "run.json").read_text())
    assert settings["recipe"] == name and settings["encoder"].startswith("vision@")
    assert f"`v2a-nb train {name}`" in (tmp_path / "run" / "weights" / "README.md").read_text()
    with pytest.raises(V2AError, match="--resume"):
        train(name, **how)
    with pytest.raises(V2AError, match="another seed"):
        train(name, **how, seed=1, resume=True)


def test_a_pool_of_files_gives_their_sounds_again(videos, tmp_path):
    folder = train(
        "av_sim", data=f"folder:{videos / 'clips'}", steps=2, out=tmp_path / "run", cache=videos / "cache"
    )  # fmt: skip
    system = Retrieval.from_pretrained(folder)
    assert len(system.pool) == len(system.pool.searched) == 6 and system.by == "look"  # and no quiet rooms
    assert all(source.path.endswith(f"{source.recording}.mp4") for source in system.pool.sources)
    assert np.isfinite(system.pool.quiet).all() and system.pool.sound(0).n == 40960
    assert (tmp_path / "run" / "av_sim" / "README.md").exists()


def test_recipes_share_what_is_computed_of_clips(videos, tmp_path, monkeypatch):
    how = {"data": f"csv:{videos / 'table.csv'}", "steps": 1, "cache": videos / "cache"}
    train("vaas", **how, out=tmp_path / "vaas")
    monkeypatch.setattr(ClipFeatureExtractor, "extract", None)  # nothing can be computed any more
    train("av_sync", **how, out=tmp_path / "av_sync", embedding="", batch_size=2)


def test_what_files_lack_is_said_in_one_line(videos, tmp_path):
    with pytest.raises(UsageError, match="no clip has a line of text: give csv:FILE with a column text"):
        train("summary", data=f"folder:{videos / 'clips'}", out=tmp_path / "run")
    (videos / "few.csv").write_text("video\nclips/v0.mp4\nclips/v1.mp4\nclips/v2.mp4\n")
    with pytest.raises(UsageError, match=r"3 recordings of 6.56 s or more: at least 4 are needed"):
        train("vaas", data=f"csv:{videos / 'few.csv'}", out=tmp_path / "run", cache=videos / "cache")
    small_video(videos / "short" / "a.mp4", 3.0)
    with pytest.raises(UsageError, match="give longer videos"):
        train("av_sim", data=f"folder:{videos / 'short'}", out=tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()


def test_fewer_steps_use_fewer_recordings():
    small = PairsTrainConfig().scaled(0.02)
    assert (small.recordings, small.held_out, small.steps, small.batch_size) == (40, 4, 16, 32)
    assert PairsTrainConfig().scaled(1.0) == PairsTrainConfig() and PairsTrainConfig().scaled(0.001).steps == 1
    longer = ClipTrainConfig().scaled(6.0)
    assert (longer.steps, longer.recordings, longer.held_out) == (9000, 2000, 200)  # never more recordings
    for config in (ClipTrainConfig(), RetrievalTrainConfig(), AvSyncTrainConfig()):
        for steps in (1, 7, 49, config.steps - 1):
            assert config.scaled(steps / config.steps).steps == steps  # to the step
