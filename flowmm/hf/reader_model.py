"""The reader's architecture and its export as a Hugging Face folder: all of the reader that needs transformers."""

import json
import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from transformers import (
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)
from transformers.models.qwen2_vl import modeling_qwen2_vl
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from flowmm.reader import tokens
from flowmm.reader.vocabulary import SPECIALS

_CELL_PIXELS = 28 * 28
_MOST_CELLS = 256  # per image, as in training; the image processor shrinks what is larger


@dataclass(frozen=True)
class Architecture:
    """Sizes of the reader. A checkpoint is only loadable into the sizes that it was trained with."""

    hidden: int = 256
    layers: int = 5
    heads: int = 4
    shared_heads: int = 2
    inner: int = 512
    vision_width: int = 128
    vision_depth: int = 6
    vision_heads: int = 4
    vision_ratio: int = 4  # inner width of the tower's perceptrons over its width
    rope_theta: float = 10_000.0
    # Width gets the many slow frequencies, so that a cell finds its neighbours in the row.
    rope_sections: tuple[int, int, int] = field(default=(2, 2, 28))


def architecture_of(model: Qwen2VLForConditionalGeneration) -> Architecture:
    """The sizes of a reader; earlier ones had a smaller vision tower."""
    vision = model.config.vision_config
    return Architecture(vision_depth=vision.depth, vision_ratio=vision.mlp_ratio)


def build(size: Architecture, seed: int) -> Qwen2VLForConditionalGeneration:
    """A freshly initialised reader in float32."""
    torch.manual_seed(seed)
    rope = {
        "rope_type": "default",
        "rope_theta": size.rope_theta,
        "mrope_section": list(size.rope_sections),
    }
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": tokens.tokenizer().get_vocab_size(),
            "hidden_size": size.hidden,
            "intermediate_size": size.inner,
            "num_hidden_layers": size.layers,
            "num_attention_heads": size.heads,
            "num_key_value_heads": size.shared_heads,
            "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-6,
            "rope_parameters": rope,
            "bos_token_id": None,
            "eos_token_id": tokens.END,
            "pad_token_id": tokens.END,
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": size.vision_depth,
            "embed_dim": size.vision_width,
            "hidden_size": size.hidden,
            "num_heads": size.vision_heads,
            "mlp_ratio": size.vision_ratio,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "in_channels": 3,
        },
        image_token_id=tokens.IMAGE_PAD,
        video_token_id=tokens.VIDEO_PAD,
        vision_start_token_id=tokens.VISION_START,
        vision_end_token_id=tokens.VISION_END,
        tie_word_embeddings=True,
    )
    model = Qwen2VLForConditionalGeneration(config).float()
    _initialise(model, size)
    return model


@torch.no_grad()
def _initialise(model: Qwen2VLForConditionalGeneration, size: Architecture) -> None:
    """Normal weights of variance 1 / fan-in; outputs into the residual stream are scaled down by its depth."""
    residual = ("o_proj", "down_proj", "attn.proj", "fc2")
    for name, parameter in model.named_parameters():
        if "embed_tokens" in name or "lm_head" in name:
            parameter.normal_(0, 0.05)
        elif parameter.ndim >= 2:
            scale = 1 / math.sqrt(parameter[0].numel())
            if any(part in name for part in residual):
                depth = size.layers if "language_model" in name else size.vision_depth
                scale /= math.sqrt(2 * depth)
            parameter.normal_(0, scale)
        elif name.endswith("bias"):
            parameter.zero_()


@cache
def _vision_positions(rows: int, columns: int) -> Tensor:
    grid = torch.tensor([[1, rows * 2, columns * 2]])
    positions: Tensor = modeling_qwen2_vl.get_vision_position_ids(grid, 2)
    return positions


def vision_rotation(model: Qwen2VLForConditionalGeneration, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine ``[1, patches, 1, D / 2]`` of the vision tower for an image of so many cells."""
    tower = model.model.visual
    device = tower.patch_embed.proj.weight.device
    positions = _vision_positions(rows, columns).to(device)
    cos, sin = tower.rotary_pos_emb(torch.zeros(1, device=device), positions)
    half = cos.shape[-1] // 2
    return cos[None, :, None, :half], sin[None, :, None, :half]


def export(model: Qwen2VLForConditionalGeneration, folder: Path) -> None:
    """Write the reader to ``folder`` in bfloat16, file by file atomically: others may be reading it."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        fresh = Path(name)
        model.config.dtype = torch.bfloat16
        state = {key: value.detach().to("cpu", torch.bfloat16) for key, value in model.state_dict().items()}
        del state["lm_head.weight"]  # tied to the embeddings
        model.save_pretrained(fresh, state_dict=state)
        _save_tokenizer(fresh)
        _save_processor(fresh)
        for file in sorted(fresh.iterdir()):
            file.chmod(0o644)  # the temporary folder is private
            os.replace(file, folder / file.name)


def _save_tokenizer(folder: Path) -> None:
    end = SPECIALS[tokens.END]
    named = {
        "image_token": SPECIALS[tokens.IMAGE_PAD],
        "video_token": SPECIALS[tokens.VIDEO_PAD],
        "vision_bos_token": SPECIALS[tokens.VISION_START],
        "vision_eos_token": SPECIALS[tokens.VISION_END],
    }
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokens.tokenizer(),
        eos_token=end,
        pad_token=end,
        model_max_length=8192,
        extra_special_tokens=named,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = tokens.TEMPLATE
    tokenizer.save_pretrained(folder)


def _save_processor(folder: Path) -> None:
    processor = Qwen2VLImageProcessorPil(
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        patch_size=14,
        temporal_patch_size=2,
        merge_size=2,
        size={"shortest_edge": 4 * _CELL_PIXELS, "longest_edge": _MOST_CELLS * _CELL_PIXELS},
    )
    processor.save_pretrained(folder)
    # AutoProcessor needs the class by name; saving a Qwen2VLProcessor itself would need torchvision.
    declared = json.dumps({"processor_class": "Qwen2VLProcessor"}, indent=2)
    (folder / "processor_config.json").write_text(declared + "\n")


class Loaded:
    """An exported reader, loaded as any Hugging Face model is, that answers by plain greedy decoding.

    The reference for the evaluation: no part of flowmm's own engine takes part.
    """

    def __init__(self, folder: Path) -> None:
        self.model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.processor = AutoImageProcessor.from_pretrained(folder, backend="pil")

    def answer(self, parts: Sequence[str | Image.Image], question: str, longest: int = 12) -> str:
        """The answer to a question about texts and images, in at most ``longest`` tokens."""
        content: list[dict[str, str]] = []
        for part in parts:
            text = None if isinstance(part, Image.Image) else part.strip() + "\n"
            content.append({"type": "image"} if text is None else {"type": "text", "text": text})
        messages = [{"role": "user", "content": [*content, {"type": "text", "text": "\n" + question}]}]
        prompt = self.tokenizer.apply_chat_template(messages, tokenize=False)
        images = [part for part in parts if isinstance(part, Image.Image)]
        inputs = dict(self.processor(images, return_tensors="pt")) if images else {}
        pad = SPECIALS[tokens.IMAGE_PAD]
        pieces = prompt.split(pad)
        for place, grid in enumerate(inputs.get("image_grid_thw", ())):
            pieces[place] += pad * (int(grid.prod()) // 4)
        ids = self.tokenizer("".join(pieces), return_tensors="pt")["input_ids"]
        kinds = (ids == tokens.IMAGE_PAD).int()
        output = self.model.generate(
            input_ids=ids, mm_token_type_ids=kinds, **inputs, max_new_tokens=longest, do_sample=False
        )
        answer: str = self.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)
        return answer.strip()
