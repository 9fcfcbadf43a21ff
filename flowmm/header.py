"""The header of a context file: read, checked and described without torch. The layout is in docs/file-format.md."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import prod
from typing import Any, NoReturn

from xxhash import xxh3_128_hexdigest

from flowmm.container import Container, TensorEntry, checksum, open_regular, pack_head, read_container
from flowmm.errors import CorruptFileError
from flowmm.geometry import EvidenceGeometry, LayerGeometry
from flowmm.packing import PARTS, Packing, Shape, packing_of
from flowmm.records import Provenance
from flowmm.typed_json import MalformedError, canonical, decode, encode, parse

FORMAT = "flowmm-kv"
FORMAT_VERSION = 2
MAX_HEADER_BYTES = 8 * 2**20  # some 30,000 pages; what lies about its counts is refused within seconds
ITEM_BYTES: Mapping[str, int] = {"I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "U8": 1}
BLANK = "0" * 32  # stands where a checksum is not known yet
_MAX_TENSORS = 2**14
_LONGEST_PROBLEM = 300  # characters

Spec = tuple[str, tuple[int, ...], int]  # safetensors dtype, shape, bytes

_PARTS = (*PARTS, "exact", "bias", "position", "modality", "evidence")
_PART_OF = {"is_exact": "exact", "is_biased": "bias", "rotations": "evidence"}  # of tensors named otherwise


@dataclass(frozen=True)
class Document:
    """The JSON document in the file's metadata: everything that is no tensor."""

    provenance: Provenance
    num_tokens: int
    next_position: int
    kv_dtype: str
    layers: tuple[LayerGeometry, ...]
    evidence: tuple[EvidenceGeometry, ...] | None
    checksums: Mapping[str, str]  # xxh3_128 in hex, by tensor
    rotations: tuple[int, ...] = field(default=(), kw_only=True)  # pairs of dimensions that each turns
    kv_options: Mapping[str, int] = field(default_factory=dict, kw_only=True)  # of the packing, beside its name

    @property
    def packing(self) -> Packing:
        """How keys and values are packed."""
        return packing_of(self.kv_dtype, self.kv_options)


@dataclass(frozen=True)
class Header(Document):
    """What a context file says of itself."""

    path: str
    format_version: int
    file_bytes: int
    tensors: Mapping[str, TensorEntry]

    @property
    def num_slots(self) -> int:
        """Living slots of all layers and heads together."""
        return sum(layer.num_slots for layer in self.layers)

    @property
    def num_slots_full(self) -> int:
        """Slots of a cache from which nothing was left out."""
        return self.num_tokens * sum(len(layer.lengths) for layer in self.layers)

    @property
    def full_bytes(self) -> int:
        """Bytes of keys and values of such a cache, in 16 bits, or in 32 if this file stores them so."""
        sizes = sum(len(layer.lengths) * layer.head_size for layer in self.layers)
        return 2 * self.num_tokens * sizes * self.packing.item_bytes

    @property
    def keep(self) -> float:
        """Living slots over the slots of a full cache."""
        return self.num_slots / self.num_slots_full

    @property
    def num_exact(self) -> int:
        """Living slots that are kept in 16 bits beside the packed ones."""
        return sum(sum(layer.exact) for layer in self.layers)

    @property
    def bits_per_number(self) -> float | None:
        """Bits that a number of a living slot takes, scales and slots in 16 bits included; None without slots."""
        numbers = 2 * sum(layer.num_slots * layer.head_size for layer in self.layers)
        stored = sum(self._bytes(i, (*PARTS, "exact", "is_exact")) for i in range(len(self.layers)))
        return 8 * stored / numbers if numbers else None

    def layer_bytes(self, index: int) -> int:
        """Bytes of a layer's slots in the file: keys, values, biases and positions, heads as long as they are."""
        layer = self.layers[index]
        return self._bytes(index, tuple(layer.shapes(self.packing, self.num_tokens)))

    def _bytes(self, index: int, kinds: tuple[str, ...]) -> int:
        stems = tuple(f"layers.{index}.{kind}" for kind in kinds)
        return sum(entry.end - entry.start for name, entry in self.tensors.items() if name.startswith(stems))

    @property
    def bytes_by_part(self) -> dict[str, int]:
        """Bytes by what they hold; together they are the file's."""
        found = dict.fromkeys(_PARTS, 0)
        for name, entry in self.tensors.items():
            stem = name.split(".")[2] if name.startswith("layers.") else name.partition(".")[0]
            found[_PART_OF.get(stem, stem)] += entry.end - entry.start
        return {**found, "header": self.file_bytes - sum(found.values())}

    @property
    def is_full(self) -> bool:
        """Whether the file holds what ``flowmm compress`` needs."""
        return self.evidence is not None

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return {"format": FORMAT, **encode(self)}


def read_header(path: str | os.PathLike[str]) -> Header:
    """Read and check the header; the tensors are not touched.

    Raises:
        InputError: when the file is missing or unreadable.
        CorruptFileError: when it is damaged, truncated, no context file, or of another version.
    """
    name = os.fspath(path)
    try:
        container = read_container(name, MAX_HEADER_BYTES, _MAX_TENSORS)
        _check_version(name, container.metadata)
        _check_head(container)
        document = decode(Document, parse(container.metadata["document"], "document"), "document")
        _check_document(document)
        _check_tensors(document, container.tensors)
    except MalformedError as error:
        corrupt(name, str(error))
    return Header(
        **{entry.name: getattr(document, entry.name) for entry in fields(Document)},
        path=name,
        format_version=int(container.metadata["format_version"]),
        file_bytes=container.file_bytes,
        tensors=container.tensors,
    )


def verify(path: str | os.PathLike[str]) -> Header:
    """Read the header and check every tensor's checksum, without torch. Raises what :func:`read_header` raises."""
    header = read_header(path)
    with open_regular(path) as file:
        for name, entry in header.tensors.items():
            try:
                found = checksum(file, entry.start, entry.end)
            except (OSError, MalformedError) as error:
                corrupt(header.path, f"tensor {name}: {error}")
            check_sum(header, name, found)
    return header


def check_sum(header: Header, name: str, found: str) -> None:
    """Raise CorruptFileError unless the tensor's bytes have the checksum that the header says."""
    if found != header.checksums[name]:
        corrupt(header.path, f"tensor {name} is damaged: its checksum is {found}, expected {header.checksums[name]}")


def corrupt(path: str, problem: str) -> NoReturn:
    """Raise the error that every damaged file ends in; what comes out of the file cannot break its line."""
    told = "".join(char if char.isprintable() else "?" for char in problem[:_LONGEST_PROBLEM])
    more = "..." if len(problem) > _LONGEST_PROBLEM else ""
    hint = "Copy the file again from where it came, or make it again with `flowmm prefill`."
    raise CorruptFileError(f"{path}: {told}{more}", hint)


def tensor_specs(document: Document) -> dict[str, Spec]:
    """The tensors a file with this document holds, in the order they are stored: larger items first."""
    shapes: dict[str, Shape] = {}
    packing = document.packing
    for i, layer in enumerate(document.layers):
        of_layer = layer.shapes(packing, document.num_tokens)
        shapes |= {f"layers.{i}.{name}": shape for name, shape in of_layer.items()}
    for i, (layer, evidence) in enumerate(zip(document.layers, document.evidence or (), strict=False)):
        shapes |= {f"layers.{i}.evidence.{name}": shape for name, shape in evidence.shapes(layer).items()}
    for i, num_pairs in enumerate(document.rotations):
        shapes[f"rotations.{i}.cos"] = shapes[f"rotations.{i}.sin"] = ("F32", (document.num_tokens, num_pairs))
        shapes[f"rotations.{i}.pairs"] = ("I64", (num_pairs, 2))
    shapes["modality"] = ("U8", (document.num_tokens,))
    # Larger items first, so that each tensor lies on a multiple of its item size, as mapping readers like it.
    in_order = sorted(shapes.items(), key=lambda item: -ITEM_BYTES[item[1][0]])
    return {name: (dtype, shape, prod(shape) * ITEM_BYTES[dtype]) for name, (dtype, shape) in in_order}


def encode_head(document: Document) -> bytes:
    """All bytes in front of the tensors. The length does not depend on the checksums in the document."""
    metadata = {
        "checksum": BLANK,
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "document": canonical(encode(document)).decode(),
    }
    head = pack_head(metadata, tensor_specs(document))
    # Inside the document quotes are escaped, so this spelling comes once.
    return head.replace(f'"checksum":"{BLANK}"'.encode(), f'"checksum":"{xxh3_128_hexdigest(head)}"'.encode(), 1)


def _check_version(path: str, metadata: Mapping[str, str]) -> None:
    if metadata.get("format") != FORMAT:
        raise CorruptFileError(
            f"{path}: is a safetensors file, but no context file: its format is "
            f"{ascii(metadata.get('format'))[:40]}, expected {FORMAT!r}",
            "Make a context file with `flowmm prefill`.",
        )
    version = metadata.get("format_version", "")
    if not (version.isascii() and version.isdigit() and len(version) <= 6 and int(version) > 0):
        raise MalformedError(f"format version {ascii(version)[:40]} is no version")
    if int(version) > FORMAT_VERSION:
        raise CorruptFileError(
            f"{path}: made by a newer flowmm (format {int(version)}, this one reads {FORMAT_VERSION})",
            "Upgrade with `pip install --upgrade flowmm`.",
        )
    if set(metadata) != {"checksum", "format", "format_version", "document"}:
        raise MalformedError(f"metadata: unexpected keys {ascii(sorted(metadata))[:80]}")


def _check_head(container: Container) -> None:
    """Compare the checksum of all bytes of the header, with zeros in the place of the checksum itself."""
    stored = container.metadata["checksum"]
    blank = container.head
    if len(stored) == len(BLANK) and stored.isascii():
        blank = blank.replace(f'"checksum":"{stored}"'.encode(), f'"checksum":"{BLANK}"'.encode(), 1)
    found = xxh3_128_hexdigest(blank)
    if found != stored:
        raise MalformedError(f"the header is damaged: its checksum is {found}, expected {ascii(stored)[1:-1][:40]}")


def _check_document(document: Document) -> None:
    """Sizes and names that fit each other, before anything is computed from them."""
    packing_of(document.kv_dtype, document.kv_options)
    if document.num_tokens < 1 or document.next_position < 1 or not document.layers:
        raise MalformedError("document: a context has at least one token, one position and one layer")
    for i, layer in enumerate(document.layers):
        layer.check(f"document.layers[{i}]", document.num_tokens)
    if len(document.rotations) > len(document.layers):
        raise MalformedError(f"document.rotations: there are {len(document.rotations)}, more than layers")
    used = {one.rotation for one in document.evidence or () if one.rotation is not None}
    if used != set(range(len(document.rotations))):
        raise MalformedError(f"document.rotations: there are {len(document.rotations)}, but used are {sorted(used)}")
    if document.evidence is None:
        return
    if len(document.evidence) != len(document.layers):
        raise MalformedError(f"document.evidence: {len(document.evidence)} layers, expected {len(document.layers)}")
    for i, (layer, evidence) in enumerate(zip(document.layers, document.evidence, strict=True)):
        evidence.check(f"document.evidence[{i}]", layer, document.rotations)


def _check_tensors(document: Document, tensors: Mapping[str, TensorEntry]) -> None:
    specs = tensor_specs(document)
    for name in {**specs, **tensors, **document.checksums}:
        if name not in specs:
            raise MalformedError(f"tensor {ascii(name)[:60]} has no place in this file")
        if name not in tensors or name not in document.checksums:
            raise MalformedError(f"tensor {name} or its checksum is missing")
        entry, expected = tensors[name], specs[name]
        if (entry.dtype, entry.shape, entry.end - entry.start) != expected:
            raise MalformedError(
                f"tensor {name}: {entry.dtype} {list(entry.shape)} in {entry.end - entry.start} bytes, "
                f"expected {expected[0]} {list(expected[1])} in {expected[2]}"
            )
