"""A folder of documents with questions.csv."""

from pathlib import Path

import pytest
from PIL import Image

from flowmm.bench.suite import SuitePart, SuiteQuestion
from flowmm.bench.suites import open_suite
from flowmm.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("page-10.txt", "page-2.txt", "notes/a.txt", ".hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name, encoding="utf-8")
    Image.new("RGB", (28, 28)).save(tmp_path / "badge.png")
    return tmp_path


def write(folder: Path, text: str) -> Path:
    (folder / "questions.csv").write_text(text, encoding="utf-8")
    return folder


def test_without_a_file_all_documents_are_one_context_in_natural_order(folder: Path) -> None:
    suite = open_suite(write(folder, "question,answer\nWho?,Lufe\nWhat?,a code | 5000\n"))
    (context,) = suite.contexts
    assert [part.path for part in context.parts] == ["badge.png", "notes/a.txt", "page-2.txt", "page-10.txt"]
    assert context.questions == (
        SuiteQuestion("q1", "Who?", ("Lufe",), "documents"),
        SuiteQuestion("q2", "What?", ("a code", "5000"), "documents"),
    )
    assert [[part.kind for part in parts] for parts in suite.load_parts(context)] == [["image"], *[["text"]] * 3]


def test_questions_about_one_document_have_a_context_of_their_own(folder: Path) -> None:
    text = (
        "file,question,answer,kind,id\n"
        "page-2.txt,Who?,Lufe,names,a\n"
        ",How many?,4,,\n"
        'page-2.txt,"When, then?",1999,dates,\n'
    )
    one, all_ = open_suite(write(folder, text)).contexts
    assert (one.id, one.parts) == ("page-2.txt", (SuitePart(path="page-2.txt"),))
    assert [(asked.id, asked.question, asked.kind) for asked in one.questions] == [
        ("a", "Who?", "names"),
        ("q3", "When, then?", "dates"),
    ]
    assert (all_.id, len(all_.parts), all_.questions[0].id) == ("all", 4, "q2")


def test_what_a_spreadsheet_writes_is_read(folder: Path) -> None:
    (folder / "questions.csv").write_bytes(b"\xef\xbb\xbfquestion,answer\r\nWho?,Lufe\r\n")
    assert open_suite(folder).contexts[0].questions[0].answers == ("Lufe",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column 'answer'; its columns are none"),
        ("question;answer\nWho?;Lufe\n", "no column 'answer'; its columns are 'question;answer'"),
        ("question,answer,anwser\n", "unknown column 'anwser'; known are answer, file, id, kind, question"),
        ("question,answer,answer\n", "a column stands twice"),
        ("question,answer\nWho?,Lufe\nWhat, then?,5000\n", r"csv:3: has not as many values"),
        ("question,answer\nWho?\n", r"csv:2: has not as many values"),
        ("question,answer\nWho?, | \n", r"csv:2: has no answer"),
        ("question,answer\n ,Lufe\n", r"csv:2: has no question"),
        ("question,answer,file\nWho?,Lufe,gone.pdf\n", r"csv:2: there is no document 'gone\.pdf'"),
        ("question,answer,file\nWho?,Lufe,../gone.pdf\n", r"csv:2: '\.\./gone\.pdf' leads out of"),
        ('question,answer\nWho?,"Lufe\n', "is no CSV in UTF-8"),
        ("question,answer,id\nWho?,Lufe,q2\nWhat?,5000,\n", "'q2' stands twice"),
    ],
)
def test_damage_is_named_with_its_line(folder: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        open_suite(write(folder, text))


def test_other_encodings_are_refused(folder: Path) -> None:
    (folder / "questions.csv").write_bytes("question,answer\nWho?,Müller\n".encode("latin-1"))
    with pytest.raises(InputError, match="is no CSV in UTF-8"):
        open_suite(folder)


def test_questions_without_a_document_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no document beside questions\.csv"):
        open_suite(write(tmp_path, "question,answer\nWho?,Lufe\n"))
