"""Models of a known shape with random weights, made in memory: for measuring time and memory only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from flowmm.errors import UnknownNameError

if TYPE_CHECKING:
    from flowmm.hf.loading import LoadedModel

# Of the language model; the vision tower is small in all of them, and the tokenizer has a token for each byte.
SHAPES: Mapping[str, Mapping[str, int]] = {
    "qwen2_5_vl-0.5b": {
        "vocab_size": 151_936,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
    },
    "qwen2_45m": {  # 45 M parameters, embeddings included; as much cache a token as 12 layers of Qwen2-0.5B
        "vocab_size": 22_016,
        "hidden_size": 512,
        "intermediate_size": 1408,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
    },
    "qwen2_5_vl_7b": {
        "vocab_size": 152_064,
        "hidden_size": 3584,
        "intermediate_size": 18_944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
    },
    "qwen2_5_vl-tiny": {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
}

_SPECIALS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
)
_TOWER = {"depth": 4, "hidden_size": 128, "num_heads": 4, "intermediate_size": 256, "patch_size": 14}
_TOWER |= {"spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112}
_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def check_shape(name: str) -> None:
    """Raise UnknownNameError when no shape has this name; imports nothing heavy."""
    if name not in SHAPES:
        raise UnknownNameError("shape", name, SHAPES)


def load_shape(name: str, *, device: str = "auto", dtype: str = "auto", seed: int = 0) -> LoadedModel:
    """A Qwen2.5-VL of a shape with the initial weights that transformers draws.

    Args:
        name: one of ``SHAPES``.
        device: as in :func:`flowmm.hf.loading.load_model`.
        dtype: the same; ``auto`` is float32 on a CPU, else bfloat16.
        seed: of the weights.

    Raises:
        UnknownNameError: no such shape. UsageError: no such device or dtype.
    """
    check_shape(name)
    import torch
    from transformers import AutoModelForImageTextToText

    from flowmm.hf.families import family_of
    from flowmm.hf.loading import DTYPES, LoadedModel, chosen_device, named_dtype
    from flowmm.hf.processing import load_processor, load_tokenizer
    from flowmm.hf.thin import spread_thin_products

    target = chosen_device(device)
    run_in = DTYPES["fp32" if target.type == "cpu" else "bf16"] if dtype == "auto" else named_dtype(dtype)
    config = _config(SHAPES[name])
    with TemporaryDirectory() as folder:
        _write_texts(Path(folder))
        tokenizer = load_tokenizer(Path(folder), trust_remote_code=False)
        processor = load_processor(Path(folder), config, tokenizer, trust_remote_code=False)
    with torch.random.fork_rng(devices=[]), target:  # drawn where they will be: a CPU takes minutes for billions
        torch.manual_seed(seed)
        model = AutoModelForImageTextToText.from_config(config, dtype=run_in, attn_implementation="sdpa")
    model = model.to(target).eval().requires_grad_(False)
    spread_thin_products(model)
    return LoadedModel(model, tokenizer, processor, _TEMPLATE, family_of(config), _identity(name, run_in))


def _config(shape: Mapping[str, int]) -> Any:
    from transformers import Qwen2_5_VLConfig

    head_size = shape["hidden_size"] // shape["num_attention_heads"]
    sections = [head_size // 8, 3 * head_size // 16, 3 * head_size // 16]  # as 16, 24, 24 of 128 in the real ones
    token = {special: number for number, special in enumerate(_SPECIALS)}
    return Qwen2_5_VLConfig(
        text_config={
            **shape,
            "max_position_embeddings": 131_072,
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "eos_token_id": token["<|im_end|>"],
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": sections},
        },
        vision_config={**_TOWER, "out_hidden_size": shape["hidden_size"], "fullatt_block_indexes": [3]},
        tie_word_embeddings=True,
        image_token_id=token["<|image_pad|>"],
        video_token_id=token["<|video_pad|>"],
        vision_start_token_id=token["<|vision_start|>"],
        vision_end_token_id=token["<|vision_end|>"],
    )


def _write_texts(folder: Path) -> None:
    """What stands around the weights in a hub repository."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [*_SPECIALS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={word: number for number, word in enumerate(words)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(_SPECIALS))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=_SPECIALS[0], eos_token="<|im_end|>", clean_up_tokenization_spaces=False
    )
    fast.chat_template = _TEMPLATE
    fast.save_pretrained(folder)
    sizes: dict[str, Any] = {"patch_size": _TOWER["patch_size"], "merge_size": 2, "temporal_patch_size": 2}
    sizes |= {"size": {"shortest_edge": 56 * 56, "longest_edge": 1280 * 28 * 28}}
    images = {"image_processor_type": "Qwen2VLImageProcessor", **sizes}
    (folder / "preprocessor_config.json").write_text(json.dumps(images), encoding="utf-8")
    (folder / "processor_config.json").write_text('{"processor_class": "Qwen2_5_VLProcessor"}', encoding="utf-8")


def _identity(name: str, run_in: Any) -> Any:
    from flowmm.records import ModelIdentity

    drawn = "random weights"
    return ModelIdentity(
        id=name,
        revision=None,
        local=True,
        model_type="qwen2_5_vl",
        weights=drawn,
        config=name,
        tokenizer="bytes",
        template=name,
        processor=None,
        dtype=str(run_in).removeprefix("torch."),
    )
