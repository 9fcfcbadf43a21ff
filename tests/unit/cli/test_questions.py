"""Question files and answer files."""

import json
from pathlib import Path

import pytest

from flowmm import Answer, InputError, Question, UsageError
from flowmm_cli.questions import as_line, open_answers, read_questions

DONE = '{"id": "a", "question": "One?", "answer": "1"}\n'


def written(folder: Path, text: str) -> str:
    path = folder / "q.jsonl"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_lines_become_questions_and_a_missing_id_is_the_line_number(tmp_path):
    text = '{"id": "a", "question": "One?"}\n\n{"id": 7, "question": "Two?"}\n{"question": "Three?"}'
    questions, bad = read_questions(written(tmp_path, text))
    assert questions == [Question("One?", "a"), Question("Two?", "7"), Question("Three?", "4")]
    assert bad == []


def test_only_a_line_feed_ends_a_line(tmp_path):
    questions, bad = read_questions(written(tmp_path, '{"question": "One\u2028and\u0085two?"}\r\n'))
    assert (questions, bad) == ([Question("One\u2028and\u0085two?", "1")], [])


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "not JSON"),
        ("[1]", "not an object"),
        ("[" * 100_000, "no JSON that can be read"),
        ("1" * 5000, "no JSON that can be read"),
        ('{"question": "caf\\ud800?"}', "characters that are none"),
        ('{"id": "\\ud800", "question": "a?"}', "characters that are none"),
        ('{"id": "a"}', "no text under 'question'"),
        ('{"question": "  "}', "no text under 'question'"),
        ('{"id": [1], "question": "a?"}', "'id' must be"),
        ('{"id": true, "question": "a?"}', "'id' must be"),
        ('{"id": "1", "question": "again?"}', "stands twice"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, what):
    questions, [error] = read_questions(written(tmp_path, f'{{"question": "good?"}}\n{line}\n'))
    assert len(questions) == 1
    assert error.what.startswith(f"{tmp_path / 'q.jsonl'}:2: ")
    assert what in error.what


def test_a_file_without_questions_is_refused(tmp_path):
    with pytest.raises(InputError, match="no questions in it"):
        read_questions(written(tmp_path, "\n\n"))
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_questions(str(tmp_path / "missing.jsonl"))


def test_an_answer_is_one_line_with_its_id():
    answer = Answer("One?", "two\nlines", (1, 2), "stop", 10, 3)
    line = as_line(Question("One?", "a"), answer)
    assert "\n" not in line
    assert json.loads(line)["id"] == "a"
    assert json.loads(line)["answer"] == "two\nlines"


def test_resuming_skips_what_is_answered_and_cuts_a_torn_line(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text(DONE + '{"id": "b", "ans', encoding="utf-8")
    left = open_answers(path, [Question("One?", "a"), Question("Two?", "b")], resume=True)
    assert left == [Question("Two?", "b")]
    assert path.read_text(encoding="utf-8") == DONE


@pytest.mark.parametrize("asked", [Question("Two?", "a"), Question("One?", "a", "b.kv")])
def test_an_id_stands_for_one_question_of_one_file(asked, tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text(as_line(Question("One?", "a", "a.kv"), Answer("One?", "1", (1,), "stop", 10, 3)) + "\n")
    before = path.read_bytes()
    assert open_answers(path, [Question("One?", "a", "./a.kv")], resume=True) == []
    with pytest.raises(UsageError, match="has an answer 'a', but to another question or of another file"):
        open_answers(path, [Question("Three?", "c"), asked], resume=True)
    assert path.read_bytes() == before


def test_answers_go_into_a_folder_that_is_there(tmp_path):
    with pytest.raises(InputError, match="there is no folder"):
        open_answers(tmp_path / "nowhere" / "answers.jsonl", [], resume=False)


def test_a_last_line_without_its_line_feed_counts_as_torn(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text(DONE.rstrip(), encoding="utf-8")
    assert open_answers(path, [Question("One?", "a")], resume=True) == [Question("One?", "a")]
    assert path.read_text(encoding="utf-8") == ""


def test_an_answers_file_is_never_overwritten_or_mixed(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text(DONE, encoding="utf-8")
    with pytest.raises(UsageError, match="holds answers already"):
        open_answers(path, [], resume=False)
    for other in ("shopping list", '{"id": ["a"], "question": "One?"}', '["a"]', "[" * 100_000):
        path.write_text(other + "\n", encoding="utf-8")
        with pytest.raises(InputError, match=r"answers\.jsonl:1: not a line of answers"):
            open_answers(path, [], resume=True)
    with pytest.raises(UsageError, match="no regular file"):
        open_answers(tmp_path, [], resume=True)


def test_a_new_or_empty_answers_file_takes_all_questions(tmp_path):
    asked = [Question("One?", "a")]
    assert open_answers(tmp_path / "new.jsonl", asked, resume=False) == asked
    (tmp_path / "empty.jsonl").touch()
    assert open_answers(tmp_path / "empty.jsonl", asked, resume=False) == asked
