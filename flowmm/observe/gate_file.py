"""Gates to files and back: safetensors that say which model's weights they are for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import NoReturn

import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from flowmm.atomic import check_target, replacing
from flowmm.container import read_container
from flowmm.errors import CorruptFileError, InputError, MismatchError
from flowmm.hf.loading import LoadedModel
from flowmm.observe.gate import Gate, LayerGate
from flowmm.profiles import Method, ModelProfile
from flowmm.records import ModelIdentity
from flowmm.typed_json import MalformedError

FORMAT = "flowmm-gate-1"
_HINT = "Train it again on documents: flowmm calibrate DOCUMENTS --gate -o my.yaml."


def gate_of(profile: ModelProfile, loaded: LoadedModel, method: Method | None) -> Gate | None:
    """The gate that a profile names, if the method looks through one; without a method a gate is always welcome.

    Raises:
        InputError, CorruptFileError, MismatchError: see :func:`load_gate`.
    """
    if profile.gate_file is None or (method is not None and not method.observe.gate):
        return None
    return load_gate(profile.gate_file, loaded.identity)


def save_gate(gate: Gate, path: str | os.PathLike[str], model: str, *, force: bool = False) -> None:
    """Write a gate, whole or not at all; 16 bits a number.

    Args:
        gate: what to write.
        path: the name.
        model: what the gate is for, for messages; which weights, the gate says.
        force: replace a file of that name.

    Raises:
        UsageError, InputError, ResourceError: see :mod:`flowmm.atomic`.
    """
    check_target(path, force=force)
    tensors = {
        f"layers.{index}.{field.name}": getattr(layer, field.name).bfloat16().contiguous()
        for index, layer in enumerate(gate.layers)
        for field in fields(layer)
    }
    content = to_bytes(tensors, {"format": FORMAT, "model": model, "weights": gate.weights})
    with replacing(path, len(content)) as file:
        file.write(content)


def load_gate(path: str | os.PathLike[str], model: ModelIdentity) -> Gate:
    """Read a gate.

    Raises:
        InputError: there is no such file.
        CorruptFileError: it is damaged, or no gate.
        MismatchError: it was trained for other weights than the model's.
    """
    name = os.fspath(path)
    if not Path(path).is_file():
        raise InputError(f"{name}: there is no such file, but the profile names it as the model's gate", _HINT)
    try:
        metadata = read_container(path).metadata
    except MalformedError as error:
        _corrupt(name, str(error))
    if metadata.get("format") != FORMAT:
        _corrupt(name, f"expected format {FORMAT}, found {metadata.get('format')}")
    found = metadata.get("weights", "")
    if found != model.weights:
        raise MismatchError(
            name, f"weights of {metadata.get('model')}", found[:16], f"{model.weights[:16]} in {model.id}", _HINT
        )
    tensors = load_file(name)
    count = len(tensors) // len(fields(LayerGate))
    gate = Gate(tuple(_layer(name, tensors, index) for index in range(count)), found)
    if not count or len(tensors) != count * len(fields(LayerGate)):
        _corrupt(name, f"{len(tensors)} tensors are no whole number of layers")
    return gate


def _layer(path: str, tensors: Mapping[str, Tensor], index: int) -> LayerGate:
    names = {field.name: f"layers.{index}.{field.name}" for field in fields(LayerGate)}
    missing = [name for name in names.values() if name not in tensors]
    if missing:
        _corrupt(path, f"tensor {missing[0]} is missing")
    layer = LayerGate(**{field: tensors[name].float() for field, name in names.items()})
    (heads, rank, hidden), (num_kv, _, _) = (
        _sizes(path, layer.query, names["query"]),
        _sizes(path, layer.key, names["key"]),
    )
    expected = {
        "query_bias": (heads, rank),
        "query_norm": (rank,),
        "key": (num_kv, rank, hidden),
        "key_norm": (rank,),
        "sinks": (num_kv, *layer.sinks.shape[1:2], rank),
        "bias": (heads,),
    }
    for field, shape in expected.items():
        found = tuple(getattr(layer, field).shape)
        if found != shape:
            _corrupt(path, f"tensor {names[field]} has shape {list(found)}, expected {list(shape)}")
    if not all(bool(torch.isfinite(getattr(layer, field)).all()) for field in names):
        _corrupt(path, f"a tensor of layer {index} is not finite")
    return layer


def _sizes(path: str, tensor: Tensor, name: str) -> tuple[int, int, int]:
    if tensor.ndim != 3:
        _corrupt(path, f"tensor {name} has shape {list(tensor.shape)}, expected three axes")
    first, second, third = tensor.shape
    return first, second, third


def _corrupt(path: str, reason: str) -> NoReturn:
    raise CorruptFileError(f"{path}: is no gate, or a damaged one: {reason}", _HINT)
