"""What a compression lost, without questions: tokens gone everywhere, attention output on held-out queries."""

from __future__ import annotations

import torch
from torch import Tensor

from flowmm.context import ContextCache, Evidence, LayerCache, Modality
from flowmm.records import Diagnostics, LayerLoss
from flowmm.references import Attended, attend, references, split
from flowmm.refit import Refit


@torch.no_grad()
def diagnose(full: ContextCache, small: ContextCache, refit: Refit, seed: int) -> Diagnostics:
    """Compare a small cache with the one it was made from.

    Tokens evicted everywhere and head consensus are those of "Physics of KV compression" (arXiv 2603.01426), over all
    tokens, since which of them bear answers is not known here.

    Args:
        full: before compression; without reference queries only the evicted tokens are counted.
        small: after it.
        refit: how many of the queries are looked through, and the share of them that is held out; if the cache was
            refitted, by what.
        seed: of that draw, the one of the compression.
    """
    gone = torch.ones(full.num_tokens, dtype=torch.bool)
    for layer in small.layers:
        gone[layer.position[~layer.padding].long().cpu()] = False
    modality = full.modality.cpu()
    by_modality = {one.name.lower(): float(gone[modality == one].float().mean()) for one in _present(modality)}
    losses = tuple(LayerLoss() for _ in full.layers)
    if full.evidence is not None:
        layers = zip(full.layers, small.layers, full.evidence, strict=True)
        losses = tuple(_loss(before, after, seen, full.modality, refit, seed) for before, after, seen in layers)
    return Diagnostics(float(gone.float().mean()), by_modality, losses)


def _loss(
    full: LayerCache, small: LayerCache, evidence: Evidence, modality: Tensor, refit: Refit, seed: int
) -> LayerLoss:
    """One layer; ``modality`` ``[T]``."""
    if evidence.num_references == 0:
        return LayerLoss()
    found = references(evidence, modality.shape[0], full.keys.device)
    _, held = split(found, refit.queries, refit.held_out, seed)
    kinds = _present(full.modality[~full.padding])
    before, after = (attend(held, one, torch.stack([one.modality == kind for kind in kinds])) for one in (full, small))
    sees = (after.mass > 0)[..., None]  # [H_kv, G, N, 1]
    output = before.output.sum(0) * sees
    parts = (after.output - before.output) * sees  # [C, H_kv, G, N, D]
    missed = parts.sum(0)
    behind = modality.new_full((1,), Modality.TEXT)  # what is fed behind the context is text
    asking = torch.cat([modality, behind]).to(held.index.device)[held.index]  # [N]
    by_query = {kind: _relative(missed[:, :, asking == kind], output[:, :, asking == kind]) for kind in kinds}
    by_slot = {kind: _relative(part, output) for kind, part in zip(kinds, parts, strict=True)}
    return LayerLoss(_relative(missed, output), _named(by_query), _named(by_slot), _consensus(before))


def _present(modality: Tensor) -> list[Modality]:
    return [kind for kind in Modality if bool((modality == kind).any())]


def _relative(missed: Tensor, output: Tensor) -> float | None:
    """``|missed| / |output|`` of ``[H_kv, G, N, D]``, mean over the KV heads in which it is a number."""
    errors = missed.flatten(1).norm(dim=1) / output.flatten(1).norm(dim=1)
    known = errors[errors.isfinite()]
    return float(known.mean()) if known.numel() else None


def _named(errors: dict[Modality, float | None]) -> dict[str, float]:
    return {kind.name.lower(): error for kind, error in errors.items() if error is not None}


def _consensus(seen: Attended) -> float | None:
    """Distinct favourite tokens over query heads, mean over the queries that see something in every head."""
    favourite = seen.favourite.flatten(0, 1)  # [H_q, N]
    favourite = favourite[:, (favourite >= 0).all(0)].sort(dim=0).values
    if not favourite.shape[1]:
        return None
    distinct = 1 + (favourite.diff(dim=0) != 0).sum(0)
    return float(distinct.float().mean() / favourite.shape[0])
