"""What a saliency map explains: a number for each clip, as a function of its frames, and of its video tokens.

A target comes before a method: "where did it look" has no answer until it is said what the looking was for. Here it is
a part of the sound, seconds ``window``: :class:`LogLikelihood` asks how likely V-AURA's decoder holds the codes that
sound there, :class:`DenoisingLoss` how well a diffusion system tells the latents there from noise. Both are
teacher-forced: the sound is given, so that one pass says it, with gradients. :class:`ControlEnergy` asks of EgoSonics
how much SyncroNet has to say there, whatever it says.

Frames go through the system's own video encoder, and gradients come back through it to the pixels, with one exception
that no map can mend. The event-crop encoder cuts a crop out of the frames around each event that it expects. Which
moments these are, and where the crop lies, is a hard choice without a gradient; the pixels inside the crop pass
gradients. So a gradient says how the sound depends on what the encoder looked at, not on that it looked there;
occlusion, which runs the encoder again, says both.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError
from v2a_nb.sampling.diffusion import add_noise
from v2a_nb.systems.action2sound.system import Action2Sound
from v2a_nb.systems.base import System, evaluating
from v2a_nb.systems.egosonics.model import control_weights
from v2a_nb.systems.egosonics.system import EgoSonics
from v2a_nb.systems.vaura.system import VAura
from v2a_nb.systems.vta_ldm.system import VtaLdm

STEPS = (900, 700, 500)
"""Timesteps of :class:`DenoisingLoss`: those at which the picture must say what the noise has hidden."""
HARD_CROP = (
    "the encoder's crop around each expected event is placed without a gradient; the pixels inside it pass gradients"
)


class Target(ABC):
    """A number for each clip.

    Args:
        system: with an encoder that has ``pixels(clip)`` and takes frames with gradients.
        clip: the video.
        window: seconds of the sound that are explained; left out, all.

    Attributes:
        frames: of the clip as the encoder reads them, [1, T, 3, H, W] in [0, 1].
        fps: of those frames.
        sound: that is explained.
        notes: what a reader of a map must know.

    Raises:
        UsageError: an encoder that gives no gradients to pixels, a window outside of the clip, a clip that is too long.
    """

    name: str
    title: str
    system: Any
    encoder: Any
    frames: Tensor
    fps: float
    window: tuple[float, float]
    notes: list[str]

    def __init__(self, system: System, clip: Clip, sound: Sound, window: tuple[float, float] | None = None) -> None:
        encoder: Any = system.encoder
        if not (hasattr(encoder, "pixels") and hasattr(encoder, "timing_and_content")):
            raise UsageError(
                f"the frame encoder of this {system.title} gives no gradients to pixels; that of the tiny presets does"
            )
        self.system, self.encoder, self.clip = system, encoder, clip.silent()
        longest = longest_s(system)
        if clip.duration > longest + 1e-3:
            raise UsageError(f"{clip.name}: {clip.duration:.2f} s; a target spans at most {longest:.2f} s of a clip")
        self.window = check_window(window, clip)
        self.sound = sound.fit(clip.duration)
        seen = clip.at_most_fps(getattr(system.config, "fps", None))
        self.frames: Tensor = encoder.pixels(seen).detach().clone()
        self.fps = float(encoder.config.fps)
        self.notes = [HARD_CROP] if hasattr(encoder, "event_crop") else []

    @abstractmethod
    def of_tokens(self, tokens: Tensor) -> Tensor:
        """The number of each clip, [B], of video tokens [B, Tv, D]; differentiable."""

    def encode(self, frames: Tensor) -> Tensor:
        """Video tokens [B, Tv, D] of frames [B, T, 3, H, W] in [0, 1]; differentiable."""
        with as_it_is(self.system):
            return self.encoder(frames)

    def __call__(self, frames: Tensor) -> Tensor:
        """The number of each clip, [B], of frames [B, T, 3, H, W] in [0, 1]; differentiable."""
        return self.of_tokens(self.encode(frames))

    @property
    def tokens(self) -> Tensor:
        """Video tokens [1, Tv, D] of the clip, without gradients."""
        with torch.no_grad():
            return self.encode(self.frames)

    @property
    def token_rate(self) -> float:
        """Tokens a second."""
        return float(self.encoder.rate)

    @property
    def value(self) -> float:
        """The number of the clip itself."""
        with torch.no_grad():
            return float(self(self.frames)[0])


class LogLikelihood(Target):
    """Log-likelihood of given codes in a time window and some codebooks under the video, nats (V-AURA).

    ``F(v) = sum over t in window, k in codebooks of log p(c[k, t] | earlier c, v)``: V-AURA's decoder reads the true
    codes before each one (teacher forcing) and the frames up to its moment.

    Args:
        system: V-AURA.
        clip: at most one context of the decoder long (2.56 s with ``tiny``).
        sound: whose codes are scored.
        window: seconds; left out, all.
        codebooks: their indices; left out, all.
        minus: subtract the value under the ``"null"``, or under another clip's video: how much better *this* video
            explains the sound. It does not depend on the frames, so that maps stay the same and the number says more.

    Raises:
        UsageError: as :class:`Target`; also codebooks that there are not.
    """

    name, title = "log_likelihood", "log-likelihood of the sound"

    def __init__(
        self,
        system: VAura,
        clip: Clip,
        sound: Sound,
        window: tuple[float, float] | None = None,
        *,
        codebooks: Sequence[int] | None = None,
        minus: str | Clip | None = None,
    ) -> None:
        super().__init__(system, clip, sound, window)
        codes, count = system.encode_sound(self.sound), system.config.num_codebooks
        self.codebooks = tuple(range(count) if codebooks is None else codebooks)
        if not self.codebooks or not all(0 <= k < count for k in self.codebooks):
            raise UsageError(f"codebooks {list(self.codebooks)}: there are 0 to {count - 1}")
        tokens = self.tokens
        self.codes = codes[..., : system.decoder.frames_of(tokens.shape[1])]
        rate = self.codes.shape[-1] / clip.duration
        self.first, self.last = span_of(self.window, rate, self.codes.shape[-1])
        self.reference = 0.0
        if minus is not None:
            self.title += " minus that under " + ("no video" if minus == "null" else "another video")
            with torch.no_grad():
                self.reference = float(self._likelihood(_other_tokens(system, minus, tokens))[0])

    def of_tokens(self, tokens: Tensor) -> Tensor:
        return self._likelihood(tokens) - self.reference

    def _likelihood(self, tokens: Tensor) -> Tensor:
        codes = self.codes.expand(len(tokens), -1, -1)
        with as_it_is(self.system):
            logits = self.system.decoder(codes, tokens)  # [B, K, T, V]
        logs = logits.log_softmax(-1).gather(-1, codes[..., None])[..., 0]
        return logs[:, list(self.codebooks), self.first : self.last].sum((1, 2))


class Denoising(Target):
    """What targets of the diffusion systems share: latents of the sound, noised at fixed steps, and the conditions.

    Args:
        system: EgoSonics, Action2Sound or VTA-LDM.
        clip: at most one window of the UNet long.
        sound: whose latents are denoised.
        window: seconds; left out, all.
        steps: timesteps, over which is averaged.
        seed: of the noise.
        minus: as for :class:`LogLikelihood`.
        neighbour: a sound that has the ambience (Action2Sound); left out, what ``generate`` would take.
        prompt: a text that stands beside the video (VTA-LDM); left out, none.

    Raises:
        UsageError: as :class:`Target`; also timesteps that there are not, a prompt for a system that reads none, or
            a VTA-LDM that looks at no pictures.
    """

    def __init__(
        self,
        system: EgoSonics | Action2Sound | VtaLdm,
        clip: Clip,
        sound: Sound,
        window: tuple[float, float] | None = None,
        *,
        steps: Sequence[int] = STEPS,
        seed: int = 0,
        minus: str | Clip | None = None,
        neighbour: Sound | None = None,
        prompt: str | None = None,
    ) -> None:
        super().__init__(system, clip, sound, window)
        schedule = system.config.schedule
        if not steps or not all(0 <= t < schedule.train_steps for t in steps):
            raise UsageError(f"steps {list(steps)}: timesteps are 0 to {schedule.train_steps - 1}")
        if prompt and not isinstance(system, VtaLdm):
            raise UsageError(f"{system.title} reads no prompt; VTA-LDM does")
        latents = system.encode_sound(self.sound).to(system.device)
        self.steps = torch.tensor(list(steps), device=system.device)
        noise = torch.randn(len(steps), *latents.shape[1:], generator=torch.Generator().manual_seed(seed))
        repeated = latents.expand(len(steps), -1, -1, -1)
        self.noisy, self.wanted = add_noise(repeated, noise.to(latents), self.steps, schedule)
        self.columns = latents.shape[-1]
        self.first, self.last = span_of(self.window, 1 / system.config.column_s, self.columns)
        # what stands beside the video and does not change with the frames, each [1, ...]
        self.neighbour = self.text = self.flow = None
        if isinstance(system, Action2Sound) and system.config.neighbour:
            sounds = [neighbour] if neighbour is not None else _ambience(system, clip)
            with torch.no_grad():
                self.neighbour = system.encode_neighbour(sounds, [seed])
        if isinstance(system, VtaLdm):
            self._beside_video(system, clip, prompt)
        self.reference = 0.0
        if minus is not None:
            self.title += " minus that under " + ("no video" if minus == "null" else "another video")
            with torch.no_grad():
                if minus == "null":
                    self.reference = float(self._number(self._null(self.tokens))[0])
                else:
                    self.reference = float(self._number(self._conditions(_other_tokens(system, minus, self.tokens)))[0])

    def _beside_video(self, system: VtaLdm, clip: Clip, prompt: str | None) -> None:
        if not system.config.vision:
            raise UsageError("this VTA-LDM looks at no pictures: there is nothing to explain in them")
        with torch.no_grad():
            self.text = system.encode_texts(prompt or None, 1)
            if system.config.flow:
                self.flow = system.encode_flows([clip.silent()])
        if self.text is not None:
            self.title += f', with the text "{prompt}"'
        if self.flow is not None:
            self.notes.append("the optical flow is held as it is: what it says of the pixels is not in the map")

    def of_tokens(self, tokens: Tensor) -> Tensor:
        with as_it_is(self.system):
            conditions = self._conditions(tokens)
        return self._number(conditions) - self.reference

    @abstractmethod
    def _number(self, conditions: dict[str, Tensor]) -> Tensor:
        """The number of each clip, [B], under conditions whose first dimension is B."""

    def _conditions(self, tokens: Tensor) -> dict[str, Tensor]:
        if isinstance(self.system, EgoSonics):
            return self.system.conditions(tokens, self.columns)
        if isinstance(self.system, VtaLdm):
            return self.system.context(tokens, **self._beside(tokens))
        return {"context": self.system.context(tokens, _repeated(self.neighbour, len(tokens)))}

    def _null(self, tokens: Tensor) -> dict[str, Tensor]:
        if isinstance(self.system, EgoSonics):
            return self.system.null(self._conditions(tokens))
        if isinstance(self.system, VtaLdm):
            return self.system.null(tokens, **self._beside(tokens))
        return {"context": self.system.null(tokens, _repeated(self.neighbour, len(tokens)))}

    def _beside(self, tokens: Tensor) -> dict[str, Any]:
        """What VTA-LDM reads beside the video, for as many clips."""
        flow, text = (_repeated(each, len(tokens)) for each in (self.flow, self.text))
        return {"flow": flow, "text": text, "seconds": tokens.new_full((len(tokens),), self.clip.duration)}

    def _at_steps(self, conditions: dict[str, Tensor]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Noisy latents, timesteps and conditions of each clip at each step, clip by clip."""
        steps, clips = len(self.steps), len(next(iter(conditions.values())))
        repeated = {name: value.repeat_interleave(steps, dim=0) for name, value in conditions.items()}
        return self.noisy.repeat(clips, 1, 1, 1), self.steps.repeat(clips), repeated


class DenoisingLoss(Denoising):
    """Negative denoising loss of a window of latent columns, at fixed noise and fixed steps (the diffusion systems).

    ``F(v) = - mean over steps, and columns in window, of |prediction(noisy, step, v) - target|^2``: the training loss
    of the system for this sound, the same few timesteps and noises for every video that is asked about. Arguments are
    those of :class:`Denoising`.
    """

    name, title = "denoising_loss", "negative denoising loss of the sound"

    def _number(self, conditions: dict[str, Tensor]) -> Tensor:
        with as_it_is(self.system):
            made = self.system.denoise(*self._at_steps(conditions))
        error = (made - self.wanted.repeat(len(made) // len(self.steps), 1, 1, 1)).square().mean((1, 2))  # [., W]
        return -error[:, self.first : self.last].mean(1).view(-1, len(self.steps)).mean(1)


class ControlEnergy(Denoising):
    """How much SyncroNet adds to the frozen UNet in a window of latent columns (EgoSonics).

    ``F(v) = mean over steps of the sum over control signals of their mean square in the window``: a signal for each
    skip and one for the middle, as they are weighted when EgoSonics generates. It asks what the video says at all, not
    whether what it says is true of the sound; the sound enters as the noisy latents that SyncroNet reads beside the
    video. Without a video there is no control, and the energy is 0. Arguments are those of :class:`Denoising`.

    Raises:
        UsageError: as :class:`Denoising`; also another system, or one without SyncroNet.
    """

    name, title = "control_energy", "energy of SyncroNet's control"

    def __init__(
        self,
        system: EgoSonics,
        clip: Clip,
        sound: Sound,
        window: tuple[float, float] | None = None,
        **options: Any,
    ) -> None:
        if not isinstance(system, EgoSonics) or system.config.no_syncronet:
            raise UsageError(f"{system.title} here has no SyncroNet, whose control could be explained; EgoSonics has")
        super().__init__(system, clip, sound, window, **options)

    def _number(self, conditions: dict[str, Tensor]) -> Tensor:
        noisy, t, repeated = self._at_steps(conditions)
        c = self.system.config
        with as_it_is(self.system):
            down, middle = self.system.syncronet(
                noisy, t, repeated["tokens"], repeated["hint"], no_cross_attention=c.no_cross_attention
            )
        signals = [*down, middle]
        weights = control_weights(c.control_weighting, [s.shape[-2] for s in signals])
        total = torch.zeros(len(noisy), device=noisy.device)
        for signal, weight in zip(signals, weights, strict=True):
            columns = signal.shape[-1]
            first, last = span_of(self.window, columns / (self.columns * c.column_s), columns)
            total = total + (weight * signal[..., first:last]).square().mean((1, 2, 3))
        total = total * repeated["on"]
        return total.view(-1, len(self.steps)).mean(1)


def _repeated(one: Tensor | None, count: int) -> Tensor | None:
    """[1, ...] for so many clips; nothing stays nothing."""
    return None if one is None else one.expand(count, *one.shape[1:])


class FrameFunction(Target):
    """Any differentiable function of frames, such as a network of your own; methods that need an encoder refuse it.

    Args:
        function: from frames [B, T, 3, H, W] in [0, 1] to a number for each clip, [B].
        frames: of the clip, [1, T, 3, H, W] in [0, 1].
        fps: of the frames.
        window: seconds that the function is about; left out, all.
        title: what the number is.

    Examples:
        >>> target = FrameFunction(lambda frames: frames.mean((1, 2, 3, 4)), torch.ones(1, 8, 3, 4, 4), 25.0)
        >>> target.value
        1.0
    """

    name = "frame_function"

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        frames: Tensor,
        fps: float,
        window: tuple[float, float] | None = None,
        title: str = "the network's answer",
    ) -> None:
        if frames.ndim != 5 or len(frames) != 1:
            raise UsageError(f"frames [1, T, 3, H, W] are needed, not {list(frames.shape)}")
        self.function, self.frames, self.fps, self.title = function, frames.detach().clone(), float(fps), title
        self.window = (0.0, frames.shape[1] / self.fps) if window is None else window
        self.system, self.encoder, self.notes = None, None, []

    def __call__(self, frames: Tensor) -> Tensor:
        return self.function(frames)

    def of_tokens(self, tokens: Tensor) -> Tensor:
        raise UsageError(f"{self.title} is a function of frames: it has no video tokens")


def target_of(
    system: System,
    clip: Clip,
    sound: Sound,
    window: tuple[float, float] | None = None,
    *,
    target: str | None = None,
    **options: Any,
) -> Target:
    """The target of a system: :class:`LogLikelihood` for V-AURA, :class:`DenoisingLoss` for the diffusion systems.

    Args:
        system, clip, sound, window: as for :class:`Target`.
        target: out of :data:`TARGETS`; left out, the one named above.
        options: others of the target, such as ``prompt`` (VTA-LDM) or ``codebooks`` (V-AURA).

    Raises:
        UsageError: a system without that target, such as retrieval, which has no sound that depends on pixels by
            degrees; an unknown target, or an option that it does not have.
    """
    kinds = _targets_of(system)
    if target is not None and target not in TARGETS:
        raise UsageError(f"unknown target {target!r}; there is {', '.join(TARGETS)}")
    if not kinds or (target is not None and TARGETS[target] not in kinds):
        what = "a target" if target is None else f"the target {target}"
        raise UsageError(
            f"{system.title} has not {what}: V-AURA has {LogLikelihood.name}, the diffusion systems "
            f"{DenoisingLoss.name}, EgoSonics also {ControlEnergy.name}"
        )
    kind = kinds[0] if target is None else TARGETS[target]
    given = {name: value for name, value in options.items() if value is not None}
    known = [each for some in kind.__mro__ for each in inspect.signature(some.__init__).parameters]
    unknown = [name for name in given if name not in known]
    if unknown:
        raise UsageError(f"{system.title}'s target {kind.name} has no {', '.join(unknown)}")
    return kind(system, clip, sound, window, **given)  # pyright: ignore[reportArgumentType]


TARGETS: dict[str, type[LogLikelihood | Denoising]] = {
    kind.name: kind for kind in (LogLikelihood, DenoisingLoss, ControlEnergy)
}
"""By name, what of a system's sound can be explained."""


def _targets_of(system: System) -> tuple[type[LogLikelihood | Denoising], ...]:
    """What can be explained of a system, the usual first."""
    if isinstance(system, VAura):
        return (LogLikelihood,)
    if isinstance(system, EgoSonics):
        return (DenoisingLoss,) if system.config.no_syncronet else (DenoisingLoss, ControlEnergy)
    return (DenoisingLoss,) if isinstance(system, Action2Sound | VtaLdm) else ()


def longest_s(system: System) -> float:
    """Seconds of a clip that one pass of the system spans: as long as training had; infinite for others."""
    if isinstance(system, VAura):
        return float(system.config.context_frames / Fraction(system.config.frame_rate))
    if isinstance(system, EgoSonics | Action2Sound | VtaLdm):
        return system.config.context * system.config.column_s
    return math.inf


def check_window(window: Sequence[float] | None, clip: Clip) -> tuple[float, float]:
    """The window as two numbers of seconds; all of the clip where it is left out.

    Raises:
        UsageError: it is no part of the clip.
    """
    if window is None:
        return 0.0, clip.duration
    try:
        start, end = (float(t) for t in window)
    except (TypeError, ValueError) as error:
        raise UsageError(f"a window is (start, end) in seconds, not {window!r}") from error
    if not 0 <= start < end <= clip.duration + 1e-3:
        raise UsageError(f"{clip.name}: {start:g} s to {end:g} s is no window of its {clip.duration:.2f} s")
    return start, min(end, clip.duration)


def span_of(window: tuple[float, float], rate: float, count: int) -> tuple[int, int]:
    """First and one past the last of ``count`` steps, ``rate`` a second, that a window of seconds touches."""
    first = min(int(window[0] * rate + 1e-6), count - 1)
    return first, max(first + 1, min(count, math.ceil(window[1] * rate - 1e-6)))


@contextmanager
def as_it_is(system: nn.Module) -> Iterator[None]:
    """No dropout inside, and no gradients for the weights: only frames and tokens get some."""
    learned = [p for p in system.parameters() if p.requires_grad]
    for p in learned:
        p.requires_grad_(False)
    try:
        with evaluating(system):
            yield
    finally:
        for p in learned:
            p.requires_grad_(True)


def _other_tokens(system: System, minus: str | Clip, tokens: Tensor) -> Tensor:
    """The tokens that are subtracted: of V-AURA's null, or of another clip, cut or held to the same number."""
    if isinstance(minus, Clip):
        other = system.encode_video(minus.silent())[:, : tokens.shape[1]]
        held = other[:, -1:].expand(-1, tokens.shape[1] - other.shape[1], -1)
        return torch.cat([other, held], dim=1)
    if minus != "null" or not isinstance(system, VAura):
        raise UsageError(f'minus {minus!r}: "null" or another clip is needed')
    return system.decoder.null_tokens(tokens.shape[1])


def _ambience(system: Action2Sound, clip: Clip) -> list[Sound]:
    """The sound that ``generate`` would be conditioned on."""
    from v2a_nb.systems.action2sound.ambient import Ambients

    return (system.ambients or Ambients()).sounds(None, [clip.silent()])
