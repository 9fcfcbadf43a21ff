"""A handful of kills; `flowmm bench kill` makes hundreds."""

from flowmm import atomic
from flowmm.bench import kill


def test_a_killed_writer_leaves_the_old_file_or_the_new_one_and_the_next_run_nothing_else(tmp_path):
    document = tmp_path / "b.md"
    document.write_text("before\n")
    report = kill.bench_kill(5, num_bytes=2_000_000, seed=1, markdown=document)
    assert report.good
    assert (report.times, report.old + report.new) == (5, 5)
    assert 1_000_000 < report.file_bytes < 4_000_000
    assert report.as_dict()["good"]
    assert f"| 5 | {report.old} | {report.new} | 0 | {report.strays_left} | 0 |" in document.read_text()


def test_a_run_that_removes_no_strays_would_be_seen(monkeypatch):
    monkeypatch.setattr(atomic, "remove_strays", lambda target: None)
    monkeypatch.setattr(kill, "_write_and_kill", lambda path, tokens, moment: path.with_name("stray").touch() or 1.0)
    report = kill.bench_kill(2, num_bytes=1000)
    assert (report.old, report.strays_left, report.strays_after_next_run, report.good) == (2, 2, 2, False)


def test_a_file_that_is_neither_old_nor_new_would_be_seen(monkeypatch):
    monkeypatch.setattr(kill, "_write_and_kill", lambda path, tokens, moment: path.write_bytes(b"half") and 1.0)
    assert kill.bench_kill(1, num_bytes=1000).neither == 1
    monkeypatch.setattr(kill, "_write_and_kill", lambda path, tokens, moment: path.unlink(missing_ok=True) or 1.0)
    assert kill.bench_kill(1, num_bytes=1000).neither == 1
