"""What `flowmm bench quality` found, as values: scores and what they are over, from the rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flowmm.bench.intervals import ratio_interval
from flowmm.bench.quality_losses import LossOrder
from flowmm.bench.quality_rows import SCHEMA_VERSION, Asked, Key, Row

MARKS = ("exact_match", "containment", "anls", "rouge_l")
_SIZE = re.compile(r"-(\d+k)(?:-|$)")  # in the id of a context that flowmm bench make drew


@dataclass(frozen=True)
class Scores:
    """Means over questions."""

    questions: int
    marks: Mapping[str, float]  # by the names in MARKS, 0..1

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"questions": self.questions, **self.marks}


@dataclass(frozen=True)
class Result:
    """A method or a control, over all contexts."""

    key: Key
    scores: Scores
    by: Mapping[str, Mapping[str, Scores]]  # kind, modality (of the evidence) and size (of the context) -> value -> ...
    interval: tuple[float, float] | None  # 95 %, of the score
    retention: float | None  # score / that of the full cache; None where that is 0
    ci95: tuple[float, float] | None  # of the retention, paired
    tokens: float  # read; this and what follows are means over contexts
    visual_tokens: float
    keep_reached: float
    bytes: float  # of the cache's tensors, as stored
    file_bytes: float  # of a file
    byte_share: float  # that file over the full cache's keys and values in 16 bits
    stored: tuple[str, ...]  # precisions, each once
    seconds: Mapping[str, float]  # by stage: read, compress, answer
    evidence_evicted: float | None  # share of the evidence's tokens that no layer and head has, mean over questions
    evidence_questions: int  # over which

    @property
    def label(self) -> str:
        """A name of its own among the controls."""
        parts = [self.key.name]
        if self.key.name == "quantise_only":
            parts.append(self.key.kv_dtype)
        return "-".join([*parts, *(f"{share:g}" for share in (self.key.keep,) if share is not None)])

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "method": self.key.name,
            "keep": self.key.keep,
            "kv_dtype": self.key.kv_dtype,
            **self.scores.as_dict(),
            "score_ci95": None if self.interval is None else list(self.interval),
            "retention": self.retention,
            "ci95": None if self.ci95 is None else list(self.ci95),
            **{f"by_{name}": {k: v.as_dict() for k, v in found.items()} for name, found in self.by.items()},
            "tokens": self.tokens,
            "visual_tokens": self.visual_tokens,
            "keep_reached": self.keep_reached,
            "bytes": self.bytes,
            "file_bytes": self.file_bytes,
            "byte_share": self.byte_share,
            "seconds": sum(self.seconds.values()),
            "seconds_by_stage": dict(self.seconds),
            "evidence_evicted": self.evidence_evicted,
            "evidence_questions": self.evidence_questions,
        }


@dataclass(frozen=True)
class QualityReport:
    """A whole run."""

    model: str
    device: str
    dtype: str
    suite: str
    suite_hash: str
    contexts: int
    seed: int
    score: str  # which mark the retention and the intervals are of
    full: Result
    controls: tuple[Result, ...]
    results: tuple[Result, ...]
    aware_full: Result | None = None
    aware: tuple[Result, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    losses: tuple[LossOrder, ...] = ()

    def name_of(self, one: Result) -> str:
        """What a compressed result is called: the method, with the precision where there are several."""
        several = len({other.key.kv_dtype for other in self.results}) > 1
        return f"{one.key.name} {one.key.kv_dtype}" if several else one.key.name

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        found: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "model": self.model,
            "device": self.device,
            "dtype": self.dtype,
            "suite": self.suite,
            "suite_hash": self.suite_hash,
            "contexts": self.contexts,
            "seed": self.seed,
            "score": self.score,
            "full": self.full.as_dict(),
            "controls": {one.label: one.as_dict() for one in self.controls},
            "results": [one.as_dict() for one in self.results],
            "refused": dict(self.refused),
        }
        if self.aware_full is not None:
            aware = {"full": self.aware_full.as_dict(), "results": [one.as_dict() for one in self.aware]}
            found["question_aware"] = aware
        if self.losses:
            found["losses"] = [one.as_dict() for one in self.losses]
        return found


def results_of(rows: Sequence[Row], keys: Sequence[Key], group: str, score: str, seed: int) -> list[Result]:
    """Those of a group that were measured on all contexts, in the order of ``keys``.

    Retention is over the full cache of the same protocol: the one with the question for ``question_aware``.
    """
    by_key: dict[Key, list[Row]] = {key: [] for key in keys}
    for row in rows:
        if row.key in by_key:
            by_key[row.key].append(row)
    whole = {key: found for key, found in by_key.items() if found and all(row.refused is None for row in found)}
    own = "question_aware" if group == "question_aware" else "control"
    base = next(found for key, found in whole.items() if (key.group, key.name) == (own, "full"))
    return [_result(key, found, base, score, seed) for key, found in whole.items() if key.group == group]


def _result(key: Key, rows: Sequence[Row], base: Sequence[Row], score: str, seed: int) -> Result:
    full = {row.context: _sum(row, score) for row in base}
    above, counts = [_sum(row, score) for row in rows], [float(len(row.asked)) for row in rows]
    below = [full[row.context] for row in rows]
    asked = [(row, one) for row in rows for one in row.asked]
    known = [(one.evidence_evicted or 0) / one.evidence_tokens for _, one in asked if one.evidence_tokens]
    return Result(
        key=key,
        scores=_scores([one for _, one in asked]),
        by={
            "kind": _grouped(asked, lambda _row, one: one.kind),
            "modality": _grouped(asked, lambda _row, one: one.modality),
            "size": _grouped(asked, lambda row, _one: _size(row)),
        },
        interval=ratio_interval(above, counts, seed),
        retention=sum(above) / sum(below) if sum(below) else None,
        ci95=ratio_interval(above, below, seed),
        tokens=_mean([row.tokens for row in rows]),
        visual_tokens=_mean([row.visual_tokens for row in rows]),
        keep_reached=_mean([row.keep_reached for row in rows]),
        bytes=_mean([row.bytes for row in rows]),
        file_bytes=_mean([row.file_bytes for row in rows]),
        byte_share=_mean([row.file_bytes / max(1, row.full_bytes) for row in rows]),
        stored=tuple(dict.fromkeys(row.stored or row.kv_dtype for row in rows)),
        seconds={stage: _mean([row.seconds[stage] for row in rows]) for stage in rows[0].seconds},
        evidence_evicted=_mean(known) if known else None,
        evidence_questions=len(known),
    )


def _grouped(asked: Sequence[tuple[Row, Asked]], name: Callable[[Row, Asked], str | None]) -> dict[str, Scores]:
    groups: dict[str, list[Asked]] = {}
    for row, one in asked:
        found = name(row, one)
        if found is not None:
            groups.setdefault(found, []).append(one)
    return {found: _scores(groups[found]) for found in sorted(groups)}


def _scores(asked: Sequence[Asked]) -> Scores:
    return Scores(len(asked), {name: _mean([getattr(one, name) for one in asked]) for name in MARKS})


def _size(row: Row) -> str | None:
    found = _SIZE.search(row.context)
    return None if found is None else found[1]


def _sum(row: Row, score: str) -> float:
    return float(sum(getattr(one, score) for one in row.asked))


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else 0.0
