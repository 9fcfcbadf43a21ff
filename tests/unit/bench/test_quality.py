"""A whole quality run on two small contexts with the embedded reader."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

import flowmm.bench.quality as quality
from flowmm import QualityOptions, readings
from flowmm.bench import quality_context
from flowmm.bench.quality import bench_quality
from flowmm.bench.quality_order import bench_order
from flowmm.chosen import load_chosen_model
from flowmm.errors import InputError, UnknownNameError, UsageError
from flowmm.packing import PACKINGS
from flowmm.records import ModelOptions
from tests.small_suites import write_small_suite

OPTIONS = QualityOptions(methods=("snapkv", "kvzip"), keep=(0.6, 0.4), max_new_tokens=8)
MODEL = ModelOptions("flowmm/reader", device="cpu")
MARKS = {"exact_match", "containment", "anls", "rouge_l"}


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    return write_small_suite(tmp_path_factory.mktemp("suites") / "tiny")


@pytest.fixture(scope="module")
def reader():
    return load_chosen_model(MODEL)


@pytest.fixture(autouse=True)
def loaded_once(reader, monkeypatch):
    monkeypatch.setattr(quality, "load_chosen_model", lambda _: reader)


@pytest.fixture
def prefills(monkeypatch):
    counted, real = [], readings.prefill

    def counting(prompt, *given, **named):
        counted.append(int(prompt.modality.shape[0]))
        return real(prompt, *given, **named)

    monkeypatch.setattr(readings, "prefill", counting)
    return counted


@pytest.fixture(scope="module")
def whole(suite, reader, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quality, "load_chosen_model", lambda _: reader)
        return bench_quality(suite, folder, options=OPTIONS, model=MODEL), folder


def without_times(found):
    if isinstance(found, dict):
        return {key: without_times(value) for key, value in found.items() if not key.startswith("seconds")}
    return [without_times(item) for item in found] if isinstance(found, list) else found


def test_the_report_says_what_it_is_of(whole):
    found = whole[0].as_dict()
    assert {"schema_version", "model", "suite", "full", "controls", "results", "refused"} <= set(found)
    assert (found["schema_version"], found["model"], found["suite"]) == (1, "flowmm/reader", "tiny")
    assert (found["contexts"], found["refused"]) == (2, {})
    pairs = [(one["method"], one["keep"], one["kv_dtype"]) for one in found["results"]]
    assert pairs == [(name, keep, "bf16") for name in ("snapkv", "kvzip") for keep in (0.6, 0.4)]
    for one in found["results"]:
        assert MARKS | {"retention", "ci95", "by_kind", "bytes", "seconds", "evidence_evicted"} <= set(one)
        assert one["bytes"] < found["full"]["bytes"]
        assert one["seconds"] > 0
    assert json.loads((whole[1] / "results.json").read_text()) == found


def test_every_control_is_there_and_has_its_marks_by_kind(whole):
    controls = whole[0].as_dict()["controls"]
    names = ["no_context", "text_only", "images_only"]
    names += [f"quantise_only-{name}" for name in PACKINGS if name != "fp32"]  # the reader's own
    assert list(controls) == [*names, "downscaled-0.6", "downscaled-0.4"]
    for one in controls.values():
        assert set(one) >= MARKS | {"by_kind"}
        assert list(one["by_kind"]) == ["dense", "pages"]


def test_the_reader_reads_each_modality_and_the_controls_tell_them_apart(whole):
    found = whole[0].as_dict()
    assert found["full"]["exact_match"] == found["full"]["retention"] == 1.0
    assert found["controls"]["no_context"]["exact_match"] == 0.0
    assert found["controls"]["text_only"]["by_modality"]["text"]["exact_match"] == 1.0
    assert found["controls"]["text_only"]["by_modality"]["image"]["exact_match"] == 0.0
    assert found["controls"]["images_only"]["by_modality"]["text"]["exact_match"] == 0.0
    sizes = [found["controls"][f"quantise_only-{name}"]["bytes"] for name in ("bf16", "int8", "int4", "int3", "rot2")]
    assert found["full"]["bytes"] > sizes[0] > sizes[1] > sizes[2] > sizes[3] > sizes[4]
    assert found["full"]["by_size"]["1k"]["questions"] == 6


def test_smaller_images_have_about_the_share_of_the_tokens_that_is_kept(whole):
    controls, full = whole[0].as_dict()["controls"], whole[0].as_dict()["full"]
    for keep in (0.6, 0.4):
        found = controls[f"downscaled-{keep}"]
        text = full["tokens"] - full["visual_tokens"]
        assert found["visual_tokens"] <= keep * full["visual_tokens"] + 0.5
        assert found["tokens"] - found["visual_tokens"] == text


def test_evidence_is_gone_only_where_slots_are(whole):
    found = whole[0].as_dict()
    assert found["full"]["evidence_questions"] == 6
    assert found["full"]["evidence_evicted"] == 0.0
    assert all(0 <= one["evidence_evicted"] <= 1 for one in found["results"])
    assert found["controls"]["text_only"]["evidence_evicted"] is None


def test_each_context_is_read_once_for_all_methods_and_once_for_each_other_control(suite, tmp_path, prefills):
    bench_quality(suite, tmp_path, options=replace(OPTIONS, limit=1), model=MODEL)
    assert len(prefills) == 1 + 3 + 2  # the context; none, text, images; two sizes of smaller images
    assert prefills[1] == 2  # of no context only the template is left


def test_a_run_that_was_killed_goes_on_and_ends_as_if_it_had_not_been(whole, suite, tmp_path, prefills):
    def killed(phase, done, _total):
        if phase == "rows" and done == 21:  # the 19 rows of the first context and 2 of the second
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench_quality(suite, tmp_path, options=OPTIONS, model=MODEL, progress=killed)
    first = (tmp_path / "rows.jsonl").read_bytes()
    assert len(first.splitlines()) == 1 + 21
    prefills.clear()
    report = bench_quality(suite, tmp_path, options=OPTIONS, model=MODEL)
    assert len(prefills) == 6  # the second context again, and its five other controls; nothing of the first
    rows = (tmp_path / "rows.jsonl").read_bytes()
    assert rows.startswith(first)
    keys = [
        tuple(json.loads(line)[key] for key in ("context", "name", "keep", "kv_dtype"))
        for line in rows.splitlines()[1:]
    ]
    assert len(set(keys)) == len(keys) == 38
    assert without_times(report.as_dict()) == without_times(whole[0].as_dict())


def test_a_finished_run_reads_nothing_and_prints_the_same(whole, suite, prefills):
    report, folder = whole
    again = bench_quality(suite, folder, options=OPTIONS, model=MODEL)
    assert prefills == []
    assert again.as_dict() == report.as_dict()


def test_another_seed_in_the_same_folder_is_refused(whole, suite):
    with pytest.raises(UsageError, match="begun with seed 0, but 1 is asked for"):
        bench_quality(suite, whole[1], options=replace(OPTIONS, seed=1), model=MODEL)


def test_with_the_question_there_results_stand_apart(suite, tmp_path, prefills):
    options = replace(OPTIONS, methods=("snapkv",), keep=(0.6,), limit=1, question_aware=True)
    found = bench_quality(suite, tmp_path, options=options, model=MODEL).as_dict()
    assert len(prefills) == 5 + 3  # three questions
    assert prefills[-1] > prefills[0]
    assert [one["method"] for one in found["question_aware"]["results"]] == ["snapkv"]
    assert found["question_aware"]["results"][0]["questions"] == 3
    assert found["question_aware"]["full"]["retention"] == 1.0
    assert len(found["results"]) == 1


def test_several_precisions_are_measured_from_one_reading_and_told_apart(suite, tmp_path, prefills):
    options = replace(OPTIONS, methods=("knorm",), kv_dtypes=("bf16", "int4"), limit=1)
    report = bench_quality(suite, tmp_path, options=options, model=MODEL)
    found = [(one["kv_dtype"], one["keep"]) for one in report.as_dict()["results"]]
    assert found == [("bf16", 0.6), ("bf16", 0.4), ("int4", 0.6), ("int4", 0.4)]
    assert len(prefills) == 1 + 3 + 2
    by_key = {(one.key.kv_dtype, one.key.keep): one.bytes for one in report.results}
    assert by_key["int4", 0.6] < 0.5 * by_key["bf16", 0.6]
    assert [report.name_of(one) for one in report.results] == ["knorm bf16"] * 2 + ["knorm int4"] * 2
    assert "`knorm int4` 40 %" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "curve.svg").read_text().count("<polyline") == 2
    [first, _] = bench_order(tmp_path, tmp_path).orders
    assert {name for name, _ in first.dev} == {"knorm bf16", "knorm int4"}
    with pytest.raises(UsageError, match="begun with kv_dtype bf16,int4, but int4 is asked for"):
        bench_quality(suite, tmp_path, options=replace(options, kv_dtypes=("int4",)), model=MODEL)


def test_of_all_methods_those_that_cannot_be_used_are_listed(suite, tmp_path, monkeypatch):
    monkeypatch.setattr("flowmm.bench.quality_plan.method_names", lambda: ("full", "knorm", "smallkv", "snapkv"))
    options = replace(OPTIONS, methods=None, keep=(0.6, 0.01), limit=1)
    found = bench_quality(suite, tmp_path, options=options, model=MODEL).as_dict()
    assert [(one["method"], one["keep"]) for one in found["results"]] == [("knorm", 0.6), ("snapkv", 0.6)]
    assert list(found["refused"]) == ["smallkv", "knorm at 0.01", "snapkv at 0.01"]
    assert "takes the scores of a smaller model" in found["refused"]["smallkv"]
    assert "are protected" in found["refused"]["knorm at 0.01"]


def test_a_method_that_was_named_and_cannot_be_used_is_an_error(suite, tmp_path):
    with pytest.raises(UsageError, match="method smallkv takes the scores"):
        bench_quality(suite, tmp_path / "a", options=replace(OPTIONS, methods=("smallkv",)), model=MODEL)
    with pytest.raises(UsageError, match="are protected"):
        bench_quality(suite, tmp_path / "b", options=replace(OPTIONS, keep=(0.01,), limit=1), model=MODEL)


def test_the_section_of_a_document_shows_the_curve_beside_it(whole, suite, tmp_path):
    document = tmp_path / "b.md"
    document.write_text("before\n")
    bench_quality(suite, whole[1], options=OPTIONS, model=MODEL, markdown=document)
    text = document.read_text()
    assert "<!-- flowmm bench quality tiny -->" in text
    assert "](quality-tiny.svg)" in text
    assert "`flowmm bench quality --suite tiny --method snapkv,kvzip --keep 0.6,0.4 --seed 0 -m flowmm/reader" in text
    assert (tmp_path / "quality-tiny.svg").read_text() == (whole[1] / "curve.svg").read_text()


def test_a_run_orders_its_methods_as_itself(whole):
    report = bench_order(whole[1], whole[1] / "results.json")
    assert [one.keep for one in report.orders] == [0.6, 0.4]
    for one in report.orders:
        assert one.dev == one.test
        assert one.dev[0][1] >= one.dev[1][1]
    assert (report.dev, report.test) == ("tiny", "tiny")


@pytest.mark.parametrize(
    ("options", "error", "what"),
    [
        ({"methods": ("h3o",)}, UnknownNameError, "no method named 'h3o'"),
        ({"methods": ("snapkv", "snapkv")}, UsageError, "snapkv was given twice"),
        ({"keep": (0.0,)}, UsageError, "--keep 0.0"),
        ({"keep": (0.2, 0.2)}, UsageError, "each once"),
        ({"limit": 0}, UsageError, "--limit 0"),
        ({"kv_dtypes": ("int5",)}, UnknownNameError, "no kv dtype named 'int5'"),
        ({"kv_dtypes": ("int4", "int4")}, UsageError, "each once"),
        ({"kv_dtypes": ()}, UsageError, "expected precisions"),
        ({"score": "f1"}, UnknownNameError, "no score named 'f1'"),
    ],
)
def test_what_cannot_be_is_refused_before_a_model_is_loaded(options, error, what, suite, tmp_path, monkeypatch):
    monkeypatch.setattr(quality, "load_chosen_model", lambda _: pytest.fail("loaded a model"))
    with pytest.raises(error, match=what):
        bench_quality(suite, tmp_path, options=replace(OPTIONS, **options), model=MODEL)


def test_what_is_no_suite_is_refused(tmp_path):
    with pytest.raises(InputError, match="is no"):
        bench_quality(tmp_path / "none", tmp_path / "out", options=OPTIONS, model=MODEL)


def test_what_files_say_of_their_loss_is_measured_on_demand(suite, tmp_path):
    options = replace(OPTIONS, methods=("snapkv",), keep=(0.6, 0.4), losses=True)
    report = bench_quality(suite, tmp_path, options=options, model=MODEL)
    assert [(one.method, one.keep, one.rows) for one in report.losses] == [
        ("snapkv", 0.6, 2),
        ("snapkv", 0.4, 2),
        ("snapkv", None, 4),
    ]
    assert report.as_dict()["losses"][0]["method"] == "snapkv"
    assert "What files say of their own loss" in (tmp_path / "table.md").read_text()
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()[1:]]
    told = [row["agreement"] for row in rows if row["group"] == "compressed"]
    assert all(0 <= one["top1"] <= 1 and one["kl"] > 0 for one in told)
    assert all(row["agreement"] is None for row in rows if row["group"] == "control")


def test_held_out_answers_are_of_the_reading_that_is_measured(monkeypatch):
    asked = []
    monkeypatch.setattr(quality_context, "ask_held_out", lambda full, *_: asked.append(full.layers) or len(asked))
    run = quality_context.ContextRun(SimpleNamespace(loaded=None), None)
    run._flat = []
    first, second = (SimpleNamespace(layers=(object(),)) for _ in range(2))
    assert [run._held(first), run._held(first), run._held(second)] == [1, 1, 2]
