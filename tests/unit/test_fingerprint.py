import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from flowmm import fingerprint
from flowmm.errors import InputError, UnsupportedModelError
from flowmm.fingerprint import files_fingerprint, json_fingerprint, text_fingerprint, weights_fingerprint


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, in which files count as settled at once."""
    monkeypatch.delenv("FLOWMM_NO_CACHE", raising=False)
    monkeypatch.setattr(fingerprint.platformdirs, "user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    monkeypatch.setattr(fingerprint, "_SETTLED_SECONDS", -1.0)
    return tmp_path / "cache" / "flowmm" / "weights"


def weights() -> dict[str, torch.Tensor]:
    return {
        "a": torch.arange(6, dtype=torch.float32).reshape(2, 3),
        "b": torch.ones(3, dtype=torch.bfloat16),
        "c": torch.zeros(0, 2),
    }


def write(folder: Path, **files: dict[str, torch.Tensor]) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for name, tensors in files.items():
        save_file(tensors, folder / f"{name}.safetensors")
    return [folder / f"{name}.safetensors" for name in files]


def test_sharding_file_names_and_order_make_no_difference(tmp_path: Path) -> None:
    whole = weights()
    one = write(tmp_path / "one", model=whole)
    two = write(tmp_path / "two", x={"c": whole["c"], "a": whole["a"]}, y={"b": whole["b"]})
    first = weights_fingerprint(one)
    assert len(first) == 32
    assert weights_fingerprint(two) == first
    assert weights_fingerprint(two[::-1]) == first


@pytest.mark.parametrize(
    "change",
    [
        {"a": torch.tensor([[0, 1, 2], [3, 4, 5.0000005]])},  # the next float32 after 5
        {"a": torch.arange(6, dtype=torch.float32).reshape(3, 2)},
        {"b": torch.ones(3, dtype=torch.float16)},
        {"d": torch.zeros(1)},
        {"c": torch.zeros(0, 3)},
    ],
)
def test_one_changed_weight_shape_dtype_or_name_changes_it(tmp_path: Path, change: dict[str, torch.Tensor]) -> None:
    before = weights_fingerprint(write(tmp_path / "one", model=weights()))
    assert weights_fingerprint(write(tmp_path / "two", model={**weights(), **change})) != before


def test_it_is_remembered_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write(tmp_path / "one", model=weights())
    first = weights_fingerprint(files)
    with monkeypatch.context() as patch:
        patch.setattr(fingerprint, "_hash_tensors", lambda containers: "hashed again")
        assert weights_fingerprint(files) == first
        patch.setenv("FLOWMM_NO_CACHE", "1")
        assert weights_fingerprint(files) == "hashed again"
    times = files[0].stat()
    with files[0].open("r+b") as file:  # one byte, the same size, and the time set back
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    os.utime(files[0], ns=(times.st_atime_ns, times.st_mtime_ns))
    assert weights_fingerprint(files) != first


def test_with_and_without_the_cache_it_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    files = write(tmp_path / "one", model=weights())
    first = weights_fingerprint(files)
    assert [path.read_text() for path in own_cache.iterdir()] == [first]
    assert weights_fingerprint(files) == first
    monkeypatch.setenv("FLOWMM_NO_CACHE", "1")
    assert weights_fingerprint(files) == first


def test_a_file_written_just_now_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    monkeypatch.setattr(fingerprint, "_SETTLED_SECONDS", 60.0)
    weights_fingerprint(write(tmp_path / "one", model=weights()))
    assert not own_cache.exists()


def test_a_damaged_note_is_ignored_and_a_folder_that_cannot_be_written_is_no_reason_to_fail(
    tmp_path: Path, own_cache: Path
) -> None:
    files = write(tmp_path / "one", model=weights())
    first = weights_fingerprint(files)
    next(own_cache.iterdir()).write_bytes(b"\xff rubbish")
    assert weights_fingerprint(files) == first
    next(own_cache.iterdir()).unlink()
    own_cache.rmdir()
    own_cache.write_text("a file where the folder should be")
    assert weights_fingerprint(files) == first


def test_damaged_missing_and_double_weights_are_told_apart(tmp_path: Path) -> None:
    files = write(tmp_path / "one", model=weights(), again={"b": torch.zeros(1)})
    with pytest.raises(UnsupportedModelError, match=r"tensor b is also in model\.safetensors"):
        weights_fingerprint(files)
    with pytest.raises(InputError, match="no such file"):
        weights_fingerprint([tmp_path / "none.safetensors"])
    with pytest.raises(UnsupportedModelError, match="no safetensors weights"):
        weights_fingerprint([])
    files[0].write_bytes(files[0].read_bytes()[:-1])
    with pytest.raises(UnsupportedModelError, match="truncated"):
        weights_fingerprint(files[:1])


def test_json_is_told_by_content_not_by_order_of_keys() -> None:
    assert json_fingerprint({"a": 1, "b": [2]}) == json_fingerprint({"b": [2], "a": 1})
    assert json_fingerprint({"a": [1, 2]}) != json_fingerprint({"a": [2, 1]})


def test_text_has_the_fingerprint_of_its_bytes() -> None:
    assert text_fingerprint("") == "e3b0c44298fc1c149afbf4c8996fb924"  # the first half of the sha256 of nothing
    assert text_fingerprint("\ud800") != text_fingerprint("?")


def test_files_are_told_by_name_and_bytes(tmp_path: Path) -> None:
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    a.write_text("1")
    b.write_text("2")
    before = files_fingerprint([a, b])
    assert files_fingerprint([b, a]) == before
    a.write_text("2")
    b.write_text("1")
    assert files_fingerprint([a, b]) != before
    with pytest.raises(InputError):
        files_fingerprint([tmp_path / "none"])
