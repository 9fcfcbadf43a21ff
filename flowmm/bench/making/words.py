"""The filler of each split: common words, all known to the embedded reader, and halves of sentences.

No word stands in both lists, and no half occurs in what the reader is trained on; tests hold both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Words:
    """Word lists and sentence halves; a half names the lists it takes words from in braces."""

    adjectives: tuple[str, ...]
    nouns: tuple[str, ...]
    verbs: tuple[str, ...]
    acts: tuple[str, ...]  # verbs that take an object
    places: tuple[str, ...]  # prepositions
    openings: tuple[str, ...]
    closings: tuple[str, ...]
    columns: tuple[str, ...]  # headers of tables, from the split's own names, see splits.owns

    def sentence(self, rng: Random) -> str:
        """A sentence that states nothing; about one in eight holds a number of two digits."""
        form = f"{rng.choice(self.openings)} {rng.choice(self.closings)}"
        return _FIELD.sub(lambda field: self._word(rng, field[1]), form)

    def _word(self, rng: Random, name: str) -> str:
        if name == "number":
            return str(rng.randint(10, 99))
        words: tuple[str, ...] = getattr(self, name)
        return rng.choice(words)


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split())


DEV_WORDS = Words(
    adjectives=_split("old quiet small bright cold heavy narrow wooden early gentle green long round sharp tall warm"),
    nouns=_split(
        """house window station garden meeting kitchen machine teacher river market summer table wall tower farm
        hill boat train bicycle hammer bottle bread coffee apple leaf stone smoke snow star shadow song picture
        doctor farmer painter friend brother crowd library factory"""
    ),
    verbs=_split("opened moved rested waited fell remained ended arrived stopped worked grew passed ran sat floated"),
    acts=_split("found took made kept bought built painted read used watched covered filled lifted repaired"),
    places=_split("near beside under from into across against above inside past"),
    openings=(
        "Every one of the {nouns} {verbs}",
        "Nobody in the {nouns} {acts} this {adjectives} {nouns}",
        "Later our {nouns} {verbs}",
        "There was some {nouns} {places} that {nouns}",
        "With the {adjectives} {nouns} they {acts} both of these",
        "When you {acts} my {adjectives} {nouns}, each {nouns} {verbs}",
        "From here to that {nouns} all {verbs}",
        "No {adjectives} {nouns} often {verbs}",
    ),
    closings=(
        "while my {nouns} {verbs} away.",
        "because it was {adjectives}.",
        "and so did my {nouns}.",
        "{places} that {adjectives} {nouns}.",
        "or perhaps {places} his {nouns}.",
        "just {places} number {number}, not now.",
        "if you {acts} more.",
        "where these {nouns} {verbs} too.",
        "up to the {adjectives} {nouns}.",
    ),
    columns=_split("Rating Diesel Seats Guests Timber Visits Brakes Lamps Mass Toll"),
)

TEST_WORDS = Words(
    adjectives=_split("simple open empty busy plain rapid modern large blue short new clean deep soft thin young"),
    nouns=_split(
        """road letter engine report page street office winter bridge village evening chair door roof church field
        forest lake ship bus wheel basket glass knife butter tea flower tree sand wind rain moon sound voice map
        student nurse driver sister bank museum"""
    ),
    verbs=_split("closed stood changed turned stayed began returned appeared lay shone looked slept spoke sank rose"),
    acts=_split("gave saw held carried sold cleaned drew wrote lost liked crossed followed packed reached"),
    places=_split("behind before after over through along between below beyond toward"),
    openings=(
        "Most of her {nouns} {verbs}",
        "Everyone {acts} some {adjectives} {nouns} once",
        "But their {nouns} never {verbs}",
        "As his {adjectives} {nouns} {verbs}, one {nouns}",
        "For all the {nouns} there, few {acts} it",
        "If it {verbs} down, each {adjectives} {nouns} {acts} one",
        "Under our {nouns} both {verbs} together",
        "Many a {nouns} still {verbs} out there",
    ),
    closings=(
        "but not {places} its {nouns}.",
        "and then {verbs} quite slowly.",
        "which no {nouns} {acts}.",
        "as {adjectives} as two {nouns} can be.",
        "or almost {places} any {nouns}.",
        "at about {number} of them.",
        "so we {acts} those {nouns} again.",
        "than which few {nouns} {verbs}.",
        "away {places} your {adjectives} {nouns}.",
    ),
    columns=_split("Supply Levy Portion Heat Floor Change Tide Pollen Pass"),
)
