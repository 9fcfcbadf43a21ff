"""The text of a MileBench sample: which of it is context, which is the question, and where the images stand."""

from __future__ import annotations

import re

_PLACE = re.compile(r"\{(?:image|table)#(\d{1,9})\}")
_MARKER = "Question:"


def split(text: str) -> tuple[str, str]:
    """Context and question of a text that holds both; the first of these rules that fits decides.

    1. The last ``Question:`` behind the last image: the question begins there.
    2. Words behind the last image: they are the question.
    3. The line before the images that end the text begins with ``Question:`` or ends with a question mark: it is the
       question, and the images belong to the context.
    4. Otherwise all is context, and the question is empty: the task instruction asks it.
    """
    places = list(_PLACE.finditer(text))
    last = places[-1].end() if places else 0
    marked = text.rfind(_MARKER, last)
    if marked >= 0:
        return text[:marked], text[marked:].strip()
    if places and text[last:].strip():
        return text[:last], text[last:].strip()
    end = len(text.rstrip())
    while places and places[-1].end() == end:
        end = len(text[: places.pop().start()].rstrip())
    start = max(text.rfind("\n", 0, end) + 1, places[-1].end() if places else 0)
    line = text[start:end].strip()
    if line.startswith(_MARKER) or line.endswith("?"):
        return text[:start] + text[end:], line
    return text, ""


def has_place(text: str) -> bool:
    """Whether an image is to stand in the text."""
    return _PLACE.search(text) is not None


def pieces(text: str) -> list[str | int]:
    """Texts and image numbers (from 1) in their order, without blank texts."""
    found: list[str | int] = [*_PLACE.split(text)]
    found[1::2] = [int(number) for number in found[1::2]]
    return [piece for piece in found if isinstance(piece, int) or piece.strip()]
