from __future__ import annotations

import pytest

from flowmm.errors import UsageError
from flowmm.inputs import ReadOptions, read


@pytest.fixture
def payload(tmp_path):
    def read_bytes(data: bytes, **options) -> str:
        (tmp_path / "a.txt").write_bytes(data)
        return read([tmp_path / "a.txt"], ReadOptions(**options))[0].payload

    return read_bytes


def test_newlines_become_one_kind_and_nothing_else_changes(payload):
    assert payload(b"  a\r\nb\rc\n\n\td  ") == "  a\nb\nc\n\n\td  "


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_decide(payload, encoding):
    assert payload("né \U0001f600".encode(encoding)) == "né \U0001f600"


def test_utf16_of_both_byte_orders_is_read(payload):
    assert payload(b"\xfe\xff\x00h\x00i") == payload(b"\xff\xfeh\x00i\x00") == "hi"


def test_another_encoding_is_refused_with_the_offset(tmp_path, refused):
    (tmp_path / "a.txt").write_bytes("ab é".encode("latin-1"))
    message = refused(tmp_path / "a.txt")
    assert "is not utf-8 text: byte 0xe9 at offset 3" in message
    assert "--encoding" in message


def test_the_offset_counts_the_byte_order_mark(tmp_path, refused):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfab\xff")
    assert "byte 0xff at offset 5" in refused(tmp_path / "a.txt")


def test_half_a_utf16_character_is_refused(tmp_path, refused):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfeh\x00i")
    assert "is not utf-16-le text: byte 0x69 at offset 4" in refused(tmp_path / "a.txt")


def test_the_named_encoding_is_used(payload):
    assert payload("é".encode("latin-1"), encoding="latin-1") == "é"
    assert payload("hi".encode("utf-16-le"), encoding="utf-16-le") == "hi"


def test_a_byte_order_mark_outranks_the_named_encoding(payload):
    assert payload("é".encode("utf-8-sig"), encoding="latin-1") == "é"


def test_binary_data_stays_binary_with_an_encoding_that_accepts_all_bytes(tmp_path, refused):
    (tmp_path / "a.txt").write_bytes(b"ab\0c")
    assert "NUL characters" in refused(tmp_path / "a.txt", encoding="latin-1")


@pytest.mark.parametrize("data", [b" \n\t\r\n ", b"\xef\xbb\xbf", b"\xef\xbb\xbf \n"])
def test_a_blank_file_is_refused(tmp_path, refused, data):
    (tmp_path / "a.txt").write_bytes(data)
    assert "nothing but white space" in refused(tmp_path / "a.txt")


@pytest.mark.parametrize("name", ["klingon", "base64", "rot13", ""])
def test_an_unknown_encoding_is_a_usage_error(name):
    with pytest.raises(UsageError, match="no text encoding named"):
        ReadOptions(encoding=name)


@pytest.mark.parametrize("name", ["a.html", "a.csv", "a.json", "a.py", "Makefile", "a.svg"])
def test_sources_of_any_kind_are_text(tmp_path, name):
    (tmp_path / name).write_text("<b>1,2</b>")
    assert read([tmp_path / name])[0].payload == "<b>1,2</b>"
