from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from flowmm.errors import FlowmmError, InputError, ResourceError, UnsupportedModelError, UsageError
from flowmm.hf.loading import load_model
from flowmm.records import ModelIdentity
from tests.conformance.folders import make_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder("qwen2", tmp_path / "my-model")


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_local_folder_is_known_by_its_name_never_by_its_path(folder: Path) -> None:
    identity = load_model(str(folder)).identity
    assert (identity.id, identity.local, identity.revision) == ("my-model", True, None)
    assert str(folder.parent) not in str(identity)


def test_the_identity_is_the_same_wherever_the_folder_is(folder: Path) -> None:
    before = load_model(str(folder)).identity
    moved = folder.rename(folder.parent / "elsewhere")
    after = load_model(str(moved)).identity
    assert {**vars(before), "id": ""} == {**vars(after), "id": ""}


def changed_weight(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.0.mlp.up_proj.weight"][3, 5] += 1e-3
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (changed_weight, "weights"),
        (lambda folder: edit_json(folder / "config.json", rms_norm_eps=1e-3), "config"),
        (lambda folder: (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}!"), "template"),
        (lambda folder: (folder / "tokenizer.json").open("a").write("\n"), "tokenizer"),
    ],
    ids=["weights", "config", "template", "tokenizer"],
)
def test_one_change_in_the_folder_changes_just_its_hash(folder: Path, change: object, field: str) -> None:
    seen: list[ModelIdentity] = []

    def stop(identity: ModelIdentity) -> None:
        seen.append(identity)
        raise InputError("seen", "enough")

    for _ in range(2):
        with pytest.raises(InputError, match="seen"):
            load_model(str(folder), check=stop)
        if len(seen) == 1:
            change(folder)  # type: ignore[operator]
    before, after = (vars(identity) for identity in seen)
    assert [name for name in before if before[name] != after[name]] == [field]


def no_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (no_weights, UnsupportedModelError, "has no safetensors weights"),
        (lambda folder: (folder / "chat_template.jinja").unlink(), UnsupportedModelError, "has no chat template"),
        (lambda folder: (folder / "config.json").write_text("{"), InputError, "config.json is damaged"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), InputError, "tokenizer cannot be read"),
        (lambda folder: (folder / "config.json").unlink(), InputError, "has no config.json"),
        (
            lambda folder: edit_json(folder / "config.json", model_type="qwen99"),
            UnsupportedModelError,
            "does not know models of type 'qwen99'",
        ),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b"\x08" + b"\0" * 20),
            FlowmmError,
            "model.safetensors",
        ),
    ],
    ids=["pickle", "no template", "bad config", "bad tokenizer", "no config", "unknown type", "bad weights"],
)
def test_a_folder_that_cannot_be_used_is_an_error_of_two_lines(
    folder: Path, spoil: object, error: type[FlowmmError], message: str
) -> None:
    spoil(folder)  # type: ignore[operator]
    with pytest.raises(error, match=message) as caught:
        load_model(str(folder))
    assert len(str(caught.value).splitlines()) == 2


def test_a_model_that_brings_its_own_code_is_not_run_unasked(folder: Path) -> None:
    edit_json(folder / "config.json", model_type="own", auto_map={"AutoConfig": "code.Config"})
    (folder / "code.py").write_text("raise SystemExit('the code ran')")
    with pytest.raises(UnsupportedModelError, match="'own'"):
        load_model(str(folder))


def test_what_is_neither_a_folder_nor_an_id_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither a folder with a model nor a hub id"):
        load_model(str(tmp_path / "nowhere"))


def test_offline_names_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="somebody/some-model: is not in the local cache at revision v2") as caught:
        load_model("somebody/some-model", revision="v2", offline=True)
    assert "--offline" in caught.value.hint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cuda:99"}, "CUDA devices are here"),
        ({"device": "toaster"}, "no device 'toaster'"),
        ({"device": "mps"}, "device 'mps' is none that models are run on"),
        ({"dtype": "int3"}, "no dtype 'int3'"),
    ],
)
def test_a_device_or_dtype_that_is_not_there_is_a_usage_error(
    folder: Path, options: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        load_model(str(folder), **options)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_a_model_that_does_not_fit_is_no_damaged_model(folder: Path, error: Exception, monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", fail)
    monkeypatch.setattr("transformers.AutoModelForImageTextToText.from_pretrained", fail)
    with pytest.raises(ResourceError, match="does not fit into the memory of cpu"):
        load_model(str(folder))


def test_sixteen_bits_are_used_when_asked_for(folder: Path) -> None:
    loaded = load_model(str(folder), dtype="bf16")
    assert (loaded.model.dtype, loaded.identity.dtype) == (torch.bfloat16, "bfloat16")
    assert load_model(str(folder)).model.dtype == torch.float32
