"""A tail with a recycle bin: what is looked at least while an answer is decoded goes, a bin at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flowmm.decode import Decode
from flowmm.hf.attention import partial_attention


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


class RecyclingTail:
    """Dynamic decoding eviction (HAE, arXiv 2602.02197), on what a question adds to the stored context.

    A slot's score is the attention it received from the question's last token and from the answer so far: the sum
    over these, the mean over the query heads of its KV head. Once a head holds more than ``keep`` slots, the lowest of
    each step goes into the bin, where it is still attended; a question that is longer sends several at once. When
    ``bin`` slots are in it, they are dropped together and the tail closes up. The question's last token and the
    newest never go, nor do as many of the newest as ``recent`` says: sums favour what came early.
    """

    def __init__(self, questions: Sequence[int], capacity: int, decode: Decode) -> None:
        """Args:
        questions: tokens of each question. Its last one, and each of its answer, must be the last column of a call.
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
        self._steps: dict[torch.device, _Step] = {}
        self._end, self._asks, self._bins, self._empties = 0, False, False, False

    def begin(self, position: Tensor, real: Tensor) -> None:
        """See :class:`flowmm.hf.tail.Tail`."""
        count = real.sum(1)
        row, column = real.nonzero(as_tuple=True)
        slot = (self._held[:, None] + real.cumsum(1) - 1)[row, column]
        self._held, self._seen = self._held + count, self._seen + count
        asks = real[:, -1] & (self._seen >= self._questions)
        self._last = torch.where(asks & (self._last < 0), position[:, -1], self._last)
        due = (self._held - self._keep).clamp(0, self._bin) * asks
        new = (due - self._binned).clamp(min=0)
        binned = self._binned + new
        empties = asks & (binned == self._bin)
        recent = position[:, -1] - self._recent
        step = _Step(row, column, slot, position, real, self._held, asks, self._last, recent, new, empties)
        self._steps = {position.device: step}
        self._end, self._asks = int(self._held.max()), bool(asks.any())
        self._bins, self._empties = bool(new.any()), bool(empties.any())
        # From the next call on; in this one every slot is still attended, in all layers.
        self._held = self._held - self._bin * empties
        self._binned = binned * ~empties

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None, prefix: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See :class:`flowmm.hf.tail.Tail`."""
        batch, num_kv, group, n, size = query.shape
        step = self._step_on(key.device)
        slots = self._taken_in(layer, key, value, step)
        keys, values = slots.keys[:, :, : self._end], slots.values[:, :, : self._end]
        bias = self._bias(slots.position, step, window)  # [B, H_kv, n, end]
        wide = bias[:, :, None].expand(-1, -1, group, -1, -1).reshape(batch * num_kv, group * n, -1)
        rows = query.reshape(batch * num_kv, group * n, size)
        out, total = partial_attention(rows, keys.flatten(0, 1), values.flatten(0, 1), scale, wide)
        total = total.view(batch, num_kv, group * n)
        if self._asks:
            whole = torch.logaddexp(prefix, total).view(batch, num_kv, group, n)[..., -1:]
            logits = (query[..., -1, :] @ keys.mT).float() * scale + bias[:, :, -1:]  # [B, H_kv, G, end]
            received = (logits - whole).exp().mean(2)
            slots.score[:, :, : self._end] += received.masked_fill(~step.asks[:, None, None], 0.0)
        if self._bins:
            _put_into_bin(slots, step)
        if self._empties:
            self._layers[layer] = _closed_up(slots, step)
        return out.view(batch, num_kv, group * n, -1), total

    def _step_on(self, device: torch.device) -> _Step:
        if device not in self._steps:
            self._steps[device] = next(iter(self._steps.values())).to(device)
        return self._steps[device]

    def _taken_in(self, layer: int, key: Tensor, value: Tensor, step: _Step) -> _Slots:
        """The slots of a layer, the new ones among them."""
        if layer not in self._layers:
            shape = (key.shape[0], key.shape[1], self._width)
            position = torch.zeros(shape, dtype=torch.int64, device=key.device)
            # Zeros and not empty: padding looks at a slot that may never have been filled.
            keys, values = key.new_zeros(*shape, key.shape[3]), value.new_zeros(*shape, value.shape[3])
            score = torch.zeros(shape, device=key.device)
            self._layers[layer] = _Slots(keys, values, position, score, torch.zeros_like(position, dtype=torch.bool))
        slots = self._layers[layer]
        slots.keys[step.row, :, step.slot] = key[step.row, :, step.column]
        slots.values[step.row, :, step.slot] = value[step.row, :, step.column]
        slots.position[step.row, :, step.slot] = step.position[step.row, step.column][:, None]
        return slots

    def _bias(self, position: Tensor, step: _Step, window: int | None) -> Tensor:
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


def _closed_up(slots: _Slots, step: _Step) -> _Slots:
    """Without what is in the full bins; what stays is in the order of the tokens."""
    gone = slots.binned & step.empties[:, None, None]
    order = gone.to(torch.uint8).argsort(dim=-1, stable=True)
    return _Slots(
        slots.keys.gather(2, order[..., None].expand_as(slots.keys)),
        slots.values.gather(2, order[..., None].expand_as(slots.values)),
        slots.position.gather(2, order),
        slots.score.masked_fill(gone, 0.0).gather(2, order),
        (slots.binned & ~gone).gather(2, order),
    )
