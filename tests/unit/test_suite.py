from pathlib import Path

import pytest

from flowmm.bench.suite import Evidence, SuiteContext, SuitePart, SuiteQuestion, read_suite, write_suite
from flowmm.errors import InputError

ASKED = SuiteQuestion("a-0", "What is the code of Lufe?", ("5000",), "needle", (Evidence(0, span=(6, 10)),))
CONTEXT = SuiteContext("a", (SuitePart(text="Lufe: 5000."), SuitePart(path="a.png")), (ASKED,))


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    write_suite(tmp_path, [CONTEXT])
    suite = read_suite(tmp_path)
    assert suite.contexts == (CONTEXT,)
    assert suite.name == tmp_path.name
    assert "null" not in (tmp_path / "suite.jsonl").read_text(encoding="utf-8")


def test_a_text_part_is_read_as_it_stands(tmp_path: Path) -> None:
    write_suite(tmp_path, [SuiteContext("a", CONTEXT.parts[:1], (ASKED,))])
    suite = read_suite(tmp_path)
    ((part,),) = suite.load_parts(suite.contexts[0])
    assert part.payload == "Lufe: 5000."


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not valid JSON"),
        ('{"id": "a", "parts": [], "questions": [], "more": 1}', "unknown key 'more'"),
        ('{"id": "a", "parts": [{"text": "x"}], "questions": []}', "holds no question"),
        ('{"id": "a", "parts": [{}], "questions": []}', "not one of path and text"),
        (
            '{"id": "a", "parts": [{"text": "x"}], "questions": [{"id": "q", "question": "?", "answers": ["1"], '
            '"kind": "k", "evidence": [{"part": 1, "span": [0, 1]}]}]}',
            "part 1 of 1",
        ),
        (
            '{"id": "a", "parts": [{"text": "x"}], "questions": [{"id": "q", "question": "?", "answers": ["1"], '
            '"kind": "k", "evidence": [{"part": 0, "box": [0, 1]}]}]}',
            "other than 4 numbers",
        ),
    ],
)
def test_a_line_that_makes_no_sense_is_refused(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "suite.jsonl").write_text(f"{line}\n", encoding="utf-8")
    with pytest.raises(InputError, match=said):
        read_suite(tmp_path)


def test_an_id_that_stands_twice_is_refused(tmp_path: Path) -> None:
    write_suite(tmp_path, [CONTEXT, CONTEXT])
    with pytest.raises(InputError, match="'a' stands twice"):
        read_suite(tmp_path)


def test_a_folder_without_a_suite_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"suite\.jsonl"):
        read_suite(tmp_path)
