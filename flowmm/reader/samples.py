"""Draws the demo's documents: a PDF of four pages, two screenshots and a text file, with questions about them.

Needs Pillow and pdfium only, no system fonts, so it runs wherever flowmm runs. All keys are held out of the training.
"""

import io
import re
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pypdfium2 as pdfium
from PIL import Image, ImageDraw, ImageFont

from flowmm.reader import language
from flowmm.reader.fonts import Face
from flowmm.reader.language import Fact
from flowmm.reader.sheet import Line, put_text

_PAGE = (298.0, 420.0)  # A6 in points
_FACTS = {"page 1": 3, "page 2": 3, "page 3": 3, "page 4": 3, "left.png": 3, "right.png": 3, "notes.txt": 6}
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
    sentences += [language.sentence(rng) for _ in range(6)]
    rng.shuffle(sentences)
    lines = []
    while sentences:
        lines.append(" ".join(sentences.pop() for _ in range(min(len(sentences), rng.randint(2, 3)))))
    return "\n".join(lines) + "\n"


def _write_report(rng: Random, path: Path, facts: list[list[Fact]]) -> None:
    """Four pages of text objects, which give a text layer, as a word processor prints them."""
    document = pdfium.PdfDocument.new()
    for stated in facts:
        page = document.new_page(*_PAGE)
        face = Face(rng.choice(("Helvetica", "Times-Roman")), pdf=True)
        for place, text in enumerate(_lines(rng, stated, 3, 34)):
            put_text(document, page, face, 16, Line(text, 24, 44 + 34 * place))
        page.gen_content()
    written = io.BytesIO()
    document.save(written)
    document.close()
    # pdfium stamps the time and a random id, which nothing here needs; the same seed shall give the same bytes.
    path.write_bytes(_STAMPS.sub(lambda stamp: b"0" * len(stamp[0]), written.getvalue()))


def _screenshot(rng: Random, facts: list[Fact]) -> Image.Image:
    picture = Image.new("RGB", (rng.randint(300, 350), 180), rng.choice(_PAPERS))
    brush, font = ImageDraw.Draw(picture), ImageFont.load_default(22)
    for place, text in enumerate(_lines(rng, facts, 1, 22)):
        brush.text((16, 34 + 38 * place), text, font=font, fill="#202020", anchor="ls")
    return picture
