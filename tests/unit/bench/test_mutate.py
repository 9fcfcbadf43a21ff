"""Some hundred damaged files; `flowmm bench mutate` reads twenty thousand."""

import json
from pathlib import Path
from random import Random

import pytest

from flowmm.bench import mutate, mutate_worker
from flowmm.bench.made_up import full_context, small_context
from flowmm.bench.mutate_worker import OTHER, REFUSED, SAME, Outcome, Task, judged
from flowmm.bench.mutations import MUTATIONS, GoodFile, Mutation
from flowmm.errors import CorruptFileError, InputError, UsageError
from flowmm.store import load, save


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> GoodFile:
    path = tmp_path_factory.mktemp("good") / "ctx.kv"
    header = save(full_context(6), path)
    return GoodFile(path, path.read_bytes(), {name: (t.start, t.end) for name, t in header.tensors.items()})


def test_some_hundred_damaged_files_are_refused_or_load_as_they_were(tmp_path):
    document, told = tmp_path / "b.md", []
    document.write_text("before\n")
    report = mutate.bench_mutate(300, seed=5, markdown=document, progress=lambda *step: told.append(step))
    assert (report.wrong, report.undocumented, report.good) == ((), (), True)
    assert report.refused + report.harmless == report.files == sum(kind.files for kind in report.by_kind.values())
    assert set(report.by_kind) == {"cut off at every place", *MUTATIONS}
    assert report.by_kind["cut off at every place"].refused == 75
    assert report.by_kind["a link"].refused == 0
    assert 0 < report.longest_seconds < 60  # on a machine that does other things too
    assert report.peak_memory_bytes is None or report.peak_memory_bytes < 2**30
    assert told[-1] == ("mutate", 300, 300)
    assert json.loads(json.dumps(report.as_dict()))["good"]
    section = document.read_text()
    assert "`flowmm bench mutate --files 300 --seed 5` on " in section
    assert "Undocumented exits: 0. Wrong answers: 0." in section


@pytest.mark.parametrize("name", [name for name, mutation in MUTATIONS.items() if not mutation.may_load])
def test_every_way_to_damage_a_file_leaves_another_one(name, good, tmp_path):
    for seed in range(20):
        path = tmp_path / f"{seed}.kv"
        MUTATIONS[name].make(good, Random(seed), path)
        assert not path.is_file() or path.read_bytes() != good.data


def test_the_smallest_file_is_cut_off_at_every_place_when_there_are_files_enough(tmp_path, good):
    save(small_context(1), tmp_path / "small.kv")
    small = GoodFile(tmp_path / "small.kv", (tmp_path / "small.kv").read_bytes(), {})
    size = len(small.data)
    planned = list(mutate._planned(4 * size, [good, small], Random(0)))
    assert len(planned) == 4 * size
    lengths = []
    for _, mutation, number in planned[:size]:
        mutation.make([good, small][number], Random(0), tmp_path / "cut.kv")
        lengths.append((tmp_path / "cut.kv").stat().st_size)
    assert lengths == list(range(size))
    assert [kind for kind, _, _ in planned[size : size + len(MUTATIONS)]] == list(MUTATIONS)
    assert len(list(mutate._planned(7, [good, small], Random(0)))) == 7


def test_another_number_is_not_taken_for_the_same(good, tmp_path):
    assert judged(good.path, load(good.path)) == SAME
    save(full_context(6, seed=1), tmp_path / "other.kv")
    assert judged(tmp_path / "other.kv", load(good.path)) == OTHER


def test_an_error_that_is_not_documented_is_named(good, monkeypatch):
    def fail(path: Path) -> None:
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr(mutate_worker, "load", fail)
    assert judged(good.path, None) == "fail: ZeroDivisionError: by zero"


@pytest.mark.parametrize(
    ("error", "how"),
    [
        (CorruptFileError("ctx.kv: bad", "Copy it again."), REFUSED),
        (InputError("ctx.kv: bad", ""), "not two short lines: 'ctx.kv: bad'"),
        (InputError("two\nlines", "Do."), "not two short lines: 'two\\nlines'"),
        (InputError("x" * 1001, "Do."), f"not two short lines: {'x' * 200!r}"),
    ],
)
def test_a_documented_error_has_two_short_lines(good, monkeypatch, error, how):
    def fail(path: Path) -> None:
        raise error

    monkeypatch.setattr(mutate_worker, "load", fail)
    assert judged(good.path, None) == how


def test_a_damaged_file_that_loads_is_wrong_and_a_crash_is_undocumented():
    tally = mutate._Tally()
    harmful, harmless = Mutation(lambda *_: None), Mutation(lambda *_: None, may_load=True)
    tally.add(0, "a", harmful, Outcome(SAME, 0.1, 10))
    tally.add(1, "a", harmless, Outcome(SAME, 0.3, None))
    tally.add(2, "b", harmless, Outcome(OTHER, 0.2, 30))
    tally.add(3, "b", harmful, Outcome("load: KeyError: 'x'", 0.1, 20))
    tally.add(4, "b", harmful, Outcome(REFUSED, 0.1, 20))
    report = tally.report(5, 5, 0)
    assert [one.number for one in report.wrong] == [0, 2]
    assert [one.how for one in report.undocumented] == ["load: KeyError: 'x'"]
    assert (report.refused, report.harmless, report.good) == (1, 1, False)
    assert (report.longest_seconds, report.peak_memory_bytes) == (0.3, 30)
    assert vars(report.by_kind["b"]) == {"files": 3, "refused": 1, "longest_seconds": 0.2}


def test_a_reader_that_dies_is_reported_and_replaced(good):
    reader = mutate._Reader([good.path])
    try:
        reader._process.kill()
        reader._process.join()
        died = reader.read(Task(good.path, 0, while_read=False))
        assert died.how == "the reading process ended with -9"
        assert reader.read(Task(good.path, 0, while_read=False)).how == SAME
    finally:
        reader.end()


def test_no_files_are_refused():
    with pytest.raises(UsageError, match="--files 0"):
        mutate.bench_mutate(0)
