"""The tensors of a layer as a context file holds them, heads one after another, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from flowmm.codecs import bits, codec_of, increasing
from flowmm.context import ContextCache, LayerCache
from flowmm.errors import UsageError
from flowmm.geometry import LayerGeometry
from flowmm.packing import PARTS, Packing, Part, Plain
from flowmm.ragged import flat, owners, padded, slots_problem
from flowmm.typed_json import MalformedError

_LARGEST = 1e37  # beyond it the range of a group or the length of a slot may not fit a float32


class Read(Protocol):
    """Gives the stored tensor of a name; with ``lengths`` what :func:`flowmm.ragged.padded` makes of it."""

    def __call__(self, name: str, lengths: Sequence[int] | None = None) -> Tensor:
        """See the class."""
        ...


def layer_geometry_of(layer: LayerCache, packing: Packing, num_tokens: int) -> LayerGeometry:
    """The sizes of a layer of a context of that many tokens."""
    lengths = tuple(layer.lengths.tolist())
    biased = None if layer.bias is None else int((layer.bias.masked_fill(layer.padding, 0) != 0).sum())
    has_position = min(lengths) < num_tokens  # else increasing means 0, 1, 2, ...
    exact = tuple(layer.exact.sum(1).tolist()) if packing.splits else ()
    return LayerGeometry(
        lengths=lengths,
        head_size=layer.keys.shape[2],
        window=layer.window,
        has_bias=layer.bias is not None,
        has_position=has_position,
        biased=None if biased == sum(lengths) else biased,
        packed_position=has_position,
        exact=exact if any(exact) else (),
    )


def layer_tensors_of(
    layer: LayerCache, geometry: LayerGeometry, packing: Packing, num_tokens: int
) -> Iterator[tuple[str, Tensor]]:
    """The tensors to be stored, by name: those that :meth:`LayerGeometry.shapes` says.

    Raises:
        UsageError: a number that the precision cannot hold.
    """
    lengths = geometry.lengths
    yield from _packed(layer, geometry, packing).items()
    if layer.bias is not None:
        bias = flat(layer.bias, lengths)
        if geometry.biased is not None:
            yield "is_biased", bits.pack((bias != 0).to(torch.uint8), 1)
            bias = bias[bias != 0]
        yield "bias", bias
    if geometry.packed_position:
        numbers = flat(layer.position, lengths).long() + owners(lengths, layer.position.device) * num_tokens
        yield "position", increasing.pack(numbers, len(lengths) * num_tokens)


def layer_of(
    read: Read,
    geometry: LayerGeometry,
    packing: Packing,
    modality: Tensor,
    device: torch.device,
    dtype: torch.dtype | None,
) -> LayerCache:
    """Undo :func:`layer_tensors_of`.

    Args:
        read: gives the stored tensors.
        geometry: of the layer.
        packing: of the file.
        modality: ``[T]`` uint8, of all tokens.
        device: where the tensors go.
        dtype: of keys and values; None leaves them as the packing gives them.

    Raises:
        MalformedError: tensors that contradict themselves or each other.
    """
    lengths, num_tokens = geometry.lengths, len(modality)
    counts = torch.tensor(lengths)
    position, bias = _position(read, geometry, num_tokens), _bias(read, geometry)
    problem = slots_problem(position, counts, num_tokens, bias)
    if problem is not None:
        raise MalformedError(problem)
    slots, is_exact = _slots(read, geometry, packing, num_tokens)
    layer = LayerCache(
        keys=slots["keys"].to(device, dtype),
        values=slots["values"].to(device, dtype),
        position=position.to(device, torch.int32),
        modality=modality[position.long()].to(device),
        lengths=counts.to(device),
        bias=None if bias is None else bias.to(device),
        window=geometry.window,
    )
    if is_exact is None:
        return layer
    important = padded(is_exact.to(device), lengths) & ~layer.protected
    return replace(layer, important=important) if bool(important.any()) else layer


def _slots(
    read: Read, geometry: LayerGeometry, packing: Packing, num_tokens: int
) -> tuple[dict[Part, Tensor], Tensor | None]:
    """``[H, S, D]`` keys and values, and ``[N]`` bool which slots were kept in 16 bits."""
    lengths = geometry.lengths
    if isinstance(packing, Plain):  # as they lie in the file; nothing stands between it and the layer
        return {part: read(part, lengths) for part in PARTS}, None
    names = geometry.shapes(packing, num_tokens)
    packed = {name: read(name) for name in names if name.startswith((*PARTS, "exact", "is_exact"))}
    unpacked = _unpacked(packed, geometry, packing)
    return {part: padded(slots, lengths) for part, slots in unpacked.items()}, _is_exact(packed, geometry)


def rounded(cache: ContextCache, packing: Packing) -> ContextCache:
    """The cache as it comes back from a file, in the types that it has.

    Raises:
        UsageError: a number that the precision cannot hold.
    """
    layers = (rounded_layer(layer, packing, cache.num_tokens) for layer in cache.layers)
    return replace(cache, layers=tuple(layers))


def rounded_layer(layer: LayerCache, packing: Packing, num_tokens: int) -> LayerCache:
    """The same of one layer of a context of ``num_tokens``."""
    geometry = layer_geometry_of(layer, packing, num_tokens)
    slots, living = _unpacked(_packed(layer, geometry, packing), geometry, packing), ~layer.padding
    found = {part: getattr(layer, part).clone() for part in PARTS}
    for part, one in found.items():
        one[living] = slots[part].to(one.dtype)
    return replace(layer, keys=found["keys"], values=found["values"])


def rounded_keys(layer: LayerCache, packing: Packing, num_tokens: int) -> LayerCache:
    """A layer whose keys are as they come back from a file, and whose values are as they were."""
    return replace(rounded_layer(layer, packing, num_tokens), values=layer.values)


def _packed(layer: LayerCache, geometry: LayerGeometry, packing: Packing) -> dict[str, Tensor]:
    """Keys and values."""
    codec, exact = codec_of(packing), layer.exact[~layer.padding]
    packed: dict[str, Tensor] = {}
    kept: list[Tensor] = []
    for part in PARTS:
        slots = flat(getattr(layer, part), geometry.lengths)
        if geometry.exact:
            kept.append(slots[exact].to(torch.bfloat16))
            slots = slots[~exact]
        if packing.splits:
            _check_finite(part, slots)
        encoded = codec.encode(part, slots, geometry.coarse)
        packed |= {f"{part}{suffix}": tensor for suffix, tensor in encoded.items()}
    if kept:
        packed |= {"exact": torch.stack(kept), "is_exact": bits.pack(exact.to(torch.uint8), 1)}
    return packed


def _unpacked(packed: Mapping[str, Tensor], geometry: LayerGeometry, packing: Packing) -> dict[Part, Tensor]:
    """Undo :func:`_packed`: ``[N, D]`` keys and values."""
    is_exact = _is_exact(packed, geometry)
    found: dict[Part, Tensor] = {}
    for index, part in enumerate(PARTS):
        own = {name.removeprefix(part): tensor for name, tensor in packed.items() if name.startswith(part)}
        slots = codec_of(packing).decode(part, own, geometry.coarse, geometry.head_size)
        if is_exact is not None:
            both = slots.new_empty(geometry.num_slots, geometry.head_size)
            both[is_exact], both[~is_exact] = packed["exact"][index].to(slots.dtype), slots
            slots = both
        if packing.splits and not _is_finite(slots):
            raise MalformedError(f"{part} are not finite")
        found[part] = slots
    return found


def _is_exact(packed: Mapping[str, Tensor], geometry: LayerGeometry) -> Tensor | None:
    """``[N]`` bool: which slots are kept in 16 bits; None when none is."""
    if not any(geometry.exact):
        return None
    found = bits.unpack(packed["is_exact"], 1, geometry.num_slots).bool()
    heads = owners(geometry.lengths, found.device)[found]
    if heads.bincount(minlength=len(geometry.lengths)).tolist() != list(geometry.exact):
        raise MalformedError("other slots are kept in 16 bits than the header counts")
    return found


def _is_finite(slots: Tensor) -> bool:
    """The least and the largest number are NaN if any is, and found twenty times as fast as each is asked."""
    return not slots.numel() or all(bool(end.isfinite()) for end in torch.aminmax(slots))


def _check_finite(part: str, slots: Tensor) -> None:
    largest = float(slots.abs().max()) if slots.numel() else 0.0
    if not largest <= _LARGEST:  # true of NaN too
        what = f"{part} of up to {largest:.3g} do not fit less than 16 bits, which end at {_LARGEST:.0e}"
        raise UsageError(what, "Store with --kv-dtype bf16.")


def _bias(read: Read, geometry: LayerGeometry) -> Tensor | None:
    """``[H, S]`` float32."""
    if not geometry.has_bias:
        return None
    bias = read("bias")
    if geometry.biased is not None:
        listed = bits.unpack(read("is_biased"), 1, geometry.num_slots).bool()
        if int(listed.sum()) != geometry.biased:
            raise MalformedError(f"{int(listed.sum())} slots have a bias, expected {geometry.biased}")
        bias = bias.new_zeros(geometry.num_slots).masked_scatter_(listed, bias)
    return padded(bias, geometry.lengths)


def _position(read: Read, geometry: LayerGeometry, num_tokens: int) -> Tensor:
    """``[H, S]`` int32 or int64."""
    lengths = geometry.lengths
    if not geometry.has_position:
        return torch.arange(num_tokens, dtype=torch.int32).expand(len(lengths), -1)
    position = read("position")
    if geometry.packed_position:
        numbers = increasing.unpack(position, geometry.num_slots, len(lengths) * num_tokens)
        position = numbers - owners(lengths, numbers.device) * num_tokens
    return padded(position, lengths)
