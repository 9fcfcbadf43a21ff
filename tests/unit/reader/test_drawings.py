from random import Random

import numpy as np

from flowmm.reader import fonts
from flowmm.reader.drawings import COLOURS, draw_badges, draw_table
from flowmm.reader.pages import CELL, CHARACTERS, PageStyle
from flowmm.reader.vocabulary import COLOURS as COLOUR_WORDS

STYLE = PageStyle((fonts.BUILT_IN,), (18, 20), rescaled=False, blurred=0)


def shown(labels: np.ndarray, cells: tuple[int, ...]) -> str:
    """The labelled characters of some cells, in their order."""
    found = []
    for cell in dict.fromkeys(cells):
        slots = labels.reshape(-1, *labels.shape[2:])[cell].reshape(-1)
        found += [CHARACTERS[number] for number in slots if number]
    return "".join(found)


def test_every_colour_word_has_a_colour():
    assert set(COLOURS) == set(COLOUR_WORDS)


def test_a_badge_has_its_colour_around_its_code():
    page = draw_badges(Random(0), STYLE, [("red", "12"), ("blue", "XY7")], 4, 9)
    for colour, code, cells in zip(("red", "blue"), ("12", "XY7"), page.cells, strict=True):
        assert len(cells) == len(code)
        assert set(code) <= set(shown(page.labels, cells))
        row, column = divmod(cells[0], 9)
        around = page.pixels[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL].reshape(-1, 3)
        distance = np.abs(around.astype(int) - COLOURS[colour]).max(-1)
        assert (distance <= 12).mean() > 0.2


def test_many_wide_badges_are_drawn_smaller_rather_than_cut():
    badges = [(colour, "WWWWWWWW") for colour in list(COLOURS)[:6]]
    page = draw_badges(Random(1), STYLE, badges, 4, 9)
    assert all(cell >= 0 for cells in page.cells for cell in cells)


def test_the_values_of_a_table_stand_in_their_rows_and_columns():
    page = draw_table(Random(2), STYLE, ["Key", "Size", "Price"], [["Lufe", "11", "AB"], ["Xasta", "22", "CD"]], 5, 12)
    rows, columns = zip(*[divmod(cells[0], 12) for cells in page.cells], strict=True)
    assert [shown(page.labels, cells) for cells in page.cells] == ["11", "AB", "22", "CD"]
    assert rows[0] == rows[1] < rows[2] == rows[3]
    assert columns[0] == columns[2] < columns[1] == columns[3]
