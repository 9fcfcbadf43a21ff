"""Measures exported weights on what the training never saw: ``python -m flowmm.reader.evaluate --samples 10``.

Held-out sets ask one question per context through the training's forward, where an answer is right if every token of
it is the most likely one, which is greedy decoding. The samples go the whole way: files, pdfium, the image processor,
``generate``.
"""

import argparse
import math
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import pypdfium2 as pdfium
import torch
from PIL import Image

from flowmm import reader
from flowmm.hf.reader_model import Loaded, architecture_of
from flowmm.reader import fonts, samples
from flowmm.reader.batches import draw_batch
from flowmm.reader.curriculum import cost
from flowmm.reader.fonts import Face
from flowmm.reader.layouts import Layout, Segment
from flowmm.reader.network import Trainee
from flowmm.reader.pages import PageStyle

PAGE_PIXELS = 200_000  # of a rendered PDF page, as in the demo
_TOKENS = 4000  # per batch

Score = tuple[int, int]  # right, asked


def _page(facts: int, fillers: int = 0) -> Segment:
    return Segment(facts, fillers, page=True)


def _sets() -> dict[str, Layout]:
    every, plain = PageStyle(fonts.trained()), PageStyle(fonts.standard())
    page = Layout((_page(5, 2),), 1, rows=10, columns=11, style=every)
    four = Layout((_page(4, 4),) * 4, 1, rows=16, columns=12, style=plain)
    mixed = (Segment(4, 6), _page(4, 4), Segment(4, 6), _page(4, 4), _page(4, 1), _page(4, 1), Segment(8, 20))
    return {
        "text, 8 facts": Layout((Segment(8, 2),), 1),
        "text, 24 facts": Layout((Segment(24, 10),), 1),
        "text, 30 facts, 1,300 tokens": Layout((Segment(30, 80),), 1),
        "text, 24 near facts": Layout((Segment(24, 10),), 1, near=0.6),
        "absent, 8 facts": Layout((Segment(8, 2),), 0, 1),
        "absent, 24 facts": Layout((Segment(24, 10),), 0, 1),
        "1 page, all faces": page,
        "1 page, standard faces": replace(page, style=plain),
        "4 pages, standard faces": four,
        "4 pages, all faces": replace(four, style=every),
        "4 pages and text, standard faces": replace(four, segments=mixed),
    }


def _of_face(face: Face) -> Layout:
    return Layout((_page(5, 2),), 1, rows=10, columns=11, style=PageStyle((face,)))


@torch.no_grad()
def held_out(net: Trainee, layout: Layout, number: int, seed: int = 12345) -> dict[str, Score]:
    """Right answers by kind over about ``number`` contexts with keys that training never saw."""
    rng, right, asked = Random(f"evaluation/{seed}"), Counter[str](), Counter[str]()
    while asked.total() < number:
        batch = draw_batch(rng, layout, max(1, round(_TOKENS / cost(layout))), held_out=True)
        outcome = net.outcome(batch, train=False)
        for question, exact in zip(batch.asked, outcome.exact, strict=True):
            asked[question.kind] += 1
            right[question.kind] += exact
    return {kind: (right[kind], asked[kind]) for kind in sorted(asked)}


def sample_parts(files: tuple[Path, ...], pdf_images: bool = False) -> list[str | Image.Image]:
    """The parts that the files give: of a PDF page the text layer if it has one, else its picture."""
    parts: list[str | Image.Image] = []
    for path in files:
        if path.suffix == ".pdf":
            parts += _pdf_parts(path, pdf_images)
        elif path.suffix == ".txt":
            parts.append(path.read_text(encoding="utf-8"))
        else:
            parts.append(Image.open(path).convert("RGB"))
    return parts


def _pdf_parts(path: Path, as_images: bool) -> list[str | Image.Image]:
    document, parts = pdfium.PdfDocument(path), []
    for page in document:
        text = page.get_textpage().get_text_range().replace("\r\n", "\n").strip()
        scale = math.sqrt(PAGE_PIXELS / (page.get_width() * page.get_height()))
        picture = page.render(scale=scale).to_pil().convert("RGB")
        parts.append(text if text and not as_images else picture)
    document.close()
    return parts


def on_samples(folder: Path, seeds: range, *, pdf_images: bool = False) -> dict[str, Score]:
    """Right answers by place over the demo's documents of ``seeds``."""
    loaded, right, asked = Loaded(folder), Counter[str](), Counter[str]()
    for seed in seeds:
        with tempfile.TemporaryDirectory() as name:
            sample = samples.draw(Path(name), seed)
            parts = sample_parts(sample.files, pdf_images)
            for question in sample.questions:
                asked[question.place] += 1
                right[question.place] += loaded.answer(parts, question.text) == question.expected
    return {place: (right[place], asked[place]) for place in asked}


def _print(name: str, scores: dict[str, Score]) -> None:
    shares = "  ".join(f"{kind} {right}/{asked} = {right / asked:.3f}" for kind, (right, asked) in scores.items())
    print(f"{name:36s} {shares}", flush=True)


def main() -> None:
    """Print exact-match scores of a folder of weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=reader.folder())
    parser.add_argument("--contexts", type=int, default=100, help="per held-out set; 0 leaves the sets out")
    parser.add_argument("--samples", type=int, default=5, help="seeds of the demo's documents")
    parser.add_argument("--faces", action="store_true", help="also each face on its own")
    options = parser.parse_args()
    if options.contexts:
        model = Loaded(options.weights).model
        net = Trainee(architecture_of(model), 0)
        net.model.load_state_dict(model.state_dict())
        sets = _sets()
        if options.faces:
            sets |= {f"face {face.name}": _of_face(face) for face in (*fonts.trained(), *fonts.held_out())}
        for name, layout in sets.items():
            _print(name, held_out(net, layout, options.contexts))
    if options.samples:
        seeds = range(options.samples)
        _print("samples", on_samples(options.weights, seeds))
        _print("samples, PDF pages as pictures", on_samples(options.weights, seeds, pdf_images=True))


if __name__ == "__main__":
    main()
