"""PDF: the text layer of a page, its picture, or both."""

from __future__ import annotations

import codecs
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flowmm.errors import InputError
from flowmm.inputs.file import File
from flowmm.inputs.options import PdfMode, ReadOptions
from flowmm.inputs.pages import select_pages
from flowmm.inputs.pixels import PAGE_PIXELS, check_size
from flowmm.records import Part

if TYPE_CHECKING:
    from PIL.Image import Image
    from pypdfium2 import PdfDocument, PdfPage

SUFFIXES = frozenset({".pdf"})

MIN_PRINTABLE = 20  # characters; with fewer a page counts as having no text layer (a scan may still hold a page number)
IMAGE_SHARE = 0.1  # of the page's area; above it the images of a page with text matter
MAX_SCALE = 3.0  # pixels per point: small pages are not blown up to the whole budget

_LOCK = threading.Lock()  # PDFium is not thread-safe
_MARK = b"%PDF-"
_LINE_END_HYPHENS = "\x02\ufffe"  # what PDFium, by version, puts where it joined a word that was split at a line end
_HYPHENS = str.maketrans("", "", _LINE_END_HYPHENS + "\u00ad")


def recognises(file: File) -> bool:
    """``%PDF-`` at the beginning. Some writers put bytes before it; then the name must say .pdf."""
    head = file.data[:1024]
    return head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(_MARK) or (file.suffix in SUFFIXES and _MARK in head)


def load(file: File, options: ReadOptions) -> list[Part]:
    """The parts of the chosen pages; of a page that gives both, the text comes before the image.

    ``auto`` takes the text of a page that has any, the image of one that has none, and both where images or filled
    form fields and other annotations, which the text layer lacks, stand beside text.

    Raises:
        InputError: encrypted, damaged, no such page, or no text where only text was asked for.
    """
    with _LOCK, _opened(file, options.password) as document:
        pages = select_pages(options.pages, len(document), file)
        return [part for page in pages for part in _read_page(file, document, page, options)]


@contextmanager
def _opened(file: File, password: str | None) -> Iterator[PdfDocument]:
    from pypdfium2 import PdfDocument, raw

    # PdfDocument(bytes) reports a PDF without pages with the code of whatever error came before it.
    secret = None if password is None else password.encode("utf-8", "surrogateescape") + b"\0"
    handle = raw.FPDF_LoadMemDocument64(file.data, len(file.data), secret)
    if not handle:
        raise _refusal(file, raw.FPDF_GetLastError(), password is not None)
    document = PdfDocument(handle)
    try:
        if len(document) == 0:
            raise file.error("is a PDF without pages", "Leave it out, or make it again.")
        document.init_forms()  # before any page is loaded, or filled fields stay blank
        yield document
    finally:
        document.close()


def _refusal(file: File, code: int, has_password: bool) -> InputError:
    from pypdfium2 import raw

    if code == raw.FPDF_ERR_PASSWORD and not has_password:
        return file.error("is encrypted", "Pass its password with --password.")
    if code == raw.FPDF_ERR_PASSWORD:
        return file.error("is encrypted, and the password does not open it", "Check --password.")
    if code == raw.FPDF_ERR_SECURITY:
        return file.error("is encrypted in a way that is not supported", "Save it without encryption.")
    return file.error("is a damaged PDF", "Open it in a viewer and print it to a new PDF.")


def _read_page(file: File, document: PdfDocument, number: int, options: ReadOptions) -> list[Part]:
    from pypdfium2 import PdfiumError

    source = file.source("pdf", number)
    try:
        page = document[number - 1]
        try:
            text = "" if options.pdf == "image" else _text(page)
            wants_text, wants_image = _wants(options.pdf, page, text)
            if options.pdf == "text" and not text:
                raise file.error(f"page {number} has no text layer", "Read it as a picture with --pdf image.")
            parts = [Part("text", text, source)] if wants_text else []
            if wants_image:
                width, height = page.get_size()
                check_size(file, width, height, number)
                parts.append(Part("image", _render(page, options.max_pixels or PAGE_PIXELS), source))
            return parts
        finally:
            page.close()
    except PdfiumError as error:
        raise file.error(f"page {number} is damaged: {error}", "Leave it out with --pages.") from error


def _wants(mode: PdfMode, page: PdfPage, text: str) -> tuple[bool, bool]:
    """Whether the page becomes a text part, and whether it becomes an image part."""
    if mode == "auto":
        printable = sum(char.isprintable() and not char.isspace() for char in text)
        if printable < MIN_PRINTABLE:
            return False, True
        return True, _image_share(page) > IMAGE_SHARE or _has_drawn_annotations(page)
    return mode != "image" and bool(text), mode != "text"


def _text(page: PdfPage) -> str:
    """The text layer; only line ends, blanks before them and the marks of split words differ from what PDFium says."""
    layer = page.get_textpage()
    try:
        text: str = layer.get_text_range()
    finally:
        layer.close()
    lines = text.replace("\r\n", "\n").replace("\r", "\n").translate(_HYPHENS).split("\n")
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def _image_share(page: PdfPage) -> float:
    """Area of the page's images, those in form objects included, over the area of the page; overlaps count twice."""
    from pypdfium2.raw import FPDF_PAGEOBJ_IMAGE

    width, height = page.get_size()
    area: float = 0.0
    for image in page.get_objects(filter=[FPDF_PAGEOBJ_IMAGE]):
        left, bottom, right, top = image.get_bounds()
        size = (right - left) * (top - bottom)
        form = image.container  # bounds are in the coordinates of the form object around it
        while form is not None:
            matrix = form.get_matrix()
            size *= abs(matrix.a * matrix.d - matrix.b * matrix.c)
            form = form.container
        area += size
    return float(area / (width * height))


def _has_drawn_annotations(page: PdfPage) -> bool:
    """Whether form fields, notes, stamps or the like are on the page, which the text layer does not hold."""
    from pypdfium2 import raw

    kinds = set()
    for index in range(raw.FPDFPage_GetAnnotCount(page)):
        annotation = raw.FPDFPage_GetAnnot(page, index)
        kinds.add(raw.FPDFAnnot_GetSubtype(annotation))
        raw.FPDFPage_CloseAnnot(annotation)
    return bool(kinds - {raw.FPDF_ANNOT_LINK})


def _render(page: PdfPage, budget: int) -> Image:
    """RGB on white with at most ``budget`` pixels. From a budget, not from dpi: a page may be 14,400 points wide."""
    width, height = page.get_size()
    bitmap = page.render(scale=min(MAX_SCALE, _scale(width, height, budget)))
    try:
        image: Image = bitmap.to_pil().convert("RGB")  # a copy: the picture shares the bitmap's memory
        return image
    finally:
        bitmap.close()


def _scale(width: float, height: float, budget: int) -> float:
    """Largest scale at which ``budget`` holds both sides rounded up: the root of (w s + 1)(h s + 1) = budget."""
    half = (width + height) / 2
    root = math.sqrt(half * half + width * height * (budget - 1))
    return max((root - half) / (width * height), 1 / (100 * max(width, height)))
