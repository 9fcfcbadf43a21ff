"""What a method evicts while an answer is decoded: a section of its YAML, which a context file brings along."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated

from pydantic import ConfigDict, Field

from flowmm.errors import CorruptFileError, UsageError
from flowmm.validation import FileModel, find_problems
from flowmm.yamlfile import Document, refuse


class Decode(FileModel):
    """What is evicted of a question and its answer while the answer is decoded (HAE, arXiv 2602.02197)."""

    keep: Annotated[int, Field(ge=2)]  # slots of each head outside the bin; the question's last and the newest stay
    recent: Annotated[float, Field(ge=0, le=0.5)] = 0.0  # share of keep for the newest slots; one at least
    bin: Annotated[int, Field(ge=1)]  # lowest scorers that wait, still attended, and are dropped together


class _Stored(FileModel):
    """What matters of a method once a file is made by it. The other keys may be those of another version."""

    model_config = ConfigDict(extra="ignore")
    decode: Decode | None = None


@lru_cache(maxsize=64)
def stored_decode(text: str) -> Decode | None:
    """What the method of a context file, given as its YAML, does while decoding.

    Raises:
        CorruptFileError: it cannot be told.
    """
    try:
        document = Document("the method of the context", text)
        problems = find_problems(_Stored, document, document.data)
        if problems:
            raise refuse(problems)
    except UsageError as error:
        what = "; ".join(error.what.splitlines())
        raise CorruptFileError(what, "Make the file again, or ask with the version that made it.") from None
    return _Stored.model_validate(document.data).decode
