"""The sizes of a layer in a context file and of its evidence: which tensors they make, and which cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from flowmm.packing import PARTS, Packing, Shape, packed_codes, packed_increasing
from flowmm.records import LayerFlow
from flowmm.typed_json import MalformedError

_QUERY_DTYPES = ("BF16", "F16", "F32")
_MAX_HEADS = 256  # a head without slots costs no bytes in the file, but padding in memory
_MAX_PASSES = 64  # that looked at the slots


@dataclass(frozen=True)
class LayerGeometry:
    """The sizes of one layer's tensors."""

    lengths: tuple[int, ...]  # living slots per head
    head_size: int
    window: int | None = None  # None: every query sees every slot
    has_bias: bool = False
    has_position: bool = False  # without, every head holds all tokens in order
    biased: int | None = None  # slots whose bias is not 0, if only theirs are listed
    packed_position: bool = False  # in few bits; else 32 each
    exact: tuple[int, ...] = ()  # slots per head that are kept in 16 bits beside the packed ones; (): none

    @property
    def kind(self) -> Literal["full", "sliding"]:
        """Whether every query sees every slot, or only those in a window behind it."""
        return "full" if self.window is None else "sliding"

    @property
    def num_slots(self) -> int:
        """Living slots of all heads together."""
        return sum(self.lengths)

    @property
    def coarse(self) -> tuple[int, ...]:
        """Slots per head that are packed as the file's precision has it."""
        exact = self.exact or (0,) * len(self.lengths)
        return tuple(length - kept for length, kept in zip(self.lengths, exact, strict=True))

    def shapes(self, packing: Packing, num_tokens: int) -> dict[str, Shape]:
        """The layer's tensors by name."""
        shapes: dict[str, Shape] = {}
        for part in PARTS:
            packed = packing.shapes(part, self.coarse, self.head_size)
            shapes |= {f"{part}{suffix}": shape for suffix, shape in packed.items()}
        if any(self.exact):
            shapes["exact"] = ("BF16", (2, sum(self.exact), self.head_size))
            shapes["is_exact"] = packed_codes(self.num_slots, 1)
        if self.has_bias:
            shapes["bias"] = ("F32", (self.num_slots if self.biased is None else self.biased,))
        if self.biased is not None:
            shapes["is_biased"] = packed_codes(self.num_slots, 1)
        if self.packed_position:
            shapes["position"] = packed_increasing(self.num_slots, len(self.lengths) * num_tokens)
        elif self.has_position:
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
        if self.packed_position and not self.has_position:
            raise MalformedError(f"{where}: packed positions, yet no positions")
        if self.biased is not None and not (self.has_bias and 0 <= self.biased <= self.num_slots):
            raise MalformedError(f"{where}.biased: {self.biased} of {self.num_slots} slots")
        if self.exact and (len(self.exact) != len(self.lengths) or min(*self.exact, *self.coarse) < 0):
            raise MalformedError(f"{where}.exact: {list(self.exact)} of {list(self.lengths)} slots")


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
    query_dtype: str  # BF16, F16 or F32
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
        if self.query_dtype not in _QUERY_DTYPES:
            raise MalformedError(f"{where}.query_dtype: {self.query_dtype!r}")
        pairs = 1 if self.rotation is None else rotations[self.rotation]
        if not 1 <= pairs <= max(1, layer.head_size // 2):
            raise MalformedError(f"{where}.rotation: {pairs} pairs of {layer.head_size} dimensions")

    def _shape(self, kind: str, size: int, layer: LayerGeometry) -> Shape:
        if kind == "queries":
            return self.query_dtype, (self.num_heads, size, layer.head_size)
        return ("I64", (size,)) if kind == "index" else ("F32", (layer.num_slots,))
