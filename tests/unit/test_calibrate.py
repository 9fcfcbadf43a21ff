"""The job: documents to profile, on a tiny random model of text (the reader's is in tests/e2e)."""

import json
from pathlib import Path

import pytest

from flowmm import calibrate
from flowmm.calibrate import calibrate_model
from flowmm.calibration import NO_FLOW
from flowmm.errors import InputError, UsageError
from flowmm.pipeline import CompressOptions, compress_file, prefill_file
from flowmm.profiles import load_profile, own_keys
from flowmm.records import ModelOptions
from tests.unit.alike import assert_alike


@pytest.fixture
def notes(tmp_path: Path) -> str:
    path = tmp_path / "notes.txt"
    path.write_text("Invoice 3921 amounts to 480.20 euros. " * 10)
    return str(path)


def test_without_images_head_budgets_are_measured_and_theta_stays(
    model: ModelOptions, notes: str, tmp_path: Path
) -> None:
    made = calibrate_model([notes], tmp_path / "my.yaml", model=model, keep=0.3)
    assert made.calibrated is not None
    assert (made.model_type, made.theta, made.calibrated.theta) == ("qwen2", load_profile("qwen2").theta, NO_FLOW)
    assert made.calibrated.flow_mean == []
    assert "keeps 0.3 of a document's" in made.calibrated.head_budget
    assert made.head_budget is not None
    flat = [share for heads in made.head_budget for share in heads]
    assert sum(flat) / len(flat) == pytest.approx(1, abs=1e-3)
    assert len(set(flat)) > 1

    assert made.head_weight is not None
    assert max(weight for heads in made.head_weight for weight in heads) == 1
    assert "suite" not in str(made.calibrated.head_weight)

    found = made.calibrated.precision
    assert found is not None
    assert list(found.errors) == ["rot2", "rot3", "int3", "int4", "int8", "bf16"]
    assert {len(errors) for errors in found.errors.values()} == {len(found.shares)}
    assert found.shares[-1] == 0.4
    assert found.errors["bf16"][-1] > found.errors["int8"][-1] > 0  # 16 bits have fewer slots
    assert "the slots that method flowmm keeps" in found.rule
    assert made.precision == load_profile(tmp_path / "my.yaml").precision
    assert set(made.precision) <= {"rot2", "rot3", "int3", "int4", "int8"}

    options = CompressOptions(profile=str(tmp_path / "my.yaml"), method="attention-matching", keep=0.3)
    header = prefill_file([notes], tmp_path / "ctx.kv", model=model, compression=options)
    assert header.keep == pytest.approx(0.3, abs=0.01)


def test_questions_of_a_suite_weigh_heads_too(model: ModelOptions, notes: str, tmp_path: Path) -> None:
    line = {"id": "a", "parts": [{"text": "Lufe: 3921."}], "questions": []}
    asked = {"id": "a-0", "question": "What is the code of Lufe?", "answers": ["3921"], "kind": "text"}
    (tmp_path / "suite.jsonl").write_text(json.dumps(line | {"questions": [asked]}))
    made = calibrate_model([notes], tmp_path / "my.yaml", model=model, suites=[tmp_path])
    assert made.calibrated is not None
    assert "the questions of 1 contexts of a suite" in str(made.calibrated.head_weight)
    plain = calibrate_model([notes], tmp_path / "plain.yaml", model=model)
    assert plain.head_weight != made.head_weight
    with pytest.raises(InputError):
        calibrate_model([notes], tmp_path / "none.yaml", model=model, suites=[tmp_path, tmp_path / "missing"])


def test_a_profile_can_be_measured_again_on_top_of_itself(model: ModelOptions, notes: str, tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("extends: qwen2\ntau: 0.75\ncalibrated: null\n")
    made = calibrate_model([notes], path, model=model, profile=str(path), force=True)
    assert (made.tau, made.calibrated is None) == (0.75, False)
    assert own_keys(path)["extends"] == "qwen2"


def test_a_gate_is_trained_on_demand_written_beside_the_profile_and_used(
    model: ModelOptions, notes: str, tmp_path: Path
) -> None:
    path, phases, told = tmp_path / "my.yaml", [], []
    made = calibrate_model(
        [notes], path, model=model, gate=True, progress=lambda phase, done, total: phases.append((phase, done, total))
    )
    assert made.calibrated is not None
    report = made.calibrated.gate
    assert report is not None
    assert (made.gate, made.gate_file) == ("my-gate.safetensors", str(tmp_path / "my-gate.safetensors"))
    assert len(report.bce) == len(report.bce_constant) == len(report.correlation) == len(made.head_budget or [])
    assert report.held_out == "the last fifth of each context"
    assert [("lessons", 1, 1), ("gate", len(report.bce), len(report.bce)), ("document", 1, 1)] == [
        phase for phase in phases if phase[0] in ("lessons", "gate", "document") and phase[1] == phase[2]
    ]

    options = CompressOptions(profile=str(path), method="fast-kvzip", keep=0.3)
    header = prefill_file([notes], tmp_path / "once.kv", model=model, compression=options, kv_dtype="fp32")
    assert header.keep == pytest.approx(0.3, abs=0.01)
    full = CompressOptions(enabled=False, profile=str(path))
    prefill_file([notes], tmp_path / "full.kv", model=model, compression=full, kv_dtype="fp32")
    later = CompressOptions(method="fast-kvzip", keep=0.3)  # the file has the scores: the gate is not needed again
    compress_file(tmp_path / "full.kv", tmp_path / "later.kv", compression=later, kv_dtype="fp32")
    assert_alike(tmp_path / "later.kv", tmp_path / "once.kv")

    path.unlink()
    with pytest.raises(UsageError, match=r"my-gate\.safetensors: exists already"):
        calibrate_model([notes], path, model=model, gate=True)
    assert not path.exists()
    path.write_text("extends: qwen2\ngate: my-gate.safetensors\n")
    again = calibrate_model([notes], path, model=model, profile=str(path), force=True, notice=told.append)
    assert (again.gate, told) == (None, ["the gate of profile my is not taken over; --gate trains one"])


def test_without_a_gate_the_method_says_how_to_get_one(model: ModelOptions, notes: str, tmp_path: Path) -> None:
    for enabled in (True, False):
        options = CompressOptions(enabled=enabled, method="fast-kvzip")
        with pytest.raises(
            UsageError, match="fast-kvzip looks through a gate, but the model's profile names none"
        ) as one:
            prefill_file([notes], tmp_path / "ctx.kv", model=model, compression=options)
        assert "flowmm calibrate DOCUMENTS --gate" in one.value.hint
    assert not (tmp_path / "ctx.kv").exists()


@pytest.mark.parametrize(
    ("paths", "options", "error", "message"),
    [
        ([], {}, UsageError, "no document was given"),
        (["notes.txt", "missing.txt"], {}, InputError, "missing.txt: no such file"),
        (["notes.txt"], {"method": "full"}, UsageError, "full keeps every slot, so it has no budgets"),
        (["notes.txt"], {"keep": 0.001}, UsageError, r"notes\.txt: a budget of 0\.001 of \d+ tokens"),
        (["notes.txt"], {"name": "my"}, UsageError, r"my: is no name of a profile, expected one that ends in \.yaml"),
        (["notes.txt"], {"name": "notes.yaml"}, UsageError, "notes.yaml: exists already"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    model: ModelOptions,
    notes: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    paths: list[str],
    options: dict[str, object],
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.yaml").write_text("theta: 0.1\n")
    with pytest.raises(error, match=message):
        calibrate_model(paths, **{"output": options.pop("name", "out.yaml"), "model": model, **options})  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "notes.yaml"]
    assert Path("notes.yaml").read_text() == "theta: 0.1\n"


def test_without_a_question_the_weights_of_heads_stay(model: ModelOptions, notes: str, tmp_path: Path) -> None:
    base, wordless = tmp_path / "base.yaml", tmp_path / "wordless.txt"
    calibrate_model([notes], base, model=model)
    wordless.write_text("\u5408\u540c\u603b\u91d1\u989d\u3002" * 60, encoding="utf-8")
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        measure = calibrate._measure
        patch.setattr(calibrate, "_measure", lambda *given: seen.append(given[4]) or measure(*given))
        made = calibrate_model([str(wordless)], tmp_path / "my.yaml", model=model, profile=str(base))
    assert made.head_weight == load_profile(base).head_weight == seen[0].head_weight is not None


def test_a_document_is_not_written_over(tmp_path: Path) -> None:
    document = tmp_path / "notes.yaml"
    document.write_text("total: 3921\n")
    with pytest.raises(UsageError, match="is both source and output"):
        calibrate_model([str(document)], document, force=True)
    assert document.read_text() == "total: 3921\n"
