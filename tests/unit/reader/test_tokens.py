import pytest

from flowmm.reader import tokens
from flowmm.reader.vocabulary import SPECIALS, WORDS


def encode(text: str) -> list[str]:
    return tokens.tokenizer().encode(text).tokens


@pytest.mark.parametrize(
    "text",
    [
        "Xasta: 4821\nThe code of Lufe North is K7Q2. What is that?",
        "Größe 12,5 m²; 日本語 🙂\t(tabs)  and   blanks\n\n",
        "<p>not a special token</p> e.g. a@b.c #1",
    ],
)
def test_any_text_comes_back_unchanged(text):
    ids = tokens.tokenizer().encode(text).ids
    assert tokens.tokenizer().decode(ids, skip_special_tokens=False) == text


def test_a_key_is_spelled_alike_wherever_it_stands():
    key = list("Xasta")
    for text in ("Xasta: 1", "\nXasta: 1", "code of Xasta?", "is 7. Xasta: 1", "<|vision_end|>\nXasta: 1"):
        spelled = encode(text)
        start = spelled.index("X")
        assert spelled[start : start + 5] == key


def test_a_listed_word_is_one_token_with_or_without_its_blank():
    assert encode("code of code") == ["codeĠ", "ofĠ", "code"]


def test_capitalised_nouns_are_spelled_since_they_may_be_keys():
    assert encode("North") == list("North")
    assert encode("north") == ["north"]


def test_special_ids_are_their_places_in_the_list():
    assert [tokens.tokenizer().token_to_id(s) for s in SPECIALS] == list(range(7))
    assert SPECIALS.index("<|image_pad|>") == tokens.IMAGE_PAD


def test_the_vocabulary_is_that_of_the_shipped_weights():
    assert tokens.tokenizer().get_vocab_size() == 1624
    assert len(set(WORDS)) == len(WORDS)
