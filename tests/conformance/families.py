"""Tiny random models of every verified family, each with a context of text and (where it sees) two images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor

from flowmm.context import Modality, Piece, Prompt
from flowmm.hf.families import family_of
from flowmm.hf.loading import LoadedModel
from flowmm.hf.thin import spread_thin_products
from flowmm.records import ModelIdentity

IMAGE, VIDEO, VOCABULARY = 5, 6, 512

_TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
}
_QWEN_VISION: dict[str, Any] = {
    "depth": 2,
    "hidden_size": 16,
    "num_heads": 2,
    "patch_size": 4,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
_ROPE_3D = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
_TOKENS_3D = {"image_token_id": IMAGE, "video_token_id": VIDEO, "vision_start_token_id": 7, "vision_end_token_id": 8}
_PINPOINTS = [[16, 32], [32, 16], [32, 32]]
_CLIP = {**_VISION, "model_type": "clip_vision_model"}
_SIGLIP = {**_VISION, "model_type": "siglip_vision_model", "vision_use_head": False}


@dataclass(frozen=True)
class Tiny:
    """A family's tiny model, the tensors of one image for it, and how many tokens the image takes."""

    config: Any
    pixels: dict[str, Tensor]
    image_tokens: int


def _text(name: str, **extra: Any) -> Tiny:
    config_class = getattr(
        transformers, {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3", "mistral": "Mistral"}[name] + "Config"
    )
    return Tiny(config_class(**_TEXT, **extra), {}, 0)


def _grid_pixels() -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(24, 3 * 2 * 4 * 4), "image_grid_thw": torch.tensor([[1, 4, 6]])}


def _qwen2_vl() -> Tiny:
    vision = {"depth": 2, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 4}
    config = transformers.Qwen2VLConfig(
        text_config={**_TEXT, "rope_parameters": _ROPE_3D},
        vision_config={**vision, "spatial_merge_size": 2, "temporal_patch_size": 2},
        **_TOKENS_3D,
    )
    return Tiny(config, _grid_pixels(), 6)


def _qwen2_5_vl() -> Tiny:
    vision = {**_QWEN_VISION, "out_hidden_size": 32, "intermediate_size": 32, "window_size": 16}
    config = transformers.Qwen2_5_VLConfig(
        text_config={**_TEXT, "rope_parameters": _ROPE_3D},
        vision_config={**vision, "fullatt_block_indexes": [1]},
        **_TOKENS_3D,
    )
    return Tiny(config, _grid_pixels(), 6)


def _qwen3_vl() -> Tiny:
    vision = {**_QWEN_VISION, "depth": 3, "out_hidden_size": 32, "intermediate_size": 32, "num_position_embeddings": 64}
    config = transformers.Qwen3VLConfig(
        text_config={**_TEXT, "head_dim": 8, "rope_parameters": _ROPE_3D},
        vision_config={**vision, "deepstack_visual_indexes": [0, 1]},
        **_TOKENS_3D,
    )
    return Tiny(config, _grid_pixels(), 6)


def _glm4v() -> Tiny:
    config = transformers.Glm4vConfig(
        text_config={**_TEXT, "rope_parameters": _ROPE_3D},
        vision_config={**_QWEN_VISION, "out_hidden_size": 32, "intermediate_size": 32, "image_size": 32},
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        image_start_token_id=7,
        image_end_token_id=8,
        video_start_token_id=9,
        video_end_token_id=10,
    )
    return Tiny(config, _grid_pixels(), 6)


def _llava() -> Tiny:
    text = {**_TEXT, "model_type": "llama"}
    config = transformers.LlavaConfig(
        vision_config=_CLIP, text_config=text, image_token_index=IMAGE, vision_feature_layer=-1
    )
    return Tiny(config, {"pixel_values": torch.randn(1, 3, 16, 16)}, 16)


def _llava_next() -> Tiny:
    text = {**_TEXT, "model_type": "mistral", "sliding_window": None, "head_dim": 8}
    config = transformers.LlavaNextConfig(
        vision_config=_CLIP,
        text_config=text,
        image_token_index=IMAGE,
        vision_feature_layer=-1,
        image_grid_pinpoints=_PINPOINTS,
    )
    return Tiny(config, {"pixel_values": torch.randn(1, 5, 3, 16, 16), "image_sizes": torch.tensor([[32, 32]])}, 0)


def _llava_onevision() -> Tiny:
    config = transformers.LlavaOnevisionConfig(
        vision_config=_SIGLIP,
        text_config={**_TEXT, "model_type": "qwen2"},
        image_token_index=IMAGE,
        video_token_index=VIDEO,
        vision_feature_layer=-1,
        image_grid_pinpoints=_PINPOINTS,
    )
    return Tiny(config, {"pixel_values": torch.randn(1, 5, 3, 16, 16), "image_sizes": torch.tensor([[32, 32]])}, 0)


def _internvl() -> Tiny:
    vision = {**_VISION, "image_size": [16, 16], "patch_size": [4, 4]}
    config = transformers.InternVLConfig(
        vision_config=vision, text_config={**_TEXT, "model_type": "qwen2"}, image_token_id=IMAGE, downsample_ratio=0.5
    )
    return Tiny(config, {"pixel_values": torch.randn(1, 3, 16, 16)}, 4)


def _gemma3() -> Tiny:
    text = {**_TEXT, "num_hidden_layers": 4, "head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8}
    config = transformers.Gemma3Config(
        vision_config=_SIGLIP,
        text_config={**text, "layer_types": ["sliding_attention", "full_attention"] * 2},
        image_token_index=IMAGE,
        mm_tokens_per_image=4,
        boi_token_index=7,
        eoi_token_index=8,
    )
    return Tiny(config, {"pixel_values": torch.randn(1, 3, 16, 16)}, 4)


def _idefics(config_class: Any) -> Tiny:
    config = config_class(
        vision_config=_VISION, text_config={**_TEXT, "model_type": "llama"}, image_token_id=IMAGE, scale_factor=2
    )
    mask = torch.ones(1, 2, 16, 16, dtype=torch.int64)
    return Tiny(config, {"pixel_values": torch.randn(1, 2, 3, 16, 16), "pixel_attention_mask": mask}, 8)


def _mistral3() -> Tiny:
    config = transformers.Mistral3Config(
        vision_config={**_VISION, "model_type": "pixtral", "image_size": 32, "head_dim": 8},
        text_config={**_TEXT, "model_type": "mistral", "sliding_window": None, "head_dim": 8},
        image_token_index=IMAGE,
        spatial_merge_size=2,
        vision_feature_layer=-1,
    )
    return Tiny(config, {"pixel_values": torch.randn(1, 3, 16, 24), "image_sizes": torch.tensor([[16, 24]])}, 6)


_BUILDERS = {
    "llama": lambda: _text("llama"),
    "qwen2": lambda: _text("qwen2"),
    "qwen3": lambda: _text("qwen3", head_dim=8),
    "mistral": lambda: _text("mistral", head_dim=8, sliding_window=None),
    "qwen2_vl": _qwen2_vl,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "glm4v": _glm4v,
    "llava": _llava,
    "llava_next": _llava_next,
    "llava_onevision": _llava_onevision,
    "internvl": _internvl,
    "gemma3": _gemma3,
    "idefics3": lambda: _idefics(transformers.Idefics3Config),
    "smolvlm": lambda: _idefics(transformers.SmolVLMConfig),
    "mistral3": _mistral3,
}
FAMILIES = tuple(_BUILDERS)


def build(family: str) -> tuple[LoadedModel, Tiny]:
    """The same weights and pixels on every call, in every process."""
    torch.manual_seed(0)
    tiny = _BUILDERS[family]()
    sees = bool(tiny.pixels)
    auto = transformers.AutoModelForImageTextToText if sees else transformers.AutoModelForCausalLM
    model = auto.from_config(tiny.config, attn_implementation="sdpa").eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(3)
    for name, weight in model.named_parameters():
        if weight.ndim >= 2:  # the default initialisation is so small that every answer would be the same
            spread = 1.0 if "embed_tokens" in name else 0.6 / weight.shape[-1] ** 0.5
            weight.copy_(torch.randn(weight.shape, generator=generator) * spread)
    if sees and not tiny.image_tokens:
        features = model.model.get_image_features(**tiny.pixels).pooler_output
        tiny = Tiny(tiny.config, tiny.pixels, sum(feature.shape[0] for feature in features))
    identity = ModelIdentity(family, None, True, family, "w", "c", "t", "t", None, "float32")
    spread_thin_products(model)
    return LoadedModel(model, None, None, "", family_of(tiny.config), identity), tiny


def images(tiny: Tiny) -> list[dict[str, Tensor]]:
    """The processor's tensors of two different images; none for a text-only family."""
    if not tiny.pixels:
        return []
    generator = torch.Generator().manual_seed(5)
    other = torch.randn(tiny.pixels["pixel_values"].shape, generator=generator)
    return [tiny.pixels, {**tiny.pixels, "pixel_values": other}]


def context(tiny: Tiny) -> Prompt:
    """Four template tokens, then text and images in turn, then one token of the template."""
    pieces = [_piece(_ids(4, 1), Modality.TEMPLATE), _piece(_ids(7, 2), Modality.TEXT)]
    for number, pixels in enumerate(images(tiny)):
        ids = torch.tensor([7, *[IMAGE] * tiny.image_tokens, 8])
        modality = torch.where(ids == IMAGE, int(Modality.VISUAL), int(Modality.TEXT)).to(torch.uint8)
        pieces += [Piece(ids, modality, pixels), _piece(_ids(3 + number, 6 + number), Modality.TEXT)]
    return Prompt((*pieces, _piece(_ids(12, 3), Modality.TEXT), _piece(_ids(1, 4), Modality.TEMPLATE)), ())


def question(length: int, seed: int = 9) -> list[int]:
    """Token ids of a question."""
    return _ids(length, seed).tolist()


def transformers_inputs(loaded: LoadedModel, tiny: Tiny, prompt: Prompt, more: list[int]) -> dict[str, Tensor]:
    """What transformers' own forward pass takes for the context followed by more tokens."""
    ids = torch.cat([prompt.token_ids, torch.tensor(more, dtype=torch.int64)])[None]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    images_axis = 1 if loaded.family.name in ("idefics3", "smolvlm") else 0
    for name in tiny.pixels:
        inputs[name] = torch.cat([pixels[name] for pixels in images(tiny)], images_axis)
    kind = {"gemma3": "token_type_ids"}.get(loaded.family.name, "mm_token_type_ids")
    if "image_grid_thw" in tiny.pixels or loaded.family.name == "gemma3":
        inputs[kind] = (ids == IMAGE).to(torch.int64)
    return inputs


def _ids(length: int, seed: int) -> Tensor:
    return torch.randint(11, 60, (length,), generator=torch.Generator().manual_seed(seed))


def _piece(ids: Tensor, modality: Modality) -> Piece:
    return Piece(ids, torch.full(ids.shape, int(modality), dtype=torch.uint8))
