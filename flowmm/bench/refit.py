"""Measure a refit at a size that no model at hand has: random layers with structure, one in memory at a time."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from flowmm.bench.markdown import check_document, refit_section, rewrite
from flowmm.bench.memory import watch_memory
from flowmm.bench.refit_report import RefitLayer, RefitReport, Sizes
from flowmm.errors import UsageError
from flowmm.observing import Observe
from flowmm.plan import Progress
from flowmm.profiles import load_method

if TYPE_CHECKING:
    from torch import Tensor

    from flowmm.context import Evidence, LayerCache
    from flowmm.rules import Rules

_TOPICS = 64  # directions that keys and queries of a head share
_RUN = 16  # neighbours of one topic


def bench_refit(
    *,
    layers: int = 28,
    heads: int = 4,
    slots: int = 32_768,
    size: int = 128,
    group: int = 7,
    keep: float = 0.1,
    method: str = "attention-matching",
    seed: int = 0,
    markdown: Path | None = None,
    progress: Progress | None = None,
) -> RefitReport:
    """Compress and refit random layers on the CPU.

    Args:
        layers: how many, one after the other.
        heads: KV heads.
        slots: of each head.
        size: of a head.
        group: query heads of each KV head.
        keep: share of the slots to keep.
        method: whose rules and refit are used; it says how many queries are recorded.
        seed: of the layers.
        markdown: a document whose section is rewritten.
        progress: told how far it is.

    Raises:
        InputError: there is no such document.
        UsageError: a number that cannot be, no such method, or one without a refit.
    """
    check_document(markdown, "refit")
    sizes = Sizes(layers, heads, slots, size, group)
    for name, number in vars(sizes).items():
        if number < 1:
            raise UsageError(f"--{name} {number}: is less than 1", "Give a number of at least 1.")
    if not 0 < keep <= 1:
        raise UsageError(f"--keep {keep}: is not above 0 and at most 1", "0.1 or 10% keeps a tenth.")
    preset = load_method(method)
    if preset.refit is None:
        raise UsageError(f"method {method} refits nothing", "Name one that does; flowmm methods lists them.")
    from flowmm.rules import build_rules

    rules = build_rules(preset)
    before = watch_memory()()
    peak = watch_memory()
    found = []
    for done in range(layers):
        layer, evidence = random_layer(sizes, preset.observe, seed + done)
        found.append(_measured(layer, evidence, rules, keep, seed + done))
        if progress is not None:
            progress("refit", done + 1, layers)
    report = RefitReport(method, sizes, evidence.num_references, keep, tuple(found), before, peak())
    if markdown is not None:
        flags = " ".join(f"--{name} {number}" for name, number in vars(sizes).items())
        rewrite(
            markdown, "refit", refit_section(report, f"flowmm bench refit {flags} --keep {keep:g} --method {method}")
        )
    return report


def _measured(layer: LayerCache, evidence: Evidence, rules: Rules, keep: float, seed: int) -> RefitLayer:
    import torch

    from flowmm.budgets.choose import Ranking, slots_to_keep
    from flowmm.merges.selection import Selection

    assert rules.refit is not None
    num_slots = layer.keys.shape[1]
    with torch.no_grad():
        began = perf_counter()
        scores = rules.score(layer, evidence, seed)
        ranking = Ranking(scores, layer, slots_to_keep(num_slots, keep), evidence)
        kept = next(iter(rules.budget([ranking])))
        small, _ = rules.merge(Selection(layer, scores, kept, ~layer.protected))
        chosen = perf_counter()
        fit = rules.refit(layer, small, evidence, num_slots, seed)
        ended = perf_counter()
    return RefitLayer(chosen - began, ended - chosen, fit.error_before, fit.error_after, fit.heads)


def random_layer(sizes: Sizes, observed: Observe, seed: int) -> tuple[LayerCache, Evidence]:
    """A layer in bfloat16 whose runs of neighbours share a topic, and queries that look for topics.

    Keys, values and queries are a topic's direction plus noise of the same length, so that attention is neither flat
    nor on single slots; a query looks for its own token's topic. What further passes would have seen is the largest
    attention of such queries.
    """
    import torch

    from flowmm.blocks import attention_blocks
    from flowmm.context import Evidence, LayerCache
    from flowmm.observe.tail import drawn_evenly

    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.bfloat16)

    heads, num_slots, size = sizes.heads, sizes.slots, sizes.size
    runs = torch.randint(_TOPICS, (heads, num_slots // _RUN + 1), generator=generator)
    topic = runs.repeat_interleave(_RUN, dim=1)[:, :num_slots, None].expand(-1, -1, size)  # [H_kv, S, D]
    directions = normal(heads, _TOPICS, size)
    keys, values = (normal(heads, num_slots, size) + table.gather(1, topic) for table in (directions, -directions))

    def looking(index: Tensor) -> Tensor:
        wanted = directions.gather(1, topic[:, index]).repeat_interleave(sizes.group, dim=0)
        return normal(heads * sizes.group, index.shape[0], size) + wanted

    last = torch.arange(max(0, num_slots - observed.tail), num_slots)
    sampled = drawn_evenly(num_slots, observed.sample, seed)
    position = torch.arange(num_slots, dtype=torch.int32).expand(heads, -1)
    lengths = torch.full((heads,), num_slots)
    layer = LayerCache(keys, values, position, torch.zeros(position.shape, dtype=torch.uint8), lengths)
    sample = None if not observed.sample else looking(sampled)
    asking = looking(drawn_evenly(num_slots, queries_of_passes(observed), seed))
    received = torch.zeros(position.shape)
    for _, attention in attention_blocks(asking, keys, size**-0.5, torch.ones(asking.shape[1], num_slots).bool()):
        received = received.maximum(attention.amax((1, 2)))
    return layer, Evidence(
        looking(last),
        last,
        size**-0.5,
        sample=sample,
        sample_index=None if sample is None else sampled,
        asking=asking if asking.shape[1] else None,
        observed=dict.fromkeys(("reconstruct", "probes"), received),
    )


def queries_of_passes(observed: Observe) -> int:
    """Reference queries that further passes over the context keep."""
    return sum(one.queries for one in (observed.reconstruct, observed.probes) if one is not None)
