"""Which format a folder is of."""

import re
from pathlib import Path

import pytest

from flowmm.bench.suite import SuiteContext, SuitePart, SuiteQuestion, write_suite
from flowmm.bench.suites import open_suite
from flowmm.errors import InputError
from tests.milebench_folder import TASKS, draw_tasks

CONTEXT = SuiteContext("a", (SuitePart(text="Lufe: 5000."),), (SuiteQuestion("a-0", "Code?", ("5000",), "needle"),))


def write_questions(folder: Path) -> None:
    (folder / "notes.txt").write_text("Lufe: 5000.", encoding="utf-8")
    (folder / "questions.csv").write_text("question,answer\nWhat is the code of Lufe?,5000\n", encoding="utf-8")


def test_each_format_is_told_by_the_names_of_its_files(tmp_path: Path) -> None:
    native, documents, milebench = (tmp_path / name for name in ("native", "documents", "milebench"))
    native.mkdir()
    documents.mkdir()
    write_suite(native, [CONTEXT])
    write_questions(documents)
    draw_tasks(milebench)
    assert open_suite(native).contexts == (CONTEXT,)
    assert open_suite(documents).contexts[0].questions[0].answers == ("5000",)
    kinds = {asked.kind for context in open_suite(milebench).contexts for asked in context.questions}
    assert kinds == set(TASKS)


def test_one_task_of_milebench_is_a_suite_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = draw_tasks(tmp_path) / TASKS[0]
    assert len(open_suite(task).contexts) == 5
    monkeypatch.chdir(task)
    here = open_suite(Path())
    assert (here.name, len(here.contexts)) == (TASKS[0], 5)


def test_a_folder_of_no_format_is_refused_by_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"looked for suite\.jsonl, TASK\.json .*, questions\.csv"):
        open_suite(tmp_path)


def test_a_folder_of_two_formats_is_refused(tmp_path: Path) -> None:
    write_suite(tmp_path, [CONTEXT])
    write_questions(tmp_path)
    with pytest.raises(InputError, match=r"holds suite\.jsonl and questions\.csv"):
        open_suite(tmp_path)


def test_a_file_or_nothing_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for name in ("file", "missing"):
        with pytest.raises(InputError, match="is no folder"):
            open_suite(tmp_path / name)


def test_a_suite_without_a_question_is_refused(tmp_path: Path) -> None:
    (tmp_path / "questions.csv").write_text("question,answer\n", encoding="utf-8")
    with pytest.raises(InputError, match="holds no question"):
        open_suite(tmp_path)


def test_the_examples_of_the_docs_open(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "suites-of-others.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL))
    badges, own = tmp_path / "Badges", tmp_path / "own"
    for path, data in {
        badges / "Badges.json": blocks["json"],
        badges / "images" / "0" / "one.png": "",
        badges / "images" / "0" / "two.png": "",
        own / "questions.csv": blocks["csv"],
        own / "register.pdf": "",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(data, encoding="utf-8")
    ((asked,),) = (context.questions for context in open_suite(badges).contexts)
    assert asked.answers == ("card two", "B", "B. card two")
    assert "answers to the sample above are `card two`, `B` and `B. card two`" in text
    assert [context.id for context in open_suite(own).contexts] == ["register.pdf", "all"]
