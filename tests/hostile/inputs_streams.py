"""Inputs that are whole and unusual: sizes, lengths, rates, channels, clocks, streams, formats."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
from hostile.cases import ANY, REFUSED, CannotBeMade, Case, Expect
from hostile.films import EVENTS, FPS, PICTURES, clicks, film, id3_cover, patched, wav, with_matrix
from hostile.inputs_damage import _image

GOOD = Expect()
SILENT = Expect(clicks=())
PLAIN = Expect(flashes=None, clicks=None)


def cases() -> Iterator[Case]:
    """All of them."""
    for family, inputs in {
        "sizes": sizes,
        "lengths": lengths,
        "samples": samples,
        "channels and rates": channels_and_rates,
        "sound against picture": sound_against_picture,
        "sound only": sound_only,
        "clocks": clocks,
        "streams": streams,
        "geometry": geometry,
        "pixel formats": pixel_formats,
        "extensions": extensions,
    }.items():
        for case in inputs():
            yield replace(case, family=family)


def case(name: str, write: Callable[[Path], Path], expect: Expect = GOOD, **more) -> Case:
    """A case whose family :func:`cases` sets."""
    return Case(name, "", write, expect, **more)


def of(suffix: str = "mp4", **options) -> Callable[[Path], Path]:
    """Writes ``clip.SUFFIX`` with these options of :func:`hostile.films.film`."""
    return lambda folder: film(folder / f"clip.{suffix}", **options)


def patch(change: Callable[[bytes], bytes], **options) -> Callable[[Path], Path]:
    """Writes ``clip.mp4`` and changes its bytes."""

    def write(folder: Path) -> Path:
        path = film(folder / "clip.mp4", **options)
        path.write_bytes(change(path.read_bytes()))
        return path

    return write


# --- pictures: how large, how many, how long ----------------------------------------------------


def sizes() -> Iterator[Case]:
    lossless = {"codec": "ffv1", "pix_fmt": "bgr0", "sound": "flac"}
    for width, height in ((1, 1), (2, 2), (17, 3), (200, 1), (3, 3), (65, 49)):
        expect = Expect(size=(width, height), made=min(width, height) > 1)  # H.264 has no picture of one row
        yield case(f"{width}x{height}", of("mkv", size=(width, height), **lossless), expect, fast=width == 17)
    for width, height in ((4096, 16), (16, 4096), (8192, 2)):
        yield case(f"{width}x{height}", of(size=(width, height)), Expect(size=(width, height)))
    big = {"codec": "mjpeg", "pix_fmt": "yuvj420p", "pictures": 2, "fps": 1}
    yield case(
        "8000x8000, two pictures", of("mkv", size=(8000, 8000), **big), Expect(None, 2, 2.0, None, None), size=96
    )
    yield case(
        "full HD, 12 s, no duration",
        of("mkv", size=(1920, 1080), pictures=300, options={"live": "1"}, codec_options={"preset": "ultrafast"}),
        Expect(True, 300, 12.0),
        size=96,
        limit_s=60,
    )


def lengths() -> Iterator[Case]:
    for n in (1, 2, 3):
        expect = Expect(True, n, n / 25, None, None)
        yield case(f"{n} pictures", of(pictures=n, seconds=n / 25), expect, fast=n == 1)
        yield case(f"{n} pictures without sound", of(pictures=n, sound=None), expect)
    yield case("1 picture and 2 s of sound", of("mkv", pictures=1, seconds=2.0), Expect(True, 1, None, None, None))
    yield case("a picture for an hour", still, Expect(True, 1, 3600.0, None, None), limit_s=60, size=64)
    yield case(
        "two pictures, an hour apart",
        of("mkv", times=(0.0, 3599.0), pictures=2, sound=None, ticks=1000),
        Expect(True, 2, None, None, None),
        limit_s=60,
    )
    yield case(
        "an hour at 1 fps",
        of(pictures=3600, fps=1, sound=None, codec_options={"preset": "ultrafast"}),
        Expect(True, 3600, 3600.0, None, ()),
        limit_s=60,
    )
    yield case("an hour at 1 fps with sound", hour_with_sound, Expect(True, 3600, 3600.0, None, None), limit_s=90)
    yield case(
        "a minute of 320x240, by V-AURA",
        of(pictures=1500, size=(320, 240), codec_options={"preset": "ultrafast"}),
        Expect(True, 1500, 60.0),
        system="vaura",
        limit_s=180,
        size=64,
    )
    yield case("2 s by V-AURA", of(), system="vaura", fast=True)
    yield case("2 s of webm by V-AURA", of("webm", codec="libvpx", sound="libopus"), system="vaura")
    yield case("2 s at 60 fps by V-AURA", of(fps=60, pictures=120), Expect(True, 120), system="vaura")
    yield case(
        "10 minutes of 64x48",
        of(pictures=9000, fps=15, sound=None),
        Expect(True, 9000, 600.0, None, None),
        limit_s=90,
        size=48,
    )


def still(folder: Path) -> Path:
    """One picture whose header says that it lasts an hour."""

    def last(packet):
        packet.duration = round(3600 / packet.time_base)
        return packet

    return film(folder / "clip.mp4", pictures=1, sound=None, change=last)


def hour_with_sound(folder: Path) -> Path:
    wave = np.zeros((1, 3600 * 8000), np.float32)
    wave[0, ::8000] = 0.8
    options = {"preset": "ultrafast"}
    return film(folder / "clip.mkv", pictures=3600, fps=1, sound="flac", rate=8000, wave=wave, codec_options=options)


# --- sounds -------------------------------------------------------------------------------------


def samples() -> Iterator[Case]:
    silent = Expect(clicks=())
    for name, value in (("NaN", np.nan), ("infinite", np.inf), ("minus infinite", -np.inf), ("1e30", 1e30)):
        for suffix, codec in (("mov", "pcm_f32le"), ("mkv", "pcm_f64le")):
            expect = Expect(None, PICTURES, 2.0, EVENTS, None)
            yield case(
                f"{name} samples in {suffix}",
                partial(odd_sample, value, suffix, codec),
                expect,
                fast=name == "NaN" and suffix == "mov",
            )
        yield case(f"{name} samples in wav", partial(odd_wav, value), REFUSED)
    zeros = np.zeros((1, 96000), np.float32)
    for suffix, codec, sound in (
        ("mp4", "libx264", "aac"),
        ("webm", "libvpx", "libopus"),
        ("mov", "mpeg4", "pcm_s16le"),
    ):
        yield case(
            f"silence in {sound}", of(suffix, codec=codec, sound=sound, wave=zeros), silent, fast=suffix == "mp4"
        )
    loud = np.ones((2, 96000), np.float32)
    yield case("a constant", of(wave=loud, layout="stereo"), PLAIN)
    yield case("beyond full scale", of("mov", sound="pcm_f32le", wave=clicks(2.0, 48000) * 20), GOOD)
    opposite = clicks(2.0, 48000, 2) * np.array([[1], [-1]], np.float32)
    yield case("left against right", of("mov", sound="pcm_s16le", wave=opposite, layout="stereo"), GOOD)


def odd_sample(value: float, suffix: str, codec: str, folder: Path) -> Path:
    """Float samples; the resampler of FFmpeg hands NaN on."""
    wave = clicks(2.0, 48000)
    path = film(folder / f"clip.{suffix}", sound=codec, wave=wave)
    kind = "<f4" if codec == "pcm_f32le" else "<f8"
    data = path.read_bytes()
    pattern = wave[0, 30000:30004].astype(kind).tobytes()
    at = data.index(pattern)
    path.write_bytes(patched(data, at, np.full(4, value, kind).tobytes()))
    return path


def odd_wav(value: float, folder: Path) -> Path:
    wave = clicks(2.0, 16000)
    wave[0, 20000:20010] = value
    return wav(folder / "clip.wav", wave, 16000, kind=3, bits=32)


def channels_and_rates() -> Iterator[Case]:
    for layout in ("mono", "stereo", "2.1", "quad", "5.1", "5.1(side)", "7.1", "hexadecagonal"):
        yield case(
            f"{layout} sound", of("mkv", sound="pcm_s16le", layout=layout), Expect(sound=True), fast=layout == "7.1"
        )
    for layout, codec, suffix in (
        ("5.1", "aac", "mp4"),
        ("7.1", "aac", "mp4"),
        ("5.1", "ac3", "ts"),
        ("5.1", "libopus", "webm"),
    ):
        video = "libvpx" if suffix == "webm" else "libx264"
        yield case(f"{layout} {codec}", of(suffix, codec=video, sound=codec, layout=layout))
    for rate in (1000, 6000, 8000, 11025, 22050, 44100, 88200, 96000, 192000, 384000):
        yield case(f"pcm at {rate} Hz", of("mkv", sound="pcm_s16le", rate=rate), fast=rate in (8000, 192000))
    for rate in (7350, 8000, 11025, 44100, 96000):
        yield case(f"aac at {rate} Hz", of(rate=rate))
    for codec, suffix in (
        ("pcm_u8", "mkv"),
        ("pcm_s24le", "mov"),
        ("pcm_s32be", "mov"),
        ("pcm_alaw", "mov"),
        ("alac", "mov"),
        ("wavpack", "mkv"),
        ("mp2", "ts"),
        ("eac3", "mp4"),
    ):
        yield case(f"{codec} in {suffix}", of(suffix, sound=codec))
    yield case("sound that becomes stereo", joined_ts({"layout": "mono"}, {"layout": "stereo"}), TWICE)
    yield case("sound that changes its rate", joined_ts({"rate": 44100}, {"rate": 48000}), TWICE)


TWICE = Expect(True, 2 * PICTURES, 3.92, None, None)  # the second stream begins two pictures early, for B-frames


def joined_ts(first: dict, second: dict, events: bool = True) -> Callable[[Path], Path]:
    """Two transport streams one after the other, as ``cat`` joins them; the second one continues the clock."""

    def write(folder: Path) -> Path:
        later = {"sound_from": 2.0, "pictures_from": 2.0, **second}
        parts = [film(folder / "a.ts", **first), film(folder / "b.ts", **later)]
        path = folder / "clip.ts"
        path.write_bytes(b"".join(p.read_bytes() for p in parts))
        for part in parts:
            part.unlink()
        return path

    return write


def sound_against_picture() -> Iterator[Case]:
    for suffix, sound in (("mp4", "aac"), ("mkv", "flac"), ("ts", "aac"), ("mov", "pcm_s16le")):
        yield case(f"longer sound in {suffix}", of(suffix, sound=sound, seconds=3.0))
        yield case(
            f"shorter sound in {suffix}",
            of(suffix, sound=sound, seconds=0.9),
            Expect(clicks=(0.4,)),
            fast=suffix == "mp4",
        )
        late = Expect(clicks=(0.9, 1.7))
        yield case(f"sound 0.5 s late in {suffix}", of(suffix, sound=sound, sound_from=0.5), late, fast=suffix == "mkv")
        yield case(f"sound 10 s late in {suffix}", of(suffix, sound=sound, sound_from=10.0), Expect(clicks=()))
        early = Expect(clicks=(0.72,))
        yield case(f"pictures 0.48 s late in {suffix}", of(suffix, sound=sound, pictures_from=0.48), early)
    yield case("a hole in the sound", of("mkv", sound="flac", change=hole), GOOD)
    yield case("no sound at all", of(sound=None), SILENT, fast=True)
    yield case("sound without a packet", of("mkv", sound="flac", wave=np.zeros((1, 0), np.float32)), SILENT)


def hole(packet):
    """No sound between 0.6 s and 1.0 s."""
    return None if packet.stream.type == "audio" and 0.6 <= packet.pts * packet.time_base < 1.0 else packet


def sound_only() -> Iterator[Case]:
    for suffix, sound, kind in (
        ("wav", "pcm_s16le", None),
        ("mp3", "libmp3lame", None),
        ("flac", "flac", None),
        ("m4a", "aac", None),
        ("ogg", "libopus", None),
        ("mp4", "aac", None),
        ("mkv", "flac", None),
        ("webm", "libopus", None),
        ("aac", "aac", "adts"),
    ):
        write = of(suffix, codec=None, sound=sound, format=kind)
        yield case(f"{suffix} with sound alone", write, REFUSED, fast=suffix == "wav")
    yield case("mp3 with a cover", covered, REFUSED, fast=True)
    yield case("mp3 with a broken cover", partial(covered, broken=True), REFUSED)
    yield case("m4a of pictures alone", of("m4a", format="mp4", sound=None), SILENT)


def covered(folder: Path, broken: bool = False) -> Path:
    path = film(folder / "clip.mp3", codec=None, sound="libmp3lame")
    return id3_cover(path, _image("PNG")[: 60 if broken else None])


# --- clocks -------------------------------------------------------------------------------------


def clocks() -> Iterator[Case]:
    even = [k / 25 for k in range(PICTURES)]
    yield case("an hour later", of("mkv", pictures_from=3600.0, sound_from=3600.0), fast=True)
    yield case("a year later", of("mkv", pictures_from=3.15e7, sound_from=3.15e7))
    yield case("a second before zero", of("nut", codec="ffv1", sound="pcm_s16le", pictures_from=-1.0, sound_from=-1.0))
    negative = {"options": {"avoid_negative_ts": "disabled"}, "pictures_from": -0.48, "sound_from": -0.48}
    yield case("half a second before zero in mp4", of(**negative), ANY)
    yield case("half a second before zero in mkv", of("mkv", **negative), ANY)
    wrap = {"options": {"output_ts_offset": "95442.7"}}
    yield case("a clock that wraps", of("ts", **wrap), fast=True)
    yield case("a clock that wraps, mpeg2", of("ts", codec="mpeg2video", sound="mp2", **wrap))
    yield case(
        "a clock that jumps by an hour",
        joined_ts({}, {"sound_from": 3600.0, "pictures_from": 3600.0}),
        Expect(True, 2 * PICTURES, None, None, None),
        limit_s=60,
    )
    yield case(
        "a clock that goes back",
        joined_ts({"pictures_from": 100.0, "sound_from": 100.0}, {"pictures_from": 0.0, "sound_from": 0.0}),
        Expect(None, (PICTURES, 2 * PICTURES), None, None, None, whole=2 * PICTURES),
    )
    yield case(
        "pictures that jump by an hour",
        of("mkv", times=even[:25] + [t + 3600 for t in even[25:]], ticks=1000),
        Expect(True, PICTURES, None, None, None),
    )
    mjpeg = {"codec": "mjpeg", "pix_fmt": "yuvj420p"}
    yield case("pictures twice at a time", of("mkv", change=doubled, **mjpeg), Expect(True, (45, PICTURES)))
    yield case("all pictures at one time", of("mkv", sound=None, change=at_once, **mjpeg), ANY)
    uneven = np.cumsum(np.random.default_rng(3).uniform(0.01, 0.08, 49))
    yield case(
        "uneven times",
        of("mkv", times=[0.0, *uneven], ticks=1000),
        Expect(True, PICTURES, None, None, EVENTS),
        fast=True,
    )
    yield case("uneven times in mp4", of(times=[0.0, *uneven], ticks=90000), Expect(True, PICTURES, None, None, EVENTS))
    for suffix, codec, sound in (("webm", "libvpx", "libopus"), ("mkv", "libx264", "aac")):
        yield case(
            f"no duration in {suffix}",
            of(suffix, codec=codec, sound=sound, options={"live": "1"}),
            fast=suffix == "webm",
        )
    flags = {"movflags": "+frag_keyframe+empty_moov+default_base_moof"}
    yield case("fragments", of(options=flags, codec_options={"g": "10"}))
    yield case(
        "fragments without key frames", of(options={**flags, "frag_duration": "100000"}, codec_options={"g": "250"})
    )
    for rate in (Fraction(1, 10), 1, Fraction(24000, 1001), Fraction(30000, 1001), 60, 120, 240, 1000):
        n = max(2, round(2 * rate))
        seconds = n / float(rate)
        flashes = EVENTS if rate > 20 else None
        yield case(
            f"{float(rate):g} fps",
            of(fps=rate, pictures=n, seconds=seconds),
            Expect(True, n, seconds, flashes, EVENTS),
            fast=rate == Fraction(24000, 1001),
        )
    yield case("B-frames in avi", of("avi", sound="pcm_s16le", codec_options={"bf": "2"}))
    yield case("B-frames in ts", of("ts", codec_options={"bf": "3", "g": "250"}))
    yield case("B-frames in mpg", of("mpg", codec="mpeg2video", sound="mp2", codec_options={"bf": "2"}))
    yield case("an elementary stream, h264", of("h264", sound=None), Expect(True, PICTURES, 2.0, EVENTS, ()))
    yield case(
        "an elementary stream, hevc", of("hevc", codec="libx265", sound=None), Expect(True, PICTURES, 2.0, EVENTS, ())
    )
    yield case(
        "an elementary stream, mpeg4",
        of("m4v", codec="mpeg4", format="m4v", sound=None),
        Expect(True, PICTURES, 2.0, EVENTS, ()),
    )
    yield case("open groups", of("ts", codec_options={"x264-params": "open-gop=1:keyint=10:bframes=2"}))
    yield case(
        "it begins in the middle of a group",
        of("ts", change=headless, codec_options={"g": "12"}),
        Expect(None, (1, PICTURES), None, None, None),
    )


def doubled(packet):
    """Every tenth picture appears together with the one before it."""
    if packet.stream.type == "video" and round(packet.pts * packet.time_base * FPS) % 10 == 5:
        packet.pts = packet.dts = round(packet.pts - 1 / FPS / packet.time_base)
    return packet


def at_once(packet):
    packet.pts = packet.dts = packet.duration = 0
    return packet


def headless(packet):
    """Leave the first five packets of pictures out."""
    return None if packet.stream.type == "video" and packet.pts * packet.time_base < 0.2 else packet


# --- streams ------------------------------------------------------------------------------------


def streams() -> Iterator[Case]:
    yield case("subtitles first", subtitles_first, fast=True)
    yield case("data first", of("ts", before=lambda c: c.add_data_stream() and None))
    yield case("two videos", two_videos, GOOD, fast=True)
    yield case("sound first", of("mkv", before=first_sound), Expect(clicks=None, sound=True))
    yield case(
        "eight sounds",
        of("mkv", before=lambda c: [first_sound(c) for _ in range(7)] and None),
        Expect(clicks=None, sound=True),
    )
    yield case("an attachment", of("mkv", before=attachment))
    yield case("a thousand tags", of("mkv", before=tags))
    yield case("markup in its tags", of(before=lambda c: c.metadata.update(title="<script>alert(1)</script>\n\x00x")))
    yield case("a video without a packet", of("mkv", change=lambda p: p if p.stream.type == "audio" else None), REFUSED)


def subtitles_first(folder: Path) -> Path:
    """A subtitle stream, taken from a file of its own, before the others."""
    lines = folder / "a.srt"
    lines.write_text("1\n00:00:00,100 --> 00:00:01,000\nhello\n\n2\n00:00:01,100 --> 00:00:01,900\nthere\n")
    return joined(folder, lines, film(folder / "b.mp4"))


def attachment(container) -> None:
    container.add_attachment("a.ttf", "font/ttf", bytes(999))


def tags(container) -> None:
    container.metadata.update({f"K{k}": "x" * 99 for k in range(1000)})


def first_sound(container) -> None:
    """A sound stream that stays empty but for some silence."""
    stream = container.add_stream("pcm_s16le", rate=8000)
    stream.layout = "mono"
    return None


def two_videos(folder: Path) -> Path:
    """A second, smaller video stream after the first."""
    first = film(folder / "a.mp4")
    return joined(folder, first, film(folder / "b.mp4", size=(32, 24), sound=None, events=()))


def joined(folder: Path, *files: Path) -> Path:
    """All streams of several files, in order, in one mkv; the files go."""
    path = folder / "clip.mkv"
    with ExitStack() as stack:
        sources = [stack.enter_context(av.open(str(file))) for file in files]
        out = stack.enter_context(av.open(str(path), "w"))
        made = {(k, s.index): out.add_stream_from_template(s) for k, c in enumerate(sources) for s in c.streams}
        packets = [(made[k, p.stream.index], p) for k, c in enumerate(sources) for p in c.demux() if p.dts is not None]
        for stream, packet in sorted(packets, key=lambda item: item[1].dts * item[1].time_base):
            packet.stream = stream
            out.mux(packet)
    for file in files:
        file.unlink()
    return path


# --- geometry and pixels ------------------------------------------------------------------------


def geometry() -> Iterator[Case]:
    turned = Expect(size=(48, 64))
    for name, matrix, expect in (
        ("turned by 90", (0, 1, -1, 0), turned),
        ("turned by 180", (-1, 0, 0, -1), Expect(size=(64, 48))),
        ("turned by 270", (0, -1, 1, 0), turned),
        ("mirrored", (-1, 0, 0, 1), Expect(size=(64, 48))),
        ("upside down", (1, 0, 0, -1), Expect(size=(64, 48))),
        ("turned by 30", (0.866, 0.5, -0.5, 0.866), PLAIN),
        ("a matrix of zeros", (0, 0, 0, 0), PLAIN),
        ("twice as large", (2, 0, 0, 2), PLAIN),
        ("a matrix of extremes", (32767, -32768, 32767, 32767), PLAIN),
    ):
        yield case(
            name, patch(lambda data, m=matrix: with_matrix(data, *m)), expect, fast=name in ("turned by 90", "mirrored")
        )
    for ratio in ((64, 45), (45, 64), (1, 1000), (1000, 1), (0, 1)):
        yield case(
            f"pixels of {ratio[0]}:{ratio[1]}", of("mkv", set_video=partial(pixels_of, ratio)), fast=ratio == (64, 45)
        )
    yield case("interlaced mpeg2", of("ts", codec="mpeg2video", sound="mp2", codec_options={"flags": "+ildct+ilme"}))
    yield case("interlaced h264", of(codec_options={"x264-params": "interlaced=1"}, size=(64, 64)))
    yield case(
        "interlaced prores", of("mov", codec="prores_ks", pix_fmt="yuv422p10le", codec_options={"flags": "+ildct"})
    )
    yield case(
        "a size that changes",
        joined_ts({}, {"size": (96, 64)}),
        Expect(None, (1, 100), None, None, None, whole=2 * PICTURES),
    )


def pixels_of(ratio: tuple[int, int], stream) -> None:
    stream.codec_context.sample_aspect_ratio = Fraction(*ratio)


def pixel_formats() -> Iterator[Case]:
    for codec, formats in {
        "libx264": ("yuv420p10le", "yuv422p", "yuv444p", "yuv444p10le", "gray", "nv12", "yuvj420p"),
        "libx265": ("yuv420p10le", "yuv444p12le", "gray"),
        "libvpx-vp9": ("yuv420p", "yuva420p", "yuv444p"),
        "ffv1": ("gray", "gray16le", "gbrp16le", "bgra", "yuv420p10le", "ya8", "rgb48le"),
        "rawvideo": ("rgb24", "monob", "pal8", "nv12", "yuyv422", "gbrp", "rgb565le", "bayer_rggb8"),
        "png": ("rgb24", "rgba", "gray16be", "pal8", "monob"),
        "mjpeg": ("yuvj444p", "yuvj422p"),
        "huffyuv": ("rgb24",),
        "utvideo": ("gbrp",),
        "qtrle": ("rgb555be",),
    }.items():
        for pixel in formats:
            fast = (codec, pixel) in (("libx264", "yuv420p10le"), ("ffv1", "gray16le"))
            yield case(f"{codec} {pixel}", write_format(codec, pixel), PLAIN, fast=fast)
    yield case(
        "gif", of("gif", codec="gif", pix_fmt="rgb8", sound=None), Expect(True, PICTURES, 2.0, EVENTS, ()), fast=True
    )
    yield case("apng", of("apng", codec="apng", pix_fmt="rgba", sound=None), Expect(True, PICTURES, 2.0, EVENTS, ()))
    yield case("animated webp", of("webp", codec="libwebp_anim", pix_fmt="bgra", sound=None, pictures=10), ANY)
    yield case("exr", write_format("exr", "gbrpf32le"), ANY)


def write_format(codec: str, pixel: str) -> Callable[[Path], Path]:
    """In the first container that takes it; skipped where this FFmpeg cannot convert to or encode that format."""

    def write(folder: Path) -> Path:
        why: Exception | None = None
        for suffix in ("mkv", "mov", "avi", "nut"):
            path = folder / f"clip.{suffix}"
            try:
                return film(path, codec=codec, pix_fmt=pixel, sound="pcm_s16le")
            except (av.error.FFmpegError, ValueError, OSError) as error:
                why = error
                path.unlink(missing_ok=True)
        raise CannotBeMade(f"{codec} {pixel}: {why}")

    return write


# --- everything that PyAV muxes -----------------------------------------------------------------

NOT_FILES = {
    "alsa",
    "dash",
    "fbdev",
    "fifo",
    "hds",
    "hls",
    "oss",
    "rtp",
    "rtp_mpegts",
    "rtsp",
    "sap",
    "segment",
    "tee",
    "whip",
    "smoothstreaming",
    "stream_segment,ssegment",
    "video4linux2,v4l2",
    "webm_chunk",
    "webm_dash_manifest",
    "null",
    "crc",
    "framecrc",
    "framehash",
    "framemd5",
    "hash",
    "md5",
    "streamhash",
    "uncodedframecrc",
    "ffmetadata",
    "data",
    "mkvtimestamp_v2",
    "image2",
    "image2pipe",
}


def extensions() -> Iterator[Case]:
    """A file of every container that takes pictures, in a codec that it prefers."""
    for name in sorted(av.formats_available - NOT_FILES):
        try:
            container = av.ContainerFormat(name, "w")
        except ValueError:
            continue
        try:
            if av.open(io.BytesIO(), "w", format=name).default_video_codec in ("", "none", None):
                continue
        except (av.error.FFmpegError, ValueError):
            continue
        for suffix in sorted({s.strip() for s in container.extensions} or {name})[:2]:
            yield case(
                f"{name} .{suffix}",
                partial(any_format, name, suffix),
                ANY,
                fast=(name, suffix) in (("mpegts", "mts"), ("avi", "avi")),
            )


def any_format(name: str, suffix: str, folder: Path) -> Path:
    """Try the codecs that the container prefers, with and without sound."""
    container = av.open(io.BytesIO(), "w", format=name)
    video, sound = container.default_video_codec, container.default_audio_codec
    tries = []
    for codec in dict.fromkeys([video, "libx264", "mpeg4", "mpeg2video", "mjpeg", "rawvideo", "libvpx", "vc2"]):
        tries += [(codec, s) for s in (sound, "aac", "pcm_s16le", None)]
    for size in ((64, 48), (352, 288), (720, 576)):
        for codec, track in tries:
            if track in ("none", ""):
                continue
            path = folder / f"clip.{suffix}"
            try:
                pixel = av.Codec(codec, "w").video_formats
                pixel = pixel[0].name if pixel else "yuv420p"
                film(path, format=name, codec=codec, pix_fmt=pixel, sound=track, size=size)
                if path.stat().st_size > 0:
                    return path
            except (av.error.FFmpegError, ValueError, OSError, TypeError, AttributeError):
                path.unlink(missing_ok=True)
    raise CannotBeMade(f"PyAV writes no video into {name} ")
