"""Segment AVCLIP: contrastive pre-training over segments, from files to an encoder that loads."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from feature_parts import small_video
from safetensors.torch import save_file

from v2a_nb import media
from v2a_nb.data.recordings import StrikeRecordings
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.models.video_encoders.registry import load_video_encoder
from v2a_nb.models.video_encoders.segment_avclip import (
    SEGMENT,
    SegmentAvclip,
    SegmentConfig,
    SegmentVideoTower,
    segment_pixels,
)
from v2a_nb.training.loop import OptimConfig, fit
from v2a_nb.training.recipe import run_recipe
from v2a_nb.training.recipes.segment_avclip import (
    SegmentAvclipPaperRecipe,
    SegmentAvclipRecipe,
    SegmentAvclipTrainConfig,
    SegmentAvclipTraining,
    clips_of,
)

SMALL = SegmentConfig(size=32, dim=48, depth=1, heads=3, mlp=96)
FEW = SegmentAvclipTrainConfig(steps=3, recordings=6, held_out=1, batch_size=2, segments=2, warmup=1, eval_every=2)


def test_from_a_folder_of_videos_to_an_encoder(tmp_path):
    for i in range(4):
        small_video(tmp_path / "videos" / f"v{i}.mp4", 1.6, seed=i)
    recipe = SegmentAvclipRecipe(FEW, model=SMALL)
    weights = run_recipe(recipe, tmp_path / "run", source=f"folder:{tmp_path / 'videos'}")
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [2, 3] and all(line["val_loss"] > 0 for line in log)
    encoder = load_video_encoder(weights)
    assert isinstance(encoder, SegmentAvclip) and encoder.config == SMALL and encoder.card["preset"] == "tiny"
    clip = media.open(tmp_path / "videos" / "v0.mp4")
    assert encoder.features(clip).shape == (20, 48)  # 12.5 tokens a second, of a last segment only what there is
    assert torch.equal(encoder.features(clip)[:8], encoder.features(clip.slice(0, 0.64)))
    with pytest.raises(UsageError, match="of 9 segments"):
        long = SegmentAvclipTrainConfig(steps=1, recordings=4, segments=9)
        run_recipe(SegmentAvclipRecipe(long, model=SMALL), tmp_path / "other", source=f"folder:{tmp_path / 'videos'}")


def test_segments_learn_to_find_their_sounds(tmp_path):
    """Overfits four segments: all weights are used, and each picture finds its own sound."""
    torch.manual_seed(0)
    module = SegmentAvclipTraining(SMALL)
    batch = clips_of(StrikeRecordings(3), [0, 1, 2, 3], replace(FEW, batch_size=4, segments=1), SMALL.size, 0)(0)
    assert batch["frames"].shape == (4, SEGMENT, 3, 32, 32) and batch["waves"].shape == (4, 1, 10240)
    start = module(batch)
    start["loss"].backward()
    assert not [name for name, p in module.named_parameters() if p.grad is None]
    trained = fit(module, lambda number: batch, OptimConfig(steps=40, lr=3e-3, warmup=5), tmp_path)
    end = trained(batch)
    assert end["loss"] < 0.5 * start["loss"] and end["found"] == 1.0
    assert 0.001 <= trained.temperature.item() <= 0.5


def test_clips_are_the_same_for_the_same_number():
    first, again, other = (clips_of(StrikeRecordings(3), [0, 1, 2], FEW, 32, 0)(n) for n in (4, 4, 5))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["frames"], other["frames"])


def test_the_paper_recipe_has_the_published_tower():
    lines = SegmentAvclipPaperRecipe().dry_run()
    assert any("batch_size: 2" in line for line in lines) and any("214,250,497 parameters" in line for line in lines)


@pytest.mark.parametrize("prefix", ["", "module.v_encoder.", "v_encoder.", "vfeat_extractor."])
def test_published_files_are_read_whatever_is_beside_the_tower(tmp_path, prefix):
    torch.manual_seed(1)
    tower = SegmentVideoTower(SMALL).eval()
    state = {prefix + name: x.contiguous() for name, x in tower.state_dict().items()}
    state[f"{prefix}patch_embed.proj.weight"] = torch.zeros(1)
    if prefix:
        state["afeat_extractor.x"] = torch.zeros(1)
    save_file(state, tmp_path / "published.safetensors")
    encoder = SegmentAvclip.from_file(tmp_path / "published.safetensors", SMALL)
    frames = torch.randint(0, 255, (16, 40, 60, 3), dtype=torch.uint8).numpy()
    with torch.no_grad():
        expected = tower(segment_pixels(frames, 32)[None])[0]
    assert torch.equal(encoder.encode(frames, 25.0), expected)
    with pytest.raises(WeightsError, match="no weights of the visual tower"):
        SegmentAvclip.from_file(tmp_path / "published.safetensors", SegmentConfig(size=32, dim=24, depth=1, heads=3))
