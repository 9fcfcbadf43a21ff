"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter
from pathlib import Path

from flowmm.errors import InputError, ResourceError, UsageError
from flowmm.temporary import open_temporary, remove_strays

_DISK_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}  # Windows knows no quota


def check_target(path: str | os.PathLike[str], force: bool = False) -> None:
    """Find out before the long work whether a file could be written there.

    Raises:
        UsageError: when something of that name exists and ``force`` is not set, or it is no regular file.
        InputError: when the folder does not exist.
        ResourceError: when the folder cannot be written.
    """
    name, target = os.fspath(path), Path(os.path.realpath(path))
    if target.is_dir():
        raise UsageError(f"{name}: is a folder, expected the name of a file to write", "Name a file in it.")
    if target.exists() and not target.is_file():
        raise UsageError(f"{name}: is not a regular file", "Choose another name.")
    if target.exists() and not force:
        raise UsageError(f"{name}: exists already", "Choose another name, or replace it with --force.")
    if not target.parent.is_dir():
        raise InputError(f"{name}: there is no folder {target.parent}", "Make the folder first.")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise ResourceError(f"{name}: the folder {target.parent} cannot be written", "Choose another folder.")


def check_apart(output: str | os.PathLike[str], sources: Iterable[str | os.PathLike[str]]) -> None:
    """Raise UsageError if what is to be written would replace what is read."""
    for source in sources:
        if os.path.exists(source) and os.path.exists(output) and os.path.samefile(source, output):
            what = f"{os.fspath(output)}: is both source and output"
            raise UsageError(what, "Name another file with -o; the source is kept.")


@contextmanager
def replacing(path: str | os.PathLike[str], num_bytes: int) -> Iterator[BufferedWriter]:
    """Open a file that takes its name when the block ends well: durable, mode by the umask, links followed.

    When the block or the writing fails, or is interrupted, what stood under the name before still does, and nothing
    else is left. A process that is killed may leave a hidden file, which the next one to write that name removes.

    Args:
        path: the name.
        num_bytes: how large the file will be, for the message when the disk is full.

    Raises:
        ResourceError: when the disk is full or cannot be written.
    """
    target = Path(os.path.realpath(path))
    remove_strays(target)
    temporary: Path | None = None
    try:
        with open_temporary(target) as file:
            temporary = Path(file.name)
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, target)  # while it is locked: else another writer could take it for a stray
    except BaseException as error:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _write_error(os.fspath(path), target.parent, num_bytes, error) from error
        raise
    _sync_folder(target.parent)


def _write_error(name: str, folder: Path, num_bytes: int, error: OSError) -> ResourceError:
    if error.errno in _DISK_FULL:
        free = ""
        with suppress(OSError):
            free = f", {shutil.disk_usage(folder).free} bytes are free"
        what = f"{name}: no room on the disk: the file needs {num_bytes} bytes{free}"
        return ResourceError(what, "Make room, choose another folder, or keep fewer slots with --keep.")
    reason = error.strerror or type(error).__name__
    return ResourceError(f"{name}: cannot be written: {reason}", "Choose another folder, or mend its permissions.")


def _sync_folder(folder: Path) -> None:
    """Make the new name durable, where the system can sync folders."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
