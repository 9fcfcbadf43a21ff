"""What is left of killed writers goes; what living ones write stays."""

import errno
import fcntl
import os
import time
from pathlib import Path

import pytest

from flowmm import temporary
from flowmm.atomic import replacing
from flowmm.temporary import is_temporary, open_temporary, remove_strays

DAY = 86400


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "ctx.kv"


def stray_of(target: Path) -> Path:
    """A file whose writer is gone."""
    with open_temporary(target) as file:
        file.write(b"half of it")
        return Path(file.name)


def test_the_next_write_of_the_same_name_removes_what_a_killed_one_left(target):
    stray = stray_of(target)
    assert is_temporary(stray)
    with replacing(target, 3) as file:
        assert not stray.exists()
        file.write(b"new")
    assert os.listdir(target.parent) == ["ctx.kv"]


def test_what_another_writer_still_writes_stays_and_both_end_well(target):
    with replacing(target, 3) as first:
        first.write(b"one")
        with replacing(target, 3) as second:
            assert Path(first.name).exists()
            second.write(b"two")
        assert target.read_bytes() == b"two"
    assert target.read_bytes() == b"one"
    assert os.listdir(target.parent) == ["ctx.kv"]


def test_files_that_are_not_surely_ours_stay(target):
    others = [
        ".ctx.kv.tmp",
        ".ctx.kv.0123.tmp",
        ".other.kv.0123456789ab.tmp",
        ".ctx.kv.old.0123456789ab.tmp",
        "ctx.tmp",
    ]
    for name in others:
        (target.parent / name).touch()
        os.utime(target.parent / name, (0, 0))
    (target.parent / "far").write_text("precious")
    (target.parent / ".ctx.kv.aaaaaaaaaaaa.tmp").symlink_to("far")
    (target.parent / ".ctx.kv.bbbbbbbbbbbb.tmp").mkdir()
    os.mkfifo(target.parent / ".ctx.kv.cccccccccccc.tmp")
    before = sorted(os.listdir(target.parent))
    remove_strays(target)
    assert sorted(os.listdir(target.parent)) == before


def test_what_another_machine_left_goes_after_a_day(target):
    stray = stray_of(target)
    foreign = stray.rename(target.parent / ".ctx.kv.000000abcdef.tmp")
    remove_strays(target)
    assert foreign.exists()
    os.utime(foreign, (time.time() - DAY - 9,) * 2)
    remove_strays(target)
    assert not foreign.exists()


def test_without_locks_age_alone_decides(target, monkeypatch):
    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    stray = stray_of(target)
    remove_strays(target)
    assert stray.exists()
    os.utime(stray, (0, 0))
    remove_strays(target)
    assert not stray.exists()


def test_an_old_file_that_is_still_held_stays(target):
    with open_temporary(target) as file:
        os.utime(file.name, (0, 0))
        remove_strays(target)
        assert Path(file.name).exists()


def test_a_writer_whose_file_was_taken_for_a_stray_takes_another(target, monkeypatch):
    real, taken = temporary._lock, []

    def too_late(descriptor, *, wait=False):
        if wait and not taken:
            taken.append(next(target.parent.glob(".*.tmp")))
            taken[0].unlink()
        return real(descriptor, wait=wait)

    monkeypatch.setattr(temporary, "_lock", too_late)
    with replacing(target, 3) as file:
        assert Path(file.name) != taken[0]
        file.write(b"new")
    assert target.read_bytes() == b"new"
    assert os.listdir(target.parent) == ["ctx.kv"]


def test_another_users_file_stays(target, monkeypatch):
    stray = stray_of(target)
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    remove_strays(target)
    assert stray.exists()
