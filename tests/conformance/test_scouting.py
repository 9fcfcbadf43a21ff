"""A smaller model reads first and scores for a larger one of its family: loaded, freed, matched, recorded."""

from __future__ import annotations

import json
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from flowmm.compress import scored
from flowmm.contexts import read_context
from flowmm.errors import MismatchError
from flowmm.hf import loading
from flowmm.hf.loading import load_model
from flowmm.observing import MethodObserve, Scout
from flowmm.pipeline import CompressOptions, compress_file, prefill_file, verify_file
from flowmm.profiles import Method, load_method
from flowmm.records import ModelOptions
from flowmm.scouting import scouted_by
from flowmm.store import load
from flowmm_cli.app import run
from tests.conformance.folders import make_folder
from tests.conformance.readings import Readings

SMALLKV = load_method("smallkv")
SCOUTED = """title: takes another's column sums
paper: null
observe: {tail: 16, scout: {cumulative: true, score: {rule: cumulative}}}
score: {rule: observed, passes: [scout]}
budget: {rule: uniform, recent: 0.5}
merge: {rule: evict}
"""


def make_smaller(family: str, folder: Path) -> Path:
    """The same family, tokenizer and processor with two layers and one KV head."""
    config = transformers.AutoConfig.from_pretrained(make_folder(family, folder))
    text = config.get_text_config()
    text.num_hidden_layers, text.num_key_value_heads = 2, 1
    text.layer_types = text.layer_types[:2]
    torch.manual_seed(1)
    auto: Any = transformers.AutoModelForCausalLM
    model = auto.from_config(config)
    model.generation_config.eos_token_id = 2
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return str(make_folder("qwen2", folder / "large")), str(make_smaller("qwen2", folder / "small"))


@pytest.fixture
def notes(tmp_path: Path) -> str:
    path = tmp_path / "notes.txt"
    path.write_text("Invoice 3921 amounts to 480.20 euros. " * 20)
    return str(path)


def through_a_scout(name: str) -> Method:
    """The method with its observations and its score left to a scout."""
    method = load_method(name)
    scout = Scout(**method.observe.model_dump(exclude={"scout"}), score=method.score)
    return SMALLKV.model_copy(update={"observe": MethodObserve(tail=128, scout=scout)})


@pytest.mark.parametrize(("model", "name"), [("reader", "h2o"), ("gemma3", "h2o"), ("gemma3", "kvzip")])
def test_a_model_that_scouts_for_itself_gives_itself_its_own_scores(readings: Readings, model: str, name: str) -> None:
    parts, loaded = readings.parts(model), readings.loaded(model)
    method = through_a_scout(name)
    seen = scouted_by(loaded, parts, method)
    cache = read_context(parts, loaded, method, scouted=seen)
    assert cache.evidence is not None
    assert cache.provenance.scout is not None
    assert cache.provenance.scout.overlap == pytest.approx([1.0] * len(cache.layers))
    own = scored(read_context(parts, loaded, load_method(name)), load_method(name))
    for one, mine in zip(cache.evidence, own, strict=True):
        torch.testing.assert_close(one.observed["scout"], mine)


def test_a_smaller_model_scores_for_a_larger_one_and_is_in_the_header(
    folders: tuple[str, str], notes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large, small = folders
    path = tmp_path / "ctx.kv"
    command = ["prefill", notes, "-o", str(path), "-m", large, "--scout", small, "--method", "smallkv", "--keep", "0.3"]
    assert run([*command, "--quiet", "--device", "cpu"]) == 0
    made = verify_file(path, model=ModelOptions(large, device="cpu")).header.provenance
    assert (made.model.id, made.scout and made.scout.model.id) == ("large", "small")
    assert made.scout is not None
    assert made.scout.model.weights != made.model.weights
    assert len(made.scout.overlap) == 3
    assert all(0 < overlap < 1 for overlap in made.scout.overlap)
    assert "scout" in made.seconds
    capsys.readouterr()
    assert run(["inspect", str(path)]) == 0
    assert f"scout     small (weights {made.scout.model.weights[:16]}), heads overlap by" in capsys.readouterr().out
    assert run(["inspect", "--json", str(path)]) == 0
    assert json.loads(capsys.readouterr().out)["provenance"]["scout"]["model"]["id"] == "small"


def test_each_head_of_the_larger_model_has_the_scores_of_a_head_of_the_smaller_one(
    folders: tuple[str, str], notes: str, tmp_path: Path
) -> None:
    large, small = (ModelOptions(name, device="cpu") for name in folders)
    path = tmp_path / "own.yaml"
    path.write_text(SCOUTED)
    options = CompressOptions(enabled=False, method=str(path))
    prefill_file([notes], tmp_path / "full.kv", model=large, scout=small.name, compression=options)
    evidence = load(tmp_path / "full.kv").evidence
    prefill_file([notes], tmp_path / "small.kv", model=small, compression=CompressOptions(enabled=False))
    theirs = load(tmp_path / "small.kv").evidence
    assert evidence is not None
    assert theirs is not None
    candidates = [head for one in theirs if one.cumulative is not None for head in one.cumulative]
    assert len(candidates) == 2
    for one in evidence:
        for head in one.observed["scout"]:
            assert any(torch.allclose(head, candidate, atol=1e-5) for candidate in candidates)


def test_a_small_file_is_the_same_made_at_once_or_from_the_full_one(
    folders: tuple[str, str], notes: str, tmp_path: Path
) -> None:
    large, small = folders
    model, small_options = ModelOptions(large, device="cpu"), CompressOptions(method="smallkv", keep=0.3)
    prefill_file([notes], tmp_path / "once.kv", model=model, scout=small, compression=small_options)
    full = CompressOptions(enabled=False, method="smallkv")
    prefill_file([notes], tmp_path / "full.kv", model=model, scout=small, compression=full)
    compress_file(tmp_path / "full.kv", tmp_path / "later.kv", compression=small_options)
    once, later = (verify_file(tmp_path / name).header for name in ("once.kv", "later.kv"))
    assert once.checksums == later.checksums


def test_the_scout_is_gone_before_the_large_model_is_loaded(
    folders: tuple[str, str], notes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large, small = folders
    alive: list[int] = []
    seen: list[weakref.ref[Any]] = []
    real = loading._model

    def watched(*arguments: Any) -> Any:
        alive.append(sum(one() is not None for one in seen))
        model = real(*arguments)
        seen.append(weakref.ref(model))
        return model

    monkeypatch.setattr(loading, "_model", watched)
    options = CompressOptions(method="smallkv", keep=0.3)
    prefill_file([notes], tmp_path / "a.kv", model=ModelOptions(large, device="cpu"), scout=small, compression=options)
    assert alive == [0, 0]


def test_a_scout_of_another_family_is_refused(
    folders: tuple[str, str], notes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = str(make_folder("mistral", tmp_path / "other"))
    command = ["prefill", notes, "-o", str(tmp_path / "a.kv"), "-m", folders[0], "--scout", other]
    assert run([*command, "--method", "smallkv", "--device", "cpu"]) == 4
    first, second = capsys.readouterr().err.strip().splitlines()[-2:]
    assert "scores of the scout other: made with number of tokens" in first
    assert "in large" in first
    assert "same family" in second
    assert not (tmp_path / "a.kv").exists()


def test_an_image_that_becomes_other_tokens_is_refused(readings: Readings, tmp_path: Path) -> None:
    folder = make_folder("qwen2_5_vl", tmp_path / "coarse")
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    settings["size"] = {"shortest_edge": 64, "longest_edge": 256}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    parts = readings.parts("qwen2_5_vl")
    seen = scouted_by(load_model(str(folder), device="cpu"), parts, SMALLKV)
    with pytest.raises(MismatchError, match="scores of the scout coarse: made with number of tokens"):
        read_context(parts, readings.loaded("qwen2_5_vl"), SMALLKV, scouted=seen)
