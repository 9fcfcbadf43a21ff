"""The structure and the sums of `bench speed`, on a tiny model; how fast it is, no test says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flowmm.bench.speed import bench_speed
from flowmm.bench.speed_markdown import speed_section
from flowmm.bench.speed_report import FULL, TRANSFORMERS, Arm, Load, Machine, SpeedReport, Spread
from flowmm.bench.speed_worker import Subject, answer_from, answer_plainly, make
from flowmm.errors import UnknownNameError, UsageError
from flowmm.records import ModelOptions

MACHINE = Machine(bandwidth=100.0, rate=1000.0)


def test_a_step_cannot_be_faster_than_its_bytes_or_its_operations() -> None:
    load = Load(
        parameters=50,
        weight_bytes=200,
        cache_bytes=100,
        file_bytes=40,
        token_bytes=2,
        read_operations=0.0,
        slot_operations=20.0,
    )
    assert load.step(MACHINE, 1, tail=10.0) == pytest.approx((200 + 100 + 20) / 100)
    assert load.step(MACHINE, 64, tail=0.5) == pytest.approx(64 * (2 * 50 + 20) / 1000)
    assert load.first_token(MACHINE, 4) == pytest.approx(40 / 100 + (200 + 100) / 100)


def test_reading_the_context_again_is_bound_by_its_operations() -> None:
    load = Load(50, 200, 100, 0, 2, read_operations=90_000.0, slot_operations=20.0)
    assert load.first_token(MACHINE, 4) == pytest.approx((90_000 + 4 * 120) / 1000)


def arm(source: str, batch: int, first: float | None, step: float, total: float | None) -> Arm:
    def same(value: float | None) -> Spread | None:
        return None if value is None else Spread(value, value, value)

    keep = {TRANSFORMERS: 1.0, FULL: 1.0}.get(source) or float(source)
    return Arm(source, keep, batch, 0, 0, same(first), Spread(step, step, step), same(total), None, 0.1, 0.1)


def report(*arms: Arm) -> SpeedReport:
    return SpeedReport("m", "cpu", "float32", 2, "snapkv", 100, 16, 32, 5, MACHINE, 1.0, {"0.1": 0.5}, arms)


ARMS = (
    arm(TRANSFORMERS, 1, 80.0, 6.0, None),
    arm(FULL, 1, 4.0, 3.0, 9.0),
    arm("0.2", 1, 1.0, 1.5, 6.0),
    arm("0.05", 1, 0.5, 1.0, 4.0),
    arm("0.05", 64, None, 2.0, 16.0),
)


def test_ratios_are_those_of_the_smallest_file() -> None:
    assert report(*ARMS).ratios == {
        "first_token_vs_prefill": 160.0,
        "first_token_vs_full_file": 8.0,
        "decode_vs_hf_full": 6.0,
        "batch64_vs_single": pytest.approx(64 / 16 / (1 / 4)),
    }


def test_a_ratio_without_its_arms_is_not_made_up() -> None:
    assert report(*ARMS[:-1]).ratios["batch64_vs_single"] is None
    assert "| not measured |" in speed_section(report(*ARMS[:-1]), "flowmm bench speed")


def test_a_spread_is_the_median_and_what_lies_outermost() -> None:
    assert Spread.of([3.0, 1.0, 8.0]) == Spread(3.0, 1.0, 8.0)
    assert Spread.of([3.0, None]) is None
    assert Spread.of([]) is None


def test_every_arm_answers_from_what_was_made(tmp_path: Path) -> None:
    subject = Subject(ModelOptions(device="cpu"), "qwen2_5_vl-tiny", 120, 16, 4, 0)
    made = make(subject, "snapkv", [0.1], 2, tmp_path)(0)
    assert list(made.files) == list(made.file_bytes) == [FULL, "0.1"]
    assert abs(len(made.token_ids) - 120) <= 9
    assert len(made.questions) == 2
    assert made.question == len(made.question_ids) >= 16
    assert made.slots["0.1"] == pytest.approx(0.1 * made.slots[FULL], rel=0.1)
    # Three layers of two KV heads of 16, keys and values in float32.
    assert made.token_bytes == 3 * 2 * 16 * 2 * 4
    plain = answer_plainly(subject, made)(1)
    assert plain.first_token > 0
    assert plain.step > 0
    assert plain.total is None
    one, two = (answer_from(subject, made, "0.1")(batch) for batch in (1, 2))
    assert one.first_token > 0
    assert two.first_token is None
    assert one.total > one.step > 0
    assert two.total > two.step > 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"keep": [1.5]}, "--keep 1.5: is not above 0"),
        ({"keep": []}, "no share or no batch"),
        ({"batch": [0]}, "--batch 0: is less than 1"),
        ({"new_tokens": 1}, "--new-tokens 1: is less than 2"),
        ({"model": ModelOptions("flowmm/reader")}, "both a model and a shape"),
    ],
)
def test_numbers_that_cannot_be_are_refused_before_anything_heavy(given: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        bench_speed(shape="qwen2_5_vl-tiny", **given)
    with pytest.raises(UnknownNameError, match="qwen9"):
        bench_speed(shape="qwen9")


def test_the_command_prints_arms_and_ratios_as_json(tmp_path: Path) -> None:
    from flowmm_cli.app import app

    document = tmp_path / "benchmarks.md"
    document.write_text("# Figures\n")
    line = "bench speed --shape qwen2_5_vl-tiny --device cpu --context 120 --keep 0.1 --batch 1,2 --repeat 1 --quiet"
    more = f"--new-tokens 3 --method snapkv --json --markdown {document}"
    result = CliRunner().invoke(app, [*line.split(), *more.split()], catch_exceptions=False)
    found = json.loads(result.stdout)
    arms = [(one["source"], one["batch"]) for one in found["arms"]]
    assert arms == [(TRANSFORMERS, 1), (FULL, 1), ("0.1", 1), ("0.1", 2)]
    assert list(found["ratios"]) == list(report(*ARMS).ratios)
    assert found["ratios"]["batch64_vs_single"] is None
    assert found["ratios"]["decode_vs_hf_full"] == pytest.approx(
        found["arms"][0]["decode_seconds_per_step"]["median"] / found["arms"][2]["decode_seconds_per_step"]["median"]
    )
    for one in found["arms"]:
        spread = one["decode_seconds_per_step"]
        assert spread["low"] <= spread["median"] <= spread["high"]
        assert one["floor"]["decode_seconds_per_step"] > 0
    text = document.read_text()
    assert "<!-- flowmm bench speed qwen2_5_vl-tiny 120 -->" in text
    assert "| transformers, full cache | 1 |" in text
