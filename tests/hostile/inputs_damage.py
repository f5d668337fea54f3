"""Inputs that were whole once: cut off, bits flipped, headers that lie, and files that never were media."""

from __future__ import annotations

import io
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np
from hostile.cases import ANY, REFUSED, Case, Expect
from hostile.films import PICTURES, box, boxes, clicks, film, flip, flip_anywhere, overwrite, patched, wav
from PIL import Image

DAMAGED = Expect(None, (1, PICTURES), None, None, None, made=False, whole=PICTURES)
"""What is left of a damaged file may be anything from refused to all of it; fewer pictures must be said."""
UNKNOWABLE = Expect(None, (1, PICTURES), None, None, None, made=False)
"""Containers that do not say how long they are: what is cut off cannot be known."""
DAMAGED_SOUND = Expect(True, PICTURES, 2.0, None, None, whole=PICTURES)


def cases() -> Iterator[Case]:
    """All of them."""
    yield from truncations()
    yield from flips()
    yield from headers()
    yield from not_media()


@cache
def mp4_of(movflags: str = "") -> bytes:
    """The bytes of a small mp4, the same every time."""
    options = {"movflags": movflags} if movflags else {}
    with tempfile.TemporaryDirectory() as folder:
        return film(Path(folder) / "a.mp4", options=options, codec_options={"g": "12"}).read_bytes()


def _bytes(data: bytes, folder: Path, name: str = "clip.mp4") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


CONTAINERS = {
    "mp4": {},
    "mkv": {},
    "webm": {"codec": "libvpx", "sound": "libopus"},
    "ts": {},
    "avi": {"sound": "libmp3lame"},
    "flv": {"rate": 44100},
    "mpg": {"codec": "mpeg2video", "sound": "mp2"},
    "mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le", "sound": "pcm_s16le"},
    "ogg": {"codec": None, "sound": "libopus"},
    "nut": {"codec": "ffv1", "sound": "flac"},
}


# --- truncations --------------------------------------------------------------------------------


def truncations() -> Iterator[Case]:
    """An mp4 cut at every box, before and after its pictures, in fragments; and other containers in several places."""
    for kind, flags in (("plain", ""), ("faststart", "+faststart"), ("fragments", "+frag_keyframe+empty_moov")):
        data = mp4_of(flags)
        expect = UNKNOWABLE if kind == "fragments" else DAMAGED
        ends = sorted({end for _, start, end in boxes(data) for end in (start, end)} - {0, len(data)})
        names = {start: name for name, start, _ in reversed(boxes(data))}
        for end in ends:
            if any(f".{k}" in names.get(end, "") for k in (2, 3, 4)):
                continue  # fragments are all alike
            name = f"{kind}: cut before {names.get(end, 'the rest')} at {end}"
            fast = end in (ends[len(ends) // 2], ends[-1])
            yield Case(name, "truncation", partial(_cut, data, end), expect, fast=fast)
        for name, start, end in boxes(data):
            if name == "moov" or name.startswith("mdat"):
                for share in (0.1, 0.5, 0.9) if name in ("moov", "mdat.0") else (0.5,):
                    at = start + int(share * (end - start))
                    fast = kind == "plain" and name == "moov" and share == 0.5
                    cut = partial(_cut, data, at)
                    yield Case(f"{kind}: cut at {share:.0%} of {name}", "truncation", cut, expect, fast=fast)
    for suffix, options in CONTAINERS.items():
        if suffix == "mp4":
            continue
        for share in (0.02, 0.5, 0.9):
            expect = {"ogg": ANY, "ts": UNKNOWABLE, "mpg": UNKNOWABLE, "nut": UNKNOWABLE}.get(suffix, DAMAGED)
            yield Case(
                f"{suffix}: cut at {share:.0%}",
                "truncation",
                partial(_cut_film, suffix, options, share),
                expect,
                fast=(suffix, share) in (("mkv", 0.9), ("webm", 0.9), ("avi", 0.5), ("ts", 0.5)),
            )


def _cut(data: bytes, end: int, folder: Path) -> Path:
    return _bytes(data[:end], folder)


def _cut_film(suffix: str, options: dict, share: float, folder: Path) -> Path:
    path = film(folder / f"clip.{suffix}", **options)
    data = path.read_bytes()
    return _bytes(data[: int(share * len(data))], folder, path.name)


# --- flipped bits -------------------------------------------------------------------------------

PICTURE_CODECS = {
    "h264 mp4": ("mp4", {"codec_options": {"g": "12"}}),
    "h264 ts": ("ts", {"codec_options": {"g": "12"}}),
    "h264 one key frame": ("mp4", {"codec_options": {"g": "250"}}),
    "hevc": ("mkv", {"codec": "libx265", "codec_options": {"g": "12"}}),
    "vp8": ("webm", {"codec": "libvpx", "sound": "libopus", "codec_options": {"g": "12"}}),
    "vp9": ("webm", {"codec": "libvpx-vp9", "sound": "libopus", "codec_options": {"g": "12", "cpu-used": "8"}}),
    "mpeg4": ("avi", {"codec": "mpeg4", "sound": "libmp3lame"}),
    "mpeg2": ("mpg", {"codec": "mpeg2video", "sound": "mp2"}),
    "prores": ("mov", {"codec": "prores_ks", "pix_fmt": "yuv422p10le", "sound": "pcm_s16le"}),
    "mjpeg": ("avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p", "sound": "pcm_s16le"}),
    "ffv1": ("mkv", {"codec": "ffv1", "sound": "flac"}),
}
SOUND_CODECS = {
    "aac": ("mp4", {}),
    "opus": ("webm", {"codec": "libvpx", "sound": "libopus"}),
    "mp3": ("mp4", {"sound": "libmp3lame"}),
    "pcm": ("mov", {"sound": "pcm_s16le"}),
    "flac": ("mkv", {"sound": "flac"}),
    "ac3": ("ts", {"sound": "ac3"}),
}


def flips() -> Iterator[Case]:
    """One packet of noise, and single bits at seeded places, in pictures and in sounds of every common codec."""
    for kind, codecs, expect in (("video", PICTURE_CODECS, DAMAGED), ("audio", SOUND_CODECS, DAMAGED_SOUND)):
        for name, (suffix, options) in codecs.items():
            yield Case(
                f"{kind} {name}: a packet of noise",
                "bit flips",
                partial(_damaged, suffix, options, kind, 0, 1),
                expect,
                fast=name in ("h264 mp4", "h264 ts", "vp9", "aac", "opus"),
            )
            for bits, seed in ((3, 1), (60, 2)):
                yield Case(
                    f"{kind} {name}: {bits} bits",
                    "bit flips",
                    partial(_damaged, suffix, options, kind, bits, seed),
                    expect,
                    fast=name == "vp9" and bits == 3,
                )
    for suffix, options in CONTAINERS.items():
        for bits, seed in ((5, 1), (5, 2), (100, 3)):
            yield Case(
                f"{suffix}: {bits} bits anywhere, {seed}",
                "bit flips",
                partial(_anywhere, suffix, options, bits, seed),
                ANY,
                fast=suffix == "ts" and seed == 1,
            )


def _anywhere(suffix: str, options: dict, bits: int, seed: int, folder: Path) -> Path:
    return flip_anywhere(film(folder / f"clip.{suffix}", **options), bits, seed)


def _damaged(suffix: str, options: dict, kind: str, bits: int, seed: int, folder: Path) -> Path:
    path = film(folder / f"clip.{suffix}", **options)
    return flip(path, kind, bits, seed) if bits else overwrite(path, kind, 0.5, seed)


# --- headers that lie ---------------------------------------------------------------------------


def headers() -> Iterator[Case]:
    """Sizes of 0 and of 65535, lengths and counts that cannot be."""

    def case(name: str, write, expect: Expect = DAMAGED, fast: bool = False) -> Case:
        size = 96 if "16000" in name else None  # in full size, a reader asks for 768 MB
        return Case(name, "headers", write, expect, fast=fast, size=size)

    for width, height in ((0, 0), (65535, 65535), (65535, 1), (16000, 16000)):
        size = f"{width}x{height}"
        yield case(f"mp4 h264 says {size}", partial(_mp4_says, width, height, {}))
        yield case(
            f"mov raw pictures say {size}",
            partial(_mp4_says, width, height, {"codec": "rawvideo", "pix_fmt": "yuv422p", "pictures": 5}),
            ANY,
        )
        yield case(f"mp4 mpeg4 says {size}", partial(_mp4_says, width, height, {"codec": "mpeg4"}))
        yield case(f"avi says {size}", partial(_avi_says, width, height), ANY, fast=size == "65535x65535")
        yield case(f"mkv says {size}", partial(_mkv_says, width, height), ANY)
        yield case(f"png says {size}", partial(_png_says, width, height), ANY)
        yield case(f"gif says {size}", partial(_gif_says, width, height), ANY)
        yield case(f"y4m says {size}", partial(_y4m_says, width, height), ANY)
        yield case(f"jpeg says {size}", partial(_jpeg_says, width, height), ANY)
        vp8 = partial(_vp8_says, min(width, 16383), min(height, 16383))
        yield case(f"vp8 says {size}", vp8, ANY, fast=width == 16000)
    yield case("avi upside down", partial(_avi_says, 64, -48), ANY)
    yield case("mp4 of 3 million hours", partial(_duration_says, 2**32 - 2), Expect(None), fast=True)
    yield case("mp4 of no duration", partial(_duration_says, 0), Expect(None))
    yield case("mp4 with 4 billion samples", partial(_table_says, "stsz", 8, 2**32 - 1), ANY)
    yield case("mp4 with 4 billion times", partial(_table_says, "stts", 4, 2**32 - 1), ANY)
    yield case("mp4 whose pictures last 0", partial(_table_says, "stts", 12, 0), ANY)
    yield case("mp4 whose pictures last 2 days", partial(_table_says, "stts", 12, 2**31 - 1), ANY, fast=True)
    yield case("mp4 whose pictures are elsewhere", partial(_table_says, "stco", 8, 2**31), ANY)
    yield case("mp4 of timescale 0", partial(_scale_says, 0), ANY)
    yield case("mp4 of timescale 4 billion", partial(_scale_says, 2**32 - 1), ANY)
    yield case("mp4 with an edit of a year", partial(_edit_says, 2**31 - 1), ANY)
    yield case("mp4 that begins in an edit of nothing", partial(_edit_says, -1), ANY)
    yield case("mp4 of a million boxes", partial(_many_boxes, 10**6), ANY)
    yield case("mp4 of boxes in boxes", _deep_boxes, REFUSED)
    yield case("y4m at a million fps", partial(_y4m_says, 16, 16, "1000000:1"), ANY)
    yield case("y4m at 0 fps", partial(_y4m_says, 16, 16, "0:0"), ANY)
    yield case("y4m at a picture a year", partial(_y4m_says, 16, 16, "1:31536000"), ANY, fast=True)
    yield case("wav of 4 GB", partial(_wav_says, 2**32 - 1), ANY)
    yield case("wav of 0 bytes", partial(_wav_says, 0), REFUSED)
    yield case("wav of 0 Hz", partial(_wav_rate, 0), REFUSED)
    yield case("wav of 4 GHz", partial(_wav_rate, 2**32 - 1), REFUSED)
    yield case("wav of 65535 channels", partial(_wav_channels, 65535), REFUSED)
    yield case("wav of 0 channels", partial(_wav_channels, 0), REFUSED)
    yield case("mkv of infinite duration", partial(_mkv_duration, float("inf")), Expect(None))
    yield case("mkv of duration NaN", partial(_mkv_duration, float("nan")), Expect(None))
    yield case("mkv of duration -5", partial(_mkv_duration, -5.0), Expect(None))
    yield case("mkv of 31 years", partial(_mkv_duration, 1e12), Expect(None), fast=True)


def _mp4_says(width: int, height: int, options: dict, folder: Path) -> Path:
    path = film(folder / "clip.mov", **options)
    data = path.read_bytes()
    start, _ = box(data, "moov/trak.0/mdia/minf/stbl/stsd")
    data = patched(data, start + 8 + 32, struct.pack(">HH", width, height))
    start, _ = box(data, "moov/trak.0/tkhd")
    return _bytes(patched(data, start + 76, struct.pack(">II", width << 16, height << 16)), folder, path.name)


def _avi_says(width: int, height: int, folder: Path) -> Path:
    path = film(folder / "clip.avi", codec="mpeg4", sound="libmp3lame")
    data = path.read_bytes()
    at = data.index(b"strf") + 8
    return _bytes(patched(data, at + 4, struct.pack("<Ii", width, height)), folder, path.name)


def _mkv_says(width: int, height: int, folder: Path) -> Path:
    path = film(folder / "clip.mkv", codec="rawvideo", sound=None, pictures=3, size=(640, 480))
    data = path.read_bytes()
    at = data.index(b"\xb0\x82\x02\x80")  # PixelWidth of two bytes
    data = patched(data, at + 2, struct.pack(">H", width))
    at = data.index(b"\xba\x82\x01\xe0")
    return _bytes(patched(data, at + 2, struct.pack(">H", height)), folder, path.name)


def _mkv_duration(seconds: float, folder: Path) -> Path:
    path = film(folder / "clip.mkv")
    data = path.read_bytes()
    at = data.index(b"\x44\x89\x88")
    return _bytes(patched(data, at + 3, struct.pack(">d", seconds * 1000)), folder, path.name)


def _png_says(width: int, height: int, folder: Path) -> Path:
    import zlib

    data = _image("PNG")
    head = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    data = patched(data, 12, head + struct.pack(">I", zlib.crc32(head)))
    return _bytes(data, folder, "clip.mp4")


def _gif_says(width: int, height: int, folder: Path) -> Path:
    data = _image("GIF")
    at = data.index(b"\x2c", 13 + 3 * 2 ** ((data[10] & 7) + 1))
    data = patched(data, at + 5, struct.pack("<HH", width, height))
    return _bytes(patched(data, 6, struct.pack("<HH", width, height)), folder, "clip.mp4")


def _jpeg_says(width: int, height: int, folder: Path) -> Path:
    data = _image("JPEG")
    at = data.index(b"\xff\xc0")
    return _bytes(patched(data, at + 5, struct.pack(">HH", height, width)), folder, "clip.mp4")


def _y4m_says(width: int, height: int, rate: str | Path, folder: Path | None = None) -> Path:
    rate, folder = ("25:1", rate) if folder is None else (rate, folder)
    head = f"YUV4MPEG2 W{width} H{height} F{rate} Ip A1:1 C420jpeg\n".encode()
    body = b"".join(b"FRAME\n" + bytes([40 * k]) * 384 for k in range(4))
    return _bytes(head + body, Path(folder), "clip.mp4")


def _vp8_says(width: int, height: int, folder: Path) -> Path:
    path = film(folder / "clip.webm", codec="libvpx", sound=None, pictures=10)
    data = path.read_bytes()
    at = data.index(b"\x9d\x01\x2a")
    return _bytes(patched(data, at + 3, struct.pack("<HH", width, height)), folder, path.name)


def _duration_says(ticks: int, folder: Path) -> Path:
    data = mp4_of()
    for name in ("moov/mvhd", "moov/trak.0/mdia/mdhd", "moov/trak.1/mdia/mdhd"):
        data = patched(data, box(data, name)[0] + 16, struct.pack(">I", ticks))
    for name in ("moov/trak.0/tkhd", "moov/trak.1/tkhd"):
        data = patched(data, box(data, name)[0] + 20, struct.pack(">I", ticks))
    return _bytes(data, folder)


def _table_says(name: str, offset: int, value: int, folder: Path) -> Path:
    data = mp4_of()
    start, _ = box(data, f"moov/trak.0/mdia/minf/stbl/{name}")
    return _bytes(patched(data, start + offset - (name == "stts" and offset == 12) * 0, _u32(value)), folder)


def _scale_says(value: int, folder: Path) -> Path:
    data = mp4_of()
    return _bytes(patched(data, box(data, "moov/trak.0/mdia/mdhd")[0] + 12, _u32(value)), folder)


def _edit_says(value: int, folder: Path) -> Path:
    data = mp4_of()
    start, _ = box(data, "moov/trak.0/edts/elst")
    return _bytes(patched(data, start + 12, struct.pack(">i", value)), folder)


def _u32(value: int) -> bytes:
    return struct.pack(">I", value)


def _many_boxes(count: int, folder: Path) -> Path:
    return _bytes(mp4_of() + b"\x00\x00\x00\x08free" * count, folder)


def _deep_boxes(folder: Path) -> Path:
    data = b""
    for _ in range(5000):
        data = struct.pack(">I", len(data) + 8) + b"moov" + data
    return _bytes(mp4_of()[:32] + data, folder)


def _wav_says(size: int, folder: Path) -> Path:
    return wav(folder / "clip.wav", clicks(1.0, 8000) * 32767, 8000, claims=size)


def _wav_rate(rate: int, folder: Path) -> Path:
    path = wav(folder / "clip.wav", clicks(1.0, 8000) * 32767, 8000)
    return _bytes(patched(path.read_bytes(), 24, struct.pack("<I", rate)), folder, path.name)


def _wav_channels(channels: int, folder: Path) -> Path:
    path = wav(folder / "clip.wav", clicks(1.0, 8000) * 32767, 8000)
    return _bytes(patched(path.read_bytes(), 22, struct.pack("<H", channels)), folder, path.name)


# --- not media ----------------------------------------------------------------------------------


def _image(kind: str, size: tuple[int, int] = (64, 48)) -> bytes:
    target = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(target, kind)
    return target.getvalue()


def _zip() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as file:
        file.writestr("clip.mp4", mp4_of())
    return target.getvalue()


def not_media() -> Iterator[Case]:
    """Pictures, text, archives, pages, lists and noise by the name of a video."""
    one = Expect(True, 1, None, None, None, sound=False)
    for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"):
        yield Case(
            f"a {kind} named mp4",
            "not media",
            partial(_bytes, _image(kind)),
            one if kind != "TIFF" else ANY,
            fast=kind in ("PNG",),
        )
    noise = np.random.default_rng(5)
    files = {
        "nothing": b"",
        "one byte": b"\x00",
        "text": b"this is no video\n" * 50,
        "a page": b"<!doctype html><html><body>404</body></html>",
        "an archive": _zip(),
        "random bytes": noise.integers(0, 256, 5000, dtype=np.uint8).tobytes(),
        "random bytes after ftyp": mp4_of()[:32] + noise.integers(0, 256, 5000, dtype=np.uint8).tobytes(),
        "zeros": bytes(100_000),
        "only ftyp": mp4_of()[:32],
        "a list for hls": b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nother.ts\n#EXT-X-ENDLIST\n",
        "a list for concat": b"ffconcat version 1.0\nfile 'other.mp4'\nfile '/etc/hostname'\n",
        "a session description": b"v=0\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
        "subtitles": b"1\n00:00:00,000 --> 00:00:02,000\nhello\n\n",
        "a drawing": b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="48"><rect width="9"/></svg>',
        "a pdf": b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj<<>>endobj\ntrailer<<>>\n",
        "json": b'{"clips": []}',
    }
    for name, data in files.items():
        expect = ANY if name in ("zeros", "random bytes") else REFUSED
        yield Case(f"{name} named mp4", "not media", partial(_bytes, data), expect, fast=name in ("nothing", "text"))
