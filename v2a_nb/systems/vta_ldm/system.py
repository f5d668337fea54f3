"""VTA-LDM (Xu et al. 2024): latent diffusion that reads frame vectors of any encoder, and what is put beside them.

The paper's claim is that a plain row of frame vectors, mapped by one trained layer, is enough for a diffusion model to
find out when and what sounds. It then asks what helps: which encoder (section 5.3), which auxiliary embedding (section
5.4: text, positions, optical flow) and which data (section 5.5). All of these are settings here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from v2a_nb.systems.base import FOLLOWING, SAMPLING, Option, Progress, check_fit, evaluating, switched
from v2a_nb.systems.mel_latents import MelLatentSystem
from v2a_nb.systems.vta_ldm.model import (
    AUTOENCODER_OF,
    PRESETS,
    ConditionTokens,
    VtaLdmConfig,
    attended,
    make_unet,
)

if TYPE_CHECKING:
    from v2a_nb.models.vocoder import GriffinLimVocoder, Vocoder

__all__ = ["PRESETS", "VtaLdm", "VtaLdmConfig"]

Prompt = str | Sequence[str] | None
"""A text for all clips, or one for each; None and the empty text are no text."""


class VtaLdm(MelLatentSystem):
    """The whole system.

    Args:
        config: sizes and switches.
        encoder: frames to vectors, any of :mod:`v2a_nb.models.video_encoders.registry`; None where only vectors are
            worked on, as in training from features.
        autoencoder: left out, a new one of the config's sizes.
        vocoder: left out, Griffin-Lim.
        text_encoder: has ``dim`` and ``encode(texts) -> [B, dim]``; needed where the configuration has a text. One with
            parameters that want gradients is trained with the system.
        unet: left out, a new one of diffusers.

    Raises:
        WeightsError: parts that do not fit each other.
    """

    name = kind = default = "vta_ldm"
    title, config_class = "VTA-LDM", VtaLdmConfig
    part_names, optional_parts = ("vision", "autoencoder", "vocoder"), ("text",)
    options: ClassVar[dict[str, Option]] = {
        "guidance": Option("how much the picture counts; 1 is no guidance", float, "G"),
        "steps": Option("steps of the sampler", count, "N"),
        "sampler": SAMPLING["sampler"],
        "prompt": Option("what is to be heard, in words", str, "TEXT"),
        "negative_prompt": Option("what is not to be heard, in words", str, "TEXT"),
        **FOLLOWING,
    }
    switches = ("fps", "spacing", "guidance_interval", "clamp_mel", "vocoder")

    def __init__(
        self,
        config: VtaLdmConfig,
        encoder: nn.Module | None = None,
        autoencoder: ImageAutoencoder | None = None,
        vocoder: Vocoder | GriffinLimVocoder | None = None,
        text_encoder: nn.Module | None = None,
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
        if encoder is not None and c.timed:
            parts["numbers in a frame vector"] = (encoder.dim, c.video_dim)
            parts["frame vectors a second"] = (float(encoder.rate), float(c.video_rate))
        if text_encoder is not None:
            parts["numbers in a text's vector"] = (text_encoder.dim, c.text_dim)
        check_fit(parts, "VTA-LDM")
        self.encoder, self.autoencoder, self.vocoder = encoder, autoencoder, vocoder
        self.text_encoder: Any = text_encoder if c.text else None
        self.unet = make_unet(c) if unet is None else unet
        self.tokens = ConditionTokens(c)

    @property
    def device(self) -> torch.device:
        """Device of the UNet."""
        return self.unet.conv_in.weight.device

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
        prompt: Prompt = None,
        negative_prompt: Prompt = None,
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
            sampler: another one than the preset's, see :class:`~v2a_nb.sampling.diffusion.NoiseSchedule`.
            prompt: what is to be heard, in words (section 5.4); for several clips also a list, one each.
            negative_prompt: what guidance leads away from: the text of its other half.
            hits: exactly these sound: :class:`~v2a_nb.hits.Hits`, times in seconds or a file; for several clips a list
                of them, one each. Left out, what the system expects.
            sensitivity: which of its own hits are followed: 0, only sure ones, to 1, every doubt; ``"auto"``, what
                suits the clip (:attr:`v2a_nb.hits.Hits.fitting_sensitivity`). Left out, each is weighed by its
                probability.
            start, duration: a part of the clip, seconds.
            progress: called with 1 for each step of the sampler.
            vocoder: another one, or ``"griffin-lim"``.
            switches: ``fps``, ``spacing``, ``guidance_interval`` and ``clamp_mel`` for this once.

        Returns:
            a sound, mono, at :attr:`sample_rate`; a list of them for several clips.

        Raises:
            UsageError: under 0.3 s, a part or hits outside of the clip, settings out of range, or a prompt that says
                nothing to this system.
        """
        clips, seeds, samples = self._batch(clip, seed, start, duration)
        if isinstance(vocoder, str) and vocoder != "griffin-lim":
            raise UsageError(f'vocoder {vocoder!r} is not known: give a vocoder, or "griffin-lim"')
        if sampler is not None:
            switches["sampler"] = sampler
        with switched(self, switches, extra=("sampler",)), evaluating(self):
            followed = self._hits(clip, hits, sensitivity, start, duration)
            # 1. Encode the video, a vector for each frame, perhaps with given hits; its flow, and the texts
            vectors = self.encode_videos(clips, followed) if self.config.vision else None  # [B, T, video_dim]
            flow = self.encode_flows(clips) if self.config.flow else None  # [B, T, flow_dim]
            text, negative = (self.encode_texts(words, len(clips)) for words in (prompt, negative_prompt))

            # 2. Make the condition: tokens, the mask of those that are there, and the null
            seconds = torch.tensor([each.duration for each in clips], device=self.device)
            conditions = self.window_conditions(vectors, flow, text, negative, seconds=seconds)

            # 3. Sample latents: the sampler takes the noise away, guided, in all windows at once
            how = {"guidance": guidance, "steps": steps, "progress": progress}
            latents = self.sample_latents(conditions, samples, seeds=seeds, **how)  # [B, C, H, W]

            # 4. Decode: the autoencoder makes a mel spectrogram of the latents, HiFi-GAN a sound of the spectrogram
            waves = self.decode_latents(latents, samples, self._griffin_lim() if isinstance(vocoder, str) else vocoder)

        # 5. Fit to the clip
        return self._sounds(waves, samples, clip, followed)

    def encode_flows(self, clips: Sequence[Clip]) -> Tensor:
        """Vectors [B, T, flow_dim] of the optical flow of clips of one length; needs OpenCV."""
        from v2a_nb.models.optical_flow import flow_vectors

        encoder, c = self._encoder(hits=False), self.config
        flows = [flow_vectors(clip.at_most_fps(c.fps), str(c.flow), encoder) for clip in clips]
        shortest = min(len(each) for each in flows)
        return torch.stack([each[:shortest] for each in flows]).to(self.device)

    def encode_texts(self, words: Prompt, b: int) -> Tensor | None:
        """Vectors [b, text_dim] of texts; None where there are none. An empty text among others is zeros.

        Raises:
            UsageError: this system reads no text, none of the words is known, or not one text for each clip.
        """
        texts = [words] * b if isinstance(words, str) or words is None else list(words)
        if len(texts) != b or not all(text is None or isinstance(text, str) for text in texts):
            raise UsageError(f"{b} clips need one text for all, or a list of {b}")
        if not any(text and text.strip() for text in texts):
            return None
        if self.text_encoder is None:
            raise UsageError("this VTA-LDM reads no text: it was made without a text encoder")
        vectors = self.text_encoder.encode([text or "" for text in texts]).to(self.device)
        for text, vector in zip(texts, vectors, strict=True):
            unknown = self.text_encoder.unknown_words(text or "")
            if unknown and not vector.any():
                raise UsageError(f"no word of {text!r} is known to this VTA-LDM: {', '.join(unknown)}")
        there = torch.tensor([bool(text and text.strip()) for text in texts], device=self.device)
        return vectors * there[:, None]

    def context(
        self,
        vectors: Tensor | None = None,
        flow: Tensor | None = None,
        text: Tensor | None = None,
        *,
        start_s: float | Tensor = 0.0,
        seconds: Tensor | None = None,
        given: dict[str, Tensor] | None = None,
    ) -> Conditions:
        """What the UNet attends to: ``context`` [B, K, width], and ``mask`` bool [B, K] of the tokens that are there.

        Args:
            vectors: frame vectors [B, T, video_dim] of the whole clip.
            flow: vectors of its flow; needed where the configuration has one.
            text: [B, text_dim]; None is no text.
            start_s: where in the clip the window begins, one for all or [B].
            seconds: length of each video [B]; left out, it does not end.
            given: bool [B] each, for ``"video"`` and ``"text"``; an item that is not given has the null there: tokens
                of zeros, all of which are attended to (section 3.3). Training drops to this, and guidance has it.

        Raises:
            UsageError: vectors or flow are missing.
        """
        c, given = self.config, dict(given or {})
        if (c.vision and vectors is None) or (c.flow and flow is None):
            raise UsageError(f"this VTA-LDM needs {'frame vectors' if vectors is None else 'vectors of the flow'}")
        some = next(each for each in (vectors, flow, text, seconds) if each is not None)
        b = len(some)
        if c.text and text is None:
            text = torch.zeros(b, c.text_dim, device=self.device)
            given["text"] = torch.zeros(b, dtype=torch.bool, device=self.device)
        elif c.text:
            given["text"] = given.get("text", text.new_ones(b, dtype=torch.bool)) & text.any(dim=1)
        tokens = self.tokens(vectors, flow, text, start_s, given)
        start = torch.as_tensor(start_s, dtype=torch.float32, device=tokens.device).expand(b)
        mask = attended(c, start, torch.full_like(start, torch.inf) if seconds is None else seconds)
        if c.timed and "video" in given:
            mask[:, : c.video_tokens] |= ~given["video"][:, None]
        if c.text and "text" in given:
            mask[:, -c.text_tokens :] |= ~given["text"][:, None]
        return {"context": tokens, "mask": mask}

    def null(
        self, vectors: Tensor | None, flow: Tensor | None = None, text: Tensor | None = None, **how: Any
    ) -> Conditions:
        """The context of guidance's other half: no video, and the text of a negative prompt, or none.

        Args:
            vectors, flow: of which the sizes count.
            text: [B, text_dim] of the negative prompt.
            how: as for :meth:`context`.
        """
        some = next(each for each in (vectors, flow, text, how.get("seconds")) if each is not None)
        video = torch.zeros(len(some), dtype=torch.bool, device=some.device)
        return self.context(vectors, flow, text, given={"video": video}, **how)

    def window_conditions(
        self,
        vectors: Tensor | None,
        flow: Tensor | None = None,
        text: Tensor | None = None,
        negative: Tensor | None = None,
        *,
        seconds: Tensor | None = None,
    ) -> Callable[[int, int], tuple[Conditions, Conditions]]:
        """From a window of latents, ``(start, stop)`` columns, to its conditions and their null.

        Args:
            vectors, flow, text, seconds: of the whole clips, as for :meth:`context`.
            negative: vectors of the negative prompt.
        """
        some = next(each for each in (seconds, vectors, flow, text, negative) if each is not None)
        if seconds is None:
            seconds = torch.full((len(some),), torch.inf, device=some.device)

        def of_window(start: int, stop: int) -> tuple[Conditions, Conditions]:
            how: dict[str, Any] = {"start_s": start * self.config.column_s, "seconds": seconds}
            return self.context(vectors, flow, text, **how), self.null(vectors, flow, negative, **how)

        return of_window

    def denoise(self, noisy: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        """The prediction [N, C, H, W] for noisy latents [N, C, H, W] at timesteps [N] (a ``diffusion.Model``)."""
        mask = conditions["mask"]
        mask = None if bool(mask.all()) else mask
        return self.unet(noisy, t, conditions["context"], encoder_attention_mask=mask, return_dict=False)[0]

    # --- training -----------------------------------------------------------------------------------

    def trained(self) -> dict[str, nn.Parameter]:
        """Freeze what training leaves alone, and return the rest by name.

        Encoder, autoencoder and vocoder are frozen. The projections are trained, as the paper says (section 3.2); the
        released optimizer does not get them. A text encoder of our own is trained, CLIP's is not.
        """
        from v2a_nb.models.text_encoders import StrikeText

        self.requires_grad_(False)
        parts = [self.unet, self.tokens]
        if isinstance(self.text_encoder, StrikeText):
            parts.append(self.text_encoder)
        for part in parts:
            part.requires_grad_(True)
        return {k: p for k, p in self.named_parameters() if p.requires_grad}

    def loss(
        self, latents: Tensor, conditions: Conditions, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """The diffusion loss (section 3.3) under min-SNR weights: squared error of the predicted v.

        Args:
            latents: [B, C, H, context].
            conditions: of :meth:`context`.
            generator: of timesteps and noise, on the CPU.
        """
        return diffusion_loss(
            lambda noisy, t: self.denoise(noisy, t, conditions), latents, self.config.schedule, generator=generator
        )

    # --- weights ------------------------------------------------------------------------------------

    def _stored(self, name: str) -> bool:
        return name.startswith(("unet.", "tokens."))

    def _parts(self) -> dict[str, Any]:
        vocoder = self.vocoder if isinstance(self.vocoder, Pretrained) else "griffin-lim"
        return {
            "vision": self.encoder, "autoencoder": self.autoencoder, "vocoder": vocoder, "text": self.text_encoder,
        }  # fmt: skip

    @classmethod
    def _load_parts(cls, where: dict[str, str | Path]) -> dict[str, Any]:
        from v2a_nb.models.text_encoders import load_text_encoder
        from v2a_nb.models.video_encoders.registry import load_video_encoder

        return {
            "encoder": load_video_encoder(where["vision"]),
            "autoencoder": ImageAutoencoder.from_pretrained(where["autoencoder"]),
            "vocoder": where["vocoder"],
            "text_encoder": load_text_encoder(where["text"]) if "text" in where else None,
        }

    @classmethod
    def _build(cls, config: VtaLdmConfig, **parts: Any) -> VtaLdm:
        from v2a_nb.models.vocoder import load_vocoder

        vocoder = load_vocoder(parts.pop("vocoder"), front_end=config.stft.front_end.name)
        return cls(config, vocoder=vocoder, unet=make_unet(config, lean=True), **parts)

    @classmethod
    def _read(cls, path: Path, saved: dict[str, Any]) -> VtaLdm:
        from v2a_nb.models.video_encoders.clip_frames import check_encoder

        system = super()._read(path, saved)
        if system.encoder is not None:
            check_encoder(system.encoder, saved.get("encoder"), path)
        return system
