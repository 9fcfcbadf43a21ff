"""Measure loading a context file: reading, verifying and unpacking it, against plain reads and copies of its bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING

from flowmm.bench.load_report import LoadCase, LoadReport
from flowmm.bench.memory import settle
from flowmm.errors import UnknownNameError, UsageError
from flowmm.header import ITEM_BYTES
from flowmm.packing import PACKINGS, PARTS
from flowmm.plan import Progress

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from flowmm.context import ContextCache
    from flowmm.header import Header

_LAYERS, _HEADS, _SIZE = 28, 4, 128
_SPARSE = 4  # tokens for each slot of a head
_FEWEST = 16  # slots of a head
_BESIDE = 3  # bytes of a slot's position and bias, about


def bench_load(
    *,
    megabytes: int = 1000,
    kv_dtype: str = "int4",
    plain_megabytes: int = 100,
    repeat: int = 5,
    seed: int = 0,
    progress: Progress | None = None,
) -> LoadReport:
    """Write two files of random slots into a temporary folder, and load each again and again, on the CPU.

    The files are in the system's cache, where writing leaves them: no disk is timed.

    Args:
        megabytes: of the packed file, about.
        kv_dtype: its precision. Unpacked it takes 16 bits a number, once in memory and once while it is written.
        plain_megabytes: of the file in bf16, about.
        repeat: loads of each.
        seed: of the slots.
        progress: told how far it is.

    Raises:
        UsageError: a number that cannot be, or no such precision.
        ResourceError: the temporary folder cannot hold the files.
    """
    if kv_dtype not in PACKINGS:
        raise UnknownNameError("kv dtype", kv_dtype, PACKINGS)
    for name, number in (("megabytes", megabytes), ("plain-megabytes", plain_megabytes), ("repeat", repeat)):
        if number < 1:
            raise UsageError(f"--{name} {number}: is less than 1", "Give a number of at least 1.")
    import torch

    tell = progress or (lambda phase, done, total: None)
    packed = _case(kv_dtype, megabytes, repeat, seed, partial(tell, kv_dtype))
    plain = _case("bf16", plain_megabytes, repeat, seed, partial(tell, "plain"))
    return LoadReport(torch.get_num_threads(), repeat, packed, plain)


def _case(kv_dtype: str, megabytes: int, repeat: int, seed: int, tell: Callable[[int, int], None]) -> LoadCase:
    from flowmm.store import save

    tell(0, repeat + 1)
    with TemporaryDirectory(prefix="flowmm-load-") as folder:
        path = Path(folder) / "load.kv"
        header = save(random_cache(kv_dtype, megabytes, seed), path, kv_dtype=kv_dtype)
        runs = []
        for done in range(repeat):
            tell(done + 1, repeat + 1)
            runs.append(_run(path, header))
        tell(repeat + 1, repeat + 1)
    unpacked, *seconds = zip(*runs, strict=True)
    return LoadCase(kv_dtype, header.file_bytes, unpacked[0], *(median(times) for times in seconds))


def _run(path: Path, header: Header) -> tuple[int, float, float, float, float, float]:
    """Bytes unpacked, and seconds in the order of :class:`LoadCase`."""
    from safetensors.torch import load_file

    from flowmm.store import load

    settle()
    began = perf_counter()
    cache = load(path)
    loaded = perf_counter() - began
    unpacked = sum(getattr(layer, part).nbytes for layer in cache.layers for part in PARTS)
    del cache
    settle()
    began = perf_counter()
    mapped = load_file(path)
    opened = perf_counter() - began
    tensors = {name: tensor.clone() for name, tensor in mapped.items()}
    read = perf_counter() - began
    del mapped
    settle()
    return unpacked, loaded, read, opened, *_unpacked(header, tensors)


def _unpacked(header: Header, tensors: dict[str, Tensor]) -> tuple[float, float]:
    """Seconds of unpacking all layers, and of copying their keys and values; one layer is in memory at a time."""
    import torch

    from flowmm.layer_tensors import layer_of

    unpacking = copying = 0.0
    packing, modality = header.packing, tensors["modality"]
    for i, geometry in enumerate(header.layers):
        prefix = f"layers.{i}."
        own = {name.removeprefix(prefix): one for name, one in tensors.items() if name.startswith(prefix)}
        began = perf_counter()
        layer = layer_of(partial(_given, own), geometry, packing, modality, torch.device("cpu"), None)
        unpacked = perf_counter()
        copies = [layer.keys.clone(), layer.values.clone()]
        copying += perf_counter() - unpacked
        unpacking += unpacked - began
        del layer, copies
    return unpacking, copying


def _given(tensors: dict[str, Tensor], name: str, lengths: Sequence[int] | None = None) -> Tensor:
    from flowmm.ragged import padded

    return tensors[name] if lengths is None else padded(tensors[name], lengths)


def random_cache(kv_dtype: str, megabytes: int, seed: int) -> ContextCache:
    """A compressed context of about that size on the disk: a quarter of the tokens, heads of different lengths, half of
    the slots with a bias. Keys and values are normal numbers in bfloat16."""
    import torch

    from flowmm.context import ContextCache, LayerCache
    from flowmm.ragged import padded
    from flowmm.records import ModelIdentity, Provenance

    generator = torch.Generator().manual_seed(seed)
    mean = max(_FEWEST, round(megabytes * 1e6 / (_LAYERS * _HEADS * _slot_bytes(kv_dtype))))
    num_tokens = _SPARSE * mean
    modality = torch.zeros(num_tokens, dtype=torch.uint8)
    layers = []
    for _ in range(_LAYERS):
        lengths = torch.randint(mean - mean // 4, mean + mean // 4 + 1, (_HEADS,), generator=generator).tolist()
        position = torch.cat([_position(num_tokens, length, generator) for length in lengths])
        mass = torch.randint(1, 9, (len(position),), generator=generator)
        mass[::2] = 1
        keys, values = (
            torch.empty(len(position), _SIZE, dtype=torch.bfloat16).normal_(generator=generator) for _ in PARTS
        )
        layers.append(
            LayerCache(
                keys=padded(keys, lengths),
                values=padded(values, lengths),
                position=padded(position.int(), lengths),
                modality=padded(modality[position], lengths),
                lengths=torch.tensor(lengths),
                bias=padded(mass.float().log(), lengths),
            )
        )
    identity = ModelIdentity("random", None, True, "none", "", "", "", "", None, "bfloat16")
    return ContextCache(tuple(layers), modality, num_tokens, Provenance(identity, ()))


def _position(num_tokens: int, length: int, generator: Generator) -> Tensor:
    """``[length]`` int64, increasing: the sinks, then some of the rest."""
    import torch

    from flowmm.context import NUM_SINKS

    rest = torch.randperm(num_tokens - NUM_SINKS, generator=generator)[: length - NUM_SINKS]
    return torch.cat([torch.arange(NUM_SINKS), NUM_SINKS + rest.sort().values])


def _slot_bytes(kv_dtype: str) -> float:
    """Bytes of a slot in a file, about."""
    slots = 2**16
    shapes = [PACKINGS[kv_dtype].shapes(part, [slots], _SIZE) for part in PARTS]
    stored = sum(ITEM_BYTES[dtype] * prod(shape) for of_part in shapes for dtype, shape in of_part.values())
    return stored / slots + _BESIDE
