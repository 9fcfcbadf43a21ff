"""`flowmm prune`: what it shows, when it asks, what it deletes."""

import json
import os

import pytest

from flowmm.store import save
from flowmm_cli.app import run
from tests.unit import small_caches


@pytest.fixture
def folder(tmp_path):
    for name, modified in (("old.kv", 1000), ("new.kv", 2000)):
        save(small_caches.ragged(), tmp_path / name)
        os.utime(tmp_path / name, (modified, modified))
    return tmp_path


@pytest.fixture
def one_file(folder) -> str:
    """A size into which one of the two files fits."""
    return str((folder / "old.kv").stat().st_size)


def test_a_dry_run_shows_both_and_deletes_nothing(folder, one_file, capsys):
    assert run(["prune", str(folder), "--max-bytes", one_file, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    going, staying = shown.partition("stays: 1 context file,")[::2]
    assert going.startswith("to delete: 1 context file,")
    assert "old.kv" in going
    assert "new.kv" in staying
    assert len(os.listdir(folder)) == 2


def test_with_yes_the_oldest_is_gone(folder, one_file, capsys):
    assert run(["prune", str(folder), "--max-bytes", one_file, "--yes", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["deleted"], found["failed"], found["fits"]) == ([str(folder / "old.kv")], {}, True)
    assert os.listdir(folder) == ["new.kv"]


@pytest.mark.parametrize(("answer", "left"), [(True, ["new.kv"]), (False, ["new.kv", "old.kv"])])
def test_on_a_terminal_it_asks(folder, one_file, monkeypatch, answer, left):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda text, err: answer)
    assert run(["prune", str(folder), "--max-bytes", one_file]) == 0
    assert sorted(os.listdir(folder)) == left


def test_without_a_terminal_it_deletes_nothing_unasked(folder, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert run(["prune", str(folder), "--max-bytes", "0"]) == 2
    assert "2 context files would be deleted, and there is no terminal" in capsys.readouterr().err
    assert len(os.listdir(folder)) == 2


def test_what_fits_needs_no_question(folder, capsys):
    assert run(["prune", str(folder), "--max-bytes", "1MB"]) == 0
    assert "to delete: 0 context files" in capsys.readouterr().out


def test_files_that_are_not_old_enough_stay_and_it_says_so(folder, capsys):
    os.utime(folder / "old.kv")
    os.utime(folder / "new.kv")
    assert run(["prune", str(folder), "--max-bytes", "0", "--older-than", "1h"]) == 0
    assert "not old enough" in capsys.readouterr().out


def test_a_file_that_cannot_be_deleted_ends_in_6(folder, one_file, monkeypatch, capsys):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "unlink", refuse)  # root may delete everything
    assert run(["prune", str(folder), "--max-bytes", one_file, "-y"]) == 6
    assert "old.kv: Permission denied: not deleted" in capsys.readouterr().err
