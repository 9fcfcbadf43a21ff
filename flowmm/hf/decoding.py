"""The model's side of answering: feed tokens to a batch of questions over one context, and turn ids into text."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from flowmm.context import ContextCache, LayerCache
from flowmm.errors import MismatchError
from flowmm.hf.answering import AnsweringAttention, Watcher
from flowmm.hf.attention import attention_of
from flowmm.hf.embedded import EmbeddedContext
from flowmm.hf.layers import shown_to
from flowmm.hf.loading import LoadedModel
from flowmm.hf.tail import GrowingTail, Tail
from flowmm.records import Generation


def placed(cache: ContextCache, loaded: LoadedModel) -> ContextCache:
    """The cache on the devices and in the dtype of the model's layers; a tensor that is right already is not copied.

    Raises:
        MismatchError: the cache has another geometry than the model.
    """
    decoder = loaded.model.get_decoder()
    _check_geometry(cache, loaded)
    layers = [
        _placed_layer(layer, next(module.parameters()))
        for layer, module in zip(cache.layers, decoder.layers, strict=True)
    ]
    return replace(cache, layers=tuple(layers), evidence=None)


def _placed_layer(layer: LayerCache, like: Tensor) -> LayerCache:
    dtype = like.dtype if like.is_floating_point() else layer.keys.dtype
    return LayerCache(
        keys=layer.keys.to(like.device, dtype),
        values=layer.values.to(like.device, dtype),
        position=layer.position.to(like.device),
        modality=layer.modality.to(like.device),
        lengths=layer.lengths.to(like.device),
        bias=None if layer.bias is None else layer.bias.to(like.device),
        window=layer.window,
    )


def _check_geometry(cache: ContextCache, loaded: LoadedModel) -> None:
    text = loaded.model.config.get_text_config(decoder=True)
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    expected = (text.num_hidden_layers, heads, size)
    first = cache.layers[0].keys
    found = (len(cache.layers), first.shape[0], first.shape[2])
    hint = "Load the model the context was read with."
    if expected != found:
        name = "layers, KV heads, head size"
        raise MismatchError(cache.provenance.model.id, name, str(found), str(expected), hint)
    windows = tuple(layer.window for layer in cache.layers)
    if windows != loaded.family.windows:  # no checksum tells that a header was changed on purpose
        expected_windows = str(loaded.family.windows)
        raise MismatchError(cache.provenance.model.id, "sliding windows", str(windows), expected_windows, hint)


class Decoder:
    """Feeds a batch of questions. The context is shared and never changed; every question starts right behind it.

    A question has a row. Rows that are in use are the first ones, so that a call is about a run of rows.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        cache: ContextCache,
        batch: int,
        capacity: int,
        watcher: Watcher | None = None,
        tail: Tail | None = None,
    ) -> None:
        """Args:
        loaded: the model.
        cache: the context, already :func:`placed`.
        batch: questions side by side at most.
        capacity: tokens a question and its answer may have together.
        watcher: sees what the tokens look at in the context.
        tail: holds what is fed; None: one that evicts nothing.
        """
        self._loaded = loaded
        self._tail = tail or GrowingTail(batch, capacity)
        self._attention = AnsweringAttention(cache.layers, self._tail, watcher)
        self._watcher = watcher
        self._first = cache.next_position
        self._device = loaded.model.get_input_embeddings().weight.device
        self._next = torch.full((batch, 1), cache.next_position, device=self._device)

    @torch.inference_mode()  # in which tails are made
    def enter(self, rows: slice, questions: Sequence[int]) -> None:
        """Take new questions, of so many tokens each, into rows."""
        self._next[rows] = self._first
        self._tail.enter(rows, questions)

    @torch.inference_mode()
    def move(self, source: int, target: int) -> None:
        """Put the question of one row into another, whose own is at its end."""
        self._next[target] = self._next[source]
        self._tail.move(source, target)

    def counters(self) -> list[Tensor]:
        """What a step changes in place on the device, besides the slots that it fills."""
        return [self._next, *self._tail.counters()]

    def feed(self, token_ids: Tensor, real: Tensor, rows: slice | None = None) -> Tensor:
        """Take in tokens.

        Args:
            token_ids: ``[B, n]`` int64.
            real: ``[B, n]`` bool, False for padding, which takes no position.
            rows: whose they are; None: of all.

        Returns:
            ``[B, V]`` float32 logits behind the last column, as those of :meth:`feed_columns`.
        """
        return self.feed_columns(token_ids, real, 1, rows)[:, -1]

    def feed_columns(self, token_ids: Tensor, real: Tensor, count: int, rows: slice | None = None) -> Tensor:
        """The same, ``[B, count, V]`` float32 logits behind each of the last ``count`` columns.

        Without a watcher they are made in inference mode: to be computed with, not to be changed or trained through.
        """
        with self._without_gradients():
            rows = rows or slice(0, token_ids.shape[0])
            real = real.to(self._device)
            position = self._next[rows] + (real.cumsum(1) - 1).clamp(min=0)
            self._next[rows] += real.sum(1, keepdim=True)
            self._attention.begin(position, real, rows)
            return self._run(token_ids.to(self._device), position, count)

    def _without_gradients(self) -> AbstractContextManager[Any]:
        """A tenth of a small model's time goes into what views and writes leave for gradients even so."""
        # What a watcher keeps may be trained on.
        return torch.inference_mode() if self._watcher is None else torch.no_grad()

    @torch.inference_mode()
    def step(self, token_ids: Tensor) -> Tensor:
        """Take in one token for each question in the first rows, once their questions were fed.

        Nothing in it waits for the device, and with a tail of fixed shape nothing depends on how far a question is.

        Args:
            token_ids: ``[B]`` int64, on the model's device.

        Returns:
            ``[B, V]`` float32 logits.
        """
        rows = slice(0, token_ids.shape[0])
        position = self._next[rows].clone()
        self._next[rows] += 1
        self._attention.begin(position, None, rows)
        return self._run(token_ids[:, None], position, 1)[:, -1]

    def _run(self, token_ids: Tensor, position: Tensor, count: int) -> Tensor:
        with attention_of(self._loaded.model), self._hidden_states():
            # The whole model, not decoder and head apart: some families scale or cap their logits on the way.
            output = self._loaded.model(
                input_ids=token_ids,
                position_ids=position,
                use_cache=False,
                logits_to_keep=count,
                flowmm=self._attention,
            )
        logits: Tensor = output.logits[:, -count:].float()
        return logits

    @torch.no_grad()
    def feed_again(self, context: EmbeddedContext, start: int, end: int) -> None:
        """Take in the tokens ``[start, end)`` of a context once more, images included; the batch is 1."""
        inputs = context.slice(start, end, int(self._next))
        position = inputs["position_ids"].reshape(-1, 1, end - start).amax(0)  # windows go by the largest axis
        self._next = position.max().reshape(1, 1).to(self._device) + 1
        real = torch.ones(1, end - start, dtype=torch.bool, device=self._device)
        self._attention.begin(position.to(self._device), real, slice(0, 1))
        with attention_of(self._loaded.model), self._hidden_states():
            self._loaded.model.get_decoder()(**inputs, attention_mask=None, use_cache=False, flowmm=self._attention)

    def _hidden_states(self) -> AbstractContextManager[None]:
        return nullcontext() if self._watcher is None else shown_to(self._loaded.model, self._watcher.hidden)


def end_tokens(loaded: LoadedModel) -> frozenset[int]:
    """Tokens that end an answer."""
    found: set[int] = set()
    for owner in (loaded.model.generation_config, loaded.tokenizer):
        value = getattr(owner, "eos_token_id", None)
        if value is not None:
            found.update(value if isinstance(value, list) else [value])
    return frozenset(found)


class Sampler:
    """Picks the next token of each question: the likeliest, or drawn with the question's own random numbers."""

    def __init__(self, settings: Generation, device: torch.device) -> None:
        self._warp = _warpers(settings)
        self._device, self._seed = device, settings.seed
        self._generators: dict[int, torch.Generator] = {}

    def __call__(self, logits: Tensor, streams: Sequence[int]) -> Tensor:
        """``[B, V]`` logits -> ``[B]`` token ids on the same device.

        ``streams`` tells the questions apart, so that a draw does not depend on what else is in the batch.
        """
        if self._warp is None:
            return logits.argmax(-1)
        shares = self._warp(None, logits).softmax(-1)
        drawn = [torch.multinomial(row, 1, generator=self._of(s)) for row, s in zip(shares, streams, strict=True)]
        return torch.cat(drawn)

    def _of(self, stream: int) -> torch.Generator:
        if stream not in self._generators:
            seed = (self._seed * 1_000_003 + stream) % 2**63
            self._generators[stream] = torch.Generator(self._device).manual_seed(seed)
        return self._generators[stream]


def _warpers(settings: Generation) -> Any | None:
    if settings.temperature <= 0:
        return None
    from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    warpers = LogitsProcessorList([TemperatureLogitsWarper(settings.temperature)])
    if settings.top_k > 0:
        warpers.append(TopKLogitsWarper(settings.top_k))
    if settings.top_p < 1:
        warpers.append(TopPLogitsWarper(settings.top_p))
    return warpers


class TextStream:
    """Turns ids into text as they come; never half a character, never a piece of a stop string."""

    def __init__(self, loaded: LoadedModel, stop: Sequence[str]) -> None:
        from tokenizers.decoders import DecodeStream

        self._stream = DecodeStream(skip_special_tokens=True)
        self._tokenizer = loaded.tokenizer.backend_tokenizer
        self._stop = [text for text in stop if text]
        self._held = ""
        self.stopped = False

    def push(self, token_id: int) -> str:
        """Text that is certain now; ``stopped`` is set once a stop string is complete (it is left out)."""
        self._held += self._stream.step(self._tokenizer, token_id) or ""
        found = [at for at in (self._held.find(text) for text in self._stop) if at >= 0]
        if found:
            self.stopped = True
            self._held = self._held[: min(found)]
            return self.flush()
        keep = max((_overlap(self._held, text) for text in self._stop), default=0)
        certain, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return certain

    def flush(self) -> str:
        """What was held back, at the end of an answer."""
        rest, self._held = self._held, ""
        return rest


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that ``stop`` begins with."""
    return next((n for n in range(min(len(text), len(stop)), 0, -1) if text.endswith(stop[:n])), 0)
