"""The codec explorer: what each further codebook costs and brings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from v2a_nb import plots
from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError, check_types
from v2a_nb.widgets import explorer_frame as frame

if TYPE_CHECKING:
    from torch import Tensor

    from v2a_nb.models.codec import Codec

SHOWN = 5  # most cards of a page


class CodecExplorer(frame.Explorer):
    """What :func:`explore_codec` returns."""

    lead = (
        "Upper picture: the codes that are kept. Lower picture and sound: what they decode to. The first codebook "
        "has most of the timing; each further one brings texture, for as many bits again."
    )

    def __init__(
        self,
        sound: Sound,
        codec: Codec,
        codebooks: int | Sequence[int] | None,
        events: Mapping | Sequence | None,
        title: str,
    ) -> None:
        given = frame.checked(sound, "explore_codec")
        self.codec, self.times = codec, frame.times_of(events)
        self.sound = given.resample(codec.sample_rate)
        self._remarks = tuple(
            words
            for words, true in (
                ("mixed to mono", sound.channels > 1),
                (f"resampled to {codec.sample_rate} Hz", given.sample_rate != codec.sample_rate),
            )
            if true
        )
        self._codes: Tensor | None = None
        if codebooks is None:
            most = codec.num_codebooks
            codebooks = sorted({round(k) for k in np.geomspace(1, most, min(most, SHOWN))})
        if isinstance(codebooks, int):
            codebooks = [codebooks]
        super().__init__(
            title or f"Codec explorer: {codec.num_codebooks} codebooks of {codec.codebook_size}",
            [{"codebooks": k} for k in codebooks],
            {"codebooks": codec.num_codebooks},
        )

    @property
    def codes(self) -> Tensor:
        """The sound's codes, int64 [1, K, T]; encoded once."""
        if self._codes is None:
            self._codes = encode(self.sound, self.codec)
        return self._codes

    def _check(self, settings: dict) -> None:
        check(self.codec, settings["codebooks"])

    def _compute(self, settings: dict) -> frame.Variant:
        return decoded_at(self.sound, self.codec, self.codes, settings["codebooks"], times=self.times)

    def _first(self) -> list[frame.Variant]:
        numbers = {
            "kbit/s": 16 * self.codec.sample_rate / 1000,
            "level (dBFS)": self.sound.rms_dbfs,
            **frame.onset_f1(self.sound, self.times, self.sound),
        }
        draw = partial(frame.spectrogram_of, self.sound)
        return [frame.Variant("original, 16 bits", {}, self.sound, draw, numbers, self._remarks)]

    def _controls(self, w) -> dict:
        most = self.codec.num_codebooks
        return {
            "codebooks": w.IntSlider(
                value=most, min=1, max=most, description="Codebooks", **frame.control_style(w, continuous_update=False)
            )
        }


@check_types
def explore_codec(
    sound: Sound,
    codec: Codec | str | Path | None = None,
    *,
    codebooks: int | Sequence[int] | None = None,
    events: Mapping | Sequence | None = None,
    title: str = "",
) -> CodecExplorer:
    """Decode a sound from the first 1, 2 ... K codebooks of a codec, and compare.

    The result is displayed as a static page that needs no kernel. ``.live()`` has a slider and needs one,
    ``.at(codebooks=2)`` returns one choice, ``.table`` has the numbers, and ``.save(path)`` writes the page.

    Args:
        sound: of any rate; it is mixed to mono and resampled to the codec's.
        codec: a :class:`~v2a_nb.models.codec.Codec`, or what :func:`~v2a_nb.models.codec.load_codec` takes; left
            out, the shipped one.
        codebooks: numbers of codebooks to keep, one card each; left out, up to five steps from 1 to all.
        events: true events (of ``truth.json``) or their times, s; with them the onset F1 is against the truth.
        title: heading of the page.

    Raises:
        UsageError: an argument of a wrong type, an empty sound, or more codebooks than the codec has.
        WeightsError: there are no such weights.

    Examples:
        >>> explorer = explore_codec(sound)
        >>> explorer.at(codebooks=1).numbers["kbit/s"]
        0.4
    """
    if codec is None or isinstance(codec, str | Path):
        from v2a_nb.models.codec import load_codec

        codec = load_codec(codec or "codec")
    if not all(hasattr(codec, name) for name in ("encode", "decode", "sample_rate", "num_codebooks", "codebook_size")):
        raise UsageError(f"explore_codec needs a codec, not a {type(codec).__name__}; leave it out for the shipped one")
    return CodecExplorer(sound, codec, codebooks, events, title)


def check(codec: Codec, codebooks: int) -> None:
    """Raise :class:`UsageError` unless the codec has so many codebooks."""
    integral = isinstance(codebooks, int | np.integer) and not isinstance(codebooks, bool)
    if not integral or not 1 <= codebooks <= codec.num_codebooks:
        raise UsageError(f"codebooks {codebooks!r}: from 1 to {codec.num_codebooks} are needed")


def bitrate(codec: Codec, codebooks: int) -> float:
    """Bits per second of ``codebooks`` codebooks: frames per second times log2 of the codebook size, for each.

    Raises:
        UsageError: the codec has fewer codebooks.
    """
    check(codec, codebooks)
    return codebooks * math.log2(codec.codebook_size) * codec.frame_rate


def encode(sound: Sound, codec: Codec) -> Tensor:
    """Encode a mono sound at the codec's rate: codes int64 [1, K, T]."""
    import torch

    wave = torch.from_numpy(sound.samples.copy())  # [1, n]
    if isinstance(codec, torch.nn.Module):
        where = next(iter(codec.state_dict().values()), wave).device
        wave = wave.to(where)
    return codec.encode(wave)


def decoded_at(
    sound: Sound, codec: Codec, codes: Tensor, codebooks: int, *, times: np.ndarray | None = None
) -> frame.Variant:
    """Decode the first ``codebooks`` of ``codes`` [1, K, T], and measure the result.

    Returns:
        a variant whose numbers are ``kbit/s``, ``log-mel distance (dB)`` to the original, ``level (dBFS)`` and an
        onset F1.

    Raises:
        UsageError: the codec has fewer codebooks.
    """
    check(codec, codebooks)
    kept = codes[:, :codebooks]
    decoded = Sound(codec.decode(kept, sound.n).float().cpu().numpy(), codec.sample_rate)
    numbers = {
        "kbit/s": bitrate(codec, codebooks) / 1000,
        "log-mel distance (dB)": frame.distance_db(sound, decoded),
        "level (dBFS)": decoded.rms_dbfs,
        **frame.onset_f1(decoded, times, sound),
    }
    label = f"{codebooks} of {codec.num_codebooks} codebooks"
    draw = partial(_picture, decoded, kept[0].cpu().numpy(), codec, label)
    return frame.Variant(label, {"codebooks": codebooks}, decoded, draw, numbers)


def _picture(decoded: Sound, codes: np.ndarray, codec: Codec, label: str) -> plots.Figure:
    from matplotlib.figure import Figure

    fig = Figure(figsize=(4.6, 3.4), layout="constrained")
    above, below = fig.subplots(2, 1, sharex=True, height_ratios=(1, 2))
    plots.codes(codes, codec.frame_rate, above)
    above.images[0].set_clim(0, codec.codebook_size - 1)  # the same colours whatever is kept
    above.set(xlabel="", ylim=(codec.num_codebooks - 0.5, -0.5))  # rows that are left out stay empty
    above.set_facecolor("#999999")  # which is no colour of a code, on a light page or a dark one
    above.set_yticks([0, codec.num_codebooks - 1] if codec.num_codebooks > 1 else [0])
    above.set_yticklabels([str(int(row) + 1) for row in above.get_yticks()])
    plots.spectrogram(decoded, below)
    below.set(ylabel="Hz", xlim=(0, decoded.duration))
    return plots.show(fig, f"{label}: codes above, spectrogram of what they decode to below, {decoded.duration:.2f} s.")
