"""EgoSonics: video steers a frozen spectrogram diffusion model through SyncroNet (Rai and Sridhar 2024).

A clip becomes frame vectors; their mean becomes text tokens for the frozen UNet; all of them, as an image and
as tokens, go into SyncroNet, whose signals are added to the UNet's skips and middle; DDIM takes the noise
away; the autoencoder makes a picture of the latents, Griffin-Lim a sound of the picture.

The null of guidance is the frozen UNet alone, with the null text: what it was trained as. So every weighting of
the control, also the published one, has a trained null.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError
from v2a_nb.models.autoencoder import ImageAutoencoder
from v2a_nb.models.video_encoders.clip_frames import (
    check_encoder,
    extend,
    load_frame_encoder,
    standardise,
    to_image,
    to_tokens,
)
from v2a_nb.sampling.diffusion import Conditions, diffusion_loss, sample_long
from v2a_nb.systems.base import Progress, check_fit, evaluating, seeded
from v2a_nb.systems.egosonics.model import AUTOENCODER_OF, PRESETS, BaseUNet, EgoSonicsConfig, make_unet
from v2a_nb.systems.egosonics.super_resolution import SuperResolution
from v2a_nb.systems.egosonics.syncronet import SyncroNet, VideoToText, WordTokens, control_weights
from v2a_nb.systems.latent_base import LatentSystem

__all__ = ["PRESETS", "STAGES", "EgoSonics", "EgoSonicsConfig"]

STAGES = {
    "autoencoder": ("autoencoder",),
    "base": ("base", "words", "null_text"),
    "text": ("mlp",),
    "syncronet": ("syncronet",),
}
"""What is trained, in this order; all else is frozen meanwhile (section 3.4)."""


class EgoSonics(LatentSystem):
    """The whole system.

    Args:
        config: sizes and switches.
        encoder: frames to vectors: has ``rate``, ``dim`` and ``features(clip) -> [T, dim]``; None where only
            vectors are worked on, as in training from a cache.
        autoencoder: left out, a new one of the config's sizes.
        base: a ``UNet2DConditionModel``; left out, a new one. SyncroNet starts as a copy of it.
        super_resolution: a :class:`~v2a_nb.systems.egosonics.super_resolution.SuperResolution`, where the picture is resized.

    Raises:
        WeightsError: parts that do not fit each other.

    Examples:
        >>> egosonics = EgoSonics.from_pretrained("egosonics")                      # doctest: +SKIP
        >>> egosonics.generate(clip, seed=0).n == round(clip.duration * 16000)      # doctest: +SKIP
        True
    """

    name = kind = default = "egosonics"
    title, config_class = "EgoSonics", EgoSonicsConfig
    part_names, optional_parts = ("vision", "autoencoder", "base"), ("super_resolution",)
    options = ("guidance", "steps")
    switches = ("fps", "control_weighting", "no_syncronet", "no_cross_attention")
    round_trip_of = "autoencoder"

    def __init__(
        self,
        config: EgoSonicsConfig,
        encoder: nn.Module | None = None,
        autoencoder: ImageAutoencoder | None = None,
        base: nn.Module | None = None,
        super_resolution: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.config = c = config
        if autoencoder is None:
            autoencoder = ImageAutoencoder(AUTOENCODER_OF["paper" if c.picture.startswith("paper") else c.picture])
        wanted = {
            "channels of the latents": (autoencoder.config.latent_channels, c.latent_channels),
            "pixels in a latent": (autoencoder.factor, c.factor),
            "channels of the picture": (autoencoder.config.channels, c.stft.channels),
        }
        if encoder is not None:
            wanted["numbers in a frame vector"] = (encoder.dim, c.video_dim)
            wanted["frame vectors a second"] = (float(encoder.rate), float(c.video_rate))
        if base is not None:
            wanted["numbers in a text token"] = (base.config.cross_attention_dim, c.text_width)
            wanted["channels of the UNet's input"] = (base.config.in_channels, c.latent_channels)
        check_fit(wanted, "EgoSonics")
        self.encoder, self.autoencoder, self.super_resolution = encoder, autoencoder, super_resolution
        self.base = make_unet(c) if base is None else base
        self.mlp = VideoToText(c.video_dim, c.mlp_hidden, c.text_tokens, c.text_width)
        self.words = WordTokens(c.text_tokens, c.text_width) if c.words else None
        self.null_text = nn.Parameter(0.02 * torch.randn(c.text_tokens, c.text_width))
        self.syncronet = self._copy()

    def _copy(self) -> SyncroNet:
        c = self.config
        bias = {"rows": c.rows, "column_s": c.column_s, "token_s": c.token_s} if c.time_bias else None
        return SyncroNet(
            self.base, c.stack * c.video_dim, hint_channels=c.hint_repeat * c.hint_fold, hint_widths=c.hint_widths,
            warm_hint=c.warm_hint, time_bias=bias,
        )  # fmt: skip

    def start_syncronet(self) -> None:
        """Make SyncroNet a fresh copy of the base as it is now: to be called when the base is trained."""
        self.syncronet = self._copy().to(self.device)

    @property
    def device(self) -> torch.device:
        """Where the UNet is."""
        return self.null_text.device

    # --- in and out ---------------------------------------------------------------------------------

    def decode_latents(self, latents: Tensor, num_samples: int | None = None, *, seed: int = 0) -> Tensor:
        """Waves [B, num_samples] in [-1, 1] of latents [B, C, H, W]; ``seed`` is of Griffin-Lim's first phases."""
        picture = self.decode_picture(latents)
        with torch.no_grad(), evaluating(self):
            sharp = self.super_resolution
            return self.config.stft.to_wave(picture, num_samples, seed=seed, super_resolution=sharp).clamp(-1, 1)

    # --- conditions ---------------------------------------------------------------------------------

    def conditions(
        self, vectors: Tensor, columns: int, span: tuple[int, int] | None = None, text: Tensor | None = None
    ) -> Conditions:
        """What the networks are told of the video.

        Args:
            vectors: frame vectors [B, T, video_dim] of the whole clip.
            columns: W of the whole clip's latents.
            span: (start, stop) latent columns of a window of it.
            text: text tokens [B, text_tokens, text_width]; left out, the MLP's.

        Returns:
            ``text`` [B, n, width], ``tokens`` [B, K, stack * video_dim], ``hint`` [B, c, H f, W f] and ``on``
            bool [B]: whether there is a video.
        """
        c = self.config
        vectors = vectors.float()
        made = {"text": self.mlp(vectors) if text is None else text}
        made["on"] = torch.ones(len(vectors), dtype=torch.bool, device=vectors.device)
        if c.no_syncronet:
            return made
        image = standardise(vectors)  # over the whole clip, before any window
        start, stop = (0, columns) if span is None else span
        first, last = (round(n * c.column_s * c.video_rate) for n in (start, stop))
        last = max(last, first + 1)
        vectors, image = (extend(x, max(last, x.shape[1]))[:, first:last] for x in (vectors, image))
        made["tokens"] = to_tokens(vectors, c.stack)
        size = (c.rows * c.factor, (stop - start) * c.factor)
        made["hint"] = to_image(image, *size, channels=c.hint_repeat, fold=c.hint_fold)
        return made

    def null(self, conditions: Conditions) -> Conditions:
        """The same names without the video: the null text, and no control."""
        made = {k: torch.zeros_like(v) for k, v in conditions.items()}
        return made | {"text": self.null_text.expand_as(conditions["text"])}

    def denoise(self, noisy: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        """The prediction [N, C, H, W] for noisy latents [N, C, H, W] at timesteps [N] (a ``diffusion.Model``)."""
        rows = conditions["on"].nonzero()[:, 0]
        if self.config.no_syncronet or not len(rows):
            return self.base(noisy, t, conditions["text"], return_dict=False)[0]
        down, middle = self.syncronet(
            noisy[rows], t[rows], conditions["tokens"][rows], conditions["hint"][rows],
            no_cross_attention=self.config.no_cross_attention,
        )  # fmt: skip
        signals = [*down, middle]
        weights = control_weights(self.config.control_weighting, [s.shape[-2] for s in signals])
        signals = [s if w == 1 else s * w for s, w in zip(signals, weights, strict=True)]
        if len(rows) < len(noisy):  # the others get no control
            signals = [s.new_zeros(len(noisy), *s.shape[1:]).index_copy(0, rows, s) for s in signals]
        *down, middle = signals
        return self.base(
            noisy, t, conditions["text"], down_block_additional_residuals=tuple(down),
            mid_block_additional_residual=middle, return_dict=False,
        )[0]  # fmt: skip

    # --- training -----------------------------------------------------------------------------------

    def stage(self, name: str) -> dict[str, nn.Parameter]:
        """Freeze all but what a stage of :data:`STAGES` trains, and return that: its parameters by name.

        Raises:
            UsageError: there is no such stage.
        """
        if name not in STAGES:
            raise UsageError(f"no stage {name!r}; there are {', '.join(STAGES)}")
        self.requires_grad_(False)
        for part in STAGES[name]:
            thing = getattr(self, part)
            if thing is not None:
                thing.requires_grad_(True)
        if name == "syncronet" and not self.config.train_hint:
            self.syncronet.hint_encoder.requires_grad_(False)
        return {k: p for k, p in self.named_parameters() if p.requires_grad}

    def loss_base(
        self, latents: Tensor, text: Tensor, drop: Tensor | None = None, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """The base's loss: diffusion under text alone; no video is in it.

        Args:
            latents: [B, C, H, W].
            text: text tokens [B, text_tokens, text_width], ``system.words(ids)``.
            drop: bool [B]: who gets the null text instead (a tenth, so that the null is trained).
            generator: of timesteps and noise, on the CPU.
        """
        if drop is not None:
            text = torch.where(drop[:, None, None], self.null_text.expand_as(text), text)
        return diffusion_loss(
            lambda noisy, t: self.base(noisy, t, text, return_dict=False)[0], latents, self.config.schedule,
            generator=generator,
        )  # fmt: skip

    def loss_text(self, vectors: Tensor, text: Tensor) -> dict[str, Tensor]:
        """The MLP's loss (supplement G): mean squared error to the text tokens of the narration."""
        return {"loss": (self.mlp(vectors.float()) - text.detach()).square().mean()}

    def loss(
        self, latents: Tensor, vectors: Tensor, drop: Tensor | None = None, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """SyncroNet's loss (equation 2).

        Args:
            latents: [B, C, H, W].
            vectors: frame vectors [B, T, video_dim] of the same seconds.
            drop: bool [B]: who gets the null text beside the video, as ControlNet drops half of its prompts so
                that the control learns to carry what the text says.
            generator: of timesteps and noise, on the CPU.
        """
        conditions = self.conditions(vectors, latents.shape[-1])
        if drop is not None:
            text = conditions["text"]
            conditions["text"] = torch.where(drop[:, None, None], self.null_text.expand_as(text), text)
        return diffusion_loss(
            lambda noisy, t: self.denoise(noisy, t, conditions), latents, self.config.schedule, generator=generator
        )

    # --- generation ---------------------------------------------------------------------------------

    def generate(
        self,
        clip: Clip,
        *,
        seed: int = 0,
        guidance: float | None = None,
        steps: int | None = None,
        start: float = 0.0,
        duration: float | None = None,
        progress: Callable[[int], None] | None = None,
        **switches: object,
    ) -> Sound:
        """A soundtrack exactly as long as the clip (or as the part of it that is named).

        Args:
            clip: any size, frame rate and length from 0.3 s; its own sound is not looked at.
            seed: the same seed gives the same samples on one machine.
            guidance, steps: left out, the preset's.
            start, duration: a part of the clip, seconds.
            progress: called with 1 for each step of the sampler.
            switches: ``fps``, ``control_weighting``, ``no_syncronet``, ``no_cross_attention`` for this once.

        Returns:
            mono, at :attr:`sample_rate`.

        Raises:
            UsageError: under 0.3 s, a part outside of the clip, or settings that cannot be meant.
        """
        return self.generate_batch(
            [clip], seeds=[seed], guidance=guidance, steps=steps, start=start, duration=duration, progress=progress,
            **switches,
        )[0]  # fmt: skip

    def _make(self, clips: list[Clip], samples: int, seeds: Sequence[int], progress: Progress, **options) -> Tensor:
        with self._switched(options):
            vectors = self.encode_videos(clips)
            latents = self.sample_latents(vectors, samples, seeds=seeds, progress=progress, **options)
        return self._decode(latents, samples)

    @torch.no_grad()
    def sample_latents(
        self,
        vectors: Tensor,
        samples: int,
        *,
        seeds: Sequence[int],
        guidance: float | None = None,
        steps: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Tensor:
        """Latents [B, C, H, W] for frame vectors [B, T, video_dim] of a clip of so many samples."""
        c = self.config
        shape = c.latents_shape(samples)
        text = self.mlp(vectors.float())  # of the whole clip

        def conditions(start: int, stop: int) -> tuple[Conditions, Conditions]:
            told = self.conditions(vectors, shape[-1], (start, stop), text)
            return told, self.null(told)

        return sample_long(
            self.denoise, conditions, shape, c.schedule, seeded(seeds), steps=steps, device=self.device,
            guidance=c.guidance if guidance is None else guidance, context=c.context, overlap=c.overlap, align=c.align,
            progress=progress,
        )  # fmt: skip

    # --- weights ------------------------------------------------------------------------------------

    def _stored(self, name: str) -> bool:
        return name.startswith(("syncronet.", "mlp.", "words.", "null_text"))

    def _parts(self) -> dict[str, Any]:
        base = BaseUNet(self.config, self.base)
        return {
            "vision": self.encoder, "autoencoder": self.autoencoder, "base": base,
            "super_resolution": self.super_resolution,
        }  # fmt: skip

    @classmethod
    def _load_parts(cls, where: dict[str, str | Path]) -> dict[str, Any]:
        sharp = where.get("super_resolution")
        return {
            "encoder": load_frame_encoder(where["vision"]),
            "autoencoder": ImageAutoencoder.from_pretrained(where["autoencoder"]),
            "base": BaseUNet.from_pretrained(where["base"]).unet,
            "super_resolution": None if sharp is None else SuperResolution.from_pretrained(sharp),
        }

    @classmethod
    def _read(cls, path: Path, saved: dict[str, Any]) -> EgoSonics:
        system = super()._read(path, saved)
        check_encoder(system.encoder, saved.get("encoder"), path)
        return system

    @classmethod
    def from_published(cls, stable_diffusion: str | Path | None = None, **parts: object) -> EgoSonics:
        """``paper`` on Stable Diffusion 2.1-base and CLIP ViT-L/14 from the Hub; SyncroNet is untrained.

        See :func:`v2a_nb.systems.egosonics.weights.published` for ``clip``, ``hint`` and ``config``.
        """
        from v2a_nb.systems.egosonics.weights import published

        return published(cls, stable_diffusion, **parts)
