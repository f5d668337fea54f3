"""The released VTA-LDM in our layout: ``v2a-nb convert vta_ldm --from DIFFUSION AUDIO --out FOLDER``.

The authors released pickles (``ariesssxu/vta-ldm-clip4clip-v-large`` on the Hub), which are never read here, for they
can run code. Convert them once where you trust them::

    import torch, safetensors.torch
    state = torch.load("pytorch_model_2.bin", map_location="cpu", weights_only=True)
    safetensors.torch.save_file({k: v.contiguous() for k, v in state.items()}, "diffusion.safetensors")

and ``pytorch_model.bin``, which is the autoencoder and the vocoder, likewise. Both are AudioLDM's (non-commercial).

The released networks have time as rows and bands as columns, and here it is the other way round: so all kernels are
transposed, and everything else stays the same. What the release departs from its paper in stays as it is in these
weights: frames are not normalised, and the projection was never trained. Sounds are as long as their video, where the
released code always makes 10.24 s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import Pretrained, read_published, reason
from v2a_nb.models.autoencoder import AutoencoderConfig, ImageAutoencoder
from v2a_nb.models.video_encoders.clip_frames import ClipFrames
from v2a_nb.models.vocoder import Vocoder
from v2a_nb.systems.vta_ldm.model import AUTOENCODER_OF, PRESETS, VtaLdmConfig
from v2a_nb.systems.vta_ldm.system import VtaLdm

VOCODER = {
    "upsample_rates": [5, 4, 2, 2, 2], "upsample_kernel_sizes": [16, 16, 8, 4, 4], "upsample_initial_channel": 1024,
    "resblock_kernel_sizes": [3, 7, 11], "resblock_dilation_sizes": [[1, 3, 5]] * 3, "resblock": "1",
}  # fmt: skip
"""AudioLDM's HiFi-GAN of 16 kHz and 64 mels."""
HEAD = 64
"""Numbers in an attention head of CLIP."""


def convert(files: Sequence[str | Path], out: str | Path) -> Path:
    """Write the released model as weights that ``--weights`` loads; returns their folder.

    They are written as float32: the numbers of some tensors are beyond float16.

    Args:
        files: the diffusion model, and autoencoder with vocoder, each a safetensors file.
        out: folder, which is made.

    Raises:
        UsageError: other than two files.
        WeightsError: they cannot be read, or hold something else.
    """
    if len(files) != 2:
        raise UsageError(f"{len(files)} files: the diffusion model, and the autoencoder with the vocoder, are needed")
    states = [read_published(file, "VTA-LDM") for file in files]
    system = from_released(*states)
    for part in (system, system.encoder, system.autoencoder, system.vocoder):
        if isinstance(part, Pretrained):
            part.half = False  # type: ignore[misc]
    return system.save_pretrained(out, source="ariesssxu/vta-ldm-clip4clip-v-large", preset="paper")


def from_released(
    diffusion: Mapping[str, Tensor],
    audio: Mapping[str, Tensor],
    *,
    config: VtaLdmConfig = PRESETS["paper"],
    autoencoder: AutoencoderConfig | None = None,
    vocoder: Mapping[str, object] = VOCODER,
) -> VtaLdm:
    """The system of released tensors.

    Args:
        diffusion: with ``unet.``, ``vid_fea_extractor.clip_vision.`` and ``vid_fea_extractor.linear_layer.``.
        audio: with ``encoder.``, ``decoder.``, ``quant_conv.``, ``post_quant_conv.`` and ``vocoder.``; the names may
            begin with ``first_stage_model.``.
        config, autoencoder, vocoder: sizes; left out, those of the release.

    Raises:
        WeightsError: something is missing or has another size.
    """
    encoder = _clip(_below(diffusion, "vid_fea_extractor.clip_vision."), config.video_rate)
    audio = {name.removeprefix("first_stage_model."): tensor for name, tensor in audio.items()}
    parts = (
        _autoencoder({k: v for k, v in audio.items() if not k.startswith("vocoder.")}, autoencoder, config),
        Vocoder.from_hifigan(_below(audio, "vocoder."), vocoder, "vta_ldm"),
    )
    config = replace(config, video_dim=encoder.dim)
    system = VtaLdm(config, encoder, *parts).eval()
    _fill(system.unet, {name: _turned(tensor) for name, tensor in _below(diffusion, "unet.").items()}, "UNet")
    _fill(system.tokens.video, _below(diffusion, "vid_fea_extractor.linear_layer."), "projection")
    return system


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``, without it."""
    found = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    if not found:
        raise WeightsError(f"no tensor begins with {prefix}: these are not the released weights of VTA-LDM")
    return found


def _turned(tensor: Tensor) -> Tensor:
    """A kernel [out, in, rows, columns] for pictures whose rows and columns have changed places."""
    return tensor.transpose(2, 3).contiguous() if tensor.ndim == 4 else tensor


def _fill(module: nn.Module | None, state: Mapping[str, Tensor], what: str) -> None:
    assert module is not None
    own = module.state_dict()
    wrong = [name for name, tensor in state.items() if name not in own or own[name].shape != tensor.shape]
    wrong += [name for name in own if name not in state]
    if wrong:
        raise WeightsError(f"the released {what} has another size: {wrong[0]} is the first of {len(wrong)} that differ")
    module.load_state_dict({name: tensor.float() for name, tensor in state.items()})


def _autoencoder(
    state: Mapping[str, Tensor], sizes: AutoencoderConfig | None, config: VtaLdmConfig
) -> ImageAutoencoder:  # fmt: skip
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    made = ImageAutoencoder(sizes or AUTOENCODER_OF[config.picture])
    named = {f"first_stage_model.{name}": tensor for name, tensor in state.items()}
    try:
        state = convert_ldm_vae_checkpoint(named, dict(made.model.config))
    except (KeyError, IndexError, ValueError) as error:
        raise WeightsError(f"no autoencoder in the layout of the release: {reason(error)}") from error
    _fill(made.model, {name: _turned(tensor) for name, tensor in state.items()}, "autoencoder")
    return made


def _clip(state: dict[str, Tensor], rate: float) -> ClipFrames:
    """The image tower of CLIP, whose sizes its tensors say; it reads frames as the released code does."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    layers = {name.split("layers.")[1].split(".")[0] for name in state if "layers." in name}
    try:
        patches = state["vision_model.embeddings.patch_embedding.weight"]  # [width, 3, patch, patch]
        positions = len(state["vision_model.embeddings.position_embedding.weight"]) - 1
        inner = len(state["vision_model.encoder.layers.0.mlp.fc1.weight"])
        projection = len(state["visual_projection.weight"])
    except KeyError as error:
        raise WeightsError(f"no image tower of CLIP in the layout of transformers: {error} is missing") from error
    width, patch = patches.shape[0], patches.shape[-1]
    model = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=width, intermediate_size=inner, num_hidden_layers=len(layers),
            num_attention_heads=max(1, width // HEAD), image_size=patch * round(positions**0.5), patch_size=patch,
            projection_dim=projection,
        )
    )  # fmt: skip
    positions_of = {name: tensor for name, tensor in model.state_dict().items() if name.endswith("position_ids")}
    _fill(model, {**positions_of, **{k: v for k, v in state.items() if not k.endswith("position_ids")}}, "CLIP")
    return ClipFrames(model, rate, middle=False, normalise=False)
