"""What the model writes is taken apart into items, and these are asked about."""

import pytest

from flowmm.observe.probes import items, names, study
from flowmm.observing import Probes
from flowmm.records import Answer


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('["Lufe", "Xasta North"]', ["Lufe", "Xasta North"]),
        ('Here: {"total": 12, "lines": [{"Lufe": 5}]} as asked', ["total", "lines", "Lufe"]),
        ("- Lufe: 5000\n* Xasta\n3) North", ["Lufe", "Xasta", "North"]),
        ("Lufe, Xasta; North", ["Lufe", "Xasta", "North"]),
        ("1. Lufe\n2. Lufe", ["Lufe"]),
        ("[not json\nLufe", ["[not json", "Lufe"]),
        ("", []),
        ("a" * 200, []),
    ],
)
def test_items_of_a_list(text, found):
    assert items(text) == found


def test_each_item_that_is_listed_is_asked_about_once_and_up_to_the_limit():
    asked: list[tuple[list[str], int]] = []

    def ask(questions, longest):
        asked.append((list(questions), longest))
        texts = {"List them.": "Lufe\nXasta\nLufe\nNorth", "Sum up.": "Some facts."}
        return [Answer(one, texts.get(one, "5"), (), "stop", 0, 0) for one in questions]

    settings = Probes(
        requests=["Sum up."], list_items=["List them."], about_item=["Code of {item}?"], most_items=2, longest_about=7
    )
    answers = study(ask, settings)
    assert asked == [(["Sum up.", "List them."], 512), (["Code of Lufe?", "Code of Xasta?"], 7)]
    assert [one.text for one in answers] == ["Some facts.", "Lufe\nXasta\nLufe\nNorth", "5", "5"]


def test_a_model_that_lists_nothing_is_asked_nothing_more():
    def ask(questions, _longest):
        return [Answer(one, "", (), "stop", 0, 0) for one in questions]

    assert len(study(ask, Probes(list_items=["List them."], about_item=["Code of {item}?"]))) == 1


def test_things_are_asked_about_whether_they_are_there_or_not_and_need_no_answer():
    settings = Probes(
        things=["the total", "Berlin"], about_item=["What is {item}?", "Where is {item}?"], longest_about=0
    )
    answers = study(_refuse, settings)
    assert [one.question for one in answers] == [
        "What is the total?",
        "Where is the total?",
        "What is Berlin?",
        "Where is Berlin?",
    ]
    assert {one.token_ids for one in answers} == {()}


def test_words_of_the_text_are_asked_about_before_things():
    settings = Probes(things=["the total", "Lufe"], words=2, about_item=["{item}?"], longest_about=0)
    answers = study(_refuse, settings, "The code of Lufe is 5000.")
    assert [one.question for one in answers] == ["The?", "Lufe?", "the total?"]


@pytest.mark.parametrize(
    ("text", "most", "found"),
    [
        ("The keeper of Lufe Masti is Xasta, in the north.", 9, ["Lufe Masti", "Xasta"]),
        ("Lufe: 5000\nMasti", 9, ["Lufe", "5000", "Masti"]),
        ("a code of 3.5 kg on 2026-01-02, B7X", 9, ["3.5", "2026-01-02", "B7X"]),
        ("Lufe and Lufe", 9, ["Lufe"]),
        ("Aa, Bb, Cc, Dd", 2, ["Aa", "Cc"]),
        ("Aa Bb", 0, []),
        ("", 9, []),
    ],
)
def test_names_and_numbers_of_a_text(text, most, found):
    assert names(text, most) == found


def _refuse(questions, longest):
    raise AssertionError(f"{questions} were to be answered")
