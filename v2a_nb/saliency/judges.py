"""Judges of saliency maps: against the truth, against the system itself, and against maps that never asked it.

Against the truth of Strike World, whose sounding regions and events are known: :func:`pointing`,
:func:`relevance_mass`, :func:`pixel_ap`, :func:`area_iou` and :func:`temporal_pointing`. Maps tend to peak on the tool
that moves, just above the thing that it strikes, while the truth's mask holds the struck thing; so pointing is told
with no tolerance and with 6 % of the picture's side (Zhang et al. 2016 have 15 pixels).

Against the system: :func:`insertion_deletion` (Petsiuk et al. 2018) with two fills, :func:`infidelity` and
:func:`sensitivity` (Yeh et al. 2019, by captum), and two sanity checks (Adebayo et al. 2018): :func:`randomization` of
the weights and :func:`permutation` of the video. A map that stays what it was under weights that know nothing has
another source than what was learned.

Beside every map stand four that never asked the system (:func:`baseline_map`): uniform, centre, motion energy and
flicker. :func:`check` asks the judges that need no truth, and marks a map that survives randomization or does not beat
motion energy.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.audio.onsets import detect_onsets
from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError
from v2a_nb.saliency.methods import BASELINES, BATCH, METHODS, NEAR_S, Ask, Progress, attribute, blurred, pooled
from v2a_nb.saliency.result import Saliency
from v2a_nb.saliency.targets import FrameFunction, Target

TOLERANCE = 0.06
"""How far beside the mask a map may point, as a share of the picture's side."""
WITHIN_S = 0.08
"""How far from an event the curve may point, seconds."""
SURVIVES = 0.5
"""Spearman's correlation from which on a map counts as the same as the one under randomized weights."""
SHARES = (0.0, 0.03, 0.1, 0.25, 0.5, 1.0)
"""Shares of the cells that insertion and deletion exchange."""
FILLS = ("blur", "linear")
"""What stands where pixels were taken away: the blurred frame, or a noisy mean of what is left around (Rong et al.
2022), which gives away less of which cells were taken."""
CODERS = ("codec", "autoencoder", "vocoder", "super_resolution")
"""Parts of a system that turn sound into codes and latents: they look at no picture and are never randomized."""
SLOW = ("occlusion",)
"""Methods whose map takes too long to be made again for a check that nobody asked for."""


# --- against the truth --------------------------------------------------------------------------------


def _place(map_: np.ndarray) -> tuple[float, float]:
    """Where a map [T, h, w], summed over time, is greatest: y and x from 0 to 1; of several places the middle."""
    total = map_.sum(0)
    found = np.argwhere(total >= total.max() * (1 - 1e-6))
    y, x = ((found.mean(0) + 0.5) / total.shape).tolist()
    return y, x


def pointing(map_: np.ndarray, masks: np.ndarray, tolerance: float = 0.0) -> float:
    """1 where the map's greatest place lies in the truth's mask, or so near to it, else 0; NaN without a mask.

    Args:
        map_: [T, h, w].
        masks: of the frames around the true events, bool [n, H, W].
        tolerance: as a share of the picture's side.
    """
    mask: np.ndarray = np.any(masks, axis=0)
    if not mask.any():
        return float("nan")
    y, x = _place(map_)
    rows, columns = np.nonzero(mask)
    # the distance from the place to the nearest pixel's square, not to its middle
    down, across = np.abs(rows + 0.5 - y * len(mask)), np.abs(columns + 0.5 - x * len(mask[0]))
    away = np.hypot(np.maximum(down - 0.5, 0), np.maximum(across - 0.5, 0))
    return float(away.min() <= tolerance * len(mask[0]) + 1e-9)


def relevance_mass(map_: np.ndarray, masks: np.ndarray) -> float:
    """Share of the map that lies in the truth's mask (Arras et al. 2020); NaN without a mask, or for an empty map."""
    mask, total = np.asarray(masks).any(0), _resized(map_.sum(0), masks.shape[1:])
    return float(total[mask].sum() / total.sum()) if mask.any() and total.sum() > 0 else float("nan")


def pixel_ap(map_: np.ndarray, masks: np.ndarray) -> float:
    """Average precision of the map's pixels against the truth's; chance is the mask's share of the picture."""
    mask = np.asarray(masks).any(0).ravel()
    if not mask.any():
        return float("nan")
    values = _resized(map_.sum(0), masks.shape[1:]).ravel()
    order = np.argsort(-values, kind="stable")
    ranked, hits = values[order], np.cumsum(mask[order])
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # equal values are taken together
    recall = hits[last] / hits[-1]
    return float((np.diff(recall, prepend=0) * hits[last] / (last + 1)).sum())


def area_iou(map_: np.ndarray, masks: np.ndarray) -> float:
    """Intersection over union of the truth's mask and as many pixels, those where the map is greatest."""
    mask = np.asarray(masks).any(0)
    if not mask.any():
        return float("nan")
    values = _resized(map_.sum(0), mask.shape).ravel()
    top = np.zeros(mask.size, bool)
    top[np.argsort(-values, kind="stable")[: mask.sum()]] = True
    return float((top & mask.ravel()).sum() / (top | mask.ravel()).sum())


def temporal_pointing(map_: np.ndarray, fps: float, times: Sequence[float], within_s: float = WITHIN_S) -> float:
    """1 where the map over time peaks within 80 ms of a true event, else 0; NaN without events.

    Of several frames as great, their middle counts.
    """
    if not len(times):
        return float("nan")
    curve = np.asarray(map_).mean((1, 2))
    peak = (np.flatnonzero(curve >= curve.max() * (1 - 1e-6)).mean() + 0.5) / fps
    return float(np.abs(np.asarray(times) - peak).min() <= within_s + 1e-9)


def against_truth(map_: np.ndarray, fps: float, masks: np.ndarray, times: Sequence[float]) -> dict[str, float]:
    """All numbers that need the truth, by name. A map without a place, [T, 1, 1], has only its time judged."""
    found = {"temporal_pointing_80ms": temporal_pointing(map_, fps, times)}
    if map_.shape[1:] == (1, 1):
        return found
    return {
        "pointing": pointing(map_, masks), "pointing_6pc": pointing(map_, masks, TOLERANCE),
        "relevance_mass": relevance_mass(map_, masks), "pixel_ap": pixel_ap(map_, masks),
        "area_iou": area_iou(map_, masks), **found,
    }  # fmt: skip


def onset_pointing(saliency: Saliency, sound: Sound | None) -> dict[str, float]:
    """Temporal pointing of a map against the onsets of a clip's own sound, of which the truth is not known.

    Onsets in the window count; without one, or without a sound, there is nothing to say.
    """
    if sound is None:
        return {}
    start, end = saliency.window
    times = [t for t in detect_onsets(sound.mono().resample(16000)) if start - WITHIN_S <= t <= end]
    return {"onset_pointing_80ms": temporal_pointing(saliency.map, saliency.fps, times)} if times else {}


def _resized(map_: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """A map [h, w] at another size, bilinear."""
    made = F.interpolate(torch.from_numpy(np.array(map_, np.float32))[None, None], tuple(size), mode="bilinear")
    return made[0, 0].numpy()


# --- maps that never asked the system -----------------------------------------------------------------


def motion_energy(frames: Tensor) -> Tensor:
    """Absolute change from frame to frame [T, H, W] of frames [1, T, 3, H, W]."""
    change = frames[0].diff(dim=0).abs().mean(1)
    return torch.cat([change[:1] * 0, change])


def flicker(frames: Tensor) -> Tensor:
    """Absolute difference of each frame from the mean of its neighbours, [T, H, W] of frames [1, T, 3, H, W].

    It is great where a decoder's blocks, a lamp or the grain of the picture flicker, and small where something moves
    on evenly.
    """
    x = frames[0]
    padded = torch.cat([x[:1], x, x[-1:]])
    return (x - (padded[:-2] + padded[2:]) / 2).abs().mean(1)


def _centre(frames: Tensor) -> Tensor:
    height, width = frames.shape[-2:]
    y, x = (torch.linspace(-1, 1, n) for n in (height, width))
    bump = torch.exp(-2 * (y[:, None].square() + x[None].square()))
    return bump.expand(frames.shape[1], -1, -1).to(frames)


BASELINE_MAPS: dict[str, Callable[[Tensor], Tensor]] = {
    "uniform": lambda frames: torch.ones_like(frames[0, :, 0]), "centre": _centre, "motion energy": motion_energy,
    "flicker": flicker,
}  # fmt: skip
"""By name, from frames [1, T, 3, H, W] to a map [T, H, W]."""


def baseline_map(name: str, target: Target) -> Saliency:
    """One of :data:`BASELINE_MAPS`, in the frames of the target's window, which it is told as methods are.

    Raises:
        UsageError: there is no such map.
    """
    if name not in BASELINE_MAPS:
        raise UsageError(f"unknown baseline map {name!r}; there is {', '.join(BASELINE_MAPS)}")
    made = pooled(BASELINE_MAPS[name](target.frames)).cpu().numpy()
    times = (np.arange(len(made)) + 0.5) / target.fps
    inside = (times >= target.window[0] - NEAR_S) & (times <= target.window[1] + NEAR_S)
    return Saliency(made * inside[:, None, None], target.fps, target.window, target=target.title, method=name)


# --- against the system -------------------------------------------------------------------------------


def insertion_deletion(
    saliency: Saliency, target: Target, fill: str = "blur", *, seed: int = 0, progress: Progress = None
) -> dict[str, float]:
    """How the target falls while the map's greatest cells are taken away, and rises while only they are shown.

    Args:
        saliency: the map.
        target: that it explains.
        fill: out of :data:`FILLS`.
        seed: of the noise of ``"linear"``.
        progress: as for :func:`~v2a_nb.saliency.methods.attribute`.

    Returns:
        ``deletion``, lower is better, and ``insertion``, higher is better: means of the target over :data:`SHARES`;
        ``faithfulness``, their difference, is above 0 for a map that says more than any order would. In the target's
        own unit.

    Raises:
        UsageError: there is no such fill.
    """
    if fill not in FILLS:
        raise UsageError(f"unknown fill {fill!r}; there is {', '.join(FILLS)}")
    frames, ask = target.frames, Ask(target, target.frames, seed, progress)
    order = torch.from_numpy(np.argsort(-saliency.map.ravel(), kind="stable").copy())
    blank, pictures = blurred(frames), []
    for share in SHARES:
        taken = torch.zeros(saliency.map.size, dtype=torch.bool)
        taken[order[: round(share * len(order))]] = True
        wide = _on_pixels(taken.view(saliency.map.shape).float(), frames) > 0.5
        for hidden in (wide, ~wide):
            pictures.append(
                torch.where(hidden, blank if fill == "blur" else _linear(frames, hidden, blank, seed), frames)
            )
    with torch.no_grad():
        values = torch.cat([ask.values(some) for some in torch.cat(pictures).split(BATCH)]).tolist()
    means = {name: float(np.trapezoid(values[k::2], SHARES)) for k, name in enumerate(("deletion", "insertion"))}
    return {**means, "faithfulness": means["insertion"] - means["deletion"]}


def _on_pixels(map_: Tensor, frames: Tensor) -> Tensor:
    """A map [T, h, w] at the size of frames, [1, T, 1, H, W]."""
    return F.interpolate(map_[:, None].to(frames), frames.shape[-2:], mode="nearest")[None]


def _linear(frames: Tensor, hidden: Tensor, blank: Tensor, seed: int) -> Tensor:
    """What lies around the hidden pixels [1, T, 1, H, W] drawn into them, with a little noise."""
    hole = hidden[0].to(frames)
    x = torch.where(hidden, blank, frames)[0]
    for _ in range(6):
        x = frames[0] * (1 - hole) + F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1) * hole
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).to(x)
    return (x + 0.02 * noise * hole).clamp(0, 1)[None]


def infidelity(saliency: Saliency, target: Target, *, samples: int = 8, seed: int = 0) -> float:
    """By how much the map misses what happens when random cells are blurred (Yeh et al. 2019, captum).

    The map is scaled as fits best, and the error is told as a share of what happens at all: 0 is perfect, 1 says
    nothing.
    """
    from captum.metrics import infidelity as captum_infidelity

    frames, blank = target.frames, blurred(target.frames)
    map_ = torch.from_numpy(saliency.map.copy())
    shares = _on_pixels(map_ / max(float(map_.sum()), 1e-12), frames).expand_as(frames)

    def perturb(x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.rand(len(x), frames.shape[1], 1, 8, 8) < torch.rand(len(x), 1, 1, 1, 1)
        wide = torch.stack([_on_pixels(each[:, 0].float(), frames)[0] for each in hidden])
        return wide.expand_as(x).contiguous(), x * (1 - wide) + blank * wide

    def error(attributions: Tensor, normalize: bool) -> float:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            made = captum_infidelity(
                target, perturb, frames, attributions, n_perturb_samples=samples, max_examples_per_batch=BATCH,
                normalize=normalize,
            )  # fmt: skip
        return float(made[0])

    if not saliency.map.any():
        return 1.0
    return error(shares.contiguous(), True) / max(error(torch.zeros_like(frames), False), 1e-12)


def sensitivity(saliency: Saliency, target: Target, *, samples: int = 3, seed: int = 0) -> float:
    """How much a map changes at most under noise that nobody sees, as a share of the map's length: 0 is not at all.

    Yeh et al. 2019, by captum.
    """
    from captum.metrics import sensitivity_max

    def explanation(inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        frames = inputs[0]
        made = [attribute(with_frames(target, each[None]), **_how(saliency, seed)).map for each in frames.detach()]
        # a tuple: of a bare tensor captum 0.9 divides by the norm of the stillest frame, and not of the whole map
        return (torch.from_numpy(np.ascontiguousarray(np.stack(made))),)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = sensitivity_max(
            explanation, (target.frames,), perturb_radius=0.01, n_perturb_samples=samples, max_examples_per_batch=1
        )
    return float(made.reshape(-1)[0])


def with_frames(target: Target, frames: Tensor) -> Target:
    """The same target of other frames [1, T, 3, H, W]."""
    other = copy.copy(target)
    other.frames, other.notes = frames, [*target.notes]
    return other


def _how(saliency: Saliency, seed: int) -> dict:
    """With what a map was made, as arguments of ``attribute``."""
    if saliency.method not in METHODS:
        raise UsageError(f"{saliency.method!r} is no method that could be asked again")
    return {"method": saliency.method, "baseline": saliency.baseline or next(iter(BASELINES)), "seed": seed}


# --- sanity checks ------------------------------------------------------------------------------------


@contextmanager
def randomized(target: Target, seed: int = 0, parts: Sequence[str] | None = None) -> Iterator[None]:
    """Inside, the entries of each weight of what is explained are shuffled; outside everything is as it was.

    Args:
        seed: of the order.
        parts: names of parts of the system, such as ``["decoder"]``; left out, all but :data:`CODERS`.
    """
    network = target.function if isinstance(target, FrameFunction) else target.system
    if not isinstance(network, nn.Module):
        raise UsageError(f"{target.title} is no network whose weights could be randomized")
    generator, before = torch.Generator().manual_seed(seed), []
    try:
        for name, p in network.named_parameters():
            part = name.split(".")[0]
            if part in CODERS or (parts is not None and part not in parts):
                continue
            before.append((p, p.detach().clone()))
            order = torch.randperm(p.numel(), generator=generator).to(p.device)
            p.data = p.detach().flatten()[order].view_as(p).contiguous()
        yield
    finally:
        for p, kept in before:
            p.data = kept


def randomization(
    saliency: Saliency, target: Target, *, seed: int = 0, parts: Sequence[str] | None = None, progress: Progress = None
) -> float:
    """Spearman's correlation of the map with the one under :func:`randomized` weights: near 0 for a sane method."""
    with randomized(target, seed, parts):
        other = attribute(target, **_how(saliency, seed), progress=progress)
    return likeness(saliency.map, other.map)


def permutation(saliency: Saliency, target: Target, frames: Tensor | None = None, *, seed: int = 0) -> float:
    """Spearman's correlation of the map with the one for another video beside the same sound.

    Args:
        frames: of the other video, [1, T, 3, H, W]; left out, the clip's own, half a clip later, its beginning after
            its end.
    """
    other = target.frames.roll(target.frames.shape[1] // 2, dims=1) if frames is None else frames
    return likeness(saliency.map, attribute(with_frames(target, other), **_how(saliency, seed)).map)


def likeness(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's correlation of two maps [T, h, w], summed over time; 0 where one of them is the same everywhere.

    When is left out, because the window says most of it, under any weights; of maps without a place it is all there is.
    """
    from scipy.stats import spearmanr

    one, two = ((m.sum(0) if m.shape[1:] != (1, 1) else m).ravel() for m in (first, second))
    if one.shape != two.shape or np.ptp(one) == 0 or np.ptp(two) == 0:
        return 0.0
    return float(spearmanr(one, two)[0])  # pyright: ignore[reportArgumentType]


def check(saliency: Saliency, target: Target, *, seed: int = 0, progress: Progress = None) -> Saliency:
    """The map with the scores of the judges that need no truth, and with marks where it fails.

    It is asked whether it survives randomization of the weights (not of :data:`SLOW` methods, and that is noted), and
    whether it beats motion energy in insertion minus deletion, the mean of both fills.
    """
    scores: dict[str, float] = {}
    notes = list(saliency.notes)
    if saliency.method in SLOW:
        notes.append(
            f"randomization was not asked of {saliency.method}, which takes long; v2a-nb score saliency asks it"
        )
    else:
        scores["randomization"] = randomization(saliency, target, seed=seed, progress=progress)
    motion = baseline_map("motion energy", target)
    for fill in FILLS:
        how = {"fill": fill, "seed": seed, "progress": progress}
        scores |= {f"{k}_{fill}": v for k, v in insertion_deletion(saliency, target, **how).items()}
        scores[f"faithfulness_{fill}_motion"] = insertion_deletion(motion, target, **how)["faithfulness"]
    return replace(saliency, notes=tuple(notes)).with_scores(scores, marks_of(scores))


def marks_of(scores: dict[str, float]) -> tuple[str, ...]:
    """Why a map should not be believed, from its scores."""
    marks = []
    if scores.get("randomization", 0.0) >= SURVIVES:
        marks.append(f"it survives randomized weights (correlation {scores['randomization']:.2f})")
    own, motion = (
        np.mean([scores.get(f"faithfulness_{fill}{end}", np.nan) for fill in FILLS]) for end in ("", "_motion")
    )
    if own <= motion:
        marks.append(f"it does not beat motion energy (faithfulness {own:.3g} against {motion:.3g})")
    return tuple(marks)
