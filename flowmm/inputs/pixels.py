"""Image sizes and colours: what is too large, how to shrink, how any pixel becomes 8-bit RGB."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from flowmm.inputs.file import File

if TYPE_CHECKING:
    from PIL import Image

PAGE_PIXELS = 1_000_000  # budget of a page or video frame when the caller names none
DECODE_PIXELS = 100_000_000  # more is not decoded: 100 million RGB pixels take 300 MB
MAX_ASPECT = 200  # Qwen's image processors refuse longer strips


def check_size(file: File, width: float, height: float, page: int | None = None) -> None:
    """Refuse sizes that would take the memory away, or that no model accepts. Needs no decoded pixel.

    Raises:
        InputError: with the size and the limit.
    """
    which = "" if page is None else f"page {page} "
    size = f"{which}is {width:g} x {height:g}"
    if min(width, height) <= 0:
        raise file.error(f"{size}, expected at least one pixel", "Make it again: it is damaged.")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise file.error(f"{size}, longer than {MAX_ASPECT} times its width", "Crop or cut it into pieces.")


def check_pixels(file: File, width: int, height: int, page: int | None = None) -> None:
    """As ``check_size``, and refuse more than ``DECODE_PIXELS``, before decoding.

    Raises:
        InputError: with the size and the limit.
    """
    check_size(file, width, height, page)
    if width * height > DECODE_PIXELS:
        which = "" if page is None else f"page {page} "
        raise file.error(
            f"{which}is {width} x {height} = {width * height:,} pixels, more than the limit of {DECODE_PIXELS:,}",
            "Scale it down, or cut it into pieces.",
        )


def shrink(image: Image.Image, budget: int | None) -> Image.Image:
    """``image`` with at most ``budget`` pixels, antialiased; smaller ones and a budget of None change nothing."""
    from PIL.Image import Resampling

    if budget is None or image.width * image.height <= budget:
        return image
    return image.resize(shrunk_size(image.width, image.height, budget), Resampling.LANCZOS)


def shrunk_size(width: int, height: int, budget: int) -> tuple[int, int]:
    """The size of about this shape with at most ``budget`` pixels, no strip beyond ``MAX_ASPECT`` if it was none."""
    scale = math.sqrt(budget / (width * height))
    short = min(math.ceil(min(width, height) * scale), math.isqrt(budget))
    long = max(short, min(math.floor(max(width, height) * scale), budget // short))
    return (long, short) if width >= height else (short, long)


def to_rgb(image: Image.Image, white_is_zero: bool = False) -> Image.Image:
    """8-bit RGB of an image in any of Pillow's modes; transparency is laid on white.

    Args:
        image: decoded.
        white_is_zero: the brightest value of a 16-bit scan is 0, which Pillow leaves as it is.
    """
    from PIL import Image

    if image.mode.startswith(("I", "F")):
        return _grey(image, white_is_zero).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _grey(image: Image.Image, white_is_zero: bool) -> Image.Image:
    """8-bit grey of a deeper image. Pillow's own conversion cuts at 255, so that a 16-bit scan turns white.

    Integers from 0 to 65535: white is the largest value of 8, 10, 12, 14 or 16 bits, the fewest that hold the
    brightest pixel, since scanners store 12 bits in 16. Floats from 0 to 1: white is 1. Other values have no white of
    their own; they are stretched from the darkest to the brightest.
    """
    import numpy as np
    from PIL import Image

    values = np.nan_to_num(np.asarray(image))
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind in "iu" and low >= 0 and high <= 65535:
        low, high = 0.0, next(2.0**bits - 1 for bits in (8, 10, 12, 14, 16) if high < 2**bits)
    elif values.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    grey = np.rint((values.astype(np.float32) - low) * (255 / ((high - low) or 1))).astype(np.uint8)
    return Image.fromarray(255 - grey if white_is_zero else grey)
