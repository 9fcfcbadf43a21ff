"""The order of methods in two results, and Spearman's correlation at each share of kept slots."""

import json

import pytest

from flowmm.bench.quality_order import bench_order
from flowmm.errors import InputError, UnknownNameError


def results(folder, suite, scores):
    listed = [
        {"method": name, "keep": keep, "kv_dtype": "bf16", "exact_match": score, "anls": 1 - score}
        for keep, by_name in scores.items()
        for name, score in by_name.items()
    ]
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps({"schema_version": 1, "suite": suite, "results": listed}))
    return folder


@pytest.fixture
def runs(tmp_path):
    dev = results(tmp_path / "d", "dev", {0.2: {"a": 0.9, "b": 0.5, "c": 0.1, "d": 0.0}, 0.1: {"a": 0.3, "b": 0.2}})
    test = results(tmp_path / "t", "test", {0.2: {"a": 0.5, "b": 0.9, "c": 0.2, "e": 1.0}, 0.05: {"a": 0.1}})
    return dev, test


def test_methods_and_shares_of_both_runs_are_compared(runs):
    found = bench_order(*runs).as_dict()
    (order,) = found["by_keep"]
    assert (found["dev"], found["test"], order["keep"], order["methods"]) == ("dev", "test", 0.2, 3)
    assert [one["method"] for one in order["dev"]] == ["a", "b", "c"]
    assert [one["method"] for one in order["test"]] == ["b", "a", "c"]
    assert order["spearman"] == pytest.approx(0.5)  # 1 - 6 * 2 / (3 * 8)


def test_another_mark_orders_otherwise(tmp_path, runs):
    (order,) = bench_order(runs[0], runs[0], score="anls").as_dict()["by_keep"][:1]
    assert [one["method"] for one in order["dev"]] == ["d", "c", "b", "a"]
    with pytest.raises(UnknownNameError, match="no score named 'f1'"):
        bench_order(*runs, score="f1")


def test_results_without_a_common_share_are_refused(tmp_path, runs):
    other = results(tmp_path / "o", "o", {0.7: {"a": 1.0}})
    with pytest.raises(InputError, match="no share of kept slots"):
        bench_order(runs[0], other)


@pytest.mark.parametrize("text", ["", "[]", '{"schema_version": 1}', '{"schema_version": 9, "results": []}'])
def test_what_holds_no_results_is_refused(tmp_path, runs, text):
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"r\.json"):
        bench_order(runs[0], path)
    with pytest.raises(InputError, match="cannot be read"):
        bench_order(runs[0], tmp_path / "none")
