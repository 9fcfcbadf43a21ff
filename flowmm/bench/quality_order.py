"""Whether two quality runs put the methods into the same order."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowmm.bench.intervals import spearman
from flowmm.bench.quality_report import MARKS
from flowmm.bench.quality_rows import SCHEMA_VERSION
from flowmm.bench.quality_written import RESULTS_FILE
from flowmm.errors import InputError, UnknownNameError

_Measured = dict[float, dict[tuple[str, str], float]]  # by share of kept slots, by method and precision


@dataclass(frozen=True)
class KeepOrder:
    """The methods that both runs measured at one share of kept slots, best first, with their scores."""

    keep: float
    dev: tuple[tuple[str, float], ...]
    test: tuple[tuple[str, float], ...]
    correlation: float | None  # Spearman's; None for fewer than two methods, or where all are equal

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "keep": self.keep,
            "methods": len(self.dev),
            "spearman": self.correlation,
            "dev": [{"method": name, "score": score} for name, score in self.dev],
            "test": [{"method": name, "score": score} for name, score in self.test],
        }


@dataclass(frozen=True)
class OrderReport:
    """Two runs, share by share."""

    dev: str  # suites
    test: str
    score: str
    orders: tuple[KeepOrder, ...]

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        orders = [one.as_dict() for one in self.orders]
        return {"dev": self.dev, "test": self.test, "score": self.score, "by_keep": orders}


def bench_order(dev: Path, test: Path, *, score: str = "exact_match") -> OrderReport:
    """Compare the order of the methods in two results of ``bench quality``.

    Args:
        dev: a folder of results, or a results.json.
        test: another.
        score: which mark orders.

    Raises:
        InputError: no results, or the two have no share of kept slots in common.
        UnknownNameError: no such mark.
    """
    if score not in MARKS:
        raise UnknownNameError("score", score, MARKS)
    (dev_name, one), (test_name, other) = (_scores(path, score) for path in (dev, test))
    shared = sorted(set(one) & set(other), reverse=True)
    if not shared:
        what = f"{dev} and {test}: no share of kept slots was measured in both"
        raise InputError(what, "Run bench quality with the same --keep on both suites.")
    several = any(len({stored for at in run.values() for _, stored in at}) > 1 for run in (one, other))
    orders = tuple(_order(keep, _named(one[keep], several), _named(other[keep], several)) for keep in shared)
    return OrderReport(dev_name, test_name, score, orders)


def _named(scores: dict[tuple[str, str], float], several: bool) -> dict[str, float]:
    """By method, or by method and precision where a run measured several."""
    return {f"{name} {stored}" if several else name: score for (name, stored), score in scores.items()}


def _order(keep: float, dev: dict[str, float], test: dict[str, float]) -> KeepOrder:
    names = [name for name in dev if name in test]

    def best_first(scores: dict[str, float]) -> tuple[tuple[str, float], ...]:
        return tuple(sorted(((name, scores[name]) for name in names), key=lambda item: (-item[1], item[0])))

    correlation = spearman([dev[name] for name in names], [test[name] for name in names])
    return KeepOrder(keep, best_first(dev), best_first(test), correlation)


def _scores(path: Path, score: str) -> tuple[str, _Measured]:
    file = path / RESULTS_FILE if path.is_dir() else path
    hint = "Name a folder that flowmm bench quality wrote."
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if found["schema_version"] != SCHEMA_VERSION:
            raise InputError(f"{file}: is of schema {found['schema_version']}, expected {SCHEMA_VERSION}", hint)
        scores: _Measured = {}
        for one in found["results"]:
            scores.setdefault(float(one["keep"]), {})[str(one["method"]), str(one["kv_dtype"])] = float(one[score])
        return str(found["suite"]), scores
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or type(error).__name__}", hint) from None
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file}: holds no results: {type(error).__name__} {error}", hint) from None
