"""A stored context answers in a new process, with a freshly loaded model, as it did in the one that read it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flowmm.compress import METHODS
from flowmm.context import ContextCache
from flowmm.hf.loading import LoadedModel, load_model
from flowmm.probe import take_probe
from flowmm.records import Generation
from flowmm.sessions import Session
from flowmm.store import load, save
from tests.conformance.families import FAMILIES, build, question
from tests.conformance.readings import MODELS, Readings
from tests.conformance.test_families import greedy, read, shortened

TOKENS = 16
SHORT = Generation(max_new_tokens=6)


def test_every_family_and_every_method_answer_the_same_from_a_file_in_a_new_process(
    readings: Readings, tmp_path: Path
) -> None:
    """One process for all of them: starting it takes longer than the answers do."""
    families, methods = {}, {}
    for family in FAMILIES:
        loaded, tiny = build(family)
        cache = shortened(read(loaded, tiny))
        save(cache, family_file(tmp_path, family), kv_dtype="fp32")
        families[family] = greedy(loaded, cache, question(6), TOKENS)
    for model in MODELS:
        for name in METHODS:
            cache = readings.small(model, name)
            save(cache, method_file(tmp_path, model, name), kv_dtype="fp32")
            methods[f"{model}, {name}"] = asked(cache, readings.loaded(model))
    names = {model: readings.name(model) for model in MODELS}
    command = [sys.executable, "-m", "tests.conformance.test_new_process", str(tmp_path), json.dumps(names)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["families"] == families
    assert found["methods"].keys() == methods.keys()
    for key, (tokens, logits) in methods.items():
        assert (found["methods"][key][0], key) == (tokens, key)
        assert found["methods"][key][1] == pytest.approx(logits, abs=1e-4), key
    for model in MODELS:  # numbers that no cache changes would show nothing
        assert methods[f"{model}, random"][1] != pytest.approx(methods[f"{model}, full"][1], abs=1e-2)


def family_file(folder: Path, family: str) -> Path:
    return folder / f"{family}.kv"


def method_file(folder: Path, model: str, method: str) -> Path:
    return folder / f"{model}-{method}.kv"


def asked(cache: ContextCache, loaded: LoadedModel) -> tuple[list[int], list[float]]:
    """The tokens of an answer, and the highest logits behind another question."""
    answer = Session(cache, loaded).ask("What is the total of invoice 3921?", SHORT)
    return list(answer.token_ids), list(take_probe(cache, loaded, "fp32").top_logits)


def in_the_new_process(folder: Path, names: dict[str, str]) -> dict[str, Any]:
    """Answers from the files; ``names`` says what each model is loaded by."""
    loaded: dict[str, LoadedModel] = {
        model: load_model(name, device="cpu", dtype="fp32") for model, name in names.items()
    }
    return {
        "families": {
            family: greedy(build(family)[0], load(family_file(folder, family)), question(6), TOKENS)
            for family in FAMILIES
        },
        "methods": {
            f"{model}, {method}": asked(load(method_file(folder, model, method)), loaded[model])
            for model in names
            for method in METHODS
        },
    }


if __name__ == "__main__":
    print(json.dumps(in_the_new_process(Path(sys.argv[1]), json.loads(sys.argv[2]))))
