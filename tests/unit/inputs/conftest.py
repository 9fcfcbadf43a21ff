"""Small documents, made where a test needs them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowmm.errors import InputError
from flowmm.inputs import ReadOptions, read

MakePdf = Callable[..., Path]


@pytest.fixture
def refused() -> Callable[..., str]:
    """Read one document that must be refused, and return the message: two lines that name the document."""

    def check(path: Path | str, **options: Any) -> str:
        with pytest.raises(InputError) as caught:
            read([path], ReadOptions(**options))
        message = str(caught.value)
        assert message.startswith(f"{path}: ")
        assert message.count("\n") == 1
        return message

    return check


@pytest.fixture
def make_pdf(tmp_path: Path) -> MakePdf:
    """Each page is a function that draws on a reportlab canvas, or a string that is written on it."""
    from reportlab.pdfgen.canvas import Canvas

    def make(*pages: Any, name: str = "doc.pdf", size: tuple[float, float] = (200, 100), **options: Any) -> Path:
        path = tmp_path / name
        canvas = Canvas(str(path), pagesize=size, **options)
        for page in pages:
            if callable(page):
                page(canvas)
            else:
                for number, line in enumerate(page.split("\n")):
                    canvas.drawString(10, size[1] - 20 - 14 * number, line)
            canvas.showPage()
        canvas.save()
        return path

    return make
