"""Fingerprints that tell whether a model, tokenizer or template is the one a file was made with."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import platformdirs
from xxhash import xxh3_128_hexdigest

from flowmm.container import Container, checksum, open_regular, read_container
from flowmm.errors import UnsupportedModelError
from flowmm.typed_json import MalformedError, canonical

_DIGITS = 32
_SETTLED_SECONDS = 2.0  # a file changed just now may change again without its time showing it


def weights_fingerprint(files: Sequence[Path]) -> str:
    """Fingerprint of every byte of every tensor, with names, dtypes and shapes.

    How the tensors are spread over files, and what the files are called, makes no difference. The result is
    remembered in the user's cache folder under the files' names, sizes, times and inodes; ``FLOWMM_NO_CACHE=1``
    switches that off.

    Args:
        files: the safetensors files of one model.

    Returns:
        32 hex digits.

    Raises:
        InputError: when a file is missing or unreadable.
        UnsupportedModelError: when there are no files, one is damaged, or a tensor comes twice.
    """
    if not files:
        raise UnsupportedModelError("the model has no safetensors weights", "Convert its weights to safetensors.")
    containers = {path: _container(path) for path in files}
    note = _note(files)
    remembered = _recall(note)
    if remembered is not None:
        return remembered
    result = _hash_tensors(containers)
    _remember(note, result)
    return result


def json_fingerprint(value: Any) -> str:
    """Fingerprint of a JSON value; the order of keys makes no difference. 32 hex digits of a sha256."""
    return _sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def text_fingerprint(text: str) -> str:
    """Fingerprint of a text. 32 hex digits of a sha256."""
    return _sha256(text.encode("utf-8", "surrogatepass"))


def files_fingerprint(files: Sequence[Path]) -> str:
    """Fingerprint of small files, names (without folders) and bytes; their order makes no difference.

    Raises:
        InputError: when a file is missing or unreadable.
    """
    digests = []
    for path in sorted(files, key=lambda path: path.name):
        with open_regular(path) as file:
            digests.append([path.name, hashlib.file_digest(file, "sha256").hexdigest()])
    return json_fingerprint(digests)


def _hash_tensors(containers: dict[Path, Container]) -> str:
    owner: dict[str, Path] = {}
    for path, container in containers.items():
        for name in container.tensors:
            if name in owner:
                what = f"{path}: tensor {name} is also in {owner[name].name}"
                raise UnsupportedModelError(what, "Keep the files of one model only, and download them again.")
            owner[name] = path
    names = sorted(owner)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # reading and hashing both release the GIL
        digests = pool.map(lambda name: _hash_tensor(owner[name], containers[owner[name]], name), names)
        return xxh3_128_hexdigest(canonical(list(digests)))


def _hash_tensor(path: Path, container: Container, name: str) -> list[Any]:
    entry = container.tensors[name]
    try:
        with open_regular(path) as file:
            digest = checksum(file, entry.start, entry.end)
    except (OSError, MalformedError) as error:
        raise _damaged(path, error) from error
    return [name, entry.dtype, list(entry.shape), digest]


def _container(path: Path) -> Container:
    try:
        return read_container(path)
    except MalformedError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> UnsupportedModelError:
    return UnsupportedModelError(f"{path}: weights cannot be read: {error}", "Download the model's weights again.")


def _note(files: Sequence[Path]) -> Path | None:
    """Where the fingerprint of files in this state is remembered; None when it must not be."""
    if os.environ.get("FLOWMM_NO_CACHE") == "1":
        return None
    state = []
    for path in files:
        try:
            real = path.resolve()
            info = real.stat()
        except OSError:
            return None
        if time.time() - max(info.st_mtime, info.st_ctime) < _SETTLED_SECONDS:
            return None
        state.append([os.fsdecode(real), info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino, info.st_dev])
    return Path(platformdirs.user_cache_dir("flowmm")) / "weights" / json_fingerprint(sorted(state))


def _recall(note: Path | None) -> str | None:
    if note is None:
        return None
    try:
        text = note.read_text("ascii")
    except (OSError, ValueError):
        return None
    return text if re.fullmatch(r"[0-9a-f]{32}", text) else None


def _remember(note: Path | None, fingerprint: str) -> None:
    """Write the note, atomically; a folder that cannot be written is no reason to fail."""
    if note is None:
        return
    temporary = note.with_name(f".{note.name}.{secrets.token_hex(6)}.tmp")
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(fingerprint, "ascii")
            os.replace(temporary, note)
        finally:
            temporary.unlink(missing_ok=True)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_DIGITS]
