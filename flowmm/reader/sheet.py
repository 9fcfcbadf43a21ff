"""Draws lines of text on a sheet, by Pillow or by pdfium, and says where each character went."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pypdfium2 as pdfium
import pypdfium2.raw as raw
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from flowmm.reader.fonts import Face, pen

Gray = NDArray[np.uint8]


@dataclass(frozen=True)
class Line:
    """A line of text: its left edge and base line in pixels from the top left corner."""

    text: str
    x: float
    baseline: float


@cache
def _widths(face: Face, size: int) -> dict[str, float]:
    """Advance width of each printable ASCII character."""
    characters = [chr(code) for code in range(32, 127)]
    if not face.pdf:
        font = pen(face, size)
        return {c: font.getlength(c) for c in characters}
    document = pdfium.PdfDocument.new()
    font = raw.FPDFText_LoadStandardFont(document, face.name.encode())
    result, width = {}, ctypes.c_float()
    for character in characters:
        raw.FPDFFont_GetGlyphWidth(font, ord(character), size, ctypes.byref(width))
        result[character] = width.value
    raw.FPDFFont_Close(font)
    document.close()
    return result


def advances(face: Face, size: int, text: str) -> list[float]:
    """Advance width of each character of printable ASCII ``text``, in pixels."""
    widths = _widths(face, size)
    return [widths[character] for character in text]


def centres(face: Face, size: int, line: Line) -> list[float]:
    """Horizontal centre of each character of ``line``, in pixels."""
    result, x = [], line.x
    for advance in advances(face, size, line.text):
        result.append(x + advance / 2)
        x += advance
    return result


def draw(face: Face, size: int, lines: Sequence[Line], width: int, height: int) -> Gray:
    """Black text on white: ``[height, width]`` gray levels."""
    if face.pdf:
        return _draw_pdf(face, size, lines, width, height)
    image = Image.new("L", (width, height), 255)
    brush = ImageDraw.Draw(image)
    for line in lines:
        brush.text((line.x, line.baseline), line.text, font=pen(face, size), fill=0, anchor="ls")
    return np.asarray(image)


def put_text(document: pdfium.PdfDocument, page: pdfium.PdfPage, face: Face, size: float, line: Line) -> None:
    """Add a text object in a standard font to a PDF page; PDF pages are measured from the bottom."""
    font = raw.FPDFText_LoadStandardFont(document, face.name.encode())
    item = raw.FPDFPageObj_CreateTextObj(document, font, size)
    encoded = ctypes.create_string_buffer((line.text + "\0").encode("utf-16-le"))
    raw.FPDFText_SetText(item, ctypes.cast(encoded, ctypes.POINTER(ctypes.c_ushort)))
    raw.FPDFPageObj_Transform(item, 1, 0, 0, 1, line.x, page.get_height() - line.baseline)
    raw.FPDFPage_InsertObject(page, item)


def _draw_pdf(face: Face, size: int, lines: Sequence[Line], width: int, height: int) -> Gray:
    document = pdfium.PdfDocument.new()
    page = document.new_page(width, height)
    for line in lines:
        put_text(document, page, face, size, line)
    page.gen_content()
    pixels = np.array(page.render(grayscale=True).to_numpy())
    document.close()
    return pixels.reshape(height, width)
