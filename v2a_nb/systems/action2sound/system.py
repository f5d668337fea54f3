"""Action2Sound (Chen et al. 2024): a latent diffusion model that is given the room's ambience and need not guess it.

A microphone records the action and the room's ambience. The picture shows the action and says next to nothing about
the ambience, which is most of the sound's duration and of its loss. In training the model gets another moment of the
same recording, a neighbour. It has the same ambience and other actions, so that the model can take the ambience from
it and nothing else, and the video is left with the action (section 3.2). What is given in generation instead, a
retrieved sound, a quiet one, or any other, sets the ambience.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError, count
from v2a_nb.hits import Hits
from v2a_nb.hub import Pretrained
from v2a_nb.models.autoencoder import ImageAutoencoder
from v2a_nb.sampling.diffusion import Conditions, diffusion_loss
from v2a_nb.systems.action2sound.ambient import Ambient, Ambients, ambient_of, fitting
from v2a_nb.systems.action2sound.model import (
    AUTOENCODER_OF,
    PRESETS,
    Action2SoundConfig,
    AudioTokens,
    VideoTokens,
    make_unet,
)
from v2a_nb.systems.base import (
    FOLLOWING,
    SAMPLING,
    Option,
    Progress,
    check_fit,
    evaluating,
    given,
    switched,
)
from v2a_nb.systems.mel_latents import MelLatentSystem

if TYPE_CHECKING:
    from v2a_nb.models.vocoder import GriffinLimVocoder, Vocoder

__all__ = ["PRESETS", "Action2Sound", "Action2SoundConfig"]


class Action2Sound(MelLatentSystem):
    """The whole system.

    Args:
        config: sizes and switches.
        encoder: frames to vectors: has ``rate``, ``dim`` and ``features(clip) -> [T, dim]``; None where only
            vectors are worked on, as in training from features.
        autoencoder: left out, a new one of the config's sizes.
        vocoder: left out, Griffin-Lim, the paper's "w/o vocoder".
        ambients: where sounds come from that are asked for by name; left out, only sounds can be given.
        unet: left out, a new one of diffusers.

    Raises:
        WeightsError: parts that do not fit each other.

    Examples:
        >>> system = Action2Sound.from_pretrained("action2sound")
        >>> both = system.generate(clip, ambient="retrieved", steps=2)
        >>> action = system.generate(clip, ambient="low", steps=2)
        >>> louder = system.generate(clip, ambient=-40.0, steps=2)
    """

    name = kind = default = "action2sound"
    title, config_class = "Action2Sound", Action2SoundConfig
    part_names, optional_parts = ("vision", "autoencoder", "vocoder"), ("retrieval",)
    options: ClassVar[dict[str, Option]] = {
        "guidance": Option("how much the picture counts; 1 is no guidance", float, "G"),
        "steps": Option("steps of the sampler", count, "N"),
        **SAMPLING,
        "ambient": Option(
            "the ambience: low, retrieved, a level like -40dB, or a file with a sound that has it", ambient_of, "A"
        ),
        **FOLLOWING,
    }
    switches = (
        "sampler",
        "spacing",
        "guidance_interval",
        "fps",
        "null",
        "neighbour_latents",
        "padding",
        "clamp_mel",
        "vocoder",
    )

    def __init__(
        self,
        config: Action2SoundConfig,
        encoder: nn.Module | None = None,
        autoencoder: ImageAutoencoder | None = None,
        vocoder: Vocoder | GriffinLimVocoder | None = None,
        ambients: Ambients | None = None,
        unet: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.config = c = config
        autoencoder = autoencoder or ImageAutoencoder(AUTOENCODER_OF[c.picture])
        vocoder, front = vocoder or self._griffin_lim(), c.stft.front_end
        parts = {
            "channels of the latents": (autoencoder.config.latent_channels, c.latent_channels),
            "pixels in a latent": (autoencoder.factor, c.factor),
            "channels of the picture": (autoencoder.config.channels, c.stft.channels),
            "mels": (vocoder.spectrogram.bands, c.stft.height),
            "samples in a frame": (vocoder.hop, front.hop),
            "Hz": (vocoder.sample_rate, front.sample_rate),
        }
        if encoder is not None:
            parts["numbers in a frame vector"] = (encoder.dim, c.video_dim)
            parts["frame vectors a second"] = (float(encoder.rate), float(c.video_rate))
        check_fit(parts, "Action2Sound")
        self.encoder, self.autoencoder, self.vocoder, self.ambients = encoder, autoencoder, vocoder, ambients
        self.unet = make_unet(c) if unet is None else unet
        self.video_tokens = VideoTokens(c)
        self.audio_tokens = AudioTokens(c) if c.neighbour else None

    @property
    def device(self) -> torch.device:
        """Device of the UNet."""
        return self.video_tokens.embed.weight.device

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
        ambient: Ambient = None,
        hits: Hits | Sequence[Any] | str | Path | None = None,
        sensitivity: float | str | None = None,
        start: float = 0.0,
        duration: float | None = None,
        progress: Progress = None,
        vocoder: Vocoder | GriffinLimVocoder | str | None = None,
        **switches: object,
    ) -> Sound | list[Sound]:
        """A soundtrack exactly as long as the clip (or as the part of it that is named).

        Args:
            clip: any size, frame rate and length from 0.3 s; its own sound is not used. Or clips of one length.
            seed: the same seed gives the same samples on one machine. For several clips, one each.
            guidance, steps: left out, the preset's.
            sampler: such as ``"ddim"`` or ``"dpm++"``, see :class:`~v2a_nb.sampling.diffusion.NoiseSchedule`.
            guidance_interval: from which share of the noise to which there is guidance, such as ``(0.2, 0.9)``.
            ambient: which ambience it gets (sections 3.3 and 3.4): ``"retrieved"``, that of the sound that fits
                the clip best (the default; action-ambient); ``"low"``, that of the quietest one (action-focused); a
                level in dBFS, the retrieved one at that level; a Sound or a path to one, such as a neighbour. For
                several clips also a list, one Sound each.
            hits: exactly these sound: :class:`~v2a_nb.hits.Hits`, times in seconds or a file; for several clips a list
                of them, one each. Left out, what the system expects.
            sensitivity: which of its own hits are followed: 0, only sure ones, to 1, every doubt; ``"auto"``, what
                suits the clip (:attr:`v2a_nb.hits.Hits.fitting_sensitivity`). Left out, each is weighed by its
                probability.
            start, duration: a part of the clip, seconds.
            progress: called with 1 for each step of the sampler.
            vocoder: another one, or ``"griffin-lim"``.
            switches: ``spacing``, ``fps``,
                ``null``, ``neighbour_latents``, ``padding`` and ``clamp_mel`` for this once.

        Returns:
            a sound, mono, at :attr:`sample_rate`; a list of them for several clips.

        Raises:
            UsageError: under 0.3 s, a part or hits outside of the clip, or settings out of range.
            MediaError: ``ambient`` is a path that cannot be read.
        """
        clips, seeds, samples = self._batch(clip, seed, start, duration)
        if isinstance(vocoder, str) and vocoder != "griffin-lim":
            raise UsageError(f'vocoder {vocoder!r} is not known: give a vocoder, or "griffin-lim"')
        if ambient is not None and not self.config.neighbour:
            raise UsageError("this Action2Sound was made without a condition: it knows no ambient")
        switches |= given(sampler=sampler, guidance_interval=guidance_interval)
        with switched(self, switches), evaluating(self):
            followed = self._hits(clip, hits, sensitivity, start, duration)
            # 1. Encode the video, a vector for each frame, perhaps with given hits, and the sound that has the ambience
            neighbour = None
            if self.config.neighbour:
                sounds = (self.ambients or Ambients()).sounds(ambient, clips)
                neighbour = self.encode_neighbour(sounds, seeds)  # [B, C, H, context]
            vectors = self.encode_videos(clips, followed)  # [B, T, video_dim]

            # 2. Make the condition: video tokens, 16 a window, and the neighbour's audio tokens, 24
            conditions = self.window_conditions(vectors, neighbour)

            # 3. Sample latents: DPM-Solver++ takes the noise away, guided, in all windows at once
            how = {"guidance": guidance, "steps": steps, "progress": progress}
            latents = self.sample_latents(conditions, samples, seeds=seeds, **how)  # [B, C, H, W]

            # 4. Decode: the autoencoder makes a mel spectrogram of the latents, HiFi-GAN a sound of the spectrogram
            waves = self.decode_latents(latents, samples, self._griffin_lim() if isinstance(vocoder, str) else vocoder)

        # 5. Fit to the clip
        return self._sounds(waves, samples, clip, followed)

    def options_of_next_block(self, clip: Clip, options: dict[str, Any]) -> dict[str, Any]:
        """The first block's ambience for all: a retrieved one could change in the middle of a long video."""
        if not self.config.neighbour:
            return options
        return {**options, "ambient": (self.ambients or Ambients()).sounds(options.get("ambient"), [clip])[0]}

    def _fill(self, num_samples: int) -> int | None:
        """The released code fills 188 columns of mel up to 196."""
        return self.config.stft.columns(num_samples) + 4 if self.config.padding == "mel" else None

    def encode_neighbour(self, sounds: Sequence[Sound], seeds: Sequence[int] | None = None) -> Tensor:
        """Latents [B, C, H, context] of the sounds that the system is conditioned on, one for each clip.

        Each is made as long as a window: a shorter one is looped, of a longer one the quietest part is taken
        (:func:`~v2a_nb.systems.action2sound.ambient.fitting`).

        Args:
            seeds: of the samples, where ``config.neighbour_latents`` is ``"drawn"``.
        """
        samples = round(self.config.neighbour_s * self.sample_rate)
        waves = [torch.from_numpy(fitting(s, samples, self.sample_rate).samples[0].copy()) for s in sounds]
        if self.config.neighbour_latents == "mean":
            return self.encode_sound(torch.stack(waves))
        return self.encode_sound(torch.stack(waves), seeds=range(len(waves)) if seeds is None else seeds)

    def context(
        self,
        vectors: Tensor,
        neighbour: Tensor | None = None,
        start_s: float | Tensor = 0.0,
        drop: Tensor | None = None,
    ) -> Tensor:
        """What the UNet attends to: [B, 16 + 24, width], video tokens first.

        Args:
            vectors: frame vectors [B, T, video_dim] of the whole clip.
            neighbour: latents [B, C, H, 24]; needed where the configuration has a neighbour, and only there.
            start_s: where in the clip the window begins, see :class:`VideoTokens`.
            drop: bool [B]: clips whose vectors become zeros, which is training's null; the neighbour stays.

        Raises:
            UsageError: a neighbour that is missing, or that the system was not made for.
        """
        if (neighbour is None) == self.config.neighbour:
            raise UsageError(
                "this Action2Sound needs a neighbour's latents" if neighbour is None
                else "this Action2Sound was made without a condition: it cannot be given a neighbour"
            )  # fmt: skip
        vectors = vectors.float()
        if drop is not None:
            vectors = vectors.masked_fill(drop[:, None, None], 0.0)
        tokens = self.video_tokens(vectors, start_s)
        if neighbour is None:
            return tokens
        return torch.cat([tokens, self.audio_tokens(neighbour)], dim=1)

    def null(self, vectors: Tensor, neighbour: Tensor | None, start_s: float = 0.0) -> Tensor:
        """The context of guidance's other half: the same neighbour and no video.

        With ``config.null`` "zero" all of it is zeros, as released, which training never had.
        """
        context = self.context(vectors, neighbour, start_s, drop=vectors.new_ones(len(vectors), dtype=torch.bool))
        return torch.zeros_like(context) if self.config.null == "zero" else context

    def window_conditions(
        self, vectors: Tensor, neighbour: Tensor | None = None
    ) -> Callable[[int, int], tuple[Conditions, Conditions]]:
        """From a window of latents, ``(start, stop)`` columns, to its conditions and their null.

        Args:
            vectors: frame vectors [B, T, video_dim] of the whole clip.
            neighbour: as for :meth:`context`.
        """

        def of_window(start: int, stop: int) -> tuple[Conditions, Conditions]:
            at = start * self.config.column_s
            context, null = self.context(vectors, neighbour, at), self.null(vectors, neighbour, at)
            return {"context": context}, {"context": null}

        return of_window

    def denoise(self, noisy: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        """The prediction [N, C, H, W] for noisy latents [N, C, H, W] at timesteps [N] (a ``diffusion.Model``)."""
        return self.unet(noisy, t, conditions["context"], return_dict=False)[0]

    # --- training -----------------------------------------------------------------------------------

    def trained(self) -> dict[str, nn.Parameter]:
        """Freeze what training leaves alone, and return the rest by name.

        The autoencoder, the vocoder and the encoder are frozen; with ``train_audio_projection`` False also the
        audio tokens, which the released optimizer does not get.
        """
        self.requires_grad_(False)
        parts = [self.unet, self.video_tokens]
        if self.audio_tokens is not None and self.config.train_audio_projection:
            parts.append(self.audio_tokens)
        for part in parts:
            part.requires_grad_(True)
        return {k: p for k, p in self.named_parameters() if p.requires_grad}

    def loss(
        self,
        latents: Tensor,
        vectors: Tensor,
        neighbour: Tensor | None = None,
        start_s: float | Tensor = 0.0,
        drop: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """The diffusion loss (section 3.2): mean squared error of the predicted noise, or of v.

        Args:
            latents: [B, C, H, 24].
            vectors: frame vectors [B, T, video_dim]; the latents' window begins at ``start_s`` of them.
            neighbour: latents [B, C, H, 24] of another moment of the same recording.
            drop: bool [B]: which clips get no video (a fifth, as released).
            generator: of timesteps and noise, on the CPU.
        """
        condition = {"context": self.context(vectors, neighbour, start_s, drop)}
        return diffusion_loss(
            lambda noisy, t: self.denoise(noisy, t, condition), latents, self.config.schedule, generator=generator
        )

    # --- weights ------------------------------------------------------------------------------------

    def _stored(self, name: str) -> bool:
        return name.startswith(("unet.", "video_tokens.", "audio_tokens."))

    def _parts(self) -> dict[str, Any]:
        vocoder = self.vocoder if isinstance(self.vocoder, Pretrained) else "griffin-lim"
        # a pool is only ever referred to
        return {"vision": self.encoder, "autoencoder": self.autoencoder, "vocoder": vocoder, "retrieval": None}

    @classmethod
    def _load_parts(cls, where: dict[str, str | Path]) -> dict[str, Any]:
        from v2a_nb.models.video_encoders.registry import load_video_encoder
        from v2a_nb.systems.retrieval.system import Retrieval

        pool = where.get("retrieval")  # opened when a sound of it is asked for
        return {
            "encoder": load_video_encoder(where["vision"]),
            "autoencoder": ImageAutoencoder.from_pretrained(where["autoencoder"]),
            "vocoder": where["vocoder"],
            "ambients": Ambients(None if pool is None else partial(Retrieval.from_pretrained, pool)),
        }

    @classmethod
    def _build(cls, config: Action2SoundConfig, **parts: Any) -> Action2Sound:
        from v2a_nb.models.vocoder import load_vocoder

        vocoder = load_vocoder(parts.pop("vocoder"), front_end=config.stft.front_end.name)
        return cls(config, vocoder=vocoder, unet=make_unet(config, lean=True), **parts)

    @classmethod
    def _read(cls, path: Path, saved: dict[str, Any]) -> Action2Sound:
        from v2a_nb.models.video_encoders.clip_frames import check_encoder

        system = super()._read(path, saved)
        check_encoder(system.encoder, saved.get("encoder"), path)
        return system
