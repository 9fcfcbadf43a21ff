"""A tail with a recycle bin: what is looked at least while an answer is decoded goes, a bin at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flowmm.decode import Decode
from flowmm.hf.tail import Slots


@dataclass(frozen=True)
class _Step:
    """What a forward call brings, the same in all layers and heads."""

    row: Tensor  # [N] the question of each real token
    column: Tensor  # [N] where it is in the call
    slot: Tensor  # [N] where it goes
    position: Tensor  # [B, n] rotary positions
    real: Tensor  # [B, n] bool
    held: Tensor  # [B] slots, the new ones included
    asks: Tensor  # [B] bool: the last column is the question's last token or one of the answer, so its looks count
    last: Tensor  # [B] rotary position of the question's last token
    recent: Tensor  # [B] rotary positions above it are the newest tokens'
    new: Tensor  # [B] slots that go into the bin
    empties: Tensor  # [B] bool: the bin is full then, and is emptied

    def to(self, device: torch.device) -> _Step:
        """The same on a device."""
        return _Step(**{name: value.to(device) for name, value in vars(self).items()})


@dataclass(frozen=True)
class _Slots:
    """The tails of one layer, without gaps; slots from ``held`` on are empty."""

    keys: Tensor  # [B, H_kv, W, D]
    values: Tensor  # [B, H_kv, W, D]
    position: Tensor  # [B, H_kv, W] int64 rotary
    score: Tensor  # [B, H_kv, W] float32, attention received; 0 where empty
    binned: Tensor  # [B, H_kv, W] bool; False where empty

    def of(self, rows: slice) -> _Slots:
        """Those of some questions; a view."""
        return _Slots(**{name: value[rows] for name, value in vars(self).items()})


class RecyclingTail:
    """Dynamic decoding eviction (HAE, arXiv 2602.02197), on what a question adds to the stored context.

    A slot's score is the attention it received from the question's last token and from the answer so far: the sum
    over these, the mean over the query heads of its KV head. Once a head holds more than ``keep`` slots, the lowest of
    each step goes into the bin, where it is still attended; a question that is longer sends several at once. When
    ``bin`` slots are in it, they are dropped together and the tail closes up. The question's last token and the
    newest never go, nor do as many of the newest as ``recent`` says: sums favour what came early.
    """

    scores = True

    def __init__(self, questions: Sequence[int], capacity: int, decode: Decode) -> None:
        """Args:
        questions: tokens of each question, the longest that will enter its row. Its last one, and each of its answer,
            must be the last column of a call.
        capacity: tokens a question and its answer may have together.
        decode: the sizes.
        """
        self._questions = torch.tensor(questions)
        self._keep, self._bin = decode.keep, decode.bin
        self._recent = max(1, int(decode.keep * decode.recent))
        self._width = min(capacity, max(decode.keep + decode.bin, *questions))
        self._layers: dict[int, _Slots] = {}
        self._seen = torch.zeros_like(self._questions)  # tokens taken in
        self._held = torch.zeros_like(self._questions)  # slots of each head
        self._binned = torch.zeros_like(self._questions)  # of these, in the bin
        self._last = torch.full_like(self._questions, -1)  # rotary position of the question's last token
        self._rows, self._bias = slice(0, len(questions)), torch.zeros(0)
        self._steps: dict[torch.device, _Step] = {}
        self._end, self._asks, self._bins, self._empties = 0, False, False, False

    def enter(self, rows: slice, questions: Sequence[int]) -> None:
        """See :class:`flowmm.hf.tail.Tail`."""
        self._questions[rows] = torch.tensor(questions, device=self._questions.device)
        self._last[rows] = -1
        for state in (self._seen, self._held, self._binned):
            state[rows] = 0
        for slots in self._layers.values():
            slots.score[rows], slots.binned[rows] = 0, False

    def move(self, source: int, target: int) -> None:
        """See :class:`flowmm.hf.tail.Tail`."""
        states = (self._questions, self._last, self._seen, self._held, self._binned)
        for stored in (*states, *(one for slots in self._layers.values() for one in vars(slots).values())):
            stored[target] = stored[source]

    def counters(self) -> list[Tensor]:
        """See :class:`flowmm.hf.tail.Tail`."""
        return [self._last, self._seen, self._held, self._binned]

    def begin(self, position: Tensor, real: Tensor | None, rows: slice) -> None:
        """See :class:`flowmm.hf.tail.Tail`."""
        if self._held.device != position.device:
            for name in ("_questions", "_last", "_seen", "_held", "_binned"):
                setattr(self, name, getattr(self, name).to(position.device))
        real = torch.ones_like(position, dtype=torch.bool) if real is None else real
        count = real.sum(1)
        row, column = real.nonzero(as_tuple=True)
        slot = (self._held[rows, None] + real.cumsum(1) - 1)[row, column]
        held, seen = self._held[rows] + count, self._seen[rows] + count
        asks = real[:, -1] & (seen >= self._questions[rows])
        last = torch.where(asks & (self._last[rows] < 0), position[:, -1], self._last[rows])
        due = (held - self._keep).clamp(0, self._bin) * asks
        new = (due - self._binned[rows]).clamp(min=0)
        binned = self._binned[rows] + new
        empties = asks & (binned == self._bin)
        recent = position[:, -1] - self._recent
        step = _Step(row, column, slot, position, real, held, asks, last, recent, new, empties)
        self._rows, self._steps = rows, {position.device: step}
        self._end, self._asks = int(held.max()), bool(asks.any())
        self._bins, self._empties = bool(new.any()), bool(empties.any())
        self._seen[rows], self._last[rows] = seen, last
        # From the next call on; in this one every slot is still attended, in all layers.
        self._held[rows] = held - self._bin * empties
        self._binned[rows] = binned * ~empties

    def take(self, layer: int, key: Tensor, value: Tensor, window: int | None) -> Slots:
        """See :class:`flowmm.hf.tail.Tail`."""
        step = self._step_on(key.device)
        slots = self._taken_in(layer, key, value, step)
        self._bias = self._bias_of(slots.position, step, window)
        return slots.keys[:, :, : self._end], slots.values[:, :, : self._end], self._bias

    def looked(self, layer: int, query: Tensor, total: Tensor, scale: float) -> None:
        """See :class:`flowmm.hf.tail.Tail`."""
        batch, num_kv, group, n, _ = query.shape
        step, slots = self._step_on(query.device), self._layers[layer].of(self._rows)
        if self._asks:
            keys, whole = slots.keys[:, :, : self._end], total.view(batch, num_kv, group, n)[..., -1:]
            logits = (query[..., -1, :] @ keys.mT).float() * scale + self._bias[:, :, -1:]  # [B, H_kv, G, end]
            received = (logits - whole).exp().mean(2)
            slots.score[:, :, : self._end] += received.masked_fill(~step.asks[:, None, None], 0.0)
        if self._bins:
            _put_into_bin(slots, step)
        if self._empties:
            _close_up(slots, step)

    def _step_on(self, device: torch.device) -> _Step:
        if device not in self._steps:
            self._steps[device] = next(iter(self._steps.values())).to(device)
        return self._steps[device]

    def _taken_in(self, layer: int, key: Tensor, value: Tensor, step: _Step) -> _Slots:
        """The slots of a layer, the new ones among them."""
        if layer not in self._layers:
            shape = (len(self._held), key.shape[1], self._width)
            position = torch.zeros(shape, dtype=torch.int64, device=key.device)
            # Zeros and not empty: padding looks at a slot that may never have been filled.
            keys, values = key.new_zeros(*shape, key.shape[3]), value.new_zeros(*shape, value.shape[3])
            score = torch.zeros(shape, device=key.device)
            self._layers[layer] = _Slots(keys, values, position, score, torch.zeros_like(position, dtype=torch.bool))
        slots = self._layers[layer].of(self._rows)
        slots.keys[step.row, :, step.slot] = key[step.row, :, step.column]
        slots.values[step.row, :, step.slot] = value[step.row, :, step.column]
        slots.position[step.row, :, step.slot] = step.position[step.row, step.column][:, None]
        return slots

    def _bias_of(self, position: Tensor, step: _Step, window: int | None) -> Tensor:
        """``[B, H_kv, n, end]`` float32: causal, no empty slot, within the window."""
        of = position[:, :, None, : self._end]
        at = step.position[:, None, :, None]
        filled = torch.arange(self._end, device=position.device) < step.held[:, None, None, None]
        seen = filled & (of <= at)
        if window is not None:
            seen &= of > at - window
        seen[..., 0] |= ~step.real[:, None]  # padding sees something, so that no row is empty
        return torch.zeros(seen.shape, device=seen.device).masked_fill(~seen, float("-inf"))


def _put_into_bin(slots: _Slots, step: _Step) -> None:
    """Mark the lowest scorers of each head, of equal ones the oldest."""
    spared = (slots.position == step.last[:, None, None]) | (slots.position > step.recent[:, None, None])
    filled = torch.arange(spared.shape[2], device=spared.device) < step.held[:, None, None]
    cost = slots.score.masked_fill(slots.binned | spared | ~filled, float("inf"))
    rank = cost.argsort(dim=-1, stable=True).argsort(-1)
    slots.binned.logical_or_(rank < step.new[:, None, None])


def _close_up(slots: _Slots, step: _Step) -> None:
    """Drop what is in the full bins; what stays is in the order of the tokens."""
    gone = slots.binned & step.empties[:, None, None]
    order = gone.to(torch.uint8).argsort(dim=-1, stable=True)
    slots.score.masked_fill_(gone, 0.0)
    slots.binned.logical_and_(~gone)
    for stored in vars(slots).values():
        index = order if stored.ndim == 3 else order[..., None].expand_as(stored)
        stored.copy_(stored.gather(2, index))
