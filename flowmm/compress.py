"""Make a context cache small: score, budget, select, merge, refit; layer by layer, on tensors alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import tee

import torch
from torch import Tensor

from flowmm.budgets.choose import OUT_OF_SIGHT, Ranking, choose, count_by_head, slots_to_keep
from flowmm.context import NUM_SINKS, ContextCache, Evidence, LayerCache, Modality
from flowmm.diagnostics import diagnose
from flowmm.errors import UsageError
from flowmm.flow import layer_strategy
from flowmm.layer_tensors import rounded, rounded_keys
from flowmm.merges.selection import Selection, indices
from flowmm.observing import pass_digest
from flowmm.packing import Packing
from flowmm.profiles import Method, ModelProfile, method_names
from flowmm.records import Compression, LayerFlow, LayerRecord
from flowmm.refit import Refit
from flowmm.rules import Rules, build_rules
from flowmm.scores import Score

METHODS = method_names()

DEFAULT_KEEP = 0.2  # what the paper's main table keeps

_OBSERVED = "observed."
_NEEDS: Mapping[str, tuple[str, Callable[[Evidence], bool]]] = {  # in words, and whether a layer's evidence has it
    "queries": ("reference queries", lambda one: one.queries.shape[1] > 0),
    "cumulative": ("the attention received from all queries", lambda one: one.cumulative is not None),
    "sample": ("queries from all over the context", lambda one: one.sample_index is not None),
    "references": ("at least two reference queries", lambda one: one.num_references > 1),
    "value_weight": ("how far each value moves the output", lambda one: True),  # |v| stands in for it on some models
    "rotation": ("the rotation of the keys (not known of every model)", lambda one: one.rotation is not None),
}


@torch.no_grad()
def compress(
    cache: ContextCache,
    method: Method,
    *,
    profile: ModelProfile,
    keep: float | None = None,
    keep_tokens: int | None = None,
    seed: int = 0,
    packing: Packing | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ContextCache:
    """A smaller cache; the one given stays as it is.

    Args:
        cache: a context, full or already compressed (then only by methods that need no evidence).
        method: the rules.
        profile: of the model that the context was read with.
        keep: share of the context's tokens to keep as slots of each head, above 0, at most 1.
        keep_tokens: the same as a number; give at most one of the two, none means ``DEFAULT_KEEP``. A head that has
            fewer slots keeps all.
        seed: for rules that draw.
        packing: of the file that the cache is for. The refit then fits values and bias to the keys as they come back
            from it, and what was lost counts what rounding loses; the cache returned is not rounded.
        progress: called with layers done and layers there are.

    Returns:
        Slots in the order of the tokens, template tokens and sinks verbatim and counted in the budget; no evidence,
        the flow and what was done in the provenance.

    Raises:
        UsageError: a budget that cannot be, a rule that does not exist, or evidence that the method needs and the
            context does not have.
    """
    rules = build_rules(method)
    share = _share(cache, method, rules, keep, keep_tokens)
    _check_evidence(cache, method, rules.needs)
    counts = _counts(cache, profile, rules, share)
    strategies = _strategies(cache, profile, rules)
    by_head, weights = _head_counts(cache, profile, share), _head_weights(cache, profile)
    rankings, to_choose_from = tee(_rankings(cache, rules, counts, by_head, weights, seed))
    layers, records = [], []
    for index, (ranking, kept) in enumerate(zip(rankings, rules.budget(to_choose_from), strict=True)):
        layer = cache.layers[index]
        rotation = None if ranking.evidence is None else ranking.evidence.rotation
        selection = Selection(layer, ranking.scores, kept, ranking.free, strategies[index], profile.tau, rotation)
        small, merged = rules.merge(selection)
        small = replace(small, important=_important(selection, small, method.exact))
        record = LayerRecord(strategies[index], _flows(cache)[index], _kept(small), merged)
        if rules.refit is not None and cache.evidence is not None:
            seen = small if packing is None else rounded_keys(small, packing, cache.num_tokens)
            fit = rules.refit(layer, seen, cache.evidence[index], cache.num_tokens, seed)
            keys = fit.layer.keys.where(fit.moved[:, None, None], small.keys)  # else as they were before the rounding
            small, before, after = replace(fit.layer, keys=keys), fit.error_before, fit.error_after
            record = replace(record, error_evicted=before, error_refitted=after, heads_refitted=fit.heads)
        layers.append(small)
        records.append(record)
        if progress:
            progress(index + 1, len(cache.layers))
    done = replace(cache, layers=tuple(layers), evidence=None)
    names = (method.name, method.text, profile.name, profile.settings)
    stored = done if packing is None else rounded(done, packing)
    diagnostics = diagnose(cache, stored, rules.refit or Refit(), seed)
    compression = Compression(*names, share, done.keep, seed, tuple(records), diagnostics)
    made = replace(cache.provenance, flow=_flows(cache), compression=compression, passes={}, held_out=())
    return replace(done, provenance=made)


def _important(selection: Selection, small: LayerCache, share: float) -> Tensor | None:
    """``[H_kv, K]`` bool: a share of each head's kept slots that are not protected, the highest scores first."""
    if share == 0:
        return None
    index, living = indices(selection.kept)
    free = living & ~small.protected
    counts = (share * free.sum(1).double()).round().long()
    return choose(selection.scores.gather(1, index), free.int() - 1, counts)


@torch.no_grad()
def scored(cache: ContextCache, method: Method, seed: int = 0) -> list[Tensor]:
    """What a method's scoring rule says of every slot, ``[H_kv, S]`` float32 per layer.

    Raises:
        UsageError: evidence that the rule needs and the context does not have.
    """
    score = build_rules(method).score
    _check_evidence(cache, method, score.needs)
    return list(_scores(cache, score, seed))


def _share(cache: ContextCache, method: Method, rules: Rules, keep: float | None, keep_tokens: int | None) -> float:
    """The share of the tokens that was asked for; 1 for a method that keeps everything."""
    if not rules.budget.counted:
        if keep not in (None, 1) or keep_tokens is not None:
            raise UsageError(f"method {method.name} keeps every slot, but a budget was given", "Leave the budget out.")
        return 1.0
    if keep is not None and keep_tokens is not None:
        raise UsageError(f"keep {keep} and keep tokens {keep_tokens} were both given, expected one", "Leave one out.")
    if keep is not None and not 0 < keep <= 1:
        raise UsageError(f"keep is {keep}, expected more than 0 and at most 1", "0.1 keeps a tenth of the slots.")
    if keep_tokens is not None and keep_tokens < 1:
        raise UsageError(f"keep tokens is {keep_tokens}, expected at least 1", "It is the number of slots of a head.")
    if keep_tokens is not None:
        return min(1.0, keep_tokens / cache.num_tokens)
    return DEFAULT_KEEP if keep is None else keep


def _check_evidence(cache: ContextCache, method: Method, needs: frozenset[str]) -> None:
    missing = []
    for need in sorted(needs):
        words, there = _NEEDS.get(need, ("", None))
        if need.startswith(_OBSERVED):
            name = need.removeprefix(_OBSERVED)
            words, there = f"what the pass {name!r} sees", partial(_saw, name)
        if there is not None and not (cache.evidence and all(map(there, cache.evidence))):
            missing.append(words)
    if missing and (cache.provenance.compression is not None or cache.keep < 1):
        what = f"the context is already compressed, but method {method.name} needs {' and '.join(missing)}"
        raise UsageError(what, "Compress the full file, or prefill again.")
    if missing:
        what = f"method {method.name} needs {' and '.join(missing)}, which were not recorded when the context was read"
        raise UsageError(what, f"Prefill again with method {method.name}.")
    for name, settings in (("reconstruct", method.observe.reconstruct), ("probes", method.observe.probes)):
        asked = cache.provenance.passes.get(name)  # None: a cache that was put together by hand
        if settings is not None and f"{_OBSERVED}{name}" in needs and asked not in (None, pass_digest(settings)):
            what = f"the context was read with another pass {name!r} than that of method {method.name}"
            raise UsageError(what, f"Prefill again with method {method.name}.")


def _saw(name: str, evidence: Evidence) -> bool:
    return name in evidence.observed


def _counts(cache: ContextCache, profile: ModelProfile, rules: Rules, share: float) -> list[int]:
    """Slots per head of each layer."""
    factors = profile.layer_budget or [1.0] * len(cache.layers)
    _check_length(profile, "layer_budget", len(factors), len(cache.layers))
    mean = sum(factors) / len(factors)
    counts = [slots_to_keep(cache.num_tokens, share * factor / mean) for factor in factors]
    for index, (layer, count) in enumerate(zip(cache.layers, counts, strict=True)):
        needed = int(layer.protected.sum(1).max())
        if rules.budget.counted and count < needed:
            raise UsageError(
                f"a budget of {share:.4g} of {cache.num_tokens} tokens is {count} slots a head in layer {index}, but "
                f"{needed} are protected (the template's tokens and the first {NUM_SINKS})",
                f"Keep at least {math.ceil(1e4 * needed / cache.num_tokens) / 1e4:g}, or {needed} tokens.",
            )
    return counts


def _head_counts(cache: ContextCache, profile: ModelProfile, share: float) -> Sequence[Tensor | None]:
    """Per layer ``[H_kv]``, the slots of each head by the profile's head budget; None without one."""
    wanted = profile.head_budget
    if wanted is None:
        return [None] * len(cache.layers)
    _check_heads(profile, "head_budget", wanted, cache)
    return count_by_head(cache.layers, wanted, slots_to_keep(cache.num_tokens, share))


def _head_weights(cache: ContextCache, profile: ModelProfile) -> Sequence[Tensor | None]:
    """Per layer ``[H_kv]``, the profile's head weights; None without any."""
    wanted = profile.head_weight
    if wanted is None:
        return [None] * len(cache.layers)
    _check_heads(profile, "head_weight", wanted, cache)
    return [torch.tensor(weights) for weights in wanted]


def _check_heads(profile: ModelProfile, key: str, wanted: Sequence[Sequence[float]], cache: ContextCache) -> None:
    _check_length(profile, key, len(wanted), len(cache.layers))
    for index, (heads, layer) in enumerate(zip(wanted, cache.layers, strict=True)):
        _check_length(profile, f"{key} of layer {index}", len(heads), len(layer.lengths), "heads")


def _check_length(profile: ModelProfile, key: str, found: int, expected: int, things: str = "layers") -> None:
    if found != expected:
        what = f"profile {profile.name}: {key} lists {found} {things}, but the model has {expected}"
        raise UsageError(what, "Mend the profile, or choose the one of this model.")


def _flows(cache: ContextCache) -> tuple[LayerFlow | None, ...]:
    """The flow of each layer, as observed or as recorded by an earlier compression."""
    recorded = cache.provenance.flow or (None,) * len(cache.layers)
    if cache.evidence is None:
        return recorded
    return tuple(one.flow or flow for one, flow in zip(cache.evidence, recorded, strict=True))


def _strategies(cache: ContextCache, profile: ModelProfile, rules: Rules) -> list[str | None]:
    """How each layer is treated; None where the method does not tell layers apart or there is but one modality."""
    if "flow" not in rules.merge.needs:
        return [None] * len(cache.layers)
    if isinstance(profile.strategy, list):
        _check_length(profile, "strategy", len(profile.strategy), len(cache.layers))
        return list(profile.strategy)
    if profile.strategy != "auto":
        return [profile.strategy] * len(cache.layers)
    flows, visual = _flows(cache), cache.modality == Modality.VISUAL
    if None in flows and bool(visual.any()) and not bool(visual.all()):
        raise UsageError(
            "the flow between images and text was not measured when the context was read, and the strategy is auto",
            "Prefill again, or set strategy in the profile.",
        )
    without_sinks = profile.flow_without_sinks
    return [None if flow is None else layer_strategy(flow, profile.theta, without_sinks) for flow in flows]


def _rankings(
    cache: ContextCache,
    rules: Rules,
    counts: Iterable[int],
    by_head: Iterable[Tensor | None],
    weights: Iterable[Tensor | None],
    seed: int,
) -> Iterator[Ranking]:
    evidence: Iterable[Evidence | None] = cache.evidence or [None] * len(cache.layers)
    found = _scores(cache, rules.score, seed)
    layers = zip(cache.layers, evidence, counts, by_head, weights, found, strict=True)
    for layer, seen, count, head_counts, head_weights, scores in layers:
        if layer.window is not None:
            scores = scores.masked_fill(layer.position <= cache.num_tokens - layer.window, OUT_OF_SIGHT)
        yield Ranking(scores, layer, count, seen, head_counts, head_weights)


def _scores(cache: ContextCache, score: Score, seed: int) -> Iterator[Tensor]:
    evidence: Iterable[Evidence | None] = cache.evidence or [None] * len(cache.layers)
    for index, (layer, seen) in enumerate(zip(cache.layers, evidence, strict=True)):
        yield score(layer, seen, (seed * 1_000_003 + index) % 2**63)


def _kept(layer: LayerCache) -> dict[str, int]:
    """Living slots by modality name."""
    living = layer.modality[~layer.padding]
    return {modality.name.lower(): int((living == modality).sum()) for modality in Modality}
