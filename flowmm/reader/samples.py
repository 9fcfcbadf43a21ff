"""Draws the demo's documents: a PDF of four pages, two screenshots and a text file, with questions about them.

Needs Pillow and pdfium only, no system fonts, so it runs wherever flowmm runs. All keys are held out of the training.
"""

import io
import re
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pypdfium2 as pdfium
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from flowmm.reader import language
from flowmm.reader.fonts import Face
from flowmm.reader.language import Fact
from flowmm.reader.sheet import Line, put_text

_PAGE = (298.0, 420.0)  # A6 in points
_SCAN = (364, 504)  # pixels of a scanned page
_FACTS = {"page 1": 4, "page 2": 4, "page 3": 4, "page 4": 4, "left.png": 4, "right.png": 4, "notes.txt": 8}
_ASKED = 2  # questions per place
_STAMPS = re.compile(rb"(?<=<)[0-9A-F]{32}(?=>)|(?<=\(D:)[0-9]{14}")  # file ids and dates
_PAPERS = ("white", "#f4f1e8", "#e8eef4", "#eef4e8")


@dataclass(frozen=True)
class Question:
    """A question, the exact answer, and where the documents state it."""

    text: str
    expected: str
    place: str


@dataclass(frozen=True)
class Sample:
    """The files, in the order in which to read them, and questions about all of them."""

    files: tuple[Path, ...]
    questions: tuple[Question, ...]


def draw(folder: Path, seed: int) -> Sample:
    """Write the documents of ``seed`` to ``folder``: report.pdf, left.png, right.png and notes.txt."""
    rng = Random(f"samples/{seed}")
    facts = _facts(rng)
    folder.mkdir(parents=True, exist_ok=True)
    report, left, right, notes = (folder / n for n in ("report.pdf", "left.png", "right.png", "notes.txt"))
    _write_report(rng, report, [facts[f"page {number}"] for number in (1, 2, 3, 4)])
    for path in (left, right):
        _screenshot(rng, facts[path.name]).save(path)
    notes.write_text(_prose(rng, facts[notes.name]), encoding="utf-8")
    questions = [
        Question(fact.question, fact.value, place)
        for place, stated in facts.items()
        for fact in rng.sample(stated, _ASKED)
    ]
    return Sample((report, left, right, notes), tuple(questions))


def _facts(rng: Random) -> dict[str, list[Fact]]:
    keys = iter(language.draw_keys(rng, sum(_FACTS.values()), held_out=True, longest=8))
    return {
        place: [Fact(next(keys), language.draw_value(rng)) for _ in range(number)] for place, number in _FACTS.items()
    }


def _lines(rng: Random, facts: list[Fact], fillers: int, letters: int) -> list[str]:
    """Facts, one a line, among filler cut to ``letters`` letters."""
    lines = [f"{fact.key}: {fact.value}" for fact in facts]
    for _ in range(fillers):
        words = language.sentence(rng).split(" ")
        while len(" ".join(words)) > letters:
            words.pop()
        lines.append(" ".join(words))
    rng.shuffle(lines)
    return lines


def _prose(rng: Random, facts: list[Fact]) -> str:
    """Sentences with facts among them, two or three to a line."""
    sentences = [language.state(rng, fact, line=False) for fact in facts]
    sentences += [language.sentence(rng) for _ in range(20)]
    rng.shuffle(sentences)
    lines = []
    while sentences:
        lines.append(" ".join(sentences.pop() for _ in range(min(len(sentences), rng.randint(2, 3)))))
    return "\n".join(lines) + "\n"


def _write_report(rng: Random, path: Path, facts: list[list[Fact]]) -> None:
    """Pages 1 and 3 hold text objects, which give a text layer; pages 2 and 4 hold a picture, as a scanner gives."""
    document = pdfium.PdfDocument.new()
    for number, stated in enumerate(facts, start=1):
        page = document.new_page(*_PAGE)
        if number % 2:
            face = Face(rng.choice(("Helvetica", "Times-Roman")), pdf=True)
            for place, text in enumerate(_lines(rng, stated, 6, 34)):
                put_text(document, page, face, 16, Line(text, 24, 44 + 34 * place))
        else:
            _insert(document, page, _scan(rng, stated))
        page.gen_content()
    written = io.BytesIO()
    document.save(written)
    document.close()
    # pdfium stamps the time and a random id, which nothing here needs; the same seed shall give the same bytes.
    path.write_bytes(_STAMPS.sub(lambda stamp: b"0" * len(stamp[0]), written.getvalue()))


def _insert(document: pdfium.PdfDocument, page: pdfium.PdfPage, picture: Image.Image) -> None:
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", quality=90)
    item = pdfium.PdfImage.new(document)
    item.load_jpeg(jpeg, inline=True)
    item.set_matrix(pdfium.PdfMatrix().scale(*_PAGE))
    page.insert_obj(item)


def _scan(rng: Random, facts: list[Fact]) -> Image.Image:
    picture = Image.new("L", _SCAN, rng.randint(235, 255))
    _print(picture, _lines(rng, facts, 4, 26), size=22, ink=30, left=rng.randint(12, 30), top=48, pitch=44)
    return picture.filter(ImageFilter.GaussianBlur(0.4))


def _screenshot(rng: Random, facts: list[Fact]) -> Image.Image:
    picture = Image.new("RGB", (rng.randint(290, 350), 224), rng.choice(_PAPERS))
    _print(picture, _lines(rng, facts, 1, 22), size=20, ink="#202020", left=16, top=34, pitch=40)
    return picture


def _print(
    picture: Image.Image, lines: list[str], *, size: int, ink: int | str, left: int, top: int, pitch: int
) -> None:
    brush, font = ImageDraw.Draw(picture), ImageFont.load_default(size)
    for place, text in enumerate(lines):
        brush.text((left, top + pitch * place), text, font=font, fill=ink, anchor="ls")
