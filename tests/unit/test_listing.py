import os
from pathlib import Path

import pytest

from flowmm.errors import InputError
from flowmm.listing import in_order, list_files
from flowmm.store import save
from tests.unit import small_caches
from tests.unit.test_header import forge


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(small_caches.ragged(), tmp_path / "b.kv")
    (tmp_path / "deeper").mkdir()
    save(small_caches.full(), tmp_path / "deeper" / "a.safetensors")
    (tmp_path / "notes.txt").write_text('{"format":"flowmm-kv"} is what a context file begins with')
    return tmp_path


def named(listing) -> list[str]:
    return [os.path.basename(file.path) for file in listing.files]


def test_a_context_file_is_known_by_its_beginning_and_not_by_its_name(folder):
    (folder / "deeper" / "a.safetensors").rename(folder / "model.bin")
    (folder / "empty.kv").touch()
    listing = list_files(folder)
    assert named(listing) == ["b.kv", "model.bin"]
    assert listing.passed_over == 2
    first = listing.files[0]
    assert (first.state, first.num_bytes) == ("whole", (folder / "b.kv").stat().st_size)
    assert first.sources == (small_caches.provenance().sources[0].source.name,)
    assert listing.num_bytes == sum(file.num_bytes for file in listing.files)


def test_folders_are_entered_only_when_asked(folder):
    assert named(list_files(folder)) == ["b.kv"]
    assert named(list_files(folder, recursive=True)) == ["b.kv", "a.safetensors"]


def test_damaged_and_newer_files_are_listed_as_that(folder):
    good = (folder / "b.kv").read_bytes()
    (folder / "cut.kv").write_bytes(good[:-1])
    (folder / "new.kv").write_bytes(good)
    forge(folder / "new.kv", lambda table, document: table["__metadata__"].update(format_version="3"))
    found = {os.path.basename(file.path): file for file in list_files(folder).files}
    assert {name: file.state for name, file in found.items()} == {
        "b.kv": "whole",
        "cut.kv": "damaged",
        "new.kv": "newer",
    }
    assert found["cut.kv"].problem.startswith("truncated: ")
    assert found["new.kv"].problem.startswith("made by a newer flowmm (format 3")
    assert found["new.kv"].as_dict()["tokens"] is None


def test_links_pipes_and_files_that_are_being_written_are_passed_over(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    save(small_caches.full(), elsewhere / "far.kv")
    (folder / "link.kv").symlink_to(elsewhere / "far.kv")
    (folder / "linked").symlink_to(elsewhere)
    (folder / "lost.kv").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.kv")
    (folder / "b.kv").rename(folder / ".b.kv.0123456789ab.tmp")
    listing = list_files(folder, recursive=True)
    assert named(listing) == ["a.safetensors"]
    assert listing.passed_over == 6  # the text, three links, the pipe, the temporary file


def test_files_that_cannot_be_opened_are_named(folder, monkeypatch):
    real = Path.open

    def refuse(path: Path, *arguments):
        if path.name == "b.kv":
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments)

    monkeypatch.setattr(Path, "open", refuse)  # root may read everything
    listing = list_files(folder)
    assert (listing.files, listing.unreadable) == ((), (str(folder / "b.kv"),))


def test_a_folder_that_is_none_is_an_input_error(folder):
    with pytest.raises(InputError, match="no such folder"):
        list_files(folder / "missing")
    with pytest.raises(InputError, match="is not a folder"):
        list_files(folder / "b.kv")


def test_files_are_ordered_by_age_bytes_or_name(folder):
    save(small_caches.ragged(), folder / "c.kv")
    for name, modified in (("b.kv", 100), ("c.kv", 300), ("deeper/a.safetensors", 200)):
        os.utime(folder / name, (modified, modified))
    files = list_files(folder, recursive=True).files

    def names(by) -> list[str]:
        return [os.path.basename(file.path)[0] for file in in_order(files, by)]

    assert names("age") == ["c", "a", "b"]
    assert names("bytes") == ["a", "b", "c"]  # the full one is the largest; equals go by name
    assert names("name") == ["b", "c", "a"]  # by the whole path
