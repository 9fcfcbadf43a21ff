"""What `flowmm inspect` says a reader of a file learns."""

import json
from dataclasses import replace

import pytest

from flowmm.records import Agreement
from flowmm.store import save
from flowmm.withheld import without_provenance
from flowmm_cli.app import run
from tests.unit import small_caches

ASKED = "; and to whoever has the model what the documents say, for it can be asked"
PUBLIC = replace(small_caches.identity("flowmm/reader"), local=False)
COMPRESSION = replace(small_caches.provenance().compression, method_text="title: plain\n")
TOLD = replace(small_caches.provenance(), model=PUBLIC, compression=COMPRESSION)
LOCAL = replace(TOLD, model=small_caches.identity("acme"))


@pytest.mark.parametrize(
    ("provenance", "told"),
    [
        (TOLD, "names and hashes of 1 document, when and with what it was made, texts of method and profile"),
        (replace(TOLD, compression=None, sources=()), "when and with what it was made"),
        (without_provenance(TOLD), "no name, hash, text or time"),
        (
            replace(LOCAL, sources=(), created=None, seconds={}, versions={}, compression=None),
            "the model's folder as acme",
        ),
        (without_provenance(LOCAL), "no name, hash, text or time"),
    ],
)
def test_it_says_what_a_reader_learns(tmp_path, capsys, provenance, told):
    save(replace(small_caches.ragged(), provenance=provenance), tmp_path / "ctx.kv")
    assert run(["inspect", str(tmp_path / "ctx.kv")]) == 0
    assert f"tells     {told}{ASKED}" in capsys.readouterr().out.splitlines()
    assert run(["inspect", str(tmp_path / "ctx.kv"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reader_learns"] == told + ASKED


def test_it_says_what_held_out_questions_lose_as_a_sentence(tmp_path, capsys):
    agreement = Agreement(questions=12, tokens=99, sure=80, top1=0.9625, kl=0.03125, important=40, important_gone=0.05)
    made = replace(TOLD, compression=replace(COMPRESSION, agreement=agreement))
    save(replace(small_caches.ragged(), provenance=made), tmp_path / "ctx.kv")
    assert run(["inspect", str(tmp_path / "ctx.kv")]) == 0
    assert (
        "lost      to 12 questions that no method has seen it gives 96.2 % of the 80 answer tokens that the full cache "
        "is sure of (KL 0.031 nats); of the 40 context tokens that they look at 5.0 % are gone everywhere"
    ) in capsys.readouterr().out.splitlines()
    assert run(["inspect", str(tmp_path / "ctx.kv"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["loss"]["agreement"]["important_gone"] == 0.05


def test_words_of_the_documents_in_held_out_questions_are_told(tmp_path, capsys):
    made = replace(TOLD, compression=None, held_out=("What about Lufe?",))
    for provenance, told in ((made, True), (without_provenance(made), False)):
        save(replace(small_caches.ragged(), provenance=provenance), tmp_path / "ctx.kv", force=True)
        assert run(["inspect", str(tmp_path / "ctx.kv")]) == 0
        assert ("words of the documents in held-out questions" in capsys.readouterr().out) == told
