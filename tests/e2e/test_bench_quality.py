"""`flowmm bench quality` and `flowmm bench order` as a user runs them."""

import json

from tests.e2e.process import flowmm
from tests.small_suites import write_small_suite


def test_a_suite_is_measured_resumed_and_compared(tmp_path):
    write_small_suite(tmp_path / "tiny")
    command = ("bench", "quality", "--suite", "tiny", "--method", "snapkv,kvzip", "--keep", "60%,0.4", "-n", "8")
    done = flowmm(tmp_path, *command, "-m", "flowmm/reader", "--device", "cpu", "-o", "results", "--json")
    assert done.code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["schema_version"] == 1
    assert found["full"]["exact_match"] == 1.0
    assert [(one["method"], one["keep"]) for one in found["results"]][:2] == [("snapkv", 0.6), ("snapkv", 0.4)]
    names = {path.name for path in (tmp_path / "results").iterdir()}
    assert names == {"rows.jsonl", "results.json", "table.md", "curve.svg"}

    again = flowmm(tmp_path, *command, "-m", "flowmm/reader", "--device", "cpu", "-o", "results", "--json")
    assert again.stdout == done.stdout
    assert "goes on with 24 rows" in again.stderr

    order = flowmm(tmp_path, "bench", "order", "results", "results", "--json")
    assert order.code == 0, order.stderr
    assert [one["keep"] for one in json.loads(order.stdout)["by_keep"]] == [0.6, 0.4]

    other = flowmm(tmp_path, *command, "-m", "flowmm/reader", "--seed", "1", "-o", "results")
    assert other.code == 2
    assert "begun with seed 0, but 1 is asked for" in other.error[0]
