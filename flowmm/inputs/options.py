"""How documents are read: which pages, as text or image, how many pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from flowmm.errors import UnknownNameError, UsageError
from flowmm.inputs.pages import parse_pages

PdfMode = Literal["auto", "text", "image", "both"]


@dataclass(frozen=True)
class ReadOptions:
    """What the caller may choose about reading; what cannot be is a ``UsageError`` here, before any file opens.

    Args:
        pdf: what a PDF page becomes. ``auto`` decides page by page, see ``flowmm/inputs/pdf.py``.
        pages: 1-based, like ``"1-4,7"``; for PDFs and TIFFs with several pages. None is all of them.
        password: opens encrypted PDFs.
        max_pixels: the pixel budget of one page or image. None leaves single images as large as they are, and gives
            pages and video frames ``flowmm.inputs.pixels.PAGE_PIXELS``.
        encoding: of text files without a byte order mark; None is UTF-8.
        video_frames: how many frames a video becomes.
    """

    pdf: PdfMode = "auto"
    pages: str | None = None
    password: str | None = field(default=None, repr=False)
    max_pixels: int | None = None
    encoding: str | None = None
    video_frames: int = 8

    def __post_init__(self) -> None:
        if self.pdf not in get_args(PdfMode):
            raise UnknownNameError("PDF mode", self.pdf, get_args(PdfMode))
        if self.pages is not None:
            parse_pages(self.pages)
        if self.max_pixels is not None and self.max_pixels < 1:
            raise UsageError(f"max_pixels is {self.max_pixels}, expected at least 1", "A readable page takes 1000000.")
        if self.video_frames < 1:
            raise UsageError(f"video_frames is {self.video_frames}, expected at least 1", "8 is the default.")
        if self.encoding is not None:
            _check_encoding(self.encoding)


def _check_encoding(name: str) -> None:
    try:
        " ".encode(name)  # refuses codecs that are no text encoding too, such as base64
    except (LookupError, ValueError) as error:
        raise UsageError(f"there is no text encoding named {name!r}", "Examples: utf-8, latin-1, cp1252.") from error
