"""How many questions fit into memory side by side: the context is there once, each question adds its tail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from flowmm.context import ContextCache

MOST = 64  # more side by side answer hardly faster, and the first of them later
_SHARE = 2  # one part in so many of the free memory may go to tails
_STATES = 16  # hidden states of a token that are in memory at once while a question is read, about


def batch_that_fits(cache: ContextCache, model: Any, question: int, answer: int) -> int:
    """Questions side by side, 1 to ``MOST``, that half of the free memory holds.

    Args:
        cache: the context, on the devices of the model.
        model: the transformers model.
        question: tokens of the longest question.
        answer: tokens of the longest answer.
    """
    text = model.config.get_text_config(decoder=True)
    width = cache.layers[0].keys.element_size()
    row = (question + answer + 1) * tail_bytes(cache) + question * text.hidden_size * width * _STATES
    row += 8 * text.vocab_size  # logits, and their copy in float32
    free = free_memory(cache.layers[0].keys.device)
    return MOST if free is None else max(1, min(MOST, free // _SHARE // row))


def tail_bytes(cache: ContextCache) -> int:
    """Bytes that a token of a question or an answer takes in all layers."""
    return sum(
        layer.keys.shape[0] * one.shape[2] * one.element_size()
        for layer in cache.layers
        for one in (layer.keys, layer.values)
    )


def free_memory(device: torch.device) -> int | None:
    """Bytes; None where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
