"""`flowmm bench quality` and `flowmm bench order` as a user runs them."""

import json
import subprocess
import time

from tests.conformance.folders import make_folder
from tests.e2e.process import FLOWMM, environment, flowmm
from tests.milebench_folder import draw_tasks
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
    assert "goes on with 38 rows" in again.stderr

    order = flowmm(tmp_path, "bench", "order", "results", "results", "--json")
    assert order.code == 0, order.stderr
    assert [one["keep"] for one in json.loads(order.stdout)["by_keep"]] == [0.6, 0.4]

    other = flowmm(tmp_path, *command, "-m", "flowmm/reader", "--seed", "1", "-o", "results")
    assert other.code == 2
    assert "begun with seed 0, but 1 is asked for" in other.error[0]


def test_precisions_are_compared_at_equal_bytes(tmp_path):
    write_small_suite(tmp_path / "tiny", contexts=1)
    command = ("bench", "bytes", "--suite", "tiny", "--method", "snapkv", "--reduce", "50%", "--kv-dtype", "bf16,int8")
    done = flowmm(tmp_path, *command, "-m", "flowmm/reader", "--device", "cpu", "-n", "8", "-o", "results", "--json")
    assert done.code == 0, done.stderr
    found = json.loads(done.stdout)
    assert [(one["left"], one["kv_dtype"]) for one in found["results"]] == [(0.5, "bf16"), (0.5, "int8")]
    assert found["levels"][0]["planner"] == ["int8"]
    assert found["levels"][0]["planner_behind_points"] >= 0
    shown = flowmm(tmp_path, *command, "-m", "flowmm/reader", "--device", "cpu", "-n", "8", "-o", "results")
    assert "is best, --reduce is" in shown.stdout


def test_a_folder_in_milebench_layout_runs_with_a_random_qwen2_5_vl(tmp_path):
    make_folder("qwen2_5_vl", tmp_path / "model")
    draw_tasks(tmp_path / "mile")
    command = ("bench", "quality", "--suite", "mile", "--method", "snapkv,kvzip,flowmm-paper", "--keep", "0.8")
    done = flowmm(tmp_path, *command, "-m", "model", "-n", "4", "--device", "cpu", "-o", "results", "--json")
    assert done.code == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found["full"]["by_kind"]) == {"CountShapes", "NextColour", "TableCode"}
    assert [one["method"] for one in found["results"]] == ["snapkv", "kvzip", "flowmm-paper"]
    rows = [json.loads(line) for line in (tmp_path / "results" / "rows.jsonl").read_text().splitlines()[1:]]
    assert len({row["context"] for row in rows}) == 15


def test_a_run_that_is_killed_goes_on_and_gives_the_same_table(tmp_path):
    write_small_suite(tmp_path / "tiny")
    command = ("bench", "quality", "--suite", "tiny", "--method", "snapkv", "--keep", "0.5", "-m", "flowmm/reader")
    command = (*command, "-n", "8", "--device", "cpu")
    whole = flowmm(tmp_path, *command, "-o", "whole", "--json")
    assert whole.code == 0, whole.stderr
    rows = tmp_path / "killed" / "rows.jsonl"
    started = subprocess.Popen([*FLOWMM, *command, "-o", "killed"], cwd=tmp_path, env=environment(tmp_path))
    while started.poll() is None and not (rows.exists() and rows.read_bytes().count(b"\n") > 3):
        time.sleep(0.02)
    started.kill()
    started.wait()
    before = rows.read_bytes()
    resumed = flowmm(tmp_path, *command, "-o", "killed", "--json")
    assert resumed.code == 0, resumed.stderr
    assert rows.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    assert untimed(resumed.stdout) == untimed(whole.stdout)


def untimed(text):
    """A report without its seconds."""
    return json.loads(text, object_hook=lambda one: {name: one[name] for name in one if "seconds" not in name})
