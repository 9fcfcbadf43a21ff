"""Keys, values, facts and filler sentences, drawn from a seeded ``random.Random``.

One tenth of all keys, by a hash of their letters, is held out: training never shows them, evaluation and the samples
show nothing else.
"""

import zlib
from dataclasses import dataclass
from random import Random

from flowmm.reader.vocabulary import (
    ADJECTIVES,
    CAPITALISED,
    NOUNS,
    PREPOSITIONS,
    TRANSITIVE_VERBS,
    VERBS,
)

VOWELS = "aeiou"
CONSONANTS = "bcdfghjklmnpqrstvwxyz"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
DIGITS = "0123456789"
# Mixed values leave out I and O: many faces draw them as they draw 1 and 0.
MIXED = "ABCDEFGHJKLMNPQRSTUVWXYZ" + DIGITS
ABSENT = "not stated"

_HELD_OUT_BUCKETS = 10
_SPELLED_WORDS = tuple(
    w.capitalize() for w in sorted({*ADJECTIVES, *NOUNS}) if 3 <= len(w) <= 10 and w.capitalize() not in CAPITALISED
)


@dataclass(frozen=True)
class Fact:
    """What a context states: the value of a key, in a table that of one of its columns."""

    key: str
    value: str
    column: str = "code"

    @property
    def question(self) -> str:
        """The question whose answer is the value alone."""
        return f"What is the {self.column} of {self.key}?"


def worded(rng: Random, fact: Fact) -> str:
    """The question about a fact, or about its key in general, as anybody asks who knows no more than a name."""
    if fact.column != "code" or rng.random() < 0.75:
        return fact.question
    return rng.choice(("What is {}?", "What is {}?", "What about {}?", "{}?")).format(fact.key)


@dataclass(frozen=True)
class Link:
    """A statement in text that leads to a fact: who keeps a thing, which badge a person wears."""

    subject: str
    target: str  # the key of the fact, or the colour of the badge
    badge: bool

    @property
    def statement(self) -> str:
        """The sentence."""
        if self.badge:
            return f"{self.subject} wears the {self.target} badge."
        return f"The keeper of {self.subject} is {self.target}."

    @property
    def question(self) -> str:
        """The question whose answer is the value of the fact that it leads to."""
        if self.badge:
            return f"What is the badge code of {self.subject}?"
        return f"What is the code of the keeper of {self.subject}?"


def is_held_out(key: str) -> bool:
    """Whether a key belongs to the tenth that training never sees."""
    return zlib.crc32(key.encode()) % _HELD_OUT_BUCKETS == 0


def made_up_word(rng: Random, length: int) -> str:
    """A capitalised word: mostly vowels and consonants in turn, sometimes any letters."""
    if rng.random() < 0.15:
        return "".join(rng.choices(LETTERS, k=length)).capitalize()
    letters: list[str] = []
    vowel = rng.random() < 0.3
    run = 0
    for _ in range(length):
        letters.append(rng.choice(VOWELS if vowel else CONSONANTS))
        if rng.random() < 0.85 or run:
            vowel, run = not vowel, 0
        else:
            run = 1
    return "".join(letters).capitalize()


def _word(rng: Random, longest: int) -> str:
    if rng.random() < 0.12:
        word = rng.choice(_SPELLED_WORDS)
        if len(word) <= longest:
            return word
    return made_up_word(rng, rng.randint(3, longest))


def _near(rng: Random, key: str) -> str:
    """``key`` with one letter or, of two words, one word exchanged."""
    words = key.split(" ")
    if len(words) == 2 and rng.random() < 0.5:
        words[rng.randrange(2)] = _word(rng, 7)
        return " ".join(words)
    place = rng.randrange(len(key))
    if key[place] == " ":
        place -= 1
    letter = rng.choice(LETTERS)
    return key[:place] + (letter.upper() if key[place].isupper() else letter) + key[place + 1 :]


def draw_keys(rng: Random, number: int, *, held_out: bool, longest: int = 10, near: float = 0.0) -> list[str]:
    """``number`` different keys of one or two words, a share ``near`` of them hard to tell from another."""
    keys: dict[str, None] = {}
    while len(keys) < number:
        if keys and rng.random() < near:
            key = _near(rng, rng.choice(list(keys)))
        elif longest > 5 and rng.random() < 0.25:
            key = f"{_word(rng, longest - 2)} {_word(rng, longest - 3)}"
        else:
            key = _word(rng, longest)
        if is_held_out(key) == held_out:
            keys[key] = None
    return list(keys)


def draw_value(rng: Random, *, plain: bool = False) -> str:
    """2-8 letters or digits; four digits where ``plain``."""
    if plain or rng.random() < 0.4:
        return "".join(rng.choices(DIGITS, k=4))
    length = rng.choice((2, 3, 3, 4, 4, 5, 5, 6, 7, 8))
    kind = rng.random()
    if kind < 0.45:
        return "".join(rng.choices(DIGITS, k=length))
    if kind < 0.65:
        return "".join(rng.choices(LETTERS, k=length)).upper()
    return "".join(rng.choices(MIXED, k=length))


def state(rng: Random, fact: Fact, *, line: bool, sentences: bool = True) -> str:
    """A statement of ``fact``: on a line of its own the full stop may be left out."""
    form = rng.random()
    if sentences and form < 0.3:
        return f"The code of {fact.key} is {fact.value}."
    return f"{fact.key}: {fact.value}" + ("" if line and form < 0.75 else ".")


def _number(rng: Random) -> str:
    return str(rng.choice((rng.randint(2, 99), rng.randint(100, 999), rng.randint(1900, 2030))))


def sentence(rng: Random) -> str:
    """A filler sentence of common words; about one in ten holds a number or a name that is no fact."""
    adjective, noun = rng.choice(ADJECTIVES), rng.choice(NOUNS)
    other, place = rng.choice(NOUNS), rng.choice(NOUNS)
    verb, acts, where = rng.choice(VERBS), rng.choice(TRANSITIVE_VERBS), rng.choice(PREPOSITIONS)
    form = rng.randrange(20)
    if form < 5:
        return f"The {adjective} {noun} {verb} {where} the {place}."
    if form < 8:
        return f"The {noun} of the {place} {verb} {rng.choice(ADJECTIVES)}."
    if form < 10:
        return f"A {noun} {acts} the {adjective} {other}."
    if form < 12:
        return f"They {acts} a {noun} and the {other} {where} the {adjective} {place}."
    if form < 14:
        return f"In the {place}, the {noun} {verb} and the {other} {verb}."
    if form < 16:
        return f"When the {noun} {verb}, she {acts} the {other}."
    if form < 17:
        return f"{rng.choice(CAPITALISED)} {' '.join(rng.choices(NOUNS + VERBS + ADJECTIVES, k=5))}."
    if form < 18:
        return f"We {acts} {_number(rng)} {adjective} {noun}."
    if form < 19:
        return f"In {_number(rng)} the {noun} {verb} {where} the {place}."
    return f"{made_up_word(rng, rng.randint(3, 8))} {acts} the {noun} {where} the {place}."


def strange_sentence(rng: Random) -> str:
    """A filler sentence as in documents of others: many of its words are spelled, with signs and numbers among them."""
    words = []
    for word in sentence(rng)[:-1].split(" "):
        if rng.random() < 0.5:
            word = made_up_word(rng, rng.randint(2, 9)).lower()
        form = rng.random()
        if form < 0.06:
            word = f"({word})"
        elif form < 0.1:
            word = f'"{word}"'
        elif form < 0.14:
            word = f"{word}-{made_up_word(rng, rng.randint(2, 6)).lower()}"
        elif form < 0.2:
            word = f"{word}{rng.choice((',', ';', ':'))}"
        elif form < 0.24:
            word = _number(rng)
        words.append(word)
    text = " ".join(words)
    return text[0].upper() + text[1:] + rng.choice((".", ".", ".", "", ":"))
