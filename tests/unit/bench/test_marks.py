"""Each mark against numbers worked out by hand."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmm import demo
from flowmm.bench.marks import Marks, marks
from flowmm.errors import UsageError


@pytest.mark.parametrize(
    ("found", "answer", "mark"),
    [
        ("Paris", "paris", 1),
        ("  Paris.\n", "paris", 1),
        ("Paris", "Paris .", 1),
        ("STRASSE", "straße", 1),
        ("Paris, France", "Paris", 0),
        ("", "Paris", 0),
    ],
)
def test_an_exact_match_is_equal_but_for_case_and_spaces_and_a_full_stop(found, answer, mark):
    assert marks(found, [answer]).exact_match == mark
    assert demo.same(found, answer) == bool(mark)


@pytest.mark.parametrize(
    ("found", "answer", "mark"),
    [
        ("The code is 5000.", "5000", 1),
        ("The code is 50001.", "5000", 0),
        ("The code is X5000.", "5000", 0),
        ("It is New York, I think", "new york", 1),
        ("It is C++.", "C++", 1),
        ("a.c", "abc", 0),
        ("abc", "a.c", 0),  # the answer is no pattern
        ("5000", "The code is 5000.", 0),
        ("It is a cat.", "A", 0),  # a single letter must be all
        ("A.", "a", 1),
        ("There are 5 facts", "5", 1),
    ],
)
def test_an_answer_is_contained_where_whole_words_of_it_stand(found, answer, mark):
    assert marks(found, [answer]).containment == mark


@pytest.mark.parametrize(
    ("found", "answer", "mark"),
    [
        ("hallo", "Hello", 1 - 1 / 5),
        ("abcd", "abcdef", 1 - 2 / 6),
        ("abcxy", "abcde", 1 - 2 / 5),
        ("abxy", "abcd", 0),  # 2 of 4: half is too much
        ("", "abcd", 0),
    ],
)
def test_anls_is_one_minus_the_share_of_changed_characters_until_half(found, answer, mark):
    assert marks(found, [answer]).anls == pytest.approx(mark)


@pytest.mark.parametrize(
    ("found", "answer", "mark"),
    [
        ("police kill the gunman", "police killed the gunman", 3 / 4),  # S2 and S1 of Lin 2004
        ("the gunman kill police", "police killed the gunman", 2 / 4),  # S3: the gunman
        ("The cat sat on the mat", "the cat, on a mat.", 2 * 4 / (6 + 5)),  # the cat on mat
        ("yes", "no", 0),
        ("", "no", 0),
        ("+", "-", 0),
    ],
)
def test_rouge_l_is_f1_of_the_longest_common_subsequence_of_words(found, answer, mark):
    assert marks(found, [answer]).rouge_l == pytest.approx(mark)


def test_each_mark_is_the_best_over_the_answers():
    found = marks("the red house", ["blue", "red", "the red horse"])
    # exact: none; contained: red; 1 of 13 characters changed; 2 of 3 words in common
    assert found == Marks(0.0, 1.0, pytest.approx(12 / 13), pytest.approx(2 / 3))


@given(st.text())
def test_the_answer_itself_earns_all_marks(text):
    assert marks(text, ["something else", text]) == Marks(1.0, 1.0, 1.0, 1.0)


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidfuzz.distance", None)
    with pytest.raises(UsageError, match=r"eval extra\npip install 'flowmm\[eval\]'"):
        marks("a", ["b"])
