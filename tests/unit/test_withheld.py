from dataclasses import replace
from pathlib import Path

from flowmm.decode import Decode, stored_decode
from flowmm.header import read_header
from flowmm.profiles import load_method
from flowmm.records import Provenance
from flowmm.store import load, save
from flowmm.withheld import OWN, without_provenance
from tests.unit import small_caches

SECRETS = ("Bericht", "abababab", "comment", "2026-01-02", "2.13.0", "mine", "weights-of-acme", "peak", "pdf")


def secretive() -> Provenance:
    made = small_caches.provenance()
    assert made.compression is not None
    compression = replace(
        made.compression,
        method="mine",
        method_text="# a comment\ntitle: mine\ndecode: {keep: 2, bin: 4}  # another comment\n",
        profile="mine-too",
        profile_text="calibrated: {documents: [{name: Bericht.pdf}]}\n",
    )
    assert made.scout is not None
    scout = replace(made.scout, model=small_caches.identity("mine-small"))
    return replace(made, model=small_caches.identity("weights-of-acme"), compression=compression, scout=scout)


def test_no_name_hash_text_or_time_is_in_the_bytes_of_the_file(tmp_path: Path) -> None:
    cache = replace(small_caches.ragged(), provenance=secretive())
    save(cache, tmp_path / "told.kv")
    save(replace(cache, provenance=without_provenance(cache.provenance)), tmp_path / "withheld.kv")
    told, withheld = ((tmp_path / name).read_bytes() for name in ("told.kv", "withheld.kv"))
    assert [one for one in SECRETS if one.encode() not in told and one != "peak"] == []
    found = [one for one in SECRETS if one.encode() in withheld]
    assert found == ["peak"]  # the name of a field that is null now
    assert b'\\"peak_memory_bytes\\":null' in withheld


def test_what_loading_and_answering_need_stays(tmp_path: Path) -> None:
    cache = replace(small_caches.ragged(), provenance=without_provenance(secretive()))
    save(cache, tmp_path / "ctx.kv")
    made, full = load(tmp_path / "ctx.kv").provenance, secretive()
    assert made.model == replace(full.model, id="qwen2_vl")
    assert (made.flow, made.probe) == (full.flow, full.probe)
    assert made.compression is not None
    assert full.compression is not None
    assert stored_decode(made.compression.method_text) == Decode(keep=2, bin=4)
    assert made.compression.layers == full.compression.layers
    assert made.compression.diagnostics == full.compression.diagnostics
    assert (made.compression.method, made.compression.profile) == (OWN, OWN)


def test_public_names_stay_and_their_texts_go(tmp_path: Path) -> None:
    made = small_caches.provenance()
    assert made.compression is not None
    named = replace(made.compression, method_text=load_method("snapkv").text)
    public = replace(small_caches.identity("Qwen/Qwen2-VL-2B-Instruct"), local=False, revision="5b1c")
    found = without_provenance(replace(made, model=public, compression=named))
    assert found.model == public
    assert found.compression is not None
    assert (found.compression.method, found.compression.profile) == ("snapkv", "qwen2_vl")
    assert (found.compression.method_text, found.compression.profile_text) == ("{}\n", "")
    assert stored_decode(found.compression.method_text) is None


def test_a_full_file_without_provenance_stays_full(tmp_path: Path) -> None:
    cache = small_caches.full()
    bare = replace(cache.provenance, compression=None)
    save(replace(cache, provenance=without_provenance(bare)), tmp_path / "full.kv")
    assert read_header(tmp_path / "full.kv").is_full
    assert read_header(tmp_path / "full.kv").provenance.sources == ()
