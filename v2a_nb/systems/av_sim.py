"""AV-Sim, the audio-visual similarity of Action2Sound (section 3.5): a video encoder and an audio encoder whose vectors
meet, trained with InfoNCE.

Pool and retrieval are built on it (:mod:`v2a_nb.systems.pool`), the diffusion model takes the video encoder's vectors
per frame, and AV-Sync starts from both encoders.

- ``paper``: TimeSformer (ViT-B/16, 16 frames) and AST-B on the middle 1.5 s, each projected to 256 channels.
- ``tiny``: the same two networks, small; the whole 3 s are heard.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.audio import ast
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError
from v2a_nb.vision import space_time

AUDIO, VIDEO = ast.PRESETS, space_time.PRESETS


@dataclass(frozen=True)
class AvSimConfig:
    """Sizes of :class:`AvSim`.

    Attributes:
        preset: ``"tiny"`` or ``"paper"``.
        dim: channels of a vector that is compared.
        temperature: tau of InfoNCE, or where it starts; the paper does not give its own.
        learn_temperature: train it too, as CLIP does; it stays at 0.01 or more.
        video, audio: of the encoders.
    """

    preset: str = "tiny"
    dim: int = 256
    temperature: float = 0.07
    learn_temperature: bool = True
    video: space_time.SpaceTimeConfig = field(default_factory=lambda: VIDEO["tiny"])
    audio: ast.AstConfig = field(default_factory=lambda: AUDIO["tiny"])

    def check(self) -> None:
        """Raise :class:`UsageError` for settings that fit no model."""
        if not COLDEST <= self.temperature <= 1:
            raise UsageError(f"a temperature of {self.temperature} lies outside of {COLDEST} to 1")
        if self.dim < 2:
            raise UsageError(f"{self.dim} channels cannot tell sounds apart")


COLDEST = 0.01
PRESETS = {"tiny": AvSimConfig(), "paper": AvSimConfig("paper", video=VIDEO["paper"], audio=AUDIO["paper"])}


def info_nce(
    heard: Tensor, seen: Tensor, temperature: Tensor | float, *, both: bool = True, groups: Tensor | None = None
) -> Tensor:
    """The paper's AV-Sim objective: each sound must find its video among those of the batch.

    Args:
        heard, seen: unit vectors [B, D]; row i of both belongs to one clip.
        temperature: tau.
        both: also ask each video to find its sound, as CLIP does, and take the mean; the paper asks sounds alone.
        groups: int [B], the recording of each clip: others of the same one do not count as wrong. Left out, they do.

    Returns:
        nats; log B is chance.
    """
    logits = heard @ seen.T / temperature  # [sounds, videos]
    if groups is not None:
        twins = (groups[:, None] == groups[None]) & ~torch.eye(len(groups), dtype=torch.bool, device=groups.device)
        logits = logits.masked_fill(twins, -torch.inf)
    right = torch.arange(len(logits), device=logits.device)
    loss = F.cross_entropy(logits, right)
    return (loss + F.cross_entropy(logits.T, right)) / 2 if both else loss


class AvSim(nn.Module):
    """Two encoders, two projections and a temperature; see the top of the file.

    Examples:
        >>> model = AvSim.from_pretrained("av_sim")                   # doctest: +SKIP
        >>> model.similarity(clip, sound)                             # doctest: +SKIP
        0.61
    """

    def __init__(self, config: AvSimConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or PRESETS["tiny"]
        c.check()
        self.video = space_time.SpaceTime(c.video)
        self.audio = ast.Ast(c.audio)
        # of the released code: a linear layer behind CLS, and AST's own head
        self.vid_proj = nn.Linear(c.video.dim, c.dim)
        self.aud_proj = nn.Sequential(nn.LayerNorm(c.audio.dim), nn.Linear(c.audio.dim, c.dim))
        start = torch.tensor(math.log(1 / c.temperature))
        if c.learn_temperature:
            self.log_scale = nn.Parameter(start)
        else:
            self.register_buffer("log_scale", start)
        self.card: dict[str, object] = {}

    @property
    def temperature(self) -> Tensor:
        """tau, at least 0.01."""
        return (-self.log_scale).exp().clamp(min=COLDEST)

    @property
    def dim(self) -> int:
        """Channels of a vector that is compared."""
        return self.config.dim

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.vid_proj.weight.device

    def see(self, frames: Tensor) -> Tensor:
        """Unit vectors [B, 256] of frames [B, T, 3, size, size] (uint8, or in [0, 1])."""
        return F.normalize(self.vid_proj(self.video(frames)).float(), dim=-1)

    def hear(self, bank: Tensor) -> Tensor:
        """Unit vectors [B, 256] of filter banks [B, T, 128] of what the encoder hears."""
        return F.normalize(self.aud_proj(self.audio(bank)).float(), dim=-1)

    @torch.no_grad()
    def look(self, clip: Clip) -> np.ndarray:
        """What a clip looks like: a unit vector float32 [256], the mean over its windows.

        The clip's own sound is not looked at.
        """
        windows = self.see(self.video.pixels(clip))
        return F.normalize(windows.mean(0), dim=0).cpu().numpy()

    @torch.no_grad()
    def listen(self, sound: Sound) -> np.ndarray:
        """What a sound sounds like: a unit vector float32 [256], the mean over windows as long as the video's.

        Raises:
            UsageError: under 25 ms.
        """
        windows = space_time.windows_of(sound.duration, self.config.video.seconds)
        parts = [sound.slice(*w) for w in windows] if len(windows) > 1 else [sound]
        vectors = self.hear(torch.cat([self.audio.listen(part) for part in parts]))
        return F.normalize(vectors.mean(0), dim=0).cpu().numpy()

    def similarity(self, clip: Clip, sound: Sound) -> float:
        """Cosine of what is seen and what is heard, -1 to 1."""
        return float(self.look(clip) @ self.listen(sound))

    def save_pretrained(self, folder: str | Path, **card: object) -> Path:
        """Write ``config.json`` and ``model.safetensors`` (fp16); extra fields go to the config."""
        from v2a_nb.hub import save_weights

        config = {"kind": "av-sim", **asdict(self.config), **self.card, **card}
        return save_weights(folder, self.state_dict(), config)

    @classmethod
    def from_pretrained(cls, name: str | Path = "av_sim", revision: str | None = None) -> AvSim:
        """Load from a folder, by a shipped name, or from a Hub id.

        Raises:
            WeightsError: no such weights, weights of another kind, or damaged ones.
        """
        from v2a_nb.hub import load_weights, open_weights

        path, config = open_weights(name, "av-sim", "audio-visual encoders", revision)
        model = cls(config_of(config))
        load_weights(model, path)
        model.card = {k: v for k, v in config.items() if k not in AvSimConfig.__dataclass_fields__ and k != "kind"}
        return model.eval()


def config_of(told: dict) -> AvSimConfig:
    """The sizes that ``config.json`` tells, whatever else it tells."""
    from v2a_nb.hub import fields_of

    fields = fields_of(AvSimConfig, told)
    fields["video"] = space_time.SpaceTimeConfig(**fields_of(space_time.SpaceTimeConfig, fields["video"]))
    fields["audio"] = ast.AstConfig(**fields_of(ast.AstConfig, fields["audio"]))
    return AvSimConfig(**fields)
