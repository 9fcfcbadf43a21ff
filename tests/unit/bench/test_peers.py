"""What the peers of bench/peers/ are given is what flowmm has; nothing of theirs is needed to see that."""

import importlib.util
from math import prod
from pathlib import Path

import pytest

from flowmm.hf.shapes import SHAPES, load_shape

SCRIPT = Path(__file__).parents[3] / "bench" / "peers" / "llama_cpp_arm.py"


@pytest.fixture(scope="module")
def arm():
    spec = importlib.util.spec_from_file_location("llama_cpp_arm", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_llama_cpp_gets_as_many_parameters_as_our_text_decoder_has(arm):
    name = "qwen2_5_vl-tiny"
    decoder = load_shape(name, device="cpu").model.get_decoder()
    ours = sum(parameter.numel() for parameter in decoder.parameters())
    assert sum(prod(size) for size in arm.tensor_sizes(SHAPES[name]).values()) == ours


def test_keys_and_values_have_the_heads_of_the_shape(arm):
    sizes = arm.tensor_sizes(SHAPES["qwen2_45m"])
    assert sizes["blk.11.attn_k.weight"] == sizes["blk.0.attn_v.weight"] == (128, 512)  # 2 heads of 64
    assert "blk.12.attn_k.weight" not in sizes
