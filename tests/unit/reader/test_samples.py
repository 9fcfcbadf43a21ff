from pathlib import Path

import pypdfium2 as pdfium
import pytest
from PIL import Image

from flowmm.reader import samples
from flowmm.reader.language import is_held_out


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> samples.Sample:
    return samples.draw(tmp_path_factory.mktemp("sample"), seed=3)


def test_the_same_seed_writes_the_same_bytes(sample, tmp_path):
    again = samples.draw(tmp_path, seed=3)
    assert [p.read_bytes() for p in again.files] == [p.read_bytes() for p in sample.files]
    assert again.questions == sample.questions


def test_another_seed_asks_something_else(sample, tmp_path):
    assert samples.draw(tmp_path, seed=4).questions != sample.questions


def test_the_files_come_in_reading_order(sample):
    assert [path.name for path in sample.files] == ["report.pdf", "left.png", "right.png", "notes.txt"]
    assert all(isinstance(path, Path) for path in sample.files)
    assert all(Image.open(path).width < 400 for path in sample.files[1:3])


def test_questions_cover_every_place_with_held_out_keys(sample):
    assert len(sample.questions) >= 12
    places = {question.place for question in sample.questions}
    assert places == {*(f"page {n}" for n in (1, 2, 3, 4)), "left.png", "right.png", "notes.txt"}
    assert all(is_held_out(q.text.removeprefix("What is the code of ")[:-1]) for q in sample.questions)


def test_every_page_of_the_report_has_a_text_layer_with_the_answers(sample):
    document = pdfium.PdfDocument(sample.files[0])
    layers = [page.get_textpage().get_text_range() for page in document]
    document.close()
    assert len(layers) == 4
    for question in sample.questions:
        key = question.text.removeprefix("What is the code of ")[:-1]
        if question.place.startswith("page"):
            assert f"{key}: {question.expected}" in layers[int(question.place[-1]) - 1]


def test_the_notes_state_what_is_asked_of_them(sample):
    notes = sample.files[3].read_text(encoding="utf-8")
    asked = [question for question in sample.questions if question.place == "notes.txt"]
    assert asked
    assert all(question.expected in notes for question in asked)
