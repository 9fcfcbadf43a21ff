"""The model that reads documents: which one the options name, and that one in memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from flowmm.hf.hub import READER
from flowmm.records import ModelOptions

if TYPE_CHECKING:
    from flowmm.hf.loading import LoadedModel


def load_chosen_model(model: ModelOptions) -> LoadedModel:
    """The model that the options name, in memory."""
    from flowmm.hf.loading import load_model

    return load_model(
        chosen_model(model),
        revision=model.revision,
        device=model.device,
        dtype=model.dtype,
        device_map=model.device_map,
        offline=model.offline,
        trust_remote_code=model.trust_remote_code,
    )


def chosen_model(model: ModelOptions) -> str:
    """What to read documents with: the flag, else FLOWMM_MODEL, else the embedded reader."""
    return model.name or os.environ.get("FLOWMM_MODEL") or READER


def called(model: str) -> str:
    """A model's name as documents should have it: of a folder the last part."""
    return Path(model).name if model != READER and Path(model).is_dir() else model
