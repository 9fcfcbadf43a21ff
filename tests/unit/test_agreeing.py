"""More is kept until enough agrees, or nothing is written."""

from pathlib import Path

import pytest

from flowmm import agreeing
from flowmm.errors import UsageError
from flowmm.header import read_header
from flowmm.pipeline import CompressOptions, compress_file, prefill_file
from flowmm.records import Agreement


@pytest.fixture
def notes(tmp_path: Path) -> str:
    path = tmp_path / "notes.txt"
    path.write_text("Invoice 3921 for Lufe amounts to 480.20 euros. " * 20)
    return str(path)


@pytest.fixture
def shares(monkeypatch):
    """What was tried; a cache agrees as far as it keeps slots."""
    tried: list[float] = []

    def agrees(held, small, loaded):
        share = small.provenance.compression.keep_asked
        tried.append(share)
        return Agreement(1, 1, 1, share, 0.0, 0, 0.0)

    monkeypatch.setattr(agreeing, "agreement", agrees)
    return tried


def options(**how) -> CompressOptions:
    return CompressOptions(method="keydiff", **how)


def test_what_was_lost_stands_in_the_header(model, notes, tmp_path):
    header = prefill_file([notes], tmp_path / "ctx.kv", model=model, compression=options(keep=0.2))
    found = header.provenance.compression.agreement
    assert found is not None
    assert 0 <= found.top1 <= 1
    assert found.kl >= 0
    assert found.questions > 4
    assert header.provenance.held_out == ()


def test_shares_are_doubled_until_enough_agrees(model, notes, tmp_path, shares):
    wanted = options(keep=0.1, min_agreement=0.3)
    header = prefill_file([notes], tmp_path / "ctx.kv", model=model, compression=wanted)
    assert shares == [0.1, 0.2, 0.4]
    made = header.provenance.compression
    assert (made.keep_asked, made.agreement.top1) == (0.4, 0.4)
    assert (
        made.planned
        == "40 % of the slots instead of 10 %, so that 30 % of the tokens of held-out answers stay the same"
    )


def test_beyond_half_of_the_slots_it_fails_and_writes_nothing(model, notes, tmp_path, shares):
    with pytest.raises(UsageError) as failed:
        prefill_file([notes], tmp_path / "ctx.kv", model=model, compression=options(keep=0.2, min_agreement=0.9))
    assert shares == [0.2, 0.4, 0.5]
    assert failed.value.what == (
        "--min-agreement 0.9: only 50.0 % of the tokens of held-out answers stay the same "
        "at 50 % of the slots, the most that is tried"
    )
    assert failed.value.exit_code == 2
    assert [path.name for path in tmp_path.glob("*.kv*")] == []


def test_a_limit_of_bytes_is_not_passed(model, notes, tmp_path, shares):
    with pytest.raises(UsageError, match="in so few bytes"):
        prefill_file([notes], tmp_path / "ctx.kv", model=model, compression=options(reduce=0.5, min_agreement=0.99))
    assert len(set(shares)) == 1


def test_a_full_file_brings_the_questions_to_be_compressed_by_later(model, notes, tmp_path, shares):
    full = prefill_file([notes], tmp_path / "full.kv", model=model, compression=CompressOptions(enabled=False))
    assert any("Lufe" in question for question in full.provenance.held_out)
    wanted = options(keep=0.1, min_agreement=0.2)
    header = compress_file(tmp_path / "full.kv", tmp_path / "ctx.kv", compression=wanted, model=model)
    assert shares == [0.1, 0.2]
    assert header.provenance.compression.agreement.top1 == 0.2
    assert read_header(tmp_path / "ctx.kv").provenance.held_out == ()


def test_without_an_agreement_to_reach_a_full_file_is_compressed_without_the_model(model, notes, tmp_path, shares):
    prefill_file([notes], tmp_path / "full.kv", model=model, compression=CompressOptions(enabled=False))
    header = compress_file(tmp_path / "full.kv", tmp_path / "ctx.kv", compression=options(keep=0.1))
    assert header.provenance.compression.agreement is None
    assert shares == []


@pytest.mark.parametrize("wanted", [0.0, 1.5])
def test_an_agreement_that_cannot_be_is_refused(notes, tmp_path, wanted):
    with pytest.raises(UsageError, match="--min-agreement"):
        prefill_file([notes], tmp_path / "ctx.kv", compression=options(min_agreement=wanted))
