"""Context caches to files and back: atomic, durable, every byte checked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import BufferedReader, BufferedWriter
from itertools import accumulate

import torch
from torch import Tensor
from xxhash import xxh3_128, xxh3_128_hexdigest

from flowmm.atomic import check_target, replacing
from flowmm.container import open_regular
from flowmm.context import ContextCache, Evidence, LayerCache, Modality
from flowmm.errors import ResourceError, UnknownNameError, UsageError, is_out_of_memory
from flowmm.evidence_tensors import evidence_of, geometry_of, tensors_of
from flowmm.geometry import EvidenceGeometry
from flowmm.header import (
    BLANK,
    Document,
    Header,
    check_sum,
    corrupt,
    encode_head,
    read_header,
    tensor_specs,
)
from flowmm.layer_tensors import layer_geometry_of, layer_of, layer_tensors_of
from flowmm.packing import PACKINGS, options_of
from flowmm.ragged import blank, slots_problem
from flowmm.rotation import Rotation, shared
from flowmm.typed_json import MalformedError

_TORCH = {
    "I64": torch.int64,
    "F32": torch.float32,
    "I32": torch.int32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F8_E4M3": torch.float8_e4m3fn,
    "U8": torch.uint8,
}
_NAMES = {dtype: name for name, dtype in _TORCH.items()}
_CHUNK_BYTES = 2**20  # stays in the processor's cache between reading and hashing
_DEFAULT_KV_DTYPE = {torch.float32: "bf16", torch.bfloat16: "bf16", torch.float16: "fp16"}


def save(
    cache: ContextCache,
    path: str | os.PathLike[str],
    *,
    kv_dtype: str | None = None,
    force: bool = False,
    most_bytes: int | None = None,
) -> Header:
    """Write a context file. Either the whole file stands under its name afterwards, or what stood there before.

    Args:
        cache: what to store; ``bias`` finite, positions increasing within each head.
        path: the name; a link is followed.
        kv_dtype: a name of ``PACKINGS``; None keeps 16-bit tensors as they are and stores float32 as bf16.
        force: replace a file of that name.
        most_bytes: that the file may have; None: any number.

    Returns:
        The header, read back from the file.

    Raises:
        UsageError, InputError: as :func:`check_target`, an unknown ``kv_dtype``, or a file that would be too large.
        ResourceError: when the disk is full or cannot be written.
    """
    check_target(path, force)
    name = stored_dtype(cache, kv_dtype)
    _check_slots(cache)
    document = _document(cache, name)
    with replacing(path, _size_of(document).total) as file:
        _write(file, cache, document)
        header = read_header(file.name)  # what cannot be read back must not take the name
        if most_bytes is not None and header.file_bytes > most_bytes:
            what = f"{os.fspath(path)}: would have {header.file_bytes} bytes, at most {most_bytes} are allowed"
            raise UsageError(what, "Allow more bytes, or keep fewer slots.")
    return replace(header, path=os.fspath(path))


def stored_dtype(cache: ContextCache, kv_dtype: str | None) -> str:
    """The precision a cache is stored in, see :func:`file_dtype`."""
    return file_dtype(cache.layers[0].keys.dtype, kv_dtype)


def file_dtype(computed: torch.dtype, kv_dtype: str | None) -> str:
    """The precision of a file: the one asked for, else the one computed in, with float32 going to bf16.

    Raises:
        UnknownNameError: no such precision.
    """
    name = kv_dtype or _DEFAULT_KV_DTYPE[computed]
    if name not in PACKINGS:
        raise UnknownNameError("kv dtype", name, PACKINGS)
    return name


@dataclass(frozen=True)
class FileSize:
    """Bytes of a file that need not have been written."""

    head: int  # what stands before the tensors
    tensors: int  # the evidence's included, if there is any

    @property
    def total(self) -> int:
        """Of the whole file."""
        return self.head + self.tensors


def file_size(cache: ContextCache, kv_dtype: str) -> FileSize:
    """Of the file that :func:`save` would write."""
    return _size_of(_document(cache, kv_dtype))


def _size_of(document: Document) -> FileSize:
    return FileSize(len(encode_head(document)), sum(spec[2] for spec in tensor_specs(document).values()))


def load(path: str | os.PathLike[str], *, device: str = "cpu", dtype: torch.dtype | None = None) -> ContextCache:
    """Read a context file; every checksum is verified before this returns.

    Args:
        path: the file.
        device: where the tensors go.
        dtype: of keys, values and reference queries; None leaves them as they are stored (keys and values that are
            stored in less than 16 bits become bfloat16).

    Raises:
        InputError: when the file is missing or unreadable.
        CorruptFileError: when it is damaged, truncated, no context file, or of another version.
        ResourceError: when memory does not suffice.
    """
    header = read_header(path)
    try:
        with open_regular(path) as file:
            return _Stored(header, file, torch.device(device), dtype).cache()
    except OSError as error:
        corrupt(header.path, f"cannot be read to its end: {error.strerror or error}")
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        what = f"{header.path}: not enough memory on {device} for a context of {header.file_bytes} bytes"
        raise ResourceError(what, "Free some memory, or load it on another device.") from error


def _write(file: BufferedWriter, cache: ContextCache, document: Document) -> None:
    """Write the tensors, each once and at its place, and then the header, which holds their checksums."""
    specs = tensor_specs(document)
    starts = accumulate((spec[2] for spec in specs.values()), initial=len(encode_head(document)))
    place = dict(zip(specs, starts, strict=False))
    checksums = {}
    for name, tensor in _tensors(cache, document):
        dtype, shape, _ = specs[name]
        if tensor.dtype != _TORCH[dtype] or tensor.shape != shape:
            raise ValueError(f"{name} is {tensor.dtype} {list(tensor.shape)}, expected {dtype} {list(shape)}")
        data = tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
        checksums[name] = xxh3_128_hexdigest(data)
        file.seek(place[name])
        file.write(data)
    file.seek(0)
    file.write(encode_head(replace(document, checksums=checksums)))
    file.flush()


def _document(cache: ContextCache, kv_dtype: str) -> Document:
    packing = PACKINGS[kv_dtype]
    layers = tuple(layer_geometry_of(layer, packing, cache.num_tokens) for layer in cache.layers)
    rotations, evidence = shared(one.rotation for one in cache.evidence or ()), None
    numbers = {id(rotation): i for i, rotation in enumerate(rotations)}
    if cache.evidence is not None:
        evidence = tuple(
            geometry_of(one, _NAMES[one.queries.dtype], numbers.get(id(one.rotation))) for one in cache.evidence
        )
    blank = Document(
        provenance=cache.provenance,
        num_tokens=cache.num_tokens,
        next_position=cache.next_position,
        kv_dtype=kv_dtype,
        layers=layers,
        evidence=evidence,
        checksums={},
        rotations=tuple(len(rotation.pairs) for rotation in rotations),
        kv_options=options_of(packing),
    )
    return replace(blank, checksums=dict.fromkeys(tensor_specs(blank), BLANK))


def _tensors(cache: ContextCache, document: Document) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the file by name, one at a time."""
    packing = document.packing
    for i, layer in enumerate(cache.layers):
        for name, tensor in layer_tensors_of(layer, document.layers[i], packing, cache.num_tokens):
            yield f"layers.{i}.{name}", tensor
        if cache.evidence is not None and document.evidence is not None:
            for name, tensor in tensors_of(cache.evidence[i], document.evidence[i], document.layers[i]):
                yield f"layers.{i}.evidence.{name}", tensor
    for i, rotation in enumerate(shared(one.rotation for one in cache.evidence or ())):
        for part in ("cos", "sin", "pairs"):
            yield f"rotations.{i}.{part}", getattr(rotation, part)
    yield "modality", cache.modality


@dataclass(frozen=True)
class _Stored:
    """A context file that is open."""

    header: Header
    file: BufferedReader
    device: torch.device
    dtype: torch.dtype | None

    def cache(self) -> ContextCache:
        modality = self.tensor("modality")
        if int(modality.max()) > max(Modality):
            corrupt(self.header.path, f"tensor modality: {int(modality.max())} is no modality")
        layers = tuple(self._layer(i, modality) for i in range(len(self.header.layers)))
        evidence = None
        if self.header.evidence is not None:
            rotations = [self._rotation(i) for i in range(len(self.header.rotations))]
            evidence = tuple(self._evidence(i, one, rotations) for i, one in enumerate(self.header.evidence))
        return ContextCache(
            layers=layers,
            modality=modality.to(self.device),
            next_position=self.header.next_position,
            provenance=self.header.provenance,
            evidence=evidence,
        )

    def tensor(self, name: str, lengths: Sequence[int] | None = None) -> Tensor:
        """A tensor as it is stored, on the CPU, its checksum verified; with ``lengths`` padded, without a copy."""
        entry = self.header.tensors[name]
        dtype, shape = _TORCH[entry.dtype], entry.shape
        if lengths is None:
            found = torch.empty(shape, dtype=dtype)
            parts = [found]
        else:
            found, parts = blank(lengths, shape[1:], dtype)
        self.file.seek(entry.start)
        digest = xxh3_128()
        for part in parts:
            data = memoryview(part.view(-1).view(torch.uint8).numpy().data)
            for start in range(0, len(data), _CHUNK_BYTES):
                chunk = data[start : start + _CHUNK_BYTES]
                if self.file.readinto(chunk) != len(chunk):
                    corrupt(self.header.path, f"tensor {name}: truncated while it was read")
                digest.update(chunk)
        check_sum(self.header, name, digest.hexdigest())
        return found

    def _layer(self, i: int, modality: Tensor) -> LayerCache:
        def read(name: str, lengths: Sequence[int] | None = None) -> Tensor:
            return self.tensor(f"layers.{i}.{name}", lengths)

        geometry, packing = self.header.layers[i], self.header.packing
        try:
            return layer_of(read, geometry, packing, modality, self.device, self.dtype)
        except MalformedError as error:
            corrupt(self.header.path, f"layers.{i}: {error}")

    def _rotation(self, i: int) -> Rotation:
        return Rotation(*(self.tensor(f"rotations.{i}.{part}").to(self.device) for part in ("cos", "sin", "pairs")))

    def _evidence(self, i: int, geometry: EvidenceGeometry, rotations: Sequence[Rotation]) -> Evidence:
        layer = self.header.layers[i]
        rotation = None if geometry.rotation is None else rotations[geometry.rotation]
        problem = None if rotation is None else rotation.problem(layer.head_size)
        if problem is not None:
            corrupt(self.header.path, f"rotations.{geometry.rotation}: {problem}")

        def read(name: str) -> Tensor:
            return self.tensor(f"layers.{i}.evidence.{name}")

        return evidence_of(read, geometry, layer, rotation, self.device, self.dtype)


def _check_slots(cache: ContextCache) -> None:
    """Refuse to write what could not be read back the same."""
    for i, layer in enumerate(cache.layers):
        problem = slots_problem(layer.position, layer.lengths, cache.num_tokens, layer.bias)
        if problem is not None:
            raise ValueError(f"layer {i}: {problem}")
        living = ~layer.padding
        tokens = cache.modality.to(living.device)[layer.position[living].long()]
        if not torch.equal(layer.modality[living], tokens):
            raise ValueError(f"layer {i}: the modality of a slot is not that of its token")
