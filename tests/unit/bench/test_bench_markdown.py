"""Sections of a document are rewritten between their marks, and nothing else is touched."""

import pytest

from flowmm.bench.cost_report import STAGES, Cost, CostReport
from flowmm.bench.markdown import check_document, cost_section, refit_section, rewrite
from flowmm.bench.refit_report import RefitLayer, RefitReport, Sizes
from flowmm.errors import InputError

MARKS = ("<!-- flowmm bench refit -->", "<!-- end of flowmm bench refit -->")


def test_only_what_lies_between_the_marks_changes(tmp_path):
    path = tmp_path / "b.md"
    path.write_text(f"before\n{MARKS[0]}\nold\n{MARKS[1]}\nafter\n")
    rewrite(path, "refit", "new\n")
    rewrite(path, "refit", "newer\n")
    assert path.read_text() == f"before\n{MARKS[0]}\nnewer\n{MARKS[1]}\nafter\n"


def test_a_document_without_marks_gets_them_at_its_end(tmp_path):
    path = tmp_path / "b.md"
    path.write_text("before\n")
    rewrite(path, "refit", "new")
    assert path.read_text() == f"before\n\n{MARKS[0]}\nnew\n{MARKS[1]}\n"


@pytest.mark.parametrize("text", [f"{MARKS[0]}\n", f"{MARKS[1]}\n", f"{MARKS[1]}\n{MARKS[0]}\n"])
def test_half_a_section_is_refused_before_the_work(tmp_path, text):
    path = tmp_path / "b.md"
    path.write_text(text)
    with pytest.raises(InputError, match="has not both"):
        check_document(path, "refit")
    assert path.read_text() == text


def test_a_document_that_is_not_there_is_refused(tmp_path):
    check_document(None, "refit")
    with pytest.raises(InputError, match="cannot be read"):
        check_document(tmp_path / "none.md", "refit")


def test_the_cost_table_has_shares_of_the_plain_prefill():
    stages = dict(zip(STAGES, (0.2, 0.0, 0.1, 0.4, 0.02, 1.0, 0.5), strict=True))
    costs = (Cost("snapkv", 2.0, stages, 1_500_000_000),)
    report = CostReport("m", "cpu", "float32", 4090, 2048, 0.1, 3, None, costs, {"hae": "no image"})
    section = cost_section(report, "flowmm bench cost")
    assert "| `snapkv` | 0.10 | 0.00 | 0.05 | 0.20 | 0.01 | 0.50 | 0.25 | 1.11 | 2.00 s | 1.50 GB |" in section
    assert "`flowmm bench cost` on " in section
    assert "transformers" in section
    assert "`hae` was not measured: no image." in section


def test_the_refit_table_has_the_sum_over_layers():
    layers = (RefitLayer(0.5, 2.0, 0.4, 0.2, 4), RefitLayer(0.5, 1.0, 0.4, 0.2, 4))
    report = RefitReport("attention-matching", Sizes(2, 4, 32768, 128, 7), 288, 0.1, layers, None, 10**9)
    section = refit_section(report, "flowmm bench refit")
    assert "| 2 | 4 | 32768 | 128 | 10 % | 3.0 s | 1.50 s | 1.0 s | 1.00 GB |" in section
