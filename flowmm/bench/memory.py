"""The most memory that a piece of work takes."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc/self")


def settle() -> None:
    """Give freed memory back to the system: what is measured next is not to find what was there before it."""
    gc.collect()
    with suppress(OSError, AttributeError):  # other systems than Linux with glibc
        ctypes.CDLL(None).malloc_trim(0)


def watch_memory(device: str = "cpu") -> Callable[[], int | None]:
    """Start watching.

    Args:
        device: type of the device; on ``cuda`` the GPU's memory is watched, else that of this process.

    Returns:
        What tells the bytes at the peak since, what was there before included; None on systems that do not say.
    """
    settle()
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.max_memory_allocated
    try:
        (_PROC / "clear_refs").write_text("5", encoding="ascii")  # resets the peak; Linux only
    except OSError:
        return lambda: None
    return _peak


def _peak() -> int | None:
    lines = (_PROC / "status").read_text(encoding="ascii", errors="replace").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)
