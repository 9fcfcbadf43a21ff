from __future__ import annotations

import pytest
import transformers as t

from flowmm.errors import UnsupportedModelError
from flowmm.hf.families import VERIFIED, family_of
from tests.conformance.families import FAMILIES


def test_every_verified_family_has_a_conformance_model() -> None:
    assert VERIFIED - {"gemma3_text"} == set(FAMILIES)


def test_sliding_windows_are_told_per_layer() -> None:
    config = t.Gemma3TextConfig(
        num_hidden_layers=3, sliding_window=8, layer_types=["sliding_attention", "full_attention", "sliding_attention"]
    )
    assert family_of(config).windows == (8, None, 8)


def test_a_window_without_layer_types_holds_for_all_layers() -> None:
    assert family_of(t.MistralConfig(num_hidden_layers=2, sliding_window=16)).windows == (16, 16)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (t.GptOssConfig(), "attention sinks"),
        (t.Gemma2Config(), "soft-capped attention"),
        (t.Gemma3nTextConfig(), "share one KV cache"),
        (t.DeepseekV3Config(), "latent attention"),
        (t.MambaConfig(), "linear attention or state-space"),
        (t.Qwen3NextConfig(), "linear attention or state-space"),
        (t.MllamaConfig(), "cross-attention to the image"),
        (t.PaliGemmaConfig(), "see each other in both directions"),
        (t.T5Config(), "an encoder-decoder"),
        (t.Lfm2Config(), "linear attention or state-space"),
    ],
    ids=lambda value: getattr(value, "model_type", None),
)
def test_an_architecture_that_cannot_be_handled_is_refused_by_name(config: object, reason: str) -> None:
    with pytest.raises(UnsupportedModelError, match=reason) as caught:
        family_of(config)
    assert repr(config.model_type) in caught.value.what  # type: ignore[attr-defined]
    assert caught.value.exit_code == 8


def test_layers_of_an_unheard_of_kind_are_refused_whatever_the_model_is_called() -> None:
    config = t.Qwen3Config(num_hidden_layers=2, layer_types=["full_attention", "full_attention"])
    config.layer_types = ["full_attention", "chunked_attention"]
    with pytest.raises(UnsupportedModelError, match="chunked_attention"):
        family_of(config)
