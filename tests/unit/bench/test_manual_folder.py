from pathlib import Path

import pypdfium2 as pdfium

from flowmm.bench.suites import open_suite
from tests.manual_folder import print_manuals


def test_the_pages_of_a_manual_state_every_answer(tmp_path: Path) -> None:
    suite = open_suite(print_manuals(tmp_path / "manual", modules=("textwrap",)))
    (context,) = suite.contexts
    document = pdfium.PdfDocument(tmp_path / "manual" / "textwrap.pdf")
    text = "\n".join(page.get_textpage().get_text_range() for page in document)
    document.close()
    assert len(context.questions) == 8
    assert "class TextWrapper" in text or "width" in text
    for asked in context.questions:
        key = asked.question.removeprefix("What is the code of ").removesuffix("?")
        assert f"{key}: {asked.answers[0]}" in text
