"""The codec's recipe: codebooks start from the data, and every parameter learns."""

from __future__ import annotations

import torch

from v2a_nb.training.loop import fit
from v2a_nb.training.recipes.codec import CodecTraining, Cycle, codec_stages
from v2a_nb.world import sounds


def test_codebooks_start_from_the_data(tmp_path):
    torch.manual_seed(0)
    waves = sounds(1, 12, seconds=1.5)
    stages = codec_stages(waves, cycles=(Cycle(8, 1e-3), Cycle(2, 1e-4, tonal=0.3)), batch_size=4)
    trained, names = None, []
    while True:
        try:
            stage = stages.send(trained)
        except StopIteration as finished:
            codec = finished.value
            break
        names.append(stage.name)
        trained = fit(stage.module, stage.batch_of, stage.optim, tmp_path / stage.name)
    assert names == ["codec/cycle1", "codec/cycle2"]
    codes = codec.encode(torch.from_numpy(waves))
    assert codes.shape == (12, 4, 75)
    assert len(codes[:, 0].unique()) > 20  # quantizing from the first step leaves one to seventeen


def test_every_parameter_gets_a_gradient():
    module = CodecTraining()
    batch = {"wave": torch.from_numpy(sounds(1, 2, seconds=1.28))}
    module.tonal = 0.3
    module.before_step(0, lambda: batch)
    assert bool(module.started)
    module(batch)["loss"].backward()
    assert [n for n, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum()] == []


def test_the_last_cycle_leaves_the_codes_as_they_are():
    module = CodecTraining()
    batch = {"wave": torch.from_numpy(sounds(1, 2, seconds=1.28))}
    module.before_step(0, lambda: batch)
    before = module.codec.quantizer.codebooks.clone()
    module.decoder_only = True
    module.before_step(1, lambda: batch)
    module(batch)["loss"].backward()
    assert torch.equal(module.codec.quantizer.codebooks, before)
    without = {n.split(".")[1] for n, p in module.named_parameters() if p.grad is None}
    assert "encoder" in without and "decoder" not in without


def test_the_quantizer_joins_after_a_quarter_of_the_first_cycle():
    stages = codec_stages(sounds(1, 4, seconds=1.5), cycles=(Cycle(8, 1e-3), Cycle(4, 1e-3)), batch_size=2)
    stage = next(stages)
    used = []
    for step in range(4):
        stage.module.before_step(step, lambda step=step: stage.batch_of(step))
        used.append(bool(stage.module.started))
    assert used == [False, False, True, True]
    assert stage.batch_of(0)["wave"].shape == (2, 20480)
    assert torch.equal(stage.batch_of(3)["wave"], stage.batch_of(3)["wave"])
    assert not torch.equal(stage.batch_of(3)["wave"], stage.batch_of(2)["wave"])
    assert stages.send(stage.module).module.start == 0  # later cycles quantize from their first step
