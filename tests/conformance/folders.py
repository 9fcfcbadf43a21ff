"""Model folders as users bring them: tiny weights, and tokenizer, processor and template of each family's kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tests.conformance.families import VOCABULARY, build

_SIZES: dict[str, Any] = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
_QWEN_SIZES = {**_SIZES, "patch_size": 4, "merge_size": 2, "temporal_patch_size": 2}
_QWEN_SIZES["size"] = {"shortest_edge": 64, "longest_edge": 1024}
_SQUARE = {**_SIZES, "size": {"height": 16, "width": 16}}
_TILES = {**_SIZES, "size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
_PINPOINTS = [[16, 32], [32, 16], [32, 32]]
_IDEFICS = {**_SIZES, "size": {"longest_edge": 32}, "max_image_size": {"longest_edge": 16}}

_LOOP = "{% for c in m['content'] %}{% if c['type'] == 'image' %}IMAGE{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
_TRIMMED = _LOOP.replace("c['text']", "c['text'] | trim")
_IMAGES_FIRST = (
    "{% for c in m['content'] if c['type'] == 'image' %}IMAGE{% endfor %}"
    "{% for c in m['content'] if c['type'] == 'text' %}{{ c['text'] }} {% endfor %}"
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n" + _LOOP + "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_LLAVA = (
    "{% for m in messages %}{{ m['role'] | upper }}: " + _IMAGES_FIRST + "{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
_GEMMA = (
    "<s>{% for m in messages %}<|im_start|>{{ m['role'] }}\n" + _TRIMMED + "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
)
_IDEFICS_TEMPLATE = (
    "<|im_start|>{% for m in messages %}{{ m['role'] | capitalize }}"
    "{% if m['content'][0]['type'] == 'image' %}:{% else %}: {% endif %}" + _LOOP + "<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
_STRING = (
    "<s>{% for m in messages %}<|im_start|>{{ m['role'] }}\n\n{{ m['content'] | trim }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n\n{% endif %}"
)
_QWEN_TOKENS = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
_GLM_TOKENS = ("<|image|>", "<|video|>", "<|begin_of_image|>", "<|end_of_image|>")
_PLAIN_TOKENS = ("<image>", "<video>", "<fake_token_around_image>", "<global-img>")

# family: (special tokens 5 to 8, names of them that the processor asks for, template, image in it,
#          image processor class and settings, processor class and settings)
_KINDS: dict[str, tuple[Any, ...]] = {
    **{
        name: (
            _QWEN_TOKENS,
            {},
            CHATML,
            "<|vision_start|><|image_pad|><|vision_end|>",
            ("Qwen2VLImageProcessorPil", _QWEN_SIZES),
            (processor, {}),
        )
        for name, processor in (
            ("qwen2_vl", "Qwen2VLProcessor"),
            ("qwen2_5_vl", "Qwen2_5_VLProcessor"),
            ("qwen3_vl", "Qwen3VLProcessor"),
        )
    },
    "glm4v": (
        _GLM_TOKENS,
        {},
        CHATML,
        "<|begin_of_image|><|image|><|end_of_image|>",
        ("Glm4vImageProcessorPil", _QWEN_SIZES),
        ("Glm4vProcessor", {}),
    ),
    "llava": (
        _PLAIN_TOKENS,
        {},
        _LLAVA,
        "<image>\n",
        ("CLIPImageProcessorPil", _TILES),
        (
            "LlavaProcessor",
            {"patch_size": 4, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1},
        ),
    ),
    "llava_next": (
        _PLAIN_TOKENS,
        {},
        _LLAVA,
        "<image>\n",
        ("LlavaNextImageProcessorPil", {**_TILES, "image_grid_pinpoints": _PINPOINTS}),
        (
            "LlavaNextProcessor",
            {"patch_size": 4, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1},
        ),
    ),
    "llava_onevision": (
        _PLAIN_TOKENS,
        {},
        CHATML,
        "<image>",
        ("LlavaOnevisionImageProcessorPil", {**_SQUARE, "image_grid_pinpoints": _PINPOINTS}),
        (
            "LlavaOnevisionProcessor",
            {"num_image_tokens": 16, "vision_feature_select_strategy": "full", "vision_aspect_ratio": "anyres_max_9"},
        ),
    ),
    "internvl": (
        ("<IMG_CONTEXT>", "<video>", "<img>", "</img>"),
        {"context_image_token": 5, "video_token": 6, "start_image_token": 7, "end_image_token": 8},
        CHATML,
        "<IMG_CONTEXT>\n",
        ("GotOcr2ImageProcessorPil", {**_SQUARE, "crop_to_patches": True, "max_patches": 3}),
        ("InternVLProcessor", {"image_seq_length": 4}),
    ),
    "gemma3": (
        ("<image_soft_token>", "<unused>", "<start_of_image>", "<end_of_image>"),
        {"image_token": 5, "boi_token": 7, "eoi_token": 8},
        _GEMMA,
        "<start_of_image>",
        ("Gemma3ImageProcessorPil", _SQUARE),
        ("Gemma3Processor", {"image_seq_length": 4}),
    ),
    "idefics3": (
        _PLAIN_TOKENS,
        {},
        _IDEFICS_TEMPLATE,
        "<image>",
        ("Idefics3ImageProcessorPil", _IDEFICS),
        ("Idefics3Processor", {"image_seq_len": 4}),
    ),
    "smolvlm": (
        _PLAIN_TOKENS,
        {},
        _IDEFICS_TEMPLATE,
        "<image>",
        ("SmolVLMImageProcessorPil", _IDEFICS),
        ("SmolVLMProcessor", {"image_seq_len": 4}),
    ),
}
TEXT_ONLY = ("llama", "qwen2", "qwen3", "mistral")
FOLDERS = (*TEXT_ONLY, *_KINDS)  # mistral3's processor needs torchvision, which a CPU build of torch cannot have

_SAMPLE = [
    "The quarterly report lists invoices by number, customer and total.\n\nInvoice 3921 amounts to 480.20 euros.",
    "What is the total of the invoice?\nUSER: ASSISTANT: user assistant model system",
]


def make_folder(family: str, folder: Path) -> Path:
    """Write a model of ``family`` into ``folder``, with everything a hub repository would hold."""
    tokens, names, template, image, image_processor, processor = _KINDS.get(
        family, (_PLAIN_TOKENS, {}, _STRING, "", None, None)
    )
    loaded, _ = build(family)
    loaded.model.generation_config.eos_token_id = 2
    loaded.model.save_pretrained(folder)
    specials = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", *tokens, "<end_of_utterance>"]
    sentencepiece = family in ("mistral", "llava", "llava_next")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_tokenizer(specials, sentencepiece),
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        clean_up_tokenization_spaces=False,
        extra_special_tokens={name: specials[number] for name, number in names.items()},
    )
    tokenizer.chat_template = template.replace("IMAGE", image)
    tokenizer.save_pretrained(folder)
    if image_processor is not None:
        name, settings = image_processor
        getattr(transformers, name)(**settings).save_pretrained(folder)
        name, settings = processor
        (folder / "processor_config.json").write_text(json.dumps({"processor_class": name, **settings}))
    return folder


def _tokenizer(specials: list[str], sentencepiece: bool) -> Tokenizer:
    """Byte-level BPE that splits as Qwen and Llama 3 do, or BPE that writes blanks as U+2581 as Llama 2 does."""
    if sentencepiece:
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token=None))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        alphabet = sorted(set("".join(_SAMPLE) + "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"))
        vocabulary = [*specials, *(f"<0x{byte:02X}>" for byte in range(256))]
        trainer = trainers.BpeTrainer(
            vocab_size=VOCABULARY, special_tokens=vocabulary, initial_alphabet=alphabet, show_progress=False
        )
        tokenizer.train_from_iterator(_SAMPLE, trainer)
        tokenizer.add_special_tokens(specials)
        return tokenizer
    tokenizer = Tokenizer(models.BPE())
    words = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    split = pre_tokenizers.Split(Regex(words), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_SAMPLE, trainer)
    return tokenizer
