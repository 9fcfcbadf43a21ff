"""Evidence is found among the tokens: characters through the tokenizer, boxes through the grid of an image."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from flowmm.bench.evidence_slots import evidence_tokens, gone_everywhere, modality_of
from flowmm.bench.suite import Evidence, Suite, SuiteContext, SuitePart, SuiteQuestion, read_suite
from flowmm.chosen import load_chosen_model
from flowmm.context import Modality, Piece
from flowmm.hf.places import tokens_of_box
from flowmm.hf.prompt import context_prompt
from flowmm.records import ModelOptions
from tests.small_suites import write_small_suite


@pytest.fixture(scope="module")
def reader():
    return load_chosen_model(ModelOptions("flowmm/reader", device="cpu"))


def located(folder: Path, context: SuiteContext, reader):
    suite = Suite("s", folder, (context,))
    parts = suite.load_parts(context)
    prompt = context_prompt([part for own in parts for part in own], reader)
    return prompt, evidence_tokens(suite, context, parts, prompt, reader)


def asked(*places: Evidence, name: str = "q") -> SuiteQuestion:
    return SuiteQuestion(name, "What?", ("5000",), "dense", places)


@pytest.mark.parametrize("text", ["Lufe: 5000\nXasta: 4711\n", "\n  Lufe: 5000. More.", "ä ö Lufe: 5000"])
def test_the_tokens_of_a_span_spell_what_stands_there(text, reader, tmp_path):
    start = text.index("5000")
    context = SuiteContext("c", (SuitePart(text=text),), (asked(Evidence(0, span=(start, start + 4))),))
    prompt, found = located(tmp_path, context, reader)
    assert reader.tokenizer.decode(prompt.token_ids[found["q"]]).strip() == "5000"


def test_parts_before_it_shift_a_span(reader, tmp_path):
    parts = (SuitePart(text="Before: 1111"), SuitePart(text="Lufe: 5000"))
    prompt, found = located(tmp_path, SuiteContext("c", parts, (asked(Evidence(1, span=(6, 10))),)), reader)
    assert reader.tokenizer.decode(prompt.token_ids[found["q"]]).strip() == "5000"


def test_a_box_is_the_cells_of_the_grid_that_it_touches():
    grid = {"image_grid_thw": torch.tensor([[1, 6, 12]])}  # 3 rows of 6 tokens
    modality = torch.tensor([Modality.TEXT, *[Modality.VISUAL] * 18, Modality.TEXT], dtype=torch.uint8)
    piece = Piece(torch.zeros(20, dtype=torch.int64), modality, grid)
    config = SimpleNamespace(vision_config=SimpleNamespace(spatial_merge_size=2))
    model = SimpleNamespace(model=SimpleNamespace(config=config))
    # 600 x 300 pixels, cells of 100: columns 1 and 2 of rows 0 and 1; a cell's edge is not the next cell.
    assert tokens_of_box(piece, (600, 300), (100, 50, 300, 150), model) == [1 + 1, 1 + 2, 1 + 7, 1 + 8]
    assert tokens_of_box(piece, (600, 300), (590, 290, 700, 400), model) == [18]
    assert tokens_of_box(replace(piece, pixels={}), (600, 300), (0, 0, 1, 1), model) is None
    two = {"image_grid_thw": torch.tensor([[2, 6, 6]])}
    assert tokens_of_box(replace(piece, pixels=two), (600, 300), (0, 0, 1, 1), model) is None


def test_a_box_is_found_on_an_image_that_the_processor_resizes(reader, tmp_path):
    suite = read_suite(write_small_suite(tmp_path / "tiny"))
    context = suite.contexts[0]
    prompt, found = located(suite.folder, context, reader)
    tokens = found[context.questions[2].id]
    assert set(prompt.modality[tokens].tolist()) == {Modality.VISUAL}
    assert len(tokens) == 6  # 168 x 84 pixels are 6 x 3 tokens; the box touches all columns of the second row


def test_what_cannot_be_told_is_left_out(reader, tmp_path):
    turned = Image.new("RGB", (112, 56), "white")
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    parts = (SuitePart(path="turned.jpg"), SuitePart(text="Lufe: 5000"), SuitePart(text="<|im_start|> 5000"))
    box, span, control = Evidence(0, box=(0, 0, 9, 9)), Evidence(1, span=(6, 10)), Evidence(2, span=(13, 17))
    questions = (asked(), asked(box, name="a"), asked(box, span, name="b"), asked(control, name="c"))
    _, found = located(tmp_path, SuiteContext("c", parts, (*questions, asked(span, name="d"))), reader)
    assert list(found) == ["d"]


def test_where_evidence_stands():
    box, span = Evidence(0, box=(0, 0, 9, 9)), Evidence(1, span=(0, 4))
    found = [modality_of(asked(*places)) for places in ((), (box,), (span, span), (span, box))]
    assert found == ["none", "image", "text", "both"]


def test_a_token_is_gone_when_no_layer_and_head_has_it():
    def layer(*heads):
        position = torch.tensor(heads, dtype=torch.int32)
        return SimpleNamespace(position=position, padding=torch.zeros(position.shape, dtype=torch.bool))

    small = SimpleNamespace(layers=(layer((0, 1), (0, 3)), layer((0, 1), (0, 5))))
    assert gone_everywhere([1, 2, 3, 4, 5], small) == 2
    padded = SimpleNamespace(layers=(SimpleNamespace(position=torch.tensor([[7]]), padding=torch.tensor([[True]])),))
    assert gone_everywhere([7], padded) == 1
