"""Documents that other programs made, and ones that nothing can read."""

import struct
import zlib
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from reportlab.lib.pagesizes import A6
from reportlab.pdfgen.canvas import Canvas

TEXT = "Zato: 4821.\nThe old garden sleeps near the river.\nMobi: 7395.\n"


def write_pdf(path: Path, pages: list[list[str]], password: str | None = None) -> None:
    """A PDF with lines of text, made by reportlab."""
    canvas = Canvas(str(path), pagesize=A6, encrypt=password)
    for lines in pages:
        canvas.setFont("Helvetica", 16)
        for number, line in enumerate(lines):
            canvas.drawString(24, 370 - 34 * number, line)
        canvas.showPage()
    canvas.save()


def write_png(path: Path, lines: list[str]) -> None:
    """A picture of lines of text."""
    picture = Image.new("RGB", (320, 40 + 40 * len(lines)), "white")
    for number, line in enumerate(lines):
        ImageDraw.Draw(picture).text((16, 16 + 40 * number), line, fill="black", font=ImageFont.load_default(20))
    picture.save(path)


def write_huge_png(path: Path, side: int) -> None:
    """A black-and-white PNG of ``side`` x ``side`` pixels that takes little disk: every pixel is white."""
    row = b"\x00" + b"\xff" * ((side + 7) // 8)
    pixels = zlib.compressobj(1)
    data = b"".join(pixels.compress(row) for _ in range(side)) + pixels.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
