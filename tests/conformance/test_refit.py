"""Attention matching on the embedded reader: what a refit wins on queries it has not seen."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from flowmm.compress import compress
from flowmm.context import LayerCache
from flowmm.contexts import read_context
from flowmm.observing import Observe, Probes
from flowmm.profiles import load_method
from flowmm.reader.samples import draw
from flowmm.records import LayerRecord
from flowmm.rules import build_rules
from tests.conformance.readings import PROFILE, SEED, Readings, documents
from tests.unit.test_refit import held_out_errors, output

METHOD = load_method("attention-matching")
SEEDS = (100, 101)  # of documents that nothing was chosen by
KEEP = 0.1


@dataclass(frozen=True)
class Errors:
    """Relative errors of the attention output of one layer's heads, each ``[H_kv]``."""

    record: LayerRecord
    evicted: Tensor  # on held-out queries, which decide whether a head takes the refit
    refitted: Tensor
    evicted_unseen: Tensor  # on the queries of questions about the documents, and of their answers
    refitted_unseen: Tensor


@pytest.fixture(scope="module")
def errors(readings: Readings, tmp_path_factory: pytest.TempPathFactory) -> list[Errors]:
    loaded, found = readings.loaded("reader"), []
    refit = build_rules(METHOD).refit
    assert refit is not None
    for seed in SEEDS:
        folder = tmp_path_factory.mktemp("documents")
        parts = documents(folder, seed)
        questions = Probes(requests=[one.text for one in draw(folder, seed).questions], longest=16, queries=65536)
        asking = METHOD.model_copy(update={"observe": Observe(tail=0, sample=0, probes=questions)})
        context, asked = (read_context(parts, loaded, method) for method in (METHOD, asking))
        refitted, evicted = (
            compress(context, method, profile=PROFILE, keep=KEEP, seed=SEED)
            for method in (METHOD, METHOD.model_copy(update={"refit": None}))
        )
        assert context.evidence is not None
        assert asked.evidence is not None
        assert refitted.provenance.compression is not None
        records = refitted.provenance.compression.layers
        layers = zip(context.layers, evicted.layers, refitted.layers, context.evidence, strict=True)
        for number, (full, before, after, seen) in enumerate(layers):
            queries = asked.evidence[number].asking
            assert queries is not None
            behind = torch.full((queries.shape[1],), context.num_tokens)
            on_held_out = (held_out_errors(full, one, seen, refit, SEED) for one in (before, after))
            on_unseen = (output_error(full, one, queries, behind, seen.scale) for one in (before, after))
            found.append(Errors(records[number], *on_held_out, *on_unseen))
    return found


def output_error(full: LayerCache, small: LayerCache, queries: Tensor, index: Tensor, scale: float) -> Tensor:
    """``[H_kv]`` ``|small - full| / |full|`` of the attention output."""
    expected, found = (output(queries, index, scale, of) for of in (full, small))
    return (found - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)


def test_a_refit_brings_nine_of_ten_heads_nearer_and_none_farther(errors: list[Errors]) -> None:
    evicted, refitted = (torch.cat([getattr(one, name) for one in errors]) for name in ("evicted", "refitted"))
    assert len(evicted) == 2 * 5 * len(SEEDS)
    assert bool((refitted <= evicted).all())
    assert int((refitted < evicted).sum()) >= 0.9 * len(evicted)


def test_what_held_out_queries_promise_holds_for_questions_that_took_no_part(errors: list[Errors]) -> None:
    evicted, refitted = (
        torch.cat([getattr(one, f"{name}_unseen") for one in errors]) for name in ("evicted", "refitted")
    )
    assert int((refitted < evicted).sum()) >= 0.75 * len(evicted)  # other queries: some heads may end farther
    assert float(refitted.sum()) < 0.9 * float(evicted.sum())


def test_the_errors_on_record_are_the_means_over_heads(errors: list[Errors]) -> None:
    for one in errors:
        assert one.record.error_evicted == pytest.approx(float(one.evicted.mean()), abs=1e-4)
        assert one.record.error_refitted == pytest.approx(float(one.refitted.mean()), abs=1e-4)
