"""Which architectures are handled, and what is particular about their attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flowmm.errors import UnsupportedModelError

# Families whose cache handling is proved against transformers' own forward pass (tests/conformance).
VERIFIED = frozenset(
    {
        *("llama", "qwen2", "qwen3", "mistral"),
        *("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "glm4v"),
        *("llava", "llava_next", "llava_onevision", "internvl"),
        *("gemma3", "gemma3_text", "idefics3", "smolvlm", "mistral3"),
    }
)

# Families in which the tokens of one image see each other in both directions.
BIDIRECTIONAL_IMAGES = frozenset({"gemma3"})

# What a config cannot tell, or tells in a way of its own: refused by name.
_REFUSED = {
    "attention sinks": "gpt_oss",
    "soft-capped attention": "gemma2 vaultgemma t5gemma",
    "layers that share one KV cache": "gemma3n gemma3n_text gemma4 gemma4_text gemma4_unified",
    "multi-head latent attention": "deepseek_v2 deepseek_v3 deepseek_vl_v2 kimi_k2 longcat_flash minicpm3",
    "linear attention or state-space layers": (
        "mamba mamba2 falcon_mamba jamba bamba zamba zamba2 rwkv recurrent_gemma qwen3_next qwen3_5 qwen3_5_moe "
        "granitemoehybrid falcon_h1 minimax lfm2 lfm2_vl nemotron_h xlstm kimi_linear olmo_hybrid"
    ),
    "cross-attention to the image": "mllama idefics blip_2 instructblip flamingo",
    "image blocks that see each other in both directions": (
        "paligemma pi0 molmo2 git deepseek_ocr2 hrm_text diffusion_gemma unlimited_ocr"
    ),
}
_REFUSED_BY_NAME = {name: reason for reason, names in _REFUSED.items() for name in names.split()}


@dataclass(frozen=True)
class Family:
    """What the rest needs to know of an architecture."""

    name: str  # model_type of the config
    windows: tuple[int | None, ...]  # sliding window per layer, None: full attention
    bidirectional_images: bool
    verified: bool


def family_of(config: Any) -> Family:
    """Recognise the architecture of a config.

    Raises:
        UnsupportedModelError: linear, latent, shared, soft-capped or sink layers, or an encoder-decoder.
    """
    text = config.get_text_config(decoder=True)
    for name in (config.model_type, getattr(text, "model_type", None)):
        if name in _REFUSED_BY_NAME:
            _refuse(name, _REFUSED_BY_NAME[name])
    if isinstance(text, dict):
        _refuse(config.model_type, "a text configuration that transformers does not read")
    reasons = {
        "an encoder-decoder": getattr(config, "is_encoder_decoder", False),
        "multi-head latent attention": getattr(text, "kv_lora_rank", None),
        "layers that share one KV cache": getattr(text, "num_kv_shared_layers", None),
        "soft-capped attention": getattr(text, "attn_logit_softcapping", None),
        "no attention layers": not getattr(text, "num_attention_heads", None),
    }
    for reason, found in reasons.items():
        if found:
            _refuse(config.model_type, reason)
    return Family(
        name=config.model_type,
        windows=_windows(config.model_type, text),
        bidirectional_images=config.model_type in BIDIRECTIONAL_IMAGES,
        verified=config.model_type in VERIFIED,
    )


def _windows(name: str, text: Any) -> tuple[int | None, ...]:
    window = getattr(text, "sliding_window", None)
    kinds = getattr(text, "layer_types", None)
    if kinds is None:
        return (window,) * int(text.num_hidden_layers)
    strange = sorted(set(kinds) - {"full_attention", "sliding_attention"})
    if strange:
        _refuse(name, f"layers of kind {', '.join(strange)}")
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


def _refuse(name: str, reason: str) -> None:
    raise UnsupportedModelError(
        f"models of type {name!r} have {reason}, whose cache this tool cannot compress",
        f"Use a model of one of these families: {', '.join(sorted(VERIFIED))}.",
    )
