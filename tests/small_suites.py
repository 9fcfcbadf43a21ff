"""A suite of two contexts that the embedded reader answers in a moment: facts in a text and on a small image."""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from flowmm.bench.suite import Evidence, SuiteContext, SuitePart, SuiteQuestion, write_suite

FACTS = {"Lufe": "5000", "Xasta": "4711", "Morin": "8230", "Tavel": "1964"}
SEEN = {"Bolda": "3175", "Nerid": "6402"}  # on the images


def write_small_suite(folder: Path, contexts: int = 2) -> Path:
    """Context ``dense-1k-N`` has two facts in its text and one on an image."""
    folder.mkdir(parents=True)
    write_suite(folder, [_context(folder, number) for number in range(contexts)])
    return folder


def _context(folder: Path, number: int) -> SuiteContext:
    name = f"dense-1k-{number}"
    keys = list(FACTS)[2 * number : 2 * number + 2]
    text = "".join(f"{key}: {FACTS[key]}\n" for key in keys)
    seen = list(SEEN)[number]
    picture = Image.new("RGB", (168, 84), "white")
    ImageDraw.Draw(picture).text((12, 30), f"{seen}: {SEEN[seen]}", font=ImageFont.load_default(20), fill="black")
    picture.save(folder / f"{name}.png")
    asked = [
        SuiteQuestion(f"{name}-{key}", f"What is the code of {key}?", (FACTS[key],), "dense", (_span(text, key),))
        for key in keys
    ]
    box = Evidence(1, box=(12, 28, 150, 56))
    asked.append(SuiteQuestion(f"{name}-{seen}", f"What is the code of {seen}?", (SEEN[seen],), "pages", (box,)))
    return SuiteContext(name, (SuitePart(text=text), SuitePart(path=f"{name}.png")), tuple(asked))


def _span(text: str, key: str) -> Evidence:
    start = text.index(FACTS[key])
    return Evidence(0, span=(start, start + len(FACTS[key])))
