"""A process that decodes with llama.cpp: started by compare.py with the Python that llama_cpp.sh prints."""

from __future__ import annotations

import ctypes
import json
import logging
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from random import Random
from time import perf_counter

Shape = Mapping[str, int]
_CHUNK = 512  # tokens read at once


def tensor_sizes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """The tensors of a Qwen2 of a shape, by llama.cpp's names. The head is the table of embeddings."""
    hidden, inner = shape["hidden_size"], shape["intermediate_size"]
    shared = hidden // shape["num_attention_heads"] * shape["num_key_value_heads"]
    layer: dict[str, tuple[int, ...]] = {
        "attn_norm.weight": (hidden,),
        "attn_q.weight": (hidden, hidden),
        "attn_q.bias": (hidden,),
        "attn_k.weight": (shared, hidden),
        "attn_k.bias": (shared,),
        "attn_v.weight": (shared, hidden),
        "attn_v.bias": (shared,),
        "attn_output.weight": (hidden, hidden),
        "ffn_norm.weight": (hidden,),
        "ffn_gate.weight": (inner, hidden),
        "ffn_up.weight": (inner, hidden),
        "ffn_down.weight": (hidden, inner),
    }
    layers = range(shape["num_hidden_layers"])
    sizes: dict[str, tuple[int, ...]] = {"token_embd.weight": (shape["vocab_size"], hidden)}
    sizes |= {f"blk.{number}.{name}": size for number in layers for name, size in layer.items()}
    return sizes | {"output_norm.weight": (hidden,)}


def write_model(path: Path, shape: Shape, weights: str) -> None:
    """A GGUF file with random weights of a type (``F32``, ``BF16``, ...); vectors are float32, as llama.cpp asks."""
    import numpy
    from gguf import GGMLQuantizationType, GGUFWriter, quantize

    writer = GGUFWriter(path, "qwen2")
    writer.add_vocab_size(shape["vocab_size"])
    writer.add_context_length(131_072)
    writer.add_embedding_length(shape["hidden_size"])
    writer.add_block_count(shape["num_hidden_layers"])
    writer.add_feed_forward_length(shape["intermediate_size"])
    writer.add_head_count(shape["num_attention_heads"])
    writer.add_head_count_kv(shape["num_key_value_heads"])
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tokenizer_model("none")  # tokens are numbers here
    drawn, wanted = numpy.random.default_rng(0), GGMLQuantizationType[weights]
    for name, size in tensor_sizes(shape).items():
        if len(size) == 1:
            writer.add_tensor(name, numpy.full(size, "norm" in name, numpy.float32))
            continue
        values = 0.02 * drawn.standard_normal(size, numpy.float32)
        writer.add_tensor(name, quantize(values, wanted), raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Arm:
    """A model and one cache, filled to a length."""

    def __init__(self, path: Path, setup: Mapping[str, int | str]) -> None:
        import llama_cpp

        logging.getLogger("llama-cpp-python").setLevel(logging.ERROR)
        self._llama = llama_cpp
        self._vocabulary, self._length = int(setup["vocab_size"]), int(setup["length"])
        self._new_tokens, threads = int(setup["new_tokens"]), int(setup["threads"])
        llama_cpp.llama_backend_init()
        model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx = self._length + self._new_tokens
        settings.n_batch = settings.n_ubatch = _CHUNK
        settings.n_threads = threads
        settings.n_threads_batch = 1  # reading is not timed, and several wait for each other where others run
        settings.type_k = settings.type_v = getattr(llama_cpp, f"GGML_TYPE_{setup['cache']}")
        self._context = llama_cpp.llama_init_from_model(model, settings)
        if not self._context:
            raise RuntimeError("llama.cpp made no context: what it printed says why")
        self._sampler = llama_cpp.llama_sampler_init_greedy()
        drawn = Random(0)
        for start in range(0, self._length, _CHUNK):
            count = min(_CHUNK, self._length - start)
            self._feed([drawn.randrange(self._vocabulary) for _ in range(count)])

    def seconds_per_step(self) -> float:
        """Of an answer behind the filled cache, which is as before afterwards; the first token is not timed."""
        llama, token = self._llama, 0
        for number in range(self._new_tokens):
            if number == 1:
                began = perf_counter()
            self._feed([token])
            token = llama.llama_sampler_sample(self._sampler, self._context, -1)
        seconds = perf_counter() - began
        llama.llama_memory_seq_rm(llama.llama_get_memory(self._context), -1, self._length, -1)
        return seconds / (self._new_tokens - 1)

    def _feed(self, tokens: list[int]) -> None:
        given = (ctypes.c_int32 * len(tokens))(*tokens)
        status = self._llama.llama_decode(self._context, self._llama.llama_batch_get_one(given, len(tokens)))
        if status != 0:
            raise RuntimeError(f"llama_decode gave {status}")


def main() -> None:
    """Make what the first line of stdin describes; then time one answer for each further line."""
    setup = json.loads(sys.stdin.readline())
    path = Path(setup["folder"]) / f"{setup['weights']}.gguf"
    if not path.exists():
        write_model(path, setup["shape"], setup["weights"])
    arm = Arm(path, {**setup, "vocab_size": setup["shape"]["vocab_size"]})
    print(json.dumps({"version": version("llama-cpp-python")}), flush=True)
    for _ in sys.stdin:
        print(json.dumps({"step": arm.seconds_per_step()}), flush=True)


if __name__ == "__main__":
    main()
