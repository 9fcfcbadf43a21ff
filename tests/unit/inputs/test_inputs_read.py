from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from flowmm.errors import InputError, UsageError
from flowmm.inputs import LOADERS, read


def test_parts_come_in_the_order_of_the_paths(tmp_path, make_pdf):
    pdf = make_pdf("the first page of two pages", "the second page of two pages")
    Image.new("RGB", (4, 3), "red").save(tmp_path / "b.png")
    (tmp_path / "a.md").write_text("# title\n")
    parts = read([str(tmp_path / "b.png"), pdf, "-", str(tmp_path / "a.md")], stdin=io.BytesIO(b"piped"))
    assert [(part.kind, part.source.name, part.source.kind, part.source.page) for part in parts] == [
        ("image", "b.png", "image", None),
        ("text", "doc.pdf", "pdf", 1),
        ("text", "doc.pdf", "pdf", 2),
        ("text", "stdin", "text", None),
        ("text", "a.md", "text", None),
    ]


def test_a_source_carries_the_hash_of_the_whole_file(tmp_path, make_pdf):
    pdf = make_pdf("the first page of two pages", "the second page of two pages")
    expected = hashlib.sha256(pdf.read_bytes()).hexdigest()
    assert [part.source.sha256 for part in read([pdf])] == [expected, expected]
    assert read(["-"], stdin=io.BytesIO(b"abc"))[0].source.sha256.startswith("ba7816bf")


def test_a_file_may_be_given_twice(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    assert [part.payload for part in read([tmp_path / "a.txt"] * 2)] == ["a", "a"]


def test_progress_is_told_before_each_document_and_at_the_end(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    told = []
    read([tmp_path / "a.txt", tmp_path / "b.txt"], on_file=lambda *call: told.append(call))
    assert told == [("a.txt", 0, 2), ("b.txt", 1, 2), ("b.txt", 2, 2)]


def test_a_missing_file_is_refused(tmp_path, refused):
    assert "no such file" in refused(tmp_path / "none.txt")


def test_a_missing_file_is_found_before_the_others_are_read(tmp_path):
    (tmp_path / "bad.pdf").write_bytes(b"%PDF-1.4 damaged")
    with pytest.raises(InputError, match="no such file"):
        read([tmp_path / "bad.pdf", tmp_path / "none.txt"])


def test_a_directory_is_refused(tmp_path, refused):
    assert "is a directory" in refused(tmp_path)


def test_an_empty_file_is_refused(tmp_path, refused):
    (tmp_path / "empty.pdf").touch()
    assert "is empty (0 bytes)" in refused(tmp_path / "empty.pdf")


def test_a_pipe_is_refused_without_waiting_for_its_writer(tmp_path, refused):
    os.mkfifo(tmp_path / "pipe")
    assert "is a pipe, socket or device" in refused(tmp_path / "pipe")


def test_a_device_is_refused(refused):
    assert "is a pipe, socket or device" in refused("/dev/zero")


def test_a_file_without_permission_is_refused(tmp_path, refused, monkeypatch):
    (tmp_path / "secret.txt").write_text("x")

    def deny(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", deny)  # root, who runs the tests in containers, may read anything
    assert "cannot be read: Permission denied" in refused(tmp_path / "secret.txt")


def test_a_path_that_no_system_accepts_is_refused(refused):
    assert "cannot be read" in refused("a\0b")
    assert "cannot be read" in refused("x" * 5000)


def test_a_name_that_is_not_utf8_is_made_writable(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.txt")
    with open(path, "wb") as file:
        file.write(b"text")
    assert read([os.fsdecode(path)])[0].source.name == "caf\ufffd.txt"


def test_no_document_is_a_usage_error():
    with pytest.raises(UsageError, match="no document"):
        read([])


def test_stdin_can_be_named_once():
    with pytest.raises(UsageError, match="given 2 times"):
        read(["-", "-"], stdin=io.BytesIO(b"text"))


def test_an_empty_stdin_is_refused():
    with pytest.raises(InputError, match="stdin: is empty"):
        read(["-"], stdin=io.BytesIO(b""))


def test_a_pdf_on_stdin_is_refused(make_pdf):
    with pytest.raises(InputError, match="stdin: holds pdf data"):
        read(["-"], stdin=io.BytesIO(make_pdf("x").read_bytes()))


@pytest.mark.parametrize("name", ["picture.txt", "picture.jpg", "picture.pdf", "picture.docx", "picture"])
def test_a_png_is_read_as_one_whatever_its_name(tmp_path, name):
    Image.new("RGB", (4, 3), "red").save(tmp_path / name, format="PNG")
    (part,) = read([tmp_path / name])
    assert (part.source.kind, part.payload.size) == ("image", (4, 3))


def test_a_pdf_is_read_as_one_whatever_its_name(make_pdf):
    assert read([make_pdf("a page with enough text on it", name="page.png")])[0].source.kind == "pdf"


@pytest.mark.parametrize(
    ("name", "kind"), [("a.png", "image"), ("a.PDF", "pdf"), ("a.docx", "office"), ("a.mp4", "video")]
)
def test_text_named_as_something_else_is_refused(tmp_path, refused, name, kind):
    (tmp_path / name).write_text("plain text")
    assert f"holds no {kind} data (it begins with b'plain te')" in refused(tmp_path / name)


def test_binary_data_of_no_known_kind_is_refused(tmp_path, refused):
    (tmp_path / "a.bin").write_bytes(b"\x7fELF\x02\x01\x01\x00\x00")
    assert "binary data of no known kind (a NUL byte at offset 7)" in refused(tmp_path / "a.bin")


@pytest.mark.parametrize(
    "text", ["BMW builds cars, and so on", "%%PDF-1.4 is a version", "see %PDF-", "RIFF raff", "GIF", "PK"]
)
def test_text_that_resembles_a_magic_number_is_text(tmp_path, text):
    (tmp_path / "a.txt").write_text(text)
    assert read([tmp_path / "a.txt"])[0].payload == text


def test_text_is_the_last_kind_since_it_recognises_everything():
    assert list(LOADERS)[-1] == "text"


def test_importing_the_inputs_imports_no_heavy_library():
    script = "import sys, flowmm.inputs; print([m for m in sys.modules if m in ('torch', 'PIL', 'numpy', 'pypdfium2')])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
