"""Office documents and e-books (docx, pptx, xlsx, epub) as Markdown text; pictures in them are left out."""

from __future__ import annotations

import zipfile
from io import BytesIO

from flowmm.inputs.file import File
from flowmm.inputs.options import ReadOptions
from flowmm.records import Part

SUFFIXES = frozenset({".docx", ".pptx", ".xlsx", ".epub"})

MAX_UNPACKED = 2**30  # bytes; what unpacks to more is refused
_FOLDERS = {"word/": ".docx", "ppt/": ".pptx", "xl/": ".xlsx"}
_OLE = bytes.fromhex("d0cf11e0a1b11ae1")  # doc, xls and ppt of before 2007, and encrypted docx, xlsx, pptx
_INSTALL = "pip install 'flowmm[office]'"


def recognises(file: File) -> bool:
    """A zip archive with the folders of one of the kinds, or an old or encrypted file, which ``load`` refuses."""
    return file.data.startswith(_OLE) or _extension_of(file) is not None


def load(file: File, options: ReadOptions) -> list[Part]:
    """One text part, Markdown.

    Raises:
        InputError: the office extra is missing, or the file is damaged, encrypted, too large, or without text.
    """
    if file.data.startswith(_OLE):
        raise file.error(
            "is an encrypted or pre-2007 Office file", "Save it as docx, pptx or xlsx, without a password."
        )
    unpacked = sum(entry.file_size for entry in _entries(file))
    if unpacked > MAX_UNPACKED:
        raise file.error(f"unpacks to {unpacked:,} bytes, more than the limit of {MAX_UNPACKED:,}", "Split it.")
    text = _markdown(file)
    if not text.strip():
        raise file.error("holds no text", "If it holds pictures only, print it to PDF and read that.")
    return [Part("text", text, file.source("office"))]


def _entries(file: File) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(BytesIO(file.data)) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return []


def _extension_of(file: File) -> str | None:
    if not file.data.startswith(b"PK"):
        return None
    if b"application/epub+zip" in file.data[:100]:  # its first entry is stored unpacked, as the format asks
        return ".epub"
    names = [entry.filename for entry in _entries(file)]
    return next((suffix for folder, suffix in _FOLDERS.items() if any(name.startswith(folder) for name in names)), None)


def _markdown(file: File) -> str:
    try:
        from markitdown import MarkItDown, MarkItDownException, MissingDependencyException, StreamInfo
    except ImportError as error:
        raise file.error("needs the office extra", _INSTALL) from error
    try:
        # Only convert_stream: convert() would fetch addresses.
        info = StreamInfo(extension=_extension_of(file))
        markdown: str = MarkItDown(enable_plugins=False).convert_stream(BytesIO(file.data), stream_info=info).markdown
    except MissingDependencyException as error:
        raise file.error("needs the office extra", _INSTALL) from error
    except MarkItDownException as error:
        raise file.error("is a damaged Office file", "Open it in its program and save it again.") from error
    return markdown.replace("\r\n", "\n")
