"""What the model writes is taken apart into items, and these are asked about."""

import pytest

from flowmm.observe.probes import items, study
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
