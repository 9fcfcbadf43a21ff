"""Names and values of one context: made up, of the split's own hash bucket, none twice."""

from __future__ import annotations

from random import Random

from flowmm.bench.making.splits import Split, owns

_ONSETS = (*"bcdfghklmnprstvwz", "br", "dr", "gr", "kl", "pl", "st", "tr")
_VOWELS = (*"aeiouaeo", "ai", "ou")
_CODAS = "lmnrstxk"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_DIGITS = "0123456789"
# No I and no O, which many faces draw as 1 and 0.
_CAPITALS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
_ALIKE = frozenset("ilj")  # too thin to tell apart in an image


class Names:
    """Draws names and values that the context does not have yet."""

    def __init__(self, rng: Random, split: Split) -> None:
        self._rng, self._split = rng, split
        self._taken: set[str] = set()

    def key(self, longest: int = 8, *, words: int = 2) -> str:
        """One capitalised word of 3 to ``longest`` letters or, a quarter of the time where allowed, two."""
        while True:
            pair = words == 2 and self._rng.random() < 0.25
            key = " ".join(self._word(min(longest, 6) if pair else longest) for _ in range(1 + pair))
            if self._free(key):
                return self._take(key)

    def family(self, number: int, longest: int = 8) -> list[str]:
        """A key of one word and ``number - 1`` others that differ from it in one letter."""
        while True:
            key = self._word(longest)
            twins = self._twins(key)
            if self._free(key) and len(twins) >= number - 1:
                return [self._take(name) for name in (key, *self._rng.sample(twins, number - 1))]

    def value(self, longest: int = 8) -> str:
        """2 to ``longest`` capitals or digits; digits alone are at least three, since filler numbers have two."""
        while True:
            value = self._value(longest)
            if value not in self._taken:
                return self._take(value)

    def _word(self, longest: int) -> str:
        while True:
            word = "".join(self._syllable() for _ in range(self._rng.choice((2, 2, 3)))).capitalize()
            if 3 <= len(word) <= longest:
                return word

    def _syllable(self) -> str:
        coda = self._rng.choice(_CODAS) if self._rng.random() < 0.3 else ""
        return f"{self._rng.choice(_ONSETS)}{self._rng.choice(_VOWELS)}{coda}"

    def _twins(self, key: str) -> list[str]:
        found = []
        for place, old in enumerate(key.lower()):
            for new in _LETTERS:
                twin = (key[:place] + new + key[place + 1 :]).capitalize()
                if twin != key and not {old, new} <= _ALIKE and self._free(twin):
                    found.append(twin)
        return found

    def _value(self, longest: int) -> str:
        form = self._rng.random()
        if form < 0.4 and longest >= 4:
            return "".join(self._rng.choices(_DIGITS, k=4))
        length = min(longest, self._rng.choice((2, 3, 3, 4, 4, 5, 5, 6, 7, 8)))
        if form < 0.7:
            return "".join(self._rng.choices(_DIGITS, k=max(3, length)))
        if form < 0.8:
            return "".join(self._rng.choices(_CAPITALS, k=length))
        letters = [self._rng.choice(_CAPITALS), *self._rng.choices(_CAPITALS + _DIGITS, k=length - 1)]
        self._rng.shuffle(letters)
        return "".join(letters)

    def _free(self, name: str) -> bool:
        return owns(self._split, name) and self._taken.isdisjoint((name, *name.split()))

    def _take(self, name: str) -> str:
        self._taken |= {name, *name.split()}
        return name
