"""Text, Markdown, CSV, JSON, HTML and source code: any file that is neither of another kind nor binary."""

from __future__ import annotations

import codecs

from flowmm.inputs.file import File
from flowmm.inputs.options import ReadOptions
from flowmm.records import Part

SUFFIXES: frozenset[str] = frozenset()  # any

# The mark of UTF-32 begins with that of UTF-16, so it is looked for first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_ENCODING_HINT = "If it is text, give its encoding: --encoding latin-1, cp1252, utf-16-le, ..."
_KINDS_HINT = "Kinds that are read: text, images, PDF, docx, pptx, xlsx, epub and video."


def recognises(file: File) -> bool:
    """Text is what is left when no other kind recognises a file; ``load`` tells whether it really is."""
    return True


def load(file: File, options: ReadOptions) -> list[Part]:
    """One text part, newlines as ``\\n``, otherwise as it is.

    Raises:
        InputError: binary, of another encoding, or blank.
    """
    text = decode(file, options.encoding).replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise file.error("holds nothing but white space", "Leave it out.")
    return [Part("text", text, file.source("text"))]


def decode(file: File, encoding: str | None) -> str:
    """The characters of ``file``. A byte order mark decides, then ``encoding``, then UTF-8.

    Raises:
        InputError: with the offset of the first byte that does not fit.
    """
    mark, marked = next(((mark, name) for mark, name in _MARKS if file.data.startswith(mark)), (b"", None))
    name = marked or encoding or "utf-8"
    if marked is None and encoding is None and b"\0" in file.data:
        raise file.error(
            f"binary data of no known kind (a NUL byte at offset {file.data.index(0)})",
            f"{_KINDS_HINT} {_ENCODING_HINT}",
        )
    try:
        text = file.data[len(mark) :].decode(name)
    except UnicodeDecodeError as error:
        offset = len(mark) + error.start
        raise file.error(
            f"is not {name} text: byte 0x{file.data[offset]:02x} at offset {offset}", _ENCODING_HINT
        ) from error
    except UnicodeError as error:
        raise file.error(f"is not {name} text: {error}", _ENCODING_HINT) from error
    if "\0" in text:
        raise file.error(f"is not {name} text: it holds NUL characters", f"{_KINDS_HINT} {_ENCODING_HINT}")
    return text
