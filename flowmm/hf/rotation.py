"""How a decoder rotates keys, seen from the tables that its layers are given and learned from its own function."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from flowmm.rotation import Rotation

Tables = tuple[Tensor, Tensor]  # cosine and sine, each [..., n, W] as the family lays them out
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}  # of the largest entry of a key


@contextmanager
def watched_rotation(decoder: Any) -> Iterator[RotationWatch]:
    """See the rotary tables and the last token of every layer while a context is read."""
    watch = RotationWatch(decoder)
    hooks = [
        attention.register_forward_pre_hook(watch.hook(layer), with_kwargs=True)
        for layer, attention in enumerate(watch.attentions)
    ]
    try:
        yield watch
    finally:
        for hook in hooks:
            hook.remove()


class RotationWatch:
    """What the layers of a decoder were given, chunk by chunk."""

    def __init__(self, decoder: Any) -> None:
        layers: list[Any] = [getattr(layer, "self_attn", None) for layer in getattr(decoder, "layers", ())]
        self.attentions = [] if None in layers else layers
        self._tables: list[list[Any]] = [[] for _ in layers]
        self._last: list[Any] = [None] * len(layers)

    def hook(self, layer: int) -> Callable[[Any, Any, dict[str, Any]], None]:
        """A forward pre-hook for the attention of a layer."""

        def see(_: Any, __: Any, given: dict[str, Any]) -> None:
            # The tensors of one chunk are shared by all layers that rotate alike: holding them costs one copy.
            self._tables[layer].append(given.get("position_embeddings"))
            states = given.get("hidden_states")
            self._last[layer] = None if states is None else states[:, -1:].clone()

        return see

    def found(self, keys: Sequence[Tensor | None]) -> tuple[Rotation | None, ...]:
        """The rotation of every layer; layers that were given the same tables share one value.

        Args:
            keys: ``[H_kv, T, D]`` of each layer, after the rotary embedding.

        Returns:
            None for a layer whose keys do not come out when what was learned is put to the proof on the last token:
            one that does not rotate, or not by two tables and a function. The decoder must still attend through
            :func:`flowmm.hf.attention.attention_of`.
        """
        if len(self.attentions) != len(keys):
            return (None,) * len(keys)
        learned: dict[tuple[int, ...], Rotation | None] = {}
        result: list[Rotation | None] = []
        for layer, (attention, tables, key) in enumerate(zip(self.attentions, self._tables, keys, strict=True)):
            function = getattr(sys.modules[type(attention).__module__], "apply_rotary_pos_emb", None)
            if key is None or function is None or not all(map(_are_tables, tables)):
                result.append(None)
                continue
            same = tuple(id(table) for pair in tables for table in pair)
            try:
                if same not in learned:
                    cos, sin = (torch.cat([pair[i] for pair in tables], -2).float() for i in (0, 1))
                    learned[same] = learn(function, (cos, sin), key.shape[-1])
                result.append(_proved(learned[same], attention, self._last[layer], tables[-1], key))
            except (TypeError, ValueError, RuntimeError):
                # A family that nobody has looked at may call these otherwise; it must be readable all the same.
                result.append(None)
        return tuple(result)


def learn(function: Callable[..., tuple[Tensor, Tensor]], tables: Tables, head_size: int) -> Rotation | None:
    """What a family's ``apply_rotary_pos_emb`` does with its tables, whatever pairs it makes of the dimensions.

    Args:
        function: takes queries and keys ``[1, H, T, D]``, cosine and sine.
        tables: cosine and sine, each ``[..., T, W]`` float32.
        head_size: D.

    Returns:
        None when the function does not turn pairs of dimensions.
    """
    cos, sin = tables
    number = torch.arange(1.0, head_size + 1, device=cos.device).view(1, 1, 1, -1)
    one = cos[..., :1, :]
    # A quarter turn puts into each dimension the number of its partner, with a minus into the first of a pair.
    quarter = function(number, number, torch.zeros_like(one), torch.ones_like(one))[1].flatten()
    first = (quarter < 0).nonzero().flatten()
    second = (-quarter[first]).long() - 1
    if not len(first) or int(second.max()) >= head_size or not torch.equal(quarter[second], (first + 1).float()):
        return None
    marked = torch.zeros_like(number)
    marked[..., first] = 1  # turned, the x of (1, 0) is cos and the y is sin
    marked = marked.expand(1, 1, cos.shape[-2], -1)
    turned = function(marked, marked, cos, sin)[1][0, 0]
    return Rotation(turned[:, first].contiguous(), turned[:, second].contiguous(), torch.stack([first, second], 1))


def _are_tables(given: Any) -> bool:
    return isinstance(given, tuple) and len(given) == 2 and all(torch.is_floating_point(table) for table in given)


def _proved(
    rotation: Rotation | None, attention: Any, states: Tensor | None, tables: Tables, keys: Tensor
) -> Rotation | None:
    """The rotation, if it takes the last token's key from where the layer has it without any to where it is."""
    if rotation is None or states is None:
        return None
    cos, sin = (table[..., -1:, :] for table in tables)
    caught = _Caught()
    unturned = (torch.ones_like(cos), torch.zeros_like(sin))
    attention.forward(hidden_states=states, position_embeddings=unturned, attention_mask=None, flowmm=caught)
    last = torch.full((keys.shape[0], 1), keys.shape[1] - 1, device=keys.device)
    expected, found = keys[:, -1:].float(), rotation.applied(caught.key[0], last)
    close = _TOLERANCE[keys.dtype] * float(expected.abs().max())
    return rotation if bool(((found - expected).abs() <= close).all()) else None


class _Caught:
    """An :class:`flowmm.hf.attention.Attention` that keeps the keys it is given and attends to nothing."""

    key: Tensor  # [B, H_kv, n, D]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        self.key = key
        return query.new_zeros(*query.shape[:3], value.shape[-1])
