"""transformers' own generate, with its own full cache: what our decoding is held against."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import torch
from torch import Tensor

from flowmm.hf.loading import LoadedModel


class _Clock:
    """A streamer that notes when each token came."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, _tokens: Tensor) -> None:
        """Called with the prompt, then with every token."""
        self.times.append(perf_counter())

    def end(self) -> None:
        """Called at the end."""


@torch.no_grad()
def generate(loaded: LoadedModel, token_ids: Sequence[int], new_tokens: int) -> list[float]:
    """Read tokens and write more, greedily and through the end of the answer.

    Args:
        loaded: the model, in whatever attention it has of its own.
        token_ids: context and question.
        new_tokens: to write.

    Returns:
        Seconds from the call to each new token.
    """
    ids = torch.tensor([token_ids], device=loaded.model.get_input_embeddings().weight.device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if loaded.processor is not None:
        inputs["mm_token_type_ids"] = torch.zeros_like(ids)  # all is text
    clock, began = _Clock(), perf_counter()
    loaded.model.generate(
        **inputs, max_new_tokens=new_tokens, min_new_tokens=new_tokens, do_sample=False, streamer=clock
    )
    return [at - began for at in clock.times[1:]]


def model_sizes(loaded: LoadedModel) -> tuple[int, int]:
    """Parameters that take part in every token, and their bytes: the decoder and the head, no table of embeddings."""
    model = loaded.model
    head = model.get_output_embeddings()
    shared = {id(parameter) for parameter in (*model.get_decoder().layers.parameters(), *head.parameters())}
    used = [one for one in model.parameters() if id(one) in shared]
    return sum(one.numel() for one in used), sum(one.numel() * one.element_size() for one in used)
