"""Dev and test share nothing that could be learnt by heart, and the training of the reader has neither's."""

import re
from random import Random

import pytest

from flowmm.bench.make import KINDS, draw
from flowmm.bench.making.names import Names
from flowmm.bench.making.splits import DEV, SPLITS, TEST, owns
from flowmm.bench.making.words import Words
from flowmm.reader import fonts, language
from flowmm.reader.vocabulary import (
    ADJECTIVES,
    CAPITALISED,
    COLOURS,
    NOUNS,
    PREPOSITIONS,
    TRANSITIVE_VERBS,
    VERBS,
    WORDS,
)

ASKED = re.compile(r"What is the (?:badge code|code|(?P<column>\w+)) of (?:the keeper of )?(?P<name>[^?]+)\?")
CONTENT = {*ADJECTIVES, *NOUNS, *VERBS, *TRANSITIVE_VERBS, *PREPOSITIONS}
LISTS = ("adjectives", "nouns", "verbs", "acts", "places")
BOTH = pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)


def names_of(split):
    """Keys, people, rows and columns that contexts of every kind are asked about."""
    found = set()
    for kind in KINDS:
        for asked in draw(kind, split, 0, 1000, 0).asked:
            if match := ASKED.fullmatch(asked.question):
                found |= {match["name"], *([match["column"]] if match["column"] else [])}
    return found


def words_of(words: Words):
    return {word for name in LISTS for word in getattr(words, name)}


def skeleton(text: str) -> str:
    """A sentence with its content words and numbers blanked out, so that its form is left."""
    return re.sub(
        r"\{\w+\}|\d+|\w+", lambda found: "_" if found[0] in CONTENT or found[0][0] in "{0123456789" else found[0], text
    )


@BOTH
def test_every_name_belongs_to_its_split_and_is_held_out_of_the_training(split):
    names = names_of(split)
    assert len(names) > 40
    assert all(owns(split, name) and language.is_held_out(name) for name in names)


def test_no_name_can_belong_to_both_splits():
    names = Names(Random(0), DEV)
    assert not any(owns(TEST, names.key()) for _ in range(300))
    assert not names_of(DEV) & names_of(TEST)


def test_the_training_draws_no_name_of_either_split():
    trained = language.draw_keys(Random(0), 3000, held_out=False, near=0.3)
    assert not any(owns(DEV, key) or owns(TEST, key) for key in trained)


def test_no_face_is_shared_or_trained_on_or_needs_a_file():
    dev, test = ({face.name for face in split.faces} for split in (DEV, TEST))
    trained = {face.name for face in (*fonts.trained(), *fonts.held_out())} | {*fonts._TRAINED, *fonts._STANDARD}
    assert not dev & test
    assert not (dev | test) & trained
    assert all(face.pdf and face.path is None for face in (*DEV.faces, *TEST.faces))


def test_no_word_of_the_filler_is_shared():
    assert not words_of(DEV.words) & words_of(TEST.words)
    assert not set(DEV.words.columns) & set(TEST.words.columns)


@BOTH
def test_the_reader_knows_every_word_of_the_filler(split):
    assert words_of(split.words) <= set(WORDS)
    halves = " ".join(split.words.openings + split.words.closings)
    assert set(re.findall(r"[A-Za-z]+", re.sub(r"\{\w+\}", "", halves))) <= {*WORDS, *CAPITALISED}


def test_no_half_of_a_filler_sentence_is_shared():
    dev, test = ({skeleton(half) for half in split.words.openings + split.words.closings} for split in (DEV, TEST))
    assert len(dev) == len(DEV.words.openings + DEV.words.closings)
    assert not dev & test


@BOTH
def test_no_half_of_a_filler_sentence_comes_up_in_the_training(split):
    rng = Random(0)
    trained = {skeleton(language.sentence(rng)) for _ in range(5000)}
    halves = [skeleton(half) for half in split.words.openings + split.words.closings]
    assert [half for half in halves if any(half in form for form in trained)] == []


def test_the_training_forms_would_be_seen():
    assert skeleton("The old house stood near the 12 door.") == "The _ _ _ _ the _ _."


@BOTH
def test_columns_are_spelled_letter_by_letter_and_owned(split):
    assert all(owns(split, column) and column not in CAPITALISED for column in split.words.columns)
    assert len(split.words.columns) > 4


def test_layouts_differ():
    assert not set(DEV.papers) & set(TEST.papers)
    assert not set(DEV.inks) & set(TEST.inks)
    assert set(DEV.shades) == set(TEST.shades) == set(COLOURS)
    assert all(DEV.shades[colour] != TEST.shades[colour] for colour in DEV.shades)
    assert (DEV.rules, DEV.gaps, set(DEV.breaks)) != (TEST.rules, TEST.gaps, set(TEST.breaks))
