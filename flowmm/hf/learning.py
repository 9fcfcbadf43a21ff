"""Answers over stored slots that gradients flow back to: attention in plain operations, nothing in place."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flowmm.context import LayerCache
from flowmm.hf.attention import attention_of
from flowmm.hf.loading import LoadedModel
from flowmm.hf.rows import padded_rows


class LearningAttention:
    """See :class:`flowmm.hf.attention.Attention`; the questions come in one forward call, padded on the left.

    Args:
        layers: the stored context; their keys, values and biases may require gradients.
        position: ``[B, n]`` int64 rotary positions of the questions' tokens.
        real: ``[B, n]`` bool, False for padding.
    """

    def __init__(self, layers: Sequence[LayerCache], position: Tensor, real: Tensor) -> None:
        self._layers = layers
        self._position, self._real = position, real

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See :class:`flowmm.hf.attention.Attention`."""
        stored = self._layers[layer]
        batch, num_heads, n, size = query.shape
        grouped = query.float().reshape(batch, stored.keys.shape[0], -1, n, size)  # [B, H_kv, G, n, D]
        context = torch.einsum("bhgnd,hsd->bhgns", grouped, stored.keys.float()) * scale
        bias = stored.logit_bias
        if bias is not None:
            context = context + bias[:, None, None]
        own = torch.einsum("bhgnd,bhmd->bhgnm", grouped, key.float()) * scale
        position = self._position.to(query.device)
        if stored.window is not None:
            out = (
                stored.position[:, None, None] <= position[:, None, None, :, None] - stored.window
            )  # [B, H_kv, 1, n, S]
            context = context.masked_fill(out, float("-inf"))
        own = own.masked_fill(self._hidden(position, stored.window)[:, None, None], float("-inf"))
        share = torch.cat([context, own], -1).softmax(-1)
        slots = context.shape[-1]
        output = torch.einsum("bhgns,hsd->bhgnd", share[..., :slots], stored.values.float())
        output = output + torch.einsum("bhgnm,bhmd->bhgnd", share[..., slots:], value.float())
        return output.reshape(batch, num_heads, n, -1).to(query.dtype)

    def _hidden(self, position: Tensor, window: int | None) -> Tensor:
        """``[B, n, m]`` bool: tokens behind a query, padding, and what is out of its window; never its own."""
        token = torch.arange(position.shape[1], device=position.device)
        hidden = (token > token[:, None]) | ~self._real.to(position.device)[:, None]
        if window is not None:
            hidden = hidden | (position[:, None] <= position[:, :, None] - window)
        return hidden & (token != token[:, None])


def answer_logits(
    loaded: LoadedModel,
    layers: Sequence[LayerCache],
    next_position: int,
    rows: Sequence[Sequence[int]],
    starts: Sequence[int],
) -> Tensor:
    """Logits of the tokens of answers, with gradients to the slots.

    Args:
        loaded: the model.
        layers: the stored context, on its devices.
        next_position: where questions begin.
        rows: tokens of question and answer.
        starts: tokens of the question, by row.

    Returns:
        ``[P, V]`` float32 of the P tokens of all answers, row by row.
    """
    ids, real = padded_rows([row[:-1] for row in rows], left=True)
    count = max(len(row) - start for row, start in zip(rows, starts, strict=True))
    position = next_position + (real.cumsum(1) - 1).clamp(min=0)
    device = loaded.model.get_input_embeddings().weight.device
    with attention_of(loaded.model):
        output = loaded.model(
            input_ids=ids.to(device),
            position_ids=position.to(device),
            use_cache=False,
            logits_to_keep=count,
            flowmm=LearningAttention(layers, position, real),
        )
    answered = torch.arange(count) >= torch.tensor(
        [[count - len(row) + start] for row, start in zip(rows, starts, strict=True)]
    )
    logits: Tensor = output.logits[:, -count:][answered.to(output.logits.device)]
    return logits.float()
