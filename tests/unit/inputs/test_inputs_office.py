from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

from flowmm.inputs import kind_of, read
from flowmm.inputs.file import open_file

DOCUMENT = (
    '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>'
    "<w:p><w:r><w:t>{}</w:t></w:r></w:p></w:body></w:document>"
)
TYPES = (
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Override PartName="/word/document.xml" ContentType='
    '"application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
)
RELATIONS = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="r1" Target="word/document.xml" Type='
    '"http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"/></Relationships>'
)


def archive(path: Path, **entries: str) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, text in entries.items():
            file.writestr(name, text)
    return path


def docx(path: Path, text: str) -> Path:
    entries = {"[Content_Types].xml": TYPES, "_rels/.rels": RELATIONS, "word/document.xml": DOCUMENT.format(text)}
    return archive(path, **entries)


@pytest.mark.parametrize("entry", ["word/document.xml", "ppt/presentation.xml", "xl/workbook.xml"])
def test_office_files_are_told_by_their_folders(tmp_path, entry):
    assert kind_of(open_file(str(archive(tmp_path / "a.bin", **{entry: "<x/>"})))) == "office"


def test_an_epub_is_told_by_its_first_entry(tmp_path):
    assert kind_of(open_file(str(archive(tmp_path / "a", mimetype="application/epub+zip")))) == "office"


def test_other_archives_are_refused(tmp_path, refused):
    assert "binary data of no known kind" in refused(archive(tmp_path / "a.zip", readme="text"))
    assert "holds no office data" in refused(archive(tmp_path / "a.docx", readme="text"))


def test_without_the_extra_the_error_names_it(tmp_path, refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "markitdown", None)
    message = refused(docx(tmp_path / "a.docx", "text"))
    assert message.endswith("needs the office extra\npip install 'flowmm[office]'")


def test_an_old_or_encrypted_file_is_refused(tmp_path, refused):
    (tmp_path / "a.doc").write_bytes(bytes.fromhex("d0cf11e0a1b11ae1") + bytes(100))
    assert "encrypted or pre-2007" in refused(tmp_path / "a.doc")


def test_a_file_that_unpacks_to_more_than_the_limit_is_refused(tmp_path, refused, monkeypatch):
    monkeypatch.setattr("flowmm.inputs.office.MAX_UNPACKED", 999)
    path = archive(tmp_path / "a.docx", **{"word/document.xml": "x" * 1000})
    assert "unpacks to 1,000 bytes, more than the limit of 999" in refused(path)


def test_a_docx_becomes_markdown(tmp_path):
    pytest.importorskip("markitdown")
    pytest.importorskip("mammoth")
    (part,) = read([docx(tmp_path / "a.docx", "the text")])
    assert (part.kind, part.payload, part.source.kind) == ("text", "the text", "office")


def test_a_table_becomes_markdown(tmp_path):
    pytest.importorskip("markitdown")
    openpyxl = pytest.importorskip("openpyxl")
    pytest.importorskip("pandas")
    book = openpyxl.Workbook()
    book.active.append(["city", "people"])
    book.active.append(["Jena", 111])
    book.save(tmp_path / "a.xlsx")
    assert "| Jena | 111 |" in read([tmp_path / "a.xlsx"])[0].payload


def test_a_damaged_or_blank_docx_is_refused(tmp_path, refused):
    pytest.importorskip("markitdown")
    pytest.importorskip("mammoth")
    assert "damaged" in refused(archive(tmp_path / "a.docx", **{"word/document.xml": "<x"}))
    assert "holds no text" in refused(docx(tmp_path / "b.docx", ""))
