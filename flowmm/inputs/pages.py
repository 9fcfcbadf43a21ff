"""Page selections like ``1-4,7``."""

from __future__ import annotations

import re

from flowmm.errors import UsageError
from flowmm.inputs.file import File

_RANGE = re.compile(r"\s*([0-9]{1,9})\s*(?:-\s*([0-9]{1,9})\s*)?", re.ASCII)
_HINT = "Pages are counted from 1 and listed once each, like 1-4,7."


def parse_pages(text: str) -> tuple[range, ...]:
    """The ranges that ``text`` lists, in its order: ``"1-4,7"`` is ``(range(1, 5), range(7, 8))``.

    Raises:
        UsageError: not of this form, page 0, a range that runs backwards, or a page listed twice.
    """
    ranges: list[range] = []
    for item in text.split(","):
        match = _RANGE.fullmatch(item)
        if match is None:
            raise UsageError(f"pages {text!r}: {item.strip()!r} is neither a page nor a range", _HINT)
        first = int(match[1])
        last = int(match[2] or first)
        if not 1 <= first <= last:
            raise UsageError(f"pages {text!r}: there is no range {item.strip()}", _HINT)
        if any(first < other.stop and other.start <= last for other in ranges):
            raise UsageError(f"pages {text!r}: {item.strip()} was listed before", _HINT)
        ranges.append(range(first, last + 1))
    return tuple(ranges)


def select_pages(text: str | None, num_pages: int, file: File) -> list[int]:
    """1-based numbers of the chosen pages of a document that has ``num_pages``, in the order they were listed.

    Raises:
        InputError: a page that the document does not have.
    """
    if text is None:
        return list(range(1, num_pages + 1))
    ranges = parse_pages(text)
    last = max(pages.stop - 1 for pages in ranges)
    if last > num_pages:
        raise file.error(
            f"there is no page {last}, the document has {num_pages}", f"Choose pages between 1 and {num_pages}."
        )
    return [page for pages in ranges for page in pages]
