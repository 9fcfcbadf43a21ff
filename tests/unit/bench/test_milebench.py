"""MileBench's layout: what a sample becomes, and how damage is named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowmm.bench.suite import Suite, SuiteContext, SuitePart
from flowmm.bench.suites import open_suite
from flowmm.errors import InputError
from tests.milebench_folder import TASKS, draw_tasks


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return draw_tasks(tmp_path)


def context(suite: Suite, name: str) -> SuiteContext:
    return next(context for context in suite.contexts if context.id == name)


def changed(folder: Path, task: str, change: Callable[[dict[str, Any]], object]) -> Path:
    """``folder``, after a change of what the JSON file of ``task`` holds."""
    path = folder / task / f"{task}.json"
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")
    return folder


def test_three_tasks_of_five_samples_are_fifteen_contexts_with_a_question_each(folder: Path) -> None:
    suite = open_suite(folder)
    assert [context.id for context in suite.contexts] == [f"{task}-{i}" for task in sorted(TASKS) for i in range(5)]
    assert all(len(context.questions) == 1 for context in suite.contexts)
    assert suite.name == folder.name


def test_a_marked_question_behind_the_images_is_asked_after_the_instruction(folder: Path) -> None:
    found = context(open_suite(folder), "CountShapes-1")
    assert found.parts == (
        SuitePart(path="CountShapes/images/1/one.png"),
        SuitePart(text="Card one."),
        SuitePart(path="CountShapes/images/1/two.png"),
        SuitePart(text="Card two. "),
    )
    (asked,) = found.questions
    assert asked.question == "Study the cards.\nQuestion: How many shapes are on both cards?"
    assert (asked.answers, asked.kind) == (("3",), "CountShapes")


def test_choices_are_listed_and_count_as_text_and_as_letter(folder: Path) -> None:
    found = context(open_suite(folder), "NextColour-1")
    (asked,) = found.questions
    assert asked.question == "Which colour comes next?\nChoice List:\nA. red\nB. green\nC. blue\nD. gold\nE. black"
    assert asked.answers == ("gold", "D", "D. gold")
    assert [part.path for part in found.parts[1:]] == ["NextColour/images/1-0.png", "NextColour/images/1-1.png"]


def test_a_question_before_the_last_image_leaves_the_context(folder: Path) -> None:
    found = context(open_suite(folder), "TableCode-4")
    assert found.parts[0].text is not None
    assert found.parts[0].text.strip() == "A page of the register."
    assert found.parts[1] == SuitePart(path="TableCode/images/4.png")
    assert found.questions[0].question == "What is the code of Lufe?"
    assert found.questions[0].answers == ("1004",)


def test_the_documents_of_a_context_can_be_read(folder: Path) -> None:
    suite = open_suite(folder)
    kinds = [[part.kind for part in parts] for parts in suite.load_parts(context(suite, "CountShapes-0"))]
    assert kinds == [["image"], ["text"], ["image"], ["text"]]


def test_more_choices_than_letters_are_listed_bare(folder: Path) -> None:
    names = [f"name {i}" for i in range(27)]

    def change(value: dict[str, Any]) -> None:
        value["data"][0]["task_instance"]["choice_list"] = names
        value["data"][0]["response"] = "name 26"

    (asked,) = context(open_suite(changed(folder, "NextColour", change)), "NextColour-0").questions
    assert asked.answers == ("name 26",)
    assert asked.question.endswith("\nname 25\nname 26")


@pytest.mark.parametrize(
    ("response", "choices", "answers"),
    [
        ("B", ["red", "blue"], ("blue", "B", "B. blue")),
        ("Red.", ["red", "blue"], ("red", "A", "A. red")),
        (True, [True, False], ("True", "A", "A. True")),
        ("A", ["B", "A"], ("A", "B", "B. A")),  # the text of a choice goes before its letter
        (7, [5, 7, 7], ("7", "B", "B. 7", "C", "C. 7")),
    ],
)
def test_a_response_is_the_text_of_a_choice_or_its_letter(
    folder: Path, response: object, choices: list[object], answers: tuple[str, ...]
) -> None:
    def change(value: dict[str, Any]) -> None:
        value["data"][0]["task_instance"]["choice_list"] = choices
        value["data"][0]["response"] = response

    (asked,) = context(open_suite(changed(folder, "NextColour", change)), "NextColour-0").questions
    assert asked.answers == answers


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("task_instruction_id", 1, "task_instruction_id 1 of 1 instructions"),
        ("task_instruction_id", "0", "expected int, found '0'"),
        ("response", None, "expected str, found None"),
        ("response", " ", "response is empty"),
        ("response", "pink", "'pink' is none of the 5 choices"),
        ("task_instance", [], "task_instance: expected dict"),
        ("context", 5, "task_instance.context: expected str"),
        ("context", "{image#1}{image#2}{image#3}", r"shows images \[1, 2, 3\], images_path has 2"),
        ("context", "{image#1}", r"shows images \[1\], images_path has 2"),
        ("context", "Question: Who?{image#1", "nothing stands before the question"),
        ("images_path", ["0-0.png", "gone.png"], "no document 'NextColour/images/gone.png'"),
        ("images_path", ["0-0.png", "../../b.png"], "leads out of"),
        ("images_path", ["0-0.png", "/etc/hostname"], "leads out of"),
        ("images_path", "0-0.png", "images_path: expected list"),
        ("choice_list", None, "choice_list: expected list"),
        ("choice_list", [], "has no choice_list"),
        ("choice_list", ["red", ["green"]], r"choice_list\[1\]: expected str"),
        ("choice_list", ["red", "blue {image#1}"], "a choice shows an image"),
    ],
)
def test_a_damaged_sample_is_named_with_its_file(folder: Path, key: str, value: object, said: str) -> None:
    def change(found: dict[str, Any]) -> None:
        sample = found["data"][0]
        sample["sample_id"] = "s1"
        (sample if key in sample else sample["task_instance"])[key] = value

    with pytest.raises(InputError, match=rf"NextColour\.json: sample s1.*{said}"):
        open_suite(changed(folder, "NextColour", change))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda value: value.pop("data"), "has no list 'data'"),
        (lambda value: value.pop("meta_data"), "meta_data: expected dict, found None"),
        (lambda value: value["meta_data"].pop("question_type"), "meta_data: key 'question_type' is missing"),
        (lambda value: value["meta_data"].update(question_type="yes-no"), "question_type 'yes-no', expected multi-c"),
        (lambda value: value["data"][3].pop("sample_id"), r"data\[3\] has no sample_id"),
        (lambda value: value["data"].append(7), r"data\[5\] has no sample_id"),
        (lambda value: value["meta_data"].update(task_instruction=[" "]), "sample 0: has no question"),
    ],
)
def test_a_damaged_file_is_named(folder: Path, change: Callable[[dict[str, Any]], object], said: str) -> None:
    with pytest.raises(InputError, match=rf"NextColour\.json: {said}"):
        open_suite(changed(folder, "NextColour", change))


def test_a_file_that_is_no_json_is_named(folder: Path) -> None:
    (folder / "TableCode" / "TableCode.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"TableCode\.json: not valid JSON"):
        open_suite(folder)


def test_a_sample_id_that_stands_twice_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="'TableCode-0' stands twice"):
        open_suite(changed(folder, "TableCode", lambda value: value["data"].append(value["data"][0])))


def test_a_folder_among_tasks_that_is_none_is_refused(folder: Path) -> None:
    (folder / "Tablecode2").mkdir()
    with pytest.raises(InputError, match=r"Tablecode2\.json: cannot be read"):
        open_suite(folder)
