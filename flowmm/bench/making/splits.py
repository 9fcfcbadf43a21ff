"""The two splits: everything in which dev and test differ from each other, and both from the reader's training."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from flowmm.bench.making.words import DEV_WORDS, TEST_WORDS, Words
from flowmm.reader.fonts import Face
from flowmm.reader.language import is_held_out

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Split:
    """A split's names, words, faces and layouts; a pair is a range that is drawn from uniformly."""

    name: str
    digit: int  # of a name's hash, see owns
    words: Words
    faces: tuple[Face, ...]
    sizes: tuple[int, int]  # of print, in pixels
    pitches: tuple[float, float]  # of lines, in sizes of print
    margins: tuple[int, int]  # pixels
    columns: tuple[int, int]  # of a page, in cells of 28 pixels; upright in dev, lying in test
    gaps: bool  # lines of a page anywhere, else one after the other from the top
    papers: tuple[Colour, ...]
    inks: tuple[Colour, ...]
    bar: Colour  # title bar of a screenshot
    rules: bool  # around every cell of a table, else under the header and the last row
    sentences: float  # share of facts told as a sentence
    breaks: tuple[str, ...]  # between the sentences of a text part
    shades: dict[str, Colour]  # of badges


DEV = Split(
    name="dev",
    digit=0,
    words=DEV_WORDS,
    faces=tuple(Face(name, pdf=True) for name in ("Helvetica-Oblique", "Courier-Oblique", "Times-BoldItalic")),
    sizes=(20, 24),
    pitches=(1.45, 1.75),
    margins=(10, 20),
    columns=(12, 14),
    gaps=True,
    papers=((255, 255, 255), (246, 242, 230)),
    inks=((0, 0, 0), (32, 32, 44)),
    bar=(198, 206, 216),
    rules=True,
    sentences=0.25,
    breaks=("\n", "\n", " "),
    shades={
        "red": (226, 74, 60),
        "green": (92, 190, 100),
        "blue": (70, 120, 220),
        "yellow": (250, 226, 80),
        "black": (20, 20, 20),
        "white": (255, 255, 255),
        "orange": (248, 160, 60),
        "purple": (156, 84, 196),
        "brown": (132, 86, 52),
        "grey": (160, 160, 160),
    },
)

TEST = Split(
    name="test",
    digit=1,
    words=TEST_WORDS,
    faces=tuple(Face(name, pdf=True) for name in ("Times-Italic", "Helvetica-BoldOblique", "Courier-BoldOblique")),
    sizes=(20, 24),
    pitches=(1.6, 1.9),
    margins=(18, 28),
    columns=(14, 16),
    gaps=False,
    papers=((251, 251, 247), (232, 240, 246), (236, 245, 234)),
    inks=((16, 16, 16), (40, 28, 20)),
    bar=(222, 212, 190),
    rules=False,
    sentences=0.4,
    breaks=(" ", " ", " ", "\n\n"),
    shades={
        "red": (206, 52, 66),
        "green": (70, 172, 84),
        "blue": (92, 146, 236),
        "yellow": (242, 212, 56),
        "black": (44, 44, 44),
        "white": (250, 250, 250),
        "orange": (240, 142, 40),
        "purple": (138, 70, 180),
        "brown": (150, 100, 62),
        "grey": (138, 138, 138),
    },
)

SPLITS = {split.name: split for split in (DEV, TEST)}


def owns(split: Split, name: str) -> bool:
    """Whether a key, a person or a column may stand in ``split``.

    The reader's training leaves out a tenth of all names by their CRC-32; the next digit of it divides that tenth.
    """
    return is_held_out(name) and zlib.crc32(name.encode()) // 10 % 2 == split.digit
