"""Every family: the rotation of the keys is known, and undoing it gives the key projection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from flowmm.context import Modality, Piece, Prompt
from flowmm.hf.families import family_of
from flowmm.hf.loading import LoadedModel
from flowmm.prefill import FullRead, prefill
from flowmm.records import ModelIdentity
from tests.conformance.families import _TEXT, FAMILIES, build, context

CLOSE = {"atol": 1e-5, "rtol": 0.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0, "original_max_position_embeddings": 64}


@contextmanager
def projected_keys(loaded: LoadedModel) -> Iterator[list[list[Tensor]]]:
    """Per layer and chunk, what the key projection (and the norm behind it) gives: ``[H_kv, n, D]``."""
    layers = loaded.model.get_decoder().layers
    seen: list[list[Tensor]] = [[] for _ in layers]
    hooks = []
    for found, layer in zip(seen, layers, strict=True):
        attention = layer.self_attn
        last = getattr(attention, "k_norm", None) or attention.k_proj

        def keep(_: Any, __: Any, output: Tensor, found: list[Tensor] = found, size: int = attention.head_dim) -> None:
            keys = output[0].reshape(output.shape[1], -1, size)  # [n, H_kv, D], but Gemma 3's norm sees [H_kv, n, D]
            found.append(keys if keys.shape[0] == _TEXT["num_key_value_heads"] else keys.transpose(0, 1))

        hooks.append(last.register_forward_hook(keep))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def read(loaded: LoadedModel, prompt: Prompt, chunk_tokens: int = 2048) -> tuple[FullRead, list[Tensor]]:
    with projected_keys(loaded) as seen:
        full = prefill(prompt, loaded, chunk_tokens=chunk_tokens)
    num_tokens = int(full.modality.shape[0])
    return full, [torch.cat(chunks, 1)[:, :num_tokens] for chunks in seen]


def assert_known(loaded: LoadedModel, prompt: Prompt, chunk_tokens: int = 2048) -> FullRead:
    full, projected = read(loaded, prompt, chunk_tokens)
    for layer, rotation, expected in zip(full.layers, full.rotations, projected, strict=True):
        assert rotation is not None
        bare = rotation.undone(layer.keys, layer.position)
        torch.testing.assert_close(bare, expected, **CLOSE)
        torch.testing.assert_close(rotation.applied(bare, layer.position), layer.keys, **CLOSE)
        assert not torch.allclose(layer.keys, expected, atol=1e-2), "nothing was rotated, so this test shows nothing"
    return full


@pytest.mark.parametrize("family", FAMILIES)
def test_unrotated_keys_are_the_key_projection_and_rotate_back(family: str) -> None:
    loaded, tiny = build(family)
    full = assert_known(loaded, context(tiny))
    # Layers share one rotation, but for Gemma 3, whose sliding layers have a base frequency of their own.
    assert len({id(rotation) for rotation in full.rotations}) == (2 if family == "gemma3" else 1)


@pytest.mark.parametrize("error", [TypeError, RuntimeError])
def test_a_model_whose_function_is_of_another_kind_is_read_without(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise error("made otherwise")

    monkeypatch.setattr("flowmm.hf.rotation.learn", refuse)
    assert prefill(text(20), loaded_from(transformers.LlamaConfig(**_TEXT))).rotations == (None, None, None)


@pytest.mark.parametrize("family", ["glm4v", "gemma3"])
def test_chunks_give_the_same_rotation(family: str) -> None:
    loaded, tiny = build(family)
    chunked = assert_known(loaded, context(tiny), chunk_tokens=7)
    at_once, _ = read(loaded, context(tiny))
    for one, other in zip(chunked.rotations, at_once.rotations, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one.pairs, other.pairs)
        torch.testing.assert_close((one.cos, one.sin), (other.cos, other.sin), **CLOSE)


def loaded_from(config: Any, dtype: torch.dtype = torch.float32) -> LoadedModel:
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval().to(dtype)
    for weight in model.parameters():
        if weight.ndim >= 2:
            torch.nn.init.normal_(weight, std=0.2)
    identity = ModelIdentity("tiny", None, True, config.model_type, "w", "c", "t", "t", None, "float32")
    return LoadedModel(model.requires_grad_(False), None, None, "", family_of(config), identity)


def text(length: int) -> Prompt:
    ids = torch.arange(11, 11 + length)
    return Prompt((Piece(ids, torch.full(ids.shape, int(Modality.TEXT), dtype=torch.uint8)),), ())


def test_a_scaled_table_is_undone_exactly() -> None:
    full = assert_known(loaded_from(transformers.LlamaConfig(**_TEXT, rope_parameters=YARN)), text(40))
    rotation = full.rotations[0]
    assert rotation is not None
    assert float((rotation.cos.square() + rotation.sin.square()).min()) > 1.1


def test_a_partial_rotation_leaves_the_other_dimensions() -> None:
    half = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
    full = assert_known(loaded_from(transformers.GlmConfig(**_TEXT, head_dim=8, rope_parameters=half)), text(40))
    rotation = full.rotations[0]
    assert rotation is not None
    assert rotation.pairs.tolist() == [[0, 1], [2, 3]]  # neighbours, and only among the first four


def test_sixteen_bit_models_are_known_to_their_precision() -> None:
    loaded = loaded_from(transformers.LlamaConfig(**_TEXT), torch.bfloat16)
    full, projected = read(loaded, text(40))
    for layer, rotation, expected in zip(full.layers, full.rotations, projected, strict=True):
        assert rotation is not None
        bare = rotation.undone(layer.keys, layer.position)
        torch.testing.assert_close(bare, expected.float(), atol=3e-2 * float(expected.abs().max()), rtol=0.0)


def test_a_layer_that_does_not_rotate_has_no_rotation() -> None:
    config = transformers.SmolLM3Config(**_TEXT, no_rope_layers=[1, 0, 1])
    rotations = prefill(text(20), loaded_from(config)).rotations
    assert [rotation is None for rotation in rotations] == [False, True, False]
