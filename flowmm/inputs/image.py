"""Images: PNG, JPEG, WebP, AVIF, BMP, GIF (first frame), TIFF (one part a page) and HEIC."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from io import BytesIO
from typing import TYPE_CHECKING

from flowmm.errors import InputError
from flowmm.inputs.file import File
from flowmm.inputs.options import ReadOptions
from flowmm.inputs.pages import select_pages
from flowmm.inputs.pixels import PAGE_PIXELS, check_pixels, shrink, to_rgb
from flowmm.records import Part

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".heif"})

_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"GIF87a": "gif",
    b"GIF89a": "gif",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"II+\0": "tiff",
    b"MM\0+": "tiff",
}
# What Pillow's decoders raise at damaged files; the set is not documented.
_DAMAGE = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, OverflowError, RuntimeError),
    *(struct.error, zlib.error),
)
_ORIENTATION = 0x0112
_WHITE_IS_ZERO = 0x0106, 0  # TIFF's PhotometricInterpretation


def recognises(file: File) -> bool:
    """By magic bytes."""
    return _format_of(file) is not None


def load(file: File, options: ReadOptions) -> list[Part]:
    """One part, or one a page for a TIFF with several pages, whose budget is that of pages.

    Raises:
        InputError: damaged, too large, too long a strip, or HEIC without pillow-heif.
    """
    with _decoding(file):
        image = _open(file)
        count = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
        if count == 1:
            check_pixels(file, *image.size)
            return [Part("image", shrink(_upright(image), options.max_pixels), file.source("image"))]
        parts = []
        for page in select_pages(options.pages, count, file):
            image.seek(page - 1)
            check_pixels(file, *image.size, page)
            pixels = shrink(_upright(image), options.max_pixels or PAGE_PIXELS)
            parts.append(Part("image", pixels, file.source("image", page)))
        return parts


def _format_of(file: File) -> str | None:
    head = file.data[:32]
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    # "BM" alone also begins ordinary text.
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return "bmp"
    if file.brands & {b"avif", b"avis"}:
        return "avif"
    if file.brands & {b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"}:
        return "heic"
    return None


def _open(file: File) -> ImageFile:
    """Read the header only. The plugin is called by itself: ``Image.open`` warns or raises at sizes of its own."""
    name = _format_of(file)
    if name == "heic":
        return _open_heic(file)
    from PIL.AvifImagePlugin import AvifImageFile
    from PIL.BmpImagePlugin import BmpImageFile
    from PIL.GifImagePlugin import GifImageFile
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile
    from PIL.TiffImagePlugin import TiffImageFile
    from PIL.WebPImagePlugin import WebPImageFile

    plugins: dict[str | None, type[ImageFile]] = {
        "avif": AvifImageFile,
        "bmp": BmpImageFile,
        "gif": GifImageFile,
        "jpeg": JpegImageFile,
        "png": PngImageFile,
        "tiff": TiffImageFile,
        "webp": WebPImageFile,
    }
    return plugins[name](BytesIO(file.data))


def _open_heic(file: File) -> ImageFile:
    try:
        plugin = import_module("pillow_heif.as_plugin")
    except ImportError as error:
        raise file.error("is a HEIC image, which needs pillow-heif", "pip install pillow-heif") from error
    image: ImageFile = plugin.HeifImageFile(BytesIO(file.data))
    return image


def _upright(image: ImageFile) -> Image:
    """Decode, make it RGB, and turn it as EXIF says: phone photos store their rotation there, processors ignore it."""
    from PIL.Image import Transpose

    image.load()
    tag, zero = _WHITE_IS_ZERO
    rgb = to_rgb(image, white_is_zero=image.format == "TIFF" and image.tag_v2.get(tag) == zero)  # type: ignore[attr-defined]
    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    turn = turns.get(image.getexif().get(_ORIENTATION, 1))
    return rgb if turn is None else rgb.transpose(turn)


@contextmanager
def _decoding(file: File) -> Iterator[None]:
    """Turn whatever a decoder raises into an ``InputError``, and keep its warnings from the user's terminal."""
    from PIL.Image import DecompressionBombError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except InputError:
            raise
        except DecompressionBombError as error:  # a frame that is larger than the size in the header
            raise file.error(f"is too large: {error}", "Scale it down, or cut it into pieces.") from error
        except _DAMAGE as error:
            raise file.error(
                f"this {_format_of(file)} image is damaged or of an unsupported variant: {error}",
                "Open it in a viewer and save it again as PNG.",
            ) from error
