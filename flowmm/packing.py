"""How keys and values lie in a file, for each precision: which tensors, of which type and shape. Without torch.

What is done to the numbers is in ``codecs/``, one file for each of the kinds here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Protocol, get_args

from flowmm.typed_json import MalformedError

Part = Literal["keys", "values"]
PARTS: tuple[Part, ...] = get_args(Part)
Shape = tuple[str, tuple[int, ...]]  # safetensors dtype, and sizes

_MAX_GROUP = 2**16
_MAX_ROTATED = 1024  # a larger rotation would take seconds to draw


class Packing(Protocol):
    """One precision. Its codec packs ``[N, D]`` slots, heads one after another, into the tensors it lists."""

    options: ClassVar[tuple[str, ...]]  # fields that a file records beside the name
    splits: ClassVar[bool]  # whether protected slots stay apart, in 16 bits

    @property
    def item_bytes(self) -> int:
        """Bytes of a number in the plain cache that files of this precision are compared with."""
        ...

    def shapes(self, part: Part, lengths: Sequence[int], head_size: int) -> dict[str, Shape]:
        """Dtype and shape of each tensor, by the suffix of its name, for heads of ``lengths`` slots."""
        ...


@dataclass(frozen=True)
class Plain:
    """Numbers as they are."""

    options: ClassVar[tuple[str, ...]] = ()
    splits: ClassVar[bool] = False

    dtype: str  # as safetensors calls it
    item_bytes: int

    def shapes(self, part: Part, lengths: Sequence[int], head_size: int) -> dict[str, Shape]:
        """One tensor."""
        return {"": (self.dtype, (sum(lengths), head_size))}


@dataclass(frozen=True)
class Scaled:
    """Eight-bit floats (e4m3), times a scale of their head."""

    options: ClassVar[tuple[str, ...]] = ()
    splits: ClassVar[bool] = True
    item_bytes: ClassVar[int] = 2

    def shapes(self, part: Part, lengths: Sequence[int], head_size: int) -> dict[str, Shape]:
        """The floats, and a scale of each head."""
        return {"": ("F8_E4M3", (sum(lengths), head_size)), ".scale": ("F32", (len(lengths),))}


@dataclass(frozen=True)
class Uniform:
    """Codes of ``bits`` bits on even steps between the least and the largest number of a group.

    A group of keys is a channel of ``group`` consecutive slots of a head, one of values is ``group`` consecutive
    channels of a slot (KIVI, arXiv 2402.02750); the last one may be smaller.
    """

    options: ClassVar[tuple[str, ...]] = ("group",)
    splits: ClassVar[bool] = True
    item_bytes: ClassVar[int] = 2

    bits: int
    group: int = 64

    def shapes(self, part: Part, lengths: Sequence[int], head_size: int) -> dict[str, Shape]:
        """The codes; and of each group the step, then the least number."""
        if part == "keys":
            steps = (2, sum(-(-length // self.group) for length in lengths), head_size)
        else:
            steps = (2, sum(lengths), -(-head_size // self.group))
        return {"": packed_codes(sum(lengths) * head_size, self.bits), ".steps": ("BF16", steps)}


@dataclass(frozen=True)
class Rotated:
    """Slots turned by one random rotation and rounded to a codebook for normal numbers; and their lengths."""

    options: ClassVar[tuple[str, ...]] = ()
    splits: ClassVar[bool] = True
    item_bytes: ClassVar[int] = 2

    bits: int

    def shapes(self, part: Part, lengths: Sequence[int], head_size: int) -> dict[str, Shape]:
        """The codes, and the length of each slot as a vector."""
        if head_size > _MAX_ROTATED:
            raise MalformedError(f"heads of {head_size} numbers, at most {_MAX_ROTATED} are rotated")
        return {"": packed_codes(sum(lengths) * head_size, self.bits), ".norms": ("BF16", (sum(lengths),))}


Precision = Literal["bf16", "fp16", "fp32", "fp8", "int8", "int4", "int3", "rot4", "rot3", "rot2"]
PACKINGS: Mapping[str, Packing] = {
    "bf16": Plain("BF16", 2),
    "fp16": Plain("F16", 2),
    "fp32": Plain("F32", 4),
    "fp8": Scaled(),
    "int8": Uniform(8),
    "int4": Uniform(4),
    "int3": Uniform(3),
    "rot4": Rotated(4),
    "rot3": Rotated(3),
    "rot2": Rotated(2),
}


def packing_of(name: str, options: Mapping[str, int]) -> Packing:
    """The packing that a file says it has.

    Raises:
        MalformedError: for a name, an option or a number that cannot be.
    """
    if name not in PACKINGS:
        raise MalformedError(f"document.kv_dtype: {name!r}, expected one of {', '.join(PACKINGS)}")
    default = PACKINGS[name]
    if set(options) != set(default.options):
        raise MalformedError(f"document.kv_options: {sorted(options)} of {name}, expected {sorted(default.options)}")
    if not 1 <= options.get("group", 1) <= _MAX_GROUP:
        raise MalformedError(f"document.kv_options: {dict(options)}, expected groups of 1 to {_MAX_GROUP}")
    return replace(default, **options)  # type: ignore[type-var]


def options_of(packing: Packing) -> dict[str, int]:
    """What a file records of a packing beside its name."""
    return {name: getattr(packing, name) for name in packing.options}


def packed_codes(count: int, bits: int) -> Shape:
    """The tensor that :func:`flowmm.codecs.bits.pack` makes of ``count`` codes."""
    planes, rows = unit_of(bits)
    return "U8", (rows * -(-count // planes),)


def packed_increasing(count: int, bound: int) -> Shape:
    """The tensor that :func:`flowmm.codecs.increasing.pack` makes of ``count`` numbers below ``bound``."""
    low = low_bits(count, bound)
    return "U8", (-(-count * low // 8) + -(-(count + (bound >> low)) // 8),)


def low_bits(count: int, bound: int) -> int:
    """How many bits of each of ``count`` increasing numbers below ``bound`` are listed as they are."""
    return max(0, (bound // max(1, count)).bit_length() - 1)


def unit_of(bits: int) -> tuple[int, int]:
    """The fewest codes that fill whole bytes, and those bytes."""
    planes = {1: 8, 2: 4, 3: 8, 4: 2, 8: 1}[bits]
    return planes, planes * bits // 8
