"""Headers that lie, with a checksum that fits: what a file looks like whose damage no checksum shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import log2
from random import Random
from typing import Any

from xxhash import xxh3_128_hexdigest

from flowmm.header import BLANK, MAX_HEADER_BYTES

Header = dict[str, Any]  # the table of tensors, with the document, decoded, under "document"
Edit = Callable[[Header, Random], Any]

_ODD: tuple[Any, ...] = (
    *(-1, 0, 1, 2, 3, 255, 2**31, 2**32 + 1, 2**53 + 1, 2**62, 2**63, 2**64, -(2**63), 10**30),
    *(0.5, -0.0, 1e308, float("nan"), float("inf"), float("-inf")),
    *(None, True, False, "", "x", "\ud800", "\0", "a" * 10_000, "../../x", "F8_E4M3", "BF16", "I64"),
    *([], [0], [[]], [-1, -1], [2**62] * 4, {}, {"a": {}}),
)


def forged(data: bytes, edit: Edit, draw: Random) -> bytes:
    """The file with an edited header, signed again."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["document"] = json.loads(header["__metadata__"]["document"])
    edit(header, draw)
    document = header.pop("document")
    if isinstance(header.get("__metadata__"), dict):
        header["__metadata__"]["document"] = json.dumps(document)
    return signed(json.dumps(header, separators=(",", ":")), data[8 + length :])


def signed(text: str, tensors: bytes) -> bytes:
    """A file of a header's text, its checksum made right, and of what stands behind it."""
    raw = text.encode("utf-8", "surrogatepass")
    found = raw.find(b'"checksum":"')
    if found >= 0:
        at = found + len(b'"checksum":"')
        raw = raw[:at] + BLANK.encode() + raw[at + len(BLANK) :]
    raw = len(raw).to_bytes(8, "little") + raw
    return raw.replace(BLANK.encode(), xxh3_128_hexdigest(raw).encode(), 1) + tensors


def any_value(header: Header, draw: Random) -> None:
    """An odd value somewhere."""
    holder, key = draw.choice(list(_places(header)))
    holder[key] = draw.choice(_ODD)


def missing_key(header: Header, draw: Random) -> None:
    """Something left out."""
    holder, key = draw.choice(list(_places(header)))
    del holder[key]


def unknown_key(header: Header, draw: Random) -> None:
    """Something nobody asked for."""
    holder, _ = draw.choice([place for place in _places(header) if isinstance(place[0], dict)])
    names = ("x", "", "__class__", "layers.0.keys ", "\u202e", "two\nlines", "a" * 10_000)
    holder[draw.choice(names)] = draw.choice(_ODD)


def offsets(header: Header, draw: Random) -> None:
    """Tensors that overlap, leave a hole, end before they begin or lie outside of the file."""
    entry = _tensor(header, draw)
    start, end = entry["data_offsets"]
    shift = draw.choice((1, -1, 8, -8, 2**40, 2**62, 2**63, -(2**62)))
    entry["data_offsets"] = draw.choice(([start + shift, end + shift], [start, end + shift], [end, start], [0, end]))


def shape(header: Header, draw: Random) -> None:
    """Another shape, of the same number of items or of a huge one."""
    entry = _tensor(header, draw)
    sizes = entry["shape"]
    entry["shape"] = draw.choice(
        ([*sizes, 1], [1, *sizes], [*sizes[::-1], 2], [*(-size for size in sizes), -1], [2**31] * 4, [2**62, 4], [])
    )


def dtype(header: Header, draw: Random) -> None:
    """Another type of items."""
    entry = _tensor(header, draw)
    names = {"F64", "F32", "F16", "BF16", "I64", "I32", "U8", "BOOL", "F8_E4M3", "bf16", "", "Q9"}
    entry["dtype"] = draw.choice(sorted(names - {entry["dtype"]}))


def counts(header: Header, draw: Random) -> None:
    """Numbers of tokens, slots, heads or layers that are beyond measure, or do not fit the others."""
    document, huge = header["document"], draw.choice((2**20, 2**31, 2**40, 2**62))
    layer = draw.choice(document["layers"])
    draw.choice(
        (
            lambda: document.update(num_tokens=huge),
            lambda: layer.update(lengths=[huge] * len(layer["lengths"])),
            lambda: layer.update(lengths=layer["lengths"] + [0] * min(huge, 2**16)),
            lambda: layer.update(head_size=huge),
            lambda: document.update(rotations=[huge]),
            lambda: document.update(layers=[{**layer, "lengths": [huge], "head_size": huge}]),
        )
    )()


def lists(header: Header, draw: Random) -> None:
    """Long lists, up to what fits a header that is as long as allowed."""
    document, layer = header["document"], header["document"]["layers"][0]
    many = int(2 ** draw.uniform(4, log2(MAX_HEADER_BYTES)))  # bytes, of a size drawn before how many there are
    draw.choice(
        (
            lambda: document.update(layers=[layer] * (many // 110)),
            lambda: document.update(checksums={f"{i}": BLANK for i in range(many // 60)}),
            lambda: header.update({f"{i}": header["modality"] for i in range(many // 70)}),
            lambda: layer.update(lengths=[1] * (many // 3)),
            lambda: document.update(rotations=[1] * (many // 3)),
            lambda: (document["evidence"] or [{}])[0].update(observed=[f"{i}" for i in range(many // 13)]),
            lambda: document["provenance"]["probe"].update(top_logits=[0.5] * (many // 5)),
            lambda: document["provenance"].update(sources=document["provenance"]["sources"] * (many // 200)),
            lambda: document["provenance"].update(created="x" * (many - 8000)),
        )
    )()


def _tensor(header: Header, draw: Random) -> Header:
    entry: Header = header[draw.choice([name for name in header if name not in ("__metadata__", "document")])]
    return entry


def _places(value: Any) -> Any:
    """Every key of every mapping and every index of every list, with its holder."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        if key not in ("document", "__metadata__"):
            yield value, key
        yield from _places(value[key])


FORGERIES: dict[str, Edit] = {
    "header lies: any value": any_value,
    "header lies: a missing key": missing_key,
    "header lies: an unknown key": unknown_key,
    "header lies: offsets": offsets,
    "header lies: a shape": shape,
    "header lies: a dtype": dtype,
    "header lies: counts": counts,
    "header lies: long lists": lists,
}
