"""Names of files that are being written: beside the file that they become, hidden, drawn at random."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

_RANDOM_BYTES = 6
_NAME = re.compile(rf"\..+\.[0-9a-f]{{{2 * _RANDOM_BYTES}}}\.tmp", re.DOTALL)


def temporary_for(target: Path) -> Path:
    """A name in the same folder for what will become ``target``; names of up to 255 bytes stay that short."""
    return target.with_name(f".{target.name[:40]}.{secrets.token_hex(_RANDOM_BYTES)}.tmp")


def is_temporary(path: str | os.PathLike[str]) -> bool:
    """Whether a file is called as :func:`temporary_for` calls it."""
    return _NAME.fullmatch(os.path.basename(path)) is not None
