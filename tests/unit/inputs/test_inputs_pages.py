from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmm.errors import InputError, UnknownNameError, UsageError
from flowmm.inputs import ReadOptions
from flowmm.inputs.file import File
from flowmm.inputs.pages import parse_pages, select_pages

FILE = File("doc.pdf", b"")


def test_pages_stay_in_the_order_they_were_listed():
    assert select_pages("7, 1-3", 9, FILE) == [7, 1, 2, 3]


def test_no_selection_is_every_page():
    assert select_pages(None, 3, FILE) == [1, 2, 3]


def test_a_page_beyond_the_last_is_refused_with_the_number_of_pages():
    with pytest.raises(InputError, match=r"doc\.pdf: there is no page 4, the document has 3"):
        select_pages("1-4", 3, FILE)


def test_a_huge_range_is_refused_without_listing_it():
    with pytest.raises(InputError, match="no page 999999999"):
        select_pages("1-999999999", 3, FILE)


@pytest.mark.parametrize(
    "text",
    ["", "a", "1-", "-3", "1,,2", "1-2-3", "1.5", "0", "0-2", "4-1", "1,1", "1-4,3", "3,1-9", "\u0661", "1" * 5000],
)
def test_what_is_no_selection_is_a_usage_error_before_any_file_opens(text):
    with pytest.raises(UsageError, match="pages"):
        ReadOptions(pages=text)


@given(st.lists(st.integers(1, 50), min_size=2, unique=True).map(sorted), st.randoms())
def test_what_is_written_is_what_is_parsed(bounds, random):
    ranges = [range(first, last) for first, last in zip(bounds[::2], bounds[1::2], strict=False)]
    random.shuffle(ranges)
    text = ",".join(f"{r.start}-{r.stop - 1}" if len(r) > 1 else f"{r.start}" for r in ranges)
    assert parse_pages(text) == tuple(ranges)


def test_options_that_cannot_be_are_usage_errors():
    with pytest.raises(UnknownNameError, match="no PDF mode named 'txt'\nDid you mean 'text'"):
        ReadOptions(pdf="txt")
    with pytest.raises(UsageError, match="max_pixels is 0"):
        ReadOptions(max_pixels=0)
    with pytest.raises(UsageError, match="video_frames is 0"):
        ReadOptions(video_frames=0)


def test_the_password_is_not_shown():
    assert "geheim" not in repr(ReadOptions(password="geheim"))
