"""A context and its model, in memory together: what answers questions, however many."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from flowmm.answer import answer, answer_all
from flowmm.context import ContextCache
from flowmm.errors import MismatchError, UsageError
from flowmm.header import Header, read_header
from flowmm.hf.decoding import placed
from flowmm.hf.loading import LoadedModel, load_model
from flowmm.hf.thin import copy_thin_weights
from flowmm.records import Answer, Generation, ModelIdentity, ModelOptions
from flowmm.store import load

_GREEDY = Generation()
_ANY = ModelOptions()
# What an answer depends on; the image processor has done its work by then.
_MUST_MATCH = ("model_type", "config", "weights", "tokenizer", "template")


class Session:
    """Answers questions over one context. The context is never changed; sessions may share a model."""

    def __init__(self, cache: ContextCache, loaded: LoadedModel) -> None:
        """Raises MismatchError if the cache was not read with this model."""
        check_identity(cache.provenance.model, loaded.identity, cache.provenance.model.id)
        self.loaded = loaded
        self.cache = placed(cache, loaded)

    @classmethod
    def open(cls, path: str | Path, model: ModelOptions = _ANY) -> Session:
        """Load a context file and the model its header names.

        Raises:
            InputError, CorruptFileError: the file. MismatchError: the model is another one.
        """
        header = read_header(path)
        loaded = load_model_of(header, model)
        return cls(load(path), loaded)

    def ask(
        self, question: str, generation: Generation = _GREEDY, *, on_text: Callable[[str], None] | None = None
    ) -> Answer:
        """Answer one question; ``on_text`` gets the answer's pieces as they come."""
        stream = None if on_text is None else lambda _, text: on_text(text)
        return answer(self.cache, [question], self.loaded, generation, on_text=stream)[0]

    def ask_all(self, questions: Sequence[str], generation: Generation = _GREEDY) -> Iterator[Answer]:
        """Answer questions in order, ``generation.batch`` side by side."""
        return answer_all(self.cache, questions, self.loaded, generation)


def load_model_of(header: Header, model: ModelOptions = _ANY) -> LoadedModel:
    """The model that a file was made with. ``model`` says where it is and how to run it, never which it is.

    Raises:
        UsageError: it was a local folder, and nothing says where that is.
        MismatchError: what was found is another model.
    """
    wanted = header.provenance.model
    name, revision = model.name, model.revision
    if name is None and wanted.local:
        name = os.environ.get("FLOWMM_MODEL")
        if name is None:
            raise UsageError(
                f"{header.path}: was made with the model in a local folder {wanted.id!r}",
                "Say where that folder is: -m FOLDER (or FLOWMM_MODEL).",
            )
    elif name is None:
        name, revision = wanted.id, wanted.revision
    loaded = load_model(
        name,
        revision=revision,
        device=model.device,
        dtype=wanted.dtype if model.dtype == "auto" else model.dtype,
        device_map=model.device_map,
        offline=model.offline,
        trust_remote_code=model.trust_remote_code,
        check=lambda found: check_identity(wanted, found, header.path),
    )
    copy_thin_weights(loaded.model)  # to be asked again and again
    return loaded


def is_same_model(wanted: ModelIdentity, found: ModelIdentity) -> bool:
    """Whether a model answers what another one has read."""
    return all(getattr(wanted, field) == getattr(found, field) for field in _MUST_MATCH)


def check_identity(wanted: ModelIdentity, found: ModelIdentity, path: str) -> None:
    """Raises MismatchError naming the first thing in which two models differ."""
    for field in _MUST_MATCH:
        expected, actual = getattr(wanted, field), getattr(found, field)
        if expected != actual:
            at = f" at revision {wanted.revision}" if wanted.revision else ""
            hint = f"Load {wanted.id}{at} unchanged, or prefill again with this model."
            raise MismatchError(path, f"{field} of {wanted.id}", expected[:16], f"{actual[:16]} in {found.id}", hint)
