"""Where a model's files are: the embedded reader, a folder, or the Hugging Face hub."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from flowmm import reader
from flowmm.errors import InputError, UnsupportedModelError

READER = "flowmm/reader"
# Safetensors only: weights in pickle formats could run code when they are opened.
_WANTED = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "*.py"]


@dataclass(frozen=True)
class ModelFiles:
    """A folder with everything a model consists of, and what the model is called in a file's header."""

    folder: Path
    name: str
    local: bool
    revision: str | None = None

    @property
    def weights(self) -> list[Path]:
        """The safetensors files.

        Raises:
            UnsupportedModelError: there are none.
        """
        found = sorted(self.folder.glob("*.safetensors"))
        if not found:
            raise UnsupportedModelError(
                f"{self.name}: has no safetensors weights",
                "Convert the weights to safetensors; pickled weights are never opened.",
            )
        return found


def locate(name: str | None, revision: str | None, offline: bool) -> ModelFiles:
    """Find a model's files, fetching them from the hub where needed (with progress on stderr).

    Raises:
        InputError: no such folder or repository, no access, or not in the local cache while offline.
    """
    if name is None or name == READER:
        return ModelFiles(reader.folder(), READER, local=False)
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InputError(f"{name}: has no config.json", "Give the folder of a model in the Hugging Face format.")
        return ModelFiles(folder, folder.resolve().name, local=True)
    if folder.exists() or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise InputError(
            f"{name}: is neither a folder with a model nor a hub id (owner/name)",
            "Give the folder that holds config.json, or an id like Qwen/Qwen2.5-VL-7B-Instruct.",
        )
    return _download(name, revision, offline or bool(os.environ.get("HF_HUB_OFFLINE")))


def _download(name: str, revision: str | None, offline: bool) -> ModelFiles:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        folder = snapshot_download(name, revision=revision, allow_patterns=_WANTED, local_files_only=offline)
    except GatedRepoError as error:
        raise InputError(
            f"{name}: needs its licence accepted", "Accept it on the hub, then `hf auth login`."
        ) from error
    except RevisionNotFoundError as error:
        raise InputError(f"{name}: has no revision {revision!r}", "Give a branch, tag or commit of it.") from error
    except RepositoryNotFoundError as error:
        raise InputError(f"{name}: is not on the hub, or is private", "Check the id, or `hf auth login`.") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        what = "is not in the local cache" if offline else "could not be fetched from the hub"
        at = f" at revision {revision}" if revision else ""
        hint = "Run once without --offline and HF_HUB_OFFLINE" if offline else "Check the network"
        raise InputError(f"{name}: {what}{at}", f"{hint}, or give the model's folder with -m.") from error
    return ModelFiles(Path(folder), name, local=False, revision=Path(folder).name)
