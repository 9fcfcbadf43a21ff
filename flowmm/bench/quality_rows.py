"""What a quality run measures, row by row: one context asked in one way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from flowmm.records import Agreement, ModelIdentity

SCHEMA_VERSION = 1


class Key(NamedTuple):
    """What is measured on each context: a method or a control, at a share of kept slots, in a stored precision.

    In the group ``planned`` the share is one of the full cache's bytes in 16 bits, filled with as many slots as fit.
    """

    group: str  # control, compressed, planned, or question_aware: the question was there at compression
    name: str
    keep: float | None
    kv_dtype: str  # or PLANNER


PLANNER = "planner"  # stands where the precision is what the profile has for so few bytes


@dataclass(frozen=True)
class Asked:
    """One question and what came out."""

    id: str
    kind: str
    modality: str  # of the evidence: text, image, both, none
    answer: str
    exact_match: float
    containment: float
    anls: float
    rouge_l: float
    evidence_tokens: int | None = None  # that state the answer; None: not known
    evidence_evicted: int | None = None  # of these, left in no layer and head


@dataclass(frozen=True)
class Row:
    """One context, asked all its questions in one way."""

    context: str
    group: str
    name: str
    keep: float | None
    kv_dtype: str
    tokens: int = 0  # that were read
    visual_tokens: int = 0
    keep_reached: float = 1.0  # living slots over those of a full cache
    bytes: int = 0  # of the cache's tensors, as stored
    seconds: Mapping[str, float] = field(default_factory=dict)  # read, compress, answer
    asked: tuple[Asked, ...] = ()
    refused: str | None = None  # why this was not measured
    file_bytes: int = 0  # of a file, with room for what only a job knows, see byte_planner.RESERVE
    full_bytes: int = 0  # of the full cache's keys and values in 16 bits
    stored: str | None = None  # the precision, where the planner chose it
    agreement: Agreement | None = None  # what a file would say of its loss, where that was asked for

    @property
    def key(self) -> Key:
        """What was measured."""
        return Key(self.group, self.name, self.keep, self.kv_dtype)


@dataclass(frozen=True)
class Settings:
    """What a run was asked to do; another one is another run."""

    methods: tuple[str, ...]
    keep: tuple[float, ...]
    kv_dtype: str | None  # one or more, with commas
    question_aware: bool
    limit: int | None  # contexts
    max_new_tokens: int
    chunk_tokens: int
    rules: str  # sha256 of the methods' and the profile's texts
    left: tuple[float, ...] = ()  # shares of the full cache's bytes
    losses: bool = False


@dataclass(frozen=True)
class RunHeader:
    """The first line."""

    schema_version: int
    suite: str
    suite_hash: str
    model: ModelIdentity
    seed: int
    settings: Settings
