"""From tokens and pixels to what the text decoder takes in: one piece of the context at a time."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flowmm.context import Modality, Piece
from flowmm.errors import UnsupportedModelError

_PASSED_ON = {"inputs_embeds", "input_ids", "position_ids", "deepstack_visual_embeds", "visual_pos_masks"}
_OURS = {"attention_mask", "past_key_values", "use_cache", "return_dict", "output_attentions", "output_hidden_states"}


@dataclass(frozen=True)
class Embedded:
    """One piece as the decoder sees it."""

    embeddings: Tensor  # [1, n, hidden]
    position: Tensor  # [1, n] int64, or [A, 1, n] for rotary embeddings of several axes (mRoPE)
    deepstack: tuple[Tensor, ...] = ()  # Qwen3-VL: per early layer, [visual tokens, hidden], added to the hidden states
    visual: Tensor | None = None  # [1, n] bool, the tokens that ``deepstack`` belongs to


class _DecoderReachedError(Exception):
    """Stops the forward pass once the decoder's inputs are known."""


def embed(model: Any, piece: Piece, next_position: int) -> Embedded:
    """Run the embedding table and the vision tower over one piece; its positions start at ``next_position``.

    Raises:
        UnsupportedModelError: the decoder wants inputs that this tool does not know.
    """
    inputs = model_inputs(model, piece)
    captured = _decoder_inputs(model, inputs)
    strange = sorted(k for k, v in captured.items() if isinstance(v, Tensor) and k not in _PASSED_ON | _OURS)
    if strange:
        raise UnsupportedModelError(
            f"the decoder of {model.config.model_type!r} takes inputs this tool does not know: {', '.join(strange)}",
            "Please report the model; until then use one of the verified families (docs/limits.md).",
        )
    embeddings = captured.get("inputs_embeds")
    if embeddings is None:
        embeddings = model.get_input_embeddings()(inputs["input_ids"])
    position = captured.get("position_ids") if piece.pixels else None
    if position is None:
        position = torch.arange(embeddings.shape[1], device=embeddings.device)[None]
    return Embedded(
        embeddings=embeddings,
        position=position + next_position,
        deepstack=tuple(captured.get("deepstack_visual_embeds") or ()),
        visual=captured.get("visual_pos_masks"),
    )


def model_inputs(model: Any, piece: Piece) -> dict[str, Tensor]:
    """Keyword arguments of the model's own forward pass for one piece."""
    device = model.get_input_embeddings().weight.device
    ids = piece.token_ids[None].to(device)
    inputs: dict[str, Tensor] = {"input_ids": ids}
    if piece.pixels:
        visual = (piece.modality == Modality.VISUAL)[None].to(device)
        inputs["attention_mask"] = torch.ones_like(ids)
        for name in ("mm_token_type_ids", "token_type_ids"):  # mRoPE families; Gemma's image blocks
            if name in inspect.signature(model.forward).parameters:
                inputs[name] = visual.to(torch.int64)
        inputs.update(_on_device(piece.pixels, device, model.dtype))
    return inputs


def _on_device(pixels: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    return {
        name: value.to(device, dtype) if value.is_floating_point() else value.to(device)
        for name, value in pixels.items()
    }


def _decoder_inputs(model: Any, inputs: dict[str, Tensor]) -> dict[str, Any]:
    """The keyword arguments the model's forward pass hands to its decoder."""
    captured: dict[str, Any] = {}

    def stop(_module: Any, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        captured.update(kwargs)
        raise _DecoderReachedError

    _forget_positions(model)
    hook = model.get_decoder().register_forward_pre_hook(stop, with_kwargs=True)
    try:
        model(**inputs, use_cache=False)
    except _DecoderReachedError:
        pass
    finally:
        hook.remove()
        _forget_positions(model)
    return captured


def _forget_positions(model: Any) -> None:
    """mRoPE families keep an offset from one forward pass to the next, which would shift our positions."""
    inner: Any = getattr(model, "model", None)
    if getattr(inner, "rope_deltas", None) is not None:
        inner.rope_deltas = None
