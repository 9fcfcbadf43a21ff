"""Everything a user can cause: each error says what is wrong, then what to do, and carries an exit code.

FlowmmError                     1  (never raised itself)
├── UsageError                  2  a flag or value that cannot be
│   └── UnknownNameError        2  a name that is in no table, with the nearest one
├── InputError                  3  a document that is missing or unreadable
├── MismatchError               4  model, tokenizer or profile does not fit the file
├── CorruptFileError            5  damaged, truncated, or of another version
├── ResourceError               6  out of memory or disk, or a folder that cannot be written
├── BatchError                  7  a batch that finished with failures
└── UnsupportedModelError       8  an architecture whose cache cannot be handled
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class FlowmmError(Exception):
    """Base of all errors that are the user's to mend.

    Args:
        what: one line, what is wrong: the thing concerned, what was found, what was expected.
        hint: one line, what to do about it.
    """

    exit_code = 1

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}\n{self.hint}"


class UsageError(FlowmmError):
    """A flag or a value that cannot be."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A name that is in no table; ``kind`` says which table (method, scoring rule, ...)."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, sorted(known)
        near = get_close_matches(name, self.known, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(self.known)}."
        super().__init__(f"there is no {kind} named {name!r}", hint)


class InputError(FlowmmError):
    """A document that is missing, unreadable, or not what it claims to be."""

    exit_code = 3


class MismatchError(FlowmmError):
    """The model, tokenizer, template or profile at hand is not the one the file was made with."""

    exit_code = 4

    def __init__(self, path: str, field: str, expected: str, found: str, hint: str) -> None:
        self.path, self.field, self.expected, self.found = path, field, expected, found
        super().__init__(f"{path}: made with {field} {expected}, but found {found}", hint)


class CorruptFileError(FlowmmError):
    """A context file that is damaged, truncated, no context file at all, or of another version."""

    exit_code = 5


class ResourceError(FlowmmError):
    """Memory or disk ran out, or the target cannot be written."""

    exit_code = 6


class BatchError(FlowmmError):
    """A batch that went to its end, but in which some items failed."""

    exit_code = 7


class UnsupportedModelError(FlowmmError):
    """A model whose layers, masks or files this tool does not handle."""

    exit_code = 8


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out. On the CPU torch raises a plain RuntimeError when an allocation fails."""
    # By name: importing torch here would make every error slow.
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or (isinstance(error, RuntimeError) and "alloc" in str(error))
