from __future__ import annotations

import sys

import numpy as np
import pytest

from flowmm.inputs import ReadOptions, kind_of, read
from flowmm.inputs.file import File


@pytest.mark.parametrize(
    "head",
    [
        b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom",
        b"\0\0\0\x14ftypqt  \0\0\0\0qt  ",
        b"\x1a\x45\xdf\xa3\x01\0\0\0",
        b"RIFF\x24\0\0\0AVI LIST",
        b"FLV\x01\x05\0\0\0\x09",
        b"\0\0\0\x08wide\0\0\0\0mdat",
    ],
)
def test_videos_are_told_by_content(head):
    assert kind_of(File("a.bin", head + bytes(100))) == "video"


def test_images_in_the_same_container_are_images():
    assert kind_of(File("a", b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf" + bytes(100))) == "image"


def test_without_the_extra_the_error_names_it(tmp_path, refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom")
    assert refused(tmp_path / "a.mp4").endswith("needs the video extra\npip install 'flowmm[video]'")


@pytest.fixture
def clip(tmp_path):
    """Ten frames of 64 x 48, each 20 grey levels brighter than the one before, five a second."""
    av = pytest.importorskip("av")
    with av.open(tmp_path / "clip.mp4", "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * index, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return tmp_path / "clip.mp4"


@pytest.mark.parametrize(
    ("count", "indices"), [(1, [5]), (2, [2, 7]), (5, [1, 3, 5, 7, 9]), (10, list(range(10))), (99, list(range(10)))]
)
def test_frames_are_evenly_spaced(clip, count, indices):
    parts = read([clip], ReadOptions(video_frames=count))
    assert [round(part.payload.getpixel((9, 9))[0] / 20) for part in parts] == indices
    assert [(part.kind, part.source.kind, part.source.page) for part in parts] == [
        ("image", "video", page) for page in range(1, len(indices) + 1)
    ]


def test_frames_keep_to_the_budget(clip):
    assert read([clip], ReadOptions(max_pixels=32 * 24))[0].payload.size == (32, 24)


def test_a_damaged_video_is_refused(clip, refused):
    clip.write_bytes(clip.read_bytes()[:200])
    assert "is a damaged video" in refused(clip)


def test_sound_alone_is_refused(tmp_path, refused):
    av = pytest.importorskip("av")
    with av.open(tmp_path / "sound.mp4", "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert "holds sound but no pictures" in refused(tmp_path / "sound.mp4")


def test_a_clip_filmed_upright_is_turned(tmp_path):
    av = pytest.importorskip("av")
    if not hasattr(av.VideoStream, "set_display_rotation"):
        pytest.skip("this PyAV cannot write a rotation")
    left = np.zeros((48, 64, 3), np.uint8)
    left[:24, :32] = 255  # the top left quarter; a quarter turn clockwise brings it to the top right
    with av.open(tmp_path / "clip.mp4", "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.set_display_rotation(-90)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(left, format="rgb24")))
        container.mux(stream.encode())
    (part,) = read([tmp_path / "clip.mp4"])
    assert part.payload.size == (48, 64)
    assert [part.payload.getpixel(at)[0] > 128 for at in ((5, 5), (42, 5), (5, 58), (42, 58))] == [
        False,
        True,
        False,
        False,
    ]


def test_an_unknown_codec_is_refused(tmp_path, refused):
    av = pytest.importorskip("av")
    with av.open(tmp_path / "clip.mkv", "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    data = (tmp_path / "clip.mkv").read_bytes()
    (tmp_path / "clip.mkv").write_bytes(data.replace(b"V_MPEG4/ISO/ASP", b"V_MXXXX/ISO/ASP"))
    assert "of a codec that is not known" in refused(tmp_path / "clip.mkv")
