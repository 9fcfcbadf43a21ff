"""Sizes, tables, JSON, notices: what goes where and how it looks."""

import json

import pytest

from flowmm_cli import output


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (615_600, "615.6 kB"),
        (999_960, "1.0 MB"),
        (3 * 10**15, "3000.0 TB"),
    ],
)
def test_bytes_are_shown_in_powers_of_a_thousand(count, text):
    assert output.human_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.034, "0.03 s"), (4.21, "4.2 s"), (59.9, "59.9 s"), (125.4, "2 min 05 s")]
)
def test_seconds_are_shown_for_people(seconds, text):
    assert output.human_seconds(seconds) == text


def test_a_bar_is_as_long_as_its_share():
    assert output.bar(0, 4) == "    "
    assert output.bar(0.5, 4) == "██  "
    assert output.bar(0.28125, 4) == "█▏  "
    assert output.bar(7, 4) == "████"


def test_a_table_aligns_numbers_to_the_right_and_cuts_nothing():
    assert output.table_lines(("name", "n"), [("a", "1"), ("longer", "100")], right=(1,)) == [
        "name      n",
        "------  ---",
        "a         1",
        "longer  100",
    ]


def test_objects_carry_the_schema_version_and_keep_their_letters(capsys):
    output.put_json({"answer": "für"})
    text = capsys.readouterr().out
    assert json.loads(text) == {"schema_version": 1, "answer": "für"}
    assert "für" in text


def test_notices_wait_until_the_work_begins(capsys):
    notices = output.Notices(wanted=True)
    notices("first")
    assert capsys.readouterr().err == ""
    notices.begin()
    notices("second")
    notices.begin()
    assert capsys.readouterr().err == "first\nsecond\n"


def test_unwanted_notices_are_never_shown(capsys):
    notices = output.Notices(wanted=False)
    notices("first")
    notices.begin()
    notices("second")
    assert capsys.readouterr().err == ""


def test_the_work_begins_with_the_first_phase_after_reading_and_loading():
    begun = []
    with output.progress_bar(wanted=False, on_work=lambda: begun.append(True)) as progress:
        progress("read", 1, 1)
        progress("model", 1, 1)
        assert begun == []
        progress("vision", 0, 2)
        assert begun == [True]


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "0 s"), (59, "59 s"), (60, "1 min"), (7199, "1 h"), (86400 * 400, "400 d")]
)
def test_ages_are_shown_in_whole_units(seconds, text):
    assert output.human_age(seconds) == text


def test_what_would_steer_a_terminal_is_spelled_out(capsys):
    output.put("a\x1b[31mred\x07 \u202efdp.exe\tb\nc\r")
    assert capsys.readouterr().out == "a\\u001b[31mred\\u0007 \\u202efdp.exe\tb\nc\\u000d\n"
    output.say("\x9b2J")
    assert capsys.readouterr().err == "\\u009b2J\n"


def test_letters_of_any_script_stay_as_they_are():
    assert (
        output.harmless("Größe 値段 \u05e9\u05dc\u05d5\u05dd 👩\u200d🔬 1\u00a0000")
        == "Größe 値段 \u05e9\u05dc\u05d5\u05dd 👩\u200d🔬 1\u00a0000"
    )


def test_json_is_read_back_as_it_was(capsys):
    output.put_json({"name": "\x7f\u202e\x1b\n"})
    assert json.loads(capsys.readouterr().out)["name"] == "\x7f\u202e\x1b\n"
