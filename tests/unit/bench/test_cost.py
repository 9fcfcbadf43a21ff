"""The structure and the sums of `bench cost`, on a tiny model; how fast it is, no test says."""

import pytest

from flowmm.bench.cost import bench_cost
from flowmm.bench.cost_report import STAGES, Cost, CostReport, median
from flowmm.bench.filler import filler
from flowmm.bench.memory import watch_memory
from flowmm.chosen import called
from flowmm.context import Modality
from flowmm.errors import UnknownNameError, UsageError
from flowmm.hf.prompt import context_prompt
from flowmm.hf.shapes import load_shape

TINY = "qwen2_5_vl-tiny"


@pytest.fixture(scope="module")
def tiny():
    return load_shape(TINY)


@pytest.fixture(scope="module")
def report() -> CostReport:
    return bench_cost(["full", "h2o", "attention-matching"], shape=TINY, tokens=620, repeat=1)


def run(total: float, plain: float = 1.0) -> Cost:
    return Cost("any", plain, dict.fromkeys(STAGES, total / len(STAGES)), None)


def test_half_of_the_filler_is_images_and_the_length_is_met_within_a_word_per_text(tiny):
    modality = context_prompt(filler(tiny, 1100), tiny).modality
    assert int((modality == Modality.VISUAL).sum()) == 2 * 256  # two images of 448 x 448 pixels
    assert 1100 - 2 * 9 <= len(modality) <= 1100


def test_the_same_seed_gives_the_same_filler(tiny):
    first, again, other = (filler(tiny, 620, seed) for seed in (1, 1, 2))
    assert [part.source for part in first] == [part.source for part in again]
    assert [part.source for part in first] != [part.source for part in other]


def test_a_context_too_short_for_an_image_is_refused(tiny):
    with pytest.raises(UsageError, match="--tokens 100: 1 images and the template already take"):
        filler(tiny, 100)


def test_methods_come_in_the_order_they_were_named_in(report):
    assert [cost.method for cost in report.costs] == ["full", "h2o", "attention-matching"]
    assert (report.model, report.visual_tokens, report.refused) == (TINY, 256, {})
    assert report.tokens <= 620


def test_stages_add_up_and_are_divided_by_the_plain_prefill(report):
    for found in (cost.as_dict() for cost in report.costs):
        seconds, over = found["seconds"], found["over_prefill"]
        assert list(seconds) == [*STAGES, "total"] == list(over)
        assert seconds["total"] == pytest.approx(sum(seconds[stage] for stage in STAGES))
        assert over["refit"] == pytest.approx(seconds["refit"] / found["plain_seconds"])
        assert over["total"] == pytest.approx(sum(over[stage] for stage in STAGES))
        assert found["plain_seconds"] > 0
        assert seconds["diagnose"] > 0


def test_only_a_method_with_a_refit_spends_time_on_one(report):
    assert [cost.stages["refit"] != 0 for cost in report.costs] == [False, False, True]


def test_the_median_run_is_the_one_in_the_middle_and_the_cheaper_of_two():
    assert median([run(3.0), run(1.0), run(2.0)]).total == pytest.approx(2.0)
    assert median([run(3.0), run(1.0)]).total == pytest.approx(1.0)
    assert median([run(3.0, plain=6.0), run(2.0), run(9.0)]).total == pytest.approx(2.0)


def test_a_method_that_cannot_be_used_here_is_named_and_the_others_are_measured(monkeypatch):
    monkeypatch.setattr("flowmm.bench.cost.method_names", lambda: ("knorm", "hae"))
    monkeypatch.setattr("flowmm.bench.cost._Bench.once", refusing_hae)
    found = bench_cost(shape=TINY, tokens=400, repeat=2)
    assert [cost.method for cost in found.costs] == ["knorm"]
    assert found.refused == {"hae": "no"}
    with pytest.raises(UsageError, match="no"):
        bench_cost(["hae"], shape=TINY, tokens=400, repeat=1)


def test_a_folder_is_called_by_its_last_part_and_the_reader_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "flowmm" / "reader").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert called(str(tmp_path / "flowmm")) == "flowmm"
    assert called("flowmm/reader") == "flowmm/reader"
    assert called("Qwen/Qwen2.5-VL-7B-Instruct") == "Qwen/Qwen2.5-VL-7B-Instruct"


def refusing_hae(_, method):
    if method.name == "hae":
        raise UsageError("no", "no")
    return Cost(method.name, 1.0, dict.fromkeys(STAGES, 0.0), None)


@pytest.mark.parametrize(
    ("options", "error", "what"),
    [
        ({"shape": "qwen2_5_vl-0.5c"}, UnknownNameError, "no shape named 'qwen2_5_vl-0.5c'"),
        ({"shape": TINY, "repeat": 0}, UsageError, "--repeat 0"),
        ({"shape": TINY, "keep": 0.0}, UsageError, "--keep 0.0"),
        ({"shape": TINY, "methods": ["h3o"]}, UnknownNameError, "no method named 'h3o'"),
    ],
)
def test_what_cannot_be_is_refused_before_a_model_is_made(options, error, what, monkeypatch):
    monkeypatch.setattr("flowmm.bench.cost.load_shape", lambda *_, **__: pytest.fail("made a model"))
    with pytest.raises(error, match=what):
        bench_cost(**options)


def test_the_peak_counts_memory_that_was_given_back():
    peak = watch_memory()
    before = peak()
    if before is None:
        pytest.skip("this system does not say how much memory a process takes")
    block = bytearray(64 << 20)
    block[::4096] = b"x" * len(block[::4096])
    del block
    assert peak() - before > 60 << 20
