"""Keeps what only the training needs beside exported weights: it can go on from them when its checkpoint is gone."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from flowmm.hf.reader_model import Loaded
from flowmm.reader.curriculum import Progress
from flowmm.reader.network import Trainee

_MODEL = "model."  # what is exported with the weights
_PROGRESS = "progress"


def path_of(weights: Path) -> Path:
    """Beside the folder, which holds what transformers reads and nothing else."""
    return weights.with_name(f"{weights.name}.heads.safetensors")


def keep(net: Trainee, progress: Progress, path: Path) -> None:
    """Write the heads of ``net`` in bfloat16, and the levels reached; atomically."""
    state = {name: value.detach().to("cpu", torch.bfloat16) for name, value in net.state_dict().items()}
    fresh = path.with_suffix(".new")
    kept = {name: value for name, value in state.items() if not name.startswith(_MODEL)}
    save_file(kept, fresh, {_PROGRESS: json.dumps(asdict(progress))})
    os.replace(fresh, path)


def restored(weights: Path) -> dict[str, Any]:
    """What a checkpoint of a whole run holds, but for optimizers and clock, from exported weights and their heads.

    Raises:
        FileNotFoundError: one of the two is not there.
    """
    model = {_MODEL + name: value.float() for name, value in Loaded(weights).model.state_dict().items()}
    path = path_of(weights)
    with safe_open(path, "pt") as file:
        progress = json.loads(file.metadata()[_PROGRESS])
    net = model | {name: value.float() for name, value in load_file(path).items()}
    return {"stage": "restored", "net": net, "progress": progress}
