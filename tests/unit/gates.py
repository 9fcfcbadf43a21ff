"""Gates that nobody trained, for whatever model."""

from pathlib import Path

import torch

from flowmm.hf.layers import num_query_heads
from flowmm.hf.loading import LoadedModel
from flowmm.observe.gate import Gate
from flowmm.observe.gate_file import save_gate
from flowmm.observe.gate_training import drawn


def random_gate(loaded: LoadedModel, seed: int = 0) -> Gate:
    """A gate that fits a model and knows nothing of it."""
    config = loaded.model.get_decoder().config
    heads, num_kv = num_query_heads(loaded.model), config.num_key_value_heads
    generator = torch.Generator().manual_seed(seed)
    layers = tuple(drawn(heads, num_kv, config.hidden_size, generator) for _ in range(config.num_hidden_layers))
    return Gate(layers, loaded.identity.weights)


def profile_with_gate(folder: Path, loaded: LoadedModel) -> Path:
    """A profile in ``folder`` that is the default with a random gate; for -p and ``CompressOptions(profile=)``."""
    save_gate(random_gate(loaded), folder / "random-gate.safetensors", loaded.identity.id, force=True)
    path = folder / "random.yaml"
    path.write_text("extends: default\ngate: random-gate.safetensors\n", encoding="utf-8")
    return path
