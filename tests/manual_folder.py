"""Documents that flowmm did not draw: manuals of Python modules, printed by reportlab, with lines to ask about in them.

``python -m tests.manual_folder FOLDER`` makes the folder that ``flowmm bench quality --suite FOLDER`` measures.
"""

import argparse
import csv
import pydoc
from pathlib import Path
from random import Random

from reportlab.lib.pagesizes import A5
from reportlab.pdfgen.canvas import Canvas

from flowmm.bench.making.names import Names
from flowmm.bench.making.splits import SPLITS

MODULES = ("textwrap", "shutil", "fractions", "calendar", "bisect", "string", "glob", "tempfile")
_LINES = 30  # of a page
_WIDTH = 72  # characters of a line
_PAGES = 2
_FACTS = 8  # in a manual


def print_manuals(folder: Path, *, split: str = "test", seed: int = 0, modules: tuple[str, ...] = MODULES) -> Path:
    """Write a PDF of two pages for each module and ``questions.csv``; return ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for module in modules:
        rng = Random(f"manual/{seed}/{module}")
        names = Names(rng, SPLITS[split])
        lines = _excerpt(rng, module)
        facts = [(names.key(), names.value()) for _ in range(_FACTS)]
        for (key, value), place in zip(facts, sorted(rng.sample(range(len(lines)), _FACTS), reverse=True), strict=True):
            lines.insert(place, f"{key}: {value}")
        _print(folder / f"{module}.pdf", lines)
        rows += [(f"What is the code of {key}?", value, f"{module}.pdf", "manual") for key, value in facts]
    with (folder / "questions.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("question", "answer", "file", "kind"))
        writer.writerows(rows)
    return folder


def _excerpt(rng: Random, module: str) -> list[str]:
    """Neighbouring lines of a manual, as many as the pages take; of its longest ones the beginning."""
    text = pydoc.render_doc(module, renderer=pydoc.plaintext)
    lines = [line.rstrip()[:_WIDTH] for line in text.splitlines() if line.strip(" |")]
    number = _LINES * _PAGES - _FACTS
    start = rng.randrange(max(1, len(lines) - number))
    return lines[start : start + number]


def _print(path: Path, lines: list[str]) -> None:
    canvas = Canvas(str(path), pagesize=A5, invariant=1)
    for start in range(0, len(lines), _LINES):
        text = canvas.beginText(28, A5[1] - 36)
        text.setFont("Courier", 8.4)
        text.setLeading(17)
        for line in lines[start : start + _LINES]:
            text.textLine(line)
        canvas.drawText(text)
        canvas.showPage()
    canvas.save()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", choices=sorted(SPLITS), default="test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--modules", metavar="A,B", type=lambda names: tuple(names.split(",")), default=MODULES)
    options = parser.parse_args()
    print_manuals(options.folder, split=options.split, seed=options.seed, modules=options.modules)
