"""The MP4 writer: H.264 or HEVC and AAC, encoded picture by picture and block by block."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from operator import itemgetter
from pathlib import Path

import numpy as np

from v2a_nb.errors import MediaError
from v2a_nb.files import atomic
from v2a_nb.media.pictures import BT709, HLG, PQ, UNSPECIFIED, assumed_matrix, is_rgb
from v2a_nb.media.soundtracks import Soundtrack

AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
AAC_LAYOUTS = ("mono", "stereo", "3.0", "4.0", "5.0", "5.1")
TICKS = 90000  # of the video stream's clock, per second
LAG = 0.5  # seconds by which sound is written behind the pictures, whose end it must know
RGB, LIMITED, FULL = 0, 1, 2  # a matrix; ranges, as FFmpeg numbers them

Packets = Iterator[tuple[float, Sequence]]
"""Lists of encoded packets with the times, seconds, by which they are sorted into the file."""


@contextmanager
def create(path: str | Path, format: str = "mp4") -> Iterator:
    """Open a container that gets its name when it is complete.

    Raises:
        MediaError: the file cannot be written; nothing of it is left.
    """
    import av
    from av.error import FFmpegError

    path = Path(path)
    try:
        with atomic(path) as partial, av.open(str(partial), "w", format=format) as container:
            yield container
    except (OSError, FFmpegError) as error:
        raise MediaError(f"{path}: cannot be written: {error.strerror or error}") from error


def mux(container, *sources: Packets) -> None:
    """Write the packets of several streams in the order of their times, as they come."""
    for _, packets in heapq.merge(*sources, key=itemgetter(0)):
        container.mux(packets)


def write(
    pictures: Iterable[tuple[np.ndarray, float, float]],
    sound: Soundtrack | None,
    path: str | Path,
    *,
    fps: float,
    duration: float,
    crf: int,
    preset: str,
) -> Path:
    """Write RGB pictures and their sound; one picture and one block of sound at a time are in memory.

    Args:
        pictures: tuples (picture, from, until): uint8 [H, W, 3] and two times in seconds, in order. The first
            picture gives the size.
        sound: a soundtrack, cut or filled to ``duration``, or None.
        path: the file; missing folders above it are made.
        fps: the frame rate in the header; the times of the frames are those of ``pictures``.
        duration: of the sound, seconds.
        crf, preset: settings of the H.264 encoder.

    Returns:
        ``path``.

    Raises:
        MediaError: the file cannot be written, there is no picture, or the first one is too small for H.264.
    """
    import av

    frames = (
        (av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24"), begin, end)
        for picture, begin, end in pictures
    )
    with create(path) as container:
        sources = [add_pictures(container, frames, path, fps=fps, crf=crf, preset=preset)[1]]
        if sound is not None:
            sources.append(add_sound(container, sound, lambda: duration)[1])
        mux(container, *sources)
    return Path(path)


def add_sound(container, sound: Soundtrack, seconds: Callable[[], float | None] | None, *, surround: bool = False):
    """Add a stream of AAC.

    Args:
        sound: is resampled to a rate that AAC has.
        seconds: gives the length to which the sound is cut or filled, or None while it is unknown; itself None,
            the sound keeps its length.
        surround: keep more than two channels; else they are mixed to two.

    Returns:
        the stream, and its packets, which are encoded as they are asked for.
    """
    if sound.channels > 2 and not (surround and sound.places in AAC_LAYOUTS):
        sound = sound.with_channels(2)
    higher = [r for r in AAC_RATES if r >= sound.sample_rate]
    sound = sound.resampled(higher[0] if higher else AAC_RATES[-1])
    sound = sound.fitted(seconds) if seconds else sound
    stream = container.add_stream("aac", rate=sound.sample_rate)
    stream.layout = sound.places
    stream.bit_rate = {1: 128000, 2: 192000}.get(sound.channels, 64000 * sound.channels)
    return stream, _encode_audio(stream, sound)


def _encode_audio(stream, sound: Soundtrack) -> Packets:
    import av

    clock, n = Fraction(1, sound.sample_rate), 0
    yield LAG, ()  # so long nothing is read of the sound
    for block in sound.cut(stream.codec_context.frame_size or 1024):
        block = np.clip(block, -1.0, 1.0, dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout=sound.places)
        frame.sample_rate, frame.pts, frame.time_base = sound.sample_rate, n, clock
        n += block.shape[1]
        yield float(n * clock) + LAG, stream.encode(frame)
    yield float(n * clock) + LAG, stream.encode(None)


def add_pictures(
    container,
    frames: Iterable[tuple],
    path: str | Path,
    *,
    fps: float,
    crf: int,
    preset: str,
    tune: str | None = None,
    aspect: Fraction | None = None,
    full_colours: bool = False,
):
    """Add a stream of H.264, or of HEVC for HDR pictures.

    Decoded pictures keep their pixel format where the encoder has it, their colour tags, rotation and mirroring.
    Where they have no tags, they get those that players assume: BT.709 for more than 1279 columns or 576 rows, BT.601
    for less. RGB becomes 4:2:0 of these, or 4:4:4. In 4:2:0, pictures of odd width or height lose their last column or
    row. HDR keeps what the first picture says of the screen that it was made on, and of its brightest light.

    Args:
        frames: tuples (``av.VideoFrame``, from, until), times in seconds.
        path: for errors.
        fps: the frame rate in the header.
        crf, preset, tune: settings of the encoder.
        aspect: width of a pixel divided by its height; None leaves it open, which is 1.
        full_colours: RGB becomes 4:4:4, which fewer players show.

    Returns:
        the stream, and its packets, which are encoded as they are asked for.

    Raises:
        MediaError: there is no picture, or the first one is too small.
    """
    coming = iter(frames)
    first = next(coming, None)
    if first is None:
        raise MediaError(f"{path}: there is no picture to write")
    form = _Form.of(first[0], full_colours)
    if form.height == 0 or form.width == 0:
        raise MediaError(f"{path}: a picture of {first[0].width}x{first[0].height} is too small for H.264")
    stream = container.add_stream(form.encoder, rate=Fraction(fps).limit_denominator(1001 * 60))
    stream.width, stream.height, stream.pix_fmt = form.width, form.height, form.pixels
    # without cpu-independent, x264 differs from run to run at small sizes; with B-frames, an mp4 of
    # uneven frame times ends at the wrong moment
    params = "log-level=error:bframes=0" if form.encoder == "libx265" else "cpu-independent=1:bframes=0"
    if form.encoder == "libx264" and "444" in form.pixels:
        params += ":chroma-qp-offset=-6"  # undoes what x264 takes from colours in 4:4:4
    params = ":".join([params, *(_light(first[0]) if form.encoder == "libx265" else ())])
    stream.options = {"crf": str(crf), "preset": preset, f"{form.encoder[3:]}-params": params}
    if tune:
        stream.options["tune"] = tune
    context = stream.codec_context
    context.time_base = Fraction(1, TICKS)
    context.colorspace, context.color_primaries, context.color_trc = form.matrix, form.primaries, form.transfer
    context.color_range = form.range
    if form.encoder == "libx265":
        context.codec_tag = "hvc1"  # which Apple's players need
    if aspect:
        context.sample_aspect_ratio = aspect
    if matrix := display_matrix(first[0]):
        stream.set_display_matrix(matrix)
    return stream, _encode_pictures(stream, form, chain([first], coming))


def _side_data(frame, name: str) -> list[int]:
    """What comes with a decoded picture, as FFmpeg's 32-bit numbers; empty where nothing of that name comes."""
    try:
        data = next((data for data in frame.side_data if data.type.name == name), None)
    except ValueError:  # a kind that this PyAV does not know
        return []
    return [] if data is None else np.frombuffer(bytes(data), np.int32).tolist()


def display_matrix(frame) -> list[int] | None:
    """How players turn and mirror a decoded picture: FFmpeg's nine numbers, or None where they do not."""
    return _side_data(frame, "DISPLAYMATRIX") or None


def _light(frame) -> list[str]:
    """Parameters of x265 for the screen that an HDR picture was made on (SMPTE ST 2086), and for its brightest light.

    FFmpeg has red, green, blue and white as fractions of x and y, the least and the most light in nits, and whether
    it knows the colours and the light. x265 wants green, blue and red first, in units of 0.00002 and of 0.0001 nits.
    """
    found = []
    screen, most = _side_data(frame, "MASTERING_DISPLAY_METADATA"), _side_data(frame, "CONTENT_LIGHT_LEVEL")
    if len(screen) == 22 and screen[20] and screen[21]:
        values = [n / (d or 1) for n, d in zip(screen[:20:2], screen[1:20:2])]
        r, g, b, white = (f"({values[k] * 50000:.0f},{values[k + 1] * 50000:.0f})" for k in (0, 2, 4, 6))
        found.append(f"master-display=G{g}B{b}R{r}WP{white}L({values[9] * 10000:.0f},{values[8] * 10000:.0f})")
    if len(most) == 2:
        found.append(f"max-cll={most[0]},{most[1]}")
    return found


def _encode_pictures(stream, form: _Form, frames: Iterator[tuple]) -> Packets:
    durations: dict[int, int] = {}  # in ticks, by presentation time

    def timed(packets) -> Packets:
        for packet in packets:  # the last frame's duration follows from no other frame's time
            packet.duration = durations.pop(packet.pts, packet.duration)
            yield packet.dts / TICKS, (packet,)

    for frame, begin, end in frames:
        frame = form.fit(frame)
        frame.pts, frame.time_base = round(begin * TICKS), Fraction(1, TICKS)
        frame.duration = durations[frame.pts] = round((end - begin) * TICKS)
        frame.pict_type = 0  # the encoder chooses its key frames anew
        yield from timed(stream.encode(frame))
    yield from timed(stream.encode(None))


@dataclass
class _Form:
    """What pictures an encoder gets.

    Attributes:
        encoder: FFmpeg's name of it.
        pixels: the pixel format.
        width, height: even where the format's chroma is halved.
        matrix, primaries, transfer: colour tags, ITU-T H.273.
        range: ``LIMITED`` or ``FULL``.
    """

    encoder: str
    pixels: str
    width: int
    height: int
    matrix: int
    primaries: int
    transfer: int
    range: int
    _crop = None

    @classmethod
    def of(cls, frame, full_colours: bool) -> _Form:
        """Choose the form that keeps most of a decoded picture; RGB becomes 4:4:4 if ``full_colours``."""
        import av

        hdr = frame.color_trc in (PQ, HLG) and "libx265" in av.codecs_available
        encoder = "libx265" if hdr else "libx264"
        names = [f.name for f in av.Codec(encoder, "w").video_formats or ()]
        pixels = _pixels(frame.format, names, full_colours)
        kind = av.VideoFormat(pixels, 16, 16)
        wide, high = (16 // kind.chroma_width(16), 16 // kind.chroma_height(16))
        tagged = not frame.format.is_rgb and frame.colorspace not in (RGB, UNSPECIFIED)
        matrix = frame.colorspace if tagged else assumed_matrix(frame)
        rest = UNSPECIFIED if tagged else matrix
        return cls(
            encoder,
            pixels,
            frame.width // wide * wide,
            frame.height // high * high,
            matrix,
            rest if frame.color_primaries == UNSPECIFIED else frame.color_primaries,
            rest if frame.color_trc == UNSPECIFIED else frame.color_trc,
            FULL if not frame.format.is_rgb and (frame.color_range == FULL or "yuvj" in frame.format.name) else LIMITED,
        )

    def fit(self, frame):
        """Convert a picture; one that has the form already is returned as it is."""
        if frame.format.is_rgb:
            frame = frame.reformat(
                format=self.pixels,
                dst_colorspace=BT709 if self.matrix == BT709 else 5,  # swscale's number of BT.601
                dst_color_range=self.range,
            )
        elif frame.format.name != self.pixels:
            frame.colorspace = self.matrix
            frame = frame.reformat(format=self.pixels)
        odd = (frame.width // 2 * 2, frame.height // 2 * 2) == (self.width, self.height)
        if odd and (frame.width, frame.height) != (self.width, self.height):
            frame = self._cropped(frame)
        return frame

    def _cropped(self, frame):
        if self._crop is None:
            from av.filter import Graph

            self._crop = Graph()
            source = self._crop.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, TICKS)
            )
            crop = self._crop.add("crop", f"{self.width}:{self.height}:0:0")
            self._crop.link_nodes(source, crop, self._crop.add("buffersink")).configure()
        self._crop.vpush(frame)
        return self._crop.vpull()


def _pixels(kind, names: list[str], full_colours: bool) -> str:
    """Among an encoder's pixel formats, the one that keeps most of a format's depth and chroma."""
    if kind.name in names and not kind.name.startswith(("gray", "nv")):
        return kind.name
    chroma = (kind.chroma_width(16), kind.chroma_height(16))
    if (is_rgb(kind) and not full_colours) or len(kind.components) < 3 or chroma == (8, 8):
        sampling = "420"
    else:
        sampling = "422" if chroma[0] < 16 else "444"
    deep = max(component.bits for component in kind.components) > 8
    return f"yuv{sampling}p10le" if deep else f"yuv{sampling}p"
