"""The sizes of a layer in a context file and of its evidence: which tensors they make, and which cannot be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from flowmm.records import LayerFlow
from flowmm.typed_json import MalformedError

KV_DTYPES: Mapping[str, str] = {"bf16": "BF16", "fp16": "F16", "fp32": "F32"}  # our names: safetensors' names
_MAX_HEADS = 256  # a head without slots costs no bytes in the file, but padding in memory
_MAX_PASSES = 64  # that looked at the slots

Shape = tuple[str, tuple[int, ...]]  # safetensors dtype, and sizes


@dataclass(frozen=True)
class LayerGeometry:
    """The sizes of one layer's tensors."""

    lengths: tuple[int, ...]  # living slots per head
    head_size: int
    window: int | None = None  # None: every query sees every slot
    has_bias: bool = False
    has_position: bool = False  # without, every head holds all tokens in order

    @property
    def kind(self) -> Literal["full", "sliding"]:
        """Whether every query sees every slot, or only those in a window behind it."""
        return "full" if self.window is None else "sliding"

    @property
    def num_slots(self) -> int:
        """Living slots of all heads together."""
        return sum(self.lengths)

    def shapes(self, kv_dtype: str) -> dict[str, Shape]:
        """The layer's tensors by name."""
        packed = packed_parts(kv_dtype, self.num_slots, self.head_size)
        shapes = {f"{part}{suffix}": shape for part in ("keys", "values") for suffix, shape in packed.items()}
        if self.has_bias:
            shapes["bias"] = ("F32", (self.num_slots,))
        if self.has_position:
            shapes["position"] = ("I32", (self.num_slots,))
        return shapes

    def check(self, where: str, num_tokens: int) -> None:
        """Raise MalformedError, which names the place, unless the sizes fit each other and the tokens."""
        window = 1 if self.window is None else self.window
        if not 1 <= len(self.lengths) <= _MAX_HEADS or min(self.head_size, window) < 1:
            raise MalformedError(f"{where}: expected 1 to {_MAX_HEADS} heads, head size and window from 1")
        if min(self.lengths) < 0 or max(self.lengths) > num_tokens:
            raise MalformedError(f"{where}: a head has 0 to {num_tokens} slots, one per token")
        if not self.has_position and min(self.lengths) < num_tokens:
            raise MalformedError(f"{where}: holds only some tokens, yet does not say which")


class EvidencePart(NamedTuple):
    """A tensor of a layer's evidence."""

    name: str  # the field of Evidence; behind "observed.", a key of that field
    kind: Literal["queries", "index", "slots"]  # [H_q, N, D], [N] int64, [H_kv, S] float32
    size: int  # N; of slots 1 where they are there, else 0


@dataclass(frozen=True)
class EvidenceGeometry:
    """The sizes of one layer's evidence, and the parts of it that are no tensors."""

    scale: float
    flow: LayerFlow | None
    num_heads: int  # H_q
    num_queries: int
    query_dtype: str  # a value of KV_DTYPES
    has_cumulative: bool
    num_sampled: int = 0
    num_asking: int = 0
    observed: tuple[str, ...] = ()  # passes that looked at the slots
    has_value_weight: bool = False
    rotation: int | None = None  # which of the document's rotations the keys were turned by

    @property
    def parts(self) -> tuple[EvidencePart, ...]:
        """The tensors there are, in the order they are listed in the file."""
        always = (
            EvidencePart("queries", "queries", self.num_queries),
            EvidencePart("query_index", "index", self.num_queries),
        )
        optional = (
            EvidencePart("cumulative", "slots", self.has_cumulative),
            EvidencePart("sample", "queries", self.num_sampled),
            EvidencePart("sample_index", "index", self.num_sampled),
            EvidencePart("asking", "queries", self.num_asking),
            *(EvidencePart(f"observed.{name}", "slots", True) for name in self.observed),
            EvidencePart("value_weight", "slots", self.has_value_weight),
        )
        return *always, *(part for part in optional if part.size)

    def shapes(self, layer: LayerGeometry) -> dict[str, Shape]:
        """The tensors of the evidence by name."""
        return {name: self._shape(kind, size, layer) for name, kind, size in self.parts}

    def check(self, where: str, layer: LayerGeometry, rotations: Sequence[int]) -> None:
        """Raise MalformedError, which names the place, unless the sizes fit the layer and its rotation's pairs."""
        heads, counts = self.num_heads, (self.num_queries, self.num_sampled, self.num_asking)
        if heads < 1 or heads % len(layer.lengths) or min(counts) < 0:
            raise MalformedError(f"{where}: {heads} query heads for {len(layer.lengths)} heads")
        if len(self.observed) > _MAX_PASSES:
            raise MalformedError(f"{where}.observed: {len(self.observed)} passes, at most {_MAX_PASSES} are expected")
        if self.query_dtype not in KV_DTYPES.values():
            raise MalformedError(f"{where}.query_dtype: {self.query_dtype!r}")
        pairs = 1 if self.rotation is None else rotations[self.rotation]
        if not 1 <= pairs <= max(1, layer.head_size // 2):
            raise MalformedError(f"{where}.rotation: {pairs} pairs of {layer.head_size} dimensions")

    def _shape(self, kind: str, size: int, layer: LayerGeometry) -> Shape:
        if kind == "queries":
            return self.query_dtype, (self.num_heads, size, layer.head_size)
        return ("I64", (size,)) if kind == "index" else ("F32", (layer.num_slots,))


def packed_parts(kv_dtype: str, num_slots: int, head_size: int) -> dict[str, Shape]:
    """What the codec of that name makes of ``[N, D]`` slots: dtype and shape by the suffix of the tensor's name."""
    return {"": (KV_DTYPES[kv_dtype], (num_slots, head_size))}
