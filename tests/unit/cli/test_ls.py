"""The table of `flowmm ls`."""

import json
import os
from dataclasses import replace

import pytest

from flowmm.listing import in_order, list_files
from flowmm.store import save
from flowmm_cli.app import run
from flowmm_cli.commands.ls import cut, table
from tests.unit import small_caches


@pytest.fixture
def folder(tmp_path):
    cache = small_caches.ragged()
    model = replace(cache.provenance.model, id="Qwen/Qwen2.5-VL-7B-Instruct")
    cache = replace(cache, provenance=replace(cache.provenance, model=model))
    save(cache, tmp_path / "quarterly-report-2026-third-quarter-with-all-appendices.kv")
    save(cache, tmp_path / "a.kv")
    (tmp_path / "cut.kv").write_bytes((tmp_path / "a.kv").read_bytes()[:-1])
    for name, modified in (("a.kv", 1000), ("cut.kv", 900)):
        os.utime(tmp_path / name, (modified, modified))
    return tmp_path


@pytest.mark.parametrize("width", [80, 120])
def test_a_table_fits_a_terminal_and_keeps_every_number(folder, width):
    lines = table(in_order(list_files(folder).files, "name"), folder, 1000 + 3 * 86400, width)
    rows = lines[: lines.index("")]
    assert max(map(len, rows)) <= width
    assert rows[0].split() == ["file", "model", "sources", "tokens", "keep", "bytes", "age"]
    assert rows[2].startswith("a.kv ")
    assert rows[2].split()[-6:] == ["40.0", "%", f"{(folder / 'a.kv').stat().st_size / 1000:.1f}", "kB", "3", "d"]
    assert rows[2].split()[-7] == "5"
    assert "(damaged)" in rows[3]
    assert rows[4].startswith("quart")
    assert "…" in rows[4]
    assert lines[-1].startswith("cut.kv: truncated")


def test_without_a_width_nothing_is_cut(folder):
    lines = table(list_files(folder).files, folder, 5000)
    assert "quarterly-report-2026-third-quarter-with-all-appendices.kv" in lines[4]
    assert "…" not in "".join(lines)


@pytest.mark.parametrize(("size", "text"), [(9, "abcdefghi"), (8, "abcd…ghi"), (5, "ab…hi"), (2, "a…")])
def test_a_long_name_is_cut_in_the_middle(size, text):
    assert cut("abcdefghi", size) == text


def test_the_command_counts_what_it_passes_over(folder, capsys):
    (folder / "notes.txt").write_text("not a context")
    assert run(["ls", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("; other files passed over: 1")
    assert run(["ls", str(folder), "--json", "--sort", "bytes"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema_version"], found["passed_over"], len(found["files"])) == (1, 1, 3)
    assert found["files"][-1]["file"].endswith("cut.kv")
    assert {file["state"] for file in found["files"]} == {"whole", "damaged"}
    assert run(["ls", str(folder / "missing")]) == 3
