import json
import os
import pickle
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from xxhash import xxh3_128_hexdigest

from flowmm.errors import CorruptFileError, InputError
from flowmm.header import read_header, verify
from flowmm.store import load, save
from tests.unit import small_caches


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    save(small_caches.ragged(), tmp_path / "ctx.kv")
    return tmp_path / "ctx.kv"


def forge(path: Path, edit: Callable[[dict[str, Any], dict[str, Any]], Any]) -> None:
    """Change header table and document, and make the header's checksum right again."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    table = json.loads(data[8 : 8 + length])
    document = json.loads(table["__metadata__"]["document"])
    edit(table, document)
    table["__metadata__"]["document"] = json.dumps(document)
    write_signed(path, json.dumps(table, separators=(",", ":")), data[8 + length :])


def write_signed(path: Path, text: str, tensors: bytes) -> None:
    stored = json.loads(text)["__metadata__"]["checksum"]
    raw = text.encode().replace(stored.encode(), b"0" * 32, 1)
    raw = len(raw).to_bytes(8, "little") + raw
    path.write_bytes(raw.replace(b"0" * 32, xxh3_128_hexdigest(raw).encode(), 1) + tensors)


def test_the_header_says_what_the_file_holds(stored: Path) -> None:
    header = read_header(stored)
    assert header.path == str(stored)
    assert (header.format_version, header.file_bytes) == (2, stored.stat().st_size)
    assert (header.num_tokens, header.next_position, header.kv_dtype) == (5, 4, "bf16")
    first, second = header.layers
    assert (first.kind, first.window, first.lengths, first.head_size) == ("full", None, (3, 1), 4)
    assert (second.kind, second.window, second.lengths) == ("sliding", 2, (2, 2))
    assert (header.num_slots, header.keep, header.is_full) == (8, 8 / 20, False)
    assert header.provenance == small_caches.provenance()
    assert header.tensors["layers.0.keys"].shape == (4, 4)


def test_the_header_as_json_names_format_and_model(stored: Path) -> None:
    described = json.loads(json.dumps(read_header(stored).as_dict()))
    assert described["format"] == "flowmm-kv"
    assert described["provenance"]["model"]["id"] == "flowmm/reader"
    assert described["layers"][0]["lengths"] == [3, 1]


def test_reading_and_verifying_need_no_torch(stored: Path) -> None:
    code = (
        "import sys; from flowmm.header import read_header, verify;"
        "read_header(sys.argv[1]); verify(sys.argv[1]);"
        "sys.exit(str({'torch', 'numpy', 'safetensors', 'transformers', 'pydantic'} & set(sys.modules) or '') or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(stored)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_any_changed_byte_of_the_header_is_found(stored: Path) -> None:
    good = stored.read_bytes()
    length = 8 + int.from_bytes(good[:8], "little")
    with stored.open("r+b", buffering=0) as file:
        for at in range(length):
            os.pwrite(file.fileno(), bytes([good[at] ^ 1 << at % 8]), at)
            with pytest.raises(CorruptFileError):
                read_header(stored)
            os.pwrite(file.fileno(), good[at : at + 1], at)
    assert read_header(stored).num_tokens == 5


def test_a_letter_that_json_reads_the_same_is_found_too(stored: Path) -> None:
    """The case of an escape's digits does not change what JSON means."""
    forge(stored, lambda table, document: document["provenance"]["versions"].update(odd="\u00e9"))
    escaped = stored.read_bytes()
    assert escaped.count(rb"\\u00e9") == 1
    assert read_header(stored).provenance.versions["odd"] == "\u00e9"
    stored.write_bytes(escaped.replace(rb"\\u00e9", rb"\\u00E9"))
    with pytest.raises(CorruptFileError, match="header is damaged"):
        read_header(stored)


def test_every_truncation_is_found(stored: Path) -> None:
    for length in reversed(range(stored.stat().st_size)):
        os.truncate(stored, length)
        with pytest.raises(CorruptFileError, match=r"truncated|empty"):
            read_header(stored)


def test_bytes_after_the_end_are_found(stored: Path) -> None:
    stored.write_bytes(stored.read_bytes() + b"\0")
    with pytest.raises(CorruptFileError, match="1 bytes too many"):
        read_header(stored)


def test_verify_names_the_tensor_that_is_damaged(stored: Path) -> None:
    header, good = verify(stored), stored.read_bytes()
    for name, entry in header.tensors.items():
        bad = bytearray(good)
        bad[entry.end - 1] ^= 1
        stored.write_bytes(bad)
        with pytest.raises(CorruptFileError, match=f"tensor {name} is damaged"):
            verify(stored)


def test_a_newer_format_asks_for_an_upgrade(stored: Path) -> None:
    forge(stored, lambda table, document: table["__metadata__"].update(format_version="3", more="new"))
    with pytest.raises(CorruptFileError) as caught:
        read_header(stored)
    assert "made by a newer flowmm (format 3, this one reads 2)" in caught.value.what
    assert "pgrade" in caught.value.hint


@pytest.mark.parametrize("version", ["", "0", "-1", "1.5", "x", "\u0661", "9" * 5000])
def test_a_format_version_that_is_no_version_is_damage(stored: Path, version: str) -> None:
    forge(stored, lambda table, document: table["__metadata__"].update(format_version=version))
    with pytest.raises(CorruptFileError, match="no version"):
        read_header(stored)


def test_another_safetensors_file_is_no_context_file(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CorruptFileError, match="no context file: its format is 'pt'"):
        read_header(tmp_path / "model.safetensors")


def test_other_kinds_of_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "ctx.kv"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", "b" * 100)
    with pytest.raises(CorruptFileError, match="zip archive"):
        read_header(path)
    for data, name in (
        (pickle.dumps({"a": [1] * 100}), "pickle"),
        (b"<!DOCTYPE html><html>Not found</html>", "HTML"),
        (b"%PDF-1.7 and more", "PDF"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"just some text, long enough", "no safetensors file"),
        (b"", "empty"),
        (b"abc", "truncated"),
    ):
        path.write_bytes(data)
        with pytest.raises(CorruptFileError, match=name):
            read_header(path)


def test_what_is_no_file_is_an_input_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, message in (
        (tmp_path / "missing.kv", "no such file"),
        (tmp_path, "is a folder"),
        (tmp_path / "pipe", "not a regular file"),
        (Path("nul\0.kv"), "cannot be read"),
        (tmp_path / ("x" * 5000), "cannot be read"),
    ):
        with pytest.raises(InputError, match=message):
            read_header(path)


def test_a_header_beyond_measure_is_refused_before_it_is_read(stored: Path) -> None:
    data = stored.read_bytes()
    stored.write_bytes((8 * 2**20 + 1).to_bytes(8, "little") + data[8:] + bytes(9 * 2**20))
    with pytest.raises(CorruptFileError, match="its header would be 8388609 bytes, at most 8388608 are allowed"):
        read_header(stored)


def test_tensors_without_number_are_refused(stored: Path) -> None:
    forge(stored, lambda table, document: table.update({f"{i}": None for i in range(16_384)}))
    with pytest.raises(CorruptFileError, match=r"1639[0-9] tensors, at most 16384"):
        read_header(stored)


@pytest.mark.parametrize(("name", "shown"), [("two\nlines", "two?lines: expected str"), ("x" * 9000, "xxx...")])
def test_what_a_file_is_refused_for_stays_one_short_line(stored: Path, name: str, shown: str) -> None:
    forge(stored, lambda table, document: document["checksums"].update({name: 1}))
    with pytest.raises(CorruptFileError) as caught:
        read_header(stored)
    assert shown in caught.value.what
    assert caught.value.what.isprintable()
    assert len(caught.value.what) < 400 + len(str(stored))


def test_nesting_beyond_measure_is_refused(tmp_path: Path) -> None:
    text = b'{"a":' * 200_000 + b"1" + b"}" * 200_000
    (tmp_path / "deep.kv").write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(CorruptFileError, match="nested too deeply"):
        read_header(tmp_path / "deep.kv")


def rename(table: dict[str, Any], old: str, new: str) -> None:
    table[new] = table.pop(old)


FORGERIES: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], Any], str]] = {
    "a hole": (lambda t, d: t["modality"].update(data_offsets=[t["modality"]["data_offsets"][0] + 1] * 2), "starts at"),
    "an overlap": (lambda t, d: t["layers.0.keys"].update(data_offsets=[0, 40]), "starts at"),
    "negative offsets": (lambda t, d: t["layers.0.bias"].update(data_offsets=[-8, 8]), "are no offsets"),
    "one offset": (lambda t, d: t["layers.0.bias"].update(data_offsets=[0]), "are no offsets"),
    "a fractional offset": (lambda t, d: t["layers.0.bias"].update(data_offsets=[0, 0.5]), "expected int"),
    "a huge offset": (lambda t, d: t["layers.0.bias"].update(data_offsets=[0, 2**64]), "64 bits"),
    "a negative shape": (lambda t, d: t["layers.0.keys"].update(shape=[-4, -4]), "negative size"),
    "another shape": (lambda t, d: t["layers.0.keys"].update(shape=[2, 8]), r"expected BF16 \[4, 4\]"),
    "another dtype": (lambda t, d: t["layers.0.keys"].update(dtype="F16"), "expected BF16"),
    "an unknown tensor": (lambda t, d: rename(t, "modality", "m"), "no place|missing"),
    "a tensor that is no table": (lambda t, d: t.update(modality=3), "expected dict, found 3"),
    "metadata that is no text": (lambda t, d: t["__metadata__"].update(format_version=1), "expected str, found 1"),
    "more metadata": (lambda t, d: t["__metadata__"].update(more="x"), "unexpected keys"),
    "an unknown key": (lambda t, d: d.update(colour="red"), "unknown key 'colour'"),
    "a missing key": (lambda t, d: d.pop("num_tokens"), "'num_tokens' is missing"),
    "a bool for a number": (lambda t, d: d.update(num_tokens=True), "num_tokens: expected int, found True"),
    "text for a number": (lambda t, d: d["provenance"]["seconds"].update(prefill="1"), "expected a number"),
    "NaN": (lambda t, d: d["provenance"]["seconds"].update(prefill=float("nan")), "NaN is no number"),
    "Infinity": (lambda t, d: d["provenance"]["seconds"].update(prefill=float("inf")), "Infinity is no number"),
    "a huge integer": (lambda t, d: d.update(next_position=2**63), "does not fit 64 bits"),
    "a huge integer for a float": (lambda t, d: d["provenance"]["seconds"].update(prefill=10**400), "no finite number"),
    "a lone surrogate": (lambda t, d: d["provenance"]["model"].update(id="\ud800"), "surrogate"),
    "no layers": (lambda t, d: d.update(layers=[]), "at least one"),
    "no tokens": (lambda t, d: d.update(num_tokens=0), "at least one"),
    "no heads": (lambda t, d: d["layers"][0].update(lengths=[]), "1 to 256 heads"),
    "too many heads": (lambda t, d: d["layers"][0].update(lengths=[3, 1] + [0] * 5000), "1 to 256 heads"),
    "a window of nothing": (lambda t, d: d["layers"][1].update(window=0), "window from 1"),
    "a head with more slots than tokens": (lambda t, d: d["layers"][0].update(lengths=[6, -2]), "0 to 5 slots"),
    "other lengths": (lambda t, d: d["layers"][0].update(lengths=[3, 2]), r"expected F32 \[5\] in 20"),
    "positions left out": (lambda t, d: d["layers"][0].update(has_position=False), "does not say which"),
    "an unknown precision": (lambda t, d: d.update(kv_dtype="int5"), "'int5', expected one of"),
    "another precision": (lambda t, d: d.update(kv_dtype="rot4", kv_options={}), "has no place|missing"),
    "another precision of the same size": (lambda t, d: d.update(kv_dtype="fp16"), r"BF16 \[4, 4\].*expected F16"),
    "an option of no precision": (
        lambda t, d: d.update(kv_options={"group": 64}),
        r"\['group'\] of bf16, expected \[\]",
    ),
    "packed positions of no positions": (
        lambda t, d: d["layers"][0].update(has_position=False, lengths=[5, 5]),
        "packed positions, yet no positions",
    ),
    "positions of 32 bits": (
        lambda t, d: d["layers"][0].update(packed_position=False),
        r"U8 \[3\].*expected I32 \[4\]",
    ),
    "more biases than slots": (lambda t, d: d["layers"][0].update(biased=5), "biased: 5 of 4 slots"),
    "fewer biases than none": (lambda t, d: d["layers"][0].update(biased=-1), "biased: -1 of 4 slots"),
    "biases of a layer without": (lambda t, d: d["layers"][1].update(biased=0), "biased: 0 of 4 slots"),
    "exact slots that are not there": (lambda t, d: d["layers"][0].update(exact=[0, 1]), "exact is missing|keys: BF16"),
    "more exact slots than slots": (
        lambda t, d: d["layers"][0].update(exact=[4, 0]),
        r"exact: \[4, 0\] of \[3, 1\] slots",
    ),
    "a negative exact count": (lambda t, d: d["layers"][0].update(exact=[-1, 1]), r"exact: \[-1, 1\] of"),
    "exact slots of too few heads": (lambda t, d: d["layers"][0].update(exact=[1]), r"exact: \[1\] of"),
    "a missing checksum": (lambda t, d: d["checksums"].pop("modality"), "modality or its checksum is missing"),
    "a checksum of nothing": (lambda t, d: d["checksums"].update(x="0"), "'x' has no place"),
    "evidence of too few layers": (lambda t, d: d.update(evidence=[]), "0 layers, expected 2"),
}


@pytest.mark.parametrize("what", FORGERIES)
def test_a_header_with_the_right_checksum_and_a_wrong_content_is_refused(stored: Path, what: str) -> None:
    edit, message = FORGERIES[what]
    forge(stored, edit)
    with pytest.raises(CorruptFileError, match=message):
        read_header(stored)


def test_evidence_must_fit_the_heads(tmp_path: Path) -> None:
    path = tmp_path / "ctx.kv"
    for change, message in (
        ({"num_heads": 3}, "3 query heads for 2 heads"),
        ({"query_dtype": "I8"}, "'I8'"),
        ({"observed": [f"pass {i}" for i in range(65)]}, "65 passes, at most 64"),
        ({"num_sampled": -2}, "query heads"),
        ({"num_sampled": 3}, r"sample_index: I64 \[2\] in 16 bytes, expected I64 \[3\]"),
        ({"num_sampled": 0}, "sample.* has no place"),
        ({"rotation": 1}, r"there are 1, but used are \[0, 1\]"),
    ):
        save(small_caches.full(), path, force=True)
        forge(path, lambda table, document, change=change: document["evidence"][0].update(change))
        with pytest.raises(CorruptFileError, match=message):
            read_header(path)


def test_rotations_must_fit_the_head_and_be_used(tmp_path: Path) -> None:
    path = tmp_path / "ctx.kv"
    for rotations, message in (
        ([], r"there are 0, but used are \[0\]"),
        ([1, 1], r"there are 2, but used are \[0\]"),
        ([1, 1, 1], "there are 3, more than layers"),
        ([0], "0 pairs of 4 dimensions"),
        ([3], "3 pairs of 4 dimensions"),
        ([2], r"rotations.0.pairs: I64 \[1, 2\] in 16 bytes, expected I64 \[2, 2\]"),
    ):
        save(small_caches.full(), path, force=True)
        forge(path, lambda table, document, rotations=rotations: document.update(rotations=rotations))
        with pytest.raises(CorruptFileError, match=message):
            read_header(path)


def test_files_from_before_samples_and_diagnostics_are_read(tmp_path: Path) -> None:
    path, cache = tmp_path / "ctx.kv", small_caches.full()
    unsampled = tuple(replace(one, sample=None, sample_index=None, rotation=None) for one in cache.evidence or ())
    save(replace(cache, evidence=unsampled), path)

    def older(table: dict[str, Any], document: dict[str, Any]) -> None:
        for evidence in document["evidence"]:
            assert evidence.pop("num_sampled") == 0
            assert evidence.pop("rotation") is None
        assert document.pop("rotations") == []
        document["provenance"]["compression"].pop("diagnostics")
        for layer in document["provenance"]["compression"]["layers"]:
            for name in ("error_evicted", "error_refitted", "heads_refitted"):
                layer.pop(name)

    forge(path, older)
    compression = read_header(path).provenance.compression
    assert compression is not None
    assert (compression.diagnostics, compression.layers[0].error_refitted) == (None, None)
    evidence = load(path).evidence
    assert evidence is not None
    assert (evidence[0].sample, evidence[0].sample_index, evidence[0].rotation) == (None, None, None)


def test_a_key_that_comes_twice_is_refused(stored: Path) -> None:
    data = stored.read_bytes()
    length = int.from_bytes(data[:8], "little")
    text = data[8 : 8 + length].decode().rstrip()
    write_signed(stored, text.replace('{\\"provenance\\"', '{\\"num_tokens\\":5,\\"provenance\\"'), data[8 + length :])
    with pytest.raises(CorruptFileError, match="key 'num_tokens' comes twice"):
        read_header(stored)


def test_random_bytes_end_in_a_documented_error(stored: Path) -> None:
    good = stored.read_bytes()
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        at, count = (int(torch.randint(high, (), generator=generator)) for high in (len(good) - 64, 64))
        noise = bytes(torch.randint(256, (count + 4,), generator=generator).tolist())
        stored.write_bytes(good[:at] + noise + good[at + len(noise) :])
        assert noise not in good
        with pytest.raises(CorruptFileError, match=re.escape(str(stored))):
            verify(stored)


def test_a_layer_takes_the_bytes_of_its_living_slots(tmp_path):
    save(small_caches.ragged(), tmp_path / "a.kv", kv_dtype="fp32")
    header = read_header(tmp_path / "a.kv")
    slots = header.layers[0].num_slots
    # Keys and values of 4 numbers and a bias, 4 bytes each; of the positions 4 low bits and 9 marks.
    assert header.layer_bytes(0) == slots * (2 * 4 + 1) * 4 + 1 + 2
    assert header.bits_per_number == 32


def test_the_bytes_of_all_parts_are_those_of_the_file(tmp_path):
    header = save(small_caches.ragged(), tmp_path / "a.kv", kv_dtype="fp32")
    slots, found = header.num_slots, header.bytes_by_part
    assert (found["keys"], found["values"]) == (slots * 4 * 4, slots * 4 * 4)
    assert found["bias"] == header.layers[0].num_slots * 4
    assert (found["position"], found["modality"], found["exact"], found["evidence"]) == (2 * (1 + 2), 5, 0, 0)
    assert sum(found.values()) == (tmp_path / "a.kv").stat().st_size
    header = save(small_caches.full(), tmp_path / "b.kv", kv_dtype="int4")
    found = header.bytes_by_part
    # Four of five tokens are sinks, in two layers of two heads: keys and values of 4 numbers, 2 bytes each; and a mask.
    assert found["exact"] == 2 * (2 * 4 * 2 * 4 * 2 + 2)
    assert found["evidence"] > 0
    assert sum(found.values()) == (tmp_path / "b.kv").stat().st_size
