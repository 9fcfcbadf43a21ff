"""Documents that a suite names must lie in its folder."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from flowmm.errors import InputError


def document(folder: Path, name: str, where: str) -> str:
    """``name`` in its plainest spelling, if it is a file below ``folder``.

    Args:
        name: relative to the folder, with ``/``.
        where: how the error calls the place that names it.

    Raises:
        InputError: it is not there, or leads out of the folder.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise InputError(f"{where}: {name!r} leads out of {folder}", "Name documents of the suite's own folder.")
    try:
        found = (folder / path).is_file()
    except (OSError, ValueError):  # a name that is too long, or that holds a zero byte
        found = False
    if not found:
        raise InputError(f"{where}: there is no document {name!r} in {folder}", "Put it there, or mend the name.")
    return path.as_posix()


def folder_name(folder: Path) -> str:
    """The last part of the path, also of ``.``."""
    return folder.absolute().name if ".." not in folder.parts else folder.resolve().name
