from random import Random

import numpy as np
import pytest

from flowmm.reader import fonts, pages, sheet
from flowmm.reader.fonts import Face
from flowmm.reader.pages import CELL, CHARACTERS, PageStyle
from flowmm.reader.sheet import Line

TEXTS = [("Xasta: 4821", True), ("Lufe North: K7Q2", True), ("the quiet road fell down the old hill", False)]


def draw(seed: int, face: Face) -> pages.Page:
    style = PageStyle((face,), (18, 22), blurred=0)
    return pages.draw_page(Random(seed), style, TEXTS, rows=8, columns=9)


@pytest.mark.parametrize("face", fonts.standard(), ids=lambda face: face.name)
@pytest.mark.parametrize("seed", range(3))
def test_labels_spell_the_lines(face, seed):
    page = draw(seed, face)
    shown = page.labels.reshape(8 * 9, pages.LINES, pages.SLOTS)
    for (text, whole), cells in zip(TEXTS, page.cells, strict=True):
        if whole:
            assert len(cells) == len(text)
            for character, cell in zip(text, cells, strict=True):
                assert character == " " or CHARACTERS.index(character) in shown[cell]


@pytest.mark.parametrize("face", fonts.standard(), ids=lambda face: face.name)
def test_ink_is_where_the_labels_are(face):
    page = draw(0, face)
    darkest = page.pixels.reshape(8, CELL, 9, CELL, 3).min(axis=(1, 3, 4))
    labelled = (page.labels > 0).any(axis=(2, 3))
    assert darkest[labelled].max() < page.pixels.max() - 60


def test_a_line_too_long_is_cut_at_a_word_and_facts_are_not():
    page = draw(1, fonts.BUILT_IN)
    assert len(page.cells[0]) == len("Xasta: 4821")
    assert len(page.cells[2]) < len(TEXTS[2][0])


def test_advances_agree_with_what_pdfium_draws():
    face = Face("Helvetica", pdf=True)
    gray = sheet.draw(face, 20, [Line("MMMMMMMM", 10, 30)], 200, 40)
    right = np.nonzero((gray < 128).any(axis=0))[0].max()
    assert right == pytest.approx(10 + sum(sheet.advances(face, 20, "MMMMMMMM")), abs=3)


def test_two_lines_in_one_cell_keep_their_own_slots():
    labels = np.zeros((2, 2, pages.LINES, pages.SLOTS), np.uint8)
    assert pages.label(labels, "AB", [5.0, 12.0], 3.0) == (0, 0)
    assert pages.label(labels, "CD", [5.0, 40.0], 27.0) == (0, 1)
    spelled = ["".join(CHARACTERS[i] for i in labels[0, 0, line]).strip() for line in (0, 1)]
    assert spelled == ["AB", "C"]
    assert CHARACTERS[labels[0, 1, 0, 0]] == "D"
