"""A process that compresses with kvpress and decodes: started by compare.py with the Python that kvpress.sh prints."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib.metadata import version
from time import perf_counter
from typing import Any

import torch
from kvpress import SnapKVPress
from transformers import DynamicCache, Qwen2Config, Qwen2ForCausalLM


class Arm:
    """A random-weight Qwen2 and what kvpress kept of a made-up context, as kvpress' own pipeline reads and answers."""

    def __init__(self, setup: Mapping[str, Any]) -> None:
        torch.set_num_threads(setup["threads"])
        torch.manual_seed(0)
        config = Qwen2Config(**setup["shape"], max_position_embeddings=131_072, tie_word_embeddings=True)
        config._attn_implementation = "sdpa"
        self._model = Qwen2ForCausalLM(config).eval().requires_grad_(False)
        self._context, self._question = setup["context"], setup["question"]
        self._new_tokens = setup["new_tokens"]
        self._cache = DynamicCache()
        self.compress_seconds = 0.0
        press = SnapKVPress(compression_ratio=1 - setup["keep"], window_size=32)  # the window of our preset
        inner = press.compress

        def timed(*given: Any) -> Any:
            began = perf_counter()
            kept = inner(*given)
            self.compress_seconds += perf_counter() - began
            return kept

        press.compress = timed
        began = perf_counter()
        with press(self._model), torch.no_grad():
            ids = torch.randint(config.vocab_size, (1, self._context))
            self._model.model(input_ids=ids, past_key_values=self._cache)
        self.prefill_seconds = perf_counter() - began  # with the compression
        self.slots = self._cache.get_seq_length()

    @torch.no_grad()
    def seconds_per_step(self) -> float:
        """Of an answer behind a question; the cache is as before afterwards, and the first token is not timed."""
        token = self._feed(torch.arange(self._question)[None], self._context)
        began = perf_counter()
        for place in range(self._new_tokens - 1):
            token = self._feed(token, self._context + self._question + place)
            token.tolist()
        seconds = perf_counter() - began
        self._cache.crop(self.slots)
        return seconds / (self._new_tokens - 1)

    def _feed(self, ids: torch.Tensor, position: int) -> torch.Tensor:
        places = torch.arange(position, position + ids.shape[1])[None]
        output = self._model(input_ids=ids, past_key_values=self._cache, position_ids=places, logits_to_keep=1)
        return output.logits[:, -1:].argmax(-1)


def main() -> None:
    """Make what the first line of stdin describes; then time one answer for each further line."""
    arm = Arm(json.loads(sys.stdin.readline()))
    made = {"version": version("kvpress"), "slots": arm.slots}
    made |= {"prefill_seconds": arm.prefill_seconds, "compress_seconds": arm.compress_seconds}
    print(json.dumps(made), flush=True)
    for _ in sys.stdin:
        print(json.dumps({"step": arm.seconds_per_step()}), flush=True)


if __name__ == "__main__":
    main()
