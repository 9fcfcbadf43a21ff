"""Contexts read by real code: the embedded reader on the demo's documents, tiny random models on letters and noise."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path

from flowmm.budgets.choose import slots_to_keep
from flowmm.compress import compress
from flowmm.context import ContextCache
from flowmm.contexts import read_context
from flowmm.hf.hub import READER
from flowmm.hf.loading import LoadedModel, load_model
from flowmm.inputs import read
from flowmm.inputs.options import ReadOptions
from flowmm.profiles import Method, load_method, load_profile
from flowmm.reader.samples import draw
from flowmm.records import Part, Source
from flowmm.rules import build_rules
from flowmm.scouting import scouted_by
from tests.conformance.folders import TEXT_ONLY, make_folder
from tests.conformance.test_folders import picture
from tests.unit.gates import random_gate

MODELS = ("reader", "llama", "qwen2_5_vl", "gemma3")
SEEING = tuple(name for name in MODELS if name not in TEXT_ONLY)
SAMPLES = 100  # seed of the demo's documents; the demo itself uses 0
KEEP = 0.25
SEED = 5
PROFILE = load_profile()


class Readings:
    """Models, contexts and small caches, made when first asked for and then shared by all tests of a process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[tuple[str, ...], tuple[ContextCache, ContextCache]] = {}
        self.name = cache(self._name)
        self.loaded = cache(self._loaded)
        self.parts = cache(self._parts)
        self.small = cache(self._small)

    def context(self, model: str, method: Method, dtype: str = "fp32") -> ContextCache:
        """The full cache with what ``method`` observes; methods that observe the same share it."""
        return self._both(model, method, dtype)[0]

    def untouched(self, model: str, method: Method, dtype: str = "fp32") -> ContextCache:
        """A copy of :meth:`context` that was made before anyone had it."""
        return self._both(model, method, dtype)[1]

    def _both(self, model: str, method: Method, dtype: str) -> tuple[ContextCache, ContextCache]:
        key = (model, dtype, method.observe.model_dump_json())
        if key not in self._read:
            parts, loaded = self.parts(model), self.loaded(model, dtype)
            scouted = scouted_by(loaded, parts, method) if method.observe.scout else None  # each model for itself
            context = read_context(parts, loaded, method, scouted=scouted, gate=random_gate(loaded))
            self._read[key] = context, copy.deepcopy(context)
        return self._read[key]

    def _name(self, model: str) -> str:
        """What the model is loaded by."""
        return READER if model == "reader" else str(make_folder(model, self._folder / model))

    def _loaded(self, model: str, dtype: str = "fp32") -> LoadedModel:
        return load_model(self.name(model), device="cpu", dtype=dtype)

    def _parts(self, model: str) -> list[Part]:
        if model == "reader":
            return documents(self._folder / "documents", SAMPLES)
        source = Source("a.txt", "0" * 64, "text")
        texts = [
            Part("text", f"Invoice {number}921, total {number}80.20. Paid: été 2024 ✓ by customer {number}.", source)
            for number in range(5)
        ]
        if model in TEXT_ONLY:
            return texts
        images = [Part("image", picture(number, 32, 24), source) for number in range(5)]
        return [part for pair in zip(images, texts, strict=True) for part in pair]

    def _small(self, model: str, method: str, dtype: str = "fp32") -> ContextCache:
        return made_small(self.context(model, load_method(method), dtype), load_method(method))


def documents(folder: Path, seed: int) -> list[Part]:
    """The demo's documents of a seed, as parts."""
    return list(read([str(path) for path in draw(folder, seed).files], ReadOptions()))


def made_small(context: ContextCache, method: Method, seed: int = SEED) -> ContextCache:
    """Compressed to :func:`slots_asked`."""
    counted = build_rules(method).budget.counted
    return compress(context, method, profile=PROFILE, keep=KEEP if counted else None, seed=seed)


def slots_asked(context: ContextCache, method: Method) -> int:
    """Slots per head, on average."""
    counted = build_rules(method).budget.counted
    return slots_to_keep(context.num_tokens, KEEP) if counted else context.num_tokens
