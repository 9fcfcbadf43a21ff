"""From contexts to a gate: hidden states to train it on, and what repeating each context and its questions look at."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from flowmm.answer import answer_all
from flowmm.context import ContextCache, Modality
from flowmm.head_weights import questions_about
from flowmm.hf.layers import hidden_bytes, num_query_heads, shown_to
from flowmm.hf.loading import LoadedModel
from flowmm.hf.prompt import context_prompt
from flowmm.observe.gate import Gate
from flowmm.observe.gate_training import Lesson, train
from flowmm.observe.probes import replayed
from flowmm.observe.reconstruct import reconstruct
from flowmm.observe.tail import drawn_evenly
from flowmm.observing import Probes, Reconstruct
from flowmm.plan import Progress
from flowmm.prefill import prefill
from flowmm.profiles import GateReport
from flowmm.records import Generation, Part, Provenance

_MOST_BYTES = 4 << 30  # of the hidden states of all lessons together, which are held in memory


def gate_from(
    contexts: Sequence[Sequence[Part]], loaded: LoadedModel, *, chunk_tokens: int = 2048, progress: Progress
) -> tuple[Gate, GateReport]:
    """Train a gate on contexts and say how well it does on what was held out.

    Args:
        contexts: the parts of each.
        loaded: the model.
        chunk_tokens: tokens per forward pass.
        progress: called with phase (lessons, vision, prefill, reconstruct, probes, gate), done and total.
    """
    lessons = []
    for done, parts in enumerate(contexts):
        progress("lessons", done, len(contexts))
        share = _MOST_BYTES // len(contexts)
        lessons.append(lesson(parts, loaded, most_bytes=share, chunk_tokens=chunk_tokens, progress=progress))
    progress("lessons", len(contexts), len(contexts))
    return train(
        lessons,
        num_query_heads(loaded.model),
        loaded.identity.weights,
        device=loaded.model.device,
        progress=partial(progress, "gate"),
    )


def lesson(
    parts: Sequence[Part],
    loaded: LoadedModel,
    *,
    most_bytes: int,
    chunk_tokens: int = 2048,
    seed: int = 0,
    progress: Progress,
) -> Lesson:
    """Read a context, again behind itself, and ask about names in it; keep what layers were given of some tokens.

    The paper's targets are KVzip's scores alone (arXiv 2601.17668); here what the questions and the full cache's
    answers look at counts as what repeating does.

    Args:
        parts: the context.
        loaded: the model.
        most_bytes: of hidden states to keep; where they are more, tokens are drawn from all over the context.
        chunk_tokens: tokens per forward pass.
        seed: of that draw.
        progress: called with phase (vision, prefill, reconstruct, probes), done and total.

    Returns:
        On the CPU. The template's tokens are left out: they are never evicted, and every request looks at them.
    """
    prompt = context_prompt(parts, loaded)
    inner = (prompt.modality != Modality.TEMPLATE).nonzero()[:, 0]
    num_layers = len(loaded.family.windows)
    most = max(1, most_bytes // (num_layers * hidden_bytes(loaded.model)))
    index = inner[drawn_evenly(inner.shape[0], most, seed)]
    states = _States(num_layers, index)
    with shown_to(loaded.model, states):
        full = prefill(prompt, loaded, chunk_tokens=chunk_tokens, progress=progress)
    cache = ContextCache(full.layers, full.modality, full.next_position, Provenance(loaded.identity, ()))
    told = partial(progress, "reconstruct")
    seen = reconstruct(cache, prompt.token_ids, full.embedded, loaded, Reconstruct(), progress=told).received
    if questions := questions_about(parts):
        probes = Probes()
        answers = list(answer_all(cache, questions, loaded, Generation(max_new_tokens=probes.longest_about)))
        asking = replayed(cache, answers, loaded, probes, progress=partial(progress, "probes")).received
        seen = tuple(map(torch.maximum, seen, asking))
    return Lesson(states.found(), tuple(scores[:, index.to(scores.device)].cpu() for scores in seen))


class _States:
    """Is shown what each layer is given, chunk by chunk, and keeps the tokens ``index`` ``[n]``, ascending."""

    def __init__(self, num_layers: int, index: Tensor) -> None:
        self._index = index
        self._rows: list[list[Tensor]] = [[] for _ in range(num_layers)]
        self._read = [0] * num_layers

    def __call__(self, layer: int, states: Tensor) -> None:
        first = self._read[layer]
        self._read[layer] = end = first + states.shape[1]
        here = self._index[(self._index >= first) & (self._index < end)] - first
        self._rows[layer].append(states[0, here.to(states.device)].cpu())  # indexing copies

    def found(self) -> tuple[Tensor, ...]:
        return tuple(torch.cat(rows) for rows in self._rows)
