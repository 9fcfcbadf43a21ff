"""Whether answers by CUDA graphs are those of plain steps, on a tiny model: run by bench/gpu.sh."""

from dataclasses import replace

import torch

from flowmm.answer import answer_all
from flowmm.bench.filler import filler
from flowmm.contexts import full_cache, read_prompt
from flowmm.hf.decoding import placed
from flowmm.hf.shapes import load_shape
from flowmm.profiles import load_method
from flowmm.records import Generation

if torch.cuda.is_available():
    loaded = load_shape("qwen2_5_vl-tiny", device="cuda", dtype="fp32")
    prompt = read_prompt(filler(loaded, 300, images=False), loaded)
    cache = placed(full_cache(prompt, loaded, load_method("snapkv")), loaded)
    questions = [letter * length for letter, length in zip("abcdefg", (3, 1, 9, 4, 2, 7, 5), strict=True)]
    plain = Generation(max_new_tokens=12, batch=3)
    found = [
        [one.token_ids for one in answer_all(cache, questions, loaded, settings, through_end=True)]
        for settings in (plain, replace(plain, graphs=True))
    ]
    print("the same tokens" if found[0] == found[1] else f"other tokens:\n{found[0]}\n{found[1]}")
else:
    print("no GPU: not checked")
