import dataclasses
import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from flowmm.codecs import increasing
from flowmm.container import pack_head
from flowmm.context import ContextCache
from flowmm.errors import CorruptFileError, InputError, ResourceError, UnknownNameError, UsageError
from flowmm.header import read_header
from flowmm.hf.loading import DTYPES
from flowmm.store import check_target, load, save
from tests.unit import small_caches
from tests.unit.test_header import forge


def assert_equal(found: object, expected: object, where: str = "cache") -> None:
    """Every field of the values, tensors bit by bit."""
    assert type(found) is type(expected), where
    if isinstance(found, Tensor):
        assert found.dtype == expected.dtype, where
        assert torch.equal(found, expected), where
    elif isinstance(found, tuple):
        assert len(found) == len(expected), where
        for i, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_equal(one, other, f"{where}[{i}]")
    elif isinstance(found, dict):
        assert sorted(found) == sorted(expected), where
        for name, one in found.items():
            assert_equal(one, expected[name], f"{where}[{name}]")
    elif dataclasses.is_dataclass(found):
        for entry in dataclasses.fields(found):
            assert_equal(getattr(found, entry.name), getattr(expected, entry.name), f"{where}.{entry.name}")
    else:
        assert found == expected, where


def as_dtype(cache: ContextCache, dtype: torch.dtype) -> ContextCache:
    layers = tuple(
        dataclasses.replace(layer, keys=layer.keys.to(dtype), values=layer.values.to(dtype)) for layer in cache.layers
    )
    return dataclasses.replace(cache, layers=layers)


@pytest.mark.parametrize("make", [small_caches.full, small_caches.ragged])
@pytest.mark.parametrize(
    ("dtype", "kv_dtype", "stored"),
    [
        (torch.float32, "fp32", "fp32"),
        (torch.bfloat16, None, "bf16"),
        (torch.float16, None, "fp16"),
        (torch.bfloat16, "fp32", "fp32"),
    ],
)
def test_what_is_loaded_is_what_was_saved(
    tmp_path: Path, make: Callable[[], ContextCache], dtype: torch.dtype, kv_dtype: str | None, stored: str
) -> None:
    cache = as_dtype(make(), dtype)
    header = save(cache, tmp_path / "ctx.kv", kv_dtype=kv_dtype)
    assert header == read_header(tmp_path / "ctx.kv")
    assert header.kv_dtype == stored
    loaded = load(tmp_path / "ctx.kv")
    assert loaded.layers[0].keys.dtype == DTYPES[stored]
    assert_equal(as_dtype(loaded, dtype), cache)


def test_float32_is_stored_as_bf16_unless_asked_otherwise(tmp_path: Path) -> None:
    cache = small_caches.full()
    assert save(cache, tmp_path / "ctx.kv").kv_dtype == "bf16"
    loaded = load(tmp_path / "ctx.kv", dtype=torch.float32)
    assert torch.equal(loaded.layers[1].values, cache.layers[1].values.bfloat16().float())
    assert loaded.evidence is not None
    assert loaded.evidence[0].queries.dtype == torch.float32


def test_a_rotation_that_layers_share_is_stored_once_and_stays_shared(tmp_path: Path) -> None:
    header = save(small_caches.full(), tmp_path / "ctx.kv")
    assert [name for name in header.tensors if "rotation" in name and name.endswith("cos")] == ["rotations.0.cos"]
    first, second = load(tmp_path / "ctx.kv").evidence or ()
    assert first.rotation is second.rotation is not None


def test_rotations_of_their_own_stay_with_their_layers(tmp_path: Path) -> None:
    cache = small_caches.full()
    first, second = cache.evidence or ()
    other = dataclasses.replace(small_caches.ROTATION, cos=torch.full((5, 1), 0.25))
    mixed = (dataclasses.replace(first, rotation=None), dataclasses.replace(second, rotation=other))
    save(dataclasses.replace(cache, evidence=mixed), tmp_path / "ctx.kv")
    found = load(tmp_path / "ctx.kv").evidence or ()
    assert found[0].rotation is None
    assert_equal(found[1].rotation, other)


def test_a_rotation_of_dimensions_that_are_not_there_is_refused(tmp_path: Path) -> None:
    cache = small_caches.full()
    wrong = dataclasses.replace(small_caches.ROTATION, pairs=torch.tensor([[1, 4]]))
    evidence = tuple(dataclasses.replace(one, rotation=wrong) for one in cache.evidence or ())
    save(dataclasses.replace(cache, evidence=evidence), tmp_path / "ctx.kv")
    with pytest.raises(CorruptFileError, match=r"rotations\.0: the pairs are not of different dimensions below 4"):
        load(tmp_path / "ctx.kv")


def test_padding_is_not_stored(tmp_path: Path) -> None:
    tensors = save(small_caches.ragged(), tmp_path / "ctx.kv").tensors
    assert tensors["layers.0.keys"].shape == (4, 4)  # heads of 3 and 1 slots
    assert tensors["layers.0.bias"].shape == (4,)
    assert "layers.1.bias" not in tensors


def test_positions_are_left_out_when_every_head_holds_every_token(tmp_path: Path) -> None:
    assert not [name for name in save(small_caches.full(), tmp_path / "a.kv").tensors if "position" in name]
    cache = small_caches.cache(small_caches.layer([5, 4]))
    save(cache, tmp_path / "b.kv", kv_dtype="fp32")
    assert load(tmp_path / "b.kv").layers[0].position.tolist() == [[0, 1, 2, 3, 4], [0, 1, 2, 3, 0]]


def test_a_head_may_have_no_slots(tmp_path: Path) -> None:
    cache = small_caches.cache(small_caches.layer([0, 2]), small_caches.layer([0, 0]))
    save(cache, tmp_path / "ctx.kv", kv_dtype="fp32")
    assert_equal(load(tmp_path / "ctx.kv"), cache)


def test_the_safetensors_library_reads_the_same_bytes(tmp_path: Path) -> None:
    cache = as_dtype(small_caches.ragged(), torch.bfloat16)
    header = save(cache, tmp_path / "ctx.kv")
    with safe_open(tmp_path / "ctx.kv", "pt") as file:
        assert set(file.keys()) == set(header.tensors)
        assert file.metadata()["format"] == "flowmm-kv"
        keys, first = file.get_tensor("layers.0.keys"), cache.layers[0]
        assert torch.equal(keys, torch.cat([first.keys[0, :3], first.keys[1, :1]]))
        # 0, 2, 4 and 5 + 3: no low bits, marks at 0, 2, 4 and 7 of nine, those of even place in the first byte.
        assert file.get_tensor("layers.0.position").tolist() == [0, 0b0111, 0b1000]
        assert file.get_tensor("layers.0.bias").tolist() == pytest.approx([0.693147] * 4)
        assert file.get_tensor("modality").tolist() == [2, 0, 1, 1, 0]


FORMAT_1 = Path(__file__).parent / "files"  # small_caches, written in 32 bits before format 2


@pytest.mark.parametrize("make", [small_caches.full, small_caches.ragged])
def test_files_of_format_1_are_read(make: Callable[[], ContextCache]) -> None:
    path = FORMAT_1 / f"format1-{make.__name__}.kv"
    assert read_header(path).format_version == 1
    assert_equal(load(path), make())


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("layers.0.position", torch.tensor([0, 1, 5, 2], dtype=torch.int32), "not one of the 5 tokens"),
        ("layers.0.position", torch.tensor([-1, 1, 3, 2], dtype=torch.int32), "not one of the 5 tokens"),
        ("layers.0.position", torch.tensor([0, 3, 3, 2], dtype=torch.int32), "do not increase"),
        ("layers.0.bias", torch.tensor([0, 0, torch.nan, 0]), "bias is not finite"),
    ],
)
def test_values_that_cannot_be_are_refused_in_format_1_too(
    tmp_path: Path, name: str, values: Tensor, message: str
) -> None:
    (tmp_path / "ctx.kv").write_bytes((FORMAT_1 / "format1-ragged.kv").read_bytes())
    resign(tmp_path / "ctx.kv", name, values.numpy().tobytes())
    with pytest.raises(CorruptFileError, match=message):
        load(tmp_path / "ctx.kv")


def test_every_tensor_lies_on_a_multiple_of_its_item_size(tmp_path: Path) -> None:
    sizes = {"I64": 8, "F32": 4, "I32": 4, "BF16": 2, "U8": 1}
    for cache in (small_caches.ragged(), small_caches.full(), small_caches.cache(small_caches.layer([1], head_size=1))):
        for entry in save(cache, tmp_path / "ctx.kv", force=True).tensors.values():
            assert entry.start % sizes[entry.dtype] == 0


def test_a_changed_byte_in_any_tensor_is_found(tmp_path: Path) -> None:
    path = tmp_path / "ctx.kv"
    for cache in (small_caches.full(), small_caches.ragged()):
        header = save(cache, path, force=True)
        good = path.read_bytes()
        for name, entry in header.tensors.items():
            bad = bytearray(good)
            bad[entry.start] ^= 128
            path.write_bytes(bad)
            with pytest.raises(CorruptFileError, match=f"tensor {name} is damaged"):
                load(path)


def resign(path: Path, name: str, data: bytes) -> None:
    """Put other bytes into a tensor, with a checksum that fits them."""
    from xxhash import xxh3_128_hexdigest

    entry, old = read_header(path).tensors[name], path.read_bytes()
    path.write_bytes(old[: entry.start] + data + old[entry.end :])
    forge(path, lambda table, document: document["checksums"].update({name: xxh3_128_hexdigest(data)}))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("layers.0.bias", torch.tensor([0, 0, torch.nan, 0]), "bias is not finite"),
        ("layers.0.bias", torch.tensor([0, 0, -torch.inf, 0]), "bias is not finite"),
        # Of the second head 5, the number of tokens, is added to each position.
        ("layers.0.position", increasing.pack(torch.tensor([0, 1, 5, 7]), 10), "not one of the 5 tokens"),
        ("layers.0.position", increasing.pack(torch.tensor([0, 1, 3, 4]), 10), "not one of the 5 tokens"),
        ("layers.0.position", increasing.pack(torch.tensor([0, 3, 3, 7]), 10), "do not increase"),
        ("layers.0.position", torch.zeros(3, dtype=torch.uint8), "layers.0: 0 increasing numbers, expected 4"),
        ("modality", torch.tensor([0, 1, 2, 3, 0], dtype=torch.uint8), "3 is no modality"),
    ],
)
def test_values_that_cannot_be_are_refused(tmp_path: Path, name: str, values: Tensor, message: str) -> None:
    save(small_caches.ragged(), tmp_path / "ctx.kv")
    resign(tmp_path / "ctx.kv", name, values.numpy().tobytes())
    with pytest.raises(CorruptFileError, match=message):
        load(tmp_path / "ctx.kv")


def test_a_cache_that_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    good = small_caches.layer([2, 2])
    for change, message in (
        ({"position": torch.tensor([[1, 0], [0, 1]], dtype=torch.int32)}, "layer 0: the positions"),
        ({"bias": torch.full((2, 2), float("inf"))}, "layer 0: a bias"),
        ({"modality": torch.zeros(2, 2, dtype=torch.uint8)}, "layer 0: the modality"),
    ):
        with pytest.raises(ValueError, match=message):
            save(small_caches.cache(dataclasses.replace(good, **change)), tmp_path / "ctx.kv")
    assert os.listdir(tmp_path) == []


def test_values_beyond_float16_are_refused(tmp_path: Path) -> None:
    one = small_caches.layer([1])
    huge = dataclasses.replace(one, keys=torch.full_like(one.keys, 70000.0))
    with pytest.raises(UsageError, match="70000 do not fit float16"):
        save(small_caches.cache(huge), tmp_path / "ctx.kv", kv_dtype="fp16")
    assert os.listdir(tmp_path) == []


def test_an_unknown_precision_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="'bf61'") as caught:
        save(small_caches.full(), tmp_path / "ctx.kv", kv_dtype="bf61")
    assert "bf16" in caught.value.hint


def test_a_file_is_replaced_only_by_force(tmp_path: Path) -> None:
    path = tmp_path / "ctx.kv"
    path.write_text("precious")
    with pytest.raises(UsageError, match="exists already"):
        save(small_caches.full(), path)
    assert path.read_text() == "precious"
    save(small_caches.full(), path, force=True)
    assert load(path).num_tokens == 5


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real.kv").write_text("old")
    (tmp_path / "link.kv").symlink_to("real.kv")
    assert save(small_caches.full(), tmp_path / "link.kv", force=True).path == str(tmp_path / "link.kv")
    assert (tmp_path / "link.kv").is_symlink()
    assert load(tmp_path / "real.kv").num_tokens == 5


def test_targets_that_cannot_be_written_are_found_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        check_target(tmp_path, force=True)
    with pytest.raises(UsageError, match="not a regular file"):
        check_target("/dev/null", force=True)
    with pytest.raises(InputError, match="there is no folder"):
        check_target(tmp_path / "none" / "ctx.kv")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)  # root may write everywhere
    with pytest.raises(ResourceError, match="cannot be written"):
        check_target(tmp_path / "ctx.kv")


@pytest.mark.parametrize(
    ("failure", "caught"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(errno.ENOSPC, "No space left on device"), ResourceError),
        (OSError(errno.EIO, "Input/output error"), ResourceError),
    ],
)
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, caught: type[BaseException]
) -> None:
    def fail(descriptor: int) -> None:
        assert len(os.listdir(tmp_path)) == 2  # the temporary file lies in the same folder
        raise failure

    path = tmp_path / "ctx.kv"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(caught):
        save(small_caches.full(), path, force=True)
    assert os.listdir(tmp_path) == ["ctx.kv"]
    assert path.read_text() == "old"


def test_a_full_disk_is_a_resource_error_that_says_what_is_needed(tmp_path: Path) -> None:
    code = (
        "import resource, sys\n"
        "from flowmm.errors import ResourceError\n"
        "from flowmm.store import save\n"
        "from tests.unit import small_caches\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "try:\n"
        "    save(small_caches.full(), sys.argv[1])\n"
        "except ResourceError as error:\n"
        "    print(error)\n"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", code, str(tmp_path / "ctx.kv")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    needed = save(small_caches.full(), tmp_path / "other.kv").file_bytes
    assert f"needs {needed} bytes" in done.stdout, done.stderr
    assert os.listdir(tmp_path) == ["other.kv"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_mode_follows_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        save(small_caches.full(), tmp_path / "ctx.kv")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "ctx.kv").stat().st_mode) == mode


def test_file_and_folder_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def note(descriptor: int) -> None:
        synced.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    save(small_caches.full(), tmp_path / "ctx.kv")
    assert synced == ["file", "folder"]


def test_a_file_name_that_is_no_text_does_not_make_the_file_unreadable(tmp_path: Path) -> None:
    cache = small_caches.full()
    span = cache.provenance.sources[0]
    odd = dataclasses.replace(span, source=dataclasses.replace(span.source, name="caf\udce9.pdf"))
    cache = dataclasses.replace(cache, provenance=dataclasses.replace(cache.provenance, sources=(odd,)))
    assert save(cache, tmp_path / "ctx.kv").provenance.sources[0].source.name == "caf?.pdf"


def test_the_longest_file_name_works(tmp_path: Path) -> None:
    path = tmp_path / ("\u4e2d" * 84 + ".kv")  # 255 bytes
    assert save(small_caches.full(), path).path == str(path)


def test_the_head_is_padded_so_that_tensors_are_aligned() -> None:
    head = pack_head({"a": "b"}, {"x": ("F32", (2,), 8)})
    assert len(head) % 8 == 0
    assert int.from_bytes(head[:8], "little") == len(head) - 8
