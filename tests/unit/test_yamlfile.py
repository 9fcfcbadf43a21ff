"""YAML 1.2 scalars, and the place of every problem."""

import pytest

from flowmm.errors import UsageError
from flowmm.yamlfile import Document, dump, read


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("010", 10),
        ("0o10", 8),
        ("0x10", 16),
        ("-7", -7),
        ("on", "on"),
        ("no", "no"),
        ("true", True),
        ("~", None),
        ("", None),
        ("2026-01-01", "2026-01-01"),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("'1'", "1"),
        (".5", 0.5),
        (".inf", float("inf")),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text, value):
    found = Document("a.yaml", f"key: {text}").data["key"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: {c: 1, c: 2}\na: 3", "a.yaml:2:11: c: this key is there twice\na.yaml:3:1: a: this key is there"),
        ("- 1", "a.yaml:1:1: expected keys and values"),
        ("", "a.yaml:1:1: expected keys and values"),
        ("a: [1", "a.yaml:1:6: "),
        ("a: &x [*x]", "a.yaml:1:8: references"),
        ("a: 1\n---\nb: 2", "a.yaml:2:1: but found another document"),
        ("a: !!python/name:os.system x", "a.yaml:1:4: could not determine a constructor"),
        ("{" * 5000, "a.yaml:1:1: nested too deeply"),
    ],
)
def test_what_is_no_plain_mapping_is_refused_with_its_place(text, message):
    with pytest.raises(UsageError) as caught:
        Document("a.yaml", text)
    assert str(caught.value).startswith(message)


def test_a_problem_is_placed_at_its_key_or_at_the_mapping_that_misses_it():
    document = Document("a.yaml", "a:\n  - {b: 1}\n  - c\n")
    assert str(document.problem(("a", 0, "b"), "bad")) == "a.yaml:2:6: a.0.b: bad"
    assert str(document.problem(("a", 1), "bad")) == "a.yaml:3:5: a.1: bad"
    assert str(document.problem(("a", 0, "z"), "bad")) == "a.yaml:2:5: a.0.z: bad"


def test_what_is_written_is_read_back_as_it_was():
    twice = ["1e5", "010", "no", "7.", "ä\x07"]  # the first two and the fourth are numbers without quotes
    data = {"extends": "default", "names": twice, "again": twice, "heads": [[1.0, 1e-05], [2]], "none": None}
    text = dump(data)
    assert Document("a.yaml", text).data == data
    assert "- [1.0, 1.0e-05]\n" in text


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "a.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"a\.yaml: cannot be read: (No such file|not UTF-8)"):
        read(path)
