"""`flowmm bench mutate` and `flowmm bench kill`: what they show, and when they exit with 1."""

import json
from dataclasses import replace

import pytest

from flowmm.bench.kill import KillReport
from flowmm.bench.mutate_report import Finding, Kind, MutateReport
from flowmm_cli.app import run

MUTATE = MutateReport(20, {"deep JSON": Kind(20, 19, 0.25)}, 19, 1, (), (), 300_000_000, None, 0)
KILL = KillReport(200, 8_000_000, 0.05, 150, 50, 0, 140, 0, 0)


@pytest.mark.parametrize("bad", [False, True])
def test_mutate_shows_its_kinds_and_what_ended_badly(bad, monkeypatch, capsys):
    wrong = (Finding(7, "deep JSON", "loaded, something else"),) if bad else ()
    monkeypatch.setattr("flowmm.bench.mutate.bench_mutate", lambda *args, **options: replace(MUTATE, wrong=wrong))
    assert run(["bench", "mutate"]) == (1 if bad else 0)
    shown = capsys.readouterr().out
    assert "deep JSON     20       19  0.250 s" in shown
    assert "19 refused with a documented error, 1 loaded as they were." in shown
    assert f"Undocumented exits: 0. Wrong answers: {len(wrong)}." in shown
    assert "300.0 MB before, not known at the peak" in shown
    assert ("file 7 (deep JSON): loaded, something else" in shown) is bad


@pytest.mark.parametrize("bad", [False, True])
def test_kill_shows_what_was_found(bad, monkeypatch, capsys):
    found = {}

    def measured(times, **options):
        found.update(options, times=times)
        return replace(KILL, neither=int(bad))

    monkeypatch.setattr("flowmm.bench.kill.bench_kill", measured)
    assert run(["bench", "kill", "--times", "3", "--size", "2MB", "--seed", "4"]) == (1 if bad else 0)
    assert (found["times"], found["num_bytes"], found["seed"]) == (3, 2_000_000, 4)
    shown = capsys.readouterr().out
    assert "200 kills of a process that writes 8.0 MB" in shown
    assert "the old file                      150" in shown


def test_as_json(monkeypatch, capsys):
    monkeypatch.setattr("flowmm.bench.kill.bench_kill", lambda *args, **options: KILL)
    assert run(["bench", "kill", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema_version"], found["old"], found["good"]) == (1, 150, True)
