"""Files at URLs (s3://bucket/ctx.kv, simplecache::s3://...), read through fsspec. Local files need none of this."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import SEEK_SET, BufferedReader, RawIOBase
from typing import Any

from flowmm.errors import InputError

_URL = re.compile(r"(?:[a-z][a-z0-9+.-]+::)*[a-z][a-z0-9+.-]+://", re.ASCII | re.IGNORECASE)
_AT_ONCE = 2**24  # bytes; what is fetched is held beside where it goes
_EXTRA = "Install what reads it; for s3:// that is pip install 'flowmm[s3]'."


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether a path is one of a remote file."""
    return isinstance(path, str) and _URL.match(path) is not None


def open_url(url: str) -> BufferedReader:
    """Open a remote file for reading, with seeks. Whatever fails later on is an OSError.

    Raises:
        InputError: it cannot be opened, or what opens such files is not installed.
    """
    if url.lower().startswith("file:"):
        raise InputError(f"{url}: is a URL of a local file", "Name its path.")
    try:
        import fsspec

        file = fsspec.open(url, "rb").open()
    except ImportError as error:
        raise InputError(f"{url}: cannot be read: {_told(error)}", _EXTRA) from error
    except Exception as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else _told(error)
        raise InputError(f"{url}: cannot be read: {reason}", "Check the URL and your credentials for it.") from error
    return BufferedReader(_Remote(file))


class _Remote(RawIOBase):
    """A file of fsspec as the raw file that a BufferedReader reads."""

    def __init__(self, file: Any) -> None:
        super().__init__()
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with _as_os_error():
            data = self._file.read(min(len(buffer), _AT_ONCE))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        with _as_os_error():
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


@contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(_told(error)) from error


def _told(error: Exception) -> str:
    """What went wrong, in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}..."
