"""A whole run of `bench bytes` on two small contexts with the embedded reader."""

import json
from dataclasses import replace

import pytest

import flowmm.bench.quality as quality
from flowmm import readings
from flowmm.bench.bytes import BytesOptions, bench_bytes
from flowmm.bench.bytes_report import BytesReport, Level
from flowmm.bench.quality_report import Result, Scores
from flowmm.bench.quality_rows import Key
from flowmm.chosen import load_chosen_model
from flowmm.errors import UnknownNameError, UsageError
from flowmm.records import ModelOptions
from tests.small_suites import write_small_suite

OPTIONS = BytesOptions(method="snapkv", reduce=(0.5, 0.7), kv_dtypes=("bf16", "int8"), max_new_tokens=8)
MODEL = ModelOptions("flowmm/reader", device="cpu")


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    return write_small_suite(tmp_path_factory.mktemp("suites") / "tiny")


@pytest.fixture(scope="module")
def reader():
    return load_chosen_model(MODEL)


@pytest.fixture(autouse=True)
def loaded_once(reader, monkeypatch):
    monkeypatch.setattr(quality, "load_chosen_model", lambda _: reader)


@pytest.fixture(scope="module")
def whole(suite, reader, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    document = folder.parent / "b.md"
    document.write_text("before\n")
    read, real = [], readings.prefill
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quality, "load_chosen_model", lambda _: reader)
        patch.setattr(readings, "prefill", lambda *given, **named: read.append(1) or real(*given, **named))
        report = bench_bytes(suite, folder, options=OPTIONS, model=MODEL, markdown=document)
    return report, folder, document, read


def test_every_precision_fills_the_same_bytes_from_one_reading_of_each_context(whole):
    report, *_, read = whole
    assert len(read) == 2
    assert [(one.key.keep, one.key.kv_dtype) for one in report.results] == [
        (left, name) for left in (0.5, 0.3) for name in ("bf16", "int8")
    ]
    for one in report.results:
        assert 0.92 * one.key.keep < one.byte_share <= one.key.keep
    plain, packed = (one.keep_reached for one in report.results[:2])
    assert plain < packed


def test_the_planner_is_one_of_them_and_stands_beside_the_best(whole):
    report = whole[0]
    for level in report.levels:
        assert level.planner.stored == ("int8",)  # the profile's up to a half
        twin = next(one for one in level.results if one.key.kv_dtype == "int8")
        assert level.planner.scores == twin.scores
        assert level.planner.file_bytes == pytest.approx(twin.file_bytes, abs=40)  # what was chosen is written down
        best = max(one.scores.marks["exact_match"] for one in level.results)
        assert level.behind == pytest.approx(100 * (best - level.planner.scores.marks["exact_match"]))
    found = report.as_dict()
    assert [one["planner"] for one in found["levels"]] == [["int8"], ["int8"]]
    assert [(one["left"], one["reduce"]) for one in found["levels"]] == [(0.5, 0.5), (0.3, 0.7)]


def test_it_writes_a_table_and_one_curve_a_precision(whole):
    report, folder, document, _ = whole
    assert json.loads((folder / "results.json").read_text()) == report.as_dict()
    table, curve = (folder / "table.md").read_text(), (folder / "curve.svg").read_text()
    assert table.count("\n| 50.0 % | `") == 2 + 1
    assert curve.count("<polyline") == 2 + 1
    assert "bytes of the file" in curve
    assert "<!-- flowmm bench bytes tiny -->" in document.read_text()
    assert "`flowmm bench bytes --suite tiny --method snapkv --reduce 50%,70% --kv-dtype" in document.read_text()
    assert (document.parent / "bytes-tiny.svg").read_text() == curve


def test_a_run_that_was_stopped_goes_on_and_gives_the_same_table(whole, suite, tmp_path):
    def stopped(phase, done, _total):
        if phase == "rows" and done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench_bytes(suite, tmp_path, options=OPTIONS, model=MODEL, progress=stopped)
    begun = (tmp_path / "rows.jsonl").read_bytes()
    assert len(begun.splitlines()) == 1 + 4
    bench_bytes(suite, tmp_path, options=OPTIONS, model=MODEL)
    assert (tmp_path / "rows.jsonl").read_bytes().startswith(begun)
    assert (tmp_path / "table.md").read_text() == (whole[1] / "table.md").read_text()
    with pytest.raises(UsageError, match=r"begun with left \(0.5, 0.3\), but \(0.5,\) is asked for"):
        bench_bytes(suite, tmp_path, options=replace(OPTIONS, reduce=(0.5,)), model=MODEL)


def test_bytes_that_hold_nothing_are_said_and_the_others_measured(suite, tmp_path):
    options = replace(OPTIONS, reduce=(0.5, 0.999), kv_dtypes=("bf16",), limit=1)
    report = bench_bytes(suite, tmp_path, options=options, model=MODEL)
    assert [level.left for level in report.levels] == [0.5]
    assert "snapkv at 0.001 in bf16" in report.refused
    assert "do not hold this context" in report.refused["snapkv at 0.001 in bf16"]


def test_points_behind_are_the_bests_score_less_the_planners():
    def result(name, score):
        scores = Scores(10, {"exact_match": score})
        return Result(
            Key("planned", "m", 0.1, name), scores, {}, None, None, None, 1, 0, 1, 1, 1, 1, (name,), {}, None, 0
        )

    level = BytesReport(
        *("",) * 5, 1, 0, "exact_match", "m", "p", result("bf16", 1), (result("bf16", 0.5), result("int4", 0.75)),
        (result("planner", 0.625),),
    ).levels  # fmt: skip
    assert [(one.best.key.kv_dtype, one.behind) for one in level] == [("int4", 12.5)]
    assert Level(0.1, (), None, None, "exact_match").behind is None


@pytest.mark.parametrize(
    ("options", "error", "what"),
    [
        ({"method": "h3o"}, UnknownNameError, "no method named 'h3o'"),
        ({"reduce": ()}, UsageError, "expected shares between 0 and 1"),
        ({"reduce": (0.9, 0.9)}, UsageError, "each once"),
        ({"reduce": (1.0,)}, UsageError, "between 0 and 1"),
        ({"kv_dtypes": ("int5",)}, UnknownNameError, "no kv dtype named 'int5'"),
    ],
)
def test_what_cannot_be_is_refused_before_a_model_is_loaded(options, error, what, suite, tmp_path, monkeypatch):
    monkeypatch.setattr(quality, "load_chosen_model", lambda _: pytest.fail("loaded a model"))
    with pytest.raises(error, match=what):
        bench_bytes(suite, tmp_path, options=replace(OPTIONS, **options), model=MODEL)
