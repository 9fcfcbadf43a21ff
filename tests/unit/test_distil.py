"""Training through the model is taken only where held-out questions diverge less, and leaves protected slots alone."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from flowmm import distil
from flowmm.contexts import read_context
from flowmm.distil import distilled, lessons
from flowmm.held_out import agreement, ask_held_out, held_out_questions
from flowmm.hf.loading import load_model
from flowmm.merges.selection import take
from flowmm.packing import PACKINGS
from flowmm.pipeline import CompressOptions, prefill_file
from flowmm.profiles import Distil, load_method
from flowmm.records import Agreement, Part, Source

ROOT = Path(__file__).parents[2]
TEXT = "Invoice 3921 for Lufe amounts to 480.20 euros. Xasta owes Mori 77. " * 2
NOTES = Part("text", TEXT, Source("notes.txt", "0" * 64, "text"))
METHOD = load_method("flowmm").model_copy(update={"distil": Distil(steps=25, rate=0.05)})


@pytest.fixture(scope="module")
def case(model):
    """The model, the full cache, one of a quarter of its slots, what to train on, what to judge by."""
    loaded = load_model(model.name, device="cpu", dtype="fp32")
    full = read_context([NOTES], loaded, None)
    layers = tuple(take(layer, layer.protected | (layer.position % 4 == 0)) for layer in full.layers)
    known = lessons(full, TEXT, METHOD, loaded)
    held = ask_held_out(full, held_out_questions([NOTES]), loaded)
    return loaded, full, replace(full, layers=layers, evidence=None), known, held


def test_lessons_are_about_names_and_numbers_of_the_text(case):
    loaded, full, _, known, _ = case
    assert len(known.rows) == 7  # Invoice, 3921, Lufe, 480.20, Xasta, Mori, 77
    assert lessons(full, "", METHOD, loaded) is None
    assert lessons(full, TEXT, load_method("flowmm"), loaded) is None


def test_held_out_questions_diverge_less_afterwards(case):
    loaded, _, small, known, held = case
    before = agreement(held, small, loaded)
    trained = distilled(small, known, held, loaded, METHOD.distil, PACKINGS["fp32"])
    after = agreement(held, trained, loaded)
    assert after.kl < before.kl
    assert agreement(known, trained, loaded).kl < agreement(known, small, loaded).kl


def test_protected_slots_stay_to_the_bit_and_so_do_dtypes(case):
    loaded, _, small, known, held = case
    trained = distilled(small, known, held, loaded, METHOD.distil, PACKINGS["fp32"])
    for old, new in zip(small.layers, trained.layers, strict=True):
        assert torch.equal(new.keys[old.protected], old.keys[old.protected])
        assert torch.equal(new.values[old.protected], old.values[old.protected])
        assert not new.bias[old.protected].any()
        assert (new.keys.dtype, new.values.dtype) == (old.keys.dtype, old.values.dtype)
        assert not torch.equal(new.keys, old.keys)


def test_what_does_not_help_is_not_taken(case, monkeypatch):
    loaded, _, small, known, held = case
    found = iter([Agreement(1, 1, 1, 1.0, 0.1, 0, 0.0), Agreement(1, 1, 1, 1.0, 0.2, 0, 0.0)])
    monkeypatch.setattr(distil, "agreement", lambda *_: next(found))
    assert distilled(small, known, held, loaded, Distil(steps=1), PACKINGS["fp32"]) is small


def test_without_biases_a_file_has_none_to_store(case):
    loaded, _, small, known, held = case
    trained = distilled(small, known, held, loaded, METHOD.distil, PACKINGS["fp32"], bias=False)
    assert trained is not small
    assert all(layer.bias is None for layer in trained.layers)


def test_the_header_says_that_slots_were_trained(model, tmp_path):
    (tmp_path / "notes.txt").write_text(TEXT)
    method = tmp_path / "mine.yaml"
    text = (ROOT / "profiles" / "methods" / "flowmm.yaml").read_text()
    method.write_text(f"{text}distil: {{steps: 25, rate: 0.05}}\n")
    for size in ({"keep": 0.3}, {"reduce": 0.3}):
        options = CompressOptions(method=str(method), **size)
        made = prefill_file(
            [str(tmp_path / "notes.txt")], tmp_path / "ctx.kv", model=model, compression=options, force=True
        )
        assert made.provenance.compression.trained
    assert made.file_bytes <= 0.7 * made.full_bytes + 60_000
