"""What would work on this machine: versions, device, memory, disk, transformers, the embedded reader."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("flowmm", "torch", "transformers", "tokenizers", "safetensors", "pypdfium2", "pillow")
_LINE = "Zato: 4821."
_QUESTION = "What is the code of Zato?"
_ANSWER = "4821"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; ``hint`` says what to do when it is not ``ok``."""

    name: str
    ok: bool
    found: str
    hint: str = ""


def examine() -> Iterator[Check]:
    """Look at everything, cheap things first. Nothing raises: what fails is a check that is not ok."""
    yield Check("python", True, platform.python_version())
    for package in _PACKAGES:
        yield _package(package)
    yield _memory()
    yield _disk(Path.cwd())
    for name, look, hint in _DEEP:
        try:
            yield Check(name, True, look())
        except Exception as error:
            found = " ".join(f"{type(error).__name__}: {error}".split())
            yield Check(name, False, found[:200], hint)


def _package(name: str) -> Check:
    try:
        return Check(name, True, version(name))
    except PackageNotFoundError:
        return Check(name, False, "not installed", "Install flowmm again: pip install flowmm.")


def _memory() -> Check:
    """Free memory as the kernel says it; the reader needs about half a gigabyte."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return Check("memory", True, "not known on this system")
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    free, total = (kilobytes[name] * 1024 / 1e9 for name in ("MemAvailable", "MemTotal"))
    hint = "Close other programs: even the embedded reader needs about 1 GB."
    return Check("memory", free > 1, f"{free:.1f} GB free of {total:.1f} GB", hint)


def _disk(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free / 1e9
    writable = os.access(folder, os.W_OK)
    found = f"{free:.1f} GB free{'' if writable else ', not writable'} in {folder}"
    return Check("disk", writable and free > 0.1, found, "Run it in a folder with room that you may write.")


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return f"cuda: {', '.join(names)}"
    return f"cpu, {torch.get_num_threads()} threads"


def _torchvision() -> str:
    try:
        found = version("torchvision")
    except PackageNotFoundError:
        return "not installed, and not needed"
    import torchvision  # type: ignore[import-not-found]  # noqa: F401  # a build for another torch fails here

    return found


def _models() -> str:
    from flowmm.hf import loading  # noqa: F401

    return "transformers can load them"


def _reader() -> str:
    """Read one line, ask for it, compare."""
    from flowmm.asking import Question, ask_file
    from flowmm.pipeline import CompressOptions, prefill_file
    from flowmm.records import ModelOptions

    model = ModelOptions("flowmm/reader", device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "line.txt"), Path(folder, "ctx.kv")
        source.write_text(_LINE, encoding="utf-8")
        prefill_file([str(source)], target, model=model, compression=CompressOptions(enabled=False))
        [(_, answer)] = ask_file(target, [Question(_QUESTION)], model=model)
    if answer.text.strip().rstrip(".") != _ANSWER:
        raise ValueError(f"it answers {answer.text!r}, expected {_ANSWER!r}")
    return f"reads {_LINE!r} and answers {answer.text.strip()!r}"


_DEEP: tuple[tuple[str, Callable[[], str], str], ...] = (
    ("device", _device, "Install torch again; see https://pytorch.org/get-started."),
    (
        "torchvision",
        _torchvision,
        "Run pip uninstall torchvision: flowmm does not need it, and a build for another torch breaks transformers.",
    ),
    ("models", _models, "Install the versions that flowmm asks for: pip install -U flowmm."),
    ("reader", _reader, "Install flowmm again: its files may be damaged."),
)
