"""Tokens that follow given hits: hits that were added, moved or removed sound so, whatever the pictures say.

A decoder reads more than the events: the timing features and the predicted flux also say that something is struck, and
tokens unlike those it was taught leave it silent. So whole windows of tokens are exchanged. Around a hit that was
removed they become those of a still moment; around one that was added or moved, those of a hit of Strike World that the
encoder is sure of. A hit that the encoder is sure of itself, and that stays where it is, keeps its tokens.

What is struck stands in the embedding of the event. A hit that was moved keeps its own. One that was added gets that of
the nearest hit of the clip, because objects are struck more than once (nine times in ten in Strike World); where the
encoder finds no hit in the clip, that of the hit of Strike World that looks most like the clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from v2a_nb.errors import UsageError
from v2a_nb.hits import STEP_S, Hits
from v2a_nb.hub import Pretrained

FAINT = 0.05
"""Predicted flux from which a peak is a doubtful hit, of which the tokens say nothing."""
BEFORE, AFTER = 8, 16
"""Tokens of a window before and after a hit's own."""
CORE = (3, 6)
"""Tokens before and after a hit that no window of another hit changes."""
FADE = 3  # tokens over which a window begins and ends
SURE, LIKELY = 0.9, 0.5
"""Probabilities from which on the encoder's own hit keeps its tokens, and from which on it keeps its material."""
NEAR_S = 0.03
"""A given hit so near to one that the encoder expects is that one."""
SEED, CLIPS, SECONDS = 4100, 16, 5.12
"""The world that windows are taken from: its seed, its clips and their seconds. It is of version 1, whose hits are
clearest, and nothing is trained on it."""
ALONE_S = (0.2, 0.3)  # before and after a hit whose window is taken: nothing else happens
KEPT = "_windows"  # attribute of an encoder that has its windows


class Event(NamedTuple):
    """A moment at which an encoder expects a sound.

    Attributes:
        step: when, in steps of 5 ms.
        probability: that it sounds, a tensor without dimensions.
        embedding: of what is struck, [72].
        x, y: the place in the picture, 0 to 1.
        reported: the probability that users are told, see ``EventCropConfig.calibration_scale``.
    """

    step: int
    probability: Tensor
    embedding: Tensor
    x: float = 0.5
    y: float = 0.5
    reported: float = 0.0


class Reading(NamedTuple):
    """What an encoder makes of one clip, before it becomes tokens.

    Attributes:
        timing, content, flux: [N, 192], [N, 96] and [N, 12].
        events: all that is expected, also what is doubted, in order.
    """

    timing: Tensor
    content: Tensor
    flux: Tensor
    events: list[Event]


@dataclass(frozen=True)
class WindowsConfig:
    """Sizes of :class:`Windows`.

    Attributes:
        count: M, how many there are.
        timing, content, flux, embed: channels.
    """

    count: int
    timing: int = 192
    content: int = 96
    flux: int = 12
    embed: int = 72


class Windows(Pretrained, nn.Module):
    """Windows of tokens around hits, and what tokens are when nothing happens.

    They hang on nothing but the encoder, and lie beside its weights as they were taken, in full precision: taking them
    costs seconds.

    Attributes:
        timing, content, flux: [M, 24, 192], [M, 24, 96] and [M, 24, 12].
        embedding: of the hits, [M, 72].
        phase: in which quarter of its token each hit lies, int64 [M].
        still_timing, still_flux: [192] and [12].
    """

    kind, title, config_class, half = "hit-windows", "windows of hits", WindowsConfig, False
    timing: Tensor
    content: Tensor
    flux: Tensor
    embedding: Tensor
    phase: Tensor
    still_timing: Tensor
    still_flux: Tensor

    def __init__(self, config: WindowsConfig) -> None:
        super().__init__()
        self.config = c = config
        for name, channels in (("timing", c.timing), ("content", c.content), ("flux", c.flux)):
            self.register_buffer(name, torch.zeros(c.count, BEFORE + AFTER, channels))
        self.register_buffer("embedding", torch.zeros(c.count, c.embed))
        self.register_buffer("phase", torch.zeros(c.count, dtype=torch.int64))
        self.register_buffer("still_timing", torch.zeros(c.timing))
        self.register_buffer("still_flux", torch.zeros(c.flux))

    @classmethod
    def of(cls, **tensors: Tensor) -> Windows:
        """Windows with these tensors, named as the attributes."""
        channels = {name: tensors[name].shape[-1] for name in ("timing", "content", "flux")}
        windows = cls(WindowsConfig(len(tensors["phase"]), **channels, embed=tensors["embedding"].shape[-1]))
        windows.load_state_dict(tensors)
        return windows


def windows_of(encoder: Any) -> Windows:
    """The windows of an encoder: those that came with its weights, or taken now from a small world, and kept.

    Args:
        encoder: has ``config.size`` and ``reading(clip) -> Reading``.

    Raises:
        UsageError: an encoder that is sure of no hit in that world.
    """
    if kept_windows(encoder) is None:
        keep_windows(encoder, _taken(encoder))
    return vars(encoder)[KEPT]


def kept_windows(encoder: Any) -> Windows | None:
    """The windows that an encoder has already."""
    return vars(encoder).get(KEPT)


def keep_windows(encoder: Any, windows: Windows | None) -> None:
    """Give an encoder its windows; None: they are taken when they are needed, because it has changed."""
    object.__setattr__(encoder, KEPT, windows)  # no submodule: they are none of its weights


def _taken(encoder: Any) -> Windows:
    span = torch.arange(-BEFORE, AFTER)
    hits, still = [], []
    from v2a_nb.world import strike_world  # needed where hits are given, and then once

    world = strike_world(SEED, CLIPS, seconds=SECONDS, size=encoder.config.size, per_recording=1, version=1)
    for item in world:
        reading = encoder.reading(item.clip)
        timing, content, flux = reading.timing, reading.content, reading.flux
        true = torch.tensor([event["time_s"] for event in item.truth["events"]])
        busy = torch.cat([true, torch.tensor([event.step * STEP_S for event in reading.events])])
        quiet = flux[:, :4].amax(1) < FAINT
        for time in busy.tolist():
            quiet[max(0, round(time * 50) - BEFORE) : round(time * 50) + AFTER] = False
        still.append((timing[quiet], flux[quiet]))
        for event in reading.events:
            time, token = event.step * STEP_S, event.step // 4
            away = busy - time
            alone = ((away.abs() <= 0.02) | (away < -ALONE_S[0]) | (away > ALONE_S[1])).all()
            touched = any(e["sounding"] and abs(e["time_s"] - time) <= 0.02 for e in item.truth["events"])
            if touched and alone and event.probability >= SURE and BEFORE <= token <= len(timing) - AFTER:
                hits.append((timing[token + span], content[token + span], flux[token + span], event))
    if not hits:
        raise UsageError("this system's frame encoder is sure of no hit in Strike World: it cannot follow given hits")
    parts = [torch.stack([hit[k] for hit in hits]) for k in range(3)]
    phase = torch.tensor([event.step % 4 for *_, event in hits], device=parts[0].device)
    embedding = torch.stack([event.embedding for *_, event in hits])
    still_timing, still_flux = (torch.cat(part).mean(0) for part in zip(*still, strict=True))
    return Windows.of(
        timing=parts[0], content=parts[1], flux=parts[2], embedding=embedding, phase=phase, still_timing=still_timing,
        still_flux=still_flux,
    )  # fmt: skip


def following(
    timing: Tensor, content: Tensor, flux: Tensor, events: Sequence[Event], hits: Hits, windows: Windows
) -> tuple[Tensor, Tensor, Tensor, list[Event]]:
    """Features of a clip, changed so that exactly the given hits sound.

    Args:
        timing, content, flux: of the clip, [N, 192], [N, 96] and [N, 12].
        events: all that the encoder expects, also what it doubts, in order.
        hits: what is to sound.
        windows: of the same encoder.

    Returns:
        timing, content and flux, changed, and the events that there are now.
    """
    n = len(timing)
    placed = [_placed(hit.time_s, hit.moved_from_s, events) for hit in hits]
    stays = [e is not None and e.probability >= SURE and abs(e.step - step) <= 1 for step, e in placed]
    tokens = [min(step // 4, n - 1) for step, _ in placed]
    owner = torch.full((n,), -1)  # the hit that each token belongs to
    for k, token in enumerate(tokens):
        first = token - CORE[0] if k == 0 else max(token - CORE[0], (tokens[k - 1] + token + 1) // 2)
        owner[max(0, first) : token + CORE[1]] = k
    look, timing, content, flux = content, timing.clone(), content.clone(), flux.clone()
    kept = [source for (_, source), same in zip(placed, stays, strict=True) if same]
    for event in events:
        if not any(event is other for other in kept):
            span, share = _window(event.step // 4, n, owner < 0)
            timing[span] = torch.lerp(timing[span], windows.still_timing, share)
            flux[span] = torch.lerp(flux[span], windows.still_flux, share)
    one, now = timing.new_ones(()), []
    likely = [event for event in events if event.probability >= LIKELY]
    for k, ((step, source), token, same) in enumerate(zip(placed, tokens, stays, strict=True)):
        if same:
            now.append(source._replace(probability=one))
            continue
        m = _alike(windows, content[max(0, token - 2) : token + 4], step % 4)
        span, share = _window(token, n, (owner < 0) | (owner == k))
        part = slice(span.start - token + BEFORE, span.stop - token + BEFORE)
        timing[span] = torch.lerp(timing[span], windows.timing[m, part], share)
        flux[span] = torch.lerp(flux[span], windows.flux[m, part], share)
        content[span] = torch.lerp(content[span], windows.content[m, part], share)
        struck = source or min(likely, key=lambda e: abs(e.step - step), default=None)
        now.append(Event(step, one, windows.embedding[_alike(windows, look)] if struck is None else struck.embedding))
    return timing, content, flux, now


def _placed(time_s: float, moved_from_s: float | None, events: Sequence[Event]) -> tuple[int, Event | None]:
    """The step of a hit, and the encoder's own event that it is, if there is a likely one."""
    step = round(time_s / STEP_S)
    was = time_s if moved_from_s is None else moved_from_s
    near = [e for e in events if abs(e.step * STEP_S - was) <= NEAR_S and e.probability >= LIKELY]
    return step, min(near, key=lambda e: abs(e.step * STEP_S - was), default=None)


def _window(token: int, n: int, free: Tensor) -> tuple[slice, Tensor]:
    """The tokens around one, and by how much each may change, [T, 1]."""
    span = slice(max(0, token - BEFORE), min(n, token + AFTER))
    inside = torch.arange(span.start, span.stop) - token + BEFORE
    fade = torch.minimum(inside + 1, BEFORE + AFTER - inside).clamp(max=FADE + 1) / (FADE + 1)
    return span, (fade.to(free.device) * free[span])[:, None]


def _alike(windows: Windows, content: Tensor, phase: int | None = None) -> int:
    """The window whose hit looks most like a part of the clip, if possible one in the same quarter of its token.

    Args:
        content: content features of the part, [T, 96].
    """
    away = (windows.content[:, BEFORE - 2 : BEFORE + 4].mean(1) - content.mean(0)).square().sum(1)
    other = (windows.phase != phase).to(away) if phase is not None else 0.0
    return int((away + 1e6 * other).argmin())
