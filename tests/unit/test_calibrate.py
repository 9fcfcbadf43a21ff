"""The job: documents to profile, on a tiny random model of text (the reader's is in tests/e2e)."""

from pathlib import Path

import pytest

from flowmm.calibrate import calibrate_model
from flowmm.calibration import NO_FLOW
from flowmm.errors import InputError, UsageError
from flowmm.pipeline import CompressOptions, prefill_file
from flowmm.profiles import load_profile, own_keys
from flowmm.records import ModelOptions
from tests.conformance.folders import make_folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelOptions:
    return ModelOptions(str(make_folder("qwen2", tmp_path_factory.mktemp("models") / "tiny")), device="cpu")


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

    options = CompressOptions(profile=str(tmp_path / "my.yaml"), method="attention-matching", keep=0.3)
    header = prefill_file([notes], tmp_path / "ctx.kv", model=model, compression=options)
    assert header.keep == pytest.approx(0.3, abs=0.01)


def test_a_profile_can_be_measured_again_on_top_of_itself(model: ModelOptions, notes: str, tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("extends: qwen2\ntau: 0.75\ncalibrated: null\n")
    made = calibrate_model([notes], path, model=model, profile=str(path), force=True)
    assert (made.tau, made.calibrated is None) == (0.75, False)
    assert own_keys(path)["extends"] == "qwen2"


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
