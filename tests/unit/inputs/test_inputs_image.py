from __future__ import annotations

import io
import struct
import sys
import tracemalloc
import warnings
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flowmm.errors import InputError
from flowmm.inputs import ReadOptions, image, read
from flowmm.inputs.file import File
from flowmm.inputs.pixels import shrunk_size

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size but holds only a few pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")
    )


def image_bytes(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def load(data: bytes, **options) -> list:
    return [part.payload for part in image.load(File("a", data), ReadOptions(**options))]


def corner() -> Image.Image:
    """6 x 4, red in the top left quarter, blue elsewhere."""
    picture = Image.new("RGB", (6, 4), BLUE)
    picture.paste(RED, (0, 0, 3, 2))
    return picture


@pytest.mark.parametrize("name", ["PNG", "BMP", "GIF", "TIFF"])
def test_lossless_formats_keep_every_pixel(name):
    (picture,) = load(image_bytes(corner(), format=name))
    assert (picture.mode, picture.size) == ("RGB", (6, 4))
    assert np.array_equal(np.asarray(picture), np.asarray(corner()))


@pytest.mark.parametrize("name", ["JPEG", "WEBP", "AVIF"])
def test_lossy_formats_keep_their_colours(tmp_path, name):
    (tmp_path / "a").write_bytes(image_bytes(Image.new("RGB", (32, 16), RED), format=name, quality=95))
    (part,) = read([tmp_path / "a"])
    assert part.payload.size == (32, 16)
    assert np.abs(np.asarray(part.payload).astype(int) - RED).max() < 12


@pytest.mark.parametrize(
    ("orientation", "size", "red_at"),
    [
        (1, (6, 4), (0, 0)),
        (2, (6, 4), (5, 0)),
        (3, (6, 4), (5, 3)),
        (4, (6, 4), (0, 3)),
        (5, (4, 6), (0, 0)),
        (6, (4, 6), (3, 0)),
        (7, (4, 6), (3, 5)),
        (8, (4, 6), (0, 5)),
    ],
)
@pytest.mark.parametrize("name", ["PNG", "TIFF"])
def test_exif_rotation_is_applied_once(name, orientation, size, red_at):
    exif = Image.Exif()
    exif[0x0112] = orientation
    (picture,) = load(image_bytes(corner(), format=name, exif=exif))
    assert picture.size == size
    corners = [(x, y) for x in (0, size[0] - 1) for y in (0, size[1] - 1)]
    assert [at for at in corners if picture.getpixel(at) == RED] == [red_at]


@pytest.mark.parametrize("name", ["PNG", "TIFF"])
def test_sixteen_bit_scans_are_scaled(name):
    values = np.array([[0, 257, 25700, 65535]], dtype=np.uint16)
    (picture,) = load(image_bytes(Image.fromarray(values), format=name))
    assert np.asarray(picture)[0, :, 0].tolist() == [0, 1, 100, 255]


def test_twelve_bits_in_sixteen_are_scaled_by_their_own_white():
    values = np.array([[0, 273, 4095]], dtype=np.uint16)
    (picture,) = load(image_bytes(Image.fromarray(values), format="PNG"))
    assert np.asarray(picture)[0, :, 0].tolist() == [0, 17, 255]


def test_a_sixteen_bit_scan_whose_zero_is_white_is_turned_around():
    values = np.array([[0, 25700, 65535]], dtype=np.uint16)
    (picture,) = load(image_bytes(Image.fromarray(values), format="TIFF", tiffinfo={262: 0}))
    assert np.asarray(picture)[0, :, 0].tolist() == [255, 155, 0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0.0, 0.2, 0.8]], np.float32), [0, 51, 204]),
        (np.array([[-10.0, 0.0, 10.0]], np.float32), [0, 128, 255]),
        (np.array([[np.nan, 0.0, 1.0]], np.float32), [0, 0, 255]),
        (np.array([[-1000, 0, 1000]], np.int32), [0, 128, 255]),
        (np.array([[0, 257, 65535]], np.int32), [0, 1, 255]),
        (np.array([[-3, -3, -3]], np.int32), [0, 0, 0]),
    ],
)
def test_deeper_pixels_are_scaled(values, expected):
    (picture,) = load(image_bytes(Image.fromarray(values), format="TIFF"))
    assert np.asarray(picture)[0, :, 0].tolist() == expected


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_is_laid_on_white(mode):
    clear = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    clear.putpixel((1, 0), (0, 0, 0, 255))
    name = "PNG" if mode != "PA" else "TIFF"
    (picture,) = load(image_bytes(clear.convert(mode), format=name))
    assert [picture.getpixel((x, 0)) for x in (0, 1)] == [WHITE, (0, 0, 0)]


def test_a_transparent_palette_colour_is_laid_on_white():
    palette = Image.new("P", (2, 1))
    palette.putpalette([*RED, *BLUE])
    palette.putpixel((1, 0), 1)
    (picture,) = load(image_bytes(palette, format="PNG", transparency=0))
    assert [picture.getpixel((x, 0)) for x in (0, 1)] == [WHITE, BLUE]


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK"])
def test_other_modes_become_rgb(mode):
    (picture,) = load(image_bytes(Image.new("RGB", (2, 2), "white").convert(mode), format="TIFF"))
    assert (picture.mode, picture.getpixel((0, 0))) == ("RGB", WHITE)


def test_a_gif_gives_its_first_frame():
    data = image_bytes(Image.new("RGB", (2, 2), RED), format="GIF", save_all=True, append_images=[corner()])
    (picture,) = load(data)
    assert picture.getpixel((0, 0)) == RED


@pytest.fixture
def scan(tmp_path):
    """A TIFF with three pages of different widths."""
    first, *rest = [Image.new("RGB", (width, 10), RED) for width in (11, 12, 13)]
    first.save(tmp_path / "scan.tif", save_all=True, append_images=rest)
    return tmp_path / "scan.tif"


def test_each_page_of_a_tiff_is_a_part(scan):
    assert [(p.source.page, p.payload.width) for p in read([scan])] == [(1, 11), (2, 12), (3, 13)]


def test_pages_of_a_tiff_can_be_chosen(scan, refused):
    assert [p.payload.width for p in read([scan], ReadOptions(pages="3,1"))] == [13, 11]
    assert "there is no page 4, the document has 3" in refused(scan, pages="4")


def test_pages_are_not_chosen_from_a_single_image():
    assert len(load(image_bytes(corner(), format="TIFF"), pages="5")) == 1


def test_pages_of_a_tiff_have_the_budget_of_pages_and_single_images_keep_their_size():
    large = Image.new("L", (2000, 2000))
    assert [p.size for p in load(image_bytes(large, format="TIFF"))] == [(2000, 2000)]
    pages = image_bytes(large, format="TIFF", save_all=True, append_images=[large])
    assert [p.size for p in load(pages)] == [(1000, 1000)] * 2


def test_an_image_above_the_budget_is_shrunk_with_antialiasing():
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (100, 100)))
    (picture,) = load(image_bytes(stripes, format="PNG"), max_pixels=50 * 25)
    assert picture.size == (50, 25)
    assert np.abs(np.asarray(picture)[:, 5:-5].astype(int) - 127).max() <= 3


@given(st.integers(1, 20000), st.integers(1, 20000), st.integers(1, 10**6))
def test_a_shrunk_image_fits_the_budget_and_becomes_no_strip(width, height, budget):
    if width * height <= budget:
        budget = max(1, width * height // 2)
    new_width, new_height = shrunk_size(width, height, budget)
    assert min(new_width, new_height) >= 1
    assert new_width * new_height <= budget
    ratio, new_ratio = (max(pair) / min(pair) for pair in ((width, height), (new_width, new_height)))
    assert new_ratio <= max(ratio, 3)


def test_a_huge_image_is_refused_before_it_is_decoded(tmp_path, refused):
    (tmp_path / "huge.png").write_bytes(png_header(20000, 20000))
    refused(tmp_path / "huge.png")  # Pillow's plugins are imported outside the measurement
    tracemalloc.start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        message = refused(tmp_path / "huge.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "is 20000 x 20000 = 400,000,000 pixels, more than the limit of 100,000,000" in message
    assert peak < 2**20


def test_an_image_below_the_limit_but_above_pillows_gives_no_warning(tmp_path, refused):
    (tmp_path / "large.png").write_bytes(png_header(9900, 9900))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "damaged" in refused(tmp_path / "large.png")


def test_a_gif_whose_frame_is_larger_than_its_header_says_is_refused(tmp_path, refused):
    data = bytearray(image_bytes(Image.new("L", (2, 2)), format="GIF"))
    at = data.index(struct.pack("<BHHHH", 0x2C, 0, 0, 2, 2))  # the frame's position and size
    data[at + 5 : at + 9] = struct.pack("<HH", 20000, 20000)
    (tmp_path / "a.gif").write_bytes(data)
    assert "is too large: Image size (400000000 pixels)" in refused(tmp_path / "a.gif")


def test_a_huge_page_of_a_tiff_is_refused_by_its_number(scan, refused, monkeypatch):
    monkeypatch.setattr("flowmm.inputs.pixels.DECODE_PIXELS", 120)
    assert "page 3 is 13 x 10 = 130 pixels, more than the limit of 120" in refused(scan)
    assert len(read([scan], ReadOptions(pages="1-2"))) == 2


def test_warnings_about_odd_metadata_stay_out_of_the_terminal():
    data = image_bytes(corner(), format="TIFF", dpi=(72, 72))
    one_unit, two_units = struct.pack("<HHIHH", 296, 3, 1, 2, 0), struct.pack("<HHIHH", 296, 3, 2, 2, 2)
    assert one_unit in data
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(data.replace(one_unit, two_units))[0].size == (6, 4)


@pytest.mark.parametrize(("size", "fits"), [((2000, 10), True), ((2001, 10), False), ((10, 2001), False)])
def test_strips_longer_than_200_times_their_width_are_refused(tmp_path, refused, size, fits):
    Image.new("L", size).save(tmp_path / "strip.png")
    if fits:
        assert read([tmp_path / "strip.png"])[0].payload.size == size
    else:
        assert f"is {size[0]} x {size[1]}, longer than 200 times" in refused(tmp_path / "strip.png")


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "AVIF", "BMP", "GIF", "TIFF"])
def test_a_truncated_image_is_refused(name):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = image_bytes(noise, format=name)
    for kept in (40, len(data) // 2):
        with pytest.raises(InputError, match="is damaged or of an unsupported variant"):
            load(data[:kept])


@given(st.sampled_from(["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"]), st.data())
def test_a_damaged_image_is_read_or_refused_but_never_a_bug(name, data):
    damaged = bytearray(image_bytes(corner(), format=name))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(12, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with suppress(InputError):
        assert [picture.mode for picture in load(bytes(damaged))] == ["RGB"]


def test_heic_without_its_library_names_what_to_install(tmp_path, refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf" + bytes(20))
    assert refused(tmp_path / "a.heic").endswith("pip install pillow-heif")


def test_heic_is_read_with_its_library(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(Image.new("RGB", (64, 32), RED)).save(tmp_path / "a.heic")
    (part,) = read([tmp_path / "a.heic"])
    assert (part.payload.mode, part.payload.size) == ("RGB", (64, 32))
