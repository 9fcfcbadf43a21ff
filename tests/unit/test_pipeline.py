from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import ReferenceType, ref

import pytest

from flowmm.asking import Opened, Question, ask_file, ask_files
from flowmm.errors import CorruptFileError, MismatchError, UsageError
from flowmm.hf.loading import LoadedModel, load_model
from flowmm.packing import PACKINGS
from flowmm.pipeline import CompressOptions, ModelOptions, compress_file, prefill_file, verify_file
from flowmm.records import Generation
from flowmm.store import load, save
from tests.unit.alike import assert_alike

UNROTATED = """title: merges keys as they were before the rotary embedding
paper: null
observe: {cumulative: true}
score: {rule: attention}
budget: {rule: uniform}
merge: {rule: mean, unrotated: true}
"""


@pytest.fixture
def notes(tmp_path: Path) -> str:
    path = tmp_path / "notes.txt"
    path.write_text("Invoice 3921 amounts to 480.20 euros. " * 20)
    return str(path)


def test_a_small_file_holds_the_same_made_at_once_or_from_the_full_one(
    model: ModelOptions, notes: str, tmp_path: Path
) -> None:
    # What merges sums the attention too, so both ways read through the map: near ties hang on a kernel's last bits.
    unrotated = tmp_path / "unrotated.yaml"
    unrotated.write_text(UNROTATED)
    for method in ("snapkv", "h2o", "look-m", "random", str(unrotated)):
        options = CompressOptions(method=method, keep=0.3, seed=5)
        prefill_file([notes], tmp_path / "once.kv", model=model, compression=options, kv_dtype="fp32", force=True)
        full = CompressOptions(enabled=False)
        prefill_file([notes], tmp_path / "full.kv", model=model, compression=full, kv_dtype="fp32", force=True)
        compress_file(tmp_path / "full.kv", tmp_path / "later.kv", compression=options, kv_dtype="fp32", force=True)
        assert_alike(tmp_path / "once.kv", tmp_path / "later.kv")
        rotations = [verify_file(tmp_path / name).header.rotations for name in ("full.kv", "later.kv")]
        assert [len(one) for one in rotations] == [1, 0]


def test_a_profile_may_be_a_file(model: ModelOptions, notes: str, tmp_path: Path) -> None:
    profile = tmp_path / "mine.yaml"
    profile.write_text("extends: default\nmodel_type: qwen2\nmethod: keydiff\n")
    options = CompressOptions(profile=str(profile))
    header = prefill_file([notes], tmp_path / "ctx.kv", model=model, compression=options)
    made = header.provenance.compression
    assert made is not None
    assert (made.profile, made.method, made.keep_asked) == ("mine", "keydiff", 0.2)


def test_the_stored_probe_finds_other_results_from_the_same_weights(
    model: ModelOptions, notes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ctx.kv"
    prefill_file([notes], path, model=model)
    verdict = verify_file(path, model=model)
    assert (verdict.model_matches, verdict.probe_matches) == (True, True)
    assert verdict.probe_difference is not None
    assert verdict.probe_difference < 1e-4
    monkeypatch.setattr("flowmm.hf.answering.shared_attention", lambda query, *_: query)  # a kernel that has gone wrong
    with pytest.raises(MismatchError, match="probe logits"):
        verify_file(path, model=model)


def test_a_header_that_lies_under_right_checksums_is_held_against_the_model_and_the_probe(
    model: ModelOptions, notes: str, tmp_path: Path
) -> None:
    path = tmp_path / "ctx.kv"
    prefill_file([notes], path, model=model)
    told = load(path)
    first, *others = told.layers
    save(replace(told, layers=(replace(first, window=16), *others)), path, force=True)
    with pytest.raises(MismatchError, match="sliding windows"):
        list(ask_file(path, [Question("Total?")], model=model))
    save(replace(told, next_position=told.next_position + 40), path, force=True)
    with pytest.raises(MismatchError, match="probe logits"):
        verify_file(path, model=model)


def test_questions_are_answered_in_order_whatever_the_batch(model: ModelOptions, notes: str, tmp_path: Path) -> None:
    path = tmp_path / "ctx.kv"
    prefill_file([notes], path, model=model)
    questions = [Question(f"What is {n}?", str(n)) for n in range(5)]
    runs = []
    for batch in (1, 2, 5):
        settings = Generation(max_new_tokens=4, batch=batch)
        answers = list(ask_file(path, questions, model=model, generation=settings))
        assert [question.id for question, _ in answers] == ["0", "1", "2", "3", "4"]
        runs.append([answer.token_ids for _, answer in answers])
    assert runs[0] == runs[1] == runs[2]


def test_questions_of_several_files_are_answered_with_one_model(
    model: ModelOptions, notes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = tmp_path / "one.kv", tmp_path / "other.kv"
    (tmp_path / "more.txt").write_text("Quite another text, about harbours and boats.\n")
    prefill_file([notes], one, model=model)
    prefill_file([str(tmp_path / "more.txt")], other, model=model)
    settings, opened, loads = Generation(max_new_tokens=4), list[Opened](), []
    monkeypatch.setattr("flowmm.sessions.load_model", lambda *a, **b: loads.append(a) or load_model(*a, **b))
    questions = [Question("Which?", "a", one), Question("What?", "b", one), Question("Which?", "c", other)]
    answers = list(ask_files(questions, model=model, generation=settings, on_open=opened.append))
    alone = [next(ask_file(q.file or "", [q], model=model, generation=settings))[1].token_ids for q in questions]
    assert [(question.id, answer.token_ids) for question, answer in answers] == list(zip("abc", alone, strict=True))
    assert len(loads) == 1 + 3
    assert [set(file.seconds) for file in opened] == [{"start", "model", "context"}, {"context"}]


def test_each_file_is_answered_in_the_dtype_that_it_was_read_in(
    model: ModelOptions, notes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    held: list[ReferenceType[LoadedModel]] = []

    def loading(name: str, **options: Any) -> LoadedModel:
        gc.collect()
        assert not any(before() for before in held)  # two need not fit into memory together
        loaded = load_model(name, **options)
        ran.append(options["dtype"])
        held.append(ref(loaded))
        return loaded

    questions = []
    for dtype in ("fp32", "bf16"):
        questions.append(Question("Which?", file=tmp_path / f"{dtype}.kv"))
        prefill_file([notes], questions[-1].file or "", model=replace(model, dtype=dtype))
    monkeypatch.setattr("flowmm.sessions.load_model", loading)
    list(ask_files(questions, model=replace(model, dtype="auto"), generation=Generation(max_new_tokens=2)))
    assert ran == ["float32", "bfloat16"]


def test_nothing_is_answered_before_every_file_was_looked_at(model: ModelOptions, notes: str, tmp_path: Path) -> None:
    prefill_file([notes], tmp_path / "one.kv", model=model)
    (tmp_path / "bad.kv").write_bytes(b"no context")
    with pytest.raises(CorruptFileError, match="bad"):
        next(ask_files([Question("?", file=tmp_path / "one.kv"), Question("?", file=tmp_path / "bad.kv")], model=model))


def test_streamed_text_is_the_answer(model: ModelOptions, notes: str, tmp_path: Path) -> None:
    path = tmp_path / "ctx.kv"
    prefill_file([notes], path, model=model)
    pieces: list[str] = []
    settings = Generation(max_new_tokens=12)
    [(_, answer)] = ask_file(path, [Question("Total?")], model=model, generation=settings, on_text=pieces.append)
    assert "".join(pieces).strip() == answer.text
    assert (answer.finished, len(answer.token_ids)) in {("length", 12), ("stop", len(answer.token_ids))}


def test_a_file_of_a_local_model_says_that_it_needs_its_folder(model: ModelOptions, notes: str, tmp_path: Path) -> None:
    path = tmp_path / "ctx.kv"
    prefill_file([notes], path, model=model)
    with pytest.raises(UsageError, match="the model in a local folder 'tiny'"):
        list(ask_file(path, [Question("Total?")]))


def test_reading_leaves_what_the_run_cost_in_the_header(model: ModelOptions, notes: str, tmp_path: Path) -> None:
    told: list[str] = []
    header = prefill_file([notes], tmp_path / "ctx.kv", model=model, progress=lambda phase, *_: told.append(phase))
    assert set(header.provenance.seconds) == {"read", "model", "vision", "prefill", "reconstruct", "probes", "compress"}
    assert header.provenance.peak_memory_bytes is not None
    # No image, so no vision.
    assert list(dict.fromkeys(told)) == ["read", "prefill", "reconstruct", "probes", "compress", "write"]


def test_without_provenance_a_file_is_loaded_and_asked_and_names_nothing(
    model: ModelOptions, notes: str, tmp_path: Path
) -> None:
    mine = tmp_path / "unrotated.yaml"
    mine.write_text(UNROTATED)
    full = CompressOptions(enabled=False)
    prefill_file([notes], tmp_path / "full.kv", model=model, compression=full, provenance=False)
    options = CompressOptions(method=str(mine), keep=0.5)
    header = compress_file(tmp_path / "full.kv", tmp_path / "ctx.kv", compression=options, provenance=False)
    assert header.provenance.sources == ()
    for name in ("full.kv", "ctx.kv"):
        data = (tmp_path / name).read_bytes()
        for secret in ("notes", "Invoice", "unrotated", str(tmp_path), "merges keys", "prefill", '"2026-'):
            assert secret.encode() not in data, (name, secret)
        assert verify_file(tmp_path / name, model=model).model_matches
    [(_, answer)] = ask_file(
        tmp_path / "ctx.kv", [Question("Which?")], model=model, generation=Generation(max_new_tokens=2)
    )
    assert answer.tokens_reused > 0


def test_a_limit_of_bytes_holds_on_the_disk_and_names_no_profile_without_provenance(
    model: ModelOptions, notes: str, tmp_path: Path
) -> None:
    (tmp_path / "acme.yaml").write_text("extends: default\nprecision: {int8: 1.0}\n")
    options = CompressOptions(profile=str(tmp_path / "acme.yaml"), method="random", max_bytes=28_001)
    kept = []
    for provenance in (True, False):
        path = tmp_path / f"{provenance}.kv"
        header = prefill_file([notes], path, model=model, compression=options, provenance=provenance)
        assert 27_000 < path.stat().st_size <= 28_001
        assert header.provenance.probe is not None
        assert (b"acme" in path.read_bytes()) is provenance
        kept.append(header.num_slots)
    assert kept[0] < kept[1]  # what is left out of the header is room for slots
    with pytest.raises(UsageError, match="28 bytes do not hold this context"):
        prefill_file([notes], tmp_path / "no.kv", model=model, compression=CompressOptions(max_bytes=28))
    assert not (tmp_path / "no.kv").exists()


@pytest.mark.parametrize("kv_dtype", [name for name, packing in PACKINGS.items() if packing.splits])
def test_a_file_of_few_bits_answers_and_its_probe_was_taken_from_what_it_holds(
    model: ModelOptions, notes: str, tmp_path: Path, kv_dtype: str
) -> None:
    path = tmp_path / "ctx.kv"
    options = CompressOptions(method="attention-matching", keep=0.3)
    header = prefill_file([notes], path, model=model, compression=options, kv_dtype=kv_dtype)
    assert header.kv_dtype == kv_dtype
    assert header.num_exact > 0
    verdict = verify_file(path, model=model)
    assert verdict.probe_difference is not None
    assert verdict.probe_difference < 1e-4
    [(_, answer)] = ask_file(path, [Question("What?")], model=model, generation=Generation(max_new_tokens=4))
    assert len(answer.token_ids) > 0


def test_a_full_file_of_few_bits_can_be_compressed_later(model: ModelOptions, notes: str, tmp_path: Path) -> None:
    full, small = tmp_path / "full.kv", tmp_path / "small.kv"
    prefill_file([notes], full, model=model, compression=CompressOptions(enabled=False), kv_dtype="int8")
    header = compress_file(full, small, compression=CompressOptions(method="kvzip", keep=0.3), kv_dtype="int4")
    assert (header.kv_dtype, header.keep < 0.35) == ("int4", True)
    assert compress_file(full, tmp_path / "plain.kv", compression=CompressOptions(keep=0.3)).kv_dtype == "bf16"


def test_a_document_is_not_written_over(model: ModelOptions, notes: str, tmp_path: Path) -> None:
    before = Path(notes).read_bytes()
    with pytest.raises(UsageError, match="is both source and output"):
        prefill_file([notes], notes, model=model, force=True)
    prefill_file([notes], tmp_path / "full.kv", model=model, compression=CompressOptions(enabled=False))
    with pytest.raises(UsageError, match="is both source and output"):
        compress_file(tmp_path / "full.kv", tmp_path / "full.kv", force=True)
    assert Path(notes).read_bytes() == before


def test_a_question_that_is_no_text_is_refused(model: ModelOptions, notes: str, tmp_path: Path) -> None:
    prefill_file([notes], tmp_path / "full.kv", model=model, compression=CompressOptions(enabled=False))
    with pytest.raises(UsageError, match="characters that are none"):
        list(ask_file(tmp_path / "full.kv", [Question("caf\udce9?")], model=model))
