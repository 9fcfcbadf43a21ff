"""Which suite a result is of."""

from __future__ import annotations

from hashlib import sha256

from flowmm.bench.suite import Suite
from flowmm.errors import InputError
from flowmm.typed_json import canonical, encode


def suite_hash(suite: Suite) -> str:
    """SHA-256 of a suite: its contexts with their questions, and the bytes of its documents.

    Raises:
        InputError: a document cannot be read.
    """
    found = sha256(canonical(encode(suite.contexts)))
    for name in sorted({part.path for context in suite.contexts for part in context.parts if part.path is not None}):
        path = suite.folder / name
        try:
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    found.update(chunk)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise InputError(f"{path}: cannot be read: {reason}", "The suite names it; put it there.") from None
    return found.hexdigest()
