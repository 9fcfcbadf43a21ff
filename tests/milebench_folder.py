"""A folder in MileBench's layout, drawn by hand: three tasks of five samples each."""

import json
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

COLOURS = ("red", "green", "blue", "gold", "black")
SAMPLES = 5
TASKS = ("CountShapes", "NextColour", "TableCode")


def draw_tasks(folder: Path) -> Path:
    """Write the three tasks below ``folder`` and return it.

    - ``CountShapes``: open-ended, two images with captions, the marked question behind them, a number as response.
    - ``NextColour``: multi-choice, images only; the task instruction is the question.
    - ``TableCode``: open-ended, text around a ``{table#1}``, the question is the last line before it.
    """
    _write(folder, "CountShapes", "open-ended", ["Look at the cards.", "Study the cards."], map(_count, range(SAMPLES)))
    _write(folder, "NextColour", "multi-choice", ["Which colour comes next?"], map(_next, range(SAMPLES)))
    _write(folder, "TableCode", "open-ended", [""], map(_table, range(SAMPLES)))
    return folder


def _count(number: int) -> tuple[dict[str, Any], dict[str, Image.Image]]:
    sample = {
        "task_instruction_id": number % 2,
        "task_instance": {
            "context": "{image#1}Card one.{image#2}Card two. Question: How many shapes are on both cards?",
            "images_path": [f"{number}/one.png", f"{number}/two.png"],
        },
        "response": number + 2,
    }
    one, two = _shapes(["ellipse"] * (number + 1), "blue"), _shapes(["rectangle"], "red")
    return sample, {f"{number}/one.png": one, f"{number}/two.png": two}


def _next(number: int) -> tuple[dict[str, Any], dict[str, Image.Image]]:
    turned = COLOURS[number:] + COLOURS[:number]
    names = [f"{number}-{place}.png" for place in range(2)]
    sample = {
        "task_instruction_id": 0,
        "task_instance": {
            "context": "The colours go round. {image#1}{image#2}",
            "images_path": names,
            "choice_list": list(COLOURS),
        },
        "response": turned[2],
    }
    return sample, {name: _shapes(["ellipse"], colour) for name, colour in zip(names, turned, strict=False)}


def _table(number: int) -> tuple[dict[str, Any], dict[str, Image.Image]]:
    code = str(1000 + number)
    page = Image.new("RGB", (112, 56), "white")
    ImageDraw.Draw(page).text((8, 20), f"Lufe  {code}", fill="black")
    sample = {
        "task_instruction_id": 0,
        "task_instance": {
            "context": "A page of the register.\nWhat is the code of Lufe?\n{table#1}",
            "images_path": [f"{number}.png"],
        },
        "response": code,
    }
    return sample, {f"{number}.png": page}


def _shapes(kinds: list[str], colour: str) -> Image.Image:
    page = Image.new("RGB", (112, 56), "white")
    for place, kind in enumerate(kinds):
        box = (4 + 20 * place, 20, 18 + 20 * place, 34)
        getattr(ImageDraw.Draw(page), kind)(box, fill=colour)
    return page


def _write(folder: Path, task: str, question_type: str, instructions: list[str], drawn: Any) -> None:
    data = []
    for number, (sample, images) in enumerate(drawn):
        data.append({"sample_id": number, **sample, "image_quantity_level": "Few"})
        for name, image in images.items():
            path = folder / task / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    meta = {
        "dataset": task,
        "split": "test",
        "num_sample": SAMPLES,
        "task_instruction": instructions,
        "question_type": question_type,
    }
    text = json.dumps({"meta_data": meta, "data": data}, indent=2)
    (folder / task / f"{task}.json").write_text(text, encoding="utf-8")
