from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from flowmm import selfcheck
from flowmm.errors import UnsupportedModelError
from tests.conformance.families import FAMILIES, build, context


@pytest.fixture(autouse=True)
def _no_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selfcheck, "question_ids", lambda text, loaded: [12, 13, 14])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_passes_the_check_that_unverified_ones_must_pass(family: str) -> None:
    loaded, tiny = build(family)
    assert selfcheck.check_against_transformers(context(tiny), loaded) < 1e-3


def test_images_read_causally_where_they_should_not_be_are_found() -> None:
    loaded, tiny = build("gemma3")
    wrong = replace(loaded, family=replace(loaded.family, bidirectional_images=False))
    with pytest.raises(UnsupportedModelError, match="differs from transformers'"):
        selfcheck.check_against_transformers(context(tiny), wrong)


def test_a_model_that_answers_with_nan_is_found() -> None:
    loaded, tiny = build("llama")
    loaded.model.model.norm.weight.fill_(torch.nan)
    with pytest.raises(UnsupportedModelError, match="by nan"):
        selfcheck.check_against_transformers(context(tiny), loaded)


def test_a_pass_that_fails_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> dict[str, object]:
        raise ValueError("needs a thing")

    monkeypatch.setattr(selfcheck, "model_inputs", fail)
    loaded, tiny = build("qwen2")
    with pytest.raises(UnsupportedModelError, match="needs a thing"):
        selfcheck.check_against_transformers(context(tiny), loaded)
