"""The networks of EgoSonics: frame vectors as a picture and as tokens, super-resolution."""

from __future__ import annotations

import pytest
import torch
from system_parts import seeded

from v2a_nb.audio.stft_image import STFT_IMAGES
from v2a_nb.errors import UsageError
from v2a_nb.systems.egosonics.model import (
    SuperResolution,
    SuperResolutionConfig,
    extend,
    frame_image,
    stack_tokens,
    standardise,
)

# --- frame vectors -------------------------------------------------------------------------------------


def test_the_last_column_goes_on():
    vectors = torch.randn(2, 4, 3)
    assert torch.equal(extend(vectors, 3), vectors[:, :3])
    longer = extend(vectors, 6)
    assert torch.equal(longer[:, 4:], vectors[:, 3:].expand(-1, 2, -1))


def test_standardised_pictures_lie_between_0_and_1_and_forget_scale():
    vectors = torch.randn(2, 50, 12, generator=seeded())
    made = standardise(vectors)
    assert made.min() >= 0 and made.max() <= 1
    assert made.mean().item() == pytest.approx(0.5, abs=0.02) and made.std().item() == pytest.approx(1 / 6, abs=0.01)
    assert torch.allclose(made, standardise(40 * vectors + 7), atol=1e-4)
    assert torch.isfinite(standardise(torch.zeros(1, 5, 3))).all()


def test_columns_stay_at_their_time():
    vectors = torch.zeros(1, 50, 12)
    vectors[:, 20] = 1.0
    picture = frame_image(vectors, 64, 200, channels=3)
    assert picture.shape == (1, 3, 64, 200)
    assert torch.equal(picture[:, 0], picture[:, 2])
    assert abs(int(picture[0, 0].mean(0).argmax()) - (20.5 * 4 - 0.5)) <= 1


def test_rows_are_the_numbers_of_a_vector_and_folds_become_channels():
    vectors = torch.arange(12.0)[None, None].expand(1, 10, -1)
    plain, folded = frame_image(vectors, 12, 10), frame_image(vectors, 6, 10, fold=2)
    assert torch.allclose(plain[0, 0, :, 5], torch.arange(12.0), atol=1e-4)
    assert folded.shape == (1, 2, 6, 10)
    assert torch.allclose(folded[0, :, :, 5], torch.arange(12.0).view(2, 6), atol=1e-4)
    with pytest.raises(UsageError, match="folded"):
        frame_image(vectors, 12, 10, fold=5)


def test_neighbours_make_a_token():
    vectors = torch.arange(10.0).view(1, 5, 2)
    made = stack_tokens(vectors, 2)
    assert made.tolist() == [[[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 8, 9]]]
    assert torch.equal(stack_tokens(vectors, 1), vectors)


# --- super-resolution -----------------------------------------------------------------------------------


def test_super_resolution_has_five_convolutions_and_ends_in_a_sigmoid():
    model = SuperResolution()
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU"] * 4 + ["Conv2d", "Sigmoid"]
    with torch.device("meta"):
        assert SuperResolution().eval()(torch.zeros(1, 1, 512, 512), (1025, 862)).shape == (1, 1, 1025, 862)


def test_super_resolution_learns():
    torch.manual_seed(0)
    model = SuperResolution(SuperResolutionConfig((8, 8, 4, 4))).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    original = (torch.rand(2, 1, 1, 30, generator=seeded()) > 0.7).float().expand(-1, -1, 40, -1).contiguous()
    losses = []
    for _ in range(30):
        made = model.training_step(original, (20, 20))
        made["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(made["loss"].item())
    assert losses[-1] < 0.6 * losses[0]
    assert made["plain"] > 0
    with pytest.raises(UsageError, match="reads"):
        model(torch.zeros(1, 3, 20, 20), (40, 30))


def test_super_resolution_takes_the_place_of_resizing(tmp_path):
    class Nearest(torch.nn.Module):
        def forward(self, low, size):
            return torch.nn.functional.interpolate(low, size)

    image = STFT_IMAGES["paper"]
    picture = image.to_image(0.1 * torch.sin(torch.arange(22050) * 0.1)[None])
    plain, fine = image.to_spectrogram(picture), image.to_spectrogram(picture, Nearest())
    assert plain.shape == fine.shape
    assert (plain - fine).abs().mean() < 0.05  # the right way up
    config = SuperResolutionConfig((4, 4, 4, 4))
    saved = SuperResolution(config).save_pretrained(tmp_path / "sharp")
    assert SuperResolution.from_pretrained(saved).config == config
