"""Whatever stands in a file: it is refused with a documented error, or it loads with every number as it was."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flowmm.bench.forgeries import forged, signed
from flowmm.bench.made_up import full_context, small_context
from flowmm.bench.mutate_worker import REFUSED, SAME, judged
from flowmm.context import ContextCache
from flowmm.store import load, save

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=20,
)
PLACES = st.integers(0, 2**16) | st.integers(-250, -1)  # from the beginning, or from the end, where the tensors are
GONE = st.none() | st.integers(0, 40)  # bytes that go; None: as many as come
EDITS = st.lists(st.tuples(PLACES, GONE, st.binary(min_size=1, max_size=40)), min_size=1, max_size=3)


@pytest.fixture(scope="module", params=[full_context, small_context])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ContextCache, bytes]:
    """A name to write to, and what a whole file holds, as values and as bytes."""
    path = tmp_path_factory.mktemp("any") / "ctx.kv"
    save(request.param(5), path)
    return path, load(path), path.read_bytes()


def how(whole: tuple[Path, ContextCache, bytes], data: bytes) -> str:
    path, expected, _ = whole
    path.write_bytes(data)
    return judged(path, expected)


@given(data=st.binary(max_size=2000))
def test_any_bytes_are_refused(whole, data):
    assert how(whole, data) == REFUSED


@given(table=JSON, document=JSON, tensors=st.binary(max_size=100))
@example(table={"x": math.nan}, document=None, tensors=b"")
def test_any_json_as_header_is_refused(whole, table, document, tensors):
    metadata = {"checksum": "0" * 32, "format": "flowmm-kv", "format_version": "1", "document": json.dumps(document)}
    others = table if isinstance(table, dict) else {"x": table}
    text = json.dumps({"__metadata__": metadata, **others}, separators=(",", ":"))
    assert how(whole, signed(text, tensors)) == REFUSED


@given(edits=EDITS)
def test_any_edited_file_is_refused_unless_nothing_changed(whole, edits):
    data = whole[2]
    for at, gone, new in edits:
        at %= len(data) + 1
        data = data[:at] + new + data[at + (len(new) if gone is None else gone) :]
    assert how(whole, data) == (SAME if data == whole[2] else REFUSED)


@given(number=PLACES, value=JSON)
def test_any_value_anywhere_in_a_signed_header_is_refused_or_changes_no_number(whole, number, value):
    def edit(header: dict, _: Random) -> None:
        places = list(places_of(header))
        holder, key = places[number % len(places)]
        holder[key] = value

    assert how(whole, forged(whole[2], edit, Random(0))) in (REFUSED, SAME)


def places_of(value: object) -> Iterator[tuple]:
    """Every key of every mapping and every index of every list, with its holder."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from places_of(value[key])
