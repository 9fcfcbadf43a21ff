"""The tail of each question: the keys and values of its own tokens, question and answer, behind the shared context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

Slots = tuple[Tensor, Tensor, Tensor]  # keys, values, bias


class Tail(Protocol):
    """Holds the tails of a batch of questions in all layers. Rows are questions; a call is about a run of them."""

    scores: bool  # whether it is told what was looked at

    def enter(self, rows: slice, questions: Sequence[int]) -> None:
        """New questions, of so many tokens each, take the place of whatever was in these rows."""
        ...

    def move(self, source: int, target: int) -> None:
        """Put what is in one row into another."""
        ...

    def counters(self) -> list[Tensor]:
        """What a call changes in place, besides the slots that it fills."""
        ...

    def begin(self, position: Tensor, real: Tensor | None, rows: slice) -> None:
        """The next forward call brings these tokens.

        Args:
            position: ``[B, n]`` int64 rotary positions.
            real: ``[B, n]`` bool, False for padding; None: one token a question, no padding.
            rows: whose they are.
        """
        ...

    def take(self, layer: int, key: Tensor, value: Tensor, window: int | None) -> Slots:
        """Take in new keys and values, and say what the new tokens see of the tail.

        Args:
            layer: index of the layer.
            key: ``[B, H_kv, n, D]`` post-RoPE.
            value: ``[B, H_kv, n, D]``.
            window: of a sliding layer.

        Returns:
            Keys and values ``[B, H_kv, W, D]``, the new ones among them, and a bias ``[B, 1 or H_kv, n, W]`` float32,
            which hides slots. Every token sees at least one.
        """
        ...

    def looked(self, layer: int, query: Tensor, total: Tensor, scale: float) -> None:
        """Be told, where ``scores`` says so, what the tokens of a layer looked at.

        Args:
            layer: index of the layer.
            query: ``[B, H_kv, G, n, D]`` post-RoPE.
            total: ``[B, H_kv, G * n]`` log-sum-exp of each query's logits over all it sees, the context included.
            scale: what q.k is multiplied with.
        """
        ...


class GrowingTail:
    """Nothing is ever evicted. A question's tokens lie one behind the other, wherever the other questions end."""

    scores = False

    def __init__(self, batch: int, capacity: int, *, fixed: bool = False) -> None:
        """Args:
        batch: questions answered side by side.
        capacity: tokens a question and its answer may have together.
        fixed: show the whole buffer in every call, so that all shapes stay the same and the host is never asked.
        """
        self._batch, self._capacity, self._fixed = batch, capacity, fixed
        self._keys: dict[int, Tensor] = {}  # by layer, [batch, H_kv, capacity + 1, D]; padding goes into the last slot
        self._values: dict[int, Tensor] = {}
        self._lengths = [0] * batch  # tokens in each row, as the host knows it
        self._held = torch.zeros(batch, 1, dtype=torch.int64)  # the same, on the device
        self._position = torch.zeros(batch, capacity + 1, dtype=torch.int64)  # rotary
        self._places = torch.arange(capacity + 1)
        self._rows, self._end = slice(0, batch), 0
        # Of the tokens at hand, [B, n]: rotary position, slot in its row, and place where it goes.
        self._at = self._slot = self._write = torch.zeros(0)
        self._real: Tensor | None = None
        self._made: dict[tuple[object, torch.device], Tensor] = {}  # for all layers of a call alike

    def enter(self, rows: slice, questions: Sequence[int]) -> None:
        """See :class:`Tail`."""
        self._held[rows] = 0
        self._lengths[rows] = [0] * len(questions)

    def move(self, source: int, target: int) -> None:
        """See :class:`Tail`."""
        for stored in (self._held, self._position, *self._keys.values(), *self._values.values()):
            stored[target] = stored[source]
        self._lengths[target] = self._lengths[source]

    def counters(self) -> list[Tensor]:
        """See :class:`Tail`."""
        return [self._held]

    def begin(self, position: Tensor, real: Tensor | None, rows: slice) -> None:
        """See :class:`Tail`."""
        if self._held.device != position.device:
            self._held, self._position = self._held.to(position.device), self._position.to(position.device)
            self._places = self._places.to(position.device)
        held = self._held[rows]
        # Rows that nobody waits for any more run on in a batch of fixed shape: behind the end all is padding.
        self._slot = held.clone() if real is None else held + real.cumsum(1) - 1  # [B, n]
        write = self._slot.clamp(max=self._capacity)
        self._write = write if real is None else write.masked_fill(~real, self._capacity)
        self._position[rows].scatter_(1, self._write, position)
        self._at, self._rows, self._real = position, rows, real
        self._made.clear()
        held += 1 if real is None else real.sum(1, keepdim=True)
        if not self._fixed:
            added = [1] * position.shape[0] if real is None else real.sum(1).tolist()
            self._lengths[rows] = [have + more for have, more in zip(self._lengths[rows], added, strict=True)]
        self._end = self._capacity + 1 if self._fixed else max(self._lengths[rows])

    def take(self, layer: int, key: Tensor, value: Tensor, window: int | None) -> Slots:
        """See :class:`Tail`."""
        if layer not in self._keys:
            # Zeros and not empty: what padding sees may never have been filled.
            self._keys[layer], self._values[layer] = (
                new.new_zeros(self._batch, new.shape[1], self._capacity + 1, new.shape[3]) for new in (key, value)
            )
        keys, values = self._keys[layer][self._rows], self._values[layer][self._rows]
        place = self._once("write", key.device, lambda: self._write[:, None, :, None])
        keys.scatter_(2, place.expand_as(key), key)
        values.scatter_(2, place.expand_as(value), value)
        bias = self._once(window, key.device, lambda: self._bias(window))
        return keys[:, :, : self._end], values[:, :, : self._end], bias

    def looked(self, layer: int, query: Tensor, total: Tensor, scale: float) -> None:
        """Nothing is scored."""

    def _once(self, name: object, device: torch.device, make: Callable[[], Tensor]) -> Tensor:
        """Made by the first layer of a call on a device."""
        if (name, device) not in self._made:
            self._made[name, device] = make().to(device)
        return self._made[name, device]

    def _bias(self, window: int | None) -> Tensor:
        """``[B, 1, n, end]``: causal, without padding, within the window."""
        lengths = self._lengths[self._rows]
        if self._real is None and window is None and not self._fixed and min(lengths) == self._end:
            return torch.zeros(1, 1, 1, 1)  # every row is full up to the end
        seen = self._places[: self._end] <= self._slot[..., None]  # [B, n, end]
        if window is not None:
            seen &= self._position[self._rows, None, : self._end] > self._at[..., None] - window
        if self._real is not None:
            seen[..., 0] |= ~self._real  # padding sees something, so that no row is empty
        return torch.zeros(seen.shape, device=seen.device).masked_fill(~seen, float("-inf"))[:, None]
