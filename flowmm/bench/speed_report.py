"""What `flowmm bench speed` found, as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

TRANSFORMERS, FULL = "transformers", "full"


@dataclass(frozen=True)
class Run:
    """One arm, once. What an arm has not is None."""

    first_token: float | None  # seconds: load the file, read the question, first token; transformers reads the context
    step: float  # seconds of a step in which every question gets a token
    total: float | None  # seconds of all questions together, the context being in memory
    grown_bytes: int | None  # memory at the peak over what was there before


@dataclass(frozen=True)
class Spread:
    """Of several runs."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, found: Sequence[float | None]) -> Spread | None:
        """None if any is None."""
        known = [one for one in found if one is not None]
        return cls(median(known), min(known), max(known)) if known and len(known) == len(found) else None


@dataclass(frozen=True)
class Machine:
    """What the machine does at best."""

    bandwidth: float  # bytes a second, read from memory
    rate: float  # operations a second, products of large matrices in the model's type


@dataclass(frozen=True)
class Load:
    """What must move and be computed."""

    parameters: int  # that take part in every token
    weight_bytes: int
    cache_bytes: int  # keys and values of the context in memory
    file_bytes: int  # 0: no file
    token_bytes: int  # keys and values of one token
    read_operations: float  # of reading the context anew; 0 where it is not read
    slot_operations: float  # attention of one token over the context

    def first_token(self, machine: Machine, question: int) -> float:
        """Least seconds to the first token."""
        computed = (self.read_operations + question * (2 * self.parameters + self.slot_operations)) / machine.rate
        moved = (self.weight_bytes + (0 if self.read_operations else self.cache_bytes)) / machine.bandwidth
        return self.file_bytes / machine.bandwidth + max(computed, moved)

    def step(self, machine: Machine, batch: int, tail: float) -> float:
        """Least seconds of a step of so many questions with tails of so many tokens."""
        moved = self.weight_bytes + self.cache_bytes + batch * tail * self.token_bytes
        return max(moved / machine.bandwidth, batch * (2 * self.parameters + self.slot_operations) / machine.rate)


@dataclass(frozen=True)
class Arm:
    """One way to answer: transformers with its cache, or a file, and so many questions side by side."""

    source: str  # transformers, full, or the share of the slots
    keep: float
    batch: int
    file_bytes: int
    tail_bytes: int  # of all questions and their answers
    first_token: Spread | None
    step: Spread
    total: Spread | None
    grown_bytes: int | None
    first_token_floor: float
    step_floor: float

    @property
    def questions_per_second(self) -> float | None:
        """Of the median."""
        return None if self.total is None else self.batch / self.total.median

    def as_dict(self) -> dict[str, Any]:
        """As JSON values; tokens a second are of all questions together."""
        return {
            "source": self.source,
            "keep": self.keep,
            "batch": self.batch,
            "file_bytes": self.file_bytes,
            "first_token_seconds": None if self.first_token is None else asdict(self.first_token),
            "decode_seconds_per_step": asdict(self.step),
            "tokens_per_second": self.batch / self.step.median,
            "answers_seconds": None if self.total is None else asdict(self.total),
            "questions_per_second": self.questions_per_second,
            "grown_bytes": self.grown_bytes,
            "tail_bytes": self.tail_bytes,
            "floor": {
                "first_token_seconds": self.first_token_floor,
                "decode_seconds_per_step": self.step_floor,
            },
        }


@dataclass(frozen=True)
class SpeedReport:
    """All arms on one model and context."""

    model: str
    device: str
    dtype: str
    threads: int
    method: str
    context: int  # tokens
    question: int
    new_tokens: int
    repeat: int
    machine: Machine
    prefill_seconds: float  # once, by flowmm, with what the method observes
    compress_seconds: dict[str, float]  # once, by share of the slots
    arms: tuple[Arm, ...]

    def arm(self, source: str, batch: int) -> Arm | None:
        """The arm of a source and a batch, if it was measured."""
        return next((arm for arm in self.arms if (arm.source, arm.batch) == (source, batch)), None)

    @property
    def ratios(self) -> dict[str, float | None]:
        """At the smallest share; None where an arm for it was not measured."""
        smallest = min(self.arms, key=lambda arm: arm.keep).source
        small, many = self.arm(smallest, 1), self.arm(smallest, 64)
        plain, full = self.arm(TRANSFORMERS, 1), self.arm(FULL, 1)

        def first(arm: Arm | None) -> float | None:
            return None if arm is None or arm.first_token is None else arm.first_token.median

        def step(arm: Arm | None) -> float | None:
            return None if arm is None else arm.step.median

        def asked(arm: Arm | None) -> float | None:
            return None if arm is None else arm.questions_per_second

        return {
            "first_token_vs_prefill": _over(first(plain), first(small)),
            "first_token_vs_full_file": _over(first(full), first(small)),
            "decode_vs_hf_full": _over(step(plain), step(small)),
            "batch64_vs_single": _over(asked(many), asked(small)),
        }

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "model": self.model,
            "device": self.device,
            "dtype": self.dtype,
            "threads": self.threads,
            "method": self.method,
            "context_tokens": self.context,
            "question_tokens": self.question,
            "new_tokens": self.new_tokens,
            "repeat": self.repeat,
            "bandwidth_bytes_per_second": self.machine.bandwidth,
            "operations_per_second": self.machine.rate,
            "prefill_seconds": self.prefill_seconds,
            "compress_seconds": self.compress_seconds,
            "arms": [arm.as_dict() for arm in self.arms],
            "ratios": self.ratios,
        }


def _over(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one / other
