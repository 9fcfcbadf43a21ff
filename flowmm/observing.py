"""What a method records while a context is read, and in which further passes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Literal, TypeVar

from pydantic import Field
from xxhash import xxh3_128_hexdigest

from flowmm.validation import FileModel, Rule


class Reconstruct(FileModel):
    """A pass that reads the context again behind itself (KVzip, arXiv 2505.23416)."""

    chunk: Annotated[int, Field(ge=1)] = 2000  # tokens of the context that are repeated at once
    first: str = "Repeat the previous context exactly."
    next: str = "Repeat the part of the previous context that begins with: {start}"  # {start}: what came before a chunk
    relative: bool = False  # also over the length of the hidden states (KVzip+)
    queries: Annotated[int, Field(ge=0, le=65536)] = 0  # reference queries to keep of it


class Probes(FileModel):
    """A pass that feeds questions about the context, with answers of the model (self-study) or without (probes)."""

    requests: list[str] = Field(default_factory=list)  # what it writes: a transcription, a summary, key facts as JSON
    list_items: list[str] = Field(default_factory=list)  # requests whose answers are lists
    each_image: list[str] = Field(default_factory=list)  # requests put to each image alone; names in the answers count
    longest_image: Annotated[int, Field(ge=1)] = 128  # tokens of such an answer
    about_item: list[str] = Field(default_factory=list)  # questions asked about each item, {item}
    most_items: Annotated[int, Field(ge=0)] = 128  # of those listed
    things: list[str] = Field(default_factory=list)  # further items, whether the context has them or not
    words: Annotated[int, Field(ge=0)] = 0  # further items: at most so many names and numbers of text and images
    longest: Annotated[int, Field(ge=1)] = 512  # tokens of an answer to a request
    longest_about: Annotated[int, Field(ge=0)] = 48  # tokens of an answer about an item; 0: fed without an answer
    queries: Annotated[int, Field(ge=0, le=65536)] = 0  # reference queries to keep of it


class Observe(FileModel):
    """What to record while the context is read, and in which further passes."""

    tail: Annotated[int, Field(ge=0)] = 32  # last queries of the context, kept as reference queries
    sample: Annotated[int, Field(ge=0, le=4096)] = 64  # queries from all over the context, for refit and diagnostics
    cumulative: bool = False  # the attention each slot receives from all queries
    reconstruct: Reconstruct | None = None
    probes: Probes | None = None
    # Look through the gate that the model's profile names (Fast KVzip); without one: an error, or go on.
    gate: bool | Literal["if_trained"] = False


class Scout(Observe):
    """A smaller model of the same family that reads first and scores for the large one; what it observes, and how."""

    score: Rule
    top: Annotated[float, Field(gt=0, le=1)] = (
        0.1  # share of the slots, those most looked at, that heads are matched by
    )


class MethodObserve(Observe):
    """What a method observes, itself and through a scout."""

    scout: Scout | None = None


Pass = TypeVar("Pass", Reconstruct, Probes)


def fewest(wanted: Sequence[Pass | None]) -> list[Pass]:
    """The fewest passes that show what each of ``wanted`` asks for; None asks for nothing."""
    passes: list[Pass] = []
    for one in sorted((one for one in wanted if one is not None), key=lambda one: -one.queries):
        for number, known in enumerate(passes):
            both = known.model_copy(update={"relative": True}) if _relative(one) else known
            if covers(both, one):
                passes[number] = both
                break
        else:
            passes.append(one)
    return passes


def covers(done: Reconstruct | Probes, wanted: Reconstruct | Probes) -> bool:
    """Whether one pass shows all that another would: they may differ in what is kept of it."""
    enough = wanted.queries in (0, done.queries) and _relative(done) >= _relative(wanted)
    return enough and pass_digest(done) == pass_digest(wanted)


def pass_digest(settings: Reconstruct | Probes) -> str:
    """Hex digits that are the same for all passes that see the same, whatever is kept of it."""
    asked = settings.model_dump(mode="json", exclude={"queries", "relative"})
    return xxh3_128_hexdigest(json.dumps(asked, sort_keys=True).encode())


def _relative(one: Reconstruct | Probes) -> bool:
    return isinstance(one, Reconstruct) and one.relative


def joined(observes: Sequence[Observe]) -> Observe:
    """What records enough for each of several methods while the context is read; no further passes, and no gate."""
    return Observe(
        tail=max(one.tail for one in observes),
        sample=max(one.sample for one in observes),
        cumulative=any(one.cumulative for one in observes),
    )
