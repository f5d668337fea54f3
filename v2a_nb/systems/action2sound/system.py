"""Action2Sound (Chen et al. 2024): a latent diffusion model that is told how the place sounds and need not guess.

What a microphone records is the action and the room's ambience. The picture shows the action and says next to
nothing about the ambience, which is most of the sound's duration and of its loss. In training the model is given
another moment of the same recording, a neighbour: it has this ambience and other actions, so that all the model can
take from it is the ambience, and what is left for the video is the action (section 3.2). What is given instead in
generation, a retrieved sound, a quiet one, or any other, sets the ambience.

A clip becomes 16 video tokens a window, the neighbour's latents 24 audio tokens; both are the UNet's context.
DPM-Solver++ takes the noise away, the autoencoder makes a mel picture of the latents, HiFi-GAN a sound of that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError
from v2a_nb.models.autoencoder import ImageAutoencoder
from v2a_nb.models.video_encoders.clip_frames import check_encoder, load_frame_encoder
from v2a_nb.models.vocoder import GriffinLimVocoder, Vocoder, load_vocoder
from v2a_nb.sampling.diffusion import Conditions, diffusion_loss, sample_long
from v2a_nb.systems.action2sound.ambient import Ambient, Ambients, fitting
from v2a_nb.systems.action2sound.model import AUTOENCODER_OF, PRESETS, Action2SoundConfig, make_unet
from v2a_nb.systems.base import Progress, check_fit, evaluating, seeded
from v2a_nb.systems.latent_base import LatentSystem

__all__ = ["PRESETS", "Action2Sound", "Action2SoundConfig"]


class VideoTokens(nn.Module):
    """Frame vectors to the UNet's video tokens: a linear map and learned positions (released ``VideoFeatEncoder``).

    Args:
        c: sizes.

    Examples:
        >>> tokens = VideoTokens(PRESETS["tiny"])
        >>> tokens(torch.zeros(2, 150, 384)).shape
        torch.Size([2, 16, 128])
    """

    def __init__(self, c: Action2SoundConfig) -> None:
        super().__init__()
        self.count, self.stack, self.rate, self.token_s = c.video_tokens, c.stack, c.video_rate, c.token_s
        each = c.squeeze or c.video_dim
        self.squeeze = None if c.squeeze is None else nn.Linear(c.video_dim, c.squeeze)
        self.embed = nn.Linear(c.stack * each, c.context_width)
        self.position = nn.Embedding(c.video_tokens, c.context_width)

    def forward(self, vectors: Tensor, start_s: float | Tensor = 0.0) -> Tensor:
        """Tokens [B, count, width] of the window that begins at ``start_s`` of vectors [B, T, dim].

        Each token reads ``stack`` vectors spread evenly over its time, between two by a straight line. Where there
        is no video any more, the last vector stays.

        Args:
            vectors: of the whole clip.
            start_s: one for all, or [B].
        """
        b, t, _ = vectors.shape
        start = torch.as_tensor(start_s, dtype=torch.float32, device=vectors.device).expand(b)
        inside = (torch.arange(self.count * self.stack, device=vectors.device) + 0.5) * (self.token_s / self.stack)
        where = ((start[:, None] + inside) * self.rate - 0.5).clamp(0, t - 1)  # [B, count * stack]
        low = where.floor().long().clamp(max=max(0, t - 2))
        high = (low + 1).clamp(max=t - 1)
        share = (where - low).clamp(0, 1)[..., None].to(vectors)
        rows = torch.arange(b, device=vectors.device)[:, None]
        picked = vectors[rows, low] * (1 - share) + vectors[rows, high] * share
        if self.squeeze is not None:
            picked = self.squeeze(picked)
        return self.embed(picked.reshape(b, self.count, -1)) + self.position.weight


class AudioTokens(nn.Module):
    """A neighbour's latents to the UNet's audio tokens, one for each column (released ``AudioFeatEncoder``).

    Args:
        c: sizes.

    Examples:
        >>> AudioTokens(PRESETS["tiny"])(torch.zeros(2, 16, 16, 24)).shape
        torch.Size([2, 24, 128])
    """

    def __init__(self, c: Action2SoundConfig) -> None:
        super().__init__()
        wide = c.latent_channels * c.rows
        self.project = nn.Sequential(
            nn.Linear(wide, c.audio_hidden), nn.GELU(), nn.Linear(c.audio_hidden, c.context_width)
        )
        self.position = nn.Embedding(c.context, c.context_width)

    def forward(self, latents: Tensor) -> Tensor:
        """Tokens [B, W, width] of latents [B, C, H, W], W up to a window."""
        columns = latents.flatten(1, 2).transpose(1, 2)  # [B, W, C * H]
        return self.project(columns) + self.position.weight[: columns.shape[1]]


class Action2Sound(LatentSystem):
    """The whole system.

    Args:
        config: sizes and switches.
        encoder: frames to vectors: has ``rate``, ``dim`` and ``features(clip) -> [T, dim]``; None where only
            vectors are worked on, as in training from a cache.
        autoencoder: left out, a new one of the config's sizes.
        vocoder: left out, Griffin-Lim, the paper's "w/o vocoder".
        ambients: where conditions come from that are asked for by name; left out, only sounds can be given.

    Raises:
        WeightsError: parts that do not fit each other.

    Examples:
        >>> system = Action2Sound.from_pretrained("action2sound")                  # doctest: +SKIP
        >>> both = system.generate(clip, ambient="retrieved")                      # doctest: +SKIP
        >>> action = system.generate(clip, ambient="low")                          # doctest: +SKIP
        >>> louder = system.generate(clip, ambient=-40.0)                          # doctest: +SKIP
    """

    name = kind = default = "action2sound"
    title, config_class = "Action2Sound", Action2SoundConfig
    part_names, optional_parts = ("vision", "autoencoder", "vocoder"), ("retrieval",)
    options = ("guidance", "steps", "ambient")
    switches = ("fps", "null", "neighbour_latents", "vocoder")
    round_trip_of = "autoencoder and vocoder"

    def __init__(
        self,
        config: Action2SoundConfig,
        encoder: nn.Module | None = None,
        autoencoder: ImageAutoencoder | None = None,
        vocoder: Vocoder | GriffinLimVocoder | None = None,
        ambients: Ambients | None = None,
    ) -> None:
        super().__init__()
        self.config = c = config
        if autoencoder is None:
            autoencoder = ImageAutoencoder(AUTOENCODER_OF[c.picture])
        vocoder = vocoder or GriffinLimVocoder(c.stft.front_end.name)
        front = c.stft.front_end
        wanted = {
            "channels of the latents": (autoencoder.config.latent_channels, c.latent_channels),
            "pixels in a latent": (autoencoder.factor, c.factor),
            "channels of the picture": (autoencoder.config.channels, c.stft.channels),
            "mels": (vocoder.spectrogram.bands, c.stft.height),
            "samples in a frame": (vocoder.hop, front.hop),
            "Hz": (vocoder.sample_rate, front.sample_rate),
        }
        if encoder is not None:
            wanted["numbers in a frame vector"] = (encoder.dim, c.video_dim)
            wanted["frame vectors a second"] = (float(encoder.rate), float(c.video_rate))
        check_fit(wanted, "Action2Sound")
        self.encoder, self.autoencoder, self.vocoder, self.ambients = encoder, autoencoder, vocoder, ambients
        self.unet = make_unet(c)
        self.video_tokens = VideoTokens(c)
        self.audio_tokens = AudioTokens(c) if c.neighbour else None

    @property
    def device(self) -> torch.device:
        """Where the UNet is."""
        return self.video_tokens.embed.weight.device

    # --- in and out ---------------------------------------------------------------------------------

    def encode_neighbour(self, sounds: Sequence[Sound], seeds: Sequence[int] | None = None) -> Tensor:
        """Latents [B, C, H, context] of the sounds that the system is conditioned on, one for each clip.

        Each is made as long as a window: a shorter one passes into its own beginning, of a longer one the quietest
        part is taken (:func:`~v2a_nb.systems.action2sound.ambient.fitting`).

        Args:
            seeds: of the draw, where ``config.neighbour_latents`` is ``"drawn"``.
        """
        c = self.config
        samples = round(c.window_s * self.sample_rate)
        waves = [torch.from_numpy(fitting(s, samples, self.sample_rate).samples[0].copy()) for s in sounds]
        picture = c.stft.to_image(torch.stack(waves)).to(self.device)
        with torch.no_grad(), evaluating(self):
            if c.neighbour_latents == "mean":
                return self.autoencoder.encode(picture)
            made = seeded(range(len(waves)) if seeds is None else seeds)
            parts = [self.autoencoder.encode(p[None], draw=True, generator=g) for p, g in zip(picture, made)]
            return torch.cat(parts)

    def decode_spectrogram(self, latents: Tensor) -> Tensor:
        """The scaled mel spectrogram [B, F, T] of latents [B, C, H, W]."""
        return self.config.stft.to_spectrogram(self.decode_picture(latents))

    def decode_latents(
        self, latents: Tensor, num_samples: int | None = None, vocoder: Vocoder | GriffinLimVocoder | None = None
    ) -> Tensor:
        """Waves [B, num_samples] in [-1, 1] of latents [B, C, H, W]."""
        with evaluating(self):
            return (vocoder or self.vocoder).decode(self.decode_spectrogram(latents), num_samples).clamp(-1, 1)

    # --- conditions ---------------------------------------------------------------------------------

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
            drop: bool [B]: whose vectors are zeros, which is what training's null is; the neighbour stays.

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

        With ``config.null`` "zero" all of it is zeros, as released: that, training never showed.
        """
        nobody = torch.ones(len(vectors), dtype=torch.bool, device=vectors.device)
        made = self.context(vectors, neighbour, start_s, drop=nobody)
        return torch.zeros_like(made) if self.config.null == "zero" else made

    def denoise(self, noisy: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        """The prediction [N, C, H, W] for noisy latents [N, C, H, W] at timesteps [N] (a ``diffusion.Model``)."""
        return self.unet(noisy, t, conditions["context"], return_dict=False)[0]

    # --- training -----------------------------------------------------------------------------------

    def trained(self) -> dict[str, nn.Parameter]:
        """Freeze what training leaves alone, and return the rest by name.

        The autoencoder, the vocoder and the encoder are frozen; with ``train_audio_projection`` False also the
        audio tokens, which the released optimizer does not know.
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
            drop: bool [B]: who gets no video (a fifth, as released).
            generator: of timesteps and noise, on the CPU.
        """
        told = {"context": self.context(vectors, neighbour, start_s, drop)}
        return diffusion_loss(
            lambda noisy, t: self.denoise(noisy, t, told), latents, self.config.schedule, generator=generator
        )

    # --- generation ---------------------------------------------------------------------------------

    def generate(
        self,
        clip: Clip,
        *,
        seed: int = 0,
        guidance: float | None = None,
        steps: int | None = None,
        ambient: Ambient = None,
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
            ambient: what ambience it shall have (sections 3.3 and 3.4): ``"retrieved"``, that of the sound that fits
                the clip best (the default; action-ambient); ``"low"``, that of the quietest one (action-focused); a
                level in dBFS, the retrieved one at that level; a Sound or a path to one, such as a neighbour.
            start, duration: a part of the clip, seconds.
            progress: called with 1 for each step of the sampler.
            switches: ``fps``, ``null``, ``neighbour_latents`` and ``vocoder`` (a vocoder, or ``"griffin-lim"``) for
                this once.

        Returns:
            mono, at :attr:`sample_rate`.

        Raises:
            UsageError: under 0.3 s, a part outside of the clip, or settings that cannot be meant.
            MediaError: ``ambient`` is a path that cannot be read.
        """
        return self.generate_batch(
            [clip], seeds=[seed], guidance=guidance, steps=steps, ambient=ambient, start=start, duration=duration,
            progress=progress, **switches,
        )[0]  # fmt: skip

    def _make(self, clips: list[Clip], samples: int, seeds: Sequence[int], progress: Progress, **options) -> Tensor:
        vocoder = options.pop("vocoder", None)
        if vocoder == "griffin-lim":
            vocoder = GriffinLimVocoder(self.config.stft.front_end.name)
        elif isinstance(vocoder, str):
            raise UsageError(f'vocoder {vocoder!r} is not known: give a vocoder, or "griffin-lim"')
        ambient = options.pop("ambient", None)
        with self._switched(options):
            neighbour = None
            if self.config.neighbour:
                sounds = (self.ambients or Ambients()).sounds(ambient, clips)
                neighbour = self.encode_neighbour(sounds, seeds)
            elif ambient is not None:
                raise UsageError("this Action2Sound was made without a condition: it knows no ambient")
            vectors = self.encode_videos(clips)
            latents = self.sample_latents(vectors, samples, neighbour, seeds=seeds, progress=progress, **options)
        return self.decode_latents(latents, samples, vocoder)

    @torch.no_grad()
    def sample_latents(
        self,
        vectors: Tensor,
        samples: int,
        neighbour: Tensor | None = None,
        *,
        seeds: Sequence[int],
        guidance: float | None = None,
        steps: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Tensor:
        """Latents [B, C, H, W] for frame vectors [B, T, video_dim] of a clip of so many samples."""
        c = self.config

        def conditions(start: int, stop: int) -> tuple[Conditions, Conditions]:
            at = start * c.column_s
            return {"context": self.context(vectors, neighbour, at)}, {"context": self.null(vectors, neighbour, at)}

        return sample_long(
            self.denoise, conditions, c.latents_shape(samples), c.schedule, seeded(seeds), steps=steps,
            device=self.device, guidance=c.guidance if guidance is None else guidance, context=c.context,
            overlap=c.overlap, align=c.align, progress=progress,
        )  # fmt: skip

    # --- weights ------------------------------------------------------------------------------------

    def _stored(self, name: str) -> bool:
        return name.startswith(("unet.", "video_tokens.", "audio_tokens."))

    def _parts(self) -> dict[str, Any]:
        vocoder = self.vocoder if isinstance(self.vocoder, Vocoder) else "griffin-lim"
        # a pool is only ever referred to
        return {"vision": self.encoder, "autoencoder": self.autoencoder, "vocoder": vocoder, "retrieval": None}

    @classmethod
    def _load_parts(cls, where: dict[str, str | Path]) -> dict[str, Any]:
        return {
            "encoder": load_frame_encoder(where["vision"]),
            "autoencoder": ImageAutoencoder.from_pretrained(where["autoencoder"]),
            "vocoder": where["vocoder"],
            "ambients": _ambients(where.get("retrieval")),
        }

    @classmethod
    def _build(cls, config: Action2SoundConfig, **parts: Any) -> Action2Sound:
        vocoder = load_vocoder(parts.pop("vocoder"), front_end=config.stft.front_end.name)
        return cls(config, vocoder=vocoder, **parts)

    @classmethod
    def _read(cls, path: Path, saved: dict[str, Any]) -> Action2Sound:
        system = super()._read(path, saved)
        check_encoder(system.encoder, saved.get("encoder"), path)
        return system

    @classmethod
    def from_published(cls, stable_diffusion: str | Path | None = None, **parts: object) -> Action2Sound:
        """``paper`` on Stable Diffusion 1.4 from the Hub, from which the paper's training starts.

        See :func:`v2a_nb.systems.action2sound.weights.published`.
        """
        from v2a_nb.systems.action2sound.weights import published

        return published(cls, stable_diffusion, **parts)


def _ambients(where: str | Path | None) -> Ambients:
    """Conditions from a pool, which is opened when it is needed for the first time."""
    if where is None:
        return Ambients()
    from v2a_nb.systems.retrieval.system import Retrieval

    return Ambients(partial(Retrieval.from_pretrained, where))
