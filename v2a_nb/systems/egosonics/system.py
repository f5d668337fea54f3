"""EgoSonics (Rai and Sridhar 2024): video steers a frozen spectrogram diffusion model through SyncroNet.

The null of guidance is the frozen UNet alone, with the null text: that is what it was trained as. So every weighting of
the control, also the published one, has a trained null.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError, count
from v2a_nb.hits import Hits
from v2a_nb.models.autoencoder import ImageAutoencoder
from v2a_nb.sampling.diffusion import Conditions, decode_long, diffusion_loss, sample_long
from v2a_nb.systems.base import (
    FOLLOWING,
    SAMPLING,
    Option,
    Progress,
    System,
    check_fit,
    evaluating,
    given,
    seeded,
    switched,
)
from v2a_nb.systems.egosonics.model import (
    AUTOENCODER_OF,
    PRESETS,
    BaseUNet,
    EgoSonicsConfig,
    SuperResolution,
    SyncroNet,
    VideoToText,
    WordTokens,
    control_weights,
    extend,
    frame_image,
    make_unet,
    stack_tokens,
    standardise,
)

__all__ = ["PRESETS", "STAGES", "EgoSonics", "EgoSonicsConfig"]

STAGES = {
    "autoencoder": ("autoencoder",),
    "base": ("base", "words", "null_text"),
    "text": ("mlp",),
    "syncronet": ("syncronet",),
}
"""Stages of training, in this order -> what is trained; all else is frozen meanwhile (section 3.4)."""


class EgoSonics(System):
    """The whole system.

    Args:
        config: sizes and switches.
        encoder: frames to vectors: has ``rate``, ``dim`` and ``features(clip) -> [T, dim]``; None where only
            vectors are worked on, as in training from features.
        autoencoder: left out, a new one of the config's sizes.
        base: a ``UNet2DConditionModel``; left out, a new one. SyncroNet starts as a copy of it.
        super_resolution: a :class:`~v2a_nb.systems.egosonics.model.SuperResolution`, where the picture is resized.

    Raises:
        WeightsError: parts that do not fit each other.

    Examples:
        >>> egosonics = EgoSonics.from_pretrained("egosonics")
        >>> egosonics.generate(clip, seed=0, steps=2).n == round(clip.duration * 16000)
        True
    """

    name = kind = default = "egosonics"
    title, config_class = "EgoSonics", EgoSonicsConfig
    part_names, optional_parts = ("vision", "autoencoder", "base"), ("super_resolution",)
    options: ClassVar[dict[str, Option]] = {
        "guidance": Option("how much the picture counts; 1 is no guidance", float, "G"),
        "steps": Option("steps of the sampler", count, "N"),
        **SAMPLING,
        **FOLLOWING,
    }
    switches = (
        "sampler",
        "spacing",
        "guidance_interval",
        "fps",
        "control_weighting",
        "no_syncronet",
        "no_cross_attention",
    )
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
        parts = {
            "channels of the latents": (autoencoder.config.latent_channels, c.latent_channels),
            "pixels in a latent": (autoencoder.factor, c.factor),
            "channels of the picture": (autoencoder.config.channels, c.stft.channels),
        }
        if encoder is not None:
            parts["numbers in a frame vector"] = (encoder.dim, c.video_dim)
            parts["frame vectors a second"] = (float(encoder.rate), float(c.video_rate))
        if base is not None:
            parts["numbers in a text token"] = (base.config.cross_attention_dim, c.text_width)
            parts["channels of the UNet's input"] = (base.config.in_channels, c.latent_channels)
        check_fit(parts, "EgoSonics")
        self.encoder, self.autoencoder, self.super_resolution = encoder, autoencoder, super_resolution
        self.base = make_unet(c) if base is None else base
        self.mlp = VideoToText(c.video_dim, c.mlp_hidden, c.text_tokens, c.text_width)
        self.words = WordTokens(c.text_tokens, c.text_width) if c.words else None
        self.null_text = nn.Parameter(0.02 * torch.randn(c.text_tokens, c.text_width))
        self.syncronet = self._copy()

    def _copy(self) -> SyncroNet:
        c = self.config
        bias = {"rows": c.rows, "column_s": c.column_s, "token_s": c.token_s, "row_values": c.row_values}
        return SyncroNet(
            self.base, c.stack * c.video_dim, hint_channels=c.hint_repeat * c.hint_fold, hint_widths=c.hint_widths,
            warm_hint=c.warm_hint, time_bias=bias if c.time_bias else None,
        )  # fmt: skip

    def start_syncronet(self) -> None:
        """Make SyncroNet a fresh copy of the base as it is now: to be called when the base is trained."""
        self.syncronet = self._copy().to(self.device)

    @property
    def sample_rate(self) -> int:
        """Sample rate of the generated sounds, Hz."""
        return self.config.stft.sample_rate

    @property
    def device(self) -> torch.device:
        """Device of the UNet."""
        return self.null_text.device

    # --- generation ---------------------------------------------------------------------------------

    @torch.no_grad()
    def generate(
        self,
        clip: Clip | Sequence[Clip],
        *,
        seed: int | Sequence[int] = 0,
        guidance: float | None = None,
        steps: int | None = None,
        sampler: str | None = None,
        guidance_interval: Sequence[float] | None = None,
        hits: Hits | Sequence[Any] | str | Path | None = None,
        sensitivity: float | str | None = None,
        start: float = 0.0,
        duration: float | None = None,
        progress: Progress = None,
        **switches: object,
    ) -> Sound | list[Sound]:
        """A soundtrack exactly as long as the clip (or as the part of it that is named).

        Args:
            clip: any size, frame rate and length from 0.3 s; its own sound is not used. Or clips of one length.
            seed: the same seed gives the same samples on one machine. For several clips, one each.
            guidance, steps: left out, the preset's.
            sampler: such as ``"ddim"`` or ``"dpm++"``, see :class:`~v2a_nb.sampling.diffusion.NoiseSchedule`.
            guidance_interval: from which share of the noise to which there is guidance, such as ``(0.2, 0.9)``.
            hits: exactly these sound: :class:`~v2a_nb.hits.Hits`, times in seconds or a file; for several clips a list
                of them, one each. Left out, what the system expects.
            sensitivity: which of its own hits are followed: 0, only sure ones, to 1, every doubt; ``"auto"``, what
                suits the clip (:attr:`v2a_nb.hits.Hits.fitting_sensitivity`). Left out, each is weighed by its
                probability.
            start, duration: a part of the clip, seconds.
            progress: called with 1 for each step of the sampler.
            switches: ``spacing``, ``fps``,
                ``control_weighting``, ``no_syncronet``, ``no_cross_attention`` for this once.

        Returns:
            a sound, mono, at :attr:`sample_rate`; a list of them for several clips.

        Raises:
            UsageError: under 0.3 s, a part or hits outside of the clip, or settings out of range.
        """
        clips, seeds, samples = self._batch(clip, seed, start, duration)
        switches |= given(sampler=sampler, guidance_interval=guidance_interval)
        with switched(self, switches), evaluating(self):
            followed = self._hits(clip, hits, sensitivity, start, duration)
            # 1. Encode the video: a vector for each frame; they follow hits that were given
            vectors = self.encode_videos(clips, followed)  # [B, T, video_dim]

            # 2. Make the condition: text tokens for the UNet, frame image and video tokens for SyncroNet
            conditions = self.window_conditions(vectors, samples)

            # 3. Sample latents: DPM-Solver++ (the paper: DDIM) takes the noise away, guided, in all windows at once
            how = {"guidance": guidance, "steps": steps, "progress": progress}
            latents = self.sample_latents(conditions, samples, seeds=seeds, **how)  # [B, C, H, W]

            # 4. Decode: the autoencoder makes a picture of the latents, Griffin-Lim a sound of the picture
            waves = self.decode_latents(latents, samples)  # [B, samples]

        # 5. Fit to the clip
        return self._sounds(waves, samples, clip, followed)

    def conditions(
        self, vectors: Tensor, columns: int, span: tuple[int, int] | None = None, text: Tensor | None = None
    ) -> Conditions:
        """What :meth:`denoise` is conditioned on.

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
        condition = {"text": self.mlp(vectors) if text is None else text}
        condition["on"] = torch.ones(len(vectors), dtype=torch.bool, device=vectors.device)
        if c.no_syncronet:
            return condition
        image = standardise(vectors)  # over the whole clip, before any window
        start, stop = (0, columns) if span is None else span
        first, last = (round(n * c.column_s * c.video_rate) for n in (start, stop))
        last = max(last, first + 1)
        vectors, image = (extend(x, max(last, x.shape[1]))[:, first:last] for x in (vectors, image))
        condition["tokens"] = stack_tokens(vectors, c.stack)
        size = (c.rows * c.factor, (stop - start) * c.factor)
        condition["hint"] = frame_image(image, *size, channels=c.hint_repeat, fold=c.hint_fold)
        return condition

    def null(self, conditions: Conditions) -> Conditions:
        """The same names without the video: the null text, and no control."""
        zeros = {k: torch.zeros_like(v) for k, v in conditions.items()}
        return zeros | {"text": self.null_text.expand_as(conditions["text"])}

    @torch.no_grad()
    def window_conditions(self, vectors: Tensor, samples: int) -> Callable[[int, int], tuple[Conditions, Conditions]]:
        """From a window of latents, ``(start, stop)`` columns, to its conditions and their null.

        Args:
            vectors: frame vectors [B, T, video_dim] of the whole clip.
            samples: of the clip's sound.
        """
        columns = self.config.latents_shape(samples)[-1]
        text = self.mlp(vectors.float())  # of the whole clip

        def of_window(start: int, stop: int) -> tuple[Conditions, Conditions]:
            condition = self.conditions(vectors, columns, (start, stop), text)
            if "hint" in condition:  # encoded once, and not at every step
                condition["hint"] = self.syncronet.hint_encoder(condition["hint"])
            return condition, self.null(condition)

        return of_window

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

    @torch.no_grad()
    def sample_latents(
        self,
        conditions: Callable[[int, int], tuple[Conditions, Conditions]],
        samples: int,
        *,
        seeds: Sequence[int],
        guidance: float | None = None,
        steps: int | None = None,
        progress: Progress = None,
    ) -> Tensor:
        """Latents [B, C, H, W] of sounds of so many samples, under :meth:`window_conditions`."""
        c = self.config
        return sample_long(
            self.denoise, conditions, c.latents_shape(samples), c.schedule, seeded(seeds), steps=steps,
            guidance=c.guidance if guidance is None else guidance, context=c.context, overlap=c.overlap, align=c.align,
            device=self.device, progress=progress, interval=c.guidance_interval, together=self.device.type != "cpu",
        )  # fmt: skip

    def decode_picture(self, latents: Tensor) -> Tensor:
        """The picture [B, c, H f, W f] of latents, decoded in windows as wide as training had, cross-faded."""
        c = self.config
        with torch.no_grad(), evaluating(self):
            decode = self.autoencoder.decode
            return decode_long(decode, latents, c.stft.channels, c.factor, c.context, c.overlap, c.align)

    def decode_latents(self, latents: Tensor, num_samples: int | None = None, *, seed: int = 0) -> Tensor:
        """Waves [B, num_samples] in [-1, 1] of latents [B, C, H, W]; ``seed`` is of Griffin-Lim's first phases."""
        picture, sharp = self.decode_picture(latents), self.super_resolution
        with torch.no_grad(), evaluating(self):
            return self.config.stft.to_wave(picture, num_samples, seed=seed, super_resolution=sharp).clamp(-1, 1)

    def encode_sound(self, sound: Sound | Tensor) -> Tensor:
        """Latents [B, C, H, W] of a sound, or of waves [B, n] at the system's rate."""
        picture = self.config.stft.to_image(sound).to(self.device)
        with torch.no_grad(), evaluating(self):
            return self.autoencoder.encode(picture)

    def round_trip(self, sound: Sound) -> Sound:
        """A sound after autoencoder and Griffin-Lim alone, as long as before: the best that this system could give."""
        waves = self.decode_latents(self.encode_sound(sound), round(sound.duration * self.sample_rate))
        return Sound(waves[0].cpu().numpy(), self.sample_rate)

    def _steps(self, samples: int, *, steps: int | None = None, **options: object) -> int:
        return self.config.sampler_steps if steps is None else steps

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
            trained = getattr(self, part)
            if trained is not None:
                trained.requires_grad_(True)
        if name == "syncronet" and not self.config.train_hint:
            self.syncronet.hint_encoder.requires_grad_(False)
        return {k: p for k, p in self.named_parameters() if p.requires_grad}

    def loss_base(
        self, latents: Tensor, text: Tensor, drop: Tensor | None = None, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """The base's loss: diffusion under text alone, without any video.

        Args:
            latents: [B, C, H, W].
            text: text tokens [B, text_tokens, text_width], ``system.words(ids)``.
            drop: bool [B]: which clips get the null text instead (a tenth, so that the null is trained).
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
            drop: bool [B]: which clips get the null text beside the video, as ControlNet drops half of its prompts so
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

    # --- weights ------------------------------------------------------------------------------------

    def _stored(self, name: str) -> bool:
        return name.startswith(("syncronet.", "mlp.", "words.", "null_text"))

    def _parts(self) -> dict[str, Any]:
        return {
            "vision": self.encoder, "autoencoder": self.autoencoder, "base": BaseUNet(self.config, self.base),
            "super_resolution": self.super_resolution,
        }  # fmt: skip

    @classmethod
    def _load_parts(cls, where: dict[str, str | Path]) -> dict[str, Any]:
        from v2a_nb.models.video_encoders.registry import load_video_encoder

        sharp = where.get("super_resolution")
        return {
            "encoder": load_video_encoder(where["vision"]),
            "autoencoder": ImageAutoencoder.from_pretrained(where["autoencoder"]),
            "base": BaseUNet.from_pretrained(where["base"]).unet,
            "super_resolution": None if sharp is None else SuperResolution.from_pretrained(sharp),
        }

    @classmethod
    def _read(cls, path: Path, saved: dict[str, Any]) -> EgoSonics:
        from v2a_nb.models.video_encoders.clip_frames import check_encoder

        system = super()._read(path, saved)
        check_encoder(system.encoder, saved.get("encoder"), path)
        return system
