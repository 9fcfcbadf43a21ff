"""Families that no test of ours covers: our reading is held against transformers' own before it is relied on."""

from __future__ import annotations

import torch
from torch import Tensor

from flowmm.context import ContextCache, Piece, Prompt
from flowmm.errors import UnsupportedModelError
from flowmm.hf.decoding import Decoder, placed
from flowmm.hf.embedding import model_inputs
from flowmm.hf.loading import LoadedModel
from flowmm.hf.prompt import question_ids
from flowmm.prefill import prefill
from flowmm.records import Provenance

_TEXT_TOKENS = 64  # of each text piece; the check costs one forward pass over little more than one image
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.06}  # share of the largest logit


def check_against_transformers(prompt: Prompt, loaded: LoadedModel) -> float:
    """Read the beginning of a context (to its first image) both ways and compare the logits behind a question.

    Returns:
        The largest difference, as a share of the largest logit.

    Raises:
        UnsupportedModelError: they differ, or transformers' own pass fails on these inputs.
    """
    beginning = _beginning(prompt)
    question = question_ids("What is this?", loaded)
    full = prefill(beginning, loaded)
    cache = ContextCache(full.layers, full.modality, full.next_position, Provenance(loaded.identity, ()))
    ids = torch.tensor([question])
    decoder = Decoder(loaded, placed(cache, loaded), 1, len(question))
    ours = decoder.feed(ids, torch.ones_like(ids, dtype=torch.bool))
    theirs = _transformers_logits(beginning, question, loaded)
    difference = float((ours.cpu() - theirs).abs().max() / theirs.abs().max())
    if not difference <= _TOLERANCE[loaded.model.dtype]:  # not <=, so that a NaN is a failure too
        raise _unsupported(loaded, f"our reading differs from transformers' by {difference:.2g} of the largest logit")
    return difference


def _beginning(prompt: Prompt) -> Prompt:
    """The pieces up to the first image, and the last one, which the question follows; long texts are cut."""
    images = [number for number, piece in enumerate(prompt.pieces) if piece.pixels]
    pieces = [*prompt.pieces[: (images[0] if images else 1) + 1], prompt.pieces[-1]]
    cut = [
        piece if piece.pixels else Piece(piece.token_ids[:_TEXT_TOKENS], piece.modality[:_TEXT_TOKENS])
        for piece in pieces
    ]
    return Prompt(tuple(cut), ())


@torch.no_grad()
def _transformers_logits(prompt: Prompt, question: list[int], loaded: LoadedModel) -> Tensor:
    """``[1, V]`` float32 on the CPU, from one forward pass over all tokens."""
    more = torch.tensor(question)
    pixels = next((piece.pixels for piece in prompt.pieces if piece.pixels), {})
    whole = Piece(
        torch.cat([prompt.token_ids, more]),
        torch.cat([prompt.modality, torch.zeros_like(more, dtype=torch.uint8)]),
        pixels,
    )
    try:
        output = loaded.model(**model_inputs(loaded.model, whole), use_cache=False)
    except Exception as error:  # an unknown family may fail in any way
        raise _unsupported(loaded, f"transformers' own pass fails: {str(error)[:120]}") from error
    logits: Tensor = output.logits[:, -1].float().cpu()
    return logits


def _unsupported(loaded: LoadedModel, reason: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"models of type {loaded.family.name!r} are not verified, and on this context {reason}".replace("\n", " "),
        "Use a model of a verified family (docs/limits.md), and please report this one.",
    )
