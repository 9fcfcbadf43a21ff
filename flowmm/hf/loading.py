"""From a model's name to a model that can read and answer, with the identity that its files must match."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from flowmm.errors import InputError, ResourceError, UnsupportedModelError, UsageError, is_out_of_memory
from flowmm.fingerprint import files_fingerprint, json_fingerprint, text_fingerprint, weights_fingerprint
from flowmm.hf.families import Family, family_of
from flowmm.hf.hub import READER, ModelFiles, locate
from flowmm.hf.processing import chat_template, load_processor, load_tokenizer, processor_settings
from flowmm.hf.thin import spread_thin_products
from flowmm.records import ModelIdentity

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_SMALL = 2 << 30  # bytes of weights up to which a CPU runs in float32: exact, and many CPUs are slow in 16 bits
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json")
_VOLATILE = ("transformers_version", "_name_or_path", "dtype", "torch_dtype")  # of a config; not what the model is


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory. ``processor`` is None for a text-only model."""

    model: Any
    tokenizer: Any
    processor: Any | None
    template: str
    family: Family
    identity: ModelIdentity

    @property
    def is_reader(self) -> bool:
        """Whether this is the embedded reader."""
        return self.identity.id == READER


def load_model(
    name: str | None = None,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    device_map: str | None = None,
    offline: bool = False,
    trust_remote_code: bool = False,
    check: Callable[[ModelIdentity], None] | None = None,
) -> LoadedModel:
    """Load a model from the hub, a folder, or (without a name) the embedded reader.

    Args:
        name: hub id, folder, or ``flowmm/reader``.
        revision: of the hub repository.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: ``auto``, ``bf16``, ``fp16``, ``fp32`` or torch's names of them.
        device_map: ``auto`` spreads a model over several devices (needs accelerate).
        offline: take everything from the local hub cache.
        trust_remote_code: run Python code that comes with the model.
        check: sees the identity before the weights are loaded; raises if it is not the wanted one.

    Raises:
        InputError: the model is not there. UnsupportedModelError: it is of a kind that is not handled, or its weights
        are not safetensors. ResourceError: memory ran out. UsageError: no such device or dtype.
    """
    target = chosen_device(device)
    files = locate(name, revision, offline)
    with _quiet():
        config = _config(files, trust_remote_code)
        family = family_of(config)
        run_in = _dtype(dtype, config, files.weights, target)
        tokenizer = load_tokenizer(files.folder, trust_remote_code)
        processor = load_processor(files.folder, config, tokenizer, trust_remote_code)
        template = chat_template(tokenizer, processor, files.name)
        identity = _identity(files, family, template, run_in)
        if check is not None:
            check(identity)
        model = _model(files, config, run_in, target, device_map, trust_remote_code)
    spread_thin_products(model)
    return LoadedModel(model, tokenizer, processor, template, family, identity)


def _identity(files: ModelFiles, family: Family, template: str, run_in: torch.dtype) -> ModelIdentity:
    config = json.loads((files.folder / "config.json").read_text(encoding="utf-8"))
    settings = processor_settings(files.folder)
    tokenizer_files = [files.folder / name for name in _TOKENIZER_FILES if (files.folder / name).is_file()]
    return ModelIdentity(
        id=files.name,
        revision=files.revision,
        local=files.local,
        model_type=family.name,
        weights=weights_fingerprint(files.weights),
        config=json_fingerprint({key: value for key, value in config.items() if key not in _VOLATILE}),
        tokenizer=files_fingerprint(tokenizer_files),
        template=text_fingerprint(template),
        processor=None if settings is None else json_fingerprint(settings),
        dtype=str(run_in).removeprefix("torch."),
    )


def chosen_device(device: str) -> torch.device:
    """The device of a name; ``auto`` is the first GPU, else the CPU. Raises UsageError if there is no such device."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"there is no device {device!r}", "Use auto, cpu, cuda or cuda:N.") from error
    if target.type not in ("cpu", "cuda"):
        raise UsageError(f"device {device!r} is none that models are run on", "Use auto, cpu, cuda or cuda:N.")
    if target.type == "cuda" and (target.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise UsageError(f"device {device!r} was asked for, but {found} CUDA devices are here", "Use --device cpu.")
    return target


def _dtype(dtype: str, config: Any, weights: list[Path], target: torch.device) -> torch.dtype:
    if dtype != "auto":
        return named_dtype(dtype)
    if target.type == "cpu" and sum(path.stat().st_size for path in weights) <= _SMALL:
        return torch.float32
    stored = getattr(config, "dtype", None) or getattr(config.get_text_config(), "dtype", None)
    return _known(stored) or torch.bfloat16


def named_dtype(dtype: str) -> torch.dtype:
    """A dtype by the name that users give it. Raises UsageError if models are not run in it."""
    chosen = DTYPES.get(dtype) or _known(getattr(torch, dtype, None))
    if chosen is None:
        raise UsageError(f"there is no dtype {dtype!r} to run a model in", "Use auto, bf16, fp16 or fp32.")
    return chosen


def _known(dtype: object) -> torch.dtype | None:
    return next((known for known in DTYPES.values() if known == dtype), None)


def _config(files: ModelFiles, trust_remote_code: bool) -> Any:
    from transformers import AutoConfig

    path = files.folder / "config.json"
    try:
        kind = json.loads(path.read_text(encoding="utf-8")).get("model_type")
        return AutoConfig.from_pretrained(files.folder, trust_remote_code=trust_remote_code)
    except (AttributeError, json.JSONDecodeError, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{files.name}: config.json is damaged", "Fetch the model again.") from error
    except (ImportError, KeyError, ValueError) as error:
        raise UnsupportedModelError(
            f"{files.name}: this transformers does not know models of type {kind!r}",
            "Upgrade transformers; if the model brings its own code and you trust it, add --trust-remote-code.",
        ) from error


def _model(
    files: ModelFiles,
    config: Any,
    run_in: torch.dtype,
    target: torch.device,
    device_map: str | None,
    trust_remote_code: bool,
) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    sees = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    auto = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    try:
        model = auto.from_pretrained(
            files.folder,
            dtype=run_in,
            device_map=device_map,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            local_files_only=True,
        )
        if device_map is None:
            model = model.to(target)
    except (ImportError, KeyError, MemoryError, OSError, RuntimeError, ValueError) as error:
        if is_out_of_memory(error):
            what = f"{files.name}: does not fit into the memory of {target}"
            raise ResourceError(what, "Try --dtype bf16, or --device-map auto.") from error
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UnsupportedModelError(
            f"{files.name}: cannot be loaded: {reason[:200]}", "Check that its files are complete (docs/limits.md)."
        ) from error
    return model.eval().requires_grad_(False)


def peak_memory(loaded: LoadedModel) -> int:
    """Bytes at the peak so far: of the GPU where the model runs on one, else of this process."""
    if loaded.model.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(loaded.model.device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes everywhere but on macOS


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' notices and progress bars off the terminal; its settings are put back afterwards."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
