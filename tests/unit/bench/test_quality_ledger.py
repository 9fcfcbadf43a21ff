"""Rows are kept as they come; a torn end is cut off; other settings are another run."""

from dataclasses import replace

import pytest

from flowmm.bench.quality_ledger import Ledger
from flowmm.bench.quality_rows import Asked, Row, RunHeader, Settings
from flowmm.errors import CorruptFileError, UsageError
from flowmm.records import ModelIdentity

MODEL = ModelIdentity("m", None, False, "qwen2", "w", "c", "t", "x", None, "float32")
SETTINGS = Settings(("snapkv",), (0.2, 0.1), None, False, None, 8, 2048, "rules")
HEADER = RunHeader(1, "dev", "hash", MODEL, 0, SETTINGS)
ASKED = Asked("q", "dense", "text", "5000", 1.0, 1.0, 1.0, 1.0, 4, 0)
ROW = Row("c0", "compressed", "snapkv", 0.2, "bf16", 40, 18, 0.2, 100, {"read": 0.5}, (ASKED,))
OTHER = replace(ROW, context="c1", refused="no")


def test_rows_come_back_as_they_were(tmp_path):
    ledger = Ledger.open(tmp_path / "new", HEADER)
    ledger.add(ROW)
    ledger.add(OTHER)
    again = Ledger.open(tmp_path / "new", HEADER)
    assert again.rows == [ROW, OTHER]
    assert again.has("c0", ROW.key)
    assert not again.has("c0", replace(ROW, keep=0.1).key)
    assert again.refused == {ROW.key: "no"}


@pytest.mark.parametrize("torn", [b'{"context":"c1","gro', b"\0" * 40 + b"\n", b"\xff\n"])
def test_a_torn_last_line_is_cut_off_and_the_run_goes_on_behind_it(tmp_path, torn):
    Ledger.open(tmp_path, HEADER).add(ROW)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(path.read_bytes() + torn)
    ledger = Ledger.open(tmp_path, HEADER)
    assert ledger.rows == [ROW]
    ledger.add(OTHER)
    assert Ledger.open(tmp_path, HEADER).rows == [ROW, OTHER]


def test_a_damaged_line_in_the_middle_is_an_error_that_names_it(tmp_path):
    Ledger.open(tmp_path, HEADER).add(ROW)
    path = tmp_path / "rows.jsonl"
    head, row = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([head, row[:20], row, b""]))
    with pytest.raises(CorruptFileError, match="jsonl:2"):
        Ledger.open(tmp_path, HEADER)


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (replace(HEADER, seed=1), "begun with seed 0, but 1"),
        (replace(HEADER, suite_hash="h2"), "suite_hash hash, but h2"),
        (replace(HEADER, model=replace(MODEL, weights="w2")), "begun with model w, but w2"),
        (replace(HEADER, settings=replace(SETTINGS, keep=(0.2,))), r"begun with keep \(0.2, 0.1\), but \(0.2,\)"),
        (replace(HEADER, settings=replace(SETTINGS, limit=3)), "begun with limit None, but 3"),
    ],
)
def test_another_run_is_refused_and_says_in_what_it_differs(tmp_path, other, what):
    Ledger.open(tmp_path, HEADER).add(ROW)
    with pytest.raises(UsageError, match=what):
        Ledger.open(tmp_path, other)
    assert Ledger.open(tmp_path, HEADER).rows == [ROW]
