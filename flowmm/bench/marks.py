"""How right an answer is: four marks between 0 and 1, each the best over the answers that count as right."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from flowmm.errors import UsageError

_ANLS_THRESHOLD = 0.5  # share of characters to change from which on an answer is wrong, not misspelt
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Marks:
    """What one answer earned, each 0..1; no mark is lower than ``exact_match``."""

    exact_match: float
    containment: float
    anls: float
    rouge_l: float


def marks(found: str, answers: Sequence[str]) -> Marks:
    """Mark an answer against all that count as right, after :func:`normal` of both.

    - ``exact_match``: 1 if equal.
    - ``containment``: 1 if the right answer stands in the found one, and neither begins nor ends inside a word.
      A single letter, such as that of a choice, must be the whole answer: "a" stands in most English sentences.
    - ``anls``: average normalised Levenshtein similarity (ST-VQA, arXiv 1905.13648, eq. 1; DocVQA, arXiv 2007.00398):
      ``1 - d / max(len)`` where that share ``d / max(len)`` is below 0.5, otherwise 0.
    - ``rouge_l``: F1 of the longest common subsequence of words (Lin 2004, eq. 2-4 with beta 1).

    Args:
        found: what was answered.
        answers: at least one.

    Raises:
        UsageError: the eval extra is missing.
    """
    right, said = [normal(answer) for answer in answers], normal(found)
    return Marks(
        exact_match=max(float(said == answer) for answer in right),
        containment=max(_containment(said, answer) for answer in right),
        anls=max(_anls(said, answer) for answer in right),
        rouge_l=max(_rouge_l(said, answer) for answer in right),
    )


def normal(text: str) -> str:
    """``text`` without case, spaces around it, and full stops at its end."""
    return text.strip().rstrip(".").rstrip().casefold()


def _containment(found: str, answer: str) -> float:
    if not answer or (len(answer) == 1 and answer.isalpha()):
        return float(found == answer)
    return float(re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", found) is not None)


def _anls(found: str, answer: str) -> float:
    try:
        from rapidfuzz.distance import Levenshtein
    except ImportError as error:
        raise _missing() from error
    share = Levenshtein.normalized_distance(found, answer)
    return 1 - share if share < _ANLS_THRESHOLD else 0.0


def _rouge_l(found: str, answer: str) -> float:
    try:
        from rapidfuzz.distance import LCSseq
    except ImportError as error:
        raise _missing() from error
    said, right = _WORD.findall(found), _WORD.findall(answer)
    if not said and not right:  # signs only
        return float(found == answer)
    return 2 * LCSseq.similarity(said, right) / (len(said) + len(right))


def _missing() -> UsageError:
    return UsageError("marking answers needs the eval extra", "pip install 'flowmm[eval]'")
