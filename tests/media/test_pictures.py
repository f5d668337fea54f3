"""Pictures as players show them: turned, mirrored, with square pixels, in the right colours."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from media_parts import write

from v2a_nb import media
from v2a_nb.media import pictures


def marked(height=64, width=96):
    """Pictures with a white mark top left and a grey one top right."""
    frames = np.zeros((3, height, width, 3), np.uint8)
    frames[:, :16, :16], frames[:, :16, -16:] = 255, 128
    return frames


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize("flip", [False, True])
def test_all_eight_orientations(tmp_path, turn, flip):
    path = write(
        tmp_path / "a.mp4", marked(), change=lambda s: s.set_display_rotation(turn, hflip=flip), options={"crf": "1"}
    )
    expected = np.rot90(marked()[0], turn // 90)  # counter-clockwise
    expected = expected[:, ::-1] if flip else expected
    clip, info = media.open(path), media.info(path)
    assert np.abs(clip.frames[0].astype(int) - expected).mean() < 6
    assert (info.height, info.width) == clip.frames.shape[1:3] and info.mirrored == flip
    small = media.open(path, size=32).frames[0]
    assert small.shape[:2] == ((48, 32) if turn in (90, 270) else (32, 48))


def test_pixels_become_square(tmp_path):
    def wide(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(64, 45)

    path = write(tmp_path / "a.mkv", marked(96, 128), change=wide)
    info, clip = media.info(path), media.open(path)
    assert (info.width, info.height) == (182, 96) == (clip.width, clip.height)
    assert info.sar == pytest.approx(64 / 45)
    assert media.open(path, size=48).frames.shape[1:3] == (48, 91)


def tagged(color):
    """What sets primaries, transfer, matrix and range of a stream."""

    def change(stream):
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = color

    return change


@pytest.mark.parametrize("size, matrix, tag", [((720, 1280), 1, True), ((720, 1280), 1, False), ((96, 128), 5, False)])
def test_colours_follow_tags_and_sizes(tmp_path, size, matrix, tag):
    """Green and red as coded by BT.709 (HD, with or without tags) and BT.601 (SD without)."""
    import av

    wanted = np.zeros((*size, 3), np.uint8)
    wanted[:, : size[1] // 2, 1], wanted[:, size[1] // 2 :, 0] = 200, 200
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        if tag:
            tagged((matrix, matrix, matrix, 1))(stream)
        frame = av.VideoFrame.from_ndarray(wanted, format="rgb24").reformat(format="yuv420p", dst_colorspace=matrix)
        if not tag:
            frame.colorspace = 2
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    assert media.info(path).color[2] == (matrix if tag else 2)
    assert np.abs(media.open(path).frames[0].astype(int) - wanted).mean() < 3


def test_ten_bits_are_read(tmp_path):
    path = write(
        tmp_path / "a.mkv", marked(), video="libx265", pixels="yuv420p10le",
        options={"x265-params": "log-level=none:crf=1"},
    )  # fmt: skip
    assert np.abs(media.open(path).frames[0].astype(int) - marked()[0]).mean() < 4


@pytest.mark.parametrize("name, transfer", [("smpte2084", pictures.PQ), ("arib-std-b67", pictures.HLG)])
def test_hdr_files_are_tone_mapped(tmp_path, name, transfer):
    params = f"log-level=none:crf=1:colorprim=bt2020:transfer={name}:colormatrix=bt2020nc"
    path = write(
        tmp_path / "a.mkv", marked(), video="libx265", pixels="yuv420p10le", options={"x265-params": params},
        change=tagged((9, transfer, 9, 1)),
    )  # fmt: skip
    assert media.info(path).color[:3] == (9, transfer, 9)
    frame = media.open(path).frames[0]
    code = np.full((1, 1, 3), round(128 / 255 * 65535), np.uint16)
    grey = int(pictures.tone_mapped(code, transfer)[0, 0, 0])
    assert abs(int(frame[8, -8, 1]) - grey) < 8 and frame[:12, :12].mean() > 245 and frame[40, 40].max() < 12


@pytest.mark.parametrize("transfer, white", [(pictures.PQ, 0.5807), (pictures.HLG, 0.75)])
def test_the_tone_curve(transfer, white):
    """Dark tones stay what they are, white is bright, highlights stay apart, 1000 nits are full scale."""
    codes = np.linspace(0, 65535, 4096).astype(np.uint16)
    out = pictures.tone_mapped(np.repeat(codes[:, None, None], 3, axis=2), transfer)[:, 0, 0].astype(int)
    assert (np.diff(out) >= 0).all() and out[0] == 0 and out[-1] == 255
    at_white = out[int(white * 4095)]  # 203 nits, by BT.2408
    assert 215 <= at_white <= 235
    if transfer == pictures.PQ:
        nits = {0.4401: 50.75, 0.5081: 101.5}  # a quarter and a half of white
        for code, light in nits.items():
            linear = light / pictures.WHITE_NITS
            assert out[int(code * 4095)] == pytest.approx(255 * (1.055 * linear ** (1 / 2.4) - 0.055), abs=3)
        assert out[int(0.7518 * 4095)] >= 254 > out[int(0.70 * 4095)]
    red = np.zeros((1, 1, 3), np.uint16)
    red[..., 0] = int(0.5 * 65535)
    assert (pictures.tone_mapped(red, transfer)[0, 0] >= 0).all()
