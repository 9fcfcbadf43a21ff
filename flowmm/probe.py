"""A fixed question whose logits are stored with a context and replayed by ``verify --model``."""

from __future__ import annotations

import torch
from torch import Tensor

from flowmm.context import ContextCache
from flowmm.hf.decoding import Decoder, placed
from flowmm.hf.loading import LoadedModel
from flowmm.hf.prompt import question_ids
from flowmm.layer_tensors import rounded
from flowmm.packing import PACKINGS
from flowmm.records import Probe

QUESTION = "What is this about?"
_TOP = 8
# Largest difference that another machine or kernel may make, as a share of the largest logit.
_TOLERANCE = {"float32": 0.005, "float16": 0.02, "bfloat16": 0.06}


def take_probe(cache: ContextCache, loaded: LoadedModel, kv_dtype: str) -> Probe:
    """Ask the fixed question of a cache as it will come back from a file of ``kv_dtype``."""
    token_ids = question_ids(QUESTION, loaded)
    top = _logits(rounded(cache, PACKINGS[kv_dtype]), loaded, token_ids).topk(_TOP)
    return Probe(tuple(token_ids), tuple(top.indices.tolist()), tuple(top.values.tolist()))


def replay(probe: Probe, cache: ContextCache, loaded: LoadedModel) -> tuple[float, bool]:
    """The largest difference of the stored logits from today's, and whether that is within what machines differ by."""
    logits = _logits(cache, loaded, list(probe.token_ids))
    stored = torch.tensor(probe.top_logits)
    difference = float((logits[list(probe.top_ids)] - stored).abs().max())
    return difference, difference <= _TOLERANCE[loaded.identity.dtype] * max(1.0, float(stored.abs().max()))


def _logits(cache: ContextCache, loaded: LoadedModel, token_ids: list[int]) -> Tensor:
    """``[V]`` float32 on the CPU."""
    decoder = Decoder(loaded, placed(cache, loaded), 1, len(token_ids))
    ids = torch.tensor([token_ids])
    return decoder.feed(ids, torch.ones_like(ids, dtype=torch.bool))[0].cpu()
