"""The tensors of a layer's evidence as a context file holds them, heads one after another, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from flowmm.context import Evidence
from flowmm.geometry import EvidenceGeometry, LayerGeometry
from flowmm.ragged import flat, padded
from flowmm.rotation import Rotation

_OBSERVED = "observed."


def geometry_of(evidence: Evidence, query_dtype: str, rotation: int | None) -> EvidenceGeometry:
    """The sizes of evidence.

    Args:
        evidence: of one layer.
        query_dtype: safetensors' name of the type of its queries.
        rotation: the number of its rotation in the file.
    """
    return EvidenceGeometry(
        scale=evidence.scale,
        flow=evidence.flow,
        num_heads=evidence.queries.shape[0],
        num_queries=evidence.queries.shape[1],
        query_dtype=query_dtype,
        has_cumulative=evidence.cumulative is not None,
        num_sampled=0 if evidence.sample is None else evidence.sample.shape[1],
        num_asking=0 if evidence.asking is None else evidence.asking.shape[1],
        observed=tuple(sorted(evidence.observed)),
        has_value_weight=evidence.value_weight is not None,
        rotation=rotation,
    )


def tensors_of(evidence: Evidence, geometry: EvidenceGeometry, layer: LayerGeometry) -> Iterator[tuple[str, Tensor]]:
    """The tensors to be stored, by name: those that :meth:`EvidenceGeometry.shapes` says."""
    as_observed = replace(geometry, observed=tuple(evidence.observed))  # the order the file lists checksums in
    for name, kind, _ in as_observed.parts:
        seen = name.removeprefix(_OBSERVED)
        tensor = getattr(evidence, name) if seen == name else evidence.observed[seen]
        yield name, flat(tensor, layer.lengths) if kind == "slots" else tensor


def evidence_of(
    read: Callable[[str], Tensor],
    geometry: EvidenceGeometry,
    layer: LayerGeometry,
    rotation: Rotation | None,
    device: torch.device,
    dtype: torch.dtype | None,
) -> Evidence:
    """Undo :func:`tensors_of`.

    Args:
        read: gives the stored tensor of a name.
        geometry: of the evidence.
        layer: of the layer it was observed in.
        rotation: of its keys.
        device: where the tensors go.
        dtype: of the queries; None leaves them as they are stored.
    """
    fields: dict[str, Any] = {}
    observed: dict[str, Tensor] = {}
    for name, kind, _ in geometry.parts:
        tensor = padded(read(name), layer.lengths) if kind == "slots" else read(name)
        seen = name.removeprefix(_OBSERVED)
        (fields if seen == name else observed)[seen] = tensor.to(device, dtype if kind == "queries" else None)
    return Evidence(**fields, scale=geometry.scale, flow=geometry.flow, observed=observed, rotation=rotation)
