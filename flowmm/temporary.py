"""Files that are being written: hidden, beside what they become; what a killed writer left is removed by the next.

A writer holds a lock on its file (flock), which ends with its process, however that ends. So a file of this machine
that nobody holds is a stray. A writer on another machine that shares the folder may not be seen; its file is a stray
when it has not changed for a day.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
import time
from contextlib import suppress
from io import BufferedWriter
from pathlib import Path

try:
    import fcntl
except ImportError:  # no flock: age alone decides
    fcntl = None  # type: ignore[assignment]

_HALF = 6  # digits of the machine, and as many at random
_DIGITS = re.compile(rf"[0-9a-f]{{{2 * _HALF}}}")
_NAME = re.compile(rf"\..+\.{_DIGITS.pattern}\.tmp", re.DOTALL)
_ABANDONED_SECONDS = 86_400.0


def is_temporary(path: str | os.PathLike[str]) -> bool:
    """Whether a file is called like one that is being written."""
    return _NAME.fullmatch(os.path.basename(path)) is not None


def open_temporary(target: Path) -> BufferedWriter:
    """A new file in the same folder for what will become ``target``, locked while it is open; mode by the umask.

    Names of up to 255 bytes stay that short.
    """
    while True:
        digits = _machine() + secrets.token_hex(_HALF // 2)
        path = target.with_name(f"{_prefix(target)}{digits}.tmp")
        try:
            file = path.open("xb")  # mode 0666 less the umask, where tempfile would make it 0600
        except FileExistsError:
            continue
        _lock(file.fileno(), wait=True)
        # Another writer may have taken it for a stray before it was locked.
        with suppress(OSError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        file.close()


def remove_strays(target: Path) -> None:
    """Remove what killed writers of ``target`` left. What cannot be judged or removed stays."""
    with suppress(OSError):
        for entry in os.scandir(target.parent):
            digits = entry.name.removeprefix(_prefix(target)).removesuffix(".tmp")
            if entry.name == f"{_prefix(target)}{digits}.tmp" and _DIGITS.fullmatch(digits):
                with suppress(OSError):
                    _remove_stray(Path(entry.path), from_here=digits.startswith(_machine()))


def _remove_stray(path: Path, *, from_here: bool) -> None:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode) or (hasattr(os, "geteuid") and info.st_uid != os.geteuid()):
            return
        held = _lock(descriptor)  # until it is unlinked, so that no writer comes between
        abandoned = time.time() - info.st_mtime > _ABANDONED_SECONDS
        if held is not False and (abandoned or (held and from_here)):
            os.unlink(path)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, *, wait: bool = False) -> bool | None:
    """Take the lock: whether it was free; None where files cannot be locked."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # a network file system without locks
        return None
    return True


def _machine() -> str:
    """What stands for the running system in a name: locks of all its processes are seen by each other."""
    try:
        system = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:
        import platform

        system = platform.node()
    return hashlib.sha256(system.encode("utf-8", "replace")).hexdigest()[:_HALF]


def _prefix(target: Path) -> str:
    return f".{target.name[:40]}."
