"""Making a suite: the same bytes for the same seed, and never half a suite."""

import json
import re
from pathlib import Path

import pytest

from flowmm.bench import make
from flowmm.bench.kinds import KINDS
from flowmm.bench.suite import read_suite
from flowmm.errors import UnknownNameError, UsageError
from flowmm_cli.app import run
from flowmm_cli.commands.bench_make import parse_sizes


def made(folder, name="cross", **options):
    make.make_suite(name, folder, **{"sizes": (1000,), "contexts": 2, **options})
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_same_seed_makes_the_same_bytes(tmp_path):
    first, second = made(tmp_path / "a"), made(tmp_path / "b")
    assert first == second
    assert made(tmp_path / "c", seed=1)["suite.jsonl"] != first["suite.jsonl"]
    assert made(tmp_path / "d", split="test")["suite.jsonl"] != first["suite.jsonl"]


def test_a_context_is_the_same_whatever_else_the_suite_holds(tmp_path):
    alone = made(tmp_path / "a", contexts=1)
    among = made(tmp_path / "b", "all", contexts=1)
    assert {name: among[name] for name in alone if name != "suite.jsonl"} == {
        name: data for name, data in alone.items() if name != "suite.jsonl"
    }
    assert alone["suite.jsonl"].strip() in among["suite.jsonl"].splitlines()


def test_what_is_made_is_a_suite_with_every_kind_and_all_of_its_images(tmp_path):
    files = made(tmp_path / "a", "all", contexts=1)
    suite = read_suite(tmp_path / "a")
    assert [context.id for context in suite.contexts] == [f"{kind}-1k-0" for kind in KINDS]
    assert {part.path for context in suite.contexts for part in context.parts if part.path} | {"suite.jsonl"} == {
        *files
    }
    for context in suite.contexts:
        assert [asked.id for asked in context.questions] == [f"{context.id}-{n}" for n in range(len(context.questions))]
        assert {asked.kind for asked in context.questions} == {context.id.split("-")[0]}
        assert len(suite.load_parts(context)) == len(context.parts)


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(UsageError, match="is not empty"):
        made(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert "mine.txt" in made(tmp_path, force=True)


def test_an_interrupted_run_leaves_no_suite(tmp_path):
    made(tmp_path)

    def interrupt(phase, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, force=True, progress=interrupt)
    assert not (tmp_path / "suite.jsonl").exists()


def test_progress_counts_the_contexts(tmp_path):
    seen = []
    made(tmp_path, progress=lambda *step: seen.append(step))
    assert seen == [("draw", 1, 2), ("draw", 2, 2)]


def test_a_name_that_is_no_kind_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'needle'"):
        made(tmp_path / "a", "neddle")
    with pytest.raises(UnknownNameError, match="Did you mean 'test'"):
        made(tmp_path / "a", split="tset")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("sizes", [(), (1000, 1000), (500,)])
def test_sizes_that_cannot_be_are_refused(tmp_path, sizes):
    with pytest.raises(UsageError):
        made(tmp_path / "a", sizes=sizes)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "a").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        made(tmp_path / "a")


def test_the_command_says_what_it_made(tmp_path, capsys):
    folder = str(tmp_path / "a")
    assert run(["bench", "make", "cross", "-o", folder, "--tokens", "1k", "--contexts", "1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["name"], said["split"], said["seed"]) == ("cross", "dev", 0)
    assert [(m["kind"], m["size"], m["contexts"], m["questions"]) for m in said["made"]] == [("cross", 1000, 1, 8)]
    assert run(["bench", "make", "crss", "-o", folder]) == 2
    assert capsys.readouterr().err.splitlines() == ["there is no suite named 'crss'", "Did you mean 'cross'?"]


def test_sizes_may_be_thousands():
    assert parse_sizes("1k, 2K,1500") == [1000, 2000, 1500]
    for text in ("", "1k,", "k", "1.5k", "-1"):
        with pytest.raises(UsageError, match="no number of tokens"):
            parse_sizes(text)


def test_the_example_in_the_docs_is_a_suite_and_its_table_names_every_kind(tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "suites.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    (tmp_path / "suite.jsonl").write_text(" ".join(example.split()), encoding="utf-8")
    (context,) = read_suite(tmp_path).contexts
    (asked,) = context.questions
    start, end = asked.evidence[0].span
    assert context.parts[1].text[start:end] == asked.answers[0] == "5000"
    assert re.findall(r"^\| `(\w+)` \|(?=.*\|.*\|.*\|)", page, re.MULTILINE) == list(KINDS)


def test_a_smaller_suite_leaves_no_page_of_the_larger_one(tmp_path):
    (tmp_path / "my-needle-1k-0-1.png").write_bytes(b"x")
    made(tmp_path, contexts=2, force=True)
    made(tmp_path, contexts=1, force=True)
    suite = read_suite(tmp_path)
    named = {part.path for context in suite.contexts for part in context.parts if part.path is not None}
    assert {path.name for path in tmp_path.glob("*.png")} == named | {"my-needle-1k-0-1.png"}
